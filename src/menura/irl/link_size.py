"""Link size: a correction for routes that overlap (Fosgerau, Frejinger & Karlström 2013, section 4).

The logit model takes routes for independent alternatives, and gives those that share most of their way too much. The
remedy is one more feature, the *link size*: how much of a unit of demand between an origin and a destination is
expected on a link, under some reference θ. A link that many routes share has a large one, and its weight, negative
where overlap counts, lowers all of these routes. It depends on the origin and the destination, so each pair of them has
a reward of its own: likelihoods are then added over pairs, each with its own planner.
"""

import time
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from menura.core import RequestError
from menura.environments.tabular import TabularMDP
from menura.irl.choices import Choices, FeatureMap, action_choices
from menura.irl.errors import inverse_curvature, sandwich
from menura.irl.estimate import Estimate, evaluate_at, fit
from menura.irl.objective import Evaluation, Method, Objective, Problem, make_problem
from menura.irl.optimize import NEWTON_FEATURES, Prior, Search, find_start, maximize
from menura.irl.paths import Paths
from menura.irl.predict import Demand, predict
from menura.irl.separation import describe_runaway, runaway_weights

LINK_SIZE = "link size"
"""Name of the feature."""

Links = Literal["actions", "states"]


def link_size(
    mdp: TabularMDP,
    reference: Float[np.ndarray, " features"],
    start: int,
    goal: int | None = None,
    *,
    links: Links = "actions",
    method: Method = "mce",
) -> Float[np.ndarray, " pairs"]:
    """The link size of every action: expected passages of one path from start to goal under the reference θ.

    With ``links="actions"`` a link is an action, as where states are crossings; with ``"states"`` it is the state that
    the action leads to, as in the published model, where states are road segments.
    """
    if not mdp.is_deterministic:
        raise RequestError("Link sizes are for routes: every action must have one outcome.")
    found = predict(mdp, reference, Demand.between([start], None if goal is None else [goal]), method=method)
    return found.flow if links == "actions" else found.choices.arrive(found.flow)[mdp.next_state]


def with_link_size(
    mdp: TabularMDP,
    reference: Float[np.ndarray, " features"],
    start: int,
    goal: int | None = None,
    *,
    links: Links = "actions",
    method: Method = "mce",
) -> TabularMDP:
    """The problem with one feature more, the link size for paths from this start to this goal."""
    _check_name(mdp)
    size = link_size(mdp, reference, start, goal, links=links, method=method)
    wide = np.column_stack([action_choices(mdp).features.dense(), size])
    names = (*mdp.feature_names, LINK_SIZE)
    return mdp.replace(state_features=None, transition_features=None, pair_features=wide, feature_names=names)


@dataclass(frozen=True, eq=False)
class PooledObjective:
    """Objectives of the same θ, added: each of some paths, whose features are their own."""

    objectives: tuple[Objective, ...]
    members: tuple[Int[np.ndarray, " _"], ...]
    """The paths of each."""

    def evaluate(self, theta: Float[np.ndarray, " features"]) -> Evaluation:
        """Value and gradient."""
        value, gradient = 0.0, np.zeros(len(theta))
        for objective in self.objectives:
            one = objective.evaluate(theta)
            value, gradient = value + one.value, gradient + one.gradient
        return Evaluation(value, gradient)

    def derive(self, theta: Float[np.ndarray, " features"]) -> Evaluation:
        """Value, gradient, Hessian, scores and information."""
        size = len(theta)
        value, gradient, hessian, information = 0.0, np.zeros(size), np.zeros((size, size)), np.zeros((size, size))
        scores = np.zeros((sum(map(len, self.members)), size))
        for objective, paths in zip(self.objectives, self.members, strict=True):
            one = objective.derive(theta)
            assert one.hessian is not None
            assert one.information is not None
            assert one.scores is not None
            value, gradient = value + one.value, gradient + one.gradient
            hessian, information = hessian + one.hessian, information + one.information
            scores[paths] = one.scores
        return Evaluation(value, gradient, hessian, scores, information)


def pairs_of(paths: Paths) -> tuple[tuple[int, int | None, Int[np.ndarray, " _"]], ...]:
    """Every origin and destination of the demonstrations (``None`` without goals), and the paths between them."""
    first = paths.states[paths.first]
    goals = np.zeros_like(first) if paths.goals is None else paths.goals
    found, which = np.unique(np.stack([first, goals]), axis=1, return_inverse=True)
    which = which.ravel()
    order = np.argsort(which, kind="stable")
    groups = np.split(order, np.cumsum(np.bincount(which))[:-1])
    return tuple(
        (int(start), None if paths.goals is None else int(goal), group)
        for start, goal, group in zip(*found, groups, strict=True)
    )


def fit_link_size(
    mdp: TabularMDP,
    demos: Paths,
    reference: Float[np.ndarray, " features"] | None = None,
    *,
    at: Float[np.ndarray, " weights"] | None = None,
    start: Float[np.ndarray, " weights"] | None = None,
    links: Links = "actions",
    method: Method = "mce",
    prior: Prior | None = None,
) -> tuple[Estimate, TabularMDP]:
    """Maximum likelihood with the link size as one more feature, and the problem that the estimate speaks of.

    Without a reference θ, the fit without link size is taken. With one origin and destination that problem has the
    feature, and is as good as any other; with several, no single problem can have it, and it is the one given. With
    ``at`` nothing is fitted.
    """
    _check_name(mdp)
    if reference is None:
        reference = fit(mdp, demos, method=method).theta
    reference = np.asarray(reference, np.float64)
    groups = pairs_of(demos)
    if len(groups) == 1:
        origin, goal, _ = groups[0]
        wide = with_link_size(mdp, reference, origin, goal, links=links, method=method)
        if at is not None:
            found = evaluate_at(wide, demos, at, method=method, prior=prior)
        else:
            found = fit(wide, demos, method=method, prior=prior, start=start)
        return replace(found, reference=reference, links=links), wide
    return _fit_pooled(mdp, demos, reference, groups, at, start, links, method, prior or Prior()), mdp


def _fit_pooled(mdp, demos, reference, groups, at, start, links, method, prior: Prior) -> Estimate:
    began = time.perf_counter()
    problems = tuple(_problem(mdp, demos, reference, group, links, method) for group in groups)
    objective = PooledObjective(tuple(p.likelihood() for p in problems), tuple(group for *_, group in groups))
    names, size = (*mdp.feature_names, LINK_SIZE), mdp.num_features + 1
    for theta in (at, start):
        if theta is not None and np.shape(theta) != (size,):
            raise RequestError(
                f"θ has {np.size(theta)} weights for {size} features, the link size last; give them all."
            )
    if at is not None:
        theta = np.asarray(at, np.float64)
        search = Search(theta, objective.evaluate(theta), 0, 1, True)
    else:
        begin = _start(objective, reference, problems[0].choices) if start is None else np.asarray(start, np.float64)
        often = 8 if len(groups) > 8 and size <= NEWTON_FEATURES else 1
        search = maximize(objective.evaluate, objective.derive, begin, prior=prior, tolerance=1e-9, hessian_every=often)
    theta, here = search.theta, objective.derive(search.theta)
    assert here.hessian is not None
    assert here.scores is not None
    covariance = inverse_curvature(prior.l2 * np.eye(size) - here.hessian)
    robust = sandwich(covariance, here.scores, demos.individuals)
    expert, learner = np.zeros(size), np.zeros(size)
    for problem in problems:
        share, reward = problem.paths.num_paths / demos.num_paths, problem.choices.reward(theta)
        expert += share * problem.expert_features(reward)
        learner += share * problem.choices.features.pull_back(problem.learner_flow(reward))
    warnings = ()
    if at is None:
        features = problems[0].choices.features
        away = runaway_weights(objective, features, theta, covariance, prior=prior, scale=1.0)
        warnings = (describe_runaway(names, theta, away),) if away else ()
    uphill = here.gradient - prior.l2 * theta - prior.l1 * np.sign(theta)
    spent = time.perf_counter()
    objective.evaluate(theta)
    once = time.perf_counter() - spent
    return Estimate(
        method, "likelihood", "tilted", names, theta, np.sqrt(np.diag(covariance)), np.sqrt(np.diag(robust)),
        covariance, here.value, float(np.linalg.norm(here.gradient)), float(np.linalg.norm(uphill)), expert, learner,
        abs(float(theta @ (learner - expert))), mdp.num_states, mdp.num_transitions, demos.num_paths,
        len(demos.states), search.iterations, search.evaluations, search.converged, time.perf_counter() - began, once,
        warnings=warnings, reference=reference, links=links,
    )  # fmt: skip


def _start(objective: PooledObjective, reference: np.ndarray, choices: Choices) -> np.ndarray:
    """The reference without a correction, where values exist by its very choice; else a start found anew."""
    begin = np.append(reference, 0.0)
    try:
        if np.isfinite(objective.evaluate(begin).value):
            return begin
    except RequestError:
        pass
    return find_start(objective.evaluate, choices)[0]


def _problem(mdp, demos, reference, group, links, method) -> Problem:
    """The problem of one origin and destination, whose choices have the link size beside the other features."""
    origin, goal, members = group
    problem = make_problem(mdp, demos.select(members), method)
    size = link_size(mdp, reference, origin, goal, links=links, method=method)
    own = problem.choices.features
    blocks = (*own.blocks, (size[:, None], None, own.num_features))
    wide = FeatureMap(blocks, own.num_features + 1, own.num_choices)
    return replace(problem, choices=replace(problem.choices, features=wide))


def _check_name(mdp: TabularMDP) -> None:
    if LINK_SIZE in mdp.feature_names:
        raise RequestError(
            f"The problem has a feature called {LINK_SIZE!r} already; rename it, or leave the option out."
        )
