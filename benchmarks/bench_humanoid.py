"""A humanoid that walks after an expert with actions: cloning and adversarial imitation, by the presets.

.venv/bin/python benchmarks/bench_humanoid.py --data DATA [--only TEXT] [--seeds N]

The expert was trained on a model with other masses (gail_experts/humanoid_old.xml), which EnvPool's Humanoid-v4
simulates; it scores about 10,500 there by its mean action.
"""

import tempfile
from pathlib import Path

from by_seed import measure_seeds, menura, seeds_parser, spread, with_data

NAME, TITLE = "humanoid", "Humanoid"
HALF_AN_HOUR = 1800
THREE_HOURS = 10_800


def main() -> None:
    arguments = with_data(seeds_parser(__doc__))
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
                    *options, "--seed", seed, out=Path(clones),
                )  # fmt: skip
                run = next(Path(clones).glob("*/bc/*"))
                result = imitate("gail", "Humanoid-v4", "--warm-start", run, *options)(seed)
            return result | {
                "cloned_return": cloned["mean_return"],
                "process_seconds": cloned["process_seconds"] + result["process_seconds"],
            }

        return one

    data = [demos, model]
    row(
        "Humanoid, old masses, cloning, 12 whole episodes",
        "≥ 9,400 by the mean action, 3 of 3 seeds, ≤ 30 min",
        imitate("bc", "Humanoid-v4"),
        f"menura train bc Humanoid-v4 {shown} --seed S",
        seeds=range(3),
        least=9_400,
        data=data,
    )
    row(
        "Humanoid, old masses, cloning then GAIL, 12 whole episodes",
        "≥ 9,400 by the mean action, 3 of 3 seeds, ≤ 30 min",
        warm(),
        f"menura train gail Humanoid-v4 {shown} --warm-start RUN --seed S",
        seeds=range(3),
        least=9_400,
        data=data,
    )
    row(
        "Humanoid, old masses, cloning then GAIL, 1 whole episode",
        "≥ 8,000, one seed, ≤ 30 min",
        warm("--num-demos", 1),
        f"menura train gail Humanoid-v4 {shown} --num-demos 1 --warm-start RUN --seed S",
        seeds=range(1),
        least=8_000,
        data=data,
    )
    row(
        "Humanoid-v5, an expert of our own by SAC",
        "≥ 5,000 within 3 hours on 2 cores",
        lambda seed: menura("train", "sac", "Humanoid-v5", "--seed", seed),
        "menura train sac Humanoid-v5 --seed S",
        seeds=range(1),
        least=5_000,
        max_seconds=THREE_HOURS,
    )


if __name__ == "__main__":
    main()
