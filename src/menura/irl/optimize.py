"""Maximization of a smooth objective with a prior: Newton's method with exact Hessians, or L-BFGS where θ is long."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from menura.core import RequestError
from menura.irl.choices import Choices
from menura.irl.objective import Evaluation
from menura.irl.planning import DivergenceError

FAR = 1e7
"""θ beyond this has run away."""

NEWTON_FEATURES = 120
"""Up to so many weights, the exact Hessian is worth its cost."""


@dataclass(frozen=True)
class Prior:
    """A log-density of θ up to a constant: −l2/2 · |θ|² − l1 · |θ|₁."""

    l1: float = 0.0
    l2: float = 0.0

    def __post_init__(self):
        for name in ("l1", "l2"):
            if not getattr(self, name) >= 0 or not np.isfinite(getattr(self, name)):
                raise RequestError(f"The prior's {name} is {getattr(self, name)}; make it 0 or more.")

    def value(self, theta: Float[np.ndarray, " features"]) -> float:
        """The log-density."""
        return -0.5 * self.l2 * float(theta @ theta) - self.l1 * float(np.abs(theta).sum())


@dataclass
class Search:
    """What an optimization did."""

    theta: Float[np.ndarray, " features"]
    evaluation: Evaluation
    iterations: int
    evaluations: int
    converged: bool
    history: list[float] = field(default_factory=list)


def maximize(
    evaluate: Callable[[np.ndarray], Evaluation],
    derive: Callable[[np.ndarray], Evaluation],
    start: Float[np.ndarray, " features"],
    *,
    prior: Prior,
    max_iterations: int = 200,
    tolerance: float = 1e-10,
    hessian_every: int = 1,
) -> Search:
    """Find the θ where value + prior is largest.

    Steps that lead where the value does not exist, or that do not improve it, are halved. It stops when the
    gradient's norm is ``tolerance`` of the value, or when rounding hides any further improvement. Where a Hessian costs
    much more than a gradient, ``hessian_every`` so many iterations is often enough: BFGS keeps it up to date between.
    """
    exact = len(start) <= NEWTON_FEATURES
    theta, now = start, derive(start) if exact else evaluate(start)
    precision = _precision(now, prior) if exact else None
    age = 0
    evaluations, memory = 1, _Memory()
    history = [now.value]
    converged = False
    iteration = 0
    while iteration < max_iterations and np.max(np.abs(theta), initial=0.0) <= FAR:
        gradient = now.gradient - prior.l2 * theta
        uphill = _uphill(theta, gradient, prior.l1)
        if np.linalg.norm(uphill) <= tolerance * max(1.0, abs(now.value)):
            converged = True
            break
        if exact:
            step = _newton_step(theta, gradient, precision, prior.l1)
        else:
            step = memory.direction(uphill, theta, prior.l1)
        iteration += 1
        target = now.value + prior.value(theta)
        expected = float(uphill @ step)
        # Near the top, rounding hides what a step gains, and the gradient alone says whether it was one.
        near = expected <= 1e-11 * max(1.0, abs(target))
        age += 1
        renew = exact and age >= hessian_every
        look = derive if renew else evaluate
        size, found = 1.0, None
        for _ in range(3 if near else 50):
            trial = theta + size * step
            evaluations += 1
            try:
                then = look(trial)
            except DivergenceError:
                size /= 2
                continue
            gain = then.value + prior.value(trial) - target
            smaller = np.linalg.norm(_uphill(trial, then.gradient - prior.l2 * trial, prior.l1)) < 0.5 * np.linalg.norm(
                uphill
            )
            if np.isfinite(then.value) and (smaller if near else gain >= 1e-4 * size * max(expected, 0.0)):
                found = then
                break
            size /= 2
        if found is None:
            converged = near
            break
        change = gradient - (found.gradient - prior.l2 * trial)
        if not exact:
            memory.add(trial - theta, change)
        elif renew:
            precision, age = _precision(found, prior), 0
        elif precision is not None:
            precision = _bfgs(precision, trial - theta, change)
        theta, now = trial, found
        history.append(now.value)
    return Search(theta, now, iteration, evaluations, converged, history)


def _precision(now: Evaluation, prior: Prior) -> Float[np.ndarray, "features features"]:
    """Minus the Hessian where that is positive definite, else the Fisher information of the choices."""
    assert now.hessian is not None
    assert now.information is not None
    ridge = prior.l2 * np.eye(len(now.gradient))
    exact = ridge - now.hessian
    scale = np.sqrt(np.maximum(np.diag(exact), 0.0))
    scale = np.where(scale > 0, scale, 1.0)
    if np.linalg.eigvalsh(exact / np.outer(scale, scale))[0] > -1e-9:
        return exact
    return ridge + now.information


def _bfgs(precision: np.ndarray, step: np.ndarray, change: np.ndarray) -> np.ndarray:
    """Minus the Hessian, brought in line with a change of gradient (Nocedal & Wright 2006, eq. 6.19)."""
    along = precision @ step
    if not step @ change > 1e-8 * step @ along > 0:
        return precision
    return precision - np.outer(along, along) / (step @ along) + np.outer(change, change) / (step @ change)


def _uphill(theta, gradient, l1):
    """The steepest-ascent direction of value − l1 · |θ|₁: zero at a maximum."""
    if l1 == 0:
        return gradient
    pulled = np.sign(gradient) * np.maximum(np.abs(gradient) - l1, 0.0)
    return np.where(theta != 0, gradient - l1 * np.sign(theta), pulled)


def _newton_step(theta, gradient, precision, l1):
    """Where the quadratic model, made positive definite, is largest; with ``l1`` by coordinate descent on it."""
    if l1 == 0:
        # Weights of very different scale make one curvature look like none.
        scale = np.sqrt(np.maximum(np.diag(precision), 0.0))
        scale = np.where(scale > 0, scale, 1.0)
        precision, gradient = precision / np.outer(scale, scale), gradient / scale
    values, vectors = np.linalg.eigh(precision)
    largest = max(float(np.abs(values).max(initial=0.0)), 1e-12)
    flat = np.abs(values) <= 1e-12 * largest
    curved = np.where(flat, 1e-6 * largest, np.maximum(np.abs(values), 1e-9 * largest))
    if l1 == 0:
        along = vectors.T @ gradient
        # Along a direction that the data say nothing about, θ stays.
        return vectors @ np.where(flat & (np.abs(along) <= 1e-7 * largest), 0.0, along / curved) / scale
    model = (vectors * curved) @ vectors.T
    step = np.zeros_like(theta)
    for _ in range(500):
        before = step.copy()
        for j in range(len(theta)):
            rest = gradient[j] - model[j] @ step + model[j, j] * step[j]
            aim = theta[j] + rest / model[j, j]
            step[j] = np.sign(aim) * max(abs(aim) - l1 / model[j, j], 0.0) - theta[j]
        if np.max(np.abs(step - before), initial=0.0) <= 1e-14 * max(1.0, float(np.abs(theta).max(initial=0.0))):
            break
    return step


class _Memory:
    """The last steps and changes of gradient: L-BFGS (Nocedal & Wright 2006, algorithm 7.4)."""

    def __init__(self, size: int = 30):
        self._size = size
        self._pairs: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, step: np.ndarray, change: np.ndarray) -> None:
        """Keep a pair with positive curvature."""
        if step @ change > 1e-14 * np.linalg.norm(step) * np.linalg.norm(change):
            self._pairs = [*self._pairs, (step, change)][-self._size :]

    def direction(self, ascent: np.ndarray, theta: np.ndarray, l1: float) -> np.ndarray:
        """The quasi-Newton step; with ``l1`` it keeps each weight's orthant (Andrew & Gao 2007)."""
        if not self._pairs:
            return ascent / max(1.0, float(np.linalg.norm(ascent)))
        q, kept = ascent.copy(), []
        for step, change in reversed(self._pairs):
            a = (step @ q) / (step @ change)
            q -= a * change
            kept.append(a)
        step, change = self._pairs[-1]
        q *= (step @ change) / (change @ change)
        for (step, change), a in zip(self._pairs, reversed(kept), strict=True):
            q += step * (a - (change @ q) / (step @ change))
        return np.where(q * ascent > 0, q, 0.0) if l1 else q


def find_start(
    evaluate: Callable[[np.ndarray], Evaluation], choices: Choices
) -> tuple[Float[np.ndarray, " features"], int]:
    """A θ at which the objective exists, and how many were tried: 0, or one whose every reward is negative enough."""
    zero = np.zeros(choices.features.num_features)
    try:
        if np.isfinite(evaluate(zero).value):
            return zero, 1
    except DivergenceError as error:
        reason = error
    else:
        raise RequestError("The objective is not finite at θ = 0; check the demonstrations.")
    direction = _most_negative(choices)
    if direction is None:
        raise RequestError(f"No θ makes every reward negative, so give a start with --start. At θ = 0: {reason}")
    branching = np.log(max(int(choices.sizes.max()), 2))
    for attempt in range(12):
        theta = direction * (branching + 0.2) * 1.7**attempt
        try:
            if np.isfinite(evaluate(theta).value):
                return theta, attempt + 2
        except DivergenceError as error:
            reason = error
    raise RequestError(f"No start was found, so give one with --start. {reason}")


def _most_negative(choices: Choices) -> Float[np.ndarray, " features"] | None:
    """θ with reward ≤ −1 everywhere, its largest weight as small as can be: a linear program over rows that bind."""
    from scipy.optimize import linprog

    features = choices.features.dense()
    rows = np.unique(features[:: max(1, len(features) // 2000)], axis=0)
    size = features.shape[1]
    # Variables θ and t = max |θ|.
    cost = np.append(np.zeros(size), 1.0)
    box = np.concatenate(
        [np.hstack([np.eye(size), -np.ones((size, 1))]), np.hstack([-np.eye(size), -np.ones((size, 1))])]
    )
    for _ in range(30):
        table = np.concatenate([np.hstack([rows, np.zeros((len(rows), 1))]), box])
        limit = np.concatenate([-np.ones(len(rows)), np.zeros(2 * size)])
        found = linprog(cost, A_ub=table, b_ub=limit, bounds=[(None, None)] * size + [(0, None)])
        if not found.success:
            return None
        theta = found.x[:size]
        reward = features @ theta
        broken = np.flatnonzero(reward > -1 + 1e-7)
        if not len(broken):
            return theta
        worst = broken[np.argsort(-reward[broken])[:2000]]
        rows = np.unique(np.concatenate([rows, features[worst]]), axis=0)
    return None
