"""What every cost regularizer ψ says of itself, and the scores that it allows."""

import abc
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from menura.core import Hyper, RequestError

Sign: TypeAlias = Literal["positive", "negative"]
"""Of rewards that are never negative, or never positive."""


@dataclass(frozen=True)
class ScoreSet:
    """The scores that ψ allows on a table: ``basis @ weights``, the weights under constraints."""

    low: Float[np.ndarray, " weights"]
    high: Float[np.ndarray, " weights"]
    basis: Float[np.ndarray, "pairs weights"] | None = None
    """``None`` for the identity."""
    ball: float | None = None
    """The largest Euclidean norm of the weights."""
    total: float | None = None
    """What the weights sum to."""
    distance: Float[np.ndarray, "pairs pairs"] | None = None
    """How far apart the scores of two pairs may be."""

    @property
    def is_box(self) -> bool:
        """Whether only the bounds constrain the weights."""
        return self.ball is None and self.total is None and self.distance is None


@jax.custom_vjp
def into_range(score: Float[Array, "*batch"], low: Hyper | Array, high: Hyper | Array) -> Float[Array, "*batch"]:
    """The nearest score between ``low`` and ``high``, for a quantity that gradient descent lowers.

    Its derivative is that of projected descent: a score that is out of range is free to come back and is
    held where descent would take it further away. A plain clip would never let it back in.
    """
    return jnp.clip(score, low, high)


def _into_range_forward(score, low, high):
    return jnp.clip(score, low, high), (score, low, high)


def _into_range_backward(kept, slope):
    score, low, high = kept
    held = ((score < low) & (slope > 0)) | ((score > high) & (slope < 0))
    nothing = [jnp.zeros_like(jnp.asarray(bound, slope.dtype)) for bound in (low, high)]
    return jnp.where(held, 0.0, slope), *nothing


into_range.defvjp(_into_range_forward, _into_range_backward)


def with_sign(
    reward: Float[Array, "*batch"], lowest: Hyper | Array, highest: Hyper | Array, sign: Sign
) -> Float[Array, "*batch"]:
    """A reward between ``lowest`` and ``highest``, shifted so that it is never negative, or never positive.

    A constant changes no divergence between occupancy measures of one mass; where episodes end early it decides
    whether living on or ending pays.
    """
    return reward - (lowest if sign == "positive" else highest)


def require_positive(regularizer: eqx.Module, *names: str) -> None:
    """Refuse settings that are 0, negative or not a number; sweeps' arrays are let pass."""
    for name in names:
        value = getattr(regularizer, name)
        if isinstance(value, float | int) and not value > 0:
            raise RequestError(f"{type(regularizer).__name__}.{name} is {value:g}; make it more than 0.")


class AbstractRegularizer(eqx.Module):
    """One ψ.

    A *score* is what a network puts out, or the entry of a table. With it come two rising functions: the
    ``reward`` that the learner earns, r(score), and the ``gain`` from the expert, φ(r(score)). (One link's reward, no
    ψ's, rises only up to a point: ``FAIRLLink``.) Then

        ψ*(ρ_learner − ρ_expert)  =  sup over scores of  Σ ρ_expert · gain  −  Σ ρ_learner · reward

    and the loss of the score is that, negated, up to a constant.
    """

    class_of_scores: ClassVar[str]
    """In words: the functions the score is chosen from."""
    loss_formula: ClassVar[str]
    """In symbols: what the score minimises; E and L are means over the expert's and the learner's steps."""
    reward_formula: ClassVar[str]
    """In symbols: what the learner earns for the score s."""
    divergence: ClassVar[str]
    """In words: what the learner minimises between its occupancy measure and the expert's."""

    @abc.abstractmethod
    def loss(self, score_expert: Float[Array, " expert"], score_learner: Float[Array, " learner"]) -> Float[Array, ""]:
        """What the score minimises."""

    @abc.abstractmethod
    def reward(self, score: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
        """What the learner earns where it was given ``score``; 0 where it cannot be told from the expert."""

    @abc.abstractmethod
    def gain(self, score: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
        """φ(reward): what giving the expert ``score`` adds to ψ*."""

    @abc.abstractmethod
    def signed_reward(self, score: Float[Array, "*batch"], sign: Sign) -> Float[Array, "*batch"]:
        """The reward in a form that is never negative, or never positive."""

    @abc.abstractmethod
    def slope_penalty(self, slope: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
        """What the score pays, beside its loss, for a gradient of this length in its inputs; 0 for most."""

    @abc.abstractmethod
    def conjugate(
        self,
        rho_learner: Float[Array, " pairs"],
        rho_expert: Float[Array, " pairs"],
        features: Float[Array, "pairs features"] | None = None,
    ) -> Float[Array, ""]:
        """ψ*(ρ_learner − ρ_expert) on a table of state-action pairs.

        ``features`` are those that linear scores are made of, and between which distances are measured; a
        feature a pair where they are not given.
        """

    @abc.abstractmethod
    def scores_of_table(self, num_pairs: int, features: Float[np.ndarray, "pairs features"] | None = None) -> ScoreSet:
        """The scores it allows on a table of so many pairs."""
