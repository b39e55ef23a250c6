"""Run folders: what they hold, and that a run which was stopped ends with the numbers of one that was not."""

import json
import os
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
from menura.run.launch import Request, evaluate_run, launch, normalized, resume, spec_of_demos
from menura.run.train import Watcher
from tests.learners import SMALL

TOTAL, EVERY = 512, 128


def request(algorithm, backend, demos):
    return Request(
        SMALL[algorithm],
        "CartPole-v1",
        backend=backend,
        demos=demos if algorithm in ("bc", "gail") else None,
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
def test_a_stopped_and_resumed_run_ends_with_the_numbers_of_one_never_stopped(algorithm, backend, demos, tmp_path):
    if backend == "envpool":
        pytest.importorskip("envpool")
    whole = launch(request(algorithm, backend, demos), out=tmp_path / "whole")
    with pytest.raises(Stop):
        launch(request(algorithm, backend, demos), out=tmp_path / "stopped", watchers=[StopsAfter(10)])
    (stopped,) = (tmp_path / "stopped").rglob("config.json")
    assert latest_exact(stopped.parent) is not None
    assert len(table(stopped.parent / "metrics.csv")) == 1 + 10
    resumed = resume(stopped.parent)
    same_numbers(whole, resumed)


def test_a_run_stopped_before_its_first_checkpoint_begins_again(demos, tmp_path):
    whole = launch(request("gail", "jax", demos), out=tmp_path / "whole")
    with pytest.raises(Stop):
        launch(request("gail", "jax", demos), out=tmp_path / "stopped", watchers=[StopsAfter(2)])
    (stopped,) = (tmp_path / "stopped").rglob("config.json")
    same_numbers(whole, resume(stopped.parent))


def test_cloning_resumes_too(demos, tmp_path):
    whole = launch(request("bc", "jax", demos), out=tmp_path / "whole")
    with pytest.raises(Stop):
        launch(request("bc", "jax", demos), out=tmp_path / "stopped", watchers=[StopsAfter(7)])
    (stopped,) = (tmp_path / "stopped").rglob("config.json")
    same_numbers(whole, resume(stopped.parent))


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["kill -9", "Ctrl-C"])
def test_a_killed_program_resumes_to_the_numbers_of_one_never_killed(how, demos, tmp_path):
    def command(*arguments):
        return [sys.executable, "-m", "menura", "train", *arguments]

    options = ["gail", "CartPole-v1", "--demos", str(demos), "--total-steps", "40000", "--eval-every", "4000"]
    options += ["--eval-episodes", "2", "--num-envs", "4", "--forward.hidden-sizes", "8", "--hidden-sizes", "8"]
    options += ["--logger", "csv"]
    subprocess.run(command(*options, "--out", str(tmp_path / "whole")), check=True, capture_output=True)
    (whole,) = (tmp_path / "whole").rglob("config.json")
    process = subprocess.Popen(
        command(*options, "--out", str(tmp_path / "killed")), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 120
    while not list((tmp_path / "killed").rglob("checkpoints/last")):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(how)
    process.communicate()
    assert process.returncode == (-9 if how == signal.SIGKILL else 1)
    (killed,) = (tmp_path / "killed").rglob("config.json")
    assert not (killed.parent / "result.json").exists(), "killed too late to show anything"
    subprocess.run(command("--resume", str(killed.parent), "--logger", "csv"), check=True, capture_output=True)
    same_numbers(whole.parent, killed.parent)


def test_a_run_folder_holds_what_is_promised(demos, tmp_path):
    run = launch(request("gail", "jax", demos), out=tmp_path)
    assert run.parent == tmp_path / "CartPole-v1" / "gail"
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


def test_a_saved_policy_acts_as_the_one_that_was_trained(demos, tmp_path):
    class Keeps(Watcher):
        def on_checkpoint(self, checkpoint, *, is_best, exact):
            self.state = checkpoint.state

    keeps = Keeps()
    run = launch(request("ppo", "jax", demos), out=tmp_path, watchers=[keeps])
    policy, _ = load_policy(run)
    obs = jnp.array([0.01, -0.2, 0.03, 0.5])
    want = SMALL["ppo"].final_policy(keeps.state).distribution(obs).logits
    np.testing.assert_array_equal(policy.distribution(obs).logits, want)


def test_a_finished_run_is_not_resumed(demos, tmp_path):
    run = launch(request("bc", "jax", demos), out=tmp_path)
    with pytest.raises(RequestError, match="finished"):
        resume(run)


def test_other_demonstrations_than_at_the_start_are_refused_on_resume(demos, tmp_path):
    copy = tmp_path / "copy.npz"
    copy.write_bytes(demos.read_bytes())
    with pytest.raises(Stop):
        launch(request("gail", "jax", copy), out=tmp_path / "runs", watchers=[StopsAfter(10)])
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
