"""Drives from above, drawn from observations alone: between two of them every vehicle goes on along a smooth path."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from menura.environments.driving.scene import (
    LANE_WIDTH,
    VEHICLE_LENGTH,
    VEHICLE_WIDTH,
    X_RANGE,
    Road,
    road_of,
    scene_of,
)
from menura.report.drawing import Canvas

MOMENTS = 15
"""Drawn for each second, which is one step."""
VIEW = (-35.0, 85.0)
"""Metres of road behind and ahead that are shown."""
_SAME = 7.0
"""Metres from where a vehicle should be, within which the next observation's is the same one."""
_GROUND, _ROAD, _MARK, _OTHER, _OWN, _CRASH = "#e3eadf", "#59616b", "#dfe3e8", "#e8b04a", "#3d9be0", "#e2461f"
_STANDING, _EDGE = "#2b3440", "#ffffff"

# The ramp of merge-v0: beside the road, then towards it, then along it to where it ends.
_RAMP_BENDS, _RAMP_JOINS, _RAMP_ENDS = 150.0, 230.0, 310.0
_RAMP_Y, _JOINED_Y = 14.5, 8.0

Vehicle = Float[np.ndarray, "4"]
"""x, y and both speeds, in metres along the road."""


@dataclass(frozen=True)
class Moment:
    """Where every vehicle is at one instant, along the road."""

    own: Vehicle
    others: tuple[Vehicle, ...]


@dataclass(frozen=True)
class Drive:
    """One episode as an observer above the road sees it, one moment after another."""

    road: Road
    moments: tuple[Moment, ...]


def can_draw(env_id: str, env_kwargs: dict[str, Any] | None = None) -> bool:
    """Whether the environment is a straight road, whose observations say where everybody is."""
    return road_of(env_id, env_kwargs) is not None


def drive_of(obs: Float[np.ndarray, "steps obs"], road: Road) -> Drive:
    """The moments of an episode, :data:`MOMENTS` for each of its steps and one more."""
    seen = _observed(obs, road)
    moments = []
    for before, after in zip(seen, seen[1:], strict=False):
        pairs = _paired(before.others, after.others)
        moments += [_between(before, after, pairs, index / MOMENTS) for index in range(MOMENTS)]
    return Drive(road, (*moments, seen[-1]))


def draw_moment(drive: Drive, index: int, width: int, *, crashed: bool = False) -> np.ndarray:
    """A picture ``(H, W, 3)`` of one moment; ``crashed`` marks the own vehicle as having crashed just now."""
    road, moment = drive.road, drive.moments[index]
    bottom = _RAMP_Y if road.ramp else LANE_WIDTH * (road.num_lanes - 1)
    top, bottom = -LANE_WIDTH / 2 - 2.5, bottom + LANE_WIDTH / 2 + 2.5
    x, y = float(moment.own[0]), float(moment.own[1])
    left, right = x + VIEW[0], x + VIEW[1]
    height = round(width * (bottom - top) / (right - left)) // 2 * 2
    canvas = Canvas(
        (width, height), center=((left + right) / 2, -(top + bottom) / 2), width=right - left, height=bottom - top
    )
    canvas.polygon([(left, -top), (right, -top), (right, -bottom), (left, -bottom)], _GROUND)
    _draw_road(canvas, road, left, right)
    if crashed:
        at = min(moment.others, key=lambda other: math.hypot(other[0] - x, 2 * (other[1] - y)), default=moment.own)
        _draw_burst(canvas, ((x + float(at[0])) / 2, -(y + float(at[1])) / 2))
    for other in moment.others:
        # Whatever stands is the end of the ramp.
        _draw_vehicle(canvas, other, _OTHER if other[2] > 1.0 else _STANDING)
    _draw_vehicle(canvas, moment.own, _CRASH if crashed else _OWN)
    return canvas.pixels()


def _observed(obs: np.ndarray, road: Road) -> list[Moment]:
    """Every observation in metres along the road; beyond the 200 m that are observed, x is added up from the speed."""
    scene = scene_of(np.asarray(obs, np.float64), road)
    x = np.asarray(scene.x, np.float64).copy()
    for step in range(1, len(x)):
        if x[step] >= X_RANGE - 0.1:
            x[step] = x[step - 1] + (scene.speed[step - 1] + scene.speed[step]) / 2
    own = np.stack([x, scene.y, scene.speed, scene.lateral_speed], axis=-1)
    others_x, others_y = x[:, None] + scene.ahead, np.asarray(scene.others_y).copy()
    if road.ramp:
        # The far part of the ramp lies beyond what is observed: whoever seems to be at the edge is there.
        clipped = others_y - np.asarray(scene.y)[:, None] > 0.999 * road.y_range
        others_y = np.where(clipped, np.maximum(others_y, _ramp_y(others_x)), others_y)
    columns = (others_x, others_y, scene.others_speed, scene.others_lateral_speed)
    others = np.stack(columns, axis=-1)
    return [Moment(own[step], tuple(others[step][np.asarray(scene.present[step])])) for step in range(len(own))]


def _paired(before: tuple[Vehicle, ...], after: tuple[Vehicle, ...]) -> list[tuple[Vehicle | None, Vehicle | None]]:
    """Which vehicles of two observations, a second apart, are the same; the others with ``None``."""
    distances = sorted(
        (math.dist(old[:2] + (old[2:] + new[2:]) / 2, new[:2]), i, j)
        for i, old in enumerate(before)
        for j, new in enumerate(after)
    )
    found: dict[int, int] = {}
    for distance, i, j in distances:
        if distance < _SAME and i not in found and j not in found.values():
            found[i] = j
    pairs: list[tuple[Vehicle | None, Vehicle | None]] = [
        (old, after[found[i]] if i in found else None) for i, old in enumerate(before)
    ]
    return pairs + [(None, new) for j, new in enumerate(after) if j not in found.values()]


def _between(before: Moment, after: Moment, pairs: list[tuple[Vehicle | None, Vehicle | None]], t: float) -> Moment:
    others = []
    for old, new in pairs:
        if old is not None and new is not None:
            others.append(_on_the_way(old, new, t))
        elif old is not None:
            # Out of sight from the next observation on.
            others.append(np.concatenate([old[:2] + t * old[2:], old[2:]]))
        elif new is not None:
            others.append(np.concatenate([new[:2] - (1 - t) * new[2:], new[2:]]))
    return Moment(_on_the_way(before.own, after.own, t), tuple(others))


def _on_the_way(start: Vehicle, end: Vehicle, t: float) -> Vehicle:
    """Cubic Hermite interpolation over one second, with the speeds that were observed at both ends."""
    (p, v), (q, w) = (start[:2], start[2:]), (end[:2], end[2:])
    at = (1 + 2 * t) * (1 - t) ** 2 * p + t * (1 - t) ** 2 * v + t**2 * (3 - 2 * t) * q - t**2 * (1 - t) * w
    speed = 6 * t * (1 - t) * (q - p) + (1 - t) * (1 - 3 * t) * v + t * (3 * t - 2) * w
    return np.concatenate([at, speed])


def _draw_road(canvas: Canvas, road: Road, left: float, right: float) -> None:
    edge = LANE_WIDTH / 2
    last = LANE_WIDTH * (road.num_lanes - 1)
    if road.ramp:
        xs = np.linspace(left, min(right, _RAMP_ENDS), 80)
        if xs[-1] > xs[0]:
            middle = _ramp_y(xs)
            upper = list(zip(xs.tolist(), (edge - middle).tolist(), strict=True))
            lower = list(zip(xs.tolist(), (-edge - middle).tolist(), strict=True))
            canvas.polygon([*upper, *lower[::-1]], _ROAD)
            for line in (upper, lower):
                for start, end in zip(line, line[1:], strict=False):
                    if line is lower or start[0] < _RAMP_JOINS:
                        canvas.rod(start, end, 0.3, _EDGE)
    canvas.polygon([(left, edge), (right, edge), (right, -last - edge), (left, -last - edge)], _ROAD)
    canvas.rod((left, edge), (right, edge), 0.3, _EDGE)
    open_from, open_to = (_RAMP_JOINS, _RAMP_ENDS) if road.ramp else (math.inf, math.inf)
    for start, end in ((left, min(right, open_from)), (max(left, open_to), right)):
        if end > start:
            canvas.rod((start, -last - edge), (end, -last - edge), 0.3, _EDGE)
    borders = [-LANE_WIDTH * lane - edge for lane in range(road.num_lanes - 1)]
    for at in range(math.floor(left / 12) * 12, math.ceil(right), 12):
        for border in borders:
            canvas.rod((at, border), (at + 4, border), 0.16, _MARK)
        if open_from <= at < open_to:
            canvas.rod((at, -last - edge), (at + 4, -last - edge), 0.16, _MARK)


def _ramp_y(x: np.ndarray) -> np.ndarray:
    turn = np.pi * np.clip((x - _RAMP_BENDS) / (_RAMP_JOINS - _RAMP_BENDS), 0.0, 1.0)
    return (_RAMP_Y + _JOINED_Y) / 2 + (_RAMP_Y - _JOINED_Y) / 2 * np.cos(turn)


def _draw_vehicle(canvas: Canvas, vehicle: Vehicle, color: str) -> None:
    x, y, vx, vy = (float(number) for number in vehicle)
    angle = -math.atan2(vy, vx) if vx > 1.0 else 0.0
    canvas.block((x, -y), VEHICLE_LENGTH, VEHICLE_WIDTH, color, radius=0.5, angle=angle)
    if color != _STANDING:
        # The windscreen shows which way it looks.
        at = (x + 0.9 * math.cos(angle), -y + 0.9 * math.sin(angle))
        canvas.block(at, 0.7, VEHICLE_WIDTH - 0.5, _STANDING, radius=0.15, angle=angle)


def _draw_burst(canvas: Canvas, at: tuple[float, float]) -> None:
    points = []
    for index in range(24):
        radius, angle = (6.5, 3.6)[index % 2], math.pi * index / 12
        points.append((at[0] + radius * math.cos(angle), at[1] + radius * math.sin(angle)))
    canvas.polygon(points, "#ffd24d")
