"""What behavior leaves open: examples by hand, and policies that do not change."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from menura.core import RequestError
from menura.environments.tabular import TabularMDP
from menura.irl import Paths
from menura.irl.identify import identify
from menura.irl.predict import Demand, predict


def two_roads(lengths=(2, 2), **settings):
    """From 0 by one of two roads of so many arcs to the last state; each step counts, and so does the first road."""
    state, action, following, features, node = [], [], [], [], 1
    last = sum(lengths) - 1
    for road, length in enumerate(lengths):
        at = 0
        for step in range(length):
            to = last if step == length - 1 else node
            state.append(at)
            action.append(road if step == 0 else 0)
            following.append(to)
            features.append([1.0, float(road == 0)])
            at, node = to, node + (step < length - 1)
    settings = {"terminal": [last], **settings}
    return TabularMDP.from_transitions(
        state, action, following, np.ones(len(state)), transition_features=np.array(features),
        feature_names=("step", "first road"), **settings,
    )  # fmt: skip


def test_a_step_cost_is_invisible_where_all_paths_have_the_same_length():
    found = identify(two_roads())
    (direction,) = found.directions
    assert_allclose(direction.weights, [1, 0], atol=1e-12)
    assert direction.policy_change < 1e-12
    assert direction.sentence == (
        "Adding c to the weight of 'step' changes nothing, because every path from the same state has the same length."
    )
    # The potential is the number of steps that are left.
    assert_allclose(direction.potential, [2, 1, 1, 0], atol=1e-12)
    assert (found.num_choices, found.num_potentials) == (4, 3)


def test_a_step_cost_is_identified_where_one_road_is_longer_and_features_trade_off():
    assert identify(two_roads((1, 3)), demand=Demand.between([0])).directions[0].weights.tolist() == [0.5, 1.0]
    found = identify(two_roads((1, 2)), demand=Demand.between([0]))
    # The first road has one step less and one unit of its own more: r changes by c on it, and by 1·2c/2 on the other.
    (direction,) = found.directions
    assert_allclose(direction.weights, [1, 1])
    assert direction.policy_change < 1e-12
    assert "depends on where a path begins only" in direction.sentence


def test_a_horizon_or_a_discount_without_ends_hides_a_constant():
    table = np.random.default_rng(0).dirichlet(np.ones(3), size=(3, 2))
    features = [[1.0, 0], [1, 1], [1, 3]]
    settings = {"state_features": features, "feature_names": ("step", "place")}
    sentences = {
        "every path has the same length": {"horizon": 5},
        "no path ends, so that all have the same length": {"discount": 0.9},
    }
    for sentence, how in sentences.items():
        (direction,) = identify(TabularMDP.from_dense(table, **settings, **how)).directions
        assert_allclose(direction.weights, [1, 0], atol=1e-10)
        assert sentence in direction.sentence
        assert direction.policy_change < 1e-10
    ended = TabularMDP.from_dense(table, **settings, discount=0.9, terminal=[2])
    assert identify(ended).directions == ()


def test_features_that_cancel_and_features_that_never_occur_are_named():
    mdp = two_roads((1, 2))
    table = np.stack([mdp.transition_features[:, 1], 1 - mdp.transition_features[:, 1]], axis=1)
    wide = np.column_stack([mdp.transition_features[:, 0], 2 * table, np.zeros(3)])
    found = identify(mdp.replace(transition_features=wide, feature_names=("step", "a", "b", "never")))
    sentences = " ".join(d.sentence for d in found.directions)
    assert "'never' changes nothing, because it is 0 wherever a path can go" in sentences
    assert "together they add up to 0 wherever a path can go" in sentences
    assert all(d.policy_change < 1e-10 for d in found.directions)


@pytest.mark.parametrize("method", ["mce", "maxent"])
@pytest.mark.parametrize(
    "how", [{"horizon": 4}, {"discount": 0.8}, {"terminal": [3]}, {"discount": 0.8, "terminal": [3]}]
)
def test_shaping_features_are_all_found_and_only_these(method, how):
    if method == "maxent" and "discount" in how:
        pytest.skip("MaxEnt has no discount.")
    rng = np.random.default_rng(3)
    table = rng.dirichlet(np.ones(4), size=(4, 3))
    plain = TabularMDP.from_dense(table, state_features=rng.normal(size=(4, 2)) - 1.5, **how)
    gamma = plain.discount
    # Differences of two potentials; with a horizon, only a constant stays one after the last step.
    potentials = rng.normal(size=(4, 2))
    if "terminal" in how:
        potentials[3] = 0.0
    shaped = potentials[plain.state] - gamma * (
        potentials[plain.next_state]
        if method == "maxent"
        else np.einsum("sap,pk->sak", table, potentials)[plain.state, plain.action]
    )
    wide = np.hstack([plain.state_features[plain.state], shaped])
    mdp = plain.replace(state_features=None, transition_features=wide, feature_names=None)
    found = identify(mdp, np.array([0.3, 0.4, 0.1, -0.1]), method=method)
    if "horizon" in how:
        assert found.directions == ()
        return
    assert len(found.directions) == 2
    for direction in found.directions:
        assert_allclose(direction.weights[:2], 0, atol=1e-8)
        assert direction.policy_change < 1e-9
    assert found.num_potentials == (3 if "terminal" in how else 4)


def test_moving_along_any_direction_leaves_the_predicted_policy():
    mdp, theta = two_roads((2, 3), terminal=None), np.array([-1.0, 0.3])
    found = identify(mdp, theta, demand=Demand.between([0], [4]))
    (direction,) = found.directions
    assert_allclose(direction.moved, theta + direction.weights)
    before, after = (predict(mdp, at, Demand.between([0], [4])).flow for at in (theta, direction.moved))
    assert_allclose(before, after, atol=1e-12)


def test_the_dimension_of_potentials_is_counted_with_a_horizon_and_with_goals():
    # Two states, two actions each, one step: of 4 rewards, those that depend on the state only are invisible.
    table = np.full((2, 2, 2), 0.5)
    assert identify(TabularMDP.from_dense(table, horizon=1)).num_potentials == 2
    # With two steps, besides, what the second step is worth must not depend on the first action; it does not here.
    assert identify(TabularMDP.from_dense(table, horizon=2)).num_potentials == 2
    sure = np.zeros((2, 2, 2))
    sure[:, 0, 0] = sure[:, 1, 1] = 1.0
    assert identify(TabularMDP.from_dense(sure, horizon=2)).num_potentials == 1
    # A ring of three: rewards are invisible for two goals if they are differences of one potential, up to a constant.
    ring = TabularMDP.from_transitions([0, 0, 1, 1, 2, 2], [0, 1] * 3, [1, 2, 2, 0, 0, 1], np.ones(6))
    found = identify(ring, np.full(3, -2.0), demand=Demand.between([0, 1], [2, 0]))
    assert found.num_potentials == 2


def test_what_demonstrations_do_not_visit_is_said():
    # A fork at 0 and another at 3, which the demonstrations never come to; "late" tells the second one's ways apart.
    mdp = TabularMDP.from_transitions(
        [0, 0, 1, 3, 3], [0, 1, 0, 0, 1], [1, 3, 2, 2, 2], np.ones(5),
        pair_features=[[1.0, 0], [0, 0], [0, 0], [0, 1], [0, -1]], feature_names=("early", "late"), terminal=[2],
    )  # fmt: skip
    here = Paths.from_lists([[0, 1, 2]], [[0, 0]])
    found = identify(mdp, np.zeros(2), paths=here)
    assert found.directions == ()
    (unseen,) = found.unseen
    assert_allclose(unseen.weights, [0, 1], atol=1e-12)
    assert "'late' changes nothing in the states that the demonstrations visit" in unseen.sentence
    assert identify(mdp, np.zeros(2), paths=Paths.from_lists([[0, 3, 2]], [[1, 0]])).unseen == ()


def test_values_that_diverge_at_zero_are_no_obstacle_and_bad_requests_are_refused():
    ring = TabularMDP.from_transitions(
        [0, 0, 1, 1], [0, 1, 0, 1], [1, 2, 0, 2], np.ones(4), state_features=np.ones((3, 1)), terminal=[2]
    )
    assert identify(ring).directions == ()
    with pytest.raises(RequestError, match="2 weights for 1 features"):
        identify(ring, np.zeros(2))
    with pytest.raises(RequestError, match="needs terminal states, or goals"):
        identify(ring.replace(terminal=None))
