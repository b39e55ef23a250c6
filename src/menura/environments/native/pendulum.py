"""A pendulum to be swung up and held upright by a weak motor."""

import math
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from menura.core import BoxActions, Hyper, Spec
from menura.environments.base import AbstractNativeEnv


class PendulumState(NamedTuple):
    """Angle and speed."""

    theta: Float[Array, ""]
    """rad from upright; not wrapped."""
    theta_dot: Float[Array, ""]
    """rad/s."""


class Pendulum(AbstractNativeEnv):
    """Gymnasium's Pendulum: the reward is minus a cost of angle, speed and torque; it never terminates.

    Action: a torque, clipped to ``±max_torque``. Observation: ``cos θ, sin θ, θ_dot``.
    """

    g: Hyper = 10.0
    """Gravity, in m/s²."""
    mass: Hyper = 1.0
    """kg."""
    length: Hyper = 1.0
    """m."""
    dt: Hyper = 0.05
    """Seconds a step."""
    max_speed: Hyper = 8.0
    """Speeds are clipped here, in rad/s."""
    max_torque: float = eqx.field(default=2.0, static=True)
    """N·m; static, because it is the bound of the action space."""
    max_episode_steps: int | None = 200
    """Steps after which an episode is truncated."""

    @property
    def spec(self) -> Spec:
        """Three numbers observed, one torque."""
        return Spec(3, BoxActions((-self.max_torque,), (self.max_torque,)))

    def reset(self, *, key: PRNGKeyArray) -> PendulumState:
        """Any angle, and a speed uniform in ±1."""
        theta, theta_dot = jax.random.uniform(key, (2,), jnp.float32, -1.0, 1.0)
        return PendulumState(math.pi * theta, theta_dot)

    def observe(self, state: PendulumState) -> Float[Array, "3"]:
        """Cosine and sine of the angle, and the speed."""
        seen = (jnp.cos(state.theta), jnp.sin(state.theta), state.theta_dot)
        return jnp.stack(seen).astype(jnp.float32)

    def step(
        self, state: PendulumState, action: Float[Array, "1"], *, key: PRNGKeyArray
    ) -> tuple[PendulumState, Float[Array, ""], Bool[Array, ""]]:
        """Hold one torque for ``dt`` seconds. The cost is that of the state before it."""
        theta, theta_dot = state
        torque = jnp.clip(action[0], -self.max_torque, self.max_torque)
        angle = (theta + math.pi) % (2 * math.pi) - math.pi
        cost = angle**2 + 0.1 * theta_dot**2 + 0.001 * torque**2
        acceleration = 3 * self.g / (2 * self.length) * jnp.sin(theta) + 3.0 / (self.mass * self.length**2) * torque
        theta_dot = jnp.clip(theta_dot + acceleration * self.dt, -self.max_speed, self.max_speed)
        new = PendulumState(theta + theta_dot * self.dt, theta_dot)
        return new, -cost.astype(jnp.float32), jnp.zeros((), bool)

    def reward_of(
        self, obs: Float[Array, "3"], action: Float[Array, "1"], next_obs: Float[Array, "3"]
    ) -> Float[Array, ""]:
        """The reward of a transition, from what is observed of it."""
        torque = jnp.clip(action[0], -self.max_torque, self.max_torque)
        angle = jnp.arctan2(obs[1], obs[0])
        return -(angle**2 + 0.1 * obs[2] ** 2 + 0.001 * torque**2)
