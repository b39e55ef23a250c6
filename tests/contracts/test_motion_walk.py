"""MotionWalk-v0: begins in the clip, sees what demonstrations of it hold, and is one environment on every backend."""

import gymnasium
import numpy as np
import pytest

from menura.core import BoxActions, RequestError, Spec
from menura.demonstrations import load
from menura.demonstrations.motion import from_clip, observations_of
from menura.environments import make
from menura.environments.motion.clips import read_clip
from menura.environments.motion.observation import OBS_SIZE
from menura.environments.motion.retarget import retarget
from menura.environments.motion.walk import MotionWalkEnvs
from menura.report.frames import states_from_obs
from tests.cli.test_train import run
from tests.walking_clip import write_walk

pytest.importorskip("mujoco")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_walk(tmp_path_factory.mktemp("clip") / "walk.txt")


@pytest.fixture(scope="module")
def motion(clip):
    return retarget(read_clip(clip))


def test_an_episode_begins_in_a_state_of_the_clip(motion):
    env = MotionWalkEnvs(16, clip=motion)
    first = env.reset(0)
    assert first.dtype == np.float32
    fine = np.concatenate([observations_of(motion, offset=i / 240, passes=2) for i in range(8)])
    distance = np.sqrt(np.mean(np.square(first[:, None] - fine[None]), axis=-1))
    assert distance.min(axis=1).max() < 0.1, "every start lies beside a row of the demonstrations"
    assert len({row.tobytes() for row in first}) == 16, "at moments of their own"


def test_copies_in_threads_do_what_one_after_another_would(motion):
    alone, threaded = MotionWalkEnvs(6, clip=motion, num_threads=1), MotionWalkEnvs(6, clip=motion, num_threads=3)
    np.testing.assert_array_equal(alone.reset(3), threaded.reset(3))
    rng, ended = np.random.default_rng(0), 0
    for _ in range(40):
        action = rng.normal(size=(6, 17)).astype(np.float32)
        for a, b in zip(alone.step(action), step := threaded.step(action), strict=True):
            np.testing.assert_array_equal(a, b)
        ended += np.sum(step.terminated)
        # Where an episode ended the next begins in the clip again; the successor is the fallen one.
        changed = np.any(step.obs != step.next_obs, axis=1)
        np.testing.assert_array_equal(changed, step.terminated | step.truncated)
    assert ended > 0
    threaded.close()


def test_a_walk_that_lasts_is_truncated_and_one_that_falls_is_terminated(motion):
    env = MotionWalkEnvs(2, clip=motion, max_episode_steps=3)
    env.reset(0)
    steps = [env.step(np.zeros((2, 17))) for _ in range(3)]
    np.testing.assert_array_equal([s.truncated for s in steps], [[False] * 2, [False] * 2, [True] * 2])
    limp = MotionWalkEnvs(2, clip=motion, max_episode_steps=300)
    limp.reset(0)
    assert any(np.any(limp.step(np.full((2, 17), -1.0)).terminated) for _ in range(60))


def test_the_same_id_is_one_of_gymnasiums_environments(clip):
    make("MotionWalk-v0", env_kwargs={"clip": str(clip)})
    single = gymnasium.make("MotionWalk-v0", clip=str(clip), max_episode_steps=5)
    obs, _ = single.reset(seed=1)
    assert obs.shape == (OBS_SIZE,)
    batch = MotionWalkEnvs(1, clip=str(clip))
    batch.reset(0)
    data, other = single.unwrapped.data, batch.datas[0]
    other.qpos[:], other.qvel[:] = data.qpos, data.qvel
    batch._read(0)
    for index in range(5):
        action = np.full(17, 0.1 * index, np.float32)
        obs, reward, terminated, truncated, _ = single.step(action)
        step = batch.step(action[None])
        np.testing.assert_allclose(obs, step.next_obs[0], atol=1e-6)
        assert reward == pytest.approx(float(step.reward[0]), abs=1e-6)
    assert truncated
    assert not terminated


def test_make_gives_it_with_its_settings_and_refuses_others(clip, tmp_path):
    env = make("MotionWalk-v0", num_envs=2, env_kwargs={"clip": str(clip), "target_speed": 2})
    assert env.spec == Spec(OBS_SIZE, BoxActions((-1.0,) * 17, (1.0,) * 17))
    assert (env.target_speed, env.max_episode_steps) == (2.0, 300)
    for kwargs, says in (
        ({}, "clip=PATH"),
        ({"clip": str(tmp_path / "none.txt")}, "no motion clip"),
        ({"clip": str(clip), "target_speed": "fast"}, "must be a speed"),
        ({"clip": str(clip), "max_episode_steps": 0}, "at least 1"),
        ({"clip": str(clip), "sped": 1}, "no sped"),
    ):
        with pytest.raises(RequestError, match=says):
            make("MotionWalk-v0", env_kwargs=kwargs)


def test_demonstrations_of_a_clip_hold_what_would_be_observed_and_no_actions(clip, motion):
    demos = from_clip(clip)
    assert not demos.has_actions
    # Two passes of 36 steps; from later on in a step there is one step less.
    assert [len(episode.obs) for episode in demos.episodes] == [73, *[72] * 7]
    np.testing.assert_array_equal(demos.episodes[0].obs, observations_of(motion, passes=2))
    # Pictures can be drawn of them: the state is in the observation, its place but for a little drift.
    qpos, _ = states_from_obs("MotionWalk-v0", {}, demos.episodes[0].obs, nq=24, nv=23, dt=1 / 30)
    assert qpos[60, 0] == pytest.approx(motion.speed * 2, rel=0.02)


def test_a_clip_becomes_demonstrations_from_the_command_line(clip, tmp_path, capsys):
    walk = tmp_path / "walk.npz"
    code, out, err = run(capsys, "demos", "convert", clip, "--retarget", "humanoid", "-o", walk)
    assert code == 0, err
    # The arms go past what the shoulders can do.
    assert "8 episodes" in out
    assert "right_shoulder1 0.01" in out
    demos = load(walk)
    assert (demos.env_id, demos.has_actions) == ("MotionWalk-v0", False)
    code, _, err = run(capsys, "demos", "convert", walk, "--retarget", "humanoid", "-o", tmp_path / "again.npz")
    assert code == 2
    assert "AMP clip" in err
