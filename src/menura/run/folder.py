"""The run folder as training fills it, and the way back into it for ``--resume`` and ``eval``."""

import dataclasses
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from menura.core import RequestError
from menura.environments.base import NativeEnvs
from menura.evaluation import Evaluation
from menura.run.artifacts import (
    Table,
    load_tree,
    read_json,
    save_tree,
    spec_from_json,
    write_bytes,
    write_json,
)
from menura.run.memory import replay_learner_of, require_memory
from menura.run.registry import from_json
from menura.run.replay_files import ReplayFiles
from menura.run.train import Checkpoint, Progress, Watcher, reading_of

Logger = str
LOGGERS = ("csv", "tensorboard", "wandb")


class RunFolder(Watcher):
    """Writes metrics, evaluations and checkpoints of a run into its folder."""

    def __init__(self, path: Path, *, loggers: Sequence[Logger] = ("csv", "tensorboard"), resume_at: int | None = None):
        self.path = path
        self._metrics = Table(path / "metrics.csv")
        self._evaluations = Table(path / "evaluations.csv")
        self._use_csv = "csv" in loggers
        self._board: Any = None
        self._wandb: Any = None
        if resume_at is not None:
            self._metrics.keep_until(resume_at)
            self._evaluations.keep_until(resume_at)
        if "tensorboard" in loggers:
            from tensorboardX import SummaryWriter

            self._board = SummaryWriter(str(path / "tb"), purge_step=resume_at)
        if "wandb" in loggers:
            try:
                import wandb
            except ImportError as error:
                raise RequestError(
                    "wandb is not installed: `pip install wandb`, or leave it out of --logger."
                ) from error
            self._wandb = wandb.init(project="menura", name=path.name, dir=str(path), resume="allow")

    def on_update(self, progress: Progress, metrics: dict[str, float]) -> None:
        """A row of metrics.csv; cells without a number stay empty."""
        finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
        where = {"env_steps": progress.env_steps, "iteration": progress.iteration, "seconds": progress.seconds}
        if self._use_csv:
            self._metrics.append(where | {name: finite.get(name, "") for name in metrics})
        if self._board is not None:
            for name, value in finite.items():
                self._board.add_scalar(name, value, progress.env_steps)
        if self._wandb is not None:
            self._wandb.log(finite, step=progress.env_steps)

    def on_evaluation(self, progress: Progress, evaluation: Evaluation) -> None:
        """A row of evaluations.csv, whatever the loggers: later commands read it."""
        proxies = {name: value for name, value in reading_of(progress).items() if name != "env_steps"}
        finite = {name: value for name, value in proxies.items() if math.isfinite(value)}
        self._evaluations.append(
            {
                "env_steps": progress.env_steps,
                "mean_return": evaluation.mean,
                "std_return": evaluation.std,
                "ci95": evaluation.ci95 if math.isfinite(evaluation.ci95) else "",
                "mean_length": float(evaluation.lengths.mean()),
                "episodes": len(evaluation.returns),
                "seconds": progress.seconds,
                **{name: finite.get(name, "") for name in proxies},
            }
        )
        shown = {"evaluation/mean_return": evaluation.mean, **finite}
        if self._board is not None:
            for name, value in shown.items():
                self._board.add_scalar(name, value, progress.env_steps)
        if self._wandb is not None:
            self._wandb.log(shown, step=progress.env_steps)

    def on_checkpoint(self, checkpoint: Checkpoint, *, is_best: bool, exact: bool) -> None:
        """A folder ``checkpoints/<step>`` that appears whole, and what ``last`` and ``best`` name."""
        checkpoints = self.path / "checkpoints"
        step = str(checkpoint.progress.env_steps)
        temporary = checkpoints / f".{step}.partial"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        save_tree(temporary / "state.safetensors", checkpoint.state)
        if checkpoint.carry is not None:
            save_tree(temporary / "carry.safetensors", checkpoint.carry)
        # A replay on the host is kept where a run can go on from, and nowhere between.
        chunks = ReplayFiles(self.path)
        if checkpoint.source is not None and exact:
            chunks.append(checkpoint.source, temporary)
        write_json(temporary / "progress.json", {"exact": exact, **dataclasses.asdict(checkpoint.progress)})
        shutil.rmtree(checkpoints / step, ignore_errors=True)
        temporary.rename(checkpoints / step)
        write_bytes(checkpoints / "last", f"{step}\n".encode())
        if is_best or not (checkpoints / "best").exists():
            write_bytes(checkpoints / "best", f"{step}\n".encode())
        if checkpoint.source is not None and exact:
            chunks.forget_before(int(checkpoint.source.oldest.min()))

    def close(self) -> None:
        """Flush what is still buffered."""
        if self._board is not None:
            self._board.close()
        if self._wandb is not None:
            self._wandb.finish()


def latest_exact(run: Path) -> Path | None:
    """The newest checkpoint from which a run goes on as if it had never stopped; ``None`` if there is none."""
    folders = sorted((p for p in (run / "checkpoints").glob("[0-9]*")), key=lambda p: int(p.name), reverse=True)
    return next((p for p in folders if read_json(p / "progress.json")["exact"]), None)


def load_checkpoint(run: Path, env: Any) -> Checkpoint | None:
    """The checkpoint to resume a run from, or ``None`` where it must begin anew."""
    folder = latest_exact(run)
    if folder is None:
        return None
    config = read_json(run / "config.json")
    learner, spec = from_json(config["learner"]), spec_from_json(config["spec"])
    like = jax.eval_shape(lambda key: learner.init(spec, key=key), jax.random.key(0))
    state = load_tree(folder / "state.safetensors", like)
    carry = None
    if isinstance(env, NativeEnvs) and (folder / "carry.safetensors").exists():
        carry = load_tree(
            folder / "carry.safetensors", jax.eval_shape(lambda key: env.reset(key=key), jax.random.key(0))
        )
    numbers = read_json(folder / "progress.json")
    del numbers["exact"]
    if numbers["best_return"] in (None, "-inf"):
        numbers["best_return"] = -math.inf
    readings = [_with_nan(row) for row in numbers.pop("readings", [])]
    read_policy = None
    if readings:
        # The last evaluation is a checkpoint too, and where Ctrl-C fell between two it is not this one.
        read_at = run / "checkpoints" / str(int(readings[-1]["env_steps"])) / "state.safetensors"
        read_policy = learner.final_policy(load_tree(read_at, like))
    source = None
    inner = replay_learner_of(learner)
    if inner is not None and (source := inner.host_replay(spec, config["num_envs"])) is not None:
        require_memory(learner, spec, config["num_envs"])
        source.allocate()
        ReplayFiles(run).restore(source, folder)
    return Checkpoint(state, carry, Progress(**numbers, readings=readings), read_policy, source)


def _with_nan(row: dict[str, Any]) -> dict[str, float]:
    """What JSON keeps of a row of numbers, as it was: null stands for nan."""
    return {name: math.nan if value is None else float(value) for name, value in row.items()}
