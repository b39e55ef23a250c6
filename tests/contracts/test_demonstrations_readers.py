"""Every reader against files that the format's own library wrote (``tests/fixtures/make_*.py`` are how)."""

import os
import runpy
import shutil
from pathlib import Path

import numpy as np
import pytest

from menura.core import Images, RequestError, Vector
from menura.demonstrations import load
from menura.run.request import spec_of_demos

FIXTURES = Path(__file__).parent.parent / "fixtures"
EXPERT = runpy.run_path(str(FIXTURES / "expert.py"))["episodes"]

BOX = [
    "minari/toy/box-hdf5-v0",
    "minari/toy/box-arrow-v0",
    "minari/toy/box-parquet-v0",
    "imitation/box",
    "imitation_old/box.npz",
    "robomimic/vectors.hdf5",
    "d4rl/next.hdf5",
]
DISCRETE = [
    "minari/toy/discrete-hdf5-v0",
    "minari/toy/discrete-arrow-v0",
    "minari/toy/discrete-parquet-v0",
    "imitation/discrete",
    "imitation_old/discrete.npz",
]
WITHOUT_FINAL_OBS = ["lerobot/toy", "d4rl/timeouts.hdf5"]


@pytest.fixture(autouse=True)
def _packages():
    pytest.importorskip("h5py")
    pytest.importorskip("pyarrow")


def assert_is_the_expert(demos, expert):
    assert len(demos) == len(expert)
    for got, want in zip(demos.episodes, expert, strict=True):
        np.testing.assert_array_equal(got.obs, want["obs"][: len(got.obs)])
        np.testing.assert_array_equal(got.actions, want["actions"])
        np.testing.assert_allclose(got.rewards, want["rewards"])
        assert got.terminated == want["terminated"]
    np.testing.assert_allclose(demos.expert_return, np.mean([e["rewards"].sum() for e in expert]), rtol=1e-5)


@pytest.mark.parametrize("name", BOX)
def test_vectors_are_read_as_they_were_written(name):
    demos = load(FIXTURES / name)
    assert_is_the_expert(demos, EXPERT())
    assert demos.num_dropped == 0
    assert demos.source == str(FIXTURES / name)


@pytest.mark.parametrize("name", DISCRETE)
def test_integers_are_read_from_zero_wherever_their_space_began(name):
    assert_is_the_expert(load(FIXTURES / name), EXPERT(discrete=True))


@pytest.mark.parametrize("name", WITHOUT_FINAL_OBS)
def test_formats_without_final_observations_drop_one_transition(name):
    demos = load(FIXTURES / name)
    assert_is_the_expert(demos, EXPERT())
    assert demos.num_dropped == 1


def test_one_number_in_another_place_changes_what_is_read():
    expert = EXPERT()
    expert[1]["obs"][2, 0] += 0.5
    with pytest.raises(AssertionError):
        assert_is_the_expert(load(FIXTURES / BOX[0]), expert)


def test_all_formats_hold_the_same_content():
    assert len({load(FIXTURES / name).content_hash() for name in BOX if "d4rl" not in name}) == 1


@pytest.mark.parametrize("name", [*BOX, *DISCRETE, *WITHOUT_FINAL_OBS])
def test_arrays_cannot_be_written_to(name):
    episode = load(FIXTURES / name).episodes[0]
    for array in (episode.obs, episode.actions, episode.rewards):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


def is_mapped(array) -> bool:
    """Whether the array lies in a memory map, of NumPy's or of Arrow's."""
    while array is not None:
        if isinstance(array, np.memmap) or type(array).__module__.startswith("pyarrow"):
            return True
        array = getattr(array, "base", None)
    return False


@pytest.mark.parametrize("name", ["robomimic/vectors.hdf5", "minari/toy/box-arrow-v0", "imitation/box"])
def test_arrays_that_lie_plainly_on_disk_stay_there(name):
    assert is_mapped(load(FIXTURES / name).episodes[0].actions)


def test_the_environment_is_read_where_it_is_said():
    assert load(FIXTURES / "minari/toy/box-hdf5-v0").env_id == "Toy-v0"
    assert load(FIXTURES / "imitation/box").env_id is None


def test_a_minari_dataset_is_found_by_its_id(monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(FIXTURES / "minari"))
    assert_is_the_expert(load("toy/box-hdf5-v0"), EXPERT())
    assert len(load(FIXTURES / "minari/toy/box-hdf5-v0/data")) == 3


def test_pickled_infos_are_left_out_and_said():
    demos = load(FIXTURES / "imitation_old/box.npz")
    assert any("infos" in note and "left out" in note for note in demos.notes)


def test_a_single_old_trajectory_is_read_though_its_indices_are_empty_floats():
    assert_is_the_expert(load(FIXTURES / "imitation_old/single.npz"), EXPERT()[:1])


def test_pictures_of_robomimic_are_read_beside_its_vectors():
    demos = load(FIXTURES / "robomimic/toy.hdf5")
    assert "camera_image, position, speed" in demos.notes[0]
    assert any("train" in note for note in demos.notes)
    spec = spec_of_demos(demos)
    assert [(name, type(part)) for name, part in spec.parts] == [
        ("camera_image", Images), ("position", Vector), ("speed", Vector)]  # fmt: skip
    for episode, want in zip(demos.episodes, EXPERT(), strict=True):
        assert episode.obs.shape == (len(want["obs"]), spec.obs_size)
        assert not episode.obs[:, :48].any()
        np.testing.assert_array_equal(np.ascontiguousarray(episode.obs[:, 48:]).view(np.float32), want["obs"])


def test_other_arrays_are_left_out_of_robomimic_and_said(tmp_path):
    import h5py

    path = tmp_path / "toy.hdf5"
    shutil.copy(FIXTURES / "robomimic/toy.hdf5", path)
    with h5py.File(path, "a") as file:
        file["data/demo_0/obs/depth"] = np.zeros((len(file["data/demo_0/actions"]), 4, 4, 1), np.float32)
    assert any(note.endswith("were left out: depth.") for note in load(path).notes)


def test_d4rl_without_timeouts_ends_where_its_terminals_say():
    demos = load(FIXTURES / "d4rl/flat.hdf5")
    np.testing.assert_array_equal(demos.lengths, [6, 4, 5])
    assert all(episode.terminated for episode in demos.episodes)


def write_imitation_npz(path: Path, lengths: list[int], terminal: list[bool]) -> Path:
    total = sum(lengths)
    np.savez(
        path,
        obs=np.zeros((total + len(lengths), 2)),
        acts=np.zeros((total, 1)),
        rews=np.ones(total),
        terminal=np.array(terminal),
        indices=np.cumsum(lengths)[:-1],
    )
    return path


def test_episodes_of_the_common_longest_length_are_taken_to_be_cut_by_the_clock(tmp_path):
    demos = load(write_imitation_npz(tmp_path / "a.npz", [50, 30, 50, 50], [True] * 4))
    assert [episode.terminated for episode in demos.episodes] == [False, True, False, False]
    assert "3 that reached the longest length, 50" in demos.notes[0]


def test_a_longest_length_that_only_one_episode_has_is_no_time_limit(tmp_path):
    demos = load(write_imitation_npz(tmp_path / "a.npz", [50, 30, 40], [True] * 3))
    assert all(episode.terminated for episode in demos.episodes)
    assert demos.notes == ()


def write_npz(path: Path, **changes) -> Path:
    """An npz of two episodes in our own layout; a change to ``None`` leaves an array out."""
    arrays = {
        "observations": np.arange(10, dtype=np.float32).reshape(5, 2),
        "actions": np.arange(5),
        "rewards": np.ones(5, np.float32),
        "episode_lengths": np.array([3, 2]),
        "terminated": np.array([True, False]),
        "final_observations": np.full((2, 2), 9, np.float32),
        "meta": np.array('{"env": "gymnasium Hopper-v5 with xml_file=a.xml"}'),
    }
    arrays = {name: array for name, array in {**arrays, **changes}.items() if array is not None}
    np.savez(path, **arrays)
    return path


def test_an_npz_of_episodes_is_cut_where_its_lengths_say(tmp_path):
    demos = load(write_npz(tmp_path / "a.npz"))
    np.testing.assert_array_equal(demos.episodes[1].obs, [[6, 7], [8, 9], [9, 9]])
    np.testing.assert_array_equal(demos.episodes[1].actions, [3, 4])
    assert [episode.terminated for episode in demos.episodes] == [True, False]
    assert demos.env_id == "Hopper-v5"
    assert demos.expert_return == 2.5


def test_an_npz_may_lack_rewards_actions_final_observations_and_meta(tmp_path):
    demos = load(write_npz(tmp_path / "a.npz", rewards=None, actions=None, final_observations=None, meta=None))
    assert demos.num_dropped == 2  # without actions a step is nothing but its successor
    assert np.isnan(demos.expert_return)
    assert demos.episodes[0].actions is None
    assert demos.env_id is None


def test_an_npz_is_recognised_without_its_ending(tmp_path):
    write_npz(tmp_path / "a.npz")
    shutil.move(tmp_path / "a.npz", tmp_path / "a")
    assert len(load(tmp_path / "a")) == 2


def test_what_is_not_there_and_what_is_not_known_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "root"))
    with pytest.raises(RequestError, match="there is no such file or folder, and no Minari dataset"):
        load(tmp_path / "absent")
    with pytest.raises(RequestError, match="is a folder that none of the known formats has written"):
        load(tmp_path)
    (tmp_path / "text").write_text("hello")
    with pytest.raises(RequestError, match="is not in a format that can be read"):
        load(tmp_path / "text")
    np.save(tmp_path / "array.npy", np.zeros((2, 3, 4)))
    with pytest.raises(RequestError, match="is a single array, which does not say where episodes begin"):
        load(tmp_path / "array.npy")


def test_many_memory_mapped_episodes_do_not_use_up_file_handles(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "many.hdf5", "w") as file:
        for i in range(300):
            group = file.create_group(f"data/demo_{i}")
            group["actions"] = np.zeros((2, 1))
            group["dones"] = np.array([0, 1])
            group["obs/state"] = np.full((2, 3), float(i))
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    demos = load(tmp_path / "many.hdf5")
    after = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    assert after - before < 10
    assert [float(e.obs[0, 0]) for e in demos.episodes] == list(range(300))
