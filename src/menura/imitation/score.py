"""The score as a network: what it sees of a step, its slope, and the reward that is made of it."""

from collections.abc import Callable
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from menura.core import AnyArray, BoxActions, DiscreteActions, ExpertData, Observed, Spec, Transition
from menura.encoders import Encoder, Parts, decoded, num_numbers
from menura.imitation.common_pixels import CommonPixels
from menura.networks import MLP, Activation, Norm, PictureNetwork, RunningNorm, evenly_mixed, expert_norm, make_norm
from menura.regularizers import AbstractRegularizer

RewardForm = Literal["auto", "positive", "negative", "centered", "logit"]
Units = Literal["expert", "both"]
"""Whose mean and spread observations are standardized by: the expert's, or those of both sides, half of each."""


class Sides(eqx.Module):
    """Statistics of the observations, or of their changes, of both sides."""

    expert: Norm
    learner: Norm
    """Of everything that the learner has done so far."""


class ScoreNetwork(eqx.Module):
    """Scores an observation and an action: a logit, high where they look like the expert's.

    Observations are standardized by the *expert's* statistics, or by those of both sides (``units``); real actions are
    clipped to the bounds, as the environment does, and scaled to [-1, 1]; discrete ones are one-hot. With
    ``observations_only`` the change from an observation to its successor stands in the action's place, standardized
    alike.

    Of observations with pictures it sees the numbers that the bytes stand for, through an encoder; and with
    ``observations_only`` those of the successor beside them.
    """

    norm: Norm
    network: Callable[[Float[Array, " features"]], Float[Array, " one"]]
    center: Float[Array, " action"] | None
    half_width: Float[Array, " action"] | None
    limit: Float[Array, " action"] | None
    """1 for bounded actions, infinite for unbounded ones."""
    change_norm: RunningNorm | None
    """Of the changes between observations; ``None`` where actions or pictures are seen."""
    sides: Sides | None
    """What ``norm`` is the mixture of; ``None`` where it is the expert's."""
    change_sides: Sides | None
    """The same for ``change_norm``."""
    num_actions: int = eqx.field(static=True)
    """Numbers beside the observation."""
    parts: Parts = eqx.field(static=True)
    """What the observations are made of, where pictures are among them."""
    obs_numbers: int = eqx.field(static=True)
    """Numbers of an observation."""
    observations_only: bool = eqx.field(static=True)
    common_pixels: CommonPixels | None
    """What pictures are shown of; ``None`` for everything."""

    def __init__(
        self,
        spec: Spec,
        hidden_sizes: tuple[int, ...],
        *,
        activation: Activation,
        key: PRNGKeyArray,
        make_network: Callable[..., Any] = MLP,
        observations_only: bool = False,
        encoder: Encoder = "nature",
        common_pixels: bool = False,
        units: Units = "expert",
    ):
        """A fresh network, whose score is near 0."""
        self.parts, self.observations_only = spec.parts, observations_only
        self.common_pixels = CommonPixels(spec.parts) if spec.parts and common_pixels else None
        self.obs_numbers = num_numbers(spec.parts) if spec.parts else spec.obs_size
        self.change_norm = RunningNorm(spec.obs_size) if observations_only and not spec.parts else None
        match spec.actions:
            case _ if observations_only:
                self.center = self.half_width = self.limit = None
                self.num_actions = self.obs_numbers
            case DiscreteActions(num_actions=num_actions):
                self.center = self.half_width = self.limit = None
                self.num_actions = num_actions
            case BoxActions() as box:
                self.center, self.half_width = jnp.asarray(box.center), jnp.asarray(box.half_width)
                bounded = np.isfinite(np.asarray(box.low)) & np.isfinite(np.asarray(box.high))
                self.limit = jnp.where(bounded, 1.0, jnp.inf)
                self.num_actions = box.size
        self.norm = make_norm(spec)
        self.sides = Sides(self.norm, self.norm) if units == "both" else None
        self.change_sides = None
        if units == "both" and self.change_norm is not None:
            self.change_sides = Sides(self.change_norm, self.change_norm)
        self.network = network_of_numbers(
            spec.parts * (2 if observations_only else 1),
            self.obs_numbers + self.num_actions,
            hidden_sizes,
            activation=activation,
            make_network=make_network,
            encoder=encoder,
            key=key,
        )

    def standardized_by(self, demos: ExpertData, learner: Transition) -> "ScoreNetwork":
        """The score with the statistics of the expert's steps; where both sides count, of these flat steps more too."""
        # Departs from Ho & Ermon 2016: their program standardizes by all rows of both sides so far, actions among
        # them; here by the expert's alone, or by both with the same weight, because an expert's episode is few rows.
        norm, sides = expert_norm(self.norm, demos), None
        if self.sides is not None:
            sides = Sides(expert_norm(self.sides.expert, demos), self.sides.learner.add(learner.obs))
            norm = evenly_mixed(sides.expert, sides.learner)
        score = eqx.tree_at(lambda s: (s.norm, s.sides), self, (norm, sides), is_leaf=lambda x: x is None)
        if self.change_norm is None:
            return score
        change_norm = self.change_norm.of(demos.train.next_obs - demos.train.obs, demos.num_train)
        if self.change_sides is not None:
            change_sides = Sides(change_norm, self.change_sides.learner.add(learner.next_obs - learner.obs))
            change_norm = evenly_mixed(change_sides.expert, change_sides.learner)
            score = eqx.tree_at(lambda s: s.change_sides, score, change_sides)
        return eqx.tree_at(lambda s: s.change_norm, score, change_norm)

    def numbers(self, obs: Observed[Array, " obs"]) -> Float[Array, " numbers"]:
        """An observation as numbers: standardized; pictures are decoded, and only vectors beside them standardized."""
        if not self.parts:
            return self.norm(obs)
        return decoded(self.norm(obs if self.common_pixels is None else self.common_pixels(obs)), self.parts)

    def having_seen(
        self,
        expert: Observed[AnyArray, "expert obs"],
        learner: Observed[AnyArray, "learner obs"],
        num_expert: Int[Array, ""] | None = None,
    ) -> "ScoreNetwork":
        """The score that knows the pixels of these pictures too."""
        if self.common_pixels is None:
            return self
        common = self.common_pixels.seen(expert, learner, num_expert)
        return eqx.tree_at(lambda s: s.common_pixels, self, common)

    def features(self, obs: Observed[Array, " obs"], second: Array) -> Float[Array, " features"]:
        """What the network sees of one step: an observation, and its action or its successor."""
        if self.parts and self.observations_only:
            return jnp.concatenate([self.numbers(obs), self.numbers(second)])
        if self.change_norm is not None:
            # Departs from Torabi et al. 2018: the successor is given as a change, in units of changes, because it
            # lies so near to the observation that a network of bounded slope hardly tells the two apart.
            encoded = self.change_norm(second - obs)
        elif self.center is None or self.half_width is None or self.limit is None:
            encoded = jax.nn.one_hot(second, self.num_actions)
        else:
            # Departs from Ho & Ermon 2016: actions are clipped before they are scored, because demonstrations hold
            # them as they were carried out, and a learner would be known by its overshoot alone.
            encoded = jnp.clip((second - self.center) / self.half_width, -self.limit, self.limit)
        return jnp.concatenate([self.numbers(obs), encoded])

    def of_features(self, features: Float[Array, " features"]) -> Float[Array, ""]:
        """The score of what :meth:`features` gave."""
        return self.network(features)[0]

    def __call__(self, obs: Observed[Array, " obs"], second: Array) -> Float[Array, ""]:
        """The score of one step: of an observation, and of its action or its successor."""
        return self.of_features(self.features(obs, second))


class OfNumbers(eqx.Module):
    """A network of pictures that sees the numbers of an observation, and what stands beside them."""

    network: PictureNetwork

    def __call__(self, x: Float[Array, " features"]) -> Float[Array, " one"]:
        """The output for one input."""
        size = num_numbers(self.network.encoder.parts)
        return self.network.of_numbers(x[:size], x[size:])


def network_of_numbers(
    parts: Parts,
    in_size: int,
    hidden_sizes: tuple[int, ...],
    *,
    activation: Activation,
    make_network: Callable[..., Any],
    encoder: Encoder,
    key: PRNGKeyArray,
) -> Any:
    """A network of ``in_size`` numbers, those of ``parts`` first, whose output is near 0; one's own sees them all."""
    if not parts or make_network is not MLP:
        return make_network(in_size, 1, hidden_sizes, activation=activation, out_scale=0.1, key=key)
    network = PictureNetwork(
        parts,
        1,
        hidden_sizes,
        activation=activation,
        out_scale=0.1,
        beside_size=in_size - num_numbers(parts),
        encoder=encoder,
        key=key,
    )
    return OfNumbers(network)


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
