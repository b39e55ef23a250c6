"""Regularizers whose score may be any function within bounds: their ψ* is a divergence taken pair by pair.

Each comes from a concave φ of the reward (Ho & Ermon 2016, section 5; Nowozin, Cseke & Tomioka 2016):

    ψ(−r) = mean over the expert of  r − φ(r)
    ψ*(ρ_learner − ρ_expert) = sup over r of  Σ ρ_expert · φ(r) − Σ ρ_learner · r

Scores are bounded, because an unbounded one is worth most where the expert never was, and its rewards would be
whatever the last gradient step made of them. ``conjugate`` is exact for the bounded class; with an infinite
``bound`` it is the divergence of the textbooks.
"""

import abc
import math
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from menura.core import Hyper, RequestError
from menura.regularizers.base import AbstractRegularizer, ScoreSet, into_range, require_positive, with_sign

LOG_2 = 0.6931471805599453


def logistic_loss(score_expert: Float[Array, " expert"], score_learner: Float[Array, " learner"]) -> Float[Array, ""]:
    """Binary log-loss that tells expert from learner, in nats (Ho & Ermon 2016, eq. 14, negated).

    mean(softplus(−score_expert)) + mean(softplus(score_learner)): 2 log 2 when the two cannot be told apart.
    """
    return jnp.mean(jax.nn.softplus(-score_expert)) + jnp.mean(jax.nn.softplus(score_learner))


def log_ratio(p: Float[Array, " n"], q: Float[Array, " n"]) -> Float[Array, " n"]:
    """log(p / q): infinite where one of them is 0, and 0 where both are."""
    log_p, log_q = (jnp.log(jnp.where(x > 0, x, 1.0)) for x in (p, q))
    inside = jnp.where((p > 0) & (q > 0), log_p - log_q, 0.0)
    return inside + jnp.where((p > 0) & (q == 0), jnp.inf, 0.0) - jnp.where((q > 0) & (p == 0), jnp.inf, 0.0)


def weighted_sum(weight: Float[Array, " n"], value: Float[Array, " n"]) -> Float[Array, ""]:
    """Σ weight · value over the weights that are not 0, so that 0 · ∞ is 0."""
    return jnp.sum(jnp.where(weight > 0, weight * jnp.where(weight > 0, value, 0.0), 0.0))


def kullback_leibler(p: Float[Array, " n"], q: Float[Array, " n"]) -> Float[Array, ""]:
    """KL(p ‖ q) = Σ p log(p/q) − Σ p + Σ q, in nats, of measures of any mass."""
    return weighted_sum(p, log_ratio(p, q)) - jnp.sum(p) + jnp.sum(q)


def jensen_shannon(p: Float[Array, " n"], q: Float[Array, " n"]) -> Float[Array, ""]:
    """2·JS(p, q) in nats: Σ p log(2p/(p+q)) + Σ q log(2q/(p+q)), between 0 and 2 log 2."""
    middle = (p + q) / 2
    return weighted_sum(p, log_ratio(p, middle)) + weighted_sum(q, log_ratio(q, middle))


class JensenShannon(AbstractRegularizer):
    """Jensen–Shannon: ψ_GA, the regularizer of GAIL (Ho & Ermon 2016, eq. 13).

    Any score is allowed; the loss is the logistic one; its optimum over all scores is
    2 log 2 − 2·JS(ρ_learner, ρ_expert). The reward is −log D − log 2 = softplus(score) − log 2: zero
    where the two cannot be told apart.
    """

    class_of_scores: ClassVar[str] = "any function"
    loss_formula: ClassVar[str] = "E softplus(-s) + L softplus(s)"
    reward_formula: ClassVar[str] = "softplus(s) - log 2"
    divergence: ClassVar[str] = "twice the Jensen-Shannon divergence"

    def loss(self, score_expert, score_learner):
        """The logistic loss of :func:`logistic_loss`, which is 2 log 2 more than L reward − E gain."""
        return logistic_loss(score_expert, score_learner)

    def reward(self, score):
        """softplus(score) − log 2."""
        return jax.nn.softplus(score) - LOG_2

    def gain(self, score):
        """φ(r) = log(2 − e^(−r)), which is log 2 − softplus(−score)."""
        return LOG_2 - jax.nn.softplus(-score)

    def signed_reward(self, score, sign):
        """The paper's −log D = softplus(score), or log(1 − D) = −softplus(−score), which is another link."""
        return jax.nn.softplus(score) if sign == "positive" else -jax.nn.softplus(-score)

    def slope_penalty(self, slope):
        """None."""
        return jnp.zeros_like(slope)

    def conjugate(self, rho_learner, rho_expert, features=None):
        """2·JS of :func:`jensen_shannon`."""
        return jensen_shannon(rho_learner, rho_expert)

    def scores_of_table(self, num_pairs, features=None):
        """All of them."""
        return ScoreSet(np.full(num_pairs, -np.inf), np.full(num_pairs, np.inf))


class AbstractBoundedDivergence(AbstractRegularizer):
    """A regularizer whose score is any function between two bounds."""

    @property
    @abc.abstractmethod
    def bounds(self) -> tuple[Hyper, Hyper]:
        """The lowest and the highest score."""

    @abc.abstractmethod
    def reward_of(self, score: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
        """The reward for a score within the bounds."""

    @abc.abstractmethod
    def gain_of(self, score: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
        """φ(reward) for a score within the bounds."""

    @abc.abstractmethod
    def best_score(self, rho_learner: Float[Array, " n"], rho_expert: Float[Array, " n"]) -> Float[Array, " n"]:
        """The score where ρ_expert · gain − ρ_learner · reward is largest, were there no bounds."""

    def loss(self, score_expert, score_learner):
        """mean(reward(learner)) − mean(gain(expert))."""
        return jnp.mean(self.reward(score_learner)) - jnp.mean(self.gain(score_expert))

    def reward(self, score):
        """The reward for the nearest score within the bounds."""
        return self.reward_of(into_range(score, *self.bounds))

    def gain(self, score):
        """The gain from the nearest score within the bounds."""
        return self.gain_of(into_range(score, *self.bounds))

    def signed_reward(self, score, sign):
        """The reward less the lowest, or the highest, there can be."""
        lowest, highest = (self.reward_of(jnp.asarray(bound, score.dtype)) for bound in self.bounds)
        return with_sign(self.reward(score), lowest, highest, sign)

    def slope_penalty(self, slope):
        """None."""
        return jnp.zeros_like(slope)

    def conjugate(self, rho_learner, rho_expert, features=None):
        """Σ ρ_expert · gain − Σ ρ_learner · reward at the best score within the bounds."""
        best = jnp.clip(self.best_score(rho_learner, rho_expert), *self.bounds)
        return weighted_sum(rho_expert, self.gain_of(best)) - weighted_sum(rho_learner, self.reward_of(best))

    def scores_of_table(self, num_pairs, features=None):
        """The box of the bounds."""
        low, high = (np.full(num_pairs, float(bound)) for bound in self.bounds)
        return ScoreSet(low, high)


class ReverseKL(AbstractBoundedDivergence):
    """KL(learner ‖ expert), which forbids what the expert never does; φ(r) = 1 − e^(−r)."""

    class_of_scores: ClassVar[str] = "any function between -bound and bound"
    loss_formula: ClassVar[str] = "L s - E (1 - exp(-s))"
    reward_formula: ClassVar[str] = "s"
    divergence: ClassVar[str] = "the Kullback-Leibler divergence of the learner from the expert, KL(learner || expert)"

    bound: Hyper = 3.0
    """The largest log ratio of expert to learner that a score says, either way."""

    def __check_init__(self):
        require_positive(self, "bound")

    @property
    def bounds(self):
        """±bound."""
        return -self.bound, self.bound

    def reward_of(self, score):
        """The score, a log ratio."""
        return score

    def gain_of(self, score):
        """1 − e^(−score)."""
        return -jnp.expm1(-score)

    def best_score(self, rho_learner, rho_expert):
        """log(ρ_expert / ρ_learner)."""
        return log_ratio(rho_expert, rho_learner)


class ForwardKL(AbstractBoundedDivergence):
    """KL(expert ‖ learner), which asks for all that the expert does; φ(r) = log(1 + r)."""

    class_of_scores: ClassVar[str] = "any function between -bound and bound"
    loss_formula: ClassVar[str] = "L (exp(s) - 1) - E s"
    reward_formula: ClassVar[str] = "exp(s) - 1"
    divergence: ClassVar[str] = "the Kullback-Leibler divergence of the expert from the learner, KL(expert || learner)"

    bound: Hyper = 2.0
    """The largest log ratio of expert to learner that a score says, either way; rewards are its exponential."""

    def __check_init__(self):
        require_positive(self, "bound")

    @property
    def bounds(self):
        """±bound."""
        return -self.bound, self.bound

    def reward_of(self, score):
        """e^score − 1, where the score is a log ratio."""
        return jnp.expm1(score)

    def gain_of(self, score):
        """log(1 + reward), the score."""
        return score

    def best_score(self, rho_learner, rho_expert):
        """log(ρ_expert / ρ_learner)."""
        return log_ratio(rho_expert, rho_learner)


class ChiSquared(AbstractBoundedDivergence):
    """Pearson's χ² of learner from expert, a least-squares reward; φ(r) = r − αr²/2."""

    class_of_scores: ClassVar[str] = "any function between -bound and bound"
    loss_formula: ClassVar[str] = "L s - E (s - alpha/2 s^2)"
    reward_formula: ClassVar[str] = "s"
    divergence: ClassVar[str] = "Pearson's chi-squared, sum of (learner - expert)^2 / expert, over 2 alpha"

    alpha: Hyper = 0.25
    """What a reward of the expert's costs, squared and halved."""
    bound: Hyper = 4.0
    """The largest reward, either way; none above 1/alpha is ever best, and all that is lower is rewarded alike."""

    def __check_init__(self):
        require_positive(self, "alpha", "bound")

    @property
    def bounds(self):
        """±bound."""
        return -self.bound, self.bound

    def reward_of(self, score):
        """The score."""
        return score

    def gain_of(self, score):
        """score − α/2 score²."""
        return score - 0.5 * self.alpha * jnp.square(score)

    def best_score(self, rho_learner, rho_expert):
        """(1 − ρ_learner / ρ_expert) / α."""
        ratio = rho_learner / jnp.where(rho_expert > 0, rho_expert, 1.0)
        return (1 - jnp.where(rho_expert > 0, ratio, jnp.where(rho_learner > 0, jnp.inf, 1.0))) / self.alpha


class ChiSquaredMixture(AbstractBoundedDivergence):
    """χ² of the expert from the even mixture of expert and learner, whose rewards are bounded by themselves.

    The regularizer of LS-IQ (Al-Hafez et al. 2023), and the loss of least-squares GANs: the expert's score is drawn
    to 1/α and the learner's to −1/α. In the form of this module its reward is score + α/2 score².
    """

    class_of_scores: ClassVar[str] = "any function between -1/alpha and 1/alpha"
    loss_formula: ClassVar[str] = "L (s + alpha/2 s^2) - E (s - alpha/2 s^2)"
    reward_formula: ClassVar[str] = "s + alpha/2 s^2"
    divergence: ClassVar[str] = "chi-squared of the expert from the even mixture of both, over alpha"

    alpha: Hyper = 0.25
    """What a score costs, squared and halved, the expert's and the learner's alike."""

    def __check_init__(self):
        require_positive(self, "alpha")

    @property
    def bounds(self):
        """±1/α, between which every best score lies."""
        return -1 / self.alpha, 1 / self.alpha

    def reward_of(self, score):
        """score + α/2 score²."""
        return score + 0.5 * self.alpha * jnp.square(score)

    def gain_of(self, score):
        """score − α/2 score²."""
        return score - 0.5 * self.alpha * jnp.square(score)

    def best_score(self, rho_learner, rho_expert):
        """(ρ_expert − ρ_learner) / (ρ_expert + ρ_learner) / α."""
        both = rho_expert + rho_learner
        return (rho_expert - rho_learner) / jnp.where(both > 0, both, 1.0) / self.alpha


class TotalVariation(AbstractBoundedDivergence):
    """Total variation: scores between two bounds, and nothing else; φ(r) = r."""

    class_of_scores: ClassVar[str] = "any function between -bound and bound"
    loss_formula: ClassVar[str] = "L s - E s"
    reward_formula: ClassVar[str] = "s"
    divergence: ClassVar[str] = "the total variation distance, sum of |learner - expert|, times bound"

    bound: Hyper = 2.0
    """The largest score, either way."""

    def __check_init__(self):
        require_positive(self, "bound")

    @property
    def bounds(self):
        """±bound."""
        return -self.bound, self.bound

    def reward_of(self, score):
        """The score."""
        return score

    def gain_of(self, score):
        """The score."""
        return score

    def best_score(self, rho_learner, rho_expert):
        """The bound with the sign of ρ_expert − ρ_learner."""
        return self.bound * jnp.sign(rho_expert - rho_learner)


class AbstractLink(AbstractRegularizer):
    """A reward put on the score of logistic loss by hand.

    It follows from no ψ: no sup over rewards gives it. Where the score is the log ratio of expert to learner, within
    the bounds, the learner's mean reward is minus the divergence that ``conjugate`` names. A step on the reward, with
    the score held, need not lower it: see ``FAIRLLink``.
    """

    @abc.abstractmethod
    def reward_range(self) -> tuple[Hyper | Array, Hyper | Array]:
        """The lowest and the highest reward."""

    bound: eqx.AbstractVar[Hyper]
    """Higher scores are rewarded as this one is."""

    def __check_init__(self):
        require_positive(self, "bound")

    def loss(self, score_expert, score_learner):
        """The logistic loss of :func:`logistic_loss`."""
        return logistic_loss(score_expert, score_learner)

    def gain(self, score):
        """That of the logistic loss, log 2 − softplus(−score)."""
        return LOG_2 - jax.nn.softplus(-score)

    def signed_reward(self, score, sign):
        """The reward less the lowest, or the highest, there can be."""
        return with_sign(self.reward(score), *self.reward_range(), sign)

    def slope_penalty(self, slope):
        """None."""
        return jnp.zeros_like(slope)

    def scores_of_table(self, num_pairs, features=None):
        """Refused: there is no ψ to solve for."""
        raise RequestError(
            f"{type(self).__name__} is a link on a logistic ratio and no cost regularizer: nothing to solve exactly; "
            "choose ReverseKL or ForwardKL."
        )


class AIRLLink(AbstractLink):
    """AIRL's reward (Fu, Luo & Levine 2018): log D − log(1 − D), the logistic score. A link, not a conjugate."""

    class_of_scores: ClassVar[str] = "any function"
    loss_formula: ClassVar[str] = "E softplus(-s) + L softplus(s)"
    reward_formula: ClassVar[str] = "s, between -bound and bound"
    divergence: ClassVar[str] = "KL(learner || expert) where the score is the log ratio; no regularizer's conjugate"

    bound: Hyper = 5.0
    """The largest reward, either way."""

    def reward(self, score):
        """The score, within ±bound."""
        return jnp.clip(score, -self.bound, self.bound)

    def reward_range(self):
        """±bound."""
        return -self.bound, self.bound

    def conjugate(self, rho_learner, rho_expert, features=None):
        """KL(learner ‖ expert), the divergence that the reward stands for; it is no ψ*."""
        return kullback_leibler(rho_learner, rho_expert)


class FAIRLLink(AbstractLink):
    """FAIRL's reward (Ghasemipour, Zemel & Gu 2020): −s·e^s of the logistic score s. A link, not a conjugate.

    It rises up to s = −1 and falls from there, steeply: a learner that the score tells from the expert is drawn to the
    expert, and one that is like the expert is not (docs/regularizers.md, Links). ``ForwardKL`` lowers what this one
    names.
    """

    class_of_scores: ClassVar[str] = "any function"
    loss_formula: ClassVar[str] = "E softplus(-s) + L softplus(s)"
    reward_formula: ClassVar[str] = "-s exp(s), of s up to bound"
    divergence: ClassVar[str] = (
        "nothing: its mean is -KL(expert || learner) where the score is the log ratio, but a step on it raises that; "
        "no regularizer's conjugate"
    )

    bound: Hyper = 2.0
    """Higher scores are rewarded as this one is, since rewards fall steeply there. There is none below, where they tend
    to 0: a learner far from the expert has no other reward to follow."""

    def reward(self, score):
        """−s·e^s of the score, or of the bound: highest, 1/e, at a score of −1."""
        score = jnp.minimum(score, self.bound)
        return -score * jnp.exp(score)

    def reward_range(self):
        """From the reward of the bound to 1/e."""
        return self.reward(jnp.asarray(self.bound)), math.exp(-1)

    def conjugate(self, rho_learner, rho_expert, features=None):
        """KL(expert ‖ learner), the divergence that the reward stands for; it is no ψ*."""
        return kullback_leibler(rho_expert, rho_learner)
