"""``menura irl apprenticeship``: a mixture of policies that earns what the demonstrations earn."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from menura.commands.arguments import print_json
from menura.core import RequestError


@dataclass(frozen=True)
class ApprenticeshipArguments:
    """Find a mixture of policies that earns the demonstrations' features (Abbeel & Ng 2004)."""

    mdp: Path
    """The problem: mdp.npz."""
    demos: Path
    """The demonstrations: demos.npz, or a CSV panel."""
    projection: Literal["hull", "line"] = "hull"
    """Each round starts from the nearest mixture of all policies so far, or, as printed in 2004, from the nearest point
    on the way from the last mixture to the last policy."""
    tolerance: float = 1e-6
    """End when no policy is nearer to the demonstrations' features by more than this."""
    max_iterations: int = 1000
    """End after so many rounds."""
    out: Path | None = None
    """Save the mixture in this folder."""
    json: bool = False
    """Print one JSON object and nothing else."""


def apprenticeship(arguments: ApprenticeshipArguments) -> None:
    """Find a mixture and print what it earns."""
    if not 0 <= arguments.tolerance < float("inf"):
        raise RequestError(f"--tolerance is {arguments.tolerance}; make it 0 or more.")
    if arguments.max_iterations < 1:
        raise RequestError(f"--max-iterations is {arguments.max_iterations}; make it 1 or more.")
    from menura.irl.folders import check_folder
    from menura.irl.policy_mixture import MIXTURE_FILE

    if arguments.out is not None:
        check_folder(arguments.out, MIXTURE_FILE)
    try:
        mixture = _fit(arguments)
    except MemoryError as error:
        raise RequestError(f"This problem does not fit into memory ({error}); make it smaller.") from error
    for sentence in mixture.warnings:
        print(f"menura: warning: {sentence}", file=sys.stderr)
    if arguments.json:
        print_json(mixture.to_json())
    else:
        print(table_of(mixture))


def _fit(arguments: ApprenticeshipArguments) -> Any:
    from menura.environments.tabular import TabularMDP
    from menura.irl.apprenticeship import fit_mixture
    from menura.irl.paths import Paths

    mixture = fit_mixture(
        TabularMDP.load(arguments.mdp),
        Paths.load(arguments.demos),
        projection=arguments.projection,
        tolerance=arguments.tolerance,
        max_iterations=arguments.max_iterations,
    )
    if arguments.out is not None:
        try:
            mixture.save(arguments.out)
        except OSError as error:
            raise RequestError(f"--out {arguments.out} cannot be written: {error.strerror or error}.") from error
    return mixture


def table_of(mixture: Any) -> str:
    """What the expert and the mixture earn, and the policies that are mixed, for people."""
    names = mixture.mdp.feature_names
    width = max(12, *map(len, names))
    lines = [f"{'feature':{width}} {'expert':>12} {'learner':>12} {'difference':>12}"]
    for name, expert, learner in zip(names, mixture.expert_features, mixture.learner_features, strict=True):
        lines.append(f"{name:{width}} {expert:12.5g} {learner:12.5g} {learner - expert:12.3g}")
    lines.append(
        f"distance {mixture.distance:.3g}, and no policy is nearer than {mixture.lower_bound:.3g}; "
        f"{mixture.paths.num_paths} paths of {len(mixture.paths.states)} steps"
    )
    for number, weight in sorted(zip(mixture.rounds, mixture.weights, strict=True), key=lambda pair: -pair[1]):
        lines.append(f"with chance {weight:.4f}, the policy of round {number}")
    lines.append(f"{len(mixture.margins)} rounds, {mixture.seconds:.2f} s")
    return "\n".join(lines)
