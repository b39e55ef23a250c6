"""Coordinates that people read of observations: angles in place of their sines, and names where they are known."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Chart:
    """A way between observations ``(batch, obs)`` and coordinates ``(batch, names)``."""

    names: tuple[str, ...]
    of_obs: Callable[[np.ndarray], np.ndarray]
    to_obs: Callable[[np.ndarray], np.ndarray]
    cells: int | None = None
    """Values along each coordinate where they are whole numbers from 0 on; ``None`` for real ones."""


def chart_of(env_id: str, obs_size: int) -> Chart:
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


_NAMES = {
    "CartPole-v0": ("cart's position (m)", "cart's speed (m/s)", "pole's angle (rad)", "pole's speed (rad/s)"),
    "CartPole-v1": ("cart's position (m)", "cart's speed (m/s)", "pole's angle (rad)", "pole's speed (rad/s)"),
    "MountainCar-v0": ("position", "velocity"),
}
