"""GAIL that begins with a cloned policy against GAIL from scratch: environment steps to 90% of the expert.

.venv/bin/python benchmarks/bench_warm_start.py --data DATA [--only TEXT] [--seeds N]
"""

import tempfile
from pathlib import Path

import numpy as np
from by_seed import measure_seeds, menura, seeds_parser, spread, with_data
from common import known_rows
from scipy.stats import sem, t

NAME, TITLE = "warm_start", "Warm start"
ENV, SHARE = "Ant-v5", 0.9
STEPS = 1_500_000
"""Environment steps of each run, of the preset's 2,500,000: what is asked is known before."""
EVERY = 50_000
"""Steps between evaluations: how finely the steps to 90% are known. The simulators begin anew at each."""
EACH = ["--total-steps", STEPS, "--eval-every", EVERY, "--eval-episodes", 10]
SCRATCH = f"{ENV}, 4 episodes, from scratch"
"""The row that the other is compared with, seed by seed."""


def main() -> None:
    arguments = with_data(seeds_parser(__doc__))
    demos = arguments.data / "gail_experts" / f"{ENV}.npz"
    chosen = ["--demos", demos, "--num-demos", 4, "--subsample", 20]

    def gail(seed, *extra):
        result = menura("train", "gail", ENV, *chosen, "--seed", seed, *EACH, *extra)
        enough = SHARE * result["expert_return"]
        reached = next((steps for steps, mean in result["evaluations"] if mean >= enough), None)
        return result | {"steps_to_share": reached}

    def warm(seed):
        with tempfile.TemporaryDirectory() as folder:
            cloning = menura("train", "bc", ENV, *chosen, "--seed", seed, out=Path(folder))
            (run,) = (config.parent for config in Path(folder).rglob("config.json"))
            result = gail(seed, "--warm-start", run)
        return result | {"cloned_return": cloning["mean_return"], "cloning_seconds": cloning["process_seconds"]}

    def reached(result):
        return result["steps_to_share"] is not None

    def from_scratch(result):
        by_seed = known_rows(NAME).get(SCRATCH, {}).get("detail", {}).get("by_seed", {})
        return by_seed.get(str(result["seed"]))

    def sooner(result):
        scratch = from_scratch(result)
        if not reached(result) or scratch is None:
            return False
        return not reached(scratch) or result["steps_to_share"] < scratch["steps_to_share"]

    def saved(results):
        """Steps saved, with the 95% interval of Student's t over the seeds that reach the share in both rows."""
        pairs = [(result, from_scratch(result)) for result in results if "cloned_return" in result]
        less = [
            (scratch["steps_to_share"] - result["steps_to_share"]) / 1e6
            for result, scratch in pairs
            if scratch is not None and reached(scratch) and reached(result)
        ]
        if len(less) < 2:
            return ""
        low, high = t.interval(0.95, len(less) - 1, loc=np.mean(less), scale=sem(less))
        return f"; {np.mean(less):.2f} M fewer than from scratch, 95% interval {low:.2f} to {high:.2f} M"

    def describe(results):
        first = [r["steps_to_share"] for r in results]
        known = [steps / 1e6 for steps in first if steps is not None]
        steps = f"{SHARE:.0%} after {spread(known, 2)} M steps" if known else f"{SHARE:.0%} not reached"
        short = f" ({len(first) - len(known)} never)" if known and len(known) < len(first) else ""
        cloned = [r["cloned_return"] for r in results if "cloned_return" in r]
        began = f"; the clone alone {spread(cloned)}" if cloned else ""
        seconds = spread([r["process_seconds"] for r in results])
        last = spread([r["mean_return"] for r in results])
        return f"{steps}{short}{saved(results)}; last return {last}, {seconds} s{began}"

    command = f"menura train gail {ENV} --demos DATA/gail_experts/{ENV}.npz --num-demos 4 --subsample 20 --seed S"
    command += f" {' '.join(map(str, EACH))}"
    for row, extra, asked, one, good in (
        (SCRATCH, "", "steps to 90% of 3984, over seeds", gail, reached),
        (
            f"{ENV}, 4 episodes, --warm-start of bc",
            " --warm-start RUN",
            "fewer steps to 90% than from scratch",
            warm,
            sooner,
        ),
    ):
        measure_seeds(
            NAME,
            row,
            arguments,
            asked=asked,
            command=command + extra,
            seeds=range(3),
            one=one,
            good=good,
            describe=describe,
            data=[demos],
            title=TITLE,
        )


if __name__ == "__main__":
    main()
