"""Cost regularizers by their names, from the list to a finished run."""

import dataclasses
import json

import pytest

from menura.run.registry import REGULARIZERS
from tests.cli.test_train import run

TINY = [
    "--total-steps", "128", "--num-envs", "4", "--forward.num-steps", "16", "--forward.hidden-sizes", "8",
    "--forward.value-epochs", "1", "--eval-every", "0", "--reward-form", "positive", "--logger", "csv",
]  # fmt: skip


def test_the_list_names_them_all_with_what_they_do(capsys):
    code, out, _ = run(capsys, "list", "regularizers", "--json")
    listed = json.loads(out)["regularizers"]
    assert code == 0
    assert listed.keys() == REGULARIZERS.keys()
    assert {"fem", "gtal"} < listed.keys()
    assert len(listed) == 11
    assert all(all(about.values()) for about in listed.values())


@pytest.mark.parametrize("name", ["reverse_kl", "wasserstein", "fem"])
def test_names_train_with_an_option_of_their_own(name, capsys, demos, tmp_path):
    has_bound = "bound" in {field.name for field in dataclasses.fields(REGULARIZERS[name])}
    own = ["--regularizer.bound", "2"] if has_bound else []
    command = ["train", "gail", "CartPole-v1", "--demos", demos, "--regularizer", name, *own, *TINY]
    code, out, err = run(capsys, *command, "--out", tmp_path)
    assert code == 0, err
    folder = tmp_path / out.strip().splitlines()[-1]
    learner = json.loads((folder / "config.json").read_text())["learner"]
    assert learner["regularizer"]["type"] == REGULARIZERS[name].__name__
    assert learner["regularizer"].get("bound") == (2.0 if has_bound else None)
    assert json.loads((folder / "result.json").read_text())["env_steps"] == 128


@pytest.mark.parametrize("option", [["--gradient-penalty", "2"], ["--num-score-steps", "3"], ["--hidden-sizes", "8"]])
@pytest.mark.parametrize("name", ["fem"])
def test_options_of_a_network_are_refused_where_there_is_none(name, option, capsys, demos):
    command = ["train", "gail", "CartPole-v1", "--demos", demos, "--regularizer", name, *option]
    code, _, err = run(capsys, *command)
    assert code == 2
    assert f"leave out {option[0]}" in err
