"""``collect``: let a policy act in a batch of environments, and keep what happened."""

import functools
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from menura.core import AbstractPolicy, Observed, Transition
from menura.environments.base import Envs, HostEnvs, NativeCarry, NativeEnvs

QUICK_COMPILATION = {"xla_backend_optimization_level": 1}
"""For programs of networks, whose time is in the matrix products: the code's speed is the same, compiling a third
cheaper."""


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


def act(
    policy: AbstractPolicy, obs: Observed[Array, "env obs"], key: PRNGKeyArray
) -> tuple[Array, Float[Array, " env"]]:
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


@functools.lru_cache(maxsize=64)
def _actor_of(structure: Any) -> Any:
    """:func:`act` of the policies of one structure, by their leaves.

    A call costs as much as the network in it: the policy is taken apart once a rollout and not once a step, and
    the step's own key is made inside.
    """

    def act_by_leaves(leaves, obs, key, index):
        return act(jax.tree.unflatten(structure, leaves), obs, jax.random.fold_in(key, index))

    return jax.jit(act_by_leaves, compiler_options=QUICK_COMPILATION)


def _collect_host(env: HostEnvs, carry: np.ndarray, policy, key, num_steps) -> tuple[np.ndarray, Transition]:
    obs = carry
    leaves, structure = jax.tree.flatten(policy)
    policy_act = _actor_of(structure)
    rows = []
    for index in range(num_steps):
        action, log_prob = policy_act(leaves, obs, key, index)
        action = np.asarray(action)
        step = env.step(action)
        rows.append((obs, action, step.reward, step.next_obs, step.terminated, step.truncated, log_prob))
        obs = step.obs
    columns = [np.stack(column) for column in zip(*rows, strict=True)]
    return obs, Transition(*columns)
