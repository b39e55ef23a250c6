"""Runs that begin with the policy of another: their first updates, their folder, and that they resume without it."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

from menura.core import RequestError
from menura.forward.dqn import DQN
from menura.imitation.sqil import SQIL
from menura.run.artifacts import load_policy, load_state, read_json
from menura.run.launch import launch, resume
from menura.run.request import Request
from tests.cli.test_train import run
from tests.contracts.test_runs import Stop, StopsAfter, run_below, same_numbers, table
from tests.learners import SMALL

GAIL = dataclasses.replace(
    SMALL["gail"], forward=dataclasses.replace(SMALL["gail"].forward, critic_updates=2), bc_updates=4, bc_coef=0.5
)
UPDATE = 32


@pytest.fixture(scope="module")
def cloning(demos, tmp_path_factory):
    """A run of cloning that was finished before."""
    request = Request(SMALL["bc"], "CartPole-v1", demos=demos, total_steps=64, num_envs=4)
    return launch(request, out=tmp_path_factory.mktemp("cloning"), loggers=("csv",))


def warm(cloning, demos):
    return Request(GAIL, "CartPole-v1", backend="jax", demos=demos, total_steps=6 * UPDATE, num_envs=4,
                   eval_every=UPDATE, eval_episodes=2, seed=3, warm_start=cloning)  # fmt: skip


@pytest.fixture(scope="module")
def whole(cloning, demos, tmp_path_factory):
    """A run that began with it and was not stopped; there is a checkpoint after every update."""
    return launch(warm(cloning, demos), out=tmp_path_factory.mktemp("whole"), loggers=("csv",))


def test_the_cloned_policy_is_held_until_there_is_a_critic_and_cloning_fades(whole, cloning):
    before = load_policy(cloning)[0].network
    states = [load_state(whole, str(UPDATE * i))[1].forward for i in (1, 2, 3)]
    for state in states[:2]:
        for a, b in zip(jax.tree.leaves(state.policy.network), jax.tree.leaves(before), strict=True):
            np.testing.assert_array_equal(a, b)
    assert any(np.any(a != b) for a, b in zip(*map(jax.tree.leaves, (states[2].policy.network, before)), strict=True))
    assert np.any(states[0].value.network.weights[-1] != 0)
    header, *rows = table(whole / "metrics.csv")
    column = {name: [float(row[i] or "nan") for row in rows] for i, name in enumerate(header)}
    np.testing.assert_allclose(column["cloning/weight"], [0.5, 0.375, 0.25, 0.125, 0, 0])
    assert column["policy/kl"][:2] == [0, 0]
    assert column["policy/kl"][2] > 0


@pytest.mark.parametrize("updates", [1, 5])
def test_it_resumes_without_the_run_it_came_from(updates, whole, cloning, demos, tmp_path):
    gone = tmp_path / "cloning"
    shutil.copytree(cloning, gone)
    with pytest.raises(Stop):
        launch(warm(gone, demos), out=tmp_path / "stopped", loggers=("csv",), watchers=[StopsAfter(updates)])
    shutil.rmtree(gone)
    stopped = run_below(tmp_path / "stopped")
    assert read_json(stopped / "config.json")["warm_start"] == str(gone)
    assert len(read_json(stopped / "meta.json")["warm_start_sha256"]) == 64
    same_numbers(whole, resume(stopped, loggers=("csv",)))


@pytest.mark.parametrize("name", ["sqil", "gail"])
def test_soft_values_begin_as_the_clone_and_go_on(name, cloning, demos, tmp_path):
    """Before there is anything to learn from it acts as the clone does; and it resumes as it was."""
    dqn = DQN(num_steps=8, num_updates=3, batch_size=8, replay_size=512, learning_starts=64, temperature=0.5,
              activation="tanh", hidden_sizes=(8,), initial_exploration=0.0, final_exploration=0.0)  # fmt: skip
    learner = {"sqil": SQIL(forward=dqn, bc_coef=1.0), "gail": dataclasses.replace(SMALL["gail"], forward=dqn,
               reward_form="logit", bc_updates=4)}[name]  # fmt: skip
    asked = dataclasses.replace(warm(cloning, demos), learner=learner)
    whole = launch(asked, out=tmp_path / "whole", loggers=("csv",))
    clone, begun, ended = load_policy(cloning)[0], *(load_state(whole, str(UPDATE * i))[1] for i in (1, 6))
    obs = 0.05 * jax.random.normal(jax.random.key(0), (5, 4))
    want = [clone.distribution(o).log_probs for o in obs]
    np.testing.assert_allclose([learner.policy(begun).distribution(o).log_probs for o in obs], want, atol=1e-3)
    assert not np.allclose([learner.policy(ended).distribution(o).log_probs for o in obs], want, atol=1e-3)
    with pytest.raises(Stop):
        launch(asked, out=tmp_path / "stopped", loggers=("csv",), watchers=[StopsAfter(4)])
    same_numbers(whole, resume(run_below(tmp_path / "stopped"), loggers=("csv",)))


def test_another_policy_than_at_the_start_is_refused_on_resume(cloning, demos, tmp_path):
    with pytest.raises(Stop):
        launch(warm(cloning, demos), out=tmp_path, loggers=("csv",), watchers=[StopsAfter(1)])
    stopped = run_below(tmp_path)
    (stopped / "warm_start.safetensors").write_bytes(b"another")
    with pytest.raises(RequestError, match="not the policy that this run began with"):
        resume(stopped)


def test_settings_follow_the_run_that_is_begun_with(cloning, demos, capsys, tmp_path):
    def config(*options):
        code, out, err = run(capsys, "train", *options, "--warm-start", cloning, "--print-config")
        assert code == 0, err
        return json.loads(out)

    gail = config("gail", "CartPole-v1", "--demos", demos)["learner"]
    assert (gail["forward"]["hidden_sizes"], gail["bc_updates"] > 0, gail["forward"]["critic_updates"] > 0) == (
        [8], True, True)  # fmt: skip
    assert config("ppo", "CartPole-v1", "--critic-updates", "3")["learner"]["critic_updates"] == 3
    sqil = config("sqil", "CartPole-v1", "--forward", "dqn", "--demos", demos)["learner"]["forward"]
    assert (sqil["hidden_sizes"], sqil["activation"], sqil["initial_exploration"]) == ([8], "tanh", 0.05)
    sqil = ("sqil", "CartPole-v1", "--forward", "dqn", "--demos", demos)
    assert config(*sqil)["learner"]["bc_coef"] == 1.0
    assert config(*sqil, "--bc-coef", "0")["learner"]["bc_coef"] == 0.0
    for option in ("--observations-only", "--observations_only"):
        unseen = config("gail", "CartPole-v1", "--demos", demos, option)["learner"]
        assert (unseen["bc_updates"], unseen["forward"]["critic_updates"] > 0) == (0, True)
    sac = config("sac", "CartPole-v1")
    assert (sac["learner"]["activation"], sac["warm_start"]) == ("tanh", str(cloning))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["ppo", "CartPole-v1", "--hidden-sizes", "9"], "pass --hidden-sizes 8 --activation tanh"),
        (["ppo", "MountainCar-v0"], "name a run of this environment"),
        (["gail", "CartPole-v1", "--observations-only", "--bc-updates", "5"], "--bc-updates 0"),
        (["gail", "CartPole-v1", "--bc-updates", "0", "--bc-coef", "2"], "leave out one of them"),
        (["bc", "CartPole-v1"], "leave out --warm-start"),
        (["dqn", "CartPole-v1"], "or pass --temperature"),
    ],
)
def test_what_cannot_be_begun_with_is_refused_in_one_sentence(options, words, cloning, demos, capsys, tmp_path):
    given = [] if options[0] in ("ppo", "dqn") else ["--demos", demos]
    code, out, err = run(capsys, "train", *options, *given, "--warm-start", cloning, "--out", tmp_path / "none")
    assert (code, out, len(err.strip().splitlines())) == (2, "", 1), err
    assert words in err
    assert not (tmp_path / "none").exists()


def test_a_run_that_is_not_there_is_refused(capsys):
    code, _, err = run(capsys, "train", "ppo", "CartPole-v1", "--warm-start", "nowhere")
    assert code == 2
    assert "nowhere" in err
