"""Deep Q-learning by hand: targets, dueling, exploration, priorities and their weights, and n steps from a ring."""

import dataclasses
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from menura.core import RequestError, Transition
from menura.forward.dqn import DQN, chosen_value, huber, q_target, soft_chosen_value
from menura.forward.off_policy import running_average
from menura.forward.q_values import dueling, epsilon_greedy, exploration
from menura.priorities import Priorities, importance_weights, priority, probabilities
from menura.replay import Replay
from menura.returns import n_step
from tests.learners import SMALL, SPECS, random_transitions

SPEC = SPECS["discrete"]


def test_the_target_rates_its_own_best_action_or_with_double_the_learned_values():
    target, learned = jnp.array([1.0, 5.0, 2.0]), jnp.array([0.0, 1.0, 3.0])
    assert float(chosen_value(target, target)) == 5.0
    assert float(chosen_value(target, learned)) == 2.0


def test_a_soft_value_is_the_scaled_logarithm_of_the_sum_of_exponents():
    q = jnp.array([1.0, 2.0])
    want = 0.5 * math.log(math.exp(2) + math.exp(4))
    np.testing.assert_allclose(soft_chosen_value(q, q, temperature=0.5), want, rtol=1e-6)
    p = np.array([math.exp(6), 1]) / (math.exp(6) + 1)
    want = p @ (np.array([1.0, 2.0]) - 0.5 * np.log(p))
    np.testing.assert_allclose(soft_chosen_value(q, jnp.array([3.0, 0.0]), temperature=0.5), want, rtol=1e-5)
    np.testing.assert_allclose(soft_chosen_value(q, q, temperature=1e-3), 2.0, atol=1e-3)


@pytest.mark.parametrize(
    ("counted", "terminated", "want"),
    [
        ((True,), False, 1 + 0.5 * 10),
        ((True,), True, 1),
        ((True, True, True), False, 1 + 0.5 * 2 + 0.25 * 4 + 0.125 * 10),
        ((True, True, True), True, 1 + 0.5 * 2 + 0.25 * 4),
        # Truncated after two steps: worth what its last successor is worth.
        ((True, True, False), False, 1 + 0.5 * 2 + 0.25 * 10),
        ((True, False, False), True, 1),
    ],
)
def test_targets_of_n_steps_end_with_terminations_and_go_on_after_time_limits(counted, terminated, want):
    rewards = jnp.array([1.0, 2.0, 4.0])[: len(counted)]
    got = q_target(rewards, jnp.array(counted), jnp.asarray(10.0), jnp.asarray(terminated), gamma=0.5)
    np.testing.assert_allclose(got, want, rtol=1e-6)


def test_dueling_values_are_the_states_value_plus_centered_advantages():
    np.testing.assert_allclose(dueling(jnp.asarray(2.0), jnp.array([1.0, 4.0, -2.0])), [2.0, 5.0, -1.0])


def test_exploration_falls_in_a_line_and_stays():
    at = [float(exploration(jnp.asarray(n), initial=1.0, final=0.1, num_steps=100)) for n in (0, 50, 100, 900)]
    np.testing.assert_allclose(at, [1.0, 0.55, 0.1, 0.1], rtol=1e-6)


def test_the_acting_policy_is_a_mixture_whose_probabilities_are_known():
    q = jnp.array([0.0, 3.0, 1.0, 2.0])
    hard = jnp.exp(epsilon_greedy(q, epsilon=0.2, temperature=0.0))
    np.testing.assert_allclose(hard, [0.05, 0.85, 0.05, 0.05], rtol=1e-5)
    soft = jnp.exp(epsilon_greedy(q, epsilon=0.2, temperature=2.0))
    np.testing.assert_allclose(soft, 0.05 + 0.8 * jax.nn.softmax(q / 2.0), rtol=1e-5)
    np.testing.assert_allclose(jnp.exp(epsilon_greedy(q, epsilon=0.0, temperature=0.0)), [0, 1, 0, 0], atol=1e-30)
    learner = DQN(**{**vars(SMALL["dqn"]), "exploration_steps": 64})
    state = learner.init(SPEC, key=jax.random.key(0))
    state = eqx.tree_at(lambda s: s.num_seen, state, jnp.asarray(32))
    action, log_prob = learner.policy(state).act(jnp.ones(3), key=jax.random.key(1))
    epsilon = 1 + 0.5 * (0.05 - 1)
    greedy = int(jnp.argmax(state.values(jnp.ones(3))))
    np.testing.assert_allclose(jnp.exp(log_prob), epsilon / 4 + (1 - epsilon) * (int(action) == greedy), rtol=1e-5)
    assert int(learner.final_policy(state)(jnp.ones(3), key=jax.random.key(2))) == greedy


def test_hubers_loss_is_a_parabola_up_to_one_and_a_line_beyond():
    np.testing.assert_allclose(huber(jnp.array([0.5, -1.0, 3.0, -3.0])), [0.125, 0.5, 2.5, 2.5])


def test_priorities_and_their_weights_by_hand():
    powered = priority(jnp.array([1.0, -4.0, 0.0]), exponent=0.5)
    np.testing.assert_allclose(powered, [1.0, 2.0, 1e-3], rtol=1e-4)
    np.testing.assert_allclose(probabilities(jnp.array([1.0, 3.0])), [0.25, 0.75])
    # N = 2: w = (1 / (2 P))^β = (2, 2/3)^β, over the largest.
    weights = importance_weights(2 * jnp.array([0.25, 0.75]), exponent=0.5)
    np.testing.assert_allclose(weights, [1.0, math.sqrt(1 / 3)], rtol=1e-6)


def test_a_ring_draws_by_priority_what_it_holds_and_begins_with_the_largest():
    kept = Priorities(5).added(jnp.array([0, 1, 2])).updated(jnp.array([0, 1]), jnp.array([2.0, 5.0]))
    drawn = np.bincount(kept.draw(jax.random.key(0), 8000), minlength=5)
    np.testing.assert_allclose(drawn, [2000, 5000, 1000, 0, 0], atol=1)
    np.testing.assert_allclose(kept.added(jnp.array([3])).powered, [2, 5, 1, 5, 0])


def test_n_steps_from_a_ring_stay_in_their_episode_and_copy():
    # Two copies, five steps, each reward its own number; the ring holds the last eight rows, from place 2 on.
    reward = jnp.arange(10.0).reshape(5, 2)
    terminated = jnp.zeros((5, 2), bool).at[2, 0].set(True)
    truncated = jnp.zeros((5, 2), bool).at[3, 1].set(True)
    rows = random_transitions(SPEC, (5, 2))
    rows = Transition(rows.obs, rows.action, reward, rows.next_obs, terminated, truncated, rows.log_prob)
    flat = jax.tree.map(lambda x: x.reshape(10, *x.shape[2:]), rows)
    ring = Replay(SPEC, 8).add(flat)
    place = {n: int(jnp.argmax(ring.rows.reward == n)) for n in range(2, 10)}
    index = jnp.array([place[2], place[4], place[3], place[5], place[6], place[9]])
    batch = ring.batch(index, jnp.ones(6), num_returned=3, num_envs=jnp.asarray(2))
    total = jnp.sum(jnp.where(batch.counted, batch.rewards, 0.0), axis=1)
    # 2 + 4 ends; 4 ends; 3 + 5 + 7 is cut off; 5 + 7; 6 + 8 is as far as it goes; 9 is the newest.
    np.testing.assert_allclose(total, [6, 4, 15, 12, 14, 9])
    np.testing.assert_array_equal(batch.rows.terminated, [True, True, False, False, False, False])
    np.testing.assert_array_equal(batch.rows.truncated, [False, False, True, True, False, False])
    np.testing.assert_array_equal(batch.rows.next_obs, flat.next_obs[jnp.array([4, 4, 7, 7, 8, 9])])
    np.testing.assert_array_equal(batch.rows.obs, flat.obs[jnp.array([2, 4, 3, 5, 6, 9])])


def test_targets_from_a_ring_are_the_n_step_returns_of_the_stream():
    rows = random_transitions(SPEC, (40,), seed=3)
    batch = Replay(SPEC, 40).add(rows).batch(jnp.arange(40), jnp.ones(40), num_returned=3, num_envs=jnp.asarray(1))
    value_of = lambda obs: obs[:, 0]  # noqa: E731
    targets = jax.vmap(lambda *row: q_target(*row, gamma=0.9))(
        batch.rewards, batch.counted, value_of(batch.rows.next_obs), batch.rows.terminated
    )
    returns = n_step(rows.reward, value_of(rows.next_obs), rows.terminated, rows.truncated, gamma=0.9, num_steps=3)
    assert bool(rows.terminated.any())
    assert bool(rows.truncated.any())
    np.testing.assert_allclose(targets, returns, rtol=1e-5, atol=1e-6)


def test_the_target_is_copied_every_so_many_gradient_steps():
    learner = DQN(**{**vars(SMALL["dqn"]), "target_every": 4, "learning_starts": 0})
    rollout = random_transitions(SPEC, (8, 4))
    update = jax.jit(lambda s, k: learner.update(s, rollout, rollout.reward, key=k)[0])
    first = learner.init(SPEC, key=jax.random.key(0))
    after_3 = update(first, jax.random.key(1))
    assert eqx.tree_equal(after_3.target_values, first.values)
    after_6 = update(after_3, jax.random.key(2))
    assert not eqx.tree_equal(after_6.target_values, first.values)
    assert not eqx.tree_equal(after_6.target_values, after_6.values)


def test_an_average_reaches_over_the_last_tenth_while_there_are_few_and_forgets_how_it_began():
    average = jnp.asarray(100.0)
    for number, newest in enumerate((1.0, 2.0, 3.0)):
        average = running_average(average, jnp.asarray(newest), jnp.asarray(number), decay=0.5)
    # Decays of 1/10, 2/11 and 3/12: the first value has 0.1 · 2/11 · 1/4 of the weight.
    np.testing.assert_allclose(average, ((10 + 0.9) * 2 / 11 + 2 * 9 / 11) / 4 + 3 * 3 / 4, rtol=1e-6)
    np.testing.assert_allclose(running_average(jnp.zeros(()), 1.0, jnp.asarray(1000), decay=0.8), 0.2, rtol=1e-6)


def test_the_policy_that_is_kept_averages_values_and_the_one_that_acts_has_the_newest():
    learner = DQN(**{**vars(SMALL["dqn"]), "learning_starts": 0})
    rollout = random_transitions(SPEC, (8, 4))
    update = jax.jit(lambda s, k: learner.update(s, rollout, rollout.reward, key=k)[0])
    states = [learner.init(SPEC, key=jax.random.key(0))]
    for number in range(2):
        states.append(update(states[-1], jax.random.key(number)))
    first, second, third = (state.values for state in states)
    want = jax.tree.map(lambda a, b, c: (0.1 * a + 0.9 * b) * 2 / 11 + c * 9 / 11, first, second, third)
    jax.tree.map(lambda got, w: np.testing.assert_allclose(got, w, rtol=1e-5, atol=1e-6), states[2].average, want)
    assert eqx.tree_equal(learner.final_policy(states[2]).values, states[2].average)
    assert eqx.tree_equal(learner.policy(states[2]).values, third)
    waiting = eqx.tree_at(lambda x: x.learning_starts, learner, 10_000)
    after, _ = waiting.update(states[2], rollout, rollout.reward, key=jax.random.key(2))
    assert eqx.tree_equal(after.average, states[2].average)


def test_observed_numbers_are_multiplied_by_their_scale():
    plain = DQN(**vars(SMALL["dqn"]))
    scaled = DQN(**{**vars(plain), "obs_scale": (1.0, 10.0, 0.5)})
    values, of_scaled = (learner.init(SPEC, key=jax.random.key(0)).values for learner in (plain, scaled))
    np.testing.assert_allclose(of_scaled(jnp.array([1.0, 2.0, 3.0])), values(jnp.array([1.0, 20.0, 1.5])), rtol=1e-6)
    with pytest.raises(RequestError, match="has 2 factors, and what is observed is 3 numbers"):
        DQN(obs_scale=(1.0, 10.0)).init(SPEC, key=jax.random.key(0))


def test_what_cannot_be_done_is_refused_in_one_sentence():
    with pytest.raises(RequestError, match="take sac"):
        SMALL["dqn"].init(SPECS["box"], key=jax.random.key(0))
    learner, key = SMALL["dqn"], jax.random.key(0)
    state = learner.init(SPEC, key=key)
    with pytest.raises(RequestError, match="return_steps to 1"):
        learner.learn(state, lambda step: step.reward, key=key)
    with pytest.raises(RequestError, match="give it a temperature"):
        dataclasses.replace(learner, return_steps=1).learn(
            state, lambda step: step.reward, key=key, penalty=lambda policy, key: jnp.zeros(())
        )
    with pytest.raises(RequestError, match="replay_size"):
        SMALL["dqn"].steps_per_update(100)
