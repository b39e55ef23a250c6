"""What PPO and TRPO share: advantages of a rollout, and the statistics that live in the state."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from menura.core import AnyArray, Hyper, Observed, Transition, flatten_time
from menura.networks import Policy, ValueFunction, over_rows
from menura.returns import gae


def advantages(
    value_function: ValueFunction,
    batch: Transition,
    reward: Float[Array, "time env"],
    *,
    gamma: Hyper,
    gae_lambda: Hyper,
) -> tuple[Float[Array, "time env"], Float[Array, "time env"]]:
    """Advantages, and the returns they imply for the value function, of a rollout ``[time, env]``."""
    value, next_value = (over_rollout(value_function, obs) for obs in (batch.obs, batch.next_obs))
    over_envs = jax.vmap(lambda *stream: gae(*stream, gamma=gamma, gae_lambda=gae_lambda), in_axes=1, out_axes=1)
    advantage = over_envs(reward, value, next_value, batch.terminated, batch.truncated)
    return advantage, advantage + value


def over_rollout(
    function: Callable[..., Array], obs: Observed[AnyArray, "time env obs"], *beside: AnyArray
) -> Float[Array, "time env"]:
    """A function of one observation, and of what stands beside it, for a whole rollout."""
    if obs.dtype == jnp.uint8:
        return over_rows(function, *flatten_time((obs, *beside))).reshape(obs.shape[:2])
    return jax.vmap(jax.vmap(function))(obs, *beside)


def standardize(x: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """Zero mean and unit deviation over the whole batch."""
    # Departs from Schulman et al. 2015, 2017: neither paper standardizes advantages; it makes a step's size
    # independent of the reward's, which an adversary keeps changing.
    return (x - jnp.mean(x)) / (jnp.std(x) + 1e-8)


def with_returns(value_function: ValueFunction, returns: Float[Array, "time env"]) -> ValueFunction:
    """The value function with a batch of returns added to its scale, and its predictions left as they were.

    The last layer is corrected for the change of scale (van Hasselt et al. 2016, "Pop-Art", eq. 9-10).
    """
    old, new = value_function.returns, value_function.returns.add(returns.reshape(-1, 1))
    # Departs from van Hasselt et al. 2016: statistics of everything seen instead of a moving average, because
    # they are those that observations are standardized by too.
    # Returns that never differ leave no scale to predict in: 0.01 is small enough to be exact.
    new = eqx.tree_at(lambda n: n.var, new, jnp.maximum(new.var, 1e-4))
    old_std, new_std = jnp.sqrt(old.var[0]), jnp.sqrt(new.var[0])
    network = value_function.network
    weight, bias = network.weights[-1], network.biases[-1]
    # A value function that has seen nothing has no predictions to keep: it begins at the mean.
    seen = old.count > 0
    weight = jnp.where(seen, weight * old_std / new_std, weight)
    bias = jnp.where(seen, (bias * old_std + old.mean[0] - new.mean[0]) / new_std, bias)
    network = eqx.tree_at(lambda n: (n.weights[-1], n.biases[-1]), network, (weight, bias))
    return eqx.tree_at(lambda v: (v.network, v.returns), value_function, (network, new))


def with_observations(module: Any, batch: Transition) -> Any:
    """A policy or value function whose observation statistics have seen the rollout too."""
    return eqx.tree_at(lambda m: m.norm, module, module.norm.add(flatten_time(batch.obs)))


def moved(moves: Bool[Array, ""], old: Any, new: Any) -> Any:
    """``new`` where ``moves``, else ``old``: arrays of one structure."""
    return jax.tree.map(lambda before, after: jnp.where(moves, after, before), old, new)


def critic_is_ready(value_function: ValueFunction, batch: Transition, *, critic_updates: int) -> Bool[Array, ""]:
    """Whether the value function was fitted to so many rollouts before this one, by the observations it has counted.

    Until then the policy is held: a fresh value function says nothing of an old policy's actions.
    """
    # Half a rollout less, because the count is a float.
    return value_function.norm.count >= (critic_updates - 0.5) * batch.log_prob.size


def averaged(average: Any, newest: Any, *, decay: Hyper) -> Any:
    """The exponential average of policies, in weight space (Polyak & Juditsky 1992), with the newest statistics.

    Successive policies lie within a small KL of one another, so their average is a policy near all of them,
    and it does not share the swings of each.
    """
    # Departs from Schulman et al. 2015, 2017 and Ho & Ermon 2016: they keep the newest policy, which swings while
    # learner and score chase each other.
    # It begins at the first policy that has learned anything, not at the one that was drawn at random.
    decay = jnp.where(average.norm.count > 0, decay, 0.0)
    mixed: Any = jax.tree.map(lambda a, n: decay * a + (1 - decay) * n, average, newest)
    return eqx.tree_at(lambda p: p.norm, mixed, newest.norm)


def trainable(module: eqx.Module) -> eqx.Module:
    """A filter for ``eqx.partition``: True for weights that gradients change, False for statistics and bounds."""
    mask = jax.tree.map(lambda _: True, module)
    fixed = [name for name in ("norm", "returns", "center", "half_width") if hasattr(module, name)]
    return eqx.tree_at(
        lambda m: [getattr(m, name) for name in fixed],
        mask,
        [jax.tree.map(lambda _: False, getattr(module, name)) for name in fixed],
    )


def log_probs_of(policy: Policy, obs: Observed[Array, "batch obs"], action: Array) -> Float[Array, " batch"]:
    """log π(action | obs) for a batch."""
    return over_rows(lambda o, a: policy.distribution(o).log_prob(a), obs, action)
