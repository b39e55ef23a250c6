"""What learners from a replay offer to imitation: the reward may change after a transition was stored."""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from menura.core import AbstractForwardLearner, Hyper, Metrics, Penalty, RequestError, Spec, Transition
from menura.frame_replay import FrameReplay
from menura.replay import Drawn, Replay


class AbstractReplayLearner(AbstractForwardLearner):
    """Reinforcement learning from a replay of everything done so far."""

    gamma: eqx.AbstractVar[Hyper]
    """Discount."""

    @abc.abstractmethod
    def replay(self, state: Any) -> Replay | Drawn:
        """What it learns from."""

    @abc.abstractmethod
    def host_replay(self, spec: Spec, num_envs: int) -> FrameReplay | None:
        """The replay outside the state, not allocated yet, that it learns from; ``None`` where its state holds one."""

    @abc.abstractmethod
    def store(self, state: Any, batch: Transition) -> Any:
        """The state with a rollout ``[time, env]`` more in its replay."""

    @abc.abstractmethod
    def learn(
        self,
        state: Any,
        reward_of: Callable[[Transition], Float[Array, ""]],
        *,
        key: PRNGKeyArray,
        demos: Transition | None = None,
        num_rows: Int[Array, ""] | None = None,
        target_range: tuple[Hyper, Hyper] | None = None,
        penalty: Penalty | None = None,
    ) -> tuple[Any, Metrics]:
        """Gradient steps on the replay, with ``reward_of`` applied to every transition when it is drawn.

        With flat ``demos``, half of each batch is drawn from the first ``num_rows`` of them, or all; with a
        ``target_range``, what values are drawn to is clipped to it. ``penalty``, on a draw of its own at each step
        (:func:`menura.core.drawn_by`), is subtracted from the objective of the policy's steps. Pure.
        """

    @abc.abstractmethod
    def updates_learned(self, state: Any) -> Int[Array, ""]:
        """Updates so far that made gradient steps."""

    @abc.abstractmethod
    def entropy_reward(self, state: Any) -> Float[Array, ""]:
        """What a step earns, beside its reward, where the policy has the entropy that is aimed at."""

    @abc.abstractmethod
    def most_entropy_reward(self, state: Any) -> Hyper | None:
        """The most that a step can earn beside its reward; ``None`` where that has no limit."""


def rollout_size(num_envs: int, *, num_steps: int, replay_size: int) -> int:
    """Environment steps between updates; refuses a replay that does not hold as many."""
    size = num_envs * num_steps
    if replay_size < size:
        raise RequestError(f"replay_size={replay_size} must hold one rollout of {size} steps: raise it.")
    return size


def running_average(average: Any, newest: Any, num_before: Int[Array, ""], *, decay: Hyper) -> Any:
    """The exponential average of weights (Polyak & Juditsky 1992), of which there were ``num_before`` already.

    While those are few it reaches over the last tenth of them, so that it has no memory of how they began.
    """
    decay = jnp.minimum(decay, (1 + num_before) / (10 + num_before))
    return jax.tree.map(lambda a, n: decay * a + (1 - decay) * n, average, newest)
