"""Atari games under one protocol, by whichever emulator is installed."""

import importlib.util

import numpy as np
import pytest

from menura.core import DiscreteActions, Images, RequestError, Spec
from menura.environments.registry import list_envs, make
from menura.run.presets import find_preset, named_preset, usual_env_kwargs

atari = pytest.importorskip("menura.environments.atari")
BACKENDS = [
    pytest.param(
        backend, marks=pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"needs {package}")
    )
    for backend, package in (("envpool", "envpool"), ("gymnasium", "ale_py"))
]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_game_is_four_gray_frames_that_begin_afresh_with_every_life(backend):
    env = make("Breakout-v5", num_envs=2, backend=backend, env_kwargs={"noop_max": 1})
    assert env.spec == Spec(28224, DiscreteActions(4), (("observation", Images(4, 84, 84)),), history=4)
    assert env.max_episode_steps == 27_000
    obs = env.reset(0).reshape(2, 4, -1)
    assert obs.dtype == np.uint8
    assert obs.max() > 0
    assert (obs == obs[:, -1:]).all()
    games = make("ALE/Breakout-v5", num_envs=2, backend=backend, env_kwargs={"noop_max": 1}, evaluation=True)
    games.reset(0)
    lives = over = 0
    for _ in range(60):
        step = env.step(np.array([3, 3]))
        lives += int(step.terminated.sum())
        for seen, successor in zip(step.obs[step.terminated], step.next_obs[step.terminated], strict=True):
            frames, before = seen.reshape(4, -1), successor.reshape(4, -1)
            assert (frames == frames[-1]).all()
            assert not (before == before[-1]).all()
        over += int(games.step(np.array([3, 3])).terminated.sum())
    env.close()
    games.close()
    # Of five lives a few are lost in this time, and whole games go on.
    assert lives >= 2
    assert over == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_sticky_actions_hold_the_action_before_on(backend):
    def seen_after(action, probability):
        env = make("Pong-v5", backend=backend, env_kwargs={"noop_max": 1, "repeat_action_probability": probability})
        env.reset(0)
        frames = [env.step(np.array([action])).obs for _ in range(12)]
        env.close()
        return frames[-1]

    # Always held on, the first action is never given up for either of two that move the paddle apart.
    assert not np.array_equal(seen_after(2, 0.0), seen_after(3, 0.0))
    np.testing.assert_array_equal(seen_after(2, 1.0), seen_after(3, 1.0))


def test_evaluations_play_whole_games_for_the_raw_score(monkeypatch):
    asked = []

    def single(env_id, num_envs, backend, settings):
        asked.append(settings)
        raise RuntimeError

    monkeypatch.setattr(atari, "_make_single", single)
    for evaluation, env_kwargs in ((False, {}), (True, {"frame_skip": 2}), (False, {"reward_clip": False})):
        with pytest.raises(RuntimeError):
            atari.make_atari("Pong-v5", 1, "auto", env_kwargs, history=1, evaluation=evaluation)
    training, evaluating, unclipped = asked
    assert (training.episodic_life, training.reward_clip) == (True, True)
    assert (evaluating.episodic_life, evaluating.reward_clip, evaluating.frame_skip) == (False, False, 2)
    assert (unclipped.episodic_life, unclipped.reward_clip) == (True, False)


@pytest.mark.parametrize("backend", BACKENDS)
def test_settings_that_the_protocol_does_not_have_are_refused(backend):
    with pytest.raises(RequestError, match="no 'stack_num' among its --env-kwargs"):
        make("Pong-v5", backend=backend, env_kwargs={"stack_num": 4})
    with pytest.raises(RequestError, match="frame_skip of Pong-v5 must be int"):
        make("Pong-v5", backend=backend, env_kwargs={"frame_skip": 4.5})
    with pytest.raises(RequestError, match="frame_skip of Pong-v5 is 0, which is too small"):
        make("Pong-v5", backend=backend, env_kwargs={"frame_skip": 0})


@pytest.mark.skipif(importlib.util.find_spec("envpool") is None, reason="needs envpool")
def test_envpool_begins_games_with_at_least_one_step_of_nothing():
    with pytest.raises(RequestError, match="noop_max of 1 or more"):
        make("Pong-v5", backend="envpool", env_kwargs={"noop_max": 0})


@pytest.mark.skipif(importlib.util.find_spec("envpool") is None, reason="needs envpool")
def test_imitation_plays_whole_games_as_they_were_recorded():
    whole = {"episodic_life": False}
    assert usual_env_kwargs(named_preset("gail-ppo-atari"), "Breakout-v5") == whole
    assert usual_env_kwargs(named_preset("bc-box"), "ALE/Breakout-v5") == whole
    assert usual_env_kwargs(named_preset("ppo-atari"), "Breakout-v5") == {}
    assert usual_env_kwargs(named_preset("gail-trpo-discrete"), "CartPole-v1") == {}
    assert usual_env_kwargs(named_preset("dqn-pong"), "Pong-v5") == {"img_height": 52, "img_width": 52}


@pytest.mark.parametrize("backend", BACKENDS)
def test_games_are_listed_with_every_emulator_that_has_them(backend):
    assert backend in list_envs()["Pong-v5"]


def test_pictures_are_averaged_over_areas():
    np.testing.assert_allclose(atari.area_weights(5, 2), [[0.4, 0.4, 0.2, 0, 0], [0, 0, 0.2, 0.4, 0.4]], rtol=1e-6)


def test_presets_know_games_and_pictures():
    picture = (("picture", Images(1, 10, 5)),)
    spec = Spec(50, DiscreteActions(3), picture)
    assert find_preset("ppo", None, "Catch-v0", spec).name == "ppo-pixels"
    assert find_preset("ppo", None, "CartPole-v1", Spec(4, DiscreteActions(2))).name == "ppo-discrete"
    assert find_preset("sac", None, "Catch-v0", spec).name == "sac-discrete"
    if importlib.util.find_spec("envpool") is not None:
        assert find_preset("ppo", None, "Pong-v5", spec).name == "ppo-atari"
