"""The real problems of the inverse-RL benchmarks, as tables: Rust's buses, Borlänge's roads, people in MountainCar."""

import csv
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from menura.environments.tabular import TabularMDP
from menura.irl import Paths


def bus_paths(data: Path, group: str = "4") -> tuple[Paths, np.ndarray]:
    """Monthly keep-or-replace decisions of one bus group without each bus's first month, and the bins driven."""
    with (data / "rust_bus_1987" / "bus_panel_5000mi.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["group"] == group and int(row["period"]) > 0]
    column = lambda name: np.array([int(row[name]) for row in rows])  # noqa: E731
    state, action, bus = column("state_bin5000"), column("replaced"), column("bus_id")
    breaks = np.flatnonzero(np.diff(bus)) + 1
    paths = Paths.from_lists(
        np.split(state, breaks), np.split(action, breaks), individuals=[part[0] for part in np.split(bus, breaks)]
    )
    return paths, column("usage_bins")


def bus_mdp(usage: np.ndarray, bins: int = 90) -> TabularMDP:
    """Rust (1987): 0.001·θ is the monthly cost of a bin of mileage, RC the cost of a new engine, discount 0.9999."""
    state, action, driven = (x.ravel() for x in np.meshgrid(np.arange(bins), [0, 1], [0, 1, 2], indexing="ij"))
    next_state = np.minimum(np.where(action == 1, 0, state) + driven, bins - 1)
    features = np.zeros((bins, 2, 2))
    features[:, 1, 0] = -1.0
    features[:, 0, 1] = -0.001 * np.arange(bins)
    return TabularMDP.from_transitions(
        state, action, next_state, usage[driven], num_states=bins, num_actions=2,
        state_action_features=features, feature_names=("RC", "theta"), discount=0.9999,
    )  # fmt: skip


def roads(data: Path) -> tuple[TabularMDP, Paths]:
    """Borlänge: a state is a link, an action a move to the next one; every path has a destination of its own."""
    folder = data / "borlange_route_choice"

    def read(name):
        table = np.loadtxt(folder / f"{name}.txt")
        return table[:, 0].astype(int) - 1, table[:, 1].astype(int) - 1, table[:, 2]

    state, following, _ = read("linkIncidence")
    order = np.lexsort((following, state))
    state, following = state[order], following[order]
    size = int(max(state.max(), following.max())) + 1

    def at_moves(name):
        rows, columns, values = read(name)
        return np.asarray(sp.csr_array((values, (rows, columns)), (size, size))[state, following]).ravel()

    minutes, angle = at_moves("ATTRIBUTEestimatedtime"), at_moves("ATTRIBUTEturnangles")
    u_turn = np.abs(angle) > 3.1
    left = (angle < -0.5236) & ~u_turn
    features = np.stack([minutes, left, np.ones(len(state)), u_turn], axis=1).astype(float)
    action = np.arange(len(state)) - np.searchsorted(state, np.arange(size))[state]
    mdp = TabularMDP.from_transitions(
        state, action, following, np.ones(len(state)), num_states=size, num_actions=int(action.max()) + 1,
        transition_features=features, feature_names=("travel_time", "left_turn", "links", "u_turn"),
    )  # fmt: skip
    key = state.astype(np.int64) * size + following
    states, actions, goals = [], [], []
    for row in sp.load_npz(folder / "synthetic_observation.npz").toarray().astype(int) - 1:
        path = row[row >= 0][1:]
        moves = np.searchsorted(key, path[:-1].astype(np.int64) * size + path[1:])
        states.append(path)
        actions.append(action[moves])
        goals.append(path[-1])
    return mdp, Paths.from_lists(states, actions, goals=goals)


def mountain_car_episodes(data: Path, out: Path) -> list[int]:
    """The 20 human demonstrations up to the flag, written as an npz of episodes; their lengths."""
    table = np.load(data / "mountaincar_human" / "maxent_expert_demo.npy", allow_pickle=False)
    lengths = [int(np.argmax(episode[:, 0] >= 0.5)) for episode in table]
    parts = [episode[:n] for episode, n in zip(table, lengths, strict=True)]
    ends = [episode[n, :2] for episode, n in zip(table, lengths, strict=True)]
    rows = np.concatenate(parts)
    np.savez(
        out,
        observations=rows[:, :2].astype(np.float32),
        actions=rows[:, 2].astype(np.int64),
        rewards=-np.ones(len(rows), np.float32),
        episode_lengths=np.array(lengths),
        terminated=np.ones(len(lengths), bool),
        final_observations=np.array(ends, np.float32),
        meta=np.array('{"env_id": "MountainCar-v0"}'),
    )
    return lengths
