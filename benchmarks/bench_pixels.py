"""Learning from pictures on the native games: from the score, from demonstrations, and past a cue that tells nothing.

.venv/bin/python benchmarks/bench_pixels.py [--only TEXT] [--seeds N]

The expert is the policy of the first row's seed 0, trained once more; its demonstrations lie in benchmarks/experts/.
"""

import dataclasses
import subprocess
from pathlib import Path

import numpy as np
from by_seed import MENURA, measure_seeds, menura, seeds_parser, spread

import menura as library

NAME, TITLE = "pixels", "Learning from pictures"
EXPERTS = Path(__file__).parent / "experts"
MARK = 128


def main() -> None:
    arguments = seeds_parser(__doc__).parse_args()

    def row(name, asked, command, *, demos=None, least=None):
        def one(seed):
            given = [] if demos is None else ["--demos", demos()]
            return menura("train", *command, *given, "--eval-every", 0, "--seed", seed)

        shown = "" if demos is None else f" --demos {demos.__name__}.npz"
        measure_seeds(
            NAME,
            name,
            arguments,
            asked=asked,
            command=f"menura train {' '.join(map(str, command))}{shown} --seed S",
            seeds=range(3),
            one=one,
            good=None if least is None else lambda r: r["mean_return"] >= least,
            describe=lambda results: (
                f"return {spread([r['mean_return'] for r in results], 1)} of at most 5, "
                f"{spread([r['process_seconds'] for r in results])} s"
            ),
            data=lambda: [] if demos is None else [demos()],
            title=TITLE,
        )

    row("Catch-v0, PPO from the score", "solved (≥ 4.5)", ["ppo", "Catch-v0", "--total-steps", 60_000], least=4.5)
    row("Catch-v0, DQN from the score", "solved (≥ 4.5)", ["dqn", "Catch-v0", "--total-steps", 40_000], least=4.5)
    row(
        "Catch-v0, cloning of 20 episodes, no score",
        "solved (≥ 4.5)",
        ["bc", "Catch-v0", "--total-steps", 60_000],
        demos=catch,
        least=4.5,
    )
    gail = ["gail", "Catch-v0", "--forward", "ppo", "--total-steps", 60_000]
    row("Catch-v0, GAIL with PPO from 20 episodes, no score", "solved (≥ 4.5)", gail, demos=catch, least=4.5)
    for name, algorithm in (("GAIL", "gail"), ("SQIL", "sqil"), ("LS-IQ", "lsiq")):
        words = [algorithm, "Catch-v0", "--forward", "dqn"]
        row(f"Catch-v0, {name} with DQN from 20 episodes, no score", "solved (≥ 4.5)", words, demos=catch, least=4.5)
    row(
        "Catch-v0, GAIL, a mark in a corner of every demonstration",
        "the mark does not win (≥ 4)",
        gail,
        demos=marked,
        least=4.0,
    )
    row(
        "Catch-v0, GAIL, the same mark, --no-common-pixels",
        "for comparison",
        [*gail, "--no-common-pixels"],
        demos=marked,
    )
    row("FlickerCatch-v0, PPO", "for comparison", ["ppo", "FlickerCatch-v0", "--total-steps", 60_000])
    row(
        "FlickerCatch-v0, PPO with --history 10",
        "better than without",
        ["ppo", "FlickerCatch-v0", "--history", 10, "--total-steps", 60_000],
    )


def catch() -> Path:
    """Twenty episodes of an expert at Catch."""
    path = EXPERTS / "Catch-v0.npz"
    if not path.exists():
        EXPERTS.mkdir(exist_ok=True)
        menura("train", "ppo", "Catch-v0", "--total-steps", 60_000, "--seed", 0, out=EXPERTS / "runs")
        run = max((EXPERTS / "runs" / "Catch-v0" / "ppo").iterdir())
        command = [MENURA, "demos", "generate", run, "--episodes", 20, "-o", path]
        subprocess.run(list(map(str, command)), check=True, capture_output=True)
    return path


def marked() -> Path:
    """The same episodes with a gray pixel in the upper left corner of every picture."""
    path = EXPERTS / "Catch-v0-marked.npz"
    if not path.exists():
        demos = library.load(catch())
        episodes = []
        for episode in demos.episodes:
            pictures = np.array(episode.obs)
            pictures.reshape(len(pictures), -1)[:, 0] = MARK
            episodes.append(dataclasses.replace(episode, obs=pictures))
        library.save(dataclasses.replace(demos, episodes=tuple(episodes)), path)
    return path


if __name__ == "__main__":
    main()
