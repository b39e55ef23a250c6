"""The results as tables: one row a run, and one row an experiment over its seeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table as RichTable

from menura.report.groups import group_by_env, group_seeds
from menura.report.runs import Run
from menura.report.statistics import interquartile_mean, mean_interval, stratified_bootstrap

MISSING = "–"


@dataclass(frozen=True)
class Table:
    """A table of strings, for the terminal and for a page alike."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[bool, ...]
    """Which columns hold numbers, and are set flush right."""

    def css(self, column: int) -> str:
        """Classes of a column's cells in a page: ``n`` for numbers, ``same`` where a phone can do without it."""
        same = self.header[column] == "environment" and len({row[column] for row in self.rows}) == 1
        return " ".join(name for name, wanted in (("n", self.numeric[column]), ("same", same)) if wanted)


def results_table(runs: Sequence[Run]) -> Table:
    """Every run: what it is, how far it got, and the return of its final policy."""
    rows = tuple(
        (
            run.name,
            run.env,
            MISSING if run.seed is None else str(run.seed),
            format_count(run.env_steps) if run.interacts else MISSING,
            format_return(run.mean_return, run.ci95),
            format_percent(run.normalized),
            format_seconds(run.seconds),
        )
        for run in runs
    )
    header = ("algorithm", "environment", "seed", "steps", "return ± 95% CI", "normalized", "time")
    return Table("Results", header, rows, (False, False, True, True, True, True, True))


def seeds_table(runs: Sequence[Run]) -> Table | None:
    """Experiments of several finished seeds: mean and interquartile mean over them; ``None`` if there are none."""
    rows = []
    for env, members in group_by_env(runs).items():
        for group in group_seeds(members):
            finished = [run for run in group.runs if run.finished and not math.isnan(run.mean_return)]
            if len(finished) < 2:
                continue
            returns = np.array([run.mean_return for run in finished])
            normalized = np.array([run.normalized for run in finished])
            interval = stratified_bootstrap([returns])
            rows.append(
                (
                    group.label,
                    env,
                    str(len(finished)),
                    format_return(*mean_interval(returns)),
                    format_return(interquartile_mean(returns)),
                    f"{format_return(interval[0])} to {format_return(interval[1])}",
                    format_percent(float(np.mean(normalized))),
                )
            )
    if not rows:
        return None
    header = ("algorithm", "environment", "seeds", "mean ± 95% CI", "middle half", "its 95% interval", "normalized")
    return Table("Over seeds", header, tuple(rows), (False, False, True, True, True, True, True))


def to_rich(table: Table) -> RichTable:
    """The table for a terminal."""
    rich_table = RichTable(title=table.title, title_justify="left", box=SIMPLE_HEAD)
    for name, numeric in zip(table.header, table.numeric, strict=True):
        rich_table.add_column(name, justify="right" if numeric else "left")
    for row in table.rows:
        rich_table.add_row(*row)
    return rich_table


def format_return(value: float, half_width: float = math.nan) -> str:
    """A return, and its interval where there is one: as many decimals as its size asks for."""
    if not math.isfinite(value):
        return MISSING
    decimals = 0 if abs(value) >= 1000 else 1 if abs(value) >= 10 else 2
    text = f"{value:.{decimals}f}"
    return f"{text} ± {half_width:.{decimals}f}" if math.isfinite(half_width) else text


def format_percent(fraction: float) -> str:
    """A fraction as a percentage."""
    return f"{100 * fraction:.1f} %" if math.isfinite(fraction) else MISSING


def format_count(value: float) -> str:
    """A number of steps: 950, 200 k, 1.25 M."""
    if not math.isfinite(value):
        return MISSING
    for limit, divisor, unit in ((1e6, 1e6, " M"), (1e3, 1e3, " k")):
        if abs(value) >= limit:
            return f"{value / divisor:.3g}{unit}"
    return f"{value:.0f}"


def format_seconds(seconds: float) -> str:
    """A duration: 8.2 s, 61 s, 4 min 05 s, 2 h 10 min."""
    if not math.isfinite(seconds):
        return MISSING
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 120:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
