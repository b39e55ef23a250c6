"""Weights with their errors, and the features of demonstrations and learner, as tables that are pictures."""

import math
from typing import Any

import numpy as np

from menura.report.style import Figure, Theme, legend_below, render
from menura.report.tabular.colors import blend
from menura.report.tabular.numbers import Deployed

MOST = 20
"""Weights in one figure; of more, those that are surest to differ from 0."""

MINUS = "\N{MINUS SIGN}"

FAR = 4.0
"""Whiskers are cut where they would make the axis so many times longer than the estimates need."""


def weight_figures(said: dict[str, Any], deployed: Deployed) -> list[Figure]:
    """θ with its errors as an estimate's JSON says them, and the features expected beside those observed."""
    names = list(said["theta"])
    column = lambda key: np.array([np.nan if said[key][n] is None else said[key][n] for n in names], float)  # noqa: E731
    theta, errors, robust = (column(key) for key in ("theta", "standard_errors", "robust_standard_errors"))
    with np.errstate(divide="ignore", invalid="ignore"):
        sure = np.abs(theta) / np.where(np.isfinite(errors) & (errors > 0), errors, np.inf)
    kept = np.sort(np.lexsort((-np.abs(theta), -sure))[:MOST])
    left_out, shown = len(names) - len(kept), [names[k] for k in kept]
    return [
        _theta(shown, theta[kept], errors[kept], robust[kept], left_out),
        _features(shown, deployed, kept, left_out),
    ]


def _theta(names: list[str], theta: np.ndarray, errors: np.ndarray, robust: np.ndarray, left_out: int) -> Figure:
    place = np.arange(len(names))[::-1]
    low, high = _limits(theta, errors)
    texts, beside = map(list, zip(*(_with_error(t, e) for t, e in zip(theta, errors, strict=True)), strict=True))

    def draw(figure: Any, theme: Theme) -> None:
        axes = figure.add_subplot()
        axes.axvline(0, color=theme.ink, linewidth=1, zorder=1)
        for wide, color, width, offset in (
            (errors, theme.color(0), 2.4, 0.11),
            (robust, theme.color(1), 2.4, -0.11),
        ):
            known = np.isfinite(wide)
            left, right = theta - 1.96 * np.where(known, wide, 0), theta + 1.96 * np.where(known, wide, 0)
            y = place + offset
            axes.hlines(
                y[known], np.maximum(left, low)[known], np.minimum(right, high)[known], color=color, linewidth=width
            )
            for beyond, end, marker in ((left < low, low, "<"), (right > high, high, ">")):
                if (known & beyond).any():
                    at = np.full((known & beyond).sum(), end)
                    axes.plot(at, y[known & beyond], marker, color=color, markersize=7, clip_on=False)
            axes.plot(theta, y, "o", color=color, markersize=6, markeredgecolor=theme.background, zorder=4)
        axes.plot([], [], "o-", color=theme.color(0), label="95% by standard errors")
        axes.plot([], [], "o-", color=theme.color(1), label="95% by robust errors")
        axes.set_xlim(low, high)
        axes.set_xlabel("Weight θ")
        _rows(axes, names, place, {"θ": texts, "std. error": beside})
        legend_below(figure, axes)

    light, dark = render(draw, height=_height(names))
    listed = "; ".join(f"{name} {t} ± {e}" for name, t, e in zip(names, texts, beside, strict=True))
    caption = "The weights of the features and their 95% intervals" + _left_out(left_out)
    if _cut(theta, errors, low, high):
        caption += " An arrow marks an interval that goes on."
    return Figure("theta", caption, f"Weights: {listed}.", light, dark)


def _features(names: list[str], deployed: Deployed, kept: np.ndarray, left_out: int) -> Figure:
    expert, learner = deployed.expert_features[kept], deployed.learner_features[kept]
    place = np.arange(len(names))[::-1]
    largest = np.maximum(np.abs(expert), np.abs(learner))
    scale = np.where(largest > 0, largest, 1.0)

    def draw(figure: Any, theme: Theme) -> None:
        axes = figure.add_subplot()
        axes.axvline(0, color=theme.ink, linewidth=1, zorder=1)
        for values, color, offset, label in (
            (expert, blend(theme.color(0), theme.background, 0.55), 0.17, "demonstrations"),
            (learner, theme.color(0), -0.17, "learner"),
        ):
            axes.barh(place + offset, values / scale, height=0.3, color=color, label=label)
        both = np.concatenate([expert / scale, learner / scale, [0.0]])
        axes.set_xlim(1.04 * both.min() - 0.01, 1.04 * both.max() + 0.01)
        axes.set_xticks([])
        axes.set_xlabel("Each feature on a scale of its own")
        columns = {"demos": list(map(_number, expert)), "learner": list(map(_number, learner))}
        _rows(axes, names, place, columns)
        legend_below(figure, axes)

    light, dark = render(draw, height=_height(names))
    apart = np.max(np.abs(expert - learner) / scale)
    kind = "path, later steps discounted" if deployed.discounted else "path"
    caption = f"Mean features of a demonstration and of the deployed policy's {kind}" + _left_out(left_out)
    return Figure(
        "features", caption, f"Features of demonstrations and learner; they differ by {apart:.1%} at most.", light, dark
    )


def _rows(axes: Any, names: list[str], place: np.ndarray, columns: dict[str, list[str]]) -> None:
    """Names at the left of the rows and columns of numbers at the right."""
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_yticks(place, [name if len(name) <= 24 else name[:22] + "…" for name in names])
    axes.tick_params(axis="y", length=0, pad=9)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    offset = 0
    for heading, texts in columns.items():
        offset += 12 + round(7.2 * max(map(len, [heading, *texts])))
        options: dict[str, Any] = dict(
            xytext=(offset, 0), textcoords="offset points", ha="right", annotation_clip=False
        )
        for y, text in zip(place, texts, strict=True):
            axes.annotate(
                text, (1, y), xycoords=axes.get_yaxis_transform(), va="center_baseline", fontsize=11, **options
            )
        axes.annotate(
            heading, (1, len(names) - 0.45), xycoords=axes.get_yaxis_transform(), va="bottom", fontsize=10, **options
        )


def _limits(theta: np.ndarray, errors: np.ndarray) -> tuple[float, float]:
    """An axis with room for every estimate and 0, and for its interval where that is not longer by far."""
    half = 1.96 * np.where(np.isfinite(errors), errors, 0.0)
    bare = (min(0.0, float(theta.min())), max(0.0, float(theta.max())))
    room = FAR * max(bare[1] - bare[0], 1e-9)
    fits = 2 * half <= room
    low = min(bare[0], float((theta - half)[fits].min(initial=0.0)))
    high = max(bare[1], float((theta + half)[fits].max(initial=0.0)))
    margin = 0.06 * (high - low) or 1.0
    return low - margin, high + margin


def _cut(theta: np.ndarray, errors: np.ndarray, low: float, high: float) -> bool:
    half = 1.96 * np.where(np.isfinite(errors), errors, 0.0)
    return bool(((theta - half < low) | (theta + half > high)).any())


def _height(names: list[str]) -> float:
    return 1.5 + max(0.32, 0.5 - 0.01 * len(names)) * len(names)


def _left_out(number: int) -> str:
    return f"; of the others, {number} that are less sure to differ from 0 are left out." if number else "."


def _with_error(value: float, error: float) -> tuple[str, str]:
    """A weight and its standard error, to three digits of the error."""
    if not np.isfinite(error) or error == 0 or not 1e-6 < error < 1e6:
        return _number(value), "?" if not np.isfinite(error) else _number(error)
    decimals = max(0, 2 - math.floor(math.log10(error)))
    return f"{value:.{decimals}f}".replace("-", MINUS), f"{error:.{decimals}f}"


def _number(value: float) -> str:
    """Four digits, in plain notation where that is short."""
    if not np.isfinite(value):
        return "?"
    size = abs(value)
    if size >= 100_000 or 0 < size < 0.0001:
        return f"{value:.1e}".replace("-", MINUS)
    decimals = 0 if size >= 1000 else 1 if size >= 100 else 2 if size >= 10 else 3
    return f"{value:.{decimals}f}".replace("-", MINUS)
