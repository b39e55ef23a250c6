"""Run folders: arrays as safetensors, everything else as JSON and CSV, each file written atomically."""

import csv
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from menura.core import AbstractPolicy, BoxActions, DiscreteActions, Images, RequestError, Spec, Vector
from menura.run.registry import from_json


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file all at once: a reader sees the old content or the new, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def write_json(path: Path, value: Any) -> None:
    """As :func:`write_bytes`, for JSON; numbers that are not finite become null."""
    text = json.dumps(finite(value), indent=2, ensure_ascii=False, allow_nan=False)
    write_bytes(path, (text + "\n").encode())


def finite(value: Any) -> Any:
    """A value that JSON can hold: nan becomes null, infinities their names, NumPy numbers plain ones."""
    if isinstance(value, dict):
        return {name: finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None if np.isnan(value) else str(value)
    return value


def read_json(path: Path) -> Any:
    """A JSON file, or one sentence that says which file is missing or broken."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise RequestError(f"{path} does not exist: is {path.parent} a run folder?") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RequestError(f"{path} is not JSON: {error}.") from error


def save_tree(path: Path, tree: PyTree) -> None:
    """A pytree of arrays as one safetensors file, each leaf under its path in the tree."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    save_arrays(path, {jax.tree_util.keystr(name): np.asarray(leaf) for name, leaf in leaves})


def save_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Arrays by name as one safetensors file."""
    from safetensors.numpy import save

    write_bytes(path, save({name: np.array(array, order="C") for name, array in arrays.items()}))


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """What :func:`save_arrays` wrote."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise RequestError(f"{path} cannot be read: {error}.") from error


def load_tree(path: Path, like: PyTree) -> PyTree:
    """What :func:`save_tree` wrote, in the structure of ``like`` (arrays or their shapes)."""
    arrays = load_arrays(path)

    def fill(name: Any, leaf: Any) -> jax.Array:
        array = arrays.get(jax.tree_util.keystr(name))
        if array is None or array.shape != leaf.shape or array.dtype != leaf.dtype:
            raise RequestError(f"{path} does not fit its config.json at {jax.tree_util.keystr(name)}.")
        return jnp.asarray(array)

    return jax.tree_util.tree_map_with_path(fill, like)


class Table:
    """A CSV file that grows row by row, and loses its latest rows when a run resumes before them."""

    def __init__(self, path: Path):
        self.path = path
        self._columns: list[str] | None = None

    def append(self, row: dict[str, Any]) -> None:
        """One more row; the first one decides the columns."""
        new = not self.path.exists()
        if self._columns is None:
            self._columns = list(row) if new else read_header(self.path)
        with self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, self._columns, extrasaction="ignore")
            if new:
                writer.writeheader()
            writer.writerow({name: _cell(row.get(name, "")) for name in self._columns})

    def keep_until(self, env_steps: int) -> None:
        """Forget rows past a number of steps, and a last one that was not written whole."""
        if not self.path.exists():
            return
        lines = self.path.read_text().splitlines(keepends=True)
        if not lines or not lines[0].endswith("\n"):
            self.path.unlink()
            return
        header = next(csv.reader(lines[:1]))
        column = header.index("env_steps")
        kept = lines[:1]
        for line in lines[1:]:
            cells = next(csv.reader([line]))
            if line.endswith("\n") and len(cells) == len(header) and float(cells[column]) <= env_steps:
                kept.append(line)
        write_bytes(self.path, "".join(kept).encode())


def read_header(path: Path) -> list[str]:
    """The columns of a CSV file."""
    with path.open(newline="") as file:
        return next(csv.reader(file))


def _cell(value: Any) -> Any:
    return f"{value:.7g}" if isinstance(value, float | np.floating) else value


def spec_to_json(spec: Spec) -> dict[str, Any]:
    """A spec as plain JSON; infinite bounds as strings."""
    match spec.actions:
        case DiscreteActions(num_actions=num_actions):
            actions: dict[str, Any] = {"num_actions": num_actions}
        case BoxActions(low=low, high=high):
            actions = {"low": list(low), "high": list(high)}
    found: dict[str, Any] = {"obs_size": spec.obs_size, "actions": actions}
    if spec.parts:
        found["parts"] = [{"name": name, **vars(part)} for name, part in spec.parts]
    if spec.history > 1:
        found["history"] = spec.history
    return found


def spec_from_json(value: dict[str, Any]) -> Spec:
    """What :func:`spec_to_json` gave, built again."""
    actions, parts = value["actions"], tuple(map(_part_from_json, value.get("parts", ())))
    if "num_actions" in actions:
        space: Any = DiscreteActions(actions["num_actions"])
    else:
        low, high = (tuple(float(x) for x in actions[name]) for name in ("low", "high"))
        space = BoxActions(low, high)
    return Spec(value["obs_size"], space, parts, value.get("history", 1))


def _part_from_json(value: dict[str, Any]) -> tuple[str, Vector | Images]:
    shape = {name: number for name, number in value.items() if name != "name"}
    return value["name"], Vector(**shape) if "size" in shape else Images(**shape)


def checkpoint_dir(run: Path, checkpoint: str = "last") -> Path:
    """The folder of a checkpoint: ``last``, ``best``, or a number of steps."""
    folder = run / "checkpoints"
    name = checkpoint
    if checkpoint in ("last", "best"):
        pointer = folder / checkpoint
        if not pointer.is_file():
            raise RequestError(f"{run} has no {checkpoint} checkpoint yet: train it further, or name another run.")
        name = pointer.read_text().strip()
    if not (folder / name / "state.safetensors").is_file():
        have = sorted((p.name for p in folder.glob("[0-9]*")), key=int)
        raise RequestError(f"{run} has no checkpoint {checkpoint}; it has {', '.join(have) or 'none'}.")
    return folder / name


def load_learner(run: Path) -> tuple[Any, dict[str, Any]]:
    """The learner of a run, and its ``config.json``."""
    config = read_json(run / "config.json")
    return from_json(config["learner"]), config


def load_state(run: Path, checkpoint: str = "last") -> tuple[Any, Any, dict[str, Any]]:
    """The learner of a run, its state at a checkpoint, and its ``config.json``."""
    learner, config = load_learner(run)
    spec = spec_from_json(config["spec"])
    like = jax.eval_shape(lambda key: learner.init(spec, key=key), jax.random.key(0))
    return learner, load_tree(checkpoint_dir(run, checkpoint) / "state.safetensors", like), config


def load_policy(run: Path | str, checkpoint: str = "last") -> tuple[AbstractPolicy, dict[str, Any]]:
    """The policy of a run at a checkpoint, and the run's ``config.json``."""
    learner, state, config = load_state(Path(run), checkpoint)
    return learner.final_policy(state), config


def file_hash(path: Path) -> str:
    """SHA-256 of a file, or of a folder's files in the order of their names."""
    digest = hashlib.sha256()
    files: Iterable[Path] = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    for file in files:
        if path.is_dir():
            digest.update(str(file.relative_to(path)).encode())
        with file.open("rb") as handle:
            while block := handle.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def provenance(data: Path | None = None) -> dict[str, Any]:
    """Versions, commit, machine and data hash: what ``meta.json`` holds."""
    packages = ("menura", "jax", "jaxlib", "equinox", "optax", "lineax", "numpy", "gymnasium", "mujoco", "envpool")
    versions = {}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "versions": versions,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor_name(),
        "num_cores": os.cpu_count(),
        "jax_backend": jax.default_backend(),
        "host": platform.node(),
        "commit": _commit(),
        "data_sha256": None if data is None else file_hash(data),
    }


def processor_name() -> str:
    """The processor's name as the system gives it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or sys.platform


def _commit() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None
