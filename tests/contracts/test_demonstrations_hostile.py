"""Files that are wrong, by accident or on purpose: one sentence each, and nothing in them is ever run."""

import json
import pickle
import runpy
import shutil
from pathlib import Path

import numpy as np
import pytest

from menura.core import RequestError
from menura.demonstrations import load

FIXTURES = Path(__file__).parent.parent / "fixtures"
EXPERT = runpy.run_path(str(FIXTURES / "expert.py"))["episodes"]

h5py = pytest.importorskip("h5py")
pa = pytest.importorskip("pyarrow")

GOOD = {
    "observations": np.zeros((5, 2), np.float32),
    "actions": np.zeros((5, 1), np.float32),
    "rewards": np.ones(5, np.float32),
    "episode_lengths": np.array([3, 2]),
    "terminated": np.array([True, False]),
    "final_observations": np.zeros((2, 2), np.float32),
}
OLD = {
    "obs": np.zeros((7, 2)),
    "acts": np.zeros((5, 1)),
    "rews": np.ones(5),
    "terminal": np.array([True, True]),
    "indices": np.array([3]),
}


class Bomb:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def put(array, index, value):
    array = array.copy()
    array[index] = value
    return array


def refused(path: Path, match: str) -> None:
    """A refusal is one sentence that names the file."""
    with pytest.raises(RequestError, match=match) as caught:
        load(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("field", "value", "match"),
    [
        ("observations", put(GOOD["observations"], (4, 1), np.nan), r"episode 1, step 1: observations\[1\] is nan"),
        ("final_observations", np.full((2, 2), np.inf), r"episode 0, step 3: observations\[0\] is inf"),
        ("actions", put(GOOD["actions"], (2, 0), -np.inf), r"episode 0, step 2: actions\[0\] is -inf"),
        ("rewards", put(GOOD["rewards"], 3, np.nan), "episode 1, step 0: rewards is nan"),
        ("observations", np.zeros((5, 2, 2, 2)), "final_observations have shape"),
        ("observations", np.zeros(()), "observations is a single value"),
        ("observations", np.zeros((6, 2)), "episode_lengths give 5 steps in all and the arrays hold 6"),
        ("observations", np.full((5, 2), "a"), "observations are <U1, not numbers"),
        ("observations", np.zeros((5, 2), complex), "observations are complex128, not numbers"),
        ("observations", np.zeros((5, 2), "M8[s]"), r"observations are datetime64\[s\], not numbers"),
        ("observations", np.zeros((5, 2), [("x", float)]), "observations are .* not numbers"),
        ("actions", np.zeros((4, 1)), "actions have 4 rows"),
        ("actions", np.zeros(()), "actions have 0 rows"),
        ("rewards", np.zeros((5, 2)), "rewards have shape"),
        ("rewards", np.array(["1"] * 5), "rewards are <U1, not numbers"),
        ("episode_lengths", np.array([6, -1]), "episode 1: episode_lengths gives -1 steps"),
        ("episode_lengths", np.array([5, 0]), "episode 1: episode_lengths gives 0 steps"),
        ("episode_lengths", np.array([3, 3]), "give 6 steps in all"),
        ("episode_lengths", np.array([2**62] * 4 + [5], np.int64), "the two must agree"),
        ("episode_lengths", np.array([2.5, 2.5]), "must be whole numbers"),
        ("episode_lengths", np.array([[3, 2]]), "must be whole numbers"),
        ("episode_lengths", np.array([], int), "must be whole numbers"),
        ("terminated", np.array([True]), "terminated must be 2 values of 0 or 1"),
        ("terminated", np.array([0.5, np.nan]), "terminated must be 2 values of 0 or 1"),
        ("terminated", np.array(["yes", "no"]), "terminated must be 2 values of 0 or 1"),
        ("final_observations", np.zeros((3, 2)), "final_observations have 3 rows"),
        ("final_observations", np.zeros((2, 3)), "final_observations have shape"),
        ("final_observations", np.full((2, 2), "a"), "final_observations are <U1, not numbers"),
    ],
)  # fmt: skip
def test_a_wrong_npz_of_episodes_is_refused(tmp_path, field, value, match):
    np.savez(tmp_path / "a.npz", **{**GOOD, field: value})
    refused(tmp_path / "a.npz", match)


@pytest.mark.parametrize(
    ("field", "value", "match"),
    [
        ("indices", np.array([9]), "indices reach outside"),
        ("indices", np.array([0]), "episode 0: indices gives 0 steps"),
        ("indices", np.array([4, 2]), "episode 1: indices gives -2 steps"),
        ("indices", np.array([-(2**63)]), "indices reach outside"),
        ("indices", np.array([2**64 - 1], np.uint64), "indices reach outside"),
        ("indices", np.array([1.5]), "indices must be whole numbers"),
        ("obs", np.zeros((5, 2)), "obs have 5 rows where the episode lengths ask for 7"),
        ("acts", np.zeros(()), "acts is a single value"),
        ("rews", np.zeros(4), "rews have 4 rows"),
        ("terminal", np.array([True, True, True]), "terminal must be 2 values"),
        ("rews", np.array([1, 2, np.nan, 4, 5]), "episode 0, step 2: rewards is nan"),
    ],
)
def test_a_wrong_old_imitation_file_is_refused(tmp_path, field, value, match):
    np.savez(tmp_path / "a.npz", **{**OLD, field: value})
    refused(tmp_path / "a.npz", match)


@pytest.mark.parametrize("field", ["observations", "actions", "rewards", "extra", "meta"])
def test_an_object_array_refuses_the_file_and_is_not_unpickled(tmp_path, field):
    bomb = np.empty(1, object)
    bomb[0] = Bomb(tmp_path / "mark")
    np.savez(tmp_path / "a.npz", allow_pickle=True, **{**GOOD, field: bomb})
    refused(tmp_path / "a.npz", f"{field} holds pickled Python objects")
    assert not (tmp_path / "mark").exists()


def test_infos_of_an_old_file_are_not_unpickled(tmp_path):
    bomb = np.empty(5, object)
    bomb[:] = Bomb(tmp_path / "mark")
    np.savez(tmp_path / "a.npz", allow_pickle=True, infos=bomb, **OLD)
    assert len(load(tmp_path / "a.npz")) == 2
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("name", ["a.pkl", "a.npz"])
def test_a_pickle_is_not_opened_whatever_it_is_called(tmp_path, name):
    (tmp_path / name).write_bytes(pickle.dumps(Bomb(tmp_path / "mark")))
    refused(tmp_path / name, "pickle|cannot be read as an npz archive")
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("kept", [0, 1, 3, 30, 300, -1, -30])
def test_a_truncated_archive_is_refused(tmp_path, kept):
    np.savez(tmp_path / "whole.npz", **GOOD)
    (tmp_path / "a.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:kept])
    refused(tmp_path / "a.npz", "cannot be read as an npz archive")


@pytest.mark.parametrize("names", [["x"], ["observations"], ["obs"], ["obs", "acts"]])
def test_an_archive_of_something_else_says_what_is_missing(tmp_path, names):
    np.savez(tmp_path / "a.npz", **{name: np.zeros((5, 2)) for name in names})
    refused(tmp_path / "a.npz", "has .*no ")


def test_a_meta_that_is_not_json_is_left_out_and_said(tmp_path):
    for text in ("{", "[1]", "[" * 100_000):
        np.savez(tmp_path / "a.npz", **GOOD, meta=np.array(text))
        assert "meta is not a JSON object" in load(tmp_path / "a.npz").notes[0]


def jsonpickled_bomb(mark: Path) -> str:
    return json.dumps({"py/reduce": [{"py/type": "pathlib.Path.touch"}, {"py/tuple": [str(mark)]}]})


def write_huggingface(folder: Path, table) -> Path:
    folder.mkdir()
    (folder / "dataset_info.json").write_text("{}")
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data.arrow"}]}))
    with pa.ipc.new_stream(str(folder / "data.arrow"), table.schema) as writer:
        writer.write_table(table)
    return folder


def huggingface_table(**changes):
    columns = {"obs": [[[0.0], [1.0], [2.0]]], "acts": [[0, 1]], "terminal": [True], "infos": [["{}", "{}"]], **changes}
    return pa.table({name: column for name, column in columns.items() if column is not None})


def test_jsonpickled_infos_are_not_decoded(tmp_path):
    infos = [[jsonpickled_bomb(tmp_path / "mark")] * 2]
    assert len(load(write_huggingface(tmp_path / "a", huggingface_table(infos=infos)))) == 1
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"obs": None}, "has no obs"),
        ({"acts": [["a", "b"]]}, "episode 0: acts are string, not numbers"),
        ({"acts": [[0, None]]}, "episode 0: acts has gaps"),
        ({"acts": [None]}, "episode 0: acts is not a list"),
        ({"acts": [3]}, "episode 0: acts is not a list"),
        ({"acts": [[]]}, "episode 0: acts are null|has 0 steps"),
        ({"obs": [[[0.0], [1.0, 2.0], [2.0]]]}, "episode 0: obs has rows of 1 and of 2 values"),
        ({"obs": [[[0.0], [float("nan")], [2.0]]]}, r"episode 0, step 1: observations\[0\] is nan"),
        ({"obs": [[[0.0]]]}, "episode 0: observations have 1 rows"),
        ({"terminal": [1]}, "episode 0: terminal is 1, not true or false"),
    ],
)
def test_a_wrong_imitation_folder_is_refused(tmp_path, changes, match):
    refused(write_huggingface(tmp_path / "a", huggingface_table(**changes)), match)


@pytest.mark.parametrize(
    "state", [{}, [], {"_data_files": []}, {"_data_files": [{"filename": "../other.arrow"}]}, {"_data_files": [3]}]
)
def test_a_dataset_folder_leads_to_no_file_outside_it(tmp_path, state):
    folder = write_huggingface(tmp_path / "a", huggingface_table())
    shutil.copy(folder / "data.arrow", tmp_path / "other.arrow")
    (folder / "state.json").write_text(json.dumps(state))
    with pytest.raises(RequestError, match=r"state\.json"):
        load(folder)


def write_d4rl(path: Path, **changes) -> Path:
    arrays = {
        "observations": np.zeros((5, 2), np.float32),
        "actions": np.zeros((5, 1), np.float32),
        "rewards": np.ones(5, np.float32),
        "terminals": np.array([0, 0, 1, 0, 0], bool),
        "timeouts": np.array([0, 0, 0, 0, 1], bool),
        **changes,
    }
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            if array is not None:
                file[name] = array
    return path


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"actions": None}, "there is no array actions"),
        ({"actions": np.zeros((4, 1))}, r"actions have shape \(4, 1\) and there are 5 observations"),
        ({"actions": np.full((5, 1), np.nan)}, r"episode 0, step 0: actions\[0\] is nan"),
        ({"terminals": np.array([0, 0, 2, 0, 0])}, "terminals must be 5 values of 0 or 1"),
        ({"timeouts": np.array([True])}, "timeouts must be 5 values of 0 or 1"),
        ({"rewards": np.array([b"a"] * 5)}, "rewards holds .*, not numbers"),
        ({"next_observations": np.zeros((5, 3))}, "next_observations have shape"),
        ({"observations": np.zeros((0, 2))}, "terminals must be 0 values"),
        ({"observations": np.zeros((0, 2)), "terminals": np.zeros(0), "timeouts": None}, "holds no steps"),
        ({"observations": h5py.Empty("f")}, "observations is empty"),
        ({"observations": h5py.SoftLink("/actions")}, "observations is a link to elsewhere"),
        ({"observations": h5py.ExternalLink("other.hdf5", "/actions")}, "observations is a link to elsewhere"),
    ],
)
def test_a_wrong_d4rl_file_is_refused(tmp_path, changes, match):
    write_d4rl(tmp_path / "other.hdf5")
    refused(write_d4rl(tmp_path / "a.hdf5", **changes), match)


def test_arrays_stored_outside_an_hdf5_file_are_not_followed(tmp_path):
    (tmp_path / "secret").write_bytes(bytes(80))
    path = write_d4rl(tmp_path / "a.hdf5", rewards=None)
    with h5py.File(path, "a") as file:
        file.create_dataset("rewards", (5,), "f8", external=[(str(tmp_path / "secret"), 0, 40)])
    refused(path, "rewards lies in another file")


def test_virtual_hdf5_arrays_are_not_followed(tmp_path):
    other = write_d4rl(tmp_path / "other.hdf5")
    path = write_d4rl(tmp_path / "a.hdf5", rewards=None)
    layout = h5py.VirtualLayout((5,), "f4")
    layout[:] = h5py.VirtualSource(str(other), "rewards", (5,))
    with h5py.File(path, "a") as file:
        file.create_virtual_dataset("rewards", layout)
    refused(path, "rewards lies in another file")


def copy(name: str, tmp_path: Path) -> Path:
    source, target = FIXTURES / name, tmp_path / Path(name).name
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copy(source, target)
    return target


@pytest.mark.parametrize(
    ("group", "field", "value", "match"),
    [
        ("demo_1", "actions", np.zeros((3, 2)), "episode 1: num_samples is 4 and actions have 3 rows"),
        ("demo_1", "dones", None, "episode 1: there is no array dones"),
        ("demo_1", "dones", np.full(4, 7), "episode 1: dones must be 4 values of 0 or 1"),
        ("demo_2", "obs/speed", None, "episode 2: there is no array speed"),
        ("demo_2", "obs/speed", np.zeros((3, 1)), "episode 2: the arrays of obs differ in rows"),
        (
            "demo_2",
            "obs/camera_image",
            np.zeros((5, 4, 5, 3), np.uint8),
            "episode 2: the arrays of obs have other shapes",
        ),
        ("demo_2", "obs/camera_image", np.ones((5, 4, 4, 3)), "or numbers than in episode 0; mend camera_image"),
        ("demo_2", "next_obs/speed", np.zeros((5, 2)), "episode 2: the arrays of next_obs have other shapes"),
        ("demo_2", "rewards", np.full(5, np.nan), "episode 2, step 0: rewards is nan"),
    ],
)
def test_a_wrong_robomimic_file_is_refused(tmp_path, group, field, value, match):
    path = copy("robomimic/toy.hdf5", tmp_path)
    with h5py.File(path, "a") as file:
        del file[f"data/{group}/{field}"]
        if value is not None:
            file[f"data/{group}/{field}"] = value
    refused(path, match)


def test_robomimic_successors_of_another_width_are_refused(tmp_path):
    path = copy("robomimic/vectors.hdf5", tmp_path)
    with h5py.File(path, "a") as file:
        del file["data/demo_2/next_obs/speed"]
        file["data/demo_2/next_obs/speed"] = np.zeros((5, 2))
    refused(path, "episode 2: next_obs have shape")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"total_episodes": 4}, "episode 3 is missing"),
        ({"total_episodes": 2}, "total_steps is 15 and the episodes hold 10"),
        ({"total_episodes": -1}, "total_episodes is -1"),
        ({"total_episodes": "3"}, "total_episodes is '3'"),
        ({"data_format": "zarr"}, "data_format is 'zarr'"),
        ({"data_format": ["hdf5"]}, "data_format is"),
        ({"observation_space": '{"type": "Dict", "subspaces": {}}'}, "observation_space is a Dict"),
        ({"observation_space": '{"type": "Box", "shape": [64, 64, 3]}'}, "observation_space is a Box of shape"),
        ({"observation_space": "{"}, "is not a space that Minari writes"),
        ({"observation_space": {"type": "Box"}}, "is not a space that Minari writes"),
        ({"action_space": '{"type": "Discrete", "n": 3, "start": 1e99}'}, "starts at 1e\\+99"),
        ({"action_space": '{"type": "Discrete", "n": 3, "start": 99999999999999999999}'}, "starts at 9999"),
    ],
)
@pytest.mark.parametrize("data_format", ["hdf5", "arrow"])
def test_a_wrong_minari_metadata_is_refused(tmp_path, data_format, changes, match):
    path = copy(f"minari/toy/box-{data_format}-v0", tmp_path)
    metadata = json.loads((path / "data/metadata.json").read_text())
    (path / "data/metadata.json").write_text(json.dumps({**metadata, **changes}))
    refused(path, match)


def test_a_wrong_minari_episode_is_refused(tmp_path):
    path = copy("minari/toy/box-hdf5-v0", tmp_path)
    with h5py.File(path / "data/main_data.hdf5", "a") as file:
        file["episode_1/observations"][2, 1] = np.nan
    refused(path, r"episode 1, step 2: observations\[1\] is nan")
    with h5py.File(path / "data/main_data.hdf5", "a") as file:
        del file["episode_1/truncations"]
    refused(path, "episode 1: there is no array truncations")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"codebase_version": "v2.1"}, "of version v2.1; convert it"),
        ({"total_episodes": 7}, "total_episodes is 7 and the data hold 3"),
        ({"features": []}, "features do not say"),
        ({"features": {}}, "no feature named action"),
        ({"features": {"action": {}}}, "no observation feature that is a vector"),
        ({"features": {"action": {}, "observation.x": {"dtype": "float32", "shape": [3]}}}, "no column observation.x"),
    ],
)
def test_a_wrong_lerobot_folder_is_refused(tmp_path, changes, match):
    path = copy("lerobot/toy", tmp_path)
    info = json.loads((path / "meta/info.json").read_text())
    (path / "meta/info.json").write_text(json.dumps({**info, **changes}))
    refused(path, match)


FUZZED = [
    "minari/toy/box-hdf5-v0",
    "minari/toy/discrete-arrow-v0",
    "minari/toy/box-parquet-v0",
    "imitation/box",
    "imitation_old/box.npz",
    "lerobot/toy",
    "robomimic/toy.hdf5",
    "d4rl/timeouts.hdf5",
]


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """Some bytes changed, zeroed or cut off."""
    changed = bytearray(content)
    start = int(rng.integers(len(changed)))
    match int(rng.integers(4)):
        case 0:
            for i in rng.integers(0, len(changed), rng.integers(1, 9)):
                changed[i] = rng.integers(256)
        case 1:
            del changed[start:]
        case 2:
            end = min(len(changed), start + int(rng.integers(1, 64)))
            changed[start:end] = bytes(end - start)
        case 3:
            end = min(len(changed), start + int(rng.integers(1, 16)))
            changed[start:end] = rng.bytes(end - start)
    return bytes(changed)


def loads_or_refuses(path: Path) -> None:
    """Anything else is an error of the test."""
    try:
        demos = load(path)
    except RequestError:
        return
    else:
        demos.check()
        assert np.all(np.isfinite([demos.expert_return, *demos.returns]))


@pytest.mark.parametrize("name", FUZZED)
def test_damaged_bytes_load_or_are_refused_and_nothing_else(tmp_path, name):
    whole = copy(name, tmp_path)
    files = sorted(f for f in whole.rglob("*") if f.is_file()) if whole.is_dir() else [whole]
    rng = np.random.default_rng(0)
    for _ in range(40):
        file = files[rng.integers(len(files))]
        content = file.read_bytes()
        file.unlink()
        file.write_bytes(mutated(content, rng))
        loads_or_refuses(whole)
        file.unlink()
        file.write_bytes(content)


HOSTILE_VALUES = [None, -1, 0, 2**70, 0.5, "", "x", [], [[1]], {}, True, "\ud800", [None, "../../x"]]


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("minari/toy/discrete-hdf5-v0", "data/metadata.json"),
        ("minari/toy/discrete-arrow-v0", "data/metadata.json"),
        ("lerobot/toy", "meta/info.json"),
        ("imitation/box", "state.json"),
    ],
)
def test_any_value_in_a_json_file_loads_or_is_refused(tmp_path, name, file):
    whole = copy(name, tmp_path)
    content = json.loads((whole / file).read_text())
    for key in content:
        for value in HOSTILE_VALUES:
            (whole / file).write_text(json.dumps({**content, key: value}))
            loads_or_refuses(whole)


def test_any_shape_and_type_in_an_npz_loads_or_is_refused(tmp_path):
    rng = np.random.default_rng(0)
    shapes = [(), (0,), (1,), (2,), (5,), (7,), (5, 1), (5, 2), (2, 2), (5, 2, 2), (0, 2)]
    kinds = ["f4", "f8", "f2", "i1", "u8", "?", "c8", "U3", "S2", "M8[s]", "V4"]
    for layout in (GOOD, OLD):
        for _ in range(150):
            field = list(layout)[rng.integers(len(layout))]
            value = np.zeros(shapes[rng.integers(len(shapes))], kinds[rng.integers(len(kinds))])
            np.savez(tmp_path / "a.npz", **{**layout, field: value})
            loads_or_refuses(tmp_path / "a.npz")
