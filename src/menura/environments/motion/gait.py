"""How near a learner's gait is to a clip's: dynamic time warping of joint angles, speed, seconds on its feet."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from menura.environments.motion.humanoid import POLICY_RATE
from menura.environments.motion.retarget import Motion

NUM_PHASES = 16
"""Moments of the clip's cycle that a learner's gait is compared from: it may begin anywhere in it."""


def dtw_distance(a: Float[np.ndarray, "rows numbers"], b: Float[np.ndarray, "columns numbers"]) -> float:
    """The cost of the best alignment of two sequences, for each step of it.

    Sakoe & Chiba (1978), eq. 18-20 with the symmetric weights of table I (P = 0): a step along one sequence counts
    once, one along both counts twice, and the sum is divided by the sum of the lengths. A cost is the root mean square
    of the difference between two rows.
    """
    cost = np.sqrt(np.mean(np.square(a[:, None] - b[None]), axis=-1))
    total = np.full((len(a) + 1, len(b) + 1), np.inf)
    total[0, 0] = 0.0
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            c = cost[i - 1, j - 1]
            total[i, j] = min(total[i - 1, j] + c, total[i, j - 1] + c, total[i - 1, j - 1] + 2 * c)
    return float(total[-1, -1] / (len(a) + len(b)))


def gait_distance(angles: Float[np.ndarray, "steps 17"], motion: Motion) -> float:
    """:func:`dtw_distance` in rad between a learner's joint angles, one row a step of the policy, and the clip's, which
    is repeated if it loops; from the phase at which they are nearest."""
    starts = np.arange(NUM_PHASES) * motion.seconds / NUM_PHASES if motion.loops else np.zeros(1)
    times = np.arange(len(angles)) / POLICY_RATE
    return min(dtw_distance(angles, motion.at(start + times)[0][:, 7:]) for start in starts)


@dataclass(frozen=True)
class Gait:
    """One episode of a learner."""

    seconds: float
    """Until it fell, or the episode was over."""
    fell: bool
    speed: float
    """Along x, in m/s, from the first step to the last."""
    distance: float
    """:func:`gait_distance` of its steps, in rad."""


def gait_of(qpos: Float[np.ndarray, "steps 24"], motion: Motion, *, fell: bool, dtw_steps: int = 150) -> Gait:
    """What is said of an episode's positions, one row a step of the policy; DTW is of its last ``dtw_steps``."""
    seconds = (len(qpos) - 1) / POLICY_RATE
    # A fall's last second is no gait.
    walking = qpos[: max(2, len(qpos) - round(POLICY_RATE))] if fell else qpos
    speed = (walking[-1, 0] - walking[0, 0]) * POLICY_RATE / (len(walking) - 1)
    return Gait(seconds, fell, float(speed), gait_distance(walking[-dtw_steps:, 7:], motion))
