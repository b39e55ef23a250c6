"""Coordinates that people read of observations: angles in place of their sines, and names where they are known."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from menura.environments.driving.scene import LANE_WIDTH, VEHICLE_LENGTH, Road, Scene, obs_of, road_of, scene_of


@dataclass(frozen=True)
class Chart:
    """A way between observations ``(batch, obs)`` and coordinates ``(batch, names)``."""

    names: tuple[str, ...]
    of_obs: Callable[[np.ndarray], np.ndarray]
    to_obs: Callable[[np.ndarray], np.ndarray]
    cells: int | None = None
    """Values along each coordinate where they are whole numbers from 0 on; ``None`` for real ones."""


def chart_of(env_id: str, obs_size: int, env_kwargs: dict[str, Any] | None = None) -> Chart:
    """The chart of an environment; the observation's own numbers where nothing better is known."""
    name = env_id.rsplit(":", 1)[-1]
    cells = math.isqrt(obs_size)
    if name == "Pendulum-v1" and obs_size == 3:
        return Chart(("angle from upright (rad)", "speed (rad/s)"), _pendulum_of, _pendulum_to)
    if name == "Acrobot-v1" and obs_size == 6:
        names = ("first angle (rad)", "second angle (rad)", "first speed (rad/s)", "second speed (rad/s)")
        return Chart(names, _acrobot_of, _acrobot_to)
    if name == "GridWorld-v0" and cells**2 == obs_size:
        return Chart(("column", "row"), *_grid(cells), cells)
    road = road_of(name, env_kwargs)
    if road is not None and obs_size == 25:
        names = ("gap to the vehicle ahead (m)", "its speed less one's own (m/s)")
        return Chart(names, lambda obs: leader_of(obs, road), lambda at: behind_leader(at, road))
    names = _NAMES.get(name, ())
    if len(names) != obs_size:
        names = tuple(f"observation {i}" for i in range(obs_size))
    return Chart(names, _same, _same)


def _same(x: np.ndarray) -> np.ndarray:
    return x


def _pendulum_of(obs: np.ndarray) -> np.ndarray:
    return np.stack([np.arctan2(obs[:, 1], obs[:, 0]), obs[:, 2]], axis=1)


def _pendulum_to(at: np.ndarray) -> np.ndarray:
    return np.stack([np.cos(at[:, 0]), np.sin(at[:, 0]), at[:, 1]], axis=1)


def _acrobot_of(obs: np.ndarray) -> np.ndarray:
    first, second = np.arctan2(obs[:, 1], obs[:, 0]), np.arctan2(obs[:, 3], obs[:, 2])
    return np.stack([first, second, obs[:, 4], obs[:, 5]], axis=1)


def _acrobot_to(at: np.ndarray) -> np.ndarray:
    first, second = at[:, 0], at[:, 1]
    return np.stack([np.cos(first), np.sin(first), np.cos(second), np.sin(second), at[:, 2], at[:, 3]], axis=1)


def _grid(cells: int) -> tuple[Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray]]:
    def of_obs(obs: np.ndarray) -> np.ndarray:
        row, column = np.divmod(np.argmax(obs, axis=1), cells)
        return np.stack([column, row], axis=1).astype(float)

    def to_obs(at: np.ndarray) -> np.ndarray:
        column, row = np.clip(np.rint(at), 0, cells - 1).astype(int).T
        return np.eye(cells**2)[row * cells + column]

    return of_obs, to_obs


FREE_GAP = 100.0
"""Metres that stand for a road without anybody ahead."""
CRUISING = 27.0
"""m/s of the vehicle behind a leader, where a chart leaves it open."""


def leader_of(obs: np.ndarray, road: Road) -> np.ndarray:
    """Gap to the nearest vehicle ahead in the own lane, and its speed less one's own; 100 and 0 where there is none."""
    scene = scene_of(np.asarray(obs, np.float64), road)
    same_lane = np.abs(scene.others_y - scene.y[:, None]) < LANE_WIDTH / 2
    gap = scene.ahead - VEHICLE_LENGTH
    gap = np.where(scene.present & same_lane & (scene.ahead > 0) & (gap < FREE_GAP), gap, FREE_GAP)
    nearest = np.argmin(gap, axis=1)[:, None]
    gap = np.take_along_axis(gap, nearest, axis=1)[:, 0]
    speed = np.take_along_axis(scene.others_speed, nearest, axis=1)[:, 0] - scene.speed
    return np.stack([gap, np.where(gap < FREE_GAP, speed, 0.0)], axis=1)


def behind_leader(at: np.ndarray, road: Road) -> np.ndarray:
    """Observations in the last lane, 100 m down the road at 27 m/s, with a leader and nobody else."""
    count = len(at)
    still, lane = np.zeros(count), np.full(count, LANE_WIDTH * (road.num_lanes - 1))
    others = np.zeros((count, 4))
    present, ahead, speeds = np.zeros((count, 4), bool), others.copy(), others.copy()
    present[:, 0], ahead[:, 0] = at[:, 0] < FREE_GAP, at[:, 0] + VEHICLE_LENGTH
    speeds[:, 0] = CRUISING + at[:, 1]
    own = np.full(count, CRUISING)
    return obs_of(
        Scene(np.full(count, 100.0), lane, own, still, present, ahead, np.tile(lane[:, None], 4), speeds, others), road
    )


_NAMES = {
    "CartPole-v0": ("cart's position (m)", "cart's speed (m/s)", "pole's angle (rad)", "pole's speed (rad/s)"),
    "CartPole-v1": ("cart's position (m)", "cart's speed (m/s)", "pole's angle (rad)", "pole's speed (rad/s)"),
    "MountainCar-v0": ("position", "velocity"),
}
