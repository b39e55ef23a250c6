"""A tabular problem as a JAX environment, so that every policy learner can play it."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from menura.core import DiscreteActions, RequestError, Spec
from menura.environments.base import AbstractNativeEnv
from menura.environments.tabular.mdp import TabularMDP, transition_reward


class TabularEnv(AbstractNativeEnv):
    """A :class:`TabularMDP` to play: it observes the state, one-hot.

    An action that a state does not offer leaves the state as it is, at the lowest reward of the problem.
    """

    outcome_start: Int[Array, " pairs_of_all"]
    """First transition of ``state * num_actions + action``; its end is the next one's start."""
    next_state: Int[Array, " transitions"]
    cumulative: Float[Array, " transitions"]
    """Probability of the outcomes of the same action up to and including this one."""
    reward: Float[Array, " transitions"]
    refusal_reward: Float[Array, ""]
    initial_cumulative: Float[Array, " states"]
    is_terminal: Bool[Array, " states"]
    num_states: int = eqx.field(static=True)
    num_actions: int = eqx.field(static=True)
    limit: int | None = eqx.field(static=True)
    search_steps: int = eqx.field(static=True)

    @property
    def spec(self) -> Spec:
        """One number observed for each state."""
        return Spec(self.num_states, DiscreteActions(self.num_actions))

    @property
    def max_episode_steps(self) -> int | None:
        """The problem's horizon, or what was asked for."""
        return self.limit

    def reset(self, *, key: PRNGKeyArray) -> Int[Array, ""]:
        """A state drawn from the initial distribution."""
        draw = jax.random.uniform(key)
        state = jnp.searchsorted(self.initial_cumulative, draw, side="right")
        return jnp.minimum(state, self.num_states - 1).astype(jnp.int32)

    def observe(self, state: Int[Array, ""]) -> Float[Array, " obs"]:
        """The state, one-hot."""
        return jax.nn.one_hot(state, self.num_states, dtype=jnp.float32)

    def step(
        self, state: Int[Array, ""], action: Int[Array, ""], *, key: PRNGKeyArray
    ) -> tuple[Int[Array, ""], Float[Array, ""], Bool[Array, ""]]:
        """Draw the outcome of an action."""
        pair = state * self.num_actions + action
        first, end = self.outcome_start[pair], self.outcome_start[pair + 1]
        draw = jax.random.uniform(key)

        def halve(bounds, _):
            low, high = bounds
            middle = (low + high) // 2
            above = self.cumulative[middle] > draw
            return (jnp.where(above, low, middle + 1), jnp.where(above, middle, high)), None

        last = jnp.maximum(end - 1, first)
        (found, _), _ = jax.lax.scan(halve, (first, last), length=self.search_steps)
        found = jnp.minimum(found, last)
        offered = end > first
        new = jnp.where(offered, self.next_state[jnp.minimum(found, len(self.next_state) - 1)], state)
        reward = jnp.where(offered, self.reward[jnp.minimum(found, len(self.reward) - 1)], self.refusal_reward)
        return new.astype(jnp.int32), reward, self.is_terminal[new]


def make_tabular_env(mdp: TabularMDP, theta: Any = None, max_episode_steps: int | None = None) -> TabularEnv:
    """The JAX environment of a problem whose reward is θ·features."""
    if mdp.initial is None:
        raise RequestError("A problem that is played needs its initial distribution; give initial.")
    counts = np.bincount(
        mdp.state.astype(np.int64) * mdp.num_actions + mdp.action, minlength=mdp.num_states * mdp.num_actions
    )
    total = np.cumsum(mdp.probability)
    before = np.repeat(
        total[mdp.pair_start] - mdp.probability[mdp.pair_start], np.diff(np.append(mdp.pair_start, len(total)))
    )
    reward = transition_reward(mdp, np.zeros(mdp.num_features) if theta is None else np.asarray(theta, np.float64))
    is_terminal = np.zeros(mdp.num_states, bool)
    if mdp.terminal is not None:
        is_terminal[mdp.terminal] = True
    return TabularEnv(
        jnp.asarray(np.concatenate([[0], np.cumsum(counts)]), jnp.int32),
        jnp.asarray(mdp.next_state, jnp.int32),
        jnp.asarray(total - before, jnp.float32),
        jnp.asarray(reward, jnp.float32),
        jnp.asarray(reward.min(), jnp.float32),
        jnp.asarray(np.cumsum(mdp.initial), jnp.float32),
        jnp.asarray(is_terminal),
        mdp.num_states,
        mdp.num_actions,
        mdp.horizon if max_episode_steps is None else max_episode_steps,
        int(np.ceil(np.log2(max(counts.max(), 2)))) + 1,
    )
