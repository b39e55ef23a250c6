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
    "proxy/score_heldout": "Score",
    "proxy/moved": "Moved (nats)",
    "proxy/saturation": "Saturated",
}
"""Columns of the evaluations that are drawn, and their names there."""
_BESIDE = {"proxy/mmd": "proxy/mmd_expert", "proxy/score_heldout": "proxy/score_learner"}
"""What is drawn beside them, dashed: how far the expert is from itself, and the score of the learner's own steps."""


def proxy_curves(env: str, groups: Sequence[Group]) -> Figure | None:
    """How near the learner comes to held-out steps of the expert, and what policy and score are doing meanwhile."""
    curves = [
        (i, group, {name: curve for name in _PANELS if (curve := metric_curve(group, name, table="evaluations"))})
        for i, group in enumerate(groups)
    ]
    curves = [(i, group, found) for i, group, found in curves if "proxy/mmd" in found]
    if not curves:
        return None
    shown = [name for name in _PANELS if any(name in found for _, _, found in curves)]
    num_rows = -(-len(shown) // 2)

    def draw(figure: Any, theme: Theme) -> None:
        panels = figure.subplots(num_rows, 2, sharex=True, squeeze=False).ravel()
        for axes in panels[len(shown) :]:
            axes.set_axis_off()
        panels = panels[: len(shown)]
        for axes, name in zip(panels, shown, strict=True):
            for index, group, found in curves:
                if name in found:
                    draw_line(axes, found[name], group.label, theme.color(index))
                beside = metric_curve(group, _BESIDE.get(name, ""), table="evaluations")
                if beside is not None:
                    axes.plot(beside.steps, beside.mean, color=theme.color(index), linestyle="--", linewidth=1.4)
            axes.set_ylabel(_PANELS[name])
            if name == "proxy/told_apart":
                axes.axhline(0.5, color=theme.ink, linestyle=":", linewidth=1.4)
            if name in ("proxy/told_apart", "proxy/saturation"):
                axes.set_ylim(-0.05, 1.05)
            else:
                fit_to_lines(axes)
        figure.align_ylabels(panels)
        for axes in panels[-2:]:
            axes.set_xlabel("Environment steps")
            axes.tick_params(labelbottom=True)
            axes.set_xlim(left=0)
            count_axis(axes.xaxis)
            axes.locator_params(axis="x", nbins=4)
        legend_below(figure, panels[0])

    light, dark = render(draw, height=1.2 + 1.6 * num_rows)
    ends = "; ".join(
        f"{group.label}: " + ", ".join(f"{_PANELS[name]} {found[name].mean[-1]:.3g}" for name in shown if name in found)
        for _, group, found in curves
    )
    caption = (
        f"What can be read on {env} without a reward. Distance: how far the learner's steps lie from steps of the "
        "expert that were held out; dashed, how far the expert's own episodes lie from one another."
    )
    sentences = {
        "proxy/told_apart": "Told apart: the share of pairs in which the expert's step scores higher; at 0.5 they "
        "cannot be told apart.",
        "proxy/heldout_loss": "Held-out loss: how unlikely the policy finds what the expert did.",
        "proxy/score_heldout": "Score: of held-out steps and, dashed, of the learner's.",
        "proxy/moved": "Moved: how far the policy went since the evaluation before.",
        "proxy/saturation": "Saturated: the share of steps that the score is all but certain of.",
    }
    caption = " ".join([caption, *(said for name, said in sentences.items() if name in shown)])
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
