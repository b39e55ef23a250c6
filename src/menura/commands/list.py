"""``menura list``: what there is to choose from."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import tyro

from menura.commands.arguments import parse, print_json


@dataclass(frozen=True)
class ListOptions:
    """List algorithms, environments, presets, regularizers or runs."""

    what: tyro.conf.Positional[Literal["algorithms", "envs", "presets", "regularizers", "runs"]]
    """What to list."""
    out: Path = Path("runs")
    """Where run folders are looked for."""
    json: bool = False
    """Print one JSON object and nothing else."""


def main(arguments: Sequence[str]) -> None:
    """List things."""
    options = parse(ListOptions, arguments, program="menura list", description=ListOptions.__doc__ or "")
    entries = {
        "algorithms": _algorithms,
        "envs": _envs,
        "presets": _presets,
        "regularizers": _regularizers,
        "runs": lambda: _runs(options.out),
    }[options.what]()
    if options.json:
        print_json({options.what: entries})
        return
    if not entries:
        print(f"No {options.what} here.", file=sys.stderr)
    for name, about in entries.items():
        print(f"{name:28} {_line(about)}")


def _line(about: dict[str, Any]) -> str:
    return " · ".join(f"{key} {value}" if key != "about" else str(value) for key, value in about.items())


def _first_line(thing: Any) -> str:
    return (thing.__doc__ or "").strip().split("\n")[0]


def _algorithms() -> dict[str, dict[str, Any]]:
    from menura.run.registry import ALGORITHMS, IMITATION

    return {
        name: {
            "about": _first_line(cls),
            "learns_from": "an expert" if name == "dagger" else "demonstrations" if name in IMITATION else "reward",
            "fields": ", ".join(field.name for field in fields(cls)),
        }
        for name, cls in ALGORITHMS.items()
    }


def _envs() -> dict[str, dict[str, Any]]:
    from menura.environments.registry import list_envs

    return {env_id: {"about": ", ".join(backends)} for env_id, backends in list_envs().items()}


def _presets() -> dict[str, dict[str, Any]]:
    from menura.run.presets import PRESETS

    return {
        preset.name: {
            "total_steps": preset.total_steps,
            "num_envs": preset.num_envs,
            **preset.fields,
            **preset.env_kwargs,
        }
        for preset in PRESETS
    }


def _regularizers() -> dict[str, dict[str, Any]]:
    from menura.run.registry import REGULARIZERS

    return {
        name: {
            "about": _first_line(cls),
            "scores": cls.class_of_scores,
            "loss": cls.loss_formula,
            "reward": cls.reward_formula,
            "minimises": cls.divergence,
        }
        for name, cls in REGULARIZERS.items()
    }


def _runs(out: Path) -> dict[str, dict[str, Any]]:
    from menura.run.artifacts import read_json

    runs: dict[str, dict[str, Any]] = {}
    for config_path in sorted(out.rglob("config.json")):
        folder = config_path.parent
        config = read_json(config_path)
        about = {"algorithm": config.get("algorithm"), "env": config.get("env"), "seed": config.get("seed")}
        result = read_json(folder / "result.json") if (folder / "result.json").exists() else None
        about["mean_return"] = None if result is None else result.get("mean_return")
        about["state"] = "unfinished" if result is None else "finished"
        runs[str(folder)] = about
    return runs
