"""Mixtures of rewards: expectation–maximization, its errors, and the number of intentions."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from menura.core import RequestError
from menura.environments.tabular import TabularMDP
from menura.irl import Paths, evaluate_at, fit
from menura.irl.by_path import PathLikelihood, split_units, units_of
from menura.irl.choices import action_choices
from menura.irl.estimate import load_estimate, policy_of
from menura.irl.intentions import assign, choose_number, cluster, fit_intentions, mix
from menura.irl.mixture import load_intentions, mixture_derivatives
from menura.irl.objective import make_planner, make_problem
from menura.irl.optimize import Prior

SIDE = 5
THETA = np.array([[2.0, 0.0, -0.5], [0.0, 2.0, 0.5]])


def grid(slip=0.1, horizon=5, **settings):
    """Cells of a square; features: how far to the right, how far down, and a middle to seek or shun."""
    rows = []
    moves = [(-1, 0), (0, 1), (1, 0), (0, -1)]
    for state in range(SIDE**2):
        for action in range(4):
            for turn, probability in ((0, 1 - slip), (1, slip)):
                row, column = np.clip(np.array(divmod(state, SIDE)) + moves[(action + turn) % 4], 0, SIDE - 1)
                rows.append((state, action, SIDE * row + column, probability))
    row, column = np.divmod(np.arange(SIDE**2), SIDE)
    features = np.stack([column, row, (abs(row - 2) + abs(column - 2) < 2) * 2], axis=1) / 4
    settings = {"horizon": horizon, "feature_names": ("right", "down", "middle"), **settings}
    return TabularMDP.from_transitions(*zip(*rows, strict=True), state_features=features, **settings)


def walk(mdp, theta, number, rng, *, individuals=None, start=0):
    choices = action_choices(mdp)
    (planner,) = make_planner(mdp, choices, None, np.array([start]))
    policy = np.exp(planner.plan(choices.reward(theta)).log_policy).reshape(mdp.horizon, -1, 4)
    states, actions = [], []
    for _ in range(number):
        path, taken = [start], []
        for t in range(mdp.horizon):
            taken.append(rng.choice(4, p=policy[t, path[-1]] / policy[t, path[-1]].sum()))
            outcomes = (mdp.state == path[-1]) & (mdp.action == taken[-1])
            path.append(rng.choice(mdp.next_state[outcomes], p=mdp.probability[outcomes]))
        states.append(path)
        actions.append(taken)
    return states, actions


def crowd(mdp, sizes, rng, *, paths_each=3):
    """Individuals of one intention after another, and which each has."""
    states, actions, individuals, truth = [], [], [], []
    for k, size in enumerate(sizes):
        for _ in range(size):
            more = walk(mdp, THETA[k], paths_each, rng)
            states += more[0]
            actions += more[1]
            individuals += [100 - len(truth)] * paths_each
            truth.append(k)
    return Paths.from_lists(states, actions, individuals=individuals), np.array(truth[::-1])


@pytest.fixture(scope="module")
def made():
    mdp = grid()
    demos, truth = crowd(mdp, (24, 16), np.random.default_rng(0), paths_each=4)
    return mdp, demos, truth, fit_intentions(mdp, demos, 2, restarts=3)


def test_two_intentions_on_a_grid_are_told_apart_and_found_again(made):
    _, demos, truth, found = made
    assert found.units.kind == "individual"
    assert_allclose(found.units.labels, np.unique(demos.individuals))
    assert np.mean(found.responsibilities.argmax(axis=1) == truth) >= 0.95
    assert np.mean(found.assignments == truth[units_of(demos).of_path]) >= 0.95
    assert found.converged
    assert found.gradient_norm < 1e-2
    assert_allclose(found.weights, [0.6, 0.4], atol=3 * found.weight_errors.max())
    assert (np.abs(found.theta - THETA) < 3.5 * found.standard_errors).all()
    assert_allclose(found.responsibilities.sum(axis=1), 1)


def test_the_target_never_falls(made):
    mdp, demos, _, found = made
    assert len(found.history) > 3
    assert (np.diff(found.history) >= 0).all()
    assert_allclose(found.history[-1], found.log_likelihood, rtol=1e-12)
    with_prior = fit_intentions(mdp, demos, 3, restarts=1, prior=Prior(l2=1.0), max_iterations=10)
    assert (np.diff(with_prior.history) >= 0).all()
    assert with_prior.history[-1] < with_prior.log_likelihood


def test_the_same_seed_gives_the_same_numbers(made):
    mdp, demos, _, found = made
    again = fit_intentions(mdp, demos, 2, restarts=3)
    assert np.array_equal(again.theta, found.theta)
    assert np.array_equal(again.responsibilities, found.responsibilities)


@pytest.mark.parametrize("method", ["mce", "maxent"])
def test_one_intention_is_the_ordinary_fit(made, method):
    mdp, demos, *_ = made
    one, plain = fit_intentions(mdp, demos, 1, method=method), fit(mdp, demos, method=method)
    assert_allclose(one.theta[0], plain.theta, rtol=1e-10)
    assert_allclose(one.log_likelihood, plain.log_likelihood, rtol=1e-12)
    assert_allclose(one.standard_errors[0], plain.standard_errors, rtol=1e-6)
    assert_allclose(one.robust_errors[0], plain.robust_errors, rtol=1e-6)
    assert_allclose(one.expert_features[0], plain.expert_features, rtol=1e-10)
    assert_allclose(one.learner_features[0], plain.learner_features, rtol=1e-10)
    assert_allclose(one.weights, 1)


def test_the_number_is_chosen_on_held_out_likelihood(made):
    mdp, demos, *_ = made
    assert choose_number(mdp, demos, 3, folds=2, restarts=1).number == 2
    states, actions = walk(mdp, THETA[0], 24, np.random.default_rng(1))
    chosen = choose_number(mdp, Paths.from_lists(states, actions), 2, folds=2, restarts=1)
    assert chosen.number == 1
    assert chosen.scores.shape == (2, 24)


SETTINGS = {
    "random outcomes": ({}, "mce"),
    "random outcomes, whole paths": ({}, "maxent"),
    "certain outcomes": ({"slip": 0.0}, "mce"),
    "discounted": ({"discount": 0.9, "horizon": None}, "mce"),
}


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("ends", ["known", "unknown"])
def test_paths_add_up_and_weights_count_them(setting, ends):
    changes, method = SETTINGS[setting]
    mdp, rng = grid(**changes), np.random.default_rng(2)
    states, actions = walk(grid(slip=changes.get("slip", 0.1)), THETA[0], 6, rng)
    if ends == "unknown":
        states = [path[:-1] for path in states]
    paths = Paths.from_lists(states, actions)
    likelihood = PathLikelihood(make_problem(mdp, paths, method))
    theta = rng.normal(size=3)
    each = likelihood.each(theta)
    alone = [evaluate_at(mdp, paths.select([i]), theta, method=method).log_likelihood for i in range(6)]
    assert_allclose(each, alone, rtol=1e-10)
    assert_allclose(each.sum(), likelihood.objective.evaluate(theta).value, rtol=1e-12)
    # Whole weights are copies.
    copies = np.array([2, 0, 1, 3, 0, 1])
    weighted = likelihood.weigh(copies.astype(float)).derive(theta)
    repeated = make_problem(mdp, paths.select(np.repeat(np.arange(6), copies)), method).likelihood().derive(theta)
    assert_allclose(weighted.value, repeated.value, rtol=1e-10)
    assert_allclose(weighted.gradient, repeated.gradient, atol=1e-8)
    assert_allclose(weighted.hessian, repeated.hessian, atol=1e-8)
    assert_allclose(weighted.information, repeated.information, atol=1e-8)
    assert_allclose(weighted.scores.sum(axis=0), weighted.gradient, atol=1e-8)


def test_the_hessian_of_the_mixture_is_finite_differences_of_its_score(made):
    mdp, demos, *_ = made
    demos = demos.select(np.arange(30))
    units = units_of(demos)
    likelihoods = [PathLikelihood(make_problem(mdp, demos, "mce")) for _ in range(2)]

    def at(parameters):
        theta = parameters[:6].reshape(2, 3)
        weights = np.exp(np.append(parameters[6], 0.0))
        weights /= weights.sum()
        table = np.stack([units.sum(one.each(row)) for one, row in zip(likelihoods, theta, strict=True)], axis=1)
        each, shares = mix(table, weights)
        return each.sum(), *mixture_derivatives(likelihoods, units, theta, weights, shares)

    here = np.array([0.6, 0.1, 0.0, 0.2, 0.5, 0.3, 0.4])
    _, scores, hessian = at(here)
    step = 1e-5
    moved = [(at(here + step * e), at(here - step * e)) for e in np.eye(7)]
    slope = [(up[0] - down[0]) / (2 * step) for up, down in moved]
    bend = [(up[1].sum(axis=0) - down[1].sum(axis=0)) / (2 * step) for up, down in moved]
    assert_allclose(scores.sum(axis=0), slope, atol=1e-6)
    assert_allclose(hessian, bend, atol=1e-5)


def test_goals_of_paths_may_differ_within_an_intention():
    rng = np.random.default_rng(3)
    mdp = grid(slip=0.0, horizon=None)
    mdp = mdp.replace(
        state_features=np.stack([np.ones(25), np.arange(25) % 5 < 2], axis=1), feature_names=("step", "left")
    )
    thetas, states, actions, goals = [[-2.5, -1.0], [-2.5, 1.0]], [], [], []
    for theta in thetas:
        for _ in range(40):
            goal = int(rng.choice([22, 24]))
            problem = make_problem(mdp, Paths.from_lists([[goal - 5, goal]], [[2]], goals=[goal]), "mce")
            policy = np.exp(
                make_planner(mdp, problem.choices, [goal], np.arange(25))[0]
                .plan(problem.choices.reward(np.array(theta)))
                .log_policy
            )
            path, taken = [1], []
            while path[-1] != goal:
                taken.append(rng.choice(4, p=policy[4 * path[-1] : 4 * path[-1] + 4]))
                path.append(int(mdp.next_state[4 * path[-1] + taken[-1]]))
            states.append(path), actions.append(taken), goals.append(goal)
    demos = Paths.from_lists(states, actions, goals=goals)
    found = fit_intentions(mdp, demos, 2, restarts=2)
    assert (np.diff(found.history) >= 0).all()
    assert found.log_likelihood > fit(mdp, demos).log_likelihood + 5
    each, shares = assign(mdp, demos, found)
    assert_allclose(each.sum(), found.log_likelihood, rtol=1e-10)
    assert_allclose(shares, found.responsibilities, atol=1e-5)


def test_several_experts_with_goals_of_their_own_share_one_fit(made):
    mdp = grid(slip=0.0, horizon=None)
    mdp = mdp.replace(
        state_features=np.stack([np.ones(25), np.arange(25) % 5 < 2], axis=1), feature_names=("step", "left")
    )
    states = [[0, 1, 6, 7], [0, 5, 6, 7], [2, 7, 12], [0, 1, 2, 7, 12], [5, 6, 7, 12], [0, 5, 10, 11, 12], [1, 2, 7]]
    actions = [[1, 2, 1], [2, 1, 1], [2, 2], [1, 1, 2, 2], [1, 1, 2], [2, 2, 1, 1], [1, 2]]
    goals, people = [7, 7, 12, 12, 12, 12, 7], [0, 0, 0, 1, 1, 2, 2]
    demos = Paths.from_lists(states, actions, goals=goals, individuals=people)
    found = fit(mdp, demos)
    assert found.gradient_norm < 1e-7
    alone = [evaluate_at(mdp, demos.select(np.array(goals) == g), found.theta) for g in (7, 12)]
    assert_allclose(found.log_likelihood, sum(e.log_likelihood for e in alone), rtol=1e-10)
    assert_allclose(found.expert_features, (3 * alone[0].expert_features + 4 * alone[1].expert_features) / 7)
    assert_allclose(found.learner_features, (3 * alone[0].learner_features + 4 * alone[1].learner_features) / 7)
    # At the joint maximum neither goal's own gradient is zero, so each pulls on the shared θ.
    assert min(e.gradient_norm for e in alone) > 1e-3
    scores = make_problem(mdp, demos, "mce").likelihood().derive(found.theta).scores
    by_person = np.stack([scores[np.array(people) == p].sum(axis=0) for p in range(3)])
    by_hand = found.covariance @ by_person.T @ by_person @ found.covariance
    assert_allclose(found.robust_errors, np.sqrt(np.diag(by_hand)), rtol=1e-5)
    unclustered = fit(mdp, replace(demos, individuals=None))
    assert_allclose(unclustered.theta, found.theta, rtol=1e-10)
    assert np.abs(unclustered.robust_errors - found.robust_errors).max() > 1e-3


def test_held_out_people_are_scored_and_assigned(made):
    mdp, demos, *_ = made
    train, heldout = split_units(demos, 0.3, seed=1)
    assert not set(train.individuals) & set(heldout.individuals)
    assert train.num_paths + heldout.num_paths == demos.num_paths
    found = fit_intentions(mdp, train, 2, restarts=2, heldout=heldout)
    each, shares = assign(mdp, heldout, found)
    assert_allclose(each.sum(), found.heldout_log_likelihood)
    assert shares.shape == (units_of(heldout).number, 2)


def test_a_mixture_is_saved_with_each_intention_as_an_estimate(made, tmp_path):
    mdp, demos, _, found = made
    found.save(tmp_path / "out", mdp, demos, more={"note": 1})
    said, arrays, _, paths = load_intentions(tmp_path / "out")
    assert said["number"] == 2
    assert said["note"] == 1
    assert np.array_equal(arrays["theta"], found.theta)
    assert paths.num_paths == demos.num_paths
    _, theta, problem, paths = load_estimate(tmp_path / "out" / "estimates" / "2")
    assert np.array_equal(theta, found.theta[1])
    assert policy_of(make_problem(problem, paths, "mce"), theta).log_policy.shape == (5, 100)
    one = fit_intentions(mdp, demos, 1)
    one.save(tmp_path / "out", mdp, demos)
    assert [place.name for place in (tmp_path / "out" / "estimates").iterdir()] == ["1"]


def test_a_weight_that_runs_away_in_one_intention_is_said():
    # Half of the people never take action 1 in the middle, and the others take it now and then.
    mdp = TabularMDP.from_transitions(
        [0, 0, 1, 1], [0, 1, 0, 1], [0, 1, 0, 1], np.ones(4), horizon=4, feature_names=("left", "right"),
        state_action_features=[[[1.0, 0], [0, 0]], [[0, 0], [0, 1]]],
    )  # fmt: skip
    stay, mixed = ([0, 0, 0, 0, 0], [0] * 4), ([0, 1, 0, 1, 1], [1, 0, 1, 1])
    demos = Paths.from_lists(*zip(*([stay] * 6 + [mixed] * 6), strict=True))
    found = fit_intentions(mdp, demos, 2, restarts=1)
    assert any("Intention" in sentence and "'left'" in sentence for sentence in found.warnings)
    assert fit_intentions(mdp, demos, 2, restarts=1, prior=Prior(l2=0.1)).warnings == ()


def test_shares_by_hand():
    each, shares = mix(np.log([[0.2, 0.4], [0.5, 0.5]]), np.array([0.75, 0.25]))
    assert_allclose(np.exp(each), [0.25, 0.5])
    assert_allclose(shares, [[0.6, 0.4], [0.75, 0.25]])
    each, shares = mix(np.full((1, 2), -np.inf), np.array([0.75, 0.25]))
    assert each == [-np.inf]
    assert_allclose(shares, [[0.75, 0.25]])
    each, _ = mix(np.array([[-2000.0, -2001.0]]), np.array([0.5, 0.5]))
    assert_allclose(each, -2000 + np.log(0.5 + 0.5 * np.exp(-1)))


def test_clusters_of_far_points_are_found():
    rng = np.random.default_rng(4)
    points = np.concatenate([rng.normal(size=(20, 2)), rng.normal(size=(10, 2)) + 30])
    shares = cluster(points, 2, rng)
    assert sorted(shares.sum(axis=0)) == [10, 20]
    assert (shares.sum(axis=1) == 1).all()
    assert cluster(np.zeros((3, 2)), 2, rng).shape == (3, 2)


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        (lambda m, d: fit_intentions(m, d, 0), "at least 1"),
        (lambda m, d: fit_intentions(m, d, 41), "40 individuals are too few for 41 intentions"),
        (lambda m, d: fit_intentions(m, d, 2, restarts=0), "restarts is 0"),
        (lambda m, d: choose_number(m, d, 2, folds=1), "folds is 1"),
        (lambda m, d: choose_number(m, d, 35), "leave 32 to fit"),
        (lambda m, d: choose_number(m, d.select([0, 1]), 2), "one individual cannot choose"),
        (lambda m, d: split_units(d, 1.0), "held-out fraction is 1"),
    ],
)
def test_what_cannot_be_separated_is_refused(made, request_, sentence):
    mdp, demos, *_ = made
    with pytest.raises(RequestError, match=sentence):
        request_(mdp, demos)
