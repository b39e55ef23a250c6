"""LeRobot's dataset folders, version 3, read with pyarrow alone."""

from pathlib import Path
from typing import Any

import numpy as np

from menura.core import RequestError
from menura.demonstrations.episodes import Demonstrations, Episode
from menura.demonstrations.readers.arrow import open_table, to_numpy
from menura.demonstrations.readers.common import flags, one_column, read_json, read_only, split_rows


def read(path: Path) -> Demonstrations | None:
    """``meta/info.json`` and ``data/chunk-*/file-*.parquet`` with one row a frame.

    The vectors among the ``observation`` features are put side by side, ``observation.state`` first; images
    and videos are left out. No frame holds what came after the last action.
    """
    if not (path / "meta" / "info.json").is_file():
        return None
    info = read_json(path / "meta" / "info.json")
    version = str(info.get("codebase_version"))
    if not version.startswith("v3"):
        raise RequestError(
            f"{path} is a LeRobot dataset of version {version}; convert it to v3.0 with lerobot's own script first."
        )
    keys, left_out = _observation_keys(info.get("features"), path)
    frames = _frames(path, keys)
    obs = np.concatenate([f.reshape(len(f), -1) for f in (frames[key] for key in keys)], axis=1)
    spans = _episodes(frames["episode_index"], info, path)
    done = frames.get("next.done")
    done = None if done is None else flags(done, len(obs), path=path, field="next.done")
    rewards = one_column(frames.get("next.reward"))
    episodes = tuple(
        Episode(
            read_only(obs[span]),
            frames["action"][span],
            None if rewards is None else rewards[span],
            False if done is None else bool(done[span][-1]),
            span.stop - span.start,
        )
        for span in spans
    )
    notes = [] if keys == ["observation.state"] else [f"Observations are {', '.join(keys)}, side by side."]
    if left_out:
        notes.append(f"Images and other features were left out: {', '.join(left_out)}.")
    if done is None:
        notes.append("It has no next.done, so every episode counts as cut short and loses its last frame.")
    kept = {key: info[key] for key in ("robot_type", "fps") if info.get(key) is not None}
    return Demonstrations(episodes, metadata=kept, notes=tuple(notes))


def _observation_keys(features: Any, path: Path) -> tuple[list[str], list[str]]:
    if not isinstance(features, dict) or not all(isinstance(f, dict) for f in features.values()):
        raise RequestError(
            f"{path / 'meta' / 'info.json'}: features do not say what the columns are; write the dataset again."
        )
    if "action" not in features:
        raise RequestError(f"{path} has no feature named action, so there is nothing to imitate in it.")
    keys, left_out = [], []
    for name in sorted(name for name in features if name.startswith("observation")):
        kind, shape = str(features[name].get("dtype")), features[name].get("shape")
        is_vector = kind.startswith(("float", "int", "uint")) and isinstance(shape, list) and len(shape) == 1
        (keys if is_vector else left_out).append(name)
    if not keys:
        raise RequestError(
            f"{path} has no observation feature that is a vector; only those can be learned from, not images."
        )
    return sorted(keys, key=lambda name: name != "observation.state"), left_out


def _frames(path: Path, keys: list[str]) -> dict[str, np.ndarray]:
    files = sorted((path / "data").glob("chunk-*/file-*.parquet"))
    if not files:
        raise RequestError(f"{path} has no data/chunk-*/file-*.parquet; copy the dataset again.")
    tables = [(file, open_table(file, "parquet")) for file in files]
    frames = {}
    for name in (*keys, "action", "episode_index", "next.reward", "next.done"):
        missing = [str(file) for file, table in tables if name not in table.column_names]
        if missing and name.startswith("next."):
            continue
        if missing:
            raise RequestError(f"{missing[0]} has no column {name}; copy the dataset again.")
        parts = [to_numpy(table.column(name), where=str(file), field=name) for file, table in tables]
        if any(part.shape[1:] != parts[0].shape[1:] for part in parts):
            raise RequestError(f"{path}: {name} differs in shape between the files of data; copy the dataset again.")
        frames[name] = parts[0] if len(parts) == 1 else read_only(np.concatenate(parts))
    return frames


def _episodes(index: np.ndarray, info: dict[str, Any], path: Path) -> list[slice]:
    if index.ndim != 1 or len(index) == 0 or np.any(np.diff(index) < 0):
        raise RequestError(f"{path}: episode_index must rise from frame to frame; copy the dataset again.")
    found, lengths = np.unique(index, return_counts=True)
    for name, got in (("total_episodes", len(found)), ("total_frames", len(index))):
        if info.get(name) is not None and info[name] != got:
            raise RequestError(f"{path}: {name} is {info[name]!r} and the data hold {got}; copy the dataset again.")
    return split_rows(lengths, len(index), path=path, field="episode_index")
