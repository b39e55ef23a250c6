"""``menura irl deep``: a reward that is a network over features."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from menura.commands.arguments import print_json
from menura.commands.irl.bar import progress_bar
from menura.core import RequestError


@dataclass(frozen=True)
class DeepArguments:
    """Fit a reward network over features by exact gradients (Wulfmeier et al. 2015)."""

    mdp: Path
    """The problem: mdp.npz."""
    demos: Path
    """The demonstrations: demos.npz, or a CSV panel."""
    method: Literal["mce", "maxent"] = "mce"
    """A policy over actions, or a distribution over whole paths."""
    match: Literal["likelihood", "features"] = "likelihood"
    """Maximize the likelihood of the actions, or match the demonstrations' discounted frequencies."""
    hidden: str = "32,32"
    """Units of the hidden layers, separated by commas; linear for none."""
    activation: Literal["tanh", "relu", "silu"] = "tanh"
    """Between the layers."""
    learning_rate: float = 0.01
    """Adam's first step size; it falls to 0."""
    steps: int = 1000
    """Gradient steps at most."""
    weight_decay: float = 0.0
    """Decoupled decay of the weights."""
    heldout: float = 0.2
    """Share of individuals or paths held out, by which training is stopped; 0 trains on all of them to the end."""
    seed: int = 0
    """Of the first weights and of what is held out."""
    out: Path | None = None
    """Save the network, and its reward as an estimate, in this folder."""
    json: bool = False
    """Print one JSON object and nothing else."""


def deep(arguments: DeepArguments) -> None:
    """Fit, save, print."""
    hidden = _hidden(arguments.hidden)
    from menura.environments.tabular import TabularMDP
    from menura.irl import Paths
    from menura.irl.by_path import split_units
    from menura.irl.deep import DEEP_FILE, fit_network
    from menura.irl.folders import check_folder

    if arguments.out is not None:
        check_folder(arguments.out, DEEP_FILE)
    mdp, demos = TabularMDP.load(arguments.mdp), Paths.load(arguments.demos)
    train, heldout = demos, None
    if arguments.heldout != 0:
        train, heldout = split_units(demos, arguments.heldout, seed=arguments.seed)
    with progress_bar("training the reward") as watch:
        found = fit_network(
            mdp, train, method=arguments.method, match=arguments.match, hidden_sizes=hidden,
            activation=arguments.activation, learning_rate=arguments.learning_rate, steps=arguments.steps,
            weight_decay=arguments.weight_decay, heldout=heldout, seed=arguments.seed, watch=watch,
        )  # fmt: skip
    if arguments.out is not None:
        try:
            found.save(arguments.out, mdp, train)
        except OSError as error:
            raise RequestError(f"--out {arguments.out} cannot be written: {error}.") from error
    if arguments.json:
        print_json(found.to_json())
    else:
        print(_table(found, heldout))


def _hidden(text: str) -> tuple[int, ...]:
    if text in ("", "linear"):
        return ()
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise RequestError(f"--hidden {text} must be whole numbers separated by commas, or linear.") from error


def _table(found: Any, heldout: Any) -> str:
    width = max(12, *(len(name) for name in found.names))
    lines = [f"{'feature':{width}} {'expert':>12} {'learner':>12}"]
    rows = zip(found.names, found.expert_features, found.learner_features, strict=True)
    lines += [f"{name:{width}} {expert:12.5g} {learner:12.5g}" for name, expert, learner in rows]
    lines.append(
        f"log-likelihood {found.log_likelihood:.6f}, {found.log_likelihood / found.num_steps:.4f} a step, "
        f"{found.num_paths} paths of {found.num_steps} steps"
    )
    if heldout is not None:
        steps = len(heldout.states)
        lines.append(
            f"held out: {found.heldout_log_likelihood:.6f}, {found.heldout_log_likelihood / steps:.4f} a step, "
            f"{heldout.num_paths} paths of {steps} steps"
        )
    lines.append(
        f"{found.num_parameters} parameters, those of step {found.best_step} of {len(found.history)}, "
        f"{found.seconds:.2f} s"
    )
    return "\n".join(lines)
