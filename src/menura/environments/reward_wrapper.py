"""A Gymnasium environment that pays another reward, for libraries that train on Gymnasium environments."""

from collections.abc import Callable
from typing import Any

import gymnasium
import jax
import numpy as np
from gymnasium import spaces

from menura.core import BoxActions, RequestError, Spec
from menura.environments.host import encode_obs, spec_of


class LearnedRewardWrapper(gymnasium.Wrapper, gymnasium.utils.RecordConstructorArgs):
    """Pays ``reward(obs, action, next_obs, terminated)`` in place of the environment's own.

    ``reward`` is what ``menura.load_reward`` gives, or any function of JAX arrays. The environment's own reward is in
    ``info["environment_reward"]``.
    """

    def __init__(self, env: gymnasium.Env, reward: Callable[..., Any]):
        """Wrap one environment, as ``gymnasium.make`` gives it."""
        gymnasium.utils.RecordConstructorArgs.__init__(self, reward=reward)
        gymnasium.Wrapper.__init__(self, env)
        spec = spec_of(env.observation_space, env.action_space, env_id=type(env.unwrapped).__name__)
        self._reward = jax.jit(lambda *transition: reward(*transition))
        self._obs: np.ndarray | None = None
        own = getattr(reward, "spec", None)
        if isinstance(own, Spec) and _sizes(own, reward) != _sizes(spec, reward):
            raise RequestError(
                f"The reward sees {own.obs_size} numbers and {own.actions}, which {env} does not give: wrap an "
                "environment of the same shape."
            )

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        obs, info = self.env.reset(seed=seed, options=options)
        self._obs = self._copied(obs)
        return obs, info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Step the environment, and pay for it."""
        obs, own, terminated, truncated, info = self.env.step(action)
        next_obs = self._copied(obs)
        paid = float(self._reward(self._obs, self._encoded(action), next_obs, np.asarray(bool(terminated))))
        self._obs = next_obs
        return obs, paid, terminated, truncated, {**info, "environment_reward": own}

    def _copied(self, obs: Any) -> np.ndarray:
        """An observation as rewards take it, kept from whatever becomes of the environment's own array."""
        return np.array(encode_obs(obs, self.env.observation_space))

    def _encoded(self, action: Any) -> np.ndarray:
        """An action as rewards take it: from 0 on, or real."""
        if isinstance(self.env.action_space, spaces.Discrete):
            return np.asarray(int(action) - int(self.env.action_space.start), np.int32)
        return np.asarray(action, np.float32)


def _sizes(spec: Spec, reward: Any) -> tuple[int, ...]:
    """Numbers that tell shapes apart; of the actions only where the reward looks at them."""
    if not getattr(reward, "sees_actions", True):
        return (spec.obs_size,)
    actions = spec.actions
    return (spec.obs_size, *((1, actions.size) if isinstance(actions, BoxActions) else (0, actions.num_actions)))
