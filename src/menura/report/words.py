"""A run in plain words, and its configuration without what others need not know."""

import json
import math
import re
from collections.abc import Sequence
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from menura.report.proxies import proxies_in_words
from menura.report.runs import Run
from menura.report.tables import format_count, format_percent, format_return, format_seconds

_PRIVATE = {"host", "hostname", "user", "username", "node", "cwd", "path", "python_executable", "executable", "prefix"}
_ABSOLUTE_PATH = re.compile(r"(?<![\w.:/])(?:~|/[\w.+-]+|[A-Za-z]:[\\/])[^\s'\",;:]*[\\/][^\s'\",;:]*")

_METHODS = {
    "bc": "Behavioral cloning: it learns to predict the expert's action from the expert's observation.",
    "dagger": "Cloning of an expert that is asked: the learner acts, the expert says what it would have done in each "
    "state, and the learner is trained to predict all of its answers.",
    "gail": "Adversarial imitation: a score learns to tell the expert's steps from the learner's, and the learner is "
    "trained until its steps score like the expert's.",
    "airl": "Adversarial inverse reinforcement learning: a score made of a reward, a potential and the policy's own "
    "log-probability tells the expert's steps from the learner's, so that a reward is left in the end.",
    "sqil": "Imitation by soft Q-learning from replay: the expert's steps are worth 1, the learner's own 0.",
    "lsiq": "Imitation by soft Q-learning from replay: the expert's steps have the highest values there are, the "
    "learner's own the lowest reward.",
    "trpo": "Reinforcement learning on the environment's own reward, by trust-region policy optimization.",
    "ppo": "Reinforcement learning on the environment's own reward, by proximal policy optimization.",
    "sac": "Reinforcement learning on the environment's own reward, by soft actor-critic from replay.",
    "dqn": "Reinforcement learning on the environment's own reward, by deep Q-learning from replay.",
}


def headline(runs: Sequence[Run]) -> str:
    """What a page of these runs is called."""
    envs = list(dict.fromkeys(run.env for run in runs))
    names = list(dict.fromkeys(run.name for run in runs))
    return f"{_listed(names)} on {_listed(envs)}"


def describe(run: Run) -> str:
    """One paragraph: what the run is, what it learned from, and how it ended."""
    return " ".join(part for part in (_what(run), _data(run), _end(run), proxies_in_words(run), *run.notes) if part)


def _what(run: Run) -> str:
    text = _METHODS.get(run.algorithm.lower(), f"{run.name}.")
    copies, backend = run.config.get("num_envs"), run.config.get("backend")
    if isinstance(copies, int) and copies > 0 and run.interacts:
        text += f" It acted in {copies} {'copy' if copies == 1 else 'copies'} of the environment"
        text += f" ({backend})." if backend and backend != "auto" else "."
    return text


def _data(run: Run) -> str:
    demos = run.config.get("demos")
    if not isinstance(demos, dict):
        return "It used no demonstrations."
    episodes = demos.get("num_demos")
    count = "all episodes" if episodes is None else f"{episodes} episode{'' if episodes == 1 else 's'}"
    every = demos.get("subsample") or 1
    kept = "" if every == 1 else f", keeping every {_ordinal(every)} step"
    source = f" of {without_paths(str(demos['path']).rstrip('/'))}" if demos.get("path") else ""
    return f"It learned from {count}{source}{kept}."


def _end(run: Run) -> str:
    steps = (
        f"{format_count(run.env_steps)} environment steps" if run.interacts and not math.isnan(run.env_steps) else ""
    )
    time = format_seconds(run.seconds) if not math.isnan(run.seconds) else ""
    spent = " in ".join(part for part in (steps, time) if part)
    if run.finished:
        opening = f"It finished after {spent}." if spent else "It finished."
        if run.result.get("converged") is True:
            opening += " It stopped by itself, because it had converged."
    else:
        opening = "It has no result: it is still going, or broke off" + (f" after {spent}." if spent else ".")
    if math.isnan(run.mean_return):
        return f"{opening} It was not evaluated{'' if run.finished else ' so far'}."
    over = f" over {run.episodes:.0f} episodes" if not math.isnan(run.episodes) else ""
    whose = "final policy" if run.finished else "policy at the last evaluation"
    text = f"{opening} The {whose} has a mean return of {format_return(run.mean_return, run.ci95)}{over}"
    others = [
        f"{name} {format_return(value)}"
        for name, value in (("the expert", run.expert_return), ("the uniform random policy", run.random_return))
        if not math.isnan(value)
    ]
    text += f" ({', '.join(others)})" if others else ""
    return text + (
        f": {format_percent(run.normalized)} of the way from random to expert."
        if not math.isnan(run.normalized)
        else "."
    )


def configuration(run: Run) -> str:
    """The resolved configuration as indented JSON, with the last part of each absolute path only."""
    return json.dumps(_public(run.config), indent=2, ensure_ascii=False, default=str)


def command(run: Run) -> str:
    """The command line, with the last part of each absolute path only."""
    return without_paths(run.command)


def provenance(run: Run) -> list[tuple[str, str]]:
    """Versions, commit and data hash; neither the host nor its folders."""
    return [(name, str(value)) for name, value in _flat(_public(run.meta))]


def without_paths(text: str) -> str:
    """The text with every absolute path cut down to its last part."""
    return _ABSOLUTE_PATH.sub(lambda match: _last_part(match.group()), text)


def _last_part(path: str) -> str:
    kind = PureWindowsPath if "\\" in path else PurePosixPath
    return kind(path).name or path


def _public(value: Any) -> Any:
    if isinstance(value, dict):
        # The path of the demonstrations is kept, as the name of a file.
        return {
            name: _public(inner) for name, inner in value.items() if name == "path" or str(name).lower() not in _PRIVATE
        }
    if isinstance(value, list | tuple):
        return [_public(inner) for inner in value]
    return without_paths(value) if isinstance(value, str) else value


def _flat(value: dict[str, Any], prefix: str = ""):
    for name, inner in value.items():
        if isinstance(inner, dict):
            yield from _flat(inner, f"{prefix}{name} ")
        elif inner not in (None, "", []):
            yield f"{prefix}{name}", inner


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _ordinal(n: int) -> str:
    ending = "th" if 10 <= n % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{ending}"
