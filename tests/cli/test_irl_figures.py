"""``menura irl figures`` and ``menura irl tree``: the pictures they write, and how they refuse."""

import io
import sys

import numpy as np
import pytest

from menura import cli
from menura.environments.tabular import TabularMDP
from menura.irl import Paths, fit


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A problem on two rows of two cells and its estimate; one of two actions slips."""
    place = tmp_path_factory.mktemp("irl")
    mdp = TabularMDP.from_transitions(
        [0, 0, 0, 1, 1, 2, 2, 2], [0, 1, 1, 0, 1, 0, 1, 1], [1, 2, 1, 0, 3, 3, 3, 0],
        [1, 0.8, 0.2, 1, 1, 1, 0.8, 0.2], num_states=4, state_features=[[1.0, 0], [1, 1], [1, 0], [0, 0]],
        feature_names=("step", "mud"), terminal=[3],
    )  # fmt: skip
    paths = Paths.from_lists([[0, 1, 3], [0, 2, 3], [0, 2, 0, 1, 0, 2, 3]], [[0, 1], [1, 0], [1, 1, 1, 0, 1, 1]])
    fit(mdp, paths).save(place / "fit", mdp, paths)
    mdp.save(place / "mdp.npz")
    ferry = TabularMDP.from_transitions(
        [0, 0, 0, 1], [0, 1, 1, 0], [2, 2, 1, 2], [1, 0.7, 0.3, 1],
        state_action_features=np.array([[[2.0], [0.5]], [[1.5], [0]], [[0], [0]]]), terminal=[2],
    )  # fmt: skip
    ferry.save(place / "ferry.npz")
    return place


@pytest.fixture
def menura(folder, monkeypatch, capsys):
    """Run a command in the folder: its exit code, and what it says."""
    monkeypatch.chdir(folder)

    def run(*arguments):
        try:
            cli.main(["irl", *map(str, arguments)])
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def size_of(path):
    from PIL import Image

    with Image.open(io.BytesIO(path.read_bytes())) as image:
        return image.size


def test_a_fit_on_a_grid_gets_weights_features_and_three_maps(menura, folder, tmp_path):
    code, said, _ = menura("figures", "fit", "--grid", "2x2", "--actions", "right,down", "-o", tmp_path / "out")
    assert code == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"theta.png", "features.png", "reward.png", "visits.png", "policy.png"}
    assert all(size_of(tmp_path / "out" / name)[0] > 1000 for name in names)
    assert said.count("\n") == 5
    assert all(name in said for name in names)


def test_without_a_grid_there_are_no_maps_and_the_pictures_lie_with_the_fit(menura, folder):
    assert menura("figures", "fit")[0] == 0
    light = (folder / "fit" / "figures" / "theta.png").read_bytes()
    assert {path.name for path in (folder / "fit" / "figures").iterdir()} == {"theta.png", "features.png"}
    assert menura("figures", "fit", "--dark")[0] == 0
    assert (folder / "fit" / "figures" / "theta.png").read_bytes() != light


def test_states_in_one_row_are_drawn_as_curves(menura, tmp_path):
    code, said, _ = menura("figures", "fit", "--grid", "1x4", "-o", tmp_path / "out")
    assert code == 0
    assert "along the states" in said


def test_a_tree_shows_certain_beside_random_outcomes(menura, folder):
    code, said, _ = menura("tree", "--mdp", "ferry.npz", "--at=-1", "--states", "home,harbor,town", "-o", "both.png")
    assert code == 0
    assert "Left, every action has its likeliest outcome" in said
    assert menura("tree", "fit", "--steps", "2", "-o", "cut.png")[0] == 0
    assert size_of(folder / "both.png")[0] > 1.5 * size_of(folder / "cut.png")[1]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("figures", "nowhere"), "nowhere holds no estimate"),
        (("figures", "fit", "--grid", "3x3"), "--grid 3x3 has 9 cells for 4 states"),
        (("figures", "fit", "--grid", "two"), "--grid two is not understood"),
        (("figures", "fit", "--grid", "2x2", "--env", "FrozenLake-v1"), "Give --grid or --env, not both"),
        (("figures", "fit", "--bins", "2,2"), "--bins needs --env"),
        (("figures", "fit", "--env", "MountainCar-v0", "--bins", "2;2"), "--bins 2;2 must be whole numbers"),
        (("figures", "fit", "--env", "MountainCar-v0", "--bins", "2,2"), "give the --bins that the fit was made with"),
        (("figures", "fit", "--env", "FrozenLake-v1"), "FrozenLake-v1 has 16 cells"),
        (("figures", "fit", "--actions", "up"), "--actions names 1 actions, and the problem has 2"),
        (("figures", "fit", "-o", "mdp.npz"), "a file is in the way"),
        (("tree",), "Give the folder of an estimate, or a problem with --mdp and a θ with --at"),
        (("tree", "fit", "--mdp", "mdp.npz"), "not both"),
        (("tree", "fit"), "endlessly many"),
        (("tree", "fit", "--steps", "0"), "--steps must be at least 1"),
        (("tree", "fit", "--steps", "30"), "more than 40 paths"),
        (("tree", "fit", "--start", "3"), "Paths end in state 3"),
        (("tree", "--mdp", "mdp.npz", "--at=-1"), "1 weights for 2 features"),
        (("tree", "--mdp", "mdp.npz", "--at=1,1"), "diverge"),
        (("tree", "fit", "--steps", "2", "-o", "tree.pdf"), "must end in .png"),
        (("tree", "fit", "--steps", "2", "-o", "mdp.npz/tree.png"), "cannot be written"),
    ],
)
def test_wrong_requests_end_with_one_sentence_and_code_2(menura, folder, arguments, sentence):
    before = sorted(folder.rglob("*"))
    code, out, err = menura(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("menura: ")
    assert err.count("\n") == 1
    assert sentence in err
    assert sorted(folder.rglob("*")) == before


def test_without_matplotlib_the_command_says_what_to_install(menura, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, _, err = menura("figures", "fit", "-o", tmp_path / "out")
    assert code == 2
    assert "`viz` extra" in err
    assert not (tmp_path / "out").exists()
