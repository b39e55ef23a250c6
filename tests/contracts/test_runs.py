"""Run folders: what they hold, and that a run which was stopped ends with the numbers of one that was not."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import menura
from menura.core import RequestError
from menura.demonstrations.record import record
from menura.demonstrations.writers import save
from menura.environments import make
from menura.evaluation import UniformPolicy, evaluate
from menura.run.artifacts import Table, checkpoint_dir, load_policy, load_state, write_bytes
from menura.run.folder import latest_exact
from menura.run.launch import evaluate_run, launch, normalized, resume
from menura.run.registry import FORWARD
from menura.run.request import Request, spec_of_demos
from menura.run.train import Watcher
from tests.learners import SMALL, VARIANTS

TOTAL, EVERY = 512, 128


def request(algorithm, backend, demos):
    return Request(
        (SMALL | VARIANTS)[algorithm],
        "CartPole-v1",
        backend=backend,
        demos=None if algorithm in FORWARD else demos,
        total_steps=TOTAL,
        num_envs=4,
        eval_every=EVERY,
        eval_episodes=2,
        seed=3,
    )


class Stop(Exception):
    """The machine went down."""


class StopsAfter(Watcher):
    """Breaks off a run in the middle of an iteration's bookkeeping."""

    def __init__(self, updates):
        self.left = updates

    def on_update(self, progress, metrics):
        self.left -= 1
        if self.left == 0:
            raise Stop


class Keeps(Watcher):
    """Keeps the state of the last checkpoint."""

    def on_checkpoint(self, checkpoint, *, is_best, exact):
        self.state = checkpoint.state


@pytest.fixture(scope="module")
def never_stopped(demos, tmp_path_factory):
    """A run that was not stopped, and the state it ended with; trained when first asked for, and not to be changed."""
    runs = {}

    def get(algorithm, backend="jax"):
        if (algorithm, backend) not in runs:
            keeps = Keeps()
            out = tmp_path_factory.mktemp("whole")
            run = launch(request(algorithm, backend, demos), out=out, watchers=[keeps])
            assert run.parent == out / "CartPole-v1" / algorithm.split("-")[0]
            runs[algorithm, backend] = run, keeps.state
        return runs[algorithm, backend]

    return get


def table(path: Path):
    """A CSV without its wall-clock columns."""
    header, *rows = [line.split(",") for line in path.read_text().splitlines()]
    kept = [i for i, name in enumerate(header) if "seconds" not in name]
    return [[row[i] for i in kept] for row in (header, *rows)]


def same_numbers(a: Path, b: Path):
    for name in ("metrics.csv", "evaluations.csv"):
        assert table(a / name) == table(b / name)
    (_, state_a, _), (_, state_b, _) = load_state(a), load_state(b)
    for x, y in zip(jax.tree.leaves(state_a), jax.tree.leaves(state_b), strict=True):
        np.testing.assert_array_equal(x, y)
    results = [json.loads((run / "result.json").read_text()) for run in (a, b)]
    for result in results:
        del result["wall_seconds"], result["steps_per_second"]
    assert results[0] == results[1]


@pytest.mark.parametrize("backend", ["jax", "gymnasium", "envpool"])
@pytest.mark.parametrize("algorithm", ["gail", "ppo"])
def test_a_stopped_and_resumed_run_ends_with_the_numbers_of_one_never_stopped(
    algorithm, backend, demos, tmp_path, never_stopped
):
    if backend == "envpool":
        pytest.importorskip("envpool")
    whole, _ = never_stopped(algorithm, backend)
    with pytest.raises(Stop):
        launch(request(algorithm, backend, demos), out=tmp_path / "stopped", watchers=[StopsAfter(10)])
    (stopped,) = (tmp_path / "stopped").rglob("config.json")
    assert latest_exact(stopped.parent) is not None
    assert len(table(stopped.parent / "metrics.csv")) == 1 + 10
    resumed = resume(stopped.parent)
    same_numbers(whole, resumed)


def test_a_run_stopped_before_its_first_checkpoint_begins_again(demos, tmp_path, never_stopped):
    whole, _ = never_stopped("ppo")
    with pytest.raises(Stop):
        launch(request("ppo", "jax", demos), out=tmp_path / "stopped", watchers=[StopsAfter(2)])
    (stopped,) = (tmp_path / "stopped").rglob("config.json")
    same_numbers(whole, resume(stopped.parent))


def test_cloning_resumes_too(demos, tmp_path, never_stopped):
    whole, _ = never_stopped("bc")
    with pytest.raises(Stop):
        launch(request("bc", "jax", demos), out=tmp_path / "stopped", watchers=[StopsAfter(7)])
    (stopped,) = (tmp_path / "stopped").rglob("config.json")
    same_numbers(whole, resume(stopped.parent))


@pytest.mark.parametrize("backend", ["jax", "gymnasium"])
def test_dagger_resumes_with_every_label_it_had(backend, tmp_path, never_stopped):
    expert = never_stopped("ppo")[0]
    asks = Request(
        dataclasses.replace(SMALL["dagger"], max_labels=0), "CartPole-v1", backend, expert=str(expert), seed=3,
        total_steps=192, num_envs=4, eval_every=64, eval_episodes=2,
    )  # fmt: skip
    whole = launch(asks, out=tmp_path / "whole")
    with pytest.raises(Stop):
        launch(asks, out=tmp_path / "stopped", watchers=[StopsAfter(5)])
    stopped = run_below(tmp_path / "stopped")
    assert menura.load(stopped / "demonstrations.npz").num_steps == 128
    same_numbers(whole, resume(stopped))
    answers = [menura.load(run / "demonstrations.npz") for run in (whole, stopped)]
    assert answers[0].num_steps == 192
    assert answers[0].content_hash() == answers[1].content_hash()
    # The labels are what the expert does in each state, and its run says how well it does.
    policy, _ = load_policy(expert)
    for episode in answers[0].episodes:
        np.testing.assert_array_equal(episode.actions, jax.vmap(policy)(jnp.asarray(episode.obs[:-1])))
    results = [json.loads((run / "result.json").read_text()) for run in (whole, expert)]
    assert results[0]["expert_return"] == results[1]["mean_return"]


def test_another_expert_than_at_the_start_is_refused_on_resume(tmp_path, never_stopped):
    expert = tmp_path / "expert"
    shutil.copytree(never_stopped("ppo")[0], expert)
    asks = Request(
        dataclasses.replace(SMALL["dagger"], max_labels=0), "CartPole-v1", "jax", expert=str(expert), num_envs=4,
        total_steps=64,
    )  # fmt: skip
    with pytest.raises(Stop):
        launch(asks, out=tmp_path / "stopped", watchers=[StopsAfter(1)])
    write_bytes(expert / "checkpoints" / "last", b"128\n")
    with pytest.raises(RequestError, match="put that one back"):
        resume(run_below(tmp_path / "stopped"))
    with pytest.raises(RequestError, match="not like in shape"):
        launch(dataclasses.replace(asks, env="Acrobot-v1"), out=tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_what_a_replay_holds_is_resumed_too(demos, tmp_path, never_stopped):
    whole, state = never_stopped("gail-sac-standardized")
    # So are the statistics of observations, which hold all steps ever seen.
    assert int(state.forward.policy.norm.count) == int(state.forward.num_seen)
    # More steps than it holds: the ring has come round.
    assert int(state.forward.num_seen) > int(state.forward.replay.size) == state.forward.replay.capacity
    with pytest.raises(Stop):
        launch(request("gail-sac-standardized", "jax", demos), out=tmp_path / "stopped", watchers=[StopsAfter(10)])
    (stopped,) = (tmp_path / "stopped").rglob("config.json")
    same_numbers(whole, resume(stopped.parent))


def run_below(out: Path) -> Path:
    (config,) = out.rglob("config.json")
    return config.parent


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_program_stopped_by_ctrl_c_then_killed_resumes_to_the_numbers_of_one_left_alone(tmp_path):
    options = ["ppo", "CartPole-v1", "--total-steps", "10240", "--eval-every", "2048", "--eval-episodes", "2"]
    options += ["--num-envs", "4", "--num-steps", "64", "--hidden-sizes", "8"]
    # Of their own, because a program killed while it writes a compiled one leaves a torn file.
    environ = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "compiled")}

    def begin(*arguments):
        command = [sys.executable, "-m", "menura", "train", *arguments, "--logger", "csv"]
        return subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    # Not rglob, which trips over a checkpoint that is renamed while it looks.
    def checkpoints():
        return {path.read_text() for path in (tmp_path / "stopped").glob("*/*/*/checkpoints/last")}

    def stop_at_the_next_checkpoint(process, how):
        before, deadline = checkpoints(), time.monotonic() + 120
        while checkpoints() == before:
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.002)
        process.send_signal(how)
        process.communicate()
        assert not list((tmp_path / "stopped").glob("*/*/*/result.json")), "stopped too late to show anything"
        return process.returncode

    def finish(process):
        _, said = process.communicate()
        assert process.returncode == 0, said

    finish(begin(*options, "--out", str(tmp_path / "whole")))
    assert stop_at_the_next_checkpoint(begin(*options, "--out", str(tmp_path / "stopped")), signal.SIGINT) == 1
    stopped = run_below(tmp_path / "stopped")
    assert stop_at_the_next_checkpoint(begin("--resume", str(stopped)), signal.SIGKILL) == -signal.SIGKILL
    finish(begin("--resume", str(stopped)))
    same_numbers(run_below(tmp_path / "whole"), stopped)


def test_a_run_folder_holds_what_is_promised(never_stopped):
    run, _ = never_stopped("gail")
    assert run.name.endswith("-s3")
    names = {path.name for path in run.iterdir()}
    assert names >= {"config.json", "command.txt", "meta.json", "metrics.csv", "evaluations.csv", "tb", "checkpoints"}
    config = json.loads((run / "config.json").read_text())
    assert config["algorithm"] == "gail"
    assert config["learner"]["forward"]["type"] == "TRPO"
    meta = json.loads((run / "meta.json").read_text())
    assert meta["versions"]["jax"]
    assert len(meta["data_sha256"]) == 64
    result = json.loads((run / "result.json").read_text())
    fields = "env algorithm checkpoint episodes mean_return std_return ci95 mean_length random_return expert_return "
    fields += "normalized wall_seconds env_steps steps_per_second"
    assert result.keys() >= set(fields.split())
    assert result["checkpoint"] == result["env_steps"] == TOTAL
    assert {int(p.name) for p in (run / "checkpoints").glob("[0-9]*")} == {128, 256, 384, 512}
    # The best checkpoint is the one with the highest evaluation.
    header, *rows = table(run / "evaluations.csv")
    returns = {int(row[header.index("env_steps")]): float(row[header.index("mean_return")]) for row in rows}
    best = int(checkpoint_dir(run, "best").name)
    assert returns[best] == max(returns.values())
    # Evaluating again gives the numbers in result.json.
    again = evaluate_run(run)
    assert again == {name: result[name] for name in again}


def test_a_saved_policy_acts_as_the_one_that_was_trained(never_stopped):
    run, state = never_stopped("ppo")
    policy, _ = load_policy(run)
    obs = jnp.array([0.01, -0.2, 0.03, 0.5])
    want = SMALL["ppo"].final_policy(state).distribution(obs).logits
    np.testing.assert_array_equal(policy.distribution(obs).logits, want)


def test_a_finished_run_is_not_resumed(never_stopped):
    run, _ = never_stopped("bc")
    with pytest.raises(RequestError, match="finished"):
        resume(run)


def test_other_demonstrations_than_at_the_start_are_refused_on_resume(demos, tmp_path):
    copy = tmp_path / "copy.npz"
    copy.write_bytes(demos.read_bytes())
    with pytest.raises(Stop):
        launch(request("bc", "jax", copy), out=tmp_path / "runs", watchers=[StopsAfter(1)])
    env = make("CartPole-v1", num_envs=4)
    save(record(env, UniformPolicy(env.spec), 6, seed=1, deterministic=False), copy, overwrite=True)
    (config,) = (tmp_path / "runs").rglob("config.json")
    with pytest.raises(RequestError, match="put that one back"):
        resume(config.parent)


def test_files_are_replaced_all_at_once(tmp_path):
    path = tmp_path / "file"
    write_bytes(path, b"old")
    with pytest.raises(TypeError):
        write_bytes(path, "not bytes")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_table_forgets_rows_past_a_step_and_a_torn_last_line(tmp_path):
    rows = Table(tmp_path / "t.csv")
    for step in (10, 20, 30):
        rows.append({"env_steps": step, "x": step / 10})
    with (tmp_path / "t.csv").open("a") as file:
        file.write("20,2")
    Table(tmp_path / "t.csv").keep_until(20)
    assert (tmp_path / "t.csv").read_text().splitlines() == ["env_steps,x", "10,1", "20,2"]


def test_short_episodes_are_not_counted_more_often_than_long_ones():
    """Half of the copies end at once: an average over whichever episodes end first would be far too low."""
    env = make("CartPole-v1", num_envs=8)
    result = evaluate(env, UniformPolicy(env.spec), num_episodes=24, deterministic=False)
    assert len(result.returns) == 24
    np.testing.assert_array_equal(result.returns, result.lengths)


def test_normalized_scores_by_hand():
    assert normalized(60.0, 10.0, 110.0) == 0.5
    assert np.isnan(normalized(60.0, 10.0, float("nan")))


def test_cloning_without_an_environment_takes_its_shapes_from_the_data(demos):
    spec = spec_of_demos(menura.load(demos))
    assert spec == make("CartPole-v1").spec
