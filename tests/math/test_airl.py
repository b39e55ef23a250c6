"""AIRL: its score by hand, what a potential leaves as it was, and the reward that it finds on a table."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import norm

from menura.core import (
    AbstractForwardLearner,
    AbstractPolicy,
    DiscreteActions,
    ExpertData,
    Hyper,
    RequestError,
    Spec,
    Transition,
    flatten_time,
)
from menura.imitation.airl import AIRL, AIRLState, log_prob_carried_out, shaped
from menura.networks import Categorical, DiagonalGaussian
from tests.learners import SMALL, SPECS, random_transitions

GAMMA, WEIGHT = 0.9, 0.5
MOVES = np.array([-1, 0, 1])
REWARD = np.array([0.0, 1.0, -0.5, 0.3, 0.8, -1.0, 0.2, -0.3])
"""Of each cell on a ring; one may stay, so that all cells are reached together from one, and are linked."""
RING = (np.arange(len(REWARD))[:, None] + MOVES) % len(REWARD)


def test_a_shaped_reward_by_hand():
    got = shaped(*map(jnp.asarray, ([1.0, 1.0], [5.0, 5.0], [3.0, 3.0], [False, True])), gamma=0.9)
    assert_allclose(got, [1 + 0.9 * 3 - 5, 1 - 5], rtol=1e-6)


def test_a_potential_telescopes_over_an_episode(rng):
    """The discounted sum of f is that of g, less h where it began, plus what is left of h where it was cut off."""
    reward, potential = rng.normal(size=5), rng.normal(size=6)
    discount = 0.9 ** np.arange(5)
    for terminates in (False, True):
        terminated = np.array([False] * 4 + [terminates])
        f = np.asarray(shaped(*map(jnp.asarray, (reward, potential[:-1], potential[1:], terminated)), gamma=0.9))
        left = 0.0 if terminates else 0.9**5 * potential[-1]
        assert_allclose(discount @ f, discount @ reward - potential[0] + left, rtol=1e-5)


def test_actions_are_as_likely_as_they_are_carried_out():
    """Between the bounds a density for a half-width; on a bound, all that would have gone beyond."""
    mean, std = np.array([1.5, 0.5]), np.array([0.8, 0.3])
    low, high = jnp.array([-2.0, -jnp.inf]), jnp.array([2.0, jnp.inf])
    distribution = DiagonalGaussian(jnp.asarray(mean, jnp.float32), jnp.log(jnp.asarray(std, jnp.float32)))
    inside = np.linspace(-2, 2, 2001)[1:-1]
    actions = np.concatenate([[0.3, 2.0, 7.0, -2.0], inside])
    actions = jnp.asarray(np.stack([actions, np.full_like(actions, 0.1)], axis=1), jnp.float32)
    got = jax.jit(jax.vmap(lambda a: log_prob_carried_out(distribution, a, low, high)))(actions)
    first, free = norm(mean[0], std[0]), norm(mean[1], std[1]).logpdf(0.1)
    want = [first.logpdf(0.3) + np.log(2.0), first.logsf(2.0), first.logsf(2.0), first.logcdf(-2.0)]
    assert_allclose(got[:4], np.array(want) + free, rtol=1e-5)
    # All of it is 1: the density, in units of half-widths, and what is on the bounds.
    mass = np.exp(np.asarray(got[4:]) - free).sum() * (inside[1] - inside[0]) / 2
    assert_allclose(mass + first.sf(2.0) + first.cdf(-2.0), 1.0, atol=1e-3)


class Case(NamedTuple):
    """A learner, its first state, and a rollout."""

    learner: AIRL
    state: AIRLState
    batch: Transition


@pytest.fixture(scope="module", params=SPECS)
def case(request):
    """A learner on discrete or on real actions; the reward sees both state and action."""
    spec = SPECS[request.param]
    learner = dataclasses.replace(SMALL["airl"], reward_form="logit", entropy_weight=0.3, state_only=False)
    state = jax.jit(lambda key: learner.init(spec, key=key))(jax.random.key(0))
    return Case(learner, state, random_transitions(spec, (8, 4)))


def test_what_the_learner_earns_is_f_less_lambda_log_pi_by_hand(case):
    """log π is the acting policy's, whatever is on file."""
    learner, state, batch = case

    def parts(obs, action, next_obs):
        g, norm = learner.reward_function(state), state.score.reward.norm
        h, next_h = (state.score.potential(norm(x))[0] for x in (obs, next_obs))
        distribution = learner.policy(state).distribution(obs)
        return g(obs, action), h, next_h, log_prob_carried_out(distribution, action, *state.score.bounds())

    twice = jax.jit(jax.vmap(jax.vmap(parts)))
    g, h, next_h, log_prob = map(np.asarray, twice(batch.obs, batch.action, batch.next_obs))
    want = g + learner.forward.gamma * np.where(batch.terminated, 0, next_h) - h - 0.3 * log_prob
    assert batch.terminated.any()
    got = jax.jit(learner.reward)(state, batch)
    assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    positive = jax.jit(dataclasses.replace(learner, reward_form="positive").reward)(state, batch)
    assert_allclose(positive, np.log1p(np.exp(want)), rtol=1e-4)


def test_the_loss_by_hand(case):
    """Logistic, with λ log π taken from f on both sides, and the penalty on f alone."""
    learner, state, batch = case
    features = jax.jit(jax.vmap(state.score.features))(flatten_time(batch))
    ended, unlikely = jnp.array([False, True] * 16), jnp.linspace(-3.0, 1.0, 32)
    f = np.asarray(
        jax.jit(jax.vmap(lambda x, e: state.score.of_features(x, e, gamma=learner.forward.gamma)))(features, ended)
    )
    loss = jax.jit(dataclasses.replace(learner, gradient_penalty=2.0).score_loss)
    # Both sides hold the same features, so that every point between them is one of these.
    total, metrics = loss(state.score, (features, ended, unlikely), (features, ended, 2 * unlikely), jnp.zeros(32))
    expert, learned = f - 0.3 * np.asarray(unlikely), f - 0.6 * np.asarray(unlikely)
    want = np.mean(np.log1p(np.exp(-expert))) + np.mean(np.log1p(np.exp(learned)))
    assert_allclose(metrics["score/loss"], want, rtol=1e-5)
    assert_allclose(total, metrics["score/loss"] + 2 * metrics["score/gradient_penalty"], rtol=1e-5)
    small = 1e-2
    moved = jax.jit(jax.vmap(lambda x: state.score.of_features(x, jnp.asarray(False), gamma=learner.forward.gamma)))
    steps = small * jnp.eye(features.shape[1])
    slopes = [np.linalg.norm((moved(x[None] + steps) - moved(x[None] - steps)) / (2 * small)) for x in features]
    assert_allclose(metrics["score/gradient_penalty"], np.mean((np.array(slopes) - 1) ** 2), rtol=1e-2)


def test_the_reward_sees_the_state_alone_unless_told_otherwise(case):
    learner, state, batch = case
    spec = SPECS["box" if batch.action.ndim == 3 else "discrete"]
    other = jax.jit(lambda key: SMALL["airl"].init(spec, key=key))(jax.random.key(0))
    steps = flatten_time(batch)
    for both, same in ((state, False), (other, True)):
        g = jax.jit(jax.vmap(learner.reward_function(both)))
        assert np.array_equal(g(steps.obs, steps.action), g(steps.obs, steps.action[::-1])) is same


def soft_policy(f, weight=WEIGHT):
    """Log-probabilities ``(cells, moves)`` of the best policy on the ring for ``f(cell, move)`` and entropy."""
    value = np.zeros(len(REWARD))
    for _ in range(400):
        q = f + GAMMA * value[RING]
        value = weight * np.logaddexp.reduce(q / weight, axis=1)
    return (q - value[:, None]) / weight


def occupancy(log_policy):
    """How often the ring's pairs are visited from a uniform start, discounted; sums to 1."""
    moved = np.zeros((len(REWARD), len(REWARD)))
    np.add.at(moved, (np.repeat(np.arange(len(REWARD)), 3), RING.ravel()), np.exp(log_policy).ravel())
    start = np.full(len(REWARD), (1 - GAMMA) / len(REWARD))
    return np.linalg.solve(np.eye(len(REWARD)) - GAMMA * moved.T, start)[:, None] * np.exp(log_policy)


def test_a_potential_changes_no_best_policy(rng):
    potential = rng.normal(size=len(REWARD))
    column = np.ones((1, 3))
    f = shaped(
        *map(jnp.asarray, (REWARD[:, None] * column, potential[:, None] * column, potential[RING], RING < 0)),
        gamma=GAMMA,
    )
    f = np.asarray(f)
    plain = soft_policy(np.repeat(REWARD[:, None], 3, axis=1))
    assert_allclose(np.exp(soft_policy(f)), np.exp(plain), atol=1e-5)
    assert np.ptp(np.exp(plain)) > 0.3


class TablePolicy(AbstractPolicy):
    """A row of logits for each one-hot observation."""

    logits: jax.Array

    def distribution(self, obs):
        return Categorical(obs @ self.logits)


class Planned(AbstractForwardLearner):
    """Knows the ring: plans exactly on what it earned for each pair, and goes a part of the way there."""

    num_steps: int = 512
    gamma: Hyper = GAMMA

    def steps_per_update(self, num_envs):
        return self.num_steps * num_envs

    def init(self, spec, *, key):
        return jnp.zeros(RING.shape), jnp.zeros(RING.shape)

    def policy(self, state):
        return TablePolicy(state[1])

    def final_policy(self, state):
        return TablePolicy(state[1])

    def update(self, state, batch, reward, *, key, penalty=None):
        f, logits = state
        log_policy = jax.nn.log_softmax(logits)
        rows = flatten_time(batch)
        at = jnp.argmax(rows.obs, axis=-1), rows.action
        count = jnp.zeros(RING.shape).at[at].add(1.0)
        total = jnp.zeros(RING.shape).at[at].add(reward.reshape(-1) + WEIGHT * log_policy[at])
        f = jnp.where(count > 0, total / jnp.maximum(count, 1), f)

        def sweep(_, value):
            return WEIGHT * jax.nn.logsumexp((f + GAMMA * value[RING]) / WEIGHT, axis=1)

        value = jax.lax.fori_loop(0, 150, sweep, jnp.zeros(len(REWARD)))
        return (f, 0.8 * logits + 0.2 * (f + GAMMA * value[RING]) / WEIGHT), {}


def ring_rows(cells, moves):
    """Steps on the ring, flat."""
    eye, nothing = np.eye(len(REWARD), dtype=np.float32), np.zeros(len(cells), np.float32)
    rows = Transition(
        eye[cells], moves.astype(np.int32), nothing, eye[RING[cells, moves]], nothing > 0, nothing > 0, nothing
    )
    return jax.tree.map(jnp.asarray, rows)


def test_the_reward_of_a_deterministic_decomposable_problem_is_found_up_to_a_constant(rng):
    """From the expert's steps alone, by AIRL's own updates; the learner inside plans exactly."""
    expert = occupancy(soft_policy(np.repeat(REWARD[:, None], 3, axis=1)))
    pairs = np.repeat(np.arange(expert.size), np.round(4000 * expert).astype(int).ravel())
    demos = ExpertData(ring_rows(*np.divmod(pairs, 3)), ring_rows(np.zeros(0, int), np.zeros(0, int)))
    learner = AIRL(
        forward=Planned(),
        entropy_weight=WEIGHT,
        reward_form="logit",
        gradient_penalty=0.0,
        hidden_sizes=(),
        learning_rate=0.005,
        num_score_steps=20,
        score_batch_size=512,
    )
    spec = Spec(len(REWARD), DiscreteActions(3))
    state = learner.init(spec, key=jax.random.key(0))
    update = jax.jit(learner.update)
    cells = jnp.arange(len(REWARD))
    say = jax.jit(lambda state: jax.vmap(learner.reward_function(state))(jnp.eye(len(REWARD)), 0 * cells))
    found = []
    for i in range(80):
        visited = occupancy(np.asarray(jax.nn.log_softmax(state.forward[1]))).ravel()
        drawn = rng.choice(len(visited), 2048, p=visited / visited.sum())
        batch = jax.tree.map(lambda x: x.reshape(512, 4, *x.shape[1:]), ring_rows(*np.divmod(drawn, 3)))
        state, _ = update(state, batch, demos, key=jax.random.key(i))
        found.append(say(state))
    g = np.mean(found[-30:], axis=0)
    assert np.corrcoef(g, REWARD)[0, 1] >= 0.99
    # Up to a constant, not up to a scale: the entropy's weight sets it.
    assert_allclose(g - g.mean(), REWARD - REWARD.mean(), atol=0.1)
    learned = np.exp(soft_policy(np.repeat(g[:, None], 3, axis=1)))
    assert_allclose(learned, expert / expert.sum(axis=1, keepdims=True), atol=0.05)


@pytest.mark.parametrize("name", ["sac", "dqn"])
def test_learners_from_older_steps_are_refused(name):
    with pytest.raises(RequestError, match="give it TRPO or PPO"):
        AIRL(forward=SMALL[name])
