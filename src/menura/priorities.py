"""Prioritised replay (Schaul et al. 2016), the proportional variant: what surprised most is drawn most often."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
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
        return eqx.tree_at(lambda p: (p.powered, p.largest), self, (self.powered.at[index].set(powered), largest))


class SumTree:
    """The priorities of a source on the host, as a tree of sums: a draw descends it (Schaul et al. 2016, B.2.1)."""

    def __init__(self, capacity: int):
        """Of an empty source."""
        self._num_leaves = 1 << (capacity - 1).bit_length()
        self.sums = np.zeros(2 * self._num_leaves)
        """The root at 1, the children of i at 2i and 2i + 1."""
        self.largest = 1.0
        """The largest so far: what a transition begins with."""

    @property
    def leaves(self) -> np.ndarray:
        """The priorities themselves."""
        return self.sums[self._num_leaves :]

    @staticmethod
    def bytes_of(capacity: int) -> int:
        """Memory of a tree."""
        return 8 * 2 * (1 << (capacity - 1).bit_length())

    def add(self, index: np.ndarray) -> None:
        """Rows written anew."""
        self.set(index, np.full(len(index), self.largest))

    def set(self, index: np.ndarray, powered: np.ndarray) -> None:
        """New priorities, with their exponent; of a row named twice, the last one."""
        self.largest = max(self.largest, float(powered.max()))
        node = index.astype(np.int64) + self._num_leaves
        self.sums[node] = powered
        while node[0] > 1:
            node = np.unique(node // 2)
            self.sums[node] = self.sums[2 * node] + self.sums[2 * node + 1]

    def share(self, index: np.ndarray) -> np.ndarray:
        """The chance of each row."""
        return self.sums[index + self._num_leaves] / self.sums[1]

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """``n`` rows, one from each of as many equal parts of the sum."""
        rest = (np.arange(n) + rng.random(n)) / n * self.sums[1]
        node = np.ones(n, np.int64)
        while node[0] < self._num_leaves:
            left = self.sums[2 * node]
            # Rounding must not lead to where there is nothing.
            goes_right = (rest >= left) & (self.sums[2 * node + 1] > 0)
            rest = np.where(goes_right, rest - left, rest)
            node = 2 * node + goes_right
        return node - self._num_leaves
