"""Simulators on the host: any registered Gymnasium environment, and EnvPool's where it is installed.

Gymnasium copies are stepped by worker threads where the simulator releases the interpreter lock (MuJoCo
does), never by forked processes: forking after JAX has started can hang.
"""

import contextlib
import importlib.util
import os
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from menura.core import BoxActions, DiscreteActions, Images, RequestError, Spec, Vector
from menura.environments.base import Step
from menura.environments.driving.scene import is_driving
from menura.environments.encoding import encode_each, encode_obs, parts_of
from menura.environments.motion import gymnasium_env
from menura.environments.mujoco_model import with_model

gymnasium_env.register()


def spec_of(observation_space: spaces.Space, action_space: spaces.Space, *, env_id: str) -> Spec:
    """The shapes of a pair of Gymnasium spaces; refuses the kinds that no network here reads."""
    parts = parts_of(observation_space, env_id=env_id)
    if any(isinstance(part, Images) for _, part in parts):
        obs_size = sum(part.num_bytes for _, part in parts)
    else:
        obs_size, parts = sum(part.size for _, part in parts if isinstance(part, Vector)), ()
    if isinstance(action_space, spaces.Discrete):
        return Spec(obs_size, DiscreteActions(int(action_space.n)), parts)
    if isinstance(action_space, spaces.Box) and len(action_space.shape) == 1:
        low, high = action_space.low.tolist(), action_space.high.tolist()
        return Spec(obs_size, BoxActions(tuple(map(float, low)), tuple(map(float, high))), parts)
    raise RequestError(
        f"{env_id} takes a {type(action_space).__name__} action; Discrete and one-dimensional Box ones are supported."
    )


def decode_action(action: np.ndarray, action_space: spaces.Space) -> np.ndarray:
    """Actions as the simulator takes them: Discrete ones from its own start, Box ones clipped to the bounds."""
    if isinstance(action_space, spaces.Discrete):
        return np.asarray(np.asarray(action, np.int64) + int(action_space.start))
    assert isinstance(action_space, spaces.Box)
    return np.clip(action, action_space.low, action_space.high).astype(action_space.dtype)


class GymnasiumEnvs:
    """``num_envs`` copies of a registered Gymnasium environment, stepped in order by threads."""

    backend = "gymnasium"

    def __init__(
        self,
        env_id: str | Callable[..., gymnasium.Env],
        num_envs: int,
        env_kwargs: dict[str, Any] | None = None,
        num_threads: int | None = None,
    ):
        self.num_envs = num_envs
        if isinstance(env_id, str):
            self._envs = [make_gymnasium(env_id, env_kwargs) for _ in range(num_envs)]
            self.id = env_id
        else:
            self._envs = call_maker(env_id, num_envs, env_kwargs)
            spec = self._envs[0].spec
            self.id = type(self._envs[0].unwrapped).__name__ if spec is None else spec.id
        first = self._envs[0]
        self.spec = spec_of(first.observation_space, first.action_space, env_id=self.id)
        self.max_episode_steps = None if first.spec is None else first.spec.max_episode_steps
        self._obs_space, self._action_space = first.observation_space, first.action_space
        if num_threads is None:
            num_threads = 2 if "mujoco" in type(first.unwrapped).__module__ else 1
        self._pool = ThreadPoolExecutor(num_threads) if num_threads > 1 else None
        self._chunks = np.array_split(np.arange(num_envs), num_threads)

    def reset(self, seed: int) -> np.ndarray:
        """Begin afresh from a seed: the first observations ``(env, obs)``."""
        seeds = np.random.SeedSequence(seed).generate_state(self.num_envs)
        obs = [env.reset(seed=int(s))[0] for env, s in zip(self._envs, seeds, strict=True)]
        return encode_each(obs, self._obs_space)

    def step(self, action: np.ndarray) -> Step:
        """Step every copy; those whose episode ended begin another in the same step."""
        action = decode_action(action, self._action_space)
        next_obs: list[Any] = [None] * self.num_envs
        obs: list[Any] = [None] * self.num_envs
        reward = np.zeros(self.num_envs, np.float32)
        terminated = np.zeros(self.num_envs, bool)
        truncated = np.zeros(self.num_envs, bool)

        def step_chunk(chunk: np.ndarray) -> None:
            for i in chunk.tolist():
                env = self._envs[i]
                o, reward[i], terminated[i], truncated[i], _ = env.step(action[i])
                next_obs[i] = o
                obs[i] = env.reset()[0] if terminated[i] or truncated[i] else o

        if self._pool is None:
            step_chunk(self._chunks[0])
        else:
            list(self._pool.map(step_chunk, self._chunks))
        return Step(
            encode_each(next_obs, self._obs_space),
            reward,
            terminated,
            truncated & ~terminated,
            encode_each(obs, self._obs_space),
        )

    def close(self) -> None:
        """Free the simulators."""
        if self._pool is not None:
            self._pool.shutdown()
        for env in self._envs:
            env.close()


def make_gymnasium(env_id: str, env_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> gymnasium.Env:
    """One Gymnasium environment by id; ``package:Id`` imports the package that registers it first."""
    if is_driving(env_id):
        env_id, env_kwargs = register_driving(env_id, env_kwargs)
    try:
        what, settings = with_model(env_id, env_kwargs or {})
        return gymnasium.make(what, disable_env_checker=True, **settings, **kwargs)
    except gymnasium.error.DependencyNotInstalled as error:
        raise RequestError(f"{env_id} needs a package that is not installed: {error}") from error
    except (gymnasium.error.Error, ModuleNotFoundError) as error:
        raise RequestError(f"No environment {env_id!r}: {error}. `menura list envs` shows what there is.") from error
    except TypeError as error:
        raise RequestError(f"{env_id} does not take these --env-kwargs: {error}.") from error
    except (OSError, ValueError) as error:
        if "xml_file" not in (env_kwargs or {}):
            raise
        raise RequestError(f"{env_id} cannot be simulated on that xml_file: {error}") from error


def register_driving(env_id: str, env_kwargs: dict[str, Any] | None) -> tuple[str, dict[str, Any]]:
    """highway-env's own id and settings of a driving environment, registered with Gymnasium.

    Settings may be given as EnvPool takes them, one by one, or as highway-env does, in ``config``.
    """
    try:
        importlib.import_module("highway_env")
    except ModuleNotFoundError as error:
        raise RequestError(
            f"{env_id} needs highway-env, or an EnvPool that has it: `pip install 'menura[highway]'` or "
            "`'menura[envpool]'`."
        ) from error
    # Demonstrations and EnvPool of before 1.2.7 know no other version. Not for a while only: threads share the filters.
    warnings.filterwarnings("ignore", message=".*environment (merge|roundabout)-v[01] is out of date.*")
    settings = dict(env_kwargs or {})
    config = {**settings.pop("config", {}), **settings}
    own_id = {"HighwayFast-v0": "highway-fast-v0"}.get(env_id.rsplit(":", 1)[-1], env_id.rsplit(":", 1)[-1].lower())
    return own_id, {"config": config} if config else {}


def call_maker(
    maker: Callable[..., gymnasium.Env], num_envs: int, env_kwargs: dict[str, Any] | None = None
) -> list[gymnasium.Env]:
    """Environments of the caller's own making, one a call."""
    envs = [maker(**(env_kwargs or {})) for _ in range(num_envs)]
    if not all(isinstance(env, gymnasium.Env) for env in envs):
        raise RequestError(f"The callable must return a gymnasium.Env, not a {type(envs[0]).__name__}.")
    if len(set(map(id, envs))) < num_envs:
        raise RequestError("The callable returned one environment twice: make a new one at every call.")
    return envs


def envpool_is_installed() -> bool:
    """Whether EnvPool can be imported."""
    return importlib.util.find_spec("envpool") is not None


def import_envpool() -> ModuleType:
    """EnvPool, without the painter of its board games until one of them is made.

    That painter imports matplotlib, which takes as long as all the rest. While EnvPool lists its games, an empty
    package stands in for theirs; the real one is imported when EnvPool first needs it.
    """
    # EnvPool's spaces have bounds that float32 rounds. Not for a while only: threads share the filters.
    warnings.filterwarnings("ignore", message=".*precision lowered by casting.*")
    package = None if "envpool" in sys.modules else importlib.util.find_spec("envpool")
    if package is not None and package.origin is not None:
        games = ModuleType("envpool.jumanji")
        games.__path__ = [str(Path(package.origin).parent / "jumanji")]
        sys.modules["envpool.jumanji"] = games
        try:
            importlib.import_module("envpool")
        finally:
            del sys.modules["envpool.jumanji"]
    return importlib.import_module("envpool")


def envpool_has(env_id: str, env_kwargs: dict[str, Any] | None = None) -> bool:
    """Whether EnvPool is installed, has this id, and knows every one of these settings."""
    if not envpool_is_installed():
        return False
    envpool = import_envpool()
    if env_id not in envpool.list_all_envs():
        return False
    known = envpool.make_spec(env_id).config._fields if env_kwargs else ()
    return all(name in known for name in env_kwargs or {})


def _envpool_kwargs(env_id: str, env_kwargs: dict[str, Any]) -> dict[str, Any]:
    """Settings as EnvPool takes them: a model's file from its folder of models, and contact forces that are computed.

    EnvPool looks for ``xml_file`` in its own folder only; that is where a name that is no file here is looked for. Its
    humanoids of v4 and before, and ants that observe contact forces, leave them at zero, as Gymnasium's did by mistake.
    """
    kwargs = dict(env_kwargs)
    config = import_envpool().make_spec(env_id).config
    observes_contacts = env_id.startswith("Humanoid") or kwargs.get("use_contact_force", False)
    if "post_constraint" in config._fields and observes_contacts:
        kwargs.setdefault("post_constraint", True)
    if "xml_file" in kwargs:
        models = Path(config.base_path) / "mujoco" / "assets_gym"
        file = Path(kwargs["xml_file"]).expanduser()
        if file.is_file():
            kwargs["xml_file"] = os.path.relpath(file.resolve(), models)
        elif not (models / file).is_file():
            raise RequestError(f"There is no model {file}: mend --env-kwargs xml_file=….")
    return kwargs


class EnvPoolEnvs:
    """``num_envs`` copies in EnvPool's C++ threads.

    EnvPool begins the next episode one step late, and gives the reset observation then. Stepping only
    the finished copies once more turns that into the same step, and the successor stays the true one.
    """

    backend = "envpool"

    def __init__(self, env_id: str, num_envs: int, env_kwargs: dict[str, Any] | None = None, num_threads: int = 2):
        self.id = env_id
        self.num_envs = num_envs
        self._env_kwargs = _envpool_kwargs(env_id, env_kwargs or {})
        self._num_threads = min(num_threads, num_envs)
        self._pool: Any = None
        envpool = import_envpool()
        try:
            spec = envpool.make_spec(env_id, **self._env_kwargs)
            self._obs_space, self._action_space = spec.gymnasium_observation_space, spec.gymnasium_action_space
        except (TypeError, ValueError, KeyError) as error:
            raise RequestError(f"EnvPool cannot make {env_id} so: {error}. Try --backend gymnasium.") from error
        self.spec = spec_of(self._obs_space, self._action_space, env_id=env_id)
        self.max_episode_steps: int | None = int(spec.config.max_episode_steps)

    def reset(self, seed: int) -> np.ndarray:
        """Begin afresh from a seed, in a new pool: EnvPool cannot seed one that runs."""
        envpool = import_envpool()
        self.close()
        # A pool gives its copies consecutive seeds, so neighbouring seeds of ours must lie far apart.
        seed = int(np.random.SeedSequence(seed).generate_state(1)[0] >> 2)
        self._pool = envpool.make(
            self.id,
            env_type="gymnasium",
            num_envs=self.num_envs,
            num_threads=self._num_threads,
            seed=seed,
            **self._env_kwargs,
        )
        obs, _ = self._pool.reset()
        return encode_obs(obs, self._obs_space)

    def step(self, action: np.ndarray) -> Step:
        """Step every copy; those whose episode ended begin another in the same step."""
        action = decode_action(action, self._action_space)
        raw_obs, reward, terminated, truncated, _ = self._pool.step(action)
        next_obs = encode_obs(raw_obs, self._obs_space)
        ended = np.flatnonzero(terminated | truncated).astype(np.int32)
        obs = next_obs
        if len(ended):
            fresh, _, _, _, info = self._pool.step(action[ended], ended)
            obs = next_obs.copy()
            obs[info["env_id"]] = encode_obs(fresh, self._obs_space)
        return Step(next_obs, reward.astype(np.float32), terminated, truncated & ~terminated, obs)

    def close(self) -> None:
        """Free the simulators."""
        if self._pool is not None:
            with contextlib.suppress(AttributeError):
                self._pool.close()
            self._pool = None
