"""How the cost of one value and gradient grows, 10² to 10⁶ states; and a road grid of 300,000 junctions.

.venv/bin/python benchmarks/bench_irl_scaling.py [--peer PYTHON] [--only states|grid|finite]

``--peer`` names a Python that has `imitation` (CONTRIBUTING.md says how to make one); it is measured beside.
"""

import json
import resource
import subprocess
import time

import numpy as np
from common import command_of_this_script, parser_of, show, write_rows

from menura.environments.tabular import TabularMDP
from menura.irl import Paths, fit
from menura.irl.objective import make_problem

PEER = """
import json, sys, time
import numpy as np
from imitation.algorithms import mce_irl
states, actions, horizon, each = map(int, sys.argv[1:5])
class Env: pass
rng = np.random.default_rng(0)
table = np.zeros((states, actions, states))
for k in range(each):
    table[np.arange(states)[:, None], np.arange(actions), rng.integers(states, size=(states, actions))] += 1 / each
env = Env(); env.horizon, env.state_dim, env.action_dim = horizon, states, actions
env.transition_matrix, env.initial_state_dist = table, np.full(states, 1 / states)
env.reward_matrix = rng.normal(size=states)
times = []
for _ in range(3):
    began = time.perf_counter()
    _, _, pi = mce_irl.mce_partition_fh(env, reward=env.reward_matrix)
    mce_irl.mce_occupancy_measures(env, pi=pi)
    times.append(time.perf_counter() - began)
print(json.dumps(min(times)))
"""


def random_mdp(states: int, *, actions: int = 4, each: int = 4, seed: int = 0, **settings) -> TabularMDP:
    """Every action leads to a few random states; four random features of the state."""
    rng = np.random.default_rng(seed)
    state = np.repeat(np.arange(states, dtype=np.int32), actions * each)
    action = np.tile(np.repeat(np.arange(actions, dtype=np.int32), each), states)
    next_state = rng.integers(states, size=len(state), dtype=np.int32)
    probability = np.full(len(state), 1 / each)
    return TabularMDP.from_transitions(
        state, action, next_state, probability, num_states=states, num_actions=actions,
        state_features=rng.normal(size=(states, 4)), **settings,
    )  # fmt: skip


def random_paths(mdp: TabularMDP, count: int, length: int) -> Paths:
    """Uniformly random walks."""
    rng = np.random.default_rng(1)
    ends = np.append(mdp.pair_start, mdp.num_transitions)
    states, actions = [rng.integers(mdp.num_states, size=count)], []
    for _ in range(length):
        actions.append(rng.integers(mdp.num_actions, size=count))
        pair = mdp.pair_index(states[-1], actions[-1])
        states.append(mdp.next_state[rng.integers(ends[pair], ends[pair + 1])])
    return Paths.from_lists(list(np.stack(states, axis=1)), list(np.stack(actions, axis=1)))


def best_of(function, repeats: int = 3) -> float:
    """Seconds of the fastest call."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return min(times)


def discounted(states: int) -> dict:
    mdp = random_mdp(states, discount=0.99)
    objective = make_problem(mdp, random_paths(mdp, 100, 100), "mce").likelihood()
    theta = np.array([0.3, -0.2, 0.1, 0.5])
    seconds = best_of(lambda: objective.evaluate(theta * np.random.default_rng().uniform(0.5, 1.5)), 2)
    row = f"one value and gradient, {states:,} states, {mdp.num_transitions:,} transitions, discount 0.99"
    measured = f"{seconds:.3g} s"
    passed = None
    asked = "–"
    if states == 1_000_000:
        planner = objective.parts[0].planner
        reward, value = objective.choices.reward(theta), planner.warm
        sweep = best_of(lambda: planner._backup(reward, value))
        stream = best_of(lambda: float(mdp.probability.sum()), 5)
        product = best_of(lambda: objective.choices.matrix @ value)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        asked = "≤ 30 s, ≤ 4 GB, a sweep within 15× of streaming the same bytes"
        measured += (
            f", {memory:.1f} GB at most; sweep {1000 * sweep:.0f} ms, stream {1000 * stream:.1f} ms "
            f"({sweep / stream:.1f}×), "
            f"CSR product {1000 * product:.0f} ms"
        )
        passed = seconds <= 30 and memory <= 4 and sweep <= 15 * stream
    return {
        "row": row,
        "asked": asked,
        "measured": measured,
        "passed": passed,
        "seeds": [],
        "command": command_of_this_script(),
    }


def finite(states: int, horizon: int, peer: str | None) -> dict:
    mdp = random_mdp(states, horizon=horizon)
    objective = make_problem(mdp, random_paths(mdp, 20, horizon), "mce").dual()
    theta = np.array([0.3, -0.2, 0.1, 0.5])
    seconds = best_of(lambda: objective.evaluate(theta), 20)
    measured, passed = f"{1000 * seconds:.2f} ms", None
    if peer:
        command = [peer, "-c", PEER, str(states), "4", str(horizon), "4"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            theirs = json.loads(done.stdout.splitlines()[-1])
            passed = theirs >= 150 * seconds if (states, horizon) == (1000, 60) else None
            measured += f" against {1000 * theirs:.0f} ms of imitation: {theirs / seconds:.0f}×"
        else:
            measured += "; imitation ran out of memory or failed"
    asked = "≥ 150 × imitation" if (states, horizon) == (1000, 60) else "–"
    row = f"one MCE evaluation, {states:,} states × {horizon} steps"
    return {
        "row": row,
        "asked": asked,
        "measured": measured,
        "passed": passed,
        "seeds": [],
        "command": command_of_this_script(),
    }


def road_grid(side: int = 548, *, goals: int = 100, routes: int = 10_000, seed: int = 0) -> tuple[TabularMDP, Paths]:
    """Junctions on a square with streets of random length, some of them missing; walkers who know the reward."""
    from menura.irl.choices import transition_choices
    from menura.irl.objective import make_planner

    rng = np.random.default_rng(seed)
    size = side * side
    cell = np.arange(size).reshape(side, side)
    pairs = [(cell[:, :-1], cell[:, 1:]), (cell[:, 1:], cell[:, :-1]), (cell[:-1], cell[1:]), (cell[1:], cell[:-1])]
    start = np.concatenate([a.ravel() for a, _ in pairs])
    end = np.concatenate([b.ravel() for _, b in pairs])
    way = np.repeat(np.arange(4), size - side)
    open_ = rng.random(len(start)) < 0.75
    open_ |= (start // side) % 8 == 0  # avenues keep the network in one piece
    open_ |= (start % side) % 8 == 0
    start, end, way = start[open_], end[open_], way[open_]
    features = np.stack([rng.gamma(4, 0.25, len(start)), np.ones(len(start))], axis=1)
    mdp = TabularMDP.from_transitions(
        start, way, end, np.ones(len(start)), num_states=size, num_actions=4, transition_features=features,
        feature_names=("length", "junctions"),
    )  # fmt: skip
    truth = np.array([-1.0, -1.2])
    chosen = rng.choice(size, goals, replace=False)
    origins = rng.integers(size, size=(goals, routes // goals))
    choices = transition_choices(mdp)
    (planner,) = make_planner(mdp, choices, chosen.tolist(), np.unique(origins))
    reward = choices.reward(truth)
    first = np.append(np.searchsorted(choices.state, np.arange(size)), choices.num_choices)
    states, actions, ends = [], [], []
    values = {}
    for members, _, _, potential, z in planner._solve_groups(planner._own(reward)):
        for column, goal in enumerate(members):
            with np.errstate(divide="ignore"):
                values[int(goal)] = np.log(z[:, column]) + potential - potential[planner.goals[goal][0]]
    for goal in range(goals):
        value = values[goal]
        for origin in origins[goal]:
            if not planner.reaches[goal][origin] or origin == chosen[goal]:
                continue
            here, path, acts = int(origin), [int(origin)], []
            while here != chosen[goal]:
                rows = np.arange(first[here], first[here + 1])
                weight = np.exp(reward[rows] + value[choices.outcome[rows]] - value[here])
                pick = rows[rng.choice(len(rows), p=weight / weight.sum())]
                acts.append(int(mdp.pair_action[pick]))
                here = int(choices.outcome[pick])
                path.append(here)
            states.append(path)
            actions.append(acts)
            ends.append(chosen[goal])
    return mdp, Paths.from_lists(states, actions, goals=ends)


def grid(side: int) -> dict:
    mdp, paths = road_grid(side)
    began = time.perf_counter()
    found = fit(mdp, paths, method="maxent")
    seconds = time.perf_counter() - began
    theta = ", ".join(
        f"{n} {t:.4f} ({e:.4f})" for n, t, e in zip(found.names, found.theta, found.standard_errors, strict=True)
    )
    return {
        "row": f"road grid, {mdp.num_states:,} states, {mdp.num_transitions:,} moves, "
        f"{paths.num_paths:,} routes to 100 goals",
        "asked": "fitted ≤ 10 min",
        "measured": f"{seconds:.0f} s, {found.seconds_per_evaluation:.1f} s an evaluation, gradient norm "
        f"{found.gradient_norm:.2g}; {theta} (true -1, -1.2)",
        "passed": seconds <= 600 and found.gradient_norm < 1,
        "seeds": [0],
        "command": command_of_this_script(),
    }


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--peer", help="a Python that has imitation")
    parser.add_argument("--side", type=int, default=548, help="junctions along one side of the road grid")
    parser.add_argument("--largest", type=int, default=1_000_000, help="states of the largest discounted problem")
    arguments = parser.parse_args()
    rows = []
    if arguments.only in (None, "finite"):
        rows += [finite(states, horizon, arguments.peer) for states, horizon in ((200, 20), (1000, 60), (4000, 60))]
    if arguments.only in (None, "states"):
        rows += [discounted(10**k) for k in range(2, 7) if 10**k <= arguments.largest]
    if arguments.only in (None, "grid"):
        rows.append(grid(arguments.side))
    show(rows)
    write_rows("irl_scaling", rows, title="Inverse RL: cost as it grows")


if __name__ == "__main__":
    main()
