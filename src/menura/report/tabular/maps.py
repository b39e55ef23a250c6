"""Maps of a problem's states: the reward, visits of demonstrations and learner, and the policy."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from menura.report.style import Figure, Theme, legend_below, render
from menura.report.tabular.colors import blend, reward_colors
from menura.report.tabular.numbers import Deployed, Layout, by_action

WIDTH = 6.4
"""Of every figure, in inches."""

MOST_ARROWS = 18
"""Cells along an axis that can show arrows of their own; larger maps show colors and a few arrows."""

COMPASS = 0.6
"""An action is a direction if the sum of its moves is so long, beside the sum of their lengths."""


def map_figures(deployed: Deployed, layout: Layout, actions: Sequence[str]) -> list[Figure]:
    """Reward, visits, and policy."""
    return [_reward_map(deployed, layout), _visit_maps(deployed, layout), _policy_map(deployed, layout, actions)]


def _reward_map(deployed: Deployed, layout: Layout) -> Figure:
    values = layout.average(deployed.reward, deployed.learner_visits)

    def draw(figure: Any, theme: Theme) -> None:
        axes = figure.add_subplot()
        image = _image(axes, values, layout, theme, **reward_colors(values, theme))
        _numbers(axes, values, image, layout, theme, _panel(layout, 1))
        _color_bar(axes, image, "Reward of leaving a state")

    light, dark = render(draw, height=_height(layout, 1))
    caption = "Reward that the fit gives to leaving each state by its own policy. Gray: no action leads on from there."
    low, high = np.nanmin(values), np.nanmax(values)
    return Figure("reward", caption, f"Map of the reward, from {low:.3g} to {high:.3g}.", light, dark)


def _visit_maps(deployed: Deployed, layout: Layout) -> Figure:
    pair = [layout.place(deployed.expert_visits), layout.place(deployed.learner_visits)]
    beside = layout.columns <= 2 * layout.rows or layout.extent is not None
    largest = max(float(table.max()) for table in pair) or 1.0
    # Square roots on large maps, where the cells that most paths pass would leave the others blank.
    power = 1.0 if layout.rows * layout.columns <= 64 else 0.5

    def draw(figure: Any, theme: Theme) -> None:
        from matplotlib.colors import LinearSegmentedColormap, PowerNorm

        panels = figure.subplots(*((1, 2) if beside else (2, 1)), sharex=True, sharey=True)
        colors = LinearSegmentedColormap.from_list(
            "visits", [theme.background, theme.color(0), blend(theme.color(0), theme.ink, 0.45)]
        )
        norm = PowerNorm(power, 0.0, largest)
        image = None
        for axes, table, title in zip(panels, pair, ("demonstrations", "learner"), strict=True):
            image = _image(axes, table, layout, theme, cmap=colors, norm=norm)
            _numbers(axes, table, image, layout, theme, _panel(layout, 2 if beside else 1))
            axes.set_title(title)
            axes.label_outer()
        label = "Visits of a path" + (", discounted" if deployed.discounted else "")
        # Each tick is as far from the next in color.
        _color_bar(panels[-1], image, label, largest * np.linspace(0, 1, 5) ** (1 / power))

    light, dark = render(draw, height=_height(layout, 2))
    on = layout.placed
    apart = float(np.abs(deployed.expert_visits - deployed.learner_visits)[on].sum() / 2)
    total = float(deployed.expert_visits[on].sum())
    caption = (
        "How often a demonstration, and a path of the deployed policy, is in each cell, on one scale"
        + (", later visits discounted" if deployed.discounted else "")
        + f". {apart:.3g} of {total:.3g} visits are elsewhere."
    )
    return Figure("visits", caption, f"Two maps of visits. {apart:.3g} of {total:.3g} differ.", light, dark)


def _policy_map(deployed: Deployed, layout: Layout, actions: Sequence[str]) -> Figure:
    table = by_action(deployed, layout, deployed.policy)
    directions, is_compass = _directions(deployed, layout)
    small = max(layout.rows, layout.columns) <= MOST_ARROWS and is_compass

    def draw(figure: Any, theme: Theme) -> None:
        axes = figure.add_subplot()
        if small:
            _draw_arrows(axes, table, directions, layout, theme, actions)
        else:
            _draw_likeliest(axes, table, deployed, layout, theme, actions)
        legend_below(figure, axes)

    light, dark = render(draw, height=_height(layout, 1) + 0.5)
    caption = (
        "The deployed policy: an arrow is as long as its action is likely; the likeliest of a cell is colored."
        if small
        else "The deployed policy: the color is that of the likeliest action, the paler the less likely, and arrows "
        "point where the policy moves on average."
    )
    best = np.nanmax(np.where(np.isfinite(table), table, 0), axis=-1)
    usual = float(np.median(best[best > 0])) if (best > 0).any() else np.nan
    return Figure(
        "policy",
        caption,
        f"The policy. A cell's likeliest action has a median probability of {usual:.2f}.",
        light,
        dark,
    )


def _directions(deployed: Deployed, layout: Layout) -> tuple[np.ndarray, bool]:
    """A unit vector (right, up) for every action, (0, 0) for one that stays; and whether its moves agree on it."""
    mdp = deployed.mdp
    moves = _moves(deployed, layout)
    out, agrees = np.zeros((mdp.num_actions, 2)), True
    for action in range(mdp.num_actions):
        move = moves[(mdp.pair_action == action) & np.isfinite(deployed.policy)]
        size = np.linalg.norm(move, axis=1)
        if not (size > 1e-6).any():
            continue
        # Slips to either side cancel over all cells, and what is left of those to one side is snapped away.
        share = np.minimum(size, 1) / np.where(size > 1e-6, size, 1)
        total = (share[:, None] * move).sum(axis=0)
        agrees &= float(np.linalg.norm(total)) > COMPASS * float((share * size).sum())
        angle = np.round(np.arctan2(total[1], total[0]) / (np.pi / 4)) * (np.pi / 4)
        out[action] = np.cos(angle), np.sin(angle)
    return out, bool(agrees)


def _moves(deployed: Deployed, layout: Layout) -> np.ndarray:
    """Expected move of every pair in cells, right and up, over outcomes that stay on the map."""
    mdp = deployed.mdp
    on = (layout.row[mdp.state] >= 0) & (layout.row[mdp.next_state] >= 0)
    right = layout.column[mdp.next_state] - layout.column[mdp.state]
    up = layout.row[mdp.next_state] - layout.row[mdp.state]
    step = np.stack([right, up if layout.upwards else -up], axis=1) * (mdp.probability * on)[:, None]
    return np.stack([np.bincount(mdp.transition_pair, step[:, k], mdp.num_pairs) for k in range(2)], axis=1)


def _draw_arrows(
    axes: Any, table: np.ndarray, directions: np.ndarray, layout: Layout, theme: Theme, actions: Sequence[str]
) -> None:
    from matplotlib.collections import PolyCollection

    _ground(axes, table, layout, theme)
    row, column = np.nonzero(np.isfinite(table).any(axis=-1))
    likely = np.nan_to_num(table[row, column])
    best = likely.max(axis=1, keepdims=True)
    flip = 1 if layout.upwards else -1
    for chosen in (False, True):
        at, action = np.nonzero((likely > 0.02) & ((likely >= best - 1e-9) == chosen))
        moving = directions[action].any(axis=1)
        color = theme.color(1) if chosen else blend(theme.ink, theme.background, 0.35)
        origin = np.stack([column[at], row[at]], axis=1)
        arrows = [
            _arrow(where, length, (way[0], flip * way[1]))
            for where, length, way in zip(
                origin[moving], 0.46 * likely[at, action][moving], directions[action[moving]], strict=True
            )
        ]
        axes.add_collection(PolyCollection(arrows, facecolor=color, edgecolor="none", zorder=3 + chosen))
        size = 0.18 * 72 * _panel(layout, 1)[0] / layout.columns
        still = likely[at, action][~moving]
        axes.scatter(*origin[~moving].T, s=size**2 * still, color=color, zorder=5)
    staying = [name for name, direction in zip(actions, directions, strict=True) if not direction.any()]
    if staying:
        axes.scatter([], [], s=40, color=theme.color(1), label=f"a dot: {' or '.join(staying)}")


def _arrow(origin: np.ndarray, length: float, way: tuple[float, float]) -> np.ndarray:
    """The outline of an arrow; a short one is a small arrow, and not the tip of a long one."""
    shaft, head, wide = 0.028 * min(1.0, length / 0.15), min(0.15, 0.6 * length), 0.085 * min(1.0, length / 0.25)
    along = np.array([0, length - head, length - head, length, length - head, length - head, 0])
    across = np.array([shaft, shaft, wide, 0, -wide, -shaft, -shaft])
    x, y = way
    return origin + np.stack([along * x - across * y, along * y + across * x], axis=1)


def _draw_likeliest(
    axes: Any, table: np.ndarray, deployed: Deployed, layout: Layout, theme: Theme, actions: Sequence[str]
) -> None:
    from matplotlib.colors import to_rgb

    known = np.asarray(np.isfinite(table).any(axis=-1))
    likely = np.nan_to_num(table)
    best, ground = likely.argmax(axis=-1), np.array(to_rgb(theme.background))
    share = np.clip((likely.max(axis=-1) - 1 / table.shape[-1]) / (1 - 1 / table.shape[-1]), 0, 1)
    series = np.array([to_rgb(theme.color(a)) for a in range(table.shape[-1])])
    strength = (0.15 + 0.7 * share)[..., None]
    picture = np.where(known[..., None], strength * series[best] + (1 - strength) * ground, to_rgb(theme.faint))
    _image(axes, picture, layout, theme)
    moves, mdp = _moves(deployed, layout), deployed.mdp
    policy = np.nan_to_num(deployed.policy)
    mean = [
        layout.average(np.bincount(mdp.pair_state, policy * moves[:, k], mdp.num_states), deployed.learner_visits)
        for k in range(2)
    ]
    every = [max(1, -(-n // MOST_ARROWS)) for n in (layout.rows, layout.columns)]
    some = np.zeros_like(known)
    some[every[0] // 2 :: every[0], every[1] // 2 :: every[1]] = True
    row, column = np.nonzero(some & known)
    right, up = mean[0][row, column], mean[1][row, column]
    usual = np.quantile(np.hypot(right, up), 0.9) or 1.0
    # What jumps, as a car does that hits a wall, would cross the map.
    scale = 0.9 * min(every) / np.maximum(np.hypot(right, up), usual)
    x, y, wide, high = _at(layout, row, column)
    sign = 1 if layout.upwards or layout.extent is not None else -1
    axes.quiver(
        x, y, scale * right * wide, sign * scale * up * high, angles="xy", scale_units="xy", scale=1, pivot="mid",
        color=theme.ink, width=0.0028, headwidth=3.6, headlength=4, headaxislength=3.6, minlength=0.4,
    )  # fmt: skip
    for action in np.unique(best[known]).tolist():
        axes.plot([], [], linestyle="", marker="s", markersize=10, color=theme.color(action), label=actions[action])


def _at(layout: Layout, row: np.ndarray, column: np.ndarray) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Where cells are in the units of the axes, and how large one is."""
    if layout.extent is None:
        return column.astype(float), row.astype(float), 1.0, 1.0
    left, right, bottom, top = layout.extent
    wide, high = (right - left) / layout.columns, (top - bottom) / layout.rows
    return left + (column + 0.5) * wide, bottom + (row + 0.5) * high, wide, high


def _image(axes: Any, values: np.ndarray, layout: Layout, theme: Theme, **colors: Any) -> Any:
    if values.ndim == 2:
        values = np.ma.masked_invalid(values)
        colors["cmap"] = colors["cmap"].with_extremes(bad=theme.faint)
    aspect = "equal" if layout.extent is None else "auto"
    origin = "lower" if layout.upwards else "upper"
    image = axes.imshow(values, origin=origin, extent=layout.extent, aspect=aspect, interpolation="nearest", **colors)
    _frame(axes, layout, theme)
    return image


def _ground(axes: Any, table: np.ndarray, layout: Layout, theme: Theme) -> None:
    """Cells without colors, gray where there is no policy."""
    from matplotlib.colors import ListedColormap

    known = np.isfinite(table).any(axis=-1).astype(float)
    colors = ListedColormap([theme.faint, theme.background])
    _image(axes, known, layout, theme, cmap=colors, vmin=0, vmax=1)


def _frame(axes: Any, layout: Layout, theme: Theme) -> None:
    axes.grid(visible=False)
    for side in axes.spines.values():
        side.set_visible(True)
    axes.set_xlabel(layout.labels[0])
    axes.set_ylabel(layout.labels[1])
    if layout.extent is not None:
        return
    axes.set_xticks(range(0, layout.columns, max(1, layout.columns // 12)))
    axes.set_yticks(range(0, layout.rows, max(1, layout.rows // 12)))
    axes.tick_params(length=0, labelsize=9)
    if max(layout.rows, layout.columns) <= 40:
        for x in np.arange(layout.columns - 1) + 0.5:
            axes.axvline(x, color=theme.faint, linewidth=0.8)
        for y in np.arange(layout.rows - 1) + 0.5:
            axes.axhline(y, color=theme.faint, linewidth=0.8)


def _numbers(
    axes: Any, values: np.ndarray, image: Any, layout: Layout, theme: Theme, panel: tuple[float, float]
) -> None:
    """The value of every cell, where it can be read."""
    texts = [["" if not np.isfinite(v) else _short(float(v)) for v in line] for line in values]
    longest = max((len(t) for line in texts for t in line), default=1)
    cell = 72 * min(panel[0] / layout.columns, 2 * panel[1] / layout.rows)
    size = min(11.0, cell / (0.68 * max(longest, 3)))
    if size < 5.5:
        return
    for i, line in enumerate(texts):
        for j, text in enumerate(line):
            red, green, blue, _ = image.cmap(image.norm(values[i, j])) if text else (1, 1, 1, 1)
            shade = 0.299 * red + 0.587 * green + 0.114 * blue
            axes.text(
                j, i, text, ha="center", va="center", fontsize=size, color="#000000" if shade > 0.5 else "#ffffff"
            )


def _short(value: float) -> str:
    """A number of a cell, in few characters."""
    if value == 0:
        return "0"
    size = abs(value)
    if size < 0.005:
        return "≈0"
    text = f"{value:.2f}" if size < 10 else f"{value:.1f}" if size < 100 else f"{value:.0f}"
    return text.replace("-", "\N{MINUS SIGN}")


def _color_bar(axes: Any, image: Any, label: str, ticks: Any = None) -> None:
    """Beside a map and as high."""
    beside = axes.inset_axes((1.03, 0, 0.04, 1))
    bar = axes.figure.colorbar(image, cax=beside, label=label, ticks=ticks)
    bar.outline.set_visible(False)
    if ticks is not None:
        bar.ax.set_yticks(ticks, [_short(float(t)) for t in ticks], minor=False)


def _panel(layout: Layout, across: int) -> tuple[float, float]:
    """Width and height of a map in inches, with so many beside each other."""
    width = (WIDTH - 1.7) / across
    if layout.extent is not None:
        return width, min(3.6, 1.25 * width)
    height = width * layout.rows / layout.columns
    fits = min(1.0, 4.6 / height)
    return width * fits, height * fits


def _height(layout: Layout, panels: int) -> float:
    beside = panels == 1 or layout.columns <= 2 * layout.rows or layout.extent is not None
    each = _panel(layout, panels if beside else 1)[1] + (0.35 if panels > 1 else 0)
    return (1 if beside else panels) * each + 0.75
