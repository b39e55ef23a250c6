"""``record``: let an expert act, and keep whole episodes of it."""

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import jax
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from menura.core import AbstractPolicy, BoxActions, Images, Observed, RequestError, Spec
from menura.demonstrations.episodes import Demonstrations, Episode
from menura.demonstrations.spaces import space_of_parts
from menura.environments.base import Envs, NativeEnvs, Step
from menura.environments.history import newest, spec_without_history

LONGEST_EPISODE = 100_000
"""An episode of more steps than this is taken to have no end."""


class Predictor(Protocol):
    """Any expert with the method that Stable-Baselines3's algorithms have."""

    def predict(self, observation: np.ndarray, *, deterministic: bool) -> tuple[np.ndarray, Any]:
        """Actions for a batch of observations, and a state that is not used here."""
        ...


def record(
    env: Envs, policy: AbstractPolicy | Any, num_episodes: int, seed: int = 0, deterministic: bool = True
) -> Demonstrations:
    """Exactly ``num_episodes`` whole episodes of a policy of ours, or of a :class:`Predictor`.

    Each copy of the environment records its own fixed share: taking whichever episodes end first would
    favor short ones. The episodes are ordered by round and copy, which does not depend on their length
    either. Actions are kept as the environment carries them out, clipped to its bounds. Of observations with a history
    only the newest is kept, so that every frame is stored once: the history is made again when they are loaded.
    """
    if num_episodes < 1:
        raise RequestError(f"num_episodes = {num_episodes} must be at least 1.")
    shares = [num_episodes // env.num_envs + (i < num_episodes % env.num_envs) for i in range(env.num_envs)]
    begin, advance = _drive(env, seed)
    choose = chooser(policy, seed, deterministic)
    obs = begin()
    recordings = [_Recording(obs[i], env.spec) for i in range(env.num_envs)]
    finished: list[list[Episode]] = [[] for _ in shares]
    index = 0
    while any(len(done) < share for done, share in zip(finished, shares, strict=True)):
        action = carried_out(choose(obs, index), env.spec)
        step = advance(action, index)
        for i, share in enumerate(shares):
            if len(finished[i]) == share:
                continue
            recordings[i].add(action, step, i)
            if step.terminated[i] or step.truncated[i]:
                finished[i].append(recordings[i].episode(bool(step.terminated[i])))
                recordings[i] = _Recording(step.obs[i], env.spec)
            elif len(recordings[i].actions) >= LONGEST_EPISODE:
                raise RequestError(
                    f"An episode of {env.id} has not ended after {LONGEST_EPISODE} steps; give it a time limit."
                )
        obs = step.obs
        index += 1
    rounds = range(max(shares))
    episodes = tuple(done[r] for r in rounds for done in finished if r < len(done))
    mean = float(np.mean([episode.total_reward for episode in episodes]))
    return Demonstrations(
        episodes,
        source=f"{env.id}, recorded",
        env_id=env.id,
        expert_return=mean,
        metadata=_metadata(env.spec, seed, deterministic),
    )


class _Recording:
    """An episode that goes on."""

    def __init__(self, first_obs: np.ndarray, spec: Spec):
        self._spec = spec
        self._shape = stored_shape(spec)
        self.obs = [self._newest(first_obs)]
        self.actions: list[np.ndarray] = []
        self.rewards: list[float] = []

    def add(self, action: np.ndarray, step: Step, i: int) -> None:
        """Copy ``i``'s part of a step; rows are copied, because a simulator may use its arrays again."""
        self.obs.append(self._newest(step.next_obs[i]))
        self.actions.append(np.array(action[i]))
        self.rewards.append(float(step.reward[i]))

    def _newest(self, obs: np.ndarray) -> np.ndarray:
        return np.array(newest(obs, self._spec)).reshape(self._shape)

    def episode(self, terminated: bool) -> Episode:
        """What was recorded."""
        arrays = (np.stack(self.obs), np.stack(self.actions), np.array(self.rewards, np.float32))
        for array in arrays:
            array.flags.writeable = False
        return Episode(*arrays, terminated, len(self.actions))


def stored_shape(spec: Spec) -> tuple[int, ...]:
    """A picture keeps its axes, so that it can be looked at; what has more parts is one row of bytes."""
    single = spec_without_history(spec)
    match single.parts:
        case ((_, Images(frames=frames, height=height, width=width, channels=channels)),):
            return (height, width, channels) if frames == 1 else (frames, height, width, channels)
    return (single.obs_size,)


def _drive(env: Envs, seed: int) -> tuple[Callable[[], np.ndarray], Callable[[np.ndarray, int], Step]]:
    """How to begin and how to step a batch of either kind, with NumPy arrays in and out."""
    if not isinstance(env, NativeEnvs):
        return lambda: env.reset(seed), lambda action, index: env.step(action)
    reset_key, step_key = jax.random.split(jax.random.key(seed))
    reset = jax.jit(lambda key: env.reset(key=key))
    move = jax.jit(lambda carry, action, index: env.step(carry, action, key=jax.random.fold_in(step_key, index)))
    carry: Any = None

    def begin() -> np.ndarray:
        nonlocal carry
        carry = reset(reset_key)
        return np.asarray(carry.obs)

    def advance(action: np.ndarray, index: int) -> Step:
        nonlocal carry
        carry, step = move(carry, action, index)
        return jax.tree.map(np.asarray, step)

    return begin, advance


def chooser(policy: Any, seed: int, deterministic: bool) -> Callable[[np.ndarray, int], np.ndarray]:
    """Actions for a batch of observations at a step, by whichever kind of expert."""
    if isinstance(policy, AbstractPolicy):
        key = jax.random.fold_in(jax.random.key(seed), 1)
        return lambda obs, index: np.asarray(_act(policy, obs, key, index, deterministic))
    if callable(getattr(policy, "predict", None)):
        return lambda obs, index: np.asarray(policy.predict(obs, deterministic=deterministic)[0])
    raise RequestError(
        f"{type(policy).__name__} is neither a policy nor has a method predict(obs, deterministic=…) to ask for "
        "actions."
    )


@partial(jax.jit, static_argnames="deterministic")
def _act(
    policy: AbstractPolicy, obs: Observed[Array, "env obs"], key: PRNGKeyArray, index: Any, deterministic: bool
) -> Array:
    if deterministic:
        return jax.vmap(policy)(obs)
    keys = jax.random.split(jax.random.fold_in(key, index), obs.shape[0])
    return jax.vmap(lambda o, k: policy(o, key=k))(obs, keys)


def carried_out(action: np.ndarray, spec: Spec) -> np.ndarray:
    """The actions as the environment will take them; refuses those it does not have."""
    if isinstance(spec.actions, BoxActions):
        if action.ndim != 2 or action.shape[1] != spec.actions.size:
            raise RequestError(
                f"The expert gave actions of shape {action.shape[1:]}; "
                f"the environment takes {spec.actions.size} numbers."
            )
        return np.clip(action, spec.actions.low, spec.actions.high).astype(np.float32)
    if action.ndim != 1 or np.any((action < 0) | (action >= spec.actions.num_actions)):
        raise RequestError(
            f"The expert's actions are not numbers from 0 to {spec.actions.num_actions - 1}, one a copy."
        )
    return action.astype(np.int32)


def _metadata(spec: Spec, seed: int, deterministic: bool) -> dict[str, Any]:
    """What the writers pass on: how it was recorded, and the action space in Minari's words."""
    if isinstance(spec.actions, BoxActions):
        bounds = {"low": list(spec.actions.low), "high": list(spec.actions.high)}
        space = {"type": "Box", "dtype": "float32", "shape": [spec.actions.size], **bounds}
    else:
        space = {"type": "Discrete", "dtype": "int64", "start": 0, "n": spec.actions.num_actions}
    about: dict[str, Any] = {"seed": seed, "deterministic": deterministic, "action_space": space}
    return about | observation_space_of(spec)


def observation_space_of(spec: Spec) -> dict[str, Any]:
    """What tells the parts of rows of bytes; nothing where the arrays tell it themselves."""
    return {"observation_space": space_of_parts(spec_without_history(spec))} if len(spec.parts) > 1 else {}
