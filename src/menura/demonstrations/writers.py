"""``save``: write demonstrations so that nobody ever sees half of them."""

import contextlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from menura.core import DiscreteActions, RequestError, Spec
from menura.demonstrations.episodes import Demonstrations, Episode
from menura.demonstrations.spaces import parts_of_space, space_of_parts, split

Format = Literal["minari", "npz"]

MINARI_VERSION = "0.5.4"
"""The version of Minari whose layout is written."""


def save(
    demos: Demonstrations, path: str | os.PathLike, format: Format | None = None, *, overwrite: bool = False
) -> None:
    """Write all episodes, whole, as an npz of episodes or as a Minari dataset folder.

    Without ``format``, a path that ends in ``.npz`` is the former and any other the latter. It is written
    beside its place first and then moved there. An existing path is refused unless ``overwrite`` is set,
    and even then only demonstrations are replaced.
    """
    target = Path(path)
    if format is None:
        format = "npz" if target.suffix == ".npz" else "minari"
    if demos.kept is not None:
        raise RequestError(
            f"Only some steps of {demos.source or 'the demonstrations'} are kept; "
            "save them whole, and subsample when training."
        )
    demos.check()
    _refuse_existing(target, overwrite)
    with _moved_into_place(target) as beside:
        if format == "npz":
            _write_npz(demos, beside)
        else:
            beside.mkdir()
            _write_minari(demos, beside, _dataset_id(target))


def _refuse_existing(target: Path, overwrite: bool) -> None:
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not overwrite:
        raise RequestError(f"{target} exists already; choose another place, remove it, or allow overwriting.")
    if target.is_dir() and not (target / "data" / "metadata.json").is_file():
        raise RequestError(
            f"{target} is a folder of something other than demonstrations and is not overwritten; choose another place."
        )


@contextlib.contextmanager
def _moved_into_place(target: Path) -> Iterator[Path]:
    """A free path in the same folder, moved to ``target`` at the end, or removed if anything fails."""
    beside = target.parent / f".{target.name}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        if target.is_dir():
            # A folder cannot be replaced in one step, so the old one steps aside first.
            aside = beside.with_suffix(".old")
            os.replace(target, aside)
            os.replace(beside, target)
            shutil.rmtree(aside)
        else:
            os.replace(beside, target)
    except OSError as error:
        raise RequestError(f"{target} cannot be written: {error.strerror or error}.") from error
    finally:
        if beside.is_dir():
            shutil.rmtree(beside, ignore_errors=True)
        else:
            beside.unlink(missing_ok=True)


def _write_npz(demos: Demonstrations, path: Path) -> None:
    episodes = demos.episodes
    arrays: dict[str, np.ndarray] = {
        "observations": np.concatenate([e.obs[: e.num_steps] for e in episodes]),
        "episode_lengths": demos.lengths,
        "terminated": np.array([e.terminated for e in episodes]),
        "meta": np.array(
            json.dumps({**demos.metadata, **({"env": demos.env_id} if demos.env_id else {})}, default=str)
        ),
    }
    for name in ("actions", "rewards"):
        # The check before has made sure that all episodes have them, or none.
        if parts := [part for e in episodes if (part := getattr(e, name)) is not None]:
            arrays[name] = np.concatenate(parts)
    if all(e.has_final_obs for e in episodes):
        arrays["final_observations"] = np.stack([e.obs[-1] for e in episodes])
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)  # pyright: ignore[reportArgumentType]


def _write_minari(demos: Demonstrations, folder: Path, dataset_id: str) -> None:
    actions = [e.actions for e in demos.episodes if e.actions is not None]
    if not actions or demos.episodes[0].rewards is None:
        raise RequestError(
            "Minari needs actions and rewards, and these demonstrations lack one of them; save them as .npz."
        )
    try:
        import h5py
    except ImportError as error:
        raise RequestError("Writing Minari datasets needs h5py; install menura[data], or save as .npz.") from error
    data = folder / "data"
    data.mkdir()
    total_steps = 0
    space = _space(demos, "observation_space", [e.obs for e in demos.episodes])
    with h5py.File(data / "main_data.hdf5", "w", track_order=True) as file:
        for index, episode in enumerate(demos.episodes):
            total_steps += _write_minari_episode(file.create_group(f"episode_{index}"), index, episode, space)
    size = (data / "main_data.hdf5").stat().st_size / 1e6
    carried = {
        k: v
        for k, v in demos.metadata.items()
        if k in ("algorithm_name", "description", "author", "code_permalink", "env_spec")
    }
    metadata = {
        **carried,
        "total_episodes": len(demos),
        "total_steps": total_steps,
        "data_format": "hdf5",
        "jpeg_encoding": False,
        "observation_space": json.dumps(space),
        "action_space": json.dumps(_space(demos, "action_space", actions)),
        "dataset_id": dataset_id,
        "minari_version": MINARI_VERSION,
        "dataset_size": round(size, 1),
        **({"env_id": demos.env_id} if demos.env_id else {}),
    }
    (data / "metadata.json").write_text(json.dumps(metadata, indent=1, default=str), encoding="utf-8")


def _write_minari_episode(group: Any, index: int, episode: Episode, space: dict[str, Any]) -> int:
    """One episode as Minari lays it out, T+1 observations always; the number of its steps.

    A terminated episode whose final observation is not known repeats its last one there, where nothing
    reads it; a truncated one loses its last step.
    """
    steps = episode.num_transitions
    if steps < 1:
        raise RequestError(
            f"Episode {index} has a single step and no successor, which Minari cannot hold; save as .npz."
        )
    obs = episode.obs if len(episode.obs) > steps else np.concatenate([episode.obs, episode.obs[-1:]])
    assert episode.actions is not None  # _write_minari has seen to both
    assert episode.rewards is not None
    rewards = np.asarray(episode.rewards[:steps], np.float64)
    ending = np.arange(steps) == steps - 1
    # Neither chunked nor compressed, so that a reader can map the arrays instead of reading them.
    if space["type"] == "Dict":
        for name, array in split(obs, space).items():
            group[f"observations/{name}"] = array
    else:
        group["observations"] = obs
    group["actions"] = episode.actions[:steps]
    group["rewards"] = rewards
    group["terminations"] = ending & episode.terminated
    group["truncations"] = ending & (not episode.terminated)
    group.attrs.update({"id": index, "total_steps": steps})
    for name in ("sum", "mean", "std", "max", "min"):
        group.attrs[f"rewards_{name}"] = getattr(np, name)(rewards)
    return steps


def _space(demos: Demonstrations, name: str, arrays: list[np.ndarray]) -> dict[str, Any]:
    """The Gymnasium space of a field, in Minari's JSON: as the source told it, or else as wide as can be."""
    first = arrays[0]
    told = demos.metadata.get(name)
    if isinstance(told, dict) and first.ndim == 2 and (parts := parts_of_space(told)):
        return space_of_parts(Spec(0, DiscreteActions(1), parts))
    if first.ndim == 1 and first.dtype.kind in "iu":
        count = max(int(a.max()) for a in arrays) + 1
        if isinstance(told, dict) and told.get("type") == "Discrete" and isinstance(told.get("n"), int):
            count = max(count, told["n"])
        return {"type": "Discrete", "dtype": "int64", "start": min(0, *(int(a.min()) for a in arrays)), "n": count}
    shape = list(first.shape[1:])
    space = {"type": "Box", "dtype": str(first.dtype), "shape": shape}
    if isinstance(told, dict) and told.get("type") == "Box" and told.get("shape") == shape and _are_bounds(told, shape):
        return {**space, "low": told["low"], "high": told["high"]}
    low, high = (
        (np.iinfo(first.dtype).min, np.iinfo(first.dtype).max) if first.dtype.kind in "iu" else (-np.inf, np.inf)
    )
    return {**space, "low": np.full(shape, low).tolist(), "high": np.full(shape, high).tolist()}


def _are_bounds(space: dict[str, Any], shape: list[int]) -> bool:
    try:
        return all(np.asarray(space.get(side), np.float64).shape == tuple(shape) for side in ("low", "high"))
    except (TypeError, ValueError):
        return False


def _dataset_id(target: Path) -> str:
    """A name that Minari accepts: under its own root the path from there, elsewhere the folder's name."""
    root = Path(os.environ.get("MINARI_DATASETS_PATH") or Path.home() / ".minari" / "datasets").resolve()
    resolved = target.resolve()
    parts = resolved.relative_to(root).parts if resolved.is_relative_to(root) else (resolved.name,)
    name = "/".join(re.sub(r"[^\w\-]", "-", part) for part in parts)
    return name if re.search(r"-v\d+$", name) else f"{name}-v0"
