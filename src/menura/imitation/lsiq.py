"""Least squares inverse Q-learning (Al-Hafez, Tateo, Arenz, Zhao & Peters 2023): χ² on a mixture, in the space of Q."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from menura.core import ExpertData, Hyper, Metrics, RequestError, Transition
from menura.forward.off_policy import AbstractReplayLearner
from menura.forward.sac import SAC
from menura.imitation.absorbing import absorbed_share, ending_rate_of
from menura.imitation.values import AbstractValueImitation


def reward_bounds(alpha: Hyper) -> tuple[Hyper, Hyper]:
    """−1/α and 1/α: what the implicit rewards r = Q(s, a) − γ V(s') of the learner and of the expert are drawn to.

    Because

        mean_E[r] − mean_L[r] − α/2 (mean_E[r²] + mean_L[r²])
            = 1/α − α/2 (mean_E[(r − 1/α)²] + mean_L[(r + 1/α)²])

    the most of the left side, the dual of a squared norm on the even mixture of expert and learner, is the least
    squared error of Bellman's equation under these rewards (Al-Hafez et al. 2023).
    """
    return -1 / alpha, 1 / alpha


def value_bounds(alpha: Hyper, *, gamma: Hyper) -> tuple[Hyper, Hyper]:
    """The least and the most that such rewards add up to."""
    low, high = reward_bounds(alpha)
    return low / (1 - gamma), high / (1 - gamma)


def value_absorbed(
    rate_expert: Float[Array, ""], rate_learner: Float[Array, ""], *, alpha: Hyper, gamma: Hyper
) -> Float[Array, ""]:
    """V of the absorbing state: the fixed point of its targets, the expert's V = high and the learner's low_r + γ V.

    The targets weigh as much as endings are frequent in the two halves: V is the highest there is where only the expert
    ends, and the lowest where only the learner does.
    """
    expert, learner = absorbed_share(rate_expert), absorbed_share(rate_learner)
    high, lowest = value_bounds(alpha, gamma=gamma)[1], reward_bounds(alpha)[0]
    weight = expert + (1 - gamma) * learner
    return (expert * high + learner * lowest) / jnp.where(weight > 0, weight, 1.0)


class LSIQ(AbstractValueImitation):
    """LS-IQ with fixed targets for the expert's steps: the highest values there are. No score is trained.

    The policy is the forward learner's soft one on these values.
    """

    forward: AbstractReplayLearner = SAC()
    """Learns the soft values, from half the expert's steps and half its own."""
    alpha: Hyper = 1.0
    """What an implicit reward costs, squared and halved: rewards lie between ±1/alpha."""
    heldout_fraction: float = 0.0
    """Share of the demonstrations kept from training; minus the mean log-likelihood of their actions is logged as
    loss/heldout."""
    bc_coef: float = 0.0
    """Weight of cloning's loss beside."""
    bc_updates: int = 0
    """Updates over which it fades; 0 for never."""

    def steps_per_update(self, num_envs: int) -> int:
        """Environment steps in one update: the forward learner's; refuses an alpha that costs nothing."""
        if isinstance(self.alpha, float | int) and not self.alpha > 0:
            raise RequestError(f"LSIQ.alpha is {self.alpha:g}; make it more than 0.")
        return super().steps_per_update(num_envs)

    def update(self, state: Any, batch: Transition, demos: ExpertData, *, key: PRNGKeyArray) -> tuple[Any, Metrics]:
        """The rollout into the replay, then gradient steps on halves of it and of the expert's."""
        gamma = self.forward.gamma
        lowest, highest = value_bounds(self.alpha, gamma=gamma)
        low = reward_bounds(self.alpha)[0]
        # A replay on the host stores 0 for every step of the learner's, and low is paid when it is drawn.
        state = self.forward.store(state, eqx.tree_at(lambda t: t.reward, batch, jnp.zeros_like(batch.reward)))
        # The target of the expert's steps is the highest value, whatever follows them: they do not bootstrap.
        expert = eqx.tree_at(
            lambda t: (t.reward, t.terminated),
            demos.train,
            (jnp.full_like(demos.train.reward, highest), jnp.ones_like(demos.train.terminated)),
        )
        rate = ending_rate_of(self.forward.replay(state))
        absorbed = value_absorbed(jnp.asarray(demos.ending_rate), rate, alpha=self.alpha, gamma=gamma)

        def reward_of(step):
            is_expert = step.reward > 0
            own = low + jnp.where(step.terminated, gamma * absorbed, 0.0)
            return jnp.where(is_expert, step.reward, own)

        penalty, about_cloning = self._cloning(state, demos, key)
        state, metrics = self.forward.learn(
            state,
            reward_of,
            key=key,
            demos=expert,
            num_rows=demos.num_train,
            target_range=(lowest, highest),
            penalty=penalty,
        )
        return state, metrics | {"value/absorbing": absorbed} | about_cloning | self._heldout(state, demos)
