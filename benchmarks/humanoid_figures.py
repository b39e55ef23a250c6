"""The humanoids of docs/humanoid.md, side by side.

.venv/bin/python benchmarks/humanoid_figures.py -o docs/images/humanoid_runs.png NAME=RUN NAME=RUN …

Each run's policy plays one episode by its mean action, from the same seed; a row shows it every third of a second.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from merge_figures import save

from menura import load_policy
from menura.report.footage import record
from menura.report.frames import frames_of

COLUMNS, EVERY = 7, 22
"""Pictures in a row, and steps of 15 ms between two of them."""


def strip(run: Path, *, seed: int, first: int) -> tuple[list[np.ndarray], str]:
    """Pictures of an episode, cut to the body's surroundings, and how it went."""
    policy, config = load_policy(run)
    footage = record(config["env"], policy, env_kwargs=config["env_kwargs"], seed=seed, max_steps=1000)
    steps = np.minimum(first + EVERY * np.arange(COLUMNS), footage.num_frames - 1)
    pictures = frames_of(footage, steps, env_id=config["env"], env_kwargs=config["env_kwargs"], size=480)
    assert footage.rewards is not None
    return [
        picture[90:410, 80:400] for picture in pictures
    ], f"{footage.rewards.sum():,.0f} in {footage.num_steps} steps"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", metavar="NAME=RUN")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=100, help="the step of the first picture")
    arguments = parser.parse_args()
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = [text.split("=", 1) for text in arguments.runs]
    figure = plt.figure(figsize=(8.6, 1.5 * len(rows)), layout="constrained")
    parts: Any = figure.subfigures(len(rows), 1, squeeze=False)
    for part, (name, run) in zip(parts[:, 0], rows, strict=True):
        pictures, went = strip(Path(run), seed=arguments.seed, first=arguments.first)
        for axis, picture in zip(part.subplots(1, COLUMNS), pictures, strict=True):
            axis.imshow(picture)
            axis.set_xticks([])
            axis.set_yticks([])
        part.suptitle(f"{name}: {went}", fontsize=8, x=0.01, ha="left")
        print(f"{name}: {went}", flush=True)
    save(figure, arguments.output)


if __name__ == "__main__":
    main()
