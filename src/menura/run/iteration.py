"""One iteration of training, ``collect`` and ``update``, for every learner and every kind of environment.

Where no simulator and no expert on the host has a part in it, both are one jitted call.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

from menura.core import AbstractForwardLearner, AbstractLearner, ExpertData, Metrics, Transition
from menura.demonstrations.stream import Stream
from menura.environments.base import Envs, NativeEnvs
from menura.environments.collect import QUICK_COMPILATION, collect
from menura.imitation.dagger import DAgger
from menura.imitation.reward import LearnedReward, update_on


@dataclass(frozen=True)
class Problem:
    """What all iterations of a run share."""

    learner: AbstractLearner
    env: Envs | None
    """``None`` where the learner does not act."""
    expert: Any
    """What is learned from beside the environment: :class:`ExpertData`, a :class:`LearnedReward`, a
    :class:`~menura.demonstrations.stream.Stream` of demonstrations on disk, or ``None``."""
    ask: Callable[..., Any] | None = None
    """How rollouts are made where an expert is asked."""

    @property
    def is_pure(self) -> bool:
        """Whether an iteration is one jitted call: no simulator and no expert on the host has a part in it.

        What it learns from may be drawn on the host before.
        """
        return self.ask is None and (self.env is None or isinstance(self.env, NativeEnvs))

    @property
    def compiler_options(self) -> Any:
        """For the program of an iteration: that of networks alone gains nothing from more optimisation."""
        return QUICK_COMPILATION if self.env is None else None


@dataclass(frozen=True)
class Asked:
    """An iteration that a loop of training wants made."""

    problem: Problem
    state: Any
    carry: Any
    key: Any
    truncate: bool
    """Whether host simulators begin afresh after it."""


@dataclass(frozen=True)
class Made:
    """What an iteration gave."""

    state: Any
    carry: Any
    outcome: Any
    """Rewards, terminations and truncations ``[time, env]``; ``None`` where the learner does not act."""
    metrics: dict[str, Any]
    seconds: float


def handed(expert: Any, key: Any) -> Any:
    """What the update with this key learns from, beside the environment."""
    return expert.at(key) if isinstance(expert, Stream) else expert


def strongly_typed(state: Any) -> Any:
    """The state without JAX's weak types, which would make the second iteration compile again."""
    return jax.tree.map(lambda x: jax.lax.convert_element_type(x, x.dtype), state)


def pure_update(learner: AbstractLearner) -> Callable[..., tuple[Any, Metrics]]:
    """(state, rollout, expert, key) -> (state, metrics), for every kind of learner.

    ``expert`` is what is learned from beside the environment.
    """

    def update(
        state: Any, rollout: Transition | None, expert: ExpertData | LearnedReward | None, key: Any
    ) -> tuple[Any, Metrics]:
        if isinstance(learner, AbstractForwardLearner):
            assert rollout is not None
            if isinstance(expert, LearnedReward):
                new, metrics = update_on(learner, state, rollout, expert, key=key)
            else:
                new, metrics = learner.update(state, rollout, rollout.reward, key=key)
        elif isinstance(learner, DAgger):
            assert rollout is not None
            new, metrics = learner.update(state, rollout, None, key=key)
        else:
            assert isinstance(expert, ExpertData)
            new, metrics = learner.update(state, rollout, expert, key=key)
        return strongly_typed(new), metrics

    return update


def pure_iteration(learner: AbstractLearner, env: NativeEnvs | None) -> Callable[..., Any]:
    """(state, carry, key, expert) -> (state, carry, (reward, terminated, truncated), metrics), where no host acts."""
    update = pure_update(learner)

    def iterate(state, carry, key, expert):
        collect_key, update_key = jax.random.split(key)
        if env is None:
            state, metrics = update(state, None, expert, update_key)
            return state, None, None, metrics
        carry, rollout = collect(env, carry, learner.policy(state), key=collect_key, num_steps=learner.num_steps)
        state, metrics = update(state, rollout, expert, update_key)
        return state, carry, (rollout.reward, rollout.terminated, rollout.truncated), metrics

    return iterate


def make_iterate(problem: Problem) -> Callable[..., Any]:
    """One iteration: (state, carry, key, truncate) -> (state, carry, (reward, terminated, truncated), metrics)."""
    learner, env, expert, ask = problem.learner, problem.env, problem.expert, problem.ask
    if problem.is_pure:
        assert env is None or isinstance(env, NativeEnvs)
        iterate = jax.jit(pure_iteration(learner, env), compiler_options=problem.compiler_options)
        return lambda state, carry, key, truncate: iterate(state, carry, key, handed(expert, key))
    update = pure_update(learner)
    jitted_update = jax.jit(update, compiler_options=QUICK_COMPILATION)
    policy_of = jax.jit(learner.policy)

    def iterate_host(state, carry, key, truncate):
        collect_key, update_key = jax.random.split(key)
        assert env is not None
        if ask is not None and isinstance(learner, DAgger):
            share = float(learner.expert_share(state))
            carry, rollout = ask(carry, policy_of(state), share=share, key=collect_key, num_steps=learner.num_steps)
        else:
            carry, rollout = collect(env, carry, policy_of(state), key=collect_key, num_steps=learner.num_steps)
        if truncate and not isinstance(env, NativeEnvs):
            # The simulators are begun afresh after this rollout: their open episodes end here.
            rollout.truncated[-1] |= ~rollout.terminated[-1]
        state, metrics = jitted_update(state, rollout, handed(expert, update_key), update_key)
        return state, carry, (rollout.reward, rollout.terminated, rollout.truncated), metrics

    return iterate_host
