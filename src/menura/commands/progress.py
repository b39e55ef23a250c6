"""A progress bar for training; plain lines where there is no terminal."""

import sys
from math import isfinite, nan
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from menura.evaluation import Evaluation
from menura.imitation.rules import columns_of, red_flags
from menura.run.memory import available_bytes, in_words
from menura.run.train import Progress as Standing
from menura.run.train import Watcher, reading_of

SHOWN = {
    "episode/return": "return",
    "score/expert": "score of expert",
    "score/learner": "learner",
    "loss/heldout": "held-out loss",
    "expert/disagreement": "disagreement",
}
"""The metrics that the bar shows, and their names there."""

PROXIES = {
    "proxy/mmd": "MMD²",
    "proxy/mmd_expert": "expert's own",
    "proxy/told_apart": "told apart",
    "proxy/score_heldout": "held-out score",
    "proxy/heldout_loss": "held-out loss",
    "proxy/saturation": "saturated",
    "proxy/moved": "moved (nats)",
}
"""What the line of an evaluation shows beside the return."""

WORTH_SAYING = 100_000_000
"""Bytes of a replay from which on its memory is said."""


class ProgressBar(Watcher):
    """Return, scores of expert and learner, and steps a second, on stderr while training goes on."""

    def __init__(self, total_steps: int, *, title: str):
        self._console = Console(stderr=True)
        self._total = total_steps
        self._title = title
        self._live = self._console.is_terminal
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[shown]}"),
            console=self._console,
            disable=not self._live,
        )
        self._task: Any = None
        self._last: dict[str, float] = {}
        self._flags: set[tuple[str, str]] = set()

    def __enter__(self) -> "ProgressBar":
        self._bar.start()
        self._task = self._bar.add_task(self._title, total=self._total, shown="compiling")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        self._bar.stop()

    def on_memory(self, num_bytes: int) -> None:
        """A line where it is worth one."""
        if num_bytes >= WORTH_SAYING:
            available = available_bytes()
            free = "" if available is None else f" of {in_words(available)} that are free"
            self.say(f"{self._title} · the replay takes up to {in_words(num_bytes)} of memory{free}")

    def on_update(self, progress: Standing, metrics: dict[str, float]) -> None:
        """Move the bar."""
        self._last |= {name: value for name, value in metrics.items() if value == value}
        self._bar.update(self._task, completed=min(progress.env_steps, self._total), shown=self._shown(progress))

    def on_evaluation(self, progress: Standing, evaluation: Evaluation, of: str = "") -> None:
        """A line that stays, and one for every new red flag; ``of`` says of which of several runs."""
        title = f"{self._title}, {of}" if of else self._title
        reading = reading_of(progress)
        parts = [f"{label} {reading[name]:.3g}" for name, label in PROXIES.items() if isfinite(reading.get(name, nan))]
        if not self._live:
            parts.append(self._shown(progress))
        self.say(" · ".join([f"{title} · {progress.env_steps:,} steps · evaluation {evaluation}", *parts]))
        for flag in red_flags(columns_of(progress.readings)) if reading else ():
            if (of, flag.name) not in self._flags:
                self.say(f"  red flag{f', {of}' if of else ''}: {flag.says} {flag.knob}")
            self._flags.add((of, flag.name))

    def say(self, line: str) -> None:
        """A line that stays."""
        if self._live:
            self._bar.console.print(line, highlight=False, markup=False)
        else:
            print(line, file=sys.stderr, flush=True)

    def _shown(self, progress: Standing) -> str:
        parts = [f"{label} {self._last[name]:.4g}" for name, label in SHOWN.items() if name in self._last]
        if progress.seconds > 0:
            parts.append(f"{progress.timed_steps / progress.seconds:,.0f} steps/s")
        return " · ".join(parts)
