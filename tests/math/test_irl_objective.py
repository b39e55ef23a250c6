"""Likelihoods against brute force: every path enumerated, every gradient against finite differences."""

import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose

from menura.environments.tabular import TabularMDP
from menura.irl import Paths, evaluate_at, fit
from menura.irl.objective import make_problem
from menura.irl.planning import DivergenceError


def random_mdp(rng, *, states=5, actions=3, horizon=None, discount=1.0, deterministic=False, terminal=None, features=3):
    table = np.zeros((states, actions, states))
    for s, a in itertools.product(range(states), range(actions)):
        if deterministic:
            table[s, a, rng.integers(states)] = 1
        else:
            reached = rng.choice(states, 3, replace=False)
            table[s, a, reached] = rng.dirichlet(np.ones(3))
    if terminal is not None:
        table[:, 0] = 0.0
        table[:, 0, terminal[0]] = 1.0
        if not deterministic:
            table[:, 0] *= 0.7
            table[:, 0, (terminal[0] + 1) % states] += 0.3
    return TabularMDP.from_dense(
        table,
        state_features=rng.normal(size=(states, features)),
        discount=discount,
        horizon=horizon,
        terminal=terminal,
    )


def dense(mdp):
    table = np.zeros((mdp.num_states, mdp.num_actions, mdp.num_states))
    table[mdp.state, mdp.action, mdp.next_state] = mdp.probability
    return table


def sample(rng, mdp, count, length):
    table = dense(mdp)
    ended = np.zeros(mdp.num_states, bool)
    if mdp.terminal is not None:
        ended[mdp.terminal] = True
    states, actions = [], []
    while len(states) < count:
        s = rng.integers(mdp.num_states)
        if ended[s]:
            continue
        path, acts = [s], []
        while len(acts) < length and not ended[path[-1]]:
            offered = np.flatnonzero(table[path[-1]].sum(axis=1))
            a = rng.choice(offered)
            acts.append(a)
            path.append(rng.choice(mdp.num_states, p=table[path[-1], a]))
        if mdp.horizon is None and mdp.discount == 1 and not ended[path[-1]]:
            continue
        states.append(path)
        actions.append(acts)
    return Paths.from_lists(states, actions)


def every_path(mdp, start, length):
    """(states, actions, probability of the outcomes) of every path of that many steps, or that ended before."""
    ended = set() if mdp.terminal is None else set(mdp.terminal.tolist())
    rows = {}
    for s, a, s2, p in zip(mdp.state, mdp.action, mdp.next_state, mdp.probability, strict=True):
        rows.setdefault(int(s), []).append((int(a), int(s2), float(p)))
    open_paths = [((start,), (), 1.0)]
    done = []
    for _ in range(length):
        longer = []
        for states, actions, p in open_paths:
            if states[-1] in ended:
                done.append((states, actions, p))
                continue
            longer += [(states + (s2,), actions + (a,), p * q) for a, s2, q in rows.get(states[-1], [])]
        open_paths = longer
    return done + open_paths


SETTINGS = {
    "finite": dict(horizon=4),
    "finite, discounted": dict(horizon=4, discount=0.7),
    "finite, terminal": dict(horizon=5, terminal=[4]),
    "discounted": dict(discount=0.9),
    "discounted, terminal": dict(discount=0.95, terminal=[4]),
    "ends": dict(terminal=[4]),
}


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("method", ["maxent", "mce"])
def test_gradient_and_hessian_are_finite_differences_of_the_log_likelihood(method, setting, deterministic):
    if method == "maxent" and "discounted" in setting:
        pytest.skip("MaxEnt has no discount.")
    rng = np.random.default_rng(3)
    mdp = random_mdp(rng, deterministic=deterministic, **SETTINGS[setting])
    paths = sample(rng, mdp, 6, 4 if mdp.horizon is None else mdp.horizon)
    mdp = mdp.replace(state_features=np.hstack([mdp.state_features, np.ones((5, 1))]), feature_names=None)
    objective = make_problem(mdp, paths, method).likelihood()
    theta = np.append(rng.normal(size=3) * 0.2, -2.5)
    here = objective.derive(theta)
    step = 1e-5
    moved = [(objective.derive(theta + step * e), objective.derive(theta - step * e)) for e in np.eye(4)]
    assert_allclose(here.gradient, [(up.value - down.value) / (2 * step) for up, down in moved], rtol=1e-6, atol=1e-6)
    assert_allclose(
        here.hessian, [(up.gradient - down.gradient) / (2 * step) for up, down in moved], rtol=1e-5, atol=1e-5
    )
    assert_allclose(here.scores.sum(axis=0), here.gradient, rtol=1e-9, atol=1e-9)
    assert_allclose(objective.evaluate(theta).gradient, here.gradient, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("terminal", [None, [4]])
def test_maxent_is_the_normalized_weight_of_every_path(deterministic, terminal):
    rng = np.random.default_rng(0)
    mdp = random_mdp(rng, horizon=4, deterministic=deterministic, terminal=terminal)
    theta = rng.normal(size=3)
    reward = mdp.state_features @ theta
    paths = sample(rng, mdp, 8, 4)
    expected, mean_features = 0.0, np.zeros(3)
    for n, (first, length) in enumerate(zip(paths.first, paths.lengths, strict=True)):
        own = tuple(paths.states[first : first + length]) + (paths.final_states[n],)
        weights = {}
        for states, actions, p in every_path(mdp, own[0], 4):
            weights[states, actions] = p * np.exp(sum(reward[s] for s in states[:-1]))
        total = sum(weights.values())
        expected += np.log(weights[own, tuple(paths.actions[first : first + length])] / total)
        for (states, _), weight in weights.items():
            mean_features += weight / total * mdp.state_features[list(states[:-1])].sum(axis=0) / paths.num_paths
    got = evaluate_at(mdp, paths, theta, method="maxent")
    assert_allclose(got.log_likelihood, expected, rtol=1e-10)
    assert_allclose(got.learner_features, mean_features, rtol=1e-10)


def test_a_last_step_of_unknown_outcome_sums_over_its_outcomes():
    rng = np.random.default_rng(1)
    mdp = random_mdp(rng, horizon=3)
    paths = sample(rng, mdp, 1, 3)
    theta = rng.normal(size=3)
    unknown = Paths(paths.states, paths.actions, paths.lengths)
    ways = [
        evaluate_at(
            mdp, Paths(paths.states, paths.actions, paths.lengths, np.array([s])), theta, method="maxent"
        ).log_likelihood
        for s in np.flatnonzero(dense(mdp)[paths.states[-1], paths.actions[-1]])
    ]
    got = evaluate_at(mdp, unknown, theta, method="maxent")
    assert_allclose(got.log_likelihood, np.logaddexp.reduce(ways), rtol=1e-12)
    objective = make_problem(mdp, unknown, "maxent").likelihood()
    step = 1e-6
    differences = [
        (objective.evaluate(theta + step * e).value - objective.evaluate(theta - step * e).value) / (2 * step)
        for e in np.eye(3)
    ]
    assert_allclose(objective.derive(theta).gradient, differences, atol=1e-7)


def test_mce_is_the_product_of_soft_policies_by_backward_induction():
    rng = np.random.default_rng(2)
    mdp = random_mdp(rng, horizon=4, discount=0.8)
    theta = rng.normal(size=3)
    paths = sample(rng, mdp, 5, 4)
    table, reward = dense(mdp), mdp.state_features @ theta
    value, log_policy = np.zeros(5), []
    for _ in range(4):
        q = reward[:, None] + 0.8 * table @ value
        value = np.log(np.exp(q).sum(axis=1))
        log_policy.insert(0, q - value[:, None])
    expected = sum(log_policy[t][s, a] for s, a, t in zip(paths.states, paths.actions, paths.time, strict=True))
    assert_allclose(evaluate_at(mdp, paths, theta, method="mce").log_likelihood, expected, rtol=1e-12)


@pytest.mark.parametrize("setting", ["finite", "ends"])
def test_maxent_and_mce_agree_on_certain_outcomes_without_discount_and_only_there(setting):
    rng = np.random.default_rng(5)
    for deterministic in (True, False):
        mdp = random_mdp(rng, deterministic=deterministic, **SETTINGS[setting])
        mdp = mdp.replace(state_features=mdp.state_features * 0.2 - 1.5)
        paths = sample(rng, mdp, 10, 4)
        theta = np.ones(3)
        likelihoods = [evaluate_at(mdp, paths, theta, method=m).log_likelihood for m in ("maxent", "mce")]
        if deterministic:
            assert_allclose(*likelihoods, rtol=1e-11)
        else:
            assert abs(likelihoods[0] - likelihoods[1]) > 0.1


def test_a_diverging_partition_function_names_the_reward():
    # Two states that lead to each other and to the end, at weight w each: growth 2w - so w must stay below 1.
    mdp = TabularMDP.from_transitions(
        [0, 0, 1, 1], [0, 1, 0, 1], [1, 2, 0, 2], np.ones(4), state_features=np.ones((3, 1)), terminal=[2]
    )
    paths = Paths.from_lists([[0, 1, 2]], [[0, 1]])
    with pytest.raises(DivergenceError, match=r"reward 0\.1"):
        evaluate_at(mdp, paths, np.array([0.1]), method="maxent")
    with pytest.raises(DivergenceError):
        evaluate_at(mdp, paths, np.zeros(1), method="maxent")
    assert np.isfinite(evaluate_at(mdp, paths, np.array([-0.01]), method="maxent").log_likelihood)
    found = fit(mdp, paths, method="maxent")
    assert found.gradient_norm < 1e-8
