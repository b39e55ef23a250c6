"""The EPIC distance: by hand, on tables, and blind to what makes no difference."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from menura.core import BoxActions, RequestError, Spec
from menura.environments import make
from menura.environments.base import TellsReward
from menura.epic import (
    Coverage,
    canonical_rewards,
    canonically_shaped,
    epic_distance,
    pearson_distance,
    resampled_distances,
)
from menura.evaluation import UniformPolicy
from menura.imitation.airl import ShapedScore
from menura.imitation.reward import LearnedReward
from menura.regularizers import JensenShannon
from menura.run.reward_distance import steps_alone

GAMMA = 0.9
STATES, ACTIONS = 6, 3


def table_of(reward):
    """A reward of one-hot observations from an array [state, action, successor]."""
    return lambda obs, action, next_obs: reward[obs.argmax(1), action, next_obs.argmax(1)]


def sample(rng, num_transitions=200, num_pairs=40):
    """Any transitions of a table, and any pairs."""
    state, successor = (np.eye(STATES)[rng.integers(0, STATES, num_transitions)] for _ in range(2))
    pairs = np.eye(STATES)[rng.integers(0, STATES, num_pairs)], rng.integers(0, ACTIONS, num_pairs)
    return Coverage(state, rng.integers(0, ACTIONS, num_transitions), successor, *pairs)


def shaped(reward, potential, gamma=GAMMA):
    return reward + gamma * potential[None, None, :] - potential[:, None, None]


def test_canonical_rewards_are_the_definitions_on_two_states():
    # R(s, a, s') is 1 for the step from state 0 to state 1, and 0 else; D_S has each state half the time.
    reward = np.zeros((2, 1, 2))
    reward[0, 0, 1] = 1.0
    states, action = np.eye(2), np.zeros(2, int)
    coverage = Coverage(states[[0, 1]], action, states[[1, 0]], states, action)
    # From 0 to 1: E R(1, A, S') = 0, E R(0, A, S') = 1/2. From 1 to 0: 1/2 and 0.
    got = canonical_rewards(table_of(reward), coverage, gamma=GAMMA)
    np.testing.assert_allclose(got, [1 + 0.9 * 0 - 0.5, 0 + 0.9 * 0.5 - 0], atol=1e-15)
    with_constant = canonically_shaped(np.array([1.0]), np.array([0.0]), np.array([0.5]), 0.25, gamma=GAMMA)
    np.testing.assert_allclose(with_constant, [0.5 - 0.9 * 0.25])


def test_pearson_distances_are_those_of_correlations_by_hand():
    x = np.array([1.0, 2.0, 3.0])
    assert pearson_distance(x, 5 * x - 7) < 1e-15
    np.testing.assert_allclose(pearson_distance(x, -x), 1.0)
    # Uncorrelated: √(1/2). And ρ((1, 2, 3), (1, 3, 2)) = 1/2: √(1/4).
    np.testing.assert_allclose(pearson_distance(x, np.array([1.0, -2.0, 1.0])), np.sqrt(0.5))
    np.testing.assert_allclose(pearson_distance(x, np.array([1.0, 3.0, 2.0])), 0.5)


@pytest.mark.parametrize("seed", range(5))
def test_shaping_and_scale_make_no_difference_on_any_sample(seed):
    rng = np.random.default_rng(seed)
    reward, potential = rng.normal(size=(STATES, ACTIONS, STATES)), 10 * rng.normal(size=STATES)
    other = 37.0 * shaped(reward, potential) + 4.0
    coverage = sample(rng)
    assert epic_distance(table_of(reward), table_of(other), coverage, gamma=GAMMA) < 1e-12
    np.testing.assert_allclose(epic_distance(table_of(reward), table_of(-other), coverage, gamma=GAMMA), 1.0)
    # Shaped for another discount it is another reward.
    assert epic_distance(table_of(reward), table_of(shaped(reward, potential, 0.5)), coverage, gamma=GAMMA) > 0.05


def test_distances_of_different_rewards_lie_between_0_and_1_and_obey_the_triangle(rng):
    coverage = sample(rng)
    a, b, c = (table_of(rng.normal(size=(STATES, ACTIONS, STATES))) for _ in range(3))
    ab, bc, ac = (epic_distance(x, y, coverage, gamma=GAMMA) for x, y in ((a, b), (b, c), (a, c)))
    assert 0.1 < ab < 0.9
    assert ac <= ab + bc
    np.testing.assert_allclose(ab, epic_distance(b, a, coverage, gamma=GAMMA))


def test_a_reward_that_is_only_shaping_is_refused(rng):
    reward = rng.normal(size=(STATES, ACTIONS, STATES))
    nothing = shaped(np.ones_like(reward), rng.normal(size=STATES))
    with pytest.raises(RequestError, match="second reward is constant"):
        epic_distance(table_of(reward), table_of(nothing), sample(rng), gamma=GAMMA)


def test_resampling_spreads_around_the_distance(rng):
    x = rng.normal(size=400)
    y = x + rng.normal(size=400)
    found = resampled_distances(x, y, num_resamples=100)
    low, high = np.quantile(found, [0.025, 0.975])
    assert low < pearson_distance(x, y) < high
    assert high - low < 0.1


def test_networks_in_single_precision_are_0_apart_where_they_differ_by_a_potential():
    """f of AIRL is g and a potential: one reward, to six digits."""
    spec = Spec(3, BoxActions((-2.0,), (2.0,)))
    score = ShapedScore(spec, (8,), state_only=False, activation="tanh", key=jax.random.key(0))
    g, f = (LearnedReward(score, spec, JensenShannon(), "logit", part, GAMMA) for part in ("reward", "shaped"))
    rng = np.random.default_rng(0)
    obs, next_obs, other = (rng.normal(size=(64, 3)).astype(np.float32) for _ in range(3))
    action, other_action = (rng.uniform(-2, 2, size=(64, 1)).astype(np.float32) for _ in range(2))
    coverage = Coverage(obs, action, next_obs, other, other_action)
    paid, with_potential = steps_alone(g), steps_alone(f)
    assert epic_distance(paid, with_potential, coverage, gamma=GAMMA) < 1e-6
    tripled = lambda *step: np.float32(3) * np.asarray(paid(*step))  # noqa: E731
    assert epic_distance(paid, tripled, coverage, gamma=GAMMA) < 1e-6


NATIVE = ["Acrobot-v1", "CartPole-v1", "GridWorld-v0", "MountainCar-v0", "Pendulum-v1"]


def steps_of(env):
    """Steps from all over the states, some of which end an episode."""
    keys = jax.random.split(jax.random.key(0), 64)
    state = jax.vmap(lambda key: env.reset(key=key))(keys)
    state = jnp.arange(64) % 24 if env.spec.obs_size == 25 else jax.tree.map(lambda x: 25 * x, state)
    actions = jax.vmap(lambda key: UniformPolicy(env.spec)(jnp.zeros(env.spec.obs_size), key=key))(keys)
    after, reward, _ = jax.vmap(lambda s, a, key: env.step(s, a, key=key))(state, actions, keys)
    return jax.vmap(env.observe)(state), actions, jax.vmap(env.observe)(after), reward


@pytest.mark.parametrize("env_id", NATIVE)
def test_the_environments_tell_the_reward_that_they_pay(env_id):
    env_kwargs = {"CartPole-v1": {"sutton_barto_reward": True}, "GridWorld-v0": {"goal_reward": 10.0}}
    env = make(env_id, env_kwargs=env_kwargs.get(env_id, {})).env
    *step, reward = steps_of(env)
    assert isinstance(env, TellsReward)
    assert len(np.unique(reward)) > 1 or env_id == "MountainCar-v0"
    np.testing.assert_allclose(jax.vmap(env.reward_of)(*step), reward, rtol=1e-4)
