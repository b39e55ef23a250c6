"""From a person's clip to Gymnasium's humanoid, joint by joint (the table is in docs/humanoid.md).

The person's root is the pelvis, and the humanoid's is the torso. Its knees and elbows are hinges, its shoulders have
two axes, and it has neither neck nor ankles nor hands: what it cannot follow is left out.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from menura.environments.motion.clips import Clip
from menura.environments.motion.humanoid import ENDS, JOINTS, SOLE, import_mujoco, layout_of, load_model
from menura.environments.motion.rotations import (
    about,
    conjugate,
    euler_angles,
    heading_angle,
    multiply,
    rotate,
    rotation_angle,
    twist_angle,
)

X, Y, Z = 0, 1, 2
LEG_LENGTH = 0.403 + 0.35
"""Of the humanoid, from hip to the middle of the foot, in m."""

_DOWN = np.array([0.0, 0.0, -1.0])
_UP = np.array([0.0, 0.0, 1.0])
_TO_THE_RIGHT = np.array([0.0, -1.0, 0.0])

# The right arm of the humanoid in its zero pose: the axes of its shoulder and the way its upper arm goes are
# perpendicular to each other.
_SHOULDER1 = np.array([2.0, 1.0, 1.0]) / np.sqrt(6)
_SHOULDER2 = np.array([0.0, -1.0, 1.0]) / np.sqrt(2)
_UPPER_ARM = np.array([1.0, -1.0, -1.0]) / np.sqrt(3)
_BENT = np.arccos(-1 / 3)
"""How far (rad) its elbow is bent in the zero pose."""


def hip_angles(rotation: Float[np.ndarray, "frames 4"], *, side: str) -> dict[str, Float[np.ndarray, " frames"]]:
    """The thigh's rotation in the pelvis as R_x R_z R_y; the left side's x and z axes are turned around."""
    x, z, y = euler_angles(rotation, (X, Z, Y)).T
    sign = 1.0 if side == "right" else -1.0
    return {f"{side}_hip_x": sign * x, f"{side}_hip_z": sign * z, f"{side}_hip_y": y}


def abdomen_angles(chest: Float[np.ndarray, "frames 4"]) -> dict[str, Float[np.ndarray, " frames"]]:
    """The pelvis as it is turned in the torso, R_z R_y R_x: the chest's rotation the other way round."""
    z, y, x = euler_angles(conjugate(chest), (Z, Y, X)).T
    return {"abdomen_z": z, "abdomen_y": y, "abdomen_x": x}


def shoulder_angles(direction: Float[np.ndarray, "frames 3"], *, side: str) -> dict[str, Float[np.ndarray, " frames"]]:
    """The two angles that point the upper arm in a direction of the torso's frame.

    R(a₁, θ₁) R(a₂, θ₂) u = d with perpendicular a₁, a₂ and u is the second of Paden's subproblems (Murray, Li & Sastry
    1994, section 3.3.2) in closed form: sin θ₂ = ± d·a₁ and tan θ₁ = d·(a₁ × u) / d·u. The left arm is the mirror of
    the right one, whose angles have the other sign.
    """
    d = direction if side == "right" else direction * np.array([1.0, -1.0, 1.0])
    handed = np.dot(_SHOULDER1, np.cross(_SHOULDER2, _UPPER_ARM))
    second = np.arcsin(np.clip(handed * (d @ _SHOULDER1), -1, 1))
    first = np.arctan2(d @ np.cross(_SHOULDER1, _UPPER_ARM), d @ _UPPER_ARM)
    sign = 1.0 if side == "right" else -1.0
    return {f"{side}_shoulder1": sign * first, f"{side}_shoulder2": sign * second}


def joint_angles(clip: Clip) -> dict[str, Float[np.ndarray, " frames"]]:
    """The humanoid's 17 angles (rad) for every frame, before its limits."""
    angles = abdomen_angles(clip.joints["chest"])
    for side in ("right", "left"):
        angles |= hip_angles(clip.joints[f"{side}_hip"], side=side)
        angles[f"{side}_knee"] = twist_angle(clip.joints[f"{side}_knee"], _TO_THE_RIGHT)
        angles |= shoulder_angles(rotate(clip.joints[f"{side}_shoulder"], _DOWN), side=side)
        angles[f"{side}_elbow"] = rotation_angle(clip.joints[f"{side}_elbow"]) - _BENT
    return {name: angles[name] for name in JOINTS}


@dataclass(frozen=True, eq=False)
class Motion:
    """A clip as the humanoid would do it: MuJoCo's positions and velocities at the clip's own rate."""

    fps: float
    qpos: Float[np.ndarray, "frames 24"]
    qvel: Float[np.ndarray, "frames 23"]
    loops: bool
    """Whether the last frame is the first one, one :attr:`stride` further on."""
    limited: dict[str, float]
    """By how much (rad) each joint would have gone past its limits, where it would."""

    @property
    def seconds(self) -> float:
        """From the first frame to the last."""
        return (len(self.qpos) - 1) / self.fps

    @property
    def stride(self) -> float:
        """How far it goes along x, in m."""
        return float(self.qpos[-1, 0] - self.qpos[0, 0])

    @property
    def speed(self) -> float:
        """Along x, in m/s."""
        return self.stride / self.seconds

    def at(self, time: Float[np.ndarray, " times"]) -> tuple[np.ndarray, np.ndarray]:
        """Positions and velocities at any times (s), between frames by linear interpolation; past the end of a loop
        in the next cycle, past that of any other clip at its last frame."""
        frame = np.asarray(time, np.float64) * self.fps
        last = len(self.qpos) - 1
        cycle = np.floor(frame / last) if self.loops else np.zeros_like(frame)
        frame = np.clip(frame - cycle * last, 0, last)
        before = np.minimum(frame.astype(int), last - 1)
        share = (frame - before)[:, None]
        qpos = (1 - share) * self.qpos[before] + share * self.qpos[before + 1]
        qpos[:, 3:7] /= np.linalg.norm(qpos[:, 3:7], axis=1, keepdims=True)
        qpos[:, 0] += cycle * self.stride
        return qpos, (1 - share) * self.qvel[before] + share * self.qvel[before + 1]


def retarget(clip: Clip, model: Any = None) -> Motion:
    """The clip as Gymnasium's humanoid would do it.

    Angles are those of :func:`joint_angles` within the joints' limits; the pelvis goes the clip's way, shortened by the
    ratio of the legs' lengths, at the height at which the lower foot touches the ground.
    """
    model = load_model() if model is None else model
    layout = layout_of(model)
    angles = np.stack(list(joint_angles(clip).values()), axis=1)
    limited = np.clip(angles, layout.low, layout.high)
    beyond = np.max(np.abs(angles - limited), axis=0)
    torso = multiply(clip.root_rotation, clip.joints["chest"])
    torso = torso * np.sign(np.sum(torso * torso[:1], axis=1, keepdims=True))
    if clip.loops:
        limited, torso = _closed(limited), _closed_heading(torso)
    rows = np.concatenate([np.zeros((len(torso), 3)), torso, limited], axis=1)
    pelvis, feet = _pelvis_and_feet(model, layout.ends[:2], rows)
    way = clip.root_position[:, :2] * (LEG_LENGTH / clip.leg_length)
    if clip.loops:
        way = way - np.array([0.0, 1.0]) * _drift(way)
    rows[:, :2] = way - (pelvis - pelvis[0])[:, :2]
    rows[:, 2] = SOLE - np.min(feet[:, :, 2], axis=1)
    if clip.loops:
        rows[-1, 2:] = rows[0, 2:]
    qvel = _velocities(model, rows, clip.fps, loops=clip.loops)
    names = {name: float(by) for name, by in zip(JOINTS, beyond, strict=True) if by > 0}
    return Motion(clip.fps, rows, qvel, clip.loops, names)


def _drift(values: np.ndarray) -> np.ndarray:
    """What the last row has more than the first, spread evenly over all rows."""
    return np.linspace(0, 1, len(values))[:, None] * (values[-1] - values[0])


def _closed(values: np.ndarray) -> np.ndarray:
    """Rows whose last is made the first again."""
    return values - _drift(values)


def _closed_heading(rotation: np.ndarray) -> np.ndarray:
    """Rotations whose last has the first one's heading, and then is the first."""
    heading = np.unwrap(heading_angle(rotation))
    turned = multiply(about(_UP, -_drift(heading[:, None])[:, 0]), rotation)
    turned = turned - _drift(turned)
    return turned / np.linalg.norm(turned, axis=1, keepdims=True)


def _pelvis_and_feet(model: Any, feet: np.ndarray, qpos: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the pelvis ``(frames, 3)`` and both feet ``(frames, 2, 3)`` are, by forward kinematics."""
    mujoco = import_mujoco()
    data = mujoco.MjData(model)
    pelvis, ends = np.empty((len(qpos), 3)), np.empty((len(qpos), 2, 3))
    for index, row in enumerate(qpos):
        data.qpos[:] = row
        mujoco.mj_kinematics(model, data)
        pelvis[index], ends[index] = data.body("pelvis").xpos, data.geom_xpos[feet]
    return pelvis, ends


def end_positions(model: Any, qpos: Float[np.ndarray, "frames 24"]) -> Float[np.ndarray, "frames 4 3"]:
    """Where the ends of the limbs are, in the order of :data:`ENDS`."""
    mujoco = import_mujoco()
    data, ends = mujoco.MjData(model), layout_of(model).ends
    found = np.empty((len(qpos), len(ENDS), 3))
    for index, row in enumerate(qpos):
        data.qpos[:] = row
        mujoco.mj_kinematics(model, data)
        found[index] = data.geom_xpos[ends]
    return found


def _velocities(model: Any, qpos: np.ndarray, fps: float, *, loops: bool) -> np.ndarray:
    """Central differences, at the ends of the clip one-sided, or around the seam of a loop."""
    mujoco = import_mujoco()
    last = len(qpos) - 1
    qvel = np.empty((len(qpos), model.nv))
    for index in range(len(qpos)):
        before, after = max(index - 1, 0), min(index + 1, last)
        mujoco.mj_differentiatePos(model, qvel[index], (after - before) / fps, qpos[before], qpos[after])
    if loops:
        # Half of the way over the seam lies in either end's one-sided difference.
        qvel[0] = qvel[-1] = (qvel[0] + qvel[-1]) / 2
    return qvel
