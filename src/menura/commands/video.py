"""``menura video RUN -o FILE``: the expert and the learner of a run side by side, as an mp4."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from menura.commands.arguments import parse
from menura.core import RequestError

if TYPE_CHECKING:
    from menura.report.footage import Footage
    from menura.report.video import Video


@dataclass(frozen=True)
class VideoOptions:
    """Show the expert and the learner of a run side by side."""

    run: tyro.conf.Positional[Path]
    """The run's folder."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """The .mp4 file to write."""
    episodes: int = 1
    """How many episodes, one after another."""
    checkpoint: str = "last"
    """Which policy: last, best, or a number of steps."""
    seed: int = 0
    """Seed of the learner's first episode."""


def main(arguments: Sequence[str]) -> None:
    """Write the video and say where it is."""
    options = parse(VideoOptions, arguments, program="menura video", description=VideoOptions.__doc__ or "")
    if options.output.suffix.lower() != ".mp4":
        raise RequestError(f"{options.output} must end in .mp4.")
    if options.episodes < 1:
        raise RequestError(f"--episodes must be at least 1, not {options.episodes}.")
    video = video_of_run(
        options.run,
        checkpoint=options.checkpoint,
        episodes=options.episodes,
        seed=options.seed,
        output=options.output,
    )
    if not video.mp4:
        raise RequestError(video.caption)
    print(f"{options.output}: {video.caption}")


def video_of_run(
    path: Path, *, checkpoint: str = "last", episodes: int = 1, seed: int = 0, output: Path | None = None
) -> "Video":
    """The video of a run. Where nothing can be drawn it holds a sentence that says why, and no picture."""
    from menura.report.footage import CannotRender, record
    from menura.report.runs import read_run
    from menura.report.video import Video, episodes_in_a_row
    from menura.run.artifacts import load_policy

    run = read_run(path)
    policy, config = load_policy(path, checkpoint=checkpoint)
    env_id, env_kwargs = config.get("env"), config.get("env_kwargs") or {}
    title = f"{run.name} on {run.env}" + ("" if run.seed is None else f", seed {run.seed}")
    if not env_id:
        return Video(title, b"", "There is no video: the run names no environment.")
    try:
        learners = [
            record(
                env_id,
                policy,
                env_kwargs=env_kwargs,
                backend=config.get("backend") or "auto",
                history=config.get("history", 1),
                pictures=bool(config["spec"].get("parts")),
                seed=seed + index,
            )
            for index in range(episodes)
        ]
    except CannotRender as error:
        return Video(title, b"", str(error))
    experts, note = _expert_footage(env_id, config, episodes)
    scenes = list(zip(experts, learners, strict=True))
    video = episodes_in_a_row(env_id, scenes, env_kwargs=env_kwargs, title=title, output=output)
    return Video(video.title, video.mp4, f"{video.caption} {note}".strip())


def _expert_footage(env_id: str, config: dict[str, Any], count: int) -> tuple[list["Footage | None"], str]:
    """Demonstrated episodes, the one nearest to the expert's mean return first; and a note where there are none."""
    import numpy as np

    from menura.demonstrations.readers import load
    from menura.report.footage import footage_of_episode

    path = (config.get("demos") or {}).get("path")
    if not path:
        return [None] * count, ""
    try:
        demos = load(Path(path))
    except RequestError:
        return [None] * count, "The demonstrations are no longer where the run read them, so the expert is not shown."
    distance = [abs(episode.total_reward - demos.expert_return) for episode in demos.episodes]
    nearest = np.argsort(np.nan_to_num(distance, nan=np.inf), kind="stable")[:count]
    found: list[Footage | None] = [footage_of_episode(env_id, demos.episodes[i]) for i in nearest]
    return found + [None] * (count - len(found)), ""
