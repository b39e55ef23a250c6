"""A square grid with one goal: small enough to know every answer."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from menura.core import DiscreteActions, Hyper, RequestError, Spec
from menura.environments.base import AbstractNativeEnv

MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))
"""Rows and columns that actions 0 to 3 move by: up, right, down, left."""


class GridWorld(AbstractNativeEnv):
    """Walk to the goal, which terminates the episode; every step costs, the goal may pay.

    Cells are numbered row by row from the upper left. Actions 0 to 3 are up, right, down, left; a move into
    the border stays where it is. The observation is the cell, one-hot, and the state is its number.
    """

    size: int = eqx.field(default=5, static=True)
    """Cells a side."""
    slip: Hyper = 0.0
    """Probability that a step goes in a uniformly random direction (which may be the one asked for)."""
    start: int | None = eqx.field(default=0, static=True)
    """The cell every episode begins in; ``None`` for a uniformly random one other than the goal."""
    goal: int | None = eqx.field(default=None, static=True)
    """``None`` for the last cell, in the lower right."""
    step_reward: Hyper = -1.0
    """Reward of every step."""
    goal_reward: Hyper = 0.0
    """Added to it on reaching the goal."""
    max_episode_steps: int | None = 100
    """Steps after which an episode is truncated."""

    def __check_init__(self):
        if self.size < 2:
            raise RequestError(f"GridWorld's size must be at least 2, not {self.size}.")
        for name in ("start", "goal"):
            cell = getattr(self, name)
            if cell is not None and not 0 <= cell < self.num_states:
                raise RequestError(f"GridWorld's {name} must be a cell from 0 to {self.num_states - 1}, not {cell}.")
        if self.start == self.goal_cell:
            raise RequestError(f"GridWorld's start and goal are both cell {self.start}; move one of them.")

    @property
    def spec(self) -> Spec:
        """One number observed for each cell, four actions."""
        return Spec(self.num_states, DiscreteActions(len(MOVES)))

    @property
    def num_states(self) -> int:
        """Number of cells."""
        return self.size**2

    @property
    def goal_cell(self) -> int:
        """Number of the goal's cell."""
        return self.num_states - 1 if self.goal is None else self.goal

    def reset(self, *, key: PRNGKeyArray) -> Int[Array, ""]:
        """The cell an episode begins in."""
        if self.start is not None:
            return jnp.full((), self.start, jnp.int32)
        cell = jax.random.randint(key, (), 0, self.num_states - 1, jnp.int32)
        return cell + (cell >= self.goal_cell)

    def observe(self, state: Int[Array, ""]) -> Float[Array, " obs"]:
        """The cell, one-hot."""
        return jax.nn.one_hot(state, self.num_states, dtype=jnp.float32)

    def step(
        self, state: Int[Array, ""], action: Int[Array, ""], *, key: PRNGKeyArray
    ) -> tuple[Int[Array, ""], Float[Array, ""], Bool[Array, ""]]:
        """Walk one cell."""
        slip_key, direction_key = jax.random.split(key)
        slips = jax.random.bernoulli(slip_key, self.slip)
        direction = jnp.where(slips, jax.random.randint(direction_key, (), 0, len(MOVES)), action)
        new = jnp.asarray(neighbors(self.size))[state, direction]
        terminated = new == self.goal_cell
        reward = self.step_reward + self.goal_reward * terminated
        return new, jnp.asarray(reward, jnp.float32), terminated

    def reward_of(
        self, obs: Float[Array, " obs"], action: Int[Array, ""], next_obs: Float[Array, " obs"]
    ) -> Float[Array, ""]:
        """The reward of a transition, from the cell that it leads to."""
        return self.step_reward + self.goal_reward * next_obs[self.goal_cell]

    def transitions(self) -> Float[np.ndarray, "states actions states"]:
        """P(next cell | cell, action), as :meth:`step` draws it; the goal is absorbing."""
        moves = np.eye(self.num_states)[neighbors(self.size)]
        probability = (1 - self.slip) * moves + self.slip * moves.mean(axis=1, keepdims=True)
        probability[self.goal_cell] = np.eye(self.num_states)[self.goal_cell]
        return probability


def neighbors(size: int) -> Int[np.ndarray, "states actions"]:
    """The cell that each move leads to from each cell of a ``size`` by ``size`` grid."""
    row, column = np.divmod(np.arange(size**2), size)
    reached = [np.clip(row + r, 0, size - 1) * size + np.clip(column + c, 0, size - 1) for r, c in MOVES]
    return np.stack(reached, axis=1).astype(np.int32)
