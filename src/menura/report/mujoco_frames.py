"""A program of its own that draws MuJoCo states: ``python -P mujoco_frames.py FOLDER``.

It runs in another process because OpenGL is chosen once a process, can fail only when it is first used, and
must not take a training run down with it. The folder holds ``model.mjb``, ``camera.json`` (``size`` and the
settings of a free camera) and ``states.npz`` (``qpos``, ``qvel``, one row a frame); ``frames.npy`` is written there.
"""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np


def main(folder: Path) -> None:
    """Draw every state of the folder."""
    mujoco: Any = importlib.import_module("mujoco")

    model = mujoco.MjModel.from_binary_path(str(folder / "model.mjb"))
    data = mujoco.MjData(model)
    camera_settings = json.loads((folder / "camera.json").read_text())
    size = camera_settings.pop("size")
    camera = _camera(mujoco, model, camera_settings)
    with np.load(folder / "states.npz", allow_pickle=False) as states:
        qpos, qvel = states["qpos"], states["qvel"]
    frames = np.empty((len(qpos), size, size, 3), np.uint8)
    with mujoco.Renderer(model, size, size) as renderer:
        for i in range(len(qpos)):
            data.qpos[:], data.qvel[:] = qpos[i], qvel[i]
            mujoco.mj_forward(model, data)
            renderer.update_scene(data, camera)
            # Without a graphics card these two take more than half of the time.
            renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
            renderer.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
            frames[i] = renderer.render()
    np.save(folder / "frames.npy", frames, allow_pickle=False)


def _camera(mujoco: Any, model: Any, settings: dict[str, Any]) -> Any:
    track = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, "track")
    if track != -1:
        return track
    camera = mujoco.MjvCamera()
    mujoco.mjv_defaultFreeCamera(model, camera)
    if "trackbodyid" in settings:
        camera.type = mujoco.mjtCamera.mjCAMERA_TRACKING
    for name, value in settings.items():
        if isinstance(value, list):
            getattr(camera, name)[:] = value
        else:
            setattr(camera, name, value)
    return camera


if __name__ == "__main__":
    main(Path(sys.argv[1]))
