"""``menura irl maxent|mce``: rewards from demonstrations on a table of states and actions."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from menura.commands.arguments import print_json
from menura.core import RequestError


@dataclass(frozen=True)
class MaxEntArguments:
    """Fit a distribution over whole paths, P(path) ∝ exp(θ·features) (Ziebart et al. 2008)."""

    mdp: Path
    """The problem: mdp.npz."""
    demos: Path
    """The demonstrations: demos.npz, or a CSV panel."""
    at: str | None = None
    """Evaluate at this θ, numbers separated by commas, and fit nothing."""
    start: str | None = None
    """Where the fit begins; by default it finds a start of its own."""
    prior: str | None = None
    """A penalty on θ: l2=0.1, or l1=0.5, or both separated by a comma."""
    forward_pass: Literal["tilted", "printed"] = "tilted"
    """The exact visit counts, or those of the algorithm as printed in 2008, approximate for random outcomes."""
    link_size: str | None = None
    """Correct for overlapping routes, by the flows of this reference θ, or of the fit without it: fit."""
    links: Literal["actions", "states"] = "actions"
    """What a link is: an action, or the state that it leads to."""
    out: Path | None = None
    """Save the estimate in this folder."""
    json: bool = False
    """Print one JSON object and nothing else."""


@dataclass(frozen=True)
class MCEArguments:
    """Fit a policy of maximum causal entropy (Ziebart 2010), with a horizon or a discount."""

    demos: Path
    """The demonstrations: demos.npz, or a CSV panel; with --env, any format that `menura demos show` reads."""
    mdp: Path | None = None
    """The problem: mdp.npz. Or give --env and --bins."""
    env: str | None = None
    """Instead of --mdp: a JAX environment that observes its state, cut into cells."""
    bins: str | None = None
    """Cells along each observed number, such as 40,40."""
    blocks: str | None = None
    """The reward is constant on so many blocks along each observed number; by default a quarter of the bins."""
    discount: float = 0.99
    """Discount of a problem made with --env."""
    at: str | None = None
    """Evaluate at this θ, numbers separated by commas, and fit nothing."""
    start: str | None = None
    """Where the fit begins; by default it finds a start of its own."""
    prior: str | None = None
    """A penalty on θ: l2=0.1, or l1=0.5, or both separated by a comma."""
    match: Literal["likelihood", "features"] = "likelihood"
    """Maximize the likelihood of the actions, or match the demonstrations' discounted features."""
    link_size: str | None = None
    """Correct for overlapping routes, by the flows of this reference θ, or of the fit without it: fit."""
    links: Literal["actions", "states"] = "actions"
    """What a link is: an action, or the state that it leads to."""
    out: Path | None = None
    """Save the estimate in this folder."""
    json: bool = False
    """Print one JSON object and nothing else."""


def maxent(arguments: MaxEntArguments) -> None:
    """Fit or evaluate MaxEnt."""
    _run(arguments, method="maxent", match="likelihood", forward_pass=arguments.forward_pass)


def mce(arguments: MCEArguments) -> None:
    """Fit or evaluate maximum causal entropy."""
    _run(arguments, method="mce", match=arguments.match, forward_pass="tilted")


def _run(arguments: MaxEntArguments | MCEArguments, **settings: Any) -> None:
    if arguments.at is not None and arguments.start is not None:
        raise RequestError("--at fits nothing, so leave out --start.")
    at, start = parse_theta(arguments.at, "--at"), parse_theta(arguments.start, "--start")
    prior = parse_prior(arguments.prior)
    if arguments.out is not None:
        from menura.irl.estimate import ESTIMATE_FILE
        from menura.irl.folders import check_folder

        check_folder(arguments.out, ESTIMATE_FILE)
    try:
        estimate = _estimate(arguments, at, start, prior, settings)
    except MemoryError as error:
        raise RequestError(f"This problem does not fit into memory ({error}); make it smaller.") from error
    for sentence in estimate.warnings:
        print(f"menura: warning: {sentence}", file=sys.stderr)
    if arguments.json:
        print_json(estimate.to_json())
    else:
        print(table_of(estimate))


def _estimate(
    arguments: MaxEntArguments | MCEArguments, at: Any, start: Any, prior: Any, settings: dict[str, Any]
) -> Any:
    from menura.environments.tabular import TabularMDP
    from menura.irl import Paths, evaluate_at, fit

    if isinstance(arguments, MCEArguments) and arguments.env is not None:
        mdp, demos = _discretize(arguments)
    elif arguments.mdp is None:
        raise RequestError("Give the problem with --mdp, or cut an environment into cells with --env and --bins.")
    else:
        mdp, demos = TabularMDP.load(arguments.mdp), Paths.load(arguments.demos)
    if arguments.link_size is not None:
        estimate, mdp = _with_link_size(arguments, mdp, demos, at, start, prior, settings)
    elif at is not None:
        estimate = evaluate_at(mdp, demos, at, prior=prior, **settings)
    else:
        estimate = fit(mdp, demos, start=start, prior=prior, **settings)
    if arguments.out is not None:
        try:
            estimate.save(arguments.out, mdp, demos)
        except OSError as error:
            raise RequestError(f"--out {arguments.out} cannot be written: {error}.") from error
    return estimate


def _with_link_size(
    arguments: MaxEntArguments | MCEArguments, mdp: Any, demos: Any, at: Any, start: Any, prior: Any, settings: Any
) -> tuple[Any, Any]:
    from menura.irl.link_size import fit_link_size

    if settings["match"] != "likelihood" or settings["forward_pass"] != "tilted":
        raise RequestError("--link-size goes with maximum likelihood; leave out --match features and --forward-pass.")
    given = arguments.link_size
    reference = None if given == "fit" else parse_theta(given, "--link-size")
    return fit_link_size(
        mdp,
        demos,
        reference,
        at=at,
        start=start,
        links=arguments.links,
        method=settings["method"],
        prior=prior,
    )


def _discretize(arguments: MCEArguments) -> tuple[Any, Any]:
    from menura.demonstrations import load
    from menura.environments import make
    from menura.irl.discretize import grid_mdp, grid_of, grid_paths

    if arguments.mdp is not None:
        raise RequestError("Give --mdp or --env, not both.")
    bins, blocks = _whole_numbers(arguments.bins, "--bins"), _whole_numbers(arguments.blocks, "--blocks")
    if bins is None:
        raise RequestError("--env needs --bins, such as --bins 40,40.")
    if blocks is not None and len(blocks) != len(bins):
        raise RequestError("--blocks needs as many numbers as --bins.")
    grid = grid_of(str(arguments.env), bins)
    paths = grid_paths(grid, load(str(arguments.demos)).episodes)
    env: Any = make(str(arguments.env), num_envs=1, backend="jax")
    return grid_mdp(env.env, grid, paths, coarse=blocks, discount=arguments.discount), paths


def _whole_numbers(text: str | None, option: str) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise RequestError(f"{option} {text} must be whole numbers separated by commas.") from error


def parse_prior(text: str | None) -> Any:
    """``l2=0.1,l1=0.5`` as a prior."""
    from menura.irl.optimize import Prior

    values: dict[str, float] = {}
    for part in [] if text is None else text.split(","):
        name, _, number = part.strip().replace(":", "=").partition("=")
        try:
            values[name] = float(number)
        except ValueError:
            values["?"] = 0.0
        if name not in ("l1", "l2") or "?" in values:
            raise RequestError(
                f"--prior {text} is not understood; give l2=0.1, or l1=0.5, or both separated by a comma."
            )
    return Prior(**values)


def parse_theta(text: str | None, option: str) -> Any:
    """Weights separated by commas, as an array."""
    import numpy as np

    if text is None:
        return None
    try:
        theta = np.array([float(part) for part in text.replace(" ", "").split(",")])
    except ValueError as error:
        raise RequestError(f"{option} {text} must be numbers separated by commas, one a feature.") from error
    if not np.isfinite(theta).all():
        raise RequestError(f"{option} {text} must be finite numbers.")
    return theta


def table_of(estimate: Any) -> str:
    """θ with its errors, and what the fit makes of the demonstrations, for people."""
    width = max(12, *(len(name) for name in estimate.names))
    lines = [f"{'feature':{width}} {'theta':>12} {'std. error':>12} {'robust':>12} {'expert':>12} {'learner':>12}"]
    rows = zip(
        estimate.names,
        estimate.theta,
        estimate.standard_errors,
        estimate.robust_errors,
        estimate.expert_features,
        estimate.learner_features,
        strict=True,
    )
    lines += [f"{name:{width}} " + " ".join(f"{value:12.5g}" for value in values) for name, *values in rows]
    lines.append(
        f"log-likelihood {estimate.log_likelihood:.6f}, gradient norm {estimate.gradient_norm:.3g}, "
        f"{estimate.num_paths} paths of {estimate.num_steps} steps"
    )
    if estimate.match == "features":
        lines.append(f"duality gap {estimate.duality_gap:.3g}")
    if not estimate.converged:
        lines.append("The search did not converge; a prior such as --prior l2=0.01 may help.")
    lines.append(
        f"{estimate.iterations} iterations, {estimate.evaluations} evaluations, {estimate.seconds:.2f} s "
        f"({1000 * estimate.seconds_per_evaluation:.3g} ms an evaluation)"
    )
    return "\n".join(lines)
