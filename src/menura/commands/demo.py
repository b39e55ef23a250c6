"""``menura demo``: the whole story on CartPole, from an expert of one's own to a report, within two minutes."""

import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from menura.commands.arguments import parse, print_json
from menura.core import RequestError

ENV = "CartPole-v1"
EXPERT_STEPS, BC_STEPS, GAIL_STEPS = 60_000, 400_000, 100_000
NUM_EPISODES = 10
"""Episodes recorded of the expert; the learners see every tenth step of the first one only."""
SUBSAMPLE = 10


@dataclass(frozen=True)
class DemoOptions:
    """Train a small expert, record it, imitate it from 50 of its steps, and write a report."""

    out: Path = Path("runs/demo")
    """Where everything is written; what an earlier demo left there is replaced."""
    seed: int = 0
    """Decides everything random."""
    json: bool = False
    """Print the result as one JSON object and nothing else."""


def main(arguments: Sequence[str]) -> None:
    """Run the demo."""
    options = parse(DemoOptions, arguments, program="menura demo", description=DemoOptions.__doc__ or "")
    started = time.perf_counter()
    from rich.console import Console

    from menura.commands.progress import ProgressBar
    from menura.commands.report import videos_of
    from menura.demonstrations.record import record
    from menura.demonstrations.writers import save
    from menura.environments.registry import make
    from menura.report.pages import write_report
    from menura.report.runs import read_run
    from menura.report.tables import results_table, to_rich
    from menura.run.artifacts import load_policy, read_json, write_json
    from menura.run.launch import launch
    from menura.run.presets import find_preset, forward_of, learner_of
    from menura.run.request import Request

    out = options.out
    clear(out)
    env = make(ENV, num_envs=NUM_EPISODES)
    demos_path = out / "expert.npz"

    def run(algorithm: str, total_steps: int, what: str) -> Path:
        preset = find_preset(algorithm, forward_of(algorithm, None), ENV, env.spec)
        request = Request(
            learner_of(preset),
            ENV,
            demos=None if algorithm == "ppo" else demos_path,
            num_demos=None if algorithm == "ppo" else 1,
            subsample=1 if algorithm == "ppo" else SUBSAMPLE,
            total_steps=total_steps,
            num_envs=preset.num_envs,
            seed=options.seed,
            eval_every=total_steps // 8,
            preset=preset.name,
        )
        print(what, file=sys.stderr)
        with ProgressBar(total_steps, title=f"{algorithm} {ENV}") as bar:
            return launch(request, out=out / "runs", watchers=[bar])

    expert = run("ppo", EXPERT_STEPS, "1/4  An expert: PPO learns to balance the pole from its reward.")
    print(f"2/4  Recording {NUM_EPISODES} episodes of it.", file=sys.stderr)
    policy, _ = load_policy(expert)
    save(record(env, policy, NUM_EPISODES, seed=options.seed), demos_path)
    story = f"every {SUBSAMPLE}th step of one episode, and no reward"
    bc = run("bc", BC_STEPS, f"3/4  Cloning: supervised learning from {story}.")
    gail = run("gail", GAIL_STEPS, f"4/4  GAIL: adversarial imitation with TRPO from {story}.")

    results = {folder: read_json(folder / "result.json") for folder in (bc, gail)}
    page = write_report(
        [bc, gail], out / "report.html", videos_of([read_run(gail)]), title=f"Imitating an expert on {ENV}"
    )
    summary = {
        "random": results[gail]["random_return"],
        "expert": results[gail]["expert_return"],
        "bc": results[bc]["mean_return"],
        "gail": results[gail]["mean_return"],
        "seconds": time.perf_counter() - started,
    }
    write_json(out / "result.json", summary)
    if options.json:
        print_json(summary)
        return
    console = Console()
    console.print(to_rich(results_table([read_run(folder) for folder in (bc, gail)])))
    console.print(f"{summary['seconds']:.0f} seconds. Open {page}", soft_wrap=True, highlight=False)


def clear(out: Path) -> None:
    """Remove what an earlier demo wrote, and refuse a folder that holds anything else."""
    ours = {"report.html", "report_files", "result.json", "expert.npz", "runs"}
    if not out.exists():
        return
    strangers = sorted(path.name for path in out.iterdir() if path.name not in ours) if out.is_dir() else [out.name]
    if strangers:
        raise RequestError(f"{out} holds {strangers[0]}, which no demo wrote: give another --out.")
    shutil.rmtree(out)
