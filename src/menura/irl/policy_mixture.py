"""A mixture of deterministic policies, one of which is drawn for each episode: what it earns, saved and read.

A policy is written as the action of every state, −1 where none is taken, one row a step. Without a horizon its last
row is followed from then on: with a discount there is only that one, and where paths go on until they end, it comes
after as many steps as the longest demonstration has (:mod:`menura.irl.greedy`).
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float, Int

from menura.core import RequestError
from menura.environments.tabular import TabularMDP, read_npz
from menura.irl.folders import replace_folder
from menura.irl.greedy import HardPlanner, hard_planners
from menura.irl.objective import make_problem
from menura.irl.paths import Paths

Projection = Literal["hull", "line"]

MIXTURE_FILE = "mixture.json"
"""The file by which the folder of a mixture is known."""

ARRAYS = ("weights", "policies", "rounds", "thetas", "features", "margins", "expert_features")
"""What ``mixture.npz`` holds of a mixture, in the order of its fields."""


@dataclass(frozen=True, eq=False)
class PolicyMixture:
    """Policies, one of which is drawn for each episode, and what they earn beside the expert."""

    mdp: TabularMDP
    paths: Paths
    projection: Projection
    weights: Float[np.ndarray, " policies"]
    """How likely each is drawn; those of weight 0 are left out."""
    policies: Int[np.ndarray, "policies goals rows states"]
    """The action of every state, −1 where none is taken, one row a step; goals in rising order, or one for all."""
    rounds: Int[np.ndarray, " policies"]
    """The round that found each."""
    thetas: Float[np.ndarray, "rounds features"]
    """The reward of every round, of length 1; 0 in the first, for which every policy is as good."""
    features: Float[np.ndarray, "rounds features"]
    """What the policy of each round earns of every feature."""
    margins: Float[np.ndarray, " rounds"]
    """How far the expert was from the mixture after each round, before the next."""
    expert_features: Float[np.ndarray, " features"]
    """Mean discounted features of a demonstration."""
    lower_bound: float
    """No policy of the kind that is searched, mixed or not, comes nearer to the expert than this."""
    tolerance: float
    """What was asked for, or what rounding allows where that is more."""
    seconds: float

    @property
    def learner_features(self) -> Float[np.ndarray, " features"]:
        """What the mixture earns of every feature."""
        return self.weights @ self.features[self.rounds]

    @property
    def distance(self) -> float:
        """Euclidean distance of the mixture's features from the expert's."""
        return float(np.linalg.norm(self.expert_features - self.learner_features))

    @property
    def converged(self) -> bool:
        """Whether no policy can come nearer by more than the tolerance."""
        return bool(self.distance - self.lower_bound <= self.tolerance)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to know before believing it, one sentence each."""
        if not self.converged:
            return (
                f"The search ended after {len(self.margins)} rounds with the mixture {self.distance:.3g} from the "
                f"expert, where {self.lower_bound:.3g} may be possible; allow more iterations.",
            )
        if self.lower_bound > self.tolerance:
            return (
                f"No policy earns the features of these demonstrations: they are at least {self.lower_bound:.3g} "
                "away from what any can expect, by luck of the draw or because they were cut short.",
            )
        return ()

    def draw(self, rng: np.random.Generator) -> Int[np.ndarray, "goals rows states"]:
        """The policy of one episode."""
        return self.policies[rng.choice(len(self.weights), p=self.weights)]

    def occupancy(self) -> Float[np.ndarray, "goals times pairs"]:
        """Expected discounted passages of an episode through every pair, at every step of a horizon, or altogether."""
        return np.stack(self._occupancies(hard_planners(make_problem(self.mdp, self.paths, "mce"))))

    def single_policy(self) -> Float[np.ndarray, "goals times pairs"]:
        """Probabilities of one policy that has the mixture's occupancy, at every step of a horizon, or always the same.

        π(a|s) = Σ λᵢ ρᵢ(s, a) / Σ λᵢ ρᵢ(s): each policy counts by how often it comes to the state. Where none ever
        comes, each counts by its weight, with the last row that it would follow.
        """
        planners = hard_planners(make_problem(self.mdp, self.paths, "mce"))
        return np.stack(
            [
                self._conditional(planner, goal, flows)
                for goal, (planner, flows) in enumerate(zip(planners, self._occupancies(planners), strict=True))
            ]
        )

    def _occupancies(self, planners: tuple[HardPlanner, ...]) -> list[np.ndarray]:
        totals = []
        for goal, planner in enumerate(planners):
            flows = np.zeros((1 if planner.horizon is None else planner.horizon, self.mdp.num_pairs))
            for weight, policy in zip(self.weights, self.policies, strict=True):
                rows = (planner.chances(self._pairs(row)) for row in policy[goal])
                flows += weight * planner.occupancy(rows)
            totals.append(flows)
        return totals

    def _conditional(self, planner: HardPlanner, goal: int, flows: np.ndarray) -> np.ndarray:
        choices, out = planner.choices, np.empty_like(flows)
        for t, flow in enumerate(flows):
            row = t if planner.horizon is not None else -1
            fallback = sum(
                weight * planner.chances(self._pairs(policy[goal, row]))
                for weight, policy in zip(self.weights, self.policies, strict=True)
            )
            visits = choices.sum_by_state(flow)[choices.state]
            out[t] = np.where(visits > 0, flow / np.where(visits > 0, visits, 1.0), fallback)
        return out

    def _pairs(self, actions: Int[np.ndarray, " states"]) -> Int[np.ndarray, " states"]:
        return self.mdp.pair_index(np.arange(self.mdp.num_states), actions)

    def to_json(self) -> dict[str, Any]:
        """As ``menura irl apprenticeship --json`` prints it."""
        named = lambda values: {n: float(v) for n, v in zip(self.mdp.feature_names, values, strict=True)}  # noqa: E731
        weights = np.zeros(len(self.margins))
        weights[self.rounds] = self.weights
        return {
            "method": "apprenticeship",
            "projection": self.projection,
            "distance": self.distance,
            "lower_bound": self.lower_bound,
            "tolerance": self.tolerance,
            "converged": self.converged,
            "feature_expectations": {"expert": named(self.expert_features), "learner": named(self.learner_features)},
            "rounds": [
                {
                    "margin": float(self.margins[i]),
                    "weight": float(weights[i]),
                    "theta": named(self.thetas[i]),
                    "features": named(self.features[i]),
                }
                for i in range(len(self.margins))
            ],
            "iterations": len(self.margins),
            "num_policies": len(self.weights),
            "num_states": self.mdp.num_states,
            "num_transitions": self.mdp.num_transitions,
            "num_paths": self.paths.num_paths,
            "num_steps": len(self.paths.states),
            "seconds": self.seconds,
            "warnings": list(self.warnings),
        }

    def save(self, folder: str | Path) -> None:
        """Write the mixture, its problem and its demonstrations into a folder that appears whole, or not at all."""
        with replace_folder(folder, MIXTURE_FILE) as place:
            (place / MIXTURE_FILE).write_text(json.dumps(self.to_json(), indent=2) + "\n", encoding="utf-8")
            arrays = {name: getattr(self, name) for name in ARRAYS}
            np.savez_compressed(place / "mixture.npz", single_policy=self.single_policy(), **arrays)
            self.mdp.save(place / "mdp.npz")
            self.paths.save(place / "demos.npz")

    @classmethod
    def load(cls, folder: str | Path) -> "PolicyMixture":
        """What :meth:`save` wrote."""
        folder = Path(folder)
        try:
            said = json.loads((folder / MIXTURE_FILE).read_text(encoding="utf-8"))
            numbers = {name: float(said[name]) for name in ("lower_bound", "tolerance", "seconds")}
            projection = said["projection"]
        except (FileNotFoundError, NotADirectoryError) as error:
            raise RequestError(
                f"{folder} holds no mixture; `menura irl apprenticeship … --out {folder}` writes one."
            ) from error
        except (ValueError, KeyError, TypeError, OSError, RecursionError) as error:
            raise RequestError(f"{folder / MIXTURE_FILE} cannot be read; fit the mixture again.") from error
        arrays = read_npz(folder / "mixture.npz")
        mdp, paths = TabularMDP.load(folder / "mdp.npz"), Paths.load(folder / "demos.npz")
        fault = _fault(arrays, mdp, paths)
        if projection not in get_args(Projection) or not np.isfinite(list(numbers.values())).all():
            fault = f"{MIXTURE_FILE} names no projection, or holds what is not a number"
        if fault:
            raise RequestError(f"The mixture in {folder} is damaged: {fault}; fit it again.")
        values: dict[str, Any] = {**{name: arrays[name] for name in ARRAYS}, **numbers}
        return cls(mdp=mdp, paths=paths, projection=projection, **values)


def _fault(arrays: dict[str, np.ndarray], mdp: TabularMDP, paths: Paths) -> str | None:
    """What is wrong with the arrays of a saved mixture, or between them and its problem."""
    missing = [name for name in ARRAYS if name not in arrays]
    if missing:
        return f"mixture.npz has no {missing[0]}"
    count, num_rounds = arrays["weights"].size, arrays["margins"].size
    goals = 1 if paths.goals is None else len(np.unique(paths.goals))
    rows = mdp.horizon or (1 if mdp.discount < 1 else int(paths.lengths.max()) + 1)
    shapes = {
        "weights": (count,),
        "policies": (count, goals, rows, mdp.num_states),
        "rounds": (count,),
        "thetas": (num_rounds, mdp.num_features),
        "features": (num_rounds, mdp.num_features),
        "margins": (num_rounds,),
        "expert_features": (mdp.num_features,),
    }
    for name, shape in shapes.items():
        kind = "i" if name in ("policies", "rounds") else "f"
        if arrays[name].shape != shape or arrays[name].dtype.kind != kind or not np.isfinite(arrays[name]).all():
            return f"{name} must be {shape} finite numbers"
    weights, rounds = arrays["weights"], arrays["rounds"]
    if not count or (weights < 0).any() or abs(weights.sum() - 1) > 1e-9:
        return "the weights are not probabilities"
    if (rounds < 0).any() or (rounds >= num_rounds).any():
        return "rounds names a round that is not there"
    taken = arrays["policies"].reshape(-1, mdp.num_states)
    states = np.arange(mdp.num_states)
    if any(((row != -1) & (mdp.pair_index(states, row) < 0)).any() for row in taken):
        return "a policy takes an action that its state does not offer"
    return None
