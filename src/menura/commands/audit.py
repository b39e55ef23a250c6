"""``menura audit ENV``: what an environment gives to rewards that know nothing of the expert."""

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from menura.commands.arguments import parse, print_json
from menura.commands.progress import ProgressBar
from menura.commands.train import env_kwargs_of
from menura.core import RequestError
from menura.environments.registry import Backend, make
from menura.imitation.score import RewardForm
from menura.run.artifacts import write_json
from menura.run.audit import LABELS, audit
from menura.run.presets import find_preset, forward_of, learner_of, usual_env_kwargs
from menura.run.registry import HOLDS, replaced
from menura.run.request import Request
from menura.run.train import Watcher


@dataclass(frozen=True)
class AuditOptions:
    """Train on constant rewards, and on shuffled demonstrations, to see what an environment's returns can show.

    Settings are those of GAIL's preset for the environment and the forward learner.
    """

    env: tyro.conf.Positional[str]
    """The environment's id, or `package:Id`."""
    demos: Path | None = None
    """Demonstrations, in any readable format; none are needed."""
    num_demos: int | None = None
    """Use this many episodes of them, from the first on."""
    subsample: int = 1
    """Keep every so-many-th step of each episode, from a random offset."""
    forward: str = HOLDS["gail"][0]
    """The forward learner (`menura train gail --help` lists them)."""
    regularizer: str | None = None
    """The cost regularizer of GAIL (`menura list regularizers`); jensen_shannon if not given."""
    reward_form: RewardForm | None = None
    """What GAIL pays for a score; the preset's if not given."""
    observations_only: bool = False
    """GAIL scores pairs of observations instead of actions; none are shuffled then."""
    total_steps: int | None = None
    """Environment steps of each training; the preset's if not given."""
    num_envs: int | None = None
    """Copies of the environment that act at once; the preset's if not given."""
    seed: int = 0
    """Decides everything random."""
    seeds: str | None = None
    """Several seeds, first and last: 0..4. In place of --seed."""
    episodes: int = 50
    """Episodes that each final policy plays, by its mean action."""
    backend: Backend = "auto"
    """What simulates."""
    env_kwargs: Annotated[tuple[str, ...], tyro.conf.arg(metavar="K=V...")] = ()
    """Settings of the environment."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"], metavar="FILE")] = None
    """Write the result there too, as JSON."""
    json: bool = False
    """Print one JSON object and nothing else."""


def main(arguments: Sequence[str]) -> None:
    """Audit an environment."""
    options = parse(AuditOptions, arguments, program="menura audit", description=AuditOptions.__doc__ or "")
    request, seeds = _request(options), _seeds(options)

    @contextmanager
    def watch(arm: str, seed: int) -> Iterator[Watcher]:
        with ProgressBar(request.total_steps, title=f"{LABELS[arm]}, seed {seed}") as bar:
            yield bar

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    result = audit(request, seeds=seeds, episodes=options.episodes, watch=watch, say=say)
    if options.output is not None:
        write_json(options.output, result)
    if options.json:
        print_json(result)
        return
    _show(result)


def _request(options: AuditOptions) -> Request:
    """The request for GAIL that an audit takes apart; refuses what cannot be meant."""
    for name, least in (("episodes", 2), ("subsample", 1), ("total_steps", 1), ("num_envs", 1), ("num_demos", 1)):
        value = getattr(options, name)
        if value is not None and value < least:
            raise RequestError(f"--{name.replace('_', '-')} must be at least {least}.")
    if options.demos is None and (options.num_demos is not None or options.subsample != 1):
        raise RequestError("--num-demos and --subsample choose among demonstrations: give some with --demos PATH.")
    of_gail = {"regularizer": options.regularizer, "reward_form": options.reward_form}
    for name, value in {**of_gail, "observations_only": options.observations_only or None}.items():
        if options.demos is None and value is not None:
            option = f"--{name.replace('_', '-')}"
            raise RequestError(
                f"{option} is about GAIL, which learns from demonstrations: give some with --demos PATH."
            )
    if options.output is not None and options.output.is_dir():
        raise RequestError(f"{options.output} is a folder: name a file for --output.")
    forward, env_kwargs = forward_of("gail", options.forward), env_kwargs_of(list(options.env_kwargs))
    spec = make(options.env, backend=options.backend, env_kwargs=env_kwargs).spec
    preset = find_preset("gail", forward, options.env, spec)
    env_kwargs = usual_env_kwargs(preset, options.env) | env_kwargs
    learner = learner_of(preset, regularizer=options.regularizer)
    if options.reward_form is not None:
        learner = replaced(learner, {"reward_form": options.reward_form})
    if options.observations_only:
        learner = replaced(learner, {"observations_only": True, "bc_updates": 0})
    return Request(
        learner,
        options.env,
        backend=options.backend,
        env_kwargs=env_kwargs,
        demos=options.demos,
        num_demos=options.num_demos,
        subsample=options.subsample,
        total_steps=options.total_steps or preset.total_steps,
        num_envs=options.num_envs or preset.num_envs,
        preset=preset.name,
    )


def _seeds(options: AuditOptions) -> range:
    if options.seeds is None:
        return range(options.seed, options.seed + 1)
    found = re.fullmatch(r"(\d+)\.\.(\d+)", options.seeds)
    if found is None or int(found[2]) < int(found[1]):
        raise RequestError(f"--seeds takes the first and the last, as in 0..4, not {options.seeds!r}.")
    if options.seed != 0:
        raise RequestError("Give --seed or --seeds, not both.")
    return range(int(found[1]), int(found[2]) + 1)


def _show(result: dict[str, Any]) -> None:
    """The table, the findings, and the verdict with its rule."""
    from rich.console import Console

    from menura.report.tables import MISSING, Table, format_percent, format_return, to_rich

    def row(label: str, return_: float, returns: Sequence[float], length: float, early: float, share: float) -> Any:
        several = f"{format_return(min(returns))} to {format_return(max(returns))}" if len(returns) > 1 else MISSING
        return (label, format_return(return_), several, f"{length:.0f}", format_percent(early), format_percent(share))

    chance = (result["random_length"], result["random_ended_early"])
    rows = [row("a random policy", result["random_return"], (), *chance, 0 * abs(result["reference_return"]))]
    for arm in result["arms"].values():
        numbers = ("mean_return", "returns", "mean_length", "ended_early", "normalized")
        rows.append(row(arm["trained_on"], *(arm[name] for name in numbers)))
    if result["reference"] == "the expert":
        rows.append(
            ("the expert", format_return(result["expert_return"]), MISSING, MISSING, MISSING, format_percent(1.0))
        )
    title = f"{result['env']}, {result['forward']}, {result['total_steps']:,} steps, 100% is {result['reference']}"
    header = ("trained on", "return", "over seeds", "length", "ended early", "normalized")
    console = Console()
    console.print(to_rich(Table(title, header, tuple(rows), (False, *[True] * 5))))
    for sentence in result["findings"]:
        console.print(f"- {sentence}", highlight=False)
    console.print(f"\nVerdict: {result['verdict']}.", highlight=False)
    console.print(f"The rule: {result['rule']}.", highlight=False)
