"""Absorbing states (Kostrikov et al. 2019): a terminated episode goes on where nothing changes any more.

Without them a terminated episode is worth 0 from then on, whatever the score says: with positive rewards every
ending is a loss, with negative ones a gain. With them the state after the end, s_a, has a reward of its own,
learned like any other. Truncated episodes do not get there: they would have gone on.

Every ending adds one step in s_a to the data of the expert, and of the learner. It has neither observation nor action
there, so that its score is that of a table with one entry: the best there is for its share of both sides' steps.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from menura.core import Hyper
from menura.networks import mean_of_rows
from menura.regularizers import AbstractRegularizer, Wasserstein
from menura.regularizers.divergences import AbstractBoundedDivergence
from menura.replay import Drawn, Replay

RARE = 1e-3
"""An ending in a thousand steps is as good as none: added to both shares, so that their ratio is finite."""


def absorbed_features(size: int) -> Float[Array, " features"]:
    """The features of s_a: 0 but for the last, which is 0 everywhere else."""
    return jnp.zeros(size).at[-1].set(1.0)


def absorbed_share(ending_rate: Float[Array, ""]) -> Float[Array, ""]:
    """The share of s_a in data to which every ending adds one step, from the endings a step."""
    return ending_rate / (1 + ending_rate)


def ending_rate_of(replay: Replay | Drawn) -> Float[Array, ""]:
    """Steps that terminated an episode, as a share of all in the replay."""
    return replay.ending_rate


def score_absorbed(
    regularizer: AbstractRegularizer, rate_expert: Float[Array, ""], rate_learner: Float[Array, ""]
) -> Float[Array, ""]:
    """The best score of s_a, from the endings a step of either side: of most ψ the log ratio of its shares.

    Wasserstein distance leaves s_a, which is far from everything, any score within its bounds: the log ratio, too.
    """
    # Departs from Kostrikov et al. 2019: known instead of learned by the network, because a slope held at 1 lets no
    # score fall far on the short way from the expert's states to a feature that says s_a, and such steps are rare.
    expert, learner = absorbed_share(rate_expert) + RARE, absorbed_share(rate_learner) + RARE
    if isinstance(regularizer, AbstractBoundedDivergence):
        return jnp.clip(regularizer.best_score(learner[None], expert[None]), *regularizer.bounds)[0]
    ratio = jnp.log(expert) - jnp.log(learner)
    return jnp.clip(ratio, -regularizer.bound, regularizer.bound) if isinstance(regularizer, Wasserstein) else ratio


def mean_with_absorbed(
    features: Float[Array, "batch features"], ending_rate: Float[Array, ""], num_rows: Int[Array, ""] | None = None
) -> Float[Array, " features"]:
    """The mean over steps to which every ending adds one in s_a."""
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
