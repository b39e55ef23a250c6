"""Experiments over their seeds and environments (Agarwal et al. 2021, "Deep RL at the edge of the precipice")."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from menura.core import RequestError
from menura.report.groups import group_by_env, group_seeds, without_repeats
from menura.report.runs import Run
from menura.report.statistics import (
    improvement_interval,
    interquartile_mean,
    probability_of_improvement,
    stratified_bootstrap,
)
from menura.report.tables import Table, format_percent, format_return


@dataclass(frozen=True)
class Estimate:
    """A number with its 95% interval; the interval is nan where one run says nothing of it."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Entry:
    """One experiment on one environment: runs that differ in their seed only."""

    env: str
    label: str
    seeds: tuple[int | None, ...]
    returns: tuple[float, ...]
    normalized: tuple[float, ...]

    @property
    def mean_return(self) -> Estimate:
        """Interquartile mean of the returns."""
        return middle([self.returns])

    @property
    def score(self) -> Estimate:
        """Interquartile mean of the normalized scores."""
        return middle([self.normalized])


@dataclass(frozen=True)
class Overall:
    """One experiment over all the environments it was run on, by its normalized scores."""

    label: str
    envs: tuple[str, ...]
    num_runs: int
    score: Estimate


@dataclass(frozen=True)
class Improvement:
    """How likely a run of ``better`` is to have a higher return than one of ``worse``, on average over environments."""

    better: str
    worse: str
    envs: tuple[str, ...]
    probability: Estimate


@dataclass(frozen=True)
class Comparison:
    """Everything that ``menura compare`` says."""

    entries: tuple[Entry, ...]
    overall: tuple[Overall, ...]
    """Empty for a single environment."""
    improvements: tuple[Improvement, ...]
    num_repeats: int = 0
    """Runs that were left out, because a newer one has the same settings and seed."""

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return {
            "experiments": [
                {
                    "env": entry.env,
                    "experiment": entry.label,
                    "seeds": list(entry.seeds),
                    "returns": list(entry.returns),
                    "return": asdict(entry.mean_return),
                    "normalized": asdict(entry.score),
                }
                for entry in self.entries
            ],
            "over_environments": [asdict(overall) for overall in self.overall],
            "improvement": [asdict(improvement) for improvement in self.improvements],
            "repeats_left_out": self.num_repeats,
        }


def middle(strata: Sequence[Sequence[float]]) -> Estimate:
    """The interquartile mean of all runs, and its stratified bootstrap interval; nan where a run's value is."""
    values = np.concatenate([np.asarray(stratum, float) for stratum in strata])
    if not len(values) or np.isnan(values).any():
        return Estimate(math.nan, math.nan, math.nan)
    # Of one run in a stratum the bootstrap draws that one, again and again.
    known = all(len(stratum) > 1 for stratum in strata)
    low, high = stratified_bootstrap(strata) if known else (math.nan, math.nan)
    return Estimate(interquartile_mean(values), low, high)


def compare(runs: Sequence[Run]) -> Comparison:
    """Finished runs by environment and experiment. Experiments of one name on several environments are one."""
    finished, num_repeats = without_repeats([r for r in runs if r.finished and not math.isnan(r.mean_return)])
    if not finished:
        raise RequestError("None of these runs has finished: train them to their end first.")
    entries = tuple(
        Entry(
            env,
            group.label,
            tuple(run.seed for run in group.runs),
            tuple(run.mean_return for run in group.runs),
            tuple(run.normalized for run in group.runs),
        )
        for env, members in group_by_env(finished).items()
        for group in group_seeds(members)
    )
    by_label: dict[str, list[Entry]] = {}
    for entry in entries:
        by_label.setdefault(entry.label, []).append(entry)
    several = len({entry.env for entry in entries}) > 1
    overall = tuple(_overall(label, members) for label, members in by_label.items()) if several else ()
    pairs = itertools.combinations(by_label.values(), 2)
    improvements = tuple(found for pair in pairs if (found := _improvement(*pair)) is not None)
    return Comparison(entries, overall, improvements, num_repeats)


def _overall(label: str, entries: Sequence[Entry]) -> Overall:
    score = middle([entry.normalized for entry in entries])
    num_runs = sum(len(entry.returns) for entry in entries)
    return Overall(label, tuple(entry.env for entry in entries), num_runs, score)


def _improvement(one: Sequence[Entry], other: Sequence[Entry]) -> Improvement | None:
    """The likelier way round, on the environments that both were run on."""
    of_one, of_other = ({entry.env: entry for entry in side} for side in (one, other))
    envs = tuple(env for env in of_one if env in of_other)
    if not envs:
        return None
    x, y = ([side[env].returns for env in envs] for side in (of_one, of_other))
    better, worse = one[0].label, other[0].label
    if probability_of_improvement(x, y) < 0.5:
        x, y, better, worse = y, x, worse, better
    single = any(len(runs) < 2 for runs in (*x, *y))
    low, high = (math.nan, math.nan) if single else improvement_interval(x, y)
    return Improvement(better, worse, envs, Estimate(probability_of_improvement(x, y), low, high))


def tables(comparison: Comparison) -> list[Table]:
    """The comparison for terminals and pages."""
    found = [
        Table(
            "Interquartile means over seeds [95%]",
            ("environment", "experiment", "seeds", "return", "normalized"),
            tuple(
                (
                    entry.env,
                    entry.label,
                    str(len(entry.returns)),
                    _cell(entry.mean_return, format_return),
                    _cell(entry.score, format_percent),
                )
                for entry in comparison.entries
            ),
            (False, False, True, True, True),
        )
    ]
    if comparison.overall:
        rows = tuple(
            (o.label, str(len(o.envs)), str(o.num_runs), _cell(o.score, format_percent)) for o in comparison.overall
        )
        header = ("experiment", "environments", "runs", "normalized")
        found.append(
            Table("Interquartile means over environments and seeds [95%]", header, rows, (False, True, True, True))
        )
    if comparison.improvements:
        rows = tuple(
            (i.better, i.worse, str(len(i.envs)), _cell(i.probability, format_percent)) for i in comparison.improvements
        )
        header = ("experiment", "better than", "environments", "probability")
        found.append(Table("Probability of improvement [95%]", header, rows, (False, False, True, True)))
    return found


def _cell(estimate: Estimate, form: Callable[[float], str]) -> str:
    if math.isnan(estimate.low):
        return form(estimate.value)
    low, high = (form(end).removesuffix(" %") for end in (estimate.low, estimate.high))
    return f"{form(estimate.value)} [{low}, {high}]"
