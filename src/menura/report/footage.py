"""What the two sides of a video show: an episode of the expert, or one that a policy plays."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from menura.core import AbstractPolicy, Images, RequestError, Vector
from menura.demonstrations.episodes import Episode
from menura.environments.driving import crashed, road_of
from menura.report.driving import MOMENTS

_STEPS_PER_SECOND = {
    "CartPole": 50.0,
    "Acrobot": 15.0,
    "MountainCar": 30.0,
    "Pendulum": 20.0,
    "GridWorld": 4.0,
    "Catch": 6.0,
    "FlickerCatch": 6.0,
    "Pong": 15.0,
    "Breakout": 15.0,
}
_ACTION_NAMES = {
    "Acrobot": ("torque -1", "torque 0", "torque +1"),
    "CartPole": ("push left", "push right"),
    "Catch": ("left", "stay", "right"),
    "LunarLander": ("nothing", "left engine", "main engine", "right engine"),
    "MountainCar": ("push left", "coast", "push right"),
    "Pong": ("nothing", "fire", "up", "down", "up and fire", "down and fire"),
}
_MAX_IMAGES = 400


class CannotRender(Exception):
    """There is no picture of this: one sentence that says why. A page shows it in the picture's place."""


@dataclass(frozen=True)
class Footage:
    """One episode, and whatever is needed to draw it."""

    label: str
    obs: np.ndarray
    """(T+1, obs), or of pictures the newest frames, (T+1, height, width, channels) in bytes; T rows where the last is
    not known."""
    rewards: np.ndarray | None
    num_steps: int
    steps_per_second: float
    """How fast it goes in the environment's own time."""
    qpos: np.ndarray | None = None
    """MuJoCo's generalised positions, one row an observation."""
    qvel: np.ndarray | None = None
    images: tuple[np.ndarray, ...] = ()
    """Pictures the environment drew of itself, one every ``image_every`` observations."""
    image_every: int = 1
    q_values: np.ndarray | None = None
    """(T+1, actions): what the policy held each action to be worth, where it tells."""
    action_names: tuple[str, ...] = ()
    moments: int = 1
    """Shown of each step: more than one where it is drawn how things move between two observations. Frames, and the
    pace, are counted in moments."""
    crashed: bool = False
    """Whether the episode ended in a crash, which is marked."""

    @property
    def num_frames(self) -> int:
        """Moments that can be shown."""
        return (len(self.obs) - 1) * self.moments + 1

    def return_until(self, step: int) -> float | None:
        """Rewards added up over the first ``step`` steps; ``None`` if they are not known."""
        return None if self.rewards is None else float(np.sum(self.rewards[:step], dtype=np.float64))


def family_of(env_id: str) -> str:
    """``Hopper`` of ``gymnasium:Hopper-v5``."""
    return env_id.rsplit(":", 1)[-1].rsplit("-v", 1)[0]


def footage_of_episode(
    env_id: str,
    episode: Episode,
    *,
    parts: tuple[tuple[str, Vector | Images], ...] = (),
    label: str = "expert",
) -> Footage:
    """A demonstrated episode as it was recorded; ``parts`` tells what its rows are made of, where they hold pictures
    beside other things."""
    rewards = None if episode.rewards is None else np.asarray(episode.rewards)
    obs = np.asarray(episode.obs)
    if parts:
        obs = newest_frames(obs, parts)
    elif obs.dtype == np.uint8 and obs.ndim > 2:
        from menura.environments.encoding import picture_of_shape

        obs = newest_frames(obs.reshape(len(obs), -1), (("", picture_of_shape(obs.shape[1:], where=env_id)),))
    elif obs.ndim > 2:
        obs = obs.reshape(len(obs), -1)
    return _drawn(env_id, label, obs, rewards, episode.num_steps, terminated=episode.terminated)


def newest_frames(obs: np.ndarray, parts: tuple[tuple[str, Vector | Images], ...]) -> np.ndarray:
    """Of rows of bytes the newest frame of the first picture: ``(steps, height, width, channels)``."""
    start = 0
    for _, part in parts:
        if isinstance(part, Images):
            piece = obs[:, start : start + part.num_bytes]
            return piece.reshape(len(obs), part.frames, part.height, part.width, part.channels)[:, -1]
        start += part.num_bytes
    return obs


def _drawn(
    env_id: str, label: str, obs: np.ndarray, rewards: np.ndarray | None, num_steps: int, *, terminated: bool
) -> Footage:
    """An episode that is drawn from its observations."""
    if road_of(env_id) is None:
        return Footage(label, obs, rewards, num_steps, _STEPS_PER_SECOND.get(family_of(env_id), 30.0))
    crash = rewards is not None and bool(crashed(rewards[-1:], np.array([terminated]))[0])
    return Footage(label, obs, rewards, num_steps, float(MOMENTS), moments=MOMENTS, crashed=crash)


def record(
    env_id: str,
    policy: Callable[..., Any],
    *,
    env_kwargs: dict[str, Any] | None = None,
    backend: str = "auto",
    history: int = 1,
    pictures: bool = False,
    seed: int = 0,
    max_steps: int = 1000,
    label: str = "learner",
) -> Footage:
    """An episode that ``policy(obs)`` plays, with what is needed to draw it.

    Environments that ``report.drawing`` draws, and those of which the policy sees ``pictures``, are played on
    ``backend``; others on Gymnasium, because they have to draw themselves.
    """
    from menura.environments import make
    from menura.report import drawing

    act = _Actor(policy)
    try:
        if drawing.can_draw(env_id) or pictures or road_of(env_id, env_kwargs) is not None:
            env: Any = make(
                env_id,
                backend=backend,  # pyright: ignore[reportArgumentType]
                env_kwargs=env_kwargs,
                history=history,
                evaluation=True,
            )
            footage = _play(env, act, seed, max_steps, label)
        else:
            footage = _play_gymnasium(env_id, act, env_kwargs, history, seed, max_steps, label)
    except RequestError as error:
        raise CannotRender(f"There is no video: {error}") from error
    if not act.q_values:
        return footage
    # Nothing is done in the last moment, and what was held before it is shown on.
    q_values = np.stack([*act.q_values, act.q_values[-1]])
    known = _ACTION_NAMES.get(family_of(env_id).removeprefix("ALE/"), ())
    names = known if len(known) == q_values.shape[1] else tuple(f"action {i}" for i in range(q_values.shape[1]))
    return dataclasses.replace(footage, q_values=q_values, action_names=names)


class _Actor:
    """Acts, and keeps what the policy held every action to be worth, where it tells."""

    def __init__(self, policy: Callable[..., Any]):
        self.q_values: list[np.ndarray] = []
        self._policy, self._valued = policy, None
        if isinstance(policy, AbstractPolicy):
            import jax

            self._policy = jax.jit(lambda obs: policy(obs))
            if hasattr(policy, "q_values"):
                values_of: Any = policy
                self._valued = jax.jit(lambda obs: (policy(obs), values_of.q_values(obs)))

    def __call__(self, obs: np.ndarray) -> np.ndarray:
        """The action for one observation."""
        if self._valued is None:
            return np.asarray(self._policy(obs))
        action, values = self._valued(obs)
        self.q_values.append(np.asarray(values))
        return np.asarray(action)


def _close(env: Any) -> None:
    """Free a simulator; native environments hold nothing to free."""
    if hasattr(env, "close"):
        env.close()


def _play(env: Any, act: Any, seed: int, max_steps: int, label: str) -> Footage:
    from menura.environments import NativeEnvs
    from menura.environments.history import newest

    first, advance = _native_game(env, seed) if isinstance(env, NativeEnvs) else _host_game(env, seed)
    obs, rewards, step = [first], [], None
    for index in range(max_steps):
        step = advance(act(obs[-1])[None], index)
        obs.append(np.asarray(step.next_obs[0]))
        rewards.append(float(step.reward[0]))
        if step.terminated[0] or step.truncated[0]:
            break
    _close(env)
    terminated = step is not None and bool(step.terminated[0])
    seen = np.stack(obs)
    seen = newest_frames(seen, env.spec.parts) if env.spec.parts else newest(seen, env.spec)
    return _drawn(env.id, label, seen, np.array(rewards), len(rewards), terminated=terminated)


def _native_game(env: Any, seed: int) -> tuple[np.ndarray, Callable[[np.ndarray, int], Any]]:
    """The first observation of one copy, and what steps it."""
    import jax

    reset_key, step_key = jax.random.split(jax.random.key(seed))
    carry = env.reset(key=reset_key)
    jitted = jax.jit(lambda carry, action, key: env.step(carry, action, key=key))

    def advance(action: np.ndarray, index: int) -> Any:
        nonlocal carry
        carry, step = jitted(carry, action, jax.random.fold_in(step_key, index))
        return step

    return np.asarray(carry.obs[0]), advance


def _host_game(env: Any, seed: int) -> tuple[np.ndarray, Callable[[np.ndarray, int], Any]]:
    return env.reset(seed)[0], lambda action, _index: env.step(action)


def is_mujoco(env: Any) -> bool:
    """Whether a Gymnasium environment is a MuJoCo model whose state can be read."""
    return all(hasattr(env.unwrapped, name) for name in ("model", "data", "dt"))


def _play_gymnasium(env_id, act, env_kwargs, history, seed, max_steps, label) -> Footage:
    from menura.environments.encoding import encode_obs
    from menura.environments.history import in_a_row
    from menura.environments.host import decode_action, make_gymnasium, spec_of

    env: Any = make_gymnasium(env_id, env_kwargs)
    mujoco = is_mujoco(env)
    if not mujoco:
        if "rgb_array" not in env.metadata.get("render_modes", ()):
            raise CannotRender(
                f"There is no video: {env_id} does not draw itself (no `rgb_array` among its render modes)."
            )
        env.close()
        env = make_gymnasium(env_id, env_kwargs, render_mode="rgb_array")
    images = _Images()
    single = spec_of(env.observation_space, env.action_space, env_id=env_id)
    raw, _ = env.reset(seed=seed)
    obs, rewards, states = [encode_obs(raw, env.observation_space)], [], [_state(env, mujoco)]
    try:
        images.add(None if mujoco else env.render())
        for _ in range(max_steps):
            past = np.stack([obs[max(len(obs) + i, 0)] for i in range(-history, 0)])
            action = decode_action(act(in_a_row(past, single))[None], env.action_space)[0]
            raw, reward, terminated, truncated, _ = env.step(action)
            obs.append(encode_obs(raw, env.observation_space))
            rewards.append(float(reward))
            states.append(_state(env, mujoco))
            images.add(None if mujoco else env.render())
            if terminated or truncated:
                break
        speed = 1 / env.unwrapped.dt if mujoco else float(env.metadata.get("render_fps", 30))
    except (RequestError, CannotRender):
        raise
    except Exception as error:  # a simulator may fail to draw in ways of its own; a report must still be written
        raise CannotRender(f"There is no video: {env_id} failed with {type(error).__name__}: {error}") from error
    finally:
        env.close()
    qpos, qvel = (np.stack(column) for column in zip(*states, strict=True)) if mujoco else (None, None)
    return Footage(
        label, np.stack(obs), np.array(rewards), len(rewards), speed, qpos, qvel, tuple(images.kept), images.every
    )


def _state(env: Any, mujoco: bool) -> tuple[np.ndarray, np.ndarray] | None:
    return (env.unwrapped.data.qpos.copy(), env.unwrapped.data.qvel.copy()) if mujoco else None


class _Images:
    """Pictures of a long episode: every other one is let go whenever there are too many."""

    def __init__(self):
        self.kept: list[np.ndarray] = []
        self.every = 1
        self._seen = 0

    def add(self, image: np.ndarray | None) -> None:
        """One more moment."""
        if image is not None and self._seen % self.every == 0:
            self.kept.append(np.asarray(image, np.uint8))
            if len(self.kept) > _MAX_IMAGES:
                self.kept, self.every = self.kept[::2], 2 * self.every
        self._seen += 1
