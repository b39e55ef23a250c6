"""``menura train … --seeds A..B``: several seeds of one run, and what they come to."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from menura.commands.compare import print_comparison
from menura.commands.progress import ProgressBar
from menura.core import RequestError
from menura.evaluation import Evaluation
from menura.run.request import Request
from menura.run.sweep import launch_seeds
from menura.run.train import Progress, Watcher


class SeedWatcher(Watcher):
    """Tells a bar for all seeds of one of them: the first moves it, and evaluations name their seed."""

    def __init__(self, bar: ProgressBar, seed: int, *, moves: bool):
        self._bar = bar
        self._seed = seed
        self._moves = moves

    def on_update(self, progress: Progress, metrics: dict[str, float]) -> None:
        """Move the bar, where this is the seed that does."""
        if self._moves:
            self._bar.on_update(progress, metrics)

    def on_evaluation(self, progress: Progress, evaluation: Evaluation) -> None:
        """A line that stays."""
        self._bar.on_evaluation(progress, evaluation, of=f"seed {self._seed}")


def check_seeds(options: Any, arguments: Sequence[str]) -> None:
    """Refuse options of one run beside those of several."""
    if any(argument == "--seed" or argument.startswith("--seed=") for argument in arguments):
        raise RequestError("Give --seed or --seeds, not both.")
    if options.print_config:
        raise RequestError("--print-config shows one run: give it --seed instead of --seeds.")
    if options.jobs is not None and options.jobs < 1:
        raise RequestError("--jobs must be at least 1.")


def train_seeds(request: Request, seeds: Sequence[int], *, out: Path, loggers: Sequence[str], jobs: int | None) -> None:
    """Train all seeds; print what ``menura compare`` says of them, and then their folders, one a line."""
    title = f"{request.algorithm} {request.env or request.demos}, {len(seeds)} seeds"
    with ProgressBar(request.total_steps, title=title) as bar:
        runs = launch_seeds(
            request,
            seeds,
            out=out,
            loggers=loggers,
            watcher_of=lambda seed: SeedWatcher(bar, seed, moves=seed == seeds[0]),
            say=bar.say,
            jobs=jobs,
        )
    if request.env is not None:
        print_comparison(runs)
    for run in runs:
        print(run)
