"""What is decided from the proxies of a run: which checkpoint is best, whether it has converged, what looks wrong.

Functions of saved numbers alone, so that a run that was stopped and resumed decides what it would have decided. The
names of the numbers are those of ``evaluations.csv``; docs/reading.md says what each one is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

Columns: TypeAlias = Mapping[str, np.ndarray]
"""One array a proxy, with an entry an evaluation; nan where it is not known."""


@dataclass(frozen=True)
class Flag:
    """Something that looks wrong."""

    name: str
    says: str
    """What is seen and what it means, one sentence."""
    knob: str
    """What to turn, one sentence."""


def columns_of(readings: Sequence[Mapping[str, float]]) -> Columns:
    """Rows of numbers as columns."""
    names = list(readings[-1]) if readings else []
    return {name: np.array([row.get(name, np.nan) for row in readings], float) for name in names}


def best_in(columns: Columns) -> int | None:
    """The ``env_steps`` of the evaluation with the lowest MMD; of equal ones that with the highest held-out score."""
    mmd = columns.get("proxy/mmd")
    if mmd is None or np.all(np.isnan(mmd)):
        return None
    score = columns.get("proxy/score_heldout", np.zeros(len(mmd)))
    order = np.lexsort((-np.nan_to_num(score), np.where(np.isnan(mmd), np.inf, mmd)))
    return int(columns["env_steps"][order[0]])


def newest_is_best(readings: Sequence[Mapping[str, float]]) -> bool:
    """Whether the last of these evaluations is the best so far."""
    return best_in(columns_of(readings)) == readings[-1]["env_steps"]


def converged(readings: Sequence[Mapping[str, float]]) -> bool:
    """Whether the last evaluations say that the run has come to rest."""
    return False


def red_flags(columns: Columns) -> list[Flag]:
    """Everything that looks wrong."""
    return []
