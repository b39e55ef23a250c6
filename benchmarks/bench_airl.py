"""AIRL: the reward it recovers on a table, what that is worth under other dynamics, and its returns by the presets.

.venv/bin/python benchmarks/bench_airl.py [--data DATA] [--only TEXT] [--seeds N]

Needs DATA only for HalfCheetah.
"""

import dataclasses

import numpy as np
from airl_tables import GAMMA, SIZE, WEIGHT, Planned, grid, play, share, turned
from bench_gail_classic import expert
from by_seed import measure_seeds, menura, spread
from common import parser_of

from menura import AIRL, GAIL

NAME, TITLE = "airl", "AIRL: its reward, and its returns"
TABLE = {
    "forward": Planned(),
    "entropy_weight": WEIGHT,
    "reward_form": "logit",
    "gradient_penalty": 0.0,
    "hidden_sizes": (),
    "learning_rate": 0.005,
    "num_score_steps": 20,
    "score_batch_size": 1024,
}
COMMAND = ".venv/bin/python benchmarks/bench_airl.py --only 'grid'"


def reward_of(seed: int) -> np.ndarray:
    """A reward of the grid's cells, known to the expert only."""
    return np.random.default_rng(1000 + seed).normal(size=SIZE**2)


def one_table(seed: int) -> dict[str, float]:
    """AIRL's and GAIL's rewards from one expert on the grid: correlation, and worth here and elsewhere."""
    reward = reward_of(seed)
    results = {}
    for name, learner in {
        "airl": AIRL(**TABLE),
        "airl_state_action": dataclasses.replace(AIRL(**TABLE), state_only=False),
        "gail": GAIL(**TABLE),
    }.items():
        learned = play(learner, reward, seed=seed)
        results[name] = {
            "correlation": float(np.corrcoef(learned.mean(axis=1), reward)[0, 1]),
            "here": share(learned, reward, grid()),
            "elsewhere": share(learned, reward, turned()),
        }
    return results


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--seeds", type=int, help="measure at most this many seeds of each row")
    arguments = parser.parse_args()
    kept: dict[int, dict[str, float]] = {}

    def table(seed: int) -> dict[str, float]:
        if seed not in kept:
            kept[seed] = one_table(seed)
        return kept[seed]

    same = {"command": COMMAND, "seeds": range(5), "one": table, "title": TITLE}
    measure_seeds(
        NAME,
        f"{SIZE} by {SIZE} grid, random reward of the cells, γ = {GAMMA}: correlation of AIRL's g with it",
        arguments,
        asked="≥ 0.99",
        good=lambda r: r["airl"]["correlation"] >= 0.99,
        describe=lambda results: (
            f"{spread([r['airl']['correlation'] for r in results], 4)} (with the action in g, mean over actions: "
            f"{spread([r['airl_state_action']['correlation'] for r in results], 2)}; GAIL's score: "
            f"{spread([r['gail']['correlation'] for r in results], 2)})"
        ),
        **same,
    )
    measure_seeds(
        NAME,
        "The same grid with other moves and a wall: return of a policy retrained on g",
        arguments,
        asked="≥ 90% of an expert trained there, over random",
        good=lambda r: r["airl"]["elsewhere"] >= 0.9,
        describe=lambda results: (
            f"{spread([100 * r['airl']['elsewhere'] for r in results], 1)}% (with the action in g: "
            f"{spread([100 * r['airl_state_action']['elsewhere'] for r in results])}%; GAIL's score: "
            f"{spread([100 * r['gail']['elsewhere'] for r in results])}%, and "
            f"{spread([100 * r['gail']['here'] for r in results])}% under the dynamics it was trained in)"
        ),
        **same,
    )

    def row(row, env, demos, shown, *options, seeds=5):
        measure_seeds(
            NAME,
            row,
            arguments,
            asked="reported",
            command=f"menura train airl {env} --demos {shown} {' '.join(map(str, options))} --seed S",
            seeds=range(seeds),
            one=lambda seed: menura("train", "airl", env, "--demos", demos, *options, "--seed", seed),
            good=None,
            describe=lambda results: (
                f"return {spread([r['mean_return'] for r in results], 1)} "
                f"({spread([100 * r['normalized'] for r in results])}% of {results[0]['expert_return']:.1f}, random "
                f"{results[0]['random_return']:.1f}), {spread([r['process_seconds'] for r in results])} s, "
                f"{results[0]['env_steps'] / 1e6:.2f} M steps"
            ),
            data=[demos],
            title=TITLE,
        )

    made = "benchmarks/experts/{}.npz"
    for env, text, options in (
        ("CartPole-v1", "one episode, every 10th pair", ("--num-demos", 1, "--subsample", 10)),
        ("Pendulum-v1", "10 episodes", ("--num-demos", 10)),
    ):
        row(f"{env}, {text}", env, expert(env), made.format(env), *options)
    if arguments.data is not None:
        path, shown = ("gail_experts/HalfCheetah-v5.npz", "DATA/gail_experts/HalfCheetah-v5.npz")
        options = ("--num-demos", 4, "--subsample", 20)
        row("HalfCheetah-v5, 4 episodes, every 20th pair", "HalfCheetah-v5", arguments.data / path, shown, *options)


if __name__ == "__main__":
    main()
