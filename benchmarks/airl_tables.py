"""AIRL and GAIL on a table whose dynamics are known: games between their own score and a learner that plans exactly."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from menura.core import (
    AbstractForwardLearner,
    AbstractPolicy,
    DiscreteActions,
    ExpertData,
    Hyper,
    Spec,
    Transition,
    flatten_time,
)
from menura.networks import Categorical

SIZE, GAMMA, WEIGHT, ROWS = 5, 0.9, 0.5, 2048
"""Cells a side, discount, λ, and steps in a rollout."""


def grid(blocked: np.ndarray | None = None) -> np.ndarray:
    """The cell after each of stay, up, down, left and right; moves into the border or a blocked cell stay."""
    row, column = np.divmod(np.arange(SIZE**2), SIZE)
    moves = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))
    reached = np.stack([np.clip(row + r, 0, SIZE - 1) * SIZE + np.clip(column + c, 0, SIZE - 1) for r, c in moves], 1)
    if blocked is not None:
        reached = np.where(blocked[reached], np.arange(SIZE**2)[:, None], reached)
    return reached


def turned() -> np.ndarray:
    """Other dynamics: the five actions mean other moves, and the middle of the grid cannot be entered."""
    blocked = np.zeros(SIZE**2, bool)
    blocked[[7, 12, 17]] = True
    return grid(blocked)[:, [2, 3, 0, 4, 1]]


def soft_policy(f: np.ndarray, after: np.ndarray, weight: float = WEIGHT) -> np.ndarray:
    """Log-probabilities ``(cells, moves)`` of the best policy for f(cell, move) and entropy."""
    value = np.zeros(len(after))
    q = f
    for _ in range(400):
        q = f + GAMMA * value[after]
        value = weight * np.logaddexp.reduce(q / weight, axis=1)
    return (q - value[:, None]) / weight


def occupancy(log_policy: np.ndarray, after: np.ndarray) -> np.ndarray:
    """How often pairs are visited from a uniform start, discounted; sums to 1."""
    count = len(after)
    moved = np.zeros((count, count))
    np.add.at(moved, (np.repeat(np.arange(count), after.shape[1]), after.ravel()), np.exp(log_policy).ravel())
    start = np.full(count, (1 - GAMMA) / count)
    return np.linalg.solve(np.eye(count) - GAMMA * moved.T, start)[:, None] * np.exp(log_policy)


def rows(cells: np.ndarray, moves: np.ndarray, after: np.ndarray) -> Transition:
    """Steps on the grid, flat."""
    eye, nothing = np.eye(len(after), dtype=np.float32), np.zeros(len(cells), np.float32)
    steps = Transition(
        eye[cells], moves.astype(np.int32), nothing, eye[after[cells, moves]], nothing > 0, nothing > 0, nothing
    )
    return jax.tree.map(jnp.asarray, steps)


class TablePolicy(AbstractPolicy):
    """A row of logits for each one-hot observation."""

    logits: jax.Array

    def distribution(self, obs):
        return Categorical(obs @ self.logits)


class Planned(AbstractForwardLearner):
    """Knows the grid: plans exactly on what it earned for each pair, and goes a part of the way there."""

    num_steps: int = ROWS
    gamma: Hyper = GAMMA

    def steps_per_update(self, num_envs):
        return self.num_steps * num_envs

    def init(self, spec, *, key):
        table = jnp.zeros((spec.obs_size, spec.actions.num_actions))
        return table, table

    def policy(self, state):
        return TablePolicy(state[1])

    def final_policy(self, state):
        return TablePolicy(state[1])

    def update(self, state, batch, reward, *, key, penalty=None):
        f, logits = state
        log_policy, steps, after = jax.nn.log_softmax(logits), flatten_time(batch), jnp.asarray(grid())
        at = jnp.argmax(steps.obs, axis=-1), steps.action
        count = jnp.zeros(f.shape).at[at].add(1.0)
        total = jnp.zeros(f.shape).at[at].add(reward.reshape(-1) + WEIGHT * log_policy[at])
        f = jnp.where(count > 0, total / jnp.maximum(count, 1), f)

        def sweep(_, value):
            return WEIGHT * jax.nn.logsumexp((f + GAMMA * value[after]) / WEIGHT, axis=1)

        value = jax.lax.fori_loop(0, 150, sweep, jnp.zeros(len(f)))
        return (f, 0.8 * logits + 0.2 * (f + GAMMA * value[after]) / WEIGHT), {}


def play(learner: Any, reward: np.ndarray, *, seed: int, num_updates: int = 200, averaged: int = 50) -> np.ndarray:
    """What a learner's score (GAIL) or reward (AIRL) says of every pair of the grid, from the expert's steps.

    The expert is the best for ``reward`` of the cells and entropy; steps of the learner are drawn from its exact
    occupancy. The answer ``(cells, moves)`` is a mean over the last updates, because rollouts are samples.
    """
    rng, after = np.random.default_rng(seed), grid()
    count, actions = after.shape
    expert = occupancy(soft_policy(np.repeat(reward[:, None], actions, axis=1), after), after)
    pairs = np.repeat(np.arange(expert.size), np.round(20_000 * expert).astype(int).ravel())
    nothing = np.zeros(0, int)
    demos = ExpertData(rows(*np.divmod(pairs, actions), after), rows(nothing, nothing, after))
    state = learner.init(Spec(count, DiscreteActions(actions)), key=jax.random.key(seed))
    update = jax.jit(learner.update)
    learned = getattr(learner, "reward_function", lambda state: state.score)
    every = rows(*np.divmod(np.arange(count * actions), actions), after)
    say = jax.jit(lambda state: jax.vmap(learned(state))(every.obs, every.action))
    found = []
    for i in range(num_updates):
        visited = occupancy(np.asarray(jax.nn.log_softmax(state.forward[1])), after).ravel()
        drawn = rng.choice(len(visited), ROWS, p=visited / visited.sum())
        batch = jax.tree.map(lambda x: x.reshape(ROWS // 4, 4, *x.shape[1:]), rows(*np.divmod(drawn, actions), after))
        state, _ = update(state, batch, demos, key=jax.random.key(i))
        found.append(np.asarray(say(state)))
    return np.mean(found[-averaged:], axis=0).reshape(count, actions)


def share(learned: np.ndarray, reward: np.ndarray, after: np.ndarray) -> float:
    """Of an expert's gain over the uniform policy under other dynamics, what a policy retrained on ``learned`` gets.

    Both plan without entropy (next to none), so that the scale of what was learned does not matter.
    """
    truth = np.repeat(reward[:, None], after.shape[1], axis=1)

    def worth(f: np.ndarray) -> float:
        best = soft_policy(f / (np.std(f) + 1e-9), after, weight=0.01)
        return float(np.sum(occupancy(best, after) * truth))

    uniform = float(np.sum(occupancy(np.full(truth.shape, -np.log(truth.shape[1])), after) * truth))
    return (worth(learned) - uniform) / (worth(truth) - uniform)
