"""What several numbers say together: means, intervals, and the middle half."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from menura.imitation.proxies import share_above


def mean_interval(values: np.ndarray | Sequence[float], *, level: float = 0.95) -> tuple[float, float]:
    """The mean, and half the width of its confidence interval by Student's t: t · s / √n.

    Values that are nan are left out. The half width is nan for fewer than two values.
    """
    from scipy import stats

    x = np.asarray(values, np.float64)
    x = x[~np.isnan(x)]
    if len(x) == 0:
        return math.nan, math.nan
    if len(x) == 1:
        return float(x[0]), math.nan
    t = stats.t.ppf(0.5 + level / 2, len(x) - 1)
    return float(np.mean(x)), float(t * np.std(x, ddof=1) / math.sqrt(len(x)))


def interquartile_mean(values: np.ndarray | Sequence[float]) -> float:
    """Mean of what is left without the lowest and the highest ⌊n/4⌋ values (Agarwal et al. 2021)."""
    x = np.sort(np.asarray(values, np.float64), axis=None)
    cut = len(x) // 4
    return float(np.mean(x[cut : len(x) - cut])) if len(x) else math.nan


def stratified_bootstrap(
    strata: Sequence[np.ndarray | Sequence[float]],
    statistic: Callable[[np.ndarray], float] = interquartile_mean,
    *,
    level: float = 0.95,
    num_resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """A percentile bootstrap interval of a statistic over several tasks (Agarwal et al. 2021).

    Each stratum holds one task's runs, and is resampled by itself, so that every task keeps its weight.
    """
    arrays = [np.asarray(stratum, np.float64).reshape(-1) for stratum in strata]
    arrays = [array for array in arrays if len(array)]
    if not arrays:
        return math.nan, math.nan
    rng = np.random.default_rng(seed)
    draws = [array[rng.integers(len(array), size=(num_resamples, len(array)))] for array in arrays]
    resampled = np.concatenate(draws, axis=1)
    values = [statistic(row) for row in resampled]
    low, high = np.quantile(values, [0.5 - level / 2, 0.5 + level / 2])
    return float(low), float(high)


def probability_of_improvement(
    x: Sequence[np.ndarray | Sequence[float]], y: Sequence[np.ndarray | Sequence[float]]
) -> float:
    """Mean over tasks of P(X > Y) + ½ P(X = Y), over all pairs of a run of X and one of Y (Agarwal et al. 2021).

    One element a task, in the same order, each with the runs of that task.
    """
    return float(np.mean([share_above(np.asarray(a), np.asarray(b)) for a, b in zip(x, y, strict=True)]))


def improvement_interval(
    x: Sequence[np.ndarray | Sequence[float]],
    y: Sequence[np.ndarray | Sequence[float]],
    *,
    level: float = 0.95,
    num_resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """The stratified bootstrap interval of :func:`probability_of_improvement`: both sides are resampled, by task."""
    rng = np.random.default_rng(seed)
    values = np.zeros(num_resamples)
    for a, b in zip(x, y, strict=True):
        a, b = (np.asarray(side, np.float64).reshape(-1) for side in (a, b))
        won = np.where(a[:, None] > b, 1.0, np.where(a[:, None] == b, 0.5, 0.0))
        # How often each run is drawn: the mean over pairs is then a product with these counts.
        of_a, of_b = (rng.multinomial(len(side), np.full(len(side), 1 / len(side)), num_resamples) for side in (a, b))
        values += np.einsum("ri,ij,rj->r", of_a, won, of_b) / won.size / len(x)
    low, high = np.quantile(values, [0.5 - level / 2, 0.5 + level / 2])
    return float(low), float(high)


def on_common_steps(curves: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Several curves ``(steps, values)`` at the same steps: ``(steps, values[curve, step])``.

    Every step that any of them has is kept, and a curve is joined linearly between its own points. Outside
    its own range a curve is nan, so that a run which broke off early does not bend the mean after it.
    """
    steps = np.unique(np.concatenate([steps for steps, _ in curves]))
    rows = [np.interp(steps, own, values, left=math.nan, right=math.nan) for own, values in curves]
    return steps, np.stack(rows)
