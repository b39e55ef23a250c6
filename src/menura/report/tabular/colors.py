"""Mixing the colors of a theme."""

import numpy as np


def blend(one: str, other: str, share: float) -> str:
    """The color that has ``share`` of the other in it."""
    from matplotlib.colors import to_hex, to_rgb

    return to_hex(tuple(((1 - share) * np.array(to_rgb(one)) + share * np.array(to_rgb(other))).tolist()))
