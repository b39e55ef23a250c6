"""Atari games by EnvPool or by ale-py, behind one protocol whose settings are named (docs/atari.md)."""

import dataclasses
import functools
import importlib
import importlib.util
import re
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from menura.core import RequestError
from menura.environments.base import Envs
from menura.environments.history import HostHistory
from menura.environments.host import EnvPoolEnvs, GymnasiumEnvs, envpool_is_installed, import_envpool

STACK = 4
"""Frames that are seen at once where no history is asked for."""


@dataclass(frozen=True)
class AtariSettings:
    """The protocol between a game and its player, in EnvPool's words: the ``--env-kwargs`` of Atari games.

    As given here it is that of DQN (Mnih et al. 2015): no sticky actions, and training ends an episode with a life and
    clips rewards. Evaluations never do either.
    """

    frame_skip: int = 4
    """Frames that an action is held for; what is seen is the maximum of the last two, because sprites flicker."""
    repeat_action_probability: float = 0.0
    """Chance at each frame that the action before it is held on (sticky actions; Machado et al. 2018 take 0.25)."""
    noop_max: int = 30
    """Episodes begin with 1 to so many frames in which nothing is done."""
    use_fire_reset: bool = True
    """Press the fire button after them, where the game has one."""
    episodic_life: bool = True
    """In training an episode ends with every life; the game goes on in the next one. Not for what was recorded whole:
    `menura train` leaves it out of imitation."""
    reward_clip: bool = True
    """In training a reward is its sign."""
    full_action_space: bool = False
    """All 18 actions instead of those that the game knows."""
    img_height: int = 84
    """Rows of a picture, after averaging over areas; gray."""
    img_width: int = 84
    """Its columns."""
    max_episode_steps: int = 27_000
    """Steps after which a game is truncated: half an hour of play at four frames a step."""


@functools.cache
def game_of(env_id: str) -> str | None:
    """The name of the Atari game that an id stands for, such as Pong for ``Pong-v5`` and ``ALE/Pong-v5``."""
    found = re.fullmatch(r"(?:ALE/)?(\w+)-v5", env_id)
    if found is None or (env_id in gymnasium.registry and not env_id.startswith("ALE/")):
        return None
    return found[1] if _in_envpool(found[1]) or _in_ale(found[1]) else None


def _in_envpool(game: str) -> bool:
    if not envpool_is_installed() or f"{game}-v5" not in import_envpool().list_all_envs():
        return False
    return "zero_discount_on_life_loss" in import_envpool().make_spec(f"{game}-v5").config._fields


def _in_ale(game: str) -> bool:
    if not ale_is_installed():
        return False
    _import_ale()
    return f"ALE/{game}-v5" in gymnasium.registry


def ale_is_installed() -> bool:
    """Whether ale-py can be imported."""
    return importlib.util.find_spec("ale_py") is not None


def ale_ids() -> list[str]:
    """The ids of the games that ale-py has; nothing where it is not installed."""
    if not ale_is_installed():
        return []
    _import_ale()
    return [env_id.removeprefix("ALE/") for env_id in gymnasium.registry if re.fullmatch(r"ALE/\w+-v5", env_id)]


def _import_ale() -> Any:
    ale_py = importlib.import_module("ale_py")
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    gymnasium.register_envs(ale_py)
    return ale_py


def make_atari(
    env_id: str, num_envs: int, backend: str, env_kwargs: dict[str, Any], *, history: int, evaluation: bool
) -> Envs:
    """Copies of a game. What is seen are the last ``history`` frames, or four where no history is asked for."""
    settings = _settings(env_id, env_kwargs)
    if evaluation:
        settings = dataclasses.replace(settings, episodic_life=False, reward_clip=False)
    envs = _make_single(env_id, num_envs, backend, settings)
    stacked = HostHistory(envs, STACK if history == 1 else history)
    stacked.id = env_id
    return stacked


def _settings(env_id: str, env_kwargs: dict[str, Any]) -> AtariSettings:
    known = {field.name: type(field.default) for field in dataclasses.fields(AtariSettings)}
    for name, value in env_kwargs.items():
        if name not in known:
            raise RequestError(f"{env_id} has no {name!r} among its --env-kwargs, which are {', '.join(known)}.")
        kind = known[name]
        is_right = type(value) is kind or (kind is float and type(value) is int)
        if not is_right:
            raise RequestError(
                f"{name} of {env_id} must be {kind.__name__}, not {value!r}: mend --env-kwargs {name}=…."
            )
        if kind is not bool and value < (name not in ("repeat_action_probability", "noop_max")):
            raise RequestError(f"{name} of {env_id} is {value}, which is too small: mend --env-kwargs {name}=….")
    return AtariSettings(**env_kwargs)


def _make_single(env_id: str, num_envs: int, backend: str, settings: AtariSettings) -> Any:
    game, fields = str(game_of(env_id)), dataclasses.asdict(settings)
    in_envpool = _in_envpool(game)
    # EnvPool draws the number of those steps from one on.
    suits = in_envpool and (settings.noop_max > 0 or not ale_is_installed())
    if backend == "envpool" or (backend == "auto" and suits):
        if not in_envpool:
            raise RequestError(f"EnvPool is not installed, or has no {env_id}: use --backend gymnasium.")
        if settings.noop_max < 1:
            raise RequestError(
                f"EnvPool's {env_id} begins with noop_max of 1 or more: mend --env-kwargs noop_max=…, or take ale-py "
                "with --backend gymnasium."
            )
        # The frames are stacked here and not by EnvPool, so that they never reach across an episode's end.
        envs = EnvPoolEnvs(f"{game}-v5", num_envs, {**fields, "stack_num": 1})
    elif backend == "jax":
        raise RequestError(f"There is no JAX version of {env_id}: leave out --backend jax.")
    else:
        if not ale_is_installed():
            raise RequestError(f"{env_id} needs ale-py: `pip install 'menura[atari]'`, or EnvPool ('menura[envpool]').")
        envs = GymnasiumEnvs(lambda: AtariPlay(game, settings), num_envs, num_threads=min(2, num_envs))
        envs.max_episode_steps = settings.max_episode_steps
    return envs


def area_weights(before: int, after: int) -> np.ndarray:
    """How much of each of ``before`` pixels lies in each of ``after``: rows that sum to 1."""
    edges = np.linspace(0, before, after + 1)
    pixel = np.arange(before)
    overlap = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    return (np.maximum(overlap, 0) * after / before).astype(np.float32)


class AtariPlay(gymnasium.Env):
    """One game of ale-py under the same protocol as EnvPool's (:class:`AtariSettings`): single gray frames."""

    def __init__(self, game: str, settings: AtariSettings):
        ale_py = _import_ale()
        self._settings = settings
        self._env: Any = gymnasium.make(
            f"ALE/{game}-v5",
            frameskip=1,
            repeat_action_probability=settings.repeat_action_probability,
            full_action_space=settings.full_action_space,
            disable_env_checker=True,
        ).unwrapped
        self._ale: Any = self._env.ale
        shape = (settings.img_height, settings.img_width)
        self.observation_space = spaces.Box(0, 255, shape, np.uint8)
        self.action_space = self._env.action_space
        actions = self._ale.getLegalActionSet() if settings.full_action_space else self._ale.getMinimalActionSet()
        self._actions = list(actions)
        self._noop, fire = ale_py.Action.NOOP, ale_py.Action.FIRE
        self._fire = fire if settings.use_fire_reset and fire in self._actions else None
        height, width = self._ale.getScreenDims()
        self._rows, self._columns = area_weights(height, shape[0]), area_weights(width, shape[1]).T
        self._steps, self._lives, self._fresh = 0, 0, True

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin a game, or, where only a life was lost, go on with it."""
        super().reset(seed=seed)
        if seed is not None:
            self._env.reset(seed=int(seed) % 2**31)
            self._fresh = True
        settings = self._settings
        if self._fresh or not settings.episodic_life or self._is_over():
            self._begin()
        noops = int(self.np_random.integers(1, settings.noop_max + 1)) if settings.noop_max else 0
        for _ in range(noops - (self._fire is not None)):
            self._ale.act(self._noop)
            if self._ale.game_over():
                self._begin()
        if self._fire is not None:
            self._ale.act(self._fire)
        self._lives = self._ale.lives()
        return self._seen(self._ale.getScreenGrayscale()), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Hold an action for some frames."""
        reward, last, before = 0.0, None, None
        for _ in range(self._settings.frame_skip):
            reward += self._ale.act(self._actions[int(action)])
            before, last = last, self._ale.getScreenGrayscale()
            if self._ale.game_over():
                break
        self._steps += 1
        assert last is not None
        frame = last if before is None else np.maximum(before, last)
        is_cut = self._steps >= self._settings.max_episode_steps
        lost = self._settings.episodic_life and self._ale.lives() < self._lives
        self._lives = self._ale.lives()
        if self._settings.reward_clip:
            reward = float(np.sign(reward))
        return self._seen(frame), float(reward), bool(self._ale.game_over() or lost) and not is_cut, is_cut, {}

    def close(self) -> None:
        """Free the emulator."""
        self._env.close()

    def _begin(self) -> None:
        self._ale.reset_game()
        self._steps, self._fresh = 0, False

    def _is_over(self) -> bool:
        return self._ale.game_over() or self._steps >= self._settings.max_episode_steps

    def _seen(self, frame: np.ndarray) -> np.ndarray:
        """A frame at the size that is asked for."""
        return np.rint(self._rows @ frame.astype(np.float32) @ self._columns).astype(np.uint8)
