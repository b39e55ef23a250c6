"""Soft Q imitation learning (Reddy, Dragan & Levine 2020): the expert's steps are worth 1, the learner's own 0."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from menura.core import ExpertData, Metrics, Transition
from menura.forward.off_policy import AbstractReplayLearner
from menura.forward.sac import SAC
from menura.imitation.absorbing import absorbed_share, ending_rate_of, with_worth_of_ending, worth_of_ending
from menura.imitation.values import AbstractValueImitation


def reward_absorbed(rate_expert: Float[Array, ""], rate_learner: Float[Array, ""]) -> Float[Array, ""]:
    """The mean reward of the absorbing state in balanced batches: 1 for the expert's endings, 0 for the learner's."""
    expert, learner = absorbed_share(rate_expert), absorbed_share(rate_learner)
    return expert / jnp.where(expert + learner > 0, expert + learner, 1.0)


class SQIL(AbstractValueImitation):
    """SQIL of Reddy et al. (2020): no score is trained; half of every batch is the expert's, and pays 1."""

    forward: AbstractReplayLearner = SAC()
    """Learns the soft values, from half the expert's steps and half its own."""
    heldout_fraction: float = 0.0
    """Share of the demonstrations kept from training; minus the mean log-likelihood of their actions is logged as
    loss/heldout."""
    bc_coef: float = 0.0
    """Weight of cloning's loss beside."""
    bc_updates: int = 0
    """Updates over which it fades; 0 for never."""

    def update(self, state: Any, batch: Transition, demos: ExpertData, *, key: PRNGKeyArray) -> tuple[Any, Metrics]:
        """The rollout into the replay at a reward of 0, then gradient steps on halves of it and of the expert's."""
        state = self.forward.store(state, eqx.tree_at(lambda t: t.reward, batch, jnp.zeros_like(batch.reward)))
        expert = eqx.tree_at(lambda t: t.reward, demos.train, jnp.ones_like(demos.train.reward))
        absorbed = reward_absorbed(jnp.asarray(demos.ending_rate), ending_rate_of(self.forward.replay(state)))
        worth = worth_of_ending(absorbed + self.forward.entropy_reward(state), gamma=self.forward.gamma)

        def reward_of(step):
            return with_worth_of_ending(step.reward, step.terminated, worth)

        # Departs from Reddy et al. 2020: where the entropy that is paid has a limit, targets are held to what rewards
        # of 0 and 1 can add up to, because one value alone, without a twin, can run away from it.
        entropy = self.forward.most_entropy_reward(state)
        target_range = None if entropy is None else (0.0, (1 + entropy) / (1 - self.forward.gamma))
        penalty, about_cloning = self._cloning(state, demos, key)
        state, metrics = self.forward.learn(
            state,
            reward_of,
            key=key,
            demos=expert,
            num_rows=demos.num_train,
            target_range=target_range,
            penalty=penalty,
        )
        return state, metrics | {"reward/absorbing": absorbed} | about_cloning | self._heldout(state, demos)
