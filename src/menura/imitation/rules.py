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

FEWEST = 3
"""Evaluations before anything is said of scores and rewards: those of the first updates mean nothing."""
WINDOW = 3
"""Evaluations that are averaged to see whether the distance still falls: these against as many before them."""
AT_REST = 0.1
"""The most, in nats, that a converged policy moves between two evaluations."""
BALANCED = 0.25
"""How far from 0.5 the share of pairs that a converged score tells apart may be."""


@dataclass(frozen=True)
class Flag:
    """Something that looks wrong."""

    name: str
    says: str
    """What is seen and what it means, one sentence."""
    knob: str
    """What to turn, one sentence."""


CONSTANT = Flag(
    "constant reward",
    "The learner's reward is the same for every step, so that it learns nothing from it.",
    "The score does vary: look at the regularizer's reward and at --reward-form.",
)
WEAK = Flag(
    "score too weak",
    "The score has given the expert's steps and the learner's nearly the same all along.",
    "Raise --num-score-steps or --learning-rate, or lower --gradient-penalty.",
)
SIGN = Flag(
    "sign flipped",
    "The learner earns more than the expert would: it is paid for looking unlike the expert.",
    "Look for a flipped sign in the regularizer's loss or reward; if there is none, raise --num-score-steps.",
)
STRONG = Flag(
    "score too strong",
    "The score is all but certain of every step, so that its reward hardly says which of two steps is better.",
    "Raise --gradient-penalty, or lower --learning-rate or --num-score-steps.",
)
RANDOM_ACTIONS = Flag(
    "actions do not follow from observations",
    "The expert's actions in the demonstrations may as well be random: they do not depend on what it observed.",
    "Look at how the file was made: actions shuffled, shifted, or of another agent; --observations-only ignores them.",
)
NO_NEARER = Flag(
    "no nearer",
    "The learner is no nearer to the expert than at the first evaluation.",
    "Give it more --total-steps; if the reward moves and this does not, try another --reward-form.",
)


ALL_FLAGS = (WEAK, CONSTANT, SIGN, STRONG, RANDOM_ACTIONS, NO_NEARER)
UNKNOWN = np.array([np.inf])
"""A deviation that is not known is not small."""


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


def still_falls(values: np.ndarray, *, window: int = WINDOW) -> bool:
    """Whether the mean of the last ``window`` values is below that of as many before by twice its standard error."""
    before, after = values[-2 * window : -window], values[-window:]
    error = np.sqrt((np.var(before, ddof=1) + np.var(after, ddof=1)) / window)
    return bool(np.mean(before) - np.mean(after) > 2 * error)


def converged(readings: Sequence[Mapping[str, float]]) -> bool:
    """Whether policy and score have come to rest beside the expert.

    All of: there are twice :data:`WINDOW` evaluations; the MMD no longer falls beyond its noise, and the mean of the
    last ones is near: no farther than :func:`far_from` says, or a tenth of the first; in each of them the policy moved
    by at most :data:`AT_REST`; the score, if there is one, tells within :data:`BALANCED` of half of the pairs apart, in
    their mean; and no red flag is up.
    """
    columns = columns_of(readings)
    if len(readings) < 2 * WINDOW or np.any(np.isnan(columns["proxy/mmd"])):
        return False
    mmd, moved = columns["proxy/mmd"], columns.get("proxy/moved")
    if still_falls(mmd) or (moved is not None and np.any(moved[-WINDOW:] > AT_REST)):
        return False
    if np.mean(mmd[-WINDOW:]) > max(far_from(columns), 0.1 * mmd[0]):
        return False
    told_apart = columns.get("proxy/told_apart")
    balanced = told_apart is None or abs(np.mean(told_apart[-WINDOW:]) - 0.5) <= BALANCED
    return bool(balanced) and not red_flags(columns)


def far_from(columns: Columns) -> float:
    """The MMD from which on a learner is far from the expert: beyond what the expert's own episodes differ by."""
    return 0.02 + 2 * max(0.0, _late(columns, "proxy/mmd_expert"))


def red_flags(columns: Columns) -> list[Flag]:
    """Everything that looks wrong, by the medians of the later half of the evaluations."""
    flags = []
    if _late(columns, "proxy/action_p_value") > 0.05:
        flags.append(RANDOM_ACTIONS)
    mmd = columns.get("proxy/mmd", np.zeros(0))
    if len(mmd) < FEWEST:
        return flags
    if np.nanmax(columns.get("proxy/score_std", UNKNOWN)) < 0.15:
        # Of all evaluations: in the end the two may be alike, and a good score says so. First, because the reward of
        # such a score is as good as constant, for a reason that the other flag's advice does not name.
        flags.append(WEAK)
    elif _late(columns, "proxy/reward_std") < 0.01:
        flags.append(CONSTANT)
    elif _late(columns, "proxy/reward_order") < 0.25:
        flags.append(SIGN)
    if _late(columns, "proxy/saturation") > 0.3:
        flags.append(STRONG)
    far = far_from(columns)
    # Where it began near, a little more is noise.
    least = 0.95 * mmd[0] if mmd[0] > far else 2 * mmd[0]
    if len(mmd) >= 2 * WINDOW - 1 and _late(columns, "proxy/mmd") > far and np.median(mmd[-WINDOW:]) > least:
        flags.append(NO_NEARER)
    return flags


def _late(columns: Columns, name: str) -> float:
    """The median of a column's later half; nan, which is neither high nor low, where there is none."""
    values = columns.get(name, np.zeros(0))
    values = values[len(values) // 2 :]
    values = values[~np.isnan(values)]
    return float(np.median(values)) if len(values) else float("nan")
