"""An expert for MountainCar, which reinforcement learning without a hint seldom solves: the best values on a grid.

Value iteration on 301 × 301 points of the environment's own dynamics, joined linearly between them; the expert takes
the action that is best by these values. Its return is the GAIL paper's expert's, -98.8 (docs/benchmarks.md).
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from menura import make, record, save
from menura.environments.native import MountainCar
from menura.environments.native.mountain_car import MountainCarState

POINTS, SWEEPS = 301, 400
CAR = MountainCar()
LOW = np.array([CAR.min_position, -CAR.max_speed])
HIGH = np.array([CAR.max_position, CAR.max_speed])


def action_values(table: jax.Array, obs: jax.Array) -> jax.Array:
    """Steps to the flag, negative, for each action in one state."""

    def worth(action):
        state, reward, terminated = CAR.step(MountainCarState(*obs), action, key=jax.random.key(0))
        return reward + jnp.where(terminated, 0.0, between(table, CAR.observe(state)))

    return jnp.stack([worth(jnp.asarray(action)) for action in range(3)])


def between(table: jax.Array, obs: jax.Array) -> jax.Array:
    """The table's value at a state, joined linearly between its four neighbors."""
    place = (obs - LOW) / (HIGH - LOW) * (POINTS - 1)
    corner = jnp.clip(place.astype(int), 0, POINTS - 2)
    share = place - corner
    (i, j), (a, b) = corner, share
    left = table[i, j] * (1 - b) + table[i, j + 1] * b
    right = table[i + 1, j] * (1 - b) + table[i + 1, j + 1] * b
    return left * (1 - a) + right * a


def best_values() -> jax.Array:
    """The fixed point, to the last step of an episode's 200 and beyond."""
    axes = [jnp.linspace(low, high, POINTS) for low, high in zip(LOW, HIGH, strict=True)]
    points = jnp.stack(jnp.meshgrid(*axes, indexing="ij"), axis=-1)

    def sweep(_, table):
        return jnp.max(jax.vmap(jax.vmap(lambda obs: action_values(table, obs)))(points), axis=-1)

    return jax.jit(lambda: jax.lax.fori_loop(0, SWEEPS, sweep, jnp.zeros((POINTS, POINTS))))()


class Planned:
    """Acts by the values."""

    def __init__(self):
        table = best_values()
        self._act = jax.jit(jax.vmap(lambda obs: jnp.argmax(action_values(table, obs))))

    def predict(self, obs, deterministic=True):
        return np.asarray(self._act(jnp.asarray(obs))).astype(np.int64), None


def write(path: Path, episodes: int) -> None:
    """Record it."""
    save(record(make("MountainCar-v0", num_envs=episodes), Planned(), episodes, seed=0), path)
