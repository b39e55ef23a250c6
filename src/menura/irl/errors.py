"""How sure estimates are: covariances from curvature and scores."""

import numpy as np
from jaxtyping import Float, Int


def inverse_curvature(precision: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n n"]:
    """The inverse; nan for parameters that lie along directions without curvature, or where this is no maximum."""
    if not len(precision):
        return precision
    scale = np.sqrt(np.maximum(np.diag(precision), 0.0))
    scale = np.where(scale > 0, scale, 1.0)
    values, vectors = np.linalg.eigh(precision / np.outer(scale, scale))
    firm = values > 1e-9 * max(1.0, float(values.max(initial=0.0)))
    inverse = (vectors[:, firm] / values[firm]) @ vectors[:, firm].T / np.outer(scale, scale)
    loose = (np.abs(vectors[:, ~firm]) > 1e-6).any(axis=1)
    inverse[loose, :] = np.nan
    inverse[:, loose] = np.nan
    return inverse


def sandwich(
    covariance: Float[np.ndarray, "n n"],
    scores: Float[np.ndarray, "observations n"],
    individuals: Int[np.ndarray, " observations"] | None = None,
) -> Float[np.ndarray, "n n"]:
    """A Σ s sᵀ A, with the scores summed by individual first (White 1982; Liang & Zeger 1986).

    Rows and columns of nan in the covariance A stay so.
    """
    if individuals is not None:
        _, owner = np.unique(individuals, return_inverse=True)
        summed = np.zeros((owner.max() + 1, scores.shape[1]))
        np.add.at(summed, owner, scores)
        scores = summed
    firm = np.isfinite(np.diag(covariance))
    out = np.full_like(covariance, np.nan)
    inner = covariance[np.ix_(firm, firm)]
    out[np.ix_(firm, firm)] = inner @ (scores[:, firm].T @ scores[:, firm]) @ inner
    return out
