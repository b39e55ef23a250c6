"""Demonstrations that are too many to be rows in memory: every update is handed some, drawn from the disk.

The arrays of a Minari folder (and of any HDF5 file that stores them plainly) are memory maps, so that only the pages
that are drawn are read. Rows are made of them when they are drawn: stacks of frames take K times as much as frames.
"""

from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np

from menura.core import ExpertData, Spec, Transition
from menura.demonstrations.episodes import Demonstrations
from menura.demonstrations.heldout import sampled_steps

LARGE = 2**30
"""Bytes of rows above which demonstrations are drawn from the disk: the same everywhere, so that runs are, too."""
ROWS = 4096
"""Steps that one update is handed, and the most that are held out."""


def num_bytes(demos: Demonstrations, spec: Spec) -> int:
    """What all rows would take in memory: every one has an observation and its successor."""
    return 2 * demos.num_transitions * spec.obs_size * np.dtype(spec.obs_dtype).itemsize


@dataclass(frozen=True, eq=False)
class Stream:
    """The kept steps of demonstrations, drawn with equal chances, and what of them is held out."""

    demos: Demonstrations
    spec: Spec
    heldout: Transition
    with_actions: bool = True

    @staticmethod
    def of(
        demos: Demonstrations, spec: Spec, heldout_fraction: float = 0.0, seed: int = 0, *, with_actions: bool = True
    ) -> "Stream":
        """As :meth:`Demonstrations.expert_data`, without making the rows."""
        demos = demos if with_actions else demos.without_actions()
        demos.check(spec)
        train, heldout = demos.split(heldout_fraction, seed)
        few = sampled_steps(heldout, ROWS, seed=seed).flatten(spec, with_actions=with_actions)
        # Where the networks are, once: they are looked at in every update.
        few = jax.tree.map(jnp.asarray, few)
        return Stream(train, spec, few, with_actions)

    @cached_property
    def _ends(self) -> np.ndarray:
        """How many kept steps there are up to the end of each episode."""
        return np.cumsum([len(self.demos.usable(i)) for i in range(len(self.demos))])

    def draw(self, rng: np.random.Generator, num_rows: int = ROWS) -> ExpertData:
        """Steps drawn with replacement, in the order in which they are stored, and those that are held out."""
        place = np.sort(rng.integers(0, self._ends[-1], num_rows))
        episode = np.searchsorted(self._ends, place, side="right")
        parts = []
        for i in np.unique(episode).tolist():
            rows = self.demos.usable(i)[place[episode == i] - (self._ends[i - 1] if i else 0)]
            parts.append(self.demos.rows_of_episode(i, rows, self.spec))
        train = Transition(*(np.concatenate(column) for column in zip(*parts, strict=True)))
        return ExpertData(train, self.heldout, np.asarray(self.demos.ending_rate, np.float32), drawn=True)

    def at(self, key: jax.Array) -> ExpertData:
        """What the update with this key is handed."""
        return self.draw(np.random.default_rng(np.asarray(jax.random.key_data(key)).tolist()))
