"""Demonstrations of several intentions, separated by a mixture of rewards (Babeş-Vroman et al. 2011).

Each unit u (an individual where the demonstrations name them, else a path) follows one of K rewards throughout:
P(u) = Σ_k w_k Π P(path | θ_k) over its paths. Expectation–maximization alternates between the responsibilities
r_uk ∝ w_k P(u | θ_k) and, for every k, the likelihood in which u's paths count r_uk times.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float

from menura.core import RequestError
from menura.environments.tabular import TabularMDP
from menura.irl.by_path import PathLikelihood, Units, units_of
from menura.irl.choices import FeatureMap
from menura.irl.mixture import Intentions, mixture_derivatives, mixture_errors
from menura.irl.objective import Method, make_problem
from menura.irl.optimize import NEWTON_FEATURES, Prior, find_start, maximize
from menura.irl.paths import Paths
from menura.irl.planning import DivergenceError

FIRST_STEPS = 5
"""Newton steps on each reward from the first clusters. Later one between two looks at the responsibilities is enough:
any that rises keeps the whole rising, and near the end they are as good as many (Lange 1995)."""

DIRECTIONS = 16
"""Scores of more weights than this are seen from so many random directions when first clusters are made."""

COARSE, COARSE_ITERATIONS = 1e-5, 25
"""Every start is followed until an iteration gains less than this share, or so far; only the best one further."""

CHOOSING = 1e-7
"""The share at which fits that only compare numbers of intentions end."""

FURTHEST = 1e6
"""A weight beyond this has run away."""


@dataclass
class _Standing:
    """Where expectation–maximization is."""

    theta: Float[np.ndarray, "intentions features"]
    weights: Float[np.ndarray, " intentions"]
    responsibilities: Float[np.ndarray, "units intentions"]
    log_likelihood: float
    target: float
    """With the prior."""
    history: list[float] = field(default_factory=list)
    """The target at each iteration."""
    converged: bool = False


class _Mixture:
    """The likelihoods of as many intentions, each with values of its own to start from."""

    def __init__(self, mdp: TabularMDP, demos: Paths, number: int, method: Method, prior: Prior):
        self.likelihoods = [PathLikelihood(make_problem(mdp, demos, method)) for _ in range(number)]
        self.units, self.prior, self.number = units_of(demos), prior, number
        self.evaluations = 0

    def pooled(self) -> tuple[Float[np.ndarray, " features"], bool]:
        """The θ that ``fit`` finds for all demonstrations together."""
        objective, problem = self.likelihoods[0].objective, self.likelihoods[0].problem
        start, tried = find_start(objective.evaluate, problem.choices)
        goals = sum(len(group) for group in problem.members)
        search = maximize(
            objective.evaluate, objective.derive, start, prior=self.prior, tolerance=1e-9,
            hessian_every=8 if goals > 8 else 1,
        )  # fmt: skip
        self.evaluations += tried + search.evaluations
        _refuse_runaway(search.theta, problem.mdp)
        return search.theta, search.converged

    def table(self, theta: Float[np.ndarray, "intentions features"]) -> Float[np.ndarray, "units intentions"]:
        """log P(unit | θ_k)."""
        self.evaluations += len(theta)
        columns = [one.each(row) for one, row in zip(self.likelihoods, theta, strict=True)]
        return self.units.sum(np.stack(columns, axis=1))

    def look(self, theta: np.ndarray, weights: np.ndarray, history: list[float]) -> _Standing:
        """The responsibilities, and how likely everything is."""
        each, responsibilities = mix(self.table(theta), weights)
        value = float(each.sum())
        target = value + sum(self.prior.value(row) for row in theta)
        return _Standing(theta, weights, responsibilities, value, target, [*history, target])

    def climb(self, theta: np.ndarray, responsibilities: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """Better rewards and mixing weights for given responsibilities."""
        moved = []
        for one, row, share in zip(self.likelihoods, theta, responsibilities.T, strict=True):
            objective = one.weigh(share[self.units.of_path])
            search = maximize(objective.evaluate, objective.derive, row, prior=self.prior, max_iterations=steps)
            self.evaluations += search.evaluations
            moved.append(search.theta)
        return np.stack(moved), responsibilities.mean(axis=0)

    def iterate(self, now: _Standing, tolerance: float, limit: int, watch: Callable[[float], None]) -> _Standing:
        """Expectation and maximization in turn, until an iteration gains less than ``tolerance`` of the value."""
        for iteration in range(limit):
            then = self.look(*self.climb(now.theta, now.responsibilities, 1), now.history)
            gain = then.target - now.target
            if gain >= 0:  # else it is rounding
                now = then
            watch((iteration + 1) / limit)
            if gain <= tolerance * max(1.0, abs(now.target)):
                now.converged = True
                break
        return now

    def finish(self, now: _Standing, tolerance: float, limit: int, watch: Callable[[float], None]) -> _Standing:
        """To the end by Newton's method on all rewards and shares at once; by EM wherever that does not rise."""
        size = now.theta.shape[1]
        if self.prior.l1 or size > NEWTON_FEATURES:
            return self.iterate(now, tolerance, limit, watch)
        for iteration in range(limit):
            scores, hessian = mixture_derivatives(
                self.likelihoods, self.units, now.theta, now.weights, now.responsibilities
            )
            self.evaluations += 2 * self.number
            ridge = np.zeros(len(hessian))
            ridge[: now.theta.size] = self.prior.l2
            gradient = scores.sum(axis=0)
            gradient[: now.theta.size] -= self.prior.l2 * now.theta.ravel()
            step = newton_step(np.diag(ridge) - hessian, gradient)
            then = None if step is None else self._try(now, step)
            watch((iteration + 1) / limit)
            near = step is not None and gradient @ step <= tolerance * max(1.0, abs(now.target))
            if then is not None and then.target >= now.target:
                now = then
                if near:
                    now.converged = True
                    break
                continue
            if near:
                now.converged = True
                break
            before = now.target
            now = self.iterate(now, 0.0, 3, lambda share: None)
            if now.target - before <= tolerance * max(1.0, abs(now.target)):
                now.converged = True
                break
        return now

    def _try(self, now: _Standing, step: np.ndarray) -> _Standing | None:
        theta = now.theta + step[: now.theta.size].reshape(now.theta.shape)
        with np.errstate(divide="ignore", over="ignore"):
            ratio = np.log(now.weights) + np.append(step[now.theta.size :], 0.0)
        weights = np.exp(ratio - ratio.max())
        try:
            then = self.look(theta, weights / weights.sum(), now.history)
        except DivergenceError:
            return None
        return then if np.isfinite(then.target) else None

    def scores(
        self, theta: Float[np.ndarray, " features"], rng: np.random.Generator
    ) -> Float[np.ndarray, "units directions"]:
        """Each unit's gradient of its own log-likelihood, in few directions and of unit variance."""
        objective = self.likelihoods[0].objective
        choices, size = objective.choices, len(theta)
        directions = np.eye(size) if size <= DIRECTIONS else rng.normal(size=(DIRECTIONS, size))
        columns = np.stack([choices.features.reward(row) for row in directions], axis=1)
        features = FeatureMap(((columns, None, 0),), len(directions), choices.num_choices)
        turned = replace(choices, offset=choices.reward(theta), features=features)
        found = replace(objective, choices=turned).derive(np.zeros(len(directions))).scores
        assert found is not None
        summed = self.units.sum(found)
        values, vectors = np.linalg.eigh(summed.T @ summed / len(summed))
        firm = values > 1e-9 * max(float(values.max(initial=0.0)), 1e-300)
        return summed @ vectors[:, firm] / np.sqrt(values[firm])


def newton_step(
    precision: Float[np.ndarray, "n n"], gradient: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " n"] | None:
    """To the top of the quadratic model; nothing along flat directions, and ``None`` where it has no top."""
    scale = np.sqrt(np.maximum(np.diag(precision), 0.0))
    scale = np.where(scale > 0, scale, 1.0)
    values, vectors = np.linalg.eigh(precision / np.outer(scale, scale))
    if values[0] < -1e-9:
        return None
    firm = values > 1e-9
    return vectors[:, firm] @ ((vectors[:, firm].T @ (gradient / scale)) / values[firm]) / scale


def mix(
    table: Float[np.ndarray, "units intentions"], weights: Float[np.ndarray, " intentions"]
) -> tuple[Float[np.ndarray, " units"], Float[np.ndarray, "units intentions"]]:
    """log Σ_k w_k P(unit | θ_k) and each intention's share of it, from log P(unit | θ_k)."""
    with np.errstate(divide="ignore"):
        joint = table + np.log(weights)
    best = joint.max(axis=1)
    shift = np.where(np.isfinite(best), best, 0.0)
    share = np.exp(joint - shift[:, None])
    total = share.sum(axis=1)
    with np.errstate(divide="ignore"):
        each = shift + np.log(total)
    none = total == 0
    share[none], total[none] = weights, weights.sum()
    return each, share / total[:, None]


def cluster(
    points: Float[np.ndarray, "points dimensions"], number: int, rng: np.random.Generator
) -> Float[np.ndarray, "points clusters"]:
    """One column a cluster, 1 for its own points: k-means from seeds drawn far apart (Arthur & Vassilvitskii 2007)."""
    centers = [points[rng.integers(len(points))]]
    for _ in range(number - 1):
        distance = np.min([np.square(points - center).sum(axis=1) for center in centers], axis=0)
        total = distance.sum()
        likely = distance / total if total > 0 else np.full(len(points), 1 / len(points))
        centers.append(points[rng.choice(len(points), p=likely)])
    table = np.stack(centers)
    nearest = np.zeros(len(points), np.int64)
    for _ in range(20):
        distances = np.stack([np.square(points - center).sum(axis=1) for center in table], axis=1)
        nearest = distances.argmin(axis=1)
        for k in range(number):
            if (nearest == k).any():
                table[k] = points[nearest == k].mean(axis=0)
    return np.eye(number)[nearest]


def fit_intentions(
    mdp: TabularMDP,
    demos: Paths,
    number: int,
    *,
    method: Method = "mce",
    prior: Prior | None = None,
    heldout: Paths | None = None,
    restarts: int = 5,
    max_iterations: int = 500,
    tolerance: float = 1e-11,
    seed: int = 0,
    watch: Callable[[float], None] | None = None,
) -> Intentions:
    """The ``number`` rewards, and their mixing weights, under which the demonstrations are likeliest.

    Expectation–maximization begins ``restarts`` times from clusters of the units' scores, and the best is followed to
    its end. The prior is on each θ. ``heldout`` demonstrations are only scored. ``watch`` is told the share done.
    """
    began = time.perf_counter()
    prior = prior or Prior()
    units = units_of(demos)
    _check_number(number, units, demos)
    if restarts < 1:
        raise RequestError(f"restarts is {restarts}; make it at least 1.")
    told = watch or (lambda share: None)
    mixture = _Mixture(mdp, demos, number, method, prior)
    pooled, settled = mixture.pooled()
    if number == 1:
        best = mixture.look(pooled[None], np.ones(1), [])
        best.converged = settled
    else:
        best = _search(mixture, pooled, restarts, max_iterations, tolerance, seed, told)
    order = np.argsort(-best.weights, kind="stable")
    theta, weights = best.theta[order], best.weights[order]
    _refuse_runaway(theta, mdp)
    found = mixture_errors(mixture.likelihoods[:number], units, theta, weights, best.responsibilities[:, order], prior)
    told(1.0)
    said = Intentions(
        method=method,
        names=mdp.feature_names,
        theta=theta,
        weights=weights,
        responsibilities=best.responsibilities[:, order],
        units=units,
        log_likelihood=best.log_likelihood,
        heldout_log_likelihood=None,
        history=np.array(best.history),
        num_states=mdp.num_states,
        num_transitions=mdp.num_transitions,
        num_paths=demos.num_paths,
        num_steps=len(demos.states),
        evaluations=mixture.evaluations,
        converged=best.converged,
        restarts=restarts if number > 1 else 1,
        seed=seed,
        seconds=0.0,
        **found,
    )
    if heldout is not None:
        each, _ = assign(mdp, heldout, said)
        said = replace(said, heldout_log_likelihood=float(each.sum()))
    return replace(said, seconds=time.perf_counter() - began)


def _search(mixture, pooled, restarts, max_iterations, tolerance, seed, told) -> _Standing:
    """The best of several starts, followed to its end."""
    rng = np.random.default_rng([seed, mixture.number])
    scores = mixture.scores(pooled, rng)
    start = np.tile(pooled, (mixture.number, 1))
    best = None
    for attempt in range(restarts):
        shares = cluster(scores, mixture.number, rng)
        # A little of everything keeps a small cluster's weights from running away before they are shared out.
        shares = 0.9 * shares + 0.1 / mixture.number
        now = mixture.look(*mixture.climb(start, shares, FIRST_STEPS), [])
        tell = lambda share, n=attempt: told((n + share) / (restarts + 1))  # noqa: E731
        now = mixture.iterate(now, COARSE, COARSE_ITERATIONS, tell)
        if best is None or now.target > best.target + 1e-9 * abs(best.target):
            best = now
    assert best is not None
    best.converged = False
    return mixture.finish(best, tolerance, max_iterations, lambda share: told((restarts + share) / (restarts + 1)))


def assign(
    mdp: TabularMDP, demos: Paths, intentions: Intentions
) -> tuple[Float[np.ndarray, " units"], Float[np.ndarray, "units intentions"]]:
    """Of other demonstrations: each unit's log-likelihood under the mixture, and its responsibilities.

    An intention under which these demonstrations have no likelihood, because its values diverge, counts as impossible.
    """
    likelihood = PathLikelihood(make_problem(mdp, demos, intentions.method))
    if intentions.theta.shape[1] != mdp.num_features:
        raise RequestError(
            f"These intentions weigh {intentions.theta.shape[1]} features and the problem has {mdp.num_features}; "
            "give the problem that they were fitted to."
        )
    units = units_of(demos)
    columns = []
    for theta in intentions.theta:
        try:
            columns.append(units.sum(likelihood.each(theta)))
        except DivergenceError:
            columns.append(np.full(units.number, -np.inf))
    return mix(np.stack(columns, axis=1), intentions.weights)


@dataclass(frozen=True, eq=False)
class NumberChoice:
    """How many intentions to take, and the held-out log-likelihoods that say so."""

    number: int
    scores: Float[np.ndarray, "numbers units"]
    """Of every unit, when it was held out, under 1, 2, … intentions."""
    folds: int

    @property
    def totals(self) -> Float[np.ndarray, " numbers"]:
        """Sums over the units."""
        return self.scores.sum(axis=1)


def choose_number(
    mdp: TabularMDP,
    demos: Paths,
    up_to: int,
    *,
    method: Method = "mce",
    prior: Prior | None = None,
    folds: int = 5,
    restarts: int = 5,
    seed: int = 0,
    watch: Callable[[float], None] | None = None,
) -> NumberChoice:
    """The number of intentions, 1 to ``up_to``, by cross-validation over individuals (or paths).

    Taken is the smallest number whose held-out log-likelihood is within one standard error of the best one's: that of
    the sum of the units' differences (Breiman et al. 1984, section 3.4.3).
    """
    units = units_of(demos)
    if units.number < 2:
        raise RequestError(f"{demos.source}: one {units.kind} cannot choose a number of intentions; give the number.")
    if folds < 2:
        raise RequestError(f"folds is {folds}; make it at least 2.")
    folds = min(folds, units.number)
    fold = np.random.default_rng([seed, folds]).permutation(units.number) % folds
    smallest = units.number - int(np.bincount(fold).max())
    if up_to > smallest:
        raise RequestError(
            f"{demos.source}: {units.number} {units.kind}s in {folds} folds leave {smallest} to fit, too few for "
            f"{up_to} intentions; try fewer."
        )
    _check_number(up_to, units, demos)
    scores = np.zeros((up_to, units.number))
    for f in range(folds):
        away = fold == f
        train, heldout = demos.select(~away[units.of_path]), demos.select(away[units.of_path])
        for number in range(1, up_to + 1):
            found = fit_intentions(
                mdp, train, number, method=method, prior=prior, restarts=restarts, seed=seed, tolerance=CHOOSING,
                max_iterations=50,
            )  # fmt: skip
            scores[number - 1, away], _ = assign(mdp, heldout, found)
            if watch is not None:
                watch((f * up_to + number) / (folds * up_to))
    return NumberChoice(_smallest_good(scores), scores, folds)


def _smallest_good(scores: Float[np.ndarray, "numbers units"]) -> int:
    totals = scores.sum(axis=1)
    best = int(np.argmax(totals))
    for number in range(best):
        if np.isfinite(totals[number]):
            behind = scores[best] - scores[number]
            if behind.sum() <= np.sqrt(len(behind)) * behind.std(ddof=1):
                return number + 1
    return best + 1


def _check_number(number: int, units: Units, demos: Paths) -> None:
    if number < 1:
        raise RequestError(f"The number of intentions is {number}; make it at least 1.")
    if number > units.number:
        raise RequestError(
            f"{demos.source}: {units.number} {units.kind}s are too few for {number} intentions; ask for fewer."
        )


def _refuse_runaway(theta: np.ndarray, mdp: TabularMDP) -> None:
    size = np.abs(np.atleast_2d(theta)).max(axis=0, initial=0.0)
    if np.max(size, initial=0.0) > FURTHEST:
        raise RequestError(
            f"The weight of {mdp.feature_names[int(np.argmax(size))]!r} grows without bound, because no finite reward "
            "explains these demonstrations exactly; add a prior, such as --prior l2=0.01."
        )
