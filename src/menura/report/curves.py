"""Figures of runs: learning curves, what the scores say, losses of cloning, and how the policy moves."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from menura.report.groups import Group, group_by_env, group_seeds
from menura.report.runs import Run
from menura.report.statistics import mean_interval, on_common_steps
from menura.report.style import Figure, Theme, count_axis, legend_below, render
from menura.report.tables import format_return

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


def figures(runs: Sequence[Run]) -> list[Figure]:
    """Every figure that the runs have the numbers for, environment by environment."""
    found = []
    for env, members in group_by_env(runs).items():
        groups = group_seeds(members)
        for make in (learning_curves, score_separation, cloning_losses, policy_change):
            figure = make(env, groups)
            if figure is not None:
                found.append(figure)
    return found


def learning_curves(env: str, groups: Sequence[Group]) -> Figure | None:
    """Return against environment steps, beside the expert's and the uniform policy's."""
    curves = [(i, group, curve) for i, group in enumerate(groups) if (curve := _return_curve(group)) is not None]
    if not curves:
        return None
    expert, random = _mean_of(groups, "expert_return"), _mean_of(groups, "random_return")
    moving = [curve for _, _, curve in curves if len(curve.steps) > 1 or curve.steps[0] > 0]

    def draw(figure: Any, theme: Theme) -> None:
        axes = figure.add_subplot()
        for place, (index, group, curve) in enumerate(curves):
            color = theme.color(index)
            if not moving:
                _final_point(axes, place, curve, color)
            elif len(curve.steps) > 1:
                _line(axes, curve, group.label, color)
            elif curve.steps[0] > 0:
                axes.errorbar(curve.steps, curve.mean, curve.half_width, fmt="o", color=color, label=group.label)
            else:
                _level(axes, curve, f"{group.label}, without steps", color)
        _reference(axes, expert, "expert", "--", theme)
        _reference(axes, random, "random policy", ":", theme)
        axes.set_ylabel("Return of an episode")
        if moving:
            axes.set_xlabel("Environment steps")
            axes.set_xlim(left=0)
            count_axis(axes.xaxis)
        else:
            axes.set_xlabel("Algorithm")
            axes.set_xticks(range(len(curves)), [group.label for _, group, _ in curves])
            axes.set_xlim(-0.6, len(curves) - 0.4)
        if moving:
            _fit_to_lines(axes)
        legend_below(figure, axes)

    light, dark = render(draw, height=4.2)
    ends = "; ".join(f"{group.label} ends at {format_return(float(curve.mean[-1]))}" for _, group, curve in curves)
    lines = ", ".join(
        f"{name} {format_return(value)}"
        for name, value in (("expert", expert), ("random policy", random))
        if not math.isnan(value)
    )
    alt = f"Return on {env}. {ends}." + (f" For comparison: {lines}." if lines else "")
    caption = _curve_caption(env, [curve for _, _, curve in curves], [group for _, group, _ in curves], bool(moving))
    return Figure(_stem("return", env), caption, alt, light, dark)


def _curve_caption(env: str, curves: Sequence[Curve], groups: Sequence[Group], moving: bool) -> str:
    if not moving:
        return f"How well the final policies do on {env}. Bars are 95% confidence intervals."
    text = f"How well the policy does on {env} as it learns. "
    if any(curve.kind == "training" for curve in curves):
        text += "Curves without evaluations show the episodes it was trained on, with actions sampled. "
    if any(len(group.runs) > 1 for group in groups):
        text += (
            "Lines are means over seeds and bands their 95% confidence intervals; one seed's band is over its episodes."
        )
    else:
        text += "Bands are 95% confidence intervals over evaluation episodes."
    return text


def score_separation(env: str, groups: Sequence[Group]) -> Figure | None:
    """The mean score of the expert's steps and of the learner's."""
    pairs = [
        (i, group, expert, learner)
        for i, group in enumerate(groups)
        if (expert := metric_curve(group, "score/expert")) is not None
        and (learner := metric_curve(group, "score/learner")) is not None
    ]
    if not pairs:
        return None

    def draw(figure: Any, theme: Theme) -> None:
        axes = figure.add_subplot()
        for index, group, expert, learner in pairs:
            if len(pairs) == 1:
                _line(axes, expert, "expert's steps", theme.color(0), linestyle="--")
                _line(axes, learner, "learner's steps", theme.color(1))
            else:
                _line(axes, expert, None, theme.color(index), linestyle="--")
                _line(axes, learner, group.label, theme.color(index))
        if len(pairs) > 1:
            for name, linestyle in (("learner's steps", "-"), ("expert's steps", "--")):
                axes.plot([], [], color=theme.ink, linestyle=linestyle, label=name)
        axes.set_ylabel("Mean score")
        axes.set_xlabel("Environment steps")
        axes.set_xlim(left=0)
        count_axis(axes.xaxis)
        _fit_to_lines(axes)
        legend_below(figure, axes)

    light, dark = render(draw)
    gaps = "; ".join(
        f"{group.label} ends {format_return(float(expert.mean[-1] - learner.mean[-1]))} apart"
        for _, group, expert, learner in pairs
    )
    caption = (
        f"What the score thinks of the expert's steps and of the learner's on {env}: high looks like the expert. "
        "The nearer the two lines, the harder they are to tell apart."
    )
    return Figure(_stem("score", env), caption, f"Scores of expert and learner on {env}. {gaps}.", light, dark)


def cloning_losses(env: str, groups: Sequence[Group]) -> Figure | None:
    """The loss of cloning on the steps it learns from, and on those held out."""
    pairs = [
        (i, group, train, metric_curve(group, "loss/heldout", against="iteration"))
        for i, group in enumerate(groups)
        if (train := metric_curve(group, "loss/train", against="iteration")) is not None
    ]
    if not pairs:
        return None

    def draw(figure: Any, theme: Theme) -> None:
        axes = figure.add_subplot()
        for index, group, train, heldout in pairs:
            alone = len(pairs) == 1
            _line(axes, train, "learned from" if alone else group.label, theme.color(0 if alone else index))
            if heldout is not None:
                _line(axes, heldout, "held out" if alone else None, theme.color(1 if alone else index), linestyle="--")
        if len(pairs) > 1:
            for name, linestyle in (("learned from", "-"), ("held out", "--")):
                axes.plot([], [], color=theme.ink, linestyle=linestyle, label=name)
        axes.set_ylabel("Loss (nats a step)")
        axes.set_xlabel("Iteration")
        count_axis(axes.xaxis)
        _fit_to_lines(axes)
        legend_below(figure, axes)

    light, dark = render(draw)
    ends = "; ".join(
        f"{group.label} ends at {format_return(float(train.mean[-1]))}"
        + ("" if heldout is None else f", held out {format_return(float(heldout.mean[-1]))}")
        for _, group, train, heldout in pairs
    )
    caption = (
        f"How unlikely the clone finds the expert's actions on {env}. "
        "Where the held-out line turns up while the other still falls, it learns by heart."
    )
    return Figure(_stem("loss", env), caption, f"Losses of cloning on {env}. {ends}.", light, dark)


def policy_change(env: str, groups: Sequence[Group]) -> Figure | None:
    """The policy's entropy, and how far each update moves it."""
    names = {"policy/entropy": "Entropy (nats)", "policy/kl": "KL (nats)"}
    curves = [
        (i, group, {name: curve for name in names if (curve := metric_curve(group, name)) is not None})
        for i, group in enumerate(groups)
    ]
    shown = [name for name in names if any(name in found for _, _, found in curves)]
    curves = [(i, group, found) for i, group, found in curves if found]
    if not shown:
        return None

    def draw(figure: Any, theme: Theme) -> None:
        panels = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
        for axes, name in zip(panels, shown, strict=True):
            for index, group, found in curves:
                if name in found:
                    _line(axes, found[name], group.label, theme.color(index))
            axes.set_ylabel(names[name])
            _fit_to_lines(axes)
        figure.align_ylabels(panels)
        panels[-1].set_xlabel("Environment steps")
        panels[-1].set_xlim(left=0)
        count_axis(panels[-1].xaxis)
        legend_below(figure, panels[0])

    light, dark = render(draw, height=2.2 + 1.6 * len(shown))
    ends = "; ".join(
        f"{group.label}: " + ", ".join(f"{name.split('/')[1]} {curve.mean[-1]:.3g}" for name, curve in found.items())
        for _, group, found in curves
    )
    caption = (
        f"How random the policy is on {env} (entropy), and how far each update moves it "
        "(KL divergence between the policy before and after)."
    )
    return Figure(_stem("policy", env), caption, f"Entropy and KL on {env}. At the end, {ends}.", light, dark)


def metric_curve(group: Group, name: str, *, against: str = "env_steps") -> Curve | None:
    """One column of the metrics over the seeds of a group; ``None`` if fewer than two of its cells are filled."""
    curves = []
    for run in group.runs:
        steps, values = run.metrics.get(against), run.metrics.get(name)
        if steps is None or values is None:
            continue
        steps, values = _thinned(steps, values)
        if len(steps) > 1:
            curves.append((steps, values))
    return _over_seeds(curves, "evaluations") if curves else None


def _return_curve(group: Group) -> Curve | None:
    if not group.runs[0].interacts:
        return _final_curve(group)
    evaluated = [_evaluations(run) for run in group.runs]
    longest = max(len(curve.steps) for curve in evaluated)
    if longest < 2:
        trained = metric_curve(group, "episode/return")
        if trained is not None:
            return Curve(trained.steps, trained.mean, trained.half_width, "training")
        return _final_curve(group)
    # A seed with a single evaluation cannot be joined to the others' lines.
    curves = [curve for curve in evaluated if len(curve.steps) > 1]
    if len(curves) == 1:
        return curves[0]
    return _over_seeds([(curve.steps, curve.mean) for curve in curves], "evaluations")


def _final_curve(group: Group) -> Curve | None:
    runs = [run for run in group.runs if not math.isnan(run.mean_return)]
    if not runs:
        return None
    mean, half_width = mean_interval([run.mean_return for run in runs])
    if len(runs) == 1:
        half_width = runs[0].ci95
    steps = np.nan_to_num([run.env_steps if run.interacts else 0.0 for run in runs])
    return Curve(np.array([np.mean(steps)]), np.array([mean]), np.array([half_width]), "final")


def _evaluations(run: Run) -> Curve:
    table = run.evaluations
    if "env_steps" not in table or "mean_return" not in table:
        return Curve(np.empty(0), np.empty(0), np.empty(0))
    known = ~np.isnan(table["env_steps"]) & ~np.isnan(table["mean_return"])
    # A resumed run may evaluate at one step twice: the later counts.
    reversed_steps = table["env_steps"][known][::-1]
    steps, last = np.unique(reversed_steps, return_index=True)
    half_width = table.get("ci95", np.full(len(known), math.nan))
    return Curve(steps, table["mean_return"][known][::-1][last], half_width[known][::-1][last])


def _over_seeds(curves: Sequence[tuple[np.ndarray, np.ndarray]], kind: Literal["evaluations", "training"]) -> Curve:
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


def _mean_of(groups: Sequence[Group], name: str) -> float:
    values = [getattr(run, name) for group in groups for run in group.runs]
    return mean_interval(values)[0]


def _line(axes: Any, curve: Curve, label: str | None, color: str, *, linestyle: str = "-") -> None:
    marker = "o" if len(curve.steps) <= 12 else None
    axes.plot(curve.steps, curve.mean, color=color, linestyle=linestyle, label=label, marker=marker, markersize=4)
    low, high = curve.mean - curve.half_width, curve.mean + curve.half_width
    axes.fill_between(curve.steps, low, high, where=np.isfinite(low), color=color, alpha=0.2, linewidth=0)


def _level(axes: Any, curve: Curve, label: str, color: str) -> None:
    mean, half_width = curve.mean[0], curve.half_width[0]
    axes.axhline(mean, color=color, linestyle=(0, (6, 2, 1, 2)), label=label)
    if math.isfinite(half_width):
        axes.axhspan(mean - half_width, mean + half_width, color=color, alpha=0.15, linewidth=0)


def _fit_to_lines(axes: Any) -> None:
    """Limits from the lines alone: the band of two seeds is so wide that it would flatten them."""
    values = np.concatenate(
        [np.asarray(line.get_ydata(), np.float64) for line in axes.get_lines() if len(line.get_ydata())]
    )
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    # A line that hardly moves is shown flat, and not as a magnified rounding error.
    margin = max(0.1 * (high - low), 0.02 * max(abs(low), abs(high))) or 0.01
    axes.set_ylim(low - margin, high + margin)


def _final_point(axes: Any, place: int, curve: Curve, color: str) -> None:
    axes.errorbar([place], curve.mean, np.nan_to_num(curve.half_width), fmt="o", markersize=8, capsize=6, color=color)


def _reference(axes: Any, value: float, name: str, linestyle: str, theme: Theme) -> None:
    if not math.isnan(value):
        axes.axhline(value, color=theme.ink, linestyle=linestyle, linewidth=1.4, label=f"{name} {format_return(value)}")


def _stem(kind: str, env: str) -> str:
    return f"{kind}-{''.join(c if c.isalnum() or c in '-_.' else '-' for c in env)}"
