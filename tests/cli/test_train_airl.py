"""AIRL from the command line, to a reward that can be had from the run's folder."""

import json

import jax.numpy as jnp

from menura.run.artifacts import load_state
from tests.cli.test_train import run
from tests.cli.test_train_regularizers import TINY


def test_a_run_leaves_a_reward_of_the_state(capsys, demos, tmp_path):
    command = ["train", "airl", "CartPole-v1", "--demos", demos, "--hidden-sizes", "8", *TINY, "--out", tmp_path]
    code, out, err = run(capsys, *command)
    assert code == 0, err
    folder = tmp_path / out.strip().splitlines()[-1]
    config = json.loads((folder / "config.json").read_text())
    assert (config["algorithm"], config["learner"]["state_only"]) == ("airl", True)
    assert json.loads((folder / "result.json").read_text())["env_steps"] == 128
    learner, state, _ = load_state(folder)
    g = learner.reward_function(state)
    rewards = [float(g(jnp.array([0.1, 0.2, 0.0, -0.1]), jnp.asarray(action))) for action in (0, 1)]
    assert rewards[0] == rewards[1] != 0
    code, out, _ = run(capsys, "list", "algorithms", "--json")
    assert json.loads(out)["algorithms"]["airl"]["learns_from"] == "demonstrations"


def test_the_regularizer_cannot_be_chosen(capsys, demos):
    code, _, err = run(capsys, "train", "airl", "CartPole-v1", "--demos", demos, "--regularizer", "fem")
    assert code == 2
    assert "leave out --regularizer" in err
