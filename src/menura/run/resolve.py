"""What is decided before training begins: options left to the data, and data in the form a learner takes."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from menura.core import (
    AbstractForwardLearner,
    AbstractLearner,
    AbstractPolicy,
    DiscreteActions,
    ExpertData,
    RequestError,
    Spec,
)
from menura.demonstrations.episodes import Demonstrations
from menura.demonstrations.labels import are_labels, asking
from menura.demonstrations.stream import LARGE, Stream, num_bytes
from menura.environments.base import Envs, NativeEnvs
from menura.evaluation import UniformPolicy, evaluate
from menura.forward.dqn import DQN
from menura.forward.off_policy import AbstractReplayLearner
from menura.forward.sac import SAC
from menura.forward.warm_start import taken_over
from menura.imitation.adversarial import GAIL
from menura.imitation.airl import AIRL
from menura.imitation.bc import BC
from menura.imitation.dagger import DAgger
from menura.regularizers import FAIRLLink, JensenShannon


def resolve_reward_form(learner: AbstractLearner, env: Envs | None, demos: Demonstrations | None) -> AbstractLearner:
    """A learner whose ``reward_form="auto"`` is replaced by what environment and demonstrations say.

    **The rule.** A reward that is never negative pays for living on, and one that is never positive for
    ending. Where the expert's episodes are shorter than the uniform policy's, ending is what it is good at,
    and the form is ``negative``; elsewhere, and where none of its episodes ends by termination, ``positive``. FAIRL's
    reward pays for living on by itself wherever the learner is told from the expert, and is then left as it is: what it
    would take to make the lowest 0 is many times the highest.
    Where endings lead to an absorbing state (learners from a replay), it carries what they are worth, and rewards of
    either sign are right: the logit of DAC for Jensen–Shannon, the regularizer's own for the others. (FAIRL's, which
    falls as the score rises above −1, pays for endings that only the learner has.)
    """
    if not isinstance(learner, GAIL | AIRL) or learner.reward_form != "auto" or demos is None or env is None:
        return learner
    if isinstance(learner, GAIL) and isinstance(learner.forward, AbstractReplayLearner):
        form = "logit" if isinstance(learner.regularizer, JensenShannon) else "centered"
        return dataclasses.replace(learner, reward_form=form)
    # Departs from Ho & Ermon 2016: the form follows from the data instead of being set by hand for each task,
    # because it decides some tasks by itself.
    pays_for_living = "positive"
    if isinstance(learner, GAIL) and isinstance(learner.regularizer, FAIRLLink):
        pays_for_living = "centered"
    form = pays_for_living
    if any(episode.terminated for episode in demos.episodes):
        uniform = evaluate(env, UniformPolicy(env.spec), num_episodes=32, deterministic=False)
        form = "negative" if np.mean(demos.lengths) < np.mean(uniform.lengths) else pays_for_living
    return dataclasses.replace(learner, reward_form=form)


def require_pictures(learner: Any, spec: Spec) -> None:
    """Refuse settings of how pictures are read where there are none."""
    if spec.parts:
        return
    inner = [(f"{name}.", getattr(learner, name, None)) for name in ("forward", "bc")]
    for prefix, of in [("", learner), *inner]:
        for name, usual in (("encoder", "nature"), ("common_pixels", True), ("random_shift", 0)):
            if getattr(of, name, usual) != usual:
                raise RequestError(
                    f"{prefix}{name}={getattr(of, name)} is about pictures, and none are observed: leave it out."
                )


def refuse_settings_of_other_actions(learner: Any, spec: Spec) -> None:
    """Refuse settings of SAC that are about the other kind of actions."""
    sac, usual = getattr(learner, "forward", learner), SAC()
    prefix = "" if sac is learner else "forward."
    if not isinstance(sac, SAC):
        return
    discrete = isinstance(spec.actions, DiscreteActions)
    kind, names = ("real", ("box_entropy", "linear_mean")) if discrete else ("discrete", ("discrete_entropy",))
    for name in names:
        # Sweeps hand in arrays, of which it is not known what they are.
        value = getattr(sac, name)
        if isinstance(value, float | int) and value != getattr(usual, name):
            raise RequestError(f"{prefix}{name}={value} is about {kind} actions, and there are none: leave it out.")


def resolve_max_labels(learner: AbstractLearner, total_steps: int, num_envs: int) -> AbstractLearner:
    """DAgger with room for the labels of the whole run, whose last round may go past ``total_steps``."""
    if not isinstance(learner, DAgger):
        return learner
    size = learner.steps_per_update(num_envs)
    needed = -(-total_steps // size) * size
    if 0 < learner.max_labels < needed:
        raise RequestError(f"max_labels={learner.max_labels} must hold the run's {needed} labels: leave it out.")
    return dataclasses.replace(learner, max_labels=learner.max_labels or needed)


def resolve_replay_storage(learner: AbstractLearner, env: Envs | None) -> AbstractLearner:
    """A learner whose ``replay_storage="auto"`` is replaced by where its replay is kept.

    **The rule.** Pictures from a simulator on the host are kept in the host's memory, each once. All else is kept whole
    with the networks: vectors are small, and an environment written in JAX makes a whole iteration one program, which
    a replay outside of it would break.
    """
    if not isinstance(learner, AbstractForwardLearner):
        forward = getattr(learner, "forward", None)
        if not isinstance(forward, DQN):
            return learner
        stored = resolve_replay_storage(forward, env)
        if isinstance(learner, GAIL) and learner.score_replay_size and stored.replay_storage == "host":  # pyright: ignore
            raise RequestError("A replay on the host cannot draw its newest steps: leave out --score-replay-size.")
        if isinstance(learner, GAIL) and stored.priority_exponent and stored.replay_storage == "host":  # pyright: ignore
            raise RequestError(
                "A replay on the host draws for the score what it drew for the values, and the score needs an even "
                "draw: leave out --forward.priority-exponent."
            )
        return dataclasses.replace(learner, forward=stored)  # pyright: ignore
    if not isinstance(learner, DQN) or env is None:
        return learner
    acts_on_host = not isinstance(env, NativeEnvs)
    if learner.replay_storage == "host" and not acts_on_host:
        raise RequestError(
            f"{env.id} is written in JAX, and its replay is kept with the networks: leave out replay_storage."
        )
    if learner.replay_storage != "auto":
        return learner
    return dataclasses.replace(learner, replay_storage="host" if acts_on_host and env.spec.parts else "device")


def how_to_ask(learner: AbstractLearner, env: Envs | None, expert: Any) -> Callable[..., Any] | None:
    """How rollouts are made where an expert is asked; ``None`` where none is."""
    if not isinstance(learner, DAgger):
        return None
    if expert is None or env is None:
        raise RequestError("DAgger asks an expert: give it one with --expert RUN or --expert module:object.")
    return asking(env, expert)


def expert_data_of(
    learner: AbstractLearner, demos: Demonstrations | None, spec: Spec, seed: int
) -> ExpertData | Stream | None:
    """Demonstrations for a learner from them, or one sentence that says why they cannot be used.

    As arrays; pictures that take too much memory as a stream from the disk.
    """
    if isinstance(learner, AbstractForwardLearner | DAgger):
        return None
    if demos is None:
        raise RequestError(f"{type(learner).__name__} learns from demonstrations: give it some with --demos PATH.")
    if are_labels(demos) and not isinstance(learner, BC):
        raise RequestError(
            f"{demos.source} holds an expert's answers in states that it did not lead to: only bc can learn from them."
        )
    if spec.parts and num_bytes(demos, spec) > LARGE:
        return Stream.of(demos, spec, learner.heldout_fraction, seed, with_actions=sees_actions(learner))
    expert = demos.expert_data(spec, learner.heldout_fraction, seed, with_actions=sees_actions(learner))
    return jax.tree.map(jnp.asarray, expert)


def warm_policy(learner: AbstractLearner, spec: Spec, policy: AbstractPolicy) -> AbstractPolicy:
    """A policy as one that the learner can begin with, or one sentence that says why it cannot be."""
    forward, options = (learner, "--") if isinstance(learner, AbstractForwardLearner) else (None, "--forward.")
    forward = forward or getattr(learner, "forward", None)
    if forward is None:
        raise RequestError(f"{type(learner).__name__} acts on nothing while it learns: leave out the warm start.")
    return taken_over(forward, spec, policy, options=options)


def sees_actions(learner: AbstractLearner) -> bool:
    """Whether an imitation learner looks at the demonstrations' actions."""
    return not getattr(learner, "observations_only", False)
