"""Values of discrete actions as one network, and the policies that follow from them."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from menura.core import AbstractPolicy, DiscreteActions, Hyper, Observed, RequestError, Spec
from menura.encoders import Encoder
from menura.networks import MLP, Activation, Categorical, Network, make_network

LEAST_LOGIT = -80.0
"""The logit of an action that is never taken: its probability is 0 in float32, and its entropy too."""


def dueling(value: Float[Array, ""], advantage: Float[Array, " actions"]) -> Float[Array, " actions"]:
    """Q(s, a) = V(s) + A(s, a) − mean over a' of A(s, a') (Wang et al. 2016, eq. 9)."""
    return value + advantage - jnp.mean(advantage)


def exploration(num_seen: Int[Array, ""], *, initial: Hyper, final: Hyper, num_steps: int) -> Float[Array, ""]:
    """ε after so many environment steps: in a line from ``initial`` to ``final`` (Mnih et al. 2015, Methods)."""
    done = jnp.clip(num_seen / jnp.maximum(num_steps, 1), 0.0, 1.0)
    return jnp.asarray(initial + done * (final - initial))


def epsilon_greedy(
    q: Float[Array, " actions"], *, epsilon: Hyper | Array, temperature: Hyper | Array
) -> Float[Array, " actions"]:
    """Logits that mix the uniform policy, ε of it, with the greedy one (Sutton & Barto 2018, section 2.2).

    With a temperature τ > 0 in place of the greedy one stands π ∝ exp(Q / τ) (Haarnoja et al. 2017, eq. 4).
    """
    greedy = jnp.where(jnp.arange(q.shape[0]) == jnp.argmax(q), 0.0, LEAST_LOGIT)
    soft = jax.nn.log_softmax(q / jnp.where(temperature > 0, temperature, 1.0))
    by_value = jnp.where(temperature > 0, soft, greedy)
    # ε = 0 would have a logarithm of −∞.
    least = jnp.exp(LEAST_LOGIT)
    uniform = jnp.log(jnp.maximum(epsilon, least)) - jnp.log(q.shape[0])
    return jnp.logaddexp(jnp.log(jnp.maximum(1 - epsilon, least)) + by_value, uniform)


class ActionValues(eqx.Module):
    """The value of every discrete action in one observation."""

    network: Network
    heads: tuple[MLP, MLP] | None
    """Of the state's value and of the advantages, each on its half of the network's output; ``None`` without."""
    obs_scale: tuple[float, ...] | None = eqx.field(static=True)
    """What the observed numbers are multiplied by; ``None`` where they are left as they are."""
    activation: Activation = eqx.field(static=True)

    def __init__(
        self,
        spec: Spec,
        hidden_sizes: tuple[int, ...],
        *,
        activation: Activation,
        is_dueling: bool,
        obs_scale: tuple[float, ...] | None = None,
        encoder: Encoder = "nature",
        key: PRNGKeyArray,
    ):
        """A fresh network; the streams of a dueling one part before the last hidden layer, as in Wang et al. (2016)."""
        if not isinstance(spec.actions, DiscreteActions):
            raise RequestError("dqn chooses among discrete actions and this environment's are real: take sac.")
        num_actions = spec.actions.num_actions
        self.activation, self.heads = activation, None
        self.obs_scale = obs_scale
        if obs_scale is not None and (spec.parts or len(obs_scale) != spec.obs_size):
            what = "pictures" if spec.parts else f"{spec.obs_size} numbers"
            raise RequestError(f"obs_scale has {len(obs_scale)} factors, and what is observed is {what}: mend it.")
        if not is_dueling:
            self.network = make_network(
                spec, num_actions, hidden_sizes, activation=activation, out_scale=0.1, encoder=encoder, key=key
            )
            return
        if not hidden_sizes:
            raise RequestError("A dueling head needs a hidden layer: give hidden_sizes, or leave out dueling.")
        *before, width = hidden_sizes
        network_key, value_key, advantage_key = jax.random.split(key, 3)
        self.network = make_network(
            spec,
            2 * width,
            tuple(before),
            activation=activation,
            out_scale=2.0**0.5,
            encoder=encoder,
            key=network_key,
        )
        self.heads = (
            MLP(width, 1, (), out_scale=0.1, key=value_key),
            MLP(width, num_actions, (), out_scale=0.1, key=advantage_key),
        )

    @property
    def num_actions(self) -> int:
        """How many values there are."""
        return (self.network if self.heads is None else self.heads[1]).biases[-1].shape[0]

    def __call__(self, obs: Observed[Array, " obs"]) -> Float[Array, " actions"]:
        """Q(obs, a) for every action a."""
        if self.obs_scale is not None:
            obs = obs * jnp.asarray(self.obs_scale)
        output = self.network(obs)
        if self.heads is None:
            return output
        of_value, of_advantage = jnp.split(getattr(jax.nn, self.activation)(output), 2)
        value, advantage = self.heads
        return dueling(value(of_value)[0], advantage(of_advantage))


class QPolicy(AbstractPolicy):
    """Acts by its values of actions: on the largest, or the softmax of them, and evenly at random now and then."""

    values: ActionValues
    epsilon: Float[Array, ""]
    """The share of actions that are taken evenly at random."""
    temperature: Float[Array, ""]
    """Of the softmax; 0 for the largest value."""

    def q_values(self, obs: Observed[Array, " obs"]) -> Float[Array, " actions"]:
        """The value of every action."""
        return self.values(obs)

    def distribution(self, obs):
        """The distribution over actions for one observation."""
        return Categorical(epsilon_greedy(self.values(obs), epsilon=self.epsilon, temperature=self.temperature))
