"""Adversarial inverse reinforcement learning (Fu, Luo & Levine 2018): a score made of a reward and a potential."""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax.scipy.special import log_ndtr
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from menura.core import (
    AbstractForwardLearner,
    ExpertData,
    Hyper,
    Metrics,
    RequestError,
    Spec,
    Transition,
    flatten_time,
)
from menura.encoders import Encoder, num_numbers
from menura.forward.off_policy import AbstractReplayLearner
from menura.forward.trpo import TRPO
from menura.imitation.holder import AbstractHolder, fading_cloning
from menura.imitation.score import RewardForm, ScoreNetwork, Units, network_of_numbers, reward_of_score, slope_of
from menura.networks import MLP, Activation, DiagonalGaussian, mean_of_rows, over_rows
from menura.regularizers import JensenShannon


def shaped(
    reward: Float[Array, "*batch"],
    potential: Float[Array, "*batch"],
    next_potential: Float[Array, "*batch"],
    terminated: Bool[Array, "*batch"],
    *,
    gamma: Hyper,
) -> Float[Array, "*batch"]:
    """f = g + γ(1 − terminated)·h(s′) − h(s) (Fu, Luo & Levine 2018).

    Nothing follows a termination, so it has no potential; with one, endings would be paid by what h says of them.
    """
    return reward + gamma * jnp.where(terminated, 0.0, next_potential) - potential


def log_prob_carried_out(
    distribution: Any,
    action: Array,
    low: Float[Array, " action"] | None,
    high: Float[Array, " action"] | None,
) -> Float[Array, ""]:
    """log π of an action as the environment takes it: clipped to its bounds.

    A normal distribution, clipped, keeps its density between the bounds and has on each bound the mass that lay
    beyond. Densities are per half-width of the space, so that the unit of an action does not matter.
    Other distributions say their own log-probability.
    """
    if low is None or high is None or not isinstance(distribution, DiagonalGaussian):
        return distribution.log_prob(action)
    mean, std = distribution.mean, jnp.exp(distribution.log_std)
    half_width = jnp.where(jnp.isfinite(high - low), 0.5 * (high - low), 1.0)
    z = (jnp.clip(action, low, high) - mean) / std
    inside = -0.5 * (jnp.square(z) + math.log(2 * math.pi)) - distribution.log_std + jnp.log(half_width)
    below, above = log_ndtr(z), log_ndtr(-z)
    return jnp.sum(jnp.where(action <= low, below, jnp.where(action >= high, above, inside)))


class OfState(eqx.Module):
    """A network that sees the first ``size`` of its inputs only: the observation, without the action."""

    network: Callable[[Float[Array, " obs"]], Float[Array, " one"]]
    size: int = eqx.field(static=True)

    def __call__(self, x: Float[Array, " features"]) -> Float[Array, " one"]:
        """The output for one input."""
        return self.network(x[: self.size])


class ShapedScore(eqx.Module):
    """f: a reward g, and the difference of a potential h between an observation and the next one."""

    reward: ScoreNetwork
    """g. With ``state_only`` it is called with an action too, and does not look at it."""
    potential: Callable[[Float[Array, " obs"]], Float[Array, " one"]]
    """h, of observations as ``reward`` standardizes them."""

    def __init__(
        self,
        spec: Spec,
        hidden_sizes: tuple[int, ...],
        *,
        state_only: bool,
        activation: Activation,
        key: PRNGKeyArray,
        make_network: Callable[..., Any] = MLP,
        encoder: Encoder = "nature",
        common_pixels: bool = False,
        units: Units = "expert",
    ):
        """Fresh networks, both near 0."""
        obs_numbers = num_numbers(spec.parts) if spec.parts else spec.obs_size

        def of_obs(key: PRNGKeyArray) -> Any:
            return network_of_numbers(
                spec.parts,
                obs_numbers,
                hidden_sizes,
                activation=activation,
                make_network=make_network,
                encoder=encoder,
                key=key,
            )

        def make_of_state(*sizes: Any, key: PRNGKeyArray, **settings: Any) -> OfState:
            return OfState(of_obs(key), obs_numbers)

        reward_key, potential_key = jax.random.split(key)
        self.reward = ScoreNetwork(
            spec,
            hidden_sizes,
            activation=activation,
            key=reward_key,
            make_network=make_of_state if state_only else make_network,
            encoder=encoder,
            common_pixels=common_pixels,
            units=units,
        )
        self.potential = of_obs(potential_key)

    def bounds(self) -> tuple[Float[Array, " action"] | None, Float[Array, " action"] | None]:
        """Lowest and highest action; ``None`` where actions are discrete."""
        g = self.reward
        if g.center is None or g.half_width is None or g.limit is None:
            return None, None
        return g.center - g.half_width * g.limit, g.center + g.half_width * g.limit

    def features(self, step: Transition) -> Float[Array, " features"]:
        """What the networks see of one step: g's inputs, then the standardized successor."""
        return jnp.concatenate([self.reward.features(step.obs, step.action), self.reward.numbers(step.next_obs)])

    def of_features(
        self, features: Float[Array, " features"], terminated: Bool[Array, ""], *, gamma: Hyper
    ) -> Float[Array, ""]:
        """f of what :meth:`features` gave."""
        size = self.reward.obs_numbers
        obs, next_obs = features[:size], features[-size:]
        reward = self.reward.of_features(features[:-size])
        return shaped(reward, self.potential(obs)[0], self.potential(next_obs)[0], terminated, gamma=gamma)

    def __call__(self, step: Transition, *, gamma: Hyper) -> Float[Array, ""]:
        """f of one step."""
        return self.of_features(self.features(step), step.terminated, gamma=gamma)


class AIRLState(eqx.Module):
    """What AIRL learns."""

    forward: Any
    score: ShapedScore
    opt_state: optax.OptState
    num_updates: Int[Array, ""] | None = None
    """Updates so far; not counted where cloning has no part in them."""


class AIRL(AbstractHolder):
    """Adversarial IRL (Fu, Luo & Levine 2018, algorithm 1): GAIL whose score is f − λ log π, f a shaped reward.

    Where the game settles, f is λ times the log-probability of the expert's action, which is its advantage; and the
    part of it that depends on the state alone is the reward, up to a constant (docs/airl.md says where).
    """

    forward: AbstractForwardLearner = TRPO()
    """Solves the reinforcement learning problem inside. The potential is discounted as it does."""
    state_only: bool = True
    """The reward g sees the state alone, which is what parts it from the dynamics; False shows it the action too."""
    entropy_weight: Hyper = 0.1
    """λ, in the score and in what the learner earns: f − λ log π. The paper's is 1."""
    reward_form: RewardForm = "logit"
    """What the learner earns for a score: logit is the paper's log D − log(1 − D); the others are GAIL's."""
    learning_rate: Hyper = 1e-3
    """Adam's step size for reward and potential."""
    num_score_steps: int = 8
    """Gradient steps of theirs on each rollout."""
    score_batch_size: int = 256
    """Steps of the learner, and as many of the expert, in one of them."""
    gradient_penalty: Hyper = 1.0
    """Weight of (‖∇ f‖ − gradient_norm)² between expert and learner; 0 for none."""
    gradient_norm: Hyper = 1.0
    """The slope that the penalty pulls to."""
    hidden_sizes: tuple[int, ...] = (100, 100)
    """Widths of the hidden layers of reward and potential; none makes both linear."""
    activation: Activation = "tanh"
    """Their non-linearity."""
    encoder: Encoder = "nature"
    """What reads pictures, before the hidden layers: nature (Mnih et al. 2015) or residual (Espeholt et al. 2018)."""
    common_pixels: bool = True
    """Show the score of each pixel only values that both sides have shown, so that no mark tells them apart."""
    score_units: Units = "expert"
    """Whose mean and spread the score's observations are standardized by: the expert's, or those of both sides, where
    a learner is soon out of the narrow range of a few demonstrations."""
    make_network: Callable[..., Any] = eqx.field(default=MLP, static=True)
    """From Python only: builds each of the two networks, called as ``menura.networks.MLP`` is."""
    optimizer: Callable[[Hyper], optax.GradientTransformation] = eqx.field(default=optax.adam, static=True)
    """From Python only: their optimizer for a step size, such as ``optax.sgd``."""
    heldout_fraction: float = 0.0
    """Share of the demonstrations kept from training; their score is logged as score/heldout."""
    bc_updates: int = 0
    """Updates over which cloning's loss fades from the policy's step."""
    bc_coef: Hyper = 1.0
    """Weight of cloning's loss at first."""

    def __check_init__(self):
        if isinstance(self.forward, AbstractReplayLearner):
            raise RequestError(
                f"AIRL pays for the newest rollout, and {type(self.forward).__name__} learns from older ones: give it "
                "TRPO or PPO, or take GAIL, which pays for what is drawn."
            )

    @property
    def clones(self) -> bool:
        """Whether cloning's loss is part of the policy's steps, at first."""
        return self.bc_updates > 0

    def init(self, spec: Spec, *, key: PRNGKeyArray) -> AIRLState:
        """A fresh policy and a reward near 0."""
        forward_key, score_key = jax.random.split(key)
        score = ShapedScore(
            spec,
            self.hidden_sizes,
            state_only=self.state_only,
            activation=self.activation,
            key=score_key,
            make_network=self.make_network,
            encoder=self.encoder,
            common_pixels=self.common_pixels,
            units=self.score_units,
        )
        opt_state = self.optimizer(self.learning_rate).init(_networks(score))
        counted = jnp.zeros((), jnp.int32) if self.clones else None
        return AIRLState(self.forward.init(spec, key=forward_key), score, opt_state, counted)

    @property
    def gamma(self) -> Hyper:
        """Discount of the potential: the forward learner's."""
        forward: Any = self.forward
        return forward.gamma

    def reward_function(self, state: AIRLState) -> ScoreNetwork:
        """g: called with an observation and an action, it gives the learned reward of that step, without potential."""
        return state.score.reward

    def log_prob(self, state: AIRLState, steps: Transition) -> Float[Array, " batch"]:
        """log π of flat steps, by the policy that acts, of their actions as carried out."""
        policy, (low, high) = self.policy(state), state.score.bounds()
        return over_rows(
            lambda o, a: log_prob_carried_out(policy.distribution(o), a, low, high), steps.obs, steps.action
        )

    def logit(self, state: AIRLState, steps: Transition) -> Float[Array, " batch"]:
        """f − λ log π of flat steps: high where they look like the expert's."""
        f = over_rows(lambda _, step: state.score(step, gamma=self.gamma), steps.obs, steps)
        return f - self.entropy_weight * self.log_prob(state, steps)

    def reward(self, state: AIRLState, batch: Transition) -> Float[Array, "time env"]:
        """What a rollout ``[time, env]`` of the acting policy earns, by the score as it is now."""
        logit = self.logit(state, flatten_time(batch)).reshape(batch.reward.shape)
        return reward_of_score(logit, JensenShannon(), self.reward_form)

    def update(
        self, state: AIRLState, batch: Transition, demos: ExpertData, *, key: PRNGKeyArray
    ) -> tuple[AIRLState, Metrics]:
        """Steps of reward and potential on rollout and demonstrations, then the forward learner's on the new score."""
        score_key, forward_key = jax.random.split(key)
        state, metrics = self._improve_score(state, batch, demos, score_key)
        reward = self.reward(state, batch)
        if demos.heldout.obs.shape[0] > 0:
            metrics["score/heldout"] = mean_of_rows(self.logit(state, demos.heldout), demos.num_heldout)
        penalty, num_updates, about_cloning = fading_cloning(self, state, demos, score_key)
        forward, forward_metrics = self.forward.update(state.forward, batch, reward, key=forward_key, penalty=penalty)
        metrics |= {"reward/mean": jnp.mean(reward), "reward/std": jnp.std(reward)}
        state = AIRLState(forward, state.score, state.opt_state, num_updates)
        return state, metrics | forward_metrics | about_cloning

    def score_loss(
        self, score: ShapedScore, expert: Any, learner: Any, mix: Float[Array, " batch"]
    ) -> tuple[Float[Array, ""], Metrics]:
        """The logistic loss of f − λ log π with the penalty on f; each side is (features, terminated, log π)."""

        def f(features: Array, terminated: Array) -> Float[Array, ""]:
            return score.of_features(features, terminated, gamma=self.gamma)

        logit_expert, logit_learner = (
            jax.vmap(f)(features, terminated) - self.entropy_weight * log_prob
            for features, terminated, log_prob in (expert, learner)
        )
        loss = JensenShannon().loss(logit_expert, logit_learner)
        between = mix[:, None] * expert[0] + (1 - mix[:, None]) * learner[0]
        goes_on = jnp.asarray(False)
        slope = jax.vmap(lambda x: slope_of(lambda y: f(y, goes_on), x))(between)
        penalty = jnp.mean(jnp.square(slope - self.gradient_norm))
        return loss + self.gradient_penalty * penalty, {
            "score/loss": loss,
            "score/expert": jnp.mean(logit_expert),
            "score/learner": jnp.mean(logit_learner),
            "score/accuracy": 0.5 * (jnp.mean(logit_expert > 0) + jnp.mean(logit_learner <= 0)),
            "score/gradient_penalty": penalty,
            "score/log_prob_expert": jnp.mean(expert[2]),
            "score/log_prob_learner": jnp.mean(learner[2]),
        }

    def _improve_score(
        self, state: AIRLState, batch: Transition, demos: ExpertData, key: PRNGKeyArray
    ) -> tuple[AIRLState, Metrics]:
        expert = demos.train
        learner = flatten_time(batch)
        reward = state.score.reward.standardized_by(demos, learner)
        reward = reward.having_seen(expert.obs, learner.obs, demos.num_train)
        score = eqx.tree_at(lambda s: s.reward, state.score, reward)
        state = AIRLState(state.forward, score, state.opt_state, state.num_updates)
        sides = [(steps, self.log_prob(state, steps)) for steps in (expert, learner)]
        sizes = [demos.train_size, batch.reward.size]
        optimizer = self.optimizer(self.learning_rate)

        def one_step(carry, draw):
            networks, opt_state = carry
            *at, mix = draw
            drawn = (
                jax.tree.map(lambda x, where=where, size=size: x[(where * size).astype(jnp.int32)], side)
                for side, where, size in zip(sides, at, sizes, strict=True)
            )
            # Only what is drawn becomes numbers: rollouts and demonstrations of pictures stay bytes.
            of_expert, of_learner = (
                (jax.vmap(score.features)(steps), steps.terminated, log_prob) for steps, log_prob in drawn
            )

            def loss(networks):
                return self.score_loss(eqx.tree_at(_networks, score, networks), of_expert, of_learner, mix)

            gradient, metrics = jax.grad(loss, has_aux=True)(networks)
            step, opt_state = optimizer.update(gradient, opt_state, networks)
            return (optax.apply_updates(networks, step), opt_state), metrics

        draws = jax.random.uniform(key, (self.num_score_steps, 3, self.score_batch_size))
        (networks, opt_state), metrics = jax.lax.scan(one_step, (_networks(score), state.opt_state), draws)
        score = eqx.tree_at(_networks, score, networks)
        state = AIRLState(state.forward, score, opt_state, state.num_updates)
        return state, {name: values[-1] for name, values in metrics.items()}


def _networks(score: ShapedScore) -> Any:
    return score.reward.network, score.potential
