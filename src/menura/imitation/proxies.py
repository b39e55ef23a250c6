"""How near a learner is to its expert without a reward: distances between samples of steps, as functions of arrays.

NumPy, in double precision: they are looked at between updates, on a thousand steps of either side.
"""

import numpy as np
from jaxtyping import Float

First = Float[np.ndarray, "first features"]
Second = Float[np.ndarray, "second features"]
Pairs = Float[np.ndarray, "first second"]


def squared_distances(x: First, y: Second) -> Pairs:
    """‖x_i − y_j‖² of every pair."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    squares = np.sum(x**2, axis=1)[:, None] + np.sum(y**2, axis=1)[None, :]
    return np.maximum(squares - 2 * x @ y.T, 0.0)


def root_mean_square_distance(x: First) -> float:
    """√(mean of ‖x_i − x_j‖² over all pairs) = √(2 Σ variances): how wide a kernel is made for samples like these.

    1 where the samples are all equal, because a kernel needs some width.
    """
    # Departs from Gretton et al. 2012: the root of the mean square instead of the median distance, because an expert
    # that rests where it should be has a median near 0, and the kernel would see nothing beyond that place.
    width = float(np.sqrt(2 * np.sum(np.var(np.asarray(x, np.float64), axis=0))))
    return width if width > 0 else 1.0


def gaussian_kernel(x: First, y: Second, *, bandwidth: float) -> Pairs:
    """k(x, y) = exp(−‖x − y‖² / (2 bandwidth²)) of every pair."""
    return np.exp(-squared_distances(x, y) / (2 * bandwidth**2))


def squared_mmd(x: First, y: Second, *, bandwidth: float) -> float:
    """The unbiased estimate of the squared maximum mean discrepancy (Gretton et al. 2012, eq. 3).

    mean over i≠j of k(x_i, x_j) + the same of y − 2 mean of k(x_i, y_j), with the Gaussian kernel. Its mean is 0 where
    both are samples of one distribution, so that it may come out negative; the most it can be is about 2.
    """
    m, n = len(x), len(y)
    if m < 2 or n < 2:
        return float("nan")
    of_x, of_y, between = (gaussian_kernel(a, b, bandwidth=bandwidth) for a, b in ((x, x), (y, y), (x, y)))
    # A sample's kernel with itself is 1.
    within_x, within_y = (of_x.sum() - m) / (m * (m - 1)), (of_y.sum() - n) / (n * (n - 1))
    return float(within_x + within_y - 2 * between.mean())


def share_above(high: Float[np.ndarray, " high"], low: Float[np.ndarray, " low"]) -> float:
    """P(a number of ``high`` is above one of ``low``), ties counting half: the area under the ROC curve.

    Mann & Whitney's U over the number of pairs: 0.5 where the two cannot be told apart, 1 where every one of ``high``
    is above. No rising function of the numbers changes it.
    """
    if not len(high) or not len(low):
        return float("nan")
    rank_low = np.sort(np.asarray(low))
    below, at_most = (np.searchsorted(rank_low, high, side=side) for side in ("left", "right"))
    return float(np.mean(below + at_most) / (2 * len(low)))


def saturation(score: Float[np.ndarray, " steps"], *, bound: float) -> float:
    """The share of steps whose logit lies beyond ±``bound``, where the logistic function is flat."""
    return float(np.mean(np.abs(score) > bound))


def dependence_p_value(
    x: First, y: Float[np.ndarray, "first _features"], *, seed: int = 0, num_permutations: int = 199
) -> float:
    """How likely pairs as dependent as these are where ``y`` has nothing to do with ``x``: a permutation test.

    The statistic is the biased estimate of the Hilbert–Schmidt independence criterion, trace(K H L H) / n² (Gretton et
    al. 2008, eq. 4), with Gaussian kernels: the squared MMD between the pairs and pairs dealt out at random. The least
    it can be is 1 / (1 + num_permutations); nan where ``x`` or ``y`` never varies, so that there is nothing to test.
    """
    n = len(x)
    if n < 4 or not np.any(np.ptp(x, axis=0)) or not np.any(np.ptp(y, axis=0)):
        return float("nan")
    of_x, of_y = (gaussian_kernel(a, a, bandwidth=root_mean_square_distance(a)) for a in (x, y))
    centered = of_x - of_x.mean(axis=0)
    centered = centered - centered.mean(axis=1)[:, None]
    rng = np.random.default_rng(seed)
    observed = np.sum(centered * of_y)
    orders = [rng.permutation(n) for _ in range(num_permutations)]
    # A little less than observed counts as equal: sums in another order differ in their last digits.
    as_large = sum(np.sum(centered * of_y[np.ix_(order, order)]) >= observed * (1 - 1e-9) for order in orders)
    return float((1 + as_large) / (1 + num_permutations))
