"""Apprenticeship learning (Abbeel & Ng 2004): a mixture of policies that earns the features that the expert earns.

Whatever the reward's weights are, two behaviors with the same expected features earn the same. So the reward need not
be found: it is enough to come as close to the expert's features as policies can. Each round takes what is still
missing, expert minus mixture, for a reward, finds the best policy for it, and moves the mixture towards that.
"""

import time
from typing import Any, get_args

import numpy as np
from jaxtyping import Float, Int
from scipy.linalg import lstsq

from menura.core import RequestError
from menura.environments.tabular import TabularMDP
from menura.irl.greedy import HardPlanner, hard_planners
from menura.irl.objective import Problem, make_problem
from menura.irl.paths import Paths
from menura.irl.policy_mixture import PolicyMixture, Projection

__all__ = ["PolicyMixture", "Projection", "closest_mixture", "fit_mixture", "project_on_line"]

ROUNDING = 1e-12
"""Points this near to each other, beside the largest distance from the expert, are equal."""


def project_on_line(
    mixture: Float[np.ndarray, " features"],
    policy: Float[np.ndarray, " features"],
    expert: Float[np.ndarray, " features"],
) -> Float[np.ndarray, " features"]:
    """The point nearest to the expert between a mixture's features and a policy's (Abbeel & Ng 2004, section 3.1)."""
    way = policy - mixture
    length = float(way @ way)
    share = float(way @ (expert - mixture)) / length if length > 0 else 0.0
    # Departs from Abbeel & Ng (2004): the share stays within 0 and 1, because beyond the policy lies no mixture.
    return mixture + min(max(share, 0.0), 1.0) * way


def closest_mixture(
    features: Float[np.ndarray, "policies features"],
    expert: Float[np.ndarray, " features"],
    start: Float[np.ndarray, " first"] | None = None,
) -> Float[np.ndarray, " policies"]:
    """Weights, at least 0 and summing to 1, that bring the mean of some features nearest to the expert's.

    The quadratic program min |Σ λᵢ fᵢ − f_E| that ends section 3 of Abbeel & Ng (2004), exactly, by the active sets of
    Wolfe (1976). No more policies than there are features, and one, have a weight. ``start`` may give the solution
    for the first of the policies.
    """
    points = features - expert
    scale = float(np.max(np.linalg.norm(points, axis=1))) or 1.0
    points = points / scale
    if start is None or not len(start):
        active, weights = [int(np.argmin(np.linalg.norm(points, axis=1)))], np.ones(1)
    else:
        active = np.flatnonzero(start).tolist()
        weights = start[active]
    for _ in range(100 * (len(points) + 1)):
        point = weights @ points[active]
        length = float(np.linalg.norm(point))
        ahead = points @ point
        best = int(np.argmin(ahead))
        if length <= ROUNDING or length**2 - ahead[best] <= ROUNDING * length or best in active:
            break
        active, weights = [*active, best], np.append(weights, 0.0)
        while True:
            aim = _affine_weights(points[active])
            falling = aim <= 1e-14
            if not falling.any():
                weights = aim
                break
            # As far as the first weight that becomes 0; it leaves.
            reach = np.min(weights[falling] / np.maximum(weights[falling] - aim[falling], 1e-300))
            weights = weights + min(reach, 1.0) * (aim - weights)
            leaves = falling & (weights <= 1e-14)
            leaves[np.flatnonzero(falling)[np.argmin(weights[falling])]] = True
            active = [row for row, out in zip(active, leaves, strict=True) if not out]
            weights = weights[~leaves] / weights[~leaves].sum()
    out = np.zeros(len(points))
    out[active] = weights
    return out


def _affine_weights(points: np.ndarray) -> np.ndarray:
    """Weights of sum 1, of either sign, that bring the mean of some points nearest to 0.

    Least squares of |Σ αᵢ pᵢ|² + (Σ αᵢ − 1)² gives a multiple of them, and squares no condition number.
    """
    system = np.vstack([points.T, np.ones(len(points))])
    aim = np.append(np.zeros(points.shape[1]), 1.0)
    found: Any = lstsq(system, aim, lapack_driver="gelsy", check_finite=False)
    return found[0] / found[0].sum()


def fit_mixture(
    mdp: TabularMDP,
    demos: Paths,
    *,
    projection: Projection = "hull",
    tolerance: float = 1e-6,
    max_iterations: int = 1000,
) -> PolicyMixture:
    """Policies that, drawn one an episode, earn as nearly the expert's features as any policy can.

    Each round's reward points from a mixture of the policies found so far to the expert. ``projection="hull"`` takes
    the mixture that is nearest to the expert, which solves the quadratic program of Abbeel & Ng (2004, section 3, step
    2) too; ``"line"`` moves from the last mixture towards the last policy only (section 3.1) and needs many more
    rounds. Either way the weights of the result are the best ones. The search ends when no policy is nearer to
    the expert by more than ``tolerance``, in units of the features, or after ``max_iterations`` rounds.
    """
    began = time.perf_counter()
    if projection not in get_args(Projection):
        raise RequestError(f"There is no projection onto {projection!r}; choose hull or line.")
    if not (tolerance >= 0 and np.isfinite(tolerance)):
        raise RequestError(f"The tolerance is {tolerance}; make it 0 or more.")
    if max_iterations < 1:
        raise RequestError(f"There are {max_iterations} iterations to make; allow at least 1.")
    problem = make_problem(mdp, demos, "mce")
    planners = hard_planners(problem)
    expert = problem.expert_features(np.zeros(problem.choices.num_choices))
    theta, lower_bound, allowed = np.zeros(mdp.num_features), 0.0, tolerance
    thetas, policies, margins = [], [], []
    features = np.zeros((0, mdp.num_features))
    mixture, weights = expert, np.zeros(0)
    while len(margins) < max_iterations:
        policy, earned = _best_response(problem, planners, theta)
        thetas.append(theta)
        policies.append(policy)
        features = np.vstack([features, earned])
        allowed = max(allowed, ROUNDING * float(np.linalg.norm(earned - expert)))
        lower_bound = max(lower_bound, float(theta @ (expert - earned)))
        if projection == "hull":
            weights = closest_mixture(features, expert, weights)
            mixture = weights @ features
        else:
            mixture = project_on_line(mixture, earned, expert) if margins else earned
        margins.append(float(np.linalg.norm(expert - mixture)))
        if margins[-1] - lower_bound <= allowed:
            break
        theta = (expert - mixture) / margins[-1]
    weights = closest_mixture(features, expert, weights)
    rounds = np.flatnonzero(weights)
    return PolicyMixture(
        mdp,
        demos,
        projection,
        weights[rounds],
        np.stack([policies[i] for i in rounds]),
        rounds,
        np.array(thetas),
        features,
        np.array(margins),
        expert,
        lower_bound,
        allowed,
        time.perf_counter() - began,
    )


def _best_response(
    problem: Problem, planners: tuple[HardPlanner, ...], theta: Float[np.ndarray, " features"]
) -> tuple[Int[np.ndarray, "goals rows states"], Float[np.ndarray, " features"]]:
    """The best policy for a reward θ·f, as actions, and its expected features."""
    reward = problem.choices.reward(theta)
    flow = np.zeros(problem.choices.num_choices)
    policy = np.empty((len(planners), planners[0].num_rows, problem.mdp.num_states), _action_type(problem.mdp))
    for goal, planner in enumerate(planners):
        rows = planner.best(reward)
        flow += planner.occupancy(planner.chances(row) for row in rows).sum(axis=0)
        policy[goal] = np.where(rows >= 0, problem.mdp.pair_action[rows], -1)
    return policy, problem.choices.features.pull_back(flow)


def _action_type(mdp: TabularMDP) -> type:
    """The smallest type that holds every action and −1."""
    return next(kind for kind in (np.int8, np.int16, np.int32, np.int64) if mdp.num_actions - 1 <= np.iinfo(kind).max)
