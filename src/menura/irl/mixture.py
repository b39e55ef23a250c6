"""What a mixture of intentions is: rewards, shares, and how sure both are."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from menura.core import RequestError
from menura.environments.tabular import TabularMDP, read_npz
from menura.irl.by_path import PathLikelihood, Units
from menura.irl.errors import inverse_curvature, sandwich
from menura.irl.estimate import evaluate_at
from menura.irl.folders import replace_folder
from menura.irl.objective import Method
from menura.irl.optimize import NEWTON_FEATURES, Prior
from menura.irl.paths import Paths
from menura.irl.separation import describe_runaway, runaway_weights

INTENTIONS_FILE = "intentions.json"
"""The file by which the folder of a mixture is known."""


@dataclass(frozen=True, eq=False)
class Intentions:
    """A mixture of rewards θ_k·features, in falling order of their weights."""

    method: Method
    names: tuple[str, ...]
    theta: Float[np.ndarray, "intentions features"]
    weights: Float[np.ndarray, " intentions"]
    """Share of the units that follow each."""
    responsibilities: Float[np.ndarray, "units intentions"]
    """How likely each unit is to follow each."""
    units: Units
    """The individuals, or the paths where demonstrations do not name any."""
    log_likelihood: float
    """Of the mixture: Σ log Σ_k w_k P(unit | θ_k), without the prior."""
    heldout_log_likelihood: float | None
    """The same of demonstrations that were held out."""
    gradient_norm: float
    """Euclidean norm of the log-likelihood's gradient in all θ_k."""
    standard_errors: Float[np.ndarray, "intentions features"]
    """From the mixture's own Hessian: that a unit's intention is not known makes them larger."""
    robust_errors: Float[np.ndarray, "intentions features"]
    """Sandwich of that and each unit's score."""
    weight_errors: Float[np.ndarray, " intentions"]
    covariance: Float[np.ndarray, "parameters parameters"]
    """Of θ_1, θ_2, …, and then of log w_k / w_K for all but the last."""
    expert_features: Float[np.ndarray, "intentions features"]
    """Mean discounted features of the demonstrations, each counted by its responsibility."""
    learner_features: Float[np.ndarray, "intentions features"]
    """The same of a path of each deployed policy, expected, from first states so counted."""
    history: Float[np.ndarray, " iterations"]
    """Log-likelihood and prior at each iteration of the start that was followed: it never falls."""
    num_states: int
    num_transitions: int
    num_paths: int
    num_steps: int
    evaluations: int
    converged: bool
    restarts: int
    seed: int
    seconds: float
    warnings: tuple[str, ...] = ()
    """What to know before believing it, one sentence each."""

    @property
    def number(self) -> int:
        """How many intentions there are."""
        return len(self.weights)

    @property
    def assignments(self) -> Int[np.ndarray, " paths"]:
        """The likeliest intention of every path's unit."""
        return self.responsibilities.argmax(axis=1)[self.units.of_path]

    def to_json(self) -> dict[str, Any]:
        """As ``menura irl intentions --json`` prints it; ``None`` stands for what is not a number."""
        named = lambda values: dict(zip(self.names, map(_number, values), strict=True))  # noqa: E731
        each = [
            {
                "weight": float(self.weights[k]),
                "weight_standard_error": _number(self.weight_errors[k]),
                "theta": named(self.theta[k]),
                "standard_errors": named(self.standard_errors[k]),
                "robust_standard_errors": named(self.robust_errors[k]),
                "feature_expectations": {
                    "expert": named(self.expert_features[k]),
                    "learner": named(self.learner_features[k]),
                },
            }
            for k in range(self.number)
        ]
        heldout = self.heldout_log_likelihood
        return {
            "method": self.method,
            "number": self.number,
            "intentions": each,
            "log_likelihood": _number(self.log_likelihood),
            "heldout_log_likelihood": None if heldout is None else _number(heldout),
            "gradient_norm": _number(self.gradient_norm),
            "unit": self.units.kind,
            "units": self.units.labels.tolist(),
            "responsibilities": self.responsibilities.tolist(),
            "num_states": self.num_states,
            "num_transitions": self.num_transitions,
            "num_paths": self.num_paths,
            "num_steps": self.num_steps,
            "iterations": len(self.history),
            "evaluations": self.evaluations,
            "converged": self.converged,
            "restarts": self.restarts,
            "seed": self.seed,
            "seconds": self.seconds,
            "warnings": list(self.warnings),
        }

    def save(self, folder: str | Path, mdp: TabularMDP, demos: Paths, *, more: dict[str, Any] | None = None) -> None:
        """Write the mixture, its problem and demonstrations, and each intention as an estimate of its own.

        ``estimates/1``, ``estimates/2``, … are what :func:`menura.irl.estimate.load_estimate` reads. Everything is
        written to a folder beside, which then takes the place of an earlier one as a whole.
        """
        with replace_folder(folder, INTENTIONS_FILE) as place:
            said = {**self.to_json(), **(more or {})}
            (place / INTENTIONS_FILE).write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
            np.savez(
                place / "intentions.npz",
                theta=self.theta,
                weights=self.weights,
                responsibilities=self.responsibilities,
                covariance=self.covariance,
                standard_errors=self.standard_errors,
                robust_errors=self.robust_errors,
                history=self.history,
            )
            mdp.save(place / "mdp.npz")
            demos.save(place / "demos.npz")
            for k in range(self.number):
                size = len(self.names)
                block = slice(k * size, (k + 1) * size)
                estimate = replace(
                    evaluate_at(mdp, demos, self.theta[k], method=self.method),
                    standard_errors=self.standard_errors[k],
                    robust_errors=self.robust_errors[k],
                    covariance=self.covariance[block, block],
                    expert_features=self.expert_features[k],
                    learner_features=self.learner_features[k],
                )
                estimate.save(place / "estimates" / str(k + 1), mdp, demos)


def load_intentions(folder: str | Path) -> tuple[dict[str, Any], dict[str, np.ndarray], TabularMDP, Paths]:
    """What :meth:`Intentions.save` wrote: the JSON, the arrays in full precision, the problem, the demonstrations."""
    folder = Path(folder)
    try:
        said = json.loads((folder / INTENTIONS_FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RequestError(
            f"{folder} holds no intentions; `menura irl intentions … --out {folder}` writes some."
        ) from error
    except (ValueError, OSError) as error:
        raise RequestError(f"The intentions in {folder} cannot be read; fit them again.") from error
    arrays = read_npz(folder / "intentions.npz")
    return said, arrays, TabularMDP.load(folder / "mdp.npz"), Paths.load(folder / "demos.npz")


def mixture_errors(
    likelihoods: list[PathLikelihood],
    units: Units,
    theta: Float[np.ndarray, "intentions features"],
    weights: Float[np.ndarray, " intentions"],
    responsibilities: Float[np.ndarray, "units intentions"],
    prior: Prior,
) -> dict[str, Any]:
    """Gradient, errors and feature expectations at the end of a fit, as :class:`Intentions` names them."""
    number, size = theta.shape
    features = [
        _features(one, row, share[units.of_path])
        for one, row, share in zip(likelihoods, theta, responsibilities.T, strict=True)
    ]
    few = size <= NEWTON_FEATURES
    if few:
        score, hessian = mixture_derivatives(likelihoods, units, theta, weights, responsibilities)
        ridge = np.zeros(len(hessian))
        ridge[: number * size] = prior.l2
        covariance = inverse_curvature(np.diag(ridge) - hessian)
        robust = sandwich(covariance, score)
        gradient = score.sum(axis=0)[: number * size]
    else:
        covariance = robust = np.full((number * (size + 1) - 1,) * 2, np.nan)
        weighted = zip(likelihoods, theta, responsibilities.T, strict=True)
        gradient = np.concatenate([one.weigh(s[units.of_path]).evaluate(row).gradient for one, row, s in weighted])
    # w = softmax of the log ratios: their Jacobian carries the errors over.
    jacobian = (np.diag(weights) - np.outer(weights, weights))[:, :-1]
    ratios = covariance[number * size :, number * size :]
    root = lambda matrix: np.sqrt(np.maximum(np.diag(matrix)[: number * size], 0.0)).reshape(number, size)  # noqa: E731
    return {
        "gradient_norm": float(np.linalg.norm(gradient)),
        "standard_errors": root(covariance),
        "robust_errors": root(robust),
        "weight_errors": np.sqrt(np.maximum(np.diag(jacobian @ ratios @ jacobian.T), 0.0)),
        "covariance": covariance,
        "expert_features": np.stack([expert for expert, _ in features]),
        "learner_features": np.stack([learner for _, learner in features]),
        "warnings": tuple(_warnings(likelihoods, units, theta, responsibilities, covariance, prior)) if few else (),
    }


def _warnings(likelihoods, units, theta, responsibilities, covariance, prior) -> Iterator[str]:
    """A sentence for every intention in which weights run away."""
    size = theta.shape[1]
    for k, (one, row, share) in enumerate(zip(likelihoods, theta, responsibilities.T, strict=True)):
        block = slice(k * size, (k + 1) * size)
        objective, features = one.weigh(share[units.of_path]), one.problem.choices.features
        away = runaway_weights(objective, features, row, covariance[block, block], prior=prior, scale=1.0)
        if away:
            yield f"Intention {k + 1}: {describe_runaway(one.problem.mdp.feature_names, row, away)}"


def mixture_derivatives(
    likelihoods: list[PathLikelihood],
    units: Units,
    theta: Float[np.ndarray, "intentions features"],
    weights: Float[np.ndarray, " intentions"],
    responsibilities: Float[np.ndarray, "units intentions"],
) -> tuple[Float[np.ndarray, "units parameters"], Float[np.ndarray, "parameters parameters"]]:
    """Every unit's score and the Hessian of Σ log Σ_k w_k P(unit | θ_k), in θ_1, θ_2, … and log w_k / w_K (Louis 1982).

    With g_k the gradient of log w_k P(unit | θ_k), the score is Σ r_k g_k, and its derivative
    Σ r_k (∇g_k + g_k g_kᵀ) − (Σ r_k g_k)(Σ r_k g_k)ᵀ.
    """
    number, size = theta.shape
    total = number * (size + 1) - 1
    last = slice(number * size, total)
    hessian = np.zeros((total, total))
    scores = np.zeros((units.number, total))
    spread = (np.diag(weights) - np.outer(weights, weights))[:-1, :-1]
    hessian[last, last] -= units.number * spread
    for k, (one, row, share) in enumerate(zip(likelihoods, theta, responsibilities.T, strict=True)):
        here = one.objective.derive(row)
        weighted = one.weigh(share[units.of_path]).derive(row)
        assert here.scores is not None
        assert weighted.hessian is not None
        block = slice(k * size, (k + 1) * size)
        own = np.zeros((units.number, total))
        own[:, block] = units.sum(here.scores)
        own[:, last] = (np.arange(number) == k)[:-1] - weights[:-1]
        hessian[block, block] += weighted.hessian
        hessian += own.T @ (share[:, None] * own)
        scores += share[:, None] * own
    return scores, hessian - scores.T @ scores


def _features(
    likelihood: PathLikelihood, theta: Float[np.ndarray, " features"], share: Float[np.ndarray, " paths"]
) -> tuple[np.ndarray, np.ndarray]:
    """Mean discounted features of the demonstrations, and of the deployed policy, with paths so weighted."""
    problem, objective = likelihood.problem, likelihood.weigh(share)
    reward = problem.choices.reward(theta)
    total = max(float(share.sum()), 1e-300)
    steps, _ = problem.expert_frequencies()
    known = problem.step_choice >= 0
    weight = steps * problem.paths.num_paths * share[problem.paths.path_of_step] / total
    counts = np.bincount(problem.step_choice[known], weight[known], problem.choices.num_choices)
    if objective.tails is not None:
        _, likely = objective.tails.weigh(reward)
        np.add.at(counts, objective.tails.candidate, likely / total)
    flow = np.zeros(problem.choices.num_choices)
    given = problem.mdp.initial is not None and problem.paths.goals is None
    for part in problem.starts():
        sources = part.sources
        if not given:
            sources = tuple(
                replace(source, weight=share[owner] / total)
                for source, owner in zip(part.sources, part.owners, strict=True)
            )
        flow += part.planner.evaluate(reward, sources).flow
    pull = problem.choices.features.pull_back
    return pull(counts), pull(flow)


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
