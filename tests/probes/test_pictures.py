"""A game that is seen as pictures, learned from its reward, by cloning, and from an expert without the score."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import menura
from menura.core import ExpertData
from menura.demonstrations.record import record
from menura.environments import collect, make
from menura.imitation.adversarial import GAIL
from menura.imitation.bc import BC
from menura.networks import MLP
from menura.run.train import train
from tests.catch import small_catch, small_expert

PPO = menura.PPO(
    num_steps=32,
    num_epochs=4,
    num_minibatches=4,
    learning_rate=2e-3,
    gamma=0.9,
    hidden_sizes=(),
    ent_coef=0.01,
    policy_averaging=0.0,
)


@pytest.fixture(scope="module")
def demos():
    return record(make(small_catch(), num_envs=4), small_expert(), 20)


def test_ppo_solves_catch_from_its_pixels():
    env = make(small_catch(), num_envs=16)
    run = train(PPO, env, total_steps=6_000, seed=0)
    assert menura.evaluate(env, run.policy, num_episodes=32).mean >= 2.5


def test_cloning_solves_catch_from_pixels_that_are_drawn_anew_for_every_update(monkeypatch, demos):
    monkeypatch.setattr("menura.run.resolve.LARGE", 0)
    env = make(small_catch(), num_envs=16)
    bc = BC(num_batches=50, batch_size=64, patience=0, hidden_sizes=(), heldout_fraction=0.1)
    run = train(bc, None, demos, spec=env.spec, total_steps=4 * 50 * 64, seed=0)
    assert menura.evaluate(env, run.policy, num_episodes=32).mean >= 2.5


GAIL_PPO = GAIL(
    forward=PPO,
    reward_form="positive",
    num_score_steps=16,
    score_batch_size=64,
    gradient_penalty=0.1,
    gradient_norm=0.0,
    hidden_sizes=(32,),
)


def marked(demos):
    """The same episodes with a gray mark in a corner of every picture."""
    episodes = []
    for episode in demos.episodes:
        obs = np.array(episode.obs)
        obs[:, 0, 0] = 128
        episodes.append(dataclasses.replace(episode, obs=obs))
    return dataclasses.replace(demos, episodes=tuple(episodes))


def test_gail_solves_catch_from_pixels_without_its_score_and_with_a_mark_in_every_demonstration(demos):
    env = make(small_catch(), num_envs=16)
    run = train(GAIL_PPO, env, marked(demos), total_steps=12_000, seed=1)
    # Three is the most, and a random policy misses one more than it catches.
    assert menura.evaluate(env, run.policy, num_episodes=64).mean >= 1.5


SOFT_DQN = menura.DQN(
    num_steps=8,
    num_updates=16,
    batch_size=32,
    replay_size=4_000,
    learning_starts=256,
    learning_rate=1e-3,
    gamma=0.9,
    target_every=64,
    exploration_steps=1_000,
    final_exploration=0.02,
    temperature=0.1,
    hidden_sizes=(32,),
)
GAIL_DQN = dataclasses.replace(GAIL_PPO, forward=SOFT_DQN, reward_form="logit")


@pytest.mark.parametrize("learner", [menura.SQIL(forward=SOFT_DQN), GAIL_DQN], ids=["sqil", "gail"])
def test_soft_values_solve_catch_from_pixels_drawn_anew_for_every_update_without_its_score(learner, monkeypatch, demos):
    monkeypatch.setattr("menura.run.resolve.LARGE", 0)
    env = make(small_catch(), num_envs=8)
    run = train(learner, env, demos, total_steps=5_000, seed=0)
    assert menura.evaluate(env, run.policy, num_episodes=64).mean >= 1.5


def linear(in_size, out_size, hidden_sizes, **settings):
    """A score without an encoder: a weight for every pixel."""
    return MLP(in_size, out_size, (), **settings)


def test_a_mark_in_a_corner_tells_a_score_nothing(demos):
    env = make(small_catch(), num_envs=8)
    _, rollout = collect(env, env.reset(key=jax.random.key(0)), small_expert(), key=jax.random.key(1), num_steps=32)
    expert = jax.tree.map(jnp.asarray, marked(demos).flatten(env.spec))
    data = ExpertData(expert, jax.tree.map(lambda x: x[:0], expert))

    def accuracy(common_pixels):
        learner = dataclasses.replace(
            GAIL_PPO, common_pixels=common_pixels, num_score_steps=200, learning_rate=1e-2, make_network=linear
        )
        state = learner.init(env.spec, key=jax.random.key(0))
        score, _, metrics = jax.jit(learner._improve_score)(state, rollout, data, jax.random.key(2))
        assert np.isfinite(metrics["score/loss"])
        of_expert = jax.vmap(score)(expert.obs, expert.action)
        obs, action = (x.reshape(-1, *x.shape[2:]) for x in (rollout.obs, rollout.action))
        return 0.5 * float(jnp.mean(of_expert > 0) + jnp.mean(jax.vmap(score)(obs, action) <= 0))

    # The learner *is* the expert, so that nothing but the mark tells them apart.
    assert accuracy(common_pixels=False) >= 0.85
    assert accuracy(common_pixels=True) <= 0.6
