"""Soft Q imitation learning (Reddy, Dragan & Levine 2020): the expert's steps are worth 1, the learner's own 0."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from menura.core import ExpertData, Metrics, Penalty, Spec, Transition
from menura.forward.off_policy import AbstractReplayLearner
from menura.forward.sac import SAC
from menura.imitation.absorbing import absorbed_share, ending_rate_of, with_worth_of_ending, worth_of_ending
from menura.imitation.bc import distance_to_some, negative_log_likelihood
from menura.imitation.holder import AbstractHolder

CLONED_ROWS = 64
"""Steps of the expert in cloning's loss."""


def reward_absorbed(rate_expert: Float[Array, ""], rate_learner: Float[Array, ""]) -> Float[Array, ""]:
    """The mean reward of the absorbing state in balanced batches: 1 for the expert's endings, 0 for the learner's."""
    expert, learner = absorbed_share(rate_expert), absorbed_share(rate_learner)
    return expert / jnp.where(expert + learner > 0, expert + learner, 1.0)


class SQIL(AbstractHolder):
    """SQIL of Reddy et al. (2020): no score is trained; half of every batch is the expert's, and pays 1."""

    forward: AbstractReplayLearner = SAC()
    """Learns the soft values, from half the expert's steps and half its own."""
    heldout_fraction: float = 0.0
    """Share of the demonstrations kept from training; minus the mean log-likelihood of their actions is logged as
    loss/heldout."""
    bc_coef: float = 0.0
    """Weight of cloning's loss beside."""

    @property
    def clones(self) -> bool:
        """Whether cloning's loss stands beside."""
        return self.bc_coef != 0

    def init(self, spec: Spec, *, key: PRNGKeyArray) -> Any:
        """The forward learner's fresh state: there is no other."""
        return self.forward.init(spec, key=key)

    def state_of_forward(self, state: Any) -> Any:
        """The whole of it."""
        return state

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
        state, metrics = self.forward.learn(
            state,
            reward_of,
            key=key,
            demos=expert,
            num_rows=demos.num_train,
            target_range=target_range,
            penalty=self._cloning(state, demos),
        )
        if demos.heldout.obs.shape[0] > 0:
            metrics["loss/heldout"] = negative_log_likelihood(
                self.forward.final_policy(state), demos.heldout, demos.num_heldout
            )
        return state, metrics | {"reward/absorbing": absorbed}

    def _cloning(self, state: Any, demos: ExpertData) -> Penalty | None:
        """Cloning's loss."""
        if self.bc_coef == 0:
            return None
        reference = self.policy(state)
        return lambda policy, key: (
            self.bc_coef * distance_to_some(policy, reference, demos, num_rows=CLONED_ROWS, key=key)
        )
