"""Demonstrations of observations only, from a clip of motion capture."""

from pathlib import Path

import numpy as np

from menura.core import RequestError
from menura.demonstrations.episodes import Demonstrations, Episode
from menura.environments.motion.clips import read_clip
from menura.environments.motion.humanoid import POLICY_RATE, load_model
from menura.environments.motion.observation import observation
from menura.environments.motion.retarget import Motion, end_positions, retarget
from menura.environments.motion.walk import MOTION_WALK

BODIES = ("humanoid",)
"""What a clip can be retargeted to."""
NUM_EPISODES = 8
"""Starts within one step of the policy, so that the clip's frames are used between its steps too."""


def from_clip(path: str | Path, *, body: str = "humanoid") -> Demonstrations:
    """What ``MotionWalk-v0`` would observe of the clip's person if it had the humanoid's body.

    An episode is one pass through the clip at the policy's rate, two through one that loops; each of the eight begins
    an eighth of a step after the one before.
    """
    if body not in BODIES:
        raise RequestError(f"Clips can be retargeted to {', '.join(BODIES)}, not to {body!r}.")
    clip = read_clip(path)
    motion = retarget(clip)
    episodes = []
    for index in range(NUM_EPISODES):
        obs = observations_of(motion, offset=index / NUM_EPISODES / POLICY_RATE, passes=2 if motion.loops else 1)
        obs.flags.writeable = False
        episodes.append(Episode(obs, None, None, terminated=False, num_steps=len(obs) - 1))
    limited = ", ".join(f"{name} {by:.2f}" for name, by in motion.limited.items())
    metadata = {"clip_speed": clip.speed, "speed": motion.speed, "limited": motion.limited}
    notes = (f"Joints that would have gone past their limits, and by how much (rad): {limited}.",) if limited else ()
    return Demonstrations(tuple(episodes), source=str(path), env_id=MOTION_WALK, metadata=metadata, notes=notes)


def observations_of(motion: Motion, *, offset: float = 0.0, passes: int = 1) -> np.ndarray:
    """The environment's observations of a motion at the policy's rate, ``(steps + 1, obs)`` float32."""
    times = np.arange(offset, motion.seconds * passes + 1e-9, 1 / POLICY_RATE)
    qpos, qvel = motion.at(times)
    return observation(qpos, qvel, end_positions(load_model(), qpos)).astype(np.float32)
