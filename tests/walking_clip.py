"""A person's walk made up of sines, in DeepMimic's text: 1.2 s a cycle at 30 frames a second, 1 m/s."""

import json

import numpy as np

FRAMES, FPS, SPEED = 36, 30.0, 1.0


def quaternion(axis, angle):
    return np.concatenate([[np.cos(angle / 2)], np.sin(angle / 2) * np.asarray(axis, float)])


def frame(index):
    """Of DeepMimic's humanoid, y up and z to the right: positive angles about z swing a limb forward."""
    phase = 2 * np.pi * index / FRAMES
    right, left = np.sin(phase), np.sin(phase + np.pi)
    z = (0, 0, 1)
    rest = quaternion(z, 0.0)
    leg = {
        side: (quaternion(z, 0.1 + 0.4 * swing), -0.15 - 0.6 * max(0.0, np.cos(phase + offset)))
        for side, swing, offset in (("right", right, 0.0), ("left", left, np.pi))
    }
    row = [1 / FPS, SPEED * index / FPS, 0.85, 0.0, *quaternion((0, 1, 0), 0.1 * right)]
    row += [*quaternion((0, 1, 0), -0.15 * right), *rest]
    for side, swing in (("right", left), ("left", right)):
        row += [*leg[side][0], leg[side][1], *rest, *quaternion(z, 0.3 * swing), 0.6]
    return row


def write_walk(path, *, frames=FRAMES + 1, **changes):
    content = {"Loop": "wrap", "Frames": [frame(i) for i in range(frames)]} | changes
    path.write_text(json.dumps(content))
    return path
