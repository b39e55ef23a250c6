"""Soft planning on a table: values, policies and expected visits for the three kinds of problem, in float64.

All three planners answer one question. Given a reward of every choice, let V be the soft value and let a *source*
weigh some states: what is G = Σ source · V, and how does it change with the reward? Its gradient is the expected
flow π · m through every choice, where m are the visits that the source sends out: (I − γ P_πᵀ) m = source. Its
second derivative along tangents is Σ m · Cov_π(dQ). With the expert's counts N, every likelihood and dual of this
package is N · reward − G for some source (see ``docs/irl/mce.md``), so nothing else needs a gradient.

- :class:`FinitePlanner`: a horizon, by backward and forward passes.
- :class:`StationaryPlanner`: a discount, by Newton–Kantorovich steps on the Bellman equation, each of which evaluates
  the current soft policy by a sparse direct or a Krylov solve; and undiscounted stochastic problems that end.
- :class:`GoalPlanner`: undiscounted choices of certain outcome, for many goals at once: the equation is linear in
  exp V (Fosgerau, Frejinger & Karlström 2013), one sparse LU serves all goals, and potentials keep exp V in range.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float, Int
from scipy.sparse import csgraph

from menura.core import RequestError
from menura.irl.choices import Choices
from menura.irl.linear import PolicySystem, factorize, solve_columns


class DivergenceError(RequestError):
    """The soft value is infinite: paths that circle forever outweigh those that end."""


@dataclass(frozen=True)
class Source:
    """Weights on soft values, listed: of this state, with so many steps gone, so much."""

    state: Int[np.ndarray, " entries"]
    weight: Float[np.ndarray, " entries"]
    time: Int[np.ndarray, " entries"] | None = None
    """``None`` for all at the start."""

    def dense(self, num_states: int) -> Float[np.ndarray, " states"]:
        """Summed by state, whatever the time."""
        return np.bincount(self.state, self.weight, num_states)


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class SoftPlan:
    """Values and a policy; with a horizon they have a leading time axis, the values one row more than the policy."""

    value: Float[np.ndarray, "*time states"]
    log_policy: Float[np.ndarray, "*steps choices"]


def _gather(value: np.ndarray, weight: np.ndarray) -> float:
    """Σ weight · value over the weights that are not 0, so that −∞ · 0 is 0."""
    used = weight != 0
    return float(value[used] @ weight[used])


class FinitePlanner:
    """A number of steps. Absorbing states are worth 0; with ``must_end``, what has not ended by then is worth −∞."""

    def __init__(
        self,
        choices: Choices,
        horizon: int,
        *,
        discount: float = 1.0,
        absorbing: Bool[np.ndarray, " states"],
        must_end: bool = False,
    ):
        keep = ~absorbing[choices.state]
        self._kept = None if keep.all() else np.flatnonzero(keep)
        self._all = choices
        self.choices = choices if self._kept is None else choices.restrict(keep)
        self.horizon, self.discount, self.absorbing = horizon, discount, absorbing
        self._end = np.where(absorbing, 0.0, -np.inf) if must_end else np.zeros(choices.num_states)
        self._plain = not absorbing.any() and len(self.choices.acting) == choices.num_states

    def _own(self, reward: np.ndarray) -> np.ndarray:
        return reward if self._kept is None else reward[self._kept]

    def _backward(self, reward: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values (H+1, S) and log-policies (H, P) of the choices kept."""
        c, r = self.choices, self._own(reward)
        values = np.empty((self.horizon + 1, c.num_states))
        log_policy = np.empty((self.horizon, c.num_choices))
        values[-1] = self._end
        for t in range(self.horizon - 1, -1, -1):
            later = c.expect(values[t + 1])
            q = r + (later if self.discount == 1 else self.discount * later)
            value = c.soft_max(q)
            if not self._plain:
                value[self.absorbing] = 0.0
            shift = value[c.state] if self._plain else np.where(np.isfinite(value), value, 0.0)[c.state]
            np.subtract(q, shift, out=log_policy[t])
            values[t] = value
        return values, log_policy

    def _forward_ready(self, reward: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values (H+1, S) and policies (H, P), each exponential taken once where every state offers as many choices."""
        c, r = self.choices, self._own(reward)
        if not self._plain or not c.width:
            values, log_policy = self._backward(reward)
            return values, np.exp(log_policy)
        values = np.empty((self.horizon + 1, c.num_states))
        policy = np.empty((self.horizon, c.num_choices))
        values[-1] = self._end
        ones = np.ones(c.width)
        for t in range(self.horizon - 1, -1, -1):
            later = c.expect(values[t + 1])
            q = r + (later if self.discount == 1 else self.discount * later)
            top = float(q.max())
            if not top - float(q.min()) < 600:  # one shift for all would underflow
                values, log_policy = self._backward(reward)
                return values, np.exp(log_policy)
            weight = np.exp(q - top).reshape(c.num_states, c.width)
            total = weight @ ones
            np.add(np.log(total), top, out=values[t])
            np.divide(weight, total[:, None], out=policy[t].reshape(c.num_states, c.width))
        return values, policy

    def allows(
        self, choice: Int[np.ndarray, " n"], time: Int[np.ndarray, " n"], goal: int = 0
    ) -> Bool[np.ndarray, " n"]:
        """Whether a policy may make each choice at that time."""
        values, _ = self._backward(np.zeros(self._all.num_choices))
        possible = np.isfinite(values).astype(np.float64)
        out = np.zeros(len(choice), bool)
        for t in np.unique(time):
            now = time == t
            rows = choice[now]
            out[now] = (self._all.matrix[rows] @ (1 - possible[t + 1]) == 0) & ~self.absorbing[self._all.state[rows]]
        return out

    def plan(self, reward: Float[np.ndarray, " choices"]) -> SoftPlan:
        """Values before every step and after the last; the policy of every step."""
        values, own = self._backward(reward)
        if self._kept is None:
            return SoftPlan(values, own)
        full = np.full((self.horizon, self._all.num_choices), -np.inf)
        full[:, self._kept] = own
        return SoftPlan(values, full)

    def evaluate(
        self,
        reward: Float[np.ndarray, " choices"],
        sources: Sequence[Source],
        features: Float[np.ndarray, "choices features"] | None = None,
        visits: Sequence[Source] | None = None,
    ) -> Answer:
        """G and its flow, and with ``features`` its derivatives along them; with ``visits`` their information."""
        (source,) = sources
        c = self.choices
        values, policy = self._forward_ready(reward)
        pushed = np.zeros((self.horizon, c.num_states))
        time = np.zeros_like(source.state) if source.time is None else source.time
        inside = time < self.horizon
        value = _gather(values[time, source.state], source.weight)
        np.add.at(pushed, (time[inside], source.state[inside]), source.weight[inside])
        if not self._plain:
            pushed[:, self.absorbing] = 0.0
        passed = np.zeros_like(pushed)
        total = np.zeros(c.num_choices)
        arriving = np.zeros(c.num_states)
        for t in range(self.horizon):
            passed[t] = pushed[t] + arriving
            flow = policy[t] * passed[t][c.state]
            total += flow
            if t + 1 < self.horizon:
                arriving = c.arrive(flow) if self.discount == 1 else self.discount * c.arrive(flow)
                if not self._plain:
                    arriving[self.absorbing] = 0.0
        flow = total
        if self._kept is not None:
            flow = np.zeros(self._all.num_choices)
            flow[self._kept] = total
        if features is None:
            return Answer(value, flow)
        own = features if self._kept is None else features[self._kept]
        seen = None
        if visits is not None:
            seen = np.zeros_like(pushed)
            when = np.zeros_like(visits[0].state) if visits[0].time is None else visits[0].time
            np.add.at(seen, (when, visits[0].state), visits[0].weight)
        return Answer(value, flow, *self._second(policy, passed, own, source, time, seen))

    def _second(self, policy, passed, features, source, time, seen):
        c, size = self.choices, features.shape[1]
        d_value = np.zeros((c.num_states, size))
        curvature = np.zeros((size, size))
        information = None if seen is None else np.zeros((size, size))
        tangents = np.zeros((len(source.state), size))
        for t in range(self.horizon - 1, -1, -1):
            d_q = features + self.discount * c.expect(d_value)
            d_value = c.sum_by_state(policy[t][:, None] * d_q)
            spread = d_q - d_value[c.state]
            curvature += spread.T @ ((policy[t] * passed[t][c.state])[:, None] * spread)
            if seen is not None and information is not None:
                information += spread.T @ ((policy[t] * seen[t][c.state])[:, None] * spread)
            now = time == t
            tangents[now] = d_value[source.state[now]]
        return (tangents,), curvature, information


def alive_choices(choices: Choices, absorbing: Bool[np.ndarray, " states"]) -> Bool[np.ndarray, " choices"]:
    """The choices after which one can always go on: dead ends, and what may lead there, are taken away."""
    kept = ~absorbing[choices.state]
    matrix = choices.matrix
    while True:
        alive = absorbing.copy()
        alive[choices.state[kept]] = True
        dead = (~alive).astype(np.float64)
        more = kept & (matrix @ dead == 0)
        if np.array_equal(more, kept):
            return kept
        kept = more


def proper_choices(choices: Choices, absorbing: Bool[np.ndarray, " states"]) -> Bool[np.ndarray, " choices"]:
    """The choices from which an absorbing state can still be reached with probability 1."""
    kept = ~absorbing[choices.state]
    matrix = choices.matrix
    while True:
        reaching = absorbing.copy()
        while True:  # states that can get there by the choices that are left
            leads = kept & (matrix @ reaching.astype(np.float64) > 0)
            more = reaching.copy()
            more[choices.state[leads]] = True
            if np.array_equal(more, reaching):
                break
            reaching = more
        more = kept & reaching[choices.state] & (matrix @ (~reaching).astype(np.float64) == 0)
        if np.array_equal(more, kept):
            return kept
        kept = more


class StationaryPlanner:
    """Without a horizon: discounted, or undiscounted with absorbing states that are reached with probability 1."""

    def __init__(self, choices: Choices, *, discount: float, absorbing: Bool[np.ndarray, " states"]):
        keep = (alive_choices if discount < 1 else proper_choices)(choices, absorbing)
        self._kept = None if keep.all() else np.flatnonzero(keep)
        self._all = choices
        self.choices = choices if self._kept is None else choices.restrict(keep)
        self.discount, self.absorbing = discount, absorbing
        self._dead = ~absorbing
        self._dead[self.choices.acting] = False
        self.warm: np.ndarray | None = None
        """Values to start from: those of the last reward."""
        self.sweeps = 0
        """Bellman sweeps made so far."""

    def _own(self, reward: np.ndarray) -> np.ndarray:
        return reward if self._kept is None else reward[self._kept]

    def allows(
        self, choice: Int[np.ndarray, " n"], time: Int[np.ndarray, " n"], goal: int = 0
    ) -> Bool[np.ndarray, " n"]:
        """Whether a policy may make each choice."""
        if self._kept is None:
            return np.ones(len(choice), bool)
        return np.isin(choice, self._kept)

    def _backup(self, reward: np.ndarray, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        c = self.choices
        q = c.expect(value)
        if self.discount != 1:
            q *= self.discount
        q += reward
        new = c.soft_max(q)
        new[self.absorbing] = 0.0
        new[self._dead] = 0.0  # a stand-in: no choice that was kept leads there
        self.sweeps += 1
        return q, new

    def _solve(self, reward: np.ndarray) -> tuple[np.ndarray, np.ndarray, PolicySystem]:
        """Newton–Kantorovich on V = T V (Puterman & Brumelle 1979): V += (I − γ P_π)⁻¹ (T V − V)."""
        c = self.choices
        if self.discount == 1:
            return self._solve_undiscounted(reward)
        value = np.zeros(c.num_states) if self.warm is None else self.warm
        last = np.inf
        for step in range(60):
            q, new = self._backup(reward, value)
            residual = new - value
            error = float(np.max(np.abs(residual), initial=0.0))
            scale = max(1.0, float(np.max(np.abs(new), initial=0.0)))
            policy = np.exp(q - new[c.state])
            system = PolicySystem(c, policy, self.discount)
            if error <= 8 * np.finfo(float).eps * scale or (error > 0.5 * last and error < 1e-8 * scale):
                break
            last = error if step else np.inf
            value = value + system.solve(residual, tolerance=1e-3 if system.is_iterative else 0.0)
        else:
            raise RuntimeError(f"The soft values did not converge: the Bellman residual is {error:.3g}.")
        self.warm = new
        return new, policy, system

    def _solve_undiscounted(self, reward: np.ndarray) -> tuple[np.ndarray, np.ndarray, PolicySystem]:
        """Soft policy iteration from the uniform policy: the values of proper policies only rise to the solution."""
        c = self.choices
        log_policy = -np.log(c.sizes.astype(float))[np.searchsorted(c.acting, c.state)]
        value, last = None, np.inf
        for _ in range(200):
            policy = np.exp(log_policy)
            system = PolicySystem(c, policy, 1.0)
            gain = c.sum_by_state(policy * (reward - np.where(policy > 0, log_policy, 0.0)))
            try:
                evaluated = system.solve(gain)
            except ArithmeticError:
                evaluated = np.full(c.num_states, np.inf)
            fell = value is not None and np.min(evaluated - value, initial=0.0) < -1e-6 * max(1, np.abs(value).max())
            if not np.isfinite(evaluated).all() or np.max(evaluated, initial=0.0) > 1e7 or fell:
                raise DivergenceError(self._blame(reward, policy))
            q, new = self._backup(reward, evaluated)
            log_policy = q - new[c.state]
            error = float(np.max(np.abs(new - evaluated), initial=0.0))
            scale = max(1.0, float(np.max(np.abs(new), initial=0.0)))
            value = evaluated
            if error <= 8 * np.finfo(float).eps * scale or (error > 0.5 * last and error < 1e-9 * scale):
                policy = np.exp(log_policy)
                return new, policy, PolicySystem(c, policy, 1.0)
            last = error
        raise DivergenceError(self._blame(reward, np.exp(log_policy)))

    def _blame(self, reward: np.ndarray, policy: np.ndarray) -> str:
        worst = int(np.argmax(np.where(policy > 1e-3, reward, -np.inf)))
        return (
            "The soft values diverge: going on pays more than ending. The highest reward on the way is "
            f"{reward[worst]:.4g}, in state {self.choices.state[worst]}; lower such rewards, or set a discount or a "
            "horizon."
        )

    def plan(self, reward: Float[np.ndarray, " choices"]) -> SoftPlan:
        """Values, −∞ where a dead end cannot be avoided, and the policy."""
        value, policy, _ = self._solve(self._own(reward))
        value = np.where(self._dead, -np.inf, value)
        with np.errstate(divide="ignore"):
            own = np.log(policy)
        if self._kept is None:
            return SoftPlan(value, own)
        full = np.full(self._all.num_choices, -np.inf)
        full[self._kept] = own
        return SoftPlan(value, full)

    def evaluate(
        self,
        reward: Float[np.ndarray, " choices"],
        sources: Sequence[Source],
        features: Float[np.ndarray, "choices features"] | None = None,
        visits: Sequence[Source] | None = None,
    ) -> Answer:
        """G and its flow, and with ``features`` its derivatives along them; with ``visits`` their information."""
        (source,) = sources
        c = self.choices
        value, policy, system = self._solve(self._own(reward))
        pushed = source.dense(c.num_states)
        total = _gather(np.where(self._dead, -np.inf, value), pushed)
        passed = system.solve_transposed(pushed)
        flow = policy * passed[c.state]
        if self._kept is not None:
            own, flow = flow, np.zeros(self._all.num_choices)
            flow[self._kept] = own
        if features is None:
            return Answer(total, flow)
        own = features if self._kept is None else features[self._kept]
        d_value = system.solve(c.sum_by_state(policy[:, None] * own))
        spread = own + self.discount * c.expect(d_value) - d_value[c.state]
        curvature = spread.T @ ((policy * passed[c.state])[:, None] * spread)
        information = None
        if visits is not None:
            seen = visits[0].dense(c.num_states)
            information = spread.T @ ((policy * seen[c.state])[:, None] * spread)
        return Answer(total, flow, (d_value[source.state],), curvature, information)


SMALLEST, LARGEST = 1e-270, 1e270
"""Scaled exponentials beyond these call for other potentials."""


class GoalPlanner:
    """Undiscounted choices of certain outcome that end in a goal: z = M z in z = exp V, for many goals at once.

    z of a far state underflows, so it is computed as z · exp(−h) with a potential h: the best path's reward to
    a nearby goal at first, the last values afterwards. Goals whose scaled values stay in range share one
    factorization of I − M; the others form further groups. A goal in the middle of the network, which is
    absorbing only for its own paths, needs no factorization of its own: where (I − M) x = e_goal, z = x / x_goal.
    """

    def __init__(
        self, choices: Choices, goals: Sequence[Int[np.ndarray, " absorbing"]], *, starts: Int[np.ndarray, " starts"]
    ):
        if not choices.is_deterministic:
            raise ValueError("GoalPlanner needs choices of certain outcome.")
        self._all = choices
        self.goals = [np.atleast_1d(np.asarray(goal)) for goal in goals]
        size = choices.num_states
        graph = sp.csr_array((np.ones(choices.num_choices, np.int8), (choices.state, choices.outcome)), (size, size))
        backward = graph.T.tocsr()
        self.reaches = np.zeros((len(self.goals), size), bool)
        for row, goal in zip(self.reaches, self.goals, strict=True):
            row[:] = _reach(backward, goal)
        useful = self.reaches.any(axis=0) & _reach(graph, np.unique(starts))
        keep = useful[choices.state] & useful[choices.outcome]
        self._kept = None if keep.all() else np.flatnonzero(keep)
        self.choices = choices if self._kept is None else choices.restrict(keep)
        self.reaches &= useful
        self._groups: list[tuple[np.ndarray, np.ndarray | None]] = [(np.arange(len(self.goals)), None)]
        c = self.choices
        self._indptr = np.concatenate([[0], np.cumsum(np.bincount(c.state, minlength=size))])

    def _own(self, reward: np.ndarray) -> np.ndarray:
        return reward if self._kept is None else reward[self._kept]

    def allows(
        self, choice: Int[np.ndarray, " n"], time: Int[np.ndarray, " n"], goal: int = 0
    ) -> Bool[np.ndarray, " n"]:
        """Whether a policy for this goal may make each choice."""
        state = self._all.state[choice]
        return self.reaches[goal][self._all.outcome[choice]] & ~np.isin(state, self.goals[goal])

    def _system(self, reward: np.ndarray, potential: np.ndarray) -> tuple[np.ndarray, sp.csc_array]:
        """Scaled weights of the choices, exp(r + h(s') − h(s)), and I − M of them."""
        c, size = self.choices, self.choices.num_states
        with np.errstate(over="ignore"):
            weight = np.exp(reward + potential[c.outcome] - potential[c.state])
        matrix = sp.csr_array((weight, c.outcome, self._indptr), (size, size))
        return weight, sp.csc_array(sp.eye_array(size, format="csr") - matrix)

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

    def _solve_groups(self, reward: np.ndarray) -> Iterator[tuple[np.ndarray, Any, np.ndarray, np.ndarray, np.ndarray]]:
        """For every group: its goals, factorization, weights, potential, and scaled z of each goal in columns."""
        if not np.isfinite(reward).all() or np.max(np.abs(reward), initial=0.0) > 1e9:
            raise DivergenceError("The rewards are not finite, or beyond 1e9; scale the features.")
        waiting = list(self._groups)
        done = []
        while waiting:
            members, potential = waiting.pop(0)
            fresh = potential is None
            if potential is None:
                potential = self._potential(reward, int(members[0]))
            weight, system = self._system(reward, potential)
            lu = factorize(system) if np.isfinite(weight).all() else None
            if lu is None:
                good, z = np.zeros(len(members), bool), None
            else:
                z, good = self._scaled_values(lu, members, potential)
            if not good.all():
                if not good[0] and fresh:
                    alone = self._alone(reward, int(members[0]), potential)
                    if alone is None:
                        raise DivergenceError(self._blame(reward, int(members[0])))
                    done.append((members[:1], potential))
                    yield alone
                    bad = members[1:][~good[1:]]
                    members, good = members[1:], good[1:]
                    z = None if z is None else z[:, 1:]
                else:
                    bad = members[~good]
                if len(bad):
                    waiting.append((bad, None))
            if z is not None and good.any():
                chosen = members[good]
                z = z[:, good] if not good.all() else z
                with np.errstate(divide="ignore"):
                    center = np.log(z[:, 0]) + potential - self._shift(potential, int(chosen[0]))
                done.append((chosen, self._filled(center, reward)))
                yield chosen, lu, weight, potential, z
        self._groups = done

    def _shift(self, potential: np.ndarray, goal: int) -> float:
        return float(potential[self.goals[goal][0]])

    def _scaled_values(self, lu, members, potential):
        size = self.choices.num_states
        right = np.zeros((size, len(members)), order="F")
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

    def _alone(self, reward, goal, potential):
        """One goal with a factorization of its own, over the states that can reach it only."""
        c = self.choices
        size = c.num_states
        keep = self.reaches[goal][c.state] & self.reaches[goal][c.outcome] & ~np.isin(c.state, self.goals[goal])
        with np.errstate(over="ignore"):
            weight = np.where(keep, np.exp(reward + potential[c.outcome] - potential[c.state]), 0.0)
        if not np.isfinite(weight).all():
            return None
        matrix = sp.csr_array((weight, c.outcome, self._indptr), (size, size))
        lu = factorize(sp.csc_array(sp.eye_array(size, format="csr") - matrix))
        if lu is None:
            return None
        members = np.array([goal])
        z, good = self._scaled_values(lu, members, potential)
        return (members, lu, weight, potential, z) if good[0] else None

    def _blame(self, reward: np.ndarray, goal: int) -> str:
        """Says which reward makes the partition function diverge: the heaviest choice of the heaviest circle."""
        c = self.choices
        size = c.num_states
        keep = self.reaches[goal][c.state] & self.reaches[goal][c.outcome] & ~np.isin(c.state, self.goals[goal])
        shift = float(np.max(reward[keep], initial=0.0))
        weight = np.where(keep, np.exp(reward - shift), 0.0)
        matrix = sp.csr_array((weight, c.outcome, self._indptr), (size, size))
        right = np.ones(size)
        left = np.ones(size)
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

    def plan(self, reward: Float[np.ndarray, " choices"], goal: int = 0) -> SoftPlan:
        """Values and policy for one of the goals; −∞ where it cannot be reached."""
        own, value = self._own(reward), np.zeros(0)
        for members, _lu, _weight, potential, z in self._solve_groups(own):
            if goal in members:
                column = z[:, int(np.flatnonzero(members == goal)[0])]
                with np.errstate(divide="ignore"):
                    value = np.log(column) + potential - self._shift(potential, int(goal))
        value[self.goals[goal]] = 0.0
        value[~self.reaches[goal]] = -np.inf
        c = self._all
        here = np.where(np.isfinite(value), value, 0.0)[c.state]
        allowed = np.isfinite(value[c.state]) & ~np.isin(c.state, self.goals[goal])
        return SoftPlan(value, np.where(allowed, reward + value[c.outcome] - here, -np.inf))

    def evaluate(
        self,
        reward: Float[np.ndarray, " choices"],
        sources: Sequence[Source],
        features: Float[np.ndarray, "choices features"] | None = None,
        visits: Sequence[Source] | None = None,
    ) -> Answer:
        """G over all goals and its flow, and with ``features`` its derivatives along them. One source a goal."""
        c, own = self.choices, self._own(reward)
        own_features = None if features is None else (features if self._kept is None else features[self._kept])
        total, flow = 0.0, np.zeros(c.num_choices)
        tangents: list[np.ndarray] = [np.zeros((0, 0))] * len(sources)
        curvature = None if features is None else np.zeros((features.shape[1],) * 2)
        step = int(np.clip(4_000_000 // max(c.num_choices, 1), 1, 32))
        for members, lu, weight, potential, z in self._solve_groups(own):
            for first in range(0, len(members), step):
                goals, columns = members[first : first + step], z[:, first : first + step]
                value, pushed = self._push(sources, goals, columns, potential)
                total += value
                y = solve_columns(lu, pushed, transposed=True)
                for column, goal in enumerate(goals):
                    y[self.goals[goal], column] = 0.0
                y, ahead = np.ascontiguousarray(y), np.ascontiguousarray(columns)
                through = weight[:, None] * y[c.state] * ahead[c.outcome]
                flow += through.sum(axis=1)
                if own_features is not None and curvature is not None:
                    for column, goal in enumerate(goals):
                        tangents[goal], more = self._second(
                            lu,
                            weight,
                            ahead[:, column],
                            through[:, column],
                            own_features,
                            sources[goal],
                            self.goals[goal],
                        )
                        curvature += more
        if self._kept is not None:
            kept, flow = flow, np.zeros(self._all.num_choices)
            flow[self._kept] = kept
        return Answer(total, flow, tuple(tangents) if features is not None else (), curvature)

    def _push(self, sources, goals, columns, potential):
        """Σ source · V of some goals, and the sources as right-hand sides of the transposed system."""
        total = 0.0
        pushed = np.zeros((self.choices.num_states, len(goals)), order="F")
        for column, goal in enumerate(goals):
            source, ends = sources[goal], self.goals[goal]
            counted = (source.weight != 0) & ~np.isin(source.state, ends)
            state, weight = source.state[counted], source.weight[counted]
            z = columns[state, column]
            if (z == 0).any():
                total = -np.inf if (weight[z == 0] > 0).any() else np.nan
                continue
            total += float(weight @ (np.log(z) + potential[state])) - float(weight.sum()) * self._shift(
                potential, int(goal)
            )
            np.add.at(pushed[:, column], state, weight / z)
            # What sets out for a goal arrives there; taking it out again undoes the goal's own way on.
            pushed[ends[0], column] -= weight.sum()
        return total, pushed

    def _second(self, lu, weight, z, through, features, source, ends):
        """dV / dθ at the source's states, and Σ flow · (dQ − dV)(dQ − dV)ᵀ, for one goal."""
        c = self.choices
        away = np.where(np.isin(c.state, ends), 0.0, weight * z[c.outcome])
        right = np.stack([c.sum_by_state(away * column) for column in features.T], axis=1)
        scaled = solve_columns(lu, np.asfortranarray(right))
        scaled -= np.outer(z, scaled[ends[0]])
        with np.errstate(divide="ignore", invalid="ignore"):
            d_value = np.where(z[:, None] > 0, scaled / z[:, None], 0.0)
        d_value[ends] = 0.0
        used = np.flatnonzero(through)
        spread = features[used] + d_value[c.outcome[used]] - d_value[c.state[used]]
        return d_value[source.state], spread.T @ (through[used, None] * spread)


def _reach(graph: sp.csr_array, states: Int[np.ndarray, " some"]) -> Bool[np.ndarray, " states"]:
    """The states that can be reached from some states along a graph."""
    size = len(graph.indptr) - 1
    reached = np.zeros(size, bool)
    reached[states] = True
    if len(states) == 1:
        reached[csgraph.breadth_first_order(graph, states[0], return_predecessors=False)] = True
        return reached
    # A root that leads to each of the states stands for all of them.
    extra = sp.csr_array((np.ones(len(states), np.int8), states, [0, len(states)]), (1, size))
    rooted = sp.vstack(
        [
            sp.hstack([graph, sp.csr_array((size, 1), dtype=np.int8)]),
            sp.hstack([extra, sp.csr_array((1, 1), dtype=np.int8)]),
        ]
    )
    found = csgraph.breadth_first_order(rooted.tocsr(), size, return_predecessors=False)
    reached[found[found < size]] = True
    return reached


def best_path_values(
    choices: Choices, reward: Float[np.ndarray, " choices"], goal: Int[np.ndarray, " absorbing"]
) -> Float[np.ndarray, " states"] | None:
    """The largest sum of rewards on a path to the goal; ``None`` if circling pays without end."""
    size = choices.num_states
    usable = ~np.isin(choices.state, goal)
    if np.all(reward[usable] < 0):
        return -_shortest(choices, -reward, goal, usable)
    value = np.full(size, -np.inf)
    value[goal] = 0.0
    for _ in range(size + 1):
        new = choices.max_by_state(np.where(usable, reward + value[choices.outcome], -np.inf))
        new[goal] = 0.0
        tolerance = 1e-12 * np.maximum(1.0, np.abs(np.where(np.isfinite(value), value, 0.0)))
        if not np.any(new > value + tolerance):
            return np.maximum(new, value)
        value = np.maximum(new, value)
    return None


def _shortest(choices: Choices, cost: np.ndarray, goal: np.ndarray, usable: np.ndarray) -> np.ndarray:
    """Dijkstra from the goal along reversed choices; the cheapest of parallel ones counts."""
    rows, columns, data = choices.outcome[usable], choices.state[usable], cost[usable]
    order = np.lexsort((data, columns, rows))
    rows, columns, data = rows[order], columns[order], data[order]
    first = np.concatenate([[True], (np.diff(rows) != 0) | (np.diff(columns) != 0)]) if len(rows) else np.zeros(0, bool)
    graph = sp.csr_array((data[first], (rows[first], columns[first])), (choices.num_states,) * 2)
    found = csgraph.dijkstra(graph, indices=goal, min_only=True)
    return np.asarray(found)


def soft_values(planner: Any, reward: Float[np.ndarray, " choices"]) -> SoftPlan:
    """Values and policy of a reward (a planner's :meth:`plan`)."""
    return planner.plan(reward)
