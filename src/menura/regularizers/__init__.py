"""The cost regularizer ψ of Ho & Ermon (2016): which scores are allowed, and what they cost.

Imitation is ``argmin over policies of ψ*(ρ_learner − ρ_expert) − λ·H(policy)``. A regularizer says which
scores the discriminator may give (``class_of_scores``), how it is trained (``loss``), what the learner
earns (``reward``) and which divergence of occupancy measures that minimises (``conjugate``; of the two links,
none). The same object serves the tabular solver (:mod:`menura.irl.occupancy_matching`) and the learners that
play against a network.

**The sign, once and for all.** A *score* is a logit, high where behaviour looks like the expert's. The
paper's discriminator is D = sigmoid(−score), 1 on the *learner*, and its cost is log D, so the learner's
reward is −log D = softplus(score).
"""

from menura.regularizers.base import AbstractRegularizer, ScoreSet, Sign
from menura.regularizers.divergences import (
    AIRLLink,
    ChiSquared,
    ChiSquaredMixture,
    FAIRLLink,
    ForwardKL,
    JensenShannon,
    ReverseKL,
    TotalVariation,
    jensen_shannon,
    kullback_leibler,
    logistic_loss,
)
from menura.regularizers.features import AbstractFeatureMatching, FeatureExpectation, GameTheoretic, paper_features
from menura.regularizers.wasserstein import Wasserstein, wasserstein_1

__all__ = [
    "AIRLLink",
    "AbstractFeatureMatching",
    "AbstractRegularizer",
    "ChiSquared",
    "ChiSquaredMixture",
    "FAIRLLink",
    "FeatureExpectation",
    "ForwardKL",
    "GameTheoretic",
    "JensenShannon",
    "ReverseKL",
    "ScoreSet",
    "Sign",
    "TotalVariation",
    "Wasserstein",
    "jensen_shannon",
    "kullback_leibler",
    "logistic_loss",
    "paper_features",
    "wasserstein_1",
]
