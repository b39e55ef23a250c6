"""Curves over states that form a line: the reward, visits of demonstrations and learner, and the policy."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from menura.report.style import Figure, Theme, legend_below, render
from menura.report.tabular.colors import blend
from menura.report.tabular.numbers import Deployed, Layout, by_action

JOINED = 0.05
"""Share of the demonstrations' steps that one circle stands for."""


def line_figures(deployed: Deployed, layout: Layout, actions: Sequence[str]) -> list[Figure]:
    """Reward, visits, and policy."""
    return [
        _reward_line(deployed, layout, actions),
        _visit_line(deployed, layout),
        _policy_line(deployed, layout, actions),
    ]


def _line_axis(axes: Any, layout: Layout) -> np.ndarray:
    axes.set_xlabel(layout.labels[0] or "State")
    if layout.extent is None:
        return np.arange(layout.columns)
    left, right = layout.extent[:2]
    return left + (np.arange(layout.columns) + 0.5) * (right - left) / layout.columns


def _reward_line(deployed: Deployed, layout: Layout, actions: Sequence[str]) -> Figure:
    rewards = by_action(deployed, layout, deployed.pair_reward)[0]
    known = np.isfinite(rewards).any(axis=1)
    spread = np.nanmax(rewards[known], axis=1) - np.nanmin(rewards[known], axis=1)
    one = bool(spread.max() < 1e-9 * max(1.0, float(np.nanmax(np.abs(rewards)))))

    def draw(figure: Any, theme: Theme) -> None:
        axes = figure.add_subplot()
        at = _line_axis(axes, layout)
        if one:
            axes.plot(at[known], np.nanmean(rewards[known], axis=1), color=theme.color(0))
            axes.set_ylabel("Reward of leaving a state")
            return
        for action in range(rewards.shape[1]):
            axes.plot(at, rewards[:, action], color=theme.color(action), label=actions[action])
        axes.set_ylabel("Reward of an action")
        legend_below(figure, axes)

    light, dark = render(draw)
    caption = "Reward that the fit gives to leaving each state" + ("." if one else ", by every action.")
    alt = f"The reward along the states, from {np.nanmin(rewards):.3g} to {np.nanmax(rewards):.3g}."
    return Figure("reward", caption, alt, light, dark)


def _visit_line(deployed: Deployed, layout: Layout) -> Figure:
    expert, learner = layout.place(deployed.expert_visits)[0], layout.place(deployed.learner_visits)[0]

    def draw(figure: Any, theme: Theme) -> None:
        axes = figure.add_subplot()
        at = _line_axis(axes, layout)
        wide, pale = 0.9 * (at[1] - at[0] if len(at) > 1 else 1.0), blend(theme.color(0), theme.background, 0.55)
        axes.bar(at, expert, width=wide, color=pale, label="demonstrations")
        axes.plot(
            at, learner, color=theme.color(1), label="learner", marker="o" if len(at) <= 30 else None, markersize=4
        )
        axes.set_ylabel("Visits of a path" + (", discounted" if deployed.discounted else ""))
        axes.set_ylim(bottom=0)
        legend_below(figure, axes)

    light, dark = render(draw)
    apart, total = float(np.abs(expert - learner).sum() / 2), float(expert.sum())
    caption = (
        "How often a demonstration, and a path of the deployed policy, is in each state"
        + (", later visits discounted" if deployed.discounted else "")
        + f". {apart:.3g} of {total:.3g} visits are elsewhere."
    )
    return Figure("visits", caption, f"Visits along the states. {apart:.3g} of {total:.3g} differ.", light, dark)


def _policy_line(deployed: Deployed, layout: Layout, actions: Sequence[str]) -> Figure:
    mdp = deployed.mdp
    learner = by_action(deployed, layout, deployed.policy)[0]
    middle, share = _joined(deployed, layout)
    # With two actions, one says it all: the rarer.
    some = [int(np.argmin(np.nansum(learner, axis=0)))] if mdp.num_actions == 2 else list(range(mdp.num_actions))

    def draw(figure: Any, theme: Theme) -> None:
        axes = figure.add_subplot()
        at = _line_axis(axes, layout)
        seen_at = np.interp(middle, np.arange(layout.columns), at)
        for index, action in enumerate(some):
            color = theme.color(1 if len(some) == 1 else index)
            axes.plot(at, learner[:, action], color=color, label="learner" if len(some) == 1 else actions[action])
            color = theme.color(0) if len(some) == 1 else color
            axes.scatter(seen_at, share[:, action], s=36, facecolor="none", edgecolor=color, linewidth=1.5, zorder=3)
        edge = theme.color(0) if len(some) == 1 else theme.ink
        axes.scatter([], [], s=36, facecolor="none", edgecolor=edge, linewidth=1.5, label="demonstrations")
        axes.set_ylabel(f"Probability of {actions[some[0]]}" if len(some) == 1 else "Probability of an action")
        top = min(1.0, 1.1 * max(float(np.nanmax(learner[:, some])), float(share[:, some].max())))
        axes.set_ylim(-0.04 * top, 1.04 * top)
        legend_below(figure, axes)

    light, dark = render(draw)
    caption = (
        "The deployed policy along the states, and how often the demonstrations did the same; each circle joins "
        f"neighboring states with {JOINED:.0%} of the demonstrations' steps."
    )
    return Figure("policy", caption, "The policy along the states, beside the demonstrations.", light, dark)


def _joined(deployed: Deployed, layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """Neighboring states joined until each group has its share of the steps: where they are, and what was done."""
    mdp = deployed.mdp
    counts = np.zeros((layout.columns, mdp.num_actions))
    shown = layout.row[mdp.pair_state] >= 0
    cell = layout.column[mdp.pair_state[shown]], mdp.pair_action[shown]
    np.add.at(counts, cell, deployed.expert_flow[shown])
    visits = counts.sum(axis=1)
    group = np.minimum((np.cumsum(visits) - visits / 2) / max(visits.sum(), 1e-300) / JOINED, 1 / JOINED - 1).astype(
        int
    )
    seen = visits > 0
    _, group = np.unique(group[seen], return_inverse=True)
    weight = np.bincount(group, visits[seen])
    middle = np.bincount(group, visits[seen] * np.flatnonzero(seen)) / weight
    share = np.stack([np.bincount(group, counts[seen, a]) for a in range(mdp.num_actions)], axis=1) / weight[:, None]
    return middle, share
