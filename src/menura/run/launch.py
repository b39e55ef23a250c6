"""From a request to a finished run folder: what ``menura train`` does, callable from Python too."""

import dataclasses
import math
import shlex
import sys
import time
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from menura.core import (
    AbstractPolicy,
    RequestError,
    Spec,
)
from menura.demonstrations.episodes import Demonstrations
from menura.demonstrations.readers import locate
from menura.environments.base import Envs, NativeEnvs
from menura.environments.driving import is_driving, outcome, road_of
from menura.evaluation import UniformPolicy, evaluate
from menura.imitation.reward import LearnedReward
from menura.run.artifacts import (
    checkpoint_dir,
    file_hash,
    load_policy,
    load_tree,
    provenance,
    read_json,
    save_tree,
    write_bytes,
    write_json,
)
from menura.run.experts import Expert, KeepsLabels, load_expert
from menura.run.folder import RunFolder, load_checkpoint
from menura.run.iteration import Asked, Made
from menura.run.memory import require_memory
from menura.run.replay_files import ReplayFiles
from menura.run.request import Request, load_parts, make_env, spec_of_request
from menura.run.resolve import (
    refuse_settings_of_other_actions,
    require_pictures,
    resolve_max_labels,
    resolve_replay_storage,
    resolve_reward_form,
    sees_actions,
    warm_policy,
)
from menura.run.reward import FOLDER, check_fits, learns_reward, read_reward, save_reward
from menura.run.train import NOTHING_TO_READ, Checkpoint, Watcher, alone, require_readings, training

FINAL_EPISODES = 50
"""Episodes of the evaluation that ``result.json`` holds."""
WARM_START = "warm_start.safetensors"
"""The file in a run folder that keeps the policy it began with."""
ALL_STEPS = 10_000_000
"""More than any evaluation has."""
RANDOM_EPISODES = 20
"""Episodes of the uniform policy that it is compared with."""


@dataclass(frozen=True)
class Prepared:
    """A request with nothing left to decide, and the environment and data that it was checked with."""

    request: Request
    env: Envs | None
    spec: Spec
    demos: Demonstrations | None
    warm_policy: AbstractPolicy | None = None
    """What is begun with, as the learner's own."""
    expert: Expert | None = None
    reward: tuple[LearnedReward, dict[str, Any]] | None = None
    """What is trained on in the place of the environment's own reward, and its description."""
    heldout: Demonstrations | None = None
    """What the run is read by: left of the file by ``num_demos`` or ``subsample``."""

    @property
    def heldout_by(self) -> str | None:
        """The option that held out what the run is read by."""
        if self.heldout is not None:
            return "num_demos" if self.heldout.kept is None else "subsample"
        fraction = getattr(self.request.learner, "heldout_fraction", 0.0)
        return "heldout_fraction" if self.demos is not None and fraction > 0 else None

    @property
    def config(self) -> dict[str, Any]:
        """``config.json``."""
        expert_return = math.nan if self.demos is None else self.demos.expert_return
        if self.expert is not None:
            expert_return = self.expert.mean_return
        return self.request.to_json(self.spec) | {"expert_return": expert_return, "heldout": self.heldout_by}


def prepare(request: Request, *, warm_from: Path | None = None, reward_from: Path | None = None) -> Prepared:
    """Load, make and check everything that a request names, and decide what it left open.

    ``warm_from`` is the file in a run that keeps what it began with, in place of the other run that this came from,
    and ``reward_from`` the folder that keeps the reward it is trained on.
    """
    demos, heldout = load_parts(request)
    env = make_env(request, request.num_envs if request.learner.num_steps > 0 else 1)
    spec = spec_of_request(request, env, demos)
    require_pictures(request.learner, spec)
    if demos is not None:
        if sees_actions(request.learner):
            demos.require_actions()
        demos.check(spec)
    if env is not None:
        request.learner.steps_per_update(request.num_envs)
        learner = resolve_replay_storage(request.learner, env)
        learner = resolve_max_labels(learner, request.total_steps, request.num_envs)
        if learner.num_steps > 0:
            require_memory(learner, spec, request.num_envs)
        learner = resolve_reward_form(learner, env, demos)
        request = dataclasses.replace(request, backend=env.backend, learner=learner)
    warm = None
    if warm_from is not None:
        warm = load_tree(warm_from, jax.eval_shape(lambda: _fresh_policy(request.learner, spec)))
    elif request.warm_start is not None:
        warm = warm_policy(request.learner, spec, load_policy(request.warm_start)[0])
    # After what was begun with, which says better why it cannot be: it brings some of these settings.
    refuse_settings_of_other_actions(request.learner, spec)
    expert = None if request.expert is None or env is None else load_expert(request.expert, env, request.env_kwargs)
    reward = None
    if request.reward is not None:
        reward = read_reward(reward_from or request.reward, part=request.reward_part, form=request.reward_paid)
        check_fits(reward[0], spec, env_id=str(request.env), source=request.reward)
    prepared = Prepared(request, env, spec, demos, warm, expert, reward, heldout)
    if request.stop_when_converged and (prepared.heldout_by is None or env is None or request.eval_every == 0):
        raise RequestError(NOTHING_TO_READ)
    return prepared


def _fresh_policy(learner: Any, spec: Spec) -> AbstractPolicy:
    return learner.policy(learner.init(spec, key=jax.random.key(0)))


def launch(
    request: Request, *, out: Path, loggers: Sequence[str] = ("csv", "tensorboard"), watchers: Sequence[Watcher] = ()
) -> Path:
    """Train as requested and return the run's folder, ``out/<env>/<algorithm>/<time>-s<seed>``."""
    started = time.perf_counter()
    prepared = prepare(request)
    run = begin(prepared, out)
    return alone(training_in(RunFolder(run, loggers=loggers), prepared, None, watchers, started))


def begin(prepared: Prepared, out: Path) -> Path:
    """A new run's folder, with everything that ``--resume`` needs to train it."""
    request, learner = prepared.request, prepared.request.learner
    if request.stop_when_converged:
        num_envs = request.num_envs if learner.num_steps > 0 else 0
        require_readings(request.total_steps, request.eval_every, learner.steps_per_update(num_envs))
    run = new_folder(out, request)
    write_json(run / "config.json", prepared.config)
    write_bytes(run / "command.txt", (shlex.join(sys.argv) + "\n").encode())
    meta = provenance(None if request.demos is None else locate(request.demos))
    if prepared.warm_policy is not None:
        # A copy, so that the run can go on without the one it came from.
        save_tree(run / WARM_START, prepared.warm_policy)
        meta["warm_start_sha256"] = file_hash(run / WARM_START)
    if prepared.expert is not None:
        meta["expert_sha256"] = prepared.expert.sha256
    if prepared.reward is not None:
        meta["reward_sha256"] = file_hash(save_reward(run / FOLDER, *prepared.reward))
    write_json(run / "meta.json", meta)
    return run


def resume(run: Path, *, loggers: Sequence[str] = ("csv", "tensorboard"), watchers: Sequence[Watcher] = ()) -> Path:
    """Go on with a run from its latest checkpoint, to the numbers it would have had without the stop."""
    started = time.perf_counter()
    request = Request.from_json(read_json(run / "config.json"))
    if (run / "result.json").exists():
        raise RequestError(f"{run} is finished: `menura eval {run}` shows how it does.")
    meta = read_json(run / "meta.json")
    if request.demos is not None and file_hash(locate(request.demos)) != meta.get("data_sha256"):
        raise RequestError(f"{request.demos} is not the file that {run} was started with: put that one back.")
    warm_from = None if request.warm_start is None else run / WARM_START
    if warm_from is not None and not (warm_from.is_file() and file_hash(warm_from) == meta.get("warm_start_sha256")):
        raise RequestError(f"{warm_from} is not the policy that this run began with: put that file back.")
    reward_from = None if request.reward is None else run / FOLDER
    if reward_from is not None and not (reward_from.is_dir() and file_hash(reward_from) == meta.get("reward_sha256")):
        raise RequestError(f"{reward_from} is not the reward that this run began with: put that folder back.")
    prepared = prepare(request, warm_from=warm_from, reward_from=reward_from)
    if prepared.expert is not None and prepared.expert.sha256 != meta.get("expert_sha256"):
        raise RequestError(f"{request.expert} is not the expert that {run} was started with: put that one back.")
    checkpoint = load_checkpoint(run, prepared.env)
    resume_at = 0 if checkpoint is None else checkpoint.progress.env_steps
    folder = RunFolder(run, loggers=loggers, resume_at=resume_at)
    return alone(training_in(folder, prepared, checkpoint, watchers, started))


def training_in(
    folder: RunFolder,
    prepared: Prepared,
    checkpoint: Checkpoint | None,
    watchers: Sequence[Watcher],
    started: float,
    *,
    interrupted: list[bool] | None = None,
    random_return: float | None = None,
) -> Generator[Asked, Made, Path]:
    """Train in a run folder to its ``result.json``, as a loop that asks for its iterations.

    ``random_return`` is :func:`uniform_return` where it is known already.
    """
    request, run = prepared.request, folder.path
    evaluates = request.env is not None and request.eval_every > 0
    eval_env = make_env(request, min(request.eval_episodes, FINAL_EPISODES), evaluation=True) if evaluates else None
    expert, env = prepared.expert, prepared.env
    if expert is not None and env is not None:
        watchers = (KeepsLabels(run, env), *watchers)
    background = ThreadPoolExecutor(1)
    try:
        # What is compared with at the end is played while the first update compiles, which takes one core.
        played = None
        if request.env is not None and random_return is None:
            played = background.submit(uniform_return, request)
        finished = yield from training(
            request.learner,
            prepared.env,
            prepared.demos,
            total_steps=request.total_steps,
            seed=request.seed,
            spec=prepared.spec,
            eval_env=eval_env,
            eval_every=request.eval_every,
            eval_episodes=request.eval_episodes,
            watchers=(folder, *watchers),
            resume=checkpoint,
            warm_start=prepared.warm_policy,
            expert=None if expert is None else expert.actor,
            interrupted=interrupted,
            reward=None if prepared.reward is None else prepared.reward[0],
            heldout=prepared.heldout,
            stop_when_converged=request.stop_when_converged,
        )
        if finished.stopped_early:
            raise KeyboardInterrupt(f"Interrupted; `menura train --resume {run}` goes on with it.")
        if learns_reward(request.learner):
            save_reward(run / FOLDER, *read_reward(run), overwrite=True)
        random_return = random_return if played is None else played.result()
        result = {} if request.env is None else evaluate_run(run, random_return=random_return)
    finally:
        background.shutdown()
        folder.close()
        for batch in (prepared.env, eval_env):
            _close(batch)
    result |= {
        "algorithm": request.algorithm,
        "seed": request.seed,
        "env_steps": finished.env_steps if request.learner.num_steps > 0 else 0,
        "steps_per_second": finished.steps_per_second,
        "wall_seconds": time.perf_counter() - started,
        "converged": finished.converged,
    }
    write_json(run / "result.json", result)
    # What a finished run learned from is of no more use, and may be gigabytes.
    ReplayFiles(run).remove()
    return run


def _close(env: Envs | None) -> None:
    """Free a host simulator; native environments hold nothing to free."""
    if env is not None and not isinstance(env, NativeEnvs):
        env.close()


def evaluate_run(
    run: Path,
    *,
    episodes: int = FINAL_EPISODES,
    checkpoint: str = "last",
    deterministic: bool = True,
    seed: int = 1,
    random_return: float | None = None,
) -> dict[str, Any]:
    """How a run's policy does, beside the uniform policy and the expert: what ``menura eval --json`` prints.

    ``random_return`` is :func:`uniform_return` where it is known already.
    """
    policy, config = load_policy(run, checkpoint)
    if config["env"] is None:
        raise RequestError(f"{run} was trained without an environment, so there is none to evaluate it in.")
    request = Request.from_json(config)
    env = make_env(request, FINAL_EPISODES, evaluation=True)
    assert env is not None
    drives = is_driving(config["env"])
    result = evaluate(
        env,
        policy,
        num_episodes=episodes,
        seed=_far_seed(seed, 1),
        deterministic=deterministic,
        keep_steps=ALL_STEPS if drives else 0,
    )
    random_return = uniform_return(request) if random_return is None else random_return
    expert_return = config.get("expert_return")
    expert_return = math.nan if expert_return is None else expert_return
    _close(env)
    driven: dict[str, Any] = {}
    if drives:
        assert result.steps is not None
        driven = outcome(result.steps, episodes, road=road_of(config["env"], config["env_kwargs"]))
    return {
        "env": config["env"],
        "algorithm": config["algorithm"],
        "checkpoint": int(checkpoint_dir(run, checkpoint).name),
        "episodes": episodes,
        "mean_return": result.mean,
        "std_return": result.std,
        "ci95": result.ci95,
        "mean_length": float(np.mean(result.lengths)),
        "random_return": random_return,
        "expert_return": expert_return,
        "normalized": normalized(result.mean, random_return, expert_return),
        **driven,
    }


def uniform_return(request: Request) -> float:
    """Mean return of the policy that acts uniformly at random, over :data:`RANDOM_EPISODES` episodes."""
    env = make_env(request, RANDOM_EPISODES, evaluation=True)
    assert env is not None
    uniform = evaluate(env, UniformPolicy(env.spec), num_episodes=RANDOM_EPISODES, seed=0, deterministic=False)
    _close(env)
    return uniform.mean


def normalized(mean: float, random_return: float, expert_return: float) -> float:
    """0 for the uniform policy, 1 for the expert; nan where the expert is not known or no better."""
    if not expert_return > random_return:
        return math.nan
    return (mean - random_return) / (expert_return - random_return)


def new_folder(out: Path, request: Request) -> Path:
    """A folder that did not exist before: ``out/<env>/<algorithm>/<time>-s<seed>``."""
    where = request.env or Path(str(request.demos)).stem
    parent = out / where.replace("/", "_").replace(":", "_") / request.algorithm
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for suffix in ("", *(f"-{n}" for n in range(2, 1000))):
        run = parent / f"{stamp}-s{request.seed}{suffix}"
        try:
            run.mkdir(parents=True)
        except FileExistsError:
            continue
        return run
    raise RequestError(f"{parent} holds too many runs of this second: give another --out.")


def _far_seed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0] >> 1)
