"""What planners are asked and what they answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int

from menura.core import RequestError
from menura.irl.choices import Choices


class DivergenceError(RequestError):
    """The value is infinite: paths that circle forever outweigh those that end."""


@dataclass(frozen=True, eq=False)
class Source:
    """Weights on soft values, listed: of this state, with so many steps gone, so much."""

    state: Int[np.ndarray, " entries"]
    weight: Float[np.ndarray, " entries"]
    time: Int[np.ndarray, " entries"] | None = None
    """``None`` for all at the start."""

    def dense(self, num_states: int) -> Float[np.ndarray, " states"]:
        """Summed by state, whatever the time."""
        return np.bincount(self.state, self.weight, num_states)

    def by_time(self, horizon: int, num_states: int) -> Float[np.ndarray, "horizon states"]:
        """Summed by time and state; what comes after the last step has nowhere to go."""
        table = np.zeros((horizon, num_states))
        time = np.zeros_like(self.state) if self.time is None else self.time
        inside = time < horizon
        np.add.at(table, (time[inside], self.state[inside]), self.weight[inside])
        return table


@dataclass(frozen=True, eq=False)
class Answer:
    """What a planner says of G = Σ source · V."""

    value: float
    """G itself."""
    flow: Float[np.ndarray, " choices"]
    """dG / dreward: the expected flow through every choice."""
    tangents: tuple[Float[np.ndarray, "_ features"], ...] = ()
    """For every source, dV / dθ at each of its entries."""
    curvature: Float[np.ndarray, "features features"] | None = None
    """d²G / dθ²."""
    information: Float[np.ndarray, "features features"] | None = None
    """Σ visits · Cov_π(dQ) for given visits: the Fisher information of choices made there, never negative."""


@dataclass(frozen=True, eq=False)
class SoftPlan:
    """Values and a policy; with a horizon they have a leading time axis, the values one row more than the policy."""

    value: Float[np.ndarray, "*time states"]
    """−∞ where a path can neither go on nor end."""
    log_policy: Float[np.ndarray, "*steps choices"]

    @property
    def policy(self) -> Float[np.ndarray, "*steps choices"]:
        """The probability of every choice in its state."""
        return np.exp(self.log_policy)


@dataclass(frozen=True, eq=False)
class HardPlan:
    """Ordinary optimal values and a policy that has them; with a horizon, one row a time, as :class:`SoftPlan`."""

    value: Float[np.ndarray, "*time states"]
    """−∞ where a path can neither go on nor end."""
    choice: Int[np.ndarray, "*steps states"]
    """The best choice of every state, of equal ones the first; −1 where there is none."""
    num_choices: int

    @property
    def policy(self) -> Float[np.ndarray, "*steps choices"]:
        """The same as probabilities: 1 for each best choice."""
        rows = np.atleast_2d(self.choice)
        table = np.zeros((len(rows), self.num_choices))
        step, state = np.nonzero(rows >= 0)
        table[step, rows[step, state]] = 1.0
        return table.reshape(*self.choice.shape[:-1], self.num_choices)


@dataclass(frozen=True, eq=False)
class PolicyValue:
    """What following a given policy is worth; with a horizon, by time."""

    value: Float[np.ndarray, "*time states"]
    """Of every state; −∞ where the policy may get stuck."""
    choice_value: Float[np.ndarray, "*steps choices"]
    """Of making a choice and following the policy from then on; −∞ in absorbing states, where nothing is chosen."""


@runtime_checkable
class Planner(Protocol):
    """What the three planners have in common."""

    all_choices: Choices
    """The choices as they were given: rewards, policies and flows are in their order."""
    discount: float
    horizon: int | None

    def ends(self, goal: int = 0) -> Bool[np.ndarray, " states"]:
        """Which states are absorbing, for one of the goals."""
        ...

    def allows(
        self, choice: Int[np.ndarray, " n"], time: Int[np.ndarray, " n"], goal: int = 0
    ) -> Bool[np.ndarray, " n"]:
        """Whether a policy may make each choice at that time."""
        ...

    def plan(self, reward: Float[np.ndarray, " choices"], goal: int = 0) -> SoftPlan:
        """Soft values and the policy for one of the goals."""
        ...

    def evaluate(
        self,
        reward: Float[np.ndarray, " choices"],
        sources: Sequence[Source],
        features: Float[np.ndarray, "choices features"] | None = None,
        visits: Sequence[Source] | None = None,
    ) -> Answer:
        """G and its derivatives; one source a goal."""
        ...


def soft_values(planner: Planner, reward: Float[np.ndarray, " choices"], goal: int = 0) -> SoftPlan:
    """The soft values V = log Σ exp Q of a reward, and the policy exp(Q − V) of most entropy and reward together."""
    return planner.plan(reward, goal)


class Kept:
    """The choices that a planner works with, among those that it was given."""

    def __init__(self, choices: Choices, mask: Bool[np.ndarray, " choices"]):
        self.rows = None if mask.all() else np.flatnonzero(mask)
        self.choices = choices if self.rows is None else choices.restrict(mask)
        self._number = choices.num_choices

    def take(self, values: Float[np.ndarray, "choices *more"]) -> Float[np.ndarray, "kept *more"]:
        """The rows of these choices."""
        return values if self.rows is None else values[self.rows]

    def put(self, values: Float[np.ndarray, "*steps kept"], rest: float) -> Float[np.ndarray, "*steps choices"]:
        """Values of these choices among all, and ``rest`` for the others."""
        if self.rows is None:
            return values
        full = np.full((*values.shape[:-1], self._number), rest)
        full[..., self.rows] = values
        return full

    def contains(self, choice: Int[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        """Which of some choices, numbered as they were given, are among these."""
        return np.ones(len(choice), bool) if self.rows is None else np.isin(choice, self.rows)


def weigh(value: np.ndarray, weight: np.ndarray) -> float:
    """Σ weight · value over the weights that are not 0, so that −∞ · 0 is 0."""
    used = weight != 0
    return float(value[used] @ weight[used])
