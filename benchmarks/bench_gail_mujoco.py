"""GAIL on MuJoCo tasks, from the expert trajectories in DATA/gail_experts: by the presets, without further flags.

.venv/bin/python benchmarks/bench_gail_mujoco.py --data DATA [--only TEXT] [--seeds N]
"""

import math
from pathlib import Path

from by_seed import measure_seeds, menura, reaches, seeds_parser, spread, with_data

from menura.run.registry import REGULARIZERS

NAME, TITLE = "gail_mujoco", "GAIL on MuJoCo"


def main() -> None:
    arguments = with_data(seeds_parser(__doc__))

    def row(row, env, asked, *, seeds, extra=(), num_demos=4, max_seconds=None, max_steps=None, least=0.95):
        demos = arguments.data / "gail_experts" / f"{env}.npz"
        options = ["--num-demos", num_demos, "--subsample", 20, *extra]

        def one(seed):
            return menura("train", "gail", env, "--demos", demos, *options, "--seed", seed)

        def describe(results):
            shares = [100 * r["mean_return"] / r["expert_return"] for r in results]
            # Where no time was asked, rows may be measured beside other work.
            seconds = "" if max_seconds is None else f"{spread([r['process_seconds'] for r in results])} s, "
            return (
                f"return {spread([r['mean_return'] for r in results])} ({spread(shares, 1)}% of "
                f"{results[0]['expert_return']:.0f}), {seconds}{results[0]['env_steps'] / 1e6:.2f} M steps"
            )

        measure_seeds(
            NAME,
            row,
            arguments,
            asked=asked,
            command=f"menura train gail {env} --demos DATA/gail_experts/{env}.npz {' '.join(map(str, options))} "
            "--seed S",
            seeds=seeds,
            one=one,
            good=reaches(least, max_seconds=max_seconds, max_steps=max_steps),
            describe=describe,
            data=[Path(demos)],
            title=TITLE,
        )

    row(
        "HalfCheetah-v5, 4 episodes, every 20th pair",
        "HalfCheetah-v5",
        "≥ 95% of 4689, 5 of 5 seeds, ≤ 60 s and ≤ 0.8 M steps each (--forward trpo is the default: 3 of 3 in 5 min)",
        seeds=range(5),
        max_seconds=60,
        max_steps=800_000,
    )
    row(
        "Hopper-v5, 4 episodes, every 20th pair",
        "Hopper-v5",
        "≥ 95% of 3532, 5 of 5 seeds, ≤ 90 s and ≤ 1 M steps each (--forward trpo is the default: 3 of 3 in 5 min)",
        seeds=range(5),
        max_seconds=90,
        max_steps=1_000_000,
    )
    for env in ("HalfCheetah-v5", "Hopper-v5"):
        row(
            f"{env}, the same with --forward ppo",
            env,
            "≥ 95%",
            seeds=range(3),
            extra=["--forward", "ppo"],
        )
    for env in ("HalfCheetah-v5", "Hopper-v5"):
        for said, extra in (("", ()), (", --score-units both", ("--score-units", "both"))):
            row(
                f"{env}, 1 episode, every 20th pair{said}",
                env,
                "≥ 90% of the expert by the best method, 5 of 5 seeds",
                seeds=range(5),
                extra=extra,
                num_demos=1,
                least=0.9,
            )
    row(
        "Ant-v5, 11 episodes, every 20th pair",
        "Ant-v5",
        "≥ 95% of 3984, 3 of 3 seeds, ≤ 15 min",
        seeds=range(3),
        num_demos=11,
        max_seconds=900,
    )
    for env in ("HalfCheetah-v5", "Hopper-v5"):
        row(
            f"{env}, trained to 3 M steps: no late collapse",
            env,
            "last checkpoint ≥ 95%, 5 of 5 seeds",
            seeds=range(5),
            extra=["--total-steps", 3_000_000],
        )

    for env, most in (("HalfCheetah-v5", 800_000), ("Hopper-v5", 1_000_000)):
        row(
            f"{env}, 4 episodes, --observations-only",
            env,
            "≥ 95% without an action of the expert",
            seeds=range(3),
            extra=["--observations-only"],
            max_steps=most,
        )

    for name in REGULARIZERS:
        if name == "jensen_shannon":  # the first row
            continue
        reported = name in ("fem", "gtal")
        row(
            f"HalfCheetah-v5, 4 episodes, --regularizer {name}",
            "HalfCheetah-v5",
            "≤ 4 min; return reported (16–23% in the paper)" if reported else "≥ 80% of 4689, ≤ 4 min",
            seeds=range(3),
            extra=["--regularizer", name],
            max_seconds=240,
            least=-math.inf if reported else 0.8,
        )


if __name__ == "__main__":
    main()
