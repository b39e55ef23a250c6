"""Best responses of apprenticeship learning: the best deterministic policy for a reward, and the visits of any policy.

A policy has one row a step. Without a horizon its last row is followed from then on, and with a discount that row is
the only one. Where paths go on until they end, a policy is free for a number of steps and then ends the path in the
fewest expected steps: even a reward that would pay for never ending has a best policy then.
"""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float, Int

from menura.core import RequestError
from menura.irl.objective import Problem
from menura.irl.planning import Planner, evaluate_policy, hard_values, occupancy


class HardPlanner:
    """The best deterministic policy for a reward, and the visits of any policy, for one goal of a planner."""

    def __init__(self, planner: Planner, goal: int, *, start: Float[np.ndarray, " states"], free_steps: int):
        self.planner, self.goal, self.start = planner, goal, start
        self.choices, self.horizon = planner.all_choices, planner.horizon
        self._way_out = None
        self.steps = self.horizon or 0
        """Rows of a policy that are followed for one step each."""
        if self.horizon is None and planner.discount == 1:
            self._way_out = hard_values(planner, np.full(self.choices.num_choices, -1.0), goal)
            self.steps = free_steps

    @property
    def num_rows(self) -> int:
        """Rows of a policy."""
        return self.steps + (self.horizon is None)

    def best(self, reward: Float[np.ndarray, " choices"]) -> Int[np.ndarray, "rows states"]:
        """The choice of every state, −1 where there is none, of a policy that earns most in expectation."""
        if self._way_out is None:
            return np.atleast_2d(hard_values(self.planner, reward, self.goal).choice)
        c, ends = self.choices, self.planner.ends(self.goal)
        rows = np.empty((self.num_rows, c.num_states), np.int64)
        rows[-1] = self._way_out.choice
        value = evaluate_policy(self.planner, self._way_out.policy, reward, self.goal).value
        for t in range(self.steps - 1, -1, -1):
            q = np.where(ends[c.state], -np.inf, reward + c.expect(value))
            rows[t] = c.best_choice(q)
            value = np.where(ends, 0.0, c.max_by_state(q))
        return rows

    def chances(self, chosen: Int[np.ndarray, " states"]) -> Float[np.ndarray, " choices"]:
        """One row of a deterministic policy as the probability of every choice."""
        row = np.zeros(self.choices.num_choices)
        row[chosen[chosen >= 0]] = 1.0
        return row

    def occupancy(self, policy: Iterable[Float[np.ndarray, " choices"]]) -> Float[np.ndarray, "times choices"]:
        """Expected discounted passages through every choice: at every step of a horizon, or over all steps in one row.

        A policy is given as the probabilities of every choice, one array a row.
        """
        if self.horizon is not None:
            return occupancy(self.planner, np.stack(list(policy)), self.start, self.goal)
        c, ends = self.choices, self.planner.ends(self.goal)
        total, arriving = np.zeros(c.num_choices), self.start
        for t, row in enumerate(policy):
            if t == self.num_rows - 1:
                return (total + occupancy(self.planner, row, arriving, self.goal))[None]
            flow = row * np.where(ends, 0.0, arriving)[c.state]
            total += flow
            arriving = c.arrive(flow)
        raise ValueError(f"A policy here has {self.num_rows} rows.")


def hard_planners(problem: Problem) -> tuple[HardPlanner, ...]:
    """A planner for every goal, in rising order, or one for the terminal states.

    Policies are free for as many steps as the longest demonstration has. Starts from which none can go are refused.
    """
    planners = []
    for part in problem.starts():
        for goal, source in enumerate(part.sources):
            planner = HardPlanner(
                part.planner,
                goal,
                start=source.dense(problem.mdp.num_states),
                free_steps=int(problem.paths.lengths.max()),
            )
            first = planner.best(np.zeros(problem.choices.num_choices))[0]
            stuck = np.flatnonzero((planner.start > 0) & ~part.planner.ends(goal) & (first < 0))
            if len(stuck):
                raise RequestError(
                    f"Paths begin in state {stuck[0]}, from which no policy can surely go on or end; change initial, "
                    "or the transitions there."
                )
            planners.append(planner)
    return tuple(planners)
