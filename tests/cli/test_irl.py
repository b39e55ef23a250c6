"""``menura irl``: what it prints, and how it refuses."""

import json

import numpy as np
import pytest
from numpy.testing import assert_allclose

from menura import cli
from menura.commands.irl import main
from menura.environments.tabular import TabularMDP
from menura.irl import Paths
from tests.corridor import corridor, demos

KEYS = {
    "theta", "standard_errors", "log_likelihood", "gradient_norm", "feature_expectations", "num_states",
    "num_transitions", "iterations", "evaluations", "seconds", "seconds_per_evaluation", "compile_seconds",
}  # fmt: skip


@pytest.fixture
def run(tmp_path, capsys):
    def call(command, *options, mdp=None, paths=None):
        np.savez(tmp_path / "mdp.npz", **(corridor() if mdp is None else mdp))
        np.savez(tmp_path / "demos.npz", **(demos() if paths is None else paths))
        main([command, "--mdp", str(tmp_path / "mdp.npz"), "--demos", str(tmp_path / "demos.npz"), "--json", *options])
        return json.loads(capsys.readouterr().out)

    return call


@pytest.fixture
def refused(tmp_path, capsys, monkeypatch):
    """The one sentence of a wrong request, which ends with exit code 2 and prints nothing else."""
    monkeypatch.chdir(tmp_path)

    def call(command, *options, mdp=None, paths=None, given=("--mdp", "mdp.npz", "--demos", "demos.npz")):
        np.savez("mdp.npz", **(corridor() if mdp is None else mdp))
        np.savez("demos.npz", **(demos() if paths is None else paths))
        with pytest.raises(SystemExit) as caught:
            cli.main(["irl", command, *given, *options])
        said = capsys.readouterr()
        assert caught.value.code == 2
        assert said.out == ""
        assert said.err.startswith("menura: ")
        assert said.err.endswith(".\n")
        assert said.err.count("\n") == 1
        return said.err

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
    "mdp.npz: the probabilities of state 0, action 1 (row 1) sum to 0.9": dict(
        probability=np.array([1, 0.8, 0.1] + [1, 0.8, 0.2] * 2)
    ),
    "row 1 has probability -0.8": dict(probability=np.array([1, -0.8, 1.8] + [1, 0.8, 0.2] * 2)),
    "row 2 has probability nan": dict(probability=np.array([1, 0.8, np.nan] + [1, 0.8, 0.2] * 2)),
    "probability must hold real numbers": dict(probability=np.full(9, "a")),
    "row 0 has action 2": dict(action=np.array([2, 1, 1] + [0, 1, 1] * 2)),
    "row 0 has action -1": dict(action=np.array([-1, 1, 1] + [0, 1, 1] * 2)),
    "row 0 has next_state 7": dict(next_state=np.array([7, 1, 0, 0, 2, 0, 1, 3, 1])),
    "row 0 has state -1": dict(state=np.array([-1, 0, 0] + [1] * 3 + [2] * 3)),
    "state must hold whole numbers": dict(state=np.array([np.inf, 0, 0] + [1] * 3 + [2] * 3)),
    "must be equally long": dict(action=np.zeros(8, int)),
    "neither a discount nor a horizon": dict(discount=None),
    "discount is 1.5": dict(discount=1.5),
    "horizon is 0": dict(horizon=0),
    "horizon is nan": dict(horizon=np.nan),
    "actions are too many": dict(num_actions=2**62),
    "does not fit into memory": dict(horizon=10**13),
    "needs terminal states, or goals": dict(terminal=None),
    "terminal names a state outside 0 to 3": dict(terminal=np.array([4])),
    "state_features has shape": dict(state_features=np.ones((3, 2))),
    "state_features must hold real numbers": dict(state_features=np.full((4, 2), 1j)),
    "initial sums to 0.5": dict(initial=np.array([0.5, 0, 0, 0])),
    "initial gives state 1 probability -0.5": dict(initial=np.array([1.5, -0.5, 0, 0])),
    "row 0 of state_features is not finite": dict(state_features=np.full((4, 2), np.nan)),
    "feature_names": dict(feature_names=np.array(["one"])),
    "no next_state": dict(next_state=None),
    "holds rewards, which no problem has": dict(rewards=np.ones(4)),
    "Object arrays cannot be loaded": dict(state=np.full(9, None)),
}
BAD_DEMOS = {
    "path 1 goes from state 2 by action 1 to state 0 (row 8), a transition of probability 0": dict(
        final_states=np.array([3, 0])
    ),
    "path 0 goes from state 0 by action 1 to state 2 (row 0)": dict(states=np.array([0, 2, 2, 0, 0, 1, 0, 1, 2])),
    "action 2 (row 0) is not among the problem's actions 0 to 1": dict(actions=np.array([2, 1, 1, 0, 1, 1, 1, 1, 1])),
    "action -1 (row 0)": dict(actions=np.array([-1, 1, 1, 0, 1, 1, 1, 1, 1])),
    "state 9 (row 0)": dict(states=np.array([9, 1, 2, 0, 0, 1, 0, 1, 2])),
    "final state 9 (row 1)": dict(final_states=np.array([3, 9])),
    "states must hold whole numbers": dict(states=np.array([1e30, 1, 2, 0, 0, 1, 0, 1, 2])),
    "episode_lengths sum to 8": dict(episode_lengths=np.array([3, 5])),
    "episode_lengths sum to 18446744073709551625": dict(episode_lengths=np.array([2**62] * 3 + [2**62 + 9])),
    "every path needs at least one step": dict(episode_lengths=np.array([-1, 10])),
    "final_states has 1 rows for 2 paths": dict(final_states=np.array([3])),
    "has no actions": dict(actions=None),
    "acts in state 3, which is terminal": dict(states=np.array([3, 1, 2, 0, 0, 1, 0, 1, 2])),
}
HEADER = "individual,time,state,action\n"
BAD_PANELS = {
    "has no column time, action": "individual,state\na,0\n",
    "no rows below its header": HEADER,
    "column action must hold numbers": HEADER + "a,0,0,left\n",
    "state must hold whole numbers": HEADER + "a,0,0.5,1\n",
    "column time must hold finite numbers": HEADER + "a,nan,0,1\n",
    "row 1 below the header": HEADER + "a,0,0,1\na,1,1\n",
    "has two rows at time 0": HEADER + "a,0,0,1\na,0,1,1\n",
    "has two columns state": "individual,time,state,state,action\na,0,0,0,1\n",
    "goes from state 0 by action 1 to state 2": HEADER + "a,0,0,1\na,1,2,1\n",
}
BAD_OPTIONS = {
    "θ has 3 weights for 2 features": ["--at", "1,2,3"],
    "--at one must be numbers": ["--at", "one"],
    "--at nan,1 must be finite": ["--at", "nan,1"],
    "--at fits nothing, so leave out --start": ["--at=-1,0", "--start=-1,0"],
    "The start has 1 weights for 2 features": ["--start", "1"],
    "--prior l3=1 is not understood": ["--prior", "l3=1"],
    "The prior's l2 is -1": ["--prior", "l2=-1"],
    "Give --mdp or --env, not both": ["--env", "MountainCar-v0", "--bins", "4,4"],
    "a file is in the way": ["--out", "demos.npz"],
}


@pytest.mark.parametrize("sentence", BAD_PROBLEMS)
def test_a_wrong_problem_is_refused_in_one_sentence(refused, sentence):
    said = refused("mce", mdp=corridor(**BAD_PROBLEMS[sentence]))
    assert sentence in said


@pytest.mark.parametrize("sentence", BAD_DEMOS)
def test_wrong_demonstrations_are_refused_in_one_sentence(refused, sentence):
    said = refused("mce", paths=demos(**BAD_DEMOS[sentence]))
    assert "demos.npz" in said
    assert sentence in said


@pytest.mark.parametrize("sentence", BAD_PANELS)
def test_a_wrong_panel_is_refused_in_one_sentence(refused, tmp_path, sentence):
    (tmp_path / "panel.csv").write_text(BAD_PANELS[sentence])
    said = refused("maxent", given=("--mdp", "mdp.npz", "--demos", "panel.csv"))
    assert "panel.csv" in said
    assert sentence in said


@pytest.mark.parametrize("sentence", BAD_OPTIONS)
def test_wrong_options_are_refused_in_one_sentence(refused, sentence):
    assert sentence in refused("mce", *BAD_OPTIONS[sentence])


@pytest.mark.parametrize("name", ["absent.npz", "absent.csv"])
def test_absent_files_are_named(refused, name):
    assert f"no file {name}" in refused("mce", given=("--mdp", "mdp.npz", "--demos", name))
    assert f"no file {name[:-4]}.npz" in refused("mce", given=("--mdp", f"{name[:-4]}.npz", "--demos", "demos.npz"))


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut off"])
def test_what_is_not_an_archive_of_arrays_is_refused(refused, tmp_path, content):
    (tmp_path / "odd.npz").write_bytes(content)
    assert "odd.npz is not an npz file" in refused("mce", given=("--mdp", "odd.npz", "--demos", "demos.npz"))


def test_a_refused_request_leaves_nothing_behind(refused, tmp_path):
    refused("mce", "--out", "fit", paths=demos(final_states=np.array([3, 0])))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["demos.npz", "mdp.npz"]


def test_a_path_longer_than_the_horizon_is_refused(refused):
    assert "more than the horizon of 5" in refused("mce", mdp=corridor(horizon=5))


def test_maxent_with_a_discount_is_refused(refused):
    assert "discount of 0.9" in refused("maxent", mdp=corridor(discount=0.9))


def test_a_diverging_theta_is_named(refused):
    assert "partition function" in refused("maxent", "--at", "0,0")
    assert "soft values diverge" in refused("mce", "--at", "1,0")


def test_goals_end_paths_and_are_worth_nothing(run, refused):
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
    assert "its goal is 3" in refused(
        "mce", mdp=corridor(terminal=None), paths={**paths, "final_states": np.array([2, 2])}
    )


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
