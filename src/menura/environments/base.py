"""Batches of environment copies, and what one JAX-native environment must offer.

There are two kinds. :class:`NativeEnvs` is a pytree whose ``reset`` and ``step`` are pure, so a whole
iteration of training can be one jitted call. A host batch (``menura.environments.host``) is a Python
object that steps a simulator and gives NumPy arrays. Both start the next episode in the same step as the
last one ends, and both report the true successor.
"""

import abc
from typing import Any, NamedTuple, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from menura.core import Observed, Spec


class AbstractNativeEnv(eqx.Module):
    """One environment written in JAX: pure functions of a state. Holds its parameters only."""

    @property
    @abc.abstractmethod
    def spec(self) -> Spec:
        """Shapes of observations and actions."""

    @property
    @abc.abstractmethod
    def max_episode_steps(self) -> int | None:
        """Steps after which an episode is truncated; ``None`` for never."""

    @abc.abstractmethod
    def reset(self, *, key: PRNGKeyArray) -> PyTree:
        """The state an episode begins in."""

    @abc.abstractmethod
    def observe(self, state: PyTree) -> Observed[Array, " obs"]:
        """What the agent sees of a state."""

    @abc.abstractmethod
    def step(
        self, state: PyTree, action: Array, *, key: PRNGKeyArray
    ) -> tuple[PyTree, Float[Array, ""], Bool[Array, ""]]:
        """The next state, the reward, and whether the episode terminated (never for lack of time)."""


@runtime_checkable
class TellsReward(Protocol):
    """A native environment whose reward is a function of what is observed of a transition."""

    def reward_of(
        self, obs: Observed[Array, " obs"], action: Array, next_obs: Observed[Array, " obs"]
    ) -> Float[Array, ""]:
        """The reward of one transition."""
        ...


class Step(NamedTuple):
    """What one step of a batch of environments gives; every field has a leading ``env`` axis."""

    next_obs: Any
    """The true successor, also at endings."""
    reward: Any
    terminated: Any
    truncated: Any
    obs: Any
    """What to act on next: the successor, or the first observation of a new episode."""


class NativeCarry(NamedTuple):
    """Where a batch of native environments stands; every array has a leading ``env`` axis."""

    state: PyTree
    obs: Observed[Array, "env obs"]
    age: Int[Array, " env"]
    """Steps taken in the current episode."""


class NativeEnvs(eqx.Module):
    """``num_envs`` copies of a native environment."""

    env: AbstractNativeEnv
    num_envs: int = eqx.field(static=True)
    id: str = eqx.field(static=True)

    backend = "jax"

    @property
    def spec(self) -> Spec:
        """Shapes of observations and actions."""
        return self.env.spec

    @property
    def max_episode_steps(self) -> int | None:
        """Steps after which an episode is truncated."""
        return self.env.max_episode_steps

    def reset(self, *, key: PRNGKeyArray) -> NativeCarry:
        """Every copy at the start of an episode."""
        state = jax.vmap(lambda k: self.env.reset(key=k))(jax.random.split(key, self.num_envs))
        return NativeCarry(state, jax.vmap(self.env.observe)(state), jnp.zeros(self.num_envs, jnp.int32))

    def step(self, carry: NativeCarry, action: Array, *, key: PRNGKeyArray) -> tuple[NativeCarry, Step]:
        """Step every copy; those whose episode ended begin another."""
        keys = jax.random.split(key, self.num_envs)
        return jax.vmap(self._step_one)(carry, action, keys)

    def _step_one(self, carry: NativeCarry, action: Array, key: PRNGKeyArray) -> tuple[NativeCarry, Step]:
        step_key, reset_key = jax.random.split(key)
        state, reward, terminated = self.env.step(carry.state, action, key=step_key)
        next_obs = self.env.observe(state)
        age = carry.age + 1
        limit = self.env.max_episode_steps
        truncated = jnp.asarray(False) if limit is None else (age >= limit) & ~terminated
        ended = terminated | truncated
        fresh = self.env.reset(key=reset_key)
        state = jax.tree.map(lambda new, old: jnp.where(ended, new, old), fresh, state)
        obs = jnp.where(ended, self.env.observe(state), next_obs)
        carry = NativeCarry(state, obs, jnp.where(ended, 0, age))
        return carry, Step(next_obs, reward, terminated, truncated, obs)


@runtime_checkable
class HostEnvs(Protocol):
    """A batch of simulators on the host. Observations are ``(env, obs)``, of the spec's type."""

    id: str
    backend: str
    num_envs: int
    spec: Spec
    max_episode_steps: int | None

    def reset(self, seed: int) -> np.ndarray:
        """Begin afresh from a seed: the first observations ``(env, obs)``."""
        ...

    def step(self, action: np.ndarray) -> Step:
        """Step every copy; those whose episode ended begin another in the same step."""
        ...

    def close(self) -> None:
        """Free the simulators."""
        ...


Envs = NativeEnvs | HostEnvs
