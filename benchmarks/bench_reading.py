"""How well a run is read without its reward: rank correlations, chosen checkpoints, red flags, stopping.

.venv/bin/python benchmarks/bench_reading.py [--only TEXT] [--again]

Trains GAIL on native tasks from experts of our own (bench_gail_classic.py makes them): runs as they should be, and runs
broken on purpose. Each run is kept in benchmarks/experts/reading/, so that a stopped script goes on where it was.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from bench_gail_classic import EXPERTS, expert

from menura import collect, evaluate, make
from menura.regularizers import JensenShannon
from menura.regularizers.base import AbstractRegularizer
from menura.run.launch import Request, load_parts
from menura.run.presets import find_preset, learner_of
from menura.run.reading import READ_STEPS, make_reader
from menura.run.registry import replaced
from menura.run.train import resolve_reward_form

NAME, TITLE = "reading", "Reading a run without its reward"
RUNS = EXPERTS / "reading"
TASKS = {"CartPole-v1": (80_000, 10), "Acrobot-v1": (300_000, 5), "Pendulum-v1": (300_000, 5)}
"""Environment steps of a run, and every how-many-th step of one episode it learns from."""
EVALUATIONS = 10
EPISODES = 20
"""Of each checkpoint's true return."""


class Broken(AbstractRegularizer):
    """Jensen–Shannon whose learner is paid by another function of the score than the one that was fitted."""

    flipped: bool
    """Paid for looking unlike the expert; else the same for everything."""
    class_of_scores: ClassVar[str] = JensenShannon.class_of_scores
    loss_formula: ClassVar[str] = JensenShannon.loss_formula
    reward_formula: ClassVar[str] = "wrong"
    divergence: ClassVar[str] = JensenShannon.divergence

    def _wrong(self, score):
        return -score if self.flipped else jnp.zeros_like(score)

    def loss(self, score_expert, score_learner):
        return JensenShannon().loss(score_expert, score_learner)

    def reward(self, score):
        return JensenShannon().reward(self._wrong(score))

    def gain(self, score):
        return JensenShannon().gain(score)

    def signed_reward(self, score, sign):
        return JensenShannon().signed_reward(self._wrong(score), sign)

    def slope_penalty(self, slope):
        return JensenShannon().slope_penalty(slope)

    def conjugate(self, rho_learner, rho_expert, features=None):
        return JensenShannon().conjugate(rho_learner, rho_expert, features)

    def scores_of_table(self, num_pairs, features=None):
        return JensenShannon().scores_of_table(num_pairs, features)


KINDS = {
    "as it should be": {},
    "sign flipped": {"regularizer": Broken(flipped=True)},
    "constant reward": {"regularizer": Broken(flipped=False)},
    "too strong": {"gradient_penalty": 0.0, "learning_rate": 1e-2, "num_score_steps": 64},
    "too weak": {"learning_rate": 1e-7, "num_score_steps": 1},
    "actions shuffled": {},
}


def train_seeds(learner, batch, demos: list, seeds: list[int], total_steps: int) -> list:
    """States of all seeds, one leading axis of them, at every evaluation: one program trains them side by side."""
    spec = batch.spec
    experts = [jax.tree.map(np.asarray, part.expert_data(spec)) for part in demos]
    # Random offsets leave one step more or less.
    rows = min(len(expert.train.obs) for expert in experts)
    data = jax.tree.map(
        lambda *x: jnp.stack(x),
        *(dataclasses.replace(e, train=jax.tree.map(lambda x: x[:rows], e.train)) for e in experts),
    )
    keys = jnp.stack([jax.random.key(seed) for seed in seeds])

    def begin(key):
        init_key, reset_key = jax.random.split(key)
        state = jax.tree.map(lambda x: jax.lax.convert_element_type(x, x.dtype), learner.init(spec, key=init_key))
        return state, batch.reset(key=reset_key)

    def iterate(state, carry, key, expert):
        collect_key, update_key = jax.random.split(key)
        policy = learner.policy(state)
        carry, rollout = collect(batch, carry, policy, key=collect_key, num_steps=learner.num_steps)
        state, _ = learner.update(state, rollout, expert, key=update_key)
        return jax.tree.map(lambda x: jax.lax.convert_element_type(x, x.dtype), state), carry

    state, carry = jax.jit(jax.vmap(begin))(keys)
    step = jax.jit(lambda s, c, i: jax.vmap(iterate)(s, c, jax.vmap(jax.random.fold_in, (0, None))(keys, i), data))
    size = learner.steps_per_update(batch.num_envs)
    updates = -(-total_steps // size)
    at = [round(updates * (i + 1) / EVALUATIONS) for i in range(EVALUATIONS)]
    states = []
    for update in range(1, updates + 1):
        state, carry = step(state, carry, update)
        if update in at:
            states.append((update * size, state))
    return states


def measure(env: str, kind: str, seeds: list[int]) -> list[dict]:
    """One run a seed: what was read at each evaluation, and the true returns there, which nothing was told of."""
    total_steps, subsample = TASKS[env]
    batch = make(env, num_envs=32)
    learner = replaced(learner_of(find_preset("gail", "trpo", env, batch.spec)), KINDS[kind])
    asked = [
        Request(
            learner, env, demos=expert(env), num_demos=1, subsample=subsample, seed=seed,
            shuffle_actions=kind == "actions shuffled",
        )
        for seed in seeds
    ]  # fmt: skip
    parts = [load_parts(request) for request in asked]
    learner = resolve_reward_form(learner, batch, parts[0][0])
    states = train_seeds(learner, batch, [demos for demos, _ in parts], seeds, total_steps)
    few, many = make(env, num_envs=5), make(env, num_envs=EPISODES)
    runs = []
    for place, (seed, (demos, heldout)) in enumerate(zip(seeds, parts, strict=True)):
        reader = make_reader(learner, batch.spec, demos.expert_data(batch.spec), heldout, seed=seed)
        readings, returns, before = [], [], None
        for env_steps, state in states:
            state = jax.tree.map(lambda x, place=place: x[place], state)
            policy = learner.final_policy(state)
            played = evaluate(few, policy, num_episodes=5, seed=seed, keep_steps=READ_STEPS)
            reading = reader.read(state, policy, before, played.steps)
            readings.append({"env_steps": float(env_steps)} | {k: float(f"{v:.6g}") for k, v in reading.items()})
            returns.append(evaluate(many, policy, num_episodes=EPISODES, seed=10_007).mean)
            before = policy
        runs.append({"env": env, "kind": kind, "seed": seed, "returns": returns, "readings": readings})
        runs[-1]["expert_return"] = demos.expert_return
    return runs
