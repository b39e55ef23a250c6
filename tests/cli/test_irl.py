"""``menura irl``: what it prints, and how it refuses."""

import json

import numpy as np
import pytest
from numpy.testing import assert_allclose

from menura.commands.irl import main
from menura.core import RequestError
from menura.environments.tabular import TabularMDP
from menura.irl import Paths

KEYS = {
    "theta", "standard_errors", "log_likelihood", "gradient_norm", "feature_expectations", "num_states",
    "num_transitions", "iterations", "evaluations", "seconds", "seconds_per_evaluation", "compile_seconds",
}  # fmt: skip


def corridor(**changes):
    """Four cells in a row; action 1 walks right and slips back one time in five; the last is terminal."""
    rows = []
    for s in range(3):
        rows += [(s, 0, max(s - 1, 0), 1.0), (s, 1, s + 1, 0.8), (s, 1, max(s - 1, 0), 0.2)]
    state, action, next_state, probability = (np.array(x) for x in zip(*rows, strict=True))
    arrays = dict(
        state=state, action=action, next_state=next_state, probability=probability, num_states=4, num_actions=2,
        state_features=np.array([[1.0, 0], [1, 1], [1, 0], [0, 0]]), feature_names=np.array(["step", "middle"]),
        discount=1.0, terminal=np.array([3]),
    )  # fmt: skip
    arrays.update(changes)
    return {name: value for name, value in arrays.items() if value is not None}


def demos(**changes):
    arrays = dict(
        states=np.array([0, 1, 2, 0, 0, 1, 0, 1, 2]), actions=np.array([1, 1, 1, 0, 1, 1, 1, 1, 1]),
        episode_lengths=np.array([3, 6]), final_states=np.array([3, 3]),
    )  # fmt: skip
    arrays.update(changes)
    return {name: value for name, value in arrays.items() if value is not None}


@pytest.fixture
def run(tmp_path, capsys):
    def call(command, *options, mdp=None, paths=None):
        np.savez(tmp_path / "mdp.npz", **(corridor() if mdp is None else mdp))
        np.savez(tmp_path / "demos.npz", **(demos() if paths is None else paths))
        main([command, "--mdp", str(tmp_path / "mdp.npz"), "--demos", str(tmp_path / "demos.npz"), "--json", *options])
        return json.loads(capsys.readouterr().out)

    return call


@pytest.mark.parametrize("command", ["maxent", "mce"])
def test_a_fit_prints_every_field_and_ends_where_the_gradient_is_zero(run, command):
    said = run(command)
    assert said.keys() >= KEYS
    assert said["theta"].keys() == {"step", "middle"}
    assert said["gradient_norm"] < 1e-6
    again = run(command, "--at", ",".join(map(repr, said["theta"].values())))
    assert again["iterations"] == 0
    assert_allclose(again["log_likelihood"], said["log_likelihood"], rtol=1e-12)
    elsewhere = run(command, "--at=-1,0.1")
    assert elsewhere["log_likelihood"] < said["log_likelihood"]


def test_feature_matching_prints_a_duality_gap_and_equal_features(run):
    said = run("mce", "--match", "features", mdp=corridor(discount=None, horizon=8))
    assert said["duality_gap"] < 1e-8
    expected = said["feature_expectations"]
    assert_allclose(list(expected["expert"].values()), list(expected["learner"].values()), atol=1e-8)


def test_the_saved_estimate_is_read_back_exactly(run, tmp_path):
    from menura.irl.estimate import load_estimate

    said = run("mce", "--out", str(tmp_path / "fit"))
    read, theta, mdp, paths = load_estimate(tmp_path / "fit")
    assert read["theta"] == said["theta"] == dict(zip(mdp.feature_names, theta.tolist(), strict=True))
    assert paths.num_paths == 2


def test_a_csv_panel_is_read_as_demonstrations(tmp_path, capsys):
    np.savez(tmp_path / "mdp.npz", **corridor())
    panel = "individual,time,state,action\nb,1,1,1\nb,0,0,1\nb,2,2,1\na,0,0,1\na,1,1,1\na,2,2,1\n"
    (tmp_path / "panel.csv").write_text(panel)
    main(["mce", "--mdp", str(tmp_path / "mdp.npz"), "--demos", str(tmp_path / "panel.csv"), "--at=-1,0", "--json"])
    from_panel = json.loads(capsys.readouterr().out)
    np.savez(tmp_path / "demos.npz", states=[0, 1, 2] * 2, actions=[1] * 6, episode_lengths=[3, 3])
    main(["mce", "--mdp", str(tmp_path / "mdp.npz"), "--demos", str(tmp_path / "demos.npz"), "--at=-1,0", "--json"])
    assert json.loads(capsys.readouterr().out)["log_likelihood"] == from_panel["log_likelihood"]


BAD_PROBLEMS = {
    "sum to 0.9": dict(probability=np.array([1, 0.8, 0.1] + [1, 0.8, 0.2] * 2)),
    "row 1 has probability -0.8": dict(probability=np.array([1, -0.8, 1.8] + [1, 0.8, 0.2] * 2)),
    "row 0 has action 2": dict(action=np.array([2, 1, 1] + [0, 1, 1] * 2)),
    "row 0 has next_state 7": dict(next_state=np.array([7, 1, 0, 0, 2, 0, 1, 3, 1])),
    "row 0 has state -1": dict(state=np.array([-1, 0, 0] + [1] * 3 + [2] * 3)),
    "neither a discount nor a horizon": dict(discount=None),
    "discount is 1.5": dict(discount=1.5),
    "horizon is 0": dict(horizon=0),
    "needs terminal states, or goals": dict(terminal=None),
    "state_features has shape": dict(state_features=np.ones((3, 2))),
    "initial sums to 0.5": dict(initial=np.array([0.5, 0, 0, 0])),
    "is not finite": dict(state_features=np.full((4, 2), np.nan)),
    "feature_names": dict(feature_names=np.array(["one"])),
    "no next_state": dict(next_state=None),
}
BAD_DEMOS = {
    "transition of probability 0": dict(final_states=np.array([3, 0])),
    "action 2": dict(actions=np.array([2, 1, 1, 0, 1, 1, 1, 1, 1])),
    "state 9": dict(states=np.array([9, 1, 2, 0, 0, 1, 0, 1, 2])),
    "episode_lengths sum to 8": dict(episode_lengths=np.array([3, 5])),
    "has no actions": dict(actions=None),
}


@pytest.mark.parametrize("sentence", BAD_PROBLEMS)
def test_a_wrong_problem_is_refused_in_one_sentence(run, sentence):
    with pytest.raises(RequestError, match=sentence):
        run("mce", mdp=corridor(**BAD_PROBLEMS[sentence]))


@pytest.mark.parametrize("sentence", BAD_DEMOS)
def test_wrong_demonstrations_are_refused_in_one_sentence(run, sentence):
    with pytest.raises(RequestError, match=sentence):
        run("mce", paths=demos(**BAD_DEMOS[sentence]))


def test_acting_in_a_terminal_state_is_refused(run):
    with pytest.raises(RequestError, match="which is terminal"):
        run("mce", paths=demos(states=np.array([3, 1, 2, 0, 0, 1, 0, 1, 2])))


def test_a_path_longer_than_the_horizon_is_refused(run):
    with pytest.raises(RequestError, match="more than the horizon of 5"):
        run("mce", mdp=corridor(horizon=5))


def test_maxent_with_a_discount_is_refused(run):
    with pytest.raises(RequestError, match="discount of 0.9"):
        run("maxent", mdp=corridor(discount=0.9))


def test_a_theta_of_the_wrong_length_is_refused(run):
    with pytest.raises(RequestError, match="3 weights for 2 features"):
        run("mce", "--at", "1,2,3")


def test_a_diverging_theta_is_named(run):
    with pytest.raises(RequestError, match="diverge"):
        run("maxent", "--at", "0,0")
    with pytest.raises(RequestError, match="diverge"):
        run("mce", "--at", "1,0")


def test_goals_end_paths_and_are_worth_nothing(run):
    paths = demos(
        goals=np.array([2, 2]),
        states=np.array([0, 1, 0, 1]),
        actions=np.ones(4, int),
        episode_lengths=np.array([2, 2]),
        final_states=None,
    )
    said = run("mce", mdp=corridor(terminal=None), paths=paths)
    assert said["gradient_norm"] < 1e-6
    paths["goals"] = np.array([3, 3])
    with pytest.raises(RequestError, match="its goal is 3"):
        run("mce", mdp=corridor(terminal=None), paths={**paths, "final_states": np.array([2, 2])})


def test_problems_round_trip_through_their_file(tmp_path):
    np.savez(tmp_path / "a.npz", **corridor())
    first = TabularMDP.load(tmp_path / "a.npz")
    first.save(tmp_path / "b.npz")
    second = TabularMDP.load(tmp_path / "b.npz")
    for name in ("state", "action", "next_state", "probability", "state_features", "terminal"):
        assert_allclose(getattr(first, name), getattr(second, name))
    assert first.feature_names == second.feature_names
    paths = Paths.from_lists([[0, 1]], [[1]])
    paths.save(tmp_path / "p.npz")
    assert_allclose(Paths.load(tmp_path / "p.npz").final_states, [1])
