"""Two links hanging from a bar, driven at the joint between them (Sutton 1996)."""

import math
from typing import Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from menura.core import DiscreteActions, Hyper, Spec
from menura.environments.base import AbstractNativeEnv


class AcrobotState(NamedTuple):
    """Angles in rad, within ±π, and their speeds in rad/s."""

    theta1: Float[Array, ""]
    """Of the first link, 0 where it hangs straight down."""
    theta2: Float[Array, ""]
    """Of the second link, relative to the first."""
    theta1_dot: Float[Array, ""]
    theta2_dot: Float[Array, ""]


class Acrobot(AbstractNativeEnv):
    """Gymnasium's Acrobot: reward -1 a step until the free end is one link above the bar, where it is 0.

    Actions 0, 1, 2 apply a torque of -1, 0, 1 N·m times ``max_torque`` at the joint. Observation: cosine
    and sine of both angles, then both speeds.
    """

    link_length_1: Hyper = 1.0
    """m."""
    link_mass_1: Hyper = 1.0
    """kg."""
    link_mass_2: Hyper = 1.0
    """kg."""
    link_com_pos_1: Hyper = 0.5
    """Distance of the first link's center of mass from the bar, in m."""
    link_com_pos_2: Hyper = 0.5
    """Distance of the second link's center of mass from the joint, in m."""
    link_moi: Hyper = 1.0
    """Moment of inertia of either link, in kg·m²."""
    gravity: Hyper = 9.8
    """m/s²."""
    max_torque: Hyper = 1.0
    """N·m."""
    torque_noise_max: Hyper = 0.0
    """Uniform noise of this size is added to the torque, in N·m."""
    max_vel_1: Hyper = 4 * math.pi
    """Speeds of the first link are clipped here, in rad/s."""
    max_vel_2: Hyper = 9 * math.pi
    """Speeds of the second link are clipped here, in rad/s."""
    dt: Hyper = 0.2
    """Seconds a step, integrated by the fourth-order Runge-Kutta rule."""
    book_or_nips: Literal["book", "nips"] = eqx.field(default="book", static=True)
    """Equations of motion of Sutton & Barto's book, or of the paper of 1996."""
    max_episode_steps: int | None = 500
    """Steps after which an episode is truncated."""

    @property
    def spec(self) -> Spec:
        """Six numbers observed, three actions."""
        return Spec(6, DiscreteActions(3))

    def reset(self, *, key: PRNGKeyArray) -> AcrobotState:
        """Every number of the state uniform in ±0.1."""
        return AcrobotState(*jax.random.uniform(key, (4,), jnp.float32, -0.1, 0.1))

    def observe(self, state: AcrobotState) -> Float[Array, "6"]:
        """Cosine and sine of both angles, and both speeds."""
        theta1, theta2, theta1_dot, theta2_dot = state
        seen = (jnp.cos(theta1), jnp.sin(theta1), jnp.cos(theta2), jnp.sin(theta2), theta1_dot, theta2_dot)
        return jnp.stack(seen).astype(jnp.float32)

    def step(
        self, state: AcrobotState, action: Int[Array, ""], *, key: PRNGKeyArray
    ) -> tuple[AcrobotState, Float[Array, ""], Bool[Array, ""]]:
        """Hold one torque for ``dt`` seconds."""
        noise = jax.random.uniform(key, (), jnp.float32, -1.0, 1.0)
        torque = (action - 1) * self.max_torque + noise * self.torque_noise_max
        moved = _runge_kutta(lambda s: self._velocity(s, torque), state, self.dt)
        new = AcrobotState(
            wrap_angle(moved.theta1),
            wrap_angle(moved.theta2),
            jnp.clip(moved.theta1_dot, -self.max_vel_1, self.max_vel_1),
            jnp.clip(moved.theta2_dot, -self.max_vel_2, self.max_vel_2),
        )
        terminated = -jnp.cos(new.theta1) - jnp.cos(new.theta2 + new.theta1) > 1.0
        return new, jnp.where(terminated, 0.0, -1.0).astype(jnp.float32), terminated

    def reward_of(
        self, obs: Float[Array, "6"], action: Int[Array, ""], next_obs: Float[Array, "6"]
    ) -> Float[Array, ""]:
        """The reward of a transition, from what is observed of it."""
        cos1, sin1, cos2, sin2 = next_obs[:4]
        above = -cos1 - (cos1 * cos2 - sin1 * sin2) > 1.0
        return jnp.where(above, 0.0, -1.0)

    def _velocity(self, state: AcrobotState, torque) -> AcrobotState:
        """Time derivative of the state (Sutton & Barto 1998, section 11.3)."""
        theta1, theta2, theta1_dot, theta2_dot = state
        m1, m2, l1 = self.link_mass_1, self.link_mass_2, self.link_length_1
        lc1, lc2, g, inertia = self.link_com_pos_1, self.link_com_pos_2, self.gravity, self.link_moi
        cos2, sin2 = jnp.cos(theta2), jnp.sin(theta2)
        d1 = m1 * lc1**2 + m2 * (l1**2 + lc2**2 + 2 * l1 * lc2 * cos2) + 2 * inertia
        d2 = m2 * (lc2**2 + l1 * lc2 * cos2) + inertia
        # cos(θ - π/2) is sin θ.
        phi2 = m2 * lc2 * g * jnp.sin(theta1 + theta2)
        phi1 = (
            -m2 * l1 * lc2 * theta2_dot**2 * sin2
            - 2 * m2 * l1 * lc2 * theta2_dot * theta1_dot * sin2
            + (m1 * lc1 + m2 * l1) * g * jnp.sin(theta1)
            + phi2
        )
        centrifugal = m2 * l1 * lc2 * theta1_dot**2 * sin2 if self.book_or_nips == "book" else 0.0
        theta2_acc = (torque + d2 / d1 * phi1 - centrifugal - phi2) / (m2 * lc2**2 + inertia - d2**2 / d1)
        theta1_acc = -(d2 * theta2_acc + phi1) / d1
        return AcrobotState(theta1_dot, theta2_dot, theta1_acc, theta2_acc)


def wrap_angle(angle: Float[Array, ""]) -> Float[Array, ""]:
    """The same angle within ±π."""
    return angle - 2 * math.pi * jnp.round(angle / (2 * math.pi))


def _runge_kutta(velocity, state: AcrobotState, dt) -> AcrobotState:
    """One step of the classical fourth-order rule."""

    def ahead(slope, time):
        return jax.tree.map(lambda s, k: s + time * k, state, slope)

    k1 = velocity(state)
    k2 = velocity(ahead(k1, dt / 2))
    k3 = velocity(ahead(k2, dt / 2))
    k4 = velocity(ahead(k3, dt))
    return jax.tree.map(lambda s, a, b, c, d: s + dt / 6 * (a + 2 * b + 2 * c + d), state, k1, k2, k3, k4)
