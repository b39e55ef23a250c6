"""Which runs are seeds of one experiment, and what to call it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from menura.report.runs import Run

_NOT_THE_EXPERIMENT = {"seed", "seeds", "out", "resume", "logger", "print_config", "name", "command"}


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed only."""

    label: str
    runs: tuple[Run, ...]


def group_by_env(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Runs by environment, in the order in which the environments first appear."""
    grouped: dict[str, list[Run]] = {}
    for run in runs:
        grouped.setdefault(run.env, []).append(run)
    return grouped


def group_seeds(runs: Sequence[Run]) -> list[Group]:
    """Runs of one environment, those that differ in the seed only together.

    A group is called by its algorithm. Where two groups share that name, the settings in which they differ are added.
    """
    by_config: dict[str, list[Run]] = {}
    for run in runs:
        key = json.dumps([run.algorithm, _settings(run)], sort_keys=True, default=str)
        by_config.setdefault(key, []).append(run)
    members = list(by_config.values())
    names = [group[0].name for group in members]
    labels = []
    for group, name in zip(members, names, strict=True):
        rivals = [_settings(other[0]) for other, same in zip(members, names, strict=True) if same == name]
        labels.append(name + _difference(_settings(group[0]), rivals))
    return [Group(label, tuple(group)) for label, group in zip(labels, members, strict=True)]


def without_repeats(runs: Sequence[Run]) -> tuple[list[Run], int]:
    """Each run once, the newest of those with the same settings and seed; and how many were left out.

    The same run twice is no second seed: it would only make intervals narrower.
    """
    newest: dict[str, Run] = {}
    for run in sorted(runs, key=lambda run: run.path.name):
        own = {name: value for name, value in run.config.items() if name not in _NOT_THE_EXPERIMENT - {"seed"}}
        key = json.dumps([run.env, run.algorithm, run.seed, own], sort_keys=True, default=str)
        # Of a run whose settings cannot be read nobody knows whether they are another's.
        newest[key if run.config and run.seed is not None else str(run.path)] = run
    kept = {run.path for run in newest.values()}
    return [run for run in runs if run.path in kept], len(runs) - len(kept)


def _settings(run: Run) -> dict[str, Any]:
    settings = {name: value for name, value in run.config.items() if name not in _NOT_THE_EXPERIMENT}
    # Seeds that begin with a policy, or are paid a learned reward, have one of their own each: of a reward only the
    # folder of its runs tells experiments apart.
    settings["warm_start"] = settings.get("warm_start") is not None
    if settings.get("reward") is not None:
        settings["reward"] = settings["reward"] | {"path": str(Path(settings["reward"]["path"]).parent)}
    return dict(_flat("", settings))


def _flat(prefix: str, value: Any):
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _flat(f"{prefix}.{name}" if prefix else name, inner)
    else:
        yield prefix, value


def _difference(own: dict[str, Any], rivals: Sequence[dict[str, Any]], *, at_most: int = 2) -> str:
    names = sorted({name for settings in rivals for name in settings})
    differing = [name for name in names if any(settings.get(name) != own.get(name) for settings in rivals)]
    shown = [f"{name.rsplit('.', 1)[-1]} {_short(own.get(name))}" for name in differing[:at_most]]
    return f", {', '.join(shown)}" if shown else ""


def _short(value: Any) -> str:
    text = str(value).rstrip("/").rsplit("/", 1)[-1]
    return text if len(text) <= 24 else text[:23] + "…"
