"""Hard planning on a table: the best deterministic policy for a reward, and the visits of any policy.

A policy has one row a step. Without a horizon its last row is followed from then on, and with a discount that row is
the only one. Where paths go on until they end, a policy is free for a number of steps and then ends the path in the
fewest expected steps: even a reward that would pay for never ending has a best policy then.
"""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool, Float, Int

from menura.core import RequestError
from menura.irl.choices import Choices
from menura.irl.linear import PolicySystem
from menura.irl.objective import Problem
from menura.irl.planning import alive_choices, proper_choices

TIE = 1e-12
"""Choices whose values differ by this part of the largest value are equally good; the first of them is taken."""


class HardPlanner:
    """The best deterministic policy for a reward, and the visits of any policy, for one goal or the terminal states."""

    def __init__(
        self,
        choices: Choices,
        *,
        absorbing: Bool[np.ndarray, " states"],
        start: Float[np.ndarray, " states"],
        discount: float,
        horizon: int | None,
        must_end: bool,
        free_steps: int,
    ):
        self.choices, self.absorbing, self.start = choices, absorbing, start
        self.discount, self.horizon = discount, horizon
        if horizon is not None:
            self._kept = ~absorbing[choices.state]
        else:
            self._kept = (alive_choices if discount < 1 else proper_choices)(choices, absorbing)
        self._end = np.where(absorbing, 0.0, -np.inf) if must_end else np.zeros(choices.num_states)
        self._way_out = self._fewest_steps() if horizon is None and discount == 1 else None
        self.steps = horizon if horizon is not None else free_steps if self._way_out is not None else 0
        """Rows of a policy that are followed for one step each."""

    @property
    def num_rows(self) -> int:
        """Rows of a policy."""
        return self.steps + (self.horizon is None)

    def best(self, reward: Float[np.ndarray, " choices"]) -> Int[np.ndarray, "rows states"]:
        """The choice of every state, −1 where there is none, of a policy that earns most in expectation."""
        c = self.choices
        rows = np.empty((self.num_rows, c.num_states), np.int64)
        if self.horizon is not None:
            value = self._end
        elif self._way_out is None:
            rows[-1] = self._improve(reward, self._first_best(self._masked(reward)))
            return rows
        else:
            rows[-1] = self._way_out
            value = self._value(reward, self._way_out)
        for t in range(self.steps - 1, -1, -1):
            q = self._q(reward, value)
            rows[t] = self._first_best(q)
            value = c.max_by_state(q)
            value[self.absorbing] = 0.0
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
        c = self.choices
        flows = np.zeros((1 if self.horizon is None else self.horizon, c.num_choices))
        arriving = np.where(self.absorbing, 0.0, self.start)
        for t, row in enumerate(policy):
            if self.horizon is None and t == self.num_rows - 1:
                arriving = PolicySystem(c, row, self.discount).solve_transposed(arriving)
            flow = row * arriving[c.state]
            flows[t if self.horizon is not None else 0] += flow
            arriving = np.where(self.absorbing, 0.0, self.discount * c.arrive(flow))
        return flows

    def _masked(self, q: np.ndarray) -> np.ndarray:
        return np.where(self._kept, q, -np.inf)

    def _q(self, reward: np.ndarray, value: np.ndarray) -> np.ndarray:
        return self._masked(reward + self.discount * self.choices.expect(value))

    def _first_best(self, q: np.ndarray) -> np.ndarray:
        """The first of each state's best choices; −1 where none has a finite value."""
        c = self.choices
        chosen = np.full(c.num_states, -1)
        if not c.num_choices:
            return chosen
        best = c.max_by_state(q)
        number = np.where(q >= best[c.state] - _slack(q), np.arange(c.num_choices), c.num_choices)
        chosen[c.acting] = np.where(np.isfinite(best[c.acting]), np.minimum.reduceat(number, c.first), -1)
        return chosen

    def _value(self, reward: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        """What following one row forever earns from every state."""
        acts = np.flatnonzero(chosen >= 0)
        gain = np.zeros(self.choices.num_states)
        gain[acts] = reward[chosen[acts]]
        return PolicySystem(self.choices, self.chances(chosen), self.discount).solve(gain)

    def _improve(self, reward: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        """Policy iteration (Howard 1960); it ends where no choice is better, or where rounding hides that one is."""
        acts = np.flatnonzero(chosen >= 0)
        last = None
        for _ in range(200):
            value = self._value(reward, chosen)
            q = self._q(reward, value)
            slack = _slack(q)
            better = acts[self.choices.max_by_state(q)[acts] > q[chosen[acts]] + slack]
            if not len(better) or (last is not None and np.max(value - last) <= slack):
                break
            chosen = chosen.copy()
            chosen[better] = self._first_best(q)[better]
            last = value
        return chosen

    def _fewest_steps(self) -> np.ndarray:
        """The row that ends a path in the fewest expected steps, from every state that can surely end."""
        c = self.choices
        chosen, reached = np.full(c.num_states, -1), self.absorbing.copy()
        while True:  # from states that may come nearer in one step, further and further out: such a policy ends
            nearer = np.where(self._kept & ~reached[c.state], c.matrix @ reached.astype(np.float64), 0.0)
            toward = self._first_best(np.where(nearer > 0, nearer, -np.inf))
            if not (toward >= 0).any():
                return self._improve(np.full(c.num_choices, -1.0), chosen)
            chosen = np.maximum(chosen, toward)
            reached |= toward >= 0


def _slack(q: np.ndarray) -> float:
    return TIE * float(np.max(np.abs(q), where=np.isfinite(q), initial=0.0))


def hard_planners(problem: Problem) -> tuple[HardPlanner, ...]:
    """A planner for every goal, in rising order, or one for the terminal states.

    Policies are free for as many steps as the longest demonstration has. Starts from which none can go are refused.
    """
    mdp, paths = problem.mdp, problem.paths
    terminal = np.zeros(mdp.num_states, bool)
    if mdp.terminal is not None:
        terminal[mdp.terminal] = True
    each = [terminal] if paths.goals is None else [np.arange(mdp.num_states) == goal for goal in np.unique(paths.goals)]
    sources = [source for part in problem.starts() for source in part.sources]
    planners = []
    for absorbing, source in zip(each, sources, strict=True):
        planner = HardPlanner(
            problem.choices,
            absorbing=absorbing,
            start=source.dense(mdp.num_states),
            discount=mdp.discount,
            horizon=mdp.horizon,
            must_end=paths.goals is not None,
            free_steps=int(paths.lengths.max()),
        )
        first = planner.best(np.zeros(problem.choices.num_choices))[0]
        stuck = np.flatnonzero((planner.start > 0) & ~absorbing & (first < 0))
        if len(stuck):
            raise RequestError(
                f"Paths begin in state {stuck[0]}, from which no policy can surely go on or end; change initial, or "
                "the transitions there."
            )
        planners.append(planner)
    return tuple(planners)
