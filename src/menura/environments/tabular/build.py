"""From rows in any order to the sorted arrays of a problem: checked, merged, and normalized."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from menura.core import RequestError
from menura.environments.tabular import checks


@dataclass(frozen=True, eq=False)
class Rows:
    """Transitions as they were given, each number in its range."""

    state: Int[np.ndarray, " rows"]
    action: Int[np.ndarray, " rows"]
    next_state: Int[np.ndarray, " rows"]
    probability: Float[np.ndarray, " rows"]
    num_states: int
    num_actions: int

    @property
    def key(self) -> Int[np.ndarray, " rows"]:
        """state · num_actions + action."""
        return self.state.astype(np.int64) * self.num_actions + self.action


@dataclass(frozen=True, eq=False)
class Table:
    """The transitions of a problem: sorted by state, action and next state, each once, the outcomes of 1 in sum."""

    state: Int[np.ndarray, " transitions"]
    action: Int[np.ndarray, " transitions"]
    next_state: Int[np.ndarray, " transitions"]
    probability: Float[np.ndarray, " transitions"]
    features: Float[np.ndarray, "transitions _"] | None
    pair_key: Int[np.ndarray, " pairs"]
    """state · num_actions + action of every pair."""


def index_type(size: int) -> type:
    """The smaller integer type that counts so far."""
    return np.int32 if size < 2**31 - 1 else np.int64


def checked_rows(
    state: Any,
    action: Any,
    next_state: Any,
    probability: Any,
    num_states: int | None,
    num_actions: int | None,
    source: str,
) -> Rows:
    """Refuse what is no list of transitions; numbers that were not given are counted."""
    state, action, next_state = (
        checks.whole_numbers(x, name, source)
        for x, name in ((state, "state"), (action, "action"), (next_state, "next_state"))
    )
    probability = checks.real_numbers(probability, "probability", source)
    num_states = checks.count(num_states, "num_states", max(_largest(state), _largest(next_state)) + 1, source)
    num_actions = checks.count(num_actions, "num_actions", _largest(action) + 1, source)
    if num_states * num_actions >= checks.LARGEST_NUMBER:
        raise RequestError(f"{source}: {num_states} states times {num_actions} actions are too many; number fewer.")
    if probability.ndim != 1 or len({len(state), len(action), len(next_state), len(probability)}) != 1:
        raise RequestError(f"{source}: state, action, next_state and probability must be equally long.")
    if not len(state):
        raise RequestError(f"{source}: there are no transitions; list at least one.")
    checks.in_range(state, num_states, "state", "num_states", source)
    checks.in_range(action, num_actions, "action", "num_actions", source)
    checks.in_range(next_state, num_states, "next_state", "num_states", source)
    return Rows(state, action, next_state, checks.probabilities(probability, source), num_states, num_actions)


def merged_table(
    rows: Rows,
    terminal: Int[np.ndarray, " terminals"] | None,
    features: Float[np.ndarray, "rows _"] | None,
    source: str,
) -> Table:
    """Leave out what terminal states list and what never happens, sort, add rows that repeat a transition."""
    key, listed = rows.key, None
    if terminal is not None and len(terminal):
        acts = np.ones(rows.num_states, bool)
        acts[terminal] = False
        listed = acts[rows.state]
    checks.sums_of_one(key, rows.probability, rows.num_actions, listed, source)
    order = _order(rows, key, rows.probability > 0 if listed is None else listed & (rows.probability > 0))
    key, next_state, weight = (x if order is None else x[order] for x in (key, rows.next_state, rows.probability))
    features = features if features is None or order is None else features[order]
    first = first_of_runs(key, next_state)
    if len(first) < len(key):
        total = np.add.reduceat(weight, first)
        if features is not None:
            features = np.add.reduceat(features * weight[:, None], first, axis=0) / total[:, None]
        key, next_state, weight = key[first], next_state[first], total
    starts = first_of_runs(key)
    if len(key):
        # An exact sum of 1 is what undiscounted planning builds on.
        lengths = np.diff(np.append(starts, len(key)))
        weight = weight / np.repeat(np.add.reduceat(weight, starts), lengths)
    state, action = np.divmod(key, rows.num_actions)
    index = index_type(rows.num_states)
    return Table(state.astype(index), action.astype(index), next_state.astype(index), weight, features, key[starts])


def _order(rows: Rows, key: np.ndarray, kept: np.ndarray) -> np.ndarray | None:
    """The rows that are kept, in the order of their pair and then their next state; ``None`` for all as they stand."""
    chosen = None if kept.all() else np.flatnonzero(kept)
    pair = key if chosen is None else key[chosen]
    next_state = rows.next_state if chosen is None else rows.next_state[chosen]
    if rows.num_states**2 * rows.num_actions < checks.LARGEST_NUMBER:
        # One number that says both sorts many times faster than two.
        place = pair * rows.num_states + next_state
        if np.all(place[1:] >= place[:-1]):
            return chosen
        order = np.argsort(place, kind="stable")
    else:
        order = np.lexsort((next_state, pair))
    return order if chosen is None else chosen[order]


def first_of_runs(*keys: Int[np.ndarray, " n"]) -> Int[np.ndarray, " runs"]:
    """Where a run of rows begins that agree in every key."""
    if not len(keys[0]):
        return np.zeros(0, np.int64)
    changed = keys[0][1:] != keys[0][:-1]
    for key in keys[1:]:
        changed |= key[1:] != key[:-1]
    return np.flatnonzero(np.concatenate([[True], changed]))


def pair_feature_table(
    pair_features: Any, state_action_features: Any, rows: Rows, pair_key: Int[np.ndarray, " pairs"], source: str
) -> Float[np.ndarray, "pairs _"] | None:
    """Features of the pairs that exist, given so or as a table of all states and actions."""
    if state_action_features is None:
        return checks.feature_table(pair_features, len(pair_key), "pair_features", source)
    if pair_features is not None:
        raise RequestError(f"{source}: give pair_features or state_action_features, not both.")
    table = checks.real_numbers(state_action_features, "state_action_features", source)
    if table.ndim != 3 or table.shape[:2] != (rows.num_states, rows.num_actions):
        raise RequestError(
            f"{source}: state_action_features has shape {table.shape}; make it (num_states, num_actions, features) = "
            f"({rows.num_states}, {rows.num_actions}, …)."
        )
    own = table.reshape(rows.num_states * rows.num_actions, table.shape[2])[pair_key]
    return checks.feature_table(own, len(pair_key), "state_action_features", source)


def every_state_its_own(num_states: int, source: str) -> Float[np.ndarray, "states states"]:
    """The features of a problem that has none given."""
    if num_states > 5000:
        raise RequestError(f"{source}: there are no features; add state_features, for example.")
    return np.eye(num_states)


def _largest(values: np.ndarray) -> int:
    return int(values.max()) if len(values) else -1
