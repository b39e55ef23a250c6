"""What is observed of a humanoid, paid to it, and called a fall: pure functions of NumPy or JAX arrays."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from menura.core import AnyArray, Hyper
from menura.environments.motion.humanoid import ENDS, JOINTS
from menura.environments.motion.rotations import (
    about,
    conjugate,
    from_matrix,
    heading_angle,
    matrix,
    multiply,
    rotate,
)

_SIZES = (1, 2, 3, 3, 3, 3, len(JOINTS), len(JOINTS), 3 * len(ENDS))
OBS_SIZE = sum(_SIZES)
"""Height, heading, attitude, velocities, the joints' angles and speeds, the ends of the limbs."""

LOWEST_TORSO = 0.9
"""A torso below this, in m, has fallen; standing it is at 1.28."""
LEAST_UPRIGHT = 0.5
"""So has one whose axis is more than 60° from the vertical: the cosine."""


def observation(
    qpos: Float[AnyArray, "*batch 24"], qvel: Float[AnyArray, "*batch 23"], ends: Float[AnyArray, "*batch 4 3"]
) -> Float[AnyArray, "*batch obs"]:
    """The features of Peng et al. (2021, section 6.1): all in the frame of the torso's heading, the place left out.

    In order: the torso's height; cosine and sine of its heading; its own x and z axes, less the heading; its linear and
    angular velocity; angles and speeds of the hinges; the ends of the limbs as seen from the torso.
    """
    # Departs from Peng et al. 2021: the heading is seen too, because the task is to walk along x.
    xp: Any = qpos.__array_namespace__()
    torso, rotation = qpos[..., :3], qpos[..., 3:7]
    heading = heading_angle(rotation)
    zeros = xp.zeros_like(heading)
    back = xp.stack([xp.cos(heading / 2), zeros, zeros, -xp.sin(heading / 2)], axis=-1)
    axes = matrix(multiply(back, rotation))
    limbs = rotate(back[..., None, :], ends - torso[..., None, :])
    parts = [
        torso[..., 2:],
        xp.stack([xp.cos(heading), xp.sin(heading)], axis=-1),
        axes[..., :, 0],
        axes[..., :, 2],
        rotate(back, qvel[..., :3]),
        # MuJoCo keeps a free body's angular velocity in the body's own frame.
        rotate(multiply(back, rotation), qvel[..., 3:6]),
        qpos[..., 7:],
        qvel[..., 6:],
        limbs.reshape((*limbs.shape[:-2], 3 * len(ENDS))),
    ]
    return xp.concatenate(parts, axis=-1)


def state_of(obs: Float[np.ndarray, "*batch obs"]) -> tuple[np.ndarray, np.ndarray]:
    """MuJoCo's positions and velocities behind observations, at the origin: only the place is left out of them."""
    obs = np.asarray(obs, np.float64)
    height, turn, ahead, up, linear, angular, angles, speeds, _ = np.split(obs, np.cumsum(_SIZES)[:-1], axis=-1)
    place = np.concatenate([np.zeros_like(turn), height], axis=-1)
    heading = np.arctan2(turn[..., 1], turn[..., 0])
    forth = about(np.array([0.0, 0.0, 1.0]), heading)
    rotation = multiply(forth, from_matrix(np.stack([ahead, np.cross(up, ahead), up], axis=-1)))
    qvel = [rotate(forth, linear), rotate(multiply(conjugate(rotation), forth), angular), speeds]
    return np.concatenate([place, rotation, angles], axis=-1), np.concatenate(qvel, axis=-1)


def task_reward(velocity: Float[AnyArray, "*batch 2"], *, target_speed: Hyper) -> Float[AnyArray, "*batch"]:
    """exp(−4 ‖v − v*‖²): 1 at the target speed along x, 0.7 where it is missed by 0.3 m/s."""
    xp: Any = velocity.__array_namespace__()
    return xp.exp(-4.0 * (xp.square(velocity[..., 0] - target_speed) + xp.square(velocity[..., 1])))


def has_fallen(qpos: Float[AnyArray, "*batch 24"]) -> Bool[AnyArray, "*batch"]:
    """Whether the torso is too low or too far from upright."""
    x, y = qpos[..., 4], qpos[..., 5]
    upright = 1 - 2 * (x * x + y * y)
    return (qpos[..., 2] < LOWEST_TORSO) | (upright < LEAST_UPRIGHT)
