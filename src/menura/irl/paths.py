"""Demonstrations on a table: paths through the states of a :class:`~menura.environments.tabular.TabularMDP`."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from menura.core import RequestError
from menura.environments.tabular import LARGEST_NUMBER, TabularMDP, read_npz


@dataclass(frozen=True, eq=False)
class Paths:
    """Paths one after another: their states and actions, and where known their ends, goals and travelers."""

    states: Int[np.ndarray, " steps"]
    actions: Int[np.ndarray, " steps"]
    lengths: Int[np.ndarray, " paths"]
    final_states: Int[np.ndarray, " paths"] | None = None
    """Where each path ended; without it, the last step's outcome is known only where the table leaves no choice."""
    goals: Int[np.ndarray, " paths"] | None = None
    """The absorbing state that each path was meant for, worth 0, and the only place where it may end."""
    individuals: Int[np.ndarray, " paths"] | None = None
    """Whose path it is: standard errors can be clustered by these."""
    source: str = "the demonstrations"

    @property
    def num_paths(self) -> int:
        """Number of paths."""
        return len(self.lengths)

    @property
    def first(self) -> Int[np.ndarray, " paths"]:
        """Row of each path's first step."""
        return np.cumsum(self.lengths) - self.lengths

    @property
    def path_of_step(self) -> Int[np.ndarray, " steps"]:
        """The path that each step belongs to."""
        return np.repeat(np.arange(self.num_paths), self.lengths)

    @property
    def time(self) -> Int[np.ndarray, " steps"]:
        """Steps before each step in its path."""
        return np.arange(len(self.states)) - np.repeat(self.first, self.lengths)

    @property
    def is_last(self) -> Bool[np.ndarray, " steps"]:
        """Whether a step is its path's last."""
        last = np.zeros(len(self.states), bool)
        last[self.first + self.lengths - 1] = True
        return last

    def select(self, chosen: Any) -> "Paths":
        """The paths with these numbers (or where a mask is true), in this order."""
        chosen = np.arange(self.num_paths)[np.asarray(chosen)]
        first, lengths = self.first[chosen], self.lengths[chosen]
        rows = (
            np.concatenate([np.arange(f, f + n) for f, n in zip(first, lengths, strict=True)])
            if len(chosen)
            else chosen
        )
        pick = lambda x: None if x is None else x[chosen]  # noqa: E731
        ends = (pick(self.final_states), pick(self.goals), pick(self.individuals))
        return Paths(self.states[rows], self.actions[rows], lengths, *ends, self.source)

    @classmethod
    def from_lists(
        cls,
        states: Sequence[Any],
        actions: Sequence[Any],
        *,
        goals: Any = None,
        individuals: Any = None,
        source: str = "the demonstrations",
    ) -> "Paths":
        """From one sequence of states and one of actions a path; a state more than actions is where it ended."""
        lengths = np.array([len(a) for a in actions], np.int64)
        extra = {len(s) - len(a) for s, a in zip(states, actions, strict=True)}
        if extra not in ({0}, {1}):
            raise RequestError(f"{source}: give every path as many states as actions, or every one a state more.")
        ends = np.array([s[-1] for s in states], np.int64) if extra == {1} else None
        flat = np.concatenate([np.asarray(s, np.int64)[: len(a)] for s, a in zip(states, actions, strict=True)])
        acts = np.concatenate([np.asarray(a, np.int64) for a in actions])
        whole = lambda x: None if x is None else np.asarray(x, np.int64)  # noqa: E731
        return cls(flat, acts, lengths, ends, whole(goals), whole(individuals), source)

    def save(self, path: str | Path) -> None:
        """Write ``demos.npz``."""
        arrays: dict[str, Any] = {"states": self.states, "actions": self.actions, "episode_lengths": self.lengths}
        for name in ("final_states", "goals", "individuals"):
            if getattr(self, name) is not None:
                arrays[name] = getattr(self, name)
        np.savez_compressed(path, **arrays)

    @classmethod
    def load(cls, path: str | Path) -> "Paths":
        """Read ``demos.npz``, or a CSV panel ``individual, time, state, action[, goal]``."""
        if str(path).endswith(".csv"):
            return cls._load_csv(path)
        arrays = read_npz(path)
        missing = [name for name in ("states", "actions", "episode_lengths") if name not in arrays]
        if missing:
            raise RequestError(
                f"{path} has no {', '.join(missing)}: demos.npz lists one step a row, and each path's length."
            )
        unknown = sorted(
            arrays.keys() - {"states", "actions", "episode_lengths", "final_states", "goals", "individuals"}
        )
        if unknown:
            raise RequestError(f"{path} holds {', '.join(unknown)}, which demonstrations on a table do not have.")
        whole = {name: _whole(value, name, path) for name, value in arrays.items()}
        lengths = whole["episode_lengths"]
        if not len(lengths) or (lengths < 1).any():
            raise RequestError(f"{path}: every path needs at least one step, and there must be a path.")
        total = sum(lengths.tolist())
        if not total == len(whole["states"]) == len(whole["actions"]):
            raise RequestError(
                f"{path}: episode_lengths sum to {total}, states has {len(whole['states'])} rows and actions "
                f"{len(whole['actions'])}; these must be equal."
            )
        for name in ("final_states", "goals", "individuals"):
            if name in whole and len(whole[name]) != len(lengths):
                raise RequestError(
                    f"{path}: {name} has {len(whole[name])} rows for {len(lengths)} paths; give one a path."
                )
        ends, goals, individuals = (whole.get(name) for name in ("final_states", "goals", "individuals"))
        return cls(whole["states"], whole["actions"], lengths, ends, goals, individuals, str(path))

    @classmethod
    def _load_csv(cls, path: str | Path) -> "Paths":
        try:
            with open(path, newline="", encoding="utf-8-sig") as file:
                reader = csv.DictReader(file, skipinitialspace=True)
                names = [name.strip() for name in reader.fieldnames or ()]
                missing = [name for name in ("individual", "time", "state", "action") if name not in names]
                if missing:
                    raise RequestError(
                        f"{path} has no column {', '.join(missing)}; a panel has individual, time, state, "
                        f"action[, goal]."
                    )
                twice = [name for i, name in enumerate(names) if name in names[:i]]
                if twice:
                    raise RequestError(f"{path} has two columns {twice[0]}; rename one.")
                rows = [{(k or "").strip(): v for k, v in row.items()} for row in reader]
        except FileNotFoundError as error:
            raise RequestError(f"There is no file {path}.") from error
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise RequestError(f"{path} cannot be read as a CSV file: {error}.") from error
        if not rows:
            raise RequestError(f"{path} has no rows below its header.")
        uneven = [i for i, row in enumerate(rows) if "" in row or None in row.values()]
        if uneven:
            raise RequestError(f"{path}: row {uneven[0]} below the header has not one value a column; complete it.")
        columns = {}
        wanted = ("time", "state", "action", "goal") if "goal" in names else ("time", "state", "action")
        for name in wanted:
            try:
                columns[name] = np.array([float(row[name]) for row in rows])
            except (TypeError, ValueError) as error:
                raise RequestError(f"{path}: column {name} must hold numbers ({error}).") from error
            if not np.isfinite(columns[name]).all():
                raise RequestError(f"{path}: column {name} must hold finite numbers.")
            if name != "time":
                columns[name] = _whole(columns[name], name, path)
        labels, individual = np.unique([row["individual"] for row in rows], return_inverse=True)
        order = np.lexsort((columns["time"], individual))
        individual, time = individual[order], columns["time"][order]
        same = np.diff(individual) == 0
        if (same & (np.diff(time) == 0)).any():
            row = int(np.flatnonzero(same & (np.diff(time) == 0))[0])
            raise RequestError(
                f"{path}: individual {labels[individual[row]]} has two rows at time {time[row]:g}; keep one."
            )
        states, actions = columns["state"][order], columns["action"][order]
        breaks = ~same
        if "goal" in columns:
            goal = columns["goal"][order]
            breaks |= np.diff(goal) != 0
        starts = np.flatnonzero(np.concatenate([[True], breaks]))
        lengths = np.diff(np.append(starts, len(states)))
        goals = goal[starts] if "goal" in columns else None
        return cls(states, actions, lengths, None, goals, individual[starts].astype(np.int64), str(path))


def _whole(values: np.ndarray, name: str, path: Any) -> np.ndarray:
    array = np.atleast_1d(values)
    if array.ndim != 1 or array.dtype.kind not in "iuf":
        raise RequestError(f"{path}: {name} must be one-dimensional whole numbers.")
    if array.dtype.kind in "uf" and not np.all((array == np.floor(array)) & (abs(array) < LARGEST_NUMBER)):
        raise RequestError(f"{path}: {name} must hold whole numbers.")
    return array.astype(np.int64)


def check_paths(mdp: TabularMDP, paths: Paths) -> Int[np.ndarray, " steps"]:
    """The pair of every step; refuses paths that this problem does not allow."""
    source = paths.source
    for values, name in ((paths.states, "state"), (paths.final_states, "final state"), (paths.goals, "goal")):
        if values is None:
            continue
        bad = np.flatnonzero((values < 0) | (values >= mdp.num_states))
        if len(bad):
            raise RequestError(
                f"{source}: {name} {values[bad[0]]} (row {bad[0]}) is not among the problem's "
                f"states 0 to {mdp.num_states - 1}."
            )
    bad = np.flatnonzero((paths.actions < 0) | (paths.actions >= mdp.num_actions))
    if len(bad):
        raise RequestError(
            f"{source}: action {paths.actions[bad[0]]} (row {bad[0]}) is not among the "
            f"problem's actions 0 to {mdp.num_actions - 1}."
        )
    absorbing = np.zeros(mdp.num_states, bool)
    if mdp.terminal is not None:
        absorbing[mdp.terminal] = True
    at_goal = (
        np.zeros(len(paths.states), bool) if paths.goals is None else paths.states == paths.goals[paths.path_of_step]
    )
    bad = np.flatnonzero(absorbing[paths.states] | at_goal)
    if len(bad):
        which, kind = paths.path_of_step[bad[0]], "its goal" if at_goal[bad[0]] else "terminal"
        raise RequestError(
            f"{source}: path {which} acts in state {paths.states[bad[0]]}, which is {kind}; a "
            f"path ends where it gets there."
        )
    pair = mdp.pair_index(paths.states, paths.actions)
    bad = np.flatnonzero(pair < 0)
    if len(bad):
        raise RequestError(
            f"{source}: path {paths.path_of_step[bad[0]]} takes action {paths.actions[bad[0]]} in state "
            f"{paths.states[bad[0]]} (row {bad[0]}), which the problem does not offer there."
        )
    if mdp.horizon is not None and (paths.lengths > mdp.horizon).any():
        which = int(np.flatnonzero(paths.lengths > mdp.horizon)[0])
        raise RequestError(
            f"{source}: path {which} has {paths.lengths[which]} steps, more than the horizon of {mdp.horizon}; "
            "cut it or lengthen the horizon."
        )
    return pair


def successors(mdp: TabularMDP, paths: Paths, pair: Int[np.ndarray, " steps"]) -> Int[np.ndarray, " steps"]:
    """The state after every step; −1 where it is not known (the last steps of stochastic problems)."""
    following = np.full(len(paths.states), -1, np.int64)
    following[:-1] = paths.states[1:]
    last = np.flatnonzero(paths.is_last)
    if paths.final_states is not None:
        following[last] = paths.final_states
    else:
        sizes = np.diff(np.append(mdp.pair_start, mdp.num_transitions))
        only = sizes[pair[last]] == 1
        following[last] = np.where(only, mdp.next_state[mdp.pair_start[pair[last]]], -1)
        if paths.goals is not None:
            following[last] = np.where(only, following[last], paths.goals)
    return following


def transition_index(
    mdp: TabularMDP, pair: Int[np.ndarray, " n"], following: Int[np.ndarray, " n"]
) -> Int[np.ndarray, " n"]:
    """The transitions from these pairs to these states; −1 where there is none."""
    low = mdp.pair_start[pair].copy()
    last = np.append(mdp.pair_start, mdp.num_transitions)[pair + 1] - 1
    high = last.copy()
    while (low < high).any():
        middle = (low + high) // 2
        right = mdp.next_state[middle] < following
        low, high = np.where(right, middle + 1, low), np.where(right, high, middle)
        high = np.maximum(high, low)
    return np.where(mdp.next_state[low] == following, low, -1)


def check_successors(
    mdp: TabularMDP, paths: Paths, pair: np.ndarray, following: np.ndarray
) -> Int[np.ndarray, " steps"]:
    """The transition of every step, −1 where its outcome is not known; refuses impossible ones."""
    found = transition_index(mdp, pair, following)
    bad = np.flatnonzero((found < 0) & (following >= 0))
    if len(bad):
        step = bad[0]
        raise RequestError(
            f"{paths.source}: path {paths.path_of_step[step]} goes from state {paths.states[step]} by action "
            f"{paths.actions[step]} to state {following[step]} (row {step}), a transition of "
            f"probability 0 in the problem."
        )
    return np.where(following >= 0, found, -1)
