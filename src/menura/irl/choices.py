"""What is chosen, state by state: the form in which every planner and every likelihood sees a problem.

Maximum causal entropy (Ziebart 2010) chooses among the actions of a state. The path distribution of maximum
entropy on stochastic dynamics (Ziebart 2008), P(path) ∝ Π P_T · exp(θ·f), is also a Markov chain of choices:
its choices are the *transitions* out of a state, each with a reward of θ·f + log P_T and a certain outcome. So
both are one computation on a :class:`Choices`, and on deterministic dynamics they are the same one.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float, Int

from menura.environments.tabular import TabularMDP


@dataclass(frozen=True, eq=False)
class FeatureMap:
    """Features of choices, stored where they vary: a block of rows, and which row each choice reads."""

    blocks: tuple[tuple[Float[np.ndarray, "_ _"], Int[np.ndarray, " _"] | None, int], ...]
    """(rows, row of each choice or ``None`` for its own, first weight)."""
    num_features: int
    num_choices: int

    def reward(self, theta: Float[np.ndarray, " features"]) -> Float[np.ndarray, " choices"]:
        """θ·features of every choice."""
        total = np.zeros(self.num_choices)
        for rows, index, start in self.blocks:
            value = rows @ theta[start : start + rows.shape[1]]
            total += value if index is None else value[index]
        return total

    def pull_back(self, weights: Float[np.ndarray, " choices"]) -> Float[np.ndarray, " features"]:
        """Σ weight · features over all choices: the gradient of Σ weight · reward in θ."""
        total = np.zeros(self.num_features)
        for rows, index, start in self.blocks:
            by_row = weights if index is None else np.bincount(index, weights, len(rows))
            total[start : start + rows.shape[1]] += by_row @ rows
        return total

    def dense(self) -> Float[np.ndarray, "choices features"]:
        """The features of every choice, one row each."""
        table = np.zeros((self.num_choices, self.num_features))
        for rows, index, start in self.blocks:
            table[:, start : start + rows.shape[1]] += rows if index is None else rows[index]
        return table


@dataclass(frozen=True, eq=False)
class Choices:
    """Choices sorted by state, where each leads, and what is added to its reward."""

    num_states: int
    state: Int[np.ndarray, " choices"]
    outcome: Any
    """(choices, states) CSR of probabilities, or an array of successors where these are certain."""
    offset: Float[np.ndarray, " choices"] | None
    """Added to the reward: log P_T where transitions are chosen."""
    features: FeatureMap

    @property
    def num_choices(self) -> int:
        """How many there are, counted over all states."""
        return len(self.state)

    @property
    def is_deterministic(self) -> bool:
        """Whether every choice has one outcome."""
        return isinstance(self.outcome, np.ndarray)

    @cached_property
    def acting(self) -> Int[np.ndarray, " acting"]:
        """The states that offer a choice."""
        return self.state[self.first]

    @cached_property
    def first(self) -> Int[np.ndarray, " acting"]:
        """The first choice of each of these."""
        changed = np.diff(self.state) != 0
        return np.flatnonzero(np.concatenate([[True], changed])) if self.num_choices else np.zeros(0, np.int64)

    @cached_property
    def sizes(self) -> Int[np.ndarray, " acting"]:
        """How many choices each of these offers."""
        return np.diff(np.append(self.first, self.num_choices))

    @cached_property
    def width(self) -> int:
        """The number of choices where every state offers the same, else 0."""
        same = len(self.acting) == self.num_states and len(self.sizes) and self.sizes.min() == self.sizes.max()
        return int(self.sizes[0]) if same else 0

    @cached_property
    def transposed(self) -> Any:
        """(states, choices) CSR of the probabilities of arriving."""
        return self.matrix.T.tocsr()

    @cached_property
    def matrix(self) -> sp.csr_array:
        """(choices, states) CSR of the probabilities of arriving."""
        if not self.is_deterministic:
            return self.outcome
        index = np.arange(self.num_choices + 1)
        return sp.csr_array((np.ones(self.num_choices), self.outcome, index), (self.num_choices, self.num_states))

    def reward(self, theta: Float[np.ndarray, " features"]) -> Float[np.ndarray, " choices"]:
        """θ·features, and the offset."""
        return self.with_offset(self.features.reward(theta))

    def with_offset(self, reward: Float[np.ndarray, " choices"]) -> Float[np.ndarray, " choices"]:
        """A reward with the offset added."""
        return reward if self.offset is None else reward + self.offset

    def expect(self, value: Float[np.ndarray, "states *more"]) -> Float[np.ndarray, "choices *more"]:
        """Mean of a value over the outcomes of every choice."""
        return value[self.outcome] if self.is_deterministic else self.outcome @ value

    def arrive(self, flow: Float[np.ndarray, " choices"]) -> Float[np.ndarray, " states"]:
        """How much arrives in each state when so much leaves by each choice."""
        if self.is_deterministic and self.num_choices:
            return np.bincount(self.outcome, flow, self.num_states)
        return self.transposed @ flow

    def sum_by_state(self, flow: Float[np.ndarray, "choices *more"]) -> Float[np.ndarray, "states *more"]:
        """Sums over the choices of each state."""
        if flow.ndim == 1 and self.num_choices:  # of nothing, bincount counts whole numbers
            return np.bincount(self.state, flow, self.num_states)
        total = np.zeros((self.num_states, *flow.shape[1:]))
        if self.num_choices:
            total[self.acting] = np.add.reduceat(flow, self.first, axis=0)
        return total

    def max_by_state(self, q: Float[np.ndarray, " choices"]) -> Float[np.ndarray, " states"]:
        """The best of each state's choices; −∞ for a state without any."""
        best = np.full(self.num_states, -np.inf)
        if self.num_choices:
            best[self.acting] = np.maximum.reduceat(q, self.first)
        return best

    def soft_max(self, q: Float[np.ndarray, " choices"]) -> Float[np.ndarray, " states"]:
        """log Σ exp over the choices of each state; −∞ for a state without any."""
        if self.width:
            table = q.reshape(self.num_states, self.width)
            best = table[:, 0].copy()
            for k in range(1, self.width):
                np.maximum(best, table[:, k], out=best)
            shift = np.where(np.isfinite(best), best, 0.0)
            total = np.exp(table - shift[:, None]) @ np.ones(self.width)
        else:
            best = self.max_by_state(q)
            shift = np.where(np.isfinite(best), best, 0.0)
            total = self.sum_by_state(np.exp(q - shift[self.state]))
        with np.errstate(divide="ignore"):
            return shift + np.log(total)

    def soft_choice(
        self, q: Float[np.ndarray, " choices"]
    ) -> tuple[Float[np.ndarray, " states"], Float[np.ndarray, " choices"]]:
        """The soft maximum of each state, and the policy exp(q − it), each exponential taken once where that can be."""
        top = float(q.max(initial=-np.inf))
        if not self.width or not top - float(q.min(initial=np.inf)) < 600:  # one shift for all would underflow
            value = self.soft_max(q)
            return value, np.exp(q - np.where(np.isfinite(value), value, 0.0)[self.state])
        weight = np.exp(q - top).reshape(self.num_states, self.width)
        total = weight @ np.ones(self.width)
        weight /= total[:, None]
        return top + np.log(total), weight.ravel()

    def best_choice(self, q: Float[np.ndarray, " choices"], slack: float = 0.0) -> Int[np.ndarray, " states"]:
        """The first choice of each state whose q is the largest, to within ``slack``; −1 where none is finite."""
        best = self.max_by_state(q)
        good = np.flatnonzero(np.isfinite(q) & (q >= best[self.state] - slack))[::-1]
        chosen = np.full(self.num_states, -1)
        chosen[self.state[good]] = good
        return chosen

    def restrict(self, kept: Bool[np.ndarray, " choices"]) -> "Choices":
        """Only some of the choices; states keep their numbers."""
        rows = np.flatnonzero(kept)
        outcome = self.outcome[rows]
        offset = None if self.offset is None else self.offset[rows]
        blocks = tuple(
            (table, rows, start) if index is None else (table, index[rows], start)
            for table, index, start in self.features.blocks
        )
        features = FeatureMap(blocks, self.features.num_features, len(rows))
        return Choices(self.num_states, self.state[rows], outcome, offset, features)


def action_choices(mdp: TabularMDP) -> Choices:
    """The choices of maximum causal entropy: the actions that each state offers."""
    blocks, position = [], 0

    def add(rows: np.ndarray, index: np.ndarray | None) -> None:
        nonlocal position
        blocks.append((rows, index, 0 if mdp.adds_features else position))
        position += rows.shape[1]

    if mdp.state_features is not None:
        add(mdp.state_features, mdp.pair_state)
    if mdp.pair_features is not None:
        add(mdp.pair_features, None)
    if mdp.transition_features is not None:
        weighted = mdp.transition_features * mdp.probability[:, None]
        add(np.add.reduceat(weighted, mdp.pair_start, axis=0) if mdp.num_pairs else weighted, None)
    features = FeatureMap(tuple(blocks), mdp.num_features, mdp.num_pairs)
    if mdp.is_deterministic:
        outcome: Any = mdp.next_state
    else:
        index = np.append(mdp.pair_start, mdp.num_transitions).astype(mdp.next_state.dtype)
        outcome = sp.csr_array((mdp.probability, mdp.next_state, index), (mdp.num_pairs, mdp.num_states))
    return Choices(mdp.num_states, mdp.pair_state, outcome, None, features)


def transition_choices(mdp: TabularMDP) -> Choices:
    """The choices of maximum entropy over paths: the transitions out of each state, at log P_T."""
    if mdp.is_deterministic:
        return action_choices(mdp)
    blocks, position = [], 0
    indices = (mdp.state, mdp.transition_pair, None)
    for rows, index in zip((mdp.state_features, mdp.pair_features, mdp.transition_features), indices, strict=True):
        if rows is None:
            continue
        blocks.append((rows, index, 0 if mdp.adds_features else position))
        position += rows.shape[1]
    features = FeatureMap(tuple(blocks), mdp.num_features, mdp.num_transitions)
    return Choices(mdp.num_states, mdp.state, mdp.next_state, np.log(mdp.probability), features)
