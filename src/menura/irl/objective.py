"""Likelihoods and duals of tabular inverse RL, all of one form: N · reward − Σ source · V.

N counts the expert's choices. With source = (visits to states) − γ (arrivals of these choices), the difference is
Σ log π(choice | state) over the demonstrations: maximum likelihood. With N the expert's discounted frequencies and
source = the initial distribution, it is the negative dual of maximum causal entropy (Ziebart 2010, theorem 6.2).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from menura.core import RequestError
from menura.environments.tabular import TabularMDP
from menura.irl.choices import Choices, action_choices, transition_choices
from menura.irl.paths import Paths, check_paths, check_successors, successors
from menura.irl.planning import FinitePlanner, GoalPlanner, Source, StationaryPlanner

Method = Literal["maxent", "mce"]
Match = Literal["likelihood", "features"]
ForwardPass = Literal["tilted", "printed"]

SMALLEST_SPREAD = 1e-8
"""Differences between choices that are this small beside a feature itself cannot be told from rounding."""


@dataclass(frozen=True, eq=False)
class Tails:
    """Last steps whose outcome was not recorded: the transitions that each may have been."""

    path: Int[np.ndarray, " tails"]
    first: Int[np.ndarray, " tails"]
    """Where each one's candidates begin."""
    candidate: Int[np.ndarray, " candidates"]
    weight: Float[np.ndarray, " tails"] | None = None
    """How much each counts; ``None`` for once."""

    def weigh(
        self, reward: Float[np.ndarray, " choices"]
    ) -> tuple[Float[np.ndarray, " tails"], Float[np.ndarray, " candidates"]]:
        """log Σ exp of the candidates' rewards, and how likely each is the one; both times the tail's weight."""
        values = reward[self.candidate]
        best = np.maximum.reduceat(values, self.first)
        owner = np.repeat(np.arange(len(self.first)), np.diff(np.append(self.first, len(values))))
        weight = np.exp(values - best[owner])
        total = np.add.reduceat(weight, self.first)
        value, likely = best + np.log(total), weight / total[owner]
        return (value, likely) if self.weight is None else (self.weight * value, self.weight[owner] * likely)


@dataclass(frozen=True, eq=False)
class Part:
    """Paths that one planner answers for."""

    planner: Any
    sources: tuple[Source, ...]
    owners: tuple[Int[np.ndarray, " _"], ...]
    """The path that each entry of each source belongs to."""
    visits: tuple[Source, ...] | None = None
    """The expert's visits to states, where the objective is not concave by itself."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """An objective and its derivatives at one θ."""

    value: float
    gradient: Float[np.ndarray, " features"]
    hessian: Float[np.ndarray, "features features"] | None = None
    scores: Float[np.ndarray, "paths features"] | None = None
    """Gradient of each path's own share."""
    information: Float[np.ndarray, "features features"] | None = None
    """Fisher information of the choices, where minus the Hessian may fail to be positive."""


@dataclass(frozen=True, eq=False)
class Objective:
    """N · reward − Σ source · V, to be made as large as possible."""

    choices: Choices
    counts: Float[np.ndarray, " choices"]
    parts: tuple[Part, ...]
    step_choice: Int[np.ndarray, " steps"]
    step_path: Int[np.ndarray, " steps"]
    step_weight: Float[np.ndarray, " steps"]
    tails: Tails | None
    num_paths: int

    def at_reward(self, reward: Float[np.ndarray, " choices"]) -> tuple[float, Float[np.ndarray, " choices"]]:
        """The objective and its gradient in the reward of every choice (its offset included already)."""
        used = self.counts != 0
        total = float(self.counts[used] @ reward[used])
        slope = self.counts.copy()
        if self.tails is not None:
            value, likely = self.tails.weigh(reward)
            total += float(value.sum())
            np.add.at(slope, self.tails.candidate, likely)
        for part in self.parts:
            answer = part.planner.evaluate(reward, part.sources)
            total -= answer.value
            slope -= answer.flow
        return total, slope

    def evaluate(self, theta: Float[np.ndarray, " features"]) -> Evaluation:
        """Value and gradient."""
        value, slope = self.at_reward(self.choices.reward(theta))
        return Evaluation(value, self.choices.features.pull_back(slope))

    def derive(self, theta: Float[np.ndarray, " features"]) -> Evaluation:
        """Value, gradient, Hessian, and every path's score."""
        reward = self.choices.reward(theta)
        features = self.choices.features.dense()
        used = self.counts != 0
        total = float(self.counts[used] @ reward[used])
        slope = self.counts.copy()
        hessian = np.zeros((features.shape[1],) * 2)
        scores = np.zeros((self.num_paths, features.shape[1]))
        np.add.at(scores, self.step_path, self.step_weight[:, None] * features[self.step_choice])
        if self.tails is not None:
            value, likely = self.tails.weigh(reward)
            total += float(value.sum())
            np.add.at(slope, self.tails.candidate, likely)
            rows = features[self.tails.candidate]
            sums = np.add.reduceat(likely[:, None] * rows, self.tails.first, axis=0)
            means = sums / np.maximum(np.add.reduceat(likely, self.tails.first), 1e-300)[:, None]
            lengths = np.diff(np.append(self.tails.first, len(likely)))
            spread = rows - np.repeat(means, lengths, axis=0)
            hessian += spread.T @ (likely[:, None] * spread)
            np.add.at(scores, self.tails.path, sums)
        information = np.zeros_like(hessian)
        for part in self.parts:
            answer = part.planner.evaluate(reward, part.sources, features, part.visits)
            information += answer.curvature if answer.information is None else answer.information
            total -= answer.value
            slope -= answer.flow
            hessian -= answer.curvature
            for source, owner, tangent in zip(part.sources, part.owners, answer.tangents, strict=True):
                np.add.at(scores, owner, -source.weight[:, None] * tangent)
        gradient = self.choices.features.pull_back(slope)
        silent = np.maximum(np.diag(information), np.abs(np.diag(hessian))) <= self._rounding(features)
        for matrix in (hessian, information):
            matrix[silent] = 0.0
            matrix[:, silent] = 0.0
        gradient[silent & (np.abs(gradient) <= 1e-9 * np.abs(self.counts) @ np.abs(features))] = 0.0
        return Evaluation(total, gradient, hessian, scores, information)

    def _rounding(self, features: Float[np.ndarray, "choices features"]) -> Float[np.ndarray, " features"]:
        """The curvature of a feature that never varies among choices: the rounding of its sums over the future."""
        largest = np.abs(features).max(axis=0, initial=0.0)
        return (SMALLEST_SPREAD * largest) ** 2 * np.abs(self.counts).sum()


@dataclass(frozen=True, eq=False)
class Problem:
    """An inverse problem made ready: choices, the planners, and which paths each answers for."""

    mdp: TabularMDP
    paths: Paths
    method: Method
    choices: Choices
    planners: tuple[Any, ...]
    members: tuple[tuple[Int[np.ndarray, " _"], ...], ...]
    """For every planner, for each of its goals, the paths."""
    step_choice: Int[np.ndarray, " steps"]
    """The choice of every step; −1 where the outcome of a path's last step is not known."""
    following: Int[np.ndarray, " steps"]

    @property
    def discount(self) -> float:
        """The discount of the fit and of the deployed policy alike."""
        return self.mdp.discount

    def likelihood(self) -> Objective:
        """Σ log π(choice | state) over all steps: of actions for mce, of transitions for maxent."""
        paths, choices = self.paths, self.choices
        known = self.step_choice >= 0
        chosen, owner = self.step_choice[known], paths.path_of_step[known]
        weight = np.ones(len(chosen))
        states, weights, times, owners = self._likelihood_sources(known)
        parts = self._split(states, weights, times, owners)
        counts = np.bincount(chosen, weight, choices.num_choices)
        return Objective(choices, counts, parts, chosen, owner, weight, self._tails(known), paths.num_paths)

    def _likelihood_sources(self, known: Bool[np.ndarray, " steps"]):
        paths, choices = self.paths, self.choices
        owner, time = paths.path_of_step, paths.time
        if choices.is_deterministic and self.discount == 1:
            # V at the first state minus V where the path ends: what lies between cancels.
            first, last = paths.first, paths.first + paths.lengths - 1
            ends = known[last]
            states = np.concatenate([paths.states[first], choices.outcome[self.step_choice[last[ends]]]])
            weights = np.concatenate([np.ones(paths.num_paths), -np.ones(int(ends.sum()))])
            times = np.concatenate([np.zeros(paths.num_paths, np.int64), paths.lengths[ends]])
            owners = np.concatenate([np.arange(paths.num_paths), np.arange(paths.num_paths)[ends]])
            return states, weights, times, owners
        rows = choices.matrix[self.step_choice].tocoo()
        states = np.concatenate([paths.states, rows.col])
        weights = np.concatenate([np.ones(len(paths.states)), -self.discount * rows.data])
        times = np.concatenate([time, time[rows.row] + 1])
        owners = np.concatenate([owner, owner[rows.row]])
        return states, weights, times, owners

    def _split(self, states, weights, times, owners) -> tuple[Part, ...]:
        place = np.zeros((self.paths.num_paths, 2), np.int64)
        for i, goals in enumerate(self.members):
            for j, members in enumerate(goals):
                place[members] = (i, j)
        order = np.lexsort((place[owners, 1], place[owners, 0]))
        keys = place[owners[order]] @ np.array([self.paths.num_paths, 1])
        # Paths of certain outcome and no discount have a concave likelihood; others need the visits.
        by_path = None if self.choices.is_deterministic and self.discount == 1 else self.paths
        parts = []
        for i, goals in enumerate(self.members):
            sources, whose, visits = [], [], []
            for j in range(len(goals)):
                key = i * self.paths.num_paths + j
                rows = order[np.searchsorted(keys, key, "left") : np.searchsorted(keys, key, "right")]
                sources.append(Source(states[rows].astype(np.int64), weights[rows], times[rows]))
                whose.append(owners[rows])
                if by_path is not None:
                    steps = np.isin(by_path.path_of_step, goals[j])
                    ones = np.ones(int(steps.sum()))
                    visits.append(Source(by_path.states[steps].astype(np.int64), ones, by_path.time[steps]))
            parts.append(Part(self.planners[i], tuple(sources), tuple(whose), tuple(visits) or None))
        return tuple(parts)

    def _tails(self, known: Bool[np.ndarray, " steps"]) -> Tails | None:
        unknown = np.flatnonzero(~known)
        if not len(unknown):
            return None
        mdp, paths = self.mdp, self.paths
        pair = mdp.pair_index(paths.states[unknown], paths.actions[unknown])
        ends = np.append(mdp.pair_start, mdp.num_transitions)
        ended = _terminal_mask(mdp)
        first, candidates = [], []
        for step, p in zip(unknown, pair, strict=True):
            rows = np.arange(int(ends[p]), int(ends[p + 1]))
            which = paths.path_of_step[step]
            if mdp.horizon is None:
                rows = rows[ended[mdp.next_state[rows]]]
            elif paths.lengths[which] < mdp.horizon:
                raise RequestError(
                    f"{paths.source}: path {which} ends before the horizon in a state that is not recorded; "
                    f"add final_states."
                )
            if not len(rows):
                raise RequestError(f"{paths.source}: path {which} does not end in a terminal state; add final_states.")
            first.append(sum(map(len, candidates)))
            candidates.append(rows)
        return Tails(paths.path_of_step[unknown], np.array(first), np.concatenate(candidates))

    def starts(self) -> tuple[Part, ...]:
        """The initial distribution as sources, of total weight 1: given by the problem, or the first states."""
        paths, initial = self.paths, self.mdp.initial
        parts = []
        for planner, goals in zip(self.planners, self.members, strict=True):
            sources, owners = [], []
            for members in goals:
                share = len(members) / paths.num_paths
                if initial is not None and paths.goals is None:
                    states = np.flatnonzero(initial)
                    sources.append(Source(states, initial[states] * share))
                    owners.append(np.zeros(len(states), np.int64))
                else:
                    sources.append(
                        Source(paths.states[paths.first[members]], np.full(len(members), 1 / paths.num_paths))
                    )
                    owners.append(members)
            parts.append(Part(planner, tuple(sources), tuple(owners)))
        return tuple(parts)

    def expert_frequencies(self, *, discounted: bool = True) -> tuple[np.ndarray, np.ndarray]:
        """Steps' weights γ^t / paths, and their sum by choice."""
        gamma = self.discount if discounted else 1.0
        weight = gamma ** self.paths.time.astype(float) / self.paths.num_paths
        known = self.step_choice >= 0
        return weight, np.bincount(self.step_choice[known], weight[known], self.choices.num_choices)

    def dual(self) -> Objective:
        """θ · f_expert − E V(first state): largest for the policy of most causal entropy that matches f_expert."""
        weight, counts = self.expert_frequencies()
        return Objective(
            self.choices,
            counts,
            self.starts(),
            self.step_choice,
            self.paths.path_of_step,
            weight,
            None,
            self.paths.num_paths,
        )

    def learner_flow(self, reward: Float[np.ndarray, " choices"]) -> Float[np.ndarray, " choices"]:
        """Expected discounted passages through every choice, for one path of the deployed policy."""
        flow = np.zeros(self.choices.num_choices)
        for part in self.starts():
            flow += part.planner.evaluate(reward, part.sources).flow
        return flow

    def expert_features(self, reward: Float[np.ndarray, " choices"]) -> Float[np.ndarray, " features"]:
        """Discounted features of the demonstrations, a path; unknown outcomes count by their probability."""
        _, counts = self.expert_frequencies()
        tails = self._tails(self.step_choice >= 0)
        if tails is not None:
            _, likely = tails.weigh(reward)
            np.add.at(counts, tails.candidate, likely / self.paths.num_paths)
        return self.choices.features.pull_back(counts)


def _terminal_mask(mdp: TabularMDP) -> Bool[np.ndarray, " states"]:
    mask = np.zeros(mdp.num_states, bool)
    if mdp.terminal is not None:
        mask[mdp.terminal] = True
    return mask


def make_problem(mdp: TabularMDP, paths: Paths, method: Method) -> Problem:
    """Check demonstrations against a problem and choose the planner that its horizon and discount call for."""
    if method not in ("maxent", "mce"):
        raise RequestError(f"There is no method {method!r}; choose maxent or mce.")
    if method == "maxent" and mdp.discount < 1:
        raise RequestError(
            f"MaxEnt weighs whole paths, so a discount of {mdp.discount:g} has no meaning "
            f"there; use mce, or a discount of 1."
        )
    pair = check_paths(mdp, paths)
    following = successors(mdp, paths, pair)
    transition = check_successors(mdp, paths, pair, following)
    terminal = _terminal_mask(mdp)
    if mdp.horizon is None and mdp.discount == 1 and paths.goals is None and not terminal.any():
        raise RequestError("A discount of 1 without a horizon needs terminal states, or goals in the demonstrations.")
    _check_endings(mdp, paths, method, following, terminal)
    if method == "mce":
        choices, step_choice = action_choices(mdp), pair
    else:
        choices = transition_choices(mdp)
        step_choice = pair if mdp.is_deterministic else transition
    planners, members = _planners(mdp, paths, choices, terminal)
    problem = Problem(mdp, paths, method, choices, planners, members, step_choice, following)
    _check_possible(problem)
    return problem


def _check_endings(mdp, paths, method, following, terminal) -> None:
    last = np.flatnonzero(paths.is_last)
    ends = following[last]
    if paths.goals is not None:
        wrong = np.flatnonzero((ends >= 0) & (ends != paths.goals))
        if len(wrong):
            raise RequestError(
                f"{paths.source}: path {wrong[0]} ends in state {ends[wrong[0]]}, and its goal is "
                f"{paths.goals[wrong[0]]}; a path with a goal ends there only."
            )
    elif method == "maxent" and mdp.horizon is None:
        wrong = np.flatnonzero((ends >= 0) & ~terminal[np.maximum(ends, 0)])
        if len(wrong):
            raise RequestError(
                f"{paths.source}: path {wrong[0]} ends in state {ends[wrong[0]]}, which is not terminal; without a "
                "horizon, MaxEnt is a distribution over paths that end."
            )


def make_planner(
    mdp: TabularMDP, choices: Choices, goals: Sequence[int] | None, starts: Int[np.ndarray, " some"]
) -> tuple[Any, ...]:
    """The planners of some goals (or of the terminal states): one for all of them, or one each."""
    terminal = _terminal_mask(mdp)

    def mask(goal: int | None) -> np.ndarray:
        if goal is None:
            return terminal
        absorbing = np.zeros(mdp.num_states, bool)
        absorbing[goal] = True
        return absorbing

    each: Sequence[int | None] = [None] if goals is None else goals
    if mdp.horizon is not None:
        return tuple(
            FinitePlanner(choices, mdp.horizon, discount=mdp.discount, absorbing=mask(g), must_end=g is not None)
            for g in each
        )
    if mdp.discount == 1 and choices.is_deterministic:
        ends = [np.flatnonzero(terminal)] if goals is None else [np.array([g]) for g in goals]
        return (GoalPlanner(choices, ends, starts=starts),)
    return tuple(StationaryPlanner(choices, discount=mdp.discount, absorbing=mask(g)) for g in each)


def _planners(mdp, paths, choices, terminal):
    if paths.goals is None:
        goals, groups = None, (np.arange(paths.num_paths),)
    else:
        goals, inverse = np.unique(paths.goals, return_inverse=True)
        order = np.argsort(inverse, kind="stable")
        groups = tuple(np.split(order, np.cumsum(np.bincount(inverse))[:-1]))
        goals = goals.tolist()
    starts = paths.states[paths.first]
    if mdp.initial is not None and paths.goals is None:
        starts = np.concatenate([starts, np.flatnonzero(mdp.initial)])
    planners = make_planner(mdp, choices, goals, np.unique(starts))
    members = (groups,) if len(planners) == 1 else tuple((group,) for group in groups)
    return planners, members


def _check_possible(problem: Problem) -> None:
    """Refuse steps that no policy of this problem takes, because they lead where a path cannot go on or end."""
    paths = problem.paths
    for planner, goals in zip(problem.planners, problem.members, strict=True):
        for j, members in enumerate(goals):
            steps = (
                np.flatnonzero(np.isin(paths.path_of_step, members))
                if len(members) < paths.num_paths
                else np.arange(len(paths.states))
            )
            steps = steps[problem.step_choice[steps] >= 0]
            allowed = planner.allows(problem.step_choice[steps], paths.time[steps], j)
            if not allowed.all():
                step = steps[np.flatnonzero(~allowed)[0]]
                raise RequestError(
                    f"{paths.source}: path {paths.path_of_step[step]} takes action {paths.actions[step]} in state "
                    f"{paths.states[step]} (row {step}), after which the problem may leave no way to go on or to end."
                )
