"""GAIL on classic control from one episode of an expert of our own, and its controls.

.venv/bin/python benchmarks/bench_gail_classic.py [--data DATA] [--only TEXT] [--seeds N]

Needs DATA only for the controls on HalfCheetah.
"""

import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
from by_seed import MENURA, measure_seeds, menura, spread
from common import REPOSITORY, parser_of

from menura import evaluate, load, make, train
from menura.forward.constant import ConstantReward
from menura.forward.trpo import TRPO
from menura.run.launch import normalized, uniform_return
from menura.run.presets import find_preset, learner_of
from menura.run.request import Request

NAME, TITLE = "gail_classic", "GAIL on classic control, and its controls"
EXPERTS = REPOSITORY / "benchmarks" / "experts"


def expert(env: str) -> Path:
    """Twenty episodes of an expert trained here by PPO, kept between runs."""
    path = EXPERTS / f"{env}.npz"
    if not path.exists():
        done = subprocess.run(
            [MENURA, "train", "ppo", env, "--out", EXPERTS / "runs"], check=True, capture_output=True, text=True
        )
        run = done.stdout.strip().splitlines()[-1]
        subprocess.run([MENURA, "demos", "generate", run, "--episodes", "20", "-o", path], check=True)
    return path


def with_columns_shuffled(demos: Path, to: Path, num_demos: int) -> Path:
    """The file with each number of the first episodes' observations and actions in an order of its own.

    What is left of the expert there is how each number is distributed. Steps are mixed over all of these episodes,
    before some are picked, and alike for every seed of a run.
    """
    with np.load(demos) as file:
        arrays = dict(file)
    steps = arrays["episode_lengths"][:num_demos].sum()
    rng = np.random.default_rng(0)
    for name in ("observations", "actions"):
        arrays[name][:steps] = rng.permuted(arrays[name][:steps], axis=0)
    np.savez(to, **arrays)
    return to


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--seeds", type=int, help="measure at most this many seeds of each row")
    arguments = parser.parse_args()

    def row(row, env, asked, good, *, subsample, seeds, demos, shown, extra=(), num_demos=1, change=None):
        """``change(demos, to, num_demos)`` writes the file that is learned from in place of ``demos``."""
        options = ["--num-demos", num_demos, "--subsample", subsample, *extra]

        def describe(results):
            returns = [r["mean_return"] for r in results]
            expert_return, random_return = results[0]["expert_return"], results[0]["random_return"]
            return (
                f"return {spread(returns, 1)} ± {max(r['std_return'] for r in results):.1f} (expert "
                f"{expert_return:.1f}, random {random_return:.1f}; normalized "
                f"{spread([100 * r['normalized'] for r in results])}%), "
                f"{spread([r['process_seconds'] for r in results])} s, {results[0]['env_steps'] / 1e6:.2f} M steps"
            )

        def one(seed):
            with tempfile.TemporaryDirectory() as folder:
                learned_from = change(demos, Path(folder) / "changed.npz", num_demos) if change else demos
                return menura("train", "gail", env, "--demos", learned_from, *options, "--seed", seed)

        command = f"menura train gail {env} --demos {shown} {' '.join(map(str, options))} --seed S"
        if change:
            command = f".venv/bin/python benchmarks/bench_gail_classic.py --data DATA --only '{row}'"
        measure_seeds(
            NAME,
            row,
            arguments,
            asked=asked,
            command=command,
            seeds=seeds,
            one=one,
            good=good,
            describe=describe,
            data=[demos],
            title=TITLE,
        )

    made = "benchmarks/experts/{}.npz"
    row(
        "CartPole-v1, one episode, every 10th pair",
        "CartPole-v1",
        "500 ± 0, 10 of 10 seeds, ≤ 30 s each",
        lambda r: r["mean_return"] == 500 and r["std_return"] == 0 and r["process_seconds"] <= 30,
        subsample=10,
        seeds=range(10),
        demos=expert("CartPole-v1"),
        shown=made.format("CartPole-v1"),
    )
    row(
        "Acrobot-v1, one episode, every 5th pair",
        "Acrobot-v1",
        "within 5 of the expert, 10 of 10 seeds, ≤ 60 s each",
        lambda r: r["mean_return"] >= r["expert_return"] - 5 and r["process_seconds"] <= 60,
        subsample=5,
        seeds=range(10),
        demos=expert("Acrobot-v1"),
        shown=made.format("Acrobot-v1"),
    )

    def fails(result):
        return result["normalized"] < 0.5

    def constant(env, seed):
        """GAIL whose score never learns: the forward learner alone, on a reward of 1."""
        batch = make(env, num_envs=32)
        preset = find_preset("gail", "trpo", env, batch.spec)
        learner = ConstantReward(learner_of(preset).forward)
        started = time.perf_counter()
        run = train(learner, batch, total_steps=preset.total_steps, seed=seed)
        seconds = time.perf_counter() - started
        result = evaluate(make(env, num_envs=50), run.policy, num_episodes=50, seed=1)
        return {
            "mean_return": result.mean,
            "std_return": result.std,
            "env_steps": run.env_steps,
            "process_seconds": seconds,
        }

    controls = [("Pendulum-v1", expert("Pendulum-v1"), made.format("Pendulum-v1"), 1, 1)]
    if arguments.data is not None:
        path = arguments.data / "gail_experts" / "HalfCheetah-v5.npz"
        controls.append(("HalfCheetah-v5", path, "DATA/gail_experts/HalfCheetah-v5.npz", 4, 20))
    for env, demos, shown, num_demos, subsample in controls:
        same = {"demos": demos, "shown": shown, "num_demos": num_demos, "subsample": subsample}
        row(f"{env}, for comparison: the demonstrations as they are", env, "–", None, seeds=range(3), **same)
        row(
            f"{env}, control: expert actions shuffled",
            env,
            "must not reach 50% (normalized)",
            fails,
            seeds=range(3),
            extra=["--shuffle-actions"],
            **same,
        )
        row(
            f"{env}, control: every number of the pairs shuffled by itself",
            env,
            "reported: what is told by how each number is distributed",
            None,
            seeds=range(3),
            change=with_columns_shuffled,
            **same,
        )
        expert_return = load(demos).expert_return
        random_return = uniform_return(Request(ConstantReward(TRPO()), env))

        def normalized_share(result, low=random_return, high=expert_return):
            return normalized(result["mean_return"], low, high)

        measure_seeds(
            NAME,
            f"{env}, control: constant reward of 1",
            arguments,
            asked="must not reach 50% (normalized)",
            command=".venv/bin/python benchmarks/bench_gail_classic.py --data DATA --only 'constant reward'",
            seeds=range(3),
            one=lambda seed, env=env: constant(env, seed),
            good=lambda r, share=normalized_share: share(r) < 0.5,
            describe=lambda results, share=normalized_share: (
                f"return {spread([r['mean_return'] for r in results], 1)}, normalized "
                f"{spread([100 * share(r) for r in results])}%"
            ),
            data=[demos],
            title=TITLE,
        )


if __name__ == "__main__":
    main()
