"""A tiny simulator on the host whose observations are stacks of pictures, and rollouts of it."""

import numpy as np

from menura.core import DiscreteActions, Images, Spec
from menura.environments.base import Step

FRAMES, SIDE = 3, 4


class Pictures:
    """Every frame is unlike all others. Episodes last as long as the seed says; action 1 pays where the last pixel is
    even. A first stack repeats its frame."""

    id, backend, max_episode_steps = "Pictures", "test", 9
    spec = Spec(FRAMES * SIDE * SIDE, DiscreteActions(2), (("screen", Images(FRAMES, SIDE, SIDE)),))

    def __init__(self, num_envs: int = 2):
        self.num_envs = num_envs

    def reset(self, seed: int) -> np.ndarray:
        """First stacks."""
        self._rng = np.random.default_rng(seed)
        self._stack = np.stack([self._first() for _ in range(self.num_envs)])
        self._age = np.zeros(self.num_envs, int)
        return self._flat()

    def step(self, action: np.ndarray) -> Step:
        """One frame more; half of the endings are terminations."""
        reward = (action == (self._stack[:, -1, -1] % 2 == 0)).astype(np.float32)
        new = self._rng.integers(0, 256, (self.num_envs, 1, SIDE * SIDE), dtype=np.uint8)
        self._stack = np.concatenate([self._stack[:, 1:], new], axis=1)
        self._age += 1
        next_obs = self._flat()
        ended = (self._rng.random(self.num_envs) < 0.2) | (self._age >= self.max_episode_steps)
        terminated = ended & (self._rng.random(self.num_envs) < 0.5)
        for env in np.flatnonzero(ended):
            self._stack[env], self._age[env] = self._first(), 0
        return Step(next_obs, reward, terminated, ended & ~terminated, self._flat())

    def close(self) -> None:
        """Nothing to free."""

    def _first(self) -> np.ndarray:
        return np.repeat(self._rng.integers(0, 256, (1, SIDE * SIDE), dtype=np.uint8), FRAMES, axis=0)

    def _flat(self) -> np.ndarray:
        return self._stack.reshape(self.num_envs, -1).copy()
