"""``load``: read demonstrations of any known format, without running anything that a file may hold.

A reader is one function, ``read(path) -> Demonstrations | None``, and one line in ``READERS``. It returns
``None`` where the path is plainly of another format.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from menura.core import RequestError
from menura.demonstrations.episodes import Demonstrations
from menura.demonstrations.readers import hdf5, huggingface, lerobot, minari, npz

READERS: dict[str, Callable[[Path], Demonstrations | None]] = {
    "npz of episodes": npz.read_episodes,
    "imitation npz": npz.read_imitation,
    "Minari": minari.read,
    "imitation folder": huggingface.read,
    "LeRobot": lerobot.read,
    "D4RL": hdf5.read_d4rl,
    "robomimic": hdf5.read_robomimic,
}
"""What each format is called, and how it is read."""

_FOREIGN = {
    b"\x93NUMPY": "is a single array, which does not say where episodes begin or which numbers are actions; "
    "save an npz with observations, actions, rewards, episode_lengths and terminated instead",
    b"\x80": "looks like a pickle, and unpickling a file runs the code in it, so it is not opened; "
    "save the episodes as npz or Minari instead",
}


def load(path: str | os.PathLike, *, check: bool = True) -> Demonstrations:
    """Read demonstrations from a file, a folder, or the id of a local Minari dataset.

    The format is recognised by its content. Arrays are read-only, and stay on disk where the format
    stores them plainly. ``check = False`` spares the one pass over all numbers.
    """
    found = locate(path)
    for name, read in READERS.items():
        demos = read(found)
        if demos is None:
            continue
        demos = replace(demos, source=str(path), metadata={**demos.metadata, "format": name})
        if check:
            demos.check()
        mean = float(np.mean(demos.returns)) if len(demos) else float("nan")
        return replace(demos, expert_return=mean)
    raise RequestError(f"{path} {_what_it_is(found)}.")


def locate(path: str | os.PathLike) -> Path:
    """The path itself, or where Minari keeps the dataset with that id."""
    as_given = Path(path).expanduser()
    root = Path(os.environ.get("MINARI_DATASETS_PATH") or Path.home() / ".minari" / "datasets")
    for candidate in (as_given, root / as_given):
        if candidate.exists():
            return candidate
    raise RequestError(
        f"No demonstrations at {path}: there is no such file or folder, and no Minari dataset of that name in {root}."
    )


def _what_it_is(path: Path) -> str:
    known = ", ".join(READERS)
    if path.is_dir():
        return f"is a folder that none of the known formats has written ({known})"
    with path.open("rb") as file:
        head = file.read(8)
    for magic, sentence in _FOREIGN.items():
        if head.startswith(magic):
            return sentence
    return f"is not in a format that can be read ({known}); convert it to one of those"
