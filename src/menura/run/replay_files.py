"""A replay on the host in a run folder: in chunks that are appended, so that no checkpoint holds it whole."""

import shutil
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from menura.core import RequestError
from menura.frame_replay import FrameReplay
from menura.run.artifacts import load_arrays, save_arrays

FOLDER, STANDING = "replay", "replay.safetensors"


class ReplayFiles:
    """The chunks of a run, named by the transitions of each copy that they hold: ``<first>-<end>.safetensors``."""

    def __init__(self, run: Path):
        self.folder = run / FOLDER

    def append(self, source: FrameReplay, checkpoint: Path) -> None:
        """What the newest chunk does not hold yet, and in the checkpoint's folder how far it all goes."""
        chunks = self._chunks()
        first = max(chunks[-1][1] if chunks else 0, int(source.oldest.min()))
        if first < source.count:
            self.folder.mkdir(exist_ok=True)
            arrays = source.chunk(first)
            # Pictures of games shrink to a tenth at the level that costs least time.
            arrays["slabs"] = np.frombuffer(zlib.compress(arrays["slabs"].tobytes(), 1), np.uint8)
            save_arrays(self.folder / f"{first}-{source.count}.safetensors", arrays)
        save_arrays(checkpoint / STANDING, source.standing())

    def forget_before(self, oldest: int) -> None:
        """Remove chunks whose transitions are all written over."""
        for _, end, path in self._chunks():
            if end <= oldest:
                path.unlink()

    def restore(self, source: FrameReplay, checkpoint: Path) -> None:
        """Fill a replay with what it held at a checkpoint; chunks that were written later are removed."""
        standing = load_arrays(checkpoint / STANDING)
        reached = int(standing["oldest"].min())
        for first, end, path in self._chunks():
            if end > int(standing["count"]):
                path.unlink()
                continue
            if first > reached:
                break
            reached = max(reached, end)
            arrays = load_arrays(path)
            slabs = np.frombuffer(zlib.decompress(arrays["slabs"].tobytes()), np.uint8)
            source.add_chunk(arrays | {"slabs": slabs})
        if reached < int(standing["count"]):
            raise RequestError(f"{self.folder} lacks transitions from {reached} on: put its files back.")
        source.stand_at(standing)

    def remove(self) -> None:
        """All of them, once the run is finished."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _chunks(self) -> list[tuple[int, int, Path]]:
        found: list[Any] = []
        for path in self.folder.glob("*-*.safetensors"):
            first, end = map(int, path.stem.split("-"))
            found.append((first, end, path))
        return sorted(found)
