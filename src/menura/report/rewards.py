"""Pictures of a learned reward: maps over the states, and what episodes are paid step by step."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from menura.report.charts import Chart
from menura.report.style import Figure, Theme, render
from menura.report.tabular.colors import blend, reward_colors

Rows: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Observations, actions and successors."""
BatchReward: TypeAlias = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]

RESOLUTION = 60
"""Points along each side of a map."""
SAMPLED = 48
"""Steps of the expert that every point of a map is averaged over."""
MOST_DOTS = 250
"""States that are drawn on a map of each of those who act."""


@dataclass(frozen=True)
class Slice:
    """The reward over two coordinates, the others at the expert's mean."""

    axes: tuple[int, int]
    x: np.ndarray
    y: np.ndarray
    values: np.ndarray
    """A row for each y, from the lowest."""


def reward_slices(
    reward_of: BatchReward,
    chart: Chart,
    expert: Rows,
    visited: Sequence[np.ndarray],
    *,
    averaged: bool,
    seed: int = 0,
) -> list[Slice]:
    """Maps over all pairs of coordinates, if there are two, or over those that the reward varies most along.

    Where the reward sees more than the state (``averaged``), a point is the mean over actions, and changes to the
    next observation, of steps of the expert. Slices go through the expert's mean, and reach as far as the observations
    ``visited`` by any of those who act.
    """
    rng = np.random.default_rng(seed)
    at = chart.of_obs(expert[0])
    tail = 0.01 if at.shape[1] > 2 else 0.0
    reach = [np.quantile(chart.of_obs(obs), [tail, 1 - tail], axis=0) for obs in visited]
    low, high = np.min([r[0] for r in reach], axis=0), np.max([r[1] for r in reach], axis=0)
    rows = rng.integers(0, len(expert[0]), SAMPLED if averaged else 1)
    actions, changes = expert[1][rows], (expert[2] - expert[0])[rows]

    def mean_reward(points: np.ndarray) -> np.ndarray:
        obs = np.repeat(chart.to_obs(points).astype(np.float32), len(rows), axis=0)
        tiled = np.tile(actions, (len(points), *[1] * (actions.ndim - 1)))
        values = reward_of(obs, tiled, obs + np.tile(changes, (len(points), 1)).astype(np.float32))
        return np.asarray(values, np.float64).reshape(len(points), len(rows)).mean(axis=1)

    center = np.mean(at, axis=0)
    pairs = [(0, 1)] if len(center) == 2 else _steepest_pairs(mean_reward, center, low, high)
    return [_slice(mean_reward, chart, center, pair, low, high) for pair in pairs]


def _steepest_pairs(mean_reward: Any, center: np.ndarray, low: np.ndarray, high: np.ndarray) -> list[tuple[int, int]]:
    """The coordinate that the reward varies most along, with the second and with the third."""
    spread = []
    for i in range(len(center)):
        line = np.repeat(center[None], 21, axis=0)
        line[:, i] = np.linspace(low[i], high[i], 21)
        spread.append(np.std(mean_reward(line)))
    first, *rest = np.argsort(spread)[::-1][:3].tolist()
    return [(first, other) for other in rest]


def _slice(
    mean_reward: Any, chart: Chart, center: np.ndarray, pair: tuple[int, int], low: np.ndarray, high: np.ndarray
) -> Slice:
    across, up = (np.arange(chart.cells) if chart.cells else np.linspace(low[i], high[i], RESOLUTION) for i in pair)
    x, y = np.meshgrid(across, up)
    points = np.repeat(center[None].astype(np.float64), x.size, axis=0)
    points[:, pair[0]], points[:, pair[1]] = x.ravel(), y.ravel()
    return Slice(pair, across, up, mean_reward(points).reshape(x.shape))


def reward_figure(
    slices: list[Slice],
    chart: Chart,
    states: Mapping[str, np.ndarray],
    paid: Mapping[str, np.ndarray],
    *,
    title: str,
    averaged: bool,
) -> Figure:
    """Maps above, with the states that were visited; below, the reward along one episode of each.

    ``states`` are observations and ``paid`` the rewards of an episode, by the names "expert", "learner", "random
    ", of which any may be missing.
    """
    values = np.concatenate([s.values.ravel() for s in slices])

    def draw(figure: Any, theme: Theme) -> None:
        above, below = figure.subfigures(2, 1, height_ratios=(1.25, 1.0))
        above.suptitle(f"{title}:\nwhat a step from each state is paid", fontsize=12)
        below.suptitle("what the steps of one episode are paid", fontsize=12)
        panels = np.atleast_1d(above.subplots(1, len(slices)))
        colors = reward_colors(values, theme)
        image = None
        for axes, one in zip(panels, slices, strict=True):
            image = axes.pcolormesh(one.x, one.y, one.values, shading="nearest", **colors)
            _dots(axes, one, chart, states, theme)
        bar = above.colorbar(image, ax=list(panels), label="reward of a step", pad=0.02)
        bar.outline.set_visible(False)
        if states:
            handles, labels = panels[0].get_legend_handles_labels()
            above.legend(handles, labels, loc="outside lower center", ncols=len(labels), handletextpad=0.2)
        _along(below.subplots(), paid, theme)

    light, dark = render(draw, height=7.4)
    return Figure("reward", _caption(slices, chart, averaged), _alt(paid, values), light, dark)


def _dots(axes: Any, one: Slice, chart: Chart, states: Mapping[str, np.ndarray], theme: Theme) -> None:
    marks = {
        "expert": {"marker": "o", "facecolors": "none", "edgecolors": theme.ink, "s": 11, "linewidths": 0.8},
        "learner": {"marker": "x", "color": theme.color(2), "s": 11, "linewidths": 0.9},
    }
    for name, obs in states.items():
        if name not in marks:
            continue
        at = chart.of_obs(obs[:: max(1, len(obs) // MOST_DOTS)])[:, list(one.axes)]
        axes.scatter(at[:, 0], at[:, 1], label=f"{name}'s states", **marks[name])
    half = 0.5 if chart.cells else 0.0
    axes.set_xlim(one.x[0] - half, one.x[-1] + half)
    axes.set_ylim(*((one.y[-1] + half, -half) if chart.cells else (one.y[0], one.y[-1])))
    axes.grid(False)
    axes.set_xlabel(chart.names[one.axes[0]])
    axes.set_ylabel(chart.names[one.axes[1]])


def _along(axes: Any, paid: Mapping[str, np.ndarray], theme: Theme) -> None:
    looks = {
        "expert": {"color": theme.color(0), "linestyle": "--"},
        "learner": {"color": theme.color(1)},
        "random": {"color": blend(theme.ink, theme.background, 0.45), "linestyle": ":"},
    }
    for name, values in paid.items():
        width = max(1, len(values) // 60)
        smooth = np.convolve(values, np.ones(width) / width, mode="valid")
        if width > 1:
            axes.plot(values, color=looks[name]["color"], linewidth=0.6, alpha=0.25)
        steps = np.arange(len(smooth)) + (width - 1) / 2
        marker = "." if len(values) < 5 else None
        axes.plot(steps, smooth, label=f"{name}: {_short(float(np.sum(values)))} in all", marker=marker, **looks[name])
    axes.set_xlabel("step")
    axes.set_ylabel("reward of a step")
    if paid:
        axes.figure.legend(loc="outside lower center", ncols=3, columnspacing=1.0, handlelength=1.6, fontsize=10)


def _caption(slices: list[Slice], chart: Chart, averaged: bool) -> str:
    text = "Above: what a step from each state is paid"
    text += ", on average over the expert's actions" if averaged else ""
    text += ", with the states that were visited"
    if len(chart.names) > 2:
        text += "; the reward varies most along these coordinates, and the others are at the expert's mean"
    return f"{text}. Below: the reward along one episode of each; thin lines are single steps, thick ones moving means."


def _alt(paid: Mapping[str, np.ndarray], values: np.ndarray) -> str:
    means = "; ".join(f"{name} earns {np.mean(v):.3g} a step" for name, v in paid.items())
    return f"Maps of the reward, from {values.min():.3g} to {values.max():.3g}. {means}."


def _short(value: float) -> str:
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return text.replace("-", "\N{MINUS SIGN}")
