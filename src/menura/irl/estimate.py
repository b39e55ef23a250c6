"""``fit(mdp, demos) -> Estimate``: rewards from demonstrations on a table, with their certificates."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from menura.core import RequestError
from menura.environments.tabular import TabularMDP, read_npz
from menura.irl.errors import inverse_curvature, sandwich
from menura.irl.folders import replace_folder
from menura.irl.objective import ForwardPass, Match, Method, Objective, Problem, make_problem
from menura.irl.optimize import Prior, Search, find_start, maximize
from menura.irl.paths import Paths
from menura.irl.planning import DivergenceError, GoalPlanner, SoftPlan
from menura.irl.separation import describe_runaway, runaway_weights

ESTIMATE_FILE = "estimate.json"
"""The file by which the folder of an estimate is known."""


@dataclass(frozen=True, eq=False)
class Estimate:
    """A fitted reward θ·features, what it makes of the demonstrations, and how sure it is."""

    method: Method
    match: Match
    forward_pass: ForwardPass
    names: tuple[str, ...]
    theta: Float[np.ndarray, " features"]
    standard_errors: Float[np.ndarray, " features"]
    """From the Hessian (for feature matching, from the spread of paths); nan where the data do not identify θ."""
    robust_errors: Float[np.ndarray, " features"]
    """Sandwich of Hessian and scores, clustered by individual where the demonstrations name them."""
    covariance: Float[np.ndarray, "features features"]
    log_likelihood: float
    gradient_norm: float
    """Euclidean norm of the log-likelihood's gradient."""
    objective_gradient_norm: float
    """The same of what was maximized: with a prior, or of the dual."""
    expert_features: Float[np.ndarray, " features"]
    """Mean discounted features of a demonstration."""
    learner_features: Float[np.ndarray, " features"]
    """The same of a path of the deployed policy, expected."""
    duality_gap: float
    num_states: int
    num_transitions: int
    num_paths: int
    num_steps: int
    iterations: int
    evaluations: int
    converged: bool
    seconds: float
    seconds_per_evaluation: float
    compile_seconds: float = 0.0
    """Always 0: nothing here is compiled."""
    warnings: tuple[str, ...] = ()
    """What to know before believing it, one sentence each."""
    reference: Float[np.ndarray, " others"] | None = None
    """The θ that the link size, the last feature, was computed with; ``None`` without such a feature."""
    links: Literal["actions", "states"] = "actions"
    """What its links are."""

    def to_json(self) -> dict[str, Any]:
        """As ``menura irl … --json`` prints it; ``None`` stands for what is not a number."""
        named = lambda values: {n: _number(v) for n, v in zip(self.names, values, strict=True)}  # noqa: E731
        out: dict[str, Any] = {
            "method": self.method,
            "match": self.match,
            "theta": named(self.theta),
            "standard_errors": named(self.standard_errors),
            "robust_standard_errors": named(self.robust_errors),
            "log_likelihood": _number(self.log_likelihood),
            "gradient_norm": _number(self.gradient_norm),
            "objective_gradient_norm": _number(self.objective_gradient_norm),
            "feature_expectations": {"expert": named(self.expert_features), "learner": named(self.learner_features)},
        }
        if self.method == "maxent":
            out["forward_pass"] = self.forward_pass
        if self.match == "features":
            out["duality_gap"] = _number(self.duality_gap)
        counts = ("num_states", "num_transitions", "num_paths", "num_steps", "iterations", "evaluations", "converged")
        out.update({name: getattr(self, name) for name in counts})
        out.update({name: getattr(self, name) for name in ("seconds", "seconds_per_evaluation", "compile_seconds")})
        out["warnings"] = list(self.warnings)
        if self.reference is not None:
            out["link_size_reference"] = dict(zip(self.names, map(_number, self.reference), strict=False))
            out["link_size_links"] = self.links
        return out

    def save(self, folder: str | Path, mdp: TabularMDP, paths: Paths) -> None:
        """Write ``estimate.json`` and ``estimate.npz``, and the problem and demonstrations that they speak of.

        They are written to a folder beside, which then takes the place of an earlier estimate as a whole.
        """
        with replace_folder(folder, ESTIMATE_FILE) as place:
            (place / ESTIMATE_FILE).write_text(json.dumps(self.to_json(), indent=2) + "\n", encoding="utf-8")
            np.savez(
                place / "estimate.npz",
                theta=self.theta,
                covariance=self.covariance,
                standard_errors=self.standard_errors,
                robust_errors=self.robust_errors,
                expert_features=self.expert_features,
                learner_features=self.learner_features,
            )
            mdp.save(place / "mdp.npz")
            paths.save(place / "demos.npz")


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def load_estimate(
    folder: str | Path, *, pair: tuple[int, int | None] | None = None
) -> tuple[dict[str, Any], Float[np.ndarray, " features"], TabularMDP, Paths]:
    """What :meth:`Estimate.save` wrote: the JSON, θ in full precision, the problem, and the demonstrations.

    Where every origin and destination has a link size of its own, the problem is that of one ``pair`` of them.
    """
    folder = Path(folder)
    try:
        said = json.loads((folder / ESTIMATE_FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RequestError(f"{folder} holds no estimate; `menura irl mce … --out {folder}` writes one.") from error
    except (ValueError, OSError, RecursionError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise RequestError(f"The estimate in {folder} cannot be read ({reason}); fit it again.") from error
    theta = read_npz(folder / "estimate.npz").get("theta")
    mdp, paths = TabularMDP.load(folder / "mdp.npz"), Paths.load(folder / "demos.npz")
    if isinstance(said, dict) and "link_size_reference" in said and said.get("theta", {}).keys() > {*mdp.feature_names}:
        mdp = _with_link_size(folder, said, mdp, pair)
    fault = _fault(said, theta, mdp)
    if fault or theta is None:
        raise RequestError(f"The estimate in {folder} is damaged: {fault}; fit it again.")
    return said, theta, mdp, paths


def _with_link_size(
    folder: Path, said: dict[str, Any], mdp: TabularMDP, pair: tuple[int, int | None] | None
) -> TabularMDP:
    """The problem with the link size of one origin and destination."""
    from menura.irl.link_size import with_link_size

    if pair is None:
        raise RequestError(
            f"The estimate in {folder} has a link size for every origin and destination, which no single problem "
            "holds: predict for one pair of them, with --start and --goal."
        )
    reference, links = said["link_size_reference"], said.get("link_size_links")
    if not isinstance(reference, dict) or [*reference] != [*mdp.feature_names] or links not in ("actions", "states"):
        raise RequestError(
            f"The estimate in {folder} is damaged: its link size does not fit its problem; fit it again."
        )
    return with_link_size(mdp, np.array([*reference.values()], float), *pair, links=links, method=said["method"])


def _fault(said: Any, theta: np.ndarray | None, mdp: TabularMDP) -> str | None:
    """What is wrong with the parts of a saved estimate, or between them."""
    if not isinstance(said, dict) or not isinstance(said.get("theta"), dict):
        return f"{ESTIMATE_FILE} has no theta"
    if said.get("method") not in ("maxent", "mce"):
        return f"{ESTIMATE_FILE} names no method"
    if theta is None or theta.dtype.kind != "f" or theta.ndim != 1 or not np.isfinite(theta).all():
        return "estimate.npz has no theta of finite numbers"
    if tuple(said["theta"]) != mdp.feature_names or len(theta) != mdp.num_features:
        return f"{ESTIMATE_FILE}, estimate.npz and mdp.npz differ in their features"
    if list(said["theta"].values()) != theta.tolist():
        return f"{ESTIMATE_FILE} and estimate.npz hold different weights"
    return None


def fit(
    mdp: TabularMDP,
    demos: Paths,
    *,
    method: Method = "mce",
    match: Match = "likelihood",
    prior: Prior | None = None,
    forward_pass: ForwardPass = "tilted",
    start: Float[np.ndarray, " features"] | None = None,
    max_iterations: int = 200,
) -> Estimate:
    """The θ under which the demonstrations are likeliest, or whose policy has their features.

    ``method="mce"`` is maximum causal entropy: a policy over actions. ``"maxent"`` is a distribution over whole
    paths. ``match="features"`` solves the dual of maximum causal entropy instead of maximizing the likelihood;
    the two agree on deterministic, undiscounted problems. ``forward_pass="printed"`` uses the visit counts of the
    algorithm as printed by Ziebart et al. (2008), an approximation on stochastic dynamics.
    """
    began = time.perf_counter()
    prior = prior or Prior()
    problem = make_problem(mdp, demos, method)
    _check_options(problem, match, forward_pass)
    objective = problem.dual() if match == "features" else problem.likelihood()
    tried = 0
    if start is None:
        start, tried = find_start(objective.evaluate, problem.choices)
    elif len(start) != mdp.num_features:
        raise RequestError(f"The start has {len(start)} weights for {mdp.num_features} features; give one a feature.")
    if forward_pass == "printed":
        from menura.irl.maxent import printed_root

        search = printed_root(problem, np.asarray(start, np.float64))
    else:
        search = maximize(
            objective.evaluate,
            objective.derive,
            np.asarray(start, np.float64),
            prior=prior,
            max_iterations=max_iterations,
            tolerance=1e-13 if match == "features" else 1e-9,
            hessian_every=8 if sum(len(goals) for goals in problem.members) > 8 else 1,
        )
        search.evaluations += tried
    if np.max(np.abs(search.theta), initial=0.0) > 1e6:
        largest = mdp.feature_names[int(np.argmax(np.abs(search.theta)))]
        raise RequestError(
            f"θ grows without bound, most of all the weight of {largest!r}, because no finite reward explains these "
            "demonstrations exactly; add a prior, such as --prior l2=0.01."
        )
    return _report(problem, match, forward_pass, prior, search, began, objective, fitted=True)


def evaluate_at(
    mdp: TabularMDP,
    demos: Paths,
    theta: Float[np.ndarray, " features"],
    *,
    method: Method = "mce",
    match: Match = "likelihood",
    prior: Prior | None = None,
    forward_pass: ForwardPass = "tilted",
) -> Estimate:
    """What a given θ makes of the demonstrations; nothing is fitted."""
    began = time.perf_counter()
    theta = np.asarray(theta, np.float64)
    if theta.shape != (mdp.num_features,):
        raise RequestError(f"θ has {theta.size} weights for {mdp.num_features} features; give one a feature.")
    if not np.isfinite(theta).all():
        raise RequestError("θ must be finite.")
    problem = make_problem(mdp, demos, method)
    _check_options(problem, match, forward_pass)
    objective = problem.dual() if match == "features" else problem.likelihood()
    search = Search(theta, objective.evaluate(theta), 0, 1, True)
    return _report(problem, match, forward_pass, prior or Prior(), search, began, objective)


def _check_options(problem: Problem, match: Match, forward_pass: ForwardPass) -> None:
    if match == "features" and problem.method == "maxent":
        raise RequestError("MaxEnt's likelihood already matches features; leave out --match features, or use mce.")
    if forward_pass == "printed" and (
        problem.method != "maxent" or problem.mdp.horizon is None and problem.paths.goals is not None
    ):
        raise RequestError(
            "The printed forward pass belongs to maxent with a horizon or terminal states; leave it out here."
        )


def _report(
    problem: Problem,
    match: Match,
    forward_pass: ForwardPass,
    prior: Prior,
    search: Search,
    began: float,
    objective: Objective,
    *,
    fitted: bool = False,
) -> Estimate:
    theta, mdp, paths = search.theta, problem.mdp, problem.paths
    likelihood = objective if match == "likelihood" else problem.likelihood()
    few = mdp.num_features <= 500
    here = likelihood.derive(theta) if few else likelihood.evaluate(theta)
    reward = problem.choices.reward(theta)
    if forward_pass == "printed":
        from menura.irl.maxent import printed_features

        learner = printed_features(problem, theta)
    else:
        learner = problem.choices.features.pull_back(problem.learner_flow(reward))
    expert = problem.expert_features(reward)
    size = mdp.num_features
    covariance = robust = inverse = np.full((size, size), np.nan)
    objective_gradient = here.gradient - prior.l2 * theta
    if match == "features":
        dual = objective.derive(theta) if few else objective.evaluate(theta)
        objective_gradient = dual.gradient - prior.l2 * theta
        if dual.hessian is not None:
            inverse = inverse_curvature(prior.l2 * np.eye(size) - dual.hessian)
            covariance = robust = _matching_covariance(problem, inverse)
    elif here.hessian is not None and here.scores is not None:
        covariance = inverse = inverse_curvature(prior.l2 * np.eye(size) - here.hessian)
        robust = sandwich(covariance, here.scores, paths.individuals)
    if prior.l1:
        objective_gradient = np.where(
            theta != 0,
            objective_gradient - prior.l1 * np.sign(theta),
            np.sign(objective_gradient) * np.maximum(np.abs(objective_gradient) - prior.l1, 0),
        )
    warnings = ()
    if fitted and few and forward_pass != "printed":
        scale = float(paths.num_paths) if match == "features" else 1.0
        away = runaway_weights(objective, problem.choices.features, theta, inverse, prior=prior, scale=scale)
        warnings = (describe_runaway(mdp.feature_names, theta, away),) if away else ()
    spent = time.perf_counter()
    objective.evaluate(theta)
    once = time.perf_counter() - spent
    return Estimate(
        problem.method,
        match,
        forward_pass,
        mdp.feature_names,
        theta,
        np.sqrt(np.diag(covariance)),
        np.sqrt(np.diag(robust)),
        covariance,
        here.value,
        float(np.linalg.norm(here.gradient)),
        float(np.linalg.norm(objective_gradient)),
        expert,
        learner,
        abs(float(theta @ (learner - expert))),
        mdp.num_states,
        mdp.num_transitions,
        paths.num_paths,
        len(paths.states),
        search.iterations,
        search.evaluations,
        search.converged,
        time.perf_counter() - began,
        once,
        warnings=warnings,
    )


def _matching_covariance(problem: Problem, inverse: np.ndarray) -> Float[np.ndarray, "n n"]:
    """Of the θ that matches features: J⁻¹ · Cov(features of a path) / paths · J⁻¹, J the dual's curvature."""
    weight, _ = problem.expert_frequencies()
    each = np.zeros((problem.paths.num_paths, problem.mdp.num_features))
    features = problem.choices.features.dense()
    np.add.at(each, problem.paths.path_of_step, weight[:, None] * features[problem.step_choice])
    each *= problem.paths.num_paths
    return sandwich(inverse, (each - each.mean(axis=0)) / len(each))


def policy_of(problem: Problem, theta: Float[np.ndarray, " features"], goal: int = 0) -> SoftPlan:
    """Values and policy that a θ deploys, for the problem's goal with this number."""
    reward, planners = problem.choices.reward(theta), problem.planners
    if isinstance(planners[0], GoalPlanner):
        return planners[0].plan(reward, goal)
    return planners[goal].plan(reward)


__all__ = ["DivergenceError", "Estimate", "Prior", "evaluate_at", "fit", "load_estimate", "policy_of"]
