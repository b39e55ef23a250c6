"""A reward from the run that learned it, through the command line: trained on again, compared, and drawn."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import menura
from menura.core import ExpertData, RequestError
from menura.imitation.reward import earned
from menura.report.runs import read_run
from menura.run.artifacts import file_hash, read_json, write_json
from menura.run.folder import RunFolder
from menura.run.launch import launch, prepare, resume
from menura.run.request import Request
from menura.run.reward import read_reward, save_reward
from menura.run.train import Checkpoint, Progress
from tests.cli.test_train import run
from tests.contracts.test_runs import Stop, StopsAfter, run_below, same_numbers, table
from tests.learners import SMALL

UPDATE = 32


@pytest.fixture(scope="module")
def gail(demos, tmp_path_factory):
    """A run with a reward, as it is when it is finished, without the training."""
    folder = tmp_path_factory.mktemp("gail")
    request = Request(SMALL["gail"], "CartPole-v1", demos=demos, total_steps=UPDATE, num_envs=4)
    prepared = prepare(request)
    state = SMALL["gail"].init(prepared.spec, key=jax.random.key(0))
    rows = jax.tree.map(jnp.asarray, menura.load(demos).flatten(prepared.spec))
    state = dataclasses.replace(state, score=state.score.standardized_by(ExpertData(rows, rows), rows))
    write_json(folder / "config.json", prepared.config)
    write_json(folder / "meta.json", {"data_sha256": file_hash(demos)})
    at_its_end = Checkpoint(state, None, Progress(env_steps=UPDATE))
    RunFolder(folder, loggers=()).on_checkpoint(at_its_end, is_best=True, exact=True)
    save_reward(folder / "reward", *read_reward(folder))
    return folder


def on(gail):
    return Request(SMALL["ppo"], "CartPole-v1", backend="jax", total_steps=3 * UPDATE, num_envs=4, eval_every=UPDATE,
                   eval_episodes=2, reward=gail)  # fmt: skip


@pytest.fixture(scope="module")
def retrained(gail, tmp_path_factory):
    """A run on that reward."""
    return launch(on(gail), out=tmp_path_factory.mktemp("retrained"), loggers=("csv",))


def test_a_reward_is_described_where_it_lies(gail, demos):
    described = json.loads((gail / "reward" / "reward.json").read_text())
    assert described["data_sha256"] == file_hash(demos)
    assert described["spec"] == {"obs_size": 4, "actions": {"num_actions": 2}}
    assert (described["env"], described["form"], described["sees"]) == ("CartPole-v1", "positive", ["obs", "action"])
    rows = menura.load(demos).flatten(menura.make("CartPole-v1").spec)
    np.testing.assert_allclose(described["statistics"]["obs_mean"], rows.obs.mean(axis=0), rtol=1e-4)
    moved, of_checkpoint = menura.load_reward(gail / "reward"), menura.load_reward(gail)
    np.testing.assert_array_equal(earned(moved, rows), earned(of_checkpoint, rows))


def test_a_forward_learner_is_paid_by_it_and_judged_by_the_environment(gail, retrained):
    config, meta = read_json(retrained / "config.json"), read_json(retrained / "meta.json")
    assert config["reward"] == {"path": str(gail), "part": "reward", "form": None}
    assert meta["reward_sha256"] == file_hash(retrained / "reward") == file_hash(gail / "reward")
    header, *rows = table(retrained / "metrics.csv")
    column = {name: [float(row[i] or "nan") for row in rows] for i, name in enumerate(header)}
    # Softplus of a score near 0 is near log 2, and the environment pays 1 a step.
    assert all(0.3 < x < 0.95 for x in column["reward/mean"])
    np.testing.assert_allclose(column["episode/return"], column["episode/length"])
    result = read_json(retrained / "result.json")
    np.testing.assert_allclose(result["mean_return"], result["mean_length"])
    assert read_run(retrained).name == "PPO on a learned reward"
    assert menura.load_reward(retrained).form == "positive"
    assert menura.load_reward(retrained, form="logit").form == "logit"


def test_it_resumes_without_the_run_the_reward_came_from_and_refuses_another(gail, retrained, tmp_path):
    gone = tmp_path / "gail"
    (gail / "reward").rename(gone)
    try:
        with pytest.raises(Stop):
            launch(on(gone), out=tmp_path / "stopped", loggers=("csv",), watchers=[StopsAfter(2)])
    finally:
        gone.rename(gail / "reward")
    stopped = run_below(tmp_path / "stopped")
    kept = (stopped / "reward" / "reward.json").read_text()
    (stopped / "reward" / "reward.json").write_text(kept.replace('"positive"', '"negative"'))
    with pytest.raises(RequestError, match="not the reward that this run began with"):
        resume(stopped)
    (stopped / "reward" / "reward.json").write_text(kept)
    same_numbers(retrained, resume(stopped, loggers=("csv",)))


def test_wrong_requests_for_rewards_are_one_sentence(gail, demos, capsys, tmp_path):
    cloning = tmp_path / "bc"
    write_json(cloning / "config.json", {"algorithm": "bc", "learner": {"type": "BC"}})
    for command, sentence in (
        (["train", "ppo", "CartPole-v1", "--reward", cloning], "is of bc, which learns no reward"),
        (["train", "ppo", "Pendulum-v1", "--reward", gail], "sees 4 numbers, and Pendulum-v1 observes 3"),
        (["train", "ppo", "CartPole-v1", "--reward", gail, "--reward-part", "shaped"], "Only airl's reward"),
        (["train", "ppo", "CartPole-v1", "--reward-part", "shaped"], "name one with --reward RUN"),
        (["train", "gail", "CartPole-v1", "--demos", demos, "--reward", gail], "leave out --reward"),
        (["train", "ppo", "CartPole-v1", "--reward", tmp_path / "none"], "does not exist"),
        (["reward", "compare", "env", "env"], "Name a run"),
        (["reward", "plot", gail, "-o", tmp_path / "reward.pdf"], "must end in .png"),
    ):
        code, _, err = run(capsys, *command, *(["--print-config"] if command[0] == "train" else []))
        assert (code, sentence in err) == (2, True), (command, err)


def test_a_reward_is_no_distance_from_itself_and_the_coverage_is_told(gail, retrained, demos, capsys):
    command = ["reward", "compare", gail, retrained, "--num-transitions", "128", "--num-pairs", "32"]
    code, out, _ = run(capsys, *command, "--json")
    said = json.loads(out)
    assert (code, said["env"]) == (0, "CartPole-v1")
    assert said["epic"] < 1e-6
    assert said["coverage"] == {"uniform policy": 64, "demonstrations": 64}


def test_a_picture_is_drawn_of_a_retrained_run(retrained, capsys, tmp_path):
    code, out, err = run(capsys, "reward", "plot", retrained, "-o", tmp_path / "reward.png")
    assert code == 0, err
    assert "on average over the expert's actions" in out
    assert (tmp_path / "reward.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert read_reward(retrained)[1]["algorithm"] == "gail"
