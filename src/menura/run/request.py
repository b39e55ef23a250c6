"""What a run is asked to do: the request, and what it names: demonstrations, environments, shapes."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from menura.core import AbstractForwardLearner, AbstractLearner, BoxActions, DiscreteActions, RequestError, Spec
from menura.demonstrations.episodes import Demonstrations
from menura.demonstrations.heldout import left_out
from menura.demonstrations.parts import parts_of_demos
from menura.demonstrations.readers import load
from menura.environments.base import Envs
from menura.environments.history import spec_with_history
from menura.environments.registry import make
from menura.imitation.reward import Part
from menura.imitation.score import RewardForm
from menura.run.artifacts import spec_to_json
from menura.run.registry import algorithm_name, from_json, to_json
from menura.run.resolve import sees_actions


@dataclass(frozen=True)
class Request:
    """Everything that decides a run's numbers; ``config.json`` is this, resolved."""

    learner: AbstractLearner
    env: str | None
    """Environment id; ``None`` where only demonstrations are used."""
    backend: str = "auto"
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    history: int = 1
    """Observations in a row that are seen as one."""
    demos: Path | None = None
    num_demos: int | None = None
    """Episodes used, from the first on; ``None`` for all."""
    subsample: int = 1
    """Every so-many-th step of each episode is kept, from a random offset."""
    shuffle_actions: bool = False
    """A control: the demonstrations' actions in random order, from which nothing can be learned."""
    total_steps: int = 1_000_000
    seed: int = 0
    num_envs: int = 32
    eval_every: int = 0
    """Environment steps between evaluations, each of which is a checkpoint; 0 for the end only."""
    eval_episodes: int = 5
    preset: str | None = None
    warm_start: Path | None = None
    """A run whose last policy is begun with."""
    expert: str | None = None
    """Whom DAgger asks: a run folder, or ``module:object``."""
    reward: Path | None = None
    """A run whose learned reward is trained on, instead of the environment's own."""
    reward_part: Part = "reward"
    """Of the reward of airl: g alone, or f, which has the potential too ("shaped")."""
    reward_paid: RewardForm | None = None
    """The form in which it is paid; ``None`` for the one that its run had."""
    stop_when_converged: bool = False
    """End at the first evaluation by whose proxies it has converged (:func:`menura.imitation.rules.converged`)."""

    @property
    def algorithm(self) -> str:
        """The learner's name on the command line."""
        return algorithm_name(self.learner)

    def to_json(self, spec: Spec) -> dict[str, Any]:
        """``config.json``."""
        demos = None
        if self.demos is not None:
            demos = {
                "path": str(self.demos),
                "num_demos": self.num_demos,
                "subsample": self.subsample,
                "shuffle_actions": self.shuffle_actions,
            }
        return {
            "algorithm": self.algorithm,
            "env": self.env,
            "backend": self.backend,
            "env_kwargs": self.env_kwargs,
            "history": self.history,
            "spec": spec_to_json(spec),
            "demos": demos,
            "expert": self.expert,
            "reward": None
            if self.reward is None
            else {"path": str(self.reward), "part": self.reward_part, "form": self.reward_paid},
            "total_steps": self.total_steps,
            "seed": self.seed,
            "num_envs": self.num_envs,
            "eval_every": self.eval_every,
            "eval_episodes": self.eval_episodes,
            "stop_when_converged": self.stop_when_converged,
            "preset": self.preset,
            "warm_start": None if self.warm_start is None else str(self.warm_start),
            "learner": to_json(self.learner),
        }

    @staticmethod
    def from_json(config: dict[str, Any]) -> "Request":
        """What :meth:`to_json` wrote, built again."""
        demos, warm_start = config["demos"] or {}, config.get("warm_start")
        reward = config.get("reward") or {}
        same = ("env", "backend", "env_kwargs", "total_steps", "seed", "num_envs", "eval_every", "eval_episodes")
        return Request(
            learner=from_json(config["learner"]),
            demos=Path(demos["path"]) if demos else None,
            num_demos=demos.get("num_demos"),
            subsample=demos.get("subsample", 1),
            shuffle_actions=demos.get("shuffle_actions", False),
            history=config.get("history", 1),
            preset=config.get("preset"),
            warm_start=None if warm_start is None else Path(warm_start),
            expert=config.get("expert"),
            reward=Path(reward["path"]) if reward else None,
            reward_part=reward.get("part", "reward"),
            reward_paid=reward.get("form"),
            stop_when_converged=config.get("stop_when_converged", False),
            **{name: config[name] for name in same},
        )


def load_demos(request: Request) -> Demonstrations | None:
    """The demonstrations a request names, subsampled as it says."""
    return load_parts(request)[0]


def load_parts(request: Request) -> tuple[Demonstrations | None, Demonstrations | None]:
    """The demonstrations a request names, subsampled as it says, and what that leaves of the file to read the run by.

    Left are the episodes after the first ``num_demos``, if there are any; else the steps that ``subsample`` leaves out.
    """
    if request.demos is None:
        return None, None
    demos = load(request.demos)
    if not sees_actions(request.learner):
        if request.shuffle_actions:
            raise RequestError("--observations-only looks at no action: leave out --shuffle-actions.")
        demos = demos.without_actions()
    source = demos
    if request.num_demos is not None:
        demos = demos.take(request.num_demos)
    if request.subsample > 1:
        demos = demos.subsample(every=request.subsample, seed=request.seed)
    heldout = left_out(source, demos)
    if request.shuffle_actions:
        # The whole file is a control: what it is read by has its actions in random order too.
        demos = demos.shuffle_actions(request.seed)
        heldout = None if heldout is None else heldout.shuffle_actions(request.seed)
    return demos, heldout


def make_env(request: Request, num_envs: int, *, evaluation: bool = False) -> Envs | None:
    """Copies of the environment a request names, as it is trained in or as policies are evaluated in it."""
    if request.env is None:
        return None
    return make(
        request.env,
        num_envs=num_envs,
        backend=request.backend,  # pyright: ignore[reportArgumentType]
        env_kwargs=request.env_kwargs,
        history=request.history,
        evaluation=evaluation,
    )


def spec_of_request(request: Request, env: Envs | None, demos: Demonstrations | None) -> Spec:
    """The environment's shapes, or those of the demonstrations where there is none."""
    if env is not None:
        return env.spec
    if demos is None or isinstance(request.learner, AbstractForwardLearner):
        raise RequestError(f"{request.algorithm} learns by acting: name an environment after it.")
    return spec_of_demos(demos, history=request.history)


def spec_of_demos(demos: Demonstrations, *, history: int = 1) -> Spec:
    """The shapes of demonstrations, for cloning without an environment.

    Bytes with rows and columns are pictures. Whole-number actions are taken for discrete ones, 0 to the largest seen;
    the bounds of real ones are the smallest and largest value seen in each component.
    """
    demos.check()
    first = demos.episodes[0]
    if any(episode.actions is None for episode in demos.episodes):
        raise RequestError(f"{demos.source} holds no actions, so there is nothing to clone.")
    obs_size, parts = math.prod(first.obs.shape[1:]), parts_of_demos(demos)
    if not parts and first.obs.dtype == np.uint8 and first.obs.ndim > 2:
        from menura.environments.encoding import picture_of_shape

        parts = (("observation", picture_of_shape(first.obs.shape[1:], where=demos.source)),)
    if first.obs.ndim == 1:
        obs_size = 1 + max(int(episode.obs.max()) for episode in demos.episodes)
    actions = [np.asarray(episode.actions) for episode in demos.episodes]
    if np.issubdtype(actions[0].dtype, np.integer):
        space: Any = DiscreteActions(1 + max(int(a.max()) for a in actions))
        return spec_with_history(Spec(obs_size, space, parts), history)
    low = np.min([a.min(axis=0) for a in actions], axis=0)
    high = np.max([a.max(axis=0) for a in actions], axis=0)
    constant = low == high
    low, high = np.where(constant, -np.inf, low), np.where(constant, np.inf, high)
    space = BoxActions(tuple(map(float, low)), tuple(map(float, high)))
    return spec_with_history(Spec(obs_size, space, parts), history)
