"""What is written can be read back, by us and by minari, and is never seen half-written."""

import dataclasses
import json
import runpy
from pathlib import Path

import numpy as np
import pytest

from menura.core import RequestError
from menura.demonstrations import Demonstrations, Episode, load, save

h5py = pytest.importorskip("h5py")

EXPERT = runpy.run_path(str(Path(__file__).parent.parent / "fixtures" / "expert.py"))["episodes"]


def toy(*, discrete: bool = False, final: bool = True) -> Demonstrations:
    episodes = [
        Episode(e["obs"] if final else e["obs"][:-1], e["actions"], e["rewards"], e["terminated"], len(e["rewards"]))
        for e in EXPERT(discrete)
    ]
    return Demonstrations(tuple(episodes), source="toy", env_id="CartPole-v1", expert_return=0.0)


@pytest.mark.parametrize("name", ["toy.npz", "toy"])
@pytest.mark.parametrize("discrete", [False, True])
def test_what_is_written_is_read_back(tmp_path, name, discrete):
    demos = toy(discrete=discrete)
    save(demos, tmp_path / "below" / name)
    back = load(tmp_path / "below" / name)
    assert back.content_hash() == demos.content_hash()
    assert back.env_id == "CartPole-v1"
    assert [p.name for p in (tmp_path / "below").iterdir()] == [name]


@pytest.mark.parametrize(("format", "name"), [("npz", "a"), ("minari", "b.npz")])
def test_a_named_format_wins_over_the_ending(tmp_path, format, name):
    save(toy(), tmp_path / name, format)
    assert load(tmp_path / name).metadata["format"] == {"npz": "npz of episodes", "minari": "Minari"}[format]


def test_npz_keeps_that_the_final_observation_is_unknown(tmp_path):
    demos = toy(final=False)
    save(demos, tmp_path / "a.npz")
    assert load(tmp_path / "a.npz").num_dropped == demos.num_dropped == 1


def test_minari_drops_the_transition_that_has_no_successor(tmp_path):
    save(toy(final=False), tmp_path / "a")
    back = load(tmp_path / "a")
    np.testing.assert_array_equal(back.lengths, [6, 3, 5])
    assert back.num_dropped == 0
    np.testing.assert_array_equal(back.episodes[1].obs, EXPERT()[1]["obs"][:4])


def test_npz_holds_states_alone_and_minari_refuses_them(tmp_path):
    states = dataclasses.replace(
        toy(), episodes=tuple(dataclasses.replace(e, actions=None, rewards=None) for e in toy().episodes)
    )
    save(states, tmp_path / "a.npz")
    assert load(tmp_path / "a.npz").episodes[0].actions is None
    with pytest.raises(RequestError, match="Minari needs actions and rewards"):
        save(states, tmp_path / "a")
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]


def test_our_minari_files_are_memory_mapped_when_read(tmp_path):
    save(toy(), tmp_path / "a")
    obs = load(tmp_path / "a").episodes[0].obs
    while not isinstance(obs, np.memmap):
        obs = obs.base
    assert obs.filename.name == "main_data.hdf5"


@pytest.mark.parametrize("discrete", [False, True])
def test_minari_itself_reads_what_we_write(tmp_path, monkeypatch, discrete):
    minari = pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    save(toy(discrete=discrete), tmp_path / "toys" / "ours-v2")
    dataset = minari.load_dataset("toys/ours-v2")
    assert dataset.spec.dataset_id == "toys/ours-v2"
    assert (dataset.total_episodes, dataset.total_steps) == (3, 15)
    for episode, want in zip(dataset.iterate_episodes(), EXPERT(discrete), strict=True):
        np.testing.assert_array_equal(episode.observations, want["obs"])
        np.testing.assert_array_equal(episode.actions, want["actions"])
        np.testing.assert_allclose(episode.rewards, want["rewards"])
        assert bool(episode.terminations[-1]) == want["terminated"]
        assert bool(episode.truncations[-1]) != want["terminated"]
        assert episode.observations[0] in dataset.observation_space
        assert episode.actions[0] in dataset.action_space


def test_spaces_that_the_source_told_are_passed_on(tmp_path):
    bounds = {"type": "Box", "dtype": "float32", "shape": [2], "low": [-1.0, -2.0], "high": [1.0, 2.0]}
    save(dataclasses.replace(toy(), metadata={"action_space": bounds}), tmp_path / "a")
    written = json.loads((tmp_path / "a/data/metadata.json").read_text())
    assert json.loads(written["action_space"]) == bounds
    assert json.loads(written["observation_space"])["shape"] == [3]
    save(load(tmp_path / "a"), tmp_path / "b")
    again = json.loads((tmp_path / "b/data/metadata.json").read_text())
    assert json.loads(again["action_space"]) == bounds


@pytest.mark.parametrize(
    "told", [3, {"type": "Box"}, {"type": "Box", "shape": [2]}, {"type": "Box", "shape": [9], "low": 0, "high": 1}]
)
def test_spaces_that_make_no_sense_are_not_passed_on(tmp_path, told):
    save(dataclasses.replace(toy(), metadata={"action_space": told}), tmp_path / "a")
    space = json.loads(json.loads((tmp_path / "a/data/metadata.json").read_text())["action_space"])
    assert space["low"] == [-np.inf, -np.inf]


@pytest.mark.parametrize("name", ["a.npz", "a"])
def test_what_exists_is_replaced_only_when_asked(tmp_path, name):
    save(toy(), tmp_path / name)
    other = toy(discrete=True)
    with pytest.raises(RequestError, match="exists already"):
        save(other, tmp_path / name)
    assert load(tmp_path / name).content_hash() == toy().content_hash()
    save(other, tmp_path / name, overwrite=True)
    assert load(tmp_path / name).content_hash() == other.content_hash()
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_a_folder_of_something_else_is_never_replaced(tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.tex").write_text("…")
    with pytest.raises(RequestError, match="something other than demonstrations"):
        save(toy(), tmp_path / "work", overwrite=True)
    assert (tmp_path / "work" / "thesis.tex").exists()


@pytest.mark.parametrize("name", ["a.npz", "a"])
def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch, name):
    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", fail)
    monkeypatch.setattr(h5py.Group, "__setitem__", fail)
    with pytest.raises(RequestError, match="cannot be written: No space left on device"):
        save(toy(), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_broken_demonstrations_and_subsampled_ones_are_not_written(tmp_path):
    bad = toy()
    obs = bad.episodes[0].obs.copy()
    obs[0, 0] = np.nan
    with pytest.raises(RequestError, match="nan"):
        save(dataclasses.replace(bad, episodes=(dataclasses.replace(bad.episodes[0], obs=obs),)), tmp_path / "a.npz")
    with pytest.raises(RequestError, match="save them whole"):
        save(toy().subsample(every=2), tmp_path / "a.npz")
    assert list(tmp_path.iterdir()) == []
