"""A humanoid that walks after an expert with actions: cloning and adversarial imitation, by the presets.

.venv/bin/python benchmarks/bench_humanoid.py --data DATA [--only TEXT] [--seeds N] [--out DIR]

The expert was trained on a model with other masses (gail_experts/humanoid_old.xml), which EnvPool's Humanoid-v4
simulates; it scores about 10,500 there by its mean action.
"""

import subprocess
import tempfile
from pathlib import Path

from by_seed import MENURA, measure_seeds, menura, seeds_parser, spread, with_data
from common import REPOSITORY

NAME, TITLE = "humanoid", "Humanoid"
HALF_AN_HOUR = 1800
THREE_HOURS = 10_800
EPISODES = 12


def main() -> None:
    parser = seeds_parser(__doc__)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "runs" / "humanoid", help="where an expert is kept")
    arguments = with_data(parser)
    folder = arguments.data / "gail_experts"
    demos, model = folder / "Humanoid-v5-oldmass.npz", folder / "humanoid_old.xml"
    shown = "--demos DATA/gail_experts/Humanoid-v5-oldmass.npz --env-kwargs xml_file=DATA/gail_experts/humanoid_old.xml"

    def row(name, asked, run, command, *, seeds, least=None, max_seconds=HALF_AN_HOUR, data=()):
        def good(result):
            return result["mean_return"] >= least and result["process_seconds"] <= max_seconds

        def describe(results):
            means = [r["mean_return"] for r in results]
            return (
                f"return {spread(means)} ± {spread([r['std_return'] for r in results])} between episodes, "
                f"{spread([r['process_seconds'] for r in results])} s"
            )

        measure_seeds(
            NAME,
            name,
            arguments,
            asked=asked,
            command=command,
            seeds=seeds,
            one=run,
            good=None if least is None else good,
            describe=describe,
            data=data,
            title=TITLE,
        )

    def imitate(*options):
        return lambda seed: menura(
            "train", *options, "--demos", demos, "--env-kwargs", f"xml_file={model}", "--seed", seed
        )

    def warm(*options):
        """Cloned first, then imitated from there; the seconds of both."""

        def one(seed):
            with tempfile.TemporaryDirectory() as clones:
                cloned = menura(
                    "train", "bc", "Humanoid-v4", "--demos", demos, "--env-kwargs", f"xml_file={model}",
                    "--seed", seed, out=Path(clones),
                )  # fmt: skip
                run = next(Path(clones).glob("*/bc/*"))
                result = imitate("gail", "Humanoid-v4", "--warm-start", run, *options)(seed)
            return result | {
                "cloned_return": cloned["mean_return"],
                "process_seconds": cloned["process_seconds"] + result["process_seconds"],
            }

        return one

    data = [demos, model]
    twelve = "≥ 9,400 by the mean action, 3 of 3 seeds, ≤ 30 min"
    row(
        "Humanoid, old masses, cloning, 12 whole episodes",
        twelve,
        imitate("bc", "Humanoid-v4"),
        f"menura train bc Humanoid-v4 {shown} --seed S",
        seeds=range(3),
        least=9_400,
        data=data,
    )
    row(
        "Humanoid, old masses, GAIL with PPO, 12 whole episodes",
        twelve,
        imitate("gail", "Humanoid-v4", "--forward", "ppo"),
        f"menura train gail Humanoid-v4 --forward ppo {shown} --seed S",
        seeds=range(3),
        least=9_400,
        data=data,
    )
    row(
        "Humanoid, old masses, GAIL with PPO, 1 whole episode",
        "≥ 8,000, one seed, ≤ 30 min",
        imitate("gail", "Humanoid-v4", "--forward", "ppo", "--num-demos", 1),
        f"menura train gail Humanoid-v4 --forward ppo {shown} --num-demos 1 --seed S",
        seeds=range(1),
        least=8_000,
        data=data,
    )
    row(
        "Humanoid, old masses, GAIL with TRPO, 12 whole episodes",
        "return reported",
        imitate("gail", "Humanoid-v4"),
        f"menura train gail Humanoid-v4 {shown} --seed S",
        seeds=range(1),
        data=data,
    )
    row(
        "Humanoid, old masses, SQIL, 12 whole episodes",
        "return reported",
        imitate("sqil", "Humanoid-v4"),
        f"menura train sqil Humanoid-v4 {shown} --seed S",
        seeds=range(1),
        data=data,
    )
    row(
        "Humanoid, old masses, GAIL with SAC, 12 whole episodes",
        "return reported",
        imitate("gail", "Humanoid-v4", "--forward", "sac"),
        f"menura train gail Humanoid-v4 --forward sac {shown} --seed S",
        seeds=range(1),
        data=data,
    )
    row(
        "Humanoid, old masses, cloning then GAIL with PPO, 12 whole episodes",
        "return reported",
        warm("--forward", "ppo"),
        f"menura train gail Humanoid-v4 --forward ppo {shown} --warm-start RUN --seed S",
        seeds=range(1),
        data=data,
    )
    row(
        "Humanoid-v5, an expert of our own by PPO",
        "≥ 5,000 within 3 hours on 2 cores",
        lambda seed: menura("train", "ppo", "Humanoid-v5", "--seed", seed, out=arguments.out / f"expert-s{seed}"),
        "menura train ppo Humanoid-v5 --seed S",
        seeds=range(1),
        least=5_000,
        max_seconds=THREE_HOURS,
    )

    def recorded():
        """Episodes of the policy that the row above trained last."""
        runs = [path.parent for path in (arguments.out / "expert-s0").glob("Humanoid-v5/ppo/*/result.json")]
        if not runs:
            raise SystemExit("The expert's run is not kept here: measure its row first (--only 'our own' --again).")
        file = max(runs) / f"{EPISODES}-episodes.npz"
        if not file.exists():
            subprocess.run(
                [str(MENURA), "demos", "generate", str(max(runs)), "--episodes", str(EPISODES), "-o", str(file)],
                check=True,
            )
        return file

    for name, options in (
        ("cloning", ("bc", "Humanoid-v5")),
        ("GAIL with PPO", ("gail", "Humanoid-v5", "--forward", "ppo")),
    ):
        row(
            f"Humanoid-v5, {name} of that expert, {EPISODES} whole episodes",
            "return reported",
            lambda seed, options=options: menura("train", *options, "--demos", recorded(), "--seed", seed),
            f"menura train {' '.join(options)} --demos expert.npz --seed S",
            seeds=range(1),
            data=lambda: [recorded()],
        )


if __name__ == "__main__":
    main()
