"""Try settings of a learner on a grid, over several seeds: how the presets in ``menura.run.presets`` were found.

    python benchmarks/tune.py gail HalfCheetah-v5 --demos DATA/gail_experts/HalfCheetah-v5.npz --num-demos 4 \\
        --subsample 20 --seeds 0 1 2 --set forward.gamma=0.99 --grid forward.num_steps=64,128 forward.max_kl=0.01,0.02

One line a combination: steps to 95% of the expert (the median seed's; inf where it never got there), and the
mean and worst return over the second half of the evaluations, relative to the expert's.
"""

import argparse
import ast
import itertools
import math
import time
from pathlib import Path

import numpy as np

from menura import train
from menura.environments import make
from menura.run.presets import find_preset, forward_of, learner_of
from menura.run.registry import replaced
from menura.run.request import Request, load_demos


def value_of(text: str):
    """A Python literal, or the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("algorithm")
    parser.add_argument("env")
    parser.add_argument("--demos", type=Path)
    parser.add_argument("--num-demos", type=int)
    parser.add_argument("--subsample", type=int, default=1)
    parser.add_argument("--forward")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--total-steps", type=int)
    parser.add_argument("--num-envs", type=int, nargs="+")
    parser.add_argument("--evaluations", type=int, default=10)
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE")
    parser.add_argument("--grid", nargs="*", default=[], metavar="FIELD=VALUE,VALUE")
    options = parser.parse_args()

    shape = make(options.env).spec
    preset = find_preset(options.algorithm, forward_of(options.algorithm, options.forward), options.env, shape)
    fixed = {name: value_of(value) for name, value in (pair.split("=", 1) for pair in options.set)}
    names = [axis.split("=", 1)[0] for axis in options.grid]
    values = [[value_of(value) for value in axis.split("=", 1)[1].split(",")] for axis in options.grid]
    total_steps = options.total_steps or preset.total_steps
    for num_envs in options.num_envs or [preset.num_envs]:
        for combination in itertools.product(*values):
            chosen = dict(zip(names, combination, strict=True))
            learner = replaced(learner_of(preset), fixed | chosen)
            first, later, started = [], [], time.perf_counter()
            for seed in options.seeds:
                request = Request(
                    learner,
                    options.env,
                    demos=options.demos,
                    num_demos=options.num_demos,
                    subsample=options.subsample,
                    seed=seed,
                )
                demos = load_demos(request)
                run = train(
                    learner,
                    make(options.env, num_envs=num_envs),
                    demos,
                    total_steps=total_steps,
                    seed=seed,
                    eval_env=make(options.env, num_envs=10),
                    eval_every=total_steps // options.evaluations,
                    eval_episodes=10,
                )
                expert = demos.expert_return if demos is not None else 1.0
                reached = [step for step, result in run.evaluations if result.mean >= expert - 0.05 * abs(expert)]
                first.append(reached[0] if reached else math.inf)
                later.append([r.mean / expert for _, r in run.evaluations[len(run.evaluations) // 2 :]])
            last = np.round([x[-1] for x in later], 3).tolist()
            print(
                f"num_envs {num_envs} {chosen} · to 95% {np.median(first):,.0f} (worst {max(first):,.0f}) · second "
                f"half mean {np.mean(later):.3f} worst {np.min(later):.3f} last {last} "
                f"· {(time.perf_counter() - started) / len(options.seeds):.0f} s a run",
                flush=True,
            )


if __name__ == "__main__":
    main()
