"""How the cost of one value and gradient grows, 10² to 10⁶ states; and a road grid of 300,000 junctions.

.venv/bin/python benchmarks/bench_irl_scaling.py [--only TEXT] [--peer PYTHON]

``--peer`` names a Python that has `imitation`, which is measured beside; by default that of .peer-venv, if it is there
(benchmarks/peer/make_env.py). docs/images/irl_scaling.png is drawn from all that results/irl_scaling.json knows.
"""

import argparse
import json
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from common import REPOSITORY, command_of_this_script, known_rows, parser_of, show, wanted, write_rows

from menura.environments.tabular import TabularMDP
from menura.irl import Paths, fit
from menura.irl.objective import make_planner, make_problem

NAME, TITLE = "irl_scaling", "Inverse RL: cost as it grows"
THETA = np.array([0.3, -0.2, 0.1, 0.5])
CURVE_STEPS = 20
"""The horizon of the curve: `imitation` takes none without."""
PEER_BYTES = 18 * 2**30
"""Memory that the peer may take; without a bound, the system would end some other process."""

PEER = """
import json, resource, sys, time
states, actions, horizon, each, limit = map(int, sys.argv[1:6])
import numpy as np
from imitation.algorithms import mce_irl
import torch
torch.set_num_threads(1)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
class Env: pass
rng = np.random.default_rng(0)
try:
    table = np.zeros((states, actions, states))
    for k in range(each):
        table[np.arange(states)[:, None], np.arange(actions), rng.integers(states, size=(states, actions))] += 1 / each
    env = Env(); env.horizon, env.state_dim, env.action_dim = horizon, states, actions
    env.transition_matrix, env.initial_state_dist = table, np.full(states, 1 / states)
    env.reward_matrix = rng.normal(size=states)
    times = []
    while len(times) < 3 and sum(times) < 20:
        began = time.perf_counter()
        _, _, pi = mce_irl.mce_partition_fh(env, reward=env.reward_matrix)
        mce_irl.mce_occupancy_measures(env, pi=pi)
        times.append(time.perf_counter() - began)
    print(json.dumps(min(times)))
except MemoryError:
    print(json.dumps("out of memory"))
"""


def random_mdp(states: int, *, actions: int = 4, each: int = 4, seed: int = 0, **settings: Any) -> TabularMDP:
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


def best_of(function: Callable[[], Any], repeats: int = 3) -> float:
    """Seconds of the fastest call."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return min(times)


def most_memory() -> float:
    """The most memory that this process has held, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def peer_seconds(peer: str, states: int, horizon: int) -> float | str:
    """Seconds of one evaluation by `imitation`, or why there are none."""
    command = [peer, "-c", PEER, str(states), "4", str(horizon), "4", str(PEER_BYTES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else "failed"


def seconds_of(number: float) -> str:
    """Three digits, in milliseconds where that reads better."""
    return f"{1000 * number:.3g} ms" if number < 1 else f"{number:.3g} s"


def row_of(row: str, asked: str, measured: str, passed: bool | None, **more: Any) -> dict[str, Any]:
    """A row of the table."""
    command = re.sub(r"(--peer[ =])\S+", r"\1PEER", command_of_this_script())
    return {"row": row, "asked": asked, "measured": measured, "passed": passed, "seeds": [], "command": command, **more}


def discounted(states: int) -> tuple[float, str, bool | None]:
    """Seconds of one value and gradient at discount 0.99; at a million states also what was asked of it."""
    mdp = random_mdp(states, discount=0.99)
    objective = make_problem(mdp, random_paths(mdp, 100, 100), "mce").likelihood()
    rng = np.random.default_rng(2)
    # Another θ each time, so that values start from those of another reward, as they do in a fit.
    seconds = best_of(lambda: objective.evaluate(THETA * rng.uniform(0.5, 1.5)), 2 if states > 10_000 else 10)
    if states < 1_000_000:
        return seconds, "", None
    planner, matrix = objective.parts[0].planner, objective.choices.matrix
    reward, value = objective.choices.reward(THETA), planner.warm
    sweep = best_of(lambda: planner.sweep(reward, value), 5)
    touched = (matrix.data, matrix.indices, matrix.indptr, reward, value)
    same_bytes = np.ones(sum(array.nbytes for array in touched) // 8)
    # Whichever reads an array fastest is the stream.
    stream = min(best_of(reading, 7) for reading in (same_bytes.sum, same_bytes.max))
    product = best_of(lambda: matrix @ value, 5)
    memory = most_memory()
    said = (
        f"; {memory:.1f} GB at most; a sweep {1000 * sweep:.0f} ms, streaming its {same_bytes.nbytes / 1e6:.0f} MB "
        f"{1000 * stream:.1f} ms ({sweep / stream:.1f}×), the product with P alone {1000 * product:.0f} ms"
    )
    return seconds, said, seconds <= 30 and memory <= 4 and sweep <= 15 * stream


def finite_seconds(states: int, horizon: int) -> float:
    """Seconds of one value and gradient of the dual with a horizon."""
    mdp = random_mdp(states, horizon=horizon)
    objective = make_problem(mdp, random_paths(mdp, 20, horizon), "mce").dual()
    return best_of(lambda: objective.evaluate(THETA), 20 if states <= 10_000 else 2)


def size_row(row: str, states: int, peer: str | None) -> dict[str, Any]:
    """One size on the curve."""
    before = known_rows(NAME).get(row, {})
    discount, said, passed = discounted(states)
    with_horizon = finite_seconds(states, CURVE_STEPS)
    detail = {
        "states": states,
        "discount 0.99": discount,
        f"{CURVE_STEPS} steps": with_horizon,
        "imitation": peer_seconds(peer, states, CURVE_STEPS) if peer else before.get("detail", {}).get("imitation"),
    }
    theirs = detail["imitation"]
    measured = f"discount 0.99: {seconds_of(discount)}{said}; {CURVE_STEPS} steps: {seconds_of(with_horizon)}"
    if theirs is not None:
        measured += f"; imitation, {CURVE_STEPS} steps: {theirs if isinstance(theirs, str) else seconds_of(theirs)}"
    asked = "–" if passed is None else "discount 0.99: ≤ 30 s, ≤ 4 GB, a sweep within 15× of streaming the same bytes"
    return row_of(row, asked, measured, passed, detail=detail)


def draw() -> None:
    """docs/images/irl_scaling.png, of the rows that have a size."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    points = sorted(
        (row["detail"] for row in known_rows(NAME).values() if "states" in row.get("detail", {})),
        key=lambda detail: detail["states"],
    )
    figure, axes = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    lines = (
        (f"{CURVE_STEPS} steps", f"menura, {CURVE_STEPS} steps", "tab:blue", "o-"),
        ("discount 0.99", "menura, discount 0.99, no horizon", "tab:green", "s-"),
        ("imitation", f"imitation, {CURVE_STEPS} steps", "tab:red", "^-"),
    )
    for key, label, color, marks in lines:
        found = [(p["states"], p[key]) for p in points if isinstance(p.get(key), int | float)]
        if found:
            axes.loglog(*zip(*found, strict=True), marks, color=color, label=label)
    ended = [p["states"] for p in points if p.get("imitation") == "out of memory"]
    if ended:
        # At the edge: no time was measured there.
        place, needed = (min(ended), 0.96), min(ended) ** 2 * 4 * 8 / 1e9
        top = axes.get_xaxis_transform()
        axes.plot(*place, "x", color="tab:red", markersize=9, transform=top)
        axes.annotate(
            f"imitation is out of memory:\nits dense table is {needed:,.0f} GB",
            place,
            xycoords=top,
            xytext=(0, -8),
            textcoords="offset points",
            color="tab:red",
            fontsize=8,
            va="top",
            ha="center",
        )
    axes.set_xlabel("states, each with 4 actions of 4 outcomes")
    axes.set_ylabel("seconds for one value and gradient")
    axes.grid(which="major", alpha=0.3)
    axes.legend(frameon=False, fontsize=9)
    path = REPOSITORY / "docs" / "images" / f"{NAME}.png"
    figure.savefig(path, dpi=150)
    plt.close(figure)


def finite(row: str, states: int, horizon: int, peer: str | None) -> dict[str, Any]:
    """One evaluation of maximum causal entropy with a horizon, beside the peer's."""
    seconds = finite_seconds(states, horizon)
    measured, passed = f"{1000 * seconds:.2f} ms", None
    counts = (states, horizon) == (1000, 60)
    if peer:
        theirs = peer_seconds(peer, states, horizon)
        if isinstance(theirs, str):
            measured += f"; imitation {theirs}"
        else:
            passed = theirs >= 150 * seconds if counts else None
            measured += f" against {1000 * theirs:.0f} ms of imitation: {theirs / seconds:.0f}×"
    return row_of(row, "≥ 150 × imitation" if counts else "–", measured, passed)


def road_grid(side: int = 548, *, goals: int = 100, routes: int = 10_000, seed: int = 0) -> tuple[TabularMDP, Paths]:
    """Junctions on a square with streets of random length, some of them missing; walkers who know the reward."""
    from menura.irl.choices import transition_choices

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
    chosen = rng.choice(size, goals, replace=False)
    origins = rng.integers(size, size=(goals, routes // goals))
    choices = transition_choices(mdp)
    (planner,) = make_planner(mdp, choices, chosen.tolist(), np.unique(origins))
    first = np.append(np.searchsorted(choices.state, np.arange(size)), choices.num_choices)
    states, actions, ends = [], [], []
    for goal, plan in planner.plans(choices.reward(np.array([-1.0, -1.2]))):
        able = origins[goal][np.isfinite(plan.value[origins[goal]]) & (origins[goal] != chosen[goal])]
        for path, taken in walks(able, int(chosen[goal]), plan.log_policy, first, choices.outcome, rng):
            states.append(path)
            actions.append(mdp.pair_action[taken])
            ends.append(chosen[goal])
    return mdp, Paths.from_lists(states, actions, goals=ends)


def walks(
    origins: np.ndarray,
    goal: int,
    log_policy: np.ndarray,
    first: np.ndarray,
    outcome: np.ndarray,
    rng: np.random.Generator,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The states and choices of walkers, one from each origin, until the goal."""
    here, walking = origins.copy(), np.arange(len(origins))
    states, taken = [[int(s)] for s in origins], [[] for _ in origins]
    widest = int(np.diff(first).max())
    while len(walking):
        now = here[walking]
        rows = first[now][:, None] + np.arange(widest)
        offered = rows < first[now + 1][:, None]
        score = np.where(offered, log_policy[np.where(offered, rows, 0)], -np.inf) + rng.gumbel(size=rows.shape)
        pick = rows[np.arange(len(now)), score.argmax(axis=1)]
        here[walking] = outcome[pick]
        for walker, choice in zip(walking, pick, strict=True):
            taken[walker].append(choice)
            states[walker].append(outcome[choice])
        walking = walking[here[walking] != goal]
    return [(np.array(s), np.array(t)) for s, t in zip(states, taken, strict=True)]


def grid(row: str, side: int, goals: int, routes: int) -> dict[str, Any]:
    """A whole fit of route choice."""
    mdp, paths = road_grid(side, goals=goals, routes=routes)
    began = time.perf_counter()
    found = fit(mdp, paths, method="maxent")
    seconds = time.perf_counter() - began
    theta = ", ".join(
        f"{n} {t:.4f} ({e:.4f})" for n, t, e in zip(found.names, found.theta, found.standard_errors, strict=True)
    )
    counts = (side, goals, routes) == (548, 100, 10_000)
    return row_of(
        row,
        "fitted ≤ 10 min" if counts else "–",
        f"{mdp.num_states:,} states, {mdp.num_transitions:,} moves, {paths.num_paths:,} routes: "
        f"{seconds:.0f} s, {found.evaluations} evaluations of {found.seconds_per_evaluation:.1f} s, gradient norm "
        f"{found.gradient_norm:.2g}, {most_memory():.1f} GB at most; {theta} (true -1, -1.2)",
        seconds <= 600 and found.gradient_norm < 1 if counts else None,
    )


def parse() -> argparse.Namespace:
    """What the script is asked for."""
    parser = parser_of(__doc__)
    there = REPOSITORY / ".peer-venv" / "bin" / "python"
    parser.add_argument("--peer", default=str(there) if there.exists() else None, help="a Python that has imitation")
    parser.add_argument("--side", type=int, default=548, help="junctions along one side of the road grid")
    parser.add_argument("--goals", type=int, default=100, help="goals on the road grid")
    parser.add_argument("--routes", type=int, default=10_000, help="routes on the road grid")
    parser.add_argument("--largest", type=int, default=1_000_000, help="states of the largest discounted problem")
    return parser.parse_args()


def main() -> int:
    arguments = parse()
    side, goals, routes = arguments.side, arguments.goals, arguments.routes
    jobs: dict[str, Callable[[str], dict[str, Any]]] = {}
    for states, horizon in ((200, 20), (1000, 60), (4000, 60)):
        row = f"one MCE evaluation, {states:,} states × {horizon} steps"
        jobs[row] = lambda row, s=states, h=horizon: finite(row, s, h, arguments.peer)
    for states in (10**k for k in range(2, 7) if 10**k <= arguments.largest):
        row = f"one value and gradient, {states:,} states of 16 transitions"
        jobs[row] = lambda row, s=states: size_row(row, s, arguments.peer)
    row = f"road grid of {side} × {side} junctions, {routes:,} routes to {goals} goals"
    jobs[row] = lambda row: grid(row, side, goals, routes)
    measured = [row for row in jobs if wanted(NAME, row, arguments)]
    for row in measured:
        entry = jobs[row](row)
        show([entry])
        write_rows(NAME, [entry], title=TITLE)
    if any("states of 16" in row for row in measured):
        draw()
    return 0


if __name__ == "__main__":
    sys.exit(main())
