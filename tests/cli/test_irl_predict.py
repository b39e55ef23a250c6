"""``menura irl predict`` and ``identify``, the folder of an estimate, and the warning about weights that run away."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from menura import cli
from menura.core import RequestError
from menura.environments.tabular import TabularMDP
from menura.irl import Paths
from menura.irl.estimate import load_estimate
from menura.irl.link_size import with_link_size
from menura.irl.predict import Demand, predict


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    """Three roads from 0 to 3: straight, or by 1, or by 2; and what was chosen."""
    monkeypatch.chdir(tmp_path)
    mdp = TabularMDP.from_transitions(
        [0, 0, 0, 1, 1, 2], [0, 1, 2, 0, 1, 0], [3, 1, 2, 3, 2, 3], np.ones(6),
        pair_features=[[3.0, 0], [1, 0], [1, 1], [1, 0], [1, 1], [1, 0]], feature_names=("length", "bridge"),
        terminal=[3],
    )  # fmt: skip
    mdp.save("mdp.npz")
    states = [[0, 3]] * 2 + [[0, 1, 3]] * 5 + [[0, 2, 3]] * 3 + [[0, 1, 2, 3]]
    actions = [[0]] * 2 + [[1, 0]] * 5 + [[2, 0]] * 3 + [[1, 1, 0]]
    Paths.from_lists(states, actions).save("demos.npz")
    mdp.replace(terminal=None).save("open.npz")
    Paths.from_lists(states, actions, goals=[3] * 11).save("to3.npz")


@pytest.fixture
def menura(capsys):
    def call(*arguments):
        cli.main(["irl", *map(str, arguments)])
        return capsys.readouterr().out

    return call


@pytest.fixture
def refused(capsys):
    def call(*arguments):
        with pytest.raises(SystemExit) as caught:
            cli.main(["irl", *map(str, arguments)])
        said = capsys.readouterr()
        assert (caught.value.code, said.out) == (2, "")
        assert said.err.startswith("menura: ")
        assert said.err.count("\n") == 1
        return said.err

    return call


@pytest.fixture
def fitted(menura):
    menura("mce", "--mdp", "mdp.npz", "--demos", "demos.npz", "--out", "fit")


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_predict_prints_the_fits_own_features_and_every_flow(menura, fitted):
    said = json.loads(menura("predict", "fit", "--json"))
    fit = json.loads(Path("fit/estimate.json").read_text())
    assert_allclose(list(said["expected_features"].values()), list(fit["feature_expectations"]["learner"].values()))
    assert said["theta"] == fit["theta"]
    flows = said["flows"]
    assert_allclose(sum(f for f, to in zip(flows["flow"], flows["next_state"], strict=True) if to == 3), 1)
    assert len(said["choices"]["probability"]) == 6
    assert said["counterfactual"] == said["warnings"] == []
    assert "steps of a path" in menura("predict", "fit")


def test_a_counterfactual_stands_beside_what_was_and_equals_the_smaller_problem(menura, fitted):
    said = json.loads(menura("predict", "fit", "--remove", "0,1", "--remove", "1,1", "--json"))
    assert said["most_changed"][0]["flow"] != said["most_changed"][0]["flow_before"]
    gone = said["flows"]["state"].index(1)
    assert said["flows"]["flow"][gone] == 0
    assert said["before"]["expected_steps"] != said["expected_steps"]
    theta = list(said["theta"].values())
    weights = np.exp([3 * theta[0], 2 * theta[0] + theta[1]])
    at_start = [p for p, s in zip(said["choices"]["probability"], said["choices"]["state"], strict=True) if s == 0]
    assert_allclose(at_start, [weights[0] / weights.sum(), 0, weights[1] / weights.sum()])
    with open("closed.csv", "w") as file:
        file.write("state,action,next_state\n0,1,\n1,1,2\n")
    assert json.loads(menura("predict", "fit", "--remove", "closed.csv", "--json"))["flows"] == said["flows"]


def test_another_theta_and_other_features_are_counterfactuals(menura, fitted):
    at = json.loads(menura("predict", "fit", "--at=-1,-9", "--json"))
    assert at["theta"] == {"length": -1, "bridge": -9}
    assert at["before"]["theta"] != at["theta"]
    mdp = TabularMDP.load("mdp.npz")
    # Weights go by name, not by place.
    swapped = mdp.pair_features[:, ::-1] * [3.0, 1.0]
    mdp.replace(pair_features=swapped, feature_names=("bridge", "length")).save("other.npz")
    said = json.loads(menura("predict", "fit", "--mdp", "other.npz", "--json"))
    assert said["theta"]["length"] == said["before"]["theta"]["length"]
    assert said["expected_features"]["bridge"] != said["before"]["expected_features"]["bridge"]


def test_out_writes_tables_and_routes_that_can_be_fitted_again(menura, fitted):
    menura("predict", "fit", "--routes", 50, "--seed", 1, "--remove", "0,0", "--out", "pre")
    assert_allclose(sum(float(r["flow"]) for r in rows("pre/flows.csv") if r["next_state"] == "3"), 1)
    choices = rows("pre/choices.csv")
    assert list(choices[0]) == ["state", "action", "probability_before", "probability"]
    with np.load("pre/prediction.npz") as arrays:
        assert_allclose([float(r["flow"]) for r in rows("pre/flows.csv")], arrays["flows_flow"])
    assert json.loads(Path("pre/prediction.json").read_text())["routes"]["number"] == 50
    for routes in ("pre/routes.npz", "pre/routes.csv"):
        said = json.loads(menura("mce", "--mdp", "mdp.npz", "--demos", routes, "--at=-1,0", "--json"))
        assert said["num_paths"] == 50
    before = Path("pre/routes.csv").read_text()
    menura("predict", "fit", "--routes", 50, "--seed", 1, "--remove", "0,0", "--out", "pre")
    assert Path("pre/routes.csv").read_text() == before
    menura("predict", "fit", "--out", "pre")
    assert "probability_before" not in rows("pre/choices.csv")[0]
    assert not Path("pre/routes.csv").exists()


def test_goals_and_starts_can_be_chosen(menura, refused):
    menura("mce", "--mdp", "open.npz", "--demos", "to3.npz", "--out", "fit")
    said = json.loads(menura("predict", "fit", "--start", "0,1", "--goal", "2", "--json", "--routes", 3))
    assert set(said["choices"]["goal"]) == {2}
    assert said["routes"]["goals"] == [2, 2, 2]
    assert all(states[-1] == 2 for states in said["routes"]["states"])
    assert menura("predict", "fit", "--start", "0") == menura("predict", "fit")
    assert "No demonstration begins in state 1; give --goal too" in refused("predict", "fit", "--start", "1")
    assert "No path leads from state 0 to goal 1" in refused(
        "predict", "fit", "--start", "0", "--goal", "1", "--remove", "0,1"
    )


BAD = {
    "has no action 7 in state 0": ("--remove", "0,7"),
    "must be state,action": ("--remove", "0"),
    "no file absent.csv": ("--remove", "absent.csv"),
    "no file absent.npz": ("--mdp", "absent.npz"),
    "--at has 1 weights for 2 features": ("--at", "1"),
    "start 3 is terminal": ("--start", "3"),
    "--start x must be states": ("--start", "x"),
    "Several goals need --start": ("--goal", "1,2"),
    "--routes, --top and --seed": ("--routes", "-1"),
    "--max-steps is 0": ("--max-steps", "0"),
    "No path leads from state 0": ("--remove", "0,0", "--remove", "1,0", "--remove", "2,0"),
    "holds other files": ("--out", "fit"),
}


@pytest.mark.parametrize("sentence", BAD)
def test_wrong_requests_are_refused_in_one_sentence(refused, fitted, sentence):
    assert sentence in refused("predict", "fit", *BAD[sentence])


def test_another_problem_needs_the_same_features(refused, fitted):
    TabularMDP.load("mdp.npz").replace(feature_names=("length", "tunnel")).save("other.npz")
    assert "'bridge' is not in other.npz" in refused("predict", "fit", "--mdp", "other.npz")
    assert "nowhere holds no estimate" in refused("predict", "nowhere")


def test_an_estimate_replaces_an_earlier_one_as_a_whole_or_not_at_all(menura, refused, fitted, monkeypatch, tmp_path):
    (tmp_path / "fit" / "picture.png").write_bytes(b"kept")
    menura("mce", "--mdp", "mdp.npz", "--demos", "demos.npz", "--at=-1,0", "--out", "fit")
    assert load_estimate("fit")[1].tolist() == [-1, 0]
    assert (tmp_path / "fit" / "picture.png").read_bytes() == b"kept"

    def broken(self, path):
        raise OSError("no space left")

    monkeypatch.setattr(Paths, "save", broken)
    assert "cannot be written" in refused(
        "mce", "--mdp", "mdp.npz", "--demos", "demos.npz", "--at=-2,0", "--out", "fit"
    )
    assert load_estimate("fit")[1].tolist() == [-1, 0]
    assert not [name for name in tmp_path.iterdir() if name.name.startswith(".")]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    assert "mine holds other files (letter.txt)" in refused(
        "mce", "--mdp", "mdp.npz", "--demos", "demos.npz", "--out", "mine"
    )
    assert "the folder you are in" in refused("mce", "--mdp", "mdp.npz", "--demos", "demos.npz", "--out", ".")


def why_unreadable(folder):
    try:
        load_estimate(folder)
    except RequestError as error:
        return str(error)
    return None


def test_a_damaged_estimate_is_refused_in_one_sentence(refused, fitted, tmp_path):
    rng, sentences = np.random.default_rng(0), []
    for file in sorted((tmp_path / "fit").iterdir()):
        whole = file.read_bytes()
        damages = [b"", whole[: len(whole) // 2], b"{}", b"[1]", b"\xff\xfe\x00"]
        for _ in range(4):
            place = int(rng.integers(len(whole)))
            damages.append(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        for damage in damages:
            file.write_bytes(damage)
            sentences.append(why_unreadable("fit"))
        file.unlink()
        said = refused("predict", "fit")
        assert "holds no estimate" in said or f"no file fit/{file.name}" in said
        file.write_bytes(whole)
    assert all(sentence.endswith(".") and "\n" not in sentence for sentence in sentences if sentence is not None)
    said = json.loads((tmp_path / "fit" / "estimate.json").read_text())
    for change, sentence in (
        ({"theta": {"length": 1.0}}, "differ in their features"),
        ({"theta": {"length": 1.0, "bridge": 2.0}}, "different weights"),
        ({"method": "magic"}, "names no method"),
    ):
        (tmp_path / "fit" / "estimate.json").write_text(json.dumps({**said, **change}))
        assert sentence in refused("predict", "fit")


@pytest.mark.parametrize("match", ["likelihood", "features"])
def test_weights_that_run_away_are_warned_of_by_name_and_a_prior_tames_them(capsys, match):
    Paths.from_lists([[0, 1, 3]] * 5 + [[0, 3]] * 2, [[1, 0]] * 5 + [[0]] * 2).save("demos.npz")
    call = ["irl", "mce", "--mdp", "mdp.npz", "--demos", "demos.npz", "--json", "--match", match]
    cli.main(call)
    said = capsys.readouterr()
    (warning,) = json.loads(said.out)["warnings"]
    assert said.err == f"menura: warning: {warning}\n"
    assert "The weight of 'bridge'" in warning
    assert "'length'" not in warning
    assert "--prior" in warning
    cli.main([*call, "--prior", "l2=0.1"])
    said = capsys.readouterr()
    assert (json.loads(said.out)["warnings"], said.err) == ([], "")


def test_identify_says_what_is_open_in_words_and_in_json(menura, refused, fitted):
    assert "All 2 weights are identified" in menura("identify", "fit")
    mdp = TabularMDP.load("mdp.npz")
    equal = np.column_stack([[2.0, 1, 1, 1, 0, 1], mdp.pair_features[:, 1], np.ones(6)])
    mdp.replace(pair_features=equal, feature_names=("length", "bridge", "toll")).save("equal.npz")
    said = json.loads(menura("identify", "--mdp", "equal.npz", "--start", "0", "--json", "--at=-1,0,0"))
    (direction,) = said["directions"]
    assert said["num_identified"] == 2
    assert direction["largest_change_of_log_policy"] < 1e-12
    assert direction["sentence"] in menura("identify", "--mdp", "equal.npz", "--start", "0", "--at=-1,0,0")
    assert "Give the folder of an estimate, or a problem" in refused("identify")
    assert "leave out --demos" in refused("identify", "fit", "--demos", "demos.npz")
    assert "weights for 2 features" in refused("identify", "--mdp", "mdp.npz", "--at", "1")


def test_a_link_size_is_a_feature_of_one_pair_or_of_each(menura, refused):
    said = json.loads(menura("mce", "--mdp", "mdp.npz", "--demos", "demos.npz", "--link-size=-1,0", "--json",
                             "--prior", "l2=0.1", "--out", "fit"))  # fmt: skip
    assert list(said["theta"]) == ["length", "bridge", "link size"]
    assert said["link_size_reference"] == {"length": -1, "bridge": 0}
    assert_allclose(
        json.loads(menura("predict", "fit", "--json"))["expected_features"]["link size"],
        said["feature_expectations"]["learner"]["link size"],
    )
    states = [[0, 3], [0, 3], [0, 1, 3], [0, 2, 3], [1, 3], [1, 2, 3]]
    Paths.from_lists(states, [[0], [0], [1, 0], [2, 0], [0], [1, 0]], goals=[3] * 6).save("two.npz")
    call = ("maxent", "--mdp", "open.npz", "--demos", "two.npz", "--link-size", "fit", "--prior", "l2=0.1")
    said = json.loads(menura(*call, "--json", "--out", "two"))
    assert said["objective_gradient_norm"] < 1e-6
    assert "with --start and --goal" in refused("predict", "two")
    assert "with --start and --goal" in refused("predict", "two", "--start", "0,1", "--goal", "3")
    wide = with_link_size(TabularMDP.load("open.npz"), np.array([*said["link_size_reference"].values()]), 1, 3)
    theta = np.array([*said["theta"].values()])
    assert_allclose(
        json.loads(menura("predict", "two", "--start", "1", "--goal", "3", "--json"))["flows"]["flow"],
        predict(wide, theta, Demand.between([1], [3]), method="maxent").transition_flow,
    )
    assert "goes with maximum likelihood" in refused(
        "mce", "--mdp", "mdp.npz", "--demos", "demos.npz", "--link-size", "fit", "--match", "features"
    )
    assert "weights for 2 features" in refused("mce", "--mdp", "mdp.npz", "--demos", "demos.npz", "--link-size", "1")
