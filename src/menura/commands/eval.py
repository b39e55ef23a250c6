"""``menura eval RUN``: play whole episodes with a trained policy."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from menura.commands.arguments import parse, print_json
from menura.core import RequestError


@dataclass(frozen=True)
class EvalOptions:
    """Play whole episodes with a trained policy and compare them with the expert's."""

    run: tyro.conf.Positional[Path]
    """The run's folder."""
    episodes: int = 50
    """How many to play."""
    checkpoint: str = "last"
    """last, best, or a number of steps."""
    stochastic: bool = False
    """Sample actions instead of taking the mean one."""
    seed: int = 1
    """Decides how the episodes begin."""
    json: bool = False
    """Print one JSON object and nothing else."""


def main(arguments: Sequence[str]) -> None:
    """Evaluate a run."""
    options = parse(EvalOptions, arguments, program="menura eval", description=EvalOptions.__doc__ or "")
    if options.episodes < 1:
        raise RequestError("--episodes must be at least 1.")
    from menura.run.launch import evaluate_run

    result = evaluate_run(
        options.run,
        episodes=options.episodes,
        checkpoint=options.checkpoint,
        deterministic=not options.stochastic,
        seed=options.seed,
    )
    if options.json:
        print_json(result)
        return
    print(
        f"{result['algorithm']} on {result['env']}, step {result['checkpoint']:,}: return "
        f"{result['mean_return']:.1f} ± {result['std_return']:.1f} "
        f"(95% interval of the mean ± {result['ci95']:.1f}, {result['episodes']} episodes, "
        f"mean length {result['mean_length']:.0f})"
    )
    print(f"expert {result['expert_return']:.1f} · random {result['random_return']:.1f} · ", end="")
    print(f"normalized {result['normalized']:.3f} (0 is random, 1 is the expert)")
    if "crash_rate" in result:
        rate, low, high = (100 * result[name] for name in ("crash_rate", "crash_rate_low", "crash_rate_high"))
        speed = f", at {result['mean_speed']:.1f} m/s on average" if "mean_speed" in result else ""
        print(f"crashed in {rate:.1f}% of the episodes (95% interval {low:.1f} to {high:.1f}){speed}")
