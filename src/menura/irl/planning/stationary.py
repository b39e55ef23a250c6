"""Planning without a horizon: one policy for all times, discounted or until an ending is reached."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from menura.irl.choices import Choices
from menura.irl.linear import PolicySystem
from menura.irl.planning.graphs import alive_choices, proper_choices
from menura.irl.planning.parts import Answer, DivergenceError, Kept, SoftPlan, Source, weigh

ROUNDING = 8 * np.finfo(float).eps
"""A Bellman residual of this part of the largest value cannot become smaller."""


class StationaryPlanner:
    """Without a horizon: discounted, or undiscounted with absorbing states that are reached with probability 1.

    Discounted values come from Newton–Kantorovich steps on V = T V (Puterman & Brumelle 1979), V += (I − γ P_π)⁻¹
    (T V − V), which converge quadratically whatever the discount. They start from the values of the last reward.
    """

    horizon: int | None = None

    def __init__(self, choices: Choices, *, discount: float, absorbing: Bool[np.ndarray, " states"]):
        self.all_choices = choices
        self._kept = Kept(choices, (alive_choices if discount < 1 else proper_choices)(choices, absorbing))
        self.choices = self._kept.choices
        self.discount, self.absorbing = discount, absorbing
        self._dead = ~absorbing
        self._dead[self.choices.acting] = False
        self._fixed = np.flatnonzero(absorbing | self._dead)
        self.warm: np.ndarray | None = None
        """Values to start from: those of the last reward."""
        self.sweeps = 0
        """Bellman sweeps made so far."""

    def ends(self, goal: int = 0) -> Bool[np.ndarray, " states"]:
        """Which states are absorbing."""
        return self.absorbing

    def allows(
        self, choice: Int[np.ndarray, " n"], time: Int[np.ndarray, " n"], goal: int = 0
    ) -> Bool[np.ndarray, " n"]:
        """Whether a policy may make each choice."""
        return self._kept.contains(choice)

    def plan(self, reward: Float[np.ndarray, " choices"], goal: int = 0) -> SoftPlan:
        """Values, −∞ where a dead end cannot be avoided, and the policy."""
        value, policy, _ = self._solve(self._kept.take(reward))
        with np.errstate(divide="ignore"):
            return SoftPlan(np.where(self._dead, -np.inf, value), self._kept.put(np.log(policy), -np.inf))

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
        value, policy, system = self._solve(self._kept.take(reward))
        pushed = source.dense(c.num_states)
        total = weigh(np.where(self._dead, -np.inf, value), pushed)
        own_flow = policy * system.solve_transposed(pushed)[c.state]
        flow = self._kept.put(own_flow, 0.0)
        if features is None:
            return Answer(total, flow)
        own = self._kept.take(features)
        d_value = system.solve(c.sum_by_state(policy[:, None] * own))
        spread = own + self.discount * c.expect(d_value) - d_value[c.state]
        curvature = spread.T @ (own_flow[:, None] * spread)
        information = None
        if visits is not None:
            seen = visits[0].dense(c.num_states)
            information = spread.T @ ((policy * seen[c.state])[:, None] * spread)
        return Answer(total, flow, (d_value[source.state],), curvature, information)

    def sweep(
        self, reward: Float[np.ndarray, " kept"], value: Float[np.ndarray, " states"]
    ) -> tuple[Float[np.ndarray, " states"], Float[np.ndarray, " kept"]]:
        """One Bellman backup: T V, and the soft policy that it takes."""
        c = self.choices
        q = c.expect(value)
        if self.discount != 1:
            q *= self.discount
        q += reward
        new, policy = c.soft_choice(q)
        new[self._fixed] = 0.0  # for a dead end a stand-in: no choice that was kept leads there
        self.sweeps += 1
        return new, policy

    def _solve(self, reward: np.ndarray) -> tuple[np.ndarray, np.ndarray, PolicySystem]:
        """Values, the policy, and its linear system."""
        if self.discount == 1:
            return self._solve_undiscounted(reward)
        value = np.zeros(self.choices.num_states) if self.warm is None else self.warm
        last = np.inf
        for step in range(60):
            new, policy = self.sweep(reward, value)
            residual = new - value
            error, scale = _largest(residual), max(1.0, _largest(new))
            system = PolicySystem(self.choices, policy, self.discount)
            if error <= ROUNDING * scale or (error > 0.5 * last and error < 1e-8 * scale):
                self.warm = new
                return new, policy, system
            last = error if step else np.inf
            value = value + system.solve(residual, tolerance=1e-3 if system.is_iterative else 0.0)
        raise RuntimeError(f"The soft values did not converge: the Bellman residual is {last:.3g}.")

    def _solve_undiscounted(self, reward: np.ndarray) -> tuple[np.ndarray, np.ndarray, PolicySystem]:
        """Soft policy iteration from the uniform policy: the values of proper policies only rise to the solution."""
        c = self.choices
        policy = 1.0 / c.sizes.astype(float)[np.searchsorted(c.acting, c.state)]
        value, last = None, np.inf
        for _ in range(200):
            with np.errstate(divide="ignore", invalid="ignore"):
                entropy = np.where(policy > 0, policy * np.log(policy), 0.0)
            system = PolicySystem(c, policy, 1.0)
            try:
                evaluated = system.solve(c.sum_by_state(policy * reward - entropy))
            except ArithmeticError:
                evaluated = np.full(c.num_states, np.inf)
            fell = value is not None and np.min(evaluated - value, initial=0.0) < -1e-6 * max(1, _largest(value))
            if not np.isfinite(evaluated).all() or np.max(evaluated, initial=0.0) > 1e7 or fell:
                break
            new, policy = self.sweep(reward, evaluated)
            error, scale = _largest(new - evaluated), max(1.0, _largest(new))
            value = evaluated
            if error <= ROUNDING * scale or (error > 0.5 * last and error < 1e-9 * scale):
                return new, policy, PolicySystem(c, policy, 1.0)
            last = error
        raise DivergenceError(self._blame(reward, policy))

    def _blame(self, reward: np.ndarray, policy: np.ndarray) -> str:
        worst = int(np.argmax(np.where(policy > 1e-3, reward, -np.inf)))
        return (
            "The soft values diverge: going on pays more than ending. The highest reward on the way is "
            f"{reward[worst]:.4g}, in state {self.choices.state[worst]}; lower such rewards, or set a discount or a "
            "horizon."
        )


def _largest(values: np.ndarray) -> float:
    return float(np.max(np.abs(values), initial=0.0))
