"""MountainCar from 20 human demonstrations, on a grid: does the fitted policy reach the flag as people do?

.venv/bin/python benchmarks/bench_irl_mountaincar.py --data DATA
"""

import tempfile
import time
from pathlib import Path

import gymnasium
import numpy as np
from common import command_of_this_script, parser_of, show, wanted, write_rows
from irl_problems import mountain_car_episodes

from menura.commands.irl import main as menura_irl
from menura.irl.discretize import grid_of
from menura.irl.estimate import load_estimate, policy_of
from menura.irl.objective import make_problem

BINS = (40, 40)


NAME = "irl_mountaincar"
ROW = "MountainCar, 20 human demonstrations, 40 × 40 bins: the fitted policy"


def main() -> None:
    parser = parser_of(__doc__)
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("--data DATA is needed.")
    if not wanted(NAME, ROW, arguments):
        return
    with tempfile.TemporaryDirectory() as folder:
        demos, out = Path(folder) / "demos.npz", Path(folder) / "fit"
        human = float(np.mean(mountain_car_episodes(arguments.data, demos)))
        began = time.perf_counter()
        menura_irl(["mce", "--env", "MountainCar-v0", "--bins", ",".join(map(str, BINS)), "--demos", str(demos),
                    "--prior", "l2=0.1", "--out", str(out)])  # fmt: skip
        seconds = time.perf_counter() - began
        _, theta, mdp, paths = load_estimate(out)
    table = np.full((mdp.num_states, mdp.num_actions), -np.inf)
    table[mdp.pair_state, mdp.pair_action] = policy_of(make_problem(mdp, paths, "mce"), theta).log_policy
    grid, env = grid_of("MountainCar-v0", BINS), gymnasium.make("MountainCar-v0")
    reached, steps = 0, []
    for seed in range(100):
        obs, _ = env.reset(seed=seed)
        for step in range(1, 201):
            obs, _, terminated, truncated, _ = env.step(int(np.argmax(table[grid.state_of(obs)])))
            if terminated or truncated:
                reached += bool(terminated)
                steps.append(step)
                break
    rows = [
        {
            "row": ROW,
            "asked": "the goal in 100% of 100 starts, within 10% of the human's steps",
            "measured": f"{reached}%, {np.mean(steps):.1f} steps against {human:.1f} "
            f"({np.mean(steps) / human - 1:+.1%}), fit {seconds:.0f} s",
            "passed": bool(reached == 100 and np.mean(steps) <= 1.1 * human),
            "seeds": [],
            "command": command_of_this_script(),
        }
    ]
    show(rows)
    write_rows(
        NAME,
        rows,
        title="Inverse RL: people in MountainCar",
        data=[arguments.data / "mountaincar_human" / "maxent_expert_demo.npy"],
    )


if __name__ == "__main__":
    main()
