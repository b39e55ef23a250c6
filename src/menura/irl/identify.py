"""Which rewards the same behavior may come from.

Two rewards r and r′ have the same soft policy if and only if they differ by a potential,

    r′(s, a) − r(s, a) = φ(s) − γ E[φ(s′) | s, a]        with φ = 0 in terminal states, goals, and after the last step

(Ng, Harada & Russell 1999; Cao, Cohen & Szpruch 2021), φ being the difference of their values. So a direction d of θ is
invisible if f·d has this form at every choice that a path can come to, and then φ = d·dV/dθ. With dQ = f + γ P dV that
says dQ·d = dV·d there: the invisible directions are the null space of the *spread* dQ − dV, which is what the planners'
derivatives give. It does not depend on θ. In the states of given demonstrations only, the same null space says what
these leave open.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from menura.core import RequestError
from menura.environments.tabular import TabularMDP
from menura.irl.choices import Choices, action_choices, transition_choices
from menura.irl.objective import Evaluation, Method, make_planner
from menura.irl.optimize import find_start
from menura.irl.paths import Paths
from menura.irl.planning import DivergenceError, Source
from menura.irl.predict import Demand

FLAT = 1e-9
"""Spreads this small beside a feature and its sums over the future are rounding."""

SHOWN_GOALS = 20
"""The unchanged policy is shown for so many goals."""

COUNTED_CHOICES = 300
"""Up to so many choices the dimension of the potentials is computed where no formula gives it."""


@dataclass(frozen=True, eq=False)
class Direction:
    """A direction of θ that leaves the policy as it is, or that demonstrations say nothing about."""

    weights: Float[np.ndarray, " features"]
    """Its largest entry is 1."""
    sentence: str
    """What it means, for people."""
    moved: Float[np.ndarray, " features"] | None = None
    """A θ that lies along it."""
    policy_change: float = 0.0
    """The largest difference of log π(choice | state) between there and here."""
    potential: Float[np.ndarray, " states"] | None = None
    """φ, where one belongs to all paths alike."""


@dataclass(frozen=True, eq=False)
class Identification:
    """What the features, under these dynamics, leave open."""

    names: tuple[str, ...]
    theta: Float[np.ndarray, " features"]
    """Where derivatives were taken."""
    directions: tuple[Direction, ...]
    """A basis of the directions of θ that leave the policy as it is."""
    unseen: tuple[Direction, ...] | None
    """A basis of what, beyond these, the demonstrations leave open at this θ; ``None`` without demonstrations."""
    num_choices: int
    """Actions (for maxent, transitions) that a path can come to: the dimension of all rewards."""
    num_potentials: int | None
    """Dimension of the rewards that are differences of a potential; ``None`` where it is too long to compute."""

    def to_json(self) -> dict[str, Any]:
        """As ``menura irl identify --json`` prints it."""
        named = lambda values: dict(zip(self.names, np.asarray(values).tolist(), strict=True))  # noqa: E731

        def shown(d: Direction) -> dict[str, Any]:
            return {
                "weights": named(d.weights),
                "sentence": d.sentence,
                "moved_theta": None if d.moved is None else named(d.moved),
                "largest_change_of_log_policy": d.policy_change,
                "potential": None if d.potential is None or len(d.potential) > 1000 else d.potential.tolist(),
            }

        return {
            "theta": named(self.theta),
            "num_features": len(self.names),
            "num_identified": len(self.names) - len(self.directions),
            "directions": [shown(d) for d in self.directions],
            "not_in_the_demonstrations": None
            if self.unseen is None
            else [{"weights": named(d.weights), "sentence": d.sentence} for d in self.unseen],
            "num_choices": self.num_choices,
            "num_potentials": self.num_potentials,
        }


@dataclass(frozen=True, eq=False)
class _Spread:
    """dQ − dV of the choices that the paths of one goal can come to, at one time."""

    goal: int | None
    time: int | None
    used: Int[np.ndarray, " used"]
    rows: Float[np.ndarray, "used features"]
    d_value: Float[np.ndarray, "states features"]


def identify(
    mdp: TabularMDP,
    theta: Float[np.ndarray, " features"] | None = None,
    *,
    paths: Paths | None = None,
    demand: Demand | None = None,
    method: Method = "mce",
) -> Identification:
    """The directions of θ that change no policy, and with ``paths`` those that the demonstrations leave open.

    Paths begin where ``demand`` or the demonstrations say, else by the initial distribution, else anywhere. Without
    ``theta``, derivatives are taken at 0, or where values exist.
    """
    choices = action_choices(mdp) if method == "mce" else transition_choices(mdp)
    if method == "maxent" and mdp.discount < 1:
        raise RequestError(f"MaxEnt has no discount, and the problem's is {mdp.discount:g}; use a discount of 1.")
    demand = _demand(mdp, paths) if demand is None else demand
    demand.check(mdp)
    if demand.goals is None and mdp.horizon is None and mdp.discount == 1 and mdp.terminal is None:
        raise RequestError("A discount of 1 without a horizon needs terminal states, or goals.")
    planners = make_planner(mdp, choices, _goals(demand), np.unique(demand.states))
    theta = _theta(theta, mdp, choices, planners, demand)
    features = choices.features.dense()
    spreads = _spreads(mdp, choices, planners, demand, choices.reward(theta), features)
    used = np.unique(np.concatenate([spread.used for spread in spreads]))
    scale = _scale(features, spreads)
    basis = _basis(features, spreads, scale)
    directions = tuple(_describe(mdp, choices, demand, theta, d, features, used, spreads) for d in basis)
    unseen = None
    if paths is not None:
        seen = [s.rows[_visited(choices, paths, demand, s)] for s in spreads]
        unseen = tuple(
            Direction(d, _unseen_sentence(mdp.feature_names, d))
            for d in _beyond(_null_space(seen, scale), basis, scale)
        )
    count = _count_potentials(mdp, choices, planners, demand, theta, used)
    return Identification(mdp.feature_names, theta, directions, unseen, len(used), count)


def _demand(mdp: TabularMDP, paths: Paths | None) -> Demand:
    if paths is not None:
        return Demand.of(mdp, paths)
    states = np.unique(mdp.pair_state) if mdp.initial is None else np.flatnonzero(mdp.initial)
    return Demand(states.astype(np.int64), np.full(len(states), 1 / len(states)))


def _goals(demand: Demand) -> list[int] | None:
    return None if demand.goals is None else [goal for goal in demand.kinds if goal is not None]


def _theta(theta, mdp: TabularMDP, choices: Choices, planners, demand: Demand) -> Float[np.ndarray, " features"]:
    if theta is not None:
        theta = np.asarray(theta, np.float64)
        if theta.shape != (mdp.num_features,):
            raise RequestError(f"θ has {theta.size} weights for {mdp.num_features} features; give one a feature.")
        return theta

    def evaluate(at: np.ndarray) -> Evaluation:
        reward, kinds = choices.reward(at), demand.kinds
        sources = [Source(demand.states[r], demand.weights[r]) for r in map(demand.rows, kinds)]
        shared = len(planners) == 1
        answers = [p.evaluate(reward, tuple(sources) if shared else (sources[i],)) for i, p in enumerate(planners)]
        return Evaluation(sum(answer.value for answer in answers), np.zeros(mdp.num_features))

    try:
        return find_start(evaluate, choices)[0]
    except RequestError as error:
        raise RequestError("No θ was found where all values exist; give one with --at.") from error


def _spreads(mdp, choices: Choices, planners, demand: Demand, reward, features) -> list[_Spread]:
    if mdp.horizon is not None:
        return [
            spread
            for planner, goal in zip(planners, demand.kinds, strict=True)
            for spread in _timed_spreads(mdp, choices, planner, goal, demand, reward, features)
        ]
    states = np.arange(mdp.num_states)
    nothing = Source(states, np.zeros(mdp.num_states))
    shared = len(planners) == 1
    tangents = [
        tangent
        for planner in planners
        for tangent in planner.evaluate(reward, (nothing,) * (len(demand.kinds) if shared else 1), features).tangents
    ]
    every = np.arange(choices.num_choices)
    out = []
    for i, (goal, d_value) in enumerate(zip(demand.kinds, tangents, strict=True)):
        planner, place = (planners[0], i) if shared else (planners[i], 0)
        allowed = planner.allows(every, np.zeros_like(every), place)
        used = _reached(choices, allowed, demand.states[demand.rows(goal)])
        rows = features[used] + (mdp.discount * choices.expect(d_value) - d_value[choices.state])[used]
        out.append(_Spread(goal, None, used, rows, d_value))
    return out


def _timed_spreads(mdp, choices: Choices, planner, goal, demand: Demand, reward, features) -> list[_Spread]:
    """With a horizon: one a step, those of states that can be reached by then."""
    log_policy = planner.plan(reward).log_policy
    now = np.zeros(mdp.num_states, bool)
    now[demand.states[demand.rows(goal)]] = True
    uses = []
    for allowed in np.isfinite(log_policy):
        uses.append(np.flatnonzero(allowed & now[choices.state]))
        passes = np.zeros(choices.num_choices)
        passes[uses[-1]] = 1.0
        now = choices.arrive(passes) > 0
    out, d_value = [], np.zeros((mdp.num_states, features.shape[1]))
    for time in range(mdp.horizon - 1, -1, -1):
        d_q = features + mdp.discount * choices.expect(d_value)
        d_value = choices.sum_by_state(np.exp(log_policy[time])[:, None] * d_q)
        used = uses[time]
        out.append(_Spread(goal, time, used, d_q[used] - d_value[choices.state[used]], d_value))
    return out


def _reached(
    choices: Choices, allowed: Bool[np.ndarray, " choices"], starts: Int[np.ndarray, " some"]
) -> Int[np.ndarray, " used"]:
    """The allowed choices of states that can be reached by allowed choices."""
    reached = np.zeros(choices.num_states, bool)
    reached[starts] = True
    while True:
        used = allowed & reached[choices.state]
        more = reached | (choices.arrive(used.astype(np.float64)) > 0)
        if np.array_equal(more, reached):
            return np.flatnonzero(used)
        reached = more


def _scale(features: np.ndarray, spreads: list[_Spread]) -> Float[np.ndarray, " features"]:
    """The size of each feature and of its sums over the future."""
    size = np.zeros(features.shape[1])
    for spread in spreads:
        size = np.maximum(size, np.abs(features[spread.used]).max(axis=0, initial=0.0))
        states = np.abs(spread.d_value).max(axis=0, initial=0.0)
        size = np.maximum(size, np.where(np.isfinite(states), states, 0.0))
    return np.where(size > 0, size, 1.0)


def _null_space(blocks: Sequence[np.ndarray], scale: np.ndarray) -> Float[np.ndarray, "directions features"]:
    """Orthonormal rows that all blocks map to 0, in units of ``scale``."""
    size = len(scale)
    factor, rows = np.zeros((0, size)), 0
    for block in blocks:
        for first in range(0, len(block), 50_000):
            part = block[first : first + 50_000] / scale
            factor = np.linalg.qr(np.concatenate([factor, part]), mode="r")
            rows += len(part)
    if not len(factor):
        return np.eye(size)
    _, values, vectors = np.linalg.svd(factor, full_matrices=True)
    values = np.concatenate([values, np.zeros(size - len(values))])
    return vectors[values <= FLAT * np.sqrt(max(rows, 1))]


def _beyond(space: np.ndarray, known: np.ndarray, scale: np.ndarray) -> Float[np.ndarray, "directions features"]:
    """Readable rows that fill a space up from the rows of one inside it (these in units of θ)."""
    kept: list[np.ndarray] = []
    inside = np.linalg.qr((known * scale).T)[0].T
    for row in _readable(space, scale):
        rest = row * scale
        rest = rest / np.linalg.norm(rest)
        rest = rest - inside.T @ (inside @ rest)
        if (size := float(np.linalg.norm(rest))) > 1e-6:
            kept.append(row)
            inside = np.concatenate([inside, rest[None] / size])
    return np.array(kept).reshape(-1, len(scale))


def _basis(features: np.ndarray, spreads: list[_Spread], scale: np.ndarray) -> Float[np.ndarray, "directions features"]:
    """The invisible directions: first those that add nothing anywhere, then a constant, then other potentials."""
    used = np.unique(np.concatenate([spread.used for spread in spreads]))
    rows, found = features[used], np.zeros((0, len(scale)))
    spread = [one.rows for one in spreads]
    for more in ([rows], [rows - rows.mean(axis=0)], []):
        found = np.concatenate([found, _beyond(_null_space([*more, *spread], scale), found, scale)])
    return found


def _readable(space: np.ndarray, scale: np.ndarray) -> Float[np.ndarray, "directions features"]:
    """The same space by rows of few entries, in units of θ, each with 1 for its largest: Gauss–Jordan elimination."""
    rows = space.copy()
    for i in range(len(rows)):
        block = np.abs(rows[i:])
        first, column = np.unravel_index(int(np.argmax(block > block.max() * (1 - 1e-6))), block.shape)
        rows[[i, i + int(first)]] = rows[[i + int(first), i]]
        rows[i] /= rows[i, column]
        others = np.arange(len(rows)) != i
        rows[others] -= np.outer(rows[others, column], rows[i])
    rows[np.abs(rows) < 1e-7] = 0.0
    rows = rows / scale
    order = np.argsort([int(np.flatnonzero(row)[0]) for row in rows], kind="stable") if len(rows) else []
    out = np.array([row / row[np.argmax(np.abs(row) > np.abs(row).max() * (1 - 1e-6))] for row in rows])
    nearest = np.round(out, 6)
    return np.where(np.abs(out - nearest) < 1e-8, nearest, out)[order] if len(rows) else rows


def _describe(mdp, choices, demand, theta, d, features, used, spreads) -> Direction:
    moved, change = _move(mdp, choices, demand, theta, d, spreads)
    potential = None
    if len(spreads) == 1:
        potential = spreads[0].d_value @ d
    reason = _reason(mdp, demand, features[used] @ d, float(np.abs(d) @ np.abs(features[used]).max(axis=0)), d)
    return Direction(d, f"{_lead(mdp.feature_names, d)} changes nothing, because {reason}.", moved, change, potential)


def _move(mdp, choices, demand, theta, d, spreads) -> tuple[Float[np.ndarray, " features"] | None, float]:
    """A θ along a direction, and how much its policy differs in the choices that a path can come to."""
    by_goal: dict[int | None, list[_Spread]] = {}
    for spread in spreads:
        by_goal.setdefault(spread.goal, []).append(spread)
    size = max(1.0, float(np.abs(theta).max(initial=0.0)))
    shown = sorted(by_goal, key=lambda goal: -demand.weights[demand.rows(goal)].sum())[:SHOWN_GOALS]
    plans = {
        goal: make_planner(mdp, choices, None if goal is None else [goal], demand.states[demand.rows(goal)])[0]
        for goal in shown
    }
    here = {goal: planner.plan(choices.reward(theta)).log_policy for goal, planner in plans.items()}
    for _ in range(20):
        moved, change = theta + size * d, 0.0
        try:
            for goal, planner in plans.items():
                there = planner.plan(choices.reward(moved)).log_policy
                for spread in by_goal[goal]:
                    at = (spread.used,) if spread.time is None else (spread.time, spread.used)
                    change = max(change, float(np.abs(there[at] - here[goal][at]).max(initial=0.0)))
            return moved, change
        except DivergenceError:
            size /= 2
    return None, 0.0


def _lead(names: Sequence[str], d: np.ndarray) -> str:
    parts = []
    for k in np.flatnonzero(d)[:6]:
        amount = "c" if d[k] == 1 else "−c" if d[k] == -1 else f"{d[k]:.4g} c".replace("-", "−")
        parts.append(f"{amount} to the weight of {names[k]!r}" if not parts else f"{amount} to that of {names[k]!r}")
    more = np.count_nonzero(d) - len(parts)
    if more:
        parts.append(f"so on for {more} more")
    return "Adding " + (parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1])


def _reason(mdp: TabularMDP, demand: Demand, reward: np.ndarray, size: float, d: np.ndarray) -> str:
    """Why a direction changes nothing, from what it adds to the reward of every choice that a path can come to."""
    tolerance = 1e-9 * max(size, 1e-300)
    if np.abs(reward).max(initial=0.0) <= tolerance:
        if np.count_nonzero(d) == 1:
            return "it is 0 wherever a path can go"
        return "together they add up to 0 wherever a path can go"
    if np.ptp(reward) <= tolerance:
        adds = "" if np.count_nonzero(d) == 1 else "together they are the same at every step, and "
        if demand.goals is None and mdp.terminal is None:
            if mdp.horizon is not None:
                return adds + "every path has the same length"
            return adds + "no path ends, so that all have the same length"
        return adds + "every path from the same state has the same length"
    return (
        "what it adds depends on where a path begins only: at every step it is the difference of a potential, "
        "φ(s) − γ E φ(s′)"
    )


def _unseen_sentence(names: Sequence[str], d: np.ndarray) -> str:
    which = "this" if np.count_nonzero(d) == 1 else "these together"
    return (
        f"{_lead(names, d)} changes nothing in the states that the demonstrations visit: there, the ways on do not "
        f"differ in {which}."
    )


def _visited(choices: Choices, paths: Paths, demand: Demand, spread: _Spread) -> Bool[np.ndarray, " used"]:
    """Which of these choices the demonstrations had before them."""
    steps = np.ones(len(paths.states), bool)
    if spread.goal is not None and paths.goals is not None:
        steps &= paths.goals[paths.path_of_step] == spread.goal
    if spread.time is not None:
        steps &= paths.time == spread.time
    return np.isin(choices.state[spread.used], paths.states[steps])


def _count_potentials(mdp, choices, planners, demand, theta, used) -> int | None:
    if mdp.horizon is None and len(demand.kinds) == 1:
        # φ is free in every state that is left, and none but 0 adds nothing anywhere.
        return len(np.unique(choices.state[used]))
    if len(used) > COUNTED_CHOICES or len(demand.kinds) > SHOWN_GOALS:
        return None
    features = np.zeros((choices.num_choices, len(used)))
    features[used, np.arange(len(used))] = 1.0
    spreads = _spreads(mdp, choices, planners, demand, choices.reward(theta), features)
    return len(_null_space([spread.rows for spread in spreads], _scale(features, spreads)))
