"""A task done in the expert's style: what GAIL pays for either, and that a learner like the clip is paid evenly."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from menura.core import ExpertData, Spec, Transition
from menura.forward.ppo import PPO
from menura.imitation.adversarial import GAIL, style_and_task
from menura.imitation.score import reward_of_score
from menura.regularizers import ChiSquared, JensenShannon
from tests.learners import SMALL_SAC, SPECS, expert_data, random_transitions
from tests.walking_clip import write_walk


def test_style_and_task_are_added_up_by_their_weights():
    paid = style_and_task(jnp.array([2.0, -1.0]), jnp.array([4.0, 1.0]), style_coef=0.5, task_coef=0.25)
    np.testing.assert_allclose(paid, [0.5 * 2 + 0.25 * 4, -0.5 + 0.25])


@pytest.mark.parametrize("observations_only", [False, True])
def test_on_a_rollout_the_environments_own_reward_is_the_task(observations_only):
    spec, batch = SPECS["box"], random_transitions(SPECS["box"], (4, 2))
    alone = GAIL(forward=PPO(), reward_form="positive", hidden_sizes=(8,), observations_only=observations_only)
    both = dataclasses.replace(alone, style_coef=0.5, task_coef=0.25)
    state = alone.init(spec, key=jax.random.key(0))
    np.testing.assert_allclose(
        both.reward(state, batch), 0.5 * alone.reward(state, batch) + 0.25 * batch.reward, rtol=1e-5, atol=1e-6
    )


def test_from_a_replay_it_is_too_and_an_ending_is_worth_the_style_it_loses():
    spec, rows = SPECS["box"], random_transitions(SPECS["box"], (8, 4))
    alone = GAIL(forward=SMALL_SAC, reward_form="logit", hidden_sizes=(8,), style_coef=0.5)
    both = dataclasses.replace(alone, task_coef=0.25)
    state = alone.init(spec, key=jax.random.key(0))
    state = dataclasses.replace(state, forward=SMALL_SAC.store(state.forward, rows))
    of_alone, of_both = (
        gail._reward_from_replay(SMALL_SAC, state, expert_data(spec), jax.random.key(1))[0] for gail in (alone, both)
    )
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), rows)
    np.testing.assert_allclose(
        jax.vmap(of_both)(flat) - jax.vmap(of_alone)(flat), 0.25 * flat.reward, rtol=1e-4, atol=1e-5
    )
    # What an ending is worth to others is the score's alone, like the reward of steps that is saved beside it.
    endings = [
        dataclasses.replace(alone, style_coef=weight)._reward_from_replay(
            SMALL_SAC, state, expert_data(spec), jax.random.key(1)
        )[1]
        for weight in (0.5, 2.0)
    ]
    np.testing.assert_allclose(*endings)


@pytest.mark.parametrize(
    "regularizer", [JensenShannon(), ChiSquared(alpha=1.0, bound=1.0)], ids=["logistic", "squares"]
)
def test_the_style_reward_is_flat_where_the_learner_is_the_clip(regularizer, tmp_path):
    pytest.importorskip("mujoco")
    from menura.demonstrations.motion import from_clip

    demos = from_clip(write_walk(tmp_path / "walk.txt"))
    spec = Spec(demos.episodes[0].obs.shape[1], SPECS["box"].actions)
    data = jax.tree.map(jnp.asarray, demos.expert_data(spec, with_actions=False))
    gail = GAIL(
        forward=PPO(),
        regularizer=regularizer,
        reward_form="positive",
        hidden_sizes=(16,),
        num_score_steps=200,
        gradient_norm=0.0,
        observations_only=True,
    )
    state = gail.init(spec, key=jax.random.key(0))
    assert isinstance(data, ExpertData)
    walking = jax.tree.map(lambda x: x[:560].reshape(8, 70, *x.shape[1:]), data.train)
    # Its state stays as it was at first: it stands in the air, its legs do not move.
    standing = dataclasses.replace(walking, obs=walking.obs[:1, :1].repeat(8, 0).repeat(70, 1))
    standing = dataclasses.replace(standing, next_obs=standing.obs)

    @jax.jit
    def spread(rollout: Transition):
        """The deviation of the style's reward over both, with a score that was told them apart for 200 steps."""
        score, _, _ = gail._improve_score(state, rollout, data, jax.random.key(1))
        scores = jax.vmap(score)(*gail._seen(data.train)), jax.vmap(jax.vmap(score))(*gail._seen(rollout))
        rewards = jnp.concatenate([reward_of_score(s.reshape(-1), regularizer, "positive") for s in scores])
        return jnp.std(rewards)

    assert spread(walking) < 0.1
    assert spread(standing) > 0.3
