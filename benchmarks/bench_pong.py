"""Pong on two cores: learned from the screen and the score, and then from ten recorded games without it.

.venv/bin/python benchmarks/bench_pong.py --data DATA [--only TEXT] [--seeds N] [--runs FOLDER]

Either of the first two rows takes an hour or two. Their runs are kept in --runs (runs/bench_pong) and go on where they
were stopped. The second, who learned with sticky actions, is the expert of the others, whose games are recorded there
too, with sticky actions: without any chance ten games of Pong are one and the same. docs/images/pong.png shows the
first one's curve beside Dopamine's.
"""

import csv
import json
import subprocess
from pathlib import Path
from typing import Any

from by_seed import MENURA, measure_seeds, menura, seeds_parser, spread, with_data
from common import REPOSITORY, command_of_this_script, show, wanted, write_rows

NAME, TITLE = "pong", "Pong from pixels"
ENV, SIDE, SEED = "Pong-v5", 52, 0
EVAL_EVERY, GAMES, HOURS = 100_000, 30, 2.5
FRAME_SKIP, STEPS_AN_ITERATION = 4, 250_000
"""Dopamine plots a point for every 250,000 steps of four frames."""
SHOWN_ITERATIONS = 40
STICKY, STICKY_STEPS = 0.1, 700_000
"""Chance at each frame that the action before is held on, of the games that are imitated; and steps to their expert."""
WAYS: dict[str, tuple[Any, ...]] = {
    "cloning": (),
    "GAIL with PPO from the clone on": ("gail", "--forward", "ppo", "--total-steps", 40_000, "--bc-updates", 1_000),
}
"""What goes on from the clone of the same seed."""


def main() -> None:
    """The experts, the games of one, and what is learned from them."""
    parser = seeds_parser(__doc__)
    parser.add_argument("--runs", type=Path, default=REPOSITORY / "runs" / "bench_pong", help="where runs are kept")
    arguments = with_data(parser)
    row = f"Pong-v5, DQN, {SIDE} × {SIDE}, Nature network, no sticky actions: mean of {GAMES} games"
    if wanted(NAME, row, arguments):
        entry = {"row": row, "seeds": [SEED], "command": command_of_this_script(), **expert(arguments.runs)}
        entry["asked"] = f"≥ 18 within {HOURS} h on 2 cores"
        entry["passed"] = entry["passed"] and entry["detail"]["hours"] <= HOURS
        write_rows(NAME, [entry], title=TITLE, data=[curve_file(arguments.data)])
        show([entry])
    run = newest_run(arguments.runs)
    if run is not None and (run / "result.json").exists():
        draw(run, arguments.data)
    sticky = arguments.runs / "sticky"
    row = f"Pong-v5 with sticky actions ({STICKY}), the same: mean of {GAMES} games"
    if wanted(NAME, row, arguments):
        settings = ("--env-kwargs", f"repeat_action_probability={STICKY}")
        made = expert(sticky, "--total-steps", STICKY_STEPS, *settings)
        entry = {"row": row, "asked": "reported", "seeds": [SEED], "command": command_of_this_script(), **made}
        write_rows(NAME, [entry | {"passed": None}], title=TITLE)
        show([entry])
    teacher = newest_run(sticky)
    if teacher is None or not (teacher / "result.json").exists():
        return
    for name, words in WAYS.items():
        measure_seeds(
            NAME,
            f"Pong-v5 with sticky actions ({STICKY}), from 10 recorded games, no score: {name}",
            arguments,
            asked="≥ 15 by the best",
            command=f'.venv/bin/python benchmarks/bench_pong.py --data DATA --only "no score: {name}"',
            seeds=range(3),
            one=lambda seed, words=words: imitate(words, games(teacher), seed, sticky),
            good=lambda r: r["mean_return"] >= 15,
            describe=lambda results: (
                f"return {spread([r['mean_return'] for r in results], 1)} of the expert's "
                f"{results[0]['expert_return']:.1f}; {spread([r['process_seconds'] / 60 for r in results])} min"
            ),
            data=lambda: [games(teacher)],
            title=TITLE,
        )


def newest_run(runs: Path) -> Path | None:
    """The run that was begun last."""
    found = sorted((runs / ENV / "dqn").glob("*-s*")) if runs.exists() else []
    return found[-1] if found else None


def expert(runs: Path, *words: Any) -> dict[str, Any]:
    """Train with the preset, or go on with it, and play."""
    run = newest_run(runs)
    was_stopped = run is not None and not (run / "result.json").exists()
    if run is None:
        options = ["--seed", SEED, "--eval-every", EVAL_EVERY, "--eval-episodes", 10, "--out", runs]
        command("train", "dqn", ENV, *options, *words)
    elif was_stopped:
        command("train", "--resume", run)
    run = newest_run(runs)
    assert run is not None
    result = json.loads((run / "result.json").read_text())
    played = json.loads(command("eval", run, "--episodes", GAMES, "--json"))
    training = evaluations(run)[-1][2]
    hours = max(training, 0 if was_stopped else result["wall_seconds"]) / 3600
    how = f"{hours:.2f} h" + (" of training, stopped and resumed" if was_stopped else " in all")
    return {
        "measured": (
            f"{played['mean_return']:.1f} ± {played['std_return']:.1f} after {result['env_steps']:,} steps "
            f"({FRAME_SKIP * result['env_steps'] / 1e6:.1f} M frames), {how}"
        ),
        "passed": played["mean_return"] >= 18,
        "detail": {"result": result, "played": played, "curve": evaluations(run), "hours": hours},
    }


def command(*arguments: Any) -> str:
    """What `menura …` prints; its progress stays on stderr."""
    done = subprocess.run([str(MENURA), *map(str, arguments)], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def evaluations(run: Path) -> list[tuple[int, float, float]]:
    """Steps, mean return and seconds of training at each evaluation."""
    with (run / "evaluations.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [(int(row["env_steps"]), float(row["mean_return"]), float(row["seconds"])) for row in rows]


def games(run: Path) -> Path:
    """Ten games of the expert, recorded once."""
    path = run.parents[2] / f"pong-{run.name}.npz"
    if not path.exists():
        command("demos", "generate", run, "-o", path, "--episodes", 10, "--checkpoint", "last")
    return path


SETTINGS = ("--env-kwargs", f"img_height={SIDE}", f"img_width={SIDE}", f"repeat_action_probability={STICKY}")


def kept_run(folder: Path, *words: Any) -> tuple[Path, dict[str, Any]]:
    """A run of `menura train`, made once, and its result."""
    if not any(folder.glob(f"{ENV}/*/*/result.json")):
        menura("train", *words, out=folder)
    result = next(folder.glob(f"{ENV}/*/*/result.json"))
    told = json.loads(result.read_text())
    return result.parent, told | {"process_seconds": told["wall_seconds"]}


def imitate(words: tuple[Any, ...], demos: Path, seed: int, kept: Path) -> dict[str, Any]:
    """One seed of one way: cloning, or what goes on from there, with the seconds of both."""
    told = ("--demos", demos, *SETTINGS, "--seed", seed)
    clone, cloned = kept_run(kept / "clones" / f"seed{seed}", "bc", ENV, *told, "--eval-every", 0)
    if not words:
        return cloned
    often = ("--eval-every", 20_000, "--eval-episodes", 5)
    folder = kept / "from_clones" / words[0] / f"seed{seed}"
    _, result = kept_run(folder, words[0], ENV, *words[1:], "--warm-start", clone, *told, *often)
    seconds = cloned["process_seconds"] + result["process_seconds"]
    return result | {"process_seconds": seconds, "cloned_return": cloned["mean_return"]}


def curve_file(data: Path) -> Path:
    """Dopamine's curves."""
    return data / "learning_curves" / "dopamine_pong.json"


def draw(run: Path, data: Path) -> None:
    """docs/images/pong.png."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import numpy as np

    points = json.loads(curve_file(data).read_text())
    figure, axes = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    for agent, label, style in (
        ("DQN (Adam + MSE in JAX)", "Dopamine's DQN with Adam, 84 × 84, sticky actions, 5 runs", "-"),
        ("DQN", "the same with RMSProp, as published", ":"),
    ):
        by_iteration: dict[int, list[float]] = {}
        for point in points:
            if point["Agent"] == agent and point["Iteration"] < SHOWN_ITERATIONS:
                by_iteration.setdefault(point["Iteration"], []).append(point["Value"])
        frames = np.array([FRAME_SKIP * STEPS_AN_ITERATION * (i + 1) for i in by_iteration]) / 1e6
        values = np.array(list(by_iteration.values()))
        axes.plot(frames, values.mean(axis=1), style, color="gray", label=label)
        if style == "-":
            axes.fill_between(frames, values.min(axis=1), values.max(axis=1), color="gray", alpha=0.25, lw=0)
    own = evaluations(run)
    label = f"menura's DQN, {SIDE} × {SIDE}, no sticky actions, 1 run"
    axes.plot([FRAME_SKIP * steps / 1e6 for steps, *_ in own], [value for _, value, _ in own], "C0", label=label)
    axes.axhline(18, color="black", lw=0.8, ls=":")
    axes.set(xlabel="frames of the game, millions", ylabel="return of a game of Pong", ylim=(-22, 22))
    figure.legend(loc="outside upper left", frameon=False)
    axes.grid(alpha=0.3)
    figure.savefig(REPOSITORY / "docs" / "images" / "pong.png", dpi=130)
    plt.close(figure)


if __name__ == "__main__":
    main()
