"""Which steps of an expert are left for reading a run: those that its learner is never shown."""

from dataclasses import replace

import numpy as np

from menura.demonstrations.episodes import Demonstrations


def left_out(source: Demonstrations, used: Demonstrations) -> Demonstrations | None:
    """The steps of ``source`` that are not among ``used``, which are its first episodes, perhaps thinned.

    The episodes after the first ones, where there are any; else the steps of the same episodes that thinning left out;
    ``None`` where neither leaves a step.
    """
    if len(used) < len(source):
        return _unless_empty(source.select(range(len(used), len(source))))
    rest = tuple(np.setdiff1d(_kept(source, i), _kept(used, i)) for i in range(len(source)))
    return _unless_empty(replace(source, kept=rest))


def sampled_steps(demos: Demonstrations, num_steps: int, *, seed: int) -> Demonstrations:
    """At most ``num_steps`` of the kept steps, drawn without replacement from all episodes alike."""
    usable = [kept[kept < demos.episodes[i].num_transitions] for i, kept in enumerate(_all_kept(demos))]
    total = sum(map(len, usable))
    if total <= num_steps:
        return demos
    chosen = np.zeros(total, bool)
    chosen[np.random.default_rng(seed).choice(total, num_steps, replace=False)] = True
    ends = np.cumsum([len(kept) for kept in usable])[:-1]
    return replace(demos, kept=tuple(k[c] for k, c in zip(usable, np.split(chosen, ends), strict=True)))


def _unless_empty(demos: Demonstrations) -> Demonstrations | None:
    return demos if demos.num_transitions > 0 else None


def _all_kept(demos: Demonstrations) -> list[np.ndarray]:
    return [_kept(demos, i) for i in range(len(demos))]


def _kept(demos: Demonstrations, i: int) -> np.ndarray:
    return np.arange(demos.episodes[i].num_steps) if demos.kept is None else demos.kept[i]
