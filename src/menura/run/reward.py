"""Learned rewards on file: read from a run's checkpoint, or from a folder of their own that can be moved."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

from menura.core import DiscreteActions, RequestError, Spec
from menura.imitation.adversarial import GAIL
from menura.imitation.airl import AIRL
from menura.imitation.reward import LearnedReward, Part
from menura.imitation.score import RewardForm
from menura.networks import Norm, RunningNorm
from menura.regularizers import JensenShannon
from menura.run.artifacts import (
    checkpoint_dir,
    file_hash,
    load_state,
    load_tree,
    read_json,
    save_tree,
    spec_from_json,
    spec_to_json,
    write_json,
)
from menura.run.registry import from_json

FOLDER = "reward"
"""In a run's folder: the reward that it learned, or that it was trained on."""
DESCRIPTION, ARRAYS = "reward.json", "reward.safetensors"
FORMAT = 1


def load_reward(
    run: Path | str, checkpoint: str = "last", *, part: Part | None = None, form: RewardForm | None = None
) -> LearnedReward:
    """The reward of a run of gail or airl, or the one that a run was trained on.

    ``run`` is its folder, or a folder that :func:`save_reward` wrote. ``part`` chooses, for AIRL, the reward g
    ("reward", the default) or f, which has the potential too ("shaped"); ``form`` pays the score in another form than
    the run did. It is called with one transition: ``reward(obs, action, next_obs, terminated)``.
    """
    return read_reward(run, checkpoint, part=part, form=form)[0]


def read_reward(
    run: Path | str, checkpoint: str = "last", *, part: Part | None = None, form: RewardForm | None = None
) -> tuple[LearnedReward, dict[str, Any]]:
    """A reward, and what ``reward.json`` says of it."""
    run = Path(run)
    if (run / DESCRIPTION).is_file():
        return _from_folder(run, part, form)
    config = read_json(run / "config.json")
    if config.get("reward") is not None:
        return _from_folder(run / FOLDER, part, form)
    if config["learner"]["type"] not in (GAIL.__name__, AIRL.__name__):
        raise RequestError(f"{run} is of {config['algorithm']}, which learns no reward: name a run of gail or airl.")
    learner, state, config = load_state(run, checkpoint)
    spec, ending = spec_from_json(config["spec"]), getattr(state, "ending", None)
    reward = reward_in(learner, state.score, spec, part or "reward", form, ending=ending)
    return reward, _description(reward, run, checkpoint_dir(run, checkpoint), config)


def learns_reward(learner: Any) -> bool:
    """Whether a learner leaves a reward behind."""
    return isinstance(learner, GAIL | AIRL)


def reward_in(
    learner: GAIL | AIRL,
    score: Any,
    spec: Spec,
    part: Part = "reward",
    form: RewardForm | None = None,
    *,
    ending: Any = None,
) -> LearnedReward:
    """The reward that a learner's score is, in the form that it has there if ``form`` names no other.

    In another form nothing follows an ending: what did, was paid in the learner's own.
    """
    forward: Any = learner.forward
    is_airl = isinstance(learner, AIRL)
    if part == "shaped" and not is_airl:
        raise RequestError("Only airl's reward has a potential: leave out the part.")
    if form == "auto":
        raise RequestError("A learned reward has no demonstrations to decide by: name its form instead of auto.")
    regularizer = JensenShannon() if is_airl else learner.regularizer
    form = form or learner.reward_form
    ending = ending if form == learner.reward_form else None
    return LearnedReward(score, spec, regularizer, form, part, float(forward.gamma), ending)


def save_reward(
    folder: Path | str, reward: LearnedReward, description: dict[str, Any], *, overwrite: bool = False
) -> Path:
    """Write ``reward.json`` and ``reward.safetensors`` into a folder that appears whole, and can be moved.

    ``description`` is what :func:`read_reward` gave with the reward.
    """
    folder = Path(folder)
    if not overwrite and folder.exists() and any(folder.iterdir()):
        raise RequestError(f"{folder} is not empty: name a new folder.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        save_tree(beside / ARRAYS, (reward.score, reward.ending))
        description = description | {
            "part": reward.part,
            "form": reward.form,
            "absorbing_reward": None if reward.ending is None else float(reward.ending),
            "arrays_sha256": file_hash(beside / ARRAYS),
        }
        write_json(beside / DESCRIPTION, description)
        os.chmod(beside, 0o755)
        if overwrite:
            shutil.rmtree(folder, ignore_errors=True)
        os.replace(beside, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return folder


def check_fits(reward: LearnedReward, spec: Spec, *, env_id: str, source: Path | str) -> None:
    """Refuse a reward of other observations, or of other actions where it looks at them."""
    own = reward.spec
    if own.obs_size != spec.obs_size:
        raise RequestError(
            f"The reward of {source} sees {own.obs_size} numbers, and {env_id} observes {spec.obs_size}: name an "
            "environment of the same shape."
        )
    if reward.sees_actions and _kind(own) != _kind(spec):
        raise RequestError(
            f"The reward of {source} sees {' '.join(_kind(own))}, and {env_id} takes {' '.join(_kind(spec))}: name an "
            "environment of the same shape."
        )


def _from_folder(folder: Path, part: Part | None, form: RewardForm | None) -> tuple[LearnedReward, dict[str, Any]]:
    description = read_json(folder / DESCRIPTION)
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise RequestError(f"{folder / DESCRIPTION} was written by another version of menura: read it with that one.")
    if not (folder / ARRAYS).is_file() or file_hash(folder / ARRAYS) != description["arrays_sha256"]:
        raise RequestError(f"{folder / ARRAYS} is not the file that {DESCRIPTION} describes: copy both again.")
    learner, spec = from_json(description["learner"]), spec_from_json(description["spec"])
    like = jax.eval_shape(lambda key: learner.init(spec, key=key), jax.random.key(0))
    follows = description["absorbing_reward"] is not None
    score, ending = load_tree(folder / ARRAYS, (like.score, like.ending if follows else None))
    part, form = part or description["part"], form or description["form"]
    return reward_in(learner, score, spec, part or "reward", form, ending=ending), description


def _statistics(norm: Norm) -> dict[str, Any]:
    """What observations are standardized by; where they have pictures, of the vectors beside them."""
    of = norm if isinstance(norm, RunningNorm) else norm.vectors
    std = np.sqrt(np.asarray(of.var))
    return {"count": float(of.count), "obs_mean": np.asarray(of.mean).tolist(), "obs_std": std.tolist()}


def _description(reward: LearnedReward, run: Path, checkpoint: Path, config: dict[str, Any]) -> dict[str, Any]:
    meta = read_json(run / "meta.json") if (run / "meta.json").is_file() else {}
    norm = getattr(reward.score, "obs_norm", None) or getattr(reward.score, "norm", None)
    norm = reward.score.reward.norm if norm is None else norm  # pyright: ignore[reportAttributeAccessIssue]
    sees = ["obs", *(["action"] if reward.sees_actions else []), *(["next_obs"] if reward.sees_successors else [])]
    return {
        "format": FORMAT,
        "algorithm": config["algorithm"],
        "part": reward.part,
        "sees": sees,
        "form": reward.form,
        "gamma": reward.gamma,
        "absorbing_reward": None if reward.ending is None else float(reward.ending),
        "spec": spec_to_json(reward.spec),
        "statistics": _statistics(norm),
        "env": config["env"],
        "backend": config["backend"],
        "env_kwargs": config["env_kwargs"],
        "demos": config["demos"],
        "data_sha256": meta.get("data_sha256"),
        "run": {"seed": config["seed"], "env_steps": int(checkpoint.name), "versions": meta.get("versions", {})},
        "learner": config["learner"],
    }


def _kind(spec: Spec) -> tuple[str, str]:
    """The number and the kind of actions, for comparing and for people."""
    if isinstance(spec.actions, DiscreteActions):
        return str(spec.actions.num_actions), "discrete actions"
    return str(spec.actions.size), "real actions"
