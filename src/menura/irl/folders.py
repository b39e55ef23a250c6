"""Folders of results that are replaced as a whole, or not at all."""

import contextlib
import os
import shutil
import uuid
from collections.abc import Collection, Iterator
from pathlib import Path

from menura.core import RequestError


def check_folder(folder: str | Path, mark: str) -> None:
    """Refuse a folder that cannot be written, or that holds other things than an earlier result.

    An earlier result is known by its file ``mark``. Whatever else was put beside that stays.
    """
    target = Path(folder).resolve()
    if any(place.exists() and not place.is_dir() for place in (target, *target.parents)):
        raise RequestError(f"--out {folder} cannot be a folder, because a file is in the way; choose another.")
    if not target.exists():
        return
    if target == Path.cwd().resolve():
        raise RequestError(f"--out {folder} is the folder you are in, which is not replaced; name one inside it.")
    others = sorted(place.name for place in target.iterdir())
    if others and mark not in others:
        raise RequestError(
            f"--out {folder} holds other files ({others[0]}) and no {mark}, so it is not replaced; choose another."
        )


@contextlib.contextmanager
def replace_folder(folder: str | Path, mark: str, own: Collection[str] = ()) -> Iterator[Path]:
    """A new folder beside ``folder`` to write into; it takes that place at the end, or goes if anything fails.

    Other files of the old folder are kept, except those whose names are the result's ``own``.
    """
    check_folder(folder, mark)
    target = Path(folder).resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.parent / f".{target.name}.{uuid.uuid4().hex[:8]}.tmp"
    beside.mkdir()
    try:
        yield beside
        if not target.is_dir():
            os.replace(beside, target)
            return
        # A folder cannot be replaced in one step, so the old one steps aside first.
        aside = beside.with_suffix(".old")
        os.replace(target, aside)
        try:
            os.replace(beside, target)
        except BaseException:
            os.replace(aside, target)
            raise
        for place in aside.iterdir():
            if place.name not in own and not (target / place.name).exists():
                os.replace(place, target / place.name)
        shutil.rmtree(aside, ignore_errors=True)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
