"""An expert's answers in states that another visits: asking for them, and keeping them as demonstrations."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from menura.core import AbstractPolicy, Spec, Transition
from menura.demonstrations.episodes import Demonstrations, Episode
from menura.demonstrations.record import carried_out, chooser, observation_space_of, stored_shape
from menura.environments.base import Envs, NativeEnvs
from menura.environments.history import newest
from menura.replay import Replay

ABOUT = "States that DAgger visited; the actions are the expert's answers there, not those that were carried out."


def asking(env: Envs, expert: Any) -> Callable[..., tuple[Any, Transition]]:
    """A ``collect`` that asks an expert at every step: ``(carry, policy, *, share, key, num_steps)``.

    At each step of each copy the expert acts with probability ``share``, else the policy's mean action is carried
    out. The rollout ``[time, env]`` has the expert's (likeliest) action everywhere, whoever acted. The expert is a
    policy of ours or a :class:`~menura.demonstrations.record.Predictor`; this is a loop on the host in either case.
    """
    ask = chooser(expert, seed=0, deterministic=True)
    move = _mover(env) if isinstance(env, NativeEnvs) else None

    def collect(
        carry: Any, policy: AbstractPolicy, *, share: float, key: Any, num_steps: int
    ) -> tuple[Any, Transition]:
        act = chooser(policy, seed=0, deterministic=True)
        coins = np.random.default_rng(np.asarray(jax.random.key_data(key)))
        obs = np.asarray(carry.obs) if isinstance(env, NativeEnvs) else carry
        rows = []
        for index in range(num_steps):
            label = carried_out(ask(obs, index), env.spec)
            own = carried_out(act(obs, index), env.spec)
            expert_acts = coins.random(env.num_envs) < share
            action = np.where(expert_acts.reshape(-1, *[1] * (label.ndim - 1)), label, own)
            if isinstance(env, NativeEnvs):
                assert move is not None
                carry, step = move(carry, action, key, index)
                step = jax.tree.map(np.asarray, step)
            else:
                step = env.step(action)
                carry = step.obs
            unknown = np.zeros(env.num_envs, np.float32)
            rows.append((obs, label, step.reward, step.next_obs, step.terminated, step.truncated, unknown))
            obs = step.obs
        return carry, Transition(*(np.stack(column) for column in zip(*rows, strict=True)))

    return collect


def _mover(env: NativeEnvs) -> Callable[..., Any]:
    return jax.jit(lambda carry, action, key, index: env.step(carry, action, key=jax.random.fold_in(key, index)))


def labeled(labels: Replay, spec: Spec, *, num_envs: int, env_id: str | None) -> Demonstrations:
    """Everything that was asked, as episodes; ``labels`` holds rollouts of ``num_envs`` copies, one after another.

    The episodes are ordered by copy, and by time within each. An episode that has not ended, or was left for a fresh
    one, counts as truncated. Of a history only the newest observation is kept, as in recordings.
    There are no rewards: those that were earned belong to other actions, and their sum is not the expert's return.
    """
    size = int(labels.size)
    rows: Any = jax.tree.map(lambda x: np.asarray(x)[:size].reshape(-1, num_envs, *x.shape[1:]), labels.rows)
    episodes = []
    for copy in range(num_envs):
        stream: Any = jax.tree.map(lambda x, copy=copy: x[:, copy], rows)
        left = np.any(stream.next_obs[:-1] != stream.obs[1:], axis=1)
        ended = stream.terminated | stream.truncated | np.append(left, True)
        start = 0
        for last in np.flatnonzero(ended):
            obs = np.concatenate([stream.obs[start : last + 1], stream.next_obs[last : last + 1]])
            obs = newest(obs, spec).reshape(-1, *stored_shape(spec))
            terminated = bool(stream.terminated[last])
            episodes.append(Episode(obs, stream.action[start : last + 1], None, terminated, int(last + 1 - start)))
            start = last + 1
    metadata = {"actions_are": "labels", "description": ABOUT} | observation_space_of(spec)
    return Demonstrations(tuple(episodes), source="DAgger's labels", env_id=env_id, metadata=metadata)


def are_labels(demos: Demonstrations) -> bool:
    """Whether the actions are an expert's answers in states that it did not lead to."""
    return demos.metadata.get("actions_are") == "labels" or demos.metadata.get("description") == ABOUT
