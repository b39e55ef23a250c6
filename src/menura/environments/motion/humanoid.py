"""Gymnasium's MuJoCo humanoid with motors that hold angles, and where its joints and feet are."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from menura.core import RequestError

JOINTS: tuple[str, ...] = (
    "abdomen_z",
    "abdomen_y",
    "abdomen_x",
    "right_hip_x",
    "right_hip_z",
    "right_hip_y",
    "right_knee",
    "left_hip_x",
    "left_hip_z",
    "left_hip_y",
    "left_knee",
    "right_shoulder1",
    "right_shoulder2",
    "right_elbow",
    "left_shoulder1",
    "left_shoulder2",
    "left_elbow",
)
"""The hinges in the order of the model's positions, after the 7 numbers of the free root (the torso)."""

ENDS: tuple[str, ...] = ("right_foot", "left_foot", "right_hand", "left_hand")
"""Geoms at the ends of the limbs."""

SOLE = 0.075
"""Radius of the feet, which are balls, in m."""

POLICY_RATE = 30.0
"""Actions a second, as in DeepMimic (Peng et al. 2018, section 8)."""
SUBSTEPS = 4
"""Steps of the simulator in each."""

_STIFFNESS = {"abdomen": 300.0, "hip": 300.0, "knee": 300.0, "shoulder": 40.0, "elbow": 30.0}
"""N·m/rad: DeepMimic's gains for its 45 kg, with weaker arms, because these weigh less and have weaker motors."""
_DAMPING_RATIO = {"abdomen": 0.1, "hip": 0.1, "knee": 0.05, "shoulder": 0.1, "elbow": 0.1}
"""Of stiffness, in s: DeepMimic's, and half of it for the knees, which could not swing a shin as fast as people do."""
_REACH = {"abdomen": 1.0, "hip": 1.0, "knee": 1.6, "shoulder": 1.0, "elbow": 1.0}
"""The most (rad) that an action of 1 asks for more than neutral; a knee's target must lead it as it swings."""

NEUTRAL: Mapping[str, float] = {
    "right_knee": -0.2,
    "left_knee": -0.2,
    "right_hip_y": -0.1,
    "left_hip_y": -0.1,
    "right_shoulder1": 0.8,
    "right_shoulder2": -0.4,
    "right_elbow": -1.3,
    "left_shoulder1": -0.8,
    "left_shoulder2": 0.4,
    "left_elbow": -1.3,
}
"""Angles (rad) that an action of 0 asks for: standing with the arms hanging. Joints left out are at 0."""


def import_mujoco() -> Any:
    """MuJoCo, or one sentence that says how to get it."""
    try:
        return importlib.import_module("mujoco")
    except ImportError as error:
        raise RequestError(
            "Walking after motion capture needs MuJoCo: install menura with its `mujoco` extra."
        ) from error


def model_path() -> Path:
    """Where Gymnasium keeps its humanoid."""
    import gymnasium

    return Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets" / "humanoid.xml"


def load_model(xml_file: str | Path | None = None) -> Any:
    """The humanoid with position servos for motors.

    Departs from Gymnasium: the motors hold angles (proportional-derivative control) at torques of up to their gear; the
    derivative part is the joints' own damping, which Euler's method takes implicitly, so that 1/120 s is short enough
    where RK4 takes 1/333 s; and the solver is Newton's.
    """
    mujoco = import_mujoco()
    spec = mujoco.MjSpec.from_file(str(xml_file or model_path()))
    spec.option.timestep = 1 / (POLICY_RATE * SUBSTEPS)
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_EULER
    spec.option.solver = mujoco.mjtSolver.mjSOL_NEWTON
    spec.option.iterations = 10
    for actuator in spec.actuators:
        limit = actuator.gear[0]
        stiffness = _of_joint(_STIFFNESS, actuator.name)
        actuator.gear = [1, 0, 0, 0, 0, 0]
        actuator.set_to_position(kp=stiffness)
        actuator.ctrllimited = False
        actuator.forcelimited = True
        actuator.forcerange = [-limit, limit]
    model = spec.compile()
    for index in range(model.nu):
        joint = model.joint(model.actuator_trnid[index, 0])
        damping = _of_joint(_DAMPING_RATIO, joint.name) * model.actuator_gainprm[index, 0]
        model.dof_damping[joint.dofadr] = damping
    return model


def _of_joint(table: Mapping[str, float], name: str) -> float:
    """The entry of the part of the body that a joint's name speaks of."""
    return next(value for part, value in table.items() if part in name)


@dataclass(frozen=True, eq=False)
class Layout:
    """Where things are in a model's arrays, and how actions become angles."""

    ends: np.ndarray
    """Geoms of :data:`ENDS`."""
    low: np.ndarray
    """Limits of :data:`JOINTS`, rad."""
    high: np.ndarray
    neutral: np.ndarray
    """Angles that an action of 0 asks for, in the order of :data:`JOINTS`."""
    reach: np.ndarray
    """By how much (rad) an action of 1 asks for more."""
    joint_of_actuator: np.ndarray
    """The index in :data:`JOINTS` of every motor."""


def layout_of(model: Any) -> Layout:
    """The layout of a model, which must have the joints of Gymnasium's humanoid."""
    mujoco = import_mujoco()
    names = tuple(model.joint(i).name for i in range(1, model.njnt))
    if names != JOINTS:
        raise RequestError("The model's joints are not those of Gymnasium's humanoid: take that one.")
    low, high = model.jnt_range[1:].T
    neutral = np.array([NEUTRAL.get(name, 0.0) for name in JOINTS])
    reach = np.minimum(np.maximum(high - neutral, neutral - low), [_of_joint(_REACH, name) for name in JOINTS])
    ends = np.array([mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_GEOM, name) for name in ENDS])
    return Layout(ends, low, high, neutral, reach, np.asarray(model.actuator_trnid[:, 0]) - 1)
