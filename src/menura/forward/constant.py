"""A control: reinforcement learning on a reward that is the same whatever is done."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from menura.core import AbstractForwardLearner, AbstractPolicy, Hyper, Metrics, Penalty, Spec, Transition


class ConstantState(eqx.Module):
    """What the learner inside knows, and what it is paid."""

    inner: Any
    reward: Float[Array, ""]
    """An array, so that one compiled program serves every constant."""


class ConstantReward(AbstractForwardLearner):
    """Pays the learner inside the same for every step, whatever reward it is handed."""

    inner: AbstractForwardLearner
    """Learns from it."""
    reward: Hyper = 1.0
    """What a step pays."""

    @property
    def num_steps(self) -> int:
        """The inner learner's."""
        return self.inner.num_steps

    def steps_per_update(self, num_envs: int) -> int:
        """The inner learner's."""
        return self.inner.steps_per_update(num_envs)

    def init(self, spec: Spec, *, key: PRNGKeyArray) -> ConstantState:
        """A fresh state of the inner learner, and the constant."""
        return ConstantState(self.inner.init(spec, key=key), jnp.asarray(self.reward, jnp.float32))

    def policy(self, state: ConstantState) -> AbstractPolicy:
        """The inner learner's."""
        return self.inner.policy(state.inner)

    def final_policy(self, state: ConstantState) -> AbstractPolicy:
        """The inner learner's."""
        return self.inner.final_policy(state.inner)

    def update(
        self,
        state: ConstantState,
        batch: Transition,
        reward: Float[Array, "time env"],
        *,
        key: PRNGKeyArray,
        penalty: Penalty | None = None,
    ) -> tuple[ConstantState, Metrics]:
        """The inner learner's update, with the constant in place of ``reward``."""
        constant = jnp.full(reward.shape, state.reward)
        inner, metrics = self.inner.update(state.inner, batch, constant, key=key, penalty=penalty)
        return ConstantState(inner, state.reward), metrics
