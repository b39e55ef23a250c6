"""One iteration of training, ``collect`` and ``update``, for every learner and every kind of environment.

Where no simulator and no expert on the host has a part in it, both are one jitted call.
"""

import dataclasses
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import numpy as np

from menura.core import AbstractForwardLearner, AbstractLearner, ExpertData, Metrics, Transition
from menura.demonstrations.stream import Stream
from menura.environments.base import Envs, NativeEnvs
from menura.environments.collect import QUICK_COMPILATION, collect
from menura.frame_replay import FrameReplay
from menura.imitation.dagger import DAgger
from menura.imitation.holder import AbstractHolder
from menura.imitation.reward import LearnedReward, update_on
from menura.replay import Drawn
from menura.run.memory import replay_learner_of


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
    source: FrameReplay | None = None
    """The replay on the host; ``None`` where the state holds what is learned from."""

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
    if problem.source is not None:
        return overlapped_iteration(problem, problem.source)
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
            end_open_episodes(rollout)
        state, metrics = jitted_update(state, rollout, handed(expert, update_key), update_key)
        return state, carry, (rollout.reward, rollout.terminated, rollout.truncated), metrics

    return iterate_host


def end_open_episodes(rollout: Transition) -> None:
    """Truncate what simulators that are begun afresh after this rollout leave open."""
    rollout.truncated[-1] |= ~rollout.terminated[-1]


def overlapped_iteration(problem: Problem, source: FrameReplay) -> Callable[..., Any]:
    """One iteration from a replay on the host: acting and learning go on side by side.

    Both begin with the state and the replay that the iteration before left, and the new rollout joins the replay when
    both are done; so the numbers do not depend on which was faster. An imitation learner's replay holds the
    environment's reward only where it was asked to heed it.
    """
    learner, expert = problem.learner, problem.expert
    assert problem.env is not None
    assert not isinstance(problem.env, NativeEnvs)
    env = problem.env
    is_blind = not isinstance(learner, AbstractForwardLearner) and getattr(learner, "task_coef", 0.0) == 0.0
    update = jax.jit(update_from_source(learner), compiler_options=QUICK_COMPILATION)
    policy_of = jax.jit(learner.policy)
    worker = ThreadPoolExecutor(1)

    def learn(state: Any, draw_key: Any, update_key: Any) -> tuple[Any, Metrics]:
        drawn = source.draw(draw_key)
        given = handed(expert, update_key)
        state, td_error, metrics = update(state, drawn, source.newest(learner.num_steps), given, update_key)
        source.note(drawn, np.asarray(td_error))
        return state, metrics

    def iterate(state, carry, key, truncate):
        collect_key, draw_key, update_key = jax.random.split(key, 3)
        policy = policy_of(state)
        learning = worker.submit(learn, state, draw_key, update_key) if source.size else None
        carry, rollout = collect(env, carry, policy, key=collect_key, num_steps=learner.num_steps)
        if truncate:
            end_open_episodes(rollout)
        outcome = (rollout.reward, rollout.terminated, rollout.truncated)
        if is_blind:
            rollout = dataclasses.replace(rollout, reward=np.zeros_like(rollout.reward))
        if learning is None:
            # The first rollout: there was nothing to learn from beside it.
            source.add(rollout)
            given = handed(expert, update_key)
            shapes = jax.eval_shape(update, state, source.draw(draw_key), rollout, given, update_key)[2]
            metrics = {name: np.zeros(shape.shape, shape.dtype) for name, shape in shapes.items()}
        else:
            state, metrics = learning.result()
            source.add(rollout)
        return state, carry, outcome, metrics

    return iterate


def update_from_source(learner: AbstractLearner) -> Callable[..., Any]:
    """(state, drawn, rollout, expert, key) -> (state, errors of what was drawn, metrics). Pure."""
    update, inner = pure_update(learner), replay_learner_of(learner)
    assert inner is not None

    def state_of_inner(state: Any) -> Any:
        return learner.state_of_forward(state) if isinstance(learner, AbstractHolder) else state

    def with_replay(state: Any, replay: Drawn | None) -> Any:
        return eqx.tree_at(lambda s: state_of_inner(s).replay, state, replay, is_leaf=lambda x: x is None)

    def update_on_drawn(state, drawn, rollout, expert, key):
        state, metrics = update(with_replay(state, drawn), rollout, expert, key)
        learned_from = inner.replay(state_of_inner(state))
        assert isinstance(learned_from, Drawn)
        return with_replay(state, None), learned_from.td_error, metrics

    return update_on_drawn
