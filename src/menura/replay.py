"""Replay: a ring of transitions on the device, as a pytree."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

from menura.core import DiscreteActions, Spec, Transition


class Replay(eqx.Module):
    """The newest ``capacity`` transitions; the oldest are written over first. Every row is ready to use."""

    rows: Transition
    """Flat, with a leading axis of ``capacity``."""
    position: Int[Array, ""]
    """Where the next row goes."""
    size: Int[Array, ""]
    """Rows that hold a transition."""

    def __init__(self, spec: Spec, capacity: int):
        """An empty ring."""
        if isinstance(spec.actions, DiscreteActions):
            action = jnp.zeros(capacity, jnp.int32)
        else:
            action = jnp.zeros((capacity, spec.actions.size))
        obs = jnp.zeros((capacity, spec.obs_size), spec.obs_dtype)
        scalar, flag = jnp.zeros(capacity), jnp.zeros(capacity, bool)
        self.rows = Transition(obs, action, scalar, obs, flag, flag, scalar)
        self.position = jnp.zeros((), jnp.int32)
        self.size = jnp.zeros((), jnp.int32)

    @property
    def capacity(self) -> int:
        """The most rows it holds."""
        return self.rows.reward.shape[0]

    def add(self, rows: Transition) -> "Replay":
        """The ring with flat transitions more, in their order; of more than ``capacity``, the last ones."""
        count = rows.reward.shape[0]
        kept: Any = jax.tree.map(lambda x: x[-self.capacity :], rows)
        skipped = max(0, count - self.capacity)
        index = (self.position + skipped + jnp.arange(count - skipped)) % self.capacity
        written = jax.tree.map(lambda ring, new: ring.at[index].set(jnp.asarray(new, ring.dtype)), self.rows, kept)
        position = (self.position + count) % self.capacity
        size = jnp.minimum(self.size + count, self.capacity)
        return eqx.tree_at(lambda r: (r.rows, r.position, r.size), self, (written, position, size))

    def sample(self, key: PRNGKeyArray, n: int, *, newest: int | None = None) -> Transition:
        """``n`` transitions with equal chances, with replacement, of all or of the ``newest``; there must be one."""
        if newest is None:
            return sample_rows(self.rows, key, n, self.size)
        age = jax.random.randint(key, (n,), 0, jnp.minimum(self.size, newest))
        index = (self.position - 1 - age) % self.capacity
        return jax.tree.map(lambda x: x[index], self.rows)


def sample_rows(rows: Transition, key: PRNGKeyArray, n: int, size: int | Int[Array, ""]) -> Transition:
    """``n`` of the first ``size`` flat transitions with equal chances, with replacement."""
    index = jax.random.randint(key, (n,), 0, size)
    return jax.tree.map(lambda x: x[index], rows)
