"""``menura demos show|validate|convert|split|generate``: look at demonstrations, and make them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from menura.commands.arguments import print_json, run_subcommand
from menura.core import RequestError

if TYPE_CHECKING:
    from menura.demonstrations import Demonstrations

ABOUT = """Formats that are read: npz of episodes, Minari (HDF5, Arrow, Parquet), imitation's folder and its old npz,
D4RL and robomimic HDF5, LeRobot v3. Formats that are written: Minari and npz."""

Source = Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="PATH")]
Output = Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="PATH")]
EnvKwargs = Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE ...")]


@dataclass(frozen=True)
class ShowArguments:
    """Print what a file or folder of demonstrations holds."""

    path: Source
    """A file, a folder, or the id of a local Minari dataset."""
    json: bool = False
    """Print one JSON object instead."""


@dataclass(frozen=True)
class ValidateArguments:
    """Check every number, and say where the first wrong one is."""

    path: Source
    """A file, a folder, or the id of a local Minari dataset."""
    env: str | None = None
    """Also check that sizes and actions are those of this environment."""
    env_kwargs: EnvKwargs = ()
    """Settings of that environment, as name=value."""
    json: bool = False
    """Print one JSON object instead."""


@dataclass(frozen=True)
class ConvertArguments:
    """Write demonstrations again, as a Minari dataset or as npz."""

    path: Source
    """A file, a folder, or the id of a local Minari dataset."""
    output: Output
    """Where to write."""
    format: Literal["minari", "npz"] | None = None
    """By default npz where the output ends in .npz, and Minari otherwise."""
    retarget: Literal["humanoid"] | None = None
    """PATH is a clip of motion capture: write what MotionWalk-v0 observes of it on this body, without actions."""
    parts: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")] = ()
    """Of observations that are pictures beside other parts, keep these only."""
    overwrite: bool = False
    """Replace demonstrations that are there already."""
    json: bool = False
    """Print one JSON object instead."""


@dataclass(frozen=True)
class SplitArguments:
    """Divide the episodes at random into two sets, train and heldout."""

    path: Source
    """A file, a folder, or the id of a local Minari dataset."""
    output: Output
    """A folder for the two sets."""
    fraction: float = 0.2
    """How much of the episodes is held out."""
    seed: int = 0
    """Decides which."""
    format: Literal["minari", "npz"] | None = None
    """By default npz where the input ends in .npz, and Minari otherwise."""
    overwrite: bool = False
    """Replace demonstrations that are there already."""
    json: bool = False
    """Print one JSON object instead."""


@dataclass(frozen=True)
class GenerateArguments:
    """Let an expert act, and record whole episodes of it."""

    run: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="[RUN]")] = None
    """A run folder, whose policy is the expert. Or give --predict and --env."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"], metavar="PATH")] = None
    """Where to write (required): a path that ends in .npz, or a folder for a Minari dataset."""
    episodes: int = 10
    """How many episodes."""
    checkpoint: str = "best"
    """Which policy of the run: best, last, or a number of steps."""
    predict: Annotated[str | None, tyro.conf.arg(aliases=["--expert"])] = None
    """An expert of your own, as module:object: an object with Stable-Baselines3's `predict`, or a function
    that returns one. The module is imported, from the current folder too. Or `idm`, the scripted driver of merge-v0
    and highway-v0."""
    env: str | None = None
    """The environment; by default the run's."""
    env_kwargs: EnvKwargs = ()
    """Settings of the environment, as name=value; by default the run's."""
    backend: Literal["auto", "gymnasium", "envpool", "jax"] | None = None
    """What simulates; by default as in the run."""
    num_envs: int | None = None
    """Copies of the environment that act at once; by default as many as episodes, at most 8."""
    stochastic: bool = False
    """Sample the actions instead of taking the likeliest."""
    seed: int = 0
    """Decides everything random."""
    format: Literal["minari", "npz"] | None = None
    """By default npz where the output ends in .npz, and Minari otherwise."""
    overwrite: bool = False
    """Replace demonstrations that are there already."""
    json: bool = False
    """Print one JSON object instead."""


def show(arguments: ShowArguments) -> None:
    """Print what demonstrations hold."""
    from menura.demonstrations import load

    demos = load(arguments.path)
    if arguments.json:
        print_json(summary(demos))
    else:
        print(_page(demos))


def validate(arguments: ValidateArguments) -> None:
    """Check demonstrations, also against an environment; a fault is a :class:`RequestError`."""
    from menura.demonstrations import load

    demos = load(arguments.path)
    if arguments.env is not None:
        demos.check(_spec(arguments.env, arguments.env_kwargs))
    if arguments.json:
        print_json({"valid": True, "checked_against": arguments.env, **summary(demos)})
        return
    fits = f", and fits {arguments.env}" if arguments.env else ""
    print(f"{arguments.path} is valid{fits}: {_counts(demos)}, every number finite.")
    for note in demos.notes:
        print(f"Note: {note}")


def convert(arguments: ConvertArguments) -> None:
    """Write demonstrations in another format."""
    from menura.demonstrations import load, save

    if arguments.retarget is None:
        demos = load(arguments.path)
    else:
        from menura.demonstrations.motion import from_clip

        demos = from_clip(arguments.path, body=arguments.retarget)
    if arguments.parts:
        from menura.demonstrations.parts import with_parts

        demos = with_parts(demos, arguments.parts)
    save(demos, arguments.output, arguments.format, overwrite=arguments.overwrite)
    _report(demos, arguments.output, arguments.json)


def split(arguments: SplitArguments) -> None:
    """Write two sets of episodes."""
    from menura.demonstrations import load, save

    demos = load(arguments.path)
    chosen = arguments.format or ("npz" if arguments.path.endswith(".npz") else "minari")
    parts = demos.split(arguments.fraction, arguments.seed, whole_episodes=True)
    if not len(parts[1]):
        raise RequestError(f"--fraction {arguments.fraction:g} holds nothing out; give a fraction above 0.")
    suffix = ".npz" if chosen == "npz" else ""
    names = [arguments.output / f"{name}{suffix}" for name in ("train", "heldout")]
    taken = [str(name) for name in names if name.exists()]
    if taken and not arguments.overwrite:
        raise RequestError(f"{' and '.join(taken)} exist already; choose another -o, or give --overwrite.")
    for part, name in zip(parts, names, strict=True):
        save(part, name, chosen, overwrite=arguments.overwrite)
    if arguments.json:
        print_json(
            {
                which: {"path": str(name), "episodes": len(part), "steps": part.num_steps}
                for which, part, name in zip(("train", "heldout"), parts, names, strict=True)
            }
        )
        return
    for part, name in zip(parts, names, strict=True):
        print(f"Wrote {name}: {_counts(part)}.")


def generate(arguments: GenerateArguments) -> None:
    """Record an expert: the policy of a run, or any object with ``predict``."""
    from menura.demonstrations import record, save
    from menura.environments.registry import make

    if arguments.output is None:
        raise RequestError("Say where to write the demonstrations with -o.")
    if arguments.episodes < 1:
        raise RequestError(f"--episodes must be at least 1, not {arguments.episodes}.")
    if arguments.output.exists() and not arguments.overwrite and not _is_empty_folder(arguments.output):
        raise RequestError(f"{arguments.output} exists already; choose another -o, or give --overwrite.")
    expert, env_id, backend, env_kwargs, history = _expert(arguments)
    num_envs = arguments.num_envs or min(arguments.episodes, 8)
    env = make(env_id, num_envs=num_envs, backend=backend, env_kwargs=env_kwargs, history=history, evaluation=True)
    try:
        demos = record(env, expert, arguments.episodes, arguments.seed, not arguments.stochastic)
    finally:
        _close(env)
    save(demos, arguments.output, arguments.format, overwrite=arguments.overwrite)
    _report(demos, arguments.output, arguments.json)


SUBCOMMANDS: dict[str, tuple[type, Callable[[Any], None]]] = {
    "show": (ShowArguments, show),
    "validate": (ValidateArguments, validate),
    "convert": (ConvertArguments, convert),
    "split": (SplitArguments, split),
    "generate": (GenerateArguments, generate),
}
"""Each subcommand's arguments and what carries it out."""


def main(arguments: Sequence[str]) -> None:
    """Run one of the subcommands."""
    run_subcommand(SUBCOMMANDS, arguments, program="menura demos", about=ABOUT)


def summary(demos: "Demonstrations") -> dict[str, Any]:
    """What ``show --json`` prints."""
    returns, lengths, first = demos.returns, demos.lengths, demos.episodes[0]
    return {
        "path": demos.source,
        "format": demos.metadata.get("format"),
        "env": demos.env_id,
        "episodes": len(demos),
        "steps": demos.num_steps,
        "transitions": demos.num_transitions,
        "dropped": demos.num_dropped,
        "mean_return": float(returns.mean()),
        "std_return": float(returns.std()),
        "min_return": float(returns.min()),
        "max_return": float(returns.max()),
        "mean_length": float(lengths.mean()),
        "min_length": int(lengths.min()),
        "max_length": int(lengths.max()),
        "terminated": sum(episode.terminated for episode in demos.episodes),
        "truncated": sum(not episode.terminated for episode in demos.episodes),
        "observations": _field([episode.obs for episode in demos.episodes]),
        "actions": None if first.actions is None else _field([episode.actions for episode in demos.episodes]),
        "notes": list(demos.notes),
        "sha256": demos.content_hash(),
    }


def _field(arrays: list[Any]) -> dict[str, Any]:
    low, high = min(a.min() for a in arrays), max(a.max() for a in arrays)
    return {"shape": list(arrays[0].shape[1:]), "dtype": str(arrays[0].dtype), "min": low.item(), "max": high.item()}


def _page(demos: "Demonstrations") -> str:
    s = summary(demos)
    rows = [
        ("environment", s["env"] or "not said"),
        (
            "return",
            f"{s['mean_return']:.1f} ± {s['std_return']:.1f}, from {s['min_return']:.1f} to {s['max_return']:.1f}",
        ),
        ("length", f"{s['mean_length']:.1f} steps, from {s['min_length']} to {s['max_length']}"),
        ("endings", f"{s['terminated']} by the environment, {s['truncated']} by the clock or the recording"),
        ("observations", _shape_in_words(s["observations"])),
        ("actions", _shape_in_words(s["actions"]) if s["actions"] else "none"),
        ("to learn from", f"{s['transitions']:,} transitions"),
        ("sha256", s["sha256"]),
    ]
    if demos.episodes[0].rewards is None:
        rows[1] = ("return", "not known: there are no rewards")
    if s["dropped"]:
        rows[6] = ("to learn from", f"{s['transitions']:,} transitions; {_without_successor(s['dropped'], demos)}")
    lines = [f"{demos.source} ({s['format']}): {_counts(demos)}"]
    lines += [f"  {name:14} {value}" for name, value in rows]
    lines += [f"  {'note' if i == 0 else '':14} {note}" for i, note in enumerate(demos.notes)]
    return "\n".join(lines)


def _counts(demos: "Demonstrations") -> str:
    episodes, steps = len(demos), demos.num_steps
    return f"{episodes:,} episode{'' if episodes == 1 else 's'}, {steps:,} step{'' if steps == 1 else 's'}"


def _without_successor(count: int, demos: "Demonstrations") -> str:
    steps = "last step" if count == 1 else "last steps"
    # Without actions a step says nothing where its successor is not known, however the episode ended.
    episodes = "truncated episodes" if demos.has_actions else "episodes"
    return f"{count:,} {steps} of {episodes} left out, because what followed was not recorded"


def _shape_in_words(field: dict[str, Any]) -> str:
    kind = "numbers" if "float" in field["dtype"] else "integers"
    if not field["shape"]:
        what = "one integer" if kind == "integers" else "one number"
    else:
        what = f"{' × '.join(str(n) for n in field['shape'])} {kind}"
    return f"{what} ({field['dtype']}), from {field['min']:.4g} to {field['max']:.4g}"


def _report(demos: "Demonstrations", output: Path, as_json: bool) -> None:
    """Say what was written."""
    mean, std = float(demos.returns.mean()), float(demos.returns.std())
    if as_json:
        print_json(
            {"path": str(output), "env": demos.env_id, "episodes": len(demos), "steps": demos.num_steps,
             "mean_return": mean, "std_return": std, "notes": list(demos.notes)}
        )  # fmt: skip
        return
    known = "" if demos.episodes[0].rewards is None else f", return {mean:.1f} ± {std:.1f}"
    print(f"Wrote {output}: {_counts(demos)}{known}.")
    for note in demos.notes:
        print(f"Note: {note}")


def _spec(env_id: str, env_kwargs: tuple[str, ...]) -> Any:
    from menura.environments.registry import make

    env = make(env_id, env_kwargs=_pairs(env_kwargs))
    _close(env)
    return env.spec


def _close(env: Any) -> None:
    """Free simulators; JAX environments have nothing to free."""
    if hasattr(env, "close"):
        env.close()


def _expert(arguments: GenerateArguments) -> tuple[Any, str, Any, dict[str, Any], int]:
    """The expert, and the environment's id, backend and settings, and how many observations in a row are one."""
    run: Any = arguments.run
    if (run is None) == (arguments.predict is None):
        raise RequestError("Name one expert: a run folder, or --predict module:object with --env.")
    given = _pairs(arguments.env_kwargs)
    if arguments.predict is not None:
        if arguments.env is None:
            raise RequestError("--predict needs --env, the environment to record in.")
        from menura.run.experts import SCRIPTED, imported

        if arguments.predict in SCRIPTED:
            scripted = SCRIPTED[arguments.predict](arguments.env, given)
            return scripted, arguments.env, arguments.backend or "auto", given, 1
        return imported(arguments.predict, "--predict"), arguments.env, arguments.backend or "auto", given, 1
    from menura.run.artifacts import load_policy

    policy, config = load_policy(run, checkpoint=arguments.checkpoint)
    env_id = arguments.env or config.get("env")
    if env_id is None:
        raise RequestError(f"{run} was trained without an environment; name one with --env.")
    backend = arguments.backend or ("auto" if arguments.env else config.get("backend") or "auto")
    env_kwargs = given or (config.get("env_kwargs") or {} if env_id == config.get("env") else {})
    return policy, env_id, backend, env_kwargs, config.get("history", 1)


def _pairs(env_kwargs: tuple[str, ...]) -> dict[str, Any]:
    if not env_kwargs:
        return {}
    from menura.commands.train import env_kwargs_of

    return env_kwargs_of(list(env_kwargs))


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())
