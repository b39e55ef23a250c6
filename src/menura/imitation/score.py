"""The score as a network: what it sees of a step, its slope, and the reward that is made of it."""

from collections.abc import Callable
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from menura.core import BoxActions, DiscreteActions, Spec
from menura.networks import MLP, Activation, RunningNorm
from menura.regularizers import AbstractRegularizer

RewardForm = Literal["auto", "positive", "negative", "centered", "logit"]


class ScoreNetwork(eqx.Module):
    """Scores an observation and an action: a logit, high where they look like the expert's.

    Observations are standardized by the *expert's* statistics; real actions are clipped to the bounds, as
    the environment does, and scaled to [-1, 1]; discrete ones are one-hot. With ``observations_only`` the change from
    an observation to its successor stands in the action's place, standardized by the expert's changes.
    """

    norm: RunningNorm
    network: Callable[[Float[Array, " features"]], Float[Array, " one"]]
    center: Float[Array, " action"] | None
    half_width: Float[Array, " action"] | None
    limit: Float[Array, " action"] | None
    """1 for bounded actions, infinite for unbounded ones."""
    change_norm: RunningNorm | None
    """Of the changes between observations; ``None`` where actions are seen."""
    num_actions: int = eqx.field(static=True)
    """Numbers beside the observation."""

    def __init__(
        self,
        spec: Spec,
        hidden_sizes: tuple[int, ...],
        *,
        activation: Activation,
        key: PRNGKeyArray,
        make_network: Callable[..., Any] = MLP,
        observations_only: bool = False,
    ):
        """A fresh network, whose score is near 0."""
        self.change_norm = RunningNorm(spec.obs_size) if observations_only else None
        match spec.actions:
            case _ if observations_only:
                self.center = self.half_width = self.limit = None
                self.num_actions = spec.obs_size
            case DiscreteActions(num_actions=num_actions):
                self.center = self.half_width = self.limit = None
                self.num_actions = num_actions
            case BoxActions() as box:
                self.center, self.half_width = jnp.asarray(box.center), jnp.asarray(box.half_width)
                bounded = np.isfinite(np.asarray(box.low)) & np.isfinite(np.asarray(box.high))
                self.limit = jnp.where(bounded, 1.0, jnp.inf)
                self.num_actions = box.size
        self.norm = RunningNorm(spec.obs_size)
        self.network = make_network(
            spec.obs_size + self.num_actions, 1, hidden_sizes, activation=activation, out_scale=0.1, key=key
        )

    def standardized_by(
        self, obs: Float[Array, "batch obs"], second: Array, num_rows: Int[Array, ""] | None = None
    ) -> "ScoreNetwork":
        """The score with the statistics of the expert's steps, as :func:`menura.imitation.linear.seen` gives them."""
        score = eqx.tree_at(lambda s: s.norm, self, RunningNorm(obs.shape[-1]).add(obs, num_rows))
        if self.change_norm is None:
            return score
        return eqx.tree_at(lambda s: s.change_norm, score, RunningNorm(obs.shape[-1]).add(second - obs, num_rows))

    def features(self, obs: Float[Array, " obs"], second: Array) -> Float[Array, " features"]:
        """What the network sees of one step: an observation, and its action or its successor."""
        if self.change_norm is not None:
            # Departs from Torabi et al. 2018: the successor is given as a change, in units of the expert's changes,
            # because it lies so near to the observation that a network of bounded slope hardly tells the two apart.
            encoded = self.change_norm(second - obs)
        elif self.center is None or self.half_width is None or self.limit is None:
            encoded = jax.nn.one_hot(second, self.num_actions)
        else:
            # Departs from Ho & Ermon 2016: actions are clipped before they are scored, because demonstrations hold
            # them as they were carried out, and a learner would be known by its overshoot alone.
            encoded = jnp.clip((second - self.center) / self.half_width, -self.limit, self.limit)
        return jnp.concatenate([self.norm(obs), encoded])

    def of_features(self, features: Float[Array, " features"]) -> Float[Array, ""]:
        """The score of what :meth:`features` gave."""
        return self.network(features)[0]

    def __call__(self, obs: Float[Array, " obs"], second: Array) -> Float[Array, ""]:
        """The score of one step: of an observation, and of its action or its successor."""
        return self.of_features(self.features(obs, second))


def slope_of(score: Callable[[Array], Array], features: Float[Array, " features"]) -> Float[Array, ""]:
    """‖∇ score‖ at one point."""
    return jnp.sqrt(jnp.sum(jnp.square(jax.grad(score)(features))) + 1e-12)


def reward_of_score(
    score: Float[Array, "*batch"], regularizer: AbstractRegularizer, form: RewardForm
) -> Float[Array, "*batch"]:
    """What the learner earns for a score.

    ``positive`` is never negative: staying alive pays; for Jensen–Shannon it is the paper's −log D =
    softplus(score). ``negative`` is never positive: ending pays; there log(1 − D) = −softplus(−score). ``logit``
    is the sum of these two, the score itself. ``centered`` is the regularizer's own, zero where expert and learner
    look alike.
    """
    match form:
        case "positive" | "negative":
            return regularizer.signed_reward(score, form)
        case "logit":
            return score
        case "centered":
            return regularizer.reward(score)
        case _:
            raise ValueError("reward_form='auto' must be resolved from the demonstrations before training.")
