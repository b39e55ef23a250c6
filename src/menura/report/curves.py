"""Figures of runs: learning curves, what the scores say, losses of cloning, and how the policy moves."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from menura.report.groups import Group, group_by_env, group_seeds
from menura.report.lines import Curve, draw_line, fit_to_lines, metric_curve, over_seeds, stem_of
from menura.report.proxies import proxy_curves
from menura.report.runs import Run
from menura.report.statistics import mean_interval
from menura.report.style import Figure, Theme, count_axis, legend_below, render
from menura.report.tables import format_return


def figures(runs: Sequence[Run]) -> list[Figure]:
    """Every figure that the runs have the numbers for, environment by environment."""
    found = []
    for env, members in group_by_env(runs).items():
        groups = group_seeds(members)
        for make in (learning_curves, proxy_curves, score_separation, cloning_losses, policy_change):
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
                draw_line(axes, curve, group.label, color)
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
            fit_to_lines(axes)
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
    return Figure(stem_of("return", env), caption, alt, light, dark)


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
                draw_line(axes, expert, "expert's steps", theme.color(0), linestyle="--")
                draw_line(axes, learner, "learner's steps", theme.color(1))
            else:
                draw_line(axes, expert, None, theme.color(index), linestyle="--")
                draw_line(axes, learner, group.label, theme.color(index))
        if len(pairs) > 1:
            for name, linestyle in (("learner's steps", "-"), ("expert's steps", "--")):
                axes.plot([], [], color=theme.ink, linestyle=linestyle, label=name)
        axes.set_ylabel("Mean score")
        axes.set_xlabel("Environment steps")
        axes.set_xlim(left=0)
        count_axis(axes.xaxis)
        fit_to_lines(axes)
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
    return Figure(stem_of("score", env), caption, f"Scores of expert and learner on {env}. {gaps}.", light, dark)


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
            draw_line(axes, train, "learned from" if alone else group.label, theme.color(0 if alone else index))
            if heldout is not None:
                draw_line(
                    axes, heldout, "held out" if alone else None, theme.color(1 if alone else index), linestyle="--"
                )
        if len(pairs) > 1:
            for name, linestyle in (("learned from", "-"), ("held out", "--")):
                axes.plot([], [], color=theme.ink, linestyle=linestyle, label=name)
        axes.set_ylabel("Loss (nats a step)")
        axes.set_xlabel("Iteration")
        count_axis(axes.xaxis)
        fit_to_lines(axes)
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
    return Figure(stem_of("loss", env), caption, f"Losses of cloning on {env}. {ends}.", light, dark)


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
                    draw_line(axes, found[name], group.label, theme.color(index))
            axes.set_ylabel(names[name])
            fit_to_lines(axes)
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
    return Figure(stem_of("policy", env), caption, f"Entropy and KL on {env}. At the end, {ends}.", light, dark)


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
    return over_seeds([(curve.steps, curve.mean) for curve in curves], "evaluations")


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


def _mean_of(groups: Sequence[Group], name: str) -> float:
    values = [getattr(run, name) for group in groups for run in group.runs]
    return mean_interval(values)[0]


def _level(axes: Any, curve: Curve, label: str, color: str) -> None:
    mean, half_width = curve.mean[0], curve.half_width[0]
    axes.axhline(mean, color=color, linestyle=(0, (6, 2, 1, 2)), label=label)
    if math.isfinite(half_width):
        axes.axhspan(mean - half_width, mean + half_width, color=color, alpha=0.15, linewidth=0)


def _final_point(axes: Any, place: int, curve: Curve, color: str) -> None:
    axes.errorbar([place], curve.mean, np.nan_to_num(curve.half_width), fmt="o", markersize=8, capsize=6, color=color)


def _reference(axes: Any, value: float, name: str, linestyle: str, theme: Theme) -> None:
    if not math.isnan(value):
        axes.axhline(value, color=theme.ink, linestyle=linestyle, linewidth=1.4, label=f"{name} {format_return(value)}")
