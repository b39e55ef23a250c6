"""Replay in the host's memory: of a stack of pictures each is kept once, whatever stacks it is part of."""

from typing import Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from menura.core import DiscreteActions, Images, RequestError, Spec, Transition, Vector
from menura.priorities import SumTree, priority
from menura.replay import Batch, Drawn

SLACK = 16
"""An episode's first stack takes more room than its later ones: one part in so many more is kept for that."""


class FrameReplay:
    """The newest transitions of a batch of environments, as NumPy arrays that one training owns and changes.

    Every copy of the environment has a stream of *slabs*. A slab is what one step shows that is new: the newest frame
    of every picture, and all of every vector. An episode begins with the slabs of its whole first stack and adds one a
    step, so that a stack is always a row of neighbors in the stream, none reaches into another episode, and the
    observation that an episode ended with is kept like any other.

    ``num_updates`` batches of ``batch_size`` are drawn at once. Nothing is allocated before :meth:`allocate`.
    """

    def __init__(
        self,
        spec: Spec,
        capacity: int,
        num_envs: int,
        *,
        num_updates: int,
        batch_size: int,
        num_returned: int = 1,
        priority_exponent: float = 0.0,
    ):
        self.spec, self.num_envs = spec, num_envs
        self.parts = spec.parts or (("obs", Vector(spec.obs_size)),)
        self.depth = max(part.frames if isinstance(part, Images) else 1 for _, part in self.parts)
        """Slabs in a stack."""
        self.slab_size = sum(_newest_size(part) for _, part in self.parts)
        self.rows = -(-capacity // num_envs)
        """Transitions of each copy."""
        self.slabs_kept = self.rows + self.rows // SLACK + self.depth + 1
        self.num_updates, self.batch_size, self.num_returned = num_updates, batch_size, num_returned
        self.priority_exponent = priority_exponent
        self.count = 0
        """Transitions that every copy has added in all."""
        self.heads = np.zeros(num_envs, np.int64)
        """Slabs that each copy has added in all."""
        self.oldest = np.zeros(num_envs, np.int64)
        """The first of each copy's transitions that is still whole."""
        self.is_fresh = np.ones(num_envs, bool)
        """Where the next transition begins an episode."""
        self.tree: SumTree | None = None

    @property
    def num_bytes(self) -> int:
        """Memory that it takes when it is full."""
        action_size = 4 if isinstance(self.spec.actions, DiscreteActions) else 4 * self.spec.actions.size
        of_rows = self.num_envs * self.rows * (action_size + 4 + 4 + 1 + 1 + 8)
        of_tree = SumTree.bytes_of(self.num_envs * self.rows) if self.priority_exponent else 0
        return self.num_envs * self.slabs_kept * self.slab_size + of_rows + of_tree

    def allocate(self) -> None:
        """Take the memory; the machine gives it page by page, as it is filled."""
        shape = (self.num_envs, self.rows)
        actions = self.spec.actions
        self.slabs = np.empty((self.num_envs * self.slabs_kept, self.slab_size), np.uint8)
        if isinstance(actions, DiscreteActions):
            self.action = np.zeros(shape, np.int32)
        else:
            self.action = np.zeros((*shape, actions.size), np.float32)
        self.reward, self.log_prob = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        self.terminated, self.truncated = np.zeros(shape, bool), np.zeros(shape, bool)
        self.start = np.zeros(shape, np.int64)
        if self.priority_exponent:
            self.tree = SumTree(self.num_envs * self.rows)

    @property
    def size(self) -> int:
        """Transitions that can be drawn."""
        return int(np.sum(self.count - self.oldest))

    def add(self, rollout: Transition) -> None:
        """A rollout ``[time, env]`` more; the oldest transitions are written over."""
        rollout = jax.tree.map(np.asarray, rollout)
        num_steps = rollout.reward.shape[0]
        if num_steps > self.rows:
            raise RequestError(f"replay_size must hold one rollout of {num_steps * self.num_envs} steps: raise it.")
        places = (self.count + np.arange(num_steps)) % self.rows
        for name in ("action", "reward", "log_prob", "terminated", "truncated"):
            getattr(self, name)[:, places] = np.swapaxes(getattr(rollout, name), 0, 1)
        ended = np.asarray(rollout.terminated | rollout.truncated)
        for env in range(self.num_envs):
            ends = np.flatnonzero(ended[:, env]) + 1
            bounds = np.unique(np.concatenate([[0], ends, [num_steps]]))
            for begin, end in zip(bounds[:-1], bounds[1:], strict=True):
                self._add_steps(env, places[begin:end], rollout.obs[begin:end, env], rollout.next_obs[begin:end, env])
                self.is_fresh[env] = ended[end - 1, env]
        if self.tree is not None:
            self.tree.add((np.arange(self.num_envs)[:, None] * self.rows + places[None, :]).ravel())
        self.count += num_steps
        self._forget()

    def _add_steps(self, env: int, places: np.ndarray, obs: np.ndarray, next_obs: np.ndarray) -> None:
        """Steps of one copy within one episode."""
        if self.is_fresh[env]:
            self._write(env, self._slabs_of(obs[0]))
        older, newer = self._slabs_of(obs[0]), self._slabs_of(next_obs[0])
        if any(
            not np.array_equal(a[1:], b[:-1]) for a, b in zip(self._frames(older), self._frames(newer), strict=True)
        ):
            raise RequestError(
                "The stacked pictures of this environment do not move on by one a step, so that they cannot be kept "
                "once each: set replay_storage to device."
            )
        self.start[env, places] = self.heads[env] - self.depth + np.arange(len(places))
        self._write(env, np.stack([self._slabs_of(one)[-1] for one in next_obs]))

    def _slabs_of(self, obs: np.ndarray) -> np.ndarray:
        """The slabs of one observation's stack, the oldest first; zeros where a part does not go back so far."""
        data = np.ascontiguousarray(obs).view(np.uint8)
        slabs = np.zeros((self.depth, self.slab_size), np.uint8)
        taken = filled = 0
        for _, part in self.parts:
            frames = part.frames if isinstance(part, Images) else 1
            size = _newest_size(part)
            slabs[self.depth - frames :, filled : filled + size] = data[taken : taken + part.num_bytes].reshape(
                frames, size
            )
            taken, filled = taken + part.num_bytes, filled + size
        return slabs

    def _frames(self, slabs: np.ndarray) -> list[np.ndarray]:
        """The frames of every picture in slabs ``[…, depth, slab]``, in the last two axes."""
        frames, filled = [], 0
        for _, part in self.parts:
            size = _newest_size(part)
            if isinstance(part, Images):
                frames.append(slabs[..., self.depth - part.frames :, filled : filled + size])
            filled += size
        return frames

    def _write(self, env: int, slabs: np.ndarray) -> None:
        where = env * self.slabs_kept + (self.heads[env] + np.arange(len(slabs))) % self.slabs_kept
        self.slabs[where] = slabs
        self.heads[env] += len(slabs)

    def _forget(self) -> None:
        """Move on the oldest transition of every copy to the first that nothing was written over."""
        for env in range(self.num_envs):
            oldest = max(self.oldest[env], self.count - self.rows)
            while self.start[env, oldest % self.rows] < self.heads[env] - self.slabs_kept:
                self.terminated[env, oldest % self.rows] = False
                if self.tree is not None:
                    self.tree.set(np.array([env * self.rows + oldest % self.rows]), np.zeros(1))
                oldest += 1
            self.oldest[env] = oldest

    def draw(self, key: PRNGKeyArray) -> Drawn:
        """The batches of one update: with equal chances, or by priority."""
        rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
        shape = (self.num_updates, self.batch_size)
        env, row, ratio = self._choose(rng, self.num_updates * self.batch_size)
        batch: Any = jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), self._batch(env, row, ratio))
        rate = np.count_nonzero(self.terminated) / max(self.size, 1)
        return Drawn(batch, np.zeros(shape, np.float32), np.asarray(rate, np.float32), np.asarray(self.size, np.int32))

    def _choose(self, rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Copies and rows of ``n`` transitions, and how much likelier each was than by an even draw."""
        if self.tree is not None:
            index = self.tree.draw(rng, n)
            env, place = np.divmod(index, self.rows)
            row = self.count - 1 - (self.count - 1 - place) % self.rows
            return env, row, (self.tree.share(index) * self.size).astype(np.float32)
        sums = np.cumsum(self.count - self.oldest)
        at = rng.integers(sums[-1], size=n)
        env = np.searchsorted(sums, at, side="right")
        return env, self.count - sums[env] + at, np.ones(n, np.float32)

    def _batch(self, env: np.ndarray, row: np.ndarray, ratio: np.ndarray) -> Batch:
        later = row[:, None] + np.arange(self.num_returned)
        is_there, places = later < self.count, later % self.rows
        one = env[:, None]
        goes_on = ~(self.terminated[one, places] | self.truncated[one, places])
        counted = is_there.copy()
        counted[:, 1:] &= np.cumprod(goes_on[:, :-1], axis=1).astype(bool)
        last = places[np.arange(len(row)), counted.sum(axis=1) - 1]
        place = places[:, 0]
        index = (env * self.rows + place).astype(np.int32)
        return Batch(self._steps(env, place, last), self.reward[one, places], counted, index, ratio)

    def _steps(self, env: np.ndarray, place: np.ndarray, last: np.ndarray) -> Transition:
        """The steps of copies at ``place``, with what followed those at ``last``."""
        return Transition(
            self._stack(env, self.start[env, place]),
            self.action[env, place],
            self.reward[env, place],
            self._stack(env, self.start[env, last] + 1),
            self.terminated[env, last],
            self.truncated[env, last],
            self.log_prob[env, place],
        )

    def _stack(self, env: np.ndarray, start: np.ndarray) -> np.ndarray:
        """Observations whose oldest slabs are these."""
        where = env[:, None] * self.slabs_kept + (start[:, None] + np.arange(self.depth)) % self.slabs_kept
        slabs = self.slabs[where]
        parts, filled = [], 0
        for _, part in self.parts:
            frames = part.frames if isinstance(part, Images) else 1
            size = _newest_size(part)
            parts.append(slabs[:, self.depth - frames :, filled : filled + size].reshape(len(env), -1))
            filled += size
        obs = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
        return obs if self.spec.parts else obs.view(np.float32)

    def newest(self, num_steps: int) -> Transition:
        """The last steps that were added, ``[time, env]``."""
        row = np.repeat(self.count - num_steps + np.arange(num_steps), self.num_envs)
        env = np.tile(np.arange(self.num_envs), num_steps)
        rows = self._steps(env, row % self.rows, row % self.rows)
        return jax.tree.map(lambda x: x.reshape(num_steps, self.num_envs, *x.shape[1:]), rows)

    def note(self, drawn: Drawn, td_error: np.ndarray) -> None:
        """Take over the errors that an update found, where transitions are drawn by them."""
        # Before learning_starts there are none.
        if self.tree is not None and np.any(td_error):
            powered = priority(np.asarray(td_error, np.float64), exponent=self.priority_exponent)
            # Where half of a batch were demonstrations, only the first of what was drawn were learned from.
            index = np.asarray(drawn.batches.index)[:, : td_error.shape[1]]
            self.tree.set(index.ravel(), powered.ravel())

    def chunk(self, first: int) -> dict[str, np.ndarray]:
        """Every copy's transitions from number ``first`` on, with their slabs one copy after another."""
        places = np.arange(first, self.count) % self.rows
        # A transition that is no longer whole has nothing to be kept.
        begins = np.maximum(self._first_slab(first), self.heads - self.slabs_kept)
        where = [
            env * self.slabs_kept + np.arange(begin, head) % self.slabs_kept
            for env, (begin, head) in enumerate(zip(begins, self.heads, strict=True))
        ]
        return {
            "first": np.asarray(first),
            "begins": begins,
            "heads": self.heads.copy(),
            "slabs": self.slabs[np.concatenate(where)].ravel(),
            **{name: getattr(self, name)[:, places] for name in _COLUMNS},
        }

    def _first_slab(self, first: int) -> np.ndarray:
        """The slab that each copy's transition ``first`` begins with."""
        return self.start[:, first % self.rows]

    def add_chunk(self, chunk: dict[str, np.ndarray]) -> None:
        """What :meth:`chunk` gave, where it was."""
        first = int(chunk["first"])
        places = np.arange(first, first + chunk["reward"].shape[1]) % self.rows
        for name in _COLUMNS:
            getattr(self, name)[:, places] = chunk[name]
        slabs, taken = chunk["slabs"].reshape(-1, self.slab_size), 0
        for env, (begin, head) in enumerate(zip(chunk["begins"], chunk["heads"], strict=True)):
            where = env * self.slabs_kept + np.arange(begin, head) % self.slabs_kept
            self.slabs[where] = slabs[taken : taken + head - begin]
            taken += head - begin

    def standing(self) -> dict[str, np.ndarray]:
        """How far it goes, and by what it draws: all but what chunks hold."""
        numbers = {name: np.array(getattr(self, name)) for name in _STANDING}
        if self.tree is None:
            return numbers
        return numbers | {"priorities": self.tree.leaves.copy(), "largest": np.asarray(self.tree.largest)}

    def stand_at(self, standing: dict[str, np.ndarray]) -> None:
        """What :meth:`standing` gave, after the chunks."""
        self.count = int(standing["count"])
        self.heads, self.oldest, self.is_fresh = (np.array(standing[name]) for name in _STANDING[1:])
        for env, oldest in enumerate(self.oldest):
            gone = np.arange(max(0, self.count - self.rows), oldest) % self.rows
            self.terminated[env, gone] = False
        if self.tree is not None:
            self.tree.set(np.arange(len(standing["priorities"])), standing["priorities"])
            self.tree.largest = float(standing["largest"])


_COLUMNS = ("action", "reward", "log_prob", "terminated", "truncated", "start")
_STANDING = ("count", "heads", "oldest", "is_fresh")


def _newest_size(part: Vector | Images) -> int:
    """Bytes of what one step shows that is new."""
    return part.num_bytes // part.frames if isinstance(part, Images) else part.num_bytes
