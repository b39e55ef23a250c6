"""Deep Q-learning on environments that can be solved only if one part of it works."""

import jax
import jax.numpy as jnp
import numpy as np

import menura
from menura.environments import make
from menura.run.train import train

GAMMA = 0.9
LEARNER = menura.DQN(
    num_steps=8,
    num_updates=16,
    learning_starts=64,
    learning_rate=3e-3,
    gamma=GAMMA,
    hidden_sizes=(16,),
    exploration_steps=2_000,
    target_every=16,
    replay_size=4_000,
    dueling=True,
    return_steps=3,
    priority_exponent=0.6,
    importance_steps=4_000,
)
"""With every switch on."""


def test_a_time_limit_does_not_end_the_worth_of_an_endless_task():
    env = make("probe/Endless", num_envs=4)
    run = train(LEARNER, env, total_steps=8_000, seed=0)
    q = run.policy.q_values(env.reset(key=jax.random.key(0)).obs[0])
    np.testing.assert_allclose(jnp.max(q), 1 / (1 - GAMMA), rtol=0.05)


def test_actions_whose_reward_comes_later_are_learned():
    env = make("probe/Delay", num_envs=4)
    run = train(LEARNER, env, total_steps=5_000, seed=0)
    assert menura.evaluate(env, run.policy, num_episodes=64).mean >= 0.99
