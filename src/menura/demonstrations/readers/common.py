"""What the readers share: trust nothing, and say where."""

import importlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

import numpy as np

from menura.core import RequestError
from menura.demonstrations.episodes import Episode

CLOCK_NOTE = (
    "The file does not say which episodes were cut by the clock; "
    "the {count} that reached the longest length, {limit}, are taken to be."
)


@contextmanager
def parsing(path: Path, what: str) -> Iterator[None]:
    """Whatever a library raises on a damaged file, in one sentence.

    These libraries promise nothing about what they raise on bytes they did not write, so anything counts.
    Only their calls belong inside: an error of ours must stay one.
    """
    try:
        yield
    except RequestError:
        raise
    except Exception as error:
        lines = str(error).strip().splitlines()
        reason = f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
        raise RequestError(
            f"{path} cannot be read as {what} ({reason}); it may be damaged, so write or copy it again."
        ) from error


def need(package: str, path: Path) -> Any:
    """Import a package that only some formats need."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise RequestError(f"Reading {path} needs {package.partition('.')[0]}; install menura[data].") from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object."""
    with parsing(path, "JSON"):
        content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise RequestError(
            f"{path} holds {type(content).__name__} where a JSON object belongs; write or copy it again."
        )
    return content


def split_rows(lengths: np.ndarray, total: int, *, path: Path, field: str) -> list[slice]:
    """Where each episode lies in arrays of ``total`` rows; refuses lengths that do not add up."""
    lengths = np.asarray(lengths)
    if lengths.ndim != 1 or lengths.dtype.kind not in "iu" or len(lengths) == 0:
        raise RequestError(
            f"{path}: {field} must be whole numbers, one an episode; it is {lengths.dtype} of shape {lengths.shape}."
        )
    counts = [int(n) for n in lengths]
    for index, count in enumerate(counts):
        if count < 1:
            raise RequestError(f"{path}, episode {index}: {field} gives {count} steps; every episode needs at least 1.")
    if sum(counts) != total:
        raise RequestError(
            f"{path}: {field} give {sum(counts)} steps in all and the arrays hold {total}; the two must agree."
        )
    ends = np.cumsum(counts)
    return [slice(int(end) - count, int(end)) for end, count in zip(ends, counts, strict=True)]


def rows_of(array: np.ndarray, *, path: Path, field: str) -> int:
    """The length of the first axis; refuses a single number."""
    if array.ndim == 0:
        raise RequestError(f"{path}: {field} is a single value where one row a step belongs.")
    return len(array)


def flags(array: np.ndarray, count: int, *, path: Path, field: str) -> np.ndarray:
    """Booleans, ``count`` of them; refuses anything that is not plainly yes or no."""
    array = np.asarray(array)
    if (
        array.shape not in ((count,), (count, 1))
        or array.dtype.kind not in "biuf"
        or not np.all((array == 0) | (array == 1))
    ):
        raise RequestError(
            f"{path}: {field} must be {count} values of 0 or 1; it is {array.dtype} of shape {array.shape}."
        )
    return array.reshape(count).astype(bool)


@overload
def one_column(array: np.ndarray) -> np.ndarray: ...
@overload
def one_column(array: None) -> None: ...
def one_column(array: np.ndarray | None) -> np.ndarray | None:
    """``(steps, 1)`` as ``(steps,)``: some formats store a scalar a step so."""
    return array[:, 0] if array is not None and array.ndim == 2 and array.shape[1] == 1 else array


def read_only(array: np.ndarray) -> np.ndarray:
    """The same array, which nobody can write to."""
    view = array.view()
    view.flags.writeable = False
    return view


def without_clock(episodes: Sequence[Episode]) -> tuple[tuple[Episode, ...], tuple[str, ...]]:
    """Tell the clock's endings from the environment's, where a format marks both in the same way.

    Episodes that share the longest length are taken to be truncated, provided they are at least two and a
    tenth of all: a time limit makes many of one length, and chance seldom does.
    """
    limit = max((episode.num_steps for episode in episodes), default=0)
    longest = [episode for episode in episodes if episode.num_steps == limit and episode.terminated]
    if len(longest) < 2 or 10 * len(longest) < len(episodes):
        return tuple(episodes), ()
    changed = tuple(replace(e, terminated=e.terminated and e.num_steps < limit) for e in episodes)
    return changed, (CLOCK_NOTE.format(count=len(longest), limit=limit),)
