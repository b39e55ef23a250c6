"""Beginning with a policy that is there already, instead of a fresh one."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from menura.core import AbstractPolicy, BoxActions, DiscreteActions, RequestError, Spec, Vector
from menura.forward.q_values import QPolicy
from menura.forward.sac import UNIFORM_LOG_STD, LogitPolicy, SquashedPolicy
from menura.networks import CategoricalPolicy, GaussianPolicy, Network, Norm, PictureNetwork, RunningNorm

SETTLED = 1e9
"""Observations that a policy's statistics are made to stand for, so that those of a run hardly move them.

A network means what it says only with the statistics it was trained with: those of a few hundred expert steps would be
replaced by the first rollout's, and the policy be another one before it had learned anything.
"""

SQUASHED_LOG_STD = -1.0
"""Log standard deviation that a Gaussian policy gets where it goes on as a squashed one, before squashing."""


def taken_over(learner: Any, spec: Spec, policy: AbstractPolicy, *, options: str = "--") -> AbstractPolicy:
    """A policy as one of the forward ``learner``'s own, or one sentence that says why it cannot be.

    Its mean action (or its logits) is the same everywhere. Gaussian policies of TRPO and PPO get the deviation
    ``initial_log_std``, and all policies keep their observation statistics for good. ``options`` begins the names of
    the learner's options on the command line.
    """
    own: Any = jax.eval_shape(lambda key: learner.policy(learner.init(spec, key=key)), jax.random.key(0))
    _require_fit(own, spec, policy, getattr(learner, "temperature", 0.0), options)
    match own, policy:
        case (CategoricalPolicy(), CategoricalPolicy()):
            return eqx.tree_at(lambda p: p.norm, policy, settled(policy.norm))
        case (GaussianPolicy(), GaussianPolicy()):
            policy = within_bounds(policy, spec.actions)
            log_std = jnp.full_like(policy.log_std, learner.initial_log_std)
            return eqx.tree_at(lambda p: (p.norm, p.log_std), policy, (settled(policy.norm), log_std))
        case (LogitPolicy(), CategoricalPolicy()):
            return LogitPolicy(*network_and_norm(policy, keep=own.norm is not None))
        case (SquashedPolicy(), GaussianPolicy()):
            return squashed(within_bounds(policy, spec.actions), keep_norm=own.norm is not None)
        case (QPolicy(), CategoricalPolicy() | LogitPolicy()):
            return as_values(own, policy, learner.temperature)
        case (LogitPolicy() | SquashedPolicy(), LogitPolicy() | SquashedPolicy()) if policy.norm is not None:
            return eqx.tree_at(lambda p: p.norm, policy, settled(policy.norm))
        case _:
            return policy


def begun_with(state: Any, policy: AbstractPolicy) -> Any:
    """A fresh state whose policy is the one that :func:`taken_over` gave; also of the learner inside an imitator."""
    if hasattr(state, "forward"):
        return eqx.tree_at(lambda s: s.forward, state, begun_with(state.forward, policy))
    if isinstance(policy, QPolicy):
        return eqx.tree_at(lambda s: (s.values, s.target_values, s.average), state, (policy.values,) * 3)
    names = [name for name in ("policy", "average") if hasattr(state, name)]
    return eqx.tree_at(lambda s: [getattr(s, name) for name in names], state, [policy] * len(names))


def settled(norm: Norm) -> Norm:
    """Statistics that new observations hardly move."""
    return eqx.tree_at(lambda n: n.count, norm, jnp.full_like(norm.count, SETTLED))


def network_and_norm(policy: Any, *, keep: bool) -> tuple[Network, Norm | None]:
    """A policy's network and its settled statistics, or the network on observations as they are, and ``None``."""
    if policy.norm is None:
        return policy.network, None
    return (policy.network, settled(policy.norm)) if keep else (without_norm(policy.network, policy.norm), None)


def without_norm(network: Network, norm: Norm) -> Network:
    """The network on observations as they are: standardizing them becomes part of its first layer.

    The two differ where an observation lies more than ten deviations away, which the statistics would have clipped.
    Beside pictures it is the layer of each vector that they become part of.
    """
    if isinstance(norm, RunningNorm):
        first = unstandardized(network.weights[0], network.biases[0], norm.mean, norm.var)
        return eqx.tree_at(lambda n: (n.weights[0], n.biases[0]), network, first)
    folded: Any = network
    start = 0
    for number, (_, part) in enumerate(norm.parts):
        if isinstance(part, Vector):
            mean, var = (x[start : start + part.size] for x in (norm.vectors.mean, norm.vectors.var))
            start += part.size
            dense = folded.encoder.encoders[number]
            first = unstandardized(dense.weight, dense.bias, mean, var)
            of_dense = lambda n, number=number: (n.encoder.encoders[number].weight, n.encoder.encoders[number].bias)  # noqa: E731
            folded = eqx.tree_at(of_dense, folded, first)
    return folded


def unstandardized(
    weight: Float[Array, "out in"], bias: Float[Array, " out"], mean: Float[Array, " in"], var: Float[Array, " in"]
) -> tuple[Float[Array, "out in"], Float[Array, " out"]]:
    """A layer of standardized numbers as one of the numbers themselves."""
    std = jnp.sqrt(var)
    weight = weight / jnp.where(std > 1e-6, std, 1.0)[None, :]
    return weight, bias - weight @ mean


def within_bounds(policy: GaussianPolicy, actions: Any) -> GaussianPolicy:
    """The same actions from a network that works on the bounds of this environment.

    A policy cloned without an environment has those of its demonstrations.
    """
    center, half_width = jnp.asarray(actions.center), jnp.asarray(actions.half_width)
    stretch: Float[Array, " action"] = policy.half_width / half_width
    network = policy.network
    weight = network.weights[-1] * stretch[:, None]
    bias = network.biases[-1] * stretch + (policy.center - center) / half_width
    network = eqx.tree_at(lambda n: (n.weights[-1], n.biases[-1]), network, (weight, bias))
    return GaussianPolicy(policy.norm, network, policy.log_std + jnp.log(stretch), center, half_width, actions.bounded)


def squashed(policy: GaussianPolicy, *, keep_norm: bool) -> SquashedPolicy:
    """A policy of SAC with the same mean actions, where they lie within the bounds, and one deviation everywhere."""
    network, norm = network_and_norm(policy, keep=keep_norm)
    weight, bias = network.weights[-1], network.biases[-1]
    log_std = jnp.full_like(bias, SQUASHED_LOG_STD - UNIFORM_LOG_STD)
    last = jnp.concatenate([weight, jnp.zeros_like(weight)]), jnp.concatenate([bias, log_std])
    network = eqx.tree_at(lambda n: (n.weights[-1], n.biases[-1]), network, last)
    return SquashedPolicy(network, policy.center, policy.half_width, norm, linear_mean=True)


def as_values(own: QPolicy, policy: CategoricalPolicy | LogitPolicy, temperature: float) -> QPolicy:
    """Q = τ · logits, whose soft policy exp(Q / τ) is the one begun with; of the kind that ``own`` is."""
    network, _ = network_and_norm(policy, keep=False)
    last = temperature * network.weights[-1], temperature * network.biases[-1]
    network = eqx.tree_at(lambda n: (n.weights[-1], n.biases[-1]), network, last)
    if own.values.obs_scale is not None:
        unscaled = network.weights[0] / jnp.asarray(own.values.obs_scale)[None, :]
        network = eqx.tree_at(lambda n: n.weights[0], network, unscaled)
    values = eqx.tree_at(lambda v: v.network, own.values, network)
    return QPolicy(values, jnp.zeros(()), jnp.asarray(temperature, jnp.float32))


def network_of(policy: Any) -> Network:
    """What computes a policy's means, logits or values."""
    return policy.values.network if isinstance(policy, QPolicy) else policy.network


def hidden_sizes(policy: Any) -> tuple[int, ...]:
    """The widths that a learner is given; of a dueling head the last layer's is that of either half."""
    *hidden, last = (bias.shape[0] for bias in network_of(policy).biases)
    return (*hidden, last // 2) if isinstance(policy, QPolicy) and policy.values.heads is not None else tuple(hidden)


def _require_fit(own: Any, spec: Spec, policy: Any, temperature: float, options: str) -> None:
    kinds = CategoricalPolicy | GaussianPolicy | LogitPolicy | SquashedPolicy | QPolicy
    if not isinstance(policy, kinds) or not isinstance(own, kinds):
        raise RequestError("Only policies with menura's own networks can be begun with: leave out the warm start.")
    network, its_own = network_of(policy), network_of(own)
    _require_parts(network, spec)
    obs_size = spec.obs_size if spec.parts else network.weights[0].shape[1]
    is_discrete = not isinstance(policy, GaussianPolicy | SquashedPolicy)
    num_outputs = network.biases[-1].shape[0] // (2 if isinstance(policy, SquashedPolicy) else 1)
    if isinstance(policy, QPolicy):
        num_outputs = policy.values.num_actions
    wanted = spec.actions.num_actions if isinstance(spec.actions, DiscreteActions) else spec.actions.size
    if (obs_size, is_discrete, num_outputs) != (spec.obs_size, not isinstance(spec.actions, BoxActions), wanted):
        kind = "discrete" if is_discrete else "real"
        raise RequestError(
            f"The policy to begin with takes {obs_size} observed numbers and gives {num_outputs} {kind} actions, which "
            "are not this environment's: name a run of this environment."
        )
    if isinstance(policy, LogitPolicy | SquashedPolicy) and not isinstance(own, LogitPolicy | SquashedPolicy | QPolicy):
        raise RequestError(
            "SAC's policy can only go on in sac or dqn: name a run of bc, trpo, ppo or gail to begin with."
        )
    if isinstance(policy, QPolicy) and not isinstance(own, QPolicy):
        raise RequestError("The policy of dqn is values, and can only go on in dqn: name a run of bc, trpo or ppo.")
    if isinstance(own, QPolicy):
        _require_values(own, policy, temperature, options)
    if jax.tree.structure(network) != jax.tree.structure(its_own) and spec.parts:
        raise RequestError(f"The policy to begin with has the other encoder: pass {options}encoder as in its run.")
    hidden, of_learner = (hidden_sizes(p) for p in (policy, own))
    if (hidden, network.activation) != (of_learner, its_own.activation):
        sizes = " ".join(map(str, hidden))
        raise RequestError(
            "The policy to begin with has a network of another shape than this learner's: "
            f"pass {options}hidden-sizes {sizes} {options}activation {network.activation}."
        )
    if (
        isinstance(policy, LogitPolicy | SquashedPolicy)
        and isinstance(own, LogitPolicy | SquashedPolicy)
        and (policy.norm is None) != (own.norm is None)
    ):
        seen, how = ("as they are", "leave out") if policy.norm is None else ("standardized", "pass")
        raise RequestError(
            f"The policy to begin with sees observations {seen}: {how} {options}standardize-observations."
        )
    if isinstance(own, SquashedPolicy):
        is_linear = not isinstance(policy, SquashedPolicy) or policy.linear_mean
        if is_linear != own.linear_mean:
            raise RequestError(
                "The policy to begin with "
                + (
                    f"gives mean actions as they are: pass {options}linear-mean."
                    if is_linear
                    else f"squashes its mean actions: leave out {options}linear-mean."
                )
            )


def _require_values(own: QPolicy, policy: Any, temperature: float, options: str) -> None:
    is_dueling = own.values.heads is not None
    if not isinstance(policy, QPolicy):
        if temperature == 0:
            raise RequestError(
                "A policy can only begin soft values, whose softmax it is, and these take the largest: name a run of "
                f"dqn, or pass {options}temperature."
            )
        if is_dueling:
            raise RequestError(f"The policy to begin with has no dueling head: leave out {options}dueling.")
        return
    if is_dueling != (policy.values.heads is not None):
        which = "no dueling head: leave out" if is_dueling else "a dueling head: pass"
        raise RequestError(f"The run to begin with has {which} {options}dueling.")
    if own.values.obs_scale != policy.values.obs_scale:
        factors = policy.values.obs_scale
        how = "leave out" if factors is None else "pass"
        said = "" if factors is None else " " + " ".join(map(str, factors))
        raise RequestError(f"The run to begin with scales observations otherwise: {how} {options}obs-scale{said}.")


def _require_parts(network: Network, spec: Spec) -> None:
    parts = network.encoder.parts if isinstance(network, PictureNetwork) else ()
    if parts != spec.parts:
        raise RequestError("The policy to begin with sees other pictures, or none: name a run of this environment.")
