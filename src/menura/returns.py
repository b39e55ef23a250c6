"""What rewards add up to: pure functions of one trajectory each. Use ``jax.vmap`` over environments."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from menura.core import Hyper


def discounted(reward: Float[Array, " time"], *, gamma: Hyper) -> Float[Array, " time"]:
    """Return to go from every step of one whole episode (Sutton & Barto 2018, eq. 3.8)."""

    def backward(total, r):
        total = r + gamma * total
        return total, total

    return jax.lax.scan(backward, jnp.zeros(()), reward, reverse=True)[1]


def gae(
    reward: Float[Array, " time"],
    value: Float[Array, " time"],
    next_value: Float[Array, " time"],
    terminated: Bool[Array, " time"],
    truncated: Bool[Array, " time"],
    *,
    gamma: Hyper,
    gae_lambda: Hyper,
) -> Float[Array, " time"]:
    """Generalised advantage estimates of one stream of steps (Schulman et al. 2016, eq. 16).

    ``next_value`` is the value of each step's true successor: a truncated episode goes on being worth
    it, a terminated one is worth nothing more. The sum stops at both endings, and at the stream's end
    it bootstraps from the last successor.
    """
    delta = reward + gamma * jnp.where(terminated, 0.0, next_value) - value
    goes_on = ~(terminated | truncated)

    def backward(advantage, step):
        delta, goes_on = step
        advantage = delta + gamma * gae_lambda * jnp.where(goes_on, advantage, 0.0)
        return advantage, advantage

    return jax.lax.scan(backward, jnp.zeros(()), (delta, goes_on), reverse=True)[1]


def n_step(
    reward: Float[Array, " time"],
    next_value: Float[Array, " time"],
    terminated: Bool[Array, " time"],
    truncated: Bool[Array, " time"],
    *,
    gamma: Hyper,
    num_steps: int,
) -> Float[Array, " time"]:
    """n-step returns of one stream of steps (Sutton & Barto 2018, eq. 7.1), cut short at endings."""
    ended = terminated | truncated
    bootstrap = jnp.where(terminated, 0.0, next_value)
    one_step = reward + gamma * bootstrap

    def lengthen(total, _):
        later = jnp.concatenate([total[1:], next_value[-1:]])
        # At an ending, and on the stream's last row, there is nothing longer than one step.
        alone = ended.at[-1].set(True)
        return jnp.where(alone, one_step, reward + gamma * later), None

    return jax.lax.scan(lengthen, one_step, length=num_steps - 1)[0]
