"""HDF5 files, opened so that they lead to no other file; and two layouts of them: D4RL's and robomimic's."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from menura.core import RequestError
from menura.demonstrations.episodes import Demonstrations, Episode
from menura.demonstrations.readers.common import flags, need, one_column, parsing, read_only, rows_of, without_clock
from menura.demonstrations.spaces import encoded, is_picture


class Hdf5:
    """Groups and arrays of one open file. Arrays that lie there plainly are memory-mapped, the others are read."""

    def __init__(self, path: Path, root: Any):
        """Inside :func:`open_hdf5` only."""
        self.path = path
        self._root = root
        self._bytes = np.memmap(path, np.uint8, mode="r")

    def kind(self, name: str) -> str | None:
        """``group`` or ``array``; ``None`` where there is nothing of that name. Links to other files are refused."""
        h5py = need("h5py", self.path)
        node = self._root
        with parsing(self.path, "HDF5"):
            for part in name.split("/"):
                if not isinstance(node, h5py.Group):
                    return None
                # Asked of the link itself: the usual ways look through it first.
                links, name_bytes = node.id.links, part.encode()
                if not links.exists(name_bytes):
                    return None
                if links.get_info(name_bytes).type != h5py.h5l.TYPE_HARD:
                    raise RequestError(
                        f"{self.path}: {name} is a link to elsewhere, which is not followed; store the data itself."
                    )
                node = node[part]
            return "group" if isinstance(node, h5py.Group) else "array" if isinstance(node, h5py.Dataset) else None

    def names(self, group: str) -> list[str]:
        """What a group holds."""
        with parsing(self.path, "HDF5"):
            return sorted(self._root[group].keys()) if self.kind(group) == "group" else []

    def count(self, name: str, key: str) -> int | None:
        """A whole number among the attributes, or ``None``.

        Text is never read: HDF5's own library can crash on texts of variable length in a damaged file.
        """
        with parsing(self.path, "HDF5"):
            attributes = self._root[name].attrs
            if key not in attributes:
                return None
            found = attributes.get_id(key)
            return int(attributes[key]) if found.dtype.kind in "iu" and found.shape == () else None

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of an array, without reading it."""
        with parsing(self.path, "HDF5"):
            return tuple(self._root[name].shape or ())

    def dtype(self, name: str) -> str:
        """The kind of an array's numbers, without reading it."""
        with parsing(self.path, "HDF5"):
            return str(self._root[name].dtype)

    def array(self, name: str, *, where: str | None = None) -> np.ndarray:
        """An array of numbers that must be there."""
        if self.kind(name) != "array":
            raise RequestError(
                f"{where or self.path}: there is no array {name.rpartition('/')[2]}; write the file again with it."
            )
        with parsing(self.path, "HDF5"):
            dataset = self._root[name]
            if dataset.is_virtual or dataset.external:
                raise RequestError(
                    f"{self.path}: {name} lies in another file, which is not followed; store the data itself."
                )
            if dataset.dtype.kind not in "fiub":
                raise RequestError(f"{self.path}: {name} holds {dataset.dtype}, not numbers; store floats or integers.")
            if dataset.shape is None:
                raise RequestError(f"{self.path}: {name} is empty; store one row a step.")
            offset = None if dataset.chunks or self._root.file.userblock_size else dataset.id.get_offset()
            if offset is None:
                return read_only(np.asarray(dataset[()]))
            # One map for the file: one each would run out of file handles.
            return np.ndarray(dataset.shape, dataset.dtype, buffer=self._bytes, offset=offset)


@contextmanager
def open_hdf5(path: Path) -> Iterator[Hdf5 | None]:
    """An HDF5 file, or ``None`` for a path that is none."""
    if not _is_hdf5(path):
        yield None
        return
    h5py = need("h5py", path)
    with parsing(path, "HDF5"):
        file = h5py.File(path, "r")
    try:
        yield Hdf5(path, file)
    finally:
        file.close()


def read_d4rl(path: Path) -> Demonstrations | None:
    """Flat arrays over all episodes, cut where ``terminals`` or ``timeouts`` is set.

    Without ``next_observations`` the last observation of an episode is not known.
    """
    with open_hdf5(path) as file:
        if file is None or file.kind("observations") != "array":
            return None
        obs, actions = file.array("observations"), file.array("actions")
        rewards = one_column(file.array("rewards"))
        total = rows_of(obs, path=path, field="observations")
        terminals = flags(file.array("terminals"), total, path=path, field="terminals")
        timeouts: np.ndarray | None = None
        next_obs: np.ndarray | None = None
        if file.kind("timeouts"):
            timeouts = flags(file.array("timeouts"), total, path=path, field="timeouts")
        if file.kind("next_observations"):
            next_obs = file.array("next_observations")
    if total == 0:
        raise RequestError(f"{path} holds no steps; give it at least one episode.")
    for field, array in (("actions", actions), ("rewards", rewards), ("next_observations", next_obs)):
        if array is not None and (array.ndim == 0 or len(array) != total):
            raise RequestError(
                f"{path}: {field} have shape {array.shape} and there are {total} observations; both need as many rows."
            )
    if next_obs is not None and next_obs.shape != obs.shape:
        raise RequestError(
            f"{path}: next_observations have shape {next_obs.shape} and observations {obs.shape}; they must be alike."
        )
    ended = terminals if timeouts is None else terminals | timeouts
    ends = [int(i) + 1 for i in np.flatnonzero(ended)]
    if not ends or ends[-1] != total:
        ends.append(total)
    episodes = []
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        rows = obs[start:end]
        if next_obs is not None:
            rows = read_only(np.concatenate([rows, next_obs[end - 1 : end]]))
        episodes.append(Episode(rows, actions[start:end], rewards[start:end], bool(terminals[end - 1]), end - start))
    if timeouts is not None:
        return Demonstrations(tuple(episodes))
    found, notes = without_clock(episodes)
    return Demonstrations(found, notes=notes)


def read_robomimic(path: Path) -> Demonstrations | None:
    """A group ``data`` with ``demo_0``, ``demo_1``, …, whose ``obs`` is a group of named arrays.

    The vectors and pictures of bytes among them are put side by side, in alphabetical order.
    ``dones`` marks success, so an episode whose last one is set has terminated.
    """
    with open_hdf5(path) as file:
        if file is None or file.kind("data") != "group":
            return None
        names = [name for name in file.names("data") if file.kind(f"data/{name}") == "group"]
        names.sort(key=lambda name: (len(name), name))
        if not names:
            raise RequestError(f"{path}: the group data holds no demonstrations; it needs demo_0, demo_1 and so on.")
        spaces, left_out = _robomimic_spaces(file, names[0])
        episodes = tuple(_robomimic_episode(file, name, spaces, f"{path}, episode {i}") for i, name in enumerate(names))
        notes = [f"Observations are {', '.join(spaces)}, side by side."]
        if left_out:
            notes.append(f"Arrays that are neither vectors nor pictures of bytes were left out: {', '.join(left_out)}.")
        if file.names("mask"):
            notes.append(
                f"Its filter keys ({', '.join(file.names('mask'))}) are not applied: every demonstration is read."
            )
    has_pictures = any(map(is_picture, spaces.values()))
    metadata = {"observation_space": {"type": "Dict", "subspaces": spaces}} if has_pictures else {}
    return Demonstrations(episodes, notes=tuple(notes), metadata=metadata)


def _robomimic_spaces(file: Hdf5, name: str) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """The vectors and pictures of an observation as Minari writes spaces, and what else there is."""
    spaces, left_out = {}, []
    for key in file.names(f"data/{name}/obs"):
        array = f"data/{name}/obs/{key}"
        rows, *shape = (file.shape(array) if file.kind(array) == "array" else ()) or (0,)
        dtype = file.dtype(array) if rows else ""
        if len(shape) == 1 or (dtype == "uint8" and len(shape) in (2, 3)):
            spaces[key] = {"type": "Box", "dtype": dtype if len(shape) > 1 else "float32", "shape": shape}
        else:
            left_out.append(key)
    if not spaces:
        raise RequestError(
            f"{file.path}, episode 0: obs holds neither vectors nor pictures of bytes; "
            "write them with robomimic's dataset_states_to_obs."
        )
    return spaces, left_out


def _robomimic_episode(file: Hdf5, name: str, spaces: dict[str, dict[str, Any]], where: str) -> Episode:
    group = f"data/{name}"
    actions = file.array(f"{group}/actions", where=where)
    steps = rows_of(actions, path=Path(where), field="actions")
    said = file.count(group, "num_samples")
    if said is not None and said != steps:
        raise RequestError(f"{where}: num_samples is {said} and actions have {steps} rows; the two must agree.")
    rewards = one_column(file.array(f"{group}/rewards", where=where)) if file.kind(f"{group}/rewards") else None
    dones = flags(file.array(f"{group}/dones", where=where), steps, path=Path(where), field="dones")
    obs = _side_by_side(file, f"{group}/obs", spaces, where)
    if all(file.kind(f"{group}/next_obs/{key}") for key in spaces):
        next_obs = _side_by_side(file, f"{group}/next_obs", spaces, where)
        if next_obs.shape != obs.shape:
            raise RequestError(
                f"{where}: next_obs have shape {next_obs.shape} and obs {obs.shape}; they must be alike."
            )
        obs = np.concatenate([obs, next_obs[-1:]])
    return Episode(read_only(obs), actions, rewards, bool(dones[-1]) if steps else False, steps)


def _side_by_side(file: Hdf5, group: str, spaces: dict[str, dict[str, Any]], where: str) -> np.ndarray:
    arrays = {key: file.array(f"{group}/{key}", where=where) for key in spaces}
    shapes, of = {key: array.shape for key, array in arrays.items()}, f"the arrays of {group.rpartition('/')[2]}"
    has_pictures, rows = any(map(is_picture, spaces.values())), len(next(iter(arrays.values())))
    if any(len(array) != rows or (array.ndim != 2 and not has_pictures) for array in arrays.values()):
        raise RequestError(f"{where}: {of} differ in rows ({shapes}); each needs one a step.")
    # Bytes side by side are taken apart again by the shapes of the first episode.
    for key, space in spaces.items() if has_pictures else ():
        is_bytes = arrays[key].dtype == np.uint8
        if shapes[key][1:] != tuple(space["shape"]) or is_bytes != is_picture(space):
            raise RequestError(f"{where}: {of} have other shapes ({shapes}) or numbers than in episode 0; mend {key}.")
    if has_pictures:
        return encoded(lambda path: arrays[path[0]], {"type": "Dict", "subspaces": spaces})
    return next(iter(arrays.values())) if len(arrays) == 1 else np.concatenate(list(arrays.values()), axis=1)


def _is_hdf5(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(8) == b"\x89HDF\r\n\x1a\n"
