"""The equation itself, on a table: RL ∘ IRL_ψ is the policy of least ψ*(ρ_π − ρ_E) − λ·H(π).

Ho & Ermon (2016, Proposition 3.2). IRL looks for the cost under which the expert does best by comparison,

    IRL_ψ(expert) = argmax over c of  min over π of [ −λ·H(π) + ⟨ρ_π, c⟩ ]  −  ⟨ρ_E, c⟩  −  ψ(c),

and RL finds that minimum's policy. With the reward r = −c of a score, and φ(r) its gain, ψ(c) = ⟨ρ_E, r − φ(r)⟩, so
what IRL raises is ⟨ρ_E, φ(r)⟩ − λ·G(r/λ): G is the soft value of the start, and its gradient the flow of the soft
policy. It is concave, planning is exact, and its largest value equals the smallest of ψ* − λ·H; what is between
the two certifies both.
"""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.optimize import OptimizeResult, minimize

from menura.core import RequestError
from menura.environments.tabular import TabularMDP
from menura.irl.choices import Choices, action_choices
from menura.irl.linear import PolicySystem
from menura.irl.objective import make_planner
from menura.irl.planning import Source
from menura.regularizers import AbstractRegularizer, ScoreSet

MOST_RESTARTS = 50
"""How often the search begins again from where it stopped, as long as that helps."""


@dataclass(frozen=True)
class Match:
    """What IRL followed by RL came to; arrays are by pair of state and action, as the problem numbers them."""

    score: Float[np.ndarray, " pairs"]
    """High where behavior looks like the expert's."""
    reward: Float[np.ndarray, " pairs"]
    """The reward that IRL found, the negative of its cost."""
    log_policy: Float[np.ndarray, "*steps pairs"]
    """The policy of RL on that reward; with a horizon, one a step."""
    occupancy: Float[np.ndarray, " pairs"]
    """Its occupancy measure, ρ_π."""
    divergence: float
    """ψ*(ρ_π − ρ_E)."""
    entropy: float
    """H(π), the expected discounted sum of −log π."""
    objective: float
    """ψ* − λ·H, which no policy has less of than ``objective − duality_gap``."""
    duality_gap: float
    """``objective`` less what IRL reached; 0 at the solution, up to rounding."""
    evaluations: int
    """How many times the soft values were computed."""


def occupancy_of(mdp: TabularMDP, policy: Float[np.ndarray, " pairs"]) -> Float[np.ndarray, " pairs"]:
    """Σ γ^t P(state, action at t) of a policy that does not change with time, without a horizon."""
    start = _initial(mdp)
    if mdp.horizon is not None:
        raise RequestError("The occupancy of one policy is computed without a horizon; leave that out.")
    choices = action_choices(mdp)
    return policy * PolicySystem(choices, policy, mdp.discount).solve_transposed(start)[choices.state]


def solve(
    mdp: TabularMDP,
    expert_occupancy: Float[np.ndarray, " pairs"],
    regularizer: AbstractRegularizer,
    entropy_weight: float,
    *,
    features: Float[np.ndarray, "pairs features"] | None = None,
    tolerance: float = 1e-10,
) -> Match:
    """Find the cost by IRL, then the policy by RL.

    ``expert_occupancy`` is discounted and not normalized: it sums to the expected discounted number of steps. Linear
    scores, and the distances of Wasserstein's, are those of ``features``; of the problem's own where none are given.
    """
    if not entropy_weight > 0:
        raise RequestError(f"entropy_weight is {entropy_weight:g}; make it more than 0, so that there is one solution.")
    expert = np.asarray(expert_occupancy, np.float64)
    if expert.shape != (mdp.num_pairs,) or not (np.isfinite(expert) & (expert >= 0)).all():
        raise RequestError(f"expert_occupancy must hold a number of at least 0 for each of {mdp.num_pairs} pairs.")
    choices = action_choices(mdp)
    table = choices.features.dense() if features is None else np.asarray(features, np.float64)
    allowed = regularizer.scores_of_table(mdp.num_pairs, table)
    problem = _Dual(mdp, choices, expert, regularizer, entropy_weight, allowed)
    found = _maximize(problem, allowed, tolerance)
    score = problem.score(found.x)
    reward = _links(regularizer, score)[0]
    soft_value, flow = problem.plan(reward)
    entropy = soft_value - float(flow @ reward) / entropy_weight
    divergence = _conjugate(regularizer, flow, expert, table)
    objective = divergence - entropy_weight * entropy
    return Match(
        score,
        reward,
        problem.planner.plan(reward / entropy_weight).log_policy,
        flow,
        divergence,
        entropy,
        objective,
        objective + float(found.fun),
        problem.evaluations,
    )


class _Dual:
    """What IRL raises, negated, as a function of the weights of the score."""

    def __init__(
        self,
        mdp: TabularMDP,
        choices: Choices,
        expert: np.ndarray,
        regularizer: AbstractRegularizer,
        entropy_weight: float,
        allowed: ScoreSet,
    ):
        start = _initial(mdp)
        states = np.flatnonzero(start)
        (self.planner,) = make_planner(mdp, choices, None, states)
        self._source = Source(states, start[states])
        self._expert, self._regularizer = expert, regularizer
        self._entropy_weight, self._basis = entropy_weight, allowed.basis
        self.evaluations = 0

    def score(self, weights: np.ndarray) -> np.ndarray:
        return weights if self._basis is None else self._basis @ weights

    def plan(self, reward: np.ndarray) -> tuple[float, np.ndarray]:
        """G(r/λ) and its gradient, the occupancy of the soft policy."""
        self.evaluations += 1
        answer = self.planner.evaluate(reward / self._entropy_weight, [self._source])
        return answer.value, answer.flow

    def __call__(self, weights: np.ndarray) -> tuple[float, np.ndarray]:
        reward, reward_slope, gain, gain_slope = _links(self._regularizer, self.score(weights))
        value, flow = self.plan(reward)
        slope = flow * reward_slope - self._expert * gain_slope
        return (
            self._entropy_weight * value - float(self._expert @ gain),
            slope if self._basis is None else slope @ self._basis,
        )


def _maximize(problem: _Dual, allowed: ScoreSet, tolerance: float) -> OptimizeResult:
    bounds = list(zip(allowed.low, allowed.high, strict=True))
    start = np.clip(np.zeros(len(bounds)), allowed.low, allowed.high)
    if allowed.total is not None:
        start = np.full(len(bounds), allowed.total / len(bounds))
    if allowed.is_box:
        options = {"maxiter": 20_000, "maxfun": 40_000, "ftol": 0.0, "gtol": tolerance}
        found = minimize(problem, start, jac=True, bounds=bounds, method="L-BFGS-B", options=options)
        for _ in range(MOST_RESTARTS):  # its memory can mislead it into a stop where many bounds are met
            last = found.fun
            found = minimize(problem, found.x, jac=True, bounds=bounds, method="L-BFGS-B", options=options)
            if not found.fun < last - 1e-14 * max(1.0, abs(last)):
                break
        return found
    options = {"maxiter": 2_000, "ftol": 1e-5 * tolerance}
    return minimize(
        problem, start, jac=True, bounds=bounds, constraints=_constraints(allowed), method="SLSQP", options=options
    )


def _constraints(allowed: ScoreSet) -> list[dict[str, Any]]:
    size = len(allowed.low)
    constraints: list[dict[str, Any]] = []
    if allowed.ball is not None:
        radius = allowed.ball
        constraints.append({"type": "ineq", "fun": lambda w: 0.5 * (radius**2 - w @ w), "jac": lambda w: -w})
    if allowed.total is not None:
        total, ones = allowed.total, np.ones(size)
        constraints.append({"type": "eq", "fun": lambda w: w.sum() - total, "jac": lambda w: ones})
    if allowed.distance is not None:
        first, second = np.nonzero(~np.eye(size, dtype=bool))
        limit = allowed.distance[first, second]
        rows = np.zeros((len(first), size))
        rows[np.arange(len(first)), first], rows[np.arange(len(first)), second] = -1.0, 1.0
        constraints.append({"type": "ineq", "fun": lambda w: limit + rows @ w, "jac": lambda w: rows})
    return constraints


@eqx.filter_jit
def _links_and_slopes(
    regularizer: AbstractRegularizer, score: Float[Array, " pairs"]
) -> tuple[Float[Array, " pairs"], ...]:
    reward, pull_reward = jax.vjp(regularizer.reward, score)
    gain, pull_gain = jax.vjp(regularizer.gain, score)
    ones = jnp.ones_like(score)
    return reward, pull_reward(ones)[0], gain, pull_gain(ones)[0]


def _links(regularizer: AbstractRegularizer, score: np.ndarray) -> tuple[np.ndarray, ...]:
    """Reward and its slope, gain and its slope, in float64."""
    with jax.enable_x64(True):
        return tuple(np.asarray(x) for x in _links_and_slopes(regularizer, jnp.asarray(score, jnp.float64)))


def _conjugate(
    regularizer: AbstractRegularizer, learner: np.ndarray, expert: np.ndarray, features: np.ndarray
) -> float:
    with jax.enable_x64(True):
        return float(regularizer.conjugate(*(jnp.asarray(x, jnp.float64) for x in (learner, expert, features))))


def _initial(mdp: TabularMDP) -> np.ndarray:
    if mdp.initial is None:
        raise RequestError("Occupancies are those of a start: give the problem its initial distribution.")
    return mdp.initial
