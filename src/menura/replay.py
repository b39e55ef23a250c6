"""Replay: a ring of transitions on the device, as a pytree, and what is drawn from one."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from menura.core import AnyArray, DiscreteActions, Spec, Transition


class Batch(eqx.Module):
    """Drawn transitions, each with the rewards of the steps that followed it in its episode.

    ``rows`` hold the step that was drawn, with the successor and the ending of the last step that counts.
    """

    rows: Transition
    rewards: Float[AnyArray, "*batch returned"]
    """Of the step and those after it."""
    counted: Bool[AnyArray, "*batch returned"]
    """Which of them count: up to an ending, and to the newest step there is."""
    index: Int[AnyArray, "*batch"]
    """Where the source keeps them."""
    ratio: Float[AnyArray, "*batch"]
    """The chance with which each was drawn, over that of an even draw."""


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

    @property
    def ending_rate(self) -> Float[Array, ""]:
        """Steps that terminated an episode, as a share of all."""
        return jnp.sum(self.rows.terminated) / jnp.maximum(self.size, 1)

    def places(self, count: int) -> Int[Array, " kept"]:
        """Where the next ``count`` rows go; of more than ``capacity``, the last ones."""
        skipped = max(0, count - self.capacity)
        return (self.position + skipped + jnp.arange(count - skipped)) % self.capacity

    def add(self, rows: Transition) -> "Replay":
        """The ring with flat transitions more, in their order; of more than ``capacity``, the last ones."""
        count = rows.reward.shape[0]
        kept: Any = jax.tree.map(lambda x: x[-self.capacity :], rows)
        index = self.places(count)
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

    def batch(
        self, index: Int[Array, " batch"], ratio: Float[Array, " batch"], *, num_returned: int, num_envs: Int[Array, ""]
    ) -> Batch:
        """The transitions at ``index``, with the rewards of ``num_returned`` steps from each.

        Rows come from rollouts ``[time, env]``, so that what followed a step lies ``num_envs`` rows after it.
        """
        rows: Transition = jax.tree.map(lambda x: x[index], self.rows)
        if num_returned == 1:
            return Batch(rows, rows.reward[:, None], jnp.ones((index.shape[0], 1), bool), index, ratio)
        later = index[:, None] + num_envs * jnp.arange(num_returned)[None, :]
        is_there = (later - index[:, None]) <= ((self.position - 1 - index) % self.capacity)[:, None]
        later = later % self.capacity
        ended = jnp.asarray(self.rows.terminated[later] | self.rows.truncated[later])
        # A step counts where it was taken already, and none before it ended the episode.
        counted = is_there & jnp.concatenate(
            [jnp.ones_like(ended[:, :1]), jnp.cumsum(ended[:, :-1], axis=1) == 0], axis=1
        )
        last = later[jnp.arange(index.shape[0]), jnp.sum(counted, axis=1) - 1]
        rows = eqx.tree_at(
            lambda t: (t.next_obs, t.terminated, t.truncated),
            rows,
            (self.rows.next_obs[last], self.rows.terminated[last], self.rows.truncated[last]),
        )
        return Batch(rows, self.rows.reward[later], counted, index, ratio)


class Drawn(eqx.Module):
    """Batches that were drawn beforehand from a source on the host: it stands in the ring's place for one update."""

    batches: Batch
    """With leading axes ``[update, batch]``."""
    td_error: Float[AnyArray, "update batch"]
    """What was found wrong with the value of each, for its priority."""
    ending_rate: Float[AnyArray, ""]
    """Steps that terminated an episode, as a share of all in the source."""
    size: Int[AnyArray, ""]
    """Transitions in the source."""

    def sample(self, key: PRNGKeyArray, n: int, *, newest: int | None = None) -> Transition:
        """``n`` of the drawn transitions with equal chances, with replacement; of the ``newest`` it knows nothing."""
        assert newest is None
        flat: Transition = jax.tree.map(lambda x: x.reshape((-1, *x.shape[2:])), self.batches.rows)
        return sample_rows(flat, key, n, flat.reward.shape[0])


def sample_rows(rows: Transition, key: PRNGKeyArray, n: int, size: int | Int[Array, ""]) -> Transition:
    """``n`` of the first ``size`` flat transitions with equal chances, with replacement."""
    index = jax.random.randint(key, (n,), 0, size)
    return jax.tree.map(lambda x: x[index], rows)
