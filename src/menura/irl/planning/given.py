"""A given policy, soft, hard or neither: what it is worth, and how often it makes each choice."""

import numpy as np
from jaxtyping import Bool, Float

from menura.core import RequestError
from menura.irl.choices import Choices
from menura.irl.linear import PolicySystem
from menura.irl.planning.finite import FinitePlanner
from menura.irl.planning.graphs import backward_graph, forward_graph, reachable
from menura.irl.planning.parts import DivergenceError, Planner, PolicyValue

TOLERANCE = 1e-6
"""How far a policy's probabilities in one state may sum away from 1."""


def evaluate_policy(
    planner: Planner,
    policy: Float[np.ndarray, "*steps choices"],
    reward: Float[np.ndarray, " choices"],
    goal: int = 0,
) -> PolicyValue:
    """The expected (discounted) reward of following a policy, from every state and after every choice.

    ``policy`` holds the probability of every choice in its state; with a horizon, one row a step, or one for all. A
    state in which it does nothing is a dead end. States from which it may come to one, or undiscounted may go on
    without end, are worth −∞. The entropy of the policy is not counted.
    """
    policy, ends = _checked(policy, planner), planner.ends(goal)
    if isinstance(planner, FinitePlanner):
        return _finite_value(planner, policy, reward, ends)
    c = planner.all_choices
    value = _stationary_value(c, policy, reward, planner.discount, ends)
    return PolicyValue(value, _after(c, reward, planner.discount, ends, value))


def occupancy(
    planner: Planner,
    policy: Float[np.ndarray, "*steps choices"],
    start: Float[np.ndarray, " states"],
    goal: int = 0,
) -> Float[np.ndarray, "*steps choices"]:
    """How often a policy is expected to make each choice, with its discount, on a path that begins as ``start`` says.

    With a horizon, of every step; else over all steps. Undiscounted, it refuses a policy that may go on without end
    from there.
    """
    policy, ends = _checked(policy, planner), planner.ends(goal)
    arriving = np.where(ends, 0.0, start)
    if isinstance(planner, FinitePlanner):
        return _finite_occupancy(planner, policy, arriving, ends)
    c = planner.all_choices
    acts = (policy > 0) & ~ends[c.state]
    if planner.discount == 1:
        acts &= _visited(c.restrict(acts), arriving, ends)[c.state]
    visits = PolicySystem(c.restrict(acts), policy[acts], planner.discount).solve_transposed(arriving)
    return np.where(acts, policy * visits[c.state], 0.0)


def _checked(policy: np.ndarray, planner: Planner) -> np.ndarray:
    """Probabilities, one row a step where there is a horizon."""
    c = planner.all_choices
    shape = (c.num_choices,) if planner.horizon is None else (planner.horizon, c.num_choices)
    if policy.shape not in (shape, shape[-1:]):
        raise RequestError(f"The policy has shape {policy.shape}; make it {shape}, a probability for every choice.")
    for row in np.atleast_2d(policy):
        sums = c.sum_by_state(row)
        bad = ~np.isclose(sums, 0.0, atol=TOLERANCE) & ~np.isclose(sums, 1.0, atol=TOLERANCE)
        if not (row >= 0).all() or bad.any():
            state = int(np.argmax(bad)) if bad.any() else int(c.state[np.argmin(row >= 0)])
            raise RequestError(
                f"The policy's probabilities in state {state} sum to {sums[state]:g}; make them 0 or more, 1 in sum."
            )
    return np.broadcast_to(policy, shape)


def _after(c: Choices, reward: np.ndarray, discount: float, ends: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Of every choice, its reward and what follows."""
    return np.where(ends[c.state], -np.inf, reward + discount * c.expect(value))


def _finite_value(planner: FinitePlanner, policy: np.ndarray, reward: np.ndarray, ends: np.ndarray) -> PolicyValue:
    c = planner.all_choices
    values = np.empty((planner.horizon + 1, c.num_states))
    choice_values = np.empty((planner.horizon, c.num_choices))
    values[-1] = planner.end_value
    for t in range(planner.horizon - 1, -1, -1):
        q = choice_values[t] = _after(c, reward, planner.discount, ends, values[t + 1])
        values[t] = c.sum_by_state(policy[t] * np.where(policy[t] > 0, q, 0.0))
        values[t, c.sum_by_state(policy[t]) == 0] = -np.inf
        values[t, ends] = 0.0
    return PolicyValue(values, choice_values)


def _finite_occupancy(planner: FinitePlanner, policy: np.ndarray, arriving: np.ndarray, ends: np.ndarray) -> np.ndarray:
    c = planner.all_choices
    flows = np.empty((planner.horizon, c.num_choices))
    for t in range(planner.horizon):
        flows[t] = policy[t] * arriving[c.state]
        arriving = np.where(ends, 0.0, planner.discount * c.arrive(flows[t]))
    return flows


def _stationary_value(
    c: Choices, policy: np.ndarray, reward: np.ndarray, discount: float, ends: np.ndarray
) -> np.ndarray:
    acts = (policy > 0) & ~ends[c.state]
    backward = backward_graph(c.restrict(acts))
    does = ends.copy()
    does[c.state[acts]] = True
    lost = reachable(backward, np.flatnonzero(~does))
    if discount == 1:
        lost |= reachable(backward, np.flatnonzero(~reachable(backward, np.flatnonzero(ends))))
    safe = acts & ~lost[c.state]
    taken = c.restrict(safe)
    gain = taken.sum_by_state(policy[safe] * reward[safe])
    value = PolicySystem(taken, policy[safe], discount).solve(gain)
    return np.where(lost, -np.inf, np.where(ends, 0.0, value))


def _visited(taken: Choices, start: np.ndarray, ends: np.ndarray) -> Bool[np.ndarray, " states"]:
    """The states that paths come to; refuses paths that may go on without end."""
    visited = reachable(forward_graph(taken), np.flatnonzero(start > 0))
    stops = ~np.isin(np.arange(taken.num_states), taken.acting)
    endless = visited & ~reachable(backward_graph(taken), np.flatnonzero(stops | ends))
    if endless.any():
        raise DivergenceError(
            f"The policy goes on without end from state {int(np.argmax(endless))} and has no finite occupancy; "
            "set a discount or a horizon, or let it end."
        )
    return visited
