"""Reading a run: what it is read by was never learned from, and decides nothing that is learned."""

import csv
import dataclasses
import json
import math
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from menura.core import RequestError
from menura.demonstrations.heldout import left_out, sampled_steps
from menura.demonstrations.readers import load
from menura.environments import make
from menura.evaluation import UniformPolicy, evaluate
from menura.imitation.proxies import squared_mmd
from menura.imitation.rules import best_in
from menura.regularizers import AIRLLink, FeatureExpectation, JensenShannon, Wasserstein
from menura.run import train as loop
from menura.run.artifacts import checkpoint_dir, load_state
from menura.run.launch import launch, prepare, resume
from menura.run.reading import READ_STEPS, make_reader
from menura.run.request import Request, load_parts
from menura.run.train import Watcher
from tests.contracts.test_runs import Stop, StopsAfter, same_numbers
from tests.learners import SMALL, SPECS, expert_data, random_transitions

GAIL = SMALL["gail"]


def request(demos, **changes):
    asked = Request(
        GAIL,
        "CartPole-v1",
        backend="jax",
        demos=demos,
        num_demos=2,
        total_steps=256,
        num_envs=4,
        eval_every=64,
        eval_episodes=2,
        seed=3,
    )
    return dataclasses.replace(asked, **changes)


@pytest.fixture(scope="module")
def whole(demos, tmp_path_factory):
    """A run that is read by the episodes that it was not given."""
    return launch(request(demos), out=tmp_path_factory.mktemp("read"))


def columns(run):
    with (run / "evaluations.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([float(row[name] or "nan") for row in rows]) for name in rows[0]}


@pytest.mark.parametrize(
    ("num_demos", "subsample", "by"),
    [(2, 1, "num_demos"), (2, 3, "num_demos"), (6, 3, "subsample"), (None, 3, "subsample")],
)
def test_what_a_run_is_read_by_is_none_of_the_steps_it_learns_from(demos, num_demos, subsample, by):
    asked = request(demos, num_demos=num_demos, subsample=subsample)
    used, heldout = load_parts(asked)
    spec = make("CartPole-v1").spec
    seen, kept = (np.asarray(part.flatten(spec).obs) for part in (used, heldout))
    assert len(kept) > 0
    # Random episodes begin at random: no two of their observations are alike.
    assert not {row.tobytes() for row in seen} & {row.tobytes() for row in kept}
    file = load(demos)
    rest = file.num_transitions - (used.num_transitions if by == "subsample" else file.take(2).num_transitions)
    assert len(kept) == rest
    assert prepare(asked).config["heldout"] == by


def test_without_an_option_that_leaves_steps_nothing_is_held_out(demos):
    used, heldout = load_parts(request(demos, num_demos=None))
    assert heldout is None
    assert left_out(load(demos), used) is None
    assert prepare(request(demos, num_demos=None)).config["heldout"] is None
    fraction = dataclasses.replace(GAIL, heldout_fraction=0.3)
    assert prepare(request(demos, num_demos=None, learner=fraction)).config["heldout"] == "heldout_fraction"


def test_sampled_steps_are_distinct_seeded_and_of_all_episodes(demos):
    file = load(demos)
    spec = make("CartPole-v1").spec
    few, again, others = (sampled_steps(file, 40, seed=seed).flatten(spec).obs for seed in (0, 0, 1))
    assert len(np.unique(few, axis=0)) == len(few) == 40
    np.testing.assert_array_equal(few, again)
    assert not np.array_equal(few, others)
    assert sampled_steps(file, 10**6, seed=0) is file


def test_held_out_steps_change_no_number_of_training(demos, whole):
    file = load(demos)
    env, eval_env = make("CartPole-v1", num_envs=4), make("CartPole-v1", num_envs=2)
    runs = [
        loop.train(GAIL, env, file.take(2), total_steps=256, seed=3, eval_env=eval_env, eval_every=64, heldout=heldout)
        for heldout in (None, file.select([2, 3]))
    ]
    _, read, _ = load_state(whole)
    for a, b, c in zip(*map(jax.tree.leaves, (runs[0].state, runs[1].state, read)), strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)


def test_proxies_follow_the_held_out_steps_and_no_reward():
    spec = SPECS["box"]
    state = GAIL.init(spec, key=jax.random.key(0))
    policy = GAIL.final_policy(state)
    steps = random_transitions(spec, (50,), 5)

    def read(heldout_seed, reward):
        data = dataclasses.replace(expert_data(spec), heldout=random_transitions(spec, (60,), heldout_seed))
        data = jax.tree.map(jnp.asarray, data)
        reader = make_reader(GAIL, spec, data, None, seed=0)
        return reader.read(state, policy, policy, dataclasses.replace(steps, reward=steps.reward * reward))

    one, same, other = read(7, 1.0), read(7, math.nan), read(8, 1.0)
    # Which of the rows are whose episode is not known here.
    assert all(math.isnan(found.pop("proxy/mmd_expert")) for found in (one, same, other))
    assert one == same
    assert {name for name in one if one[name] == other[name]} == {
        "proxy/moved", "proxy/saturation", "proxy/score_learner", "proxy/score_train"
    }  # fmt: skip
    assert one["proxy/moved"] == 0
    train = expert_data(spec).train
    by_hand = jax.vmap(state.score)(random_transitions(spec, (60,), 7).obs, random_transitions(spec, (60,), 7).action)
    assert one["proxy/score_heldout"] == pytest.approx(float(jnp.mean(by_hand)), abs=1e-6)
    of_train = jax.vmap(state.score)(train.obs, train.action)
    assert one["proxy/score_train"] == pytest.approx(float(jnp.mean(of_train)), abs=1e-6)


def test_columns_that_mean_nothing_of_a_score_are_missing():
    spec = SPECS["box"]

    def read(regularizer):
        gail = dataclasses.replace(GAIL, regularizer=regularizer)
        state = gail.init(spec, key=jax.random.key(0))
        data = dataclasses.replace(expert_data(spec), heldout=random_transitions(spec, (60,), 7))
        reader = make_reader(gail, spec, jax.tree.map(jnp.asarray, data), None, seed=0)
        return reader.read(state, gail.final_policy(state), None, random_transitions(spec, (50,), 5))

    of_js, of_links, of_wasserstein, of_fem = map(
        read, (JensenShannon(), AIRLLink(), Wasserstein(), FeatureExpectation())
    )
    assert {"proxy/saturation", "proxy/score_std"} <= of_js.keys()
    assert of_links.keys() == of_js.keys()
    assert of_js.keys() - of_wasserstein.keys() == {"proxy/saturation"}
    assert of_js.keys() - of_fem.keys() == {"proxy/saturation", "proxy/score_std"}


@pytest.mark.parametrize(("num_demos", "subsample", "known"), [(2, 1, True), (5, 1, False), (6, 3, True)])
def test_an_expert_is_some_way_from_itself_where_there_are_several_episodes(demos, num_demos, subsample, known):
    asked = request(demos, num_demos=num_demos, subsample=subsample)
    used, heldout = load_parts(asked)
    spec = make("CartPole-v1").spec
    data = jax.tree.map(jnp.asarray, used.expert_data(spec))
    reader = make_reader(GAIL, spec, data, heldout, seed=0)
    state = GAIL.init(spec, key=jax.random.key(0))
    read = reader.read(state, GAIL.final_policy(state), None, random_transitions(spec, (50,), 5))
    assert math.isfinite(read["proxy/mmd_expert"]) == known
    if num_demos == 2:
        # Four episodes are left: two and two.
        parts = [heldout.select(half).flatten(spec) for half in ((0, 1), (2, 3))]
        by_hand = squared_mmd(*map(reader._space.points, parts), bandwidth=reader._bandwidth)
        assert read["proxy/mmd_expert"] == pytest.approx(by_hand)


def test_few_steps_say_nothing_of_whether_actions_are_random():
    spec = SPECS["discrete"]

    def p_value(num_steps):
        heldout = random_transitions(spec, (num_steps,), 7)
        data = jax.tree.map(jnp.asarray, dataclasses.replace(expert_data(spec), heldout=heldout))
        reader = make_reader(GAIL, spec, data, None, seed=0)
        state = GAIL.init(spec, key=jax.random.key(0))
        read = reader.read(state, GAIL.final_policy(state), None, random_transitions(spec, (50,), 5))
        return read["proxy/action_p_value"]

    assert math.isnan(p_value(49))
    assert p_value(50) > 0


def test_steps_of_the_held_out_expert_itself_are_at_no_distance():
    spec = SPECS["discrete"]
    state = GAIL.init(spec, key=jax.random.key(0))
    data = jax.tree.map(
        jnp.asarray, dataclasses.replace(expert_data(spec), heldout=random_transitions(spec, (400,), 7))
    )
    reader = make_reader(GAIL, spec, data, None, seed=0)
    policy = GAIL.final_policy(state)
    near = reader.read(state, policy, None, random_transitions(spec, (400,), 9))
    far = random_transitions(spec, (400,), 9)
    far = reader.read(state, policy, None, dataclasses.replace(far, obs=far.obs + 1))
    assert abs(near["proxy/mmd"]) < 0.01 < 0.1 < far["proxy/mmd"]
    assert 0.4 < near["proxy/told_apart"] < 0.6
    assert math.isnan(near["proxy/moved"])


def test_an_evaluation_keeps_steps_of_its_own_episodes_only():
    env = make("CartPole-v1", num_envs=3)
    plain = evaluate(env, UniformPolicy(env.spec), num_episodes=5, seed=1)
    kept = evaluate(env, UniformPolicy(env.spec), num_episodes=5, seed=1, keep_steps=10**6)
    np.testing.assert_array_equal(plain.returns, kept.returns)
    assert plain.steps is None
    assert len(kept.steps.obs) == kept.lengths.sum()
    assert kept.steps.terminated.sum() == 5
    few = evaluate(env, UniformPolicy(env.spec), num_episodes=5, seed=1, keep_steps=20)
    assert len(few.steps.obs) == 20
    everything = {row.tobytes() for row in kept.steps.obs}
    assert {row.tobytes() for row in few.steps.obs} <= everything


def test_every_evaluation_has_its_proxies_and_the_best_checkpoint_follows_them(whole):
    found = columns(whole)
    assert len(found["proxy/mmd"]) == 4
    for name in ("mmd", "mmd_expert", "heldout_loss", "score_heldout", "told_apart", "memorized", "action_p_value"):
        assert np.all(np.isfinite(found[f"proxy/{name}"])), name
    assert math.isnan(found["proxy/moved"][0])
    assert np.all(found["proxy/moved"][1:] > 0)
    assert json.loads((whole / "config.json").read_text())["heldout"] == "num_demos"
    assert int(checkpoint_dir(whole, "best").name) == best_in(found)


class Interrupts(Watcher):
    """Presses Ctrl-C in an update between two evaluations."""

    def on_update(self, progress, metrics):
        if progress.iteration == 5:
            signal.raise_signal(signal.SIGINT)


def test_a_run_stopped_between_two_evaluations_is_read_as_one_never_stopped(demos, whole, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        launch(request(demos), out=tmp_path, watchers=[Interrupts()])
    (config,) = tmp_path.rglob("config.json")
    same_numbers(whole, resume(config.parent))


def test_a_run_that_has_converged_stops_at_that_checkpoint_also_after_a_stop(demos, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "converged", lambda readings: len(readings) >= 2)
    asked = request(demos, stop_when_converged=True, learner=SMALL["bc"], total_steps=512)
    alone = launch(asked, out=tmp_path / "alone")
    result = json.loads((alone / "result.json").read_text())
    assert result["converged"]
    assert result["checkpoint"] == 128
    with pytest.raises(Stop):
        launch(asked, out=tmp_path / "stopped", watchers=[StopsAfter(3)])
    (config,) = (tmp_path / "stopped").rglob("config.json")
    same_numbers(alone, resume(config.parent))


@pytest.mark.parametrize("changes", [{"num_demos": None}, {"eval_every": 0}, {"learner": SMALL["ppo"]}])
def test_a_run_that_cannot_be_read_cannot_stop_when_converged(demos, changes):
    asked = request(None if "learner" in changes else demos, stop_when_converged=True, **changes)
    with pytest.raises(RequestError, match="--num-demos, --subsample or --heldout-fraction"):
        prepare(asked)


@pytest.mark.parametrize(
    ("changes", "number"),
    [
        ({}, 4),
        # An update of 128 expert steps is as often as it can be evaluated.
        ({"eval_every": 10, "learner": dataclasses.replace(SMALL["bc"], batch_size=32)}, 2),
        ({"total_steps": 330, "eval_every": 70}, 5),
    ],
)
def test_a_run_with_fewer_evaluations_than_the_rule_looks_at_is_not_begun(changes, number, demos, tmp_path):
    with pytest.raises(RequestError, match=f"6 evaluations or more, and this one has {number}: lower --eval-every"):
        launch(request(demos, stop_when_converged=True, **changes), out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_six_evaluations_are_enough_to_begin_with(demos, tmp_path):
    launch(request(demos, stop_when_converged=True, total_steps=180, eval_every=32), out=tmp_path)


def test_at_most_a_fixed_number_of_steps_is_read():
    assert READ_STEPS == 1024
