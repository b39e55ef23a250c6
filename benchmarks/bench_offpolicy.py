"""Imitation from replay on MuJoCo tasks (off-policy GAIL, SQIL, LS-IQ): by the presets, without further flags.

.venv/bin/python benchmarks/bench_offpolicy.py --data DATA [--only TEXT] [--seeds N]
"""

from pathlib import Path

from by_seed import measure_seeds, menura, reaches, seeds_parser, spread, with_data

from menura.environments.registry import make as make_env
from menura.run.presets import find_preset, learner_of

NAME, TITLE = "offpolicy", "Imitation from replay"


def first_at(result, least):
    """Environment steps at the first evaluation with this return; none where there was none."""
    return next((step for step, mean in result["evaluations"] if mean >= least), None)


def gradient_steps(algorithm, env):
    """What the preset of an environment does for every step that it takes there."""
    preset = find_preset(algorithm, "sac", env, make_env(env).spec)
    learner = learner_of(preset).forward
    each = learner.num_updates / learner.steps_per_update(preset.num_envs)
    return f"{each:g} gradient step{'s' if each > 1 else ''} on {learner.batch_size} transitions every step"


def main() -> None:
    arguments = with_data(seeds_parser(__doc__))

    def row(
        row,
        algorithm,
        env,
        asked,
        *,
        seeds,
        num_demos=4,
        every=20,
        extra=(),
        max_seconds=None,
        max_steps=None,
        least=None,
    ):
        demos = arguments.data / "gail_experts" / f"{env}.npz"
        chosen = [algorithm, env] if algorithm != "gail" else [algorithm, env, "--forward", "sac"]
        options = ["--num-demos", num_demos, *(["--subsample", every] if every > 1 else []), *extra]

        def one(seed):
            return menura("train", *chosen, "--demos", demos, *options, "--seed", seed)

        def describe(results):
            shares = [100 * r["mean_return"] / r["expert_return"] for r in results]
            reached = [first_at(r, 0.95 * r["expert_return"]) for r in results]
            steps = [step / 1e3 for step in reached if step is not None]
            when = f"; 95% first seen at {spread(steps)} k steps in {len(steps)}" if steps else ""
            return (
                f"return {spread([r['mean_return'] for r in results])} ({spread(shares, 1)}% of "
                f"{results[0]['expert_return']:.0f}), {spread([r['process_seconds'] for r in results])} s, "
                f"{results[0]['env_steps'] / 1e3:.0f} k steps, {gradient_steps(algorithm, env)}{when}"
            )

        measure_seeds(
            NAME,
            row,
            arguments,
            asked=asked,
            command=f"menura train {' '.join(chosen)} --demos DATA/gail_experts/{env}.npz "
            f"{' '.join(map(str, options))} --seed S",
            seeds=seeds,
            one=one,
            good=None if least is None else reaches(least, max_seconds=max_seconds, max_steps=max_steps),
            describe=describe,
            data=[Path(demos)],
            title=TITLE,
        )

    for env in ("Hopper-v5", "HalfCheetah-v5"):
        row(
            f"off-policy GAIL, {env}, 4 episodes, every 20th pair",
            "gail",
            env,
            "≥ 95% of the expert within 150 k steps, 5 of 5 seeds, ≤ 20 min each",
            seeds=range(5),
            max_seconds=1200,
            max_steps=150_100,
            least=0.95,
        )
        row(
            f"off-policy GAIL, {env}, 1 episode, every 20th pair",
            "gail",
            env,
            "≥ 90% of the expert by the best method, 5 of 5 seeds",
            seeds=range(5),
            num_demos=1,
            least=0.9,
        )
        row(
            f"off-policy GAIL, {env}, 4 episodes, every 20th pair, --observations-only",
            "gail",
            env,
            "return reported, without an action of the expert",
            seeds=range(3),
            extra=["--observations-only"],
        )
    row(
        "off-policy GAIL, Ant-v5, 4 episodes, every 20th pair",
        "gail",
        "Ant-v5",
        "≥ 95% of the expert within 500 k steps, 1 seed",
        seeds=range(1),
        max_steps=500_100,
        least=0.95,
    )
    for algorithm in ("sqil", "lsiq"):
        for env in ("Hopper-v5", "HalfCheetah-v5"):
            for text, num_demos, every in (
                ("4 whole episodes", 4, 1),
                ("4 episodes, every 20th pair", 4, 20),
                ("1 whole episode", 1, 1),
            ):
                row(
                    f"{algorithm}, {env}, {text}",
                    algorithm,
                    env,
                    "return reported",
                    seeds=range(3),
                    num_demos=num_demos,
                    every=every,
                )


if __name__ == "__main__":
    main()
