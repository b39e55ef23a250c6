"""Regularizers whose score is linear in features: FEM and GTAL, whose best weights have a closed form.

Both ask that the means of the features agree, μ_learner = μ_expert, and differ in how they measure what is left
(Ho & Ermon 2016, section 4; Abbeel & Ng 2004; Syed & Schapire 2007; Syed, Bowling & Schapire 2008).
"""

import abc
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from menura.core import Hyper
from menura.regularizers.base import AbstractRegularizer, ScoreSet, require_positive, with_sign

SQUARE_SCALE = 0.01
"""What standardized numbers are multiplied by before they are squared, as in the experiments of Ho & Ermon (2016)."""


def paper_features(
    obs: Float[Array, " obs"], action: Float[Array, " action"] | Int[Array, ""], *, num_actions: int | None = None
) -> Float[Array, " features"]:
    """The features of one step in the experiments of Ho & Ermon (2016), of standardized numbers.

    The observation, its scaled squares and a constant, beside the action and its scaled squares; with
    ``num_actions`` the action is discrete, and the features are blocked: those of the observation stand in the
    action's own block, and the others are 0.
    """
    one = jnp.ones(1, obs.dtype)
    if num_actions is None:
        return jnp.concatenate([obs, action, jnp.square(SQUARE_SCALE * obs), jnp.square(SQUARE_SCALE * action), one])
    of_obs = jnp.concatenate([obs, jnp.square(SQUARE_SCALE * obs), one])
    chosen = (jnp.arange(num_actions) == action).astype(obs.dtype)
    return (chosen[:, None] * of_obs[None, :]).reshape(-1)


def expected_features(
    rho_learner: Float[Array, " pairs"],
    rho_expert: Float[Array, " pairs"],
    features: Float[Array, "pairs features"] | None,
) -> Float[Array, " features"]:
    """Σ (ρ_expert − ρ_learner) · features; the occupancies themselves where there are none."""
    gap = rho_expert - rho_learner
    return gap if features is None else gap @ features


class AbstractFeatureMatching(AbstractRegularizer):
    """A regularizer that allows linear scores only, and says which of them is the best one."""

    bound: eqx.AbstractVar[Hyper]
    """How far from 0 scores count where rewards must have one sign."""

    def __check_init__(self):
        require_positive(self, "bound")

    @abc.abstractmethod
    def weights(self, gap: Float[Array, " features"]) -> Float[Array, " features"]:
        """The best weights of the score, where ``gap`` is μ_expert − μ_learner."""

    def loss(self, score_expert, score_learner):
        """mean(learner) − mean(expert), which the best weights make −ψ*."""
        return jnp.mean(score_learner) - jnp.mean(score_expert)

    def reward(self, score):
        """The score."""
        return score

    def gain(self, score):
        """The score."""
        return score

    def signed_reward(self, score, sign):
        """The score, clipped to ±bound, and ``bound`` more or less."""
        # Departs from the experiments of Ho & Ermon 2016: the shift is fixed instead of the lowest (or highest) reward
        # seen so far, because that would make a reward depend on every rollout before.
        return with_sign(jnp.clip(score, -self.bound, self.bound), -self.bound, self.bound, sign)

    def slope_penalty(self, slope):
        """None."""
        return jnp.zeros_like(slope)


class FeatureExpectation(AbstractFeatureMatching):
    """FEM, feature expectation matching: scores w·f with ‖w‖₂ ≤ 1 (Abbeel & Ng 2004)."""

    class_of_scores: ClassVar[str] = "w.f with a Euclidean norm of w of at most 1"
    loss_formula: ClassVar[str] = "L s - E s, least for w = (mean f of E - mean f of L) / norm"
    reward_formula: ClassVar[str] = "s"
    divergence: ClassVar[str] = "the Euclidean distance between expected features"

    bound: Hyper = 5.0
    """How far from 0 scores count where rewards must have one sign."""

    def weights(self, gap):
        """gap / ‖gap‖."""
        norm = jnp.sqrt(jnp.sum(jnp.square(gap)))
        return gap / jnp.where(norm > 0, norm, 1.0)

    def conjugate(self, rho_learner, rho_expert, features=None):
        """‖μ_expert − μ_learner‖₂."""
        gap = expected_features(rho_learner, rho_expert, features)
        squared = jnp.sum(jnp.square(gap))
        return jnp.where(squared > 0, jnp.sqrt(jnp.where(squared > 0, squared, 1.0)), 0.0)

    def scores_of_table(self, num_pairs, features=None):
        """The unit ball of weights."""
        basis = np.eye(num_pairs) if features is None else np.asarray(features, np.float64)
        free = np.full(basis.shape[1], np.inf)
        return ScoreSet(-free, free, basis, ball=1.0)


class GameTheoretic(AbstractFeatureMatching):
    """GTAL, game-theoretic apprenticeship learning: scores in the simplex of features (Syed & Schapire 2007).

    With ``signed``, each feature may also count against, as in the experiments of Ho & Ermon (2016); without, more
    of every feature is known to be better. The best score is a single feature: the one that differs most.
    """

    class_of_scores: ClassVar[str] = "w.(f, -f) with weights in the simplex; w.f without signs"
    loss_formula: ClassVar[str] = "L s - E s, least for the feature whose means differ most"
    reward_formula: ClassVar[str] = "s"
    divergence: ClassVar[str] = "the largest difference between expected features"

    signed: bool = True
    """Whether a feature may also count against."""
    bound: Hyper = 5.0
    """How far from 0 scores count where rewards must have one sign."""

    def weights(self, gap):
        """1 (or −1) for the feature that differs most, 0 for the others."""
        most = jnp.argmax(jnp.abs(gap) if self.signed else gap)
        sign = jnp.where(gap[most] < 0, -1.0, 1.0) if self.signed else 1.0
        return jnp.where(jnp.arange(gap.shape[0]) == most, sign, 0.0).astype(gap.dtype)

    def conjugate(self, rho_learner, rho_expert, features=None):
        """max |μ_expert − μ_learner|, or the maximum without signs."""
        gap = expected_features(rho_learner, rho_expert, features)
        return jnp.max(jnp.abs(gap) if self.signed else gap)

    def scores_of_table(self, num_pairs, features=None):
        """The simplex of weights."""
        basis = np.eye(num_pairs) if features is None else np.asarray(features, np.float64)
        if self.signed:
            basis = np.concatenate([basis, -basis], axis=1)
        size = basis.shape[1]
        return ScoreSet(np.zeros(size), np.ones(size), basis, total=1.0)
