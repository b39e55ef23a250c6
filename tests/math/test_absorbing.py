"""Absorbing states, and the reward from replay: against a table, by hand, and as the replay stands."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import menura
from menura.core import DiscreteActions, ExpertData, RequestError, Spec, Transition
from menura.forward.sac import SAC
from menura.imitation.absorbing import (
    RARE,
    absorbed_features,
    absorbed_share,
    ending_rate_of,
    mean_with_absorbed,
    score_absorbed,
    with_worth_of_ending,
    worth_of_ending,
)
from menura.imitation.linear import LinearScore
from menura.regularizers import AbstractFeatureMatching, FeatureExpectation, JensenShannon
from menura.replay import Replay
from menura.run.registry import REGULARIZERS
from menura.run.resolve import resolve_reward_form
from tests.learners import SPECS, VARIANTS, expert_data, random_transitions

GAMMA = 0.9
DAC = VARIANTS["gail-sac"]


def test_a_chain_that_ends_is_worth_what_the_chain_with_an_absorbing_state_is():
    """0 → 1 → 2 → the end, and from 1 a clock may stop it: the truth is a linear system over 0, 1, 2 and s_a."""
    reward, absorbed = np.array([0.3, -0.2, 0.5]), -0.7
    move = np.array([[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 1]])
    truth = np.linalg.solve(np.eye(4) - GAMMA * move, np.append(reward, absorbed))
    worth = worth_of_ending(jnp.asarray(absorbed), gamma=GAMMA)
    terminated = jnp.array([False, False, True])
    paid = jax.vmap(lambda r, t: with_worth_of_ending(r, t, worth))(jnp.asarray(reward), terminated)
    # What a learner that bootstraps nothing from terminated steps makes of that; 1 was truncated in one episode.
    value = np.zeros(4)
    for _ in range(200):
        value[:3] = paid + GAMMA * np.where(terminated, 0, value[[1, 2, 3]])
    np.testing.assert_allclose(value[:3], truth[:3], rtol=1e-5)
    np.testing.assert_allclose(truth[3], absorbed / (1 - GAMMA))


def test_what_is_taken_off_every_reward_moves_all_values_alike():
    """The same chain, where the end comes after one step, two, or never (it stays in 0): centering favors none."""
    reward, absorbed, center = np.array([0.3, -0.2, 0.5]), -0.7, 0.4
    for move in ([3, 2, 3, 3], [1, 2, 3, 3], [0, 0, 1, 3]):
        plain = np.linalg.solve(np.eye(4) - GAMMA * np.eye(4)[move], np.append(reward, absorbed))
        worth = float(worth_of_ending(jnp.asarray(absorbed - center), gamma=GAMMA))
        ends = np.array(move[:3]) == 3
        paid = [
            float(with_worth_of_ending(jnp.asarray(r - center), jnp.asarray(e), jnp.asarray(worth)))
            for r, e in zip(reward, ends, strict=True)
        ]
        go_on = np.where(ends[:, None], 0, np.eye(4)[move[:3]])[:, :3]
        np.testing.assert_allclose(
            np.linalg.solve(np.eye(3) - GAMMA * go_on, paid), plain[:3] - center / (1 - GAMMA), rtol=1e-5
        )


def test_soft_values_learned_from_replay_are_those_of_the_extended_chain():
    """SAC on the chain's transitions, with a table for Q: two actions that do the same, and no entropy's worth."""
    spec = Spec(3, DiscreteActions(2))
    sac = SAC(
        num_updates=1500,
        batch_size=16,
        replay_size=64,
        learning_starts=0,
        learning_rate=0.02,
        target_rate=0.1,
        gamma=GAMMA,
        initial_temperature=1e-6,
        discrete_entropy=0.0,
        hidden_sizes=(),
    )
    obs = jnp.eye(3)[jnp.array([0, 1, 2, 1])]
    next_obs = jnp.eye(3)[jnp.array([1, 2, 0, 2])]
    flags = [jnp.array(x, bool) for x in ([0, 0, 1, 0], [0, 0, 0, 1])]
    rows = Transition(obs, jnp.array([0, 1, 0, 0]), jnp.zeros(4), next_obs, *flags, jnp.zeros(4))
    both = jax.tree.map(lambda x: jnp.stack([x, x]), rows)
    both = eqx.tree_at(lambda t: t.action, both, jnp.array([[0, 1, 0, 0], [1, 0, 1, 1]]))
    reward, absorbed = jnp.array([0.3, -0.2, 0.5]), -0.7
    state = sac.store(sac.init(spec, key=jax.random.key(0)), both)
    worth = worth_of_ending(jnp.asarray(absorbed), gamma=GAMMA)

    def reward_of(step):
        return with_worth_of_ending(jnp.dot(reward, step.obs), step.terminated, worth)

    state, _ = jax.jit(lambda s: sac.learn(s, reward_of, key=jax.random.key(1)))(state)
    got = jax.vmap(state.q.of_all)(jnp.eye(3))
    move = np.array([[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 1]])
    truth = np.linalg.solve(np.eye(4) - GAMMA * move, np.append(reward, absorbed))
    np.testing.assert_allclose(got, np.broadcast_to(truth[:3, None, None], got.shape), atol=0.05)


def test_every_ending_adds_one_step_in_the_absorbing_state():
    """Two endings in ten steps: the data have twelve, two of them there."""
    rate = jnp.asarray(0.2)
    np.testing.assert_allclose(absorbed_share(rate), 2 / 12)
    features = jnp.array([[1.0, 3.0, 0.0], [3.0, 5.0, 0.0]])
    want = [10 / 12 * 2, 10 / 12 * 4, 2 / 12]
    np.testing.assert_allclose(mean_with_absorbed(features, rate), want, rtol=1e-6)


def test_truncated_episodes_do_not_end_in_the_absorbing_state():
    rows = random_transitions(SPECS["box"], (10,))
    flags = jnp.arange(10) < 2
    rows = eqx.tree_at(lambda t: (t.terminated, t.truncated), rows, (flags, ~flags))
    np.testing.assert_allclose(ending_rate_of(Replay(SPECS["box"], 50).add(rows)), 0.2)
    assert float(with_worth_of_ending(jnp.asarray(1.0), jnp.asarray(False), jnp.asarray(-50.0))) == 1.0


def test_subsampling_keeps_the_rate_at_which_the_expert_ends():
    """Four steps and six; the first was ended by the environment. Hardly a row says so when one in five is kept."""
    episodes = tuple(
        menura.Episode(np.zeros((n + 1, 3), np.float32), np.zeros((n, 2), np.float32), None, ended, n)
        for n, ended in ((4, True), (6, False))
    )
    for every in (1, 4):
        demos = menura.Demonstrations(episodes).subsample(every=every, seed=1)
        np.testing.assert_allclose(demos.expert_data(SPECS["box"]).ending_rate, 0.1)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_linear_scores_know_the_absorbing_state_by_one_feature_of_its_own(spec):
    rows = random_transitions(spec, (5,))
    score = LinearScore(spec, absorbing=True)
    features = jax.vmap(score.features)(rows.obs, rows.action)
    assert features.shape == (5, score.num_features)
    np.testing.assert_array_equal(features[:, -1], 0)
    np.testing.assert_array_equal(absorbed_features(4), [0, 0, 0, 1])


NETWORKS = [name for name, cls in REGULARIZERS.items() if not issubclass(cls, AbstractFeatureMatching)]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_absorbing_state_scores_what_makes_the_loss_least(name):
    """The expert ends at one step in 21, the learner at one in 6: their shares of steps in s_a are 1/21 and 1/6."""
    regularizer, expert, learner = REGULARIZERS[name](), 1 / 21 + RARE, 1 / 6 + RARE
    got = float(score_absorbed(regularizer, jnp.asarray(0.05), jnp.asarray(0.2)))
    if name == "wasserstein":
        assert got == pytest.approx(np.log(expert / learner))
        return
    scores = jnp.linspace(-6, 6, 24_001)
    one = jnp.zeros(1)
    at = jax.vmap(lambda x: regularizer.loss(one + x, one) - regularizer.loss(one, one))(scores)
    against = jax.vmap(lambda x: regularizer.loss(one, one + x) - regularizer.loss(one, one))(scores)
    total = expert * at + learner * against
    np.testing.assert_allclose(total[np.argmin(np.abs(scores - got))], jnp.min(total), atol=1e-6)


def test_an_ending_that_neither_side_knows_is_neither_good_nor_bad():
    for rate_expert, rate_learner, want in ((0.0, 0.0, 0.0), (0.0, 0.1, np.log(RARE / (1 / 11 + RARE)))):
        got = score_absorbed(JensenShannon(), jnp.asarray(rate_expert), jnp.asarray(rate_learner))
        np.testing.assert_allclose(got, want, atol=1e-5)


def ended(rows, share):
    """The steps, of which so many terminate, and none is truncated."""
    flags = (jnp.arange(rows.reward.size) < share * rows.reward.size).reshape(rows.reward.shape)
    return eqx.tree_at(lambda t: (t.terminated, t.truncated), rows, (flags, jnp.zeros_like(flags)))


BOX = SPECS["box"]
ROLLOUT, DEMOS = random_transitions(BOX, (8, 4)), expert_data(BOX)
NOTHING = jax.tree.map(lambda x: jnp.full_like(x, jnp.nan) if x.dtype == jnp.float32 else x, ROLLOUT)
"""A rollout that nothing can be learned from."""


def stored(gail, rollout):
    """A fresh state whose replay holds this rollout."""
    state = gail.init(BOX, key=jax.random.key(0))
    return eqx.tree_at(lambda s: s.forward, state, gail.forward.store(state.forward, rollout))


@pytest.fixture(scope="module")
def improve():
    """The score after its steps on a state's replay: (state, newest rollout, demonstrations)."""
    gail = dataclasses.replace(
        DAC, num_score_steps=150, learning_rate=0.02, score_batch_size=64, gradient_penalty=0.1, hidden_sizes=(16,)
    )
    steps = jax.jit(lambda state, rollout, demos: gail._improve_score(state, rollout, demos, jax.random.key(1))[0])
    return gail, steps


def test_the_score_is_learned_from_the_replay_and_the_experts_actions(improve):
    gail, steps = improve
    plain = eqx.tree_at(lambda t: t.action, ROLLOUT, jnp.zeros_like(ROLLOUT.action))
    high = eqx.tree_at(lambda t: t.action, DEMOS.train, jnp.ones_like(DEMOS.train.action))
    expert = eqx.tree_at(lambda t: t.obs, high, plain.obs.reshape(-1, 3)[:30])
    data = ExpertData(expert, DEMOS.heldout, jnp.asarray(0.0))
    # The newest rollout is not looked at, and only actions part the expert from what is in the replay.
    score = steps(stored(gail, ended(plain, 0.0)), NOTHING, data)
    for row in range(5):
        assert float(score(expert.obs[row], expert.action[row])) > float(score(expert.obs[row], jnp.zeros(2))) + 0.5


def test_rewards_are_those_of_the_score_at_the_time_of_drawing_and_stored_ones_are_never_read():
    gail = DAC
    state = stored(gail, ROLLOUT)
    for shift in (0.0, 2.0):
        # Another score, and the same replay.
        bias = lambda s: s.score.network.biases[-1]  # noqa: E731
        state = eqx.tree_at(bias, state, bias(state) + shift)
        reward_of, ending, metrics = gail._reward_from_replay(gail.forward, state, DEMOS, jax.random.key(1))
        score = jax.vmap(state.score)(DEMOS.train.obs, DEMOS.train.action)
        rate = ending_rate_of(state.forward.replay)
        absorbed = score_absorbed(gail.regularizer, jnp.asarray(DEMOS.ending_rate), rate)
        center = jnp.mean(jax.vmap(jax.vmap(state.score))(ROLLOUT.obs, ROLLOUT.action))
        np.testing.assert_allclose(metrics["reward/center"], center, atol=0.02)
        # At first the temperature is 1, and the entropy aimed at -1 for each of two actions.
        worth = 0.99 / 0.01 * (absorbed - 2.0)
        want = score - metrics["reward/center"] + jnp.where(DEMOS.train.terminated, worth, 0.0)
        np.testing.assert_allclose(jax.vmap(reward_of)(DEMOS.train), want, rtol=1e-4)
        np.testing.assert_allclose(metrics["reward/absorbing"], absorbed, rtol=1e-6)
        np.testing.assert_allclose(ending, absorbed + metrics["reward/center"], rtol=1e-6)
    assert bool(jnp.any(DEMOS.train.terminated))
    unpaid = eqx.tree_at(lambda t: t.reward, ROLLOUT, jnp.full_like(ROLLOUT.reward, jnp.nan))
    _, metrics = jax.jit(lambda s, k: gail.update(s, unpaid, DEMOS, key=k))(state, jax.random.key(0))
    assert all(np.isfinite(value) for value in metrics.values())
    assert float(metrics["value/loss"]) > 0


def test_a_linear_score_is_fitted_to_the_replay_with_its_endings():
    gail = dataclasses.replace(DAC, regularizer=FeatureExpectation(), reward_form="centered")
    state = stored(gail, ended(ROLLOUT, 0.25))
    data = ExpertData(DEMOS.train, DEMOS.heldout, jnp.asarray(0.05))
    score, _, metrics = jax.jit(lambda s: gail._improve_score(s, NOTHING, data, jax.random.key(0)))(state)
    known = state.score.standardized_by(DEMOS)
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), ROLLOUT)
    mean_expert, mean_learner = (
        np.asarray(jax.vmap(known.features)(x.obs, x.action)).mean(axis=0) for x in (DEMOS.train, flat)
    )
    # One step in s_a for every ending: 0.05 beside 1, and 0.25 beside 1.
    gap = mean_expert / 1.05 - mean_learner / 1.25
    gap[-1] = 0.05 / 1.05 - 0.25 / 1.25
    np.testing.assert_allclose(score.weights, gap / np.linalg.norm(gap), atol=0.05)
    assert np.isfinite(metrics["score/loss"])


def test_only_a_replay_has_newest_steps():
    with pytest.raises(RequestError, match="has no replay: leave out --score-replay-size"):
        menura.GAIL(score_replay_size=100)


def test_a_second_weight_of_entropy_is_refused():
    with pytest.raises(RequestError, match="leave entropy_weight at 0"):
        dataclasses.replace(DAC, entropy_weight=0.1).steps_per_update(4)


@pytest.mark.parametrize("name", REGULARIZERS)
def test_every_regularizer_pays_for_drawn_steps_and_for_the_absorbing_state(name):
    gail = dataclasses.replace(DAC, regularizer=REGULARIZERS[name](), reward_form="centered")
    reward_of, ending, metrics = gail._reward_from_replay(gail.forward, stored(gail, ROLLOUT), DEMOS, jax.random.key(0))
    assert np.all(np.isfinite(jax.vmap(reward_of)(DEMOS.train)))
    assert np.isfinite(metrics["reward/absorbing"])


@pytest.mark.parametrize(("name", "form"), [("jensen_shannon", "logit"), ("reverse_kl", "centered")])
def test_with_absorbing_states_rewards_may_have_either_sign(name, form):
    env = menura.make("CartPole-v1", num_envs=2)
    episode = menura.Episode(np.zeros((6, 4), np.float32), np.zeros(5, np.int64), np.ones(5), True, 5)
    gail = dataclasses.replace(DAC, regularizer=REGULARIZERS[name](), reward_form="auto")
    assert resolve_reward_form(gail, env, menura.Demonstrations((episode,))).reward_form == form
