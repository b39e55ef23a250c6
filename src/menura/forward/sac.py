"""Soft actor-critic (Haarnoja et al. 2018, 2019), and its discrete form (Christodoulou 2019)."""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from menura.core import (
    AbstractPolicy,
    DiscreteActions,
    DrawnPenalty,
    Hyper,
    Metrics,
    Observed,
    Penalty,
    Spec,
    Transition,
    drawn_by,
    flatten_time,
)
from menura.encoders import Encoder
from menura.forward.off_policy import AbstractReplayLearner, rollout_size, running_average
from menura.forward.on_policy import moved
from menura.networks import Activation, Categorical, DiagonalGaussian, Network, Norm, make_network, make_norm
from menura.replay import Replay, sample_rows

UNIFORM_LOG_STD = math.log(math.pi / math.sqrt(12))
"""Of the normal whose tanh is nearly uniform: the deviation of the logistic whose tanh is exactly so."""


def soft_target(
    reward: Float[Array, ""], next_value: Float[Array, ""], terminated: Bool[Array, ""], *, gamma: Hyper
) -> Float[Array, ""]:
    """What both Q are drawn to (Haarnoja et al. 2018, eq. 8); a truncated episode goes on being worth something."""
    return reward + gamma * jnp.where(terminated, 0.0, next_value)


def soft_value(
    q: Float[Array, " twins"], log_prob: Float[Array, ""], *, temperature: Float[Array, ""] | float
) -> Float[Array, ""]:
    """V = min Q(s, a) − α log π(a|s) for one sampled action (Haarnoja et al. 2019, eq. 3 and 5)."""
    return jnp.min(q) - temperature * log_prob


def expected_soft_value(
    q: Float[Array, "twins actions"], log_probs: Float[Array, " actions"], *, temperature: Float[Array, ""] | float
) -> Float[Array, ""]:
    """V = Σ π(a|s) (min Q(s, a) − α log π(a|s)), exactly (Christodoulou 2019, eq. 10)."""
    return jnp.sum(jnp.exp(log_probs) * (jnp.min(q, axis=0) - temperature * log_probs))


def temperature_loss(
    log_temperature: Float[Array, ""], entropy: Float[Array, ""], *, target_entropy: Hyper
) -> Float[Array, ""]:
    """J(α) = α (entropy − target), by α's logarithm (Haarnoja et al. 2019, eq. 18)."""
    return jnp.exp(log_temperature) * (entropy - target_entropy)


LINEAR_UNTIL = 0.95
"""Up to here :func:`before_squashing` is exact."""


def before_squashing(mean: Float[Array, " action"]) -> Float[Array, " action"]:
    """What tanh turns into ``mean``; past ±0.95, where that runs away, it grows as a logarithm, from the same slope.

    A clone of clipped actions has means far past the bounds. Taken further, their entropy would be hundreds of nats
    too low, and a learned temperature would undo the clone to raise it.
    """
    inside = jnp.clip(mean, -LINEAR_UNTIL, LINEAR_UNTIL)
    beyond = (mean - inside) / (1 - LINEAR_UNTIL**2)
    return jnp.arctanh(inside) + jnp.sign(beyond) * jnp.log1p(jnp.abs(beyond))


class TanhGaussian(eqx.Module):
    """The tanh of a normal with independent components, carried to the environment's bounds."""

    mean: Float[Array, " action"]
    log_std: Float[Array, " action"]
    center: Float[Array, " action"]
    half_width: Float[Array, " action"]

    def sample(self, *, key: PRNGKeyArray) -> Float[Array, " action"]:
        """A random action within the bounds."""
        return self.of_noise(jax.random.normal(key, self.mean.shape))[0]

    def mode(self) -> Float[Array, " action"]:
        """The action of the normal's mean."""
        return self.center + self.half_width * jnp.tanh(self.mean)

    def of_noise(self, noise: Float[Array, " action"]) -> tuple[Float[Array, " action"], Float[Array, ""]]:
        """The action that standard normal noise makes, and its log-density."""
        before = self.mean + jnp.exp(self.log_std) * noise
        return self.center + self.half_width * jnp.tanh(before), self._log_prob_before(before)

    def log_prob(self, action: Float[Array, " action"]) -> Float[Array, ""]:
        """Log-density of an action in the environment's units; at the bounds, of the nearest one within."""
        return self._log_prob_before(
            jnp.arctanh(jnp.clip((action - self.center) / self.half_width, -1 + 1e-6, 1 - 1e-6))
        )

    def kl(self, other: "TanhGaussian") -> Float[Array, ""]:
        """KL(self ‖ other), in nats: that of the normals, because what is one-to-one does not change it."""
        return DiagonalGaussian(self.mean, self.log_std).kl(DiagonalGaussian(other.mean, other.log_std))

    def _log_prob_before(self, before: Float[Array, " action"]) -> Float[Array, ""]:
        """Haarnoja et al. 2018, eq. 21, with log(1 − tanh²u) = 2 (log 2 − u − softplus(−2u)), which never overflows."""
        z = (before - self.mean) * jnp.exp(-self.log_std)
        normal = -0.5 * jnp.square(z) - self.log_std - 0.5 * math.log(2 * math.pi)
        stretch = 2 * (math.log(2) - before - jax.nn.softplus(-2 * before)) + jnp.log(self.half_width)
        return jnp.sum(normal - stretch)


def standardized(obs: Observed[Array, " obs"], norm: Norm | None) -> Observed[Array, " obs"]:
    """An observation in the units of these statistics, or as it is where there are none."""
    return obs if norm is None else norm(obs)


class SquashedPolicy(AbstractPolicy):
    """Mean and log-deviation from one network, squashed into the bounds; [-1, 1] where there are none."""

    network: Network
    center: Float[Array, " action"]
    half_width: Float[Array, " action"]
    norm: Norm | None = None
    """What observations are standardized by before the network sees them."""
    linear_mean: bool = eqx.field(static=True, default=False)
    """Whether the network's mean is that of the action, and not of what is squashed."""

    def distribution(self, obs):
        """The distribution over actions for one observation."""
        mean, log_std = jnp.split(self.network(standardized(obs, self.norm)), 2)
        mean = before_squashing(mean) if self.linear_mean else mean
        log_std = jnp.clip(log_std + UNIFORM_LOG_STD, -20.0, 2.0)
        center, half_width = jax.lax.stop_gradient((self.center, self.half_width))
        return TanhGaussian(mean, log_std, center, half_width)


class LogitPolicy(AbstractPolicy):
    """Logits from a network."""

    network: Network
    norm: Norm | None = None
    """What observations are standardized by before the network sees them."""

    def distribution(self, obs):
        """The distribution over actions for one observation."""
        return Categorical(self.network(standardized(obs, self.norm)))


class TwinQ(eqx.Module):
    """Two action values, drawn apart by chance only; their minimum does not overrate as one does."""

    networks: tuple[Network, Network]
    center: Float[Array, " action"] | None
    half_width: Float[Array, " action"] | None
    norm: Norm | None
    """What observations are standardized by before the networks see them."""

    def __init__(
        self,
        spec: Spec,
        hidden_sizes: tuple[int, ...],
        *,
        activation: Activation,
        encoder: Encoder = "nature",
        norm: Norm | None = None,
        key: PRNGKeyArray,
    ):
        """Two fresh networks: of the observation, and of the action scaled to [-1, 1] where it is real."""
        self.norm = norm
        self.center = self.half_width = None
        beside_size, out_size = 0, 1
        if isinstance(spec.actions, DiscreteActions):
            out_size = spec.actions.num_actions
        else:
            beside_size = spec.actions.size
            self.center, self.half_width = jnp.asarray(spec.actions.center), jnp.asarray(spec.actions.half_width)
        first, second = (
            make_network(
                spec,
                out_size,
                hidden_sizes,
                activation=activation,
                beside_size=beside_size,
                encoder=encoder,
                key=network_key,
            )
            for network_key in jax.random.split(key)
        )
        self.networks = (first, second)

    def of_all(self, obs: Observed[Array, " obs"]) -> Float[Array, "twins actions"]:
        """Both values of every discrete action."""
        obs = standardized(obs, self.norm)
        return jnp.stack([network(obs) for network in self.networks])

    def __call__(self, obs: Observed[Array, " obs"], action: Array) -> Float[Array, " twins"]:
        """Both values of one action."""
        if self.center is None or self.half_width is None:
            return self.of_all(obs)[:, action]
        center, half_width = jax.lax.stop_gradient((self.center, self.half_width))
        obs, scaled = standardized(obs, self.norm), (action - center) / half_width
        return jnp.stack([network(obs, scaled)[0] for network in self.networks])


class SACState(eqx.Module):
    """What SAC learns, and what it learns from."""

    policy: SquashedPolicy | LogitPolicy
    average: SquashedPolicy | LogitPolicy
    q: TwinQ
    target_q: TwinQ
    log_temperature: Float[Array, ""]
    opt_state: Any
    """Of policy, values and temperature."""
    replay: Replay
    num_seen: Int[Array, ""]
    """Environment steps so far."""
    num_learned: Int[Array, ""]
    """Updates that learned so far."""


def with_observations(state: SACState, obs: Observed[Array, "batch obs"]) -> SACState:
    """The state with these observations in its statistics, of the policies and of the values.

    Those of a policy that was begun with stand fast, and the values have their own (:mod:`menura.forward.warm_start`).
    """
    if state.policy.norm is None or state.q.norm is None:
        return state
    of_policy, of_values = state.policy.norm.add(obs), state.q.norm.add(obs)
    return eqx.tree_at(
        lambda s: [part.norm for part in (s.policy, s.average, s.q, s.target_q)],
        state,
        [of_policy, of_policy, of_values, of_values],
    )


class SAC(AbstractReplayLearner):
    """Maximum entropy reinforcement learning from replay: twin values, a squashed policy, a learned temperature."""

    num_steps: int = 16
    """Steps each copy takes between updates."""
    num_updates: int = 64
    """Gradient steps in an update; one for every environment step with 4 copies of 16 steps."""
    batch_size: int = 256
    """Transitions in a gradient step."""
    replay_size: int = 200_000
    """The newest transitions that are kept; all of them are saved with every checkpoint."""
    learning_starts: int = 5_000
    """Environment steps before the first gradient step, taken by the nearly uniform first policy."""
    learning_rate: Hyper = 3e-4
    """Adam's step size, for policy, values and temperature."""
    gamma: Hyper = 0.99
    """Discount."""
    policy_averaging: Hyper = 0.99
    """Decay per update of the average of policies that is evaluated and kept; 0 keeps the newest."""
    target_rate: Hyper = 0.005
    """Share of the values that moves into their target copies at a gradient step."""
    initial_temperature: float = 1.0
    """α at first."""
    box_entropy: Hyper = -1.0
    """Entropy aimed at for each real action, in nats, where it spans [-1, 1]."""
    discrete_entropy: Hyper = 0.98
    """Entropy aimed at for discrete actions, as a share of the uniform policy's."""
    hidden_sizes: tuple[int, ...] = (256, 256)
    """Widths of the hidden layers of policy and values."""
    activation: Activation = "relu"
    """Non-linearity of both."""
    encoder: Encoder = "nature"
    """What reads pictures, before the hidden layers: nature (Mnih et al. 2015) or residual (Espeholt et al. 2018)."""
    standardize_observations: bool = False
    """Networks see observations in units of the mean and spread of all those seen, as those of TRPO and PPO do: for
    observations of which some are a thousand times as large as others."""
    linear_mean: bool = False
    """The policy's network gives the mean action itself, not what is squashed into it, as one cloned by bc does."""
    critic_steps: int = 0
    """Environment steps after learning_starts in which only the values learn: for a policy that begins well."""

    def steps_per_update(self, num_envs: int) -> int:
        """Environment steps in one update; refuses a replay that does not hold as many."""
        return rollout_size(num_envs, num_steps=self.num_steps, replay_size=self.replay_size)

    @property
    def _optimizer(self) -> optax.GradientTransformation:
        return optax.adam(self.learning_rate)

    def init(self, spec: Spec, *, key: PRNGKeyArray) -> SACState:
        """A nearly uniform policy, values of their own, and an empty replay."""
        policy_key, q_key = jax.random.split(key)
        out_size = spec.actions.num_actions if isinstance(spec.actions, DiscreteActions) else 2 * spec.actions.size
        network = make_network(
            spec,
            out_size,
            self.hidden_sizes,
            activation=self.activation,
            out_scale=0.01,
            encoder=self.encoder,
            key=policy_key,
        )
        norm = make_norm(spec) if self.standardize_observations else None
        if isinstance(spec.actions, DiscreteActions):
            policy = LogitPolicy(network, norm)
        else:
            box = spec.actions
            policy = SquashedPolicy(
                network, jnp.asarray(box.center), jnp.asarray(box.half_width), norm, linear_mean=self.linear_mean
            )
        q = TwinQ(spec, self.hidden_sizes, activation=self.activation, encoder=self.encoder, norm=norm, key=q_key)
        log_temperature = jnp.log(jnp.asarray(self.initial_temperature, jnp.float32))
        weights: Any = (network, q.networks, log_temperature)
        opt_state = tuple(self._optimizer.init(part) for part in weights)
        replay = Replay(spec, self.replay_size)
        zero = jnp.zeros((), jnp.int32)
        return SACState(policy, policy, q, q, log_temperature, opt_state, replay, zero, zero)

    def policy(self, state: SACState) -> AbstractPolicy:
        """The newest policy."""
        return state.policy

    def final_policy(self, state: SACState) -> AbstractPolicy:
        """The average of the latest policies."""
        # Departs from Haarnoja et al. 2018: the newest policy swings, and the average does so less.
        return state.average

    def update(
        self,
        state: SACState,
        batch: Transition,
        reward: Float[Array, "time env"],
        *,
        key: PRNGKeyArray,
        penalty: Penalty | None = None,
    ) -> tuple[SACState, Metrics]:
        """The rollout into the replay with this reward, then ``num_updates`` gradient steps."""
        state = self.store(state, eqx.tree_at(lambda t: t.reward, batch, reward))
        return self.learn(state, lambda step: step.reward, key=key, penalty=penalty)

    def store(self, state: SACState, batch: Transition) -> SACState:
        """A rollout ``[time, env]`` into the replay, and into the statistics of observations."""
        rows = flatten_time(batch)
        seen = state.num_seen + rows.reward.shape[0]
        state = eqx.tree_at(lambda s: (s.replay, s.num_seen), state, (state.replay.add(rows), seen))
        return with_observations(state, rows.obs)

    def replay(self, state: SACState) -> Replay:
        """What it learns from."""
        return state.replay

    def host_replay(self, spec: Spec, num_envs: int) -> None:
        """None: its state holds the replay."""

    def updates_learned(self, state: SACState) -> Int[Array, ""]:
        """Counted with every one."""
        return state.num_learned

    def entropy_reward(self, state: SACState) -> Float[Array, ""]:
        """α times the entropy aimed at."""
        return jnp.exp(state.log_temperature) * self._target_entropy(state.policy)

    def most_entropy_reward(self, state: SACState) -> None:
        """None: the temperature may rise."""

    def learn(
        self,
        state: SACState,
        reward_of: Callable[[Transition], Float[Array, ""]],
        *,
        key: PRNGKeyArray,
        demos: Transition | None = None,
        num_rows: Int[Array, ""] | None = None,
        target_range: tuple[Hyper, Hyper] | None = None,
        penalty: Penalty | None = None,
    ) -> tuple[SACState, Metrics]:
        """``num_updates`` gradient steps on what is in the replay, none before ``learning_starts``.

        ``reward_of`` is applied to every transition when it is drawn, so that a reward that changes is never stale.
        With flat ``demos``, half of each batch is drawn from the first ``num_rows`` of them, or all, and stands first.
        Targets are clipped to ``target_range`` where there is one, and ``penalty`` is added to the policy's loss.
        """
        replay = state.replay
        moves = state.num_seen >= self.learning_starts + self.critic_steps

        def draw(sample_key):
            if demos is None:
                return replay.sample(sample_key, self.batch_size)
            demos_key, replay_key = jax.random.split(sample_key)
            num_demos = self.batch_size // 2
            halves = (
                sample_rows(demos, demos_key, num_demos, demos.reward.shape[0] if num_rows is None else num_rows),
                replay.sample(replay_key, self.batch_size - num_demos),
            )
            return jax.tree.map(lambda *parts: jnp.concatenate(parts), *halves)

        def one_step(learned, step_key):
            sample_key, noise_key = jax.random.split(step_key)
            rows = draw(sample_key)
            new, metrics = self._gradient_step(
                learned, rows, jax.vmap(reward_of)(rows), target_range, drawn_by(step_key, penalty), noise_key
            )
            return (self._held(moves, learned, new) if self.critic_steps else new), metrics

        def go(learned):
            *learned, average, num_learned = learned
            learned, metrics = jax.lax.scan(one_step, tuple(learned), jax.random.split(key, self.num_updates))
            average = running_average(average, learned[0], num_learned, decay=self.policy_averaging)
            return (*learned, average, num_learned + 1), {name: jnp.mean(values) for name, values in metrics.items()}

        learned = (state.policy, state.q, state.target_q, state.log_temperature, state.opt_state)
        learned = (*learned, state.average, state.num_learned)
        nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(go, learned)[1])
        ready = state.num_seen >= self.learning_starts
        learned, metrics = jax.lax.cond(ready, go, lambda learned: (learned, nothing), learned)
        metrics["replay/size"] = replay.size.astype(jnp.float32)
        policy, q, target_q, log_temperature, opt_state, average, num_learned = learned
        standing = (opt_state, replay, state.num_seen, num_learned)
        return SACState(policy, average, q, target_q, log_temperature, *standing), metrics

    def _held(self, moves: Bool[Array, ""], old: Any, new: Any) -> Any:
        """A gradient step that leaves policy and temperature as they were, unless it ``moves`` them."""
        policy, q, target_q, log_temperature, (policy_opt, q_opt, temperature_opt) = new
        policy, log_temperature, policy_opt, temperature_opt = moved(
            moves, (old[0], old[3], old[4][0], old[4][2]), (policy, log_temperature, policy_opt, temperature_opt)
        )
        return policy, q, target_q, log_temperature, (policy_opt, q_opt, temperature_opt)

    def _gradient_step(
        self,
        learned: Any,
        rows: Transition,
        reward: Float[Array, " batch"],
        target_range: tuple[Hyper, Hyper] | None,
        penalty: DrawnPenalty | None,
        key: PRNGKeyArray,
    ):
        """Values, then policy, then temperature, then target copies."""
        policy, q, target_q, log_temperature, (policy_opt, q_opt, temperature_opt) = learned
        temperature = jnp.exp(log_temperature)
        keys = jax.random.split(key, (2, self.batch_size))

        next_value = jax.vmap(lambda o, k: self._value(policy, target_q, o, k, temperature)[0])(rows.next_obs, keys[0])
        target = jax.vmap(lambda *row: soft_target(*row, gamma=self.gamma))(reward, next_value, rows.terminated)
        if target_range is not None:
            target = jnp.clip(target, *target_range)

        def q_loss(networks):
            both = jax.vmap(eqx.tree_at(lambda m: m.networks, q, networks))(rows.obs, rows.action)
            return 0.5 * jnp.mean(jnp.sum(jnp.square(both - target[:, None]), axis=1)), jnp.mean(both)

        (q_error, q_mean), gradient = jax.value_and_grad(q_loss, has_aux=True)(q.networks)
        step, q_opt = self._optimizer.update(gradient, q_opt)
        q = eqx.tree_at(lambda m: m.networks, q, optax.apply_updates(q.networks, step))

        def policy_loss(network):
            newer = eqx.tree_at(lambda p: p.network, policy, network)
            value, entropy = jax.vmap(lambda o, k: self._value(newer, q, o, k, temperature))(rows.obs, keys[1])
            loss = -jnp.mean(value) if penalty is None else penalty(newer) - jnp.mean(value)
            return loss, jnp.mean(entropy)

        (policy_error, entropy), gradient = jax.value_and_grad(policy_loss, has_aux=True)(policy.network)
        step, policy_opt = self._optimizer.update(gradient, policy_opt)
        policy = eqx.tree_at(lambda p: p.network, policy, optax.apply_updates(policy.network, step))

        target_entropy = self._target_entropy(policy)
        slope = jax.grad(lambda x: temperature_loss(x, entropy, target_entropy=target_entropy))(log_temperature)
        step, temperature_opt = self._optimizer.update(slope, temperature_opt)
        log_temperature = log_temperature + step
        target_q = jax.tree.map(lambda old, new: old + self.target_rate * (new - old), target_q, q)
        metrics = {
            "loss/policy": policy_error,
            "value/loss": q_error,
            "value/mean": q_mean,
            "policy/entropy": entropy,
            "policy/temperature": temperature,
        }
        return (policy, q, target_q, log_temperature, (policy_opt, q_opt, temperature_opt)), metrics

    def _value(
        self, policy: Any, q: TwinQ, obs: Observed[Array, " obs"], key: PRNGKeyArray, temperature: Float[Array, ""]
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """The soft value of one observation, and the policy's entropy there: exact, or of one sampled action.

        The entropy of real actions is that where they span [-1, 1], so that their units do not matter.
        """
        distribution = policy.distribution(obs)
        if isinstance(distribution, Categorical):
            log_probs = distribution.log_probs
            value = expected_soft_value(q.of_all(obs), log_probs, temperature=temperature)
            return value, distribution.entropy()
        action, log_prob = distribution.of_noise(jax.random.normal(key, distribution.mean.shape))
        log_prob = log_prob + jnp.sum(jnp.log(distribution.half_width))
        return soft_value(q(obs, action), log_prob, temperature=temperature), -log_prob

    def _target_entropy(self, policy: Any) -> Hyper:
        if isinstance(policy, LogitPolicy):
            return self.discrete_entropy * math.log(policy.network.biases[-1].shape[0])
        return self.box_entropy * policy.half_width.shape[0]
