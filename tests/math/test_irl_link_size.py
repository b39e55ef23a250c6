"""The link-size correction: red and blue buses by hand, several origins and destinations, and its derivatives."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from menura.core import RequestError
from menura.environments.tabular import TabularMDP
from menura.irl import Paths, evaluate_at, fit
from menura.irl.link_size import PooledObjective, _problem, fit_link_size, link_size, pairs_of, with_link_size
from menura.irl.predict import Demand, predict


def buses(**settings):
    """A car takes 0 - 3 - 2; both buses share 0 - 1 and then differ in their color only. Each link costs 1."""
    settings = {"terminal": [2], **settings}
    return TabularMDP.from_transitions(
        [0, 0, 1, 1, 3], [0, 1, 0, 1, 0], [3, 1, 2, 2, 2], np.ones(5), state_features=np.ones((4, 1)),
        feature_names=("time",), **settings,
    )  # fmt: skip


def test_link_sizes_are_the_expected_flows_of_a_unit_of_demand():
    mdp = buses()
    assert_allclose(link_size(mdp, np.array([-1.0]), 0), [1 / 3, 2 / 3, 1 / 3, 1 / 3, 1 / 3])
    assert_allclose(link_size(mdp, np.array([-1.0]), 0, links="states"), [1 / 3, 2 / 3, 1, 1, 1])
    assert_allclose(link_size(mdp, np.array([-1.0]), 1), [0, 0, 1 / 2, 1 / 2, 0], atol=1e-15)


def test_a_second_color_of_bus_no_longer_takes_passengers_from_the_car():
    mdp, start = buses(), Demand.between([0])
    share = lambda m, theta: predict(m, np.array(theta), start).transition_flow  # noqa: E731
    assert_allclose(share(mdp, [-1.0]), [1 / 3, 2 / 3, 1 / 3, 1 / 3, 1 / 3])
    wide = with_link_size(mdp, np.array([-1.0]), 0)
    # The car's links have sizes 1/3 + 1/3 and a bus's 2/3 + 1/3: at weight −3 log 2 a bus counts half, as it should.
    assert_allclose(share(wide, [-1.0, -3 * np.log(2)]), [1 / 2, 1 / 2, 1 / 4, 1 / 4, 1 / 2])
    shares = [share(wide, [-1.0, weight])[0] for weight in (0.0, -0.5, -1.0, -2.0)]
    assert (np.diff(shares) > 0).all()


def test_routes_without_overlap_are_not_corrected():
    # Three parallel roads: all have the same link size, so its weight changes nothing.
    mdp = TabularMDP.from_transitions(
        [0, 0, 0], [0, 1, 2], [1, 1, 1], np.ones(3), pair_features=np.ones((3, 1)), terminal=[1]
    )
    wide = with_link_size(mdp, np.array([-1.0]), 0)
    for weight in (0.0, -2.0):
        assert_allclose(predict(wide, np.array([-1.0, weight]), Demand.between([0])).flow, 1 / 3)


def overlap(**settings):
    """The network of three routes of which two share most of their way, and ways in from a second origin."""
    arcs = [(0, 1, 2.0), (1, 4, 8.0), (1, 4, 8.2), (0, 4, 10.0), (5, 0, 1.0), (5, 1, 2.5), (4, 6, 1.0), (1, 6, 10.0)]
    state, following, length = (np.array(x) for x in zip(*arcs, strict=True))
    state, following = state.astype(int), following.astype(int)
    order = np.argsort(state, kind="stable")
    action = np.array([int((state[order][:i] == s).sum()) for i, s in enumerate(state[order])])
    return TabularMDP.from_transitions(
        state[order], action, following[order], np.ones(len(arcs)), num_states=7,
        pair_features=length[order][:, None] / 5, feature_names=("length",), discount=1.0, **settings,
    )  # fmt: skip


def demonstrations(mdp, reference, theta, pairs, number, seed=0):
    """Routes drawn with a link size of its own for each pair."""
    parts = [
        predict(with_link_size(mdp, reference, s, g), theta, Demand.between([s], [g])).sample(number, seed=seed + i)
        for i, (s, g) in enumerate(pairs)
    ]
    join = lambda name: np.concatenate([getattr(part, name) for part in parts])  # noqa: E731
    return Paths(join("states"), join("actions"), join("lengths"), join("final_states"), join("goals"))


PAIRS = [(0, 4), (5, 4), (5, 6), (0, 6)]
REFERENCE = np.array([-1.0])


def test_the_likelihood_over_several_pairs_is_the_sum_of_each_ones_own():
    mdp, theta = overlap(), np.array([-1.2, -0.8])
    demos = demonstrations(mdp, REFERENCE, theta, PAIRS, 30)
    wanted = sum(
        evaluate_at(with_link_size(mdp, REFERENCE, s, g), demos.select(members), theta).log_likelihood
        for s, g, members in pairs_of(demos)
    )
    found, problem = fit_link_size(mdp, demos, REFERENCE, at=theta)
    assert_allclose(found.log_likelihood, wanted, rtol=1e-12)
    assert problem is mdp
    assert found.names == ("length", "link size")


def test_gradient_and_hessian_over_pairs_are_finite_differences():
    mdp, theta, step = overlap(), np.array([-1.2, -0.8]), 1e-5
    demos = demonstrations(mdp, REFERENCE, theta, PAIRS, 10)
    groups = pairs_of(demos)
    pooled = PooledObjective(
        tuple(_problem(mdp, demos, REFERENCE, g, "actions", "mce").likelihood() for g in groups),
        tuple(g[2] for g in groups),
    )
    here = pooled.derive(theta)
    around = [(pooled.evaluate(theta + step * e), pooled.evaluate(theta - step * e)) for e in np.eye(2)]
    assert_allclose(here.gradient, [(a.value - b.value) / (2 * step) for a, b in around], rtol=1e-6, atol=1e-6)
    assert_allclose(here.hessian, [(a.gradient - b.gradient) / (2 * step) for a, b in around], rtol=1e-5, atol=1e-6)
    assert_allclose(here.scores.sum(axis=0), here.gradient, atol=1e-9)


def test_the_weight_that_routes_were_drawn_with_is_found_over_several_pairs():
    mdp, theta = overlap(), np.array([-1.2, -0.8])
    demos = demonstrations(mdp, REFERENCE, theta, PAIRS, 3000)
    demos = demos.select(np.arange(demos.num_paths - 2000))  # pairs with different numbers of paths
    found, _ = fit_link_size(mdp, demos, REFERENCE)
    assert found.converged
    assert found.gradient_norm < 1e-5
    assert (np.abs(found.theta - theta) < 3 * found.standard_errors).all()
    assert (found.standard_errors < 0.2).all()
    assert_allclose(found.expert_features, found.learner_features, atol=1e-6)
    assert found.log_likelihood > fit(mdp, demos).log_likelihood + 50


def test_one_pair_gives_a_problem_that_is_like_any_other():
    mdp, theta = buses(), np.array([-1.0, -2.0])
    demos = predict(with_link_size(mdp, np.array([-1.0]), 0), theta, Demand.between([0])).sample(300, seed=0)
    found, wide = fit_link_size(mdp, demos, np.array([-1.0]))
    assert wide.feature_names == ("time", "link size")
    assert_allclose(found.log_likelihood, fit(wide, demos).log_likelihood)
    again, _ = fit_link_size(mdp, demos)  # every route takes the same time, so the reference says nothing
    assert_allclose(again.log_likelihood, found.log_likelihood)
    with pytest.raises(RequestError, match="a feature called 'link size' already"):
        with_link_size(wide, theta, 0)
    random = TabularMDP.from_transitions([0, 0], [0, 0], [0, 1], [0.5, 0.5], state_features=[[1.0], [1]], terminal=[1])
    with pytest.raises(RequestError, match="every action must have one outcome"):
        link_size(random, np.array([-1.0]), 0)
