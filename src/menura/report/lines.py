"""Lines over the steps of a run, and over its seeds: what the figures of runs are drawn from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from menura.report.groups import Group
from menura.report.statistics import mean_interval, on_common_steps

MAX_POINTS = 100
"""Of a metric in a figure; more are averaged in bins."""


@dataclass(frozen=True)
class Curve:
    """A line with a band around it; the band is nan where it is not known."""

    steps: np.ndarray
    mean: np.ndarray
    half_width: np.ndarray
    kind: Literal["evaluations", "training", "final"] = "evaluations"
    """Returns at evaluations, returns of the episodes trained on, or one final number only."""


def metric_curve(
    group: Group, name: str, *, against: str = "env_steps", table: Literal["metrics", "evaluations"] = "metrics"
) -> Curve | None:
    """One column of a table over the seeds of a group; ``None`` if fewer than two of its cells are filled."""
    curves = []
    for run in group.runs:
        columns = getattr(run, table)
        steps, values = columns.get(against), columns.get(name)
        if steps is None or values is None:
            continue
        steps, values = _thinned(steps, values)
        if len(steps) > 1:
            curves.append((steps, values))
    return over_seeds(curves, "evaluations") if curves else None


def over_seeds(curves: Sequence[tuple[np.ndarray, np.ndarray]], kind: Literal["evaluations", "training"]) -> Curve:
    """The mean over seeds, at steps that all of them reached, and its interval."""
    steps, values = on_common_steps(curves)
    summary = [mean_interval(column) for column in values.T]
    mean, half_width = (np.array(column) for column in zip(*summary, strict=True))
    return Curve(steps, mean, half_width, kind)


def _thinned(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Filled cells only, sorted, and averaged in bins where there are more than a figure can show."""
    known = np.isfinite(steps) & np.isfinite(values)
    steps, values = steps[known], values[known]
    steps, index = np.unique(steps, return_inverse=True)
    values = np.bincount(index, weights=values) / np.bincount(index) if len(steps) else values
    bins = np.array_split(np.arange(len(steps)), min(len(steps), MAX_POINTS)) if len(steps) else []
    return np.array([steps[b[-1]] for b in bins]), np.array([np.mean(values[b]) for b in bins])


def draw_line(axes: Any, curve: Curve, label: str | None, color: str, *, linestyle: str = "-") -> None:
    """A curve with its band."""
    marker = "o" if len(curve.steps) <= 12 else None
    axes.plot(curve.steps, curve.mean, color=color, linestyle=linestyle, label=label, marker=marker, markersize=4)
    low, high = curve.mean - curve.half_width, curve.mean + curve.half_width
    axes.fill_between(curve.steps, low, high, where=np.isfinite(low), color=color, alpha=0.2, linewidth=0)


def fit_to_lines(axes: Any) -> None:
    """Limits from the lines alone: the band of two seeds is so wide that it would flatten them."""
    values = np.concatenate(
        [np.asarray(line.get_ydata(), np.float64) for line in axes.get_lines() if len(line.get_ydata())]
    )
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    # A line that hardly moves is shown flat, and not as a magnified rounding error.
    margin = max(0.1 * (high - low), 0.02 * max(abs(low), abs(high))) or 0.01
    axes.set_ylim(low - margin, high + margin)


def stem_of(kind: str, env: str) -> str:
    """The stem of a figure's file."""
    return f"{kind}-{''.join(c if c.isalnum() or c in '-_.' else '-' for c in env)}"
