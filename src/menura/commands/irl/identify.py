"""``menura irl identify``: which rewards the same behavior may come from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from menura.commands.arguments import print_json
from menura.commands.irl.fit import parse_theta
from menura.commands.irl.predict import parse_states
from menura.core import RequestError


@dataclass(frozen=True)
class IdentifyArguments:
    """Say which weights a policy, or demonstrations, cannot tell apart."""

    estimate: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="[DIR]")] = None
    """The folder of a saved estimate, for its problem, demonstrations and θ. Or give --mdp."""
    mdp: Path | None = None
    """The problem: mdp.npz."""
    demos: Path | None = None
    """Demonstrations, demos.npz or a CSV panel: where paths begin and end, and what they leave open."""
    at: str | None = None
    """Look from this θ, numbers separated by commas; by default from the estimate's, or from 0."""
    method: Literal["mce", "maxent"] = "mce"
    """Of a problem given by --mdp: what is chosen, actions or whole paths."""
    start: str | None = None
    """Where paths begin, states separated by commas; by default as the demonstrations or the problem say, else
    anywhere."""
    goal: str | None = None
    """What they are meant for: one state, or one for each start."""
    json: bool = False
    """Print one JSON object and nothing else."""


def identify(arguments: IdentifyArguments) -> None:
    """Report what is identified."""
    try:
        found = _identify(arguments)
    except MemoryError as error:
        raise RequestError(f"This problem does not fit into memory ({error}); make it smaller.") from error
    if arguments.json:
        print_json(found.to_json())
    else:
        print(text_of(found))


def _identify(arguments: IdentifyArguments) -> Any:
    import numpy as np

    from menura.environments.tabular import TabularMDP
    from menura.irl import Paths
    from menura.irl.estimate import load_estimate
    from menura.irl.identify import identify as find
    from menura.irl.objective import make_problem
    from menura.irl.predict import Demand

    theta, paths, method = parse_theta(arguments.at, "--at"), None, arguments.method
    if (arguments.estimate is None) == (arguments.mdp is None):
        raise RequestError("Give the folder of an estimate, or a problem with --mdp.")
    if arguments.estimate is not None:
        if arguments.demos is not None:
            raise RequestError("An estimate has its own demonstrations, so leave out --demos.")
        said, fitted, mdp, paths = load_estimate(arguments.estimate)
        theta, method = fitted if theta is None else theta, said["method"]
    else:
        mdp = TabularMDP.load(str(arguments.mdp))
        if arguments.demos is not None:
            paths = Paths.load(arguments.demos)
            make_problem(mdp, paths, method)  # checks one against the other
    starts, goals = parse_states(arguments.start, "--start"), parse_states(arguments.goal, "--goal")
    demand = None
    if starts is not None or goals is not None:
        if paths is not None:
            raise RequestError("Demonstrations say where paths begin and end, so leave out --start and --goal.")
        if starts is None:
            if goals is None or len(goals) > 1:
                raise RequestError("Several goals need --start, one for each of them or one for all.")
            starts = np.setdiff1d(mdp.pair_state, goals).tolist()
        demand = Demand.between(starts, goals)
    return find(mdp, theta, paths=paths, demand=demand, method=method)


def text_of(found: Any) -> str:
    """The report for people."""
    size, hidden = len(found.names), len(found.directions)
    if not hidden:
        lines = [f"All {size} weights are identified: no direction of θ leaves the policy as it is."]
    else:
        lines = [f"{size - hidden} of {size} directions of θ are identified; {hidden} leave the policy as it is:"]
        for direction in found.directions:
            lines.append(f"- {direction.sentence}")
            if direction.moved is not None:
                there = ", ".join(f"{value:.6g}" for value in direction.moved[:12])
                lines.append(f"  θ = {there}: the largest change of log π is {direction.policy_change:.2g}")
    if found.unseen is not None:
        if found.unseen:
            lines.append("Besides, these demonstrations leave open:")
            lines += [f"- {direction.sentence}" for direction in found.unseen]
        else:
            lines.append("The demonstrations vary in all that is identified.")
    if found.num_potentials is not None:
        lines.append(
            f"Without features, {found.num_potentials} of the {found.num_choices} dimensions of a reward would stay "
            "open: a potential in every state, φ(s) − γ E φ(s′), can always be added."
        )
    return "\n".join(lines)
