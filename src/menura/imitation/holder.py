"""What every imitation learner with a forward learner inside does alike: it acts, and ends, as that one does."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from menura.core import (
    FOR_PENALTY,
    AbstractForwardLearner,
    AbstractImitationLearner,
    AbstractPolicy,
    ExpertData,
    Hyper,
    Metrics,
    Penalty,
)
from menura.forward.dqn import DQN
from menura.imitation.bc import distance_to_some


def fading(weight: Hyper, num_updates: Int[Array, ""], *, over: int) -> Float[Array, ""]:
    """A weight that falls to 0 in a line, after ``over`` updates."""
    return weight * jnp.clip(1 - num_updates / over, 0.0, 1.0)


def cloning(
    policy: AbstractPolicy, demos: ExpertData, *, weight: Hyper | Float[Array, ""], num_rows: int, key: PRNGKeyArray
) -> tuple[Penalty, Metrics]:
    """Cloning's loss as a penalty of the policy's steps, each on ``num_rows`` steps of the expert that it draws anew.

    ``policy`` is the one before these steps; what is logged of it is drawn by ``key``.
    """

    def distance(newer: Any, key: PRNGKeyArray) -> Float[Array, ""]:
        return distance_to_some(newer, policy, demos, num_rows=num_rows, key=key)

    loss = distance(policy, jax.random.fold_in(key, FOR_PENALTY))
    metrics = {"cloning/loss": loss, "cloning/weight": jnp.asarray(weight)}
    return lambda newer, key: weight * distance(newer, key), metrics


def fading_cloning(
    learner: Any, state: Any, demos: ExpertData, key: PRNGKeyArray
) -> tuple[Penalty | None, Int[Array, ""] | None, Metrics]:
    """Cloning's part in this update of GAIL or AIRL, and their count of updates after it; none where nothing counts."""
    if state.num_updates is None:
        return None, None, {}
    weight = fading(learner.bc_coef, state.num_updates, over=learner.bc_updates)
    policy = learner.policy(state)
    penalty, metrics = cloning(policy, demos, weight=weight, num_rows=learner.score_batch_size, key=key)
    return penalty, state.num_updates + 1, metrics


class AbstractHolder(AbstractImitationLearner):
    """Imitation by reinforcement learning: rewards of its own for the forward learner that it holds."""

    forward: eqx.AbstractVar[AbstractForwardLearner]
    """Solves the reinforcement learning problem inside."""
    bc_updates: eqx.AbstractVar[int]
    """Updates over which cloning's loss fades from the policy's step."""
    bc_coef: eqx.AbstractVar[Hyper]
    """Weight of cloning's loss at first."""

    def state_of_forward(self, state: Any) -> Any:
        """The forward learner's part of a state."""
        return state.forward

    @property
    def num_steps(self) -> int:
        """Steps each copy of the environment takes between updates: the forward learner's."""
        return self.forward.num_steps

    @property
    def clones(self) -> bool:
        """Whether cloning's loss is part of the forward learner's steps."""
        return False

    def steps_per_update(self, num_envs: int) -> int:
        """Environment steps in one update: the forward learner's; refuses to clone into one without likelihoods."""
        if self.clones and isinstance(self.forward, DQN):
            self.forward.require_likelihood()
        return self.forward.steps_per_update(num_envs)

    def finished(self, state: Any) -> bool:
        """Never: it does not know how far it is from the expert."""
        return False

    def policy(self, state: Any) -> AbstractPolicy:
        """The forward learner's newest policy."""
        return self.forward.policy(self.state_of_forward(state))

    def final_policy(self, state: Any) -> AbstractPolicy:
        """The policy that the forward learner would keep."""
        return self.forward.final_policy(self.state_of_forward(state))
