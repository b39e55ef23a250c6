"""``menura irl apprenticeship``: what it prints and writes, and how it refuses."""

import json

import numpy as np
import pytest
from numpy.testing import assert_allclose

from menura import cli
from menura.irl.policy_mixture import PolicyMixture
from tests.corridor import corridor, demos

KEYS = {
    "method", "projection", "distance", "lower_bound", "tolerance", "converged", "feature_expectations", "rounds",
    "iterations", "num_policies", "num_states", "num_transitions", "num_paths", "num_steps", "seconds", "warnings",
}  # fmt: skip


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """Runs the command on these files; what it printed on stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*options, mdp=None, paths=None, given=("--mdp", "mdp.npz", "--demos", "demos.npz")):
        np.savez("mdp.npz", **(corridor() if mdp is None else mdp))
        np.savez("demos.npz", **(demos() if paths is None else paths))
        cli.main(["irl", "apprenticeship", *given, *options])
        return capsys.readouterr()

    return run


@pytest.fixture
def refused(call, capsys):
    """The one sentence of a wrong request, which ends with exit code 2 and prints nothing else."""

    def run(*options, **files):
        with pytest.raises(SystemExit) as caught:
            call(*options, **files)
        said = capsys.readouterr()
        assert caught.value.code == 2
        assert said.out == ""
        assert said.err.startswith("menura: ")
        assert said.err.endswith(".\n")
        assert said.err.count("\n") == 1
        return said.err

    return run


@pytest.mark.parametrize(
    "settings", [dict(horizon=8, discount=None), dict(discount=0.9), dict()], ids=["horizon", "discount", "terminal"]
)
def test_it_prints_every_field_and_as_near_a_mixture_as_there_is(call, settings):
    said = json.loads(call("--json", mdp=corridor(**settings)).out)
    assert said.keys() == KEYS
    assert said["converged"]
    assert said["distance"] - said["lower_bound"] <= 1e-6
    expected = said["feature_expectations"]
    gap = [expected["expert"][name] - expected["learner"][name] for name in ("step", "middle")]
    assert_allclose(np.linalg.norm(gap), said["distance"], atol=1e-12)
    assert_allclose(sum(row["weight"] for row in said["rounds"]), 1)
    assert said["rounds"][0]["theta"] == {"step": 0, "middle": 0}


def test_it_matches_what_certain_outcomes_allow(call):
    rows = [(s, a, max(s - 1, 0) if a == 0 else s + 1) for s in range(3) for a in range(2)]
    state, action, next_state = (np.array(column) for column in zip(*rows, strict=True))
    mdp = corridor(state=state, action=action, next_state=next_state, probability=np.ones(6))
    paths = demos(actions=np.array([1, 1, 1, 0, 1, 0, 1, 1, 1]))
    said = json.loads(call("--json", mdp=mdp, paths=paths).out)
    assert said["distance"] < 1e-6
    assert said["warnings"] == []


def test_the_table_lists_features_and_policies(call):
    said = call("--projection", "line", "--tolerance", "0.01").out
    assert "step" in said
    assert "middle" in said
    assert "with chance" in said
    assert "rounds" in said


def test_too_few_rounds_are_warned_of(call):
    said = call("--json", "--max-iterations", "1", mdp=corridor(horizon=8))
    assert json.loads(said.out)["converged"] is False
    assert said.err.startswith("menura: warning: The search ended after 1 rounds")


def test_the_saved_mixture_is_read_back_and_replaced_as_a_whole(call, tmp_path):
    said = json.loads(call("--json", "--out", "deep/mixture").out)
    read = PolicyMixture.load(tmp_path / "deep" / "mixture")
    assert json.loads(json.dumps(read.to_json())) == said
    call("--out", "deep/mixture", mdp=corridor(horizon=8))
    assert PolicyMixture.load(tmp_path / "deep" / "mixture").mdp.horizon == 8
    assert [place.name for place in (tmp_path / "deep").iterdir()] == ["mixture"]
    files = sorted(place.name for place in (tmp_path / "deep" / "mixture").iterdir())
    assert files == ["demos.npz", "mdp.npz", "mixture.json", "mixture.npz"]


def test_a_folder_of_other_things_is_not_replaced(refused, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("words")
    assert "mine" in refused("--out", "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "words"


def test_a_write_that_fails_leaves_the_old_mixture(call, tmp_path, monkeypatch):
    call("--out", "mixture")
    before = (tmp_path / "mixture" / "mixture.json").read_text()

    def fail(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(PolicyMixture, "single_policy", fail)
    with pytest.raises(BaseException):  # noqa: B017, PT011 (how the program ends is its own affair)
        call("--out", "mixture", mdp=corridor(horizon=8))
    assert (tmp_path / "mixture" / "mixture.json").read_text() == before
    assert sorted(place.name for place in tmp_path.iterdir()) == ["demos.npz", "mdp.npz", "mixture"]


BAD_OPTIONS = {
    "--tolerance is -1.0": ["--tolerance", "-1"],
    "--tolerance is nan": ["--tolerance", "nan"],
    "--max-iterations is 0": ["--max-iterations", "0"],
    "a file is in the way": ["--out", "demos.npz"],
}


@pytest.mark.parametrize("sentence", BAD_OPTIONS)
def test_wrong_options_are_refused_in_one_sentence(refused, sentence):
    assert sentence in refused(*BAD_OPTIONS[sentence])


@pytest.mark.parametrize(
    ("sentence", "mdp", "paths"),
    [
        ("sum to 0.9", dict(probability=np.array([1, 0.8, 0.1] + [1, 0.8, 0.2] * 2)), {}),
        ("needs terminal states, or goals", dict(terminal=None), {}),
        ("more than the horizon of 5", dict(horizon=5), {}),
        ("does not fit into memory", dict(horizon=10**13), {}),
        ("a transition of probability 0", {}, dict(final_states=np.array([3, 0]))),
        ("action 2 (row 0)", {}, dict(actions=np.array([2, 1, 1, 0, 1, 1, 1, 1, 1]))),
        ("Object arrays cannot be loaded", {}, dict(states=np.full(9, None))),
        (
            "begin in state 4, from which no policy can surely go on or end",
            dict(num_states=5, state_features=np.ones((5, 2)), initial=np.array([0.5, 0, 0, 0, 0.5])),
            {},
        ),
    ],
)
def test_wrong_files_are_refused_in_one_sentence(refused, sentence, mdp, paths):
    assert sentence in refused("--out", "mixture", mdp=corridor(**mdp), paths=demos(**paths))


def test_absent_files_are_named(refused):
    assert "no file absent.npz" in refused(given=("--mdp", "absent.npz", "--demos", "demos.npz"))


def test_a_refused_request_leaves_nothing_behind(refused, tmp_path):
    refused("--out", "mixture", paths=demos(final_states=np.array([3, 0])))
    assert sorted(place.name for place in tmp_path.iterdir()) == ["demos.npz", "mdp.npz"]
