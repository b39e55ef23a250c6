"""Whoever knows the rules of Catch, and demonstrations of that."""

import equinox as eqx
import jax.numpy as jnp

from menura.core import AbstractPolicy
from menura.environments.native import Catch
from menura.networks import Categorical


class KnowsTheRules(AbstractPolicy):
    """Moves the paddle to the column of the ball, as it is seen in the newest frame."""

    rows: int = eqx.field(default=10, static=True)
    columns: int = eqx.field(default=5, static=True)

    def distribution(self, obs):
        """All but certain."""
        picture = obs.reshape(-1, self.rows, self.columns)[-1]
        ball = jnp.argmax(jnp.max(picture[:-1], axis=0))
        paddle = jnp.argmax(picture[-1])
        return Categorical(50.0 * (jnp.arange(3) == 1 + jnp.sign(ball - paddle)))


def small_catch(**changes) -> Catch:
    """A smaller picture, which is sooner understood."""
    return Catch(**{"rows": 5, "columns": 3, "balls": 3, **changes})


def small_expert() -> KnowsTheRules:
    """Of :func:`small_catch`."""
    return KnowsTheRules(rows=5, columns=3)
