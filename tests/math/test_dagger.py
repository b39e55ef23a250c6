"""DAgger's mixture and labels by hand: who acts, what is asked, and what is kept."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from menura.core import AbstractPolicy, BoxActions, DiscreteActions, Spec, Transition
from menura.demonstrations.labels import asking, labeled
from menura.environments import make
from menura.environments.base import Step
from menura.imitation.dagger import disagreement, expert_share
from menura.networks import Categorical, DiagonalGaussian
from menura.replay import Replay


@pytest.mark.parametrize(("decay", "shares"), [(0.0, [1, 0, 0]), (0.5, [1, 0.5, 0.25]), (1.0, [1, 1, 1])])
def test_the_experts_share_by_hand(decay, shares):
    got = [expert_share(jnp.asarray(round), decay=decay) for round in range(3)]
    np.testing.assert_allclose(got, shares)


def test_disagreement_by_hand():
    assert disagreement(jnp.asarray(1), jnp.asarray(1)) == 0
    assert disagreement(jnp.asarray(0), jnp.asarray(2)) == 1
    # √((3² + 1²) / 2)
    np.testing.assert_allclose(disagreement(jnp.array([1.0, 0.0]), jnp.array([-2.0, 1.0])), 5**0.5, rtol=1e-6)


class Line:
    """A host batch that stands on a line and moves by its action; an episode ends after four steps."""

    id, backend, max_episode_steps = "Line-v0", "fake", 4

    def __init__(self, num_envs, actions):
        self.num_envs, self.spec = num_envs, Spec(1, actions)

    def reset(self, seed):
        self.place, self.age = np.zeros(self.num_envs, np.float32), 0
        return self.place[:, None].copy()

    def step(self, action):
        self.place = self.place + action.reshape(self.num_envs)
        next_obs = self.place[:, None].copy()
        self.age += 1
        ended = np.full(self.num_envs, self.age % 4 == 0)
        self.place = np.where(ended, 0, self.place).astype(np.float32)
        never = np.zeros(self.num_envs, bool)
        return Step(next_obs, np.ones(self.num_envs, np.float32), never, ended, self.place[:, None].copy())

    def close(self): ...


class Doubles:
    """Answers with twice the observation, and one."""

    def predict(self, obs, deterministic):
        assert deterministic
        return 2 * obs + 1, None


class Ahead(AbstractPolicy):
    """Walks on by one."""

    def distribution(self, obs):
        return DiagonalGaussian(jnp.ones(1), jnp.zeros(1))


def test_the_learner_acts_and_the_expert_answers_for_every_state():
    env = Line(2, BoxActions((-np.inf,), (np.inf,)))
    collect = asking(env, Doubles())
    carry, rollout = collect(env.reset(0), Ahead(), share=0.0, key=jax.random.key(0), num_steps=6)
    np.testing.assert_array_equal(rollout.obs[:, 0, 0], [0, 1, 2, 3, 0, 1])
    np.testing.assert_array_equal(rollout.next_obs[:, 1, 0], [1, 2, 3, 4, 1, 2])
    np.testing.assert_array_equal(rollout.action[:, 0, 0], [1, 3, 5, 7, 1, 3])
    np.testing.assert_array_equal(rollout.truncated[:, 0], [0, 0, 0, 1, 0, 0])
    np.testing.assert_array_equal(carry[:, 0], [2, 2])


def test_with_a_share_of_one_the_expert_acts_itself():
    env = Line(2, BoxActions((-np.inf,), (np.inf,)))
    _, rollout = asking(env, Doubles())(env.reset(0), Ahead(), share=1.0, key=jax.random.key(0), num_steps=4)
    # x ← x + (2 x + 1)
    np.testing.assert_array_equal(rollout.obs[:, 0, 0], [0, 1, 4, 13])
    np.testing.assert_array_equal(rollout.action[:, 0, 0], [1, 3, 9, 27])


def test_a_share_between_mixes_step_by_step_and_follows_from_the_key():
    env = Line(400, BoxActions((-np.inf,), (np.inf,)))
    expert = Doubles()

    def moved(seed):
        _, rollout = asking(env, expert)(env.reset(0), Ahead(), share=0.25, key=jax.random.key(seed), num_steps=2)
        # In the second step all stand on 1: the learner goes to 2, the expert to 4.
        assert set(rollout.next_obs[1, :, 0]) == {2, 4}
        return rollout.next_obs[1, :, 0] == 4

    assert abs(moved(0).mean() - 0.25) < 0.07
    np.testing.assert_array_equal(moved(0), moved(0))
    assert (moved(0) != moved(1)).any()


class Left(AbstractPolicy):
    def distribution(self, obs):
        return Categorical(jnp.array([1.0, 0.0]))


class Right(AbstractPolicy):
    def distribution(self, obs):
        return Categorical(jnp.array([0.0, 1.0]))


@pytest.mark.parametrize("backend", ["jax", "gymnasium"])
def test_discrete_actions_are_asked_for_on_either_kind_of_backend(backend):
    env = make("CartPole-v1", num_envs=3, backend=backend)
    carry = env.reset(key=jax.random.key(0)) if backend == "jax" else env.reset(0)
    _, rollout = asking(env, Right())(carry, Left(), share=0.0, key=jax.random.key(1), num_steps=5)
    assert rollout.action.dtype == np.int32
    np.testing.assert_array_equal(rollout.action, 1)
    # The cart was pushed to the left, whatever the expert would have done.
    assert (np.diff(rollout.obs[:, :, 1], axis=0) < 0).all()


def test_labels_are_kept_as_whole_episodes():
    env = Line(2, DiscreteActions(1000))
    collect = asking(env, Answers())
    replay = Replay(env.spec, 20)
    carry = env.reset(0)
    for _ in range(2):
        carry, rollout = collect(carry, Zeroth(), share=1.0, key=jax.random.key(0), num_steps=3)
        replay = replay.add(jax.tree.map(lambda x: jnp.asarray(x.reshape(-1, *x.shape[2:])), rollout))
    demos = labeled(replay, env.spec, num_envs=2, env_id=env.id)
    demos.check(env.spec)
    assert [episode.num_steps for episode in demos.episodes] == [4, 2, 4, 2]
    for copy in (0, 1):
        whole, begun = demos.episodes[2 * copy : 2 * copy + 2]
        np.testing.assert_array_equal(whole.obs[:, 0], [0, 1, 3, 7, 15])
        np.testing.assert_array_equal(whole.actions, [1, 2, 4, 8])
        np.testing.assert_array_equal(begun.obs[:, 0], [0, 1, 3])
        assert not whole.terminated
        assert whole.rewards is None


def test_labels_with_a_history_keep_each_observation_once_and_end_where_the_simulator_began_afresh():
    spec = Spec(2, DiscreteActions(3), history=2)
    obs = jnp.array([[0.0, 0.0], [0.0, 1.0], [5.0, 5.0]])
    next_obs = jnp.array([[0.0, 1.0], [1.0, 2.0], [5.0, 6.0]])
    no, unknown = jnp.zeros(3, bool), jnp.zeros(3)
    rows = Transition(obs, jnp.arange(3, dtype=jnp.int32), unknown, next_obs, no, no, unknown)
    demos = labeled(Replay(spec, 4).add(rows), spec, num_envs=1, env_id=None)
    assert [episode.obs[:, 0].tolist() for episode in demos.episodes] == [[0.0, 1.0, 2.0], [5.0, 6.0]]
    assert not any(episode.terminated for episode in demos.episodes)
    np.testing.assert_array_equal(demos.flatten(spec).obs, obs)


class Answers:
    """One more than where it stands."""

    def predict(self, obs, deterministic):
        return obs[:, 0].astype(int) + 1, None


class Zeroth(AbstractPolicy):
    def distribution(self, obs):
        return Categorical(jnp.arange(1000.0)[::-1])
