"""Recording: whole episodes, exactly as many as asked, and none favored for being short."""

import jax.numpy as jnp
import numpy as np
import pytest

from menura.core import AbstractPolicy, BoxActions, DiscreteActions, RequestError, Spec
from menura.demonstrations import record
from menura.environments.base import Step
from menura.environments.registry import make
from menura.networks import Categorical


class Leaning(AbstractPolicy):
    """CartPole's pole is caught by pushing the way it falls; as a distribution, so that it can be sampled."""

    def distribution(self, obs):
        push = 10 * (obs[2] + obs[3])
        return Categorical(jnp.stack([-push, push]))


class LeaningPredictor:
    """The same expert, as Stable-Baselines3 would offer it."""

    def __init__(self):
        self.batches = []

    def predict(self, obs, deterministic=False):
        self.batches.append((obs.shape, deterministic))
        return (obs[:, 2] + obs[:, 3] > 0).astype(np.int64), None


class Countdown:
    """A host batch: copy i's episodes always take ``i + 2`` steps; observation = (copy, step)."""

    id, backend, max_episode_steps = "Countdown-v0", "fake", None

    def __init__(self, num_envs, actions=None):
        self.num_envs = num_envs
        self.spec = Spec(2, actions or BoxActions((-1.0,), (1.0,)))
        self.age = np.zeros(num_envs)
        self.seen = []

    def _obs(self):
        return np.stack([np.arange(self.num_envs), self.age], axis=1).astype(np.float32)

    def reset(self, seed):
        self.age[:] = 0
        return self._obs()

    def step(self, action):
        self.seen.append(np.array(action))
        self.age += 1
        next_obs = self._obs()
        ended = self.age >= np.arange(self.num_envs) + 2
        self.age[ended] = 0
        return Step(next_obs, np.ones(self.num_envs, np.float32), ended, np.zeros_like(ended), self._obs())

    def close(self): ...


class Constant:
    def __init__(self, value):
        self.value = value

    def predict(self, obs, deterministic=False):
        return np.full((len(obs), 1), self.value), None


@pytest.mark.parametrize("num_episodes", [1, 2, 3, 4, 7])
def test_each_copy_records_a_fixed_share_whatever_its_length(num_episodes):
    demos = record(Countdown(3), Constant(0.0), num_episodes)
    copies = [int(episode.obs[0, 0]) for episode in demos.episodes]
    assert copies == [i % 3 for i in range(num_episodes)]
    np.testing.assert_array_equal(demos.lengths, np.array(copies) + 2)


def test_recorded_episodes_are_whole_and_end_in_the_true_successor():
    for episode in record(Countdown(2), Constant(0.0), 4).episodes:
        np.testing.assert_array_equal(episode.obs[:, 1], np.arange(episode.num_steps + 1))
        assert episode.has_final_obs
        assert episode.terminated


def test_actions_are_recorded_as_the_environment_carries_them_out():
    env = Countdown(2)
    demos = record(env, Constant(3.0), 2)
    np.testing.assert_array_equal(demos.episodes[0].actions, [[1.0], [1.0]])
    np.testing.assert_array_equal(env.seen[0], [[1.0], [1.0]])
    demos.check(env.spec)


def test_an_expert_of_the_wrong_shape_is_refused():
    with pytest.raises(RequestError, match="numbers from 0 to 2"):
        record(Countdown(2, DiscreteActions(3)), Constant(0), 1)
    with pytest.raises(RequestError, match="takes 2 numbers"):
        record(Countdown(2, BoxActions((-1.0, -1.0), (1.0, 1.0))), Constant(0), 1)
    with pytest.raises(RequestError, match="neither a policy nor has a method predict"):
        record(Countdown(2), object(), 1)
    with pytest.raises(RequestError, match="at least 1"):
        record(Countdown(2), Constant(0), 0)


@pytest.mark.parametrize("backend", ["jax", "gymnasium"])
def test_cartpole_is_recorded_the_same_way_on_either_kind_of_backend(backend):
    env = make("CartPole-v1", num_envs=3, backend=backend)
    demos = record(env, Leaning(), 4, seed=1)
    demos.check(env.spec)
    assert len(demos) == 4
    assert demos.env_id == "CartPole-v1"
    for episode in demos.episodes:
        assert episode.has_final_obs
        assert episode.actions.dtype == np.int32
        np.testing.assert_array_equal(episode.rewards, 1)
        out = np.abs(episode.obs[:, 0]) > 2.4
        out |= np.abs(episode.obs[:, 2]) > 12 * np.pi / 180
        assert not out[:-1].any()
        assert out[-1] == episode.terminated
        assert episode.num_steps == 500 or episode.terminated
    np.testing.assert_allclose(demos.expert_return, demos.lengths.mean())


def test_a_predictor_acts_on_the_whole_batch_and_is_told_whether_to_sample():
    expert = LeaningPredictor()
    demos = record(make("CartPole-v1", num_envs=3, backend="gymnasium"), expert, 3, deterministic=False)
    assert set(expert.batches) == {((3, 4), False)}
    same = record(make("CartPole-v1", num_envs=3, backend="gymnasium"), Leaning(), 3)
    np.testing.assert_array_equal(demos.lengths, same.lengths)


def test_a_seed_decides_the_recording_and_sampling_changes_it():
    env = make("CartPole-v1", num_envs=2, backend="jax")

    def content(**options):
        return record(env, Leaning(), 2, **options).content_hash()

    assert content(seed=3) == content(seed=3) != content(seed=4)
    assert content(seed=3, deterministic=False) == content(seed=3, deterministic=False) != content(seed=3)
