"""``make``: a batch of environment copies from an id, on the fastest backend that has it."""

import dataclasses
import difflib
import importlib.util
import typing
from collections.abc import Callable
from typing import Any, Literal

from menura.core import RequestError
from menura.environments.base import AbstractNativeEnv, Envs, NativeEnvs
from menura.environments.driving.scene import is_driving
from menura.environments.history import History, HostHistory
from menura.environments.motion import walk
from menura.environments.motion.walk import MOTION_WALK
from menura.environments.native import Acrobot, CartPole, Catch, GridWorld, MountainCar, Pendulum, probes

# Simulators on the host are imported where they are needed: Gymnasium takes time to load, and most
# commands never use it.

Backend = Literal["auto", "jax", "envpool", "gymnasium"]

_NATIVE: dict[str, AbstractNativeEnv] = {
    "Acrobot-v1": Acrobot(),
    "CartPole-v0": CartPole(max_episode_steps=200),
    "CartPole-v1": CartPole(),
    "Catch-v0": Catch(),
    "FlickerCatch-v0": Catch(visible=0.2),
    "GridWorld-v0": GridWorld(),
    "MountainCar-v0": MountainCar(),
    "Pendulum-v1": Pendulum(),
    "probe/Constant": probes.Constant(),
    "probe/Delay": probes.Delay(),
    "probe/Discount": probes.Discount(),
    "probe/Echo": probes.Echo(),
    "probe/EchoBox": probes.EchoBox(),
    "probe/Endless": probes.Endless(),
    "probe/Leave": probes.Leave(),
    "probe/Corridor": probes.Corridor(),
}


def make(
    env: str | AbstractNativeEnv | Callable[..., Any],
    *,
    num_envs: int = 1,
    backend: Backend = "auto",
    env_kwargs: dict[str, Any] | None = None,
    history: int = 1,
    evaluation: bool = False,
) -> Envs:
    """``num_envs`` copies of an environment.

    ``env`` is an id, a JAX environment of one's own (an ``AbstractNativeEnv``, or its class), or a callable
    that returns a new ``gymnasium.Env`` at every call. ``package:Id`` imports the package, which registers
    the id with Gymnasium. ``env_kwargs`` are handed to the environment's constructor.

    ``backend="auto"`` takes the JAX version where there is one with these ``env_kwargs``, else EnvPool's
    where that is installed and has it, else Gymnasium's. With a ``history`` of K, an observation is the last K ones,
    the oldest first, within one episode. ``evaluation`` asks for whole games and the raw score, which differ from what
    is trained on in Atari games alone.
    """
    env_kwargs = dict(env_kwargs or {})
    if history < 1:
        raise RequestError(f"history must be at least 1, not {history}.")
    if num_envs < 1:
        raise RequestError(f"num_envs must be at least 1, not {num_envs}.")
    if backend not in typing.get_args(Backend):
        raise RequestError(f"There is no backend {backend!r}; choose from {', '.join(typing.get_args(Backend))}.")
    if isinstance(env, str) and _is_atari(env):
        from menura.environments.atari import make_atari

        return make_atari(env, num_envs, backend, env_kwargs, history=history, evaluation=evaluation)
    if isinstance(env, str):
        envs = _make_id(env, num_envs, backend, env_kwargs)
    else:
        envs = _make_object(env, num_envs, backend, env_kwargs)
    if history == 1:
        return envs
    if isinstance(envs, NativeEnvs):
        return dataclasses.replace(envs, env=History(envs.env, history))
    return HostHistory(envs, history)


def _is_atari(env_id: str) -> bool:
    if env_id in _NATIVE or not env_id.endswith("-v5"):
        return False
    from menura.environments.atari import game_of

    return game_of(env_id) is not None


def _make_id(env: str, num_envs: int, backend: Backend, env_kwargs: dict[str, Any]) -> Envs:
    match backend:
        case "jax":
            return _make_native(env, num_envs, env_kwargs)
        case "envpool":
            return _make_envpool(env, num_envs, env_kwargs)
        case "gymnasium":
            return _make_gymnasium(env, num_envs, env_kwargs, asked=True)
    if env in _NATIVE and env_kwargs.keys() <= _field_names(_NATIVE[env]):
        return _make_native(env, num_envs, env_kwargs)
    from menura.environments import host

    if ":" not in env and host.envpool_has(env, env_kwargs):
        return host.EnvPoolEnvs(env, num_envs, env_kwargs)
    return _make_gymnasium(env, num_envs, env_kwargs, asked=False)


def native_ids() -> tuple[str, ...]:
    """The ids that have a JAX version here, sorted."""
    return tuple(_NATIVE)


def list_envs() -> dict[str, tuple[str, ...]]:
    """Every known id, sorted, and the backends that have it, the one that ``auto`` takes first."""
    backends: dict[str, list[str]] = {}
    for backend, ids in (("jax", native_ids()), ("envpool", _envpool_ids()), ("gymnasium", _gymnasium_ids())):
        for env_id in ids:
            backends.setdefault(env_id, []).append(backend)
    return {env_id: tuple(backends[env_id]) for env_id in sorted(backends)}


def _envpool_ids() -> list[str]:
    """What EnvPool has; nothing where it is not installed."""
    if importlib.util.find_spec("envpool") is None:
        return []
    from menura.environments import host

    return host.import_envpool().list_all_envs()


def _gymnasium_ids() -> list[str]:
    """What is registered with Gymnasium, and ale-py's games, less the ids that only say that they were withdrawn."""
    import gymnasium

    from menura.environments.atari import ale_ids
    from menura.environments.motion.gymnasium_env import register

    register()
    games = ale_ids()
    return games + [env_id for env_id, spec in gymnasium.registry.items() if isinstance(spec.entry_point, str | type)]


def _make_object(env: Any, num_envs: int, backend: str, env_kwargs: dict[str, Any]) -> Envs:
    """Copies of an environment that is no id."""
    if isinstance(env, type) and issubclass(env, AbstractNativeEnv):
        env, env_kwargs = env(**env_kwargs), {}
    if isinstance(env, AbstractNativeEnv):
        name = type(env).__name__
        if env_kwargs:
            raise RequestError(f"Set {', '.join(env_kwargs)} on the {name} object itself: env_kwargs go with an id.")
        if backend not in ("auto", "jax"):
            raise RequestError(f"{name} is written in JAX, so leave out backend={backend!r}.")
        return NativeEnvs(env, num_envs, name)
    if not callable(env):
        raise RequestError(
            "Give make an id, an AbstractNativeEnv, or a callable that returns a new gymnasium.Env at every call, "
            f"not {env!r}."
        )
    if backend not in ("auto", "gymnasium"):
        raise RequestError(f"A callable makes Gymnasium environments, so leave out backend={backend!r}.")
    from menura.environments import host

    maker: Any = env
    return host.GymnasiumEnvs(maker, num_envs, env_kwargs)


def _field_names(env: AbstractNativeEnv) -> set[str]:
    return {field.name for field in dataclasses.fields(env)}


def _make_native(env_id: str, num_envs: int, env_kwargs: dict[str, Any]) -> NativeEnvs:
    if env_id == MOTION_WALK:
        from menura.environments.motion.mjx_walk import make_mjx_walk

        return NativeEnvs(make_mjx_walk(env_kwargs), num_envs, env_id)
    if env_id not in _NATIVE:
        raise RequestError(
            f"There is no JAX version of {env_id!r}, only of {', '.join(_NATIVE)}; leave out --backend jax."
        )
    env = _NATIVE[env_id]
    unknown = sorted(env_kwargs.keys() - _field_names(env))
    if unknown:
        raise RequestError(
            f"The JAX version of {env_id} has no {', '.join(unknown)} among its --env-kwargs, "
            f"which are {', '.join(sorted(_field_names(env)))}."
        )
    hints = typing.get_type_hints(type(env))
    values = {name: _as_field(env_id, name, value, hints[name]) for name, value in env_kwargs.items()}
    return NativeEnvs(dataclasses.replace(env, **values), num_envs, env_id)


def _as_field(env_id: str, name: str, value: Any, hint: Any) -> Any:
    """The value for a field of this type; whole numbers become reals where those are asked for."""
    choices = typing.get_args(hint) if typing.get_origin(hint) is Literal else None
    if choices is not None:
        right, wanted = value in choices, " or ".join(map(repr, choices))
    elif isinstance(value, bool) and hint is not bool:
        right, wanted = False, "a number"
    else:
        if hint is float and isinstance(value, int):
            value = float(value)
        right, wanted = isinstance(value, hint), getattr(hint, "__name__", str(hint))
    if not right:
        raise RequestError(f"{name} of {env_id} must be {wanted}, not {value!r}: mend --env-kwargs {name}=….")
    if name == "max_episode_steps" and value is not None and value < 1:
        raise RequestError(f"max_episode_steps of {env_id} must be at least 1, not {value}.")
    return value


def _make_envpool(env_id: str, num_envs: int, env_kwargs: dict[str, Any]) -> Envs:
    from menura.environments import host

    if not host.envpool_is_installed():
        raise RequestError("EnvPool is not installed: `pip install 'menura[envpool]'`, or use --backend gymnasium.")
    if not host.envpool_has(env_id):
        raise RequestError(
            f"EnvPool has no {env_id!r}: leave out --backend envpool.{_close_to(env_id, _envpool_ids())}"
        )
    if not host.envpool_has(env_id, env_kwargs):
        raise RequestError(
            f"EnvPool's {env_id} does not know all of {', '.join(env_kwargs)}: leave out --backend envpool, or these "
            "--env-kwargs."
        )
    return host.EnvPoolEnvs(env_id, num_envs, env_kwargs)


def _make_gymnasium(env_id: str, num_envs: int, env_kwargs: dict[str, Any], *, asked: bool) -> Envs:
    """``asked``: whether Gymnasium was asked for by name, or is what remained."""
    from menura.environments import host

    if env_id == MOTION_WALK:
        return walk.make_motion_walk(num_envs, env_kwargs)
    if ":" in env_id or env_id in _gymnasium_ids() or is_driving(env_id):
        try:
            return host.GymnasiumEnvs(env_id, num_envs, env_kwargs)
        except RequestError as error:
            if asked or env_id not in _NATIVE:
                raise
            fields = ", ".join(sorted(_field_names(_NATIVE[env_id])))
            raise RequestError(f"{error} The JAX version takes {fields}.") from error
    if env_id in _NATIVE and not asked:
        return _make_native(env_id, num_envs, env_kwargs)
    known = list_envs()
    if env_id in known:
        others = " or ".join(known[env_id])
        raise RequestError(
            f"Gymnasium has no {env_id!r}, but {others} has: leave out --backend and unknown --env-kwargs."
        )
    raise RequestError(
        f"There is no environment {env_id!r}.{_close_to(env_id, known)} `menura list envs` shows all; for one that "
        "another package registers, give `package:Id`."
    )


def _close_to(env_id: str, ids: Any) -> str:
    """A sentence that names ids like this one, or nothing."""
    lower = {known.lower(): known for known in ids}
    close = difflib.get_close_matches(env_id.lower(), lower, n=3)
    return f" Did you mean {' or '.join(lower[c] for c in close)}?" if close else ""
