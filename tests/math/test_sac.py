"""Replay and soft actor-critic by hand: the ring's wrap, the target, the temperature, the squashed density."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from numpy.testing import assert_allclose

from menura.core import RequestError
from menura.forward.sac import (
    SAC,
    UNIFORM_LOG_STD,
    TanhGaussian,
    expected_soft_value,
    soft_target,
    soft_value,
    temperature_loss,
)
from menura.replay import Replay
from menura.run.resolve import refuse_settings_of_other_actions
from tests.learners import SMALL, SPECS, random_transitions


def numbered(spec, first, count):
    """Transitions whose reward is their number."""
    rows = random_transitions(spec, (count,))
    return rows.__class__(**{**vars(rows), "reward": jnp.arange(first, first + count, dtype=jnp.float32)})


def test_a_full_ring_writes_over_its_oldest_rows():
    ring = Replay(SPECS["box"], 5).add(numbered(SPECS["box"], 0, 3))
    np.testing.assert_array_equal(ring.rows.reward, [0, 1, 2, 0, 0])
    assert (int(ring.position), int(ring.size)) == (3, 3)
    ring = ring.add(numbered(SPECS["box"], 3, 4))
    np.testing.assert_array_equal(ring.rows.reward, [5, 6, 2, 3, 4])
    assert (int(ring.position), int(ring.size)) == (2, 5)
    ring = ring.add(numbered(SPECS["box"], 7, 6))
    # Six rows into a ring of five: 8 … 12 are left, 12 just before the position.
    np.testing.assert_array_equal(ring.rows.reward, [10, 11, 12, 8, 9])
    assert int(ring.position) == 3


def test_a_ring_that_is_not_full_gives_only_what_was_added():
    ring = Replay(SPECS["discrete"], 100).add(numbered(SPECS["discrete"], 1, 3))
    drawn = ring.sample(jax.random.key(0), 200)
    assert set(np.asarray(drawn.reward).tolist()) == {1.0, 2.0, 3.0}
    at = drawn.reward.astype(jnp.int32) - 1
    np.testing.assert_array_equal(drawn.next_obs, ring.rows.next_obs[at])


def test_the_newest_rows_of_a_ring_are_those_before_its_position():
    ring = Replay(SPECS["box"], 5).add(numbered(SPECS["box"], 0, 3))
    for more, newest, want in ((0, 2, {1, 2}), (0, 9, {0, 1, 2}), (4, 3, {4, 5, 6}), (4, 9, {2, 3, 4, 5, 6})):
        full = ring.add(numbered(SPECS["box"], 3, more)) if more else ring
        assert set(np.asarray(full.sample(jax.random.key(0), 200, newest=newest).reward).tolist()) == want


def test_target_and_values_by_hand():
    value = soft_value(jnp.array([3.0, 2.0]), jnp.asarray(-1.5), temperature=0.2)
    np.testing.assert_allclose(value, 2.0 + 0.3, rtol=1e-6)
    for terminated, want in ((False, 1.0 + 0.9 * 2.3), (True, 1.0)):
        got = soft_target(jnp.asarray(1.0), value, jnp.asarray(terminated), gamma=0.9)
        np.testing.assert_allclose(got, want, rtol=1e-6)
    q, p = jnp.array([[1.0, 5.0], [2.0, 3.0]]), np.array([0.25, 0.75])
    want = 0.25 * 1 + 0.75 * 3 + 0.2 * -(p * np.log(p)).sum()
    np.testing.assert_allclose(expected_soft_value(q, jnp.log(jnp.asarray(p)), temperature=0.2), want, rtol=1e-5)


def test_temperature_falls_where_entropy_is_above_its_target():
    loss, slope = jax.value_and_grad(temperature_loss)(jnp.log(0.5), jnp.asarray(2.0), target_entropy=-1.0)
    np.testing.assert_allclose([loss, slope], [0.5 * 3.0, 0.5 * 3.0], rtol=1e-6)
    assert float(jax.grad(temperature_loss)(jnp.log(0.5), jnp.asarray(-2.0), target_entropy=-1.0)) < 0


def test_the_squashed_density_integrates_to_one_in_the_environments_units():
    squashed = TanhGaussian(*(jnp.array([x]) for x in (0.3, -0.5, 2.5, 1.5)))
    actions = jnp.linspace(1.0, 4.0, 20_003)[1:-1]
    density = jnp.exp(jax.vmap(squashed.log_prob)(actions[:, None]))
    np.testing.assert_allclose(jnp.sum(density) * (actions[1] - actions[0]), 1.0, rtol=1e-3)
    action, log_prob = squashed.of_noise(jnp.array([0.7]))
    np.testing.assert_allclose(log_prob, squashed.log_prob(action), rtol=1e-4)
    np.testing.assert_allclose(action, 2.5 + 1.5 * np.tanh(0.3 + np.exp(-0.5) * 0.7), rtol=1e-6)


def test_the_first_policy_is_nearly_uniform():
    squashed = TanhGaussian(jnp.zeros(1), jnp.array([UNIFORM_LOG_STD]), jnp.zeros(1), jnp.ones(1))
    actions = np.sort(
        jax.vmap(lambda e: squashed.of_noise(e)[0])(jax.random.normal(jax.random.key(0), (20_000, 1)))[:, 0]
    )
    # Kolmogorov's distance from the uniform distribution on [-1, 1].
    assert np.max(np.abs((actions + 1) / 2 - np.linspace(0, 1, 20_000))) < 0.04


def test_nothing_is_learned_before_learning_starts_but_all_is_kept():
    spec, learner = SPECS["box"], SMALL["sac"]
    late = SAC(**{**vars(learner), "learning_starts": 33})
    rollout = random_transitions(spec, (8, 4))
    state = late.init(spec, key=jax.random.key(0))
    first, _ = late.update(state, rollout, rollout.reward, key=jax.random.key(1))
    np.testing.assert_array_equal(first.policy.network.weights[0], state.policy.network.weights[0])
    assert int(first.replay.size) == 32
    second, _ = late.update(first, rollout, rollout.reward, key=jax.random.key(1))
    assert not np.array_equal(second.policy.network.weights[0], state.policy.network.weights[0])


def test_the_policy_that_is_kept_is_the_average_of_those_that_acted_since_learning_began():
    spec, learner = SPECS["box"], SMALL["sac"]
    rollout = random_transitions(spec, (8, 4))
    states = [learner.init(spec, key=jax.random.key(0))]
    for number in range(2):
        states.append(learner.update(states[-1], rollout, rollout.reward, key=jax.random.key(number))[0])
    first, second, third = (state.policy for state in states)
    want = jax.tree.map(lambda a, b, c: (0.1 * a + 0.9 * b) * 2 / 11 + c * 9 / 11, first, second, third)
    kept = learner.final_policy(states[2])
    jax.tree.map(lambda got, w: np.testing.assert_allclose(got, w, rtol=1e-5, atol=1e-6), kept, want)
    assert learner.policy(states[2]) is third


def test_the_reward_handed_over_is_applied_to_what_is_drawn():
    spec, learner = SPECS["discrete"], SMALL["sac"]
    rollout = random_transitions(spec, (8, 4))
    state = learner.store(learner.init(spec, key=jax.random.key(0)), rollout)
    kept, _ = learner.learn(state, lambda step: step.reward, key=jax.random.key(1))
    by_rule, _ = learner.learn(state, lambda step: jnp.sum(step.obs), key=jax.random.key(1))
    rewritten, _ = learner.update(
        learner.init(spec, key=jax.random.key(0)), rollout, jnp.sum(rollout.obs, axis=-1), key=jax.random.key(1)
    )
    np.testing.assert_allclose(by_rule.q.networks[0].weights[0], rewritten.q.networks[0].weights[0], atol=1e-6)
    assert not np.allclose(by_rule.q.networks[0].weights[0], kept.q.networks[0].weights[0], atol=1e-6)


def test_a_replay_smaller_than_a_rollout_is_refused():
    with pytest.raises(RequestError, match="replay_size"):
        SMALL["sac"].steps_per_update(100)


@pytest.mark.parametrize("kind", ["box", "discrete"])
def test_the_unit_of_observations_does_not_matter_where_they_are_standardized(kind):
    """What is learned from observations in other units is the same; without it, it is not."""
    spec, unit, zero = SPECS[kind], np.array([1e3, 1.0, 0.01]), np.array([5.0, 0.0, -2.0])
    rows = random_transitions(spec, (12, 4))
    scaled = eqx.tree_at(
        lambda t: (t.obs, t.next_obs),
        rows,
        [jnp.asarray(np.asarray(x) * unit + zero, jnp.float32) for x in (rows.obs, rows.next_obs)],
    )

    def learned(batch, **changes):
        learner = dataclasses.replace(SMALL["sac"], learning_starts=0, num_updates=4, **changes)
        state, _ = learner.update(learner.init(spec, key=jax.random.key(0)), batch, batch.reward, key=jax.random.key(1))
        assert int(state.num_learned) == 1
        return state

    def outputs(state, obs):
        values = jax.vmap(lambda o, a: state.target_q(o, a))(obs, rows.action[0])
        return [values, *(jax.vmap(part.network)(jax.vmap(part.norm or (lambda o: o))(obs)) for part in
                          (state.policy, state.average))]  # fmt: skip

    plain, changed = learned(rows, standardize_observations=True), learned(scaled, standardize_observations=True)
    np.testing.assert_allclose(plain.policy.norm.mean, jnp.mean(rows.obs.reshape(-1, 3), axis=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(plain.policy.norm.var, jnp.var(rows.obs.reshape(-1, 3), axis=0), rtol=1e-4)
    for one, other in zip(outputs(plain, rows.obs[0]), outputs(changed, scaled.obs[0]), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-2, atol=1e-3)
    as_they_are = zip(outputs(learned(rows), rows.obs[0]), outputs(learned(scaled), scaled.obs[0]), strict=True)
    assert max(float(jnp.max(jnp.abs(one - other))) for one, other in as_they_are) > 0.1


def test_a_box_policys_value_and_entropy_are_by_hand_and_in_half_widths():
    """One observation: V = min Q − α log π̃ and the entropy −log π̃, with the density where actions span [-1, 1]."""
    spec, learner = SPECS["box"], SMALL["sac"]
    state = learner.init(spec, key=jax.random.key(0))
    obs, key = jnp.array([0.3, -1.0, 2.0]), jax.random.key(4)
    value, entropy = learner._value(state.policy, state.q, obs, key, jnp.asarray(0.7))
    mean, log_std = np.split(np.asarray(state.policy.network(obs)), 2)
    std = np.exp(np.asarray(state.policy.distribution(obs).log_std))
    assert_allclose(std, np.exp(log_std + UNIFORM_LOG_STD), rtol=1e-5)
    before = mean + std * np.asarray(jax.random.normal(key, (2,)))
    scaled = np.tanh(before)
    log_prob = np.sum(scipy.stats.norm(mean, std).logpdf(before) - np.log(1 - scaled**2))
    assert_allclose(entropy, -log_prob, rtol=1e-4)
    action = np.array([0.0, 2.5]) + np.array([1.0, 2.5]) * scaled
    q = min(float(x) for x in state.q(obs, jnp.asarray(action, jnp.float32)))
    assert_allclose(value, q - 0.7 * log_prob, rtol=1e-4)
    assert learner._target_entropy(state.policy) == -2


@pytest.mark.parametrize(
    ("kind", "changes", "words"),
    [
        ("discrete", {"box_entropy": -3.0}, "box_entropy=-3.0 is about real actions"),
        ("discrete", {"linear_mean": True}, "linear_mean=True is about real actions"),
        ("box", {"discrete_entropy": 0.3}, "discrete_entropy=0.3 is about discrete actions"),
    ],
)
def test_settings_of_the_other_kind_of_actions_are_refused(kind, changes, words):
    sac, other = dataclasses.replace(SMALL["sac"], **changes), "box" if kind == "discrete" else "discrete"
    for learner in (sac, dataclasses.replace(SMALL["sqil"], forward=sac)):
        with pytest.raises(RequestError, match=words):
            refuse_settings_of_other_actions(learner, SPECS[kind])
        refuse_settings_of_other_actions(learner, SPECS[other])
