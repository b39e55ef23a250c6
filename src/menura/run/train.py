"""``train``: the only training loop there is, for every learner and every kind of environment.

An iteration's key comes from the seed and its number alone, so that a resumed run draws what the first one would have.
"""

import dataclasses
import math
import signal
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, TypeVar

import jax
import numpy as np

from menura.core import (
    AbstractForwardLearner,
    AbstractLearner,
    AbstractPolicy,
    RequestError,
    Spec,
)
from menura.demonstrations.episodes import Demonstrations
from menura.demonstrations.stream import Stream
from menura.environments.base import Envs, NativeEnvs
from menura.environments.collect import QUICK_COMPILATION
from menura.evaluation import Evaluation, evaluate
from menura.forward.warm_start import begun_with
from menura.frame_replay import FrameReplay
from menura.imitation.reward import LearnedReward
from menura.imitation.rules import WINDOW, converged, newest_is_best
from menura.run.iteration import Asked, Made, Problem, make_iterate, strongly_typed
from menura.run.memory import replay_bytes, replay_learner_of, require_memory
from menura.run.reading import READ_STEPS, Reader, make_reader
from menura.run.resolve import (
    expert_data_of,
    how_to_ask,
    refuse_settings_of_other_actions,
    require_pictures,
    resolve_max_labels,
    resolve_replay_storage,
    resolve_reward_form,
    warm_policy,
)

Result = TypeVar("Result")


@dataclass(frozen=True)
class Run:
    """What training ends with."""

    learner: AbstractLearner
    state: Any
    env_steps: int
    seconds: float
    """Training alone: without compilation and evaluation."""
    steps_per_second: float
    evaluations: tuple[tuple[int, Evaluation], ...] = ()
    """Environment steps so far, and how the policy did then."""
    stopped_early: bool = False
    """Whether it was interrupted."""
    converged: bool = False
    """Whether it ended because it was asked to stop when converged, and had."""

    @property
    def policy(self) -> AbstractPolicy:
        """The policy to keep."""
        return self.learner.final_policy(self.state)


@dataclass
class Progress:
    """Where a run stands, beside its arrays; plain numbers only."""

    iteration: int = 0
    env_steps: int = 0
    seconds: float = 0.0
    """Spent training, compilation and evaluation left out."""
    timed_steps: int = 0
    """Steps taken in those seconds."""
    best_return: float = -math.inf
    running_return: list[float] = field(default_factory=list)
    running_length: list[int] = field(default_factory=list)
    """What the episode that each copy is in has earned so far."""
    readings: list[dict[str, float]] = field(default_factory=list)
    """``env_steps`` and the proxies of every evaluation so far; none where no demonstrations were held out."""


def reading_of(progress: Progress) -> dict[str, float]:
    """The proxies of the evaluation that was just made; empty where it was not read."""
    newest = progress.readings[-1] if progress.readings else {}
    return newest if newest.get("env_steps") == progress.env_steps else {}


@dataclass(frozen=True)
class Checkpoint:
    """What is needed to go on exactly: arrays, the native environments' standing, and plain numbers."""

    state: Any
    carry: Any
    """``None`` for host environments: they are reset at every checkpoint."""
    progress: Progress
    read_policy: AbstractPolicy | None = None
    """The policy of the last evaluation that was read."""
    source: FrameReplay | None = None
    """The replay on the host, which goes on changing; ``None`` where the state holds what is learned from."""


NOTHING_TO_READ = (
    "Whether a run has converged is read from demonstrations that it does not learn from: hold some out with "
    "--num-demos, --subsample or --heldout-fraction, and evaluate with --eval-every."
)


def require_readings(total_steps: int, eval_every: int, steps_per_update: int) -> None:
    """Refuse to begin a run that stops by readings where there are fewer of them than the rule looks at."""
    # An evaluation follows an update, and each of them at most one.
    number = math.ceil(total_steps / max(eval_every, steps_per_update, 1))
    if number < 2 * WINDOW:
        raise RequestError(
            f"Whether a run has converged is read from {2 * WINDOW} evaluations or more, and this one has {number}: "
            "lower --eval-every, or give it more --total-steps."
        )


class Watcher:
    """Told what happens in a run. This one keeps nothing; :mod:`menura.run.folder` writes it down."""

    def on_memory(self, num_bytes: int) -> None:
        """Before a replay takes memory: how much that will be when it is full."""

    def on_update(self, progress: Progress, metrics: dict[str, float]) -> None:
        """After every iteration."""

    def on_evaluation(self, progress: Progress, evaluation: Evaluation) -> None:
        """After every evaluation."""

    def on_checkpoint(self, checkpoint: Checkpoint, *, is_best: bool, exact: bool) -> None:
        """When the run can be left. ``exact`` is False where a host simulator was interrupted between two
        checkpoints: the policy can be used, but going on must begin from the checkpoint before."""


def train(
    learner: AbstractLearner,
    env: Envs | None = None,
    demos: Demonstrations | None = None,
    *,
    total_steps: int,
    seed: int = 0,
    spec: Spec | None = None,
    eval_env: Envs | None = None,
    eval_every: int = 0,
    eval_episodes: int = 5,
    watchers: Sequence["Watcher"] = (),
    resume: Checkpoint | None = None,
    warm_start: AbstractPolicy | None = None,
    expert: AbstractPolicy | Any = None,
    reward: LearnedReward | None = None,
    heldout: Demonstrations | None = None,
    stop_when_converged: bool = False,
) -> Run:
    """Train a learner until ``total_steps`` environment steps (expert steps, where no environment is used).

    Imitation learners need ``demos``, and DAgger an ``expert`` in their place: a policy, or an object with
    ``predict``. Learners that act need ``env``, the others at least a ``spec``. An
    evaluation with the mean action, and a checkpoint, follow every ``eval_every`` steps where there is an
    ``eval_env``, and the end. Ctrl-C ends the run after the iteration it falls into. ``warm_start`` is a policy to
    begin with, such as ``run.policy`` of a cloning before. A forward learner is paid by ``reward``, of
    ``menura.load_reward``, instead of the environment; returns stay the environment's own. ``heldout`` are
    demonstrations that evaluations are read against (docs/reading.md): they must not be among ``demos``, and no update
    sees them. ``stop_when_converged`` ends the run at the first evaluation at which
    :func:`menura.imitation.rules.converged` holds.

    At every checkpoint host environments are begun afresh from (seed, step), because a simulator
    cannot be put back to where it was; so a resumed run meets what an uninterrupted one met.
    """
    loop = training(
        learner,
        env,
        demos,
        total_steps=total_steps,
        seed=seed,
        spec=spec,
        eval_env=eval_env,
        eval_every=eval_every,
        eval_episodes=eval_episodes,
        watchers=watchers,
        resume=resume,
        warm_start=warm_start,
        expert=expert,
        reward=reward,
        heldout=heldout,
        stop_when_converged=stop_when_converged,
    )
    return alone(loop)


def alone(loop: Generator[Asked, Made, Result]) -> Result:
    """Make every iteration that one loop asks for, and return what it ends with."""
    try:
        asked = next(loop)
        iterate = make_iterate(asked.problem)
        while True:
            started = time.perf_counter()
            state, carry, outcome, metrics = iterate(asked.state, asked.carry, asked.key, asked.truncate)
            metrics = jax.device_get(metrics)
            asked = loop.send(Made(state, carry, outcome, metrics, time.perf_counter() - started))
    except StopIteration as ended:
        return ended.value


def training(
    learner: AbstractLearner,
    env: Envs | None = None,
    demos: Demonstrations | None = None,
    *,
    total_steps: int,
    seed: int = 0,
    spec: Spec | None = None,
    eval_env: Envs | None = None,
    eval_every: int = 0,
    eval_episodes: int = 5,
    watchers: Sequence["Watcher"] = (),
    resume: Checkpoint | None = None,
    warm_start: AbstractPolicy | None = None,
    expert: AbstractPolicy | Any = None,
    reward: LearnedReward | None = None,
    heldout: Demonstrations | None = None,
    stop_when_converged: bool = False,
    interrupted: list[bool] | None = None,
) -> Generator[Asked, Made, Run]:
    """:func:`train` as a loop that asks for each of its iterations, so that several can be made in one program.

    ``interrupted`` is a list that is no longer empty once the run is to end; its own where none is given.
    """
    acts = learner.num_steps > 0
    if acts and env is None:
        raise RequestError(f"{type(learner).__name__} learns by acting: give it an environment.")
    spec = spec or (env.spec if env is not None else None)
    if spec is None:
        raise RequestError("Give an environment or a spec, so that the networks can be built.")
    require_pictures(learner, spec)
    refuse_settings_of_other_actions(learner, spec)
    num_envs = env.num_envs if acts and env is not None else 0
    learner = resolve_replay_storage(learner, env if acts else None)
    learner = resolve_max_labels(resolve_reward_form(learner, env, demos), total_steps, num_envs)
    data = expert_data_of(learner, demos, spec, seed)
    ask = how_to_ask(learner, env, expert)
    shown = data.at(jax.random.key(seed)) if isinstance(data, Stream) else data
    reader = None if eval_env is None else make_reader(learner, spec, shown, heldout, seed=seed)
    steps_per_update = learner.steps_per_update(num_envs)
    if stop_when_converged:
        if reader is None or eval_every == 0:
            raise RequestError(NOTHING_TO_READ)
        if resume is None:
            require_readings(total_steps, eval_every, steps_per_update)

    on_host = acts and not isinstance(env, NativeEnvs)
    root = jax.random.key(seed)
    if resume is None:
        if acts:
            require_memory(learner, spec, num_envs)
        state, carry, progress = _beginning(learner, env, spec, root, num_envs)
        if warm_start is not None:
            state = begun_with(state, warm_policy(learner, spec, warm_start))
    else:
        state, carry, progress = _copied(resume)
    read_policy = None if resume is None else resume.read_policy
    if on_host:
        carry = _begin_afresh(env, seed, progress)
    source = _host_replay(learner, spec, num_envs, resume, watchers)
    if reward is not None and not isinstance(learner, AbstractForwardLearner):
        raise RequestError(f"{type(learner).__name__} has a reward of its own: leave out the one to train on.")
    problem = Problem(learner, env if acts else None, data if reward is None else reward, ask, source)

    evaluations: list[tuple[int, Evaluation]] = []
    first = True
    with interrupt_flag() if interrupted is None else nullcontext(interrupted) as interrupted:
        while progress.env_steps < total_steps and not _finished(learner, state) and not interrupted:
            if stop_when_converged and converged(progress.readings):
                break
            due = _checkpoint_follows(progress.env_steps, steps_per_update, total_steps, eval_every)
            key = jax.random.fold_in(root, progress.iteration + 1)
            made = yield Asked(problem, state, carry, key, due)
            state, carry = made.state, made.carry
            metrics = {name: float(value) for name, value in made.metrics.items()}
            progress.iteration += 1
            progress.env_steps += steps_per_update
            _refuse_nonfinite(metrics, progress.env_steps)
            if acts:
                metrics |= _episode_metrics(progress, *map(np.asarray, made.outcome))
            # The first iteration compiles, and is not counted.
            if not first:
                progress.seconds += made.seconds
                progress.timed_steps += steps_per_update
            first = False
            for watcher in watchers:
                watcher.on_update(progress, metrics)
            exact = due or _finished(learner, state)
            is_best = False
            if exact:
                is_best = True
                if eval_env is not None:
                    policy = learner.final_policy(state)
                    result = evaluate(
                        eval_env, policy, num_episodes=eval_episodes, seed=seed, keep_steps=READ_STEPS if reader else 0
                    )
                    evaluations.append((progress.env_steps, result))
                    is_best = _noted(progress, result, reader, state, policy, read_policy)
                    read_policy = policy if reader else None
                    for watcher in watchers:
                        watcher.on_evaluation(progress, result)
                if on_host and progress.env_steps < total_steps:
                    carry = _begin_afresh(env, seed, progress)
            if exact or interrupted:
                checkpoint = Checkpoint(state, None if on_host else carry, progress, read_policy, source)
                for watcher in watchers:
                    watcher.on_checkpoint(checkpoint, is_best=is_best, exact=exact or not on_host)
    speed = progress.timed_steps / progress.seconds if progress.seconds else math.nan
    stopped = stop_when_converged and converged(progress.readings)
    return Run(
        learner, state, progress.env_steps, progress.seconds, speed, tuple(evaluations), bool(interrupted), stopped
    )


def _beginning(
    learner: AbstractLearner, env: Envs | None, spec: Spec, root: Any, num_envs: int
) -> tuple[Any, Any, Progress]:
    """State, standing of native environments, and progress before the first iteration."""
    init_key, reset_key = jax.random.split(root)

    def init(key: Any) -> Any:
        return strongly_typed(learner.init(spec, key=key))

    state = jax.jit(init, compiler_options=QUICK_COMPILATION)(init_key)
    carry = env.reset(key=reset_key) if isinstance(env, NativeEnvs) and num_envs else None
    return state, carry, Progress(running_return=[0.0] * num_envs, running_length=[0] * num_envs)


def _host_replay(
    learner: AbstractLearner, spec: Spec, num_envs: int, resume: Checkpoint | None, watchers: Sequence[Watcher]
) -> FrameReplay | None:
    """The replay on the host, where the learner has one; what memory any replay takes is said."""
    inner = replay_learner_of(learner)
    if inner is None or num_envs == 0:
        return None
    for watcher in watchers:
        watcher.on_memory(replay_bytes(learner, spec, num_envs))
    if resume is not None and resume.source is not None:
        return resume.source
    source = inner.host_replay(spec, num_envs)
    if source is not None:
        source.allocate()
    return source


def _noted(
    progress: Progress,
    result: Evaluation,
    reader: Reader | None,
    state: Any,
    policy: AbstractPolicy,
    before: AbstractPolicy | None,
) -> bool:
    """Write an evaluation, and what is read of it, into the progress; whether it is the best so far."""
    is_best = result.mean > progress.best_return
    progress.best_return = max(progress.best_return, result.mean)
    if reader is None or result.steps is None:
        return is_best
    reading = reader.read(state, policy, before, result.steps)
    progress.readings = [*progress.readings, {"env_steps": float(progress.env_steps)} | reading]
    return newest_is_best(progress.readings)


def _copied(checkpoint: Checkpoint) -> tuple[Any, Any, Progress]:
    """A checkpoint's parts; training changes the progress, and must not change the checkpoint's."""
    return checkpoint.state, checkpoint.carry, dataclasses.replace(checkpoint.progress)


def _checkpoint_follows(env_steps: int, steps_per_update: int, total_steps: int, eval_every: int) -> bool:
    """Whether the iteration that begins at ``env_steps`` ends with a checkpoint."""
    after = env_steps + steps_per_update
    return after >= total_steps or (eval_every > 0 and after // eval_every > env_steps // eval_every)


def _host_seed(seed: int, env_steps: int) -> int:
    """A host simulator's seed, from the run's and the step it begins at."""
    return int(np.random.SeedSequence((seed, env_steps)).generate_state(1)[0])


def _begin_afresh(env: Any, seed: int, progress: Progress) -> np.ndarray:
    progress.running_return, progress.running_length = [0.0] * env.num_envs, [0] * env.num_envs
    return env.reset(_host_seed(seed, progress.env_steps))


def _finished(learner: AbstractLearner, state: Any) -> bool:
    return not isinstance(learner, AbstractForwardLearner) and learner.finished(state)


def _episode_metrics(
    progress: Progress, reward: np.ndarray, terminated: np.ndarray, truncated: np.ndarray
) -> dict[str, float]:
    """Mean return and length of the episodes that ended in a rollout ``[time, env]``; nan where none did."""
    running_return, running_length = np.array(progress.running_return), np.array(progress.running_length)
    returns: list[float] = []
    lengths: list[int] = []
    for reward_row, ended in zip(reward, terminated | truncated, strict=True):
        running_return += reward_row
        running_length += 1
        returns.extend(running_return[ended])
        lengths.extend(running_length[ended])
        running_return[ended], running_length[ended] = 0, 0
    progress.running_return, progress.running_length = running_return.tolist(), running_length.tolist()
    if not returns:
        return {"episode/return": math.nan, "episode/length": math.nan}
    return {"episode/return": float(np.mean(returns)), "episode/length": float(np.mean(lengths))}


def _refuse_nonfinite(metrics: dict[str, float], env_steps: int) -> None:
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise FloatingPointError(f"{name} is {value} after {env_steps} steps: try a lower learning rate.")


@contextmanager
def interrupt_flag() -> Iterator[list[bool]]:
    """A list that stops being empty at the first Ctrl-C; the second one raises as usual."""
    flag: list[bool] = []
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return
    usual = signal.getsignal(signal.SIGINT)

    def note(signum: int, frame: Any) -> None:
        flag.append(True)
        signal.signal(signal.SIGINT, usual)

    signal.signal(signal.SIGINT, note)
    try:
        yield flag
    finally:
        signal.signal(signal.SIGINT, usual)
