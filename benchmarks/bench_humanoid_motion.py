"""A humanoid that walks after motion capture: seconds on its feet, speed, and the distance of its gait from the clip's.

.venv/bin/python benchmarks/bench_humanoid_motion.py --data DATA [--seeds N] [--steps N] [--pictures DIR]

DATA holds human_motion/humanoid3d_walk.txt (docs/humanoid.md says how to get it). Runs are kept in --out and gone on
with where they were stopped. `--pictures` writes the retarget and the learner's gait beside the clip.
"""

import json
import subprocess
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from by_seed import MENURA, evaluations_of, measure_seeds, seeds_parser, spread, with_data
from common import REPOSITORY

from menura import load_policy
from menura.environments.motion.clips import read_clip
from menura.environments.motion.gait import Gait, gait_of
from menura.environments.motion.retarget import retarget
from menura.report.footage import record
from menura.report.motion import retarget_picture

NAME, TITLE = "humanoid_motion", "A humanoid that walks after motion capture"
EPISODES, SECONDS = 10, 20
"""Episodes of the mean action from moments of the clip drawn at random, each at most so long."""


def main() -> None:
    parser = seeds_parser(__doc__)
    parser.add_argument("--steps", type=int, default=8_000_000, help="environment steps of a run")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "runs" / "humanoid_motion", help="where runs are kept")
    parser.add_argument("--pictures", type=Path, help="folder for pictures of the gait of the last seed")
    arguments = with_data(parser)
    clip = arguments.data / "human_motion" / "humanoid3d_walk.txt"
    speed = read_clip(clip).speed
    measure_seeds(
        NAME,
        f"MotionWalk-v0, GAIL from observations only with PPO, chi-squared, {arguments.steps:,} steps",
        arguments,
        asked="≥ 10 s without falling, within 15% of the clip's speed, one seed",
        command=f".venv/bin/python benchmarks/bench_humanoid_motion.py --data DATA --steps {arguments.steps}",
        seeds=range(1),
        one=partial(one_seed, clip=clip, steps=arguments.steps, out=arguments.out, pictures=arguments.pictures),
        good=lambda r: min(r["seconds"]) >= 10 and abs(r["mean_speed"] / speed - 1) <= 0.15,
        describe=lambda results: (
            f"{spread([min(r['seconds']) for r in results], 1)} s at least, {spread([r['falls'] for r in results])} of "
            f"{EPISODES} episodes of at most {SECONDS} s ended in a fall, "
            f"{spread([r['mean_speed'] for r in results], 2)} m/s against the clip's {speed:.2f}, "
            f"gait {spread([r['mean_distance'] for r in results], 2)} rad from the clip's; "
            f"{spread([r['wall_seconds'] / 60 for r in results])} min"
        ),
        data=[clip],
        title=TITLE,
    )


def one_seed(seed: int, *, clip: Path, steps: int, out: Path, pictures: Path | None) -> dict[str, Any]:
    """Train, or go on with, one seed, and measure its gait."""
    started = time.perf_counter()
    run = trained(seed, clip, steps, out / f"{steps}-s{seed}")
    gaits = gaits_of(run, clip, pictures)
    result = json.loads((run / "result.json").read_text())
    return {
        "median_seconds": float(np.median([g.seconds for g in gaits])),
        "falls": sum(g.fell for g in gaits),
        "mean_speed": float(np.mean([g.speed for g in gaits])),
        "mean_distance": float(np.mean([g.distance for g in gaits])),
        "seconds": [g.seconds for g in gaits],
        "wall_seconds": result.get("wall_seconds", time.perf_counter() - started),
        "env_steps": result["env_steps"],
        "evaluations": evaluations_of(run),
    }


def trained(seed: int, clip: Path, steps: int, out: Path) -> Path:
    """The finished run folder of one seed: a new one, or one that was stopped and is gone on with.

    Runs by other settings than the preset's of today are left alone.
    """
    walk = out / "walk.npz"
    menura("demos", "convert", clip, "--retarget", "humanoid", "-o", walk, "--overwrite")
    command: list[Any] = ["train", "gail", "MotionWalk-v0", "--forward", "ppo", "--regularizer", "chi_squared"]
    command += ["--regularizer.alpha", 0.5, "--regularizer.bound", 2]
    command += [
        "--demos",
        walk,
        "--observations-only",
        "--env-kwargs",
        f"clip={clip}",
        "--total-steps",
        steps,
        "--seed",
        seed,
    ]
    learner = json.loads(menura(*command, "--print-config"))["learner"]
    for run in sorted(path.parent for path in out.rglob("config.json")):
        if json.loads((run / "config.json").read_text())["learner"] != learner:
            continue
        if (run / "result.json").exists():
            return run
        if (run / "checkpoints" / "last").exists():
            menura("train", "--resume", run)
            return run
    return Path(menura(*command, "--eval-every", max(1, steps // 20), "--out", out).splitlines()[-1])


def menura(*arguments: Any) -> str:
    """Run a command of the program, its progress on stderr, and give its stdout."""
    return subprocess.run([str(MENURA), *map(str, arguments)], check=True, stdout=subprocess.PIPE, text=True).stdout


def gaits_of(run: Path, clip: Path, pictures: Path | None, *, checkpoint: str = "last") -> list[Gait]:
    """The gait of episodes of the mean action; pictures of the longest of them beside the clip."""
    policy, config = load_policy(run, checkpoint=checkpoint)
    motion = retarget(read_clip(clip))
    limit = SECONDS * 30
    kwargs = config["env_kwargs"] | {"clip": str(clip), "max_episode_steps": limit}
    episodes = [
        record("MotionWalk-v0", policy, env_kwargs=kwargs, seed=seed, max_steps=limit) for seed in range(EPISODES)
    ]
    gaits = []
    for episode in episodes:
        assert episode.qpos is not None
        gaits.append(gait_of(episode.qpos, motion, fell=episode.num_steps < limit))
    if pictures is not None:
        longest = max(episodes, key=lambda e: e.num_steps)
        assert longest.qpos is not None
        assert longest.qvel is not None
        # A cycle of its second half, from where it is nearest to the clip's first frame.
        cycle = round(motion.seconds * 30)
        begins = range(longest.num_steps // 2, max(longest.num_steps // 2 + 1, longest.num_steps - cycle))
        begin = min(begins, key=lambda step: np.linalg.norm(longest.qpos[step, 7:] - motion.qpos[0, 7:]))
        steps = np.minimum(begin + np.round(np.arange(6) * cycle / 6).astype(int), longest.num_steps)
        light, dark = retarget_picture(read_clip(clip), motion, (longest.qpos[steps], longest.qvel[steps]))
        pictures.mkdir(parents=True, exist_ok=True)
        (pictures / "humanoid_gait.png").write_bytes(light)
        (pictures / "humanoid_gait-dark.png").write_bytes(dark)
    return gaits


if __name__ == "__main__":
    main()
