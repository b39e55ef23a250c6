"""The numbers behind the pictures of tabular inverse RL: trees of paths, visits, and where states lie on a map."""

import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from menura.core import RequestError
from menura.environments.tabular import TabularMDP, transition_reward
from menura.irl import Paths, evaluate_at
from menura.report.tabular.numbers import by_action, deploy, env_layout, grid_layout
from menura.report.tabular.path_tree import likeliest_outcomes, path_tree

MODELS = ("causal", "maxent", "printed")


def ferry(**changes):
    """From home (0) to town (2): by road, or by a ferry that does not sail in three cases of ten (harbor, 1)."""
    features = np.zeros((3, 4, 1))
    features[0, :2, 0], features[1, 2:, 0] = (2.0, 0.5), (1.5, 2.5)
    settings = dict(num_states=3, num_actions=4, state_action_features=features, feature_names=["cost"], terminal=[2])
    return TabularMDP.from_transitions([0, 0, 0, 1, 1], [0, 1, 1, 2, 3], [2, 2, 1, 2, 2], [1, 0.7, 0.3, 1, 1],
                                       **{**settings, **changes})  # fmt: skip


def random_mdp(rng, *, outcomes):
    """Four states in layers, so that all paths end after two or three steps."""
    rows, later = [], {0: (1, 2), 1: (2, 3), 2: (3, 4)}
    for state, action in itertools.product(later, range(2)):
        ends = later[state] if outcomes == 2 else (later[state][action],)
        rows += zip(itertools.repeat(state), itertools.repeat(action), ends, rng.dirichlet(np.ones(len(ends))))
    features = rng.normal(size=(len(rows), 2))
    return TabularMDP.from_transitions(*zip(*rows, strict=True), transition_features=features, terminal=[3, 4])


def every_path(mdp, start):
    """All paths from a state by brute force, each as its transitions."""
    if start in mdp.terminal:
        return [()]
    rows = np.flatnonzero(mdp.state == start)
    return [(int(row), *rest) for row in rows for rest in every_path(mdp, int(mdp.next_state[row]))]


@pytest.mark.parametrize("outcomes", [1, 2])
def test_the_tree_lists_every_path_with_the_probabilities_of_enumeration(rng, outcomes):
    mdp = random_mdp(rng, outcomes=outcomes)
    theta = rng.normal(size=2)
    tree = path_tree(mdp, theta, start=0)
    paths = every_path(mdp, 0)
    listed = [tree.path(leaf) for leaf in tree.leaves]
    expected = [
        ([0, *(int(mdp.next_state[row]) for row in path)], [int(mdp.action[row]) for row in path]) for path in paths
    ]
    assert sorted(listed) == sorted(expected)
    reward, log_p = transition_reward(mdp, theta), np.log(mdp.probability)
    weight = np.array([np.exp(sum(reward[row] + log_p[row] for row in path)) for path in paths])
    place = [listed.index(path) for path in expected]
    assert_allclose(tree.probabilities("maxent")[place], weight / weight.sum(), rtol=1e-10)
    for model in MODELS:
        assert_allclose(tree.probabilities(model).sum(), 1, rtol=1e-12)
    same = [np.allclose(tree.probabilities(model), tree.probabilities("maxent")) for model in MODELS]
    assert same == [outcomes == 1, True, outcomes == 1]


def test_probabilities_of_the_tree_are_those_of_the_likelihoods(rng):
    mdp, theta = random_mdp(rng, outcomes=2), rng.normal(size=2)
    tree = path_tree(mdp, theta, start=0)
    for leaf, causal, whole in zip(
        tree.leaves, tree.probabilities("causal"), tree.probabilities("maxent"), strict=True
    ):
        states, actions = tree.path(leaf)
        paths = Paths.from_lists([states], [actions])
        dynamics = np.prod(
            [
                mdp.probability[(mdp.state == s) & (mdp.action == a) & (mdp.next_state == t)]
                for s, a, t in zip(states, actions, states[1:], strict=False)
            ]
        )
        said = evaluate_at(mdp, paths, theta, method="mce").log_likelihood
        assert_allclose(np.log(causal / dynamics), said, rtol=1e-10)
        assert_allclose(np.log(whole), evaluate_at(mdp, paths, theta, method="maxent").log_likelihood, rtol=1e-10)


def test_the_ferry_by_hand():
    tree = path_tree(ferry(), np.array([-1.0]), start=0)
    harbor = np.logaddexp(-1.5, -2.5)
    road, sail = np.exp(-2), np.exp(-0.5 + 0.3 * harbor)
    wait = 1 / (1 + np.exp(-1))
    by_road = road / (road + sail)
    assert [tree.path(leaf) for leaf in tree.leaves] == [
        ([0, 2], [0]), ([0, 1, 2], [1, 2]), ([0, 1, 2], [1, 3]), ([0, 2], [1])
    ]  # fmt: skip
    stuck = 0.3 * (1 - by_road)
    expected = [by_road, stuck * wait, stuck * (1 - wait), 0.7 * (1 - by_road)]
    assert_allclose(tree.probabilities("causal"), expected, rtol=1e-12)
    weight = np.array([np.exp(-2), 0.3 * np.exp(-2), 0.3 * np.exp(-3), 0.7 * np.exp(-0.5)])
    assert_allclose(tree.probabilities("maxent"), weight / weight.sum(), rtol=1e-12)
    by_ferry = weight[1:].sum() / weight.sum()
    printed = [1 - by_ferry, 0.3 * by_ferry * wait, 0.3 * by_ferry * (1 - wait), 0.7 * by_ferry]
    assert_allclose(tree.probabilities("printed"), printed, rtol=1e-12)


def test_with_the_likeliest_outcomes_all_models_agree():
    certain = likeliest_outcomes(ferry())
    assert certain.is_deterministic
    tree = path_tree(certain, np.array([-1.0]), start=0)
    assert len(tree.leaves) == 2
    assert_allclose(tree.probabilities("causal"), tree.probabilities("maxent"), rtol=1e-12)


def test_paths_that_circle_are_cut_after_some_steps_and_their_beginnings_sum_to_one():
    mdp = TabularMDP.from_transitions(
        [0, 0, 0, 1, 1], [0, 1, 1, 0, 1], [0, 1, 0, 0, 2], [1, 0.8, 0.2, 1, 1], state_features=[[1.0], [1], [0]],
        terminal=[2],
    )  # fmt: skip
    with pytest.raises(RequestError, match="endlessly many"):
        path_tree(mdp, np.array([-2.0]), start=0)
    tree = path_tree(mdp, np.array([-2.0]), start=0, steps=3)
    assert {node.kind for node in tree.nodes} == {"choice", "outcome", "end", "cut"}
    for model in MODELS:
        assert_allclose(tree.probabilities(model).sum(), 1, rtol=1e-12)
    with pytest.raises(RequestError, match="more than 40 paths from state 0"):
        path_tree(mdp, np.array([-2.0]), start=0, steps=8)


def test_a_horizon_ends_the_tree_and_a_discount_leaves_no_path_model():
    settings = dict(terminal=None, state_features=np.eye(2), state_action_features=None, feature_names=None)
    rows = ([0, 0, 1, 1], [0, 1, 0, 1], [0, 1, 1, 0], np.ones(4))
    tree = path_tree(TabularMDP.from_transitions(*rows, horizon=3, **settings), np.array([0.5, -0.5]), start=0)
    assert len(tree.leaves) == 8
    assert {node.kind for node in tree.nodes} == {"choice", "end"}
    mdp = TabularMDP.from_transitions(*rows, discount=0.9, **settings)
    tree = path_tree(mdp, np.array([0.5, -0.5]), start=0, steps=2)
    assert_allclose(tree.probabilities("causal").sum(), 1)
    assert np.isnan(tree.probabilities("maxent")).all()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (dict(start=2), "Paths end in state 2"),
        (dict(start=3), "--start 3 is not among"),
        (dict(goal=-1), "--goal -1 is not among"),
        (dict(theta=np.zeros(2)), "2 weights for 1 features"),
    ],
)
def test_a_tree_that_makes_no_sense_is_refused(changes, sentence):
    with pytest.raises(RequestError, match=sentence):
        path_tree(ferry(), **{"theta": np.array([-1.0]), "start": 0, **changes})


def corridor(**changes):
    """Four cells in a row; action 1 walks right and slips back one time in five; the last is terminal."""
    rows = []
    for s in range(3):
        rows += [(s, 0, max(s - 1, 0), 1.0), (s, 1, s + 1, 0.8), (s, 1, max(s - 1, 0), 0.2)]
    settings = dict(num_states=4, state_features=[[1.0, 0], [1, 1], [1, 0], [0, 0]], terminal=[3])
    return TabularMDP.from_transitions(*zip(*rows, strict=True), **{**settings, **changes})


def test_visits_of_the_demonstrations_count_every_state_they_were_in():
    paths = Paths.from_lists([[0, 1, 2, 3], [0, 0, 1, 2, 3]], [[1, 1, 1], [0, 1, 1, 1]])
    deployed = deploy(corridor(), paths, np.array([-2.0, -1.0]), "mce")
    assert_allclose(deployed.expert_visits, [1.5, 1, 1, 1])
    assert_allclose(deployed.learner_visits[3], 1, rtol=1e-12)
    said = evaluate_at(corridor(), paths, np.array([-2.0, -1.0]))
    assert_allclose(deployed.expert_features, said.expert_features)
    assert_allclose(deployed.learner_features, said.learner_features)
    assert_allclose(deployed.learner_visits[:3].sum(), said.learner_features[0], rtol=1e-12)
    assert_allclose(deployed.reward, [-2, -3, -2, np.nan])
    assert not deployed.discounted


@pytest.mark.parametrize("method", ["mce", "maxent"])
def test_the_policy_of_a_map_is_that_of_the_fit_averaged_over_time(method):
    paths = Paths.from_lists([[0, 1, 2, 3], [0, 0, 1, 2, 3]], [[1, 1, 1], [0, 1, 1, 1]])
    deployed = deploy(corridor(horizon=6), paths, np.array([-1.0, 0.3]), method)
    mdp = deployed.mdp
    assert_allclose(np.bincount(mdp.pair_state, deployed.policy)[:3], 1, rtol=1e-12)
    table = by_action(deployed, grid_layout("1x4", mdp), deployed.policy)
    assert table.shape == (1, 4, 2)
    assert np.isnan(table[0, 3]).all()
    assert_allclose(table[0, :3, 1], deployed.policy[mdp.pair_action == 1])


def test_demonstrations_that_stop_are_compared_in_as_many_steps():
    mdp = corridor(terminal=None, discount=0.9, num_states=4)
    rows = (
        np.append(mdp.state, 3),
        np.append(mdp.action, 0),
        np.append(mdp.next_state, 0),
        np.append(mdp.probability, 1),
    )
    mdp = mdp.replace(**dict(zip(("state", "action", "next_state", "probability"), rows, strict=True)))
    paths = Paths.from_lists([[0, 1, 2, 3, 0], [1, 2, 3]], [[1, 1, 1, 0], [1, 1]])
    deployed = deploy(mdp, paths, np.array([0.5, 0.2]), "mce")
    assert not deployed.discounted
    assert_allclose(deployed.expert_visits, [1, 1, 1, 1])
    assert_allclose(deployed.learner_visits.sum(), 4, rtol=1e-12)
    assert_allclose(deployed.learner_flow.sum(), 3, rtol=1e-12)
    policy, step = deployed.policy, np.zeros((4, 4))
    np.add.at(step, (mdp.state, mdp.next_state), policy[mdp.transition_pair] * mdp.probability)
    by_hand = np.zeros(4)
    for start, length in ((0, 4), (1, 2)):
        at = np.eye(4)[start]
        for _ in range(length + 1):
            by_hand += at / 2
            at = at @ step
    assert_allclose(deployed.learner_visits, by_hand, rtol=1e-10)


def test_states_of_one_cell_are_added_up_or_averaged():
    layout = grid_layout("1x3", corridor())
    assert_array_equal(layout.row, [0, 0, 0, -1])
    assert_allclose(layout.place(np.arange(4.0)), [[0, 1, 2]])
    both = type(layout)(1, 2, np.array([0, 0, 0, -1]), np.array([0, 0, 1, -1]))
    assert_allclose(both.place(np.array([1.0, 2, 4, 8])), [[3, 4]])
    assert_allclose(both.average(np.array([1.0, 2, np.nan, 8]), np.array([1.0, 3, 1, 1])), [[1.75, np.nan]])
    assert_allclose(both.average(np.array([1.0, 2, 5, 8]), np.zeros(4)), [[1.5, 5]])


@pytest.mark.parametrize(
    ("grid", "sentence"),
    [
        ("4", "not understood"),
        ("2x3", "6 cells for 4 states"),
        ("1x2", "state 2, which is not terminal"),
        ("0x4", "not"),
    ],
)
def test_grids_that_do_not_fit_are_refused(grid, sentence):
    with pytest.raises(RequestError, match=sentence):
        grid_layout(grid, corridor())


def test_environments_know_where_their_states_lie():
    lake = TabularMDP.from_gymnasium("FrozenLake-v1")
    layout = env_layout("FrozenLake-v1", None, lake)
    assert (layout.rows, layout.columns) == (4, 4)
    layout = env_layout("MountainCar-v0", (2, 8), lake.replace(
        state=np.arange(16), action=np.zeros(16, int), next_state=np.full(16, 16),
        probability=np.ones(16), num_states=17,
        state_features=np.ones((17, 1)), feature_names=("f",), initial=None, terminal=[16],
    ))  # fmt: skip
    assert (layout.rows, layout.columns, layout.labels) == (8, 2, ("position", "velocity"))
    assert (layout.column[8], layout.row[8], layout.row[16]) == (1, 0, -1)
    with pytest.raises(RequestError, match="give the --bins"):
        env_layout("MountainCar-v0", (3, 8), lake)
    with pytest.raises(RequestError, match="has 500"):
        env_layout("Taxi-v3", None, lake)
    with pytest.raises(RequestError, match="not known"):
        env_layout("CartPole-v1", None, lake)
