"""Several seeds of one request: each must be the run that it would have been alone."""

import dataclasses
import json
import signal
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from menura.core import ExpertData, RequestError
from menura.networks import RunningNorm, mean_of_rows
from menura.run.artifacts import load_state
from menura.run.folder import latest_exact
from menura.run.launch import begin, launch, prepare, resume
from menura.run.request import Request
from menura.run.sweep import filled_experts, launch_seeds, seeds_of, train_together
from menura.run.train import Watcher
from tests.learners import SMALL, SPECS, random_transitions

SEEDS = (3, 1, 2)


def request(algorithm, demos, **changes):
    whole = Request(
        SMALL[algorithm], "CartPole-v1", demos=demos, subsample=7, total_steps=128, num_envs=4, eval_every=64,
        eval_episodes=2,
    )  # fmt: skip
    return dataclasses.replace(whole, **changes)


def columns(path):
    """Numbers of a CSV by column, without the wall clock's."""
    header, *rows = [line.split(",") for line in path.read_text().splitlines()]
    return {
        name: np.array([float(row[i] or "nan") for row in rows])
        for i, name in enumerate(header)
        if "seconds" not in name
    }


@pytest.fixture(scope="module")
def alone(demos, tmp_path_factory):
    """Seed 2 of GAIL by itself."""
    return launch(request("gail", demos, seed=2), out=tmp_path_factory.mktemp("alone"), loggers=["csv"])


@pytest.fixture(scope="module")
def together(demos, tmp_path_factory):
    """Three seeds of GAIL, trained at once."""
    return launch_seeds(request("gail", demos), SEEDS, out=tmp_path_factory.mktemp("together"), loggers=["csv"])


def same_run(run, alone, **tolerance):
    for path in alone.glob("*.csv"):
        ours, theirs = columns(run / path.name), columns(path)
        assert ours.keys() == theirs.keys()
        for column in ours:
            np.testing.assert_allclose(ours[column], theirs[column], **tolerance, err_msg=column)
    for a, b in zip(*(jax.tree.leaves(load_state(folder)[1]) for folder in (run, alone)), strict=True):
        np.testing.assert_allclose(a, b, **tolerance)
    ours, theirs = (json.loads((folder / "result.json").read_text()) for folder in (run, alone))
    assert ours.keys() == theirs.keys()
    np.testing.assert_allclose(ours["mean_return"], theirs["mean_return"], **tolerance)
    assert (ours["seed"], ours["random_return"]) == (2, theirs["random_return"])


def test_a_seed_among_several_is_the_run_that_it_would_be_alone(alone, together):
    run = together[SEEDS.index(2)]
    assert run.name.endswith("-s2")
    assert json.loads((run / "config.json").read_text()) == json.loads((alone / "config.json").read_text())
    assert {path.name for path in run.rglob("*")} == {path.name for path in alone.rglob("*")}
    same_run(run, alone, rtol=1e-4, atol=1e-4)


def test_a_vmapped_seed_is_the_run_that_it_would_be_alone(demos, tmp_path, alone):
    prepared = [prepare(request("gail", demos, seed=seed)) for seed in SEEDS]
    runs = [begin(one, tmp_path) for one in prepared]
    train_together(runs, prepared, vmapped=True)
    same_run(runs[SEEDS.index(2)], alone, rtol=1e-4, atol=1e-4)


def test_where_all_seeds_keep_equally_many_steps_they_are_those_alone_to_the_bit(tmp_path):
    wanted = Request(SMALL["ppo"], "CartPole-v1", total_steps=64, num_envs=4)
    runs = launch_seeds(wanted, (1, 2), out=tmp_path / "together", loggers=["csv"])
    same_run(runs[1], launch(dataclasses.replace(wanted, seed=2), out=tmp_path / "alone", loggers=["csv"]), rtol=0)


def test_every_seed_keeps_its_own_steps_of_the_demonstrations(demos):
    from menura.run.request import load_demos

    kept = [load_demos(request("gail", demos, seed=seed)).kept for seed in SEEDS]
    assert len({tuple(np.concatenate(steps)) for steps in kept}) == len(SEEDS)


def test_seeds_are_different_runs(together):
    finals = [columns(run / "metrics.csv")["score/loss"][-1] for run in together]
    assert len(set(finals)) == len(SEEDS)


def test_what_fills_up_fewer_rows_is_not_counted(rng):
    values = jnp.asarray(rng.normal(size=(5, 3)), jnp.float32)
    filled = jnp.concatenate([values, 100 + values])
    np.testing.assert_allclose(mean_of_rows(filled, jnp.asarray(5)), jnp.mean(values, axis=0), rtol=1e-6)
    ours, theirs = RunningNorm(3).add(filled, jnp.asarray(5)), RunningNorm(3).add(values)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


@pytest.mark.parametrize("name", ["gail", "airl", "sqil", "bc"])
def test_demonstrations_of_different_sizes_teach_what_they_teach_alone(name):
    learner, spec = SMALL[name], SPECS["discrete"]
    if hasattr(learner, "heldout_fraction"):
        learner = dataclasses.replace(learner, heldout_fraction=0.1)
    experts = [
        ExpertData(random_transitions(spec, (11,), 1), random_transitions(spec, (4,), 2), np.asarray(0.1, np.float32)),
        ExpertData(random_transitions(spec, (17,), 3), random_transitions(spec, (2,), 4), np.asarray(0.2, np.float32)),
    ]
    filled = filled_experts(experts)[0]
    assert (filled.train.obs.shape[0], filled.heldout.obs.shape[0]) == (17, 4)
    state = learner.init(spec, key=jax.random.key(0))
    rollout = random_transitions(spec, (8, 4), 5)
    update = jax.jit(lambda expert: learner.update(state, rollout, expert, key=jax.random.key(1)))
    ours, theirs = (update(jax.tree.map(jnp.asarray, expert)) for expert in (filled, experts[0]))
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


class InterruptsAt(Watcher):
    """Ctrl-C at one update of one seed."""

    def __init__(self, update):
        self.left = update

    def on_update(self, progress, metrics):
        self.left -= 1
        if self.left == 0:
            signal.raise_signal(signal.SIGINT)


def test_ctrl_c_saves_every_seed_and_each_goes_on_alone(demos, tmp_path, together):
    assert threading.current_thread() is threading.main_thread()
    watchers = {3: Watcher(), 1: InterruptsAt(3), 2: Watcher()}
    with pytest.raises(KeyboardInterrupt, match="resume") as stop:
        launch_seeds(
            request("gail", demos), SEEDS, out=tmp_path, loggers=["csv"], watcher_of=lambda seed: watchers[seed]
        )
    runs = sorted(tmp_path.glob("*/*/*"))
    assert [str(stop.value).count(str(run)) for run in runs] == [1, 1, 1]
    assert all(latest_exact(run) is not None and not (run / "result.json").exists() for run in runs)
    (run,) = [run for run in runs if run.name.endswith("-s1")]
    resumed = resume(run, loggers=["csv"])
    whole = together[SEEDS.index(1)]
    for column, values in columns(whole / "metrics.csv").items():
        np.testing.assert_allclose(
            columns(resumed / "metrics.csv")[column], values, rtol=1e-4, atol=1e-4, err_msg=column
        )


def test_a_seed_that_fails_does_not_take_the_others_with_it(demos, tmp_path):
    class Fails(Watcher):
        def on_update(self, progress, metrics):
            raise FloatingPointError("score/loss is nan")

    watchers = {0: Watcher(), 1: Fails()}
    with pytest.raises(FloatingPointError, match="nan") as failed:
        launch_seeds(
            request("bc", demos), (0, 1), out=tmp_path, loggers=["csv"], watcher_of=lambda seed: watchers[seed]
        )
    (result,) = tmp_path.glob("*/*/*/result.json")
    assert result.parent.name[-3:] == "-s0"
    assert f"{result.parent} has finished." in str(failed.value)


def test_a_seed_on_a_simulator_is_a_process_and_the_run_that_it_would_be_alone(tmp_path):
    wanted = Request(SMALL["ppo"], "CartPole-v1", backend="gymnasium", total_steps=64, num_envs=4)
    said = []
    (run,) = launch_seeds(wanted, (2,), out=tmp_path / "together", loggers=["csv"], jobs=1, say=said.append)
    assert run.name.endswith("-s2")
    assert not [line for line in said if "Error" in line]
    same_run(run, launch(dataclasses.replace(wanted, seed=2), out=tmp_path / "alone", loggers=["csv"]), rtol=0)


@pytest.mark.parametrize(
    ("text", "seeds"), [("0..3", (0, 1, 2, 3)), ("0,3,5", (0, 3, 5)), ("7", (7,)), ("1,4..5", (1, 4, 5))]
)
def test_seeds_are_ranges_and_lists(text, seeds):
    assert seeds_of(text) == seeds


@pytest.mark.parametrize("text", ["", "3..1", "a", "0..", "1,1", "-2..0"])
def test_seeds_that_are_none_are_refused_with_an_example(text):
    with pytest.raises(RequestError, match="--seeds"):
        seeds_of(text)
