"""Trust region policy optimisation (Schulman et al. 2015)."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from menura.core import (
    AbstractForwardLearner,
    DrawnPenalty,
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
    log_probs_of,
    moved,
    standardize,
    trainable,
    with_observations,
    with_returns,
)
from menura.networks import Activation, Policy, ValueFunction, adam, make_policy


def natural_step(
    gradient: Float[Array, " parameters"],
    fisher_product,
    *,
    max_kl: Hyper,
    damping: Hyper,
    num_cg_steps: int,
) -> Float[Array, " parameters"]:
    """The longest step along the natural gradient that a quadratic KL allows (Schulman et al. 2015, app. C).

    Solves (F + damping·I) x = g by conjugate gradient and returns x·√(2·max_kl / xᵀ(F + damping·I)x),
    where ``fisher_product(v)`` is F v.
    """

    # Departs from Schulman et al. 2015: damping, in the solve and in the step's length, because the Fisher matrix
    # of part of a small rollout is nearly singular.
    def damped(v):
        return fisher_product(v) + damping * v

    # Solved for x / scale: lineax takes a curvature below 100·(machine epsilon)·size for a singular operator
    # and gives nan, and in single precision that bound lies above the damping of a network of this size.
    scale = 100.0 / damping
    operator = lx.FunctionLinearOperator(
        lambda v: scale * damped(v), jax.eval_shape(lambda: gradient), tags=lx.positive_semidefinite_tag
    )
    # Ten steps point well enough, and the line search checks. Past this tolerance single precision has
    # nothing left to improve.
    solver = lx.CG(rtol=1e-5, atol=1e-12, max_steps=num_cg_steps)
    direction = scale * lx.linear_solve(operator, gradient, solver=solver, throw=False).value
    curvature = jnp.maximum(jnp.dot(direction, damped(direction)), 1e-12)
    return direction * jnp.sqrt(2 * max_kl / curvature)


def line_search(
    evaluate,
    parameters: Float[Array, " parameters"],
    surrogate: Float[Array, ""],
    step: Float[Array, " parameters"],
    *,
    max_kl: Hyper,
    shrink: Hyper,
    max_backtracks: int,
) -> tuple[Float[Array, " parameters"], dict[str, Array]]:
    """The longest of step, step·shrink, step·shrink², … that improves the surrogate within the KL bound.

    ``evaluate(parameters)`` gives (surrogate, kl), with the surrogate to be maximised; ``surrogate`` is its value
    at the old ``parameters``. When no step does, **the old parameters come back** and ``accepted`` is False.
    """

    def unfinished(carry):
        backtracks, _, accepted, *_ = carry
        return ~accepted & (backtracks < max_backtracks)

    def try_one(carry):
        backtracks, scale, *_ = carry
        new_surrogate, kl = evaluate(parameters + scale * step)
        accepted = (new_surrogate > surrogate) & (kl <= max_kl) & jnp.isfinite(new_surrogate)
        return backtracks + 1, scale * shrink, accepted, scale, new_surrogate - surrogate, kl

    zero = jnp.zeros(())
    backtracks, _, accepted, scale, improvement, kl = jax.lax.while_loop(
        unfinished, try_one, (jnp.asarray(-1), jnp.ones(()), jnp.asarray(False), zero, zero, zero)
    )
    return jnp.where(accepted, parameters + scale * step, parameters), {
        "accepted": accepted,
        "backtracks": backtracks,
        "improvement": jnp.where(accepted, improvement, 0.0),
        "kl": jnp.where(accepted, kl, 0.0),
    }


OF_A_STEP = ("policy/kl", "policy/improvement", "policy/accepted")
"""Metrics that are 0 where the policy is held."""


class TRPOState(eqx.Module):
    """What TRPO learns; Adam's state belongs to the value function."""

    policy: Policy
    value: ValueFunction
    opt_state: optax.OptState
    average: Policy
    """The policy to keep."""


class TRPO(AbstractForwardLearner):
    """One natural-gradient step a rollout, as long as the KL bound allows."""

    num_steps: int = 128
    """Steps each copy takes between updates."""
    max_kl: Hyper = 0.01
    """Bound on the mean KL(old ‖ new) of one update, in nats."""
    damping: Hyper = 0.1
    """Added to the Fisher matrix's diagonal."""
    num_cg_steps: int = 10
    """Steps of conjugate gradient."""
    fisher_every: int = 10
    """The Fisher matrix is estimated on every so-many-th observation of the rollout (app. C.1)."""
    shrink: Hyper = 0.5
    """Each backtrack multiplies the step by this."""
    max_backtracks: int = 10
    """Backtracks before the old parameters are restored."""
    value_learning_rate: Hyper = 1e-3
    """Adam's step size for the value function."""
    value_epochs: int = 3
    """Passes over a rollout to fit the value function."""
    value_minibatches: int = 8
    """Gradient steps in such a pass; must divide num_envs * num_steps."""
    gamma: Hyper = 0.995
    """Discount."""
    gae_lambda: Hyper = 0.97
    """Decay of the advantage estimate's horizon."""
    policy_averaging: Hyper = 0.9
    """Decay per update of the average of policies that is evaluated and kept; 0 keeps the newest."""
    hidden_sizes: tuple[int, ...] = (100, 100)
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

    def __check_init__(self):
        if isinstance(self.damping, float | int) and not self.damping > 0:
            raise RequestError(f"damping={self.damping} must be above 0: conjugate gradient needs it.")

    def steps_per_update(self, num_envs: int) -> int:
        """Environment steps in one update; refuses a number of copies that the minibatches do not divide."""
        size = num_envs * self.num_steps
        if size % self.value_minibatches:
            raise RequestError(f"value_minibatches={self.value_minibatches} must divide num_envs * num_steps = {size}.")
        return size

    @property
    def _optimizer(self) -> optax.GradientTransformation:
        return self.optimizer(self.value_learning_rate)

    def init(self, spec: Spec, *, key: PRNGKeyArray) -> TRPOState:
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
        return TRPOState(policy, value, self._optimizer.init(eqx.filter(value, trainable(value))), policy)

    def policy(self, state: TRPOState) -> Policy:
        """The newest policy."""
        return state.policy

    def final_policy(self, state: TRPOState) -> Policy:
        """The average of the latest policies."""
        return state.average

    def update(
        self,
        state: TRPOState,
        batch: Transition,
        reward: Float[Array, "time env"],
        *,
        key: PRNGKeyArray,
        penalty: Penalty | None = None,
    ) -> tuple[TRPOState, Metrics]:
        """One trust-region step of the policy on a rollout ``[time, env]``, then the value function's fit."""
        advantage, returns = advantages(state.value, batch, reward, gamma=self.gamma, gae_lambda=self.gae_lambda)
        obs, action, flat_advantage = flatten_time((batch.obs, batch.action, standardize(advantage)))
        policy, metrics = self._policy_step(state.policy, obs, action, flat_advantage, drawn_by(key, penalty))
        # Departs from Schulman et al. 2016: the value function takes Adam steps on standardized returns instead of
        # a trust-region step of its own, because PPO and TRPO then share it.
        value, opt_state, value_loss = self._fit_value(
            with_returns(state.value, returns), state.opt_state, obs, returns.reshape(-1), key
        )
        metrics["value/loss"] = value_loss
        metrics["value/explained_variance"] = 1 - jnp.var(advantage) / (jnp.var(returns) + 1e-8)
        policy = with_observations(policy, batch)
        if self.critic_updates:
            moves = critic_is_ready(state.value, batch, critic_updates=self.critic_updates)
            policy = moved(moves, state.policy, policy)
            metrics |= {name: jnp.where(moves, metrics[name], 0.0) for name in OF_A_STEP}
        average = averaged(state.average, policy, decay=self.policy_averaging)
        return TRPOState(policy, with_observations(value, batch), opt_state, average), metrics

    def _policy_step(
        self,
        policy: Policy,
        obs: Array,
        action: Array,
        advantage: Array,
        penalty: DrawnPenalty | None = None,
    ) -> tuple[Policy, Metrics]:
        weights, fixed = eqx.partition(policy, trainable(policy))
        old, unravel = ravel_pytree(weights)

        def policy_of(parameters: Array) -> Policy:
            return eqx.combine(unravel(parameters), fixed)

        def distributions(parameters: Array, obs: Array) -> Any:
            return jax.vmap(policy_of(parameters).distribution)(obs)

        old_distributions = distributions(old, obs)
        old_log_prob = jax.vmap(lambda d, a: d.log_prob(a))(old_distributions, action)

        def objective(parameters: Array, log_prob: Array) -> Float[Array, ""]:
            """Mean of ratio × advantage (Schulman et al. 2015, eq. 14), less the penalty where there is one."""
            gain = jnp.mean(jnp.exp(log_prob - old_log_prob) * advantage)
            return gain if penalty is None else gain - penalty(policy_of(parameters))

        def surrogate(parameters: Array) -> Float[Array, ""]:
            return objective(parameters, log_probs_of(policy_of(parameters), obs, action))

        def evaluate(parameters: Array) -> tuple[Array, Array]:
            new = distributions(parameters, obs)
            log_prob = jax.vmap(lambda d, a: d.log_prob(a))(new, action)
            kl = jnp.mean(jax.vmap(lambda p, q: p.kl(q))(old_distributions, new))
            return objective(parameters, log_prob), kl

        old_surrogate, gradient = jax.value_and_grad(surrogate)(old)
        step = natural_step(
            gradient,
            fisher_product(lambda parameters: distributions(parameters, obs[:: self.fisher_every]), old),
            max_kl=self.max_kl,
            damping=self.damping,
            num_cg_steps=self.num_cg_steps,
        )
        found, search = line_search(
            evaluate,
            old,
            old_surrogate,
            step,
            max_kl=self.max_kl,
            shrink=self.shrink,
            max_backtracks=self.max_backtracks,
        )
        entropy = jnp.mean(jax.vmap(lambda d: d.entropy())(old_distributions))
        return policy_of(found), {
            "policy/kl": search["kl"],
            "policy/entropy": entropy,
            "policy/improvement": search["improvement"],
            "policy/accepted": search["accepted"].astype(jnp.float32),
            "policy/backtracks": search["backtracks"].astype(jnp.float32),
        }

    def _fit_value(
        self, value: ValueFunction, opt_state: optax.OptState, obs: Array, returns: Array, key: PRNGKeyArray
    ) -> tuple[ValueFunction, optax.OptState, Array]:
        weights, fixed = eqx.partition(value, trainable(value))
        target = (returns - value.returns.mean[0]) / jnp.sqrt(value.returns.var[0])
        norm_obs = jax.vmap(value.norm)(obs)

        def loss(weights: PyTree, index: Array) -> Float[Array, ""]:
            predicted = jax.vmap(eqx.combine(weights, fixed).network)(norm_obs[index])[:, 0]
            return 0.5 * jnp.mean(jnp.square(predicted - target[index]))

        def one_minibatch(carry, index):
            weights, opt_state = carry
            error, gradient = jax.value_and_grad(loss)(weights, index)
            step, opt_state = self._optimizer.update(gradient, opt_state)
            return (optax.apply_updates(weights, step), opt_state), error

        shuffled = jnp.argsort(jax.random.bits(key, (self.value_epochs, len(target))), axis=1)
        order = shuffled.reshape(self.value_epochs * self.value_minibatches, -1)
        (weights, opt_state), errors = jax.lax.scan(one_minibatch, (weights, opt_state), order)
        learned: Any = eqx.combine(weights, fixed)
        return learned, opt_state, jnp.mean(errors[-self.value_minibatches :])


def fisher_product(distributions, parameters: Float[Array, " parameters"]):
    """v ↦ F v for the mean Fisher information of ``distributions(parameters)``, a batch of distributions.

    F = E[JᵀMJ], with J the Jacobian of the distributions' own parameters and M their Fisher information:
    one forward and one transposed pass a product, exact at the old parameters (Schulman et al. 2015, app. C.1).
    """
    at, push = jax.linearize(distributions, parameters)
    pull = jax.linear_transpose(push, parameters)
    size = jax.tree.leaves(at)[0].shape[0]

    def product(v: Float[Array, " parameters"]) -> Float[Array, " parameters"]:
        (result,) = pull(jax.vmap(lambda d, t: d.fisher_product(t))(at, push(v)))
        return result / size

    return product
