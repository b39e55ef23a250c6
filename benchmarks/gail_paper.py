"""The table of the GAIL paper (Ho & Ermon 2016): BC, FEM, GTAL and GAIL, cell by cell, with theirs beside ours.

.venv/bin/python benchmarks/gail_paper.py --data DATA [--part classic|mujoco] [--only TEXT] [--again]

Every cell is kept as soon as it has been measured, the cheapest first, and is not measured again. The protocol is the
paper's: the first trajectories of a file, every 10th pair of CartPole's, every 5th of Acrobot's and MountainCar's,
every 20th of MuJoCo's and all of Reacher's, from a random offset; 7 seeds on classic control and one on MuJoCo; the
last policy by its mean action over 50 episodes. Experts on classic control are our own, at the paper's level.
"""

import csv
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from by_seed import MENURA, with_data
from common import REPOSITORY, known_rows, parser_of, show, wanted, write_rows

NAME, TITLE = "gail_paper", "The GAIL paper's table"
EXPERTS = REPOSITORY / "benchmarks" / "experts"
ALGORITHMS = {"BC": "bclone", "FEM": "fem", "GTAL": "simplex", "GAIL": "ga"}
"""Ours, and the name in the paper's files."""
SLACK = 0.03
"""What is asked: GAIL's normalized return at least the paper's, or the expert's where that is less, less this."""


@dataclass(frozen=True)
class Task:
    """One environment of the paper."""

    env: str
    paper: str
    """Its name in the paper's files."""
    subsample: int
    sizes: tuple[int, ...]
    seeds: int
    seconds: dict[str, float]
    """About how long a cell takes on two cores, by algorithm: the cheapest are measured first."""
    options: tuple[str, ...] = ()
    """Beside those of the preset, of all that act."""
    sizes_first: tuple[int, ...] = ()
    """Sizes that are measured before the others."""

    @property
    def classic(self) -> bool:
        """Whether its expert is one of our own."""
        return self.seeds > 1


CLASSIC_SIZES, MUJOCO_SIZES = (1, 4, 7, 10), (4, 11, 18, 25)
# Acrobot's preset is four times as long, for demonstrations of one episode that must be met within 5 of the expert.
SHORT, LONGER = (("--total-steps", steps) for steps in ("400000", "800000"))
# Hopper's preset ends where 95% of the expert are reached; the paper's learner goes on for 25 M steps.
LONG = ("--total-steps", "1500000")
TASKS = (
    Task("CartPole-v0", "cartpole", 10, CLASSIC_SIZES, 7, {"BC": 20, "FEM": 30, "GTAL": 31, "GAIL": 40}),
    Task("Acrobot-v1", "acrobot", 5, CLASSIC_SIZES, 7, {"BC": 22, "FEM": 50, "GTAL": 51, "GAIL": 60}, SHORT),
    Task("MountainCar-v0", "mountaincar", 5, CLASSIC_SIZES, 7, {"BC": 21, "FEM": 55, "GTAL": 56, "GAIL": 65}, LONGER),
    Task("Reacher-v5", "reacher", 1, (4, 11, 18), 1, {"BC": 30, "GAIL": 150}, sizes_first=(4, 18)),
    Task(
        "HalfCheetah-v5", "halfcheetah", 20, MUJOCO_SIZES, 1, {"BC": 30, "FEM": 60, "GTAL": 61, "GAIL": 65},
        sizes_first=(4, 25),
    ),
    Task(
        "Hopper-v5", "hopper", 20, MUJOCO_SIZES, 1, {"BC": 30, "FEM": 185, "GTAL": 186, "GAIL": 205}, LONG,
        sizes_first=(4, 25),
    ),
    Task(
        "Ant-v5", "ant", 20, MUJOCO_SIZES, 1, {"BC": 40, "FEM": 650, "GTAL": 651, "GAIL": 730},
        sizes_first=(4, 25),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One number of the table."""

    task: Task
    algorithm: str
    size: int

    @property
    def row(self) -> str:
        """Its key in the results."""
        episodes = "trajectory" if self.size == 1 else "trajectories"
        return f"{self.task.env}, {self.size} {episodes}, {self.algorithm}"

    @property
    def order(self) -> tuple[bool, float, int]:
        """Sizes that come first, then the cheapest."""
        first = not self.task.sizes_first or self.size in self.task.sizes_first
        return not first, self.task.seconds[self.algorithm], self.size

    def arguments(self, demos: Any) -> list[str]:
        """What follows `menura`."""
        algorithm = "bc" if self.algorithm == "BC" else "gail"
        options = ["train", algorithm, self.task.env, "--demos", str(demos), "--num-demos", str(self.size)]
        options += ["--subsample", str(self.task.subsample)]
        if self.algorithm in ("FEM", "GTAL"):
            options += ["--regularizer", self.algorithm.lower()]
        options += [] if algorithm == "bc" else list(self.task.options)
        seeds = ["--seeds", f"0..{self.task.seeds - 1}"] if self.task.seeds > 1 else ["--seed", "0"]
        return [*options, "--eval-every", "0", *seeds]


def cells(part: str | None = None) -> list[Cell]:
    """All of them, in the order in which they are measured."""
    found = [
        Cell(task, algorithm, size)
        for task in TASKS
        if part is None or task.classic == (part == "classic")
        for algorithm in task.seconds
        for size in task.sizes
    ]
    return sorted(found, key=lambda cell: cell.order)


def expert(task: Task, data: Path) -> Path:
    """The demonstrations: of others on MuJoCo, else twenty episodes of an expert trained or planned here, and kept."""
    if not task.classic:
        return data / "gail_experts" / f"{task.env}.npz"
    path = EXPERTS / expert_name(task)
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    if task.env == "MountainCar-v0":
        from mountain_car_expert import write

        write(path, 20)
        return path
    made = menura("train", "ppo", task.env, "--out", str(EXPERTS / "runs"))
    menura("demos", "generate", made[-1], "--episodes", "20", "-o", str(path))
    return path


def menura(*arguments: str) -> list[str]:
    """Run it in a process of its own; the lines it printed."""
    done = subprocess.run([MENURA, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"menura {' '.join(arguments)} failed: {done.stderr[-2000:]}")
    return done.stdout.strip().splitlines()


def measure(cell: Cell, demos: Path) -> dict[str, Any]:
    """Train the cell's seeds; their results by seed, and the seconds of the whole command."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        lines = menura(*cell.arguments(demos), "--logger", "csv", "--out", folder)
        seconds = time.perf_counter() - started
        results = [json.loads((Path(run) / "result.json").read_text()) for run in lines[-cell.task.seeds :]]
    kept = ("mean_return", "std_return", "normalized", "random_return", "expert_return", "env_steps")
    by_seed = {str(result["seed"]): {name: result[name] for name in kept} for result in results}
    return {"by_seed": by_seed, "seconds": seconds}


def papers(data: Path) -> dict[tuple[str, str, int], tuple[float, float]]:
    """Mean and deviation of every cell of the paper, by task, algorithm and size; size 0 is the expert."""
    with (data / "gail_paper" / "gail_paper_results.csv").open() as file:
        rows = [(r, "ga" if r["alg"] == "ga_entreg0" else r["alg"]) for r in csv.DictReader(file)]
    return {
        (r["task"], algorithm, int(r["num_expert_trajs"] or 0)): (float(r["mean_return"]), float(r["std_return"]))
        for r, algorithm in rows
    }


def entry(cell: Cell, found: dict[str, Any], paper: dict[tuple[str, str, int], tuple[float, float]]) -> dict[str, Any]:
    """The cell as a row of results."""
    runs = list(found["by_seed"].values())
    returns, deviations = (np.array([run[name] for run in runs]) for name in ("mean_return", "std_return"))
    # Of all episodes together, as the paper's.
    mean, std = float(returns.mean()), float(np.sqrt(np.mean(deviations**2) + returns.var()))
    low, high = runs[0]["random_return"], runs[0]["expert_return"]
    their_mean, their_std = paper[cell.task.paper, ALGORITHMS[cell.algorithm], cell.size]
    their_expert = paper[cell.task.paper, "expert", 0][0]
    ours, theirs = (mean - low) / (high - low), (their_mean - low) / (their_expert - low)
    asked = f"paper: {their_mean:,.1f} ± {their_std:,.1f} ({theirs:.1%})"
    least = min(1.0, theirs) - SLACK
    if cell.algorithm == "GAIL":
        asked = f"≥ {least:.1%}; {asked}"
    command = ["menura", *cell.arguments(shown_demos(cell.task))]
    return {
        "row": cell.row,
        "asked": asked,
        "measured": f"{mean:,.1f} ± {std:,.1f} ({ours:.1%})",
        "seeds": sorted(map(int, found["by_seed"])),
        "passed": bool(ours >= least) if cell.algorithm == "GAIL" else None,
        "command": " ".join(command),
        "detail": found
        | {
            "env": cell.task.env,
            "algorithm": cell.algorithm,
            "size": cell.size,
            "ours": {"mean": mean, "std": std, "normalized": ours},
            "paper": {"mean": their_mean, "std": their_std, "normalized": theirs, "expert": their_expert},
        },
    }


def shown_demos(task: Task) -> str:
    """Where the demonstrations are, from the repository's root."""
    return f"benchmarks/experts/{expert_name(task)}" if task.classic else f"DATA/gail_experts/{task.env}.npz"


def expert_name(task: Task) -> str:
    """Name of the demonstrations' file."""
    # MountainCar's other expert, in bench_audit.py, is a rule.
    return "MountainCar-v0-planned.npz" if task.env == "MountainCar-v0" else f"{task.env}.npz"


def main() -> int:
    parser = parser_of(__doc__)
    parser.add_argument("--part", choices=("classic", "mujoco"), help="measure this half of the table only")
    arguments = with_data(parser)
    paper = papers(arguments.data)
    failed = 0
    for cell in cells(arguments.part):
        if not wanted(NAME, cell.row, arguments):
            continue
        demos = expert(cell.task, arguments.data)
        try:
            found = measure(cell, demos)
        except RuntimeError as error:
            print(error, file=sys.stderr, flush=True)
            failed += 1
            continue
        row = entry(cell, found, paper)
        write_rows(NAME, [row], title=TITLE, data=[demos])
        show([row])
    done = known_rows(NAME)
    print(
        f"{len(done)} of {len(cells())} cells, {sum(r['detail']['seconds'] for r in done.values()) / 60:.0f} minutes."
    )
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
