"""Deep Q-learning (Mnih et al. 2015), with what was found to help it since as switches, and its soft form."""

import math
from collections.abc import Callable
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from menura.core import (
    AbstractPolicy,
    DrawnPenalty,
    Hyper,
    Metrics,
    Penalty,
    RequestError,
    Spec,
    Transition,
    drawn_by,
    flatten_time,
)
from menura.encoders import Encoder
from menura.forward.off_policy import AbstractReplayLearner, rollout_size, running_average
from menura.forward.q_values import ActionValues, QPolicy, exploration
from menura.frame_replay import FrameReplay
from menura.networks import Activation, Categorical, adam
from menura.priorities import Priorities, importance_weights, priority, probabilities
from menura.replay import Batch, Drawn, Replay, sample_rows


def chosen_value(q: Float[Array, " actions"], chooser: Float[Array, " actions"]) -> Float[Array, ""]:
    """V = Q(s, argmax over a of the chooser's value): the target's own (Mnih et al. 2015, eq. 2), or that of the values
    that are learned, which does not overrate (van Hasselt et al. 2016, eq. 4)."""
    return q[jnp.argmax(chooser)]


def soft_chosen_value(
    q: Float[Array, " actions"], chooser: Float[Array, " actions"], *, temperature: Hyper
) -> Float[Array, ""]:
    """V = Σ π(a|s) (Q(s, a) − τ log π(a|s)) with π ∝ exp(chooser / τ); where the chooser is Q itself this is
    τ log Σ exp(Q(s, a) / τ) (Haarnoja et al. 2017, eq. 5; Reddy et al. 2020, eq. 3)."""
    log_probs = jax.nn.log_softmax(chooser / temperature)
    return jnp.sum(jnp.exp(log_probs) * (q - temperature * log_probs))


def q_target(
    rewards: Float[Array, " returned"],
    counted: Bool[Array, " returned"],
    next_value: Float[Array, ""],
    terminated: Bool[Array, ""],
    *,
    gamma: Hyper,
) -> Float[Array, ""]:
    """What Q is drawn to: Σ_k γᵏ r_k + γⁿ V(s_n) over the n steps that count (Sutton 1988; Hessel et al. 2018, eq. 1).

    Where they ended in a termination nothing follows; a truncated episode goes on being worth its successor.
    """
    powers = gamma ** jnp.arange(rewards.shape[0])
    total = jnp.sum(jnp.where(counted, powers * rewards, 0.0))
    return total + gamma ** jnp.sum(counted) * jnp.where(terminated, 0.0, next_value)


def huber(error: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """½ e² up to 1 and |e| − ½ beyond (Huber 1964): its slope is the error clipped to [-1, 1] (Mnih et al. 2015)."""
    size = jnp.abs(error)
    return jnp.where(size <= 1, 0.5 * jnp.square(error), size - 0.5)


class DQNState(eqx.Module):
    """What DQN learns, and what it learns from."""

    values: ActionValues
    target_values: ActionValues
    average: ActionValues
    opt_state: Any
    replay: Replay | Drawn | None
    """``None`` between updates where the replay is kept on the host."""
    priorities: Priorities | None
    """``None`` where all transitions are drawn alike, or where the source on the host keeps them."""
    num_seen: Int[Array, ""]
    """Environment steps so far."""
    num_learned: Int[Array, ""]
    """Gradient steps so far."""
    num_envs: Int[Array, ""]
    """Copies of the environment whose steps lie one after another in the replay."""
    entropy: Float[Array, ""]
    """Of the softmax of values in what was drawn last, in nats; 0 without a temperature."""


class DQN(AbstractReplayLearner):
    """Deep Q-learning of discrete actions: values from replay, drawn to those of a copy that lags behind."""

    num_steps: int = 16
    """Steps each copy takes between updates."""
    num_updates: int = 16
    """Gradient steps in an update."""
    batch_size: int = 64
    """Transitions in a gradient step."""
    replay_size: int = 100_000
    """The newest transitions that are kept."""
    replay_storage: Literal["auto", "device", "host"] = "auto"
    """Where they are kept. device: with the networks, each whole; host: in the machine's memory, each picture once.
    auto takes host for pictures from a simulator, and device for the rest."""
    learning_starts: int = 1_000
    """Environment steps before the first gradient step."""
    learning_rate: Hyper = 1e-3
    """Adam's step size."""
    max_grad_norm: Hyper = 10.0
    """Gradients of a larger global norm are scaled down to it."""
    gamma: Hyper = 0.99
    """Discount."""
    target_every: int = 250
    """Gradient steps between copies of the values into their target."""
    initial_exploration: Hyper = 1.0
    """ε at first: the share of actions that are taken evenly at random."""
    final_exploration: Hyper = 0.05
    """ε in the end."""
    exploration_steps: int = 10_000
    """Environment steps over which ε falls from one to the other, in a line."""
    policy_averaging: Hyper = 0.99
    """Decay per update of the average of values whose policy is evaluated and kept; 0 keeps the newest."""
    obs_scale: tuple[float, ...] | None = None
    """Factors of the observed numbers, where their sizes are so far apart that a network sees only some of them."""
    double: bool = True
    """The values that are learned choose the action that the target rates (van Hasselt et al. 2016)."""
    dueling: bool = False
    """Values of states and advantages of actions are streams of their own (Wang et al. 2016)."""
    return_steps: int = 1
    """Rewards that are added up before values stand for the rest: n of n-step returns. Only with the environment's."""
    priority_exponent: float = 0.0
    """α of prioritised replay (Schaul et al. 2016; 0.6 there); 0 draws all transitions alike."""
    importance_exponent: Hyper = 0.4
    """β at first, of the weights that make up for it."""
    importance_steps: int = 100_000
    """Environment steps over which β rises to 1."""
    temperature: float = 0.0
    """τ of soft Q-learning, in units of reward: the policy is the softmax of values / τ. 0 takes the largest value."""
    hidden_sizes: tuple[int, ...] = (256, 256)
    """Widths of the hidden layers."""
    activation: Activation = "relu"
    """Their non-linearity."""
    encoder: Encoder = "nature"
    """What reads pictures, before the hidden layers: nature (Mnih et al. 2015) or residual (Espeholt et al. 2018)."""

    def __check_init__(self):
        if self.return_steps < 1:
            raise RequestError(f"return_steps={self.return_steps} must be at least 1.")
        if self.target_every < 1:
            raise RequestError(f"target_every={self.target_every} must be at least 1.")

    def steps_per_update(self, num_envs: int) -> int:
        """Environment steps in one update; refuses a replay that does not hold as many."""
        return rollout_size(num_envs, num_steps=self.num_steps, replay_size=self.replay_size)

    @property
    def _optimizer(self) -> optax.GradientTransformation:
        return optax.chain(optax.clip_by_global_norm(self.max_grad_norm), adam(self.learning_rate))

    def init(self, spec: Spec, *, key: PRNGKeyArray) -> DQNState:
        """Values near 0, and an empty replay."""
        values = ActionValues(
            spec,
            self.hidden_sizes,
            activation=self.activation,
            is_dueling=self.dueling,
            obs_scale=self.obs_scale,
            encoder=self.encoder,
            key=key,
        )
        weights: Any = values
        on_host = self.replay_storage == "host"
        replay = None if on_host else Replay(spec, self.replay_size)
        priorities = None if on_host or self.priority_exponent == 0 else Priorities(self.replay_size)
        zero = jnp.zeros((), jnp.int32)
        opt_state = self._optimizer.init(weights)
        return DQNState(values, values, values, opt_state, replay, priorities, zero, zero, zero + 1, jnp.zeros(()))

    def policy(self, state: DQNState) -> QPolicy:
        """The newest values, with the exploration of this moment."""
        epsilon = exploration(
            state.num_seen,
            initial=self.initial_exploration,
            final=self.final_exploration,
            num_steps=self.exploration_steps,
        )
        return self._policy_of(state.values, epsilon)

    def final_policy(self, state: DQNState) -> AbstractPolicy:
        """That of the average of the latest values, without exploration."""
        # Departs from Mnih et al. 2015: the newest values swing, and their average does so less.
        return self._policy_of(state.average, jnp.zeros(()))

    def _policy_of(self, values: ActionValues, epsilon: Float[Array, ""]) -> QPolicy:
        """Acts by these values, at this learner's temperature."""
        return QPolicy(values, epsilon, jnp.asarray(self.temperature, jnp.float32))

    def update(
        self,
        state: DQNState,
        batch: Transition,
        reward: Float[Array, "time env"],
        *,
        key: PRNGKeyArray,
        penalty: Penalty | None = None,
    ) -> tuple[DQNState, Metrics]:
        """The rollout into the replay with this reward, then ``num_updates`` gradient steps."""
        state = self.store(state, eqx.tree_at(lambda t: t.reward, batch, reward))
        return self._learn(state, None, key=key, penalty=penalty)

    def require_likelihood(self) -> None:
        """Refuse to be cloned into where the largest value is taken."""
        if self.temperature == 0:
            raise RequestError(
                "dqn acts on its largest value, which has no likelihood to clone by: give it a temperature, or set "
                "bc_updates (of gail) or bc_coef (of sqil and lsiq) to 0."
            )

    def store(self, state: DQNState, batch: Transition) -> DQNState:
        """A rollout ``[time, env]`` into the replay; one on the host has it already."""
        num_envs = jnp.asarray(batch.reward.shape[1], jnp.int32)
        replay, priorities = state.replay, state.priorities
        if isinstance(replay, Replay):
            rows = flatten_time(batch)
            if priorities is not None:
                priorities = priorities.added(replay.places(rows.reward.shape[0]))
            replay = replay.add(rows)
        seen = state.num_seen + batch.reward.size
        return eqx.tree_at(
            lambda s: (s.replay, s.priorities, s.num_seen, s.num_envs),
            state,
            (replay, priorities, seen, num_envs),
            is_leaf=lambda x: x is None,
        )

    def replay(self, state: DQNState) -> Replay | Drawn:
        """What it learns from."""
        assert state.replay is not None
        return state.replay

    def host_replay(self, spec: Spec, num_envs: int) -> FrameReplay | None:
        """A replay that keeps every picture once, where ``replay_storage`` says host."""
        if self.replay_storage != "host":
            return None
        return FrameReplay(
            spec,
            self.replay_size,
            num_envs,
            num_updates=self.num_updates,
            batch_size=self.batch_size,
            num_returned=self.return_steps,
            priority_exponent=self.priority_exponent,
        )

    def updates_learned(self, state: DQNState) -> Int[Array, ""]:
        """From the gradient steps."""
        return state.num_learned // self.num_updates

    def entropy_reward(self, state: DQNState) -> Float[Array, ""]:
        """τ times the policy's entropy where it acted last: soft Q-learning aims at none of its own."""
        return self.temperature * state.entropy

    def most_entropy_reward(self, state: DQNState) -> Hyper:
        """τ times the entropy of the uniform policy."""
        return self.temperature * math.log(state.values.num_actions)

    def learn(
        self,
        state: DQNState,
        reward_of: Callable[[Transition], Float[Array, ""]],
        *,
        key: PRNGKeyArray,
        demos: Transition | None = None,
        num_rows: Int[Array, ""] | None = None,
        target_range: tuple[Hyper, Hyper] | None = None,
        penalty: Penalty | None = None,
    ) -> tuple[DQNState, Metrics]:
        """``num_updates`` gradient steps on what is in the replay, none before ``learning_starts``."""
        if self.return_steps > 1:
            raise RequestError(
                "n-step returns add up the rewards of the environment, and this reward may change after a step was "
                "taken: set return_steps to 1."
            )
        return self._learn(
            state, reward_of, key=key, demos=demos, num_rows=num_rows, target_range=target_range, penalty=penalty
        )

    def _learn(
        self,
        state: DQNState,
        reward_of: Callable[[Transition], Float[Array, ""]] | None,
        *,
        key: PRNGKeyArray,
        demos: Transition | None = None,
        num_rows: Int[Array, ""] | None = None,
        target_range: tuple[Hyper, Hyper] | None = None,
        penalty: Penalty | None = None,
    ) -> tuple[DQNState, Metrics]:
        """:meth:`learn`, on the rewards that are stored where there is no ``reward_of``."""
        if penalty is not None:
            self.require_likelihood()
        replay = self.replay(state)
        num_demos = 0 if demos is None else self.batch_size // 2

        def one_step(learned, step):
            step_key, given = step
            demos_key, replay_key = jax.random.split(step_key)
            batch = given if given is not None else self._draw(state, learned[-1], replay_key)
            batch = jax.tree.map(lambda x: x[: self.batch_size - num_demos], batch)
            together = batch
            if demos is not None:
                size = demos.reward.shape[0] if num_rows is None else num_rows
                together = _after(sample_rows(demos, demos_key, num_demos, size), batch)
            drawn = drawn_by(step_key, penalty)
            learned, td_error, metrics = self._gradient_step(state, learned, together, reward_of, target_range, drawn)
            td_error = td_error[num_demos:]
            if learned[-1] is not None:
                powered = priority(td_error, exponent=self.priority_exponent)
                learned = (*learned[:-1], learned[-1].updated(batch.index, powered))
            return learned, (td_error, metrics)

        def go(learned):
            given = replay.batches if isinstance(replay, Drawn) else None
            steps = (jax.random.split(key, self.num_updates), given)
            *learned, average = learned
            num_before = self.updates_learned(state)
            learned, (td_error, metrics) = jax.lax.scan(one_step, tuple(learned), steps)
            average = running_average(average, learned[0], num_before, decay=self.policy_averaging)
            return (*learned, average), td_error, {name: jnp.mean(values) for name, values in metrics.items()}

        learned = (state.values, state.target_values, state.opt_state, state.num_learned, state.priorities)
        learned = (*learned, state.average)
        _, *nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(go, learned))
        ready = state.num_seen >= self.learning_starts
        learned, td_error, metrics = jax.lax.cond(ready, go, lambda learned: (learned, *nothing), learned)
        if isinstance(replay, Drawn):
            replay = eqx.tree_at(lambda r: r.td_error, replay, td_error)
        entropy = metrics["policy/entropy"] if self.temperature > 0 else jnp.zeros(())
        metrics |= {
            "policy/exploration": self.policy(state).epsilon,
            "replay/size": replay.size.astype(jnp.float32),
        }
        values, target_values, opt_state, num_learned, priorities, average = learned
        standing = (replay, priorities, state.num_seen, num_learned, state.num_envs, entropy)
        return DQNState(values, target_values, average, opt_state, *standing), metrics

    def _draw(self, state: DQNState, priorities: Priorities | None, key: PRNGKeyArray) -> Batch:
        """A batch from the ring on the device."""
        replay = state.replay
        assert isinstance(replay, Replay)
        if priorities is None:
            index = jax.random.randint(key, (self.batch_size,), 0, replay.size)
            ratio = jnp.ones(self.batch_size)
        else:
            index = priorities.draw(key, self.batch_size)
            ratio = probabilities(priorities.powered)[index] * replay.size
        return replay.batch(index, ratio, num_returned=self.return_steps, num_envs=state.num_envs)

    def _gradient_step(
        self,
        state: DQNState,
        learned: Any,
        batch: Batch,
        reward_of: Callable[[Transition], Float[Array, ""]] | None,
        target_range: tuple[Hyper, Hyper] | None,
        penalty: DrawnPenalty | None,
    ) -> tuple[Any, Float[Array, " batch"], Metrics]:
        """The values one step on, the errors that were found, and the target's copy where it is due."""
        values, target_values, opt_state, num_learned, priorities = learned
        rows, rewards = batch.rows, batch.rewards
        if reward_of is not None:
            rewards = jax.vmap(reward_of)(rows)[:, None]
        next_values = jax.vmap(target_values)(rows.next_obs)
        choosers = jax.vmap(values)(rows.next_obs) if self.double else next_values
        if self.temperature > 0:
            next_value = jax.vmap(lambda *q: soft_chosen_value(*q, temperature=self.temperature))(next_values, choosers)
        else:
            next_value = jax.vmap(chosen_value)(next_values, choosers)
        target = jax.vmap(lambda *row: q_target(*row, gamma=self.gamma))(
            rewards, batch.counted, next_value, rows.terminated
        )
        if target_range is not None:
            target = jnp.clip(target, *target_range)
        rises = jnp.clip(state.num_seen / jnp.maximum(self.importance_steps, 1), 0.0, 1.0)
        weight = importance_weights(
            batch.ratio, exponent=self.importance_exponent + rises * (1 - self.importance_exponent)
        )

        def loss_of(values):
            q = jax.vmap(values)(rows.obs)
            td_error = target - jnp.take_along_axis(q, rows.action[:, None], axis=1)[:, 0]
            loss = jnp.mean(weight * huber(td_error))
            whole = loss if penalty is None else loss + penalty(self._policy_of(values, jnp.zeros(())))
            return whole, (loss, td_error, q)

        (_, (loss, td_error, q)), gradient = jax.value_and_grad(loss_of, has_aux=True)(values)
        step, opt_state = self._optimizer.update(gradient, opt_state)
        values = optax.apply_updates(values, step)
        num_learned = num_learned + 1
        due = num_learned % self.target_every == 0
        target_values = jax.tree.map(lambda old, new: jnp.where(due, new, old), target_values, values)
        metrics = {"value/loss": loss, "value/mean": jnp.mean(q), "value/target": jnp.mean(target)}
        if self.temperature > 0:
            metrics["policy/entropy"] = jnp.mean(jax.vmap(lambda x: Categorical(x / self.temperature).entropy())(q))
        return (values, target_values, opt_state, num_learned, priorities), td_error, metrics


def _after(demos: Transition, batch: Batch) -> Batch:
    """A batch with demonstrations before it, of one reward each."""
    num_demos = demos.reward.shape[0]
    first = Batch(
        demos,
        demos.reward[:, None],
        jnp.ones((num_demos, 1), bool),
        jnp.zeros(num_demos, batch.index.dtype),
        jnp.ones(num_demos),
    )
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), first, batch)
