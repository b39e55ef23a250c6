"""FEM and GTAL inside GAIL: the best weights in closed form, and a reward that follows them."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import linprog, minimize

from menura.core import BoxActions, DiscreteActions, ExpertData, Spec, Transition, flatten_time
from menura.imitation.linear import LinearScore
from menura.regularizers import FeatureExpectation, GameTheoretic
from tests.learners import SMALL, SPECS, expert_data, random_transitions

fitted = eqx.filter_jit(LinearScore.fitted)
LINE = Spec(1, BoxActions((-1.0,), (1.0,)))


def rows(obs, action):
    """Steps of these observations and actions, of which nothing else is looked at."""
    obs, action = jnp.asarray(obs, jnp.float32), jnp.asarray(action)
    none = jnp.zeros(obs.shape[:-1])
    return Transition(obs, action, none, obs, none > 0, none > 0, none)


def test_weights_on_a_line_by_hand():
    """The expert's observations are 0 and 2, its actions ±0.5: means 1 and 0, deviations 1 and 0.5."""
    expert = rows([[0.0], [2.0]], [[-0.5], [0.5]])
    # Standardized: observations 2 and 4, whose mean is 3; the action 9 counts as 1, which is 2, and the mean is 1.
    learner = rows([[[3.0]], [[5.0]]], [[[9.0]], [[0.0]]])
    demos = ExpertData(expert, rows(jnp.zeros((0, 1)), jnp.zeros((0, 1))))
    # Observation, action, their squares times 1e-4, and 1, as expert − learner.
    gap = np.array([0 - 3, 0 - 1, 1e-4 * (1 - 10), 1e-4 * (1 - 2), 0])
    fem, metrics = fitted(LinearScore(LINE), FeatureExpectation(), learner, demos)
    assert_allclose(fem.weights, gap / np.sqrt(np.sum(gap**2)), rtol=1e-5)
    assert_allclose(metrics["score/expert"] - metrics["score/learner"], np.sqrt(10), rtol=1e-5)
    gtal, metrics = fitted(LinearScore(LINE), GameTheoretic(), learner, demos)
    assert_allclose(gtal.weights, [-1, 0, 0, 0, 0])
    assert_allclose([metrics["score/learner"], metrics["score/largest_gap"]], [-3, 3], rtol=1e-6)
    # The observation 7 is 6 deviations above the expert's mean.
    assert_allclose(gtal(jnp.array([7.0]), jnp.array([0.3])), -6, rtol=1e-6)


def test_discrete_actions_have_blocks_of_their_own_by_hand():
    expert = rows([[0.0], [2.0]], np.array([1, 1]))
    learner = rows([[[0.0]], [[0.0]]], np.array([[0], [1]]))
    demos = ExpertData(expert, rows(jnp.zeros((0, 1)), np.zeros(0, int)))
    score = LinearScore(Spec(1, DiscreteActions(2)))
    # In each block: the observation (standardized to ±1), its scaled square, and 1.
    gap = np.array([0.5, -0.5e-4, -0.5, 0.5, 0.5e-4, 0.5])
    score, _ = fitted(score, FeatureExpectation(), learner, demos)
    assert_allclose(score.weights, gap / np.sqrt(np.sum(gap**2)), rtol=1e-5)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize("regularizer", [FeatureExpectation(), GameTheoretic(), GameTheoretic(signed=False)])
def test_no_other_weights_part_expert_and_learner_more(spec, regularizer):
    demos, batch = expert_data(spec), random_transitions(spec, (8, 4))
    score, metrics = fitted(LinearScore(spec), regularizer, batch, demos)
    features = jax.jit(jax.vmap(score.features))
    everything = flatten_time(batch)
    gap = jnp.mean(features(demos.train.obs, demos.train.action), axis=0) - jnp.mean(
        features(everything.obs, everything.action), axis=0
    )
    gap = np.asarray(gap, np.float64)
    if isinstance(regularizer, FeatureExpectation):
        # The unit ball, by a search over directions.
        start = np.random.default_rng(0).normal(size=len(gap))
        found = minimize(lambda w: -(gap @ w) / np.linalg.norm(w), start, tol=1e-10)
        best = found.x / np.linalg.norm(found.x)
    else:
        # The simplex, over features and their negatives, by linear programming.
        value = np.concatenate([gap, -gap]) if regularizer.signed else gap
        found = linprog(-value, A_eq=np.ones((1, len(value))), b_eq=[1.0], bounds=(0, None))
        best = found.x[: len(gap)] - (found.x[len(gap) :] if regularizer.signed else 0)
    assert_allclose(score.weights, best, atol=1e-3)
    assert_allclose(metrics["score/loss"], found.fun, rtol=1e-4)


@pytest.mark.parametrize(("name", "regularizer"), [("box", FeatureExpectation()), ("discrete", GameTheoretic())])
def test_the_reward_is_the_score_and_changes_with_each_rollout(name, regularizer, key):
    spec = SPECS[name]
    gail = dataclasses.replace(SMALL["gail"], regularizer=regularizer, reward_form="centered")
    state, batch, demos = gail.init(spec, key=key), random_transitions(spec, (8, 4)), expert_data(spec)
    reward_of = eqx.filter_jit(gail.reward)
    assert_allclose(reward_of(state, batch), 0)
    update = eqx.filter_jit(gail.update)
    first, metrics = update(state, batch, demos, key=key)
    reward = reward_of(first, batch)
    assert_allclose(reward[2, 1], first.score(batch.obs[2, 1], batch.action[2, 1]), rtol=1e-5)
    assert_allclose(metrics["reward/mean"], jnp.mean(reward), atol=1e-6)
    assert float(jnp.std(reward)) > 0.1
    # Another rollout gives other weights, and the rollout before leaves no trace in them.
    other = random_transitions(spec, (8, 4), seed=5)
    second, _ = update(first, other, demos, key=key)
    afresh, _ = update(state, other, demos, key=key)
    assert float(jnp.max(jnp.abs(reward_of(second, batch) - reward))) > 0.01
    assert_allclose(second.score.weights, afresh.score.weights, rtol=1e-6)


def test_rewards_of_one_sign_are_shifted_by_the_bound(key):
    spec = SPECS["box"]
    gail = dataclasses.replace(SMALL["gail"], regularizer=FeatureExpectation(bound=0.5), reward_form="negative")
    state, batch = gail.init(spec, key=key), random_transitions(spec, (8, 4))
    reward_of = eqx.filter_jit(gail.reward)
    # With weights of 0 every score is 0.
    assert_allclose(reward_of(state, batch), -0.5)
    score, _ = fitted(state.score, gail.regularizer, batch, expert_data(spec))
    reward = reward_of(eqx.tree_at(lambda s: s.score, state, score), batch)
    assert_allclose([jnp.min(reward), jnp.max(reward)], [-1, 0])
