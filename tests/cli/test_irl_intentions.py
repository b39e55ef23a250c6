"""``menura irl intentions`` and ``menura irl deep``: what they print, save and refuse."""

import json

import numpy as np
import pytest
from numpy.testing import assert_allclose

from menura import cli
from menura.environments.tabular import TabularMDP
from menura.irl import Paths
from menura.irl.deep import load_network
from menura.irl.estimate import load_estimate
from menura.irl.mixture import load_intentions


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A ring of five cells: three people go round it one way, and three the other."""
    monkeypatch.chdir(tmp_path)
    cells = np.arange(5)
    TabularMDP.from_transitions(
        np.repeat(cells, 2), np.tile([0, 1], 5), np.stack([(cells + 1) % 5, (cells - 1) % 5], axis=1).ravel(),
        np.ones(10), state_action_features=np.tile(np.array([[1.0], [0.0]]), (5, 1, 1)), feature_names=("forward",),
        horizon=6,
    ).save("mdp.npz")  # fmt: skip
    rng = np.random.default_rng(0)
    states, actions, people = [], [], []
    for person in range(6):
        for _ in range(2):
            taken = (rng.random(6) < (0.2 if person % 2 else 0.9)).astype(int)
            path = [0]
            for action in taken:
                path.append((path[-1] + (1 if action == 0 else -1)) % 5)
            states.append(path)
            actions.append(taken)
            people.append(person)
    Paths.from_lists(states, actions, individuals=people).save("demos.npz")
    return tmp_path


GIVEN = ("--mdp", "mdp.npz", "--demos", "demos.npz")


def said(capsys, command, *options):
    cli.main(["irl", command, *GIVEN, *options, "--json"])
    printed = capsys.readouterr()
    assert printed.err == ""
    return json.loads(printed.out)


def refused(capsys, command, *options):
    with pytest.raises(SystemExit) as caught:
        cli.main(["irl", command, *GIVEN, *options])
    printed = capsys.readouterr()
    assert caught.value.code == 2
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    return printed.err


def test_people_of_two_intentions_are_told_apart_and_saved(files, capsys):
    found = said(capsys, "intentions", "--number", "2", "--out", "two", "--restarts", "2")
    assert found["number"] == 2
    assert found["unit"] == "individual"
    assert found["units"] == [0, 1, 2, 3, 4, 5]
    likeliest = np.argmax(found["responsibilities"], axis=1)
    assert len(set(likeliest[::2])) == len(set(likeliest[1::2])) == 1
    assert likeliest[0] != likeliest[1]
    thetas = sorted(one["theta"]["forward"] for one in found["intentions"])
    assert thetas[0] < -1 < 0.5 < thetas[1]
    assert_allclose(sum(one["weight"] for one in found["intentions"]), 1)
    assert found["gradient_norm"] < 1e-4
    read, arrays, _, _ = load_intentions("two")
    assert read["log_likelihood"] == found["log_likelihood"]
    assert arrays["responsibilities"].shape == (6, 2)
    assert load_estimate("two/estimates/1")[1].tolist() == list(found["intentions"][0]["theta"].values())
    assert sorted(place.name for place in files.iterdir()) == ["demos.npz", "mdp.npz", "two"]


def test_the_number_is_chosen_where_it_is_not_given(files, capsys):
    found = said(capsys, "intentions", "--up-to", "2", "--folds", "3", "--restarts", "1")
    assert found["number"] == 2
    assert found["choice"]["folds"] == 3
    totals = found["choice"]["heldout_log_likelihood"]
    assert totals["2"] > totals["1"]
    cli.main(["irl", "intentions", *GIVEN, "--up-to", "2", "--folds", "3", "--restarts", "1"])
    printed = capsys.readouterr().out
    assert "chosen" in printed
    assert "intention 2: 50.0 %" in printed


def test_a_network_is_trained_and_saved(files, capsys):
    found = said(capsys, "deep", "--hidden", "4", "--steps", "20", "--out", "net", "--heldout", "0.34")
    assert found["num_paths"] == 8
    assert found["num_parameters"] == 4 + 4 + 4 + 1 + 1
    assert found["heldout_log_likelihood"] < 0
    assert found.keys() >= {"feature_expectations", "gradient_norm", "best_step", "iterations"}
    assert load_network("net/network.npz").network.weights[0].shape == (4, 1)
    assert_allclose(load_estimate("net/estimate")[0]["log_likelihood"], found["log_likelihood"], rtol=1e-10)
    cli.main(["irl", "deep", *GIVEN, "--hidden", "linear", "--steps", "5", "--heldout", "0"])
    printed = capsys.readouterr().out
    assert "3 parameters" in printed
    assert "held out" not in printed


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("intentions", "--number", "2", "--up-to", "3"), "not both"),
        (("intentions", "--number", "7"), "6 individuals are too few for 7"),
        (("intentions", "--number", "2", "--out", "demos.npz"), "a file is in the way"),
        (("intentions", "--number", "2", "--prior", "l3=1"), "--prior l3=1"),
        (("deep", "--hidden", "a,b"), "--hidden a,b"),
        (("deep", "--heldout", "1.5"), "held-out fraction is 1.5"),
        (("deep", "--steps", "0"), "number of steps is 0"),
        (("deep", "--out", "demos.npz"), "a file is in the way"),
    ],
)
def test_wrong_requests_are_refused_in_one_sentence(files, capsys, options, sentence):
    assert sentence in refused(capsys, *options)
    assert sorted(place.name for place in files.iterdir()) == ["demos.npz", "mdp.npz"]
