"""Mixing the colors of a theme, and the colors of rewards."""

from typing import Any

import numpy as np

from menura.report.style import Theme


def blend(one: str, other: str, share: float) -> str:
    """The color that has ``share`` of the other in it."""
    from matplotlib.colors import to_hex, to_rgb

    return to_hex(tuple(((1 - share) * np.array(to_rgb(one)) + share * np.array(to_rgb(other))).tolist()))


def reward_colors(values: np.ndarray, theme: Theme) -> dict[str, Any]:
    """Paler to stronger, one hue for rewards below 0 and one for those above."""
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    cost, gain = theme.color(1), theme.color(0)
    pale = lambda color: blend(color, theme.background, 0.9)  # noqa: E731
    if low < 0 < high:
        largest = max(-low, high)
        colors, low, high = [cost, theme.background, gain], -largest, largest
    else:
        colors = [cost, pale(cost)] if low < 0 else [pale(gain), gain]
    if high - low < 1e-9 * max(1.0, abs(low)):
        low, high = low - 1, high + 1
    return {"cmap": LinearSegmentedColormap.from_list("reward", colors), "norm": Normalize(low, high)}
