"""Run folders as read back for people. A run that still goes, or broke off, has files missing: that is no error."""

import csv
import io
import json
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from menura.core import RequestError

_ACRONYMS = {"bc", "gail", "airl", "trpo", "ppo", "sac", "dqn", "sqil", "fem", "gtal", "dac"}
_NAMES = {"dagger": "DAgger", "lsiq": "LS-IQ", "gaifo": "GAIfO", "fairl": "FAIRL"}


@dataclass(frozen=True)
class Run:
    """One run folder. Missing files leave their field empty; ``notes`` says what could not be read."""

    path: Path
    config: dict[str, Any] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)
    """Empty until the run has ended."""
    metrics: dict[str, np.ndarray] = field(default_factory=dict)
    """Columns of ``metrics.csv``, all of one length; nan where a cell is empty."""
    evaluations: dict[str, np.ndarray] = field(default_factory=dict)
    """Columns of ``evaluations.csv``."""
    command: str = ""
    notes: tuple[str, ...] = ()

    @property
    def env(self) -> str:
        """The environment's id; a data set's run without an environment has the name of its folder."""
        return str(self.config.get("env") or self.result.get("env") or self.path.parent.parent.name)

    @property
    def algorithm(self) -> str:
        """The algorithm as the command line spells it."""
        return str(self.config.get("algorithm") or self.result.get("algorithm") or self.path.parent.name)

    @property
    def name(self) -> str:
        """The algorithm as people write it, with the forward solver of an imitation learner."""
        forward = (self.config.get("learner") or {}).get("forward")
        kind = forward.get("type") if isinstance(forward, dict) else forward
        own = algorithm_name(self.algorithm) + (" on a learned reward" if self.config.get("reward") else "")
        return f"{own} ({algorithm_name(str(kind))})" if kind else own

    @property
    def seed(self) -> int | None:
        """The seed, if it is known."""
        seed = self.config.get("seed", self.result.get("seed"))
        return int(seed) if isinstance(seed, int) else None

    @property
    def interacts(self) -> bool:
        """Whether it learns by acting in the environment; cloning counts the expert's steps instead."""
        return self.algorithm.lower() != "bc"

    @property
    def finished(self) -> bool:
        """Whether the run came to its end and wrote its result."""
        return bool(self.result)

    @property
    def mean_return(self) -> float:
        """Mean return of the final policy, or of the last evaluation so far; nan before the first."""
        return self._final("mean_return")

    @property
    def ci95(self) -> float:
        """Half the width of the 95% confidence interval of :attr:`mean_return`."""
        return self._final("ci95")

    @property
    def episodes(self) -> float:
        """Over how many episodes the mean was taken."""
        return self._final("episodes")

    @property
    def expert_return(self) -> float:
        """The expert's mean return; nan if unknown."""
        return number(self.result.get("expert_return", self.config.get("expert_return")))

    @property
    def random_return(self) -> float:
        """The uniform policy's mean return; nan until the run has ended."""
        return number(self.result.get("random_return"))

    @property
    def normalized(self) -> float:
        """(mean − random) / (expert − random); nan where one of them is unknown."""
        if "normalized" in self.result:
            return number(self.result["normalized"])
        span = self.expert_return - self.random_return
        return (self.mean_return - self.random_return) / span if span else math.nan

    @property
    def env_steps(self) -> float:
        """Environment steps taken so far; nan if unknown."""
        if "env_steps" in self.result:
            return number(self.result["env_steps"])
        seen = [table["env_steps"][-1] for table in (self.metrics, self.evaluations) if len(table.get("env_steps", ()))]
        return float(np.nanmax(seen)) if seen and not np.all(np.isnan(seen)) else math.nan

    @property
    def seconds(self) -> float:
        """Wall-clock seconds so far; nan if unknown."""
        if "wall_seconds" in self.result:
            return number(self.result["wall_seconds"])
        column = self.metrics.get("seconds", np.empty(0))
        return float(column[-1]) if len(column) else math.nan

    def _final(self, name: str) -> float:
        if self.result:
            return number(self.result.get(name))
        column = self.evaluations.get(name, np.empty(0))
        return float(column[-1]) if len(column) else math.nan


def algorithm_name(name: str) -> str:
    """``gail`` as GAIL, ``dagger`` as DAgger; other names are left as they are."""
    key = name.lower()
    return _NAMES.get(key, name.upper() if key in _ACRONYMS else name)


def number(value: Any) -> float:
    """A JSON value as a number; nan for anything that is none."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


def is_run_folder(path: Path) -> bool:
    """Whether a folder is the folder of one run."""
    return (path / "config.json").is_file() or (path / "metrics.csv").is_file()


def find_runs(paths: Iterable[Path]) -> list[Path]:
    """Run folders among ``paths``, and those below the folders that are none themselves; each once, in order."""
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if not path.is_dir():
            raise RequestError(f"{path} is not a folder; name a run folder, or a folder with runs below it.")
        below = [path] if is_run_folder(path) else list(_runs_below(path))
        if not below:
            raise RequestError(
                f"{path} holds no run (no config.json below it); name a run folder such as `runs/ENV/ALGO/TIME-s0`."
            )
        found.update(dict.fromkeys(below))
    return list(found)


def _runs_below(root: Path) -> Iterable[Path]:
    for folder, subfolders, _ in os.walk(root):
        subfolders.sort()
        if is_run_folder(Path(folder)):
            subfolders.clear()
            yield Path(folder)


def read_run(path: Path) -> Run:
    """A run folder as it is now, whatever of it is there."""
    path = Path(path)
    if not path.is_dir():
        raise RequestError(f"{path} is not a folder; name a run folder.")
    notes: list[str] = []
    return Run(
        path=path.resolve(),
        config=_read_json(path / "config.json", notes),
        meta=_read_json(path / "meta.json", notes),
        result=_read_json(path / "result.json", notes),
        metrics=_read_columns(path / "metrics.csv", notes),
        evaluations=_read_columns(path / "evaluations.csv", notes),
        command=_read_text(path / "command.txt").strip(),
        notes=tuple(notes),
    )


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _read_json(path: Path, notes: list[str]) -> dict[str, Any]:
    text = _read_text(path)
    if not text:
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        notes.append(f"{path.name} could not be read.")
        return {}
    return value


def _read_columns(path: Path, notes: list[str]) -> dict[str, np.ndarray]:
    """A CSV of numbers by column. A last line without its line end is still being written, and is left out."""
    text = _read_text(path)
    whole = text[: text.rfind("\n") + 1]
    rows = [row for row in csv.reader(io.StringIO(whole)) if row]
    if not rows:
        return {}
    header, *body = rows
    fitting = [row for row in body if len(row) == len(header)]
    if len(fitting) < len(body):
        notes.append(f"{len(body) - len(fitting)} lines of {path.name} do not fit its header and were left out.")
    values = np.array([[_cell(cell) for cell in row] for row in fitting], np.float64).reshape(-1, len(header))
    return {name: values[:, i] for i, name in enumerate(header)}


def _cell(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
