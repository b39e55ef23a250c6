"""highway-env's roads: the same observations and actions on both backends, crashes told, and a driver that has none."""

import functools
import importlib
import sys

import numpy as np
import pytest

from menura import evaluate, make
from menura.core import RequestError
from menura.demonstrations import record
from menura.environments.driving import crashed, driver_of, outcome, road_of
from menura.environments.host import decode_action, import_envpool
from menura.evaluation import UniformPolicy
from menura.report.charts import chart_of
from menura.run.experts import load_expert

pytest.importorskip("envpool")
LIGHT = {"vehicles_density": 0.5}


@functools.cache
def own_rows(env_id, backend):
    """The own vehicle's numbers after each of the five actions from the start, and the first table."""
    env = make(env_id, num_envs=5, backend=backend)
    first = env.reset(0)
    rows = [env.step(np.arange(5)).next_obs.reshape(5, 5, 5)[:, 0], env.step(np.ones(5, int)).next_obs[:, :5]]
    env.close()
    return env.spec, first.reshape(5, 5, 5), rows


@pytest.mark.parametrize("env_id", ["merge-v0", "roundabout-v0"])
def test_both_backends_observe_and_act_alike(env_id):
    pytest.importorskip("highway_env")
    (ours, first, rows), (theirs, their_first, their_rows) = (own_rows(env_id, b) for b in ("envpool", "gymnasium"))
    assert ours == theirs
    assert (ours.obs_size, ours.actions.num_actions) == (25, 5)
    # Where traffic is differs, where the own vehicle begins and what each action does to it does not.
    np.testing.assert_allclose(first[:, 0], their_first[:, 0], atol=1e-5)
    np.testing.assert_allclose(rows[0], their_rows[0], atol=1e-4)
    assert len(np.unique(rows[0].round(4), axis=0)) >= 3
    assert set(np.unique(first[..., 0])) | set(np.unique(their_first[..., 0])) <= {0.0, 1.0}
    assert np.abs(np.concatenate([first, their_first])).max() <= 1


@pytest.mark.parametrize("env_id", ["highway-v0", "highway-fast-v0"])
def test_both_backends_move_alike_wherever_they_begin(env_id):
    pytest.importorskip("highway_env")
    (ours, first, rows), (theirs, their_first, their_rows) = (own_rows(env_id, b) for b in ("envpool", "gymnasium"))
    assert ours == theirs
    np.testing.assert_allclose(first[:, 0, 3:], their_first[:, 0, 3:], atol=1e-5)
    for row, their_row in zip(rows, their_rows, strict=True):
        # Speed along the road after nothing, faster and slower, and the way to the left of the first copy.
        np.testing.assert_allclose(row[[1, 3, 4], 3:], their_row[[1, 3, 4], 3:], atol=1e-4)
        moved, theirs_moved = row[0, 2] - first[0, 0, 2], their_row[0, 2] - their_first[0, 0, 2]
        assert -0.4 < moved < -0.2
        np.testing.assert_allclose(moved, theirs_moved, atol=1e-4)


def test_the_lanes_of_a_road_are_those_of_its_settings():
    assert road_of("highway-v0").num_lanes == 4
    assert road_of("highway-v0", {"lanes_count": 2}).num_lanes == 2
    assert road_of("highway-v0", {"config": {"lanes_count": 3}}).num_lanes == 3
    # As they reach highway-env: what is given by itself counts before what is in config.
    assert road_of("highway-v0", {"config": {"vehicles_count": 9}, "lanes_count": 2}).num_lanes == 2
    # One's own vehicle in the last lane, at 4 m of 8 and at 12 of 16.
    places = [
        chart_of("highway-v0", 25, settings).to_obs(np.ones((1, 2)))[0, 2] for settings in ({"lanes_count": 2}, {})
    ]
    np.testing.assert_allclose(places, [0.5, 0.75])


def test_settings_reach_both_backends():
    pytest.importorskip("highway_env")
    for settings in ({"vehicles_count": 2}, {"config": {"vehicles_count": 2}}):
        env = make("highway-fast-v0", backend="gymnasium", env_kwargs=settings)
        assert (env.reset(0).reshape(5, 5)[:, 0] > 0).sum() <= 3
        assert env.spec == make("highway-fast-v0", backend="envpool", env_kwargs={"vehicles_count": 2}).spec
    assert make("highway-fast-v0", env_kwargs={"vehicles_count": 2}).backend == "envpool"


@pytest.mark.parametrize("env_id", ["merge-v0", "highway-fast-v0", "roundabout-v0", "merge-v1", "roundabout-v1"])
def test_a_crash_is_told_by_the_reward_as_by_envpool_itself(env_id):
    if env_id not in import_envpool().list_all_envs():
        pytest.skip(f"this EnvPool has no {env_id}")
    pool = import_envpool().make(env_id, env_type="gymnasium", num_envs=32, num_threads=1, seed=3)
    pool.reset()
    rng, told = np.random.default_rng(0), []
    for _ in range(40):
        action = decode_action(rng.integers(0, 5, 32), pool.action_space)
        _, reward, terminated, truncated, info = pool.step(action.astype(np.int32))
        ended = terminated | truncated
        assert np.array_equal(crashed(reward, terminated)[ended], np.asarray(info["crashed"], bool)[ended])
        told.append(crashed(reward, terminated))
    assert np.sum(told) > 10


@pytest.mark.parametrize("env_id", ["merge-v0", "merge-v1"])
def test_a_crash_is_told_by_the_reward_as_by_highway_env_itself(env_id):
    pytest.importorskip("highway_env")
    env = make(env_id, num_envs=4, backend="gymnasium")
    env.reset(0)
    rng, ends = np.random.default_rng(0), []
    for _ in range(14):
        before = [one.unwrapped for one in env._envs]
        vehicles = [one.vehicle for one in before]
        step = env.step(rng.integers(0, 5, 4))
        for i in np.flatnonzero(step.terminated):
            assert bool(crashed(step.reward, step.terminated)[i]) == vehicles[i].crashed
            ends.append(vehicles[i].crashed)
    assert any(ends)


def test_the_scripted_driver_never_crashes_in_light_traffic():
    for env_id, env_kwargs, episodes in (("merge-v0", {}, 300), ("highway-fast-v0", LIGHT, 100)):
        env = make(env_id, num_envs=50, env_kwargs=env_kwargs)
        result = evaluate(env, driver_of(env_id, env_kwargs), num_episodes=episodes, keep_steps=10**6)
        env.close()
        told = outcome(result.steps, episodes, road=road_of(env_id, env_kwargs))
        assert told["crash_rate"] == 0
        # It does not win by standing still.
        assert told["mean_speed"] > 23.5
    uniform = make("merge-v0", num_envs=50)
    result = evaluate(uniform, UniformPolicy(uniform.spec), num_episodes=50, deterministic=False, keep_steps=10**6)
    assert outcome(result.steps, 50, road=road_of("merge-v0"))["crash_rate"] > 0.5


def test_the_scripted_driver_is_refused_where_there_is_no_straight_road():
    with pytest.raises(RequestError, match="straight roads"):
        load_expert("idm", make("CartPole-v1"))
    with pytest.raises(RequestError, match="straight roads"):
        driver_of("roundabout-v0")
    assert driver_of("highway-v0", {"lanes_count": 3}).num_lanes == 3


@pytest.fixture
def study(repository, monkeypatch):
    """benchmarks/merge.py."""
    monkeypatch.syspath_prepend(str(repository / "benchmarks"))
    names = ("common", "by_seed", "merge_figures", "merge")
    yield importlib.import_module("merge")
    for name in names:
        sys.modules.pop(name, None)


def test_what_is_learned_in_light_traffic_fails_in_dense(study, monkeypatch):
    monkeypatch.setattr(study, "SIZES", (3,))
    expert = study.shifted("expert", 0, episodes=50)
    clone = study.shifted("bc", 0, episodes=50, num_demos=3, steps=12_800)
    assert expert["light"]["crash_rate"] <= 0.02
    assert expert["dense"]["crash_rate"] < 0.2
    assert clone["dense"]["crash_rate"] > max(clone["light"]["crash_rate"], 0.5) + 0.1


def test_the_study_prints_rates_intervals_and_speeds(study):
    env = make("merge-v0", num_envs=10)
    episodes = record(env, driver_of("merge-v0"), 10).episodes
    env.close()
    cell = study.summary(episodes)
    told = study.as_json({("expert", 0): [cell], ("bc", 5): [cell, cell | {"crash_rate": 0.5}]})
    assert list(told) == ["expert", "bc"]
    assert told["bc"]["5"].keys() == {"crash_rate", "ci95", "mean_speed"}
    assert told["bc"]["5"]["crash_rate"] == 0.25
    # Student's interval of two seeds, 0 and 0.5, is far wider than Wilson's.
    np.testing.assert_allclose(told["bc"]["5"]["ci95"], 12.706 * 0.25, rtol=1e-3)
    assert 0 < told["expert"]["0"]["ci95"] < 0.2


class Idle:
    """Does nothing, and on merge-v0 always crashes."""

    def __call__(self, obs, *, key=None):
        return np.int32(1)


def test_the_moment_of_a_crash_is_marked_and_told(monkeypatch):
    from menura.report import driving, video
    from menura.report.footage import record as film
    from menura.report.frames import frames_of

    footage = film("merge-v0", Idle(), seed=0, label="idle")
    assert footage.crashed
    last = footage.num_frames - 1
    red = np.array([int(driving._CRASH[i : i + 2], 16) for i in (1, 3, 5)])
    before, at = frames_of(footage, np.array([last - 1, last]), env_id="merge-v0", env_kwargs=None, size=480)
    assert not np.any(np.all(before == red, axis=-1))
    assert np.sum(np.all(at == red, axis=-1)) > 20
    monkeypatch.setattr(video, "FPS", 2)
    assert "There is a crash of the idle." in video.side_by_side("merge-v0", footage, None).caption
    driver = film("merge-v0", driver_of("merge-v0"), seed=0, label="expert")
    assert "crash" not in video.side_by_side("merge-v0", driver, None).caption
