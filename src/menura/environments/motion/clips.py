"""Clips of motion capture, read into one form: a tree of joints with a rotation each, z up, x ahead, y to the left.

In the pose in which every rotation is the identity a person stands upright with the arms hanging. Two layouts are read:
DeepMimic's JSON text (Peng et al. 2018) and the npz of AMP's humanoid as Isaac Lab stores it (Peng et al. 2021).
"""

import json
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from menura.core import RequestError
from menura.environments.motion.rotations import about, conjugate, multiply, normalized, rotate

PARENTS: dict[str, str] = {
    "chest": "pelvis",
    "neck": "chest",
    "right_hip": "pelvis",
    "right_knee": "right_hip",
    "right_ankle": "right_knee",
    "right_shoulder": "chest",
    "right_elbow": "right_shoulder",
    "right_wrist": "right_elbow",
    "left_hip": "pelvis",
    "left_knee": "left_hip",
    "left_ankle": "left_knee",
    "left_shoulder": "chest",
    "left_elbow": "left_shoulder",
    "left_wrist": "left_elbow",
}
"""The joints of a clip and what each hangs from; the pelvis is the root."""


@dataclass(frozen=True, eq=False)
class Clip:
    """One motion of a person, on flat ground."""

    fps: float
    root_position: Float[np.ndarray, "frames 3"]
    """Of the pelvis, in m."""
    root_rotation: Float[np.ndarray, "frames 4"]
    joints: dict[str, Float[np.ndarray, "frames 4"]]
    """The rotation of each joint of :data:`PARENTS` in its parent's frame."""
    bones: dict[str, Float[np.ndarray, "3"]]
    """Where each joint lies in its parent's frame, in m."""
    loops: bool
    """Whether the last frame is the first one of the next cycle."""
    source: str = ""

    @property
    def seconds(self) -> float:
        """From the first frame to the last."""
        return (len(self.root_position) - 1) / self.fps

    @property
    def speed(self) -> float:
        """Of the pelvis along the ground, from the first frame to the last, in m/s."""
        return float(np.linalg.norm((self.root_position[-1] - self.root_position[0])[:2]) / self.seconds)

    @property
    def leg_length(self) -> float:
        """From hip to ankle, in m."""
        return float(np.linalg.norm(self.bones["right_knee"]) + np.linalg.norm(self.bones["right_ankle"]))


def joint_positions(clip: Clip) -> dict[str, Float[np.ndarray, "frames 3"]]:
    """Where every joint is, by forward kinematics."""
    position, rotation = {"pelvis": clip.root_position}, {"pelvis": clip.root_rotation}
    for name, parent in PARENTS.items():
        position[name] = position[parent] + rotate(rotation[parent], clip.bones[name])
        rotation[name] = multiply(rotation[parent], clip.joints[name])
    return position


def read_clip(path: str | Path) -> Clip:
    """A clip from a file, turned so that it goes along x from the origin; a bad file is refused in one sentence."""
    path = Path(path).expanduser()
    if not path.is_file():
        raise RequestError(f"There is no motion clip at {path}: give the path of a DeepMimic text or an AMP npz.")
    head = path.read_bytes()[:2]
    clip = _read_amp(path) if head == b"PK" else _read_deepmimic(path)
    return _along_x(_checked(clip))


def _checked(clip: Clip) -> Clip:
    """The clip with unit quaternions; refuses numbers that are none, and clips that go nowhere."""
    quaternions = {"root": clip.root_rotation, **clip.joints}
    for name, q in quaternions.items():
        if not np.all(np.isfinite(q)) or np.any(np.abs(np.linalg.norm(q, axis=-1) - 1) > 0.01):
            raise RequestError(f"{clip.source}: the rotations of {name} are not unit quaternions; write it again.")
    if len(clip.root_position) < 4 or not np.all(np.isfinite(clip.root_position)):
        raise RequestError(f"{clip.source} must hold at least 4 frames of finite numbers; write it again.")
    if not 1 <= clip.fps <= 1000:
        raise RequestError(f"{clip.source} gives {clip.fps:g} frames a second; it must be between 1 and 1000.")
    if clip.speed < 0.05:
        raise RequestError(f"{clip.source} goes nowhere ({clip.speed:.2f} m/s); give a clip of walking or running.")
    joints = {name: normalized(q) for name, q in clip.joints.items()}
    return replace(clip, root_rotation=normalized(clip.root_rotation), joints=joints)


def _along_x(clip: Clip) -> Clip:
    """The clip turned about the vertical and moved, so that it goes along x from the origin."""
    way = clip.root_position[-1] - clip.root_position[0]
    turn = about(np.array([0.0, 0.0, 1.0]), np.array(-np.arctan2(way[1], way[0])))
    start = clip.root_position[0] * np.array([1.0, 1.0, 0.0])
    return replace(
        clip,
        root_position=rotate(turn, clip.root_position - start),
        root_rotation=multiply(turn, clip.root_rotation),
    )


_DEEPMIMIC_ROWS: tuple[tuple[str, int], ...] = (
    ("chest", 4),
    ("neck", 4),
    ("right_hip", 4),
    ("right_knee", 1),
    ("right_ankle", 4),
    ("right_shoulder", 4),
    ("right_elbow", 1),
    ("left_hip", 4),
    ("left_knee", 1),
    ("left_ankle", 4),
    ("left_shoulder", 4),
    ("left_elbow", 1),
)
"""What follows duration, root position and root rotation in a frame: quaternions, and angles of hinges."""

_DEEPMIMIC_BONES = {
    "chest": (0.0, 0.236151, 0.0),
    "neck": (0.0, 0.223894, 0.0),
    "right_hip": (0.0, 0.0, 0.084887),
    "right_knee": (0.0, -0.421546, 0.0),
    "right_ankle": (0.0, -0.409870, 0.0),
    "right_shoulder": (-0.02405, 0.24350, 0.18311),
    "right_elbow": (0.0, -0.274788, 0.0),
    "right_wrist": (0.0, -0.258947, 0.0),
}
"""The offsets of DeepMimic's humanoid3d (x ahead, y up, z to the right), the left side being the right one's mirror."""


def _z_up(v: np.ndarray) -> np.ndarray:
    """Vectors with y up and z to the right, as ones with z up and y to the left."""
    return np.stack([v[..., 0], -v[..., 2], v[..., 1]], axis=-1)


def _quaternion_z_up(q: np.ndarray) -> np.ndarray:
    return np.concatenate([q[..., :1], _z_up(q[..., 1:])], axis=-1)


def _read_deepmimic(path: Path) -> Clip:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        frames = np.asarray(content["Frames"], np.float64)
    except (ValueError, KeyError, TypeError) as error:
        raise RequestError(f"{path} is neither DeepMimic's JSON with Frames nor an npz: give one of those.") from error
    width = 8 + sum(size for _, size in _DEEPMIMIC_ROWS)
    if frames.ndim != 2 or frames.shape[1] != width or len(frames) < 4:
        raise RequestError(
            f"{path} has Frames of shape {frames.shape}; a walk of humanoid3d has at least 4 rows of {width} numbers."
        )
    if not np.all(np.isfinite(frames)) or not np.all(frames[:-1, 0] > 0):
        raise RequestError(f"{path} holds numbers that are not finite, or durations that are not above 0.")
    joints, at = {}, 8
    for name, size in _DEEPMIMIC_ROWS:
        values, at = frames[:, at : at + size], at + size
        # Hinges turn about the axis to the right, which is −y here.
        joints[name] = _quaternion_z_up(values) if size == 4 else about(np.array([0.0, -1.0, 0.0]), values[:, 0])
    identity = np.tile([1.0, 0.0, 0.0, 0.0], (len(frames), 1))
    joints |= {"right_wrist": identity, "left_wrist": identity}
    bones = {name: _z_up(np.array(offset)) for name, offset in _DEEPMIMIC_BONES.items()}
    bones |= {
        name.replace("right", "left"): offset * np.array([1.0, -1.0, 1.0])
        for name, offset in bones.items()
        if name.startswith("right")
    }
    return Clip(
        fps=1 / float(np.mean(frames[:-1, 0])),
        root_position=_z_up(frames[:, 1:4]),
        root_rotation=_quaternion_z_up(frames[:, 4:8]),
        joints={name: joints[name] for name in PARENTS},
        bones=bones,
        loops=content.get("Loop") == "wrap",
        source=str(path),
    )


_AMP_BODIES = {
    "pelvis": "pelvis",
    "chest": "torso",
    "neck": "head",
    **{
        f"{side}_{joint}": f"{side}_{body}"
        for side in ("right", "left")
        for joint, body in {
            "hip": "thigh",
            "knee": "shin",
            "ankle": "foot",
            "shoulder": "upper_arm",
            "elbow": "lower_arm",
            "wrist": "hand",
        }.items()
    },
}
"""The body of AMP's humanoid that each joint turns."""


def _read_amp(path: Path) -> Clip:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays: dict[str, Any] = {name: archive[name] for name in archive.files}
    except (ValueError, OSError, zipfile.BadZipFile, EOFError) as error:
        raise RequestError(
            f"{path} cannot be read as an npz of arrays; it may be damaged, so copy it again."
        ) from error
    needed = ("fps", "body_names", "body_positions", "body_rotations")
    if missing := [name for name in needed if name not in arrays]:
        raise RequestError(f"{path} has no {' and no '.join(missing)}; an AMP clip has {', '.join(needed)}.")
    names = [str(name) for name in arrays["body_names"]]
    if absent := sorted(set(_AMP_BODIES.values()) - set(names)):
        raise RequestError(f"{path} has no body {absent[0]!r} among its body_names; give a clip of AMP's humanoid.")
    positions, rotations = (np.asarray(arrays[name], np.float64) for name in needed[2:])
    frames = len(positions)
    if positions.shape != (frames, len(names), 3) or rotations.shape != (frames, len(names), 4):
        raise RequestError(
            f"{path} has body_positions of shape {positions.shape} and body_rotations of {rotations.shape}; "
            f"they must be (frames, {len(names)}, 3) and (frames, {len(names)}, 4)."
        )
    position = {joint: positions[:, names.index(body)] for joint, body in _AMP_BODIES.items()}
    rotation = {joint: rotations[:, names.index(body)] for joint, body in _AMP_BODIES.items()}
    joints, bones = {}, {}
    for name, parent in PARENTS.items():
        joints[name] = multiply(conjugate(rotation[parent]), rotation[name])
        bones[name] = np.mean(rotate(conjugate(rotation[parent]), position[name] - position[parent]), axis=0)
    return Clip(
        fps=float(arrays["fps"]),
        root_position=position["pelvis"],
        root_rotation=rotation["pelvis"],
        joints=joints,
        bones=bones,
        loops=False,
        source=str(path),
    )
