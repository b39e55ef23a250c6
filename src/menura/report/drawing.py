"""Pictures of the small environments, drawn from an observation alone.

A demonstration holds observations and no simulator, and a video must not need a screen, so these are drawn
here and not by Gymnasium's renderers.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from menura.core import RequestError

_SUPERSAMPLING = 4
"""Pictures are drawn this many times larger and averaged down, which smooths their edges."""

_GROUND, _SHADE, _FAINT, _QUIET, _INK = "#f7f8fa", "#e6eaef", "#cfd6de", "#98a3b0", "#2b3440"
# Okabe & Ito (2008): told apart by color-blind readers too.
_BLUE, _SKY, _ORANGE, _VERMILION, _GREEN = "#0072b2", "#56b4e9", "#e69f00", "#d55e00", "#009e73"

Point = tuple[int | float, int | float]


class Canvas:
    """Shapes in units of the world: ``center`` is in the middle of the picture, y goes up."""

    def __init__(self, size: tuple[int, int], *, center: Point, width: float, height: float):
        """``width`` by ``height`` is what must be seen; all of it fits, in its own proportions."""
        try:
            from PIL import Image, ImageDraw
        except ModuleNotFoundError as error:
            raise RequestError("Pictures need Pillow: install menura with its `viz` extra.") from error
        self._pixels = (size[0] * _SUPERSAMPLING, size[1] * _SUPERSAMPLING)
        self._center = center
        self._scale = min(self._pixels[0] / width, self._pixels[1] / height)
        self._image = Image.new("RGB", self._pixels, _GROUND)
        self._draw = ImageDraw.Draw(self._image)

    @property
    def half_size(self) -> Point:
        """Half of the width and height that the picture shows."""
        return self._pixels[0] / 2 / self._scale, self._pixels[1] / 2 / self._scale

    def polygon(self, points: Sequence[Point], color: str) -> None:
        """A filled outline."""
        self._draw.polygon([self._to_pixels(p) for p in points], fill=color)

    def circle(self, at: Point, radius: float, color: str) -> None:
        """A filled circle."""
        (x, y), r = self._to_pixels(at), radius * self._scale
        self._draw.ellipse((x - r, y - r, x + r, y + r), fill=color)

    def rod(self, start: Point, end: Point, width: float, color: str) -> None:
        """A thick line with round ends."""
        length = math.dist(start, end)
        if length > 0:
            nx, ny = (start[1] - end[1]) / length * width / 2, (end[0] - start[0]) / length * width / 2
            corners = [(p[0] + s * nx, p[1] + s * ny) for p, s in ((start, 1), (end, 1), (end, -1), (start, -1))]
            self.polygon(corners, color)
        for point in (start, end):
            self.circle(point, width / 2, color)

    def dashes(self, start: Point, end: Point, width: float, color: str, *, gap: float) -> None:
        """A dashed line; ``gap`` is the length of a dash and of the space after it."""
        count = max(1, round(math.dist(start, end) / (2 * gap)))
        at = lambda t: (start[0] + t * (end[0] - start[0]), start[1] + t * (end[1] - start[1]))  # noqa: E731
        for i in range(count):
            self.rod(at((i + 0.25) / count), at((i + 0.75) / count), width, color)

    def block(self, at: Point, width: float, height: float, color: str, *, radius: float, angle: float = 0.0) -> None:
        """A rectangle with round corners, turned by ``angle`` radians about its center ``at``."""
        w, h = width / 2 - radius, height / 2 - radius
        corners = [_turned(at, corner, angle) for corner in ((-w, -h), (w, -h), (w, h), (-w, h))]
        self.polygon(corners, color)
        for start, end in zip(corners, corners[1:] + corners[:1], strict=True):
            self.rod(start, end, 2 * radius, color)

    def pixels(self) -> UInt8[np.ndarray, "height width 3"]:
        """The picture at its own size."""
        return np.asarray(self._image.reduce(_SUPERSAMPLING))

    def _to_pixels(self, point: Point) -> Point:
        return (
            self._pixels[0] / 2 + (point[0] - self._center[0]) * self._scale,
            self._pixels[1] / 2 - (point[1] - self._center[1]) * self._scale,
        )


def can_draw(env_id: str) -> bool:
    """Whether :func:`draw` knows this environment."""
    return env_id.removeprefix("gymnasium:") in _SCENES


def draw(
    env_id: str,
    obs: Float[np.ndarray, " obs"],
    size: tuple[int, int] = (480, 320),
    *,
    env_kwargs: dict[str, Any] | None = None,
) -> UInt8[np.ndarray, "height width 3"]:
    """What one observation looks like. ``size`` is width and height in pixels.

    ``env_kwargs`` are those the environment was made with: they move a goal or a border that is not observed.
    """
    if not can_draw(env_id):
        raise RequestError(f"There is no drawing of {env_id!r}, only of {', '.join(_SCENES)}.")
    return _SCENES[env_id.removeprefix("gymnasium:")](np.asarray(obs, np.float64), size, env_kwargs or {}).pixels()


def _cartpole(obs: np.ndarray, size: tuple[int, int], env_kwargs: dict[str, Any]) -> Canvas:
    x, theta = float(obs[0]), float(obs[2])
    border, length = env_kwargs.get("x_threshold", 2.4), 2 * env_kwargs.get("length", 0.5)
    canvas = Canvas(size, center=(0, 0.55), width=2 * border + 0.9, height=length + 1.3)
    canvas.rod((-border, -0.25), (border, -0.25), 0.05, _FAINT)
    for end in (-border, border):
        canvas.rod((end, -0.37), (end, -0.13), 0.05, _QUIET)
    canvas.block((x, 0), 0.7, 0.32, _BLUE, radius=0.07)
    for wheel in (-0.2, 0.2):
        canvas.circle((x + wheel, -0.13), 0.1, _INK)
        canvas.circle((x + wheel, -0.13), 0.035, _FAINT)
    tip = (x + length * math.sin(theta), 0.08 + length * math.cos(theta))
    canvas.rod((x, 0.08), tip, 0.13, _ORANGE)
    canvas.circle((x, 0.08), 0.04, _GROUND)
    return canvas


def _acrobot(obs: np.ndarray, size: tuple[int, int], env_kwargs: dict[str, Any]) -> Canvas:
    first = math.atan2(obs[1], obs[0])
    second = first + math.atan2(obs[3], obs[2])
    joint = (math.sin(first), -math.cos(first))
    tip = (joint[0] + math.sin(second), joint[1] - math.cos(second))
    canvas = Canvas(size, center=(0, 0), width=4.6, height=4.6)
    reach = min(canvas.half_size[0] - 0.3, 2.6)
    canvas.dashes((-reach, 1), (reach, 1), 0.04, _GREEN, gap=0.11)
    canvas.circle((0, 0), 0.2, _SHADE)
    canvas.rod((0, 0), joint, 0.17, _BLUE)
    canvas.rod(joint, tip, 0.15, _SKY)
    canvas.circle((0, 0), 0.05, _GROUND)
    canvas.circle(joint, 0.045, _GROUND)
    canvas.circle(tip, 0.12, _GREEN if tip[1] > 1 else _ORANGE)
    return canvas


def _mountain_car(obs: np.ndarray, size: tuple[int, int], env_kwargs: dict[str, Any]) -> Canvas:
    x, goal = float(obs[0]), float(env_kwargs.get("goal_position", 0.5))
    height = lambda at: 0.45 * math.sin(3 * at) + 0.55  # noqa: E731
    canvas = Canvas(size, center=(-0.3, 0.62), width=2.1, height=1.3)
    left, right = -0.3 - canvas.half_size[0], -0.3 + canvas.half_size[0]
    bottom = 0.62 - canvas.half_size[1]
    hill = [(at, height(at)) for at in np.linspace(left, right, 160).tolist()]
    canvas.polygon([(left, bottom), *hill, (right, bottom)], _FAINT)
    wall = min(env_kwargs.get("min_position", -1.2) - 0.06, right)
    canvas.polygon([(left, bottom), (left, height(-1.2) + 0.16), (wall, height(-1.2) + 0.16), (wall, bottom)], _QUIET)
    pole_top = height(goal) + 0.23
    canvas.rod((goal, height(goal)), (goal, pole_top), 0.012, _INK)
    canvas.polygon([(goal, pole_top), (goal + 0.1, pole_top - 0.04), (goal, pole_top - 0.08)], _GREEN)
    slope = math.atan(1.35 * math.cos(3 * x))
    on_track = lambda along, above: _turned((x, height(x)), (along, above), slope)  # noqa: E731
    canvas.block(on_track(0, 0.074), 0.18, 0.062, _BLUE, radius=0.02, angle=slope)
    canvas.block(on_track(-0.01, 0.112), 0.1, 0.06, _BLUE, radius=0.02, angle=slope)
    for wheel in (-0.053, 0.053):
        canvas.circle(on_track(wheel, 0.032), 0.03, _INK)
        canvas.circle(on_track(wheel, 0.032), 0.011, _FAINT)
    return canvas


def _pendulum(obs: np.ndarray, size: tuple[int, int], env_kwargs: dict[str, Any]) -> Canvas:
    tip = (-float(obs[1]), float(obs[0]))
    canvas = Canvas(size, center=(0, 0), width=2.8, height=2.8)
    canvas.circle((0, 0), 1.0, _SHADE)
    canvas.circle((0, 0), 0.97, _GROUND)
    canvas.circle((0, 1), 0.15, _GREEN)
    canvas.circle((0, 1), 0.12, _GROUND)
    canvas.rod((0, 0), tip, 0.11, _BLUE)
    canvas.circle(tip, 0.12, _ORANGE)
    canvas.circle((0, 0), 0.1, _INK)
    canvas.circle((0, 0), 0.035, _GROUND)
    return canvas


def _grid_world(obs: np.ndarray, size: tuple[int, int], env_kwargs: dict[str, Any]) -> Canvas:
    cells = math.isqrt(len(obs))
    goal = env_kwargs.get("goal")
    goal = len(obs) - 1 if goal is None else int(goal)
    middle = (cells - 1) / 2
    canvas = Canvas(size, center=(middle, -middle), width=cells + 0.6, height=cells + 0.6)
    for cell in range(len(obs)):
        at = (cell % cells, -(cell // cells))
        canvas.block(at, 0.92, 0.92, _GREEN if cell == goal else _SHADE, radius=0.1)
    canvas.circle((goal % cells, -(goal // cells)), 0.3, _GROUND)
    canvas.circle((goal % cells, -(goal // cells)), 0.22, _GREEN)
    cell = int(np.argmax(obs))
    canvas.circle((cell % cells, -(cell // cells)), 0.28, _BLUE)
    canvas.circle((cell % cells - 0.08, 0.08 - cell // cells), 0.07, _SKY)
    return canvas


def _turned(origin: Point, offset: Point, angle: float) -> Point:
    """``origin`` plus the offset turned by ``angle`` radians."""
    cos, sin = math.cos(angle), math.sin(angle)
    return origin[0] + cos * offset[0] - sin * offset[1], origin[1] + sin * offset[0] + cos * offset[1]


_SCENES: dict[str, Callable[[np.ndarray, tuple[int, int], dict[str, Any]], Canvas]] = {
    "Acrobot-v1": _acrobot,
    "CartPole-v0": _cartpole,
    "CartPole-v1": _cartpole,
    "GridWorld-v0": _grid_world,
    "MountainCar-v0": _mountain_car,
    "Pendulum-v1": _pendulum,
}
