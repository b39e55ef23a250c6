"""The program as people type it: help, exit codes, and one sentence for every wrong request."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import menura
from menura.cli import COMMANDS, main


def run(capsys, *arguments):
    """Exit code, stdout and stderr of a command run in this process."""
    code = 0
    try:
        main([str(a) for a in arguments])
    except SystemExit as stop:
        code = stop.code or 0
    output = capsys.readouterr()
    return code, output.out, output.err


TINY = ["--total-steps", "512", "--num-envs", "4", "--forward.num-steps", "32", "--eval-episodes", "2"]


def test_train_then_eval_then_list(capsys, demos, tmp_path):
    code, out, _ = run(capsys, "train", "gail", "CartPole-v1", "--demos", demos, *TINY, "--out", tmp_path)
    assert code == 0
    folder = out.strip().splitlines()[-1]
    assert sorted(p.name for p in (Path(folder) / "reward").iterdir()) == ["reward.json", "reward.safetensors"]
    code, out, _ = run(capsys, "eval", folder, "--episodes", "4", "--json")
    result = json.loads(out)
    fields = "env algorithm checkpoint episodes mean_return std_return ci95 mean_length random_return expert_return"
    assert set(fields.split()) <= result.keys()
    assert (code, result["episodes"], result["checkpoint"]) == (0, 4, 512)
    code, out, _ = run(capsys, "eval", folder, "--episodes", "4", "--stochastic", "--checkpoint", "best")
    assert code == 0
    assert "gail on CartPole-v1" in out
    code, out, _ = run(capsys, "list", "runs", "--out", tmp_path, "--json")
    assert json.loads(out)["runs"][folder]["state"] == "finished"


def test_cloning_needs_no_environment(capsys, demos, tmp_path):
    code, out, _ = run(capsys, "train", "bc", demos, "--total-steps", "1000", "--out", tmp_path, "--num-batches", "2")
    assert code == 0
    folder = out.strip().splitlines()[-1]
    code, _, err = run(capsys, "eval", folder)
    assert code == 2
    assert "without an environment" in err


EXPERT = """
class Agent:
    def predict(self, obs, deterministic):
        return (obs[:, 2] + obs[:, 3] > 0).astype(int), None
"""


def test_dagger_asks_an_object_and_its_answers_can_be_cloned(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "asked.py").write_text(EXPERT)
    small = ["--bc.num-batches", "2", "--bc.hidden-sizes", "8"]
    code, out, _ = run(
        capsys, "train", "dagger", "CartPole-v1", "--expert", "asked:Agent", "--total-labels", "90", "--num-envs", "2",
        "--num-steps", "15", "--eval-every", "30", "--eval-episodes", "1", "--backend", "gymnasium", *small,
    )  # fmt: skip
    assert code == 0
    folder = Path(out.strip().splitlines()[-1])
    config = json.loads((folder / "config.json").read_text())
    assert (config["expert"], config["total_steps"], config["learner"]["max_labels"]) == ("asked:Agent", 90, 90)
    header, *rows = [line.split(",") for line in (folder / "metrics.csv").read_text().splitlines()]
    assert [float(row[header.index("expert/labels")]) for row in rows] == [30, 60, 90]
    assert [float(row[header.index("expert/share")]) for row in rows] == [1, 0, 0]
    # Every visited state is on file with the expert's answer there.
    answers = menura.load(folder / "demonstrations.npz")
    assert answers.num_steps == 90
    for episode in answers.episodes:
        np.testing.assert_array_equal(episode.actions, episode.obs[:-1, 2] + episode.obs[:-1, 3] > 0)
    options = ["--demos", folder / "demonstrations.npz", "--total-steps", "300", "--num-batches", "2"]
    assert run(capsys, "train", "bc", "CartPole-v1", *options)[0] == 0
    code, _, err = run(capsys, "train", "gail", "CartPole-v1", *options[:2])
    assert (code, "only bc can" in err) == (2, True)


def test_seeds_are_trained_and_compared_in_one_command(capsys, tmp_path):
    code, out, err = run(
        capsys, "train", "ppo", "CartPole-v1", "--seeds", "0..1", "--total-steps", "512", "--num-envs", "4",
        "--num-steps", "32", "--eval-episodes", "2", "--out", tmp_path,
    )  # fmt: skip
    folders = [Path(line) for line in out.strip().splitlines()[-2:]]
    assert (code, [folder.name[-3:] for folder in folders]) == (0, ["-s0", "-s1"])
    assert "seed 1" in err
    assert "Interquartile means" in out
    code, out, _ = run(capsys, "compare", tmp_path, "--json")
    (experiment,) = json.loads(out)["experiments"]
    results = [json.loads((folder / "result.json").read_text())["mean_return"] for folder in folders]
    assert (code, experiment["seeds"], experiment["returns"]) == (0, [0, 1], results)
    assert experiment["return"]["value"] == pytest.approx(sum(results) / 2)


def test_print_config_shows_what_would_run_and_runs_nothing(capsys, demos, tmp_path):
    code, out, _ = run(
        capsys, "train", "gail", "CartPole-v1", "--demos", demos, "--forward", "ppo", "--forward.gamma", "0.9",
        "--learning-rate", "0.01", "--out", tmp_path / "none", "--print-config",
    )  # fmt: skip
    config = json.loads(out)
    assert code == 0
    assert config["learner"]["forward"]["type"] == "PPO"
    assert config["learner"]["forward"]["gamma"] == 0.9
    assert config["learner"]["learning_rate"] == 0.01
    assert not (tmp_path / "none").exists()


WRONG = {
    "unknown command": (["fly"], "No command 'fly'"),
    "unknown algorithm": (["train", "gale", "CartPole-v1"], "No algorithm 'gale'"),
    "no environment": (["train", "ppo"], "Name an environment"),
    "unknown environment": (["train", "ppo", "CartPool-v1"], "CartPole-v1"),
    "no demonstrations": (["train", "gail", "CartPole-v1"], "--demos PATH"),
    "absent file": (["train", "gail", "CartPole-v1", "--demos", "nowhere.npz"], "nowhere.npz"),
    "demonstrations where none are used": (["train", "ppo", "CartPole-v1", "--demos", "x.npz"], "leave out --demos"),
    "forward learner where none is held": (["train", "bc", "CartPole-v1", "--forward", "ppo"], "leave out --forward"),
    "unknown forward learner": (["train", "gail", "CartPole-v1", "--forward", "magic"], "choose one of"),
    "a forward learner without a replay": (["train", "sqil", "CartPole-v1", "--forward", "ppo"], "choose one of sac"),
    "unknown regularizer": (["train", "gail", "CartPole-v1", "--regularizer", "magic"], "choose one of"),
    "unknown preset": (["train", "ppo", "CartPole-v1", "--preset", "magic"], "choose one of"),
    "preset of another algorithm": (["train", "ppo", "CartPole-v1", "--preset", "bc-box"], "another algorithm"),
    "unknown logger": (["train", "ppo", "CartPole-v1", "--logger", "paper"], "choose from"),
    "no value": (["train", "gail", "CartPole-v1", "--forward"], "--forward needs a value"),
    "minibatches that do not divide": (
        ["train", "ppo", "CartPole-v1", "--num-minibatches", "7"],
        "must divide num_envs * num_steps",
    ),
    "nothing to resume": (["train", "--resume", "nowhere"], "nowhere"),
    "settings of a resumed run": (["train", "--resume", "nowhere", "--seed", "1"], "leave out --seed"),
    "no run": (["eval", "nowhere"], "nowhere"),
    "no episodes": (["eval", "nowhere", "--episodes", "0"], "--episodes"),
    "copies of an environment that is not used": (
        ["train", "bc", "CartPole-v1", "--demos", "x.npz", "--num-envs", "3"],
        "leave out --num-envs",
    ),
    "no steps": (["train", "ppo", "CartPole-v1", "--total-steps", "0"], "--total-steps"),
    "half a setting": (["train", "ppo", "CartPole-v1", "--env-kwargs", "gravity"], "name=value"),
    "nobody to ask": (["train", "dagger", "CartPole-v1"], "--expert RUN"),
    "an expert that is nowhere": (["train", "dagger", "CartPole-v1", "--expert", "nowhere"], "no run folder"),
    "an expert that cannot be imported": (["train", "dagger", "CartPole-v1", "--expert", "no:body"], "be imported"),
    "an expert that answers nothing": (["train", "dagger", "CartPole-v1", "--expert", "math:pi"], "no method predict"),
    "an expert where none is asked": (["train", "ppo", "CartPole-v1", "--expert", "x"], "leave out --expert"),
    "labels where none are asked for": (["train", "ppo", "CartPole-v1", "--total-labels", "9"], "--total-labels"),
    "demonstrations beside an expert": (
        ["train", "dagger", "CartPole-v1", "--expert", "math:pi", "--demos", "x.npz"],
        "leave out --demos",
    ),
    "an early stop where nothing is held out": (
        ["train", "dagger", "CartPole-v1", "--expert", "math:pi", "--bc.patience", "3"],
        "set bc.patience to 0",
    ),
    "too little room for labels": (
        ["train", "dagger", "CartPole-v1", "--expert", "math:pi", "--max-labels", "3"],
        "leave it out",
    ),
    "a seed and seeds": (["train", "ppo", "CartPole-v1", "--seed", "1", "--seeds", "0..2"], "not both"),
    "seeds that are none": (["train", "ppo", "CartPole-v1", "--seeds", "2..0"], "must count upwards"),
    "one configuration of several seeds": (
        ["train", "ppo", "CartPole-v1", "--seeds", "0..2", "--print-config"],
        "--print-config shows one run",
    ),
    "jobs of one seed": (["train", "ppo", "CartPole-v1", "--jobs", "2"], "name them with --seeds"),
    "jobs where one program trains all": (
        ["train", "ppo", "CartPole-v1", "--seeds", "0..1", "--jobs", "2"],
        "leave out --jobs",
    ),
    "nothing to compare": (["compare"], "Name at least one run"),
    "a comparison that is no picture": (["compare", "x", "-o", "x.html"], "must end in .png"),
    "an unknown setting": (["train", "ppo", "CartPole-v1", "--env-kwargs", "weather=1"], "weather"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_requests_get_one_sentence_and_exit_code_2(case, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments, words = WRONG[case]
    code, out, err = run(capsys, *arguments)
    assert code == 2
    assert words in err
    assert out == ""
    assert len(err.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == [], "something was half-written"


def test_unknown_options_get_exit_code_2(capsys):
    code, _, err = run(capsys, "train", "ppo", "CartPole-v1", "--gama", "0.9")
    assert code == 2
    assert "gama" in err


def test_more_demonstrations_than_there_are_is_refused(capsys, demos, tmp_path):
    code, _, err = run(
        capsys, "train", "gail", "CartPole-v1", "--demos", demos, "--num-demos", "7", "--out", tmp_path / "none"
    )
    assert code == 2
    assert "6" in err
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_every_command_explains_itself(command, capsys):
    code, out, _ = run(capsys, *([command] if command else []), "--help")
    assert code == 0
    assert "usage" in out.lower()


@pytest.mark.parametrize("what", ["algorithms", "envs", "presets", "regularizers"])
def test_lists_are_json_on_request(what, capsys):
    code, out, _ = run(capsys, "list", what, "--json")
    assert code == 0
    assert json.loads(out)[what]


def test_the_doctor_finds_this_machine_healthy(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))
    code, out, _ = run(capsys, "doctor", "--json")
    assert code == 0
    assert json.loads(out)["healthy"]


def test_help_comes_almost_as_fast_as_a_bare_interpreter():
    """Nothing heavy is imported for it."""

    def fastest(*command):
        times = []
        for _ in range(3):
            started = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            times.append(time.perf_counter() - started)
        return min(times)

    bare = fastest(sys.executable, "-c", "pass")
    assert fastest(sys.executable, "-m", "menura", "--help") < bare + 0.35
