"""The picture of a tree of paths: choices, outcomes and ends, and beside them how likely each path is."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from menura.core import RequestError
from menura.environments.tabular import TabularMDP
from menura.report.style import Figure, Theme, render
from menura.report.tabular.colors import blend
from menura.report.tabular.path_tree import Kind, Node, PathTree, likeliest_outcomes, path_tree


def tree_figure(
    mdp: TabularMDP,
    theta: Float[np.ndarray, " features"],
    *,
    start: int,
    goal: int | None = None,
    steps: int | None = None,
    actions: Sequence[str] = (),
    states: Sequence[str] = (),
) -> Figure:
    """The tree of a problem's paths; for random outcomes, beside that of the problem with the likeliest ones."""
    trees = [path_tree(mdp, theta, start=start, goal=goal, steps=steps)]
    if not mdp.is_deterministic:
        # Where the likeliest outcomes alone never end, there is nothing to put beside.
        with contextlib.suppress(RequestError):
            trees.insert(0, path_tree(likeliest_outcomes(mdp), theta, start=start, goal=goal, steps=steps))
    label = Labels(tuple(actions), tuple(states))

    def draw(figure: Any, theme: Theme) -> None:
        _draw_trees(figure, trees, label, theme)

    light, dark = render(draw)
    return Figure("tree", _caption(trees), _in_words(trees[-1], label), light, dark)


@dataclass(frozen=True)
class Labels:
    """What actions and states are called."""

    actions: tuple[str, ...] = ()
    states: tuple[str, ...] = ()

    def action(self, number: int) -> str:
        """An action's name, or its number."""
        return self.actions[number] if number < len(self.actions) else f"action {number}"

    def state(self, number: int) -> str:
        """A state's name, or its number."""
        return self.states[number] if number < len(self.states) else str(number)


MODELS: tuple[tuple[Literal["causal", "maxent", "printed"], str], ...] = (
    ("causal", "maximum causal entropy"),
    ("maxent", "MaxEnt"),
    ("printed", "MaxEnt, printed forward pass"),
)


def _models(tree: PathTree) -> list[tuple[Literal["causal", "maxent", "printed"], str]]:
    """The models that differ on this tree."""
    if tree.mdp.is_deterministic:
        return [("causal", MODELS[0][1])]
    return [(model, name) for model, name in MODELS if np.isfinite(tree.probabilities(model)).all()]


BARS, ROW, MARGIN, LETTER = 1.5, 0.56, 0.3, 0.072
"""Inches: the width of the bars, the height of a path, what stays free around everything, and a letter's width."""


def _draw_trees(figure: Any, trees: Sequence[PathTree], label: Labels, theme: Theme) -> None:
    figure.set_layout_engine("none")
    widths = [_positions(tree, label).max() + 1.0 for tree in trees]
    rows = max(len(tree.leaves) for tree in trees)
    wide = sum(widths) + len(trees) * BARS + (len(trees) + 1) * MARGIN
    high = ROW * rows + 1.25
    figure.set_size_inches(wide, high)
    scale = max(float(tree.probabilities(model).max()) for tree in trees for model, _ in _models(tree))
    left = MARGIN
    for tree, width in zip(trees, widths, strict=True):
        tall = ROW * len(tree.leaves)
        bottom = 0.7 + (ROW * rows - tall) / 2
        box = lambda x, w, y=bottom, h=tall: (x / wide, y / high, w / wide, h / high)  # noqa: E731
        axes = figure.add_axes(box(left, width))
        _draw_tree(axes, tree, label, theme)
        bars = figure.add_axes(box(left + width, BARS))
        _draw_probabilities(bars, tree, scale, theme)
        title = "Outcomes certain" if tree.mdp.is_deterministic else "Outcomes random"
        top = 1 - 0.3 / high
        figure.text((left - 0.1) / wide, top, title, fontweight="bold", va="center")
        figure.text((left + width) / wide, top, "P(path)", va="center")
        left += width + BARS + MARGIN
    _draw_legend(figure, trees, 0.28 / high, theme)


def _draw_legend(figure: Any, trees: Sequence[PathTree], middle: float, theme: Theme) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = []
    for kind in ("choice", "outcome", "end", "cut"):
        if _has(trees, kind):
            handles.append(Line2D([], [], linestyle="", markersize=9, label=_SHAPES[kind][1], **_marker(kind, theme)))
    names = dict.fromkeys(pair for tree in trees for pair in _models(tree))
    if len(names) > 1:
        handles += [Patch(color=theme.color(index), label=name) for index, (_, name) in enumerate(names)]
    figure.legend(
        handles=handles, loc="center", bbox_to_anchor=(0.5, middle), ncols=len(handles), fontsize=10,
        columnspacing=1.3, handletextpad=0.5, borderaxespad=0,
    )  # fmt: skip


def _has(trees: Sequence[PathTree], kind: Kind) -> bool:
    return any(node.kind == kind for tree in trees for node in tree.nodes)


_SHAPES: dict[Kind, tuple[str, str]] = {
    "choice": ("s", "choice"),
    "outcome": ("o", "chance"),
    "end": (">", "end"),
    "cut": ("|", "goes on"),
}
"""Squares for choices and circles for chance, as decision trees are drawn."""


def _marker(kind: Kind, theme: Theme) -> dict[str, Any]:
    inside = theme.background if kind == "outcome" else theme.ink
    return {"marker": _SHAPES[kind][0], "color": theme.ink, "markerfacecolor": inside, "markeredgewidth": 1.6}


def _positions(tree: PathTree, label: Labels) -> np.ndarray:
    """How far to the right each node is, in inches: an action's name fits on its branch."""
    names = [label.action(node.action) for node in tree.nodes if node.action >= 0]
    squares = [_half_width(node, label) for node in tree.nodes if node.kind == "choice"]
    branch = 0.45 + LETTER * (5 + max(map(len, names), default=0)) + max(squares, default=0.0)
    chance = 0.55 + 4 * LETTER + max(squares, default=0.0)
    by_step = branch + (chance if any(node.kind == "outcome" for node in tree.nodes) else 0.0)
    return np.array([by_step * node.time + (branch if node.kind == "outcome" else 0.0) for node in tree.nodes])


def _half_width(node: Node, label: Labels) -> float:
    """Of a square with a name in it."""
    return LETTER / 2 * max(3, len(label.state(node.state))) if node.kind == "choice" else 0.0


def _heights(tree: PathTree) -> np.ndarray:
    """How far down each node is, in paths: leaves in their order, others amid their children."""
    y = np.zeros(len(tree.nodes))
    y[tree.leaves] = np.arange(len(tree.leaves))
    children: dict[int, list[int]] = {}
    for i, node in enumerate(tree.nodes):
        children.setdefault(node.parent, []).append(i)
    for i in range(len(tree.nodes) - 1, -1, -1):
        if i in children:
            y[i] = (y[children[i][0]] + y[children[i][-1]]) / 2
    return y


def _draw_tree(axes: Any, tree: PathTree, label: Labels, theme: Theme) -> None:
    nodes, x, y = tree.nodes, _positions(tree, label), _heights(tree)
    for i, node in enumerate(nodes[1:], start=1):
        parent = node.parent
        bend = x[parent] + 0.2 + _half_width(nodes[parent], label)
        likely = node.causal / max(nodes[parent].causal, 1e-300)
        color = blend(theme.background, theme.ink, 0.3 + 0.55 * likely)
        axes.plot([x[parent], bend, x[i]], [y[parent], y[i], y[i]], color=color, linewidth=0.8 + 2.4 * likely, zorder=1,
                  solid_joinstyle="round")  # fmt: skip
        text = f"{likely:.2f}" if node.action < 0 else f"{label.action(node.action)} {likely:.2f}"
        axes.annotate(text, (bend, y[i]), xytext=(2, 3), textcoords="offset points", fontsize=9, zorder=3)
    for kind in ("choice", "outcome", "end", "cut"):
        some = [i for i, node in enumerate(nodes) if node.kind == kind]
        axes.plot(x[some], y[some], linestyle="", markersize=13 if kind == "choice" else 10, zorder=4, clip_on=False,
                  **_marker(kind, theme))  # fmt: skip
    for i, node in enumerate(nodes):
        if node.kind != "outcome":
            _draw_name(axes, node, (float(x[i]), float(y[i])), label, theme)
    axes.set_xlim(-0.25, x.max() + 0.75)
    axes.set_ylim(len(tree.leaves) - 0.5, -0.5)
    axes.set_axis_off()


def _draw_name(axes: Any, node: Node, at: tuple[float, float], label: Labels, theme: Theme) -> None:
    """A state's name inside its square; beside the node at the end of a path."""
    name = label.state(node.state)
    options: dict[str, Any] = dict(textcoords="offset points", zorder=5)
    if node.kind != "choice":
        axes.annotate(name, at, xytext=(9, 0), va="center_baseline", fontsize=9, **options)
        return
    box = dict(boxstyle="square,pad=0.35", facecolor=theme.ink, edgecolor=theme.ink)
    options.update(ha="center", va="center_baseline", fontsize=9, color=theme.background)
    axes.annotate(name, at, xytext=(0, 0), bbox=box if len(name) > 2 else None, **options)


def _draw_probabilities(axes: Any, tree: PathTree, scale: float, theme: Theme) -> None:
    """P of every path as bars, one for each model."""
    models, place = _models(tree), np.arange(len(tree.leaves))
    thick = 0.8 / max(len(models), 2)
    for index, (model, _) in enumerate(models):
        values = tree.probabilities(model)
        y = place + (index + 0.5 - len(models) / 2) * thick
        axes.barh(y, values, height=0.84 * thick, color=theme.color(index))
        for at, value in zip(y, values, strict=True):
            axes.annotate(
                _percent(value),
                (value, at),
                xytext=(3, 0),
                textcoords="offset points",
                va="center_baseline",
                fontsize=8,
            )
    axes.set_ylim(len(place) - 0.5, -0.5)
    axes.set_xlim(0, 1.4 * scale)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.spines["bottom"].set_visible(False)


def _percent(value: float) -> str:
    return f"{value:.3f}" if value >= 0.0005 or value == 0 else f"{value:.0e}"


def _caption(trees: Sequence[PathTree]) -> str:
    text = (
        "All paths" if not _has(trees, "cut") else "The first steps of all paths"
    ) + ": squares are choices, with the policy's probabilities on what leaves them"
    if _has(trees, "outcome"):
        text += ", and circles are outcomes, with those of the dynamics"
    if len(trees) > 1:
        text += ". Left, every action has its likeliest outcome"
        text += ", and the models agree; right, they do not" if len(_models(trees[-1])) > 1 else ""
    return text + "."


def _in_words(tree: PathTree, label: Labels) -> str:
    lines = []
    for leaf, *values in zip(tree.leaves, *(tree.probabilities(model) for model, _ in _models(tree)), strict=True):
        states, _ = tree.path(leaf)
        lines.append("-".join(map(label.state, states)) + " " + "/".join(map(_percent, values)))
    return (
        f"{len(lines)} paths with their probabilities ({', '.join(n for _, n in _models(tree))}): "
        + "; ".join(lines)
        + "."
    )
