"""The picture of a comparison: interquartile means and probabilities of improvement, with their intervals."""

import math
from collections.abc import Sequence
from typing import Any

from menura.report.comparison import Comparison, Estimate
from menura.report.style import Figure, Theme, render

ROW = 0.42
"""Inches for one row of a panel."""
HEADROOM = 0.95
"""Inches for a panel's title and axis."""


def comparison_figure(comparison: Comparison) -> Figure:
    """One panel an environment, one over all of them, and one of probabilities; one row an experiment or pair."""
    labels = list(dict.fromkeys(entry.label for entry in comparison.entries))
    panels = [*_environments(comparison, labels), *_over_environments(comparison, labels), *_improvements(comparison)]

    limits = _common_limits([rows for _, _, rows, mark in panels if mark == 1.0])

    def draw(figure: Any, theme: Theme) -> None:
        heights = [ROW * len(rows) + HEADROOM for _, _, rows, _ in panels]
        grid = figure.add_gridspec(len(panels), 1, height_ratios=heights)
        for index, (title, axis, rows, mark) in enumerate(panels):
            axes = figure.add_subplot(grid[index])
            _draw_rows(axes, rows, theme)
            axes.set_title(title, loc="left")
            axes.set_xlabel(axis)
            if mark is not None:
                axes.axvline(mark, color=theme.ink, linewidth=1, linestyle=":")
            if mark is not None:
                axes.set_xlim(*((-0.02, 1.02) if mark == 0.5 else limits))

    height = sum(ROW * len(rows) + HEADROOM for _, _, rows, _ in panels)
    light, dark = render(draw, height=height)
    caption = "Points are interquartile means, lines 95% intervals by stratified bootstrap."
    words = "; ".join(f"{entry.label} on {entry.env}: {entry.mean_return.value:.4g}" for entry in comparison.entries)
    return Figure("comparison", caption, f"Interquartile mean returns. {words}.", light, dark)


Row = tuple[str, Estimate, int]
"""Name, number, and which color."""
Panel = tuple[str, str, list[Row], float | None]
"""Title, words on the axis, rows, and where a reference stands."""


def _environments(comparison: Comparison, labels: Sequence[str]) -> list[Panel]:
    found: list[Panel] = []
    for env in dict.fromkeys(entry.env for entry in comparison.entries):
        members = [entry for entry in comparison.entries if entry.env == env]
        known = not any(math.isnan(entry.score.value) for entry in members)
        rows = [(e.label, e.score if known else e.mean_return, labels.index(e.label)) for e in members]
        axis = "Normalized return (0 is random, 1 is the expert)" if known else "Return of an episode"
        found.append((env, axis, rows, 1.0 if known else None))
    return found


def _over_environments(comparison: Comparison, labels: Sequence[str]) -> list[Panel]:
    rows = [(o.label, o.score, labels.index(o.label)) for o in comparison.overall if not math.isnan(o.score.value)]
    axis = "Normalized return (0 is random, 1 is the expert)"
    return [("Over all environments", axis, rows, 1.0)] if rows else []


def _improvements(comparison: Comparison) -> list[Panel]:
    rows = [(f"{i.better}\nover {i.worse}", i.probability, 0) for i in comparison.improvements]
    return [("Probability of improvement", "P(higher return), ½ is no difference", rows, 0.5)] if rows else []


def _common_limits(panels: Sequence[Sequence[Row]]) -> tuple[float, float]:
    """What panels of normalized returns show, so that they can be read against each other: 0, 1 and every interval."""
    ends = [x for rows in panels for _, e, _ in rows for x in (e.value, e.low, e.high) if not math.isnan(x)]
    low, high = min([0.0, *ends]), max([1.0, *ends])
    return low - 0.02 * (high - low), high + 0.02 * (high - low)


def _draw_rows(axes: Any, rows: Sequence[Row], theme: Theme) -> None:
    for place, (_, estimate, index) in enumerate(rows):
        color = theme.color(index)
        if not math.isnan(estimate.low):
            axes.plot(
                [estimate.low, estimate.high],
                [place, place],
                color=color,
                linewidth=5,
                alpha=0.45,
                solid_capstyle="butt",
            )
        axes.plot([estimate.value], [place], "o", color=color)
    axes.set_yticks(range(len(rows)), [name for name, _, _ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
