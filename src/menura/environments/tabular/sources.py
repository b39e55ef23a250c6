"""Other forms of a problem, brought to rows: the keywords of :meth:`TabularMDP.from_transitions`."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from menura.core import RequestError


def dense(transitions: Any) -> dict[str, Any]:
    """Rows of P(next state | state, action) ``(states, actions, states)``."""
    table = np.asarray(transitions, np.float64)
    if table.ndim != 3 or table.shape[0] != table.shape[2]:
        raise RequestError(f"A dense table has shape (states, actions, states), not {table.shape}.")
    state, action, next_state = np.nonzero(table)
    return {
        "state": state,
        "action": action,
        "next_state": next_state,
        "probability": table[state, action, next_state],
        "num_states": table.shape[0],
        "num_actions": table.shape[1],
    }


def sparse(matrices: Sequence[Any]) -> dict[str, Any]:
    """Rows of one SciPy matrix an action."""
    shapes = {matrix.shape for matrix in matrices}
    if len(shapes) != 1 or len({*shapes.pop()}) != 1:
        raise RequestError("Give one matrix (states, states) an action, all of one size.")
    parts = [matrix.tocoo() for matrix in matrices]
    return {
        "state": np.concatenate([part.row for part in parts]),
        "action": np.concatenate([np.full(part.nnz, action) for action, part in enumerate(parts)]),
        "next_state": np.concatenate([part.col for part in parts]),
        "probability": np.concatenate([part.data for part in parts]),
        "num_states": parts[0].shape[0],
        "num_actions": len(parts),
    }


def gymnasium_table(env_id: str, env_kwargs: dict[str, Any] | None) -> dict[str, Any]:
    """Rows of an environment's own table ``P``, with terminal states where its episodes end."""
    env = _make_with_table(env_id, env_kwargs)
    table = getattr(env.unwrapped, "P", None)
    initial = getattr(env.unwrapped, "initial_state_distrib", None)
    env.close()
    if table is None:
        raise RequestError(f"{env_id} has no table P of its dynamics; FrozenLake-v1, Taxi-v3 and CliffWalking-v1 do.")
    rows = [
        (state, action, int(next_state), float(probability), bool(done))
        for state, actions in table.items()
        for action, outcomes in actions.items()
        for probability, next_state, _, done in outcomes
    ]
    state, action, next_state, probability, done = (np.array(column) for column in zip(*rows, strict=True))
    first = np.ones(len(table), bool) if initial is None else np.asarray(initial) > 0
    next_state, num_copies = _split_endings(state, next_state, done, first)
    return {
        "state": state,
        "action": action,
        "next_state": next_state,
        "probability": probability,
        "num_states": len(table) + num_copies,
        "num_actions": int(action.max()) + 1,
        "initial": None if initial is None else np.concatenate([initial, np.zeros(num_copies)]),
        "terminal": np.unique(next_state[done]),
        "source": env_id,
    }


def _make_with_table(env_id: str, env_kwargs: dict[str, Any] | None) -> Any:
    from menura.environments.host import make_gymnasium

    try:
        return make_gymnasium(env_id, env_kwargs)
    except RequestError:
        # Gymnasium drops old numbers; the dynamics of these two are the same.
        if env_id != "Taxi-v3":
            raise
        return make_gymnasium("Taxi-v4", env_kwargs)


def _split_endings(
    state: np.ndarray, next_state: np.ndarray, done: np.ndarray, first: np.ndarray
) -> tuple[np.ndarray, int]:
    """Successors where an ending in a state that is also passed through leads to a copy of it; and the copies."""
    reached = _reached_before_an_ending(first, state, next_state, done)
    passed = np.intersect1d(next_state[done], next_state[~done & reached[state] & (state != next_state)])
    copy_of = np.arange(len(first))
    copy_of[passed] = len(first) + np.arange(len(passed))
    return np.where(done, copy_of[next_state], next_state), len(passed)


def _reached_before_an_ending(
    reached: np.ndarray, state: np.ndarray, next_state: np.ndarray, done: np.ndarray
) -> np.ndarray:
    while True:
        more = reached.copy()
        more[next_state[reached[state] & ~done]] = True
        if np.array_equal(more, reached):
            return reached
        reached = more


def observed(
    states: Sequence[Any], actions: Sequence[Any], num_states: int, num_actions: int, smoothing: float
) -> dict[str, Any]:
    """Rows of relative frequencies, each successor of a state counted ``smoothing`` times more for every action."""
    if not smoothing >= 0 or not np.isfinite(smoothing):
        raise RequestError(f"smoothing is {smoothing:g}; make it 0 or more.")
    if not len(states):
        raise RequestError("There are no trajectories; give at least one.")
    state = np.concatenate([np.asarray(s)[:-1] for s in states])
    next_state = np.concatenate([np.asarray(s)[1:] for s in states])
    action = np.concatenate([np.asarray(a) for a in actions])
    if len(states) != len(actions) or any(len(s) != len(a) + 1 for s, a in zip(states, actions, strict=True)):
        raise RequestError("A trajectory has one state more than it has actions.")
    triples, count = np.unique(np.stack([state, action, next_state]), axis=1, return_counts=True)
    weight = count.astype(np.float64)
    if smoothing > 0:
        moves = np.unique(np.stack([state, next_state]), axis=1)
        everywhere = np.repeat(moves, num_actions, axis=1)
        extra = np.stack([everywhere[0], np.tile(np.arange(num_actions), moves.shape[1]), everywhere[1]])
        triples = np.concatenate([triples, extra], axis=1)
        weight = np.concatenate([weight, np.full(extra.shape[1], float(smoothing))])
    _, pair = np.unique(triples[:2], axis=1, return_inverse=True)
    return {
        "state": triples[0],
        "action": triples[1],
        "next_state": triples[2],
        "probability": weight / np.bincount(pair.ravel(), weight)[pair.ravel()],
        "num_states": num_states,
        "num_actions": num_actions,
        "source": "the trajectories",
    }
