"""``menura irl figures`` and ``menura irl tree``: pictures of a fit, and of the paths of a small problem."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from menura.commands.irl.fit import parse_theta
from menura.core import RequestError


@dataclass(frozen=True)
class FiguresArguments:
    """Draw a saved estimate: its weights and features, and maps of reward, visits and policy."""

    estimate: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
    """The folder that `menura irl mce|maxent --out DIR` wrote."""
    grid: str | None = None
    """States lie row by row on a grid of so many rows and columns, such as 4x12; a row alone is drawn as curves."""
    env: str | None = None
    """States lie as in this environment: FrozenLake-v1, CliffWalking-v1, Taxi-v3; or any, with its --bins."""
    bins: str | None = None
    """With --env: the cells along each observed number that the fit was made with, such as 40,40."""
    actions: str | None = None
    """Names of the actions, separated by commas."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """The folder for the pictures; by default DIR/figures."""
    dark: bool = False
    """Draw on dark ground."""


@dataclass(frozen=True)
class TreeArguments:
    """Draw the tree of all paths of a small problem, with their probabilities."""

    estimate: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="DIR")] = None
    """The folder that `menura irl mce|maxent --out DIR` wrote; or give --mdp and --at."""
    mdp: Path | None = None
    """The problem: mdp.npz."""
    at: str | None = None
    """θ, numbers separated by commas."""
    start: int | None = None
    """The state where paths begin; by default where most do."""
    goal: int | None = None
    """The state where paths end, where these are not the problem's terminal states."""
    steps: int | None = None
    """Draw no more than so many steps of every path."""
    actions: str | None = None
    """Names of the actions, separated by commas."""
    states: str | None = None
    """Names of the states, separated by commas."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("tree.png")
    """The picture to write."""
    dark: bool = False
    """Draw on dark ground."""


def figures(arguments: FiguresArguments) -> None:
    """Write every picture of an estimate and say where they are."""
    from menura.irl.estimate import load_estimate
    from menura.report.tabular.lines import line_figures
    from menura.report.tabular.maps import map_figures
    from menura.report.tabular.numbers import deploy, env_layout, grid_layout
    from menura.report.tabular.weights import weight_figures

    if arguments.grid is not None and arguments.env is not None:
        raise RequestError("Give --grid or --env, not both.")
    if arguments.bins is not None and arguments.env is None:
        raise RequestError("--bins needs --env, the environment that was cut into cells.")
    folder = arguments.estimate / "figures" if arguments.output is None else arguments.output
    if folder.exists() and not folder.is_dir():
        raise RequestError(f"-o {folder} cannot be a folder, because a file is in the way; choose another.")
    said, theta, mdp, paths = load_estimate(arguments.estimate)
    actions = _names(arguments.actions, "--actions", mdp.num_actions, "actions") or _numbered(mdp.num_actions)
    layout = None
    if arguments.grid is not None:
        layout = grid_layout(arguments.grid, mdp)
    elif arguments.env is not None:
        layout = env_layout(arguments.env, _whole_numbers(arguments.bins), mdp)
    deployed = deploy(mdp, paths, theta, said["method"])
    drawn = weight_figures(said, deployed)
    if layout is not None:
        drawn += (line_figures if layout.is_line else map_figures)(deployed, layout, actions)
    for figure in drawn:
        _write(folder / f"{figure.name}.png", figure, arguments.dark)


def tree(arguments: TreeArguments) -> None:
    """Write the picture of a tree and say where it is."""
    from menura.report.tabular.tree import tree_figure

    if arguments.output.suffix.lower() != ".png":
        raise RequestError(f"-o {arguments.output} must end in .png.")
    if arguments.steps is not None and arguments.steps < 1:
        raise RequestError(f"--steps must be at least 1, not {arguments.steps}.")
    mdp, theta, start = _problem(arguments)
    figure = tree_figure(
        mdp,
        theta,
        start=start,
        goal=arguments.goal,
        steps=arguments.steps,
        actions=_names(arguments.actions, "--actions", mdp.num_actions, "actions"),
        states=_names(arguments.states, "--states", mdp.num_states, "states"),
    )
    _write(arguments.output, figure, arguments.dark)


def _problem(arguments: TreeArguments) -> tuple[Any, Any, int]:
    """The problem, θ, and the state to begin in."""
    import numpy as np

    from menura.environments.tabular import TabularMDP
    from menura.irl.estimate import load_estimate

    theta = parse_theta(arguments.at, "--at")
    if arguments.estimate is not None:
        if arguments.mdp is not None:
            raise RequestError("Give the folder of an estimate or --mdp, not both.")
        _, fitted, mdp, paths = load_estimate(arguments.estimate)
        theta = fitted if theta is None else theta
        first = np.bincount(paths.states[paths.first])
    else:
        if arguments.mdp is None or theta is None:
            raise RequestError("Give the folder of an estimate, or a problem with --mdp and a θ with --at.")
        mdp = TabularMDP.load(arguments.mdp)
        first = mdp.initial
    if arguments.start is not None:
        return mdp, theta, arguments.start
    return mdp, theta, 0 if first is None else int(np.argmax(first))


def _whole_numbers(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise RequestError(f"--bins {text} must be whole numbers separated by commas.") from error


def _names(text: str | None, option: str, number: int, kind: str) -> tuple[str, ...]:
    names = () if text is None else tuple(part.strip() for part in text.split(","))
    if text is not None and len(names) != number:
        raise RequestError(f"{option} names {len(names)} {kind}, and the problem has {number}.")
    return names


def _numbered(number: int) -> Sequence[str]:
    return [f"action {a}" for a in range(number)]


def _write(path: Path, figure: Any, dark: bool) -> None:
    from menura.report.files import write_atomically

    try:
        write_atomically(path, figure.dark if dark else figure.light)
    except OSError as error:
        raise RequestError(f"{path} cannot be written: {error}.") from error
    print(f"{path}: {figure.caption}")
