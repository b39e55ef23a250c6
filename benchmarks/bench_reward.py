"""Learned rewards as artefacts: the EPIC distance's invariance, learned rewards against the environment's, retraining.

.venv/bin/python benchmarks/bench_reward.py [--only TEXT] [--seeds N]

Experts are those of bench_gail_classic.py.
"""

import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from bench_gail_classic import expert
from by_seed import MENURA, measure_seeds, menura, spread
from common import parser_of

from menura import make
from menura.epic import epic_distance
from menura.run.reward_distance import coverage_of, own_reward

NAME, TITLE = "reward", "Learned rewards: compared, and trained on again"
GAMMA = 0.99
OTHER = ("mass=1.3", "length=1.2")
"""A heavier and longer pendulum."""
STEPS = {"gail": 300_000, "airl": 400_000, "ppo": 300_000}


def invariance(seed: int) -> dict[str, float]:
    """The distance of Pendulum's reward from itself, shaped by a random potential and scaled."""
    rng = np.random.default_rng(seed)
    env = make("Pendulum-v1", num_envs=16)
    coverage, _, _ = coverage_of(env, None, num_transitions=2048, num_pairs=512, seed=seed)
    reward, weights, scale = own_reward(env), rng.normal(size=(3, 16)), rng.uniform(0.01, 100.0)

    def potential(obs: np.ndarray) -> np.ndarray:
        return 5 * np.tanh(obs @ weights).sum(axis=1)

    def shaped(obs, action, next_obs):
        return scale * (np.asarray(reward(obs, action, next_obs)) + GAMMA * potential(next_obs) - potential(obs))

    def opposed(obs, action, next_obs):
        return -np.asarray(reward(obs, action, next_obs))

    return {
        "shaped": epic_distance(reward, shaped, coverage, gamma=GAMMA),
        "opposed": epic_distance(reward, opposed, coverage, gamma=GAMMA),
    }


def say(*command: object) -> str:
    """What a command prints."""
    return subprocess.run([str(MENURA), *map(str, command)], check=True, capture_output=True, text=True).stdout


def learned(algorithm: str, seed: int) -> dict[str, float]:
    """A reward learned on Pendulum: its distance from the environment's, and what PPO makes of it."""
    demos = expert("Pendulum-v1")
    with tempfile.TemporaryDirectory() as temporary:
        steps = ["--total-steps", STEPS[algorithm], "--eval-every", 0, "--out", temporary, "--seed", seed]
        run = (
            say("train", algorithm, "Pendulum-v1", "--demos", demos, "--num-demos", 10, *steps).strip().splitlines()[-1]
        )
        imitation = json.loads((Path(run) / "result.json").read_text())
        distances = {
            form: json.loads(say("reward", "compare", run, "env", "--form", form, "--json"))["epic"]
            for form in ("positive", "logit")
        }
        again = ["train", "ppo", "Pendulum-v1", "--reward", run, "--total-steps", STEPS["ppo"], "--eval-every", 0]
        here = menura(*again, "--seed", seed)
        there = menura(*again, "--seed", seed, "--env-kwargs", *OTHER)
        kept = transferred(Path(run))
    return {
        "epic": distances["positive"],
        "epic_logit": distances["logit"],
        "imitation": imitation["mean_return"],
        "here": here["mean_return"],
        "there": there["mean_return"],
        "kept": kept,
        "expert": imitation["expert_return"],
        "random": imitation["random_return"],
    }


def transferred(run: Path) -> float:
    """Return of a run's own policy in the other world, without any training there."""
    from menura import evaluate, load_policy

    env = make("Pendulum-v1", num_envs=50, env_kwargs=dict((k, float(v)) for k, v in (x.split("=") for x in OTHER)))
    return evaluate(env, load_policy(run)[0], num_episodes=50, seed=1).mean


def own(seed: int) -> dict[str, float]:
    """PPO on the environment's own reward, with as many steps."""
    steps = ["train", "ppo", "Pendulum-v1", "--total-steps", STEPS["ppo"], "--eval-every", 0, "--seed", seed]
    here, there = menura(*steps), menura(*steps, "--env-kwargs", *OTHER)
    return {"here": here["mean_return"], "there": there["mean_return"], "random": there["random_return"]}


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--seeds", type=int, help="measure at most this many seeds of each row")
    arguments = parser.parse_args()
    script = ".venv/bin/python benchmarks/bench_reward.py --only"
    measure_seeds(
        NAME,
        "EPIC distance of Pendulum's reward from itself, shaped by a random potential and scaled by 0.01 to 100",
        arguments,
        asked="≤ 1e-6",
        command=f"{script} 'shaped by'",
        seeds=range(10),
        one=invariance,
        good=lambda r: r["shaped"] <= 1e-6,
        describe=lambda results: (
            f"at most {max(r['shaped'] for r in results):.1e} (from its negative: "
            f"{spread([r['opposed'] for r in results], 6)})"
        ),
        title=TITLE,
    )
    measure_seeds(
        NAME,
        "Pendulum-v1 by the environment's own reward, PPO, 0.3 M steps",
        arguments,
        asked="reported",
        command=f"{script} 'own reward'",
        seeds=range(3),
        one=own,
        good=None,
        describe=lambda results: (
            f"return {spread([r['here'] for r in results])}; with {' and '.join(OTHER)} "
            f"{spread([r['there'] for r in results])} (random there {results[0]['random']:.0f})"
        ),
        title=TITLE,
    )
    for algorithm in ("airl", "gail"):
        measure_seeds(
            NAME,
            f"Pendulum-v1, the reward that {algorithm.upper()} learned from 10 episodes, and PPO on it, 0.3 M steps",
            arguments,
            asked="reported",
            command=f"{script} 'that {algorithm.upper()} learned'",
            seeds=range(3),
            one=lambda seed, algorithm=algorithm: learned(algorithm, seed),
            good=None,
            describe=lambda results: (
                f"EPIC distance from the environment's {spread([r['epic'] for r in results], 2)} (of the score itself "
                f"{spread([r['epic_logit'] for r in results], 2)}); return {spread([r['here'] for r in results])}, and "
                f"with {' and '.join(OTHER)} {spread([r['there'] for r in results])} (the imitator itself "
                f"{spread([r['imitation'] for r in results])} and {spread([r['kept'] for r in results])}, expert "
                f"{results[0]['expert']:.0f}, random {results[0]['random']:.0f})"
            ),
            data=[expert("Pendulum-v1")],
            title=TITLE,
        )


if __name__ == "__main__":
    main()
