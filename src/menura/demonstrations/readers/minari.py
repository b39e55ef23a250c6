"""Minari's dataset folders, in its three data formats, read without the package."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from menura.core import RequestError
from menura.demonstrations.episodes import Demonstrations, Episode
from menura.demonstrations.readers.arrow import open_table, to_numpy
from menura.demonstrations.readers.common import flags, need, one_column, parsing, read_json, read_only, rows_of
from menura.demonstrations.readers.hdf5 import Hdf5, open_hdf5
from menura.demonstrations.spaces import encoded, is_picture, leaves_of, require_readable

_KEPT_METADATA = (
    "dataset_id", "algorithm_name", "description", "author", "code_permalink", "minari_version", "env_spec", "env_id",
)  # fmt: skip


def read(path: Path) -> Demonstrations | None:
    """``data/metadata.json`` beside one HDF5 file, or beside a folder of Arrow or Parquet an episode."""
    folder = (
        next((f for f in (path / "data", path) if (f / "metadata.json").is_file()), None) if path.is_dir() else None
    )
    if folder is None:
        return None
    metadata = read_json(folder / "metadata.json")
    data_format, count = metadata.get("data_format", "hdf5"), metadata.get("total_episodes")
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise RequestError(
            f"{folder / 'metadata.json'}: total_episodes is {count!r}; a dataset needs at least one episode."
        )
    obs_space = _space(metadata.get("observation_space"), "observation_space", path)
    action_space = _space(metadata.get("action_space"), "action_space", path)
    if metadata.get("jpeg_encoding") and any(map(is_picture, (leaf for _, leaf in leaves_of(obs_space)))):
        raise RequestError(
            f"{path} holds JPEG pictures, which have lost pixels: write it again with jpeg_encoding=False."
        )
    starts = (obs_space.get("start", 0), action_space.get("start", 0))
    if data_format == "hdf5":
        episodes = _read_hdf5(folder, count, starts, obs_space)
    elif data_format in ("arrow", "parquet"):
        episodes = _read_tables(folder, count, starts, obs_space, data_format)
    else:
        raise RequestError(
            f"{folder / 'metadata.json'}: data_format is {data_format!r}; hdf5, arrow and parquet can be read."
        )
    _check_total(metadata.get("total_steps"), episodes, folder)
    kept = {key: metadata[key] for key in _KEPT_METADATA if metadata.get(key)}
    for key, space in (("observation_space", obs_space), ("action_space", action_space)):
        if space:
            kept[key] = {**space, "start": 0} if "start" in space else space
    return Demonstrations(episodes, env_id=_env_id(metadata), metadata=kept)


def _read_hdf5(folder: Path, count: int, starts: tuple[int, int], obs_space: dict[str, Any]) -> tuple[Episode, ...]:
    main = folder / "main_data.hdf5"
    need("h5py", main)
    with open_hdf5(main) as file:
        if file is None:
            raise RequestError(f"{main} is missing or not HDF5; copy the dataset again.")
        return tuple(_hdf5_episode(file, i, starts, obs_space, f"{folder}, episode {i}") for i in range(count))


def _hdf5_episode(file: Hdf5, index: int, starts: tuple[int, int], obs_space: dict[str, Any], where: str) -> Episode:
    group = f"episode_{index}"
    if file.kind(group) != "group":
        raise RequestError(
            f"{where} is missing from main_data.hdf5, though total_episodes counts it; copy the dataset again."
        )
    columns = {name: file.array(f"{group}/{name}", where=where) for name in _COLUMNS[1:]}
    columns["observations"] = encoded(
        lambda path: file.array("/".join((group, "observations", *path)), where=where), obs_space
    )
    return _episode(columns, starts, where)


def _read_tables(
    folder: Path, count: int, starts: tuple[int, int], obs_space: dict[str, Any], data_format: str
) -> tuple[Episode, ...]:
    episodes = []
    for index in range(count):
        where = f"{folder}, episode {index}"
        parts = sorted((folder / str(index)).glob(f"*.{data_format}"))
        if not parts:
            raise RequestError(f"{where} is missing, though total_episodes counts it; copy the dataset again.")
        tables = [open_table(part, "file" if data_format == "arrow" else "parquet") for part in parts]
        columns = {}
        for name in _COLUMNS:
            if any(name not in table.column_names for table in tables):
                raise RequestError(f"{where}: there is no column {name}; copy the dataset again.")
            space = obs_space if name == "observations" else {}
            arrays = [encoded(_reading(table.column(name), where, name), space) for table in tables]
            columns[name] = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
        # Every column but the observations is padded with a row that means nothing.
        columns = {name: array if name == "observations" else array[:-1] for name, array in columns.items()}
        if is_picture(obs_space):
            columns["observations"] = columns["observations"].reshape(-1, *obs_space["shape"])
        episodes.append(_episode(columns, starts, where))
    return tuple(episodes)


def _reading(column: Any, where: str, field: str) -> Any:
    """How to read what lies at a path within a table's column."""

    def read(path: tuple[str, ...]) -> np.ndarray:
        values = column.combine_chunks() if path else column
        for key in path:
            with parsing(Path(where), "Arrow structs"):
                values = values.field(key.removeprefix("_index_"))
        return to_numpy(values, where=where, field="/".join((field, *path)))

    return read


def _episode(columns: dict[str, np.ndarray], starts: tuple[int, int], where: str) -> Episode:
    steps = rows_of(columns["actions"], path=Path(where), field="actions")
    endings = [flags(columns[name], steps, path=Path(where), field=name) for name in ("terminations", "truncations")]
    obs, actions = (
        _from_zero(columns[name], start) for name, start in zip(("observations", "actions"), starts, strict=True)
    )
    terminated = bool(endings[0][-1]) if steps else False
    return Episode(obs, actions, one_column(columns["rewards"]), terminated, steps)


def _from_zero(array: np.ndarray, start: int) -> np.ndarray:
    """Gymnasium's Discrete spaces may begin anywhere; ours begin at 0."""
    return read_only(array.astype(np.int64) - start) if start and array.dtype.kind in "iu" else array


def _space(text: Any, name: str, path: Path) -> dict[str, Any]:
    """A space as Minari writes it, in JSON; empty where it wrote none."""
    if text is None:
        return {}
    try:
        space = json.loads(text)
        start = space.get("start", 0)
        # What Minari never writes fails here.
        _ = [(leaf["type"], tuple(leaf.get("shape", ()))) for _, leaf in leaves_of(space)]
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
        raise RequestError(
            f"{path}: {name} in metadata.json is not a space that Minari writes; copy the dataset again."
        ) from error
    if not isinstance(start, int) or abs(start) >= 2**31:
        raise RequestError(f"{path}: {name} in metadata.json starts at {start!r}, which is no whole number of 32 bits.")
    require_readable(space, where=f"{path}: {name}")
    return space


def _check_total(total: Any, episodes: tuple[Episode, ...], folder: Path) -> None:
    steps = sum(episode.num_steps for episode in episodes)
    if total is not None and total != steps:
        raise RequestError(
            f"{folder / 'metadata.json'}: total_steps is {total!r} and the episodes hold {steps}; "
            "copy the dataset again."
        )


def _env_id(metadata: dict[str, Any]) -> str | None:
    try:
        name = json.loads(metadata["env_spec"])["id"]
    except (TypeError, ValueError, KeyError, RecursionError):
        name = metadata.get("env_id")
    return name if isinstance(name, str) else None


_COLUMNS = ("observations", "actions", "rewards", "terminations", "truncations")
