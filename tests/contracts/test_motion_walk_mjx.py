"""The JAX version of MotionWalk-v0 beside the host's, where MJX is installed."""

import dataclasses
import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from menura.core import RequestError
from menura.demonstrations import Demonstrations, Episode
from menura.environments import make
from menura.environments.motion.walk import MotionWalkEnvs
from menura.run.train import train
from tests.learners import SMALL
from tests.walking_clip import write_walk

pytest.importorskip("mujoco")
HAS_MJX = importlib.util.find_spec("mujoco.mjx") is not None


@pytest.mark.skipif(HAS_MJX, reason="MJX is installed")
def test_without_mjx_its_extra_is_named(tmp_path):
    with pytest.raises(RequestError, match="`mjx` extra"):
        make("MotionWalk-v0", backend="jax", env_kwargs={"clip": str(write_walk(tmp_path / "walk.txt"))})


@pytest.mark.skipif(not HAS_MJX, reason="MJX is not installed")
def test_a_step_in_jax_is_the_hosts_within_a_bound(tmp_path):
    """Five steps, of 4 substeps each, from a state of the clip, in single precision."""
    # MJX relies on rank promotion within itself.
    with jax.numpy_rank_promotion("allow"):
        compare(str(write_walk(tmp_path / "walk.txt")))


@pytest.mark.skipif(not HAS_MJX, reason="MJX is not installed")
def test_gail_learns_on_it_in_one_program(tmp_path):
    clip = str(write_walk(tmp_path / "walk.txt"))
    env = make("MotionWalk-v0", num_envs=2, backend="jax", env_kwargs={"clip": clip})
    obs = np.asarray(env.reset(key=jax.random.key(0)).obs)
    episode = Episode(np.stack([obs[0], obs[1], obs[0]]), None, None, True, 2)
    learner = dataclasses.replace(SMALL["gail"], observations_only=True)
    with jax.numpy_rank_promotion("allow"):
        run = train(learner, env, Demonstrations((episode,)), total_steps=16)
    assert run.env_steps == 16


@pytest.mark.skipif(not HAS_MJX, reason="MJX is not installed")
def test_episodes_of_no_length_are_refused(tmp_path):
    with pytest.raises(RequestError, match="max_episode_steps must be a whole number of at least 1"):
        make(
            "MotionWalk-v0",
            backend="jax",
            env_kwargs={"clip": str(write_walk(tmp_path / "a.txt")), "max_episode_steps": 0},
        )


def compare(clip):
    env = make("MotionWalk-v0", num_envs=2, backend="jax", env_kwargs={"clip": clip, "max_episode_steps": 5})
    carry = env.reset(key=jax.random.key(0))
    host = MotionWalkEnvs(2, clip=clip, max_episode_steps=5)
    host.reset(0)
    for i, data in enumerate(host.datas):
        data.qpos[:], data.qvel[:] = carry.state.qpos[i], carry.state.qvel[i]
        host._mujoco.mj_kinematics(host.model, data)
        host._read(i)
    np.testing.assert_allclose(carry.obs, host.observe(), atol=1e-5)
    step = jax.jit(lambda carry, action, key: env.step(carry, action, key=key))
    rng = np.random.default_rng(0)
    for index in range(5):
        action = rng.normal(0, 0.3, (2, 17)).astype(np.float32)
        carry, ours = step(carry, jnp.asarray(action), jax.random.key(index))
        theirs = host.step(action)
        np.testing.assert_allclose(ours.next_obs, theirs.next_obs, atol=2e-3, rtol=1e-3)
        np.testing.assert_allclose(ours.reward, theirs.reward, atol=1e-3)
        np.testing.assert_array_equal(ours.terminated, theirs.terminated)
        np.testing.assert_array_equal(ours.truncated, theirs.truncated)
    assert np.all(np.asarray(ours.truncated))
    # The next episode has begun in the clip, and every copy stands on its own.
    assert np.asarray(carry.age).tolist() == [0, 0]
    assert not np.allclose(carry.obs, ours.next_obs)
