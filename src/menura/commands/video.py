"""``menura video RUN… -o FILE``: an expert and the learners of runs beside each other, as an mp4."""

from collections.abc import Callable, Sequence
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
    """Show the expert and the learner of a run side by side, or the learners of several runs."""

    runs: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="RUN [RUN ...]")]
    """The run's folder; of several, each learner plays from the same seed."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """The .mp4 file to write."""
    episodes: int = 1
    """How many episodes, one after another."""
    checkpoint: str = "last"
    """Which policy: last, best, or a number of steps."""
    seed: int = 0
    """Seed of the learner's first episode."""
    expert: str | None = None
    """Who plays from the same seed in the place of a demonstrated episode: a run folder, module:object, or idm, the
    scripted driver."""


def main(arguments: Sequence[str]) -> None:
    """Write the video and say where it is."""
    options = parse(VideoOptions, arguments, program="menura video", description=VideoOptions.__doc__ or "")
    if options.output.suffix.lower() != ".mp4":
        raise RequestError(f"{options.output} must end in .mp4.")
    if options.episodes < 1:
        raise RequestError(f"--episodes must be at least 1, not {options.episodes}.")
    if not options.runs:
        raise RequestError("Name at least one run folder.")
    video = video_of_runs(
        options.runs,
        checkpoint=options.checkpoint,
        episodes=options.episodes,
        seed=options.seed,
        expert=options.expert,
        output=options.output,
    )
    if not video.mp4:
        raise RequestError(video.caption)
    print(f"{options.output}: {video.caption}")


def video_of_run(
    path: Path, *, checkpoint: str = "last", episodes: int = 1, seed: int = 0, output: Path | None = None
) -> "Video":
    """The video of a run. Where nothing can be drawn it holds a sentence that says why, and no picture."""
    return video_of_runs((path,), checkpoint=checkpoint, episodes=episodes, seed=seed, output=output)


def video_of_runs(
    paths: Sequence[Path],
    *,
    checkpoint: str = "last",
    episodes: int = 1,
    seed: int = 0,
    expert: str | None = None,
    output: Path | None = None,
) -> "Video":
    """The video of runs in one environment. Where nothing can be drawn it says why, and holds no picture.

    The expert is a demonstrated episode of the first run, or one that ``expert`` plays from the learners' seed.
    """
    from menura.environments.driving import road_of
    from menura.report.footage import CannotRender, record
    from menura.report.runs import read_run
    from menura.report.video import Video, episodes_in_a_row
    from menura.run.artifacts import load_policy

    runs = [read_run(path) for path in paths]
    loaded = [load_policy(path, checkpoint=checkpoint) for path in paths]
    config = loaded[0][1]
    env_id, env_kwargs = config.get("env"), config.get("env_kwargs") or {}
    title = f"{' and '.join(run.name for run in runs)} on {runs[0].env}"
    title += "" if len(runs) > 1 or runs[0].seed is None else f", seed {runs[0].seed}"
    if not env_id:
        return Video(title, b"", "There is no video: the run names no environment.")
    for path, (_, other) in zip(paths, loaded, strict=True):
        if (other.get("env"), other.get("env_kwargs") or {}) != (env_id, env_kwargs):
            raise RequestError(
                f"{path} is a run in another environment than {paths[0]}: show it in a video of its own."
            )
    labels = [_label(run.name, config) for run, (_, config) in zip(runs, loaded, strict=True)]
    labels = labels if len(runs) > 1 else ["learner"]
    players = [(policy, label, own.get("history", 1)) for (policy, own), label in zip(loaded, labels, strict=True)]
    pictures = bool(config["spec"].get("parts"))
    note = ""
    try:
        if expert is not None:
            players = [(_player(expert, env_id, env_kwargs), "expert", 1), *players]
        backend = config.get("backend") or "auto"
        scenes = [
            [
                record(
                    env_id,
                    policy,
                    env_kwargs=env_kwargs,
                    backend=backend,
                    history=history,
                    pictures=pictures,
                    seed=seed + index,
                    label=label,
                )
                for policy, label, history in players
            ]
            for index in range(episodes)
        ]
    except CannotRender as error:
        return Video(title, b"", str(error))
    if expert is None:
        experts, note = _expert_footage(env_id, config, episodes)
        scenes = [[first, *rest] for first, rest in zip(experts, scenes, strict=True)]
    wide = road_of(env_id, env_kwargs) is not None
    video = episodes_in_a_row(
        env_id, scenes, env_kwargs=env_kwargs, title=title, output=output, width=720 if wide else 480
    )
    return Video(video.title, video.mp4, f"{video.caption} {note}".strip())


def _label(name: str, config: dict[str, Any]) -> str:
    count = (config.get("demos") or {}).get("num_demos")
    return name if count is None else f"{name}, {count} demonstration{'' if count == 1 else 's'}"


def _player(expert: str, env_id: str, env_kwargs: dict[str, Any]) -> Callable[..., Any]:
    """An expert as a function of one observation."""
    from menura.core import AbstractPolicy
    from menura.environments import NativeEnvs, make
    from menura.run.experts import load_expert

    env = make(env_id, env_kwargs=env_kwargs)
    actor = load_expert(expert, env, env_kwargs).actor
    if not isinstance(env, NativeEnvs):
        env.close()
    if isinstance(actor, AbstractPolicy):
        return actor
    return lambda obs: actor.predict(obs[None], deterministic=True)[0][0]


def _expert_footage(env_id: str, config: dict[str, Any], count: int) -> tuple[list["Footage | None"], str]:
    """Demonstrated episodes, the one nearest to the expert's mean return first; and a note where there are none."""
    import numpy as np

    from menura.demonstrations.parts import parts_of_demos
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
    parts = parts_of_demos(demos)
    found: list[Footage | None] = [footage_of_episode(env_id, demos.episodes[i], parts=parts) for i in nearest]
    return found + [None] * (count - len(found)), ""
