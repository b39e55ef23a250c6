"""Reading a run without its reward: what an evaluation's steps look like beside the expert's held-out ones."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from menura.core import (
    AbstractImitationLearner,
    AbstractPolicy,
    BoxActions,
    DiscreteActions,
    ExpertData,
    Spec,
    Transition,
    Vector,
)
from menura.demonstrations.episodes import Demonstrations
from menura.demonstrations.heldout import sampled_steps
from menura.environments.collect import QUICK_COMPILATION
from menura.imitation.adversarial import GAIL
from menura.imitation.airl import AIRL
from menura.imitation.dagger import DAgger
from menura.imitation.linear import seen
from menura.imitation.proxies import dependence_p_value, root_mean_square_distance, saturation, share_above, squared_mmd
from menura.imitation.score import reward_of_score
from menura.networks import over_rows
from menura.regularizers import AbstractFeatureMatching, JensenShannon
from menura.regularizers.divergences import AbstractLink

READ_STEPS = 1024
"""Steps of either side that are looked at: the most that are held, and that an evaluation keeps."""
DEPENDENCE_STEPS, LEAST_FOR_DEPENDENCE = 256, 50
"""Of them for the test whether the expert's actions follow from what it saw: at most, and at the least. Fewer steps
say little of either, and the test would call actions random that are not."""
SATURATED = 5.0
"""A logit beyond which the score is all but certain: 1 in 150."""


@dataclass(frozen=True)
class StepSpace:
    """Steps as points, standardized by the expert's statistics: what distances are measured between."""

    spec: Spec
    observations_only: bool
    obs_mean: np.ndarray
    obs_std: np.ndarray
    second_mean: np.ndarray
    second_std: np.ndarray

    @staticmethod
    def of_expert(expert: Transition, spec: Spec, *, observations_only: bool) -> "StepSpace":
        """The space whose scale is that of an expert's steps. What does not vary among them is only centered."""
        raw = StepSpace(spec, observations_only, *(np.asarray(x) for x in (0.0, 1.0, 0.0, 1.0)))
        parts = raw._obs(expert), raw._second(expert)
        statistics = [f for part in parts for f in (part.mean(axis=0), part.std(axis=0))]
        for index in (1, 3):
            statistics[index] = np.where(statistics[index] > 1e-6, statistics[index], 1.0)
        if raw._one_hot:
            statistics[2:] = np.asarray(0.0), np.asarray(1.0)
        return StepSpace(spec, observations_only, *statistics)

    @property
    def _one_hot(self) -> bool:
        return isinstance(self.spec.actions, DiscreteActions) and not self.observations_only

    def obs(self, steps: Transition) -> np.ndarray:
        """Observations alone."""
        return np.clip((self._obs(steps) - self.obs_mean) / self.obs_std, -10.0, 10.0)

    def second(self, steps: Transition) -> np.ndarray:
        """What stands beside them: actions, one-hot where they are discrete, or changes to the next observation."""
        return np.clip((self._second(steps) - self.second_mean) / self.second_std, -10.0, 10.0)

    def points(self, steps: Transition) -> np.ndarray:
        """Both."""
        return np.concatenate([self.obs(steps), self.second(steps)], axis=1)

    def _obs(self, steps: Transition) -> np.ndarray:
        return self._numbers(steps.obs)

    def _numbers(self, obs: Any) -> np.ndarray:
        return coarse(np.asarray(obs), self.spec) if self.spec.parts else np.asarray(obs, np.float64)

    def _second(self, steps: Transition) -> np.ndarray:
        match self.spec.actions:
            case _ if self.observations_only:
                return self._numbers(steps.next_obs) - self._obs(steps)
            case DiscreteActions(num_actions=num_actions):
                return np.eye(num_actions)[np.asarray(steps.action, int)]
            case BoxActions(low=low, high=high):
                return np.clip(np.asarray(steps.action, np.float64), low, high)


class Reader:
    """Holds an expert's steps that a learner never saw, and reads each evaluation against them.

    At most :data:`READ_STEPS` of either are looked at. ``halves`` are the held-out steps of some episodes and those of
    the others, where there are several.
    """

    def __init__(
        self,
        learner: AbstractImitationLearner,
        spec: Spec,
        train: Transition,
        heldout: Transition,
        *,
        halves: tuple[Transition, Transition] | None = None,
        seed: int,
    ):
        self._observations_only = getattr(learner, "observations_only", False)
        self._train, self._heldout = _thinned(train, seed), _thinned(heldout, seed)
        self._space = StepSpace.of_expert(self._heldout, spec, observations_only=self._observations_only)
        self._points = self._space.points(self._heldout)
        self._bandwidth = root_mean_square_distance(self._points)
        self._judge = jax.jit(_judge_of(learner), compiler_options=QUICK_COMPILATION)
        self._constant = {"proxy/mmd_expert": float("nan")}
        if halves is not None:
            points = (self._space.points(jax.tree.map(np.asarray, half)) for half in halves)
            self._constant["proxy/mmd_expert"] = squared_mmd(*points, bandwidth=self._bandwidth)
        if not self._observations_only:
            few = _thinned(self._heldout, seed, DEPENDENCE_STEPS)
            enough = len(few.obs) >= LEAST_FOR_DEPENDENCE
            p_value = dependence_p_value(self._space.obs(few), self._space.second(few)) if enough else float("nan")
            self._constant["proxy/action_p_value"] = p_value
        regularizer = getattr(learner, "regularizer", None)
        self._is_logit = regularizer is None or isinstance(regularizer, JensenShannon | AbstractLink)
        self._is_trained = not isinstance(regularizer, AbstractFeatureMatching)

    def read(
        self, state: Any, policy: AbstractPolicy, before: AbstractPolicy | None, steps: Transition
    ) -> dict[str, float]:
        """Every proxy of one evaluation, whose ``steps`` these are; ``before`` is the policy of the last one.

        The steps' own rewards are never looked at.
        """
        learner = jax.tree.map(np.asarray, steps)
        mmd = squared_mmd(self._space.points(learner), self._points, bandwidth=self._bandwidth)
        sides = (self._heldout, self._train, learner)
        judged = self._judge(state, policy, policy if before is None else before, *map(_padded, sides))
        judged = {name: np.asarray(value, np.float64) for name, value in judged.items()}
        result = {"proxy/mmd": mmd} | self._constant
        if "log_prob" in judged:
            result["proxy/heldout_loss"] = -float(np.mean(judged["log_prob"][: len(self._heldout.obs)]))
        if "kl" in judged:
            moved = float(np.mean(judged["kl"][: len(self._heldout.obs)]))
            result["proxy/moved"] = float("nan") if before is None else moved
        if "score" in judged:
            numbers = [len(side.obs) for side in sides]
            result |= self._of_scores(
                *([x[:n] for x, n in zip(judged[k], numbers, strict=True)] for k in ("score", "reward"))
            )
        return result

    def _of_scores(self, score: list[np.ndarray], reward: list[np.ndarray]) -> dict[str, float]:
        """What the scores and rewards of held-out, training and learner's steps say.

        How much a score varies says something of its training where it is trained, and a logit alone is certain of
        anything.
        """
        heldout, train, learner = score
        both = np.concatenate([heldout, learner])
        of_the_training = {"proxy/score_std": float(np.std(both))} if self._is_trained else {}
        of_the_logit = {"proxy/saturation": saturation(both, bound=SATURATED)} if self._is_logit else {}
        return (
            of_the_training
            | of_the_logit
            | {
                "proxy/score_heldout": float(np.mean(heldout)),
                "proxy/score_train": float(np.mean(train)),
                "proxy/score_learner": float(np.mean(learner)),
                "proxy/told_apart": share_above(heldout, learner),
                "proxy/memorized": share_above(train, heldout),
                "proxy/reward_order": share_above(reward[0], reward[2]),
                "proxy/reward_std": float(np.std(np.concatenate([reward[0], reward[2]]))),
            }
        )


CELLS = 10
"""Pictures are compared by the mean brightness of so many cells a side, or of their pixels where they have fewer."""


def coarse(obs: np.ndarray, spec: Spec) -> np.ndarray:
    """Observations with pictures as few numbers: the newest frame of each, cell by cell, and the vectors."""
    pieces, start = [], 0
    for _, part in spec.parts:
        piece = np.ascontiguousarray(obs[:, start : start + part.num_bytes])
        start += part.num_bytes
        if isinstance(part, Vector):
            pieces.append(piece.view(np.float32).astype(np.float64))
            continue
        frames = piece.reshape(len(obs), part.frames, part.height, part.width, part.channels)
        rows, columns = max(1, part.height // CELLS), max(1, part.width // CELLS)
        height, width = part.height // rows, part.width // columns
        newest = frames[:, -1, : height * rows, : width * columns]
        cells = newest.reshape(len(obs), height, rows, width, columns, part.channels).mean(axis=(2, 4, 5))
        pieces.append(cells.reshape(len(obs), -1))
    return np.concatenate(pieces, axis=1)


def make_reader(
    learner: Any, spec: Spec, data: ExpertData | None, heldout: Demonstrations | None, *, seed: int
) -> Reader | None:
    """A reader for a learner from demonstrations; ``None`` where no step of the expert's was held out.

    ``heldout`` are demonstrations that are not among those learned from; without any, what ``heldout_fraction`` left.
    """
    if data is None or not isinstance(learner, AbstractImitationLearner) or isinstance(learner, DAgger):
        return None
    with_actions = not getattr(learner, "observations_only", False)
    if heldout is not None:
        drawn = sampled_steps(heldout if with_actions else heldout.without_actions(), READ_STEPS, seed=seed)
        rows = drawn.flatten(spec, with_actions=with_actions)
        halves = halves_of(drawn, spec, with_actions=with_actions)
    else:
        rows, halves = jax.tree.map(np.asarray, data.heldout), None
    train = jax.tree.map(np.asarray, data.train)
    if min(len(rows.obs), len(train.obs)) < 2:
        return None
    return Reader(learner, spec, train, rows, halves=halves, seed=seed)


def _judge_of(learner: AbstractImitationLearner) -> Callable[..., dict[str, jax.Array]]:
    """What must be asked of networks: (state, policy, policy before, held-out, training, learner's steps) → arrays."""
    of_steps = _score_of(learner)
    sees_actions = not getattr(learner, "observations_only", False)

    def judge(state, policy, before, heldout, train, steps):
        found = {}
        if sees_actions:
            found["log_prob"] = over_rows(lambda o, a: policy.distribution(o).log_prob(a), heldout.obs, heldout.action)
        if hasattr(jax.eval_shape(policy.distribution, heldout.obs[0]), "kl"):
            found["kl"] = over_rows(lambda o: before.distribution(o).kl(policy.distribution(o)), heldout.obs)
        if of_steps is not None:
            pairs = [of_steps(state, side) for side in (heldout, train, steps)]
            found["score"], found["reward"] = (jnp.stack(column) for column in zip(*pairs, strict=True))
        return found

    return judge


def _score_of(learner: AbstractImitationLearner) -> Callable[[Any, Transition], tuple[Any, Any]] | None:
    """(state, flat steps) → their scores, and the rewards made of them; ``None`` where there is no score."""
    match learner:
        case GAIL():

            def of_gail(state: Any, steps: Transition) -> tuple[Any, Any]:
                score = over_rows(state.score, *seen(steps, observations_only=learner.observations_only))
                return score, reward_of_score(score, learner.regularizer, learner.reward_form)

            return of_gail
        case AIRL():

            def of_airl(state: Any, steps: Transition) -> tuple[Any, Any]:
                # Without −λ log π: the evaluation's actions are the policy's likeliest, and would all look too likely.
                score = jax.vmap(lambda step: state.score(step, gamma=learner.gamma))(steps)
                return score, reward_of_score(score, JensenShannon(), learner.reward_form)

            return of_airl
        case _:
            return None


def _thinned(rows: Transition, seed: int, at_most: int = READ_STEPS) -> Transition:
    """Rows drawn at random, in the order they had."""
    chosen = np.sort(np.random.default_rng(seed).permutation(len(rows.obs))[:at_most])
    return jax.tree.map(lambda x: np.asarray(x)[chosen], rows)


def halves_of(demos: Demonstrations, spec: Spec, *, with_actions: bool) -> tuple[Transition, Transition] | None:
    """Steps of half the episodes, and of the others; ``None`` of a single one, whose beginning is not like its end."""
    if len(demos) < 2:
        return None
    middle = len(demos) // 2
    parts = demos.select(range(middle)), demos.select(range(middle, len(demos)))
    first, second = (part.flatten(spec, with_actions=with_actions) for part in parts)
    return first, second


def _padded(rows: Transition) -> Transition:
    """As many rows as are ever looked at, by repetition: one compiled program serves every evaluation."""
    index = np.arange(READ_STEPS) % len(rows.obs)
    return jax.tree.map(lambda x: x[index], rows)
