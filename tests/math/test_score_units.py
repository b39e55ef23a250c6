"""Whose spread is the unit of what a score sees."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from menura.core import DiscreteActions, ExpertData, Images, Spec, Transition, Vector
from menura.imitation.score import ScoreNetwork
from menura.networks import PartsNorm, RunningNorm, evenly_mixed
from menura.run.presets import PRESETS, learner_of
from tests.learners import SMALL, SPECS, VARIANTS, expert_data, random_transitions

SPEC = Spec(2, DiscreteActions(3))


def steps(obs, next_obs):
    unknown = jnp.zeros(len(obs))
    return Transition(jnp.asarray(obs), unknown, unknown, jnp.asarray(next_obs), unknown > 0, unknown > 0, unknown)


def score_of(**settings):
    return ScoreNetwork(SPEC, (4,), activation="tanh", key=jax.random.key(0), **settings)


def test_a_mixture_counts_both_sides_alike_whatever_their_rows():
    few, many = np.array([[0.0], [2.0]], np.float32), np.tile(np.array([[5.0], [9.0]], np.float32), (50, 1))
    mixed = evenly_mixed(RunningNorm(1).add(jnp.asarray(few)), RunningNorm(1).add(jnp.asarray(many)))
    # By hand: means 1 and 7, variances 1 and 4; (1 + 4) / 2 + 6² / 4.
    np.testing.assert_allclose((mixed.mean[0], mixed.var[0]), (4.0, 11.5), rtol=1e-5)
    alike = np.concatenate([np.tile(few, (50, 1)), many])
    np.testing.assert_allclose(mixed.var, alike.var(0), rtol=1e-5)


def test_what_the_expert_hardly_moves_is_not_magnified():
    expert = steps([[0.0, 1.0], [0.002, 3.0]], [[0.0, 1.0], [0.002, 3.0]])
    learner = steps([[-4.0, 1.0], [4.0, 3.0]], [[-4.0, 1.0], [4.0, 3.0]])
    data = ExpertData(expert, expert)
    theirs = score_of().standardized_by(data, learner).numbers(jnp.array([4.0, 3.0]))
    # A thousandth is the unit: the learner is known by a number at its limit.
    np.testing.assert_allclose(theirs, [10.0, 1.0], rtol=1e-4)
    both = score_of(units="both").standardized_by(data, learner).numbers(jnp.array([4.0, 3.0]))
    # By hand: variances 1e-6 and 16, and means 0.001 and 0, half of each.
    np.testing.assert_allclose(both, [(4 - 0.0005) / np.sqrt(8.0), 1.0], rtol=1e-4)


def test_changes_have_units_of_both_sides_too():
    expert = steps([[0.0, 1.0], [2.0, 1.0]], [[1.0, 1.0], [5.0, 2.0]])
    learner = steps([[0.0, 0.0], [0.0, 0.0]], [[4.0, 0.0], [-4.0, 0.0]])
    score = score_of(units="both", observations_only=True).standardized_by(ExpertData(expert, expert), learner)
    # The expert's changes are (1, 0) and (3, 1), the learner's (4, 0) and (-4, 0): means 1 and ¼, variances
    # (1 + 16) / 2 + 2² / 4 and ¼ / 2 + ½² / 4.
    got = score.features(jnp.array([0.0, 0.0]), jnp.array([5.0, 1.0]))[2:]
    np.testing.assert_allclose(got, [4 / np.sqrt(9.5), 0.75 / np.sqrt(0.1875)], rtol=1e-5)


def test_the_learners_side_is_all_that_it_has_done():
    expert = steps([[0.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]])
    data, score = ExpertData(expert, expert), score_of(units="both")
    for place in (2.0, 4.0):
        score = score.standardized_by(data, steps([[place, 0.0]], [[place, 0.0]]))
    # Its mean is 3 and its variance 1: half of each is 1.5, and 1 / 2 + 3² / 4.
    np.testing.assert_allclose((score.norm.mean[0], score.norm.var[0]), (1.5, 2.75), rtol=1e-5)


def test_what_neither_side_varies_is_not_magnified_either():
    still = RunningNorm(1).add(jnp.full((3, 1), 7.0))
    mixed = evenly_mixed(still, RunningNorm(1).add(jnp.full((3, 1), 7.002)))
    np.testing.assert_allclose(mixed(jnp.array([7.0])), [-0.001], atol=1e-6)


def test_vectors_beside_pictures_are_mixed_too():
    parts = (("camera", Images(1, 2, 2)), ("grip", Vector(1)))

    def seen(grips):
        pixels = np.full((len(grips), 4), 9, np.uint8)
        return jnp.asarray(np.concatenate([pixels, np.array(grips, np.float32)[:, None].view(np.uint8)], axis=1))

    mixed = evenly_mixed(PartsNorm(parts).add(seen([0.0, 2.0])), PartsNorm(parts).add(seen([5.0, 9.0])))
    np.testing.assert_allclose((mixed.vectors.mean[0], mixed.vectors.var[0]), (4.0, 11.5), rtol=1e-5)
    np.testing.assert_allclose(np.asarray(mixed(seen([4.0])[0]))[4:].view(np.float32), [0.0], atol=1e-6)


ADVERSARIAL = {"gail": SMALL["gail"], "airl": SMALL["airl"], "gail-sac": VARIANTS["gail-sac"]}


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_adversarial_learners_have_units_of_both_sides(name):
    learner: Any = dataclasses.replace(ADVERSARIAL[name], score_units="both")
    demos, rollout = expert_data(SPECS["box"]), random_transitions(SPECS["box"], (8, 4))
    count = len(demos.train.obs)
    # What fills the demonstrations up to a size is not among the expert's.
    filled = jax.tree.map(lambda x: jnp.concatenate([x, 100 * jnp.ones_like(x)]).astype(x.dtype), demos.train)
    padded = ExpertData(filled, demos.heldout, num_train=jnp.asarray(count))
    state = learner.init(SPECS["box"], key=jax.random.key(0))
    state, metrics = jax.jit(lambda s: learner.update(s, rollout, padded, key=jax.random.key(1)))(state)
    score = state.score.reward if name == "airl" else state.score
    done = rollout.obs.reshape(-1, rollout.obs.shape[-1])
    expert_mean, learner_mean = demos.train.obs.mean(0), done.mean(0)
    np.testing.assert_allclose(score.norm.mean, (expert_mean + learner_mean) / 2, rtol=1e-4, atol=1e-6)
    variance = (demos.train.obs.var(0) + done.var(0)) / 2 + (expert_mean - learner_mean) ** 2 / 4
    np.testing.assert_allclose(score.norm.var, variance, rtol=1e-4)
    assert np.isfinite(metrics["score/loss"])


def test_every_preset_makes_its_learner_and_has_a_name_of_its_own():
    assert len({preset.name for preset in PRESETS}) == len(PRESETS)
    for preset in PRESETS:
        learner_of(preset)
