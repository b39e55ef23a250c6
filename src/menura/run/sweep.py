"""Several seeds of one request: each an ordinary run in a folder of its own.

Where an iteration is one jitted call (JAX environments, and cloning), the loops of all seeds go in step, and their
iterations are made by one program: on an accelerator under ``vmap``, on the processor by threads. Simulators act on the
host; their seeds are trained by processes of their own, which are spawned and not forked, because a fork of JAX's
threads does not work.
"""

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from menura.core import ExpertData, RequestError, Transition
from menura.demonstrations.stream import Stream
from menura.environments.base import NativeEnvs
from menura.imitation.dagger import DAgger
from menura.run.folder import RunFolder
from menura.run.iteration import Asked, Made, Problem, pure_iteration
from menura.run.launch import Prepared, begin, prepare, training_in, uniform_return
from menura.run.memory import require_memory
from menura.run.request import Request
from menura.run.train import Watcher, interrupt_flag


def seeds_of(text: str) -> tuple[int, ...]:
    """``0..9`` as 0 to 9, ``0,3,5`` as these; both may be mixed."""
    seeds: list[int] = []
    for part in text.split(","):
        first, dots, last = part.partition("..")
        try:
            low, high = int(first), int(last if dots else first)
        except ValueError:
            raise RequestError(f"--seeds takes a range like 0..9 or a list like 0,3,5, not {text!r}.") from None
        if low < 0 or high < low:
            raise RequestError(f"--seeds {text} must count upwards from 0 or more.")
        seeds.extend(range(low, high + 1))
    if len(set(seeds)) < len(seeds):
        raise RequestError(f"--seeds {text} names a seed twice.")
    return tuple(seeds)


def in_one_program(prepared: Prepared) -> bool:
    """Whether all seeds of a request can be trained by one program."""
    learner = prepared.request.learner
    return not isinstance(learner, DAgger) and (learner.num_steps == 0 or isinstance(prepared.env, NativeEnvs))


def launch_seeds(
    request: Request,
    seeds: Sequence[int],
    *,
    out: Path,
    loggers: Sequence[str] = ("csv", "tensorboard"),
    watcher_of: Callable[[int], Watcher] = lambda seed: Watcher(),
    say: Callable[[str], None] = lambda line: None,
    jobs: int | None = None,
) -> list[Path]:
    """Train every seed as :func:`menura.run.launch.launch` would train it alone, and return the runs' folders.

    ``jobs`` is how many simulators' seeds are trained at once, by default half as many as there are cores.
    ``watcher_of`` makes what watches a seed of one program, and ``say`` is told what processes print on stderr.
    """
    prepared = [prepare(dataclasses.replace(request, seed=seed)) for seed in seeds]
    together = in_one_program(prepared[0])
    if together and jobs is not None:
        raise RequestError("All seeds of this run are trained at once in one program: leave out --jobs.")
    jobs = jobs or max(1, (os.cpu_count() or 1) // 2)
    learner, num_envs = prepared[0].request.learner, prepared[0].request.num_envs
    if learner.num_steps > 0:
        require_memory(learner, prepared[0].spec, num_envs, copies=len(seeds) if together else min(jobs, len(seeds)))
    runs = [begin(one, out) for one in prepared]
    if together:
        train_together(runs, prepared, loggers=loggers, watcher_of=watcher_of)
    else:
        for one in prepared:
            if one.env is not None and not isinstance(one.env, NativeEnvs):
                one.env.close()
        train_in_processes(runs, loggers=loggers, jobs=jobs, say=say)
    return runs


def train_together(
    runs: Sequence[Path],
    prepared: Sequence[Prepared],
    *,
    loggers: Sequence[str] = ("csv",),
    watcher_of: Callable[[int], Watcher] = lambda seed: Watcher(),
    vmapped: bool | None = None,
) -> None:
    """Train new runs in step, all their iterations by one program; ``vmapped`` as :func:`drive` says."""
    started = time.perf_counter()
    request = prepared[0].request
    random_return = None if request.env is None else uniform_return(request)
    with interrupt_flag() as interrupted:
        loops = [
            training_in(
                RunFolder(run, loggers=loggers),
                one,
                None,
                [watcher_of(one.request.seed)],
                started,
                interrupted=interrupted,
                random_return=random_return,
            )
            for run, one in zip(runs, prepared, strict=True)
        ]
        stopped = drive(loops, vmapped=vmapped)
    _raise_all(stopped, runs)


Iterated = tuple[Any, Any, Any, dict[str, Any]]
"""State, carry, outcome and metrics after an iteration."""
Together = Callable[[dict[int, Asked]], dict[int, Iterated]]
"""Makes the iterations that several loops ask for, by number of the loop."""


def drive(loops: Sequence[Generator[Asked, Made, Any]], *, vmapped: bool | None = None) -> list[BaseException | None]:
    """Make the iterations of several loops by one program until all have ended; what each was stopped by, if it was.

    On the processor the program is that of a loop alone, run for each by as many threads as there are cores. On an
    accelerator it is ``vmapped`` over all. The processor gains nothing from that: a batch of small products takes as
    long as the products, and seven seeds of GAIL took 0.70 s an update against 0.63 s; and what is computed in turn
    is what is computed alone, to the bit.
    """
    stopped: list[BaseException | None] = [None] * len(loops)
    going, asked = dict(enumerate(loops)), {}

    def go_on(index: int, made: Made | None) -> None:
        try:
            asked[index] = next(going[index]) if made is None else going[index].send(made)
        except StopIteration:
            del going[index]
        except (Exception, KeyboardInterrupt) as error:
            stopped[index] = error
            del going[index]

    for index in list(going):
        go_on(index, None)
    if not going:
        return stopped
    problems = {index: one.problem for index, one in asked.items()}
    vmapped = jax.default_backend() != "cpu" if vmapped is None else vmapped
    iterate = iterate_vmapped(problems) if vmapped else iterate_in_threads(problems)
    while going:
        started = time.perf_counter()
        results = iterate({index: asked[index] for index in going})
        # Each seed took its share of the time.
        seconds = (time.perf_counter() - started) / len(going)
        for index, result in results.items():
            go_on(index, Made(*result, seconds))
    return stopped


def iterate_in_threads(problems: dict[int, Problem]) -> Together:
    """One program for all seeds, which threads run for one seed each at a time."""
    first = _like_each_other(problems)
    program = jax.jit(pure_iteration(first.learner, _native(first)), compiler_options=first.compiler_options)
    experts = _filled_up(problems)
    pool = ThreadPoolExecutor(min(len(problems), os.cpu_count() or 1))

    def one(index: int, asked: Asked) -> tuple[int, Iterated]:
        state, carry, outcome, metrics = program(asked.state, asked.carry, asked.key, experts[index])
        outcome, metrics = jax.device_get((outcome, metrics))
        return index, (state, carry, outcome, metrics)

    def iterate(asked: dict[int, Asked]) -> dict[int, Iterated]:
        # The first one by itself, so that it alone compiles.
        (head, alone), *rest = asked.items()
        first_result = one(head, alone)
        return dict([first_result, *pool.map(lambda item: one(*item), rest)])

    return iterate


def iterate_vmapped(problems: dict[int, Problem]) -> Together:
    """One program that makes the iterations of all seeds at once.

    A seed that has ended is still computed, with what it asked for last, and not looked at: so the program keeps its
    shape.
    """
    first = _like_each_other(problems)
    one = pure_iteration(first.learner, _native(first))
    experts = _filled_up(problems)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *experts.values())
    last: dict[int, Asked] = {}

    def together(states, carries, keys, experts):
        stack = lambda *leaves: jnp.stack(leaves)  # noqa: E731
        result = jax.vmap(one)(jax.tree.map(stack, *states), jax.tree.map(stack, *carries), jnp.stack(keys), experts)
        return [jax.tree.map(lambda x, i=i: x[i], result) for i in range(len(states))]

    program = jax.jit(together, compiler_options=first.compiler_options)

    def iterate(asked: dict[int, Asked]) -> dict[int, Iterated]:
        last.update(asked)
        every = [last[index] for index in problems]
        states, carries, keys = zip(*((each.state, each.carry, each.key) for each in every), strict=True)
        results = program(states, carries, keys, stacked)
        # What the loops look at is fetched at once, for all seeds.
        seen = jax.device_get([(outcome, metrics) for _, _, outcome, metrics in results])
        made = zip(problems, results, seen, strict=True)
        return {
            index: (state, carry, outcome, metrics)
            for index, (state, carry, _, _), (outcome, metrics) in made
            if index in asked
        }

    return iterate


def _like_each_other(problems: dict[int, Problem]) -> Problem:
    first, *others = problems.values()
    if any(problem.learner != first.learner or not problem.is_pure for problem in (first, *others)):
        raise RequestError("Seeds of different settings cannot be trained by one program.")
    if isinstance(first.expert, Stream):
        raise RequestError("These demonstrations are drawn from the disk: train one seed at a time with --seed.")
    return first


def _native(problem: Problem) -> NativeEnvs | None:
    assert problem.env is None or isinstance(problem.env, NativeEnvs)
    return problem.env


def _filled_up(problems: dict[int, Problem]) -> dict[int, Any]:
    """What every seed learns from in one shape: demonstrations of fewer rows are filled up, all else is as it is."""
    experts = [problem.expert for problem in problems.values()]
    if all(isinstance(expert, ExpertData) for expert in experts):
        experts = filled_experts(experts)
    return dict(zip(problems, experts, strict=True))


def filled_experts(experts: Sequence[ExpertData]) -> list[ExpertData]:
    """Several seeds' demonstrations in one shape: those of fewer rows are filled up, unless all have equally many."""
    sizes = [(len(one.train.reward), len(one.heldout.reward)) for one in experts]
    if len(set(sizes)) == 1:
        return list(experts)
    most = [max(column) for column in zip(*sizes, strict=True)]
    return [
        ExpertData(
            _filled(one.train, most[0]),
            _filled(one.heldout, most[1]),
            jnp.asarray(one.ending_rate),
            jnp.asarray(num_train, jnp.int32),
            jnp.asarray(num_heldout, jnp.int32),
        )
        for one, (num_train, num_heldout) in zip(experts, sizes, strict=True)
    ]


def _filled(rows: Transition, size: int) -> Transition:
    """So many rows, the first ones once more at the end: they are finite, and never counted."""
    place = np.arange(size) % max(len(rows.reward), 1)
    return jax.tree.map(lambda column: jnp.asarray(column)[place], rows)


def train_in_processes(
    runs: Sequence[Path], *, loggers: Sequence[str], jobs: int, say: Callable[[str], None] = lambda line: None
) -> None:
    """Train new runs, ``jobs`` of them at once, each by a process that was spawned for it.

    Ctrl-C is passed on once to each, which then saves; those that have not begun stay for ``--resume``.
    """
    waiting, going, stopped = list(runs), {}, []
    with interrupt_flag() as interrupted:
        passed_on = False
        try:
            while going or (waiting and not interrupted):
                while waiting and len(going) < jobs and not interrupted:
                    run = waiting.pop(0)
                    going[run] = _Spawned(run, loggers, say)
                if interrupted and not passed_on:
                    passed_on = True
                    for spawned in going.values():
                        spawned.process.send_signal(signal.SIGINT)
                for run, spawned in list(going.items()):
                    if spawned.process.poll() is not None:
                        del going[run]
                        stopped.append(spawned.end(bool(interrupted)))
                time.sleep(0.1)
        finally:
            # Only a second Ctrl-C leaves any behind.
            for spawned in going.values():
                spawned.process.kill()
    stopped.extend(_Interrupted(run) for run in waiting)
    _raise_all(stopped, runs)


class _Spawned:
    """A process that trains one run."""

    def __init__(self, run: Path, loggers: Sequence[str], say: Callable[[str], None]):
        self._run = run
        self._say = say
        command = [sys.executable, "-m", "menura", "train", "--resume", str(run), "--logger", ",".join(loggers)]
        # In a session of its own the terminal's Ctrl-C reaches it through this process only, and once.
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as lines:
            for line in lines:
                self._say(f"{self._run.name}: {line.rstrip()}")

    def end(self, interrupted: bool) -> BaseException | None:
        """What a process that has ended was stopped by, if it was."""
        self._listener.join()
        if _has_finished(self._run):
            return None
        if interrupted:
            return _Interrupted(self._run)
        return ChildProcessError(f"{self._run} failed with exit code {self.process.returncode}.")


class _Interrupted(KeyboardInterrupt):
    """A run that was stopped, and can go on."""

    def __init__(self, run: Path):
        super().__init__(f"Interrupted; `menura train --resume {run}` goes on with it.")


def _raise_all(stopped: Sequence[BaseException | None], runs: Sequence[Path]) -> None:
    """One exception for all seeds: failures, how to go on with those that were interrupted, and which have finished."""
    errors = [error for error in stopped if error is not None]
    if not errors:
        return
    failures = [error for error in errors if not isinstance(error, KeyboardInterrupt)]
    said = [*dict.fromkeys(map(str, errors)), *(f"{run} has finished." for run in runs if _has_finished(run))]
    if not failures:
        raise KeyboardInterrupt("\n".join(said))
    if not isinstance(failures[0], RequestError | FloatingPointError | ChildProcessError):
        raise failures[0]
    raise type(failures[0])("\n".join(said)) from failures[0]


def _has_finished(run: Path) -> bool:
    return (run / "result.json").exists()
