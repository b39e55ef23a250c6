"""``MotionWalk-v0``: walk as a person does in a clip of motion capture. On MuJoCo, many copies in threads."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from menura.core import BoxActions, RequestError, Spec
from menura.environments.base import Step
from menura.environments.motion.clips import read_clip
from menura.environments.motion.humanoid import (
    ENDS,
    JOINTS,
    POLICY_RATE,
    SUBSTEPS,
    import_mujoco,
    layout_of,
    load_model,
)
from menura.environments.motion.observation import OBS_SIZE, has_fallen, observation, task_reward
from menura.environments.motion.retarget import Motion, retarget

MOTION_WALK = "MotionWalk-v0"
"""The environment's id."""
MAX_EPISODE_STEPS = 300
"""Ten seconds."""


def motion_of(clip: Any) -> Motion:
    """The motion behind the ``clip`` of ``--env-kwargs``, for the humanoid."""
    if clip is None:
        raise RequestError(f"{MOTION_WALK} needs a motion clip: give its file with --env-kwargs clip=PATH.")
    return retarget(read_clip(str(clip)))


def speed_to_keep(motion: Motion, target_speed: Any) -> float:
    """The target speed in m/s: the motion's own where none is given."""
    if target_speed is None:
        return motion.speed
    if isinstance(target_speed, bool) or not isinstance(target_speed, int | float) or not 0 <= target_speed <= 10:
        raise RequestError(f"target_speed must be a speed in m/s from 0 to 10, not {target_speed!r}.")
    return float(target_speed)


def require_steps(max_episode_steps: Any) -> None:
    """Refuse a length of episodes that is none."""
    if isinstance(max_episode_steps, bool) or not isinstance(max_episode_steps, int) or max_episode_steps < 1:
        raise RequestError(f"max_episode_steps must be a whole number of at least 1, not {max_episode_steps!r}.")


class MotionWalkEnvs:
    """``num_envs`` humanoids with servos, which begin anywhere in the clip and are paid for walking at a speed.

    Action: angles for the servos to hold, from −1 to 1 around a standing pose. Observation:
    :func:`menura.environments.motion.observation.observation`. An episode begins in a state of the clip drawn at random
    (reference-state initialization, Peng et al. 2018, section 6.1) and terminates at a fall.
    """

    backend = "gymnasium"

    def __init__(
        self,
        num_envs: int = 1,
        *,
        clip: str | Path | Motion | None = None,
        target_speed: Any = None,
        max_episode_steps: int = MAX_EPISODE_STEPS,
        num_threads: int | None = None,
    ):
        require_steps(max_episode_steps)
        mujoco = import_mujoco()
        self.id = MOTION_WALK
        self.num_envs = num_envs
        self.motion = clip if isinstance(clip, Motion) else motion_of(clip)
        self.target_speed = speed_to_keep(self.motion, target_speed)
        self.max_episode_steps: int | None = max_episode_steps
        self.spec = Spec(OBS_SIZE, BoxActions((-1.0,) * len(JOINTS), (1.0,) * len(JOINTS)))
        self.model = load_model()
        self.datas = [mujoco.MjData(self.model) for _ in range(num_envs)]
        self._mujoco, self._layout = mujoco, layout_of(self.model)
        self._rng = np.random.default_rng(0)
        self._qpos, self._qvel = np.zeros((num_envs, self.model.nq)), np.zeros((num_envs, self.model.nv))
        self._ends = np.zeros((num_envs, len(ENDS), 3))
        self._age = np.zeros(num_envs, int)
        threads = min(num_envs, _usable_cores() if num_threads is None else num_threads)
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None
        self._chunks = [chunk.tolist() for chunk in np.array_split(np.arange(num_envs), threads)]

    def reset(self, seed: int) -> np.ndarray:
        """Begin afresh from a seed: the first observations ``(env, obs)``."""
        self._rng = np.random.default_rng(seed)
        self.begin(np.arange(self.num_envs))
        return self.observe()

    def step(self, action: np.ndarray) -> Step:
        """Step every copy; those whose episode ended begin another in the same step."""
        reward, terminated, truncated = self.advance(action)
        next_obs = self.observe()
        ended = np.flatnonzero(terminated | truncated)
        obs = next_obs
        if len(ended):
            self.begin(ended)
            obs = self.observe()
        return Step(next_obs, reward, terminated, truncated, obs)

    def begin(self, copies: np.ndarray) -> None:
        """Put these copies into states of the clip, each at a moment drawn at random."""
        times = self._rng.uniform(0, self.motion.seconds, len(copies))
        for i, qpos, qvel in zip(copies.tolist(), *self.motion.at(times), strict=True):
            data = self.datas[i]
            self._mujoco.mj_resetData(self.model, data)
            data.qpos[:], data.qvel[:] = qpos, qvel
            data.qpos[0] = 0.0
            self._mujoco.mj_kinematics(self.model, data)
            self._read(i)
        self._age[copies] = 0

    def advance(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Step every copy and begin none: rewards, which terminated, and which were truncated."""
        before = self._qpos[:, :2].copy()
        target = self._layout.neutral + self._layout.reach * np.clip(action, -1.0, 1.0)
        control = target[:, self._layout.joint_of_actuator]

        def step_chunk(chunk: list[int]) -> None:
            for i in chunk:
                data = self.datas[i]
                data.ctrl[:] = control[i]
                self._mujoco.mj_step(self.model, data, SUBSTEPS)
                # Positions of geoms are those before the last substep.
                self._mujoco.mj_kinematics(self.model, data)
                self._read(i)

        if self._pool is None:
            step_chunk(self._chunks[0])
        else:
            list(self._pool.map(step_chunk, self._chunks))
        self._age += 1
        velocity = (self._qpos[:, :2] - before) * POLICY_RATE
        reward = task_reward(velocity, target_speed=self.target_speed).astype(np.float32)
        terminated = has_fallen(self._qpos)
        return reward, terminated, (self._age >= (self.max_episode_steps or 0)) & ~terminated

    def observe(self) -> np.ndarray:
        """What is observed of every copy now, ``(env, obs)`` float32."""
        return observation(self._qpos, self._qvel, self._ends).astype(np.float32)

    def _read(self, i: int) -> None:
        data = self.datas[i]
        self._qpos[i], self._qvel[i], self._ends[i] = data.qpos, data.qvel, data.geom_xpos[self._layout.ends]

    def close(self) -> None:
        """Let the threads go."""
        if self._pool is not None:
            self._pool.shutdown()


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def make_motion_walk(num_envs: int, env_kwargs: dict[str, Any]) -> MotionWalkEnvs:
    """The environment from ``--env-kwargs``."""
    known = ("clip", "target_speed", "max_episode_steps")
    if unknown := sorted(env_kwargs.keys() - set(known)):
        raise RequestError(
            f"{MOTION_WALK} has no {', '.join(unknown)} among its --env-kwargs, which are {', '.join(known)}."
        )
    return MotionWalkEnvs(num_envs, **env_kwargs)
