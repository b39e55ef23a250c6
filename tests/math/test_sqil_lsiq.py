"""SQIL's targets and LS-IQ's loss by hand, and what the absorbing state is worth to both."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from menura.core import ExpertData, RequestError
from menura.forward.dqn import DQN
from menura.forward.sac import SAC, expected_soft_value
from menura.imitation.adversarial import GAIL
from menura.imitation.bc import distance_to_demos
from menura.imitation.lsiq import LSIQ, reward_bounds, value_absorbed, value_bounds
from menura.imitation.sqil import SQIL, reward_absorbed
from menura.regularizers import ChiSquaredMixture
from tests.learners import SPECS, random_transitions

GAMMA = 0.9
ONE_STEP = SAC(num_updates=1, batch_size=64, replay_size=8, learning_starts=0, gamma=GAMMA, hidden_sizes=(8,))
SPEC = SPECS["discrete"]
NO_ROWS = random_transitions(SPEC, (0,))


def row(seed, *, terminated, shape=(1, 1)):
    """One step."""
    step = random_transitions(SPEC, shape, seed)
    flag = jnp.full(shape, terminated)
    return eqx.tree_at(lambda t: (t.terminated, t.truncated), step, (flag, ~flag))


def value_of(sac, state, obs):
    log_probs = sac.policy(state).distribution(obs).log_probs
    return expected_soft_value(state.target_q.of_all(obs), log_probs, temperature=jnp.exp(state.log_temperature))


def loss_by_hand(state, mine, theirs, targets):
    """½ Σ (Q − y)² of either twin, over a batch of which one half is one step, and the other another."""
    errors = [
        np.sum(np.square(state.q(step.obs, step.action) - y)) for step, y in zip((mine, theirs), targets, strict=True)
    ]
    return 0.5 * np.mean(errors)


@pytest.fixture(scope="module")
def first_loss():
    """The first gradient step of a learner: the state before it, and its metrics. Compiled once for each learner."""
    compiled = {}

    def get(learner, mine, theirs, ending_rate=0.0):
        if learner not in compiled:
            state = jax.jit(lambda key: learner.init(SPEC, key=key))(jax.random.key(0))
            compiled[learner] = state, jax.jit(lambda *args: learner.update(*args, key=jax.random.key(1))[1])
        state, update = compiled[learner]
        demos = jax.tree.map(lambda x: x[:, 0], theirs)
        return state, update(state, mine, ExpertData(demos, NO_ROWS, jnp.asarray(ending_rate)))

    return get


def alone(rows):
    return jax.tree.map(lambda x: x[0, 0], rows)


def test_sqil_draws_the_experts_values_to_1_and_its_own_to_0_and_what_follows(first_loss):
    mine, theirs = row(1, terminated=False), row(2, terminated=False)
    state, metrics = first_loss(SQIL(forward=ONE_STEP), mine, theirs)
    targets = [r + GAMMA * value_of(ONE_STEP, state, alone(x).next_obs) for r, x in ((0.0, mine), (1.0, theirs))]
    np.testing.assert_allclose(
        metrics["value/loss"], loss_by_hand(state, alone(mine), alone(theirs), targets), rtol=1e-4
    )


def test_sqils_endings_go_on_at_the_mean_reward_of_the_absorbing_state(first_loss):
    """One of its own steps, and it ends; of the expert's, one in four does: shares 1/2 and 1/5."""
    mine, theirs = row(1, terminated=True), row(2, terminated=True)
    state, metrics = first_loss(SQIL(forward=ONE_STEP), mine, theirs, ending_rate=0.25)
    reward = 0.2 / (0.2 + 0.5)
    np.testing.assert_allclose(metrics["reward/absorbing"], reward, rtol=1e-6)
    entropy = 0.98 * np.log(4)  # the temperature is 1
    worth = GAMMA / (1 - GAMMA) * (reward + entropy)
    want = loss_by_hand(state, alone(mine), alone(theirs), [worth, 1 + worth])
    np.testing.assert_allclose(metrics["value/loss"], want, rtol=1e-4)
    assert float(reward_absorbed(jnp.asarray(0.0), jnp.asarray(0.0))) == 0.0


def test_cloning_beside_sqils_values_draws_the_policy_to_the_experts_actions():
    spec, rows = SPECS["discrete"], random_transitions(SPECS["discrete"], (8, 4))
    demos = ExpertData(random_transitions(spec, (30,), 3), NO_ROWS)
    dqn = DQN(num_updates=20, batch_size=8, replay_size=48, learning_starts=0, temperature=0.3, hidden_sizes=(8,),
              learning_rate=1e-2, initial_exploration=0.0, final_exploration=0.0)  # fmt: skip

    def distance(bc_coef):
        learner = SQIL(forward=dqn, bc_coef=bc_coef)
        state = learner.init(spec, key=jax.random.key(0))
        policy = learner.policy(jax.jit(learner.update)(state, rows, demos, key=jax.random.key(1))[0])
        return float(distance_to_demos(policy, policy, demos.train))

    assert distance(10.0) < 0.9 * distance(0.0)


@pytest.mark.parametrize("name", ["sqil", "gail"])
def test_values_of_which_the_largest_is_taken_are_refused_before_a_run_begins(name):
    greedy = DQN(hidden_sizes=(8,))
    learner = SQIL(forward=greedy, bc_coef=1.0) if name == "sqil" else GAIL(forward=greedy, bc_updates=3)
    with pytest.raises(RequestError, match="give it a temperature"):
        learner.steps_per_update(4)
    assert SQIL(forward=greedy).steps_per_update(4) > 0


def test_the_mixtures_regularizer_is_a_bellman_error_under_rewards_of_plus_and_minus_one_over_alpha():
    alpha, rng = 0.4, np.random.default_rng(0)
    of_expert, of_learner = (jnp.asarray(x) for x in rng.uniform(-2.5, 2.5, (2, 50)))
    low, high = reward_bounds(alpha)
    squares = jnp.mean((of_expert - high) ** 2) + jnp.mean((of_learner - low) ** 2)
    loss = ChiSquaredMixture(alpha=alpha).loss(of_expert, of_learner)
    np.testing.assert_allclose(loss, alpha / 2 * squares - 1 / alpha, rtol=1e-5)
    np.testing.assert_allclose(value_bounds(alpha, gamma=GAMMA), (-25.0, 25.0), rtol=1e-6)


@pytest.mark.parametrize("terminated", [False, True])
def test_ls_iq_draws_the_experts_values_to_the_highest_and_its_own_to_the_lowest_reward_and_what_follows(
    terminated, first_loss
):
    mine, theirs = row(1, terminated=terminated), row(2, terminated=terminated)
    state, metrics = first_loss(LSIQ(forward=ONE_STEP, alpha=0.5), mine, theirs, ending_rate=0.25)
    # Rewards of ±2, values of ±20; the shares of the absorbing state are 1/5 and, if its only step ends, 1/2.
    share = 0.5 if terminated else 0.0
    absorbed = (0.2 * 20 + share * -2) / (0.2 + 0.1 * share)
    follows = absorbed if terminated else value_of(ONE_STEP, state, alone(mine).next_obs)
    want = loss_by_hand(state, alone(mine), alone(theirs), [-2 + GAMMA * follows, 20.0])
    np.testing.assert_allclose(metrics["value/loss"], want, rtol=1e-4)
    np.testing.assert_allclose(metrics["value/absorbing"], absorbed, rtol=1e-5)


def test_the_absorbing_state_is_worth_most_where_only_the_expert_ends_and_least_where_only_the_learner_does():
    for rates, want in (((0.1, 0.0), 20.0), ((0.0, 0.1), -20.0), ((0.0, 0.0), 0.0)):
        got = value_absorbed(*map(jnp.asarray, rates), alpha=0.5, gamma=GAMMA)
        np.testing.assert_allclose(got, want, rtol=1e-5)
    # The fixed point of the two targets, weighed: shares 1/11 and 1/6.
    value = 0.0
    for _ in range(500):
        value = (20 / 11 + (-2 + GAMMA * value) / 6) / (1 / 11 + 1 / 6)
    got = value_absorbed(jnp.asarray(0.1), jnp.asarray(0.2), alpha=0.5, gamma=GAMMA)
    np.testing.assert_allclose(got, value, rtol=1e-4)


def test_targets_out_of_range_are_clipped():
    sac = dataclasses.replace(ONE_STEP, batch_size=8)
    mine = row(1, terminated=True)
    state = sac.store(sac.init(SPEC, key=jax.random.key(0)), mine)
    _, metrics = jax.jit(
        lambda s: sac.learn(s, lambda _: 50.0 + 0 * _.reward, key=jax.random.key(0), target_range=(-3.0, 3.0))
    )(state)
    step = alone(mine)
    want = 0.5 * np.sum(np.square(state.q(step.obs, step.action) - 3.0))
    np.testing.assert_allclose(metrics["value/loss"], want, rtol=1e-4)


def test_an_alpha_of_zero_is_refused():
    with pytest.raises(RequestError, match="alpha"):
        LSIQ(alpha=0.0).steps_per_update(4)
