"""Weights that run away: demonstrations so regular that an objective rises for ever as a weight grows."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from menura.irl.choices import FeatureMap
from menura.irl.optimize import Prior
from menura.irl.planning import DivergenceError

LARGE_ERROR = 5.0
"""A standard error is suspect if it moves some reward by so much, and so does the weight itself."""

LARGE_WEIGHT = 15.0
"""A weight without a standard error is suspect if it moves some reward by so much."""

LEAST_FALL = 0.05
"""One standard error away, a log-likelihood with a maximum falls by about ½; one without falls by less than this."""

FURTHEST = 1e6
"""No reward is moved by more than this."""


def runaway_weights(
    objective: Any,
    features: FeatureMap,
    theta: Float[np.ndarray, " features"],
    covariance: Float[np.ndarray, "features features"],
    *,
    prior: Prior,
    scale: float,
) -> tuple[int, ...]:
    """The weights along which objective and prior have no maximum, as far as can be told at ``theta``.

    ``covariance`` is the inverse curvature of the objective and ``scale`` what turns it into a log-likelihood. A
    suspect weight is pushed one standard error outwards, the others following it as the covariance says.
    """
    reach = np.ptp(features.dense(), axis=0) if features.num_choices else np.zeros(len(theta))
    errors = np.sqrt(np.maximum(np.diag(covariance), 0.0)) / np.sqrt(scale)
    known = np.isfinite(errors)
    suspect = known & (np.where(known, errors, 0.0) * reach > LARGE_ERROR) & (np.abs(theta) * reach > LARGE_ERROR)
    suspect |= ~known & (np.abs(theta) * reach > LARGE_WEIGHT)
    if not suspect.any():
        return ()

    def height(at: np.ndarray) -> float:
        try:
            return scale * (objective.evaluate(at).value + prior.value(at))
        except (DivergenceError, RuntimeError, ArithmeticError):
            return -np.inf

    here = height(theta)
    found = []
    for k in np.flatnonzero(suspect):
        if known[k]:
            step = np.where(known, covariance[k], 0.0) / (errors[k] * scale) * np.sign(theta[k])
            step *= min(1.0, FURTHEST / max(float(np.max(np.abs(step) * reach)), 1e-300))
        else:
            step = np.where(np.arange(len(theta)) == k, theta, 0.0)
        rises = height(theta + step) > here - LEAST_FALL
        # What the data say nothing about is as good at 0.
        if rises and (known[k] or height(theta - step) < here - LEAST_FALL):
            found.append(int(k))
    return tuple(found)


def describe_runaway(names: Sequence[str], theta: Float[np.ndarray, " features"], found: Sequence[int]) -> str:
    """One sentence about weights that run away, with what to do."""
    listed = ", ".join(f"{names[k]!r} (now {theta[k]:.4g})" for k in found[:5])
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    which = f"The weight of {listed} runs" if len(found) == 1 else f"The weights of {listed}{more} run"
    return (
        f"{which} away: the objective keeps rising the further it goes, because nothing in the demonstrations speaks "
        "against it, so its size means nothing; add a prior, such as --prior l2=0.01."
    )
