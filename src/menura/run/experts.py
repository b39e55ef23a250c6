"""The expert that DAgger asks: found by name, told apart from another, and its labels kept in the run folder."""

import importlib
import math
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from menura.core import AbstractPolicy, BoxActions, RequestError, Spec
from menura.demonstrations.labels import labeled
from menura.demonstrations.writers import save
from menura.environments.base import Envs
from menura.environments.driving import driver_of
from menura.run.artifacts import checkpoint_dir, file_hash, load_policy, read_json, spec_from_json
from menura.run.train import Checkpoint, Watcher


@dataclass(frozen=True)
class Expert:
    """Who is asked."""

    actor: Any
    """A policy of ours, or an object with Stable-Baselines3's ``predict``."""
    mean_return: float = math.nan
    """Of its run's final evaluation in this environment; nan where that is not known."""
    sha256: str | None = None
    """Of a run's last checkpoint; ``None`` for an object."""


def imported(reference: str, option: str) -> Any:
    """``module:object``; a class, or a function without ``predict``, is called for what it returns."""
    module, colon, name = reference.partition(":")
    if not (module and colon and name):
        raise RequestError(f"{option} {reference} must be module:object, as in experts:agent.")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise RequestError(f"{option} {reference} cannot be imported: {error}.") from error
    is_maker = isinstance(found, type) or (callable(found) and not hasattr(found, "predict"))
    return found() if is_maker else found


SCRIPTED: dict[str, Callable[[str, dict[str, Any] | None], AbstractPolicy]] = {"idm": driver_of}
"""Experts that need no training, by name: each is made for an environment's id and settings."""


def load_expert(reference: str, env: Envs, env_kwargs: dict[str, Any] | None = None) -> Expert:
    """The last policy of a run folder, one of :data:`SCRIPTED`, or the object that ``module:object`` names."""
    run = Path(reference)
    if not run.exists() and reference in SCRIPTED:
        return Expert(SCRIPTED[reference](env.id, env_kwargs))
    if not run.exists():
        if ":" not in reference:
            raise RequestError(
                f"--expert {reference} is no run folder: name one, an object as module:object, or "
                f"{' or '.join(SCRIPTED)}."
            )
        actor = imported(reference, "--expert")
        if not callable(getattr(actor, "predict", None)):
            raise RequestError(f"--expert {reference} has no method predict(obs, deterministic=…) to ask for actions.")
        return Expert(actor)
    policy, config = load_policy(run)
    if _sizes(spec_from_json(config["spec"])) != _sizes(env.spec):
        raise RequestError(f"--expert {reference} was trained on {config['env']}, which {env.id} is not like in shape.")
    known = config["env"] == env.id and (run / "result.json").exists()
    mean_return = read_json(run / "result.json").get("mean_return") if known else None
    digest = file_hash(checkpoint_dir(run) / "state.safetensors")
    return Expert(policy, math.nan if mean_return is None else mean_return, digest)


class KeepsLabels(Watcher):
    """Writes every label so far into ``demonstrations.npz`` at each checkpoint."""

    def __init__(self, path: Path, env: Envs):
        self.path = path / "demonstrations.npz"
        self._env = env

    def on_checkpoint(self, checkpoint: Checkpoint, *, is_best: bool, exact: bool) -> None:
        """The file appears whole, in the place of the one before."""
        demos = labeled(checkpoint.state.labels, self._env.spec, num_envs=self._env.num_envs, env_id=self._env.id)
        save(demos, self.path, overwrite=True)


def _sizes(spec: Spec) -> tuple[Any, ...]:
    shapes = tuple(part for _, part in spec.parts)
    if isinstance(spec.actions, BoxActions):
        return spec.obs_size, shapes, True, spec.actions.size
    return spec.obs_size, shapes, False, spec.actions.num_actions
