"""What a reward makes people do: choice probabilities, routes and flows, and how these change.

``predict(mdp, theta, demand)`` needs no demonstrations: a *demand* says where paths begin and what they are meant
for. A counterfactual is a second prediction, on a changed problem or with another θ; :func:`join` puts the two side
by side. Nothing is fitted here, and everything but :meth:`Prediction.sample` is exact.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from menura.core import RequestError
from menura.environments.tabular import TabularMDP
from menura.irl.choices import Choices, action_choices, transition_choices
from menura.irl.maxent import action_probabilities
from menura.irl.objective import Method, make_planner
from menura.irl.paths import Paths
from menura.irl.planning import DivergenceError, SoftPlan, Source

ROUTE_STEPS = 1000
"""Sampled routes that need not end, because a discount makes them count less and less, are cut after so many steps."""

LONGEST_ROUTE = 1_000_000
"""Sampled routes that must end are given up after so many."""


@dataclass(frozen=True, eq=False)
class Demand:
    """Where paths begin and which goals they are meant for, one row a kind of path."""

    states: Int[np.ndarray, " rows"]
    weights: Float[np.ndarray, " rows"]
    """Each row's share of all paths; they sum to 1."""
    goals: Int[np.ndarray, " rows"] | None = None
    """The absorbing state of each row's paths; ``None`` where all end in terminal states, by the horizon, or never."""

    @classmethod
    def of(cls, mdp: TabularMDP, paths: Paths) -> "Demand":
        """What the demonstrations have; without goals, the problem's initial distribution if it has one."""
        first = paths.states[paths.first].astype(np.int64)
        if paths.goals is not None:
            return cls._grouped(first, paths.goals)
        if mdp.initial is not None:
            states = np.flatnonzero(mdp.initial)
            return cls(states, mdp.initial[states])
        return cls._grouped(first, None)

    @classmethod
    def _grouped(cls, states: np.ndarray, goals: np.ndarray | None) -> "Demand":
        columns = np.stack([states] if goals is None else [states, goals.astype(np.int64)])
        found, count = np.unique(columns, axis=1, return_counts=True)
        return cls(found[0], count / count.sum(), None if goals is None else found[1])

    @classmethod
    def between(cls, starts: Sequence[int], goals: Sequence[int] | None = None) -> "Demand":
        """Equally many paths from each start (to the goal in the same place, or to the only goal)."""
        size = max(len(starts), 0 if goals is None else len(goals))
        if goals is not None and {len(starts), len(goals)} - {1, size}:
            raise RequestError(
                f"{len(starts)} starts do not go with {len(goals)} goals; give one of either, or as many of both."
            )
        states = np.resize(np.asarray(starts, np.int64), size)
        ends = None if goals is None else np.resize(np.asarray(goals, np.int64), size)
        return cls(states, np.full(size, 1 / size), ends)

    @property
    def kinds(self) -> tuple[int | None, ...]:
        """The different goals; a single ``None`` where there are none."""
        return (None,) if self.goals is None else tuple(np.unique(self.goals).tolist())

    def rows(self, goal: int | None) -> Int[np.ndarray, " some"]:
        """The rows that are meant for one of these."""
        return np.arange(len(self.states)) if self.goals is None else np.flatnonzero(self.goals == goal)

    def check(self, mdp: TabularMDP) -> None:
        """Refuse states that the problem does not have, and paths that would be over before they begin."""
        for values, name in ((self.states, "start"), (self.goals, "goal")):
            if values is not None and len(bad := np.flatnonzero((values < 0) | (values >= mdp.num_states))):
                raise RequestError(
                    f"The {name} {values[bad[0]]} is not among the problem's states 0 to {mdp.num_states - 1}."
                )
        over = np.zeros(len(self.states), bool)
        if self.goals is not None:
            over |= self.states == self.goals
        if mdp.terminal is not None:
            over |= np.isin(self.states, mdp.terminal)
        if over.any():
            where = self.states[np.flatnonzero(over)[0]]
            raise RequestError(f"The start {where} is terminal or its own goal; choose another.")


@dataclass(frozen=True, eq=False)
class Prediction:
    """What happens under a reward θ·features; flows are expected passages of one path of the demand."""

    mdp: TabularMDP
    theta: Float[np.ndarray, " features"]
    demand: Demand
    method: Method
    choices: Choices
    flow: Float[np.ndarray, " choices"]
    """Expected passages through every choice, those after t steps counted discount^t times."""
    value: float
    """The mean soft value of a path's start: what economists call the expected maximum utility, or logsum."""

    @property
    def steps(self) -> float:
        """Expected length of a path, discounted as the flows are."""
        return float(self.flow.sum())

    @property
    def features(self) -> Float[np.ndarray, " features"]:
        """Expected features of a path, discounted as the flows are."""
        return self.choices.features.pull_back(self.flow)

    @property
    def transition_flow(self) -> Float[np.ndarray, " transitions"]:
        """Expected passages through every transition."""
        if len(self.flow) == self.mdp.num_transitions:
            return self.flow
        return self.flow[self.mdp.transition_pair] * self.mdp.probability

    def plan(self, goal: int | None = None) -> SoftPlan:
        """Soft values and the policy over choices of the paths with this goal."""
        return _plan(self, goal)

    def probabilities(self, goal: int | None = None) -> Float[np.ndarray, "*time pairs"]:
        """P(action given state) of every pair, at every time if there is a horizon; nan where no path goes on."""
        log_policy = self.plan(goal).log_policy
        by_action = len(self.flow) == self.mdp.num_pairs
        chances = np.exp(log_policy) if by_action else action_probabilities(log_policy, self.mdp.pair_start)
        table = np.atleast_2d(chances)
        for row in table:
            goes_on = np.bincount(self.mdp.pair_state, row, self.mdp.num_states) > 0
            row[~goes_on[self.mdp.pair_state]] = np.nan
        return table if chances.ndim == 2 else table[0]

    def sample(self, number: int, *, seed: int, max_steps: int | None = None) -> Paths:
        """Draw so many paths. Those that need not end are cut after ``max_steps``, by default 1,000."""
        return _sample(self, number, np.random.default_rng(seed), max_steps)


def predict(
    mdp: TabularMDP, theta: Float[np.ndarray, " features"], demand: Demand, *, method: Method = "mce"
) -> Prediction:
    """The behavior of those who have this reward and this demand, by the method that the reward was fitted with."""
    theta = np.asarray(theta, np.float64)
    if theta.shape != (mdp.num_features,):
        raise RequestError(f"θ has {theta.size} weights for {mdp.num_features} features; give one a feature.")
    if method == "maxent" and mdp.discount < 1:
        raise RequestError(f"MaxEnt has no discount, and the problem's is {mdp.discount:g}; use a discount of 1.")
    if demand.goals is None and mdp.horizon is None and mdp.discount == 1 and mdp.terminal is None:
        raise RequestError("A discount of 1 without a horizon needs terminal states, or goals.")
    demand.check(mdp)
    choices = action_choices(mdp) if method == "mce" else transition_choices(mdp)
    reward = choices.reward(theta)
    kinds = demand.kinds
    goals = None if demand.goals is None else [int(goal) for goal in kinds if goal is not None]
    planners = make_planner(mdp, choices, goals, np.unique(demand.states))
    sources = [Source(demand.states[rows], demand.weights[rows]) for rows in map(demand.rows, kinds)]
    shared = len(planners) == 1
    answers = [
        planner.evaluate(reward, tuple(sources) if shared else (sources[i],)) for i, planner in enumerate(planners)
    ]
    value = sum(answer.value for answer in answers)
    prediction = Prediction(
        mdp, theta, demand, method, choices, np.sum([answer.flow for answer in answers], axis=0), float(value)
    )
    if not np.isfinite(value):
        _refuse_stranded(prediction)
    return prediction


def _refuse_stranded(prediction: Prediction) -> None:
    """Name a start from which no path can end."""
    for goal in prediction.demand.kinds:
        value = np.atleast_2d(prediction.plan(goal).value)[0]
        for state in prediction.demand.states[prediction.demand.rows(goal)]:
            if not np.isfinite(value[state]):
                where = "that can go on or end" if goal is None else f"to goal {goal}"
                raise RequestError(
                    f"No path leads from state {state} {where}; keep more transitions, or choose other starts and "
                    "goals."
                )
    raise RequestError("The soft values of the starts are not finite; check θ.")


def _plan(prediction: Prediction, goal: int | None) -> SoftPlan:
    mdp, choices = prediction.mdp, prediction.choices
    reward = choices.reward(prediction.theta)
    goals = None if goal is None else [goal]
    try:
        (planner,) = make_planner(mdp, choices, goals, np.arange(mdp.num_states))
        return planner.plan(reward)
    except DivergenceError:
        # Values may diverge where none of these paths can get.
        (planner,) = make_planner(mdp, choices, goals, prediction.demand.states[prediction.demand.rows(goal)])
        return planner.plan(reward)


def remove_transitions(mdp: TabularMDP, removed: Sequence[tuple[int, ...]]) -> TabularMDP:
    """The problem without some actions (state, action) or transitions (state, action, next state).

    Where an action loses some of its outcomes, the others are scaled to sum to 1; where it loses all, it is gone. A
    state that is left without actions is a dead end, which is worth −∞: actions that may lead there are not taken.
    """
    keep = np.ones(mdp.num_transitions, bool)
    ends = np.append(mdp.pair_start, mdp.num_transitions)
    for row in removed:
        state, action, *following = row
        named = f"--remove {','.join(map(str, row))}"
        pair = int(mdp.pair_index(np.array([state]), np.array([action]))[0])
        if pair < 0:
            raise RequestError(f"{named}: the problem has no action {action} in state {state}.")
        rows = np.arange(ends[pair], ends[pair + 1])
        if following:
            rows = rows[mdp.next_state[rows] == following[0]]
            if not len(rows):
                raise RequestError(f"{named}: action {action} of state {state} does not lead to state {following[0]}.")
        keep[rows] = False
    if not keep.any():
        raise RequestError("Nothing is left after --remove; keep at least one transition.")
    probability = np.where(keep, mdp.probability, 0.0)
    total = np.add.reduceat(probability, mdp.pair_start)
    kept_pairs = np.add.reduceat(keep, mdp.pair_start) > 0
    probability = probability[keep] / total[mdp.transition_pair[keep]]
    pick = lambda table, rows: None if table is None else table[rows]  # noqa: E731
    return mdp.replace(
        state=mdp.state[keep],
        action=mdp.action[keep],
        next_state=mdp.next_state[keep],
        probability=probability,
        pair_features=pick(mdp.pair_features, kept_pairs),
        transition_features=pick(mdp.transition_features, keep),
    )


@dataclass(frozen=True, eq=False)
class Table:
    """Rows of whole numbers that say what is meant, and of values."""

    keys: dict[str, Int[np.ndarray, " rows"]]
    values: dict[str, Float[np.ndarray, " rows"]]

    def __len__(self) -> int:
        return len(next(iter(self.keys.values())))

    def columns(self) -> dict[str, np.ndarray]:
        """Keys and values."""
        return {**self.keys, **self.values}


def flow_table(prediction: Prediction) -> Table:
    """The flow of every transition."""
    mdp = prediction.mdp
    keys = {"state": mdp.state, "action": mdp.action, "next_state": mdp.next_state}
    return Table(keys, {"flow": prediction.transition_flow})


def choice_rows(prediction: Prediction) -> int:
    """How many rows :func:`choice_table` has."""
    return len(prediction.demand.kinds) * (prediction.mdp.horizon or 1) * prediction.mdp.num_pairs


def choice_table(prediction: Prediction) -> Table:
    """The probability of every action of every state, by goal and by time where these matter."""
    mdp, kinds = prediction.mdp, prediction.demand.kinds
    times = mdp.horizon or 1
    keys: dict[str, np.ndarray] = {}
    if prediction.demand.goals is not None:
        keys["goal"] = np.repeat(np.array(kinds, np.int64), times * mdp.num_pairs)
    if mdp.horizon is not None:
        keys["time"] = np.tile(np.repeat(np.arange(times), mdp.num_pairs), len(kinds))
    keys["state"] = np.tile(mdp.pair_state, len(kinds) * times)
    keys["action"] = np.tile(mdp.pair_action, len(kinds) * times)
    chances = np.concatenate([prediction.probabilities(goal).ravel() for goal in kinds])
    return Table(keys, {"probability": chances})


def join(before: Table, after: Table) -> Table:
    """The rows of either table, with ``…_before`` beside each value; 0 where a row exists in the other one only."""
    if before.keys.keys() != after.keys.keys():
        raise RequestError("Choices with and without goals or a horizon cannot stand side by side.")
    sizes = len(before)
    both = np.stack([np.concatenate([before.keys[k], after.keys[k]]).astype(np.int64) for k in before.keys])
    order = np.lexsort(both[::-1])
    ordered = both[:, order]
    new = np.concatenate([[True], (np.diff(ordered, axis=1) != 0).any(axis=0)])
    place = np.empty(both.shape[1], np.int64)
    place[order] = np.cumsum(new) - 1
    keys = dict(zip(before.keys, ordered[:, new], strict=True))
    values = {}
    for name in before.values:
        for suffix, table, rows in (("_before", before, place[:sizes]), ("", after, place[sizes:])):
            column = np.zeros(int(new.sum()))
            column[rows] = table.values[name]
            values[name + suffix] = column
    return Table(keys, values)


def _sample(prediction: Prediction, number: int, rng: np.random.Generator, max_steps: int | None) -> Paths:
    demand = prediction.demand
    if number < 1:
        raise RequestError(f"{number} routes cannot be sampled; ask for 1 or more.")
    drawn = rng.choice(len(demand.states), number, p=demand.weights)
    wanted = None if demand.goals is None else demand.goals[drawn]
    route, time, states, actions = [], [], [], []
    final = np.zeros(number, np.int64)
    for goal in demand.kinds:
        chosen = np.arange(number) if wanted is None else np.flatnonzero(wanted == goal)
        if not len(chosen):
            continue
        walked, now = _walk(prediction, goal, demand.states[drawn[chosen]], rng, max_steps)
        for step, (who, state, action) in enumerate(walked):
            route.append(chosen[who])
            time.append(np.full(len(who), step))
            states.append(state)
            actions.append(action)
        final[chosen] = now
    order = np.lexsort((np.concatenate(time), np.concatenate(route)))
    flat = lambda parts: np.concatenate(parts)[order].astype(np.int64)  # noqa: E731
    lengths = np.bincount(np.concatenate(route), minlength=number)
    return Paths(flat(states), flat(actions), lengths, final, wanted, None, "the sampled routes")


def _walk(prediction: Prediction, goal: int | None, starts: np.ndarray, rng: np.random.Generator, limit: int | None):
    """The walkers, states and actions of every step, and where each walker ended."""
    mdp, choices = prediction.mdp, prediction.choices
    log_policy = prediction.plan(goal).log_policy
    over = np.zeros(mdp.num_states, bool)
    if goal is not None:
        over[goal] = True
    elif mdp.terminal is not None:
        over[mdp.terminal] = True
    must_end = mdp.horizon is None and mdp.discount == 1
    steps = limit or (LONGEST_ROUTE if must_end else ROUTE_STEPS)
    if mdp.horizon is not None:
        steps = min(mdp.horizon, limit or mdp.horizon)
    by_action = len(prediction.flow) == mdp.num_pairs
    choice = _Draw(choices.state, mdp.num_states)
    outcome = _Draw(mdp.transition_pair, mdp.num_pairs)
    outcomes = np.cumsum(mdp.probability)
    stationary = np.cumsum(np.exp(log_policy)) if log_policy.ndim == 1 else None
    now, walking, walked = starts.copy(), np.arange(len(starts)), []
    for step in range(steps):
        if not len(walking):
            break
        cumulative = np.cumsum(np.exp(log_policy[step])) if stationary is None else stationary
        taken = choice.draw(cumulative, now[walking], rng)
        action = mdp.pair_action[taken] if by_action else mdp.action[taken]
        arrived = outcome.draw(outcomes, taken, rng) if by_action else taken
        walked.append((walking, now[walking].copy(), action))
        now[walking] = mdp.next_state[arrived]
        walking = walking[~over[now[walking]]]
    if must_end and len(walking):
        raise RequestError(f"{len(walking)} routes have not ended after {steps} steps; allow more with --max-steps.")
    return walked, now


class _Draw:
    """Draws one of the rows that belong to a group, by weights of which the cumulative sum over all rows is given."""

    def __init__(self, group: Int[np.ndarray, " rows"], number: int):
        self._first = np.searchsorted(group, np.arange(number))
        self._last = np.searchsorted(group, np.arange(number), side="right") - 1

    def draw(
        self, cumulative: Float[np.ndarray, " rows"], group: Int[np.ndarray, " n"], rng: np.random.Generator
    ) -> Int[np.ndarray, " n"]:
        """A row of each of these groups."""
        first, top = self._first[group], cumulative[self._last[group]]
        below = np.where(first > 0, cumulative[first - 1], 0.0)
        aim = below + rng.random(len(group)) * (top - below)
        # A row of weight 0 at the end must not be drawn when rounding lands on the top.
        aim = np.minimum(aim, np.nextafter(top, -np.inf))
        return np.searchsorted(cumulative, aim, side="right")


def expected_features(prediction: Prediction) -> dict[str, float]:
    """Expected features of a path by name."""
    return dict(zip(prediction.mdp.feature_names, prediction.features.tolist(), strict=True))


__all__ = [
    "Demand",
    "Prediction",
    "Table",
    "choice_rows",
    "choice_table",
    "expected_features",
    "flow_table",
    "join",
    "predict",
    "remove_transitions",
]
