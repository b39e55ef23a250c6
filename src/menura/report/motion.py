"""A clip of motion capture beside the humanoid: the person's skeleton, its retarget, and a learner's gait."""

from typing import Any

import numpy as np

from menura.environments.motion.clips import PARENTS, Clip, joint_positions
from menura.environments.motion.humanoid import load_model
from menura.environments.motion.retarget import Motion
from menura.report.frames import draw_states
from menura.report.style import Theme, render

_SIDE_COLOR = {"right": 1, "left": 0}
"""A color of the theme for each side of the body."""


def retarget_picture(
    clip: Clip, motion: Motion, learner: tuple[np.ndarray, np.ndarray] | None = None, *, phases: int = 6
) -> tuple[bytes, bytes]:
    """PNG on light and on dark ground: the clip above, its retarget below, at evenly spaced moments.

    ``learner`` adds a row: MuJoCo's positions and velocities of a learner, one row of each a picture.
    """
    last = len(clip.root_position) - 1
    frames = np.round(np.linspace(0, last, phases, endpoint=not clip.loops)).astype(int)
    rows = [(f"retarget ({motion.speed:.2f} m/s)", _pictures(motion.qpos[frames], motion.qvel[frames]))]
    if learner is not None:
        rows.append(("learner", _pictures(*learner)))
    positions = joint_positions(clip)

    def draw(figure: Any, theme: Theme) -> None:
        axes = figure.subplots(1 + len(rows), phases, squeeze=False)
        for column, frame in enumerate(frames.tolist()):
            _skeleton(axes[0, column], {name: at[frame] for name, at in positions.items()}, theme)
            axes[0, column].set_title(f"{frame / clip.fps:.2f} s", fontsize=9)
            for axis, (_, pictures) in zip(axes[1:, column], rows, strict=True):
                axis.imshow(pictures[column])
                axis.set_xticks([])
                axis.set_yticks([])
        for axis, name in zip(axes[:, 0], (f"clip ({clip.speed:.2f} m/s)", *(name for name, _ in rows)), strict=True):
            axis.set_ylabel(name, fontsize=9)

    return render(draw, height=0.35 + 1.15 * (1 + len(rows)))


def _skeleton(axis: Any, at: dict[str, np.ndarray], theme: Theme) -> None:
    """One pose from the person's right side, as the humanoid's camera looks at it: x to the right, z up."""
    middle = at["pelvis"][0]
    for name, parent in PARENTS.items():
        color = theme.color(_SIDE_COLOR[name.split("_")[0]]) if "_" in name else theme.ink
        ends = np.stack([at[parent], at[name]])
        axis.plot(ends[:, 0] - middle, ends[:, 2], color=color, linewidth=2.5, solid_capstyle="round")
    axis.axhline(0, color=theme.faint, linewidth=1)
    axis.set_xlim(-0.9, 0.9)
    axis.set_ylim(-0.1, 1.7)
    axis.set_aspect("equal")
    axis.set_xticks([])
    axis.set_yticks([])


def _pictures(qpos: np.ndarray, qvel: np.ndarray) -> list[np.ndarray]:
    """The humanoid in these states, cut to its surroundings."""
    frames = draw_states(load_model(), qpos, qvel, {}, 480)
    return [frame[90:410, 80:400] for frame in frames]
