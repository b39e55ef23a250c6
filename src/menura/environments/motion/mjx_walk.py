"""``MotionWalk-v0`` in JAX, on MuJoCo's MJX: as many copies as an accelerator holds, in the learner's program."""

import contextlib
import importlib
import io
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from menura.core import BoxActions, Hyper, RequestError, Spec
from menura.environments.base import AbstractNativeEnv
from menura.environments.motion.humanoid import JOINTS, POLICY_RATE, SUBSTEPS, layout_of, load_model
from menura.environments.motion.observation import OBS_SIZE, has_fallen, observation, task_reward
from menura.environments.motion.retarget import Motion
from menura.environments.motion.walk import MAX_EPISODE_STEPS, motion_of, require_steps, speed_to_keep

NUM_STARTS = 256
"""Moments of the clip, evenly spaced, of which an episode begins in one."""


def import_mjx() -> Any:
    """MJX, or one sentence that says how to get it."""
    try:
        # It tells of other backends that are not installed.
        with contextlib.redirect_stdout(io.StringIO()):
            return importlib.import_module("mujoco.mjx")
    except ImportError as error:
        raise RequestError(
            "The JAX version of MotionWalk-v0 needs MJX: install menura with its `mjx` extra, or leave out "
            "--backend jax."
        ) from error


class WalkState(NamedTuple):
    """Where the humanoid is, and how it moves."""

    qpos: Float[Array, "24"]
    qvel: Float[Array, "23"]
    qacc: Float[Array, "23"]
    """The last acceleration, which the solver of contacts begins with."""


class MotionWalkMJX(AbstractNativeEnv):
    """The humanoid of :class:`menura.environments.motion.walk.MotionWalkEnvs`, in single precision."""

    model: Any
    """Of MJX."""
    start_qpos: Float[Array, "starts 24"]
    start_qvel: Float[Array, "starts 23"]
    neutral: Float[Array, "17"]
    """Angles that an action of 0 asks for."""
    reach: Float[Array, "17"]
    """By how much an action of 1 asks for more."""
    target_speed: Hyper
    """m/s along x."""
    ends: tuple[int, ...] = eqx.field(static=True)
    """Geoms at the ends of the limbs."""
    joint_of_actuator: tuple[int, ...] = eqx.field(static=True)
    max_episode_steps: int | None = MAX_EPISODE_STEPS
    """Steps after which an episode is truncated."""

    @property
    def spec(self) -> Spec:
        """The features of the motion, and an angle for every servo."""
        return Spec(OBS_SIZE, BoxActions((-1.0,) * len(JOINTS), (1.0,) * len(JOINTS)))

    def reset(self, *, key: PRNGKeyArray) -> WalkState:
        """A state of the clip."""
        index = jax.random.randint(key, (), 0, self.start_qpos.shape[0])
        return WalkState(self.start_qpos[index], self.start_qvel[index], jnp.zeros_like(self.start_qvel[index]))

    def observe(self, state: WalkState) -> Float[Array, " obs"]:
        """What the host version observes."""
        mjx = import_mjx()
        data = mjx.kinematics(self.model, mjx.make_data(self.model).replace(qpos=state.qpos))
        return observation(state.qpos, state.qvel, data.geom_xpos[np.asarray(self.ends)])

    def step(
        self, state: WalkState, action: Float[Array, "17"], *, key: PRNGKeyArray
    ) -> tuple[WalkState, Float[Array, ""], Bool[Array, ""]]:
        """Hold the asked angles for a thirtieth of a second."""
        mjx = import_mjx()
        target = self.neutral + self.reach * jnp.clip(action, -1.0, 1.0)
        data = mjx.make_data(self.model).replace(
            qpos=state.qpos,
            qvel=state.qvel,
            qacc_warmstart=state.qacc,
            ctrl=target[np.asarray(self.joint_of_actuator)],
        )
        data, _ = jax.lax.scan(lambda d, _: (mjx.step(self.model, d), None), data, None, length=SUBSTEPS)
        velocity = (data.qpos[:2] - state.qpos[:2]) * POLICY_RATE
        new = WalkState(data.qpos, data.qvel, data.qacc_warmstart)
        return new, task_reward(velocity, target_speed=self.target_speed), has_fallen(data.qpos)


def make_mjx_walk(env_kwargs: dict[str, Any]) -> MotionWalkMJX:
    """The environment from ``--env-kwargs``, which are those of the host's."""
    known = ("clip", "target_speed", "max_episode_steps")
    if unknown := sorted(env_kwargs.keys() - set(known)):
        raise RequestError(
            f"MotionWalk-v0 has no {', '.join(unknown)} among its --env-kwargs, which are {', '.join(known)}."
        )
    mjx = import_mjx()
    max_episode_steps = env_kwargs.get("max_episode_steps", MAX_EPISODE_STEPS)
    require_steps(max_episode_steps)
    clip = env_kwargs.get("clip")
    motion = clip if isinstance(clip, Motion) else motion_of(clip)
    qpos, qvel = motion.at(np.arange(NUM_STARTS) * motion.seconds / NUM_STARTS)
    qpos[:, 0] = 0.0
    model = load_model()
    layout = layout_of(model)
    return MotionWalkMJX(
        model=mjx.put_model(model),
        start_qpos=jnp.asarray(qpos, jnp.float32),
        start_qvel=jnp.asarray(qvel, jnp.float32),
        neutral=jnp.asarray(layout.neutral, jnp.float32),
        reach=jnp.asarray(layout.reach, jnp.float32),
        target_speed=speed_to_keep(motion, env_kwargs.get("target_speed")),
        ends=tuple(layout.ends.tolist()),
        joint_of_actuator=tuple(layout.joint_of_actuator.tolist()),
        max_episode_steps=max_episode_steps,
    )
