"""Prioritised replay (Schaul et al. 2016), the proportional variant: what surprised most is drawn most often."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from menura.core import AnyArray, Hyper

SMALLEST_PRIORITY = 1e-6
"""ε of Schaul et al. (2016): what is predicted exactly can still be drawn."""


def priority(td_error: Float[AnyArray, "*batch"], *, exponent: float) -> Float[AnyArray, "*batch"]:
    """p^α with p = |δ| + ε, of which the chance of a transition is its share (Schaul et al. 2016, section 3.3)."""
    return (abs(td_error) + SMALLEST_PRIORITY) ** exponent


def probabilities(powered: Float[Array, " rows"]) -> Float[Array, " rows"]:
    """P(i) = p_i^α / Σ_k p_k^α, from priorities that have their exponent already (Schaul et al. 2016, eq. 1)."""
    return powered / jnp.sum(powered)


def importance_weights(ratio: Float[Array, " batch"], *, exponent: Hyper | Float[Array, ""]) -> Float[Array, " batch"]:
    """w = (1 / (N P(i)))^β over its largest in the batch (Schaul et al. 2016, section 3.4); ``ratio`` is N P(i)."""
    weights = ratio**-exponent
    return weights / jnp.max(weights)


class Priorities(eqx.Module):
    """The priorities of a ring's rows, with their exponent; 0 where a row holds nothing."""

    powered: Float[Array, " capacity"]
    largest: Float[Array, ""]
    """The largest so far: what a transition begins with, so that each is drawn soon."""

    def __init__(self, capacity: int):
        """Of an empty ring."""
        self.powered = jnp.zeros(capacity)
        self.largest = jnp.ones(())

    def added(self, index: Int[Array, " rows"]) -> "Priorities":
        """With rows written anew."""
        return eqx.tree_at(lambda p: p.powered, self, self.powered.at[index].set(self.largest))

    def draw(self, key: PRNGKeyArray, n: int) -> Int[Array, " n"]:
        """``n`` rows, one from each of as many equal parts of the sum (Schaul et al. 2016, appendix B.2.1)."""
        sums = jnp.cumsum(self.powered)
        places = (jnp.arange(n) + jax.random.uniform(key, (n,))) / n * sums[-1]
        # Rounding may lead past the last row that holds something.
        return jnp.minimum(jnp.searchsorted(sums, places, side="right"), jnp.sum(self.powered > 0) - 1)

    def updated(self, index: Int[Array, " batch"], powered: Float[Array, " batch"]) -> "Priorities":
        """With the newest priorities of drawn rows."""
        largest = jnp.maximum(self.largest, jnp.max(powered))
        return eqx.tree_at(
            lambda p: (p.powered, p.largest), self, (self.powered.at[index].set(powered), largest)
        )
