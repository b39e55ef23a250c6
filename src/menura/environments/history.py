"""The last K observations as one: of native environments, of simulators on the host, and of demonstrations."""

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

from menura.core import AnyArray, Images, Observed, RequestError, Spec, Vector
from menura.environments.base import AbstractNativeEnv, HostEnvs, Step


def spec_with_history(spec: Spec, history: int) -> Spec:
    """The shapes of ``history`` observations in a row: vectors that are longer, pictures of more frames."""
    if history < 1:
        raise RequestError(f"A history holds at least one observation, not {history}.")
    parts = tuple((name, _times(part, history)) for name, part in spec.parts)
    return dataclasses.replace(spec, obs_size=spec.obs_size * history, parts=parts, history=spec.history * history)


def spec_without_history(spec: Spec) -> Spec:
    """The shapes of a single observation."""
    parts = tuple((name, _over(part, spec.history)) for name, part in spec.parts)
    return dataclasses.replace(spec, obs_size=spec.obs_size // spec.history, parts=parts, history=1)


def in_a_row(past: Observed[AnyArray, "*batch history size"], single: Spec) -> Observed[AnyArray, "*batch obs"]:
    """Single observations, the oldest first, as one: part by part, each with its own past."""
    *batch, history, whole = past.shape
    sizes = [part.num_bytes for _, part in single.parts] or [whole]
    pieces, start = [], 0
    for size in sizes:
        pieces.append(past[..., start : start + size].reshape(*batch, history * size))
        start += size
    if len(pieces) == 1:
        return pieces[0]
    return np.concatenate(pieces, -1) if isinstance(past, np.ndarray) else jnp.concatenate(pieces, -1)


def newest(obs: Observed[AnyArray, "*batch obs"], spec: Spec) -> Observed[AnyArray, "*batch size"]:
    """The last single observation in one with a history."""
    if spec.history == 1:
        return obs
    sizes, pieces, end = [part.num_bytes for _, part in spec.parts] or [spec.obs_size], [], 0
    for size in sizes:
        end += size
        pieces.append(obs[..., end - size // spec.history : end])
    if len(pieces) == 1:
        return pieces[0]
    return np.concatenate(pieces, -1) if isinstance(obs, np.ndarray) else jnp.concatenate(pieces, -1)


class HistoryState(NamedTuple):
    """The environment's own state, and what was observed last."""

    inner: PyTree
    past: Observed[Array, "history size"]


class History(AbstractNativeEnv):
    """A native environment of which the last ``length`` observations are seen; the first is repeated at the start."""

    env: AbstractNativeEnv
    length: int

    @property
    def spec(self) -> Spec:
        """Of ``length`` observations in a row."""
        return spec_with_history(self.env.spec, self.length)

    @property
    def max_episode_steps(self) -> int | None:
        """The environment's own."""
        return self.env.max_episode_steps

    def reset(self, *, key: PRNGKeyArray) -> HistoryState:
        """A past in which nothing has happened."""
        state = self.env.reset(key=key)
        obs = self.env.observe(state)
        return HistoryState(state, jnp.broadcast_to(obs, (self.length, *obs.shape)))

    def observe(self, state: HistoryState) -> Observed[Array, " obs"]:
        """The past, the oldest first."""
        return in_a_row(state.past, self.env.spec)

    def step(
        self, state: HistoryState, action: Array, *, key: PRNGKeyArray
    ) -> tuple[HistoryState, Float[Array, ""], Bool[Array, ""]]:
        """The environment's own step, and one observation more instead of the oldest."""
        inner, reward, terminated = self.env.step(state.inner, action, key=key)
        past = jnp.concatenate([state.past[1:], self.env.observe(inner)[None]])
        return HistoryState(inner, past), reward, terminated


class HostHistory:
    """Simulators of which the last ``length`` observations are seen; the first is repeated at an episode's start."""

    def __init__(self, envs: HostEnvs, length: int):
        self._envs = envs
        self.id, self.backend, self.num_envs = envs.id, envs.backend, envs.num_envs
        self.max_episode_steps = envs.max_episode_steps
        self._single = envs.spec
        self.spec = spec_with_history(envs.spec, length)
        self._past = np.zeros((self.num_envs, length, self._single.obs_size), self._single.obs_dtype)

    def reset(self, seed: int) -> np.ndarray:
        """Begin afresh from a seed."""
        self._past[:] = self._envs.reset(seed)[:, None]
        # A copy: a single part would be a view of what the next step changes.
        return in_a_row(self._past, self._single).copy()

    def step(self, action: np.ndarray) -> Step:
        """Step every copy; the past of those whose episode ended begins anew."""
        step = self._envs.step(action)
        self._past[:, :-1] = self._past[:, 1:]
        self._past[:, -1] = step.next_obs
        next_obs = in_a_row(self._past, self._single).copy()
        ended = np.asarray(step.terminated) | np.asarray(step.truncated)
        if not ended.any():
            return step._replace(next_obs=next_obs, obs=next_obs)
        self._past[ended] = step.obs[ended][:, None]
        return step._replace(next_obs=next_obs, obs=in_a_row(self._past, self._single).copy())

    def close(self) -> None:
        """Free the simulators."""
        self._envs.close()


def _times(part: Vector | Images, history: int) -> Vector | Images:
    if isinstance(part, Vector):
        return Vector(part.size * history)
    return dataclasses.replace(part, frames=part.frames * history)


def _over(part: Vector | Images, history: int) -> Vector | Images:
    if isinstance(part, Vector):
        return Vector(part.size // history)
    return dataclasses.replace(part, frames=part.frames // history)


def over_steps(obs: Any, rows: np.ndarray, spec: Spec) -> np.ndarray:
    """Of an episode's single observations, those at ``rows``, each with the past that belongs to it."""
    back = np.arange(-spec.history + 1, 1)
    index = np.maximum(rows[:, None] + back, 0)
    single = spec_without_history(spec)
    past = np.asarray(obs[index.reshape(-1)]).reshape(len(rows), spec.history, single.obs_size)
    return in_a_row(past, single)
