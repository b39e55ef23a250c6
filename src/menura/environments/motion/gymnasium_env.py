"""The same environment as one of Gymnasium, for whoever wants a single copy that can be looked into."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from menura.environments.motion.humanoid import JOINTS, POLICY_RATE
from menura.environments.motion.observation import OBS_SIZE
from menura.environments.motion.walk import MAX_EPISODE_STEPS, MOTION_WALK, MotionWalkEnvs


class MotionWalk(gymnasium.Env):
    """One copy of :class:`menura.environments.motion.walk.MotionWalkEnvs`. MuJoCo draws it: ``menura video``."""

    metadata = {"render_modes": []}

    def __init__(self, clip: Any = None, target_speed: Any = None, render_mode: str | None = None):
        # The time limit is Gymnasium's own wrapper's.
        self._envs = MotionWalkEnvs(1, clip=clip, target_speed=target_speed)
        self.render_mode = render_mode
        self.observation_space = spaces.Box(-np.inf, np.inf, (OBS_SIZE,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (len(JOINTS),), np.float32)
        self.model, self.data = self._envs.model, self._envs.datas[0]
        self.dt = 1 / POLICY_RATE

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin in a state of the clip."""
        super().reset(seed=seed)
        return self._envs.reset(int(self.np_random.integers(2**31)))[0], {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Hold the asked angles for a thirtieth of a second."""
        reward, terminated, _ = self._envs.advance(np.asarray(action)[None])
        return self._envs.observe()[0], float(reward[0]), bool(terminated[0]), False, {}


def register() -> None:
    """Make the id known to Gymnasium."""
    if MOTION_WALK not in gymnasium.registry:
        gymnasium.register(
            MOTION_WALK,
            f"{__name__}:{MotionWalk.__name__}",
            max_episode_steps=MAX_EPISODE_STEPS,
            disable_env_checker=True,
        )
