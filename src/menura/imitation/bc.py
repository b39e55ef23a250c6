"""Behavioral cloning: supervised learning of the expert's action from its observation (Pomerleau 1991)."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, PRNGKeyArray

from menura.core import AbstractImitationLearner, ExpertData, Hyper, Metrics, RequestError, Spec, Transition
from menura.encoders import Encoder, shifted
from menura.forward.off_policy import running_average
from menura.forward.on_policy import log_probs_of, trainable
from menura.forward.sac import SquashedPolicy
from menura.networks import Activation, GaussianPolicy, PictureNetwork, Policy, expert_norm, make_policy, mean_of_rows


def negative_log_likelihood(
    policy: Policy, demos: Transition, num_rows: Int[Array, ""] | None = None, *, clipped: bool = False
) -> Float[Array, ""]:
    """−mean log π(expert action | obs), in nats: what cloning minimises (Ho & Ermon 2016, section 6).

    With ``num_rows`` over so many rows, from the first on. With ``clipped`` an action at a bound tells only that the
    expert's was there or beyond (Tobin 1958): by the density, a mean that is sure of an action past the bound is drawn
    back inside.
    """
    if clipped and isinstance(policy, GaussianPolicy) and any(policy.bounded):
        low, high = jax.lax.stop_gradient(clips_at(policy))
        log_prob = lambda obs, action: policy.distribution(obs).clipped_log_prob(action, low=low, high=high)  # noqa: E731
        return -mean_of_rows(jax.vmap(log_prob)(demos.obs, demos.action), num_rows)
    return -mean_of_rows(log_probs_of(policy, demos.obs, demos.action), num_rows)


def clips_at(policy: GaussianPolicy) -> tuple[Float[Array, " action"], Float[Array, " action"]]:
    """The bounds that the environment clips a policy's actions to; infinite where it does not."""
    bounded = np.asarray(policy.bounded)
    low = jnp.where(bounded, policy.center - policy.half_width, -jnp.inf)
    return low, jnp.where(bounded, policy.center + policy.half_width, jnp.inf)


def distance_to_demos(policy: Policy | SquashedPolicy, reference: Any, demos: Transition) -> Float[Array, ""]:
    """−mean log π(expert action | obs) with the deviations of ``reference`` where actions are real.

    As a penalty of reinforcement learning it draws the mean to the expert's actions. With the policy's own deviations
    it would be lowest for none at all, and there would be nothing left to explore with. Of a squashed policy it is the
    mean of ‖mode − expert action‖², in half-widths of the bounds, where log-densities have no limit.
    """
    if isinstance(policy, SquashedPolicy):
        squared = lambda obs, action: jnp.sum(jnp.square((policy(obs) - action) / policy.half_width))  # noqa: E731
        return jnp.mean(jax.vmap(squared)(demos.obs, demos.action))
    if isinstance(policy, GaussianPolicy) and isinstance(reference, GaussianPolicy):
        policy = eqx.tree_at(lambda p: p.log_std, policy, jax.lax.stop_gradient(reference.log_std))
    return negative_log_likelihood(policy, demos)


def distance_to_some(
    policy: Any, reference: Any, demos: ExpertData, *, num_rows: int, key: PRNGKeyArray
) -> Float[Array, ""]:
    """:func:`distance_to_demos` on ``num_rows`` steps that are drawn by the key."""
    index = jax.random.randint(key, (num_rows,), 0, demos.train_size)
    rows = jax.tree.map(lambda x: x[index], demos.train)
    return distance_to_demos(policy, reference, rows)


class BCState(eqx.Module):
    """What cloning learns: the policy so far, and the best one on held-out demonstrations."""

    policy: Policy
    opt_state: optax.OptState
    average: Policy
    num_updates: Int[Array, ""]
    """How many policies are in the average."""
    best: Policy
    best_loss: Float[Array, ""]
    updates_since_best: Int[Array, ""]


class BC(AbstractImitationLearner):
    """Maximum likelihood by minibatches, stopped when the held-out loss no longer falls."""

    learning_rate: Hyper = 1e-3
    """Adam's step size."""
    batch_size: int = 128
    """Steps of the expert in one gradient step."""
    num_batches: int = 100
    """Gradient steps in one update; the held-out loss is looked at after each update."""
    patience: int = 20
    """Updates without a lower held-out loss after which training stops; 0 for never."""
    weight_decay: Hyper = 0.0
    """Decoupled weight decay."""
    policy_averaging: Hyper = 0.0
    """Decay per update of the average of policies that is held out against the rest and kept; 0 keeps the newest."""
    hidden_sizes: tuple[int, ...] = (100, 100)
    """Widths of the policy network's hidden layers."""
    activation: Activation = "tanh"
    """Its non-linearity."""
    encoder: Encoder = "nature"
    """What reads pictures, before the hidden layers: nature (Mnih et al. 2015) or residual (Espeholt et al. 2018)."""
    random_shift: int = 0
    """Pixels by which pictures are moved at most, at random each time that they are learned from; 0 for never."""
    initial_log_std: float = -0.5
    """Log standard deviation of a fresh Gaussian policy, where actions span [-1, 1]."""
    make_policy: Callable[..., Any] = eqx.field(default=make_policy, static=True)
    """From Python only: builds the policy, called as ``menura.networks.make_policy`` is."""
    optimizer: Callable[[Hyper], optax.GradientTransformation] = eqx.field(default=optax.adam, static=True)
    """From Python only: the optimizer for a step size, such as ``optax.sgd``."""
    min_log_std: float = -3.0
    """Its lower bound: a few demonstrations can be fitted so closely that the density would explode."""
    heldout_fraction: float = 0.3
    """Share of the demonstrations kept to decide when to stop (the GAIL paper's 30%)."""
    clipped_likelihood: bool = False
    """Count an action at a bound of its space as one that lay there or beyond: for experts that push fully."""

    @property
    def num_steps(self) -> int:
        """None: the environment is not used."""
        return 0

    def steps_per_update(self, num_envs: int) -> int:
        """Expert steps seen in one update; none is taken in an environment."""
        return self.batch_size * self.num_batches

    @property
    def _optimizer(self) -> optax.GradientTransformation:
        decay = optax.add_decayed_weights(-self.weight_decay * self.learning_rate)
        return optax.chain(self.optimizer(self.learning_rate), decay)

    def init(self, spec: Spec, *, key: PRNGKeyArray) -> BCState:
        """A fresh policy."""
        policy = self.make_policy(
            spec,
            self.hidden_sizes,
            activation=self.activation,
            initial_log_std=self.initial_log_std,
            encoder=self.encoder,
            key=key,
        )
        flat, _ = ravel_pytree(eqx.filter(policy, trainable(policy)))
        zero = jnp.asarray(0)
        return BCState(policy, self._optimizer.init(flat), policy, zero, policy, jnp.asarray(jnp.inf), zero)

    def policy(self, state: BCState) -> Policy:
        """The newest policy."""
        return state.policy

    def final_policy(self, state: BCState) -> Policy:
        """The best policy so far on held-out demonstrations."""
        return state.best

    def finished(self, state: BCState) -> bool:
        """Whether the held-out loss has stopped falling."""
        return self.patience > 0 and int(state.updates_since_best) >= self.patience

    def update(
        self, state: BCState, batch: Transition | None, demos: ExpertData, *, key: PRNGKeyArray
    ) -> tuple[BCState, Metrics]:
        """``num_batches`` gradient steps on the demonstrations; ``batch`` is not looked at."""
        expert = demos.train
        policy: Any = state.policy
        policy = eqx.tree_at(lambda p: p.norm, policy, expert_norm(policy.norm, demos))
        policy, opt_state, loss = self.fit(policy, state.opt_state, expert, demos.train_size, key=key)
        average = running_average(state.average, policy, state.num_updates, decay=self.policy_averaging)
        newest: Any = policy
        average = eqx.tree_at(lambda p: p.norm, average, newest.norm)
        has_heldout = demos.heldout.obs.shape[0] > 0
        rows, num_rows = (demos.heldout, demos.num_heldout) if has_heldout else (expert, demos.num_train)
        heldout_loss = negative_log_likelihood(average, rows, num_rows, clipped=self.clipped_likelihood)
        # Departs from Ho & Ermon 2016: training goes on for ``patience`` updates after the held-out loss rises, and
        # the best policy is kept, because that loss is noisy where a few hundred steps are held out.
        # Without held-out demonstrations the newest policy is the best, and nothing stops early.
        better = heldout_loss < state.best_loss if has_heldout else jnp.asarray(True)
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), average, state.best)
        best_loss = jnp.where(better, heldout_loss, state.best_loss)
        since = jnp.where(better, 0, state.updates_since_best + 1)
        metrics = {"loss/train": loss, "loss/heldout": heldout_loss}
        return BCState(policy, opt_state, average, state.num_updates + 1, best, best_loss, since), metrics

    def fit(
        self,
        policy: Policy,
        opt_state: optax.OptState,
        expert: Transition,
        num_rows: int | Int[Array, ""],
        *,
        key: PRNGKeyArray,
    ) -> tuple[Policy, optax.OptState, Float[Array, ""]]:
        """``num_batches`` gradient steps on the first ``num_rows`` rows: policy, optimizer's state and mean loss."""
        weights, fixed = eqx.partition(policy, trainable(policy))
        # One vector of weights: Adam is then one fused loop instead of one for every array.
        flat, unravel = ravel_pytree(weights)
        index = jax.random.randint(key, (self.num_batches, self.batch_size), 0, num_rows)
        shift_keys = jax.random.split(jax.random.fold_in(key, 1), self.num_batches)

        def loss(flat: Array, rows: Transition) -> Float[Array, ""]:
            policy = self._bounded(eqx.combine(unravel(flat), fixed))
            return negative_log_likelihood(policy, rows, clipped=self.clipped_likelihood)

        def one_batch(carry, step):
            (flat, opt_state), (rows, shift_key) = carry, step
            batch = jax.tree.map(lambda x: x[rows], expert)
            if self.random_shift:
                batch = eqx.tree_at(lambda b: b.obs, batch, self._shifted(policy, batch.obs, shift_key))
            value, gradient = jax.value_and_grad(loss)(flat, batch)
            step, opt_state = self._optimizer.update(gradient, opt_state, flat)
            moved: Any = optax.apply_updates(flat, step)
            return (moved, opt_state), value

        (flat, opt_state), losses = jax.lax.scan(one_batch, (flat, opt_state), (index, shift_keys))
        return self._bounded(eqx.combine(unravel(flat), fixed)), opt_state, jnp.mean(losses)

    def _shifted(self, policy: Policy, obs: Array, key: PRNGKeyArray) -> Array:
        network = getattr(policy, "network", None)
        if not isinstance(network, PictureNetwork):
            raise RequestError("random_shift works with menura's own networks only: set it to 0.")
        parts = network.encoder.parts
        keys = jax.random.split(key, obs.shape[0])
        return jax.vmap(lambda o, k: shifted(o, parts, most=self.random_shift, key=k))(obs, keys)

    def _bounded(self, policy: Policy) -> Policy:
        if not isinstance(policy, GaussianPolicy):
            return policy
        # Departs from Ho & Ermon 2016: the deviation has a lower bound, because a few demonstrations can be fitted so
        # closely that the likelihood has none.
        return eqx.tree_at(lambda p: p.log_std, policy, jnp.maximum(policy.log_std, self.min_log_std))
