"""Predictions from a reward: against enumeration of every path, and against what is simulated."""

import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose

from menura.core import RequestError
from menura.environments.tabular import TabularMDP
from menura.irl.predict import Demand, choice_table, flow_table, join, predict, remove_transitions


def network(**settings):
    """Six nodes; every arc goes to a node of a higher number, so that paths can be listed; two features of arcs."""
    arcs = [(0, 1), (0, 2), (0, 3), (1, 3), (1, 4), (2, 3), (2, 4), (3, 4), (3, 5), (4, 5)]
    number = {}
    state, action, following = [], [], []
    for a, b in arcs:
        number[a] = number.get(a, -1) + 1
        state.append(a)
        action.append(number[a])
        following.append(b)
    features = np.random.default_rng(0).normal(size=(len(arcs), 2))
    settings = {"terminal": [5], **settings}
    return TabularMDP.from_transitions(
        state, action, following, np.ones(len(arcs)), pair_features=features, num_states=6, **settings
    )


def gamble(**settings):
    """Three states and an end; outcomes are random."""
    table = np.random.default_rng(1).dirichlet(np.ones(4), size=(4, 2))
    features = np.random.default_rng(2).normal(size=(4, 2, 2)) - 1.0
    return TabularMDP.from_dense(table, state_action_features=features, **settings)


def routes_to(mdp, start, end):
    """The transitions of every route from a node to another."""
    open_routes, done = [((), start)], []
    while open_routes:
        taken, at = open_routes.pop()
        if at == end:
            done.append(taken)
            continue
        open_routes += [((*taken, int(row)), int(mdp.next_state[row])) for row in np.flatnonzero(mdp.state == at)]
    return done


@pytest.mark.parametrize("method", ["mce", "maxent"])
def test_flows_are_sums_over_every_route_of_its_probability(method):
    mdp, theta = network(), np.array([0.7, -0.4])
    reward = mdp.pair_features @ theta
    demand = Demand(np.array([0, 2]), np.array([0.25, 0.75]))
    wanted, value = np.zeros(mdp.num_transitions), 0.0
    for start, share in ((0, 0.25), (2, 0.75)):
        routes = routes_to(mdp, start, 5)
        weights = np.exp([sum(reward[list(route)]) for route in routes])
        value += share * np.log(weights.sum())
        for route, weight in zip(routes, weights / weights.sum(), strict=True):
            wanted[list(route)] += share * weight
    found = predict(mdp, theta, demand, method=method)
    assert_allclose(found.transition_flow, wanted, rtol=1e-12)
    assert_allclose(found.value, value, rtol=1e-12)
    assert_allclose(found.features, wanted @ mdp.pair_features, rtol=1e-12)
    assert_allclose(found.steps, wanted.sum(), rtol=1e-12)


def test_every_goal_has_its_own_policy_and_flows_add_up_over_goals():
    mdp, theta = network(terminal=None), np.array([0.7, -0.4])
    both = predict(mdp, theta, Demand.between([0, 0, 1, 0], [5, 5, 4, 4]))
    parts = [predict(mdp, theta, Demand.between([0], [5])), predict(mdp, theta, Demand.between([1, 0], [4]))]
    assert_allclose(both.flow, 0.5 * parts[0].flow + 0.5 * parts[1].flow, rtol=1e-12)
    to_four = both.probabilities(4)
    assert np.isnan(to_four[mdp.pair_state == 4]).all()
    assert_allclose(to_four[(mdp.pair_state == 3) & (mdp.next_state == 4)], 1.0)
    table = choice_table(both)
    assert list(table.keys) == ["goal", "state", "action"]
    assert_allclose(table.values["probability"][: mdp.num_pairs], to_four)


SETTINGS = {
    "finite": dict(horizon=4),
    "finite, discounted": dict(horizon=4, discount=0.7),
    "finite, terminal": dict(horizon=4, terminal=[3]),
    "discounted": dict(discount=0.8),
    "discounted, terminal": dict(discount=0.8, terminal=[3]),
    "ends": dict(terminal=[3]),
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_flows_of_random_outcomes_are_those_of_simulating_the_policy_forward(setting):
    mdp, theta = gamble(**SETTINGS[setting]), np.array([0.5, 0.8])
    found = predict(mdp, theta, Demand(np.array([0, 1]), np.array([0.5, 0.5])))
    chances = np.atleast_2d(found.probabilities())
    now, wanted = np.array([0.5, 0.5, 0, 0]), np.zeros(mdp.num_transitions)
    for t in range(mdp.horizon or 2000):
        policy = np.nan_to_num(chances[min(t, len(chances) - 1)])
        through = (now[mdp.pair_state] * policy)[mdp.transition_pair] * mdp.probability
        wanted += mdp.discount**t * through
        now = np.bincount(mdp.next_state, through, 4)
    assert_allclose(found.transition_flow, wanted, rtol=1e-10)


def test_maxent_on_random_outcomes_weighs_every_path_and_chooses_outcomes_too():
    mdp, theta = gamble(horizon=3), np.array([0.5, 0.8])
    reward = (mdp.pair_features @ theta)[mdp.transition_pair]
    by_path = {}
    for rows in itertools.product(range(mdp.num_transitions), repeat=3):
        states = mdp.state[list(rows)]
        if states[0] == 0 and (mdp.next_state[list(rows[:2])] == states[1:]).all():
            by_path[rows] = np.prod(mdp.probability[list(rows)]) * np.exp(reward[list(rows)].sum())
    total, wanted, first = sum(by_path.values()), np.zeros(mdp.num_transitions), np.zeros(mdp.num_pairs)
    for rows, weight in by_path.items():
        np.add.at(wanted, list(rows), weight / total)
        first[mdp.transition_pair[rows[0]]] += weight / total
    found = predict(mdp, theta, Demand.between([0]), method="maxent")
    assert_allclose(found.transition_flow, wanted, rtol=1e-11)
    of_start = mdp.pair_state == 0
    assert_allclose(found.probabilities()[0][of_start], first[of_start], rtol=1e-11)


@pytest.mark.parametrize("method", ["mce", "maxent"])
@pytest.mark.parametrize("setting", ["finite", "finite, terminal", "ends"])
def test_sampled_routes_visit_transitions_as_often_as_expected(setting, method):
    mdp = gamble(**SETTINGS[setting])
    found = predict(mdp, np.array([0.5, 0.8]), Demand(np.array([0, 1]), np.array([0.3, 0.7])), method=method)
    routes = found.sample(20_000, seed=0)
    following = np.append(routes.states[1:], 0)
    following[routes.is_last] = routes.final_states
    seen = np.zeros((4, 2, 4))
    np.add.at(seen, (routes.states, routes.actions, following), 1 / routes.num_paths)
    got = seen[mdp.state, mdp.action, mdp.next_state]
    assert_allclose(seen.sum(), got.sum())
    # A transition's count varies by no more than its length's worth of passages.
    error = np.sqrt(found.transition_flow * 6 / routes.num_paths)
    assert (np.abs(got - found.transition_flow) < 4.5 * error).all()
    assert_allclose(routes.lengths.mean(), found.steps, rtol=0.03)


def test_sampled_routes_are_demonstrations_for_their_goals_and_depend_on_the_seed_only():
    from menura.irl.objective import make_problem

    mdp = network(terminal=None)
    found = predict(mdp, np.array([0.7, -0.4]), Demand.between([0, 0, 1], [5, 4, 3]))
    routes = found.sample(200, seed=3)
    make_problem(mdp, routes, "maxent")
    assert_allclose(routes.final_states, routes.goals)
    assert_allclose(found.sample(200, seed=3).states, routes.states)
    assert len(found.sample(200, seed=4).states) != len(routes.states)


def test_routes_that_need_not_end_are_cut():
    found = predict(gamble(discount=0.8), np.zeros(2), Demand.between([0]))
    assert found.sample(3, seed=0).lengths.tolist() == [1000] * 3
    assert found.sample(3, seed=0, max_steps=7).lengths.tolist() == [7] * 3
    with pytest.raises(RequestError, match="have not ended after 1 steps"):
        predict(gamble(terminal=[3]), np.ones(2), Demand.between([0])).sample(50, seed=0, max_steps=1)


def test_a_removal_is_the_smaller_problem():
    mdp, theta = network(), np.array([0.7, -0.4])
    keep = ~((mdp.state == 0) & (mdp.next_state == 3)) & ~((mdp.state == 3) & (mdp.next_state == 5))
    small = TabularMDP.from_transitions(
        mdp.state[keep], mdp.action[keep], mdp.next_state[keep], np.ones(keep.sum()),
        pair_features=mdp.pair_features[keep], terminal=[5],
    )  # fmt: skip
    removed = remove_transitions(mdp, [(0, 2), (3, 1, 5)])
    before, after, wanted = (predict(m, theta, Demand.between([0])) for m in (mdp, removed, small))
    assert_allclose(after.transition_flow, wanted.transition_flow, rtol=1e-12)
    side = join(flow_table(before), flow_table(after))
    assert len(side) == mdp.num_transitions
    assert_allclose(side.values["flow_before"], before.transition_flow)
    assert_allclose(side.values["flow"][keep], after.transition_flow)
    assert (side.values["flow"][~keep] == 0).all()


def test_an_action_that_loses_an_outcome_keeps_the_others_in_proportion():
    mdp = gamble(terminal=[3])
    less = remove_transitions(mdp, [(0, 1, 2), (1, 0, 0), (1, 0, 1), (1, 0, 2), (1, 0, 3)])
    of = lambda m: m.probability[(m.state == 0) & (m.action == 1)]  # noqa: E731
    assert_allclose(of(less), np.delete(of(mdp), 2) / np.delete(of(mdp), 2).sum())
    assert less.num_pairs == mdp.num_pairs - 1
    assert_allclose(less.pair_features, np.delete(mdp.pair_features, 2, axis=0))


def test_a_dead_end_is_avoided_and_a_stranded_start_is_refused():
    mdp, theta = network(), np.array([0.7, -0.4])
    dead = remove_transitions(mdp, [(4, 0)])
    after = predict(dead, theta, Demand.between([0]))
    assert_allclose(after.transition_flow[dead.next_state == 4], 0.0)
    assert_allclose(after.transition_flow[(dead.state == 3) & (dead.next_state == 5)], 1.0)
    cut = remove_transitions(mdp, [(4, 0), (3, 1)])
    for settings in ({}, {"horizon": 5}, {"discount": 0.9}):
        problem = cut.replace(terminal=None, **settings)
        with pytest.raises(RequestError, match="No path leads from state 0 to goal 5"):
            predict(problem, theta, Demand.between([0], [5]))
    with pytest.raises(RequestError, match="No path leads from state 0 that can go on or end"):
        predict(cut, theta, Demand.between([0]))
    with pytest.raises(RequestError, match="--remove 4,1: the problem has no action 1 in state 4"):
        remove_transitions(mdp, [(4, 1)])
    with pytest.raises(RequestError, match="does not lead to state 2"):
        remove_transitions(mdp, [(4, 0, 2)])
    with pytest.raises(RequestError, match="Nothing is left"):
        remove_transitions(mdp, list(zip(mdp.state.tolist(), mdp.action.tolist(), strict=True)))


def test_demands_are_checked():
    mdp = network()
    for demand, sentence in (
        (Demand.between([9]), "start 9 is not among"),
        (Demand.between([0], [7]), "goal 7 is not among"),
        (Demand.between([5]), "terminal or its own goal"),
        (Demand.between([4], [4]), "terminal or its own goal"),
    ):
        with pytest.raises(RequestError, match=sentence):
            predict(mdp, np.zeros(2), demand)
    with pytest.raises(RequestError, match="2 starts do not go with 3 goals"):
        Demand.between([0, 1], [3, 4, 5])
    with pytest.raises(RequestError, match="3 weights for 2 features"):
        predict(mdp, np.zeros(3), Demand.between([0]))
