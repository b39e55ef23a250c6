"""Two layouts in NumPy's zip archives: our own npz of episodes, and what imitation saved until 2022."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from menura.core import RequestError
from menura.demonstrations.episodes import Demonstrations, Episode
from menura.demonstrations.readers.common import (
    flags,
    one_column,
    parsing,
    read_only,
    rows_of,
    split_rows,
    without_clock,
)

_ENV_ID = re.compile(r"(?:[\w.\-]+[:/])?[\w.\-]+-v\d+")


def read_episodes(path: Path) -> Demonstrations | None:
    """Steps of all episodes one after another, with ``episode_lengths`` and ``terminated``.

    Optional are ``actions``, ``rewards``, ``final_observations`` (one an episode) and ``meta`` (JSON text).
    """
    names = _names(path)
    if names is None or "obs" in names:
        return None
    missing = [name for name in ("observations", "episode_lengths", "terminated") if name not in names]
    if missing:
        raise RequestError(
            f"{path} has {', '.join(sorted(names)) or 'no arrays'} but no {' and no '.join(missing)}; "
            "an npz of episodes needs observations, actions, rewards, episode_lengths and terminated."
        )
    arrays = _arrays(path, names)
    obs, actions, rewards = arrays["observations"], arrays.get("actions"), one_column(arrays.get("rewards"))
    spans = split_rows(
        arrays["episode_lengths"], rows_of(obs, path=path, field="observations"), path=path, field="episode_lengths"
    )
    for field, array in (("actions", actions), ("rewards", rewards)):
        _expect_rows(array, len(obs), path, field)
    terminated = flags(arrays["terminated"], len(spans), path=path, field="terminated")
    final_obs = arrays.get("final_observations")
    _expect_rows(final_obs, len(spans), path, "final_observations")
    for field, array in (("observations", obs), ("final_observations", final_obs)):
        # Before they are put together, which only numbers can be.
        if array is not None and array.dtype.kind not in "fiub":
            raise RequestError(f"{path}: {field} are {array.dtype}, not numbers; store them as floats or integers.")
    if final_obs is not None and final_obs.shape[1:] != obs.shape[1:]:
        raise RequestError(
            f"{path}: final_observations have shape {final_obs.shape[1:]} and observations {obs.shape[1:]}; "
            "they must be alike."
        )
    episodes = []
    for i, span in enumerate(spans):
        rows = obs[span]
        if final_obs is not None:
            rows = np.concatenate([rows, final_obs[i : i + 1]])
        episodes.append(_episode(rows, actions, rewards, span, bool(terminated[i])))
    meta, notes = _meta(arrays.get("meta"))
    return Demonstrations(tuple(episodes), env_id=_env_id(meta), metadata=meta, notes=notes)


def read_imitation(path: Path) -> Demonstrations | None:
    """``obs`` with one row more than ``acts`` for every episode, ``indices`` where ``acts`` is cut, ``terminal``."""
    names = _names(path)
    if names is None or "obs" not in names:
        return None
    missing = [name for name in ("acts", "indices", "terminal") if name not in names]
    if missing:
        raise RequestError(
            f"{path} has obs but no {' and no '.join(missing)}; save it again with imitation, or as an npz of episodes."
        )
    arrays = _arrays(path, names - {"infos"})
    obs, actions, rewards = arrays["obs"], arrays["acts"], one_column(arrays.get("rews"))
    total = rows_of(actions, path=path, field="acts")
    _expect_rows(rewards, total, path, "rews")
    cuts = arrays["indices"]
    if cuts.ndim != 1 or (cuts.size and cuts.dtype.kind not in "iu"):
        raise RequestError(f"{path}: indices must be whole numbers in a row; it is {cuts.dtype} of shape {cuts.shape}.")
    # NumPy saves an empty list of cuts, for one episode, as floats. Python's integers cannot overflow.
    edges = [0, *(int(cut) for cut in cuts), total]
    lengths = np.array([b - a for a, b in zip(edges[:-1], edges[1:], strict=True)], object)
    if any(abs(n) > total for n in lengths):
        raise RequestError(f"{path}: indices reach outside the {total} rows of acts; they must rise within them.")
    spans = split_rows(lengths.astype(np.int64), total, path=path, field="indices")
    _expect_rows(obs, total + len(spans), path, "obs")
    terminal = flags(arrays["terminal"], len(spans), path=path, field="terminal")
    episodes = [
        _episode(obs[span.start + i : span.stop + i + 1], actions, rewards, span, bool(terminal[i]))
        for i, span in enumerate(spans)
    ]
    found, notes = without_clock(episodes)
    if "infos" in names:
        notes += ("Its infos are pickled Python objects and were left out, unread.",)
    return Demonstrations(found, notes=notes)


def _names(path: Path) -> set[str] | None:
    """The arrays of an archive, or ``None`` for a path that is none."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        if file.read(2) != b"PK" and path.suffix != ".npz":
            return None
    with _opened(path) as archive:
        return set(archive.files)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The archive. The file is opened here, because NumPy leaves it open where it finds no archive in it."""
    with path.open("rb") as file, parsing(path, "an npz archive"), np.load(file, allow_pickle=False) as archive:
        yield archive


def _arrays(path: Path, names: set[str]) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    with _opened(path) as archive:
        for name in sorted(names):
            try:
                array = archive[name]
            except ValueError as error:
                if "allow_pickle" not in str(error):
                    raise
                raise RequestError(
                    f"{path}: {name} holds pickled Python objects, which could run code when read; "
                    "store plain numbers in it."
                ) from error
            if not isinstance(array, np.ndarray):
                raise RequestError(f"{path}: {name} is not an array; an npz holds nothing else.")
            arrays[name] = read_only(array)
    return arrays


def _expect_rows(array: np.ndarray | None, rows: int, path: Path, field: str) -> None:
    if array is not None and (array.ndim == 0 or len(array) != rows):
        got = len(array) if array.ndim else 0
        raise RequestError(
            f"{path}: {field} have {got} rows where the episode lengths ask for {rows}; the two must agree."
        )


def _episode(obs, actions, rewards, span: slice, terminated: bool) -> Episode:
    return Episode(
        read_only(obs),
        None if actions is None else actions[span],
        None if rewards is None else rewards[span],
        terminated,
        span.stop - span.start,
    )


def _meta(array: np.ndarray | None) -> tuple[dict[str, Any], tuple[str, ...]]:
    if array is None:
        return {}, ()
    try:
        meta = json.loads(str(array[()]))
    except (ValueError, RecursionError):
        meta = None
    if isinstance(meta, dict):
        return meta, ()
    return {}, ("Its meta is not a JSON object and was left out.",)


def _env_id(meta: dict[str, Any]) -> str | None:
    found = _ENV_ID.search(str(meta.get("env", "")))
    return found.group() if found else None
