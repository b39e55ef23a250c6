"""The folder that imitation saves with Hugging Face's ``datasets``, read with pyarrow alone."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from menura.core import RequestError
from menura.demonstrations.episodes import Demonstrations, Episode
from menura.demonstrations.readers.arrow import open_table, to_numpy
from menura.demonstrations.readers.common import read_json, without_clock


def read(path: Path) -> Demonstrations | None:
    """One row a trajectory: ``obs`` (T+1), ``acts`` (T), ``terminal``, and perhaps ``rews`` and ``infos``.

    ``infos`` are jsonpickle's text, and decoding that can run code. Only the last one of an episode is
    looked at, as plain JSON, for the time limit that Gymnasium's older wrappers record there.
    """
    if not (path.is_dir() and (path / "state.json").is_file() and (path / "dataset_info.json").is_file()):
        return None
    episodes: list[Episode] = []
    told = True
    for name in _data_files(path):
        table = open_table(path / name, "stream")
        missing = [column for column in ("obs", "acts", "terminal") if column not in table.column_names]
        if missing:
            raise RequestError(
                f"{path / name} has no {' and no '.join(missing)}; imitation saves one row a trajectory with these."
            )
        for batch in table.to_batches():
            for row in range(batch.num_rows):
                episode, cut = _episode(batch, row, f"{path}, episode {len(episodes)}")
                told = told and cut is not None
                episodes.append(episode)
    if told:
        return Demonstrations(tuple(episodes))
    found, notes = without_clock(episodes)
    return Demonstrations(found, notes=notes)


def _data_files(path: Path) -> list[str]:
    listed: Any = read_json(path / "state.json").get("_data_files")
    try:
        names = [entry["filename"] for entry in listed]
        plain = all(Path(name).name == name for name in names)
    except (TypeError, KeyError) as error:
        raise RequestError(f"{path / 'state.json'} does not list its _data_files; save the dataset again.") from error
    if not plain or not names:
        raise RequestError(
            f"{path / 'state.json'}: _data_files must name files of this folder; save the dataset again."
        )
    return names


def _episode(batch: Any, row: int, where: str) -> tuple[Episode, bool | None]:
    """The trajectory in one row, and whether the clock cut it (``None`` where that is not told)."""
    import pyarrow as pa

    def array(field: str) -> np.ndarray:
        column = batch.column(field)
        if not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)) or not column[row].is_valid:
            raise RequestError(
                f"{where}: {field} is not a list with one row a step; save the dataset again with imitation."
            )
        return to_numpy(column[row].values, where=where, field=field)

    actions = array("acts")
    terminal = batch.column("terminal")[row].as_py()
    if not isinstance(terminal, bool):
        raise RequestError(
            f"{where}: terminal is {terminal!r}, not true or false; save the dataset again with imitation."
        )
    rewards = array("rews") if "rews" in batch.schema.names else None
    cut = _cut_by_clock(batch.column("infos")[row]) if "infos" in batch.schema.names else None
    return Episode(array("obs"), actions, rewards, terminal and cut is not True, len(actions)), cut


def _cut_by_clock(infos: Any) -> bool | None:
    try:
        last = json.loads(infos.values[-1].as_py())
        cut = last.get("TimeLimit.truncated")
    except (AttributeError, IndexError, TypeError, ValueError, RecursionError):
        return None
    return cut if isinstance(cut, bool) else None
