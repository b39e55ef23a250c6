"""Small versions of every registered learner, and data for them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from menura.core import AbstractForwardLearner, BoxActions, DiscreteActions, ExpertData, Spec, Transition
from menura.forward.dqn import DQN
from menura.forward.ppo import PPO
from menura.forward.sac import SAC
from menura.forward.trpo import TRPO
from menura.imitation.adversarial import GAIL
from menura.imitation.airl import AIRL
from menura.imitation.bc import BC
from menura.imitation.dagger import DAgger
from menura.imitation.lsiq import LSIQ
from menura.imitation.sqil import SQIL
from menura.run.registry import ALGORITHMS

SMALL_PPO = PPO(num_steps=8, num_epochs=2, num_minibatches=4, hidden_sizes=(8,))
SMALL_TRPO = TRPO(num_steps=8, value_epochs=2, value_minibatches=4, hidden_sizes=(8,))
SMALL_SAC = SAC(num_steps=8, num_updates=3, batch_size=8, replay_size=48, learning_starts=16, hidden_sizes=(8,))
SMALL_DQN = DQN(num_steps=8, num_updates=3, batch_size=8, replay_size=48, learning_starts=16, hidden_sizes=(8,))
SMALL = {
    "ppo": SMALL_PPO,
    "trpo": SMALL_TRPO,
    "sac": SMALL_SAC,
    "dqn": DQN(**{**vars(SMALL_DQN), "dueling": True, "return_steps": 3, "priority_exponent": 0.6}),
    "bc": BC(num_batches=4, batch_size=8, hidden_sizes=(8,)),
    "dagger": DAgger(
        BC(num_batches=4, batch_size=8, hidden_sizes=(8,), patience=0, heldout_fraction=0.0), num_steps=8, max_labels=96
    ),
    "gail": GAIL(forward=SMALL_TRPO, reward_form="positive", num_score_steps=2, score_batch_size=16, hidden_sizes=(8,)),
    "airl": AIRL(forward=SMALL_TRPO, reward_form="positive", num_score_steps=2, score_batch_size=16, hidden_sizes=(8,)),
    "sqil": SQIL(forward=SMALL_SAC),
    "lsiq": LSIQ(forward=SMALL_SAC),
}
assert SMALL.keys() == ALGORITHMS.keys(), "Give every registered algorithm a small version here."

VARIANTS = {
    "gail-sac": GAIL(forward=SMALL_SAC, reward_form="logit", num_score_steps=2, score_batch_size=16, hidden_sizes=(8,)),
    "gail-sac-standardized": GAIL(
        forward=dataclasses.replace(SMALL_SAC, standardize_observations=True),
        reward_form="logit",
        num_score_steps=2,
        score_batch_size=16,
        hidden_sizes=(8,),
        bc_updates=3,
    ),
    "sqil-dqn": SQIL(forward=DQN(**{**vars(SMALL_DQN), "temperature": 0.1})),
    "gail-dqn": GAIL(forward=SMALL_DQN, reward_form="logit", num_score_steps=2, score_batch_size=16, hidden_sizes=(8,)),
}
"""Learners of SMALL with other learners inside, where that makes another program of them."""

SPECS = {
    "discrete": Spec(3, DiscreteActions(4)),
    "box": Spec(3, BoxActions((-1.0, 0.0), (1.0, 5.0))),
}
NUM_ENVS = 4


def specs_of(name: str) -> tuple[str, ...]:
    """The kinds of actions that a learner chooses among."""
    return ("discrete",) if "dqn" in name else tuple(SPECS)


def random_transitions(spec: Spec, shape: tuple[int, ...], seed: int = 0) -> Transition:
    """Made-up steps with leading axes of this shape."""
    rng = np.random.default_rng(seed)
    if isinstance(spec.actions, DiscreteActions):
        action = rng.integers(0, spec.actions.num_actions, shape).astype(np.int32)
    else:
        action = rng.normal(size=(*shape, spec.actions.size)).astype(np.float32)
    obs, next_obs = rng.normal(size=(2, *shape, spec.obs_size)).astype(np.float32)
    terminated = rng.random(shape) < 0.1
    truncated = (rng.random(shape) < 0.1) & ~terminated
    reward, log_prob = rng.normal(size=(2, *shape)).astype(np.float32)
    rows = Transition(obs, action, reward, next_obs, terminated, truncated, log_prob - 1)
    return jax.tree.map(jnp.asarray, rows)


def expert_data(spec: Spec, seed: int = 1) -> ExpertData:
    """Made-up demonstrations."""
    return ExpertData(random_transitions(spec, (30,), seed), random_transitions(spec, (10,), seed + 1))


def update_once(learner, state, spec: Spec, key, seed: int = 0):
    """One update of any learner on made-up data."""
    rollout = random_transitions(spec, (8, NUM_ENVS), seed)
    if isinstance(learner, AbstractForwardLearner):
        return learner.update(state, rollout, rollout.reward, key=key)
    return learner.update(state, rollout if learner.num_steps else None, expert_data(spec), key=key)
