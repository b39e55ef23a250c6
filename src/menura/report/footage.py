"""What the two sides of a video show: an episode of the expert, or one that a policy plays."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from menura.core import AbstractPolicy, Images, RequestError, Spec
from menura.demonstrations.episodes import Episode

_STEPS_PER_SECOND = {
    "CartPole": 50.0,
    "Acrobot": 15.0,
    "MountainCar": 30.0,
    "Pendulum": 20.0,
    "GridWorld": 4.0,
    "Catch": 5.0,
}
_ATARI_STEPS_PER_SECOND = 15.0
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
    """(T+1, obs); T rows where the last is not known."""
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

    @property
    def num_frames(self) -> int:
        """Moments that can be shown."""
        return len(self.obs)

    def return_until(self, step: int) -> float | None:
        """Rewards added up over the first ``step`` steps; ``None`` if they are not known."""
        return None if self.rewards is None else float(np.sum(self.rewards[:step], dtype=np.float64))


def family_of(env_id: str) -> str:
    """``Hopper`` of ``gymnasium:Hopper-v5``."""
    return env_id.rsplit(":", 1)[-1].rsplit("-v", 1)[0]


def footage_of_episode(env_id: str, episode: Episode, *, label: str = "expert") -> Footage:
    """A demonstrated episode as it was recorded."""
    rewards = None if episode.rewards is None else np.asarray(episode.rewards)
    pace = _STEPS_PER_SECOND.get(family_of(env_id), 30.0)
    return Footage(label, np.asarray(episode.obs), rewards, episode.num_steps, pace)


def record(
    env_id: str,
    policy: Callable[..., Any],
    *,
    env_kwargs: dict[str, Any] | None = None,
    backend: str = "auto",
    seed: int = 0,
    history: int = 1,
    max_steps: int = 1000,
    label: str = "learner",
) -> Footage:
    """An episode that ``policy(obs)`` plays, with what is needed to draw it.

    Environments that ``report.drawing`` draws, and those that are observed as pictures, are played on ``backend``;
    others on Gymnasium, because they have to draw themselves. ``history`` is how many observations the policy sees.
    """
    from menura.report import drawing

    act = _compiled(policy)
    try:
        if drawing.can_draw(env_id) or _shows_pictures(env_id, env_kwargs, backend, history):
            footage, seen = _play_seen(env_id, act, env_kwargs, backend, seed, history, max_steps, label)
        else:
            footage = _play_gymnasium(env_id, act, env_kwargs, seed, max_steps, label)
            seen = footage.obs
    except RequestError as error:
        raise CannotRender(f"There is no video: {error}") from error
    return _with_q_values(footage, seen, env_id, policy)


def _shows_pictures(env_id: str, env_kwargs: dict[str, Any] | None, backend: str, history: int) -> bool:
    from menura.environments import make

    env: Any = make(env_id, num_envs=1, backend=backend, env_kwargs=env_kwargs, history=history)  # pyright: ignore
    pictures = any(isinstance(part, Images) for _, part in env.spec.parts)
    if hasattr(env, "close"):
        env.close()
    return pictures


def _with_q_values(footage: Footage, seen: np.ndarray, env_id: str, policy: Any) -> Footage:
    """The footage with the values of every action in every observation, where the policy has any."""
    if not hasattr(policy, "q_values"):
        return footage
    import jax

    values = np.asarray(jax.jit(lambda obs: jax.lax.map(policy.q_values, obs, batch_size=64))(seen))
    known = _ACTION_NAMES.get(family_of(env_id).removeprefix("ALE/"), ())
    names = known if len(known) == values.shape[1] else tuple(f"action {i}" for i in range(values.shape[1]))
    return dataclasses.replace(footage, q_values=values, action_names=names)


def _compiled(policy: Callable[..., Any]) -> Callable[[np.ndarray], np.ndarray]:
    if not isinstance(policy, AbstractPolicy):
        return lambda obs: np.asarray(policy(obs))
    import jax

    jitted = jax.jit(lambda obs: policy(obs))
    return lambda obs: np.asarray(jitted(obs))


def _play_seen(env_id, act, env_kwargs, backend, seed, history, max_steps, label) -> tuple[Footage, np.ndarray]:
    """An episode that is drawn from what is observed, and all that the policy saw."""
    from menura.environments import NativeEnvs, make

    env = make(env_id, num_envs=1, backend=backend, env_kwargs=env_kwargs, history=history, evaluation=True)
    first, advance = _native_game(env, seed) if isinstance(env, NativeEnvs) else _host_game(env, seed)
    obs, rewards = [first], []
    for index in range(max_steps):
        step = advance(act(obs[-1])[None], index)
        obs.append(np.asarray(step.next_obs[0]))
        rewards.append(float(step.reward[0]))
        if step.terminated[0] or step.truncated[0]:
            break
    if not isinstance(env, NativeEnvs):
        env.close()
    seen = np.stack(obs)
    pace = _STEPS_PER_SECOND.get(family_of(env_id), _ATARI_STEPS_PER_SECOND if env.spec.parts else 30.0)
    # What is drawn is the newest of several observations.
    newest = seen if env.spec.parts else seen[:, -(env.spec.obs_size // env.spec.history) :]
    images = tuple(newest_picture(one, env.spec) for one in seen) if env.spec.parts else ()
    return Footage(label, newest, np.array(rewards), len(rewards), pace, images=images), seen


def newest_picture(obs: np.ndarray, spec: Spec) -> np.ndarray:
    """The last frame of an observation's first picture in color, with a border where it is higher than wide."""
    start = 0
    for _, part in spec.parts:
        if isinstance(part, Images):
            frames = obs[start : start + part.num_bytes].reshape(part.frames, part.height, part.width, part.channels)
            frame = frames[-1] if part.channels == 3 else np.repeat(frames[-1][..., :1], 3, axis=-1)
            border = max(0, part.height - part.width)
            return np.pad(frame, ((0, 0), (border // 2, border - border // 2), (0, 0)), constant_values=48)
        start += part.num_bytes
    raise CannotRender("There is no video: no picture is observed.")


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


def _play_gymnasium(env_id, act, env_kwargs, seed, max_steps, label) -> Footage:
    from menura.environments.host import decode_action, encode_obs, make_gymnasium

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
    raw, _ = env.reset(seed=seed)
    obs, rewards, states = [encode_obs(raw, env.observation_space)], [], [_state(env, mujoco)]
    try:
        images.add(None if mujoco else env.render())
        for _ in range(max_steps):
            raw, reward, terminated, truncated, _ = env.step(decode_action(act(obs[-1])[None], env.action_space)[0])
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
