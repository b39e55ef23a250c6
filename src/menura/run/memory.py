"""Memory that a replay takes: known, and refused where the machine lacks it, before any of it is taken."""

from pathlib import Path
from typing import Any

import jax

from menura.core import AbstractForwardLearner, AbstractLearner, RequestError, Spec
from menura.forward.off_policy import AbstractReplayLearner

MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")


def replay_learner_of(learner: AbstractLearner) -> AbstractReplayLearner | None:
    """The learner, or the one that it holds, that learns from a replay."""
    inner = learner if isinstance(learner, AbstractForwardLearner) else getattr(learner, "forward", None)
    return inner if isinstance(inner, AbstractReplayLearner) else None


def replay_bytes(learner: AbstractLearner, spec: Spec, num_envs: int) -> int:
    """Memory that a learner's replay takes when it is full; 0 where it has none."""
    inner: Any = replay_learner_of(learner)
    if inner is None:
        return 0
    source = inner.host_replay(spec, num_envs)
    if source is not None:
        return source.num_bytes
    state = jax.eval_shape(lambda key: inner.init(spec, key=key), jax.random.key(0))
    # An update makes the new ring while the old one is still there.
    return 2 * sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(inner.replay(state)))


def available_bytes() -> int | None:
    """Memory that programs can still take; ``None`` where the system does not say."""
    known = []
    if MEMINFO.exists():
        lines = MEMINFO.read_text().splitlines()
        known += [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable")]
    # A container may be allowed less than the machine has.
    limit, used, stat = (CGROUP / name for name in ("memory.max", "memory.current", "memory.stat"))
    if limit.exists() and limit.read_text().strip().isdigit():
        cached = [int(line.split()[1]) for line in stat.read_text().splitlines() if line.startswith("inactive_file ")]
        known.append(int(limit.read_text()) - int(used.read_text()) + sum(cached))
    return min(known) if known else None


def require_memory(learner: AbstractLearner, spec: Spec, num_envs: int) -> None:
    """Refuse a replay that the machine has no room for."""
    needed, available = replay_bytes(learner, spec, num_envs), available_bytes()
    if available is None or needed <= available:
        return
    inner: Any = replay_learner_of(learner)
    fits = int(inner.replay_size * available / needed * 0.9)
    raise RequestError(
        f"replay_size={inner.replay_size} takes {in_words(needed)} of memory and {in_words(available)} are free: "
        f"make it {fits} or less."
    )


def in_words(num_bytes: int) -> str:
    """A number of bytes as people read it."""
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.0f} MB"
