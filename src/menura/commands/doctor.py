"""``menura doctor``: what is installed, and what works on this machine."""

import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from menura.commands.arguments import parse, print_json

EXTRAS = {
    "envpool": ("envpool", "fast simulators in C++"),
    "mujoco": ("mujoco", "MuJoCo environments through Gymnasium"),
    "mjx": ("mujoco mujoco.mjx", "MotionWalk-v0 in JAX, for accelerators"),
    "data": ("h5py pyarrow", "Minari, D4RL, robomimic, Hugging Face and LeRobot demonstrations"),
    "viz": ("matplotlib imageio_ffmpeg jinja2 PIL", "reports and videos"),
}
"""Extras, the modules they bring, and what they are for."""


@dataclass(frozen=True)
class DoctorOptions:
    """Say what is installed and what works on this machine."""

    json: bool = False
    """Print one JSON object and nothing else."""


def main(arguments: Sequence[str]) -> None:
    """Examine the installation; exit code 1 where something that every use needs is broken."""
    options = parse(DoctorOptions, arguments, program="menura doctor", description=DoctorOptions.__doc__ or "")
    from menura.run.artifacts import provenance

    meta = provenance()
    checks = {name: _tried(check) for name, check in CHECKS.items()}
    extras = {
        extra: {
            "installed": all(importlib.util.find_spec(module) for module in modules.split()),
            "for": purpose,
        }
        for extra, (modules, purpose) in EXTRAS.items()
    }
    healthy = all(check["works"] for check in checks.values())
    if options.json:
        print_json({**meta, "checks": checks, "extras": extras, "healthy": healthy})
    else:
        print(f"Python {meta['python']} on {meta['platform']}, {meta['num_cores']} cores, {meta['processor']}")
        print("  ".join(f"{name} {version}" for name, version in meta["versions"].items()))
        for name, check in checks.items():
            print(f"{'works ' if check['works'] else 'BROKEN'}  {name}: {check['detail']}")
        for extra, about in extras.items():
            advice = "" if about["installed"] else f"  (pip install 'menura[{extra}]')"
            print(f"{'has   ' if about['installed'] else 'absent'}  {extra}: {about['for']}{advice}")
    if not healthy:
        sys.exit(1)


def _tried(check: Callable[[], str]) -> dict[str, Any]:
    try:
        return {"works": True, "detail": check()}
    except Exception as error:  # whatever is broken is what this command is there to report
        return {"works": False, "detail": f"{type(error).__name__}: {error}"}


def _jax_computes() -> str:
    import jax
    import jax.numpy as jnp

    total = float(jax.jit(lambda x: jnp.sum(x @ x))(jnp.ones((8, 8))))
    if total != 512.0:
        raise ArithmeticError(f"a product of ones came to {total}, not 512")
    return f"computes on {', '.join(str(device) for device in jax.devices())}"


def _environment_steps() -> str:
    from menura.environments.registry import make
    from menura.evaluation import UniformPolicy, evaluate

    env = make("CartPole-v1", num_envs=4)
    return f"CartPole-v1, random policy: {evaluate(env, UniformPolicy(env.spec), num_episodes=4, deterministic=False)}"


def _cache_is_writable() -> str:
    folder = os.environ["JAX_COMPILATION_CACHE_DIR"]
    os.makedirs(folder, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"{folder} cannot be written to: set JAX_COMPILATION_CACHE_DIR to a folder that can")
    return folder


CHECKS: dict[str, Callable[[], str]] = {
    "jax": _jax_computes,
    "environments": _environment_steps,
    "compilation cache": _cache_is_writable,
}
"""What every use of the library needs."""
