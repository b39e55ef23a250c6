"""Networks, policy heads and running statistics: pytrees of arrays, written for one example."""

import math
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt8

from menura.core import AbstractPolicy, AnyArray, BoxActions, DiscreteActions, ExpertData, Hyper, Observed, Spec, Vector
from menura.encoders import Encoder, Parts, PartsEncoder, decoded, vectors_in, with_vectors

Activation = Literal["tanh", "relu", "silu"]

_ACTIVATIONS = {"tanh": jnp.tanh, "relu": jax.nn.relu, "silu": jax.nn.silu}


class MLP(eqx.Module):
    """A fully connected network. Its activation is a static name, so that its leaves are arrays only."""

    weights: tuple[Float[Array, "_out _in"], ...]
    biases: tuple[Float[Array, " _out"], ...]
    activation: Activation = eqx.field(static=True)

    def __init__(
        self,
        in_size: int,
        out_size: int,
        hidden_sizes: tuple[int, ...],
        *,
        activation: Activation = "tanh",
        out_scale: float = 1.0,
        key: PRNGKeyArray,
    ):
        """Orthogonal weights with gain √2, and ``out_scale`` in the last layer; biases zero."""
        sizes = (in_size, *hidden_sizes, out_size)
        keys = jax.random.split(key, len(sizes) - 1)
        gains = [math.sqrt(2.0)] * len(hidden_sizes) + [out_scale]
        self.weights = tuple(
            jax.nn.initializers.orthogonal(gain)(k, (n_out, n_in), jnp.float32)
            for gain, k, n_in, n_out in zip(gains, keys, sizes[:-1], sizes[1:], strict=True)
        )
        self.biases = tuple(jnp.zeros(n_out) for n_out in sizes[1:])
        self.activation = activation

    def __call__(self, x: Float[Array, " _in"], beside: Float[Array, " _beside"] | None = None) -> Float[Array, " out"]:
        """The output for one input, or for one with more numbers ``beside`` it."""
        act = _ACTIVATIONS[self.activation]
        if beside is not None:
            x = jnp.concatenate([x, beside])
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = act(weight @ x + bias)
        return self.weights[-1] @ x + self.biases[-1]


class PictureNetwork(eqx.Module):
    """An encoder of an observation with pictures, and a fully connected network of its features: the head."""

    encoder: PartsEncoder
    head: MLP

    def __init__(
        self,
        parts: Parts,
        out_size: int,
        hidden_sizes: tuple[int, ...],
        *,
        activation: Activation = "tanh",
        out_scale: float = 1.0,
        beside_size: int = 0,
        encoder: Encoder = "nature",
        key: PRNGKeyArray,
    ):
        """Orthogonal weights in both."""
        encoder_key, head_key = jax.random.split(key)
        self.encoder = PartsEncoder(parts, encoder, key=encoder_key)
        in_size = self.encoder.num_features + beside_size
        self.head = MLP(in_size, out_size, hidden_sizes, activation=activation, out_scale=out_scale, key=head_key)

    def of_numbers(
        self, numbers: Float[Array, " _numbers"], beside: Float[Array, " _beside"] | None = None
    ) -> Float[Array, " out"]:
        """The output for what :func:`menura.encoders.decoded` gave."""
        return self.head(self.encoder(numbers), beside)

    def __call__(
        self, obs: Observed[Array, " _bytes"], beside: Float[Array, " _beside"] | None = None
    ) -> Float[Array, " out"]:
        """The output for one observation's bytes, with more numbers ``beside`` its features."""
        return self.of_numbers(decoded(obs, self.encoder.parts), beside)

    @property
    def weights(self) -> tuple[Any, ...]:
        """The head's, as a network of vectors has them."""
        return self.head.weights

    @property
    def biases(self) -> tuple[Any, ...]:
        """The head's."""
        return self.head.biases

    @property
    def activation(self) -> Activation:
        """The head's; convolutions have relu."""
        return self.head.activation


Network: TypeAlias = MLP | PictureNetwork
"""Of one observation; ``weights``, ``biases`` and ``activation`` are those of its fully connected layers."""


def mean_of_rows(values: Float[Array, "batch *rest"], num_rows: Int[Array, ""] | None = None) -> Float[Array, "*rest"]:
    """The mean over the first axis, or over the first ``num_rows`` of it."""
    if num_rows is None:
        return jnp.mean(values, axis=0)
    counts = jnp.arange(values.shape[0]) < num_rows
    counts = counts.reshape((-1,) + (1,) * (values.ndim - 1))
    return jnp.sum(jnp.where(counts, values, 0.0), axis=0) / num_rows


class RunningNorm(eqx.Module):
    """Mean and variance of everything seen, merged batch by batch (Chan, Golub & LeVeque 1979)."""

    count: Float[Array, ""]
    mean: Float[Array, " size"]
    var: Float[Array, " size"]

    def __init__(self, size: int):
        """Nothing seen yet: acts as the identity."""
        self.count = jnp.zeros(())
        self.mean = jnp.zeros(size)
        self.var = jnp.ones(size)

    def add(self, batch: Float[Array, "batch size"], num_rows: Int[Array, ""] | None = None) -> "RunningNorm":
        """The statistics with a batch more, or with its first ``num_rows`` rows."""
        added = batch.shape[0] if num_rows is None else num_rows
        mean = mean_of_rows(batch, num_rows)
        var = jnp.var(batch, axis=0) if num_rows is None else mean_of_rows(jnp.square(batch - mean[None]), num_rows)
        total = self.count + added
        delta = mean - self.mean
        new_mean = self.mean + delta * added / total
        spread = self.var * self.count + var * added + jnp.square(delta) * self.count * added / total
        return eqx.tree_at(lambda n: (n.count, n.mean, n.var), self, (total, new_mean, spread / total))

    def of(self, batch: Float[Array, "batch size"], num_rows: Int[Array, ""] | None = None) -> "RunningNorm":
        """The statistics of a batch alone, or of its first ``num_rows`` rows."""
        return RunningNorm(batch.shape[-1]).add(batch, num_rows)

    def __call__(self, x: Float[Array, " size"], *, clip: float = 10.0) -> Float[Array, " size"]:
        """Standardized and clipped. A feature that never varied is only centred."""
        std = jnp.sqrt(self.var)
        scale = jnp.where(std > 1e-6, std, 1.0)
        return jnp.clip((x - self.mean) / scale, -clip, clip)


ROWS_AT_ONCE = 256
"""Observations of bytes that are numbers at the same time, where there is no gradient step to be made of more."""


def over_rows(function: Callable[..., Any], obs: Observed[AnyArray, "batch obs"], *beside: Any) -> Any:
    """A function of one observation, and of what stands beside it, for many; of bytes for a few at a time."""
    if obs.dtype == jnp.uint8 and obs.shape[0] > ROWS_AT_ONCE:
        return jax.lax.map(lambda row: function(*row), (obs, *beside), batch_size=ROWS_AT_ONCE)
    return jax.vmap(function)(obs, *beside)


class PartsNorm(eqx.Module):
    """:class:`RunningNorm` of the vectors in observations with pictures. Bytes of pictures are left as they are: what
    they are divided by is the network's affair."""

    vectors: RunningNorm
    """Of all vectors, one after another; of no number where there are only pictures."""
    parts: Parts = eqx.field(static=True)

    def __init__(self, parts: Parts):
        """Nothing seen yet."""
        self.parts = parts
        self.vectors = RunningNorm(sum(part.size for _, part in parts if isinstance(part, Vector)))

    @property
    def count(self) -> Float[Array, ""]:
        """Observations seen."""
        return self.vectors.count

    def add(self, batch: UInt8[Array, "batch _bytes"], num_rows: Int[Array, ""] | None = None) -> "PartsNorm":
        """A batch more, or its first ``num_rows`` rows."""
        vectors = jax.vmap(lambda obs: vectors_in(obs, self.parts))(batch)
        return eqx.tree_at(lambda n: n.vectors, self, self.vectors.add(vectors, num_rows))

    def of(self, batch: UInt8[Array, "batch _bytes"], num_rows: Int[Array, ""] | None = None) -> "PartsNorm":
        """The statistics of a batch alone, or of its first ``num_rows`` rows."""
        return PartsNorm(self.parts).add(batch, num_rows)

    def __call__(self, x: UInt8[Array, " _bytes"]) -> UInt8[Array, " _bytes"]:
        """The same bytes, but for those of vectors, which are standardized."""
        if self.vectors.mean.shape[0] == 0:
            return x
        return with_vectors(x, self.parts, self.vectors(vectors_in(x, self.parts)))


Norm: TypeAlias = RunningNorm | PartsNorm
"""Statistics of observations, by which they are standardized."""


def expert_norm(norm: Any, demos: ExpertData) -> Any:
    """Statistics of the expert's observations: of all there are, or, where every update has others, of those so far."""
    return (norm.add if demos.drawn else norm.of)(demos.train.obs, demos.num_train)


def evenly_mixed(first: Any, second: Any) -> Any:
    """Statistics of an equal mixture of what two norms have seen, whatever the numbers of their rows.

    A feature that neither of the two varies does not vary in the mixture either, though they may differ: in units of
    that difference, however small, it would tell them apart.
    """
    if isinstance(first, PartsNorm):
        return eqx.tree_at(lambda n: n.vectors, first, evenly_mixed(first.vectors, second.vectors))
    within = (first.var + second.var) / 2
    var = jnp.where(within > 1e-12, within + jnp.square(first.mean - second.mean) / 4, 0.0)
    return eqx.tree_at(lambda n: (n.mean, n.var), first, ((first.mean + second.mean) / 2, var))


def make_norm(spec: Spec) -> Norm:
    """Statistics of nothing yet, for the observations of an environment."""
    return PartsNorm(spec.parts) if spec.parts else RunningNorm(spec.obs_size)


class Categorical(eqx.Module):
    """A distribution over ``0 … actions - 1``."""

    logits: Float[Array, " actions"]

    @property
    def log_probs(self) -> Float[Array, " actions"]:
        """Normalised log-probabilities."""
        return jax.nn.log_softmax(self.logits)

    def sample(self, *, key: PRNGKeyArray) -> Int[Array, ""]:
        """A random action."""
        return jax.random.categorical(key, self.logits)

    def mode(self) -> Int[Array, ""]:
        """The likeliest action."""
        return jnp.argmax(self.logits)

    def log_prob(self, action: Int[Array, ""]) -> Float[Array, ""]:
        """log P(action)."""
        return self.log_probs[action]

    def entropy(self) -> Float[Array, ""]:
        """−Σ p log p, in nats."""
        log_probs = self.log_probs
        return -jnp.sum(jnp.exp(log_probs) * log_probs)

    def kl(self, other: "Categorical") -> Float[Array, ""]:
        """KL(self ‖ other) = Σ p (log p − log q), in nats."""
        return jnp.sum(jnp.exp(self.log_probs) * (self.log_probs - other.log_probs))

    def fisher_product(self, tangent: "Categorical") -> "Categorical":
        """The Fisher information in the logits, (diag(p) − p pᵀ), times a tangent."""
        p = jnp.exp(self.log_probs)
        return Categorical(p * tangent.logits - p * jnp.dot(p, tangent.logits))


class DiagonalGaussian(eqx.Module):
    """A normal distribution with independent components, over actions in the environment's units."""

    mean: Float[Array, " action"]
    log_std: Float[Array, " action"]

    def sample(self, *, key: PRNGKeyArray) -> Float[Array, " action"]:
        """A random action; it may lie outside the bounds, where the environment clips it."""
        return self.mean + jnp.exp(self.log_std) * jax.random.normal(key, self.mean.shape)

    def mode(self) -> Float[Array, " action"]:
        """The mean."""
        return self.mean

    def log_prob(self, action: Float[Array, " action"]) -> Float[Array, ""]:
        """Log-density of an action."""
        z = (action - self.mean) * jnp.exp(-self.log_std)
        return -0.5 * jnp.sum(jnp.square(z) + 2 * self.log_std + math.log(2 * math.pi))

    def clipped_log_prob(
        self, action: Float[Array, " action"], *, low: Float[Array, " action"], high: Float[Array, " action"]
    ) -> Float[Array, ""]:
        """Log-likelihood of an action that was clipped to ``[low, high]`` before it was written down (Tobin 1958).

        Strictly inside it is the density; at a bound, the probability of lying there or beyond. An action past a
        bound was not clipped, and has its density. An infinite bound clips nothing.
        """
        at_low = jnp.isfinite(low) & (jnp.abs(action - low) <= 1e-6 * jnp.abs(high - low))
        at_high = jnp.isfinite(high) & (jnp.abs(action - high) <= 1e-6 * jnp.abs(high - low))
        z = (action - self.mean) * jnp.exp(-self.log_std)
        density = -0.5 * (jnp.square(z) + 2 * self.log_std + math.log(2 * math.pi))
        # At a bound z is that of the bound itself; elsewhere a tail is given 0, so that its gradient stays finite.
        below = jax.scipy.stats.norm.logcdf(jnp.where(at_low, z, 0.0))
        above = jax.scipy.stats.norm.logcdf(jnp.where(at_high, -z, 0.0))
        return jnp.sum(jnp.where(at_low, below, jnp.where(at_high, above, density)))

    def entropy(self) -> Float[Array, ""]:
        """Differential entropy, in nats."""
        return jnp.sum(self.log_std + 0.5 * (1 + math.log(2 * math.pi)))

    def kl(self, other: "DiagonalGaussian") -> Float[Array, ""]:
        """KL(self ‖ other), in nats."""
        ratio = jnp.exp(2 * (self.log_std - other.log_std))
        distance = jnp.square((self.mean - other.mean) * jnp.exp(-other.log_std))
        return 0.5 * jnp.sum(ratio + distance - 1 - 2 * (self.log_std - other.log_std))

    def fisher_product(self, tangent: "DiagonalGaussian") -> "DiagonalGaussian":
        """The Fisher information in (mean, log_std), diag(1/σ², 2), times a tangent."""
        return DiagonalGaussian(tangent.mean * jnp.exp(-2 * self.log_std), 2 * tangent.log_std)


class CategoricalPolicy(AbstractPolicy):
    """Logits from a network over standardized observations."""

    norm: Norm
    network: Network

    def distribution(self, obs):
        """The distribution over actions for one observation."""
        return Categorical(self.network(self.norm(obs)))


class GaussianPolicy(AbstractPolicy):
    """A mean from a network over standardized observations, and a log-std that no state changes.

    The network works on a space of [-1, 1]; ``center`` and ``half_width`` carry it to the environment's.
    """

    norm: Norm
    network: Network
    log_std: Float[Array, " action"]
    center: Float[Array, " action"]
    half_width: Float[Array, " action"]
    bounded: tuple[bool, ...] = eqx.field(static=True, default=())
    """Which actions the environment clips to ``center ± half_width``; empty for none."""

    def distribution(self, obs):
        """The distribution over actions for one observation."""
        mean = self.network(self.norm(obs))
        half_width = jax.lax.stop_gradient(self.half_width)
        center = jax.lax.stop_gradient(self.center)
        return DiagonalGaussian(center + half_width * mean, self.log_std + jnp.log(half_width))


Policy: TypeAlias = AbstractPolicy
"""Of :func:`make_policy`, or of one's own: it must have observation statistics named ``norm``."""


def adam(learning_rate: Hyper) -> optax.GradientTransformation:
    """Adam as reinforcement learning uses it: its ε of 1e-5 keeps rare gradients from large steps."""
    return optax.adam(learning_rate, eps=1e-5)


def make_network(
    spec: Spec,
    out_size: int,
    hidden_sizes: tuple[int, ...],
    *,
    activation: Activation = "tanh",
    out_scale: float = 1.0,
    beside_size: int = 0,
    encoder: Encoder = "nature",
    key: PRNGKeyArray,
) -> Network:
    """A network of one observation as it is, and of ``beside_size`` numbers beside it, with ``out_size`` outputs.

    Pictures are read by the ``encoder``, whose features ``hidden_sizes`` follow; of vectors alone it is not used.
    """
    if spec.parts:
        return PictureNetwork(
            spec.parts,
            out_size,
            hidden_sizes,
            activation=activation,
            out_scale=out_scale,
            beside_size=beside_size,
            encoder=encoder,
            key=key,
        )
    in_size = spec.obs_size + beside_size
    return MLP(in_size, out_size, hidden_sizes, activation=activation, out_scale=out_scale, key=key)


def make_policy(
    spec: Spec,
    hidden_sizes: tuple[int, ...],
    *,
    activation: Activation = "tanh",
    initial_log_std: float = 0.0,
    encoder: Encoder = "nature",
    key: PRNGKeyArray,
) -> Policy:
    """A policy that fits the environment; nearly uniform (or zero-mean) at first."""
    norm = make_norm(spec)
    match spec.actions:
        case DiscreteActions(num_actions=num_actions):
            out_size = num_actions
        case BoxActions(low=low):
            out_size = len(low)
    network = make_network(
        spec, out_size, hidden_sizes, activation=activation, out_scale=0.01, encoder=encoder, key=key
    )
    if isinstance(spec.actions, DiscreteActions):
        return CategoricalPolicy(norm, network)
    return GaussianPolicy(
        norm,
        network,
        jnp.full(out_size, initial_log_std),
        jnp.asarray(spec.actions.center),
        jnp.asarray(spec.actions.half_width),
        spec.actions.bounded,
    )


class ValueFunction(eqx.Module):
    """A state value: a network over standardized observations, in units of standardized returns.

    ``returns`` holds the statistics of the returns seen; the network predicts in their scale, so its
    step size need not know how large rewards are.
    """

    norm: Norm
    network: Network
    returns: RunningNorm

    def __init__(
        self,
        spec: Spec,
        hidden_sizes: tuple[int, ...],
        *,
        activation: Activation = "tanh",
        encoder: Encoder = "nature",
        key: PRNGKeyArray,
    ):
        """Predicts 0 everywhere at first."""
        self.norm = make_norm(spec)
        self.network = make_network(
            spec, 1, hidden_sizes, activation=activation, out_scale=0.0, encoder=encoder, key=key
        )
        self.returns = RunningNorm(1)

    def standardized(self, obs: Observed[Array, " obs"]) -> Float[Array, ""]:
        """The network's own output."""
        return self.network(self.norm(obs))[0]

    def __call__(self, obs: Observed[Array, " obs"]) -> Float[Array, ""]:
        """The value, in units of reward."""
        return self.returns.mean[0] + jnp.sqrt(self.returns.var[0]) * self.standardized(obs)
