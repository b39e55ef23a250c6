"""Planning to goals: choices of certain outcome, without a discount, until a goal is reached; many goals at once.

The equation is linear in z = exp V (Fosgerau, Frejinger & Karlström 2013): z = M z, with M the exponentials of rewards
and z = 1 at the goal. z of a far state underflows, so it is computed as z · exp(−h) with a potential h: the best
path's reward to a nearby goal at first, the last values afterwards. Goals whose scaled values stay in range share
one factorization of I − M and are a *group*. A goal in the middle of the network, which is absorbing only for its own
paths, needs no factorization of its own: where (I − M) x = e_goal, z = x / x_goal.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float, Int

from menura.irl.choices import Choices
from menura.irl.linear import Factorization, factorize, single_threaded_blas, solve_columns
from menura.irl.planning.graphs import (
    backward_graph,
    best_path_values,
    forward_graph,
    reachable,
    surely_grows,
)
from menura.irl.planning.parts import Answer, DivergenceError, Kept, SoftPlan, Source

SMALLEST, LARGEST = 1e-270, 1e270
"""Scaled exponentials beyond these call for other potentials."""

SHARED_TRIP = 600.0
"""Goals share a potential while the values of the way from one to the other and back add up to no less than −this."""

THREADED_STATES = 2_000
"""From so many states on, two groups, or two lots of one, are worked on at a time: sparse solves leave Python's lock
alone."""


class Lot(NamedTuple):
    """Some goals of a group, solved."""

    goals: Int[np.ndarray, " goals"]
    lu: Factorization
    """Factorization of I − M in scaled units."""
    weight: Float[np.ndarray, " choices"]
    """The entries of M, exp(r + h(s′) − h(s))."""
    potential: Float[np.ndarray, " states"]
    z: Float[np.ndarray, "states goals"]
    """exp(V − h + h(goal)); 0 where the goal cannot be reached."""


class _Solved(NamedTuple):
    """What came of one group: the uses made of its lots, groups for the next time, goals it did not serve."""

    used: list[Any]
    groups: list[tuple[np.ndarray, np.ndarray | None]]
    left: np.ndarray


class GoalPlanner:
    """Choices of certain outcome that end in a goal, undiscounted, for many goals at once."""

    discount: float = 1.0
    horizon: int | None = None

    def __init__(
        self, choices: Choices, goals: Sequence[Int[np.ndarray, " absorbing"]], *, starts: Int[np.ndarray, " starts"]
    ):
        """Paths begin in one of the ``starts``; states that none of them visits count as out of the problem."""
        if not choices.is_deterministic:
            raise ValueError("GoalPlanner needs choices of certain outcome.")
        self.all_choices = choices
        self.goals = [np.atleast_1d(np.asarray(goal)) for goal in goals]
        size = choices.num_states
        backward = backward_graph(choices)
        self.reaches = np.stack([reachable(backward, goal) for goal in self.goals])
        """Which states can reach each goal."""
        useful = self.reaches.any(axis=0) & reachable(forward_graph(choices), np.unique(starts))
        self._kept = Kept(choices, useful[choices.state] & useful[choices.outcome])
        self.choices = self._kept.choices
        self.reaches &= useful
        self._groups: list[tuple[np.ndarray, np.ndarray | None]] = [(np.arange(len(self.goals)), None)]
        self._between = np.full((len(self.goals), len(self.goals)), -np.inf)
        """The last value of each goal's problem at every other goal."""
        self._all_share = True
        self._order: np.ndarray | None = None
        """In which the states are eliminated, once that was found."""
        self._indptr = np.concatenate([[0], np.cumsum(np.bincount(self.choices.state, minlength=size))])

    def ends(self, goal: int = 0) -> Bool[np.ndarray, " states"]:
        """Which states are absorbing, for one of the goals."""
        mask = np.zeros(self.choices.num_states, bool)
        mask[self.goals[goal]] = True
        return mask

    def allows(
        self, choice: Int[np.ndarray, " n"], time: Int[np.ndarray, " n"], goal: int = 0
    ) -> Bool[np.ndarray, " n"]:
        """Whether a policy for this goal may make each choice."""
        c = self.all_choices
        return self.reaches[goal][c.outcome[choice]] & ~self.ends(goal)[c.state[choice]]

    def plan(self, reward: Float[np.ndarray, " choices"], goal: int = 0) -> SoftPlan:
        """Values and policy for one of the goals; −∞ where it cannot be reached."""
        group = [(np.array([goal]), potential) for members, potential in self._groups if goal in members]
        ((_, value),) = self._solve(group, self._kept.take(reward), self._values, threads=1)[0]
        return self._soft_plan(reward, goal, value)

    def plans(self, reward: Float[np.ndarray, " choices"]) -> Iterator[tuple[int, SoftPlan]]:
        """Every goal's number and plan, those that share a factorization one after another."""
        for found in self._solve_groups(self._kept.take(reward), self._values, threads=1):
            for goal, value in found:
                yield goal, self._soft_plan(reward, goal, value)

    def evaluate(
        self,
        reward: Float[np.ndarray, " choices"],
        sources: Sequence[Source],
        features: Float[np.ndarray, "choices features"] | None = None,
        visits: Sequence[Source] | None = None,
    ) -> Answer:
        """G over all goals and its flow, and with ``features`` its derivatives along them. One source a goal."""
        own = None if features is None else self._kept.take(features)
        total, flow = 0.0, np.zeros(self.choices.num_choices)
        tangents: list[np.ndarray] = [np.zeros((0, 0))] * len(sources)
        curvature = None if features is None else np.zeros((features.shape[1],) * 2)

        def answer(lot: Lot) -> Any:
            return self._answer(lot, sources, own)

        for value, own_flow, own_tangents, bend in self._solve_groups(self._kept.take(reward), answer):
            total += value
            flow += own_flow
            for goal, tangent in own_tangents.items():
                tangents[goal] = tangent
            if curvature is not None:
                curvature += bend
        return Answer(total, self._kept.put(flow, 0.0), tuple(tangents) if features is not None else (), curvature)

    def _values(self, lot: Lot) -> list[tuple[int, np.ndarray]]:
        """V of every goal of a lot, from the states that reach it."""
        with np.errstate(divide="ignore"):
            table = np.log(lot.z)
        return [
            (int(goal), table[:, column] + lot.potential - self._shift(lot.potential, int(goal)))
            for column, goal in enumerate(lot.goals)
        ]

    def _soft_plan(self, reward: np.ndarray, goal: int, value: np.ndarray) -> SoftPlan:
        c, ends = self.all_choices, self.ends(goal)
        value = np.where(ends, 0.0, np.where(self.reaches[goal], value, -np.inf))
        here = np.where(np.isfinite(value), value, 0.0)[c.state]
        allowed = np.isfinite(value[c.state]) & ~ends[c.state]
        return SoftPlan(value, np.where(allowed, reward + value[c.outcome] - here, -np.inf))

    def _shift(self, potential: np.ndarray, goal: int) -> float:
        return float(potential[self.goals[goal][0]])

    def _solve_groups(
        self, reward: np.ndarray, use: Callable[[Lot], Any] = lambda lot: lot, threads: int | None = None
    ) -> Iterator[Any]:
        """What ``use`` makes of every lot of every group; where a group no longer serves a goal, a new one does."""
        if threads is None:
            threads = min(2, _num_cores()) if self.choices.num_states >= THREADED_STATES else 1
        waiting, done = self._groups, []
        while waiting:
            left = []
            for solved in self._in_threads(waiting, reward, use, threads):
                yield from solved.used
                done += solved.groups
                if len(solved.left):
                    left.append((solved.left, None))
            waiting = left
        self._groups = self._fewer_groups(done)

    def _solve(self, waiting: Any, reward: np.ndarray, use: Callable[[Lot], Any], threads: int) -> list[Any]:
        """The same for some groups, which are not kept for the next time."""
        used = []
        while waiting:
            solved = list(self._in_threads(waiting, reward, use, threads))
            used += [found for group in solved for found in group.used]
            waiting = [(group.left, None) for group in solved if len(group.left)]
        return used

    def _in_threads(
        self, waiting: Any, reward: np.ndarray, use: Callable[[Lot], Any], threads: int
    ) -> Iterator[_Solved]:
        if not np.isfinite(reward).all() or np.max(np.abs(reward), initial=0.0) > 1e9:
            raise DivergenceError("The rewards are not finite, or beyond 1e9; scale the features.")
        grows = self._grows(reward, np.ones(len(reward), bool))
        with single_threaded_blas():
            if threads == 1 or len(waiting) == 1:
                for members, potential in waiting:
                    yield self._solve_group(reward, members, potential, use, grows, threads)
                return
            with ThreadPoolExecutor(threads) as pool:
                tasks = [pool.submit(self._solve_group, reward, members, h, use, grows) for members, h in waiting]
                try:
                    for task in tasks:
                        yield task.result()
                finally:
                    pool.shutdown(cancel_futures=True)

    def _solve_group(
        self,
        reward: np.ndarray,
        members: np.ndarray,
        potential: np.ndarray | None,
        use: Callable[[Lot], Any],
        grows: bool,
        threads: int = 1,
    ) -> _Solved:
        """Solve for goals with one factorization; what they need of another potential, or of their own, is left."""
        fresh, first = potential is None, int(members[0])
        used: list[Any] = []
        center, served = None, np.zeros(len(members), bool)
        if grows and not fresh:
            return _Solved([], [], members)
        if potential is None:
            if grows and self._grows(reward, self._toward(first)):
                raise DivergenceError(self._blame(reward, first))
            potential = self._potential(reward, first)
        lu, weight, step = None, self._weight(reward, potential), self._columns()
        if not grows and np.isfinite(weight).all():
            lu = self._factorize(weight)

        def solve_lot(lu: Factorization, begin: int) -> tuple[Any, np.ndarray] | None:
            goals = members[begin : begin + step]
            z, good = self._scaled_values(lu, goals, potential)
            served[begin : begin + step] = good
            if not good.any():
                return None
            lot = Lot(goals[good], lu, weight, potential, z if good.all() else z[:, good])
            self._remember(lot)
            return use(lot), self._first_value(lot)

        if lu is not None:
            solved = _in_order(partial(solve_lot, lu), range(0, len(members), step), threads)
            used = [found for found, _ in filter(None, solved)]
            center = next((self._filled(first, reward) for _, first in filter(None, solved)), None)
        groups: list[tuple[np.ndarray, np.ndarray | None]] = [] if center is None else [(members[served], center)]
        if fresh and not served[0]:
            alone = self._alone(reward, first, potential)
            if alone is None:
                raise DivergenceError(self._blame(reward, first))
            self._all_share = False
            served[0] = True
            used.append(use(alone))
            groups.append((members[:1], potential))
        return _Solved(used, groups, members[~served])

    def _columns(self) -> int:
        """Goals solved for at a time, which bounds the memory that they need together."""
        return int(np.clip(8_000_000 // max(self.choices.num_choices, 1), 8, 32))

    def _first_value(self, lot: Lot) -> np.ndarray:
        """The values of the first goal of a lot: filled, they are the potential of the next time."""
        with np.errstate(divide="ignore"):
            return np.log(lot.z[:, 0]) + lot.potential - self._shift(lot.potential, int(lot.goals[0]))

    def _remember(self, lot: Lot) -> None:
        """Keep the value of each goal of a lot at all the other goals."""
        places = np.array([goal[0] for goal in self.goals])
        with np.errstate(divide="ignore"):
            shift = lot.potential[places][None, :] - lot.potential[places[lot.goals]][:, None]
            self._between[lot.goals] = np.log(lot.z[places].T) + shift

    def _fewer_groups(self, groups: list[tuple[np.ndarray, np.ndarray | None]]) -> Any:
        """As few groups as the last values call for, chosen greedily, where these are fewer than there were."""
        if len(groups) < 2 or not self._all_share:
            return groups
        known = {int(members[0]): potential for members, potential in groups}
        near = self._between + self._between.T >= -SHARED_TRIP
        for members, _ in groups:
            near[members, members[0]] = True
        open_, found = np.ones(len(self.goals), bool), []
        while open_.any():
            counts = np.where(open_, (near & open_[:, None]).sum(axis=0), -1)
            center = int(np.argmax(counts))
            others = np.flatnonzero(near[:, center] & open_)
            found.append((np.concatenate([[center], others[others != center]]), known.get(center)))
            open_[found[-1][0]] = False
        return found if len(found) < len(groups) else groups

    def _matrix(self, weight: np.ndarray) -> sp.csr_array:
        return sp.csr_array((weight, self.choices.outcome, self._indptr), (self.choices.num_states,) * 2)

    def _weight(self, reward: np.ndarray, potential: np.ndarray) -> np.ndarray:
        """Scaled weights of the choices, exp(r + h(s') − h(s))."""
        c = self.choices
        with np.errstate(over="ignore"):
            return np.exp(reward + potential[c.outcome] - potential[c.state])

    def _factorize(self, weight: np.ndarray) -> Factorization | None:
        """I − M of these weights, in the order of the first factorization."""
        c, size, order = self.choices, self.choices.num_states, self._order
        if order is None:
            found = factorize(sp.csc_array(sp.eye_array(size, format="csr") - self._matrix(weight)))
            self._order = None if found is None else found.best_order
            return found
        place = np.empty(size, np.intp)
        place[order] = np.arange(size)
        matrix = sp.csc_array((weight, (place[c.state], place[c.outcome])), (size, size))
        return factorize(sp.csc_array(sp.eye_array(size, format="csc") - matrix), order)

    def _toward(self, goal: int) -> np.ndarray:
        """The choices on a way to a goal, which do not leave it."""
        c, reaches = self.choices, self.reaches[goal]
        return reaches[c.state] & reaches[c.outcome] & ~self.ends(goal)[c.state]

    def _grows(self, reward: np.ndarray, chosen: np.ndarray) -> bool:
        """Whether paths along some choices are seen to gain weight without end; to factorize then would be vain."""
        if not chosen.any():
            return False
        top = float(reward[chosen].max())
        if top + np.log(self.choices.sizes.max()) < 0:  # every step loses
            return False
        return surely_grows(self._matrix(np.where(chosen, np.exp(reward - top), 0.0)), float(np.exp(min(top, 700.0))))

    def _potential(self, reward: np.ndarray, goal: int) -> np.ndarray:
        """The best path's reward to a goal; where that cannot be reached, what keeps the way there below weight 1."""
        best = best_path_values(self.choices, reward, self.goals[goal])
        if best is None:
            raise DivergenceError(self._blame(reward, goal))
        return self._filled(best, reward)

    def _filled(self, potential: np.ndarray, reward: np.ndarray) -> np.ndarray:
        c = self.choices
        potential = np.where(np.isfinite(potential), potential, np.inf)
        while True:
            ahead = np.flatnonzero(np.isinf(potential[c.outcome]) & np.isfinite(potential[c.state]))
            if not len(ahead):
                return np.where(np.isfinite(potential), potential, 0.0)
            np.minimum.at(potential, c.outcome[ahead], potential[c.state[ahead]] - reward[ahead])

    def _scaled_values(
        self, lu: Factorization, members: np.ndarray, potential: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Scaled z of every goal in columns, and for which of them it is in range wherever it must be."""
        right = np.zeros((self.choices.num_states, len(members)), order="F")
        for column, goal in enumerate(members):
            states = self.goals[goal]
            right[states, column] = np.exp(potential[states[0]] - potential[states])
        z = solve_columns(lu, right)
        at_goal = np.array([z[self.goals[goal][0], column] for column, goal in enumerate(members)])
        with np.errstate(divide="ignore", invalid="ignore"):
            z /= at_goal
        reaches = self.reaches[members].T
        inside = np.where(reaches, z, 1.0)
        good = (at_goal != 0) & np.isfinite(inside).all(axis=0)
        good &= (inside >= SMALLEST).all(axis=0) & (inside <= LARGEST).all(axis=0)
        z[~reaches] = 0.0
        return z, good

    def _alone(self, reward: np.ndarray, goal: int, potential: np.ndarray) -> Lot | None:
        """One goal with a factorization of its own, over the states that can reach it only."""
        weight = np.where(self._toward(goal), self._weight(reward, potential), 0.0)
        if not np.isfinite(weight).all():
            return None
        lu = self._factorize(weight)
        if lu is None:
            return None
        members = np.array([goal])
        z, good = self._scaled_values(lu, members, potential)
        return Lot(members, lu, weight, potential, z) if good[0] else None

    def _blame(self, reward: np.ndarray, goal: int) -> str:
        """Says which reward makes the partition function diverge: the heaviest choice of the heaviest circle."""
        c = self.choices
        keep = self._toward(goal)
        shift = float(np.max(reward[keep], initial=0.0))
        weight = np.where(keep, np.exp(np.minimum(reward - shift, 0.0)), 0.0)
        matrix = self._matrix(weight)
        right, left = np.ones(c.num_states), np.ones(c.num_states)
        for _ in range(300):
            right = matrix @ right + 1e-3 * right
            left = matrix.T @ left + 1e-3 * left
            right, left = right / max(right.max(), 1e-300), left / max(left.max(), 1e-300)
        worst = int(np.argmax(left[c.state] * weight * right[c.outcome]))
        growth = np.log(max(float(np.max(matrix @ right, initial=0.0)), 1e-300)) + shift
        goal_name = ", ".join(str(s) for s in self.goals[goal][:3])
        return (
            f"The partition function of goal {goal_name} diverges: circling multiplies the weight of paths by "
            f"{np.exp(min(growth, 700.0)):.4g} a step, most through the reward {reward[worst]:.4g} of going from state "
            f"{c.state[worst]} to state {c.outcome[worst]}; make such rewards more negative."
        )

    def _answer(
        self, lot: Lot, sources: Sequence[Source], features: np.ndarray | None
    ) -> tuple[float, np.ndarray, dict[int, np.ndarray], Any]:
        """Σ source · V of a lot's goals, its flow, and with ``features`` dV / dθ at each source and d²G / dθ²."""
        c = self.choices
        value, pushed = self._push(lot, sources)
        y = solve_columns(lot.lu, pushed, transposed=True)
        for column, goal in enumerate(lot.goals):
            y[self.goals[goal], column] = 0.0
        y, z = np.ascontiguousarray(y), np.ascontiguousarray(lot.z)
        if features is None:
            return value, lot.weight * np.einsum("ij,ij->i", y[c.state], z[c.outcome]), {}, 0.0
        through = lot.weight[:, None] * y[c.state]
        through *= z[c.outcome]
        tangents, curvature = {}, np.zeros((features.shape[1],) * 2)
        for column, (goal, d_value) in enumerate(self._tangents(lot, z, features)):
            tangents[goal] = d_value[sources[goal].state]
            used = np.flatnonzero(through[:, column])
            spread = features[used] + d_value[c.outcome[used]] - d_value[c.state[used]]
            curvature += spread.T @ (through[used, column, None] * spread)
        return value, through.sum(axis=1), tangents, curvature

    def _push(self, lot: Lot, sources: Sequence[Source]) -> tuple[float, np.ndarray]:
        """Σ source · V of a lot's goals, and the sources as right-hand sides of the transposed system."""
        total = 0.0
        pushed = np.zeros((self.choices.num_states, len(lot.goals)), order="F")
        for column, goal in enumerate(lot.goals):
            source, ends = sources[goal], self.goals[goal]
            counted = (source.weight != 0) & ~np.isin(source.state, ends)
            state, weight = source.state[counted], source.weight[counted]
            z = lot.z[state, column]
            if (z == 0).any():
                total = -np.inf if (weight[z == 0] > 0).any() else np.nan
                continue
            total += float(weight @ (np.log(z) + lot.potential[state]))
            total -= float(weight.sum()) * self._shift(lot.potential, int(goal))
            np.add.at(pushed[:, column], state, weight / z)
            # What sets out for a goal arrives there; taking it out again undoes the goal's own way on.
            pushed[ends[0], column] -= weight.sum()
        return total, pushed

    def _tangents(self, lot: Lot, z: np.ndarray, features: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Every goal of a lot with dV / dθ of every state; several goals are solved for at once."""
        c, size = self.choices, features.shape[1]
        step = max(1, 32 // max(size, 1))
        for first in range(0, len(lot.goals), step):
            goals = lot.goals[first : first + step]
            right = np.empty((c.num_states, len(goals) * size), order="F")
            for place, goal in enumerate(goals):
                away = np.where(self.ends(int(goal))[c.state], 0.0, lot.weight * z[c.outcome, first + place])
                for k in range(size):
                    right[:, place * size + k] = c.sum_by_state(away * features[:, k])
            solved = solve_columns(lot.lu, right)
            for place, goal in enumerate(goals):
                scaled = solved[:, place * size : (place + 1) * size]
                own, ends = z[:, first + place, None], self.goals[goal]
                with np.errstate(divide="ignore", invalid="ignore"):
                    d_value = np.where(own > 0, (scaled - own * scaled[ends[0]]) / own, 0.0)
                d_value[ends] = 0.0
                yield int(goal), d_value


def _in_order(work: Callable[[Any], Any], items: Sequence[Any], threads: int) -> list[Any]:
    """What ``work`` makes of every item, some at a time."""
    if threads == 1 or len(items) == 1:
        return [work(item) for item in items]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, items))


def _num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
