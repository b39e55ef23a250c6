"""Full maximum likelihood: the reward together with what the dynamics depend on (Rust 1987, section 4).

The demonstrations' transitions speak of the dynamics directly; their actions speak of the dynamics too, through the
values. Maximizing both at once moves the estimates a little from those of two steps, and widens the errors.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from menura.environments.tabular import TabularMDP
from menura.irl.estimate import policy_of
from menura.irl.objective import Method, Problem, make_problem
from menura.irl.optimize import Prior, maximize
from menura.irl.paths import Paths

Dynamics = Callable[[Float[np.ndarray, " parameters"]], float | Float[np.ndarray, " steps"]]
"""The log-likelihood of the demonstrations' transitions: its sum, or a number for every step."""


@dataclass(frozen=True, eq=False)
class JointEstimate:
    """θ, the parameters φ of the dynamics, and their errors."""

    theta: Float[np.ndarray, " features"]
    phi: Float[np.ndarray, " parameters"]
    standard_errors: Float[np.ndarray, " both"]
    """Of θ and then φ, from the Hessian of the full likelihood."""
    bhhh_errors: Float[np.ndarray, " both"]
    """The same from the outer product of the steps' scores (Berndt, Hall, Hall & Hausman 1974), as Rust (1987)
    published them; nan where the likelihood of the dynamics is known as a sum only."""
    log_likelihood: float
    """Of the actions alone."""
    full_log_likelihood: float
    """Of actions and transitions."""
    iterations: int


def fit_jointly(
    make_mdp: Callable[[Float[np.ndarray, " parameters"]], TabularMDP],
    dynamics_log_likelihood: Dynamics,
    demos: Paths,
    phi: Float[np.ndarray, " parameters"],
    *,
    method: Method = "mce",
    step: float = 1e-5,
    max_iterations: int = 20,
) -> JointEstimate:
    """Newton's method on (θ, φ), from φ's own maximum and the θ that is best there.

    The gradient in θ is exact; derivatives in φ are central differences of size ``step``. Errors by the outer product
    of scores need ``dynamics_log_likelihood`` to return one number for every step of the demonstrations, 0 for a step
    that says nothing about the dynamics.
    """

    def objective(phi):
        return make_problem(make_mdp(phi), demos, method).likelihood()

    def of_dynamics(phi):
        return float(np.sum(dynamics_log_likelihood(phi)))

    first = objective(phi)
    theta = maximize(first.evaluate, first.derive, np.zeros(first.choices.features.num_features), prior=Prior()).theta
    size, extra = len(theta), len(phi)
    steps = step * np.eye(extra)
    iterations, information = 0, np.eye(size + extra)
    while iterations < max_iterations:
        iterations += 1
        here = objective(phi).derive(theta)
        total = lambda p, theta=theta: objective(p).evaluate(theta).value + of_dynamics(p)  # noqa: E731
        around = [(objective(phi + e).evaluate(theta), objective(phi - e).evaluate(theta)) for e in steps]
        own = np.array([[of_dynamics(phi + e), of_dynamics(phi - e)] for e in steps])
        slope = [(up.value - down.value + o[0] - o[1]) / (2 * step) for (up, down), o in zip(around, own, strict=True)]
        gradient = np.concatenate([here.gradient, slope])
        cross = np.array([(up.gradient - down.gradient) / (2 * step) for up, down in around]).T
        wide = 30 * steps  # second differences lose more to rounding, so they are taken further apart
        bend = np.zeros((extra, extra))
        for i, k in zip(*np.triu_indices(extra), strict=True):
            a, b = wide[i], wide[k]
            twist = total(phi + a + b) - total(phi + a - b) - total(phi - a + b) + total(phi - a - b)
            bend[i, k] = bend[k, i] = twist / (4 * (30 * step) ** 2)
        information = -np.block([[here.hessian, cross], [cross.T, bend]])
        move = np.linalg.solve(information, gradient)
        theta, phi = theta + move[:size], phi + move[size:]
        if gradient @ move < 1e-9:
            break
    value = objective(phi).evaluate(theta).value
    scores = _step_scores(make_mdp, dynamics_log_likelihood, demos, method, theta, phi, step)
    full = value + of_dynamics(phi)
    return JointEstimate(theta, phi, _errors(information), _errors(scores.T @ scores), value, full, iterations)


def _errors(information: Float[np.ndarray, "both both"]) -> Float[np.ndarray, " both"]:
    if not np.isfinite(information).all():
        return np.full(len(information), np.nan)
    return np.sqrt(np.diag(np.linalg.inv(information)))


def _step_scores(
    make_mdp: Callable[[np.ndarray], TabularMDP],
    dynamics_log_likelihood: Dynamics,
    demos: Paths,
    method: Method,
    theta: np.ndarray,
    phi: np.ndarray,
    step: float,
) -> Float[np.ndarray, "steps both"]:
    """The derivative of every step's own log-likelihood, by central differences; nan where it has none."""
    size = len(theta)

    def each(point: np.ndarray) -> np.ndarray:
        of_dynamics = np.asarray(dynamics_log_likelihood(point[size:]), np.float64)
        if of_dynamics.shape != demos.states.shape:
            return np.full(len(demos.states), np.nan)
        return _log_choices(make_problem(make_mdp(point[size:]), demos, method), point[:size]) + of_dynamics

    both = np.concatenate([theta, phi])
    around = [each(both + e) - each(both - e) for e in step * np.eye(len(both))]
    return np.stack(around, axis=1) / (2 * step)


def _log_choices(problem: Problem, theta: np.ndarray) -> Float[np.ndarray, " steps"]:
    """log π of what was chosen at every step; nan where that is not known."""
    paths, out = problem.paths, np.full(len(problem.step_choice), np.nan)
    for goal, members in enumerate(members for goals in problem.members for members in goals):
        log_policy = policy_of(problem, theta, goal).log_policy
        rows = np.flatnonzero(np.isin(paths.path_of_step, members) & (problem.step_choice >= 0))
        chosen = problem.step_choice[rows]
        out[rows] = log_policy[chosen] if log_policy.ndim == 1 else log_policy[paths.time[rows], chosen]
    return out
