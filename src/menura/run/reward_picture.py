"""``menura reward plot``: the episodes that a picture of a reward shows, and the picture."""

from pathlib import Path
from typing import Any

import numpy as np

from menura.core import RequestError, Transition
from menura.demonstrations.episodes import Demonstrations
from menura.demonstrations.readers import load
from menura.demonstrations.record import record
from menura.environments.base import Envs, NativeEnvs
from menura.environments.registry import make
from menura.evaluation import UniformPolicy
from menura.imitation.reward import LearnedReward, Part
from menura.imitation.score import RewardForm
from menura.report.charts import chart_of
from menura.report.rewards import reward_figure, reward_slices
from menura.report.runs import algorithm_name
from menura.report.style import Figure
from menura.run.artifacts import load_policy
from menura.run.reward import check_fits, read_reward
from menura.run.reward_distance import steps_alone

EPISODES = 5
"""Played by the learner, and by the uniform policy."""


def picture_of_run(
    run: Path,
    *,
    checkpoint: str = "last",
    part: Part | None = None,
    form: RewardForm | None = None,
    demos: Path | None = None,
    seed: int = 0,
) -> Figure:
    """The picture of a run's reward; of a reward's own folder without a learner."""
    reward, description = read_reward(run, checkpoint, part=part, form=form)
    has_policy = (run / "config.json").is_file()
    policy, config = load_policy(run, checkpoint) if has_policy else (None, description)
    if reward.spec.parts:
        raise RequestError(
            f"{run} learned a reward of pictures, which have no axes to draw it over: compare it instead."
        )
    env = make(
        config["env"],
        num_envs=EPISODES,
        backend=config["backend"],
        env_kwargs=config["env_kwargs"],
        history=reward.spec.history,
    )
    check_fits(reward, env.spec, env_id=env.id, source=run)
    played = {"random": record(env, UniformPolicy(env.spec), EPISODES, seed=seed, deterministic=False)}
    if policy is not None:
        played = {"learner": record(env, policy, EPISODES, seed=seed)} | played
    _close(env)
    shown = demos or Path((description.get("demos") or {}).get("path") or "")
    expert = _expert(shown, reward, required=demos is not None)
    if expert is not None:
        played = {"expert": expert} | played
    rows = {name: _flat(episodes, reward) for name, episodes in played.items()}
    averaged = reward.sees_actions or reward.sees_successors
    chart = chart_of(env.id, reward.spec.obs_size, config["env_kwargs"])
    first = next(iter(rows))
    slices = reward_slices(
        steps_alone(reward),
        chart,
        _seen(rows[first]),
        [np.asarray(steps.obs) for steps in rows.values()],
        averaged=averaged,
    )
    return reward_figure(
        slices,
        chart,
        {name: np.asarray(steps.obs) for name, steps in rows.items()},
        _along(reward, played),
        title=_title(reward, description, config),
        averaged=averaged,
    )


def _typical(episodes: Demonstrations) -> Demonstrations:
    """The episode nearest to the mean return; to the mean length where returns are not known."""
    values = episodes.lengths if np.isnan(episodes.returns).any() else episodes.returns
    return episodes.select([int(np.argmin(np.abs(values - np.mean(values))))])


def _along(reward: LearnedReward, played: dict[str, Demonstrations]) -> dict[str, np.ndarray]:
    """What one episode of each is paid, step by step, without what follows an ending: it would dwarf the steps."""
    rows = [_seen(_flat(_typical(episodes), reward)) for episodes in played.values()]
    paid = np.asarray(steps_alone(reward)(*map(np.concatenate, zip(*rows, strict=True))))
    ends = np.cumsum([len(obs) for obs, _, _ in rows])[:-1]
    return dict(zip(played, np.split(paid, ends), strict=True))


def _expert(path: Path, reward: LearnedReward, *, required: bool) -> Demonstrations | None:
    """The demonstrations that a reward was learned from, where they can still be read, and say what it sees."""
    try:
        found = load(path)
        found.check(reward.spec)
        if reward.sees_actions:
            found.require_actions()
        return found
    except RequestError:
        if required:
            raise
        return None


def _flat(episodes: Demonstrations, reward: LearnedReward) -> Transition:
    return episodes.flatten(reward.spec, with_actions=episodes.has_actions)


def _seen(steps: Transition) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.asarray(steps.obs), np.asarray(steps.action), np.asarray(steps.next_obs)


def _title(reward: LearnedReward, description: dict[str, Any], config: dict[str, Any]) -> str:
    what = {"reward": "The reward", "shaped": "The reward with its potential"}[reward.part]
    text = f"{what} that {algorithm_name(description['algorithm'])} learned on {description['env']}"
    return text if config["env"] == description["env"] else f"{text}, in {config['env']}"


def _close(env: Envs) -> None:
    if not isinstance(env, NativeEnvs):
        env.close()
