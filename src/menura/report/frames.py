"""Frames of an episode: drawn from observations, from MuJoCo states, or as the environment drew itself."""

import importlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from menura.environments.driving import road_of
from menura.environments.motion.observation import OBS_SIZE, state_of
from menura.environments.motion.walk import MOTION_WALK
from menura.report.driving import draw_moment, drive_of
from menura.report.footage import CannotRender, Footage, family_of, is_mujoco

_HIDDEN_COORDINATES = {
    "Hopper": 1,
    "HalfCheetah": 1,
    "Walker2d": 1,
    "Swimmer": 2,
    "Ant": 2,
    "Humanoid": 2,
    "HumanoidStandup": 2,
    "InvertedPendulum": 0,
}
"""Leading positions that Gymnasium leaves out of the observation: where the body is along the ground."""


def frames_of(
    footage: Footage, steps: np.ndarray, *, env_id: str, env_kwargs: dict[str, Any] | None, size: int
) -> list[np.ndarray]:
    """A picture ``(H, W, 3)`` uint8 of each of these steps."""
    from menura.report import drawing

    if footage.images:
        return [footage.images[min(step // footage.image_every, len(footage.images) - 1)] for step in steps]
    if footage.obs.ndim == 4:
        return [enlarged(footage.obs[step], size) for step in steps]
    if footage.obs.ndim != 2:
        raise CannotRender(f"The {footage.label}'s observations are not vectors, so the {footage.label} is not shown.")
    if drawing.can_draw(env_id):
        shape = (size, size * 4 // 5)
        return [drawing.draw(env_id, footage.obs[step], shape, env_kwargs=env_kwargs) for step in steps]
    road = road_of(env_id, env_kwargs)
    if road is not None:
        drive, last = drive_of(footage.obs, road), footage.num_frames - 1
        return [draw_moment(drive, step, size, crashed=footage.crashed and step == last) for step in steps.tolist()]
    return _mujoco_frames(footage, steps, env_id, env_kwargs, size)


def enlarged(frame: np.ndarray, size: int) -> np.ndarray:
    """A frame of bytes as ``(H, W, 3)``, every pixel as large a square as fits into ``size``; an even number a side."""
    factor = max(1, size // max(frame.shape[:2]))
    large = np.repeat(np.repeat(frame[..., -3:], factor, axis=0), factor, axis=1)
    large = np.broadcast_to(large, (*large.shape[:2], 3)) if large.shape[2] == 1 else large
    return np.ascontiguousarray(np.pad(large, [(0, n % 2) for n in large.shape[:2]] + [(0, 0)], mode="edge"))


def states_from_obs(
    env_id: str, env_kwargs: dict[str, Any] | None, obs: np.ndarray, *, nq: int, nv: int, dt: float
) -> tuple[np.ndarray, np.ndarray] | None:
    """MuJoCo's ``(qpos, qvel)`` behind observations, or ``None`` where they do not tell.

    Gymnasium's locomotion tasks observe ``qpos`` without its first coordinates, then ``qvel``. The place along
    the ground is what is missing: it is added up from its velocity, so it starts at 0 and drifts a little. Every
    angle and height is exact, except velocities beyond ±10 that some tasks clip, which no picture shows.
    """
    family = family_of(env_id)
    if family == "Reacher" and obs.shape[1] >= 8:
        angles = np.arctan2(obs[:, 2:4], obs[:, 0:2])
        return np.concatenate([angles, obs[:, 4:6]], 1), np.concatenate([obs[:, 6:8], np.zeros((len(obs), 2))], 1)
    if family == family_of(MOTION_WALK) and obs.shape[1] == OBS_SIZE:
        qpos, qvel = state_of(obs)
        qpos[1:, :2] = np.cumsum(dt * (qvel[1:, :2] + qvel[:-1, :2]) / 2, axis=0)
        return qpos, qvel
    if family not in _HIDDEN_COORDINATES:
        return None
    hidden = _HIDDEN_COORDINATES[family]
    if not (env_kwargs or {}).get("exclude_current_positions_from_observation", True):
        hidden = 0
    seen = nq - hidden
    if obs.shape[1] < seen + nv:
        return None
    qvel = obs[:, seen : seen + nv].astype(np.float64)
    moved = dt * (qvel[1:, :hidden] + qvel[:-1, :hidden]) / 2
    place = np.concatenate([np.zeros((1, hidden)), np.cumsum(moved, axis=0)])
    return np.concatenate([place, obs[:, :seen]], axis=1), qvel


def _mujoco_frames(footage, steps, env_id, env_kwargs, size) -> list[np.ndarray]:
    from menura.environments.host import make_gymnasium

    env = make_gymnasium(env_id, env_kwargs)
    try:
        if not is_mujoco(env):
            raise CannotRender(f"{env_id} can be drawn only while it is played, so the {footage.label} is not shown.")
        world: Any = env.unwrapped
        states = (footage.qpos, footage.qvel)
        if states[0] is None:
            nq, nv = int(world.model.nq), int(world.model.nv)
            states = states_from_obs(env_id, env_kwargs, footage.obs, nq=nq, nv=nv, dt=float(world.dt))
        if states is None:
            raise CannotRender(
                f"Observations of {env_id} do not tell the whole pose, so the {footage.label} is not shown."
            )
        renderer = getattr(world, "mujoco_renderer", None)
        camera = getattr(renderer, "default_cam_config", None) or {}
        return draw_states(world.model, states[0][steps], states[1][steps], camera, size)
    finally:
        env.close()


def draw_states(model: Any, qpos: np.ndarray, qvel: np.ndarray, camera: dict[str, Any], size: int) -> list[np.ndarray]:
    """Frames from a process of their own, tried with each kind of OpenGL that works without a screen."""
    mujoco: Any = importlib.import_module("mujoco")

    script = Path(__file__).with_name("mujoco_frames.py")
    with tempfile.TemporaryDirectory(prefix="menura-video-") as name:
        folder = Path(name)
        mujoco.mj_saveModel(model, str(folder / "model.mjb"), None)
        settings = {key: np.asarray(value).tolist() for key, value in camera.items()}
        (folder / "camera.json").write_text(json.dumps({**settings, "size": size}))
        np.savez(folder / "states.npz", qpos=qpos, qvel=qvel)
        for variables in _opengl_choices():
            environment = {**os.environ, **variables}
            command = [sys.executable, "-P", str(script), str(folder)]
            try:
                done = subprocess.run(command, env=environment, capture_output=True, timeout=300, check=False)
            except (OSError, subprocess.TimeoutExpired):
                continue
            if done.returncode == 0 and (folder / "frames.npy").exists():
                return list(np.load(folder / "frames.npy", allow_pickle=False))
    raise CannotRender(
        "There is no video: MuJoCo found no OpenGL to draw with. On Linux install EGL or OSMesa "
        "(`apt-get install libegl1`, or `libosmesa6`) and make the report again."
    )


def _opengl_choices() -> list[dict[str, str]]:
    if "MUJOCO_GL" in os.environ:
        return [{}]
    return [{"MUJOCO_GL": "egl"}, {"MUJOCO_GL": "osmesa"}, {}] if sys.platform.startswith("linux") else [{}]
