"""``collect``: let a policy act in a batch of environments, and keep what happened."""

from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from menura.core import AbstractPolicy, Transition
from menura.environments.base import Envs, HostEnvs, NativeCarry, NativeEnvs


def collect(
    env: Envs, carry: Any, policy: AbstractPolicy, *, key: PRNGKeyArray, num_steps: int
) -> tuple[Any, Transition]:
    """Act for ``num_steps`` in every copy; a rollout ``[time, env]``.

    ``carry`` is where the copies stand: what ``env.reset`` gave, or what the last ``collect`` returned.
    On a native environment this is pure and may be jitted; on a host one it is a loop over the simulator.
    """
    if isinstance(env, NativeEnvs):
        return _collect_native(env, carry, policy, key, num_steps)
    return _collect_host(env, carry, policy, key, num_steps)


def act(policy: AbstractPolicy, obs: Float[Array, "env obs"], key: PRNGKeyArray) -> tuple[Array, Float[Array, " env"]]:
    """Sampled actions and their log-probabilities for a batch of observations."""
    keys = jax.random.split(key, obs.shape[0])
    return jax.vmap(lambda o, k: policy.act(o, key=k))(obs, keys)


def _collect_native(env: NativeEnvs, carry: NativeCarry, policy, key, num_steps) -> tuple[NativeCarry, Transition]:
    def one_step(carry, step_key):
        act_key, env_key = jax.random.split(step_key)
        obs = carry.obs
        action, log_prob = act(policy, obs, act_key)
        carry, step = env.step(carry, action, key=env_key)
        return carry, Transition(obs, action, step.reward, step.next_obs, step.terminated, step.truncated, log_prob)

    return jax.lax.scan(one_step, carry, jax.random.split(key, num_steps))


@jax.jit
def _host_act(policy, obs, key, index):
    """As :func:`act`, with the step's own key made inside the call, which spares a dispatch."""
    return act(policy, obs, jax.random.fold_in(key, index))


def _collect_host(env: HostEnvs, carry: np.ndarray, policy, key, num_steps) -> tuple[np.ndarray, Transition]:
    obs = carry
    rows = []
    for index in range(num_steps):
        action, log_prob = _host_act(policy, obs, key, index)
        action = np.asarray(action)
        step = env.step(action)
        rows.append((obs, action, step.reward, step.next_obs, step.terminated, step.truncated, log_prob))
        obs = step.obs
    columns = [np.stack(column) for column in zip(*rows, strict=True)]
    return obs, Transition(*columns)
