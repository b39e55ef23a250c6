"""A reward that was learned, frozen: a pure function of a transition, to be trained on like an environment's own."""

import dataclasses
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from menura.core import AbstractForwardLearner, AnyArray, DiscreteActions, Hyper, Metrics, Observed, Spec, Transition
from menura.forward.off_policy import AbstractReplayLearner
from menura.imitation.absorbing import with_worth_of_ending, worth_of_ending
from menura.imitation.airl import OfState, ShapedScore
from menura.imitation.linear import LinearScore, seen
from menura.imitation.score import RewardForm, ScoreNetwork, reward_of_score
from menura.regularizers import AbstractRegularizer
from menura.replay import Drawn

Part = Literal["reward", "shaped"]
"""Of AIRL: the reward g alone, or f, which has the potential too. Other scores are one part only."""


class LearnedReward(eqx.Module):
    """What an adversarial learner had learned to pay, without the policy's part of it: r(s, a, s', terminated).

    Of GAIL it is the score, of AIRL the reward g (or f), paid in the form that the run had (``form``): neither's
    constant is known, and where episodes end it decides whether living on pays. What the learner earned for its
    entropy, −λ log π, belongs to that learner, and is left out.
    """

    score: ScoreNetwork | LinearScore | ShapedScore
    """The network or the weights, with the statistics that standardize what they see."""
    spec: Spec = eqx.field(static=True)
    """The observations and actions that it is of."""
    regularizer: AbstractRegularizer = eqx.field(static=True)
    """Decides, with ``form``, what a score pays."""
    form: RewardForm = eqx.field(static=True)
    """logit pays the score itself."""
    part: Part = eqx.field(static=True)
    gamma: float = eqx.field(static=True)
    """Discount of the potential in f, and of what follows an ending."""
    ending: Float[Array, ""] | None = None
    """What every step pays after a termination, in runs from replay; ``None`` where nothing follows one."""

    @property
    def sees_actions(self) -> bool:
        """Whether the action makes a difference."""
        match self.score:
            case ShapedScore(reward=g):
                return not isinstance(g.network, OfState)
            case ScoreNetwork(observations_only=observations_only):
                return not observations_only
        return not self.score.observations_only

    @property
    def sees_successors(self) -> bool:
        """Whether the next observation makes a difference."""
        if isinstance(self.score, ShapedScore):
            return self.part == "shaped"
        return not self.sees_actions

    def of_step(
        self,
        obs: Observed[AnyArray, " obs"],
        action: AnyArray,
        next_obs: Observed[AnyArray, " obs"],
        terminated: Bool[AnyArray, ""] | bool = False,
    ) -> Float[Array, ""]:
        """What a step pays, without what follows where it ended the episode."""
        obs, action, next_obs = jnp.asarray(obs), jnp.asarray(action), jnp.asarray(next_obs)
        if not self.sees_actions:
            # So that it can be used where actions are other ones.
            actions = self.spec.actions
            action = jnp.zeros((), jnp.int32) if isinstance(actions, DiscreteActions) else jnp.asarray(actions.center)
        nothing = jnp.zeros(())
        ended = jnp.asarray(terminated)
        step = Transition(obs, action, nothing, next_obs, ended, jnp.asarray(False), nothing)
        if isinstance(self.score, ShapedScore):
            # Departs from Fu, Luo & Levine 2018: g is paid in the form of the run, softplus(g) in most presets, because
            # the constant of g is not identified, and where episodes end it decides whether living on pays.
            shaped = self.part == "shaped"
            return self._paid(self.score(step, gamma=self.gamma) if shaped else self.score.reward(obs, action))
        return self._paid(self.score(*seen(step, observations_only=self.sees_successors)))

    def of_ending(self) -> Float[Array, ""]:
        """What every step pays after a termination; 0 where nothing follows one."""
        return jnp.zeros(()) if self.ending is None else self.ending

    def __call__(
        self,
        obs: Observed[AnyArray, " obs"],
        action: AnyArray,
        next_obs: Observed[AnyArray, " obs"],
        terminated: Bool[AnyArray, ""] | bool = False,
    ) -> Float[Array, ""]:
        """The reward of one transition, with the discounted sum of all that follows where it terminated."""
        worth = worth_of_ending(self.of_ending(), gamma=self.gamma)
        return with_worth_of_ending(self.of_step(obs, action, next_obs, terminated), jnp.asarray(terminated), worth)

    def _paid(self, score: Float[Array, ""]) -> Float[Array, ""]:
        return reward_of_score(score, self.regularizer, self.form)


def discounted_as(reward: LearnedReward, gamma: Hyper) -> LearnedReward:
    """The reward for a learner with another discount: its potential stays one, and what follows an ending is summed
    as that learner sums everything."""
    return dataclasses.replace(reward, gamma=gamma)


@jax.jit
def earned(reward: LearnedReward, steps: Transition) -> Float[Array, " batch"]:
    """The reward of flat steps."""
    return jax.vmap(reward)(steps.obs, steps.action, steps.next_obs, steps.terminated)


def update_on(
    learner: AbstractForwardLearner, state: Any, rollout: Transition, reward: LearnedReward, *, key: PRNGKeyArray
) -> tuple[Any, Metrics]:
    """One update of a forward learner on a rollout ``[time, env]``, paid by a learned reward. Pure."""
    forward: Any = learner
    reward = discounted_as(reward, forward.gamma)
    paid = jax.vmap(earned, (None, 0))(reward, rollout)
    metrics: Metrics = {"reward/mean": jnp.mean(paid), "reward/std": jnp.std(paid)}
    on_host = isinstance(learner, AbstractReplayLearner) and isinstance(learner.replay(state), Drawn)
    if not (isinstance(learner, AbstractReplayLearner) and (reward.ending is not None or on_host)):
        state, about_forward = learner.update(state, rollout, paid, key=key)
        return state, metrics | about_forward
    state = learner.store(state, rollout)
    # Living pays the entropy that is aimed at, and so must what follows an ending (imitation/adversarial.py).
    worth = worth_of_ending(reward.of_ending() + learner.entropy_reward(state), gamma=forward.gamma)

    def reward_of(step: Transition) -> Float[Array, ""]:
        alone = reward.of_step(step.obs, step.action, step.next_obs, step.terminated)
        return with_worth_of_ending(alone, step.terminated, worth)

    state, about_forward = learner.learn(state, reward_of, key=key)
    return state, metrics | about_forward
