"""The cost regularizer ψ of Ho & Ermon (2016): which scores are allowed, and what they cost.

Imitation is ``argmin over policies of ψ*(ρ_learner − ρ_expert) − λ·H(policy)``. A regularizer says which
scores the discriminator may give (``class_of_scores``), how it is trained (``loss``), what the learner
earns (``reward``) and which divergence of occupancy measures that minimises (``conjugate``).

**The sign, once and for all.** A *score* is a logit, high where behaviour looks like the expert's. The
paper's discriminator is D = sigmoid(−score), 1 on the *learner*, and its cost is log D, so the learner's
reward is −log D = softplus(score).
"""

import abc
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

LOG_2 = 0.6931471805599453


def logistic_loss(score_expert: Float[Array, " expert"], score_learner: Float[Array, " learner"]) -> Float[Array, ""]:
    """Binary log-loss that tells expert from learner, in nats (Ho & Ermon 2016, eq. 14, negated).

    mean(softplus(−score_expert)) + mean(softplus(score_learner)): 2 log 2 when the two cannot be told apart.
    """
    return jnp.mean(jax.nn.softplus(-score_expert)) + jnp.mean(jax.nn.softplus(score_learner))


def jensen_shannon(p: Float[Array, " n"], q: Float[Array, " n"]) -> Float[Array, ""]:
    """2·JS(p, q) in nats: Σ p log(2p/(p+q)) + Σ q log(2q/(p+q)), between 0 and 2 log 2."""
    middle = (p + q) / 2

    def relative_entropy(a, b):
        return jnp.sum(jnp.where(a > 0, a * (jnp.log(jnp.where(a > 0, a, 1)) - jnp.log(jnp.where(b > 0, b, 1))), 0))

    return relative_entropy(p, middle) + relative_entropy(q, middle)


class AbstractRegularizer(eqx.Module):
    """One ψ."""

    class_of_scores: ClassVar[str]
    """In words: the functions the score is chosen from."""
    divergence: ClassVar[str]
    """In words: what the learner minimises between its occupancy measure and the expert's."""

    @abc.abstractmethod
    def loss(self, score_expert: Float[Array, " expert"], score_learner: Float[Array, " learner"]) -> Float[Array, ""]:
        """What the score minimises."""

    @abc.abstractmethod
    def reward(self, score: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
        """What the learner earns where it was given ``score``."""

    @abc.abstractmethod
    def conjugate(self, rho_learner: Float[Array, " n"], rho_expert: Float[Array, " n"]) -> Float[Array, ""]:
        """ψ*(ρ_learner − ρ_expert) on a table of state-action pairs."""


class JensenShannon(AbstractRegularizer):
    """ψ_GA, the regularizer of GAIL (Ho & Ermon 2016, eq. 13).

    Any score is allowed; the loss is the logistic one; its optimum over all scores is
    2 log 2 − 2·JS(ρ_learner, ρ_expert). The reward is −log D − log 2 = softplus(score) − log 2: zero
    where the two cannot be told apart.
    """

    class_of_scores: ClassVar[str] = "any function"
    divergence: ClassVar[str] = "twice the Jensen-Shannon divergence"

    def loss(self, score_expert, score_learner):
        """The logistic loss of :func:`logistic_loss`."""
        return logistic_loss(score_expert, score_learner)

    def reward(self, score):
        """softplus(score) − log 2."""
        return jax.nn.softplus(score) - LOG_2

    def conjugate(self, rho_learner, rho_expert):
        """2·JS of :func:`jensen_shannon`."""
        return jensen_shannon(rho_learner, rho_expert)
