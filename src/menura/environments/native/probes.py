"""Environments that are solved only if one part of a learner works, each with a value known by hand.

None of them is a task: when a learner fails one, the name says which of its parts is broken.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from menura.core import BoxActions, DiscreteActions, Hyper, Spec
from menura.environments.base import AbstractNativeEnv


class Constant(AbstractNativeEnv):
    """One step, reward 1, terminated: V = 1 whatever the discount. Tests that values are fitted at all."""

    max_episode_steps: int | None = None

    @property
    def spec(self) -> Spec:
        """One number observed, two actions that change nothing."""
        return Spec(1, DiscreteActions(2))

    def reset(self, *, key: PRNGKeyArray) -> Int[Array, ""]:
        """Steps taken: 0."""
        return jnp.zeros((), jnp.int32)

    def observe(self, state: Int[Array, ""]) -> Float[Array, "1"]:
        """Always 0."""
        return jnp.zeros(1, jnp.float32)

    def step(
        self, state: Int[Array, ""], action: Int[Array, ""], *, key: PRNGKeyArray
    ) -> tuple[Int[Array, ""], Float[Array, ""], Bool[Array, ""]]:
        """The only step."""
        return state + 1, jnp.ones((), jnp.float32), jnp.ones((), bool)


class Discount(AbstractNativeEnv):
    """Two steps, reward 1 at the second: V(0) = γ and V(1) = 1. Tests bootstrapping and the discount."""

    max_episode_steps: int | None = None

    @property
    def spec(self) -> Spec:
        """One number observed, two actions that change nothing."""
        return Spec(1, DiscreteActions(2))

    def reset(self, *, key: PRNGKeyArray) -> Int[Array, ""]:
        """Steps taken: 0."""
        return jnp.zeros((), jnp.int32)

    def observe(self, state: Int[Array, ""]) -> Float[Array, "1"]:
        """Steps taken."""
        return state[None].astype(jnp.float32)

    def step(
        self, state: Int[Array, ""], action: Int[Array, ""], *, key: PRNGKeyArray
    ) -> tuple[Int[Array, ""], Float[Array, ""], Bool[Array, ""]]:
        """The reward and the end come with the second step."""
        terminated = state == 1
        return state + 1, terminated.astype(jnp.float32), terminated


class Endless(AbstractNativeEnv):
    """Reward 1 for ever, cut by the clock alone: V = 1 / (1 - γ). Tests that truncation is not an end."""

    max_episode_steps: int | None = 10

    @property
    def spec(self) -> Spec:
        """One number observed, two actions that change nothing."""
        return Spec(1, DiscreteActions(2))

    def reset(self, *, key: PRNGKeyArray) -> Int[Array, ""]:
        """Steps taken: 0."""
        return jnp.zeros((), jnp.int32)

    def observe(self, state: Int[Array, ""]) -> Float[Array, "1"]:
        """Always 0, so that the time left cannot be told."""
        return jnp.zeros(1, jnp.float32)

    def step(
        self, state: Int[Array, ""], action: Int[Array, ""], *, key: PRNGKeyArray
    ) -> tuple[Int[Array, ""], Float[Array, ""], Bool[Array, ""]]:
        """Never terminates."""
        return state + 1, jnp.ones((), jnp.float32), jnp.zeros((), bool)


class Echo(AbstractNativeEnv):
    """One step: see a random bit and repeat it. Best return 1, random 0.5. Tests that observations are used."""

    max_episode_steps: int | None = None

    @property
    def spec(self) -> Spec:
        """One bit observed, two actions."""
        return Spec(1, DiscreteActions(2))

    def reset(self, *, key: PRNGKeyArray) -> Int[Array, ""]:
        """A fair coin."""
        return jax.random.bernoulli(key).astype(jnp.int32)

    def observe(self, state: Int[Array, ""]) -> Float[Array, "1"]:
        """The bit."""
        return state[None].astype(jnp.float32)

    def step(
        self, state: Int[Array, ""], action: Int[Array, ""], *, key: PRNGKeyArray
    ) -> tuple[Int[Array, ""], Float[Array, ""], Bool[Array, ""]]:
        """Reward 1 if the action is the bit."""
        return state, (action == state).astype(jnp.float32), jnp.ones((), bool)


class EchoBox(AbstractNativeEnv):
    """One step: see a number in ±1 and repeat it; the reward is minus the squared error. Best return 0.

    Tests a policy over continuous actions.
    """

    max_episode_steps: int | None = None

    @property
    def spec(self) -> Spec:
        """One number observed, one to give."""
        return Spec(1, BoxActions((-1.0,), (1.0,)))

    def reset(self, *, key: PRNGKeyArray) -> Float[Array, ""]:
        """Uniform in ±1."""
        return jax.random.uniform(key, (), jnp.float32, -1.0, 1.0)

    def observe(self, state: Float[Array, ""]) -> Float[Array, "1"]:
        """The number."""
        return state[None]

    def step(
        self, state: Float[Array, ""], action: Float[Array, "1"], *, key: PRNGKeyArray
    ) -> tuple[Float[Array, ""], Float[Array, ""], Bool[Array, ""]]:
        """Reward -(action - number)², the action clipped to ±1."""
        return state, -jnp.square(jnp.clip(action[0], -1.0, 1.0) - state), jnp.ones((), bool)


class DelayState(NamedTuple):
    """Steps taken, and what the first action was worth."""

    age: Int[Array, ""]
    memory: Float[Array, ""]
    """0 before the first action; then 1 if it was action 1, and -1 if not."""


class Delay(AbstractNativeEnv):
    """The first of ``num_steps`` actions decides the reward of the last step: 1 for action 1, else 0.

    Best return 1, random 0.5. Tests that credit travels back. The memory is observed, so that this is a
    Markov decision process and one-step learners can solve it too.
    """

    num_steps: int = eqx.field(default=5, static=True)
    reward_size: Hyper = 1.0
    max_episode_steps: int | None = None

    @property
    def spec(self) -> Spec:
        """Two numbers observed, two actions."""
        return Spec(2, DiscreteActions(2))

    def reset(self, *, key: PRNGKeyArray) -> DelayState:
        """Nothing done yet."""
        return DelayState(jnp.zeros((), jnp.int32), jnp.zeros((), jnp.float32))

    def observe(self, state: DelayState) -> Float[Array, "2"]:
        """The fraction of the episode that has passed, and the memory."""
        return jnp.stack([state.age / self.num_steps, state.memory]).astype(jnp.float32)

    def step(
        self, state: DelayState, action: Int[Array, ""], *, key: PRNGKeyArray
    ) -> tuple[DelayState, Float[Array, ""], Bool[Array, ""]]:
        """Only the first action is remembered."""
        first = jnp.where(action == 1, 1.0, -1.0)
        new = DelayState(state.age + 1, jnp.where(state.age == 0, first, state.memory))
        terminated = new.age >= self.num_steps
        reward = self.reward_size * (terminated & (new.memory > 0))
        return new, jnp.asarray(reward, jnp.float32), terminated


class Corridor(AbstractNativeEnv):
    """Go on with action 0; now and then it turns, unforeseeably, and action 1 is right. Who errs stands outside, earns
    nothing, and comes back by action 2, which is never right inside. Best return 100, random length 100.

    An expert that never errs never shows the way back, so that cloning it is lost at its first error.
    """

    one_in: int = 100
    """It turns once in so many steps."""
    max_episode_steps: int | None = 100

    @property
    def spec(self) -> Spec:
        """Whether one is outside, and the number that the turn depends on by a rule too fine to be learned."""
        return Spec(2, DiscreteActions(3))

    def right_action(self, obs: Float[Array, "*batch 2"]) -> Int[Array, "*batch"]:
        """What the expert does."""
        turns = (obs[..., 1] * 100 * self.one_in).astype(jnp.int32) % self.one_in == 0
        return jnp.where(obs[..., 0] > 0, 2, jnp.where(turns, 1, 0))

    def reset(self, *, key: PRNGKeyArray) -> Float[Array, "2"]:
        """Inside."""
        return jnp.stack([jnp.zeros(()), jax.random.uniform(key)])

    def observe(self, state: Float[Array, "2"]) -> Float[Array, "2"]:
        """All there is."""
        return state

    def step(
        self, state: Float[Array, "2"], action: Int[Array, ""], *, key: PRNGKeyArray
    ) -> tuple[Float[Array, "2"], Float[Array, ""], Bool[Array, ""]]:
        """Inside after the right action, and outside after any other."""
        outside = (action != self.right_action(state)).astype(jnp.float32)
        return jnp.stack([outside, jax.random.uniform(key)]), 1.0 - state[0], jnp.zeros((), bool)


class Leave(AbstractNativeEnv):
    """Stay with action 1, or leave with action 0, which terminates; every step pays ``reward_size``. Random length 2.

    Biased on purpose: above 0 any positive constant solves it (best return 20), below 0 any negative one (best -1).
    """

    reward_size: Hyper = 1.0
    max_episode_steps: int | None = 20

    @property
    def spec(self) -> Spec:
        """One number observed, two actions."""
        return Spec(1, DiscreteActions(2))

    def reset(self, *, key: PRNGKeyArray) -> Float[Array, ""]:
        """A number in ±1 that means nothing, so that a policy that has learned nothing does now this, now that."""
        return jax.random.uniform(key, (), jnp.float32, -1.0, 1.0)

    def observe(self, state: Float[Array, ""]) -> Float[Array, "1"]:
        """The number."""
        return state[None]

    def step(
        self, state: Float[Array, ""], action: Int[Array, ""], *, key: PRNGKeyArray
    ) -> tuple[Float[Array, ""], Float[Array, ""], Bool[Array, ""]]:
        """The step pays, whether it is the last or not."""
        return self.reset(key=key), jnp.asarray(self.reward_size, jnp.float32), action == 0
