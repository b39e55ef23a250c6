"""Full maximum likelihood: the reward together with what the dynamics depend on (Rust 1987, section 4).

The demonstrations' transitions speak of the dynamics directly; their actions speak of the dynamics too, through the
values. Maximizing both at once moves the estimates a little from those of two steps, and widens the errors.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from menura.environments.tabular import TabularMDP
from menura.irl.objective import Method, make_problem
from menura.irl.optimize import Prior, maximize
from menura.irl.paths import Paths


@dataclass(frozen=True, eq=False)
class JointEstimate:
    """θ, the parameters φ of the dynamics, and their errors."""

    theta: Float[np.ndarray, " features"]
    phi: Float[np.ndarray, " parameters"]
    standard_errors: Float[np.ndarray, " both"]
    """Of θ and then φ, from the Hessian of the full likelihood."""
    log_likelihood: float
    """Of the actions alone."""
    full_log_likelihood: float
    """Of actions and transitions."""
    iterations: int


def fit_jointly(
    make_mdp: Callable[[Float[np.ndarray, " parameters"]], TabularMDP],
    dynamics_log_likelihood: Callable[[Float[np.ndarray, " parameters"]], float],
    demos: Paths,
    phi: Float[np.ndarray, " parameters"],
    *,
    method: Method = "mce",
    step: float = 1e-5,
    max_iterations: int = 20,
) -> JointEstimate:
    """Newton's method on (θ, φ), from φ's own maximum and the θ that is best there.

    The gradient in θ is exact; derivatives in φ are central differences of size ``step``.
    """

    def objective(phi):
        return make_problem(make_mdp(phi), demos, method).likelihood()

    first = objective(phi)
    theta = maximize(first.evaluate, first.derive, np.zeros(first.choices.features.num_features), prior=Prior()).theta
    size, extra = len(theta), len(phi)
    steps = step * np.eye(extra)
    iterations, information = 0, np.eye(size + extra)
    while iterations < max_iterations:
        iterations += 1
        here = objective(phi).derive(theta)
        total = lambda p, theta=theta: objective(p).evaluate(theta).value + dynamics_log_likelihood(p)  # noqa: E731
        around = [(objective(phi + e).evaluate(theta), objective(phi - e).evaluate(theta)) for e in steps]
        own = np.array([[dynamics_log_likelihood(phi + e), dynamics_log_likelihood(phi - e)] for e in steps])
        slope = [(up.value - down.value + o[0] - o[1]) / (2 * step) for (up, down), o in zip(around, own, strict=True)]
        gradient = np.concatenate([here.gradient, slope])
        cross = np.array([(up.gradient - down.gradient) / (2 * step) for up, down in around]).T
        wide = 30 * steps  # second differences lose more to rounding, so they are taken further apart
        bend = np.array(
            [
                [(total(phi + a + b) - total(phi + a - b) - total(phi - a + b) + total(phi - a - b)) for b in wide]
                for a in wide
            ]
        ) / (4 * (30 * step) ** 2)
        information = -np.block([[here.hessian, cross], [cross.T, (bend + bend.T) / 2]])
        move = np.linalg.solve(information, gradient)
        theta, phi = theta + move[:size], phi + move[size:]
        if gradient @ move < 1e-9:
            break
    value = objective(phi).evaluate(theta).value
    errors = np.sqrt(np.diag(np.linalg.inv(information)))
    return JointEstimate(theta, phi, errors, value, value + dynamics_log_likelihood(phi), iterations)
