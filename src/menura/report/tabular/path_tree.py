"""All paths of a small problem as a tree, with their probabilities under each model."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from menura.core import RequestError
from menura.environments.tabular import TabularMDP
from menura.irl.choices import Choices, action_choices, transition_choices
from menura.irl.maxent import action_probabilities
from menura.irl.objective import make_planner
from menura.irl.planning import GoalPlanner

MOST_PATHS = 40
"""More do not fit into a picture."""

LONGEST_PATH = 40
"""The same of steps."""

UNLIKELY = 1e-12
"""Branches that no model takes with more than this are left out."""

Kind = Literal["choice", "outcome", "end", "cut"]


@dataclass
class Node:
    """A place on some path."""

    kind: Kind
    """A state where one chooses, an action whose outcome is open, where a path ends, or where it is only cut."""
    state: int
    time: int
    parent: int
    """−1 for the root."""
    action: int = -1
    """What led here from a choice; −1 where an outcome did."""
    dynamics: float = 1.0
    """P of the outcome that led here."""
    causal: float = 1.0
    """Probability of coming here under maximum causal entropy."""
    maxent: float = np.nan
    """The same under maximum entropy over paths; nan where it has no meaning."""
    printed: float = np.nan
    """The same by its forward pass as printed in 2008."""


@dataclass(frozen=True, eq=False)
class PathTree:
    """Every path from one state, with its probabilities; children follow their parents."""

    mdp: TabularMDP
    nodes: tuple[Node, ...]

    @property
    def leaves(self) -> list[int]:
        """The ends of the paths, in the order in which they are drawn."""
        return [i for i, node in enumerate(self.nodes) if node.kind in ("end", "cut")]

    def probabilities(self, model: Literal["causal", "maxent", "printed"]) -> Float[np.ndarray, " paths"]:
        """P of every path under one model."""
        return np.array([getattr(self.nodes[i], model) for i in self.leaves])

    def path(self, leaf: int) -> tuple[list[int], list[int]]:
        """The states and actions on the way to a leaf."""
        states, actions, at = [], [], leaf
        while at >= 0:
            node = self.nodes[at]
            if node.kind != "outcome":
                states.append(node.state)
            if node.action >= 0:
                actions.append(node.action)
            at = node.parent
        return states[::-1], actions[::-1]


def path_tree(
    mdp: TabularMDP,
    theta: Float[np.ndarray, " features"],
    *,
    start: int,
    goal: int | None = None,
    steps: int | None = None,
    most: int = MOST_PATHS,
) -> PathTree:
    """All paths from ``start``, to the end or for a number of steps; refuses to list more than ``most``."""
    if not 0 <= start < mdp.num_states:
        raise RequestError(f"--start {start} is not among the problem's states 0 to {mdp.num_states - 1}.")
    if goal is not None and not 0 <= goal < mdp.num_states:
        raise RequestError(f"--goal {goal} is not among the problem's states 0 to {mdp.num_states - 1}.")
    if theta.shape != (mdp.num_features,):
        raise RequestError(f"θ has {theta.size} weights for {mdp.num_features} features; give one a feature.")
    ends = {goal} if goal is not None else set([] if mdp.terminal is None else mdp.terminal.tolist())
    if start in ends:
        raise RequestError(f"Paths end in state {start}; begin them elsewhere, with --start.")
    if mdp.horizon is None and mdp.discount == 1 and not ends:
        raise RequestError("A discount of 1 without a horizon needs terminal states, or a --goal.")
    causal = _log_policy(mdp, action_choices(mdp), theta, start, goal)
    whole = None
    if mdp.discount == 1:
        log_choice = _log_policy(mdp, transition_choices(mdp), theta, start, goal)
        if mdp.is_deterministic:
            whole = np.exp(log_choice), np.exp(log_choice)
        else:
            whole = np.exp(log_choice), action_probabilities(log_choice, mdp.pair_start)
    return PathTree(mdp, tuple(_grow(mdp, np.exp(causal), whole, start, ends, steps, most)))


def _log_policy(mdp: TabularMDP, choices: Choices, theta: np.ndarray, start: int, goal: int | None) -> np.ndarray:
    (planner,) = make_planner(mdp, choices, None if goal is None else [goal], np.array([start]))
    reward = choices.reward(theta)
    plan = planner.plan(reward, 0) if isinstance(planner, GoalPlanner) else planner.plan(reward)
    return plan.log_policy


def _grow(
    mdp: TabularMDP,
    causal: np.ndarray,
    whole: tuple[np.ndarray, np.ndarray] | None,
    start: int,
    ends: set[int],
    steps: int | None,
    most: int,
) -> list[Node]:
    last = np.append(mdp.pair_start, mdp.num_transitions)
    pairs = [np.flatnonzero(mdp.pair_state == s) for s in range(mdp.num_states)]
    now = lambda table, time: table[time] if table.ndim == 2 else table  # noqa: E731
    both = (1.0, 1.0) if whole is not None else (np.nan, np.nan)
    nodes = [Node("choice", start, 0, -1, causal=1.0, maxent=both[0], printed=both[1])]
    count = 0

    def visit(at: int, seen: frozenset[int]) -> None:
        nonlocal count
        node = nodes[at]
        if node.state in ends or node.time == mdp.horizon or node.time == steps or not len(pairs[node.state]):
            node.kind = "cut" if node.time == steps and node.state not in ends and steps != mdp.horizon else "end"
            count += 1
            if count > most:
                raise RequestError(
                    f"There are more than {most} paths from state {start}; draw fewer of their steps with --steps, or "
                    "begin later with --start."
                )
            return
        if node.time == LONGEST_PATH:
            raise RequestError(
                f"Paths from state {start} have more than {LONGEST_PATH} steps; draw fewer of them with --steps."
            )
        if steps is None and mdp.horizon is None and node.state in seen:
            raise RequestError(
                f"Paths may come back to state {node.state}, so there are endlessly many; draw their first steps with "
                "--steps, or give the problem a horizon."
            )
        for pair in pairs[node.state]:
            branch(at, int(pair), seen | {node.state})

    def branch(at: int, pair: int, seen: frozenset[int]) -> None:
        node = nodes[at]
        rows = np.arange(last[pair], last[pair + 1])
        chosen = float(now(causal, node.time)[pair])
        by_outcome = np.full(len(rows), np.nan) if whole is None else now(whole[0], node.time)[rows]
        summed = np.nan if whole is None else float(now(whole[1], node.time)[pair])
        if chosen * node.causal <= UNLIKELY and not summed * node.maxent > UNLIKELY:
            return
        come = (node.causal * chosen, node.maxent * summed, node.printed * summed)
        action = int(mdp.pair_action[pair])
        parent = at
        if len(rows) > 1:
            nodes.append(Node("outcome", node.state, node.time, at, action, 1.0, *come))
            parent, action = len(nodes) - 1, -1
        for row, tilted in zip(rows, by_outcome, strict=True):
            p = float(mdp.probability[row])
            child = (come[0] * p, node.maxent * float(tilted), come[2] * p)
            nodes.append(Node("choice", int(mdp.next_state[row]), node.time + 1, parent, action, p, *child))
            visit(len(nodes) - 1, seen)

    visit(0, frozenset())
    return nodes


def likeliest_outcomes(mdp: TabularMDP) -> TabularMDP:
    """The same problem in which every action has the outcome that is likeliest, for certain."""
    order = np.lexsort((mdp.next_state, -mdp.probability, mdp.transition_pair))
    rows = np.sort(order[np.concatenate([[True], np.diff(mdp.transition_pair[order]) != 0])])
    features = None if mdp.transition_features is None else mdp.transition_features[rows]
    return mdp.replace(
        state=mdp.state[rows], action=mdp.action[rows], next_state=mdp.next_state[rows],
        probability=np.ones(len(rows)), transition_features=features,
    )  # fmt: skip
