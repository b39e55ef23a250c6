"""``menura demos``: each subcommand as a user types it."""

import json
import runpy
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from menura import cli
from menura.core import AbstractPolicy
from menura.demonstrations import load
from menura.networks import Categorical

FIXTURES = Path(__file__).parent.parent / "fixtures"
EXPERT = runpy.run_path(str(FIXTURES / "expert.py"))["episodes"]
OLD_NPZ = str(FIXTURES / "imitation_old" / "box.npz")

pytest.importorskip("h5py")


def demos(*arguments: str | Path) -> None:
    cli.main(["demos", *map(str, arguments)])


def refused(capsys, *arguments: str | Path) -> str:
    """The one sentence of a wrong request, which ends with exit code 2."""
    with pytest.raises(SystemExit) as caught:
        demos(*arguments)
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.strip().splitlines()) == 1
    return err


def printed_json(capsys) -> dict:
    return json.loads(capsys.readouterr().out)


class Leaning(AbstractPolicy):
    def distribution(self, obs):
        push = 10 * (obs[2] + obs[3])
        return Categorical(jnp.stack([-push, push]))


def test_show_says_what_a_newcomer_asks(capsys):
    demos("show", OLD_NPZ)
    out = capsys.readouterr().out
    assert "(imitation npz): 3 episodes, 15 steps" in out
    assert "0.6 ± 0.8" in out
    assert "5.0 steps, from 4 to 6" in out
    assert "2 by the environment, 1 by the clock" in out
    assert "3 numbers (float32)" in out
    assert "2 numbers (float32)" in out
    assert "infos are pickled" in out


def test_show_json_is_one_object_with_the_same_facts(capsys):
    demos("show", FIXTURES / "d4rl" / "timeouts.hdf5", "--json")
    shown = printed_json(capsys)
    assert shown["format"] == "D4RL"
    assert (shown["episodes"], shown["steps"], shown["transitions"], shown["dropped"]) == (3, 15, 14, 1)
    assert (shown["terminated"], shown["truncated"]) == (2, 1)
    assert shown["observations"]["shape"] == [3]
    assert shown["sha256"] == load(FIXTURES / "d4rl" / "timeouts.hdf5").content_hash()
    np.testing.assert_allclose(shown["mean_return"], np.mean([e["rewards"].sum() for e in EXPERT()]), rtol=1e-5)


def test_show_says_when_transitions_are_lost_or_rewards_unknown(capsys, tmp_path):
    demos("show", FIXTURES / "d4rl" / "timeouts.hdf5")
    assert "14 transitions; 1 last step of truncated episodes left out" in capsys.readouterr().out
    np.savez(
        tmp_path / "a.npz", observations=np.zeros((2, 1)), episode_lengths=np.array([2]), terminated=np.array([True])
    )
    demos("show", tmp_path / "a.npz")
    out = capsys.readouterr().out
    assert "not known: there are no rewards" in out
    assert "1 transitions; 1 last step of episodes left out" in out
    assert "actions        none" in out
    demos("show", tmp_path / "a.npz", "--json")
    shown = printed_json(capsys)
    assert shown["mean_return"] is None
    assert shown["actions"] is None


def test_validate_approves_and_compares_with_an_environment(capsys):
    demos("validate", OLD_NPZ)
    assert "is valid: 3 episodes, 15 steps, every number finite" in capsys.readouterr().out
    demos("validate", OLD_NPZ, "--json")
    assert printed_json(capsys)["valid"] is True
    sentence = refused(capsys, "validate", OLD_NPZ, "--env", "CartPole-v1")
    assert "observations have 3 numbers and the environment's have 4" in sentence


def test_validate_names_file_episode_step_and_field(capsys, tmp_path):
    rewards = np.zeros(5)
    rewards[4] = np.nan
    np.savez(
        tmp_path / "bad.npz",
        observations=np.zeros((5, 2)),
        rewards=rewards,
        episode_lengths=np.array([3, 2]),
        terminated=np.array([True, True]),
    )
    sentence = refused(capsys, "validate", tmp_path / "bad.npz")
    assert f"{tmp_path / 'bad.npz'}, episode 1, step 1: rewards is nan" in sentence


@pytest.mark.parametrize("name", ["out.npz", "out"])
def test_convert_keeps_the_content_and_does_not_overwrite_unasked(capsys, tmp_path, name):
    demos("convert", OLD_NPZ, "-o", tmp_path / name)
    assert f"Wrote {tmp_path / name}: 3 episodes, 15 steps, return 0.6 ± 0.8." in capsys.readouterr().out
    assert load(tmp_path / name).content_hash() == load(OLD_NPZ).content_hash()
    assert "exists already" in refused(capsys, "convert", OLD_NPZ, "-o", tmp_path / name)
    demos("convert", OLD_NPZ, "-o", tmp_path / name, "--overwrite", "--json")
    assert printed_json(capsys)["episodes"] == 3


def test_split_writes_two_disjoint_sets(capsys, tmp_path):
    demos("split", OLD_NPZ, "-o", tmp_path / "parts", "--fraction", "0.4", "--json")
    shown = printed_json(capsys)
    assert (shown["train"]["episodes"], shown["heldout"]["episodes"]) == (2, 1)
    parts = [load(tmp_path / "parts" / f"{name}.npz") for name in ("train", "heldout")]
    firsts = [e.obs[0].tolist() for part in parts for e in part.episodes]
    assert sorted(firsts) == sorted(e["obs"][0].tolist() for e in EXPERT())
    assert "exist already" in refused(capsys, "split", OLD_NPZ, "-o", tmp_path / "parts")
    assert "above 0" in refused(capsys, "split", OLD_NPZ, "-o", tmp_path / "other", "--fraction", "0")
    assert not (tmp_path / "other").exists()


def test_generate_records_the_policy_of_a_run(capsys, tmp_path, monkeypatch):
    asked = []

    def load_policy(run, checkpoint="last"):
        asked.append((Path(run), checkpoint))
        return Leaning(), {"env": "CartPole-v1", "backend": "jax", "env_kwargs": {}}

    monkeypatch.setattr("menura.run.artifacts.load_policy", load_policy)
    demos("generate", tmp_path / "run", "--episodes", "3", "-o", tmp_path / "cartpole", "--seed", "1")
    assert asked == [(tmp_path / "run", "best")]
    recorded = load(tmp_path / "cartpole")
    assert recorded.env_id == "CartPole-v1"
    assert len(recorded) == 3
    assert f"Wrote {tmp_path / 'cartpole'}: 3 episodes" in capsys.readouterr().out
    assert "exists already" in refused(capsys, "generate", tmp_path / "run", "-o", tmp_path / "cartpole")


def test_generate_records_any_object_with_predict(capsys, tmp_path, monkeypatch):
    (tmp_path / "my_expert.py").write_text(
        "class Agent:\n"
        "    def predict(self, obs, deterministic=True):\n"
        "        return (obs[:, 2] + obs[:, 3] > 0).astype(int), None\n"
        "agent = Agent()\n"
        "def make():\n"
        "    return Agent()\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    options = ("--env", "CartPole-v1", "--backend", "gymnasium", "--episodes", "2", "--json")
    demos("generate", "--predict", "my_expert:agent", *options, "-o", tmp_path / "a.npz")
    assert printed_json(capsys)["episodes"] == 2
    demos("generate", "--predict", "my_expert:make", *options, "-o", tmp_path / "b.npz")
    assert load(tmp_path / "a.npz").content_hash() == load(tmp_path / "b.npz").content_hash()
    capsys.readouterr()
    assert "cannot be imported" in refused(capsys, "generate", "--predict", "my_expert:nobody", *options, "-o", "c.npz")


def test_generate_asks_for_what_it_needs(capsys, tmp_path):
    assert "with -o" in refused(capsys, "generate", tmp_path)
    assert "Name one expert" in refused(capsys, "generate", "-o", tmp_path / "a")
    assert "needs --env" in refused(capsys, "generate", "--predict", "a:b", "-o", tmp_path / "a")
    assert "module:object" in refused(
        capsys, "generate", "--predict", "a", "--env", "CartPole-v1", "-o", tmp_path / "a"
    )
    assert "at least 1" in refused(capsys, "generate", tmp_path, "-o", tmp_path / "a", "--episodes", "0")


@pytest.mark.parametrize("arguments", [("show", "/nowhere"), ("convert", "/nowhere", "-o", "a"), ("guess",)])
def test_wrong_requests_are_one_sentence_and_code_2(capsys, arguments):
    assert refused(capsys, *arguments).startswith("menura: No ")


def test_help_lists_the_subcommands(capsys):
    with pytest.raises(SystemExit) as caught:
        demos("--help")
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert all(name in out for name in ("show", "validate", "convert", "split", "generate"))
