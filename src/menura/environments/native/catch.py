"""Catch (Mnih et al. 2014; Osband et al. 2020): a falling ball, seen as a picture."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PRNGKeyArray, UInt8

from menura.core import DiscreteActions, Hyper, Images, RequestError, Spec
from menura.environments.base import AbstractNativeEnv

WHITE = 255


class CatchState(NamedTuple):
    """Where the ball and the paddle are, and how many balls have fallen."""

    row: Int[Array, ""]
    """Of the ball, 0 at the top."""
    column: Int[Array, ""]
    paddle: Int[Array, ""]
    """Its column, in the lowest row."""
    num_balls: Int[Array, ""]
    """Balls that have come down so far."""
    lit: Bool[Array, ""]
    """Whether the ball shows in the picture."""


class Catch(AbstractNativeEnv):
    """Move the paddle under a ball that falls one row a step: reward 1 for a catch, -1 for a miss, else 0.

    Actions: 0 moves left, 1 stays, 2 moves right. The observation is a gray picture of bytes, black but for the ball
    and the paddle. After ``balls`` of them the episode terminates, so that returns run from -balls to balls.
    """

    rows: int = eqx.field(default=10, static=True)
    """Height of the picture."""
    columns: int = eqx.field(default=5, static=True)
    """Its width."""
    balls: int = 5
    """Balls in an episode."""
    visible: Hyper = 1.0
    """Chance that a ball shows in a picture; the one of its first row always does."""
    max_episode_steps: int | None = None
    """Steps after which an episode is truncated; it ends by itself."""

    def __check_init__(self):
        if self.rows < 2 or self.columns < 2:
            raise RequestError(f"Catch needs at least 2 rows and 2 columns, not {self.rows} and {self.columns}.")

    @property
    def spec(self) -> Spec:
        """One gray picture observed, three actions."""
        picture = Images(1, self.rows, self.columns, 1)
        return Spec(picture.num_bytes, DiscreteActions(3), (("picture", picture),))

    def reset(self, *, key: PRNGKeyArray) -> CatchState:
        """A ball at the top, anywhere; the paddle in the middle."""
        zero = jnp.zeros((), jnp.int32)
        column = jax.random.randint(key, (), 0, self.columns)
        return CatchState(zero, column, jnp.full_like(zero, self.columns // 2), zero, jnp.asarray(True))

    def observe(self, state: CatchState) -> UInt8[Array, " bytes"]:
        """The picture, row by row."""
        picture = jnp.zeros((self.rows, self.columns), jnp.uint8)
        picture = picture.at[state.row, state.column].set(jnp.where(state.lit, WHITE, 0).astype(jnp.uint8))
        return picture.at[self.rows - 1, state.paddle].set(WHITE).reshape(-1)

    def step(
        self, state: CatchState, action: Int[Array, ""], *, key: PRNGKeyArray
    ) -> tuple[CatchState, Array, Bool[Array, ""]]:
        """Move the paddle, and let the ball fall; in the lowest row it is caught or missed, and another one begins."""
        column_key, light_key = jax.random.split(key)
        paddle = jnp.clip(state.paddle + action - 1, 0, self.columns - 1).astype(jnp.int32)
        row = state.row + 1
        is_down = row == self.rows - 1
        reward = jnp.where(is_down, jnp.where(state.column == paddle, 1.0, -1.0), 0.0)
        num_balls = state.num_balls + is_down
        terminated = num_balls >= self.balls
        # The last ball stays where it came down.
        begins = is_down & ~terminated
        new_column = jax.random.randint(column_key, (), 0, self.columns)
        lit = begins | (jax.random.uniform(light_key) < self.visible)
        state = CatchState(
            jnp.where(begins, 0, row),
            jnp.where(begins, new_column, state.column),
            paddle,
            num_balls.astype(jnp.int32),
            lit,
        )
        return state, reward.astype(jnp.float32), terminated
