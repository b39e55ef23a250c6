"""Proximal policy optimisation (Schulman et al. 2017)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from menura.core import (
    FOR_PENALTY,
    AbstractForwardLearner,
    Hyper,
    Metrics,
    Penalty,
    RequestError,
    Spec,
    Transition,
    drawn_by,
    flatten_time,
)
from menura.encoders import Encoder
from menura.forward.on_policy import (
    advantages,
    averaged,
    critic_is_ready,
    moved,
    standardize,
    trainable,
    with_observations,
    with_returns,
)
from menura.networks import Activation, Policy, ValueFunction, adam, make_policy


def clipped_surrogate(
    log_prob: Float[Array, ""], old_log_prob: Float[Array, ""], advantage: Float[Array, ""], *, clip_eps: Hyper
) -> Float[Array, ""]:
    """The objective of one step, to be maximised (Schulman et al. 2017, eq. 7)."""
    ratio = jnp.exp(log_prob - old_log_prob)
    return jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - clip_eps, 1 + clip_eps) * advantage)


def approximate_kl(log_prob: Float[Array, ""], old_log_prob: Float[Array, ""]) -> Float[Array, ""]:
    """One sample's unbiased, never negative estimate of KL(old ‖ new): (r − 1) − log r (Schulman 2020)."""
    log_ratio = log_prob - old_log_prob
    return jnp.expm1(log_ratio) - log_ratio


class PPOState(eqx.Module):
    """What PPO learns."""

    policy: Policy
    value: ValueFunction
    opt_state: optax.OptState
    average: Policy
    """The policy to keep."""


class Minibatch(NamedTuple):
    """The part of a rollout that one gradient step sees."""

    obs: Array
    action: Array
    log_prob: Array
    advantage: Array
    returns: Array


class PPO(AbstractForwardLearner):
    """Clipped surrogate, several passes over each rollout, one Adam for policy and value."""

    num_steps: int = 128
    """Steps each copy takes between updates."""
    num_epochs: int = 10
    """Passes over a rollout."""
    num_minibatches: int = 8
    """Gradient steps in a pass; must divide num_envs * num_steps."""
    learning_rate: Hyper = 3e-4
    """Adam's step size."""
    gamma: Hyper = 0.99
    """Discount."""
    gae_lambda: Hyper = 0.95
    """Decay of the advantage estimate's horizon."""
    clip_eps: Hyper = 0.2
    """How far the probability ratio may move before its gradient stops."""
    ent_coef: Hyper = 0.0
    """Weight of the policy's one-step entropy in the loss."""
    vf_coef: Hyper = 0.5
    """Weight of the value function's squared error."""
    max_grad_norm: Hyper = 0.5
    """Bound on the global norm of the gradient."""
    policy_averaging: Hyper = 0.9
    """Decay per update of the average of policies that is evaluated and kept; 0 keeps the newest."""
    hidden_sizes: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers of policy and value networks."""
    activation: Activation = "tanh"
    """Non-linearity of both networks."""
    encoder: Encoder = "nature"
    """What reads pictures, before the hidden layers: nature (Mnih et al. 2015) or residual (Espeholt et al. 2018)."""
    initial_log_std: float = 0.0
    """Log standard deviation of the Gaussian policy at first, where actions span [-1, 1]."""
    critic_updates: int = 0
    """First updates in which only the value function learns: for a policy that begins well, as with --warm-start."""
    make_policy: Callable[..., Any] = eqx.field(default=make_policy, static=True)
    """From Python only: builds the policy, called as ``menura.networks.make_policy`` is."""
    optimizer: Callable[[Hyper], optax.GradientTransformation] = eqx.field(default=adam, static=True)
    """From Python only: the optimizer for a step size, such as ``optax.sgd``."""

    def steps_per_update(self, num_envs: int) -> int:
        """Environment steps in one update; refuses a number of copies that the minibatches do not divide."""
        size = num_envs * self.num_steps
        if size % self.num_minibatches:
            raise RequestError(f"num_minibatches={self.num_minibatches} must divide num_envs * num_steps = {size}.")
        return size

    @property
    def _optimizer(self) -> optax.GradientTransformation:
        # Departs from Schulman et al. 2017: the gradient's norm is bounded, because one odd minibatch can otherwise
        # undo a policy.
        return optax.chain(optax.clip_by_global_norm(self.max_grad_norm), self.optimizer(self.learning_rate))

    def init(self, spec: Spec, *, key: PRNGKeyArray) -> PPOState:
        """A nearly uniform policy and a value of zero."""
        policy_key, value_key = jax.random.split(key)
        policy = self.make_policy(
            spec,
            self.hidden_sizes,
            activation=self.activation,
            initial_log_std=self.initial_log_std,
            encoder=self.encoder,
            key=policy_key,
        )
        value = ValueFunction(spec, self.hidden_sizes, activation=self.activation, encoder=self.encoder, key=value_key)
        weights = eqx.filter((policy, value), (trainable(policy), trainable(value)))
        return PPOState(policy, value, self._optimizer.init(weights), policy)

    def policy(self, state: PPOState) -> Policy:
        """The newest policy."""
        return state.policy

    def final_policy(self, state: PPOState) -> Policy:
        """The average of the latest policies."""
        return state.average

    def loss(self, policy: Policy, value: ValueFunction, minibatch: Minibatch) -> tuple[Float[Array, ""], Metrics]:
        """What one gradient step lowers, and its parts."""

        def of_one(row: Minibatch):
            distribution = policy.distribution(row.obs)
            log_prob = distribution.log_prob(row.action)
            surrogate = clipped_surrogate(log_prob, row.log_prob, row.advantage, clip_eps=self.clip_eps)
            target = (row.returns - value.returns.mean[0]) / jnp.sqrt(value.returns.var[0])
            value_error = 0.5 * jnp.square(value.standardized(row.obs) - target)
            return surrogate, value_error, distribution.entropy(), approximate_kl(log_prob, row.log_prob)

        surrogate, value_error, entropy, kl = (jnp.mean(x) for x in jax.vmap(of_one)(minibatch))
        loss = -surrogate + self.vf_coef * value_error - self.ent_coef * entropy
        return loss, {
            "loss/policy": -surrogate,
            "value/loss": value_error,
            "policy/entropy": entropy,
            "policy/kl": kl,
        }

    def update(
        self,
        state: PPOState,
        batch: Transition,
        reward: Float[Array, "time env"],
        *,
        key: PRNGKeyArray,
        penalty: Penalty | None = None,
    ) -> tuple[PPOState, Metrics]:
        """``num_epochs`` passes over a rollout ``[time, env]``."""
        advantage, returns = advantages(state.value, batch, reward, gamma=self.gamma, gae_lambda=self.gae_lambda)
        value = with_returns(state.value, returns)
        rows = flatten_time(Minibatch(batch.obs, batch.action, batch.log_prob, standardize(advantage), returns))
        size = rows.log_prob.shape[0]
        networks = (state.policy, value)
        weights, fixed = eqx.partition(networks, (trainable(state.policy), trainable(value)))

        def loss_of(weights: Any, minibatch: Minibatch, key: PRNGKeyArray) -> tuple[Float[Array, ""], Metrics]:
            policy, value = eqx.combine(weights, fixed)
            loss, metrics = self.loss(policy, value, minibatch)
            drawn = drawn_by(key, penalty)
            return (loss if drawn is None else loss + drawn(policy)), metrics

        def one_epoch(carry, epoch_key):
            order = jax.random.permutation(epoch_key, size).reshape(self.num_minibatches, -1)
            keys = jax.random.split(jax.random.fold_in(epoch_key, FOR_PENALTY), self.num_minibatches)
            return jax.lax.scan(one_minibatch, carry, (order, keys))

        def one_minibatch(carry, drawn):
            weights, opt_state = carry
            index, minibatch_key = drawn
            minibatch = jax.tree.map(lambda x: x[index], rows)
            gradient, metrics = jax.grad(loss_of, has_aux=True)(weights, minibatch, minibatch_key)
            step, opt_state = self._optimizer.update(gradient, opt_state)
            return (optax.apply_updates(weights, step), opt_state), metrics

        (weights, opt_state), metrics = jax.lax.scan(
            one_epoch, (weights, state.opt_state), jax.random.split(key, self.num_epochs)
        )
        learned: Any = eqx.combine(weights, fixed)
        policy, value = learned
        metrics = {name: jnp.mean(values[-1]) for name, values in metrics.items()}
        metrics["value/explained_variance"] = 1 - jnp.var(advantage) / (jnp.var(returns) + 1e-8)
        policy = with_observations(policy, batch)
        if self.critic_updates:
            # Adam's memory of the policy's gradients is kept: it is that of the policy which goes on.
            moves = critic_is_ready(state.value, batch, critic_updates=self.critic_updates)
            policy = moved(moves, state.policy, policy)
            metrics["policy/kl"] = jnp.where(moves, metrics["policy/kl"], 0.0)
        average = averaged(state.average, policy, decay=self.policy_averaging)
        return PPOState(policy, with_observations(value, batch), opt_state, average), metrics
