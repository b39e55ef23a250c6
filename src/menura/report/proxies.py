"""What a run looks like without its reward: the figure of its proxies, and its red flags in words."""

from collections.abc import Sequence
from typing import Any

from menura.imitation.rules import best_in, red_flags
from menura.report.groups import Group
from menura.report.lines import draw_line, fit_to_lines, metric_curve, stem_of
from menura.report.runs import Run
from menura.report.style import Figure, Theme, count_axis, legend_below, render

_PANELS = {
    "proxy/mmd": "Distance (MMD²)",
    "proxy/told_apart": "Told apart",
    "proxy/heldout_loss": "Held-out loss",
}
"""Columns of the evaluations that are drawn, and their names there."""


def proxy_curves(env: str, groups: Sequence[Group]) -> Figure | None:
    """The learner's distance from held-out steps of the expert, and how well the score tells the two apart."""
    curves = [
        (i, group, {name: curve for name in _PANELS if (curve := metric_curve(group, name, table="evaluations"))})
        for i, group in enumerate(groups)
    ]
    curves = [(i, group, found) for i, group, found in curves if "proxy/mmd" in found]
    if not curves:
        return None
    scored = any("proxy/told_apart" in found for _, _, found in curves)
    shown = ["proxy/mmd", "proxy/told_apart" if scored else "proxy/heldout_loss"]
    shown = [name for name in shown if any(name in found for _, _, found in curves)]

    def draw(figure: Any, theme: Theme) -> None:
        panels = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
        for axes, name in zip(panels, shown, strict=True):
            for index, group, found in curves:
                if name in found:
                    draw_line(axes, found[name], group.label, theme.color(index))
                floor = metric_curve(group, "proxy/mmd_expert", table="evaluations")
                if name == "proxy/mmd" and floor is not None:
                    axes.plot(floor.steps, floor.mean, color=theme.color(index), linestyle="--", linewidth=1.4)
            axes.set_ylabel(_PANELS[name])
            if name == "proxy/told_apart":
                axes.axhline(0.5, color=theme.ink, linestyle=":", linewidth=1.4)
                axes.set_ylim(-0.05, 1.05)
            else:
                fit_to_lines(axes)
        figure.align_ylabels(panels)
        panels[0].plot([], [], color=theme.ink, linestyle="--", label="expert from itself")
        panels[-1].set_xlabel("Environment steps")
        panels[-1].set_xlim(left=0)
        count_axis(panels[-1].xaxis)
        legend_below(figure, panels[0])

    light, dark = render(draw, height=2.2 + 1.6 * len(shown))
    ends = "; ".join(
        f"{group.label}: " + ", ".join(f"{_PANELS[name]} {found[name].mean[-1]:.3g}" for name in shown if name in found)
        for _, group, found in curves
    )
    caption = (
        f"What can be read on {env} without a reward. Above, how far the learner's steps lie from steps of the expert "
        "that were held out; the dashed line is how far the expert's own lie from one another."
    )
    if scored:
        caption += " Below, the share of pairs in which the expert's step scores higher: 0.5 cannot be told apart."
    return Figure(stem_of("proxies", env), caption, f"Proxies on {env}. At the end, {ends}.", light, dark)


def flags_in_words(run: Run) -> list[str]:
    """What looks wrong with a run, one sentence each, with the knob to turn."""
    return [f"{flag.says} {flag.knob}" for flag in red_flags(run.evaluations)]


def proxies_in_words(run: Run) -> str:
    """The checkpoint that the proxies choose; or why there are none, and which option would give them."""
    if run.config.get("demos") is None or "heldout" not in run.config:
        return ""
    if "proxy/mmd" in run.evaluations:
        steps = best_in(run.evaluations)
        return "" if steps is None else f"By the expert's held-out steps its best checkpoint is that of step {steps:,}."
    if run.config["heldout"] is not None:
        return "It was not evaluated while it trained, so that there are no proxies to read: --eval-every makes them."
    return (
        "It learned from every step of its demonstrations, so that none is left to read it by: "
        "--num-demos, --subsample or --heldout-fraction hold some out."
    )
