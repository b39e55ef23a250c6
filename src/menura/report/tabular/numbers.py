"""The numbers behind the pictures of a fit: visits, rewards and choices, state by state, and where states lie."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from menura.core import RequestError
from menura.environments.tabular import TabularMDP
from menura.irl.choices import action_choices
from menura.irl.estimate import policy_of
from menura.irl.objective import Method, Problem, make_problem
from menura.irl.paths import Paths

LONGEST = 20_000
"""Demonstrations longer than this are compared by discounted visits."""


@dataclass(frozen=True, eq=False)
class Deployed:
    """What the demonstrations did, and what the policy of a θ does, for one path on average."""

    mdp: TabularMDP
    expert_visits: Float[np.ndarray, " states"]
    """How often a demonstration is in each state, its last one included."""
    learner_visits: Float[np.ndarray, " states"]
    """The same of a path of the deployed policy, expected."""
    expert_flow: Float[np.ndarray, " pairs"]
    """How often a demonstration takes each action."""
    policy: Float[np.ndarray, " pairs"]
    """The deployed policy, averaged over times and goals where it depends on them; nan where it is not known."""
    learner_flow: Float[np.ndarray, " pairs"]
    """How often a path of the deployed policy takes each action."""
    reward: Float[np.ndarray, " states"]
    """θ·features of leaving a state by the deployed policy; nan where that is not known."""
    pair_reward: Float[np.ndarray, " pairs"]
    """θ·features of each action."""
    expert_features: Float[np.ndarray, " features"]
    """Mean features of a demonstration."""
    learner_features: Float[np.ndarray, " features"]
    """The same of a path of the deployed policy, expected."""
    discounted: bool
    """Whether visits count less the later they are; if not, learner and demonstrations make equally many steps."""


def deploy(mdp: TabularMDP, paths: Paths, theta: Float[np.ndarray, " features"], method: Method) -> Deployed:
    """Visits and choices of the demonstrations and of the policy that θ deploys from where they began.

    With a discount and no horizon, demonstrations that simply stop are shorter than the policy's endless paths. The
    policy is then followed for as many steps as each of them has, and nothing is discounted.
    """
    problem = make_problem(mdp, paths, method)
    reward = problem.choices.reward(theta)
    stops = mdp.discount < 1 and mdp.horizon is None and not _ended(problem).all()
    cut = stops and paths.lengths.max() <= LONGEST
    weight = np.ones(len(paths.states)) / paths.num_paths if cut else problem.expert_frequencies()[0]
    pair = mdp.pair_index(paths.states, paths.actions)
    expert_flow = np.bincount(pair, weight, mdp.num_pairs)
    gamma = 1.0 if cut else mdp.discount
    expert = _starts(paths, mdp.num_states) + gamma * _arrivals(problem, pair, weight)
    if cut:
        policy = _planned(problem, theta)
        flow = policy * _follow(mdp, paths, policy)[mdp.pair_state]
        learner = _starts(paths, mdp.num_states) + _carry(mdp, flow)
        pull_back = problem.choices.features.pull_back
        features = pull_back(expert_flow), pull_back(flow)
    else:
        by_choice = problem.learner_flow(reward)
        flow = _by_pair(mdp, by_choice)
        starts = np.zeros(mdp.num_states)
        for part in problem.starts():
            for source in part.sources:
                starts += source.dense(mdp.num_states)
        learner = starts + mdp.discount * problem.choices.arrive(by_choice)
        features = problem.expert_features(reward), problem.choices.features.pull_back(by_choice)
        single = len(problem.planners) == 1 and len(problem.members[0]) == 1
        leaving = np.bincount(mdp.pair_state, flow, mdp.num_states)[mdp.pair_state]
        known = leaving > 1e-12 * max(1.0, float(flow.sum()))
        elsewhere = _planned(problem, theta) if single and not known.all() else np.full(mdp.num_pairs, np.nan)
        policy = np.where(known, flow / np.where(known, leaving, 1.0), elsewhere)
    own = action_choices(mdp).features.reward(theta)
    return Deployed(
        mdp,
        expert,
        np.maximum(learner, 0.0),
        expert_flow,
        policy,
        flow,
        _state_reward(mdp, own, policy),
        own,
        *features,
        mdp.discount < 1 and not cut,
    )


def _ended(problem: Problem) -> Any:
    """Whether each demonstration is known to have ended where the problem does."""
    mdp, paths = problem.mdp, problem.paths
    if paths.goals is not None:
        return np.ones(paths.num_paths, bool)
    last = problem.following[paths.is_last]
    return (last >= 0) & np.isin(last, [] if mdp.terminal is None else mdp.terminal)


def _starts(paths: Paths, num_states: int) -> np.ndarray:
    return np.bincount(paths.states[paths.first], minlength=num_states) / paths.num_paths


def _arrivals(problem: Problem, pair: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Where the demonstrations' steps led; outcomes that were not recorded count by their probability."""
    mdp, following = problem.mdp, problem.following
    known = following >= 0
    unknown = np.bincount(pair[~known], weight[~known], mdp.num_pairs)
    return np.bincount(following[known], weight[known], mdp.num_states) + _carry(mdp, unknown)


def _carry(mdp: TabularMDP, flow: np.ndarray) -> np.ndarray:
    """Where flows of actions lead."""
    return np.bincount(mdp.next_state, flow[mdp.transition_pair] * mdp.probability, mdp.num_states)


def _by_pair(mdp: TabularMDP, by_choice: np.ndarray) -> np.ndarray:
    """Flows of actions, from flows of actions or of transitions."""
    return by_choice if len(by_choice) == mdp.num_pairs else np.add.reduceat(by_choice, mdp.pair_start)


def _planned(problem: Problem, theta: np.ndarray) -> np.ndarray:
    """The policy for the first goal, at the first step where it depends on the time; nan where no path can end."""
    mdp, log_policy = problem.mdp, policy_of(problem, theta).log_policy
    policy = _by_pair(mdp, np.exp(log_policy if log_policy.ndim == 1 else log_policy[0]))
    total = np.bincount(mdp.pair_state, policy, mdp.num_states)[mdp.pair_state]
    return np.where(total > 0.5, policy, np.nan)


def _follow(mdp: TabularMDP, paths: Paths, policy: np.ndarray) -> np.ndarray:
    """How often the policy leaves each state in as many steps as each demonstration has.

    Σ_t (P_πᵀ)ᵗ (first states of demonstrations with more than t steps), from the last power to the first.
    """
    carried = policy[mdp.transition_pair] * mdp.probability
    first, lengths = paths.states[paths.first], paths.lengths
    leaving = np.zeros(mdp.num_states)
    for time in range(int(lengths.max()) - 1, -1, -1):
        moved = np.bincount(mdp.next_state, carried * leaving[mdp.state], mdp.num_states)
        leaving = moved + np.bincount(first[lengths > time], minlength=mdp.num_states) / paths.num_paths
    return leaving


def _state_reward(mdp: TabularMDP, reward: np.ndarray, policy: np.ndarray) -> np.ndarray:
    """Mean reward of a state's actions."""
    total = np.bincount(mdp.pair_state, minlength=mdp.num_states)
    mean = np.bincount(mdp.pair_state, policy * reward, mdp.num_states)
    return np.where(total > 0, mean, np.nan)


@dataclass(frozen=True, eq=False)
class Layout:
    """Where the states of a problem lie on a map. A row of cells alone is a line."""

    rows: int
    columns: int
    row: Int[np.ndarray, " states"]
    column: Int[np.ndarray, " states"]
    """Both −1 for a state that is not on the map. Several states may share a cell."""
    upwards: bool = False
    """Whether rows are counted from below."""
    extent: tuple[float, float, float, float] | None = None
    """Left, right, bottom and top in units of what is observed; ``None`` for whole cells."""
    labels: tuple[str, ...] = ("", "")
    """Of the axes, across and up."""

    @property
    def is_line(self) -> bool:
        """Whether there is one row."""
        return self.rows == 1

    @property
    def placed(self) -> Any:
        """The states on the map."""
        return np.flatnonzero(self.row >= 0)

    def place(self, values: Float[np.ndarray, " states"]) -> Float[np.ndarray, "rows columns"]:
        """Sums of the states' values by cell."""
        table = np.zeros((self.rows, self.columns))
        on = self.placed
        np.add.at(table, (self.row[on], self.column[on]), values[on])
        return table

    def average(
        self, values: Float[np.ndarray, " states"], weight: Float[np.ndarray, " states"]
    ) -> Float[np.ndarray, "rows columns"]:
        """Weighted means by cell of the values that are numbers, plain ones where all weights are 0; else nan."""
        known = np.isfinite(values)
        value = np.where(known, values, 0.0)
        weighted, total = self.place(value * weight * known), self.place(weight * known)
        plain, count = self.place(value), self.place(known.astype(np.float64))
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(total > 0, weighted / total, plain / count)


def by_action(
    deployed: Deployed, layout: Layout, values: Float[np.ndarray, " pairs"]
) -> Float[np.ndarray, "rows columns actions"]:
    """A value of pairs by cell and action, averaged by visits where states share a cell; nan where it is not known."""
    mdp = deployed.mdp
    out = np.full((layout.rows, layout.columns, mdp.num_actions), np.nan)
    for action in range(mdp.num_actions):
        by_state, pairs = np.full(mdp.num_states, np.nan), np.flatnonzero(mdp.pair_action == action)
        by_state[mdp.pair_state[pairs]] = values[pairs]
        out[..., action] = layout.average(by_state, deployed.learner_visits)
    return out


def grid_layout(text: str, mdp: TabularMDP) -> Layout:
    """``4x12``: states row by row from the top; terminal states may follow that are not on the map."""
    parts = text.lower().replace("×", "x").split("x")
    if len(parts) != 2 or not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise RequestError(f"--grid {text} is not understood; give rows and columns, such as --grid 4x12.")
    rows, columns = (int(part) for part in parts)
    cells = rows * columns
    if cells > mdp.num_states:
        raise RequestError(f"--grid {text} has {cells} cells for {mdp.num_states} states; give one with fewer.")
    outside = np.setdiff1d(np.arange(cells, mdp.num_states), [] if mdp.terminal is None else mdp.terminal)
    if len(outside):
        raise RequestError(
            f"--grid {text} has {cells} cells for {mdp.num_states} states, and state {outside[0]}, which is not "
            "terminal, would be left out; give a larger one."
        )
    state = np.arange(mdp.num_states)
    on = state < cells
    if columns == 1:
        rows, columns = columns, rows
    return Layout(rows, columns, np.where(on, state // columns, -1), np.where(on, state % columns, -1))


def env_layout(env_id: str, bins: tuple[int, ...] | None, mdp: TabularMDP) -> Layout:
    """The map of an environment: its own grid, or the cells that ``bins`` cut what it observes into."""
    return _cells_layout(env_id, bins, mdp) if bins is not None else _table_layout(env_id, mdp)


def _cells_layout(env_id: str, bins: tuple[int, ...], mdp: TabularMDP) -> Layout:
    from menura.irl.discretize import grid_of

    if len(bins) > 2:
        raise RequestError(f"A map has one or two axes, and --bins gives {len(bins)}; there is no picture of these.")
    grid = grid_of(env_id, bins)
    if mdp.num_states != grid.num_cells + 1:
        raise RequestError(
            f"The estimate has {mdp.num_states} states, and {env_id} cut into {grid.num_cells} cells has one more than "
            "cells; give the --bins that the fit was made with."
        )
    state = np.arange(mdp.num_states)
    on = state < grid.num_cells
    names = _OBSERVED.get(env_id.removeprefix("gymnasium:"), ("first observation", "second observation"))
    low, high = grid.low.tolist(), grid.high.tolist()
    if len(bins) == 1:
        place = np.where(on, state, -1)
        return Layout(1, bins[0], np.where(on, 0, -1), place, False, (low[0], high[0], 0.0, 1.0), (names[0], ""))
    across, up = (int(n) for n in bins)
    return Layout(
        up,
        across,
        np.where(on, state % up, -1),
        np.where(on, state // up, -1),
        True,
        (low[0], high[0], low[1], high[1]),
        names,
    )


_OBSERVED = {"MountainCar-v0": ("position", "velocity"), "MountainCarContinuous-v0": ("position", "velocity")}


def _table_layout(env_id: str, mdp: TabularMDP) -> Layout:
    from menura.environments.host import make_gymnasium

    name = env_id.removeprefix("gymnasium:")
    if name.startswith("Taxi-"):
        # A state is (row, column, where the passenger is, destination): five rows of five cells of twenty states.
        if mdp.num_states < 500:
            raise RequestError(f"The estimate has {mdp.num_states} states, and {env_id} has 500; name its environment.")
        state = np.arange(mdp.num_states)
        on = state < 500
        return Layout(5, 5, np.where(on, state // 100, -1), np.where(on, state // 20 % 5, -1))
    env = make_gymnasium(env_id)
    unwrapped: Any = env.unwrapped
    shape = getattr(unwrapped, "shape", None) or (getattr(unwrapped, "nrow", 0), getattr(unwrapped, "ncol", 0))
    env.close()
    if len(shape) != 2 or not all(shape):
        raise RequestError(f"The map of {env_id} is not known; give --bins if it was cut into cells, or --grid.")
    rows, columns = (int(n) for n in shape)
    if rows * columns > mdp.num_states:
        raise RequestError(f"The estimate has {mdp.num_states} states, and {env_id} has {rows * columns} cells.")
    return grid_layout(f"{rows}x{columns}", mdp)
