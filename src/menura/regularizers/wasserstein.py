"""Wasserstein distance: scores that change no faster than their inputs do."""

from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from menura.core import Hyper
from menura.regularizers.base import AbstractRegularizer, ScoreSet, into_range, require_positive, with_sign


def euclidean_distance(features: Float[np.ndarray, "pairs features"]) -> Float[np.ndarray, "pairs pairs"]:
    """‖f_i − f_j‖ of every two rows."""
    return np.sqrt(np.sum(np.square(features[:, None, :] - features[None, :, :]), axis=2))


def wasserstein_1(
    p: Float[np.ndarray, " n"], q: Float[np.ndarray, " n"], distance: Float[np.ndarray, "n n"], *, bound: float
) -> float:
    """sup Σ (q − p) · s over |s_i − s_j| ≤ distance_ij and |s_i| ≤ bound, by linear programming.

    Of measures of one mass that is their Wasserstein-1 distance (Kantorovich & Rubinstein 1958), as soon as no
    distance is over 2·bound; otherwise what cannot be carried costs ``bound`` at each end.
    """
    from scipy.optimize import linprog

    size = len(p)
    first, second = np.nonzero(~np.eye(size, dtype=bool))
    rows = np.zeros((len(first), size))
    rows[np.arange(len(first)), first] = 1.0
    rows[np.arange(len(first)), second] = -1.0
    found = linprog(p - q, A_ub=rows, b_ub=distance[first, second], bounds=(-bound, bound), method="highs")
    if found.status != 0:
        raise ArithmeticError(f"The Wasserstein distance has no value: {found.message}")
    return float(-found.fun)


class Wasserstein(AbstractRegularizer):
    """Wasserstein-1: scores of slope at most 1, held there by a gradient penalty (Arjovsky et al. 2017).

    In samples the slope is that of the network in its standardized inputs; on a table distances are those between
    the rows of the features.
    """

    class_of_scores: ClassVar[str] = "functions of slope at most 1, between -bound and bound"
    loss_formula: ClassVar[str] = "L s - E s + anchor/4 (L s + E s)^2 + penalty max(0, slope - 1)^2"
    reward_formula: ClassVar[str] = "s"
    divergence: ClassVar[str] = "the Wasserstein-1 distance"

    penalty: Hyper = 10.0
    """Weight of max(0, ‖∇ score‖ − 1)² between expert and learner (Petzka, Fischer & Lukovnikov 2018)."""
    anchor: Hyper = 0.1
    """Weight of the squared mean of all scores, which would otherwise drift: a constant changes nothing else."""
    bound: Hyper = 2.0
    """The largest score, either way, and half the farthest that anything is carried: else outliers have most to say."""

    def __check_init__(self):
        require_positive(self, "penalty", "anchor", "bound")

    def loss(self, score_expert, score_learner):
        """mean(learner) − mean(expert), and the anchor."""
        expert, learner = (jnp.mean(self.reward(score)) for score in (score_expert, score_learner))
        return learner - expert + self.anchor * jnp.square(0.5 * (expert + learner))

    def reward(self, score):
        """The nearest score within the bounds."""
        return into_range(score, -self.bound, self.bound)

    def gain(self, score):
        """The nearest score within the bounds."""
        return into_range(score, -self.bound, self.bound)

    def signed_reward(self, score, sign):
        """The reward, and ``bound`` more or less."""
        return with_sign(self.reward(score), -self.bound, self.bound, sign)

    def slope_penalty(self, slope):
        """penalty · max(0, slope − 1)²."""
        return self.penalty * jnp.square(jnp.maximum(slope - 1.0, 0.0))

    def conjugate(self, rho_learner, rho_expert, features=None) -> Float[Array, ""]:
        """The distance of :func:`wasserstein_1`; a linear program on the host, which JAX cannot trace."""
        learner, expert = np.asarray(rho_learner, np.float64), np.asarray(rho_expert, np.float64)
        distance = euclidean_distance(np.eye(len(learner)) if features is None else np.asarray(features, np.float64))
        return jnp.asarray(wasserstein_1(learner, expert, distance, bound=float(self.bound)))

    def scores_of_table(self, num_pairs, features=None):
        """Slopes of at most 1 between every two pairs."""
        embedded = np.eye(num_pairs) if features is None else np.asarray(features, np.float64)
        limit = np.full(num_pairs, float(self.bound))
        return ScoreSet(-limit, limit, distance=euclidean_distance(embedded))
