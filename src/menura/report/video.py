"""A short video: the expert on the left, the learner on the right, and below what its actions are worth to it."""

import contextlib
import math
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from menura.core import RequestError
from menura.report.files import write_atomically
from menura.report.footage import CannotRender, Footage
from menura.report.frames import frames_of
from menura.report.q_panel import PANEL, QPanel, legend_height
from menura.report.tables import format_return

FPS = 30
_BAR, _GAP = 24, 4
_GROUND, _INK, _QUIET, _ALARM = (24, 27, 32), (235, 238, 242), (160, 168, 178), (255, 122, 89)


@dataclass(frozen=True)
class Video:
    """An H.264 video, or a sentence that says why there is none."""

    title: str
    mp4: bytes
    """Empty where there is no picture."""
    caption: str


@dataclass(frozen=True)
class _Side:
    footage: Footage
    frames: dict[int, np.ndarray]


def side_by_side(
    env_id: str,
    left: Footage | None,
    right: Footage | None,
    *,
    env_kwargs: dict[str, Any] | None = None,
    title: str = "",
    output: Path | None = None,
    width: int = 480,
    max_seconds: float = 10.0,
) -> Video:
    """One episode of each beside the other, with the return so far; also written to ``output`` if that is given."""
    return episodes_in_a_row(
        env_id, [(left, right)], env_kwargs=env_kwargs, title=title, output=output, width=width, max_seconds=max_seconds
    )


def episodes_in_a_row(
    env_id: str,
    scenes: Sequence[Sequence[Footage | None]],
    *,
    env_kwargs: dict[str, Any] | None = None,
    title: str = "",
    output: Path | None = None,
    width: int = 480,
    max_seconds: float = 10.0,
) -> Video:
    """Several pairs (or more) of episodes, each at most ``max_seconds`` long, one after another.

    They go at the environment's own pace, or up to twice that where they are long. Wide pictures stand above each
    other, others side by side. A side that cannot be drawn is left out, and the caption says so.
    """
    notes: list[str] = []
    shown = [
        (sides, steps)
        for scene in scenes
        for sides, steps in [_drawn(env_id, scene, env_kwargs, width, max_seconds, notes)]
        if sides
    ]
    if not shown:
        return Video(title, b"", " ".join(dict.fromkeys(notes)) or "There is no episode to show.")
    below = max(_panel_height(side.footage) for sides, _ in shown for side in sides)
    layout = _layout(shown[0][0], max(len(sides) for sides, _ in shown), width, below)
    movie = (frame for sides, steps in shown for frame in _scene(sides, steps, layout))
    try:
        mp4 = _encode(movie, layout.size)
    except CannotRender as error:
        return Video(title, b"", str(error))
    if output is not None:
        write_atomically(output, mp4)
    if below:
        notes.append("Below are the values of its actions over time, the largest marked.")
    caption = " ".join(dict.fromkeys([_caption(shown[0][0], shown[0][1]), *notes]))
    return Video(title, mp4, caption)


def _drawn(env_id, scene, env_kwargs, width, max_seconds, notes) -> tuple[list[_Side], np.ndarray]:
    footages = [footage for footage in scene if footage is not None]
    if not footages:
        return [], np.empty(0, int)
    # The learner's pace is the environment's own, where an episode of the expert does not know it.
    pace = footages[-1].steps_per_second
    steps = shown_steps(max(f.num_frames for f in footages) - 1, pace, max_seconds=max_seconds)
    sides = []
    for footage in footages:
        own = np.unique(np.minimum(steps, footage.num_frames - 1))
        try:
            # Roads are wide, and stand above each other.
            size = width if footage.moments > 1 else width // len(footages)
            frames = frames_of(footage, own, env_id=env_id, env_kwargs=env_kwargs, size=size // 2 * 2)
        except (CannotRender, RequestError) as error:
            notes.append(str(error))
            continue
        sides.append(_Side(footage, dict(zip(own.tolist(), frames, strict=True))))
    return sides, steps


def shown_steps(num_steps: int, steps_per_second: float, *, max_seconds: float) -> np.ndarray:
    """The step shown in each frame of a video: at the environment's pace, up to twice that, then cut short."""
    budget = round(max_seconds * FPS)
    natural = num_steps / steps_per_second * FPS
    speed = 2.0 if natural > budget else 1.0
    num_frames = min(budget, math.ceil(natural / speed) + 1)
    steps = np.floor(np.arange(num_frames) * steps_per_second * speed / FPS).astype(int)
    # The end is held for a moment where there is room.
    held = np.full(min(FPS // 2, budget - num_frames), num_steps)
    return np.concatenate([np.minimum(steps, num_steps), held])


@dataclass(frozen=True)
class _Layout:
    """Where each side's picture stands, all of them ``tile`` pixels wide and high, below a bar with its label and above
    a panel of action values, if there is one."""

    tile: tuple[int, int]
    places: tuple[tuple[int, int], ...]
    """Left and top of each side's bar."""
    size: tuple[int, int]


def _layout(sides: Sequence[_Side], count: int, width: int, below: int) -> _Layout:
    """Above each other where pictures are more than twice as wide as high, else side by side; with panels so high."""
    first = next(iter(sides[0].frames.values()))
    shape = first.shape[0] / first.shape[1]
    if shape < 0.5:
        tile = (width // 2 * 2, round(width * shape) // 2 * 2)
        step = tile[1] + _BAR + below + _GAP
        return _Layout(tile, tuple((0, step * row) for row in range(count)), (tile[0], step * count - _GAP))
    # Even numbers, as H.264 asks.
    across = (width - _GAP * (count - 1)) // count
    tile = (across // 2 * 2, min(round(across * shape), 480) // 2 * 2)
    step = tile[0] + _GAP
    places = tuple((step * column, 0) for column in range(count))
    return _Layout(tile, places, (step * count - _GAP, tile[1] + _BAR + below))


def _panel_height(footage: Footage) -> int:
    """Of the panel of action values below an episode; 0 where its policy has none."""
    return 0 if footage.q_values is None else PANEL + legend_height(footage.q_values.shape[1])


def _scene(sides: Sequence[_Side], steps: np.ndarray, layout: _Layout) -> Iterator[np.ndarray]:
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(size=13)
    tile = layout.tile
    shade = Image.new("RGB", tile, _GROUND)
    pictures: dict[tuple[int, int], Any] = {}
    end = int(steps[-1])
    panels = {
        column: QPanel(side.footage, end // side.footage.moments, tile[0], _GROUND)
        for column, side in enumerate(sides)
        if side.footage.q_values is not None
    }
    for step in steps.tolist():
        canvas = Image.new("RGB", layout.size, _GROUND)
        draw = ImageDraw.Draw(canvas)
        for column, (side, (left, top)) in enumerate(zip(sides, layout.places, strict=False)):
            last = side.footage.num_frames - 1
            own = min(step, last)
            if (column, own) not in pictures:
                pictures[column, own] = _fitted(side.frames[own], tile)
            over = step >= last and last < end
            picture = pictures[column, own]
            faded = over and not side.footage.crashed
            canvas.paste(Image.blend(picture, shade, 0.45) if faded else picture, (left, top + _BAR))
            _label(draw, font, side.footage, own, (left, top), tile[0], over)
            if column in panels:
                canvas.paste(panels[column].at(own // side.footage.moments), (left, top + tile[1] + _BAR))
        yield np.asarray(canvas)


def _fitted(frame: np.ndarray, tile: tuple[int, int]) -> Any:
    from PIL import Image

    # A picture that is higher than its tile gets borders, so that its pixels stay square.
    picture = Image.fromarray(np.asarray(frame, np.uint8))
    scale = min(tile[0] / picture.width, tile[1] / picture.height)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    fitted = picture.resize(size, Image.Resampling.LANCZOS)
    if size == tile:
        return fitted
    whole = Image.new("RGB", tile, _GROUND)
    whole.paste(fitted, ((tile[0] - size[0]) // 2, (tile[1] - size[1]) // 2))
    return whole


def _label(draw: Any, font: Any, footage: Footage, step: int, at: tuple[int, int], width: int, over: bool) -> None:
    left, middle = at[0], at[1] + _BAR // 2
    draw.text((left + 8, middle), footage.label, fill=_INK, font=font, anchor="lm")
    whole = footage.return_until(footage.num_steps)
    at_end = step == footage.num_frames - 1
    total = whole if at_end else footage.return_until(step // footage.moments)
    words = ""
    if total is not None and whole is not None:
        # As many decimals throughout as the final return asks for, so that the number does not jump about.
        words = f"return {total:.{0 if abs(whole) >= 100 else 1}f}"
    crash = footage.crashed and at_end
    if over or crash:
        ended = f"crashed in step {footage.num_steps}" if crash else "ended"
        words = f"{ended} · {words}" if words else ended
    draw.text((left + width - 8, middle), words, fill=_ALARM if crash else _QUIET, font=font, anchor="rm")


def _caption(sides: Sequence[_Side], steps: np.ndarray) -> str:
    *most, last = [side.footage.label for side in sides]
    who = f"{', '.join(most)} and {last}" if most else last
    totals = [
        f"{_named(shown.label)}'s episode has {shown.num_steps} steps and a return of {format_return(total)}"
        for shown in (side.footage for side in sides)
        if (total := shown.return_until(shown.num_steps)) is not None
    ]
    text = who[:1].upper() + who[1:] + (": " + "; ".join(totals) if totals else "") + "."
    crashes = " and ".join(_named(side.footage.label) for side in sides if side.footage.crashed)
    text += f" There is a crash of {crashes}." if crashes else ""
    longest = max(side.footage.num_frames for side in sides) - 1
    shown = int(steps[-1]) // sides[0].footage.moments
    return text + (f" The first {shown} steps are shown." if len(steps) and steps[-1] < longest else "")


def _named(label: str) -> str:
    """The expert, but BC."""
    return f"the {label}" if label.islower() else label


def _encode(frames: Iterator[np.ndarray], size: tuple[int, int]) -> bytes:
    try:
        import imageio_ffmpeg
    except ModuleNotFoundError as error:
        raise RequestError(
            "Videos need imageio-ffmpeg: install menura with its `viz` extra, or use --no-video."
        ) from error
    # imageio_ffmpeg's own writer forks, which JAX's threads do not survive; a plain subprocess does not.
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24"]
    command += [
        "-s",
        f"{size[0]}x{size[1]}",
        "-r",
        str(FPS),
        "-i",
        "-",
        "-an",
        "-c:v",
        "libx264",
        "-pix_fmt",
        "yuv420p",
    ]
    command += ["-crf", "27", "-preset", "medium", "-movflags", "+faststart"]
    with tempfile.TemporaryDirectory(prefix="menura-video-") as folder:
        path, log = Path(folder) / "video.mp4", Path(folder) / "log.txt"
        with (
            log.open("wb") as errors,
            subprocess.Popen([*command, str(path)], stdin=subprocess.PIPE, stderr=errors) as ffmpeg,
        ):
            assert ffmpeg.stdin is not None
            with contextlib.suppress(BrokenPipeError), ffmpeg.stdin as pipe:
                for frame in frames:
                    pipe.write(np.ascontiguousarray(frame).data)
        if ffmpeg.returncode != 0 or not path.exists():
            raise CannotRender(f"There is no video: ffmpeg failed with {log.read_text(errors='replace').strip()!r}.")
        return path.read_bytes()
