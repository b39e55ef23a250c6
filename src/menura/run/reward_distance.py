"""``menura reward compare``: how far two rewards are apart, on the states of demonstrations and of a uniform policy."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from menura.core import RequestError, Spec, Transition, flatten_time
from menura.demonstrations.readers import load
from menura.environments.base import Envs, NativeEnvs, TellsReward
from menura.environments.collect import collect
from menura.environments.registry import make
from menura.epic import BatchReward, Coverage, both_canonical, pearson_distance, resampled_distances
from menura.evaluation import UniformPolicy
from menura.imitation.reward import LearnedReward, Part
from menura.imitation.score import RewardForm
from menura.run.reward import check_fits, read_reward

ENV = "env"
"""In the place of a run: the environment's own reward."""
ROLLOUT_ENVS, ROLLOUT_STEPS = 16, 400
"""What the uniform policy plays: many more steps than are drawn from it, which lie less close together."""


class Named(NamedTuple):
    """A reward with the name that it was asked for by, and what is known of where it came from."""

    name: str
    reward_of: BatchReward
    learned: LearnedReward | None
    description: dict[str, Any]


def batched(reward_of: Callable[..., Any]) -> BatchReward:
    """A reward of one (s, a, s') as one of many, on NumPy arrays."""
    return jax.jit(jax.vmap(reward_of))  # pyright: ignore[reportReturnType]


def steps_alone(reward: LearnedReward) -> BatchReward:
    """What steps pay, whatever follows where they end an episode: a reward in the sense of Gleave et al. (2021)."""
    return batched(lambda obs, action, next_obs: reward.of_step(obs, action, next_obs))


def own_reward(env: Envs) -> BatchReward:
    """The environment's reward as a function of a transition; refuses those that do not tell it."""
    if not (isinstance(env, NativeEnvs) and isinstance(env.env, TellsReward)):
        raise RequestError(
            f"{env.id} on {env.backend} does not give its reward as a function of a transition, which the distance "
            "needs for transitions that never happened: compare two runs."
        )
    return batched(env.env.reward_of)


def compare_rewards(
    a: str,
    b: str,
    *,
    part: Part | None = None,
    form: RewardForm | None = None,
    demos: Path | None = None,
    num_transitions: int = 2048,
    num_pairs: int = 512,
    gamma: float | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """The EPIC distance of two rewards, each a run's or the environment's own (:data:`ENV`); as JSON.

    The coverage distribution is an even mixture of the demonstrations' steps and those of the uniform policy in the
    first run's environment; without readable demonstrations the latter alone. ``gamma`` is that of the first run's
    learner where it is not given. Endings are not looked at: EPIC is of
    functions of (s, a, s').
    """
    if a == b == ENV:
        raise RequestError("Name a run to compare the environment's own reward with.")
    read = [None if name == ENV else read_reward(Path(name), part=part, form=form) for name in (a, b)]
    first, description = next(found for found in read if found is not None)
    history, gamma = first.spec.history, first.gamma if gamma is None else gamma
    env = make(description["env"], num_envs=ROLLOUT_ENVS, env_kwargs=description["env_kwargs"], history=history)
    named = []
    for name, found in zip((a, b), read, strict=True):
        if found is None:
            named.append(Named(name, own_reward(env), None, {}))
            continue
        check_fits(found[0], env.spec, env_id=env.id, source=name)
        named.append(Named(name, steps_alone(found[0]), *found))
    coverage, counts, note = coverage_of(
        env, demos or _demos_of(description), num_transitions=num_transitions, num_pairs=num_pairs, seed=seed
    )
    canonical = both_canonical(named[0].reward_of, named[1].reward_of, coverage, gamma=gamma)
    distance = pearson_distance(*canonical)
    low, high = np.quantile(resampled_distances(*canonical, seed=seed), [0.025, 0.975])
    return {
        "a": a,
        "b": b,
        "env": env.id,
        "epic": distance,
        "ci95": [float(low), float(high)],
        "correlation": 1 - 2 * distance**2,
        "gamma": gamma,
        "coverage": counts,
        "pairs": num_pairs,
        "seed": seed,
        "note": note,
    }


def coverage_of(
    env: Envs, demos: Path | None, *, num_transitions: int, num_pairs: int, seed: int
) -> tuple[Coverage, dict[str, int], str]:
    """Transitions to compare rewards on, how many are of what, and a sentence where demonstrations are left out."""
    if min(num_transitions, num_pairs) < 2:
        raise RequestError("A distance needs at least 2 transitions and 2 pairs.")
    shown, note = _demonstrated(demos, env.spec)
    pools = {"uniform policy": uniform_steps(env, seed)}
    if shown is not None:
        pools["demonstrations"] = shown
    rng = np.random.default_rng(seed)
    counts = {name: num_transitions // len(pools) for name in pools}
    counts["uniform policy"] += num_transitions - sum(counts.values())
    drawn = [_drawn(pool, counts[name], rng) for name, pool in pools.items()]
    obs, action, next_obs = (np.concatenate(column) for column in zip(*drawn, strict=True))
    # Independent of each other, and of the transitions.
    states, actions = (rng.integers(0, num_transitions, num_pairs) for _ in range(2))
    return Coverage(obs, action, next_obs, obs[states], action[actions]), counts, note


def uniform_steps(env: Envs, seed: int) -> Transition:
    """Flat steps of the uniform policy."""
    reset_key, act_key = jax.random.split(jax.random.key(seed))
    carry: Any = env.reset(key=reset_key) if isinstance(env, NativeEnvs) else env.reset(seed)
    policy = UniformPolicy(env.spec)
    if isinstance(env, NativeEnvs):
        play = jax.jit(lambda carry: collect(env, carry, policy, key=act_key, num_steps=ROLLOUT_STEPS))
        _, rollout = play(carry)
    else:
        _, rollout = collect(env, carry, policy, key=act_key, num_steps=ROLLOUT_STEPS)
        env.close()
    return jax.tree.map(np.asarray, flatten_time(rollout))


def _demonstrated(demos: Path | None, spec: Spec) -> tuple[Transition | None, str]:
    """Flat steps of demonstrations, or a sentence that says why there are none."""
    if demos is None:
        return None, "The run had no demonstrations, so that all transitions are the uniform policy's."
    try:
        found = load(demos)
        found.check(spec)
        return found.flatten(spec), ""
    except RequestError as error:
        return None, f"Demonstrations are left out, so that all transitions are the uniform policy's: {error}"


def _demos_of(description: dict[str, Any]) -> Path | None:
    return None if description.get("demos") is None else Path(description["demos"]["path"])


def _drawn(pool: Transition, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rows = rng.integers(0, len(pool.obs), count)
    return np.asarray(pool.obs)[rows], np.asarray(pool.action)[rows], np.asarray(pool.next_obs)[rows]
