"""Memory that a replay takes: known, and refused where the machine lacks it, before any of it is taken."""

from pathlib import Path
from typing import Any

import jax

from menura.core import AbstractForwardLearner, AbstractLearner, RequestError, Spec
from menura.forward.off_policy import AbstractReplayLearner
from menura.imitation.dagger import DAgger

MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")


def replay_learner_of(learner: AbstractLearner) -> AbstractReplayLearner | None:
    """The learner, or the one that it holds, that learns from a replay."""
    inner = learner if isinstance(learner, AbstractForwardLearner) else getattr(learner, "forward", None)
    return inner if isinstance(inner, AbstractReplayLearner) else None


def replay_bytes(learner: AbstractLearner, spec: Spec, num_envs: int) -> int:
    """Memory that a learner's replay, or DAgger's labels, take when they are full; 0 where it has neither."""
    inner: Any = replay_learner_of(learner)
    if inner is None and not isinstance(learner, DAgger):
        return 0
    source = None if inner is None else inner.host_replay(spec, num_envs)
    if source is not None:
        return source.num_bytes
    of: Any = inner or learner
    state = jax.eval_shape(lambda key: of.init(spec, key=key), jax.random.key(0))
    ring = state.labels if inner is None else inner.replay(state)
    # An update makes the new ring while the old one is still there.
    return 2 * sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(ring))


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


def on_accelerator() -> int | None:
    """Memory that is free where the networks are, if that is a device with memory of its own; else ``None``."""
    device = jax.local_devices()[0]
    stats = None if device.platform == "cpu" else device.memory_stats()
    return None if not stats or "bytes_limit" not in stats else stats["bytes_limit"] - stats["bytes_in_use"]


def require_memory(learner: AbstractLearner, spec: Spec, num_envs: int, *, copies: int = 1) -> None:
    """Refuse a replay that there is no room for; ``copies`` is how many seeds are trained at once."""
    needed = copies * replay_bytes(learner, spec, num_envs)
    if needed == 0:
        return
    inner: Any = replay_learner_of(learner)
    on_host = inner is not None and inner.host_replay(spec, num_envs) is not None
    available = None if on_host else on_accelerator()
    available = available_bytes() if available is None else available
    if available is None or needed <= available:
        return
    of_labels = inner is None
    name = "max_labels" if of_labels else "replay_size"
    size = getattr(learner if of_labels else inner, name)
    fits = int(size * available / needed * 0.9)
    mend = f"leave it out and make total_steps {fits} or less" if of_labels else f"make it {fits} or less"
    each, fewer = (f" for {copies} seeds at once", ", or train fewer at once") if copies > 1 else ("", "")
    raise RequestError(
        f"{name}={size}{each} takes {in_words(needed)} of memory and {in_words(available)} are free: {mend}{fewer}."
    )


def in_words(num_bytes: int) -> str:
    """A number of bytes as people read it."""
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.0f} MB"
