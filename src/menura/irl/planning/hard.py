"""Ordinary optimal values and a policy that has them, for the three kinds of problem."""

import numpy as np
from jaxtyping import Float

from menura.irl.choices import Choices
from menura.irl.linear import PolicySystem
from menura.irl.planning.finite import FinitePlanner
from menura.irl.planning.graphs import (
    alive_choices,
    backward_graph,
    best_path_values,
    proper_choices,
    reachable,
    steps_to,
)
from menura.irl.planning.parts import DivergenceError, HardPlan, Kept, Planner

SLACK = 1e-12
"""Choices whose values differ by this part of the largest value are equally good."""


def hard_values(planner: Planner, reward: Float[np.ndarray, " choices"], goal: int = 0) -> HardPlan:
    """The largest expected (discounted) reward from every state, and the greedy policy that earns it.

    With a horizon by backward induction; with a discount by policy iteration (Howard 1960), exact in a number of
    steps that hardly depends on the discount; undiscounted, among policies that end: by shortest paths where
    outcomes are certain, else by policy iteration from a policy that ends. Where going on without end pays, it raises
    :class:`DivergenceError`. States from which no policy can surely go on or end are worth −∞.
    """
    if isinstance(planner, FinitePlanner):
        return _finite(planner, reward, goal)
    if planner.discount == 1 and planner.all_choices.is_deterministic:
        return _best_paths(planner, reward, goal)
    return _policy_iteration(planner, reward, goal)


def _finite(planner: FinitePlanner, reward: np.ndarray, goal: int) -> HardPlan:
    c, ends = planner.all_choices, planner.ends(goal)
    value = np.empty((planner.horizon + 1, c.num_states))
    choice = np.empty((planner.horizon, c.num_states), np.int64)
    value[-1] = planner.end_value
    for t in range(planner.horizon - 1, -1, -1):
        q = np.where(ends[c.state], -np.inf, reward + planner.discount * c.expect(value[t + 1]))
        choice[t] = c.best_choice(q)
        value[t] = np.where(ends, 0.0, c.max_by_state(q))
    return HardPlan(value, choice, c.num_choices)


def _best_paths(planner: Planner, reward: np.ndarray, goal: int) -> HardPlan:
    c, ends = planner.all_choices, planner.ends(goal)
    value = best_path_values(c, reward, np.flatnonzero(ends))
    if value is None:
        raise DivergenceError(_blame(reward, c, (steps_to(c, ends) >= 0) & ~ends))
    q = np.where(ends[c.state], -np.inf, reward + value[c.outcome])
    best = np.isfinite(q) & (q >= value[c.state] - _slack(value))
    # Among best choices, circles of no reward are avoided by taking the one that is nearest to the end.
    steps = steps_to(c.restrict(best), ends)
    nearer = best & (steps[c.outcome] >= 0) & (steps[c.outcome] == steps[c.state] - 1)
    return HardPlan(value, c.best_choice(np.where(nearer, 0.0, -np.inf)), c.num_choices)


def _policy_iteration(planner: Planner, reward: np.ndarray, goal: int) -> HardPlan:
    ends, discount = planner.ends(goal), planner.discount
    kept = Kept(planner.all_choices, (alive_choices if discount < 1 else proper_choices)(planner.all_choices, ends))
    c, own = kept.choices, kept.take(reward)
    stuck = ~ends
    stuck[c.acting] = False
    chosen = _first_guess(c, own, discount) if discount < 1 else _way_out(c, ends)
    acts, last = c.acting, None
    for _ in range(1000):
        value = _follow(c, own, chosen, discount, ends)
        q = own + discount * c.expect(value)
        slack = _slack(q)
        better = acts[c.max_by_state(q)[acts] > q[chosen[acts]] + slack]
        # Every policy is at least as good as the last; where none is better by more than rounding, that is the end.
        if not len(better) or (last is not None and np.max(value - last, initial=0.0) <= slack):
            break
        chosen = chosen.copy()
        chosen[better] = c.best_choice(q)[better]
        last = value
    value = np.where(stuck, -np.inf, value)
    numbers = np.arange(planner.all_choices.num_choices) if kept.rows is None else kept.rows
    return HardPlan(value, np.where(chosen >= 0, numbers[chosen], -1), planner.all_choices.num_choices)


def _first_guess(c: Choices, reward: np.ndarray, discount: float) -> np.ndarray:
    """The greedy policy of values that a few sweeps have brought near: it saves evaluations that cost far more."""
    value, q = np.zeros(c.num_states), reward
    for _ in range(50):
        value = c.max_by_state(q)
        value[~np.isfinite(value)] = 0.0
        q = reward + discount * c.expect(value)
    return c.best_choice(q)


def _way_out(c: Choices, ends: np.ndarray) -> np.ndarray:
    """A policy that ends: every state takes a choice that may bring it nearer to an end, counted in steps."""
    steps, matrix = steps_to(c, ends), c.matrix
    if not c.num_choices:
        return np.full(c.num_states, -1)
    nearest = np.minimum.reduceat(steps[matrix.indices], matrix.indptr[:-1])
    return c.best_choice(np.where(nearest == steps[c.state] - 1, 0.0, -np.inf))


def _follow(c: Choices, reward: np.ndarray, chosen: np.ndarray, discount: float, ends: np.ndarray) -> np.ndarray:
    """What a policy is worth; refuses one that never ends where it must."""
    mask = np.zeros(c.num_choices, bool)
    mask[chosen[chosen >= 0]] = True
    taken = c.restrict(mask)
    if discount == 1:
        circling = ~reachable(backward_graph(taken), np.flatnonzero(ends))
        circling[np.setdiff1d(np.arange(c.num_states), c.acting)] = False
        if circling.any():
            raise DivergenceError(_blame(reward[mask], taken, circling))
    gain = np.zeros(c.num_states)
    gain[taken.state] = reward[mask]
    return PolicySystem(taken, np.ones(taken.num_choices), discount).solve(gain)


def _slack(values: np.ndarray) -> float:
    return SLACK * float(np.max(np.abs(values), where=np.isfinite(values), initial=0.0))


def _blame(reward: np.ndarray, c: Choices, circling: np.ndarray) -> str:
    rows = np.flatnonzero(circling[c.state])
    worst = rows[np.argmax(reward[rows])]
    return (
        "The best values diverge: going round without end pays. The highest reward on the way is "
        f"{reward[worst]:.4g}, in state {c.state[worst]}; lower such rewards, or set a discount or a horizon."
    )
