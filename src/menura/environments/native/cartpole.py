"""A pole balanced on a cart that is pushed left or right (Barto, Sutton & Anderson 1983)."""

import math
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from menura.core import DiscreteActions, Hyper, Spec
from menura.environments.base import AbstractNativeEnv


class CartPoleState(NamedTuple):
    """Where the cart and the pole are, and how fast they move."""

    x: Float[Array, ""]
    """Position of the cart, in m from the middle of the track."""
    x_dot: Float[Array, ""]
    """m/s."""
    theta: Float[Array, ""]
    """Angle of the pole, in rad from upright, positive to the right."""
    theta_dot: Float[Array, ""]
    """rad/s."""


class CartPole(AbstractNativeEnv):
    """Gymnasium's CartPole: reward 1 a step until the pole leans or the cart leaves the track.

    Actions: 0 pushes left, 1 pushes right. Observation: ``x, x_dot, theta, theta_dot``. Fields bear the
    names of Gymnasium's attributes.
    """

    gravity: Hyper = 9.8
    """m/s²."""
    masscart: Hyper = 1.0
    """kg."""
    masspole: Hyper = 0.1
    """kg."""
    length: Hyper = 0.5
    """Half the pole's length, in m."""
    force_mag: Hyper = 10.0
    """Size of every push, in N."""
    tau: Hyper = 0.02
    """Seconds a step, integrated by Euler's rule."""
    theta_threshold_radians: Hyper = 12 * 2 * math.pi / 360
    """Angle beyond which the episode terminates."""
    x_threshold: Hyper = 2.4
    """Position beyond which the episode terminates, in m."""
    sutton_barto_reward: bool = eqx.field(default=False, static=True)
    """Reward 0 a step and -1 for failing, as Sutton & Barto have it."""
    max_episode_steps: int | None = 500
    """Steps after which an episode is truncated."""

    @property
    def spec(self) -> Spec:
        """Four numbers observed, two actions."""
        return Spec(4, DiscreteActions(2))

    def reset(self, *, key: PRNGKeyArray) -> CartPoleState:
        """Every number of the state uniform in ±0.05."""
        return CartPoleState(*jax.random.uniform(key, (4,), jnp.float32, -0.05, 0.05))

    def observe(self, state: CartPoleState) -> Float[Array, "4"]:
        """The whole state."""
        return jnp.stack(state).astype(jnp.float32)

    def step(
        self, state: CartPoleState, action: Int[Array, ""], *, key: PRNGKeyArray
    ) -> tuple[CartPoleState, Float[Array, ""], Bool[Array, ""]]:
        """Push once."""
        x, x_dot, theta, theta_dot = state
        force = jnp.where(action == 1, self.force_mag, -self.force_mag)
        theta_acc, x_acc = self._accelerations(theta, theta_dot, force)
        new = CartPoleState(
            x=x + self.tau * x_dot,
            x_dot=x_dot + self.tau * x_acc,
            theta=theta + self.tau * theta_dot,
            theta_dot=theta_dot + self.tau * theta_acc,
        )
        terminated = (jnp.abs(new.x) > self.x_threshold) | (jnp.abs(new.theta) > self.theta_threshold_radians)
        reward = jnp.where(terminated, -1.0, 0.0) if self.sutton_barto_reward else jnp.ones(())
        return new, reward.astype(jnp.float32), terminated

    def reward_of(
        self, obs: Float[Array, "4"], action: Int[Array, ""], next_obs: Float[Array, "4"]
    ) -> Float[Array, ""]:
        """The reward of a transition, from what is observed of it."""
        failed = (jnp.abs(next_obs[0]) > self.x_threshold) | (jnp.abs(next_obs[2]) > self.theta_threshold_radians)
        return jnp.where(failed, -1.0, 0.0) if self.sutton_barto_reward else jnp.ones(())

    def _accelerations(self, theta, theta_dot, force):
        """Angular and linear acceleration without friction (Florian 2007, eq. 23 and 24)."""
        total_mass = self.masspole + self.masscart
        polemass_length = self.masspole * self.length
        cos, sin = jnp.cos(theta), jnp.sin(theta)
        pull = (force + polemass_length * jnp.square(theta_dot) * sin) / total_mass
        theta_acc = (self.gravity * sin - cos * pull) / (
            self.length * (4.0 / 3.0 - self.masspole * jnp.square(cos) / total_mass)
        )
        return theta_acc, pull - polemass_length * theta_acc * cos / total_mass
