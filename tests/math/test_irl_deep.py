"""Network rewards: gradients, agreement with the linear fit, and a reward that no linear fit explains."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from numpy.testing import assert_allclose

from menura.core import RequestError
from menura.environments.tabular import TabularMDP
from menura.irl import Paths, evaluate_at, fit
from menura.irl.choices import action_choices
from menura.irl.deep import NetworkReward, fit_network, load_network, make_inputs, save_network, tabulate
from menura.irl.estimate import load_estimate, policy_of
from menura.irl.objective import make_problem
from menura.networks import MLP


def random_mdp(rng, kinds, *, states=6, actions=3, **settings):
    """Every action with two outcomes; features of the kinds that are asked for."""
    rows = [
        (s, a, int(s2)) for s in range(states) for a in range(actions) for s2 in rng.choice(states, 2, replace=False)
    ]
    features = {}
    if "state" in kinds:
        features["state_features"] = rng.normal(size=(states, 2))
    if "pair" in kinds:
        features["state_action_features"] = rng.normal(size=(states, actions, 2))
    if "transition" in kinds:
        features["transition_features"] = rng.normal(size=(len(rows), 1))
    return TabularMDP.from_transitions(
        *zip(*rows, strict=True), np.tile([0.3, 0.7], len(rows) // 2), **features, **settings
    )


def walks(mdp, reward, number, length, rng):
    """Paths of the policy of maximum causal entropy for a reward of every pair, known by a horizon or a discount."""
    table = mdp.replace(
        state_features=None, pair_features=reward[:, None], transition_features=None, feature_names=("r",)
    )
    some = Paths.from_lists([[int(mdp.state[0])]], [[int(mdp.action[0])]])
    plan = policy_of(make_problem(table, some, "mce"), np.ones(1))
    policy = np.exp(np.broadcast_to(plan.log_policy, (length, mdp.num_pairs)))
    states, actions = [], []
    for _ in range(number):
        path, taken = [int(rng.integers(mdp.num_states))], []
        for t in range(length):
            pairs = np.flatnonzero(mdp.pair_state == path[-1])
            pair = rng.choice(pairs, p=policy[t, pairs] / policy[t, pairs].sum())
            taken.append(int(mdp.pair_action[pair]))
            outcomes = np.flatnonzero(mdp.transition_pair == pair)
            path.append(int(mdp.next_state[rng.choice(outcomes, p=mdp.probability[outcomes])]))
        states.append(path)
        actions.append(taken)
    return Paths.from_lists(states, actions)


@pytest.fixture(scope="module")
def made():
    rng = np.random.default_rng(0)
    mdp = random_mdp(rng, ("state", "pair"), horizon=5)
    reward = action_choices(mdp).features.reward(np.array([1.0, -0.5, 0.7, 0.3]))
    return mdp, walks(mdp, reward, 40, 5, rng)


KINDS = [("state",), ("state", "pair"), ("state", "pair", "transition")]


@pytest.mark.parametrize("method", ["mce", "maxent"])
@pytest.mark.parametrize("kinds", KINDS, ids="+".join)
def test_the_gradient_in_the_parameters_is_finite_differences(kinds, method):
    rng = np.random.default_rng(1)
    mdp = random_mdp(rng, kinds, horizon=4)
    paths = walks(mdp, rng.normal(size=mdp.num_pairs), 5, 4, rng)
    objective = make_problem(mdp, paths, method).likelihood()
    inputs = make_inputs(mdp, objective.choices)
    with jax.enable_x64(True):
        inner = MLP(inputs.rows.shape[1], 1, (3,), key=jax.random.key(0))
        inner = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), inner)
        size = inputs.rows.shape[1]
        network = NetworkReward(inner, jnp.asarray(0.1), jnp.zeros(size), jnp.ones(size))
        parameters, rest = eqx.partition(network, eqx.is_inexact_array)
        flat, unravel = ravel_pytree(parameters)
    flat = np.asarray(flat)

    def build(values):
        with jax.enable_x64(True):
            return eqx.combine(unravel(jnp.asarray(values)), rest)

    def value(values):
        return objective.at_reward(objective.choices.with_offset(inputs.reward(build(values))))

    _, slope = value(flat)
    with jax.enable_x64(True):
        gradient = np.asarray(ravel_pytree(inputs.pull_back(network, slope))[0])
    assert gradient.dtype == np.float64
    step = 1e-5
    trained = len(flat) - 2 * size
    for i in range(0, trained, 3):
        move = step * (np.arange(len(flat)) == i)
        difference = (value(flat + move)[0] - value(flat - move)[0]) / (2 * step)
        assert_allclose(gradient[i], difference, rtol=1e-6, atol=1e-6)
    assert_allclose(gradient[trained:], 0)


@pytest.mark.parametrize("kinds", KINDS, ids="+".join)
def test_a_linear_network_gives_every_choice_its_linear_reward(kinds):
    rng = np.random.default_rng(2)
    mdp = random_mdp(rng, kinds, horizon=4)
    theta = rng.normal(size=mdp.num_features)
    with jax.enable_x64(True):
        network = NetworkReward(
            lambda x: jnp.dot(jnp.asarray(theta), x), jnp.asarray(0.0), jnp.zeros(len(theta)), jnp.ones(len(theta))
        )
    for method in ("mce", "maxent"):
        paths = Paths.from_lists([[0, int(mdp.next_state[0])]], [[int(mdp.action[0])]])
        choices = make_problem(mdp, paths, method).choices
        assert_allclose(make_inputs(mdp, choices).reward(network), choices.features.reward(theta), atol=1e-12)
        table = tabulate(mdp, network)
        again = make_problem(table, paths, method).choices
        assert_allclose(again.features.reward(np.ones(1)), choices.features.reward(theta), atol=1e-12)


def test_features_that_share_their_weights_are_added():
    mdp = TabularMDP.from_transitions(
        [0, 1], [0, 0], [1, 0], [1.0, 1.0], state_features=[[1.0], [2.0]], transition_features=[[10.0], [20.0]],
        feature_names=("f",), horizon=2,
    )  # fmt: skip
    inputs = make_inputs(mdp, action_choices(mdp))
    assert_allclose(inputs.weight @ inputs.rows, [[11.0], [22.0]])


@pytest.mark.parametrize("match", ["likelihood", "features"])
def test_a_linear_network_reaches_the_likelihood_of_the_linear_fit(made, match):
    mdp, demos = made
    plain = fit(mdp, demos, match=match)
    deep = fit_network(mdp, demos, match=match, hidden_sizes=(), learning_rate=0.05, steps=300)
    assert_allclose(deep.log_likelihood, plain.log_likelihood, rtol=1e-7)
    assert_allclose(deep.learner_features, plain.learner_features, atol=1e-3)
    assert_allclose(deep.expert_features, plain.expert_features, rtol=1e-12)
    assert len(deep.history) == 300
    # In units of the features, the network's weights are θ.
    weights = np.asarray(deep.network.network.weights[0][0]) / np.asarray(deep.network.scale)
    assert_allclose(weights, plain.theta, atol=0.02)


def test_a_reward_that_is_an_exclusive_or_is_explained_by_a_network_only():
    rng = np.random.default_rng(3)
    rows = [(s, a, int(s2)) for s in range(12) for a in range(4) for s2 in rng.choice(12, 1)]
    bits = np.array([[s % 2, s // 2 % 2] for s in range(12)], float)
    mdp = TabularMDP.from_transitions(*zip(*rows, strict=True), np.ones(48), state_features=bits, discount=0.8)
    reward = 2.0 * (bits[:, 0] != bits[:, 1])
    train, heldout = (walks(mdp, reward[mdp.pair_state], 30, 10, rng) for _ in range(2))
    linear = evaluate_at(mdp, heldout, fit(mdp, train).theta).log_likelihood
    deep = fit_network(mdp, train, hidden_sizes=(8,), learning_rate=0.05, steps=200, heldout=heldout)
    truth = evaluate_at(mdp.replace(state_features=reward[:, None], feature_names=("r",)), heldout, np.ones(1))
    assert deep.heldout_log_likelihood > linear + 20
    assert abs(deep.heldout_log_likelihood - truth.log_likelihood) < 5
    assert_allclose(deep.heldout_log_likelihood, deep.heldout_history.max() * 300, rtol=1e-10)


def test_training_stops_when_held_out_demonstrations_say_so(made):
    mdp, demos = made
    train, heldout = demos.select(np.arange(3)), demos.select(np.arange(20, 40))
    deep = fit_network(mdp, train, hidden_sizes=(16,), learning_rate=0.05, steps=1000, heldout=heldout)
    assert len(deep.history) < 1000
    assert deep.best_step == 10 * int(np.argmax(deep.heldout_history))
    assert deep.history[-1] > deep.history[deep.best_step]


def test_an_undiscounted_problem_begins_low_enough_and_never_leaves_where_values_exist():
    mdp = TabularMDP.from_transitions(
        [0, 0, 1, 1], [0, 1, 0, 1], [1, 2, 0, 2], np.ones(4), state_features=[[0.0], [1], [2]], terminal=[2]
    )
    demos = Paths.from_lists([[0, 1, 2], [0, 2], [0, 1, 0, 1, 0, 1, 2]], [[0, 1], [1], [0, 0, 0, 0, 0, 1]])
    deep = fit_network(mdp, demos, hidden_sizes=(), learning_rate=0.3, steps=150)
    assert len(deep.history) == 150
    assert np.isfinite(deep.history).all()
    with_constant = mdp.replace(state_features=[[0.0, 1], [1, 1], [2, 1]], feature_names=None)
    assert_allclose(deep.log_likelihood, fit(with_constant, demos).log_likelihood, atol=1e-3)


def test_the_same_seed_gives_the_same_network_and_another_seed_another(made):
    mdp, demos = made
    one, two, other = (fit_network(mdp, demos, steps=5, hidden_sizes=(4,), seed=s) for s in (0, 0, 1))
    assert np.array_equal(one.reward, two.reward)
    assert not np.array_equal(one.reward, other.reward)


def test_a_network_of_ones_own_is_trained(made, tmp_path):
    mdp, demos = made
    own = eqx.nn.MLP(4, 1, 8, 1, key=jax.random.key(0))
    deep = fit_network(mdp, demos, own, steps=30)
    assert deep.history[-1] > deep.history[0]
    save_network(tmp_path / "own.npz", deep.network)
    with pytest.raises(RequestError, match="another kind than an MLP"):
        load_network(tmp_path / "own.npz")
    inputs = make_inputs(mdp, action_choices(mdp))
    assert np.array_equal(inputs.reward(load_network(tmp_path / "own.npz", own)), deep.reward)
    with pytest.raises(RequestError, match="another shape"):
        load_network(tmp_path / "own.npz", eqx.nn.MLP(4, 1, 9, 1, key=jax.random.key(0)))
    with pytest.raises(RequestError, match="does not turn 4 features"):
        fit_network(mdp, demos, eqx.nn.MLP(3, 1, 8, 1, key=jax.random.key(0)), steps=30)


def test_a_deep_fit_is_saved_and_deployed_as_an_estimate(made, tmp_path):
    mdp, demos = made
    deep = fit_network(mdp, demos, steps=10, hidden_sizes=(4, 4), activation="relu")
    deep.save(tmp_path / "out", mdp, demos)
    network = load_network(tmp_path / "out" / "network.npz")
    assert network.network.activation == "relu"
    assert np.array_equal(make_inputs(mdp, action_choices(mdp)).reward(network), deep.reward)
    said, theta, table, paths = load_estimate(tmp_path / "out" / "estimate")
    assert theta.tolist() == [1.0]
    assert_allclose(said["log_likelihood"], deep.log_likelihood, rtol=1e-12)
    plan = policy_of(make_problem(table, paths, "mce"), theta)
    assert plan.log_policy.shape == (5, mdp.num_pairs)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"learning_rate": 0.0}, "learning rate is 0"),
        ({"steps": 0}, "number of steps is 0"),
        ({"weight_decay": -1.0}, "weight decay is -1"),
        ({"hidden_sizes": (0,)}, "at least 1 unit"),
        ({"method": "maxent", "match": "features"}, "already matches features"),
    ],
)
def test_wrong_settings_are_refused(made, settings, sentence):
    with pytest.raises(RequestError, match=sentence):
        fit_network(*made, **settings)
