"""Whether arrays and numbers are what they are said to be; if not, one sentence names the source and the row."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from menura.core import RequestError

PROBABILITY_TOLERANCE = 1e-6
"""How far the probabilities of one action's outcomes may sum away from 1; they are then divided by their sum."""

LARGEST_NUMBER = 2**62
"""Whole numbers stay below this, so that a state and an action fit into one 64-bit number."""


def whole_numbers(values: Any, name: str, source: str) -> Int[np.ndarray, " n"]:
    """One-dimensional whole numbers, whatever type they were stored in."""
    array = np.asarray(values)
    if array.ndim != 1:
        raise RequestError(f"{source}: {name} has shape {array.shape}; make it one-dimensional.")
    if array.dtype.kind == "i":
        return array
    if not len(array):
        return array.astype(np.int64)
    if array.dtype.kind not in "uf" or not np.all((array == np.floor(array)) & (abs(array) < LARGEST_NUMBER)):
        raise RequestError(f"{source}: {name} must hold whole numbers.")
    return array.astype(np.int64)


def real_numbers(values: Any, name: str, source: str) -> Float[np.ndarray, "..."]:
    """Real numbers in float64."""
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise RequestError(f"{source}: {name} must hold real numbers.")
    return array.astype(np.float64, copy=False)


def scalar(value: np.ndarray, kind: type, name: str, source: str) -> Any:
    """The one finite number that an array holds."""
    if value.size != 1 or value.dtype.kind not in "iuf":
        raise RequestError(f"{source}: {name} must be one number.")
    number = value.reshape(()).item()
    if not np.isfinite(number):
        raise RequestError(f"{source}: {name} is {number}; make it a finite number.")
    if kind is int and number != int(number):
        raise RequestError(f"{source}: {name} is {number}; make it a whole number.")
    return kind(number)


def count(given: int | None, name: str, needed: int, source: str) -> int:
    """A number of states or actions: what was given, or as many as the rows need."""
    if given is None:
        return needed
    if given != int(given) or given < 1:
        raise RequestError(f"{source}: {name} is {given}; make it a whole number, at least 1.")
    return int(given)


def in_range(values: np.ndarray, size: int, name: str, limit: str, source: str) -> None:
    """Refuse the first row whose number is not among 0 … size − 1."""
    if len(values) and values.min() >= 0 and values.max() < size:
        return
    bad = np.flatnonzero((values < 0) | (values >= size))
    if len(bad):
        raise RequestError(
            f"{source}: row {bad[0]} has {name} {values[bad[0]]}; {limit} is {size}, so make it 0 to {size - 1}."
        )


def terminal_states(terminal: Any, num_states: int, source: str) -> Int[np.ndarray, " terminals"] | None:
    """Sorted, each once."""
    if terminal is None:
        return None
    array = np.unique(whole_numbers(np.atleast_1d(np.asarray(terminal)), "terminal", source))
    if len(array) and (array[0] < 0 or array[-1] >= num_states):
        raise RequestError(f"{source}: terminal names a state outside 0 to {num_states - 1}.")
    return array


def feature_table(values: Any, rows: int, name: str, source: str) -> Float[np.ndarray, "rows features"] | None:
    """Finite features, so many rows."""
    if values is None:
        return None
    array = real_numbers(values, name, source)
    if array.ndim != 2 or array.shape[0] != rows:
        raise RequestError(f"{source}: {name} has shape {array.shape}; make it ({rows}, features).")
    if not np.isfinite(array).all():
        row = int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])
        raise RequestError(f"{source}: row {row} of {name} is not finite.")
    return array


def initial_distribution(values: Any, num_states: int, source: str) -> Float[np.ndarray, " states"] | None:
    """Probabilities of the first state, made to sum to 1 exactly."""
    if values is None:
        return None
    array = real_numbers(values, "initial", source)
    if array.shape != (num_states,):
        raise RequestError(f"{source}: initial has shape {array.shape}; make it ({num_states},).")
    good = np.isfinite(array) & (array >= 0)
    if not good.all():
        state = int(np.flatnonzero(~good)[0])
        raise RequestError(f"{source}: initial gives state {state} probability {array[state]:g}; make it 0 to 1.")
    if abs(array.sum() - 1) > PROBABILITY_TOLERANCE:
        raise RequestError(f"{source}: initial sums to {array.sum():g}; make it sum to 1.")
    return array / array.sum()


def probabilities(values: Any, source: str) -> Float[np.ndarray, " rows"]:
    """Finite and not negative."""
    array = real_numbers(values, "probability", source)
    if array.ndim == 1 and len(array) and not (array.min() >= 0 and array.max() < np.inf):
        row = int(np.flatnonzero(~(array >= 0) | ~np.isfinite(array))[0])
        raise RequestError(f"{source}: row {row} has probability {array[row]:g}; make it 0 to 1.")
    return array


def sums_of_one(
    key: Int[np.ndarray, " rows"],
    probability: Float[np.ndarray, " rows"],
    num_actions: int,
    counted: Bool[np.ndarray, " rows"] | None,
    source: str,
) -> None:
    """Refuse the first action whose outcomes do not sum to 1; ``key`` is state · num_actions + action."""
    rows = None if counted is None else np.flatnonzero(counted)
    own, weight = (key, probability) if rows is None else (key[rows], probability[rows])
    if not len(own):
        return
    pairs = None
    if own.max() < 50_000_000:
        sums = np.bincount(own, weight)
        seen = np.bincount(own) > 0
    else:
        pairs, own = np.unique(own, return_inverse=True)
        sums, seen = np.bincount(own, weight), np.ones(len(pairs), bool)
    wrong = np.flatnonzero(seen & ~(np.abs(sums - 1) <= PROBABILITY_TOLERANCE))
    if len(wrong):
        place = int(np.flatnonzero(own == wrong[0])[0])
        row = place if rows is None else int(rows[place])
        state, action = divmod(int(key[row]), num_actions)
        raise RequestError(
            f"{source}: the probabilities of state {state}, action {action} (row {row}) sum to {sums[wrong[0]]:g}; "
            "make them sum to 1."
        )


def names_of_features(given: tuple[str, ...], widths: Sequence[int], source: str) -> tuple[str, ...]:
    """A name for every weight: one for each column, or, where all kinds are as wide, one for a column of each."""
    names = given or tuple(f"f{i}" for i in range(sum(widths)))
    shared = len(set(widths)) == 1 and len(names) == widths[0]
    if len(names) != sum(widths) and not shared:
        raise RequestError(
            f"{source}: there are {len(names)} feature_names for {sum(widths)} columns of features; give each column "
            "one."
        )
    if len(set(names)) < len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise RequestError(f"{source}: two features are called {twice!r}; rename one.")
    return names


def timing(discount: float, horizon: Any, source: str) -> tuple[float, int | None]:
    """A discount of more than 0 and at most 1, and a whole number of steps or none."""
    if not 0 < discount <= 1:
        raise RequestError(f"{source}: discount is {discount:g}; make it more than 0 and at most 1.")
    if horizon is None:
        return float(discount), None
    if int(horizon) != horizon or horizon < 1:
        raise RequestError(f"{source}: horizon is {horizon}; make it a whole number of steps, at least 1.")
    return float(discount), int(horizon)
