"""What each path contributes to a likelihood, and likelihoods in which paths weigh differently."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from menura.core import RequestError
from menura.irl.objective import Objective, Problem
from menura.irl.paths import Paths
from menura.irl.planning import GoalPlanner, SoftPlan, Source


@dataclass(frozen=True, eq=False)
class Units:
    """What is taken to follow one reward throughout: individuals where demonstrations name them, else paths."""

    kind: str
    """``individual`` or ``path``."""
    labels: Int[np.ndarray, " units"]
    of_path: Int[np.ndarray, " paths"]
    """The row in ``labels`` of each path's unit."""

    @property
    def number(self) -> int:
        """How many there are."""
        return len(self.labels)

    def sum(self, values: Float[np.ndarray, "paths *more"]) -> Float[np.ndarray, "units *more"]:
        """Sums over the paths of each unit."""
        total = np.zeros((self.number, *values.shape[1:]))
        np.add.at(total, self.of_path, values)
        return total


def units_of(paths: Paths) -> Units:
    """The units of some demonstrations, in rising order of their labels."""
    if paths.individuals is None:
        return Units("path", np.arange(paths.num_paths), np.arange(paths.num_paths))
    labels, of_path = np.unique(paths.individuals, return_inverse=True)
    return Units("individual", labels, of_path)


def split_units(paths: Paths, fraction: float, *, seed: int = 0) -> tuple[Paths, Paths]:
    """Demonstrations to fit and demonstrations to hold out, no individual in both."""
    units = units_of(paths)
    if not 0 < fraction < 1:
        raise RequestError(f"The held-out fraction is {fraction:g}; make it more than 0 and less than 1.")
    if units.number < 2:
        raise RequestError(
            f"{paths.source}: there is one {units.kind} only, of which nothing can be held out; hold out 0."
        )
    size = min(max(1, round(fraction * units.number)), units.number - 1)
    held = np.zeros(units.number, bool)
    held[np.random.default_rng(seed).permutation(units.number)[:size]] = True
    return paths.select(~held[units.of_path]), paths.select(held[units.of_path])


class PathLikelihood:
    """The likelihood of demonstrations, path by path."""

    def __init__(self, problem: Problem):
        self.problem = problem
        self.objective = problem.likelihood()
        owner = problem.paths.path_of_step
        # Whose the visits are, in the order in which the objective lists them.
        self._visitors = tuple(
            tuple(owner[np.isin(owner, group)] for group in goals) if part.visits is not None else None
            for part, goals in zip(self.objective.parts, problem.members, strict=True)
        )

    def each(self, theta: Float[np.ndarray, " features"]) -> Float[np.ndarray, " paths"]:
        """log P(path | θ) of every path; they sum to the objective's value."""
        objective = self.objective
        reward = objective.choices.reward(theta)
        size = objective.num_paths
        total = np.bincount(objective.step_path, objective.step_weight * reward[objective.step_choice], size)
        if objective.tails is not None:
            value, _ = objective.tails.weigh(reward)
            np.add.at(total, objective.tails.path, value)
        for part in objective.parts:
            for goal, plan in _plans(part.planner, reward):
                source, owner = part.sources[goal], part.owners[goal]
                used = source.weight != 0
                state, weight = source.state[used], source.weight[used]
                if plan.value.ndim == 1:
                    value = plan.value[state]
                else:
                    value = plan.value[0 if source.time is None else source.time[used], state]
                total -= np.bincount(owner[used], weight * value, size)
        return total

    def weigh(self, weight: Float[np.ndarray, " paths"]) -> Objective:
        """The objective in which every path counts so many times."""
        objective, tails = self.objective, self.objective.tails
        steps = objective.step_weight * weight[objective.step_path]
        return replace(
            objective,
            counts=np.bincount(objective.step_choice, steps, objective.choices.num_choices),
            parts=tuple(
                replace(
                    part,
                    sources=_weigh_sources(part.sources, part.owners, weight),
                    visits=None
                    if part.visits is None or visitors is None
                    else _weigh_sources(part.visits, visitors, weight),
                )
                for part, visitors in zip(objective.parts, self._visitors, strict=True)
            ),
            step_weight=steps,
            tails=None if tails is None else replace(tails, weight=weight[tails.path]),
        )


def _weigh_sources(sources, owners, weight) -> tuple[Source, ...]:
    return tuple(
        replace(source, weight=source.weight * weight[owner]) for source, owner in zip(sources, owners, strict=True)
    )


def _plans(planner: Any, reward: Float[np.ndarray, " choices"]) -> Iterator[tuple[int, SoftPlan]]:
    """Every goal's number and plan."""
    if isinstance(planner, GoalPlanner):
        yield from planner.plans(reward)
    else:
        yield 0, planner.plan(reward)
