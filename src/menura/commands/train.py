"""``menura train``: the options are the run's, then the fields of the learner that was named."""

import ast
import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from menura.commands.arguments import parse, print_json
from menura.commands.progress import ProgressBar
from menura.commands.seeds import check_seeds, train_seeds
from menura.core import AbstractImitationLearner, RequestError, Spec
from menura.demonstrations.readers import load
from menura.environments.registry import make, native_ids
from menura.imitation.adversarial import GAIL, OF_THE_NETWORK
from menura.imitation.dagger import DAgger
from menura.imitation.holder import AbstractHolder
from menura.imitation.reward import Part
from menura.imitation.score import RewardForm
from menura.imitation.values import AbstractValueImitation
from menura.regularizers import AbstractFeatureMatching
from menura.run.artifacts import load_policy, read_json
from menura.run.folder import LOGGERS
from menura.run.launch import launch, prepare, resume
from menura.run.presets import Preset, find_preset, forward_of, learner_of, named_preset, usual_env_kwargs, warm_fields
from menura.run.registry import ALGORITHMS, HOLDS, REGULARIZERS, named, replaced
from menura.run.request import Request, spec_of_demos
from menura.run.sweep import seeds_of

USAGE = f"""usage: menura train ALGORITHM [ENV | DATASET] [options]
       menura train --resume RUN

ALGORITHM is one of {", ".join(ALGORITHMS)}; ENV is an environment's id, or `package:Id`. They come first.
`train bc DATASET` clones without an environment; `train dagger ENV --expert RUN` asks an expert while it acts.

options that decide what the others are:
  --forward NAME          the forward learner inside gail: {", ".join(HOLDS["gail"])}; inside airl: trpo, ppo
  --regularizer NAME      the cost regulariser of gail: {", ".join(REGULARIZERS)}
  --preset NAME           begin with these settings (`menura list presets`) instead of the environment's own
  --warm-start RUN        begin with the policy of an earlier run, and with settings that keep it
  --backend NAME          auto, jax, envpool or gymnasium: what simulates
  --env-kwargs K=V ...    settings of the environment
  --seeds A..B            several seeds, each a run of its own; also A,B,C
  --total-labels N        how often dagger asks its expert; once a step, so that it is another name of --total-steps

`menura train ALGORITHM ENV --help` lists the rest, with the defaults that the preset gives."""


@dataclass(frozen=True)
class TrainOptions:
    """Options of the run; those of the learner follow."""

    total_steps: int
    """Environment steps in all (for bc: expert steps, with repetitions; for dagger each is one label of the expert)."""
    num_envs: int
    """Copies of the environment that act at once."""
    demos: Path | None = None
    """Demonstrations: a file or folder in any readable format."""
    expert: str | None = None
    """The expert that dagger asks: a run folder, or module:object with Stable-Baselines3's `predict`."""
    reward: Path | None = None
    """For a forward learner: train on the reward that this run of gail or airl learned, not on the environment's."""
    reward_part: Part = "reward"
    """Of airl's reward: g alone, or f, which has the potential too (shaped)."""
    reward_paid: RewardForm | None = None
    """The form in which that reward is paid: positive, negative, centered or logit; as in its run if not given."""
    num_demos: int | None = None
    """Use this many episodes, from the first on."""
    subsample: int = 1
    """Keep every so-many-th step of each episode, from a random offset (the GAIL paper's protocol)."""
    shuffle_actions: bool = False
    """A control: put the demonstrations' actions in random order."""
    history: int = 1
    """How many observations in a row are seen as one, of the environment and of the demonstrations."""
    seed: int = 0
    """Decides everything random in the run."""
    jobs: int | None = None
    """With --seeds on a simulator: how many are trained at once; half as many as there are cores if not given."""
    eval_every: int | None = None
    """Environment steps between evaluations, each of which is a checkpoint; 0 for the end only. If not given, a
    tenth of total_steps, and a fifth where a simulator acts, which begins anew at each; a twentieth with
    --stop-when-converged."""
    eval_episodes: int = 5
    """Episodes in each of them."""
    stop_when_converged: bool = False
    """End sooner, at an evaluation by whose proxies policy and score have converged (docs/reading.md has the rule)."""
    out: Path = Path("runs")
    """Where run folders are made."""
    logger: str = "csv,tensorboard"
    """Any of csv, tensorboard, wandb, with commas between."""
    print_config: bool = False
    """Print the resolved configuration as JSON and stop."""


@dataclass(frozen=True)
class Choices:
    """What must be known before the other options can be listed."""

    algorithm: str
    env: str | None
    dataset: Path | None
    """Demonstrations to clone from without an environment."""
    backend: str
    env_kwargs: dict[str, Any]
    preset: Preset
    regularizer: str | None
    warm_start: Path | None
    """The run whose policy is begun with."""


def main(arguments: Sequence[str]) -> None:
    """Train, or go on with a run."""
    arguments = list(arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE)
        sys.exit(0 if arguments else 2)
    run, rest = take_option(arguments, "--resume")
    if run is not None:
        finish(_resumed(Path(run), rest))
        return
    seeds, rest = take_option(arguments, "--seeds")
    choices, rest = _choose(rest)
    options, learner = _parse(choices, rest)
    request = _request(choices, options, learner)
    if seeds is not None:
        check_seeds(options, arguments)
        train_seeds(request, seeds_of(seeds), out=options.out, loggers=_loggers(options.logger), jobs=options.jobs)
        return
    if options.jobs is not None:
        raise RequestError("--jobs is how many of several seeds are trained at once: name them with --seeds.")
    if options.print_config:
        print_json(prepare(request).config)
        return
    loggers = _loggers(options.logger)
    with ProgressBar(request.total_steps, title=f"{choices.algorithm} {request.env or request.demos}") as bar:
        folder = launch(request, out=options.out, loggers=loggers, watchers=[bar])
    finish(folder)


def finish(folder: Path) -> None:
    """Say on stdout what a run came to, and where it is."""
    result = read_json(folder / "result.json")
    if "mean_return" in result:
        expert = result["expert_return"]
        line = f"return {result['mean_return']:.1f} ± {result['std_return']:.1f} over {result['episodes']} episodes"
        if expert is not None:
            line += f" (expert {expert:.1f}, random {result['random_return']:.1f})"
        print(line)
    print(folder)


def take_option(arguments: list[str], name: str) -> tuple[str | None, list[str]]:
    """The value of an option, and the arguments without it."""
    values, rest = take_options(arguments, name)
    if len(values) > 1:
        raise RequestError(f"{name} takes one value, not {' '.join(values)}.")
    return (values[0] if values else None), rest


def take_options(arguments: list[str], name: str) -> tuple[list[str], list[str]]:
    """All the values of an option, which end at the next option, and the arguments without them."""
    values: list[str] = []
    rest: list[str] = []
    taking = False
    for argument in arguments:
        if argument == name:
            taking = True
        elif argument.startswith(f"{name}="):
            values.append(argument.split("=", 1)[1])
        elif taking and not argument.startswith("-"):
            values.append(argument)
        else:
            taking = False
            rest.append(argument)
    if name in arguments and not values:
        raise RequestError(f"{name} needs a value.")
    return values, rest


FILES = ("xml_file", "clip")
"""Settings of environments that name a file."""


def env_kwargs_of(pairs: list[str]) -> dict[str, Any]:
    """``name=value`` pairs; values are read as Python literals where they are ones, else as text.

    Files are named from the root, so that a run finds them from any folder.
    """
    result: dict[str, Any] = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator:
            raise RequestError(f"--env-kwargs takes name=value, not {pair!r}.")
        try:
            result[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            is_file = name in FILES and Path(value).expanduser().is_file()
            result[name] = str(Path(value).expanduser().resolve()) if is_file else value
    return result


def _choose(arguments: list[str]) -> tuple[Choices, list[str]]:
    count = next((i for i, argument in enumerate(arguments) if argument.startswith("-")), len(arguments))
    positional, rest = arguments[:count], arguments[count:]
    if len(positional) not in (1, 2):
        raise RequestError(f"menura train takes an algorithm and one environment first, not {' '.join(arguments)!r}.")
    algorithm = positional[0]
    named("algorithm", ALGORITHMS, algorithm)
    preset_name, rest = take_option(rest, "--preset")
    asked_forward, rest = take_option(rest, "--forward")
    regularizer, rest = take_option(rest, "--regularizer")
    warm_start, rest = take_option(rest, "--warm-start")
    backend, rest = take_option(rest, "--backend")
    pairs, rest = take_options(rest, "--env-kwargs")
    labels, rest = take_option(rest, "--total-labels")
    if labels is not None:
        if algorithm != "dagger":
            raise RequestError(f"{algorithm} asks no expert: leave out --total-labels.")
        rest = ["--total-steps", labels, *rest]
    forward = forward_of(algorithm, asked_forward)
    env = dataset = None
    if len(positional) == 2 and algorithm == "bc" and Path(positional[1]).exists():
        dataset = Path(positional[1])
    elif len(positional) == 2:
        env = positional[1]
    elif algorithm != "bc":
        raise RequestError(f"Name an environment: menura train {algorithm} ENV.")
    backend, kwargs = backend or "auto", env_kwargs_of(pairs)
    if preset_name is not None:
        preset = named_preset(preset_name)
        if (preset.algorithm, preset.forward) != (algorithm, forward):
            raise RequestError(f"Preset {preset_name} belongs to another algorithm than {algorithm} with {forward}.")
    else:
        dataset = dataset or _path(take_option(rest, "--demos")[0])
        preset = find_preset(algorithm, forward, env, _shapes(env, backend, kwargs, dataset))
    dataset = dataset if env is None else None
    kwargs = usual_env_kwargs(preset, env) | kwargs if env is not None else kwargs
    return Choices(algorithm, env, dataset, backend, kwargs, preset, regularizer, _path(warm_start)), rest


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


def _shapes(env: str | None, backend: str, env_kwargs: dict[str, Any], dataset: Path | None) -> Spec:
    if env is not None:
        return make(env, backend=backend, env_kwargs=env_kwargs).spec  # pyright: ignore[reportArgumentType]
    if dataset is None:
        raise RequestError("Give bc demonstrations: menura train bc DATASET, or menura train bc ENV --demos PATH.")
    return spec_of_demos(load(dataset))


def _default(choices: Choices) -> Any:
    """The learner that options change: the preset's, with what a warm start brings."""
    learner = learner_of(choices.preset, regularizer=choices.regularizer)
    if choices.warm_start is None:
        return learner
    return replaced(learner, warm_fields(choices.preset, load_policy(choices.warm_start)[0]))


def _parse(choices: Choices, arguments: list[str]) -> tuple[TrainOptions, Any]:
    """Run options and learner from one flat set of options, with the preset's values as defaults."""
    preset, learner = choices.preset, _default(choices)
    if isinstance(learner, GAIL) and "--observations-only" in [a.replace("_", "-") for a in arguments]:
        # A preset's cloning has no actions to learn from.
        learner = replaced(learner, {"bc_updates": 0})
    options = TrainOptions(preset.total_steps, preset.num_envs, demos=choices.dataset)
    flat = dataclasses.make_dataclass(
        "Options",
        [
            (
                "run",
                Annotated[TrainOptions, tyro.conf.arg(name="")],
                dataclasses.field(default_factory=lambda: options),
            ),
            (
                "learner",
                Annotated[type(learner), tyro.conf.arg(name="")],
                dataclasses.field(default_factory=lambda: learner),
            ),
        ],
        frozen=True,
    )
    program = " ".join(filter(None, ("menura train", choices.algorithm, choices.env)))
    parsed: Any = parse(flat, arguments, program=program, description=f"Defaults: preset {preset.name}.")
    return parsed.run, parsed.learner


def _request(choices: Choices, options: TrainOptions, learner: Any) -> Request:
    asks = isinstance(learner, DAgger)
    if asks and options.expert is None:
        raise RequestError("dagger asks an expert: give it one with --expert RUN or --expert module:object.")
    if not asks and options.expert is not None:
        raise RequestError(f"{choices.algorithm} asks no expert: leave out --expert.")
    if asks and options.demos is not None:
        raise RequestError("dagger learns from what its expert answers: leave out --demos.")
    imitates = isinstance(learner, AbstractImitationLearner) and not asks
    if imitates and options.demos is None:
        raise RequestError(f"{choices.algorithm} learns from demonstrations: give it some with --demos PATH.")
    if not (imitates or asks) and options.demos is not None:
        raise RequestError(f"{choices.algorithm} learns from the environment's reward: leave out --demos.")
    if options.reward is not None and (imitates or asks):
        raise RequestError(f"{choices.algorithm} learns from an expert: leave out --reward, or train ppo, trpo or sac.")
    if options.reward is None and (options.reward_part != "reward" or options.reward_paid is not None):
        raise RequestError("--reward-part and --reward-paid are of a run's reward: name one with --reward RUN.")
    for name in ("total_steps", "num_envs", "subsample", "eval_episodes", "history"):
        if getattr(options, name) < 1:
            raise RequestError(f"--{name.replace('_', '-')} must be at least 1.")
    if learner.num_steps == 0 and options.num_envs != choices.preset.num_envs:
        raise RequestError(f"{choices.algorithm} does not act while it learns: leave out --num-envs.")
    _refuse_unused(choices, learner)
    eval_every = options.eval_every
    if eval_every is None:
        number = FOR_STOPPING if options.stop_when_converged else _evaluations(choices, learner)
        eval_every = 0 if choices.env is None else max(1, options.total_steps // number)
    same = (
        "demos",
        "expert",
        "reward",
        "reward_part",
        "reward_paid",
        "num_demos",
        "subsample",
        "shuffle_actions",
        "history",
        "total_steps",
        "seed",
        "num_envs",
        "eval_episodes",
        "stop_when_converged",
    )
    return Request(
        learner=learner,
        env=choices.env,
        backend=choices.backend,
        env_kwargs=choices.env_kwargs,
        eval_every=eval_every,
        preset=choices.preset.name,
        warm_start=choices.warm_start,
        **{name: getattr(options, name) for name in same},
    )


FOR_STOPPING = 20
"""Evaluations of a run that may end when it has converged: it can only end at one of them."""


def _evaluations(choices: Choices, learner: Any) -> int:
    """How many there are by default: simulators begin anew at each, and learning is steadier with fewer."""
    begins_anew = learner.num_steps > 0 and (choices.env not in native_ids() or choices.backend not in ("auto", "jax"))
    return 5 if begins_anew else 10


def _refuse_unused(choices: Choices, learner: Any) -> None:
    """Refuse options of a network where the regularizer takes none, and a weight of cloning where that has no part."""
    default = _default(choices)
    if isinstance(learner, AbstractValueImitation):
        if not learner.clones and learner.bc_updates != default.bc_updates:
            raise RequestError("--bc-updates fades cloning, which has no part with --bc-coef 0: leave out one of them.")
    elif isinstance(learner, AbstractHolder) and not learner.clones and learner.bc_coef != default.bc_coef:
        raise RequestError("--bc-coef weighs cloning, which has no part with --bc-updates 0: leave out one of them.")
    if not isinstance(getattr(learner, "regularizer", None), AbstractFeatureMatching):
        return
    for name in OF_THE_NETWORK:
        if getattr(learner, name) != getattr(default, name):
            option = f"--{name.replace('_', '-')}"
            raise RequestError(f"{choices.regularizer} trains no network for its score: leave out {option}.")


def _loggers(text: str) -> list[str]:
    names = [name for name in text.split(",") if name]
    for name in names:
        if name not in LOGGERS:
            raise RequestError(f"No logger {name!r}: choose from {', '.join(LOGGERS)}.")
    return names


def _resumed(run: Path, rest: list[str]) -> Path:
    logger, rest = take_option(rest, "--logger")
    if rest:
        raise RequestError(f"--resume goes on with the run's own settings: leave out {' '.join(rest)}.")
    config = read_json(run / "config.json")
    with ProgressBar(config["total_steps"], title=f"{config['algorithm']} {config['env']}") as bar:
        return resume(run, loggers=_loggers(logger or "csv,tensorboard"), watchers=[bar])
