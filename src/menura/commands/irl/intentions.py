"""``menura irl intentions``: demonstrations of several intentions, separated by a mixture of rewards."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from menura.commands.arguments import print_json
from menura.commands.irl.bar import progress_bar
from menura.commands.irl.fit import parse_prior
from menura.core import RequestError

UP_TO = 4
"""So many intentions are tried where nothing is said."""


@dataclass(frozen=True)
class IntentionsArguments:
    """Separate demonstrations of several intentions by a mixture of rewards (Babeş-Vroman et al. 2011)."""

    mdp: Path
    """The problem: mdp.npz."""
    demos: Path
    """The demonstrations: demos.npz, or a CSV panel. Where they name individuals, each has one intention throughout."""
    number: int | None = None
    """How many intentions."""
    up_to: int | None = None
    """Choose the number, 1 to this, by cross-validated likelihood; 4 where neither option is given."""
    folds: int = 5
    """Parts into which individuals or paths are divided to choose the number."""
    method: Literal["mce", "maxent"] = "mce"
    """What each intention is: a policy over actions, or a distribution over whole paths."""
    prior: str | None = None
    """A penalty on every θ: l2=0.1, or l1=0.5, or both separated by a comma."""
    restarts: int = 5
    """First clusters that are tried."""
    seed: int = 0
    """Of these clusters and of the folds."""
    out: Path | None = None
    """Save the mixture in this folder, each intention as an estimate."""
    json: bool = False
    """Print one JSON object and nothing else."""


def intentions(arguments: IntentionsArguments) -> None:
    """Choose the number if it is not given, fit, save, print."""
    if arguments.number is not None and arguments.up_to is not None:
        raise RequestError("Give --number or --up-to, not both.")
    prior = parse_prior(arguments.prior)
    from menura.environments.tabular import TabularMDP
    from menura.irl import Paths
    from menura.irl.folders import check_folder
    from menura.irl.intentions import choose_number, fit_intentions
    from menura.irl.mixture import INTENTIONS_FILE

    if arguments.out is not None:
        check_folder(arguments.out, INTENTIONS_FILE)
    mdp, demos = TabularMDP.load(arguments.mdp), Paths.load(arguments.demos)
    settings: Any = {
        "method": arguments.method, "prior": prior, "restarts": arguments.restarts, "seed": arguments.seed,
    }  # fmt: skip
    number, choice = arguments.number, None
    if number is None:
        up_to = UP_TO if arguments.up_to is None else arguments.up_to
        with progress_bar("choosing the number") as watch:
            choice = choose_number(mdp, demos, up_to, folds=arguments.folds, watch=watch, **settings)
        number = choice.number
    with progress_bar(f"fitting {number}") as watch:
        found = fit_intentions(mdp, demos, number, watch=watch, **settings)
    for sentence in found.warnings:
        print(f"menura: warning: {sentence}", file=sys.stderr)
    chosen = {}
    if choice is not None:
        totals = {str(k): float(total) for k, total in enumerate(choice.totals, 1)}
        chosen = {"choice": {"folds": choice.folds, "heldout_log_likelihood": totals}}
    if arguments.out is not None:
        try:
            found.save(arguments.out, mdp, demos, more=chosen)
        except OSError as error:
            raise RequestError(f"--out {arguments.out} cannot be written: {error}.") from error
    if arguments.json:
        print_json({**found.to_json(), **chosen})
    else:
        print(_table(found, choice))


def _table(found: Any, choice: Any) -> str:
    """Every intention's share and θ, for people."""
    width = max(12, *(len(name) for name in found.names))
    lines = []
    if choice is not None:
        lines.append(f"{'intentions':{width}} {'held-out log-likelihood':>24}")
        for number, total in enumerate(choice.totals, 1):
            lines.append(f"{number:<{width}} {total:24.4f}{'  chosen' if number == choice.number else ''}")
        lines.append("")
    for k in range(found.number):
        lines.append(
            f"intention {k + 1}: {100 * found.weights[k]:.1f} % (± {100 * found.weight_errors[k]:.1f}) "
            f"of {found.units.number} {found.units.kind}s"
        )
        lines.append(
            f"{'feature':{width}} {'theta':>12} {'std. error':>12} {'robust':>12} {'expert':>12} {'learner':>12}"
        )
        rows = zip(
            found.names,
            found.theta[k],
            found.standard_errors[k],
            found.robust_errors[k],
            found.expert_features[k],
            found.learner_features[k],
            strict=True,
        )
        lines += [f"{name:{width}} " + " ".join(f"{value:12.5g}" for value in values) for name, *values in rows]
    lines.append(
        f"log-likelihood {found.log_likelihood:.6f}, gradient norm {found.gradient_norm:.3g}, "
        f"{found.num_paths} paths of {found.num_steps} steps"
    )
    sure = (found.responsibilities.max(axis=1) > 0.9).mean()
    lines.append(f"{100 * sure:.0f} % of {found.units.kind}s follow one intention with probability above 0.9")
    if not found.converged:
        lines.append("The search did not converge; fewer intentions, or a prior such as --prior l2=0.01, may help.")
    lines.append(f"{len(found.history)} iterations, {found.evaluations} evaluations, {found.seconds:.2f} s")
    return "\n".join(lines)
