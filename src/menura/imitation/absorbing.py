"""Absorbing states (Kostrikov et al. 2019): a terminated episode goes on where nothing changes any more.

Without them a terminated episode is worth 0 from then on, whatever the score says: with positive rewards every
ending is a loss, with negative ones a gain. With them the state after the end, s_a, has a reward of its own,
learned like any other. Truncated episodes do not get there: they would have gone on.

Every ending adds one step in s_a to the data of the expert, and of the learner. There it has neither observation nor
action, and all that scores see of it is that it is s_a.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from menura.core import Hyper
from menura.networks import mean_of_rows
from menura.replay import Replay


def absorbed_features(size: int) -> Float[Array, " features"]:
    """The features of s_a: 0 but for the last, which is 0 everywhere else."""
    return jnp.zeros(size).at[-1].set(1.0)


def absorbed_share(ending_rate: Float[Array, ""]) -> Float[Array, ""]:
    """The share of s_a in data to which every ending adds one step, from the endings a step."""
    return ending_rate / (1 + ending_rate)


def ending_rate_of(replay: Replay) -> Float[Array, ""]:
    """Steps that terminated an episode, as a share of all in the replay."""
    return jnp.sum(replay.rows.terminated) / jnp.maximum(replay.size, 1)


def with_absorbed(
    features: Float[Array, "batch features"], ending_rate: Float[Array, ""], *, key: PRNGKeyArray
) -> Float[Array, "batch features"]:
    """Drawn steps, as if they had been drawn from data with one step in s_a for every ending."""
    absorbed = jax.random.uniform(key, (features.shape[0], 1)) < absorbed_share(ending_rate)
    return jnp.where(absorbed, absorbed_features(features.shape[1])[None, :], features)


def mean_with_absorbed(
    features: Float[Array, "batch features"], ending_rate: Float[Array, ""], num_rows: Int[Array, ""] | None = None
) -> Float[Array, " features"]:
    """The expectation of what :func:`with_absorbed` draws."""
    share = absorbed_share(ending_rate)
    return (1 - share) * mean_of_rows(features, num_rows) + share * absorbed_features(features.shape[1])


def worth_of_ending(reward: Float[Array, ""], *, gamma: Hyper) -> Float[Array, ""]:
    """Σ_{t ≥ 1} γᵗ r(s_a) = γ r(s_a) / (1 − γ): what terminating adds to the last step's reward.

    What Kostrikov et al. (2019) add to the return of a terminated episode, summed.
    """
    return gamma * reward / (1 - gamma)


def with_worth_of_ending(
    reward: Float[Array, ""], terminated: Bool[Array, ""], worth: Float[Array, ""]
) -> Float[Array, ""]:
    """A step's reward, with what follows a termination for ever."""
    return reward + jnp.where(terminated, worth, 0.0)
