"""How well a policy does: whole episodes, each copy of the environment playing its share of them."""

import itertools
import math
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from menura.core import AbstractPolicy, DiscreteActions, Observed, RequestError, Spec, Transition
from menura.environments.base import Envs, NativeEnvs
from menura.environments.collect import collect
from menura.networks import Categorical


@dataclass(frozen=True)
class Evaluation:
    """Undiscounted returns and lengths of whole episodes, both ``(episodes,)``."""

    returns: np.ndarray
    lengths: np.ndarray
    steps: Transition | None = None
    """Flat rows of a random part of their steps, where it was asked for."""

    @property
    def mean(self) -> float:
        """Mean return."""
        return float(np.mean(self.returns))

    @property
    def std(self) -> float:
        """Standard deviation of the returns (the population's, as the field prints it)."""
        return float(np.std(self.returns))

    @property
    def ci95(self) -> float:
        """Half-width of the 95% confidence interval of the mean (Student's t); nan for one episode."""
        # scipy.stats has the same quantile, and takes a second to import.
        from scipy.special import stdtrit

        n = len(self.returns)
        if n < 2:
            return math.nan
        return float(stdtrit(n - 1, 0.975) * np.std(self.returns, ddof=1) / math.sqrt(n))

    def __str__(self) -> str:
        return f"{self.mean:.1f} ± {self.std:.1f} over {len(self.returns)} episodes"


class MeanAction(AbstractPolicy):
    """A policy's deterministic twin: it always takes the mean, or likeliest, action."""

    original: AbstractPolicy

    def distribution(self, obs):
        """The original's distribution."""
        return self.original.distribution(obs)

    def act(self, obs: Observed[Array, " obs"], *, key: PRNGKeyArray) -> tuple[Array, Float[Array, ""]]:
        """The mean action, with certainty."""
        return self.original(obs), jnp.zeros(())


class UniformBox(eqx.Module):
    """The uniform distribution over a box."""

    center: Float[Array, " action"]
    half_width: Float[Array, " action"]

    def sample(self, *, key: PRNGKeyArray) -> Float[Array, " action"]:
        """A random action."""
        return self.center + self.half_width * jax.random.uniform(key, self.center.shape, minval=-1, maxval=1)

    def mode(self) -> Float[Array, " action"]:
        """The middle: no action is likelier than another."""
        return self.center

    def log_prob(self, action: Float[Array, " action"]) -> Float[Array, ""]:
        """Log-density of an action within the box."""
        return -jnp.sum(jnp.log(2 * self.half_width))

    def entropy(self) -> Float[Array, ""]:
        """Differential entropy, in nats."""
        return jnp.sum(jnp.log(2 * self.half_width))


class UniformPolicy(AbstractPolicy):
    """Acts at random, evenly over the action space; over [-1, 1] where it is unbounded."""

    spec: Spec = eqx.field(static=True)

    def distribution(self, obs):
        """The same for every observation."""
        if isinstance(self.spec.actions, DiscreteActions):
            return Categorical(jnp.zeros(self.spec.actions.num_actions))
        return UniformBox(jnp.asarray(self.spec.actions.center), jnp.asarray(self.spec.actions.half_width))


LONGEST_EVALUATION = 10_000_000
"""Steps of each copy after which an environment without a time limit is given up."""


@eqx.filter_jit
def _collect_native(env, carry, policy, key, num_steps):
    return collect(env, carry, policy, key=key, num_steps=num_steps)


class SampledSteps:
    """A random part of all the steps it is given, each as likely as any other; no more are kept at any time."""

    def __init__(self, num_steps: int, *, seed: int):
        self._num_steps = num_steps
        self._rng = np.random.default_rng(seed)
        self._rank = np.zeros(0)
        self._rows: Transition | None = None

    def add(self, rollout: Transition, counts: np.ndarray) -> None:
        """The steps of a rollout ``[time, env]`` that count."""
        # Every step draws a number, and those with the lowest are kept (Vitter's reservoir, in blocks).
        rank = self._rng.random(int(counts.sum()))
        rows = jax.tree.map(lambda x: np.asarray(x)[counts], rollout)
        if self._rows is not None:
            rank = np.concatenate([self._rank, rank])
            rows = jax.tree.map(lambda old, new: np.concatenate([old, new]), self._rows, rows)
        lowest = np.argsort(rank)[: self._num_steps]
        self._rank, self._rows = rank[lowest], jax.tree.map(lambda x: x[lowest], rows)

    @property
    def rows(self) -> Transition | None:
        """Those that are kept, in random order."""
        return self._rows


def evaluate(
    env: Envs,
    policy: AbstractPolicy,
    *,
    num_episodes: int = 50,
    seed: int = 0,
    deterministic: bool = True,
    keep_steps: int = 0,
) -> Evaluation:
    """Play ``num_episodes`` whole episodes from a fresh start and return what they earned.

    The episodes are dealt out to the copies beforehand, so short ones are not counted more often than
    long ones. ``deterministic`` takes the mean action. ``keep_steps`` is how many of the steps, drawn at random, are
    kept beside the returns. The environment is reset.
    """
    if deterministic:
        policy = MeanAction(policy)
    quota = np.full(env.num_envs, num_episodes // env.num_envs)
    quota[: num_episodes % env.num_envs] += 1
    returns: list[list[float]] = [[] for _ in quota]
    lengths: list[list[int]] = [[] for _ in quota]
    running_return, running_length = np.zeros(env.num_envs), np.zeros(env.num_envs, int)
    reset_key, act_key = jax.random.split(jax.random.key(seed))
    native = isinstance(env, NativeEnvs)
    carry = env.reset(key=reset_key) if native else env.reset(seed)
    chunk = 100 if native else 25
    sampled = SampledSteps(keep_steps, seed=seed) if keep_steps else None
    for index in itertools.count():
        key = jax.random.fold_in(act_key, index)
        act = _collect_native if native else collect
        carry, rollout = act(env, carry, policy, key=key, num_steps=chunk)
        rewards, ended = np.asarray(rollout.reward), np.asarray(rollout.terminated) | np.asarray(rollout.truncated)
        if sampled is not None:
            # A step belongs to the episode after those that ended before it.
            episode = np.array([len(r) for r in returns]) + np.cumsum(ended, axis=0) - ended
            sampled.add(rollout, episode < quota)
        for reward_row, ended_row in zip(rewards, ended, strict=True):
            running_return += reward_row
            running_length += 1
            for i in np.flatnonzero(ended_row):
                returns[i].append(float(running_return[i]))
                lengths[i].append(int(running_length[i]))
            running_return[ended_row] = 0
            running_length[ended_row] = 0
        if all(len(r) >= q for r, q in zip(returns, quota, strict=True)):
            break
        if (index + 1) * chunk > LONGEST_EVALUATION:
            raise RequestError(f"{env.id} has not ended after {LONGEST_EVALUATION:,} steps: give it a time limit.")
    return Evaluation(
        np.array([x for r, q in zip(returns, quota, strict=True) for x in r[:q]]),
        np.array([x for r, q in zip(lengths, quota, strict=True) for x in r[:q]]),
        None if sampled is None else sampled.rows,
    )
