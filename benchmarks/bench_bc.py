"""Behavioral cloning at the GAIL paper's four data sizes, beside the paper's own numbers.

.venv/bin/python benchmarks/bench_bc.py --data DATA [--only TEXT] [--seeds N]
"""

import csv

from by_seed import measure_seeds, menura, seeds_parser, spread, with_data

NAME, TITLE = "bc", "Behavioral cloning at the GAIL paper's data sizes"


def main() -> None:
    arguments = with_data(seeds_parser(__doc__))
    with (arguments.data / "gail_paper" / "gail_paper_results.csv").open() as file:
        paper = {
            (r["task"], int(r["num_expert_trajs"])): float(r["mean_return"])
            for r in csv.DictReader(file)
            if r["alg"] == "bclone"
        }
    for env in ("HalfCheetah-v5", "Hopper-v5", "Ant-v5"):
        demos = arguments.data / "gail_experts" / f"{env}.npz"
        for size in (4, 11, 18, 25):
            theirs = next(
                (v for (task, n), v in paper.items() if n == size and env.split("-")[0].lower() == task.lower()), None
            )
            options = ["--demos", demos, "--num-demos", size, "--subsample", 20, "--eval-every", 0]

            def describe(results):
                shares = [100 * r["mean_return"] / r["expert_return"] for r in results]
                return (
                    f"return {spread([r['mean_return'] for r in results])} "
                    f"({spread(shares)}% of {results[0]['expert_return']:.0f})"
                )

            measure_seeds(
                NAME,
                f"{env}, {size} episodes, every 20th pair",
                arguments,
                asked="far below GAIL at 4" if size == 4 else "the paper's shape",
                command=f"menura train bc {env} --demos DATA/gail_experts/{env}.npz --num-demos {size} --subsample 20 "
                f"--eval-every 0 --seed S  # paper: {theirs}",
                seeds=range(3),
                one=lambda seed, env=env, options=options: menura("train", "bc", env, *options, "--seed", seed),
                good=None,
                describe=describe,
                data=[demos],
                title=TITLE,
            )


if __name__ == "__main__":
    main()
