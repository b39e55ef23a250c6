"""``menura reward plot|compare``: what a run learned to pay, looked at and measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from menura.commands.arguments import print_json, run_subcommand
from menura.core import RequestError
from menura.imitation.reward import Part
from menura.imitation.score import RewardForm


@dataclass(frozen=True)
class PlotOptions:
    """Draw the reward that a run learned: maps over the states, and along episodes of expert and learner."""

    run: tyro.conf.Positional[Path]
    """The folder of a run of gail or airl, of one trained with --reward, or a reward's own."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="FILE")] = Path("reward.png")
    """The .png file to write."""
    checkpoint: str = "last"
    """Which reward and policy: last, best, or a number of steps."""
    part: Part | None = None
    """Of airl's reward: g alone (reward), or f, which has the potential too (shaped)."""
    form: RewardForm | None = None
    """The form in which scores are paid; logit for the scores themselves. As in the run if not given."""
    demos: Path | None = None
    """The expert's episodes, where they are no longer where the run read them."""
    seed: int = 0
    """Seed of the learner's episodes."""
    dark: bool = False
    """Draw on dark ground."""


@dataclass(frozen=True)
class CompareOptions:
    """Measure how far two rewards are apart, whatever the dynamics: the EPIC distance, from 0 to 1."""

    a: tyro.conf.Positional[str]
    """The folder of a run, or of a reward; or `env`, the environment's own reward."""
    b: tyro.conf.Positional[str]
    """The same."""
    demos: Path | None = None
    """Demonstrations to compare on; by default those of the first run."""
    part: Part | None = None
    """Of airl's rewards: g alone (reward), or f, which has the potential too (shaped)."""
    form: RewardForm | None = None
    """The form in which scores are paid; logit for the scores themselves. As in each run if not given."""
    num_transitions: int = 2048
    """Transitions to compare on, half of them the demonstrations' and half a uniform policy's."""
    num_pairs: int = 512
    """States and actions, drawn independently, over which means are taken."""
    gamma: float | None = None
    """Discount of the shaping that makes no difference. That of the first run's learner if not given."""
    seed: int = 0
    """Decides what is drawn."""
    json: bool = False
    """Print one JSON object and nothing else."""


def main(arguments: Sequence[str]) -> None:
    """Draw or compare."""
    subcommands: dict[str, Any] = {"plot": (PlotOptions, plot), "compare": (CompareOptions, compare)}
    run_subcommand(subcommands, arguments, program="menura reward", about="Look at the rewards that runs learned.")


def plot(options: PlotOptions) -> None:
    """Write the picture and say where it is."""
    from menura.report.files import write_atomically
    from menura.run.reward_picture import picture_of_run

    if options.output.suffix.lower() != ".png":
        raise RequestError(f"{options.output} must end in .png.")
    figure = picture_of_run(
        options.run,
        checkpoint=options.checkpoint,
        part=options.part,
        form=options.form,
        demos=options.demos,
        seed=options.seed,
    )
    write_atomically(options.output, figure.dark if options.dark else figure.light)
    print(f"{options.output}: {figure.caption}")


def compare(options: CompareOptions) -> None:
    """Print the distance."""
    from menura.run.reward_distance import compare_rewards

    if options.gamma is not None and not 0 <= options.gamma <= 1:
        raise RequestError(f"--gamma must lie between 0 and 1, not at {options.gamma:g}.")
    result = compare_rewards(
        options.a,
        options.b,
        part=options.part,
        form=options.form,
        demos=options.demos,
        num_transitions=options.num_transitions,
        num_pairs=options.num_pairs,
        gamma=options.gamma,
        seed=options.seed,
    )
    if options.json:
        print_json(result)
        return
    low, high = result["ci95"]
    counts = " and ".join(f"{count} of {name}" for name, count in result["coverage"].items() if count)
    print(f"EPIC distance {result['epic']:.4f} (95%: {low:.4f} to {high:.4f}), γ = {result['gamma']:g}")
    print(f"on {counts.replace('of uniform', 'of a uniform')}, in {result['env']}")
    print("0: the same best policies under all dynamics; 0.71: unrelated; 1: opposed.")
    if result["note"]:
        print(result["note"])
