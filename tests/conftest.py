"""How the tests run: on the CPU, strict about shapes, and leaving nothing outside pytest's own folders."""

import os
from importlib.metadata import version
from pathlib import Path

# JAX reads its environment when it is first imported, and so do the programs that tests start.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"
os.environ["MPLBACKEND"] = "agg"
os.environ["PYGAME_HIDE_SUPPORT_PROMPT"] = "1"
os.environ["SDL_VIDEODRIVER"] = "dummy"
# Compiled programs of earlier runs are kept beside pytest's own cache, one folder a worker: two never write one file.
_WORKER = os.environ.get("PYTEST_XDIST_WORKER", "main")
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(Path(__file__).parent.parent / ".pytest_cache" / "jax" / _WORKER)
# Quick ones too: tests build the same program again and again, and each is then compiled once.
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

import jax  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")

REPOSITORY = Path(__file__).parent.parent

QUICK_XLA = "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"
"""Compiles in less than half the time, to code that runs at two thirds of the speed."""
if tuple(int(part) for part in version("jaxlib").split(".")[:2]) < (0, 11):
    # Later ones have no other emitters, and end the program at a flag that they do not know.
    QUICK_XLA += " --xla_cpu_use_fusion_emitters=false"


def pytest_configure(config):
    """Most of the time goes into compiling, so that LLVM optimizes only where training takes longer than that."""
    if config.option.markexpr != "learning":
        os.environ.setdefault("XLA_FLAGS", QUICK_XLA)


@pytest.fixture
def repository() -> Path:
    """The folder that holds the repository."""
    return REPOSITORY


@pytest.fixture
def key() -> jax.Array:
    """Randomness that is the same in every run."""
    return jax.random.key(0)


@pytest.fixture
def rng() -> np.random.Generator:
    """Host randomness that is the same in every run."""
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def demos(tmp_path_factory) -> Path:
    """A few CartPole episodes of a random policy on file."""
    from menura.demonstrations.record import record
    from menura.demonstrations.writers import save
    from menura.environments import make
    from menura.evaluation import UniformPolicy

    path = tmp_path_factory.mktemp("demos") / "random.npz"
    env = make("CartPole-v1", num_envs=4)
    save(record(env, UniformPolicy(env.spec), 6, seed=0, deterministic=False), path)
    return path
