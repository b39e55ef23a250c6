"""A car too weak to climb the hill ahead of it without swinging back first (Moore 1990)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from menura.core import DiscreteActions, Hyper, Spec
from menura.environments.base import AbstractNativeEnv


class MountainCarState(NamedTuple):
    """Where the car is along the track, and how far it moves a step."""

    position: Float[Array, ""]
    velocity: Float[Array, ""]


class MountainCar(AbstractNativeEnv):
    """Gymnasium's MountainCar: reward -1 a step until the car reaches the flag.

    Actions 0, 1, 2 push left, not at all, right. Observation: ``position, velocity``. Fields bear the names
    of Gymnasium's attributes.
    """

    min_position: Hyper = -1.2
    """An inelastic wall stands here."""
    max_position: Hyper = 0.6
    max_speed: Hyper = 0.07
    goal_position: Hyper = 0.5
    goal_velocity: Hyper = 0.0
    """The car must pass the flag at least this fast."""
    force: Hyper = 0.001
    """What a push adds to the velocity."""
    gravity: Hyper = 0.0025
    max_episode_steps: int | None = 200
    """Steps after which an episode is truncated."""

    @property
    def spec(self) -> Spec:
        """Two numbers observed, three actions."""
        return Spec(2, DiscreteActions(3))

    def reset(self, *, key: PRNGKeyArray) -> MountainCarState:
        """At rest, at a uniform position in [-0.6, -0.4]."""
        return MountainCarState(jax.random.uniform(key, (), jnp.float32, -0.6, -0.4), jnp.zeros((), jnp.float32))

    def observe(self, state: MountainCarState) -> Float[Array, "2"]:
        """The whole state."""
        return jnp.stack(state).astype(jnp.float32)

    def step(
        self, state: MountainCarState, action: Int[Array, ""], *, key: PRNGKeyArray
    ) -> tuple[MountainCarState, Float[Array, ""], Bool[Array, ""]]:
        """Push once."""
        position, velocity = state
        velocity = velocity + (action - 1) * self.force - jnp.cos(3 * position) * self.gravity
        velocity = jnp.clip(velocity, -self.max_speed, self.max_speed)
        position = jnp.clip(position + velocity, self.min_position, self.max_position)
        velocity = jnp.where((position <= self.min_position) & (velocity < 0), 0.0, velocity)
        terminated = (position >= self.goal_position) & (velocity >= self.goal_velocity)
        return MountainCarState(position, velocity), jnp.full((), -1.0, jnp.float32), terminated

    def reward_of(
        self, obs: Float[Array, "2"], action: Int[Array, ""], next_obs: Float[Array, "2"]
    ) -> Float[Array, ""]:
        """The reward of a transition: the same for all."""
        return jnp.full((), -1.0, jnp.float32)
