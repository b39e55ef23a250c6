"""Environments that can be solved only if one part of a learner works, and imitation reduced to its core."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import menura
from menura.core import AbstractPolicy, ExpertData
from menura.demonstrations.record import record
from menura.environments import make
from menura.imitation.adversarial import GAIL
from menura.imitation.bc import BC
from menura.networks import Categorical, RunningNorm
from menura.regularizers import FAIRLLink
from menura.run.registry import to_json
from menura.run.resolve import resolve_reward_form
from menura.run.train import train
from tests.learners import SPECS, expert_data, random_transitions

GAMMA = 0.9
FORWARD = {
    "ppo": menura.PPO(
        num_steps=32, num_minibatches=4, learning_rate=3e-3, gamma=GAMMA, hidden_sizes=(16,), policy_averaging=0.0
    ),
    "trpo": menura.TRPO(
        num_steps=32,
        value_minibatches=4,
        value_learning_rate=1e-2,
        max_kl=0.05,
        shrink=0.8,
        gamma=GAMMA,
        hidden_sizes=(16,),
        policy_averaging=0.0,
    ),
}


@pytest.fixture(params=FORWARD)
def learner(request):
    return FORWARD[request.param]


def solve(learner, env_id, total_steps=20_000):
    env = make(env_id, num_envs=8)
    return env, train(learner, env, total_steps=total_steps, seed=0)


def value_at(run, obs):
    return float(run.state.value(jnp.asarray(obs, jnp.float32)))


def first_obs(env):
    return env.reset(key=jax.random.key(0)).obs[0]


def test_constant_reward_is_worth_itself(learner):
    env, run = solve(learner, "probe/Constant")
    np.testing.assert_allclose(value_at(run, first_obs(env)), 1.0, atol=0.05)


def test_a_reward_one_step_later_is_worth_gamma(learner):
    env, run = solve(learner, "probe/Discount")
    np.testing.assert_allclose(value_at(run, first_obs(env)), GAMMA, atol=0.05)


def test_a_time_limit_does_not_end_the_worth_of_an_endless_task(learner):
    env, run = solve(learner, "probe/Endless", 40_000)
    np.testing.assert_allclose(value_at(run, first_obs(env)), 1 / (1 - GAMMA), rtol=0.05)


@pytest.mark.parametrize(("env_id", "good"), [("probe/Echo", 0.99), ("probe/Delay", 0.99), ("probe/EchoBox", -0.02)])
def test_actions_are_learned(learner, env_id, good):
    env, run = solve(learner, env_id, 60_000)
    result = menura.evaluate(env, run.policy, num_episodes=64)
    assert result.mean >= good, str(result)


def echo_demos(num_episodes=50):
    """An expert that does what the probe asks."""

    class Echo:
        def predict(self, obs, deterministic=True):
            return (np.asarray(obs)[..., 0] > 0.5).astype(np.int64), None

    return record(make("probe/Echo", num_envs=8), Echo(), num_episodes, seed=0)


def test_cloning_echoes_the_expert():
    demos = echo_demos()
    run = train(BC(num_batches=50, hidden_sizes=(16,)), None, demos, spec=make("probe/Echo").spec, total_steps=60_000)
    assert menura.evaluate(make("probe/Echo", num_envs=8), run.policy, num_episodes=64).mean == 1.0


@pytest.mark.parametrize("forward", FORWARD)
def test_gail_echoes_the_expert(forward):
    env = make("probe/Echo", num_envs=8)
    gail = GAIL(forward=FORWARD[forward], hidden_sizes=(16,), reward_form="logit", score_batch_size=64)
    run = train(gail, env, echo_demos(), total_steps=60_000, seed=0)
    assert menura.evaluate(env, run.policy, num_episodes=64).mean >= 0.95


def test_gail_with_shuffled_expert_actions_does_not_echo():
    """Echo pays the same for both actions to whoever cannot see which one the expert took."""
    env = make("probe/Echo", num_envs=8)
    gail = GAIL(forward=FORWARD["trpo"], hidden_sizes=(16,), reward_form="logit", score_batch_size=64)
    run = train(gail, env, echo_demos().shuffle_actions(seed=0), total_steps=60_000, seed=0)
    assert menura.evaluate(env, run.policy, num_episodes=64).mean < 0.9


def test_a_learner_that_is_the_expert_gets_a_flat_reward():
    spec = SPECS["discrete"]
    rows = random_transitions(spec, (32, 4))
    expert = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), rows)
    demos = ExpertData(expert, jax.tree.map(lambda x: x[:0], expert))
    gail = GAIL(reward_form="centered", num_score_steps=300, hidden_sizes=(16,), gradient_penalty=0.0)
    state = gail.init(spec, key=jax.random.key(0))
    score, *_ = jax.jit(gail._improve_score)(state, rows, demos, jax.random.key(1))
    reward = gail.reward(eqx.tree_at(lambda s: s.score, state, score), rows)
    assert float(jnp.max(jnp.abs(reward))) < 0.2


def test_the_reward_that_is_learned_from_is_the_score_after_its_update():
    """Not a stale one: the metrics' mean reward is that of the new score, and it moved."""
    spec = SPECS["box"]
    gail = GAIL(forward=FORWARD["trpo"], reward_form="positive", num_score_steps=20, hidden_sizes=(16,))
    rows = random_transitions(spec, (32, 4))
    state = gail.init(spec, key=jax.random.key(0))
    new, metrics = jax.jit(lambda s, k: gail.update(s, rows, expert_data(spec), key=k))(state, jax.random.key(1))
    np.testing.assert_allclose(metrics["reward/mean"], jnp.mean(gail.reward(new, rows)), rtol=1e-5)
    assert abs(float(jnp.mean(gail.reward(state, rows))) - float(metrics["reward/mean"])) > 1e-3


@pytest.mark.parametrize(("length", "form"), [(5, "negative"), (400, "positive")])
def test_the_rewards_sign_follows_whether_the_expert_ends_sooner_than_chance(length, form):
    """A random CartPole episode takes some twenty steps."""
    env = make("CartPole-v1", num_envs=8)
    episode = menura.Episode(
        np.zeros((length + 1, 4), np.float32), np.zeros(length, np.int64), np.ones(length), True, length
    )
    demos = menura.Demonstrations((episode,))
    assert resolve_reward_form(GAIL(), env, demos).reward_form == form
    endless = menura.Demonstrations((dataclasses.replace(episode, terminated=False),))
    assert resolve_reward_form(GAIL(), env, endless).reward_form == "positive"
    # FAIRL's reward is left as it is where living on is to be paid: what would make the lowest 0 outweighs it.
    fairl = GAIL(regularizer=FAIRLLink())
    assert resolve_reward_form(fairl, env, demos).reward_form == ("centered" if form == "positive" else form)
    assert resolve_reward_form(fairl, env, endless).reward_form == "centered"


def test_causal_entropy_is_paid_inside_the_return():
    spec = SPECS["discrete"]
    rows = random_transitions(spec, (8, 4))
    plain, paid = (GAIL(reward_form="positive", entropy_weight=weight) for weight in (0.0, 0.5))
    state = plain.init(spec, key=jax.random.key(0))
    np.testing.assert_allclose(paid.reward(state, rows) - plain.reward(state, rows), -0.5 * rows.log_prob, atol=1e-5)


def test_cloning_keeps_the_policy_of_the_lowest_held_out_loss_and_stops():
    spec = SPECS["discrete"]
    bc = BC(num_batches=50, hidden_sizes=(64,), patience=3, learning_rate=1e-2)
    data = expert_data(spec)
    data = ExpertData(data.train, data.heldout)
    state = bc.init(spec, key=jax.random.key(0))
    update = jax.jit(lambda s, k: bc.update(s, None, data, key=k))
    losses = []
    for i in range(20):
        state, metrics = update(state, jax.random.key(i))
        losses.append(float(metrics["loss/heldout"]))
        if bc.finished(state):
            break
    # Random labels cannot be learned: the held-out loss rises soon, and training ends.
    assert len(losses) < 20
    np.testing.assert_allclose(float(state.best_loss), min(losses), rtol=1e-6)


class LinearPolicy(AbstractPolicy):
    """A policy of one's own: logits linear in the raw observation."""

    norm: RunningNorm
    weight: jax.Array

    def distribution(self, obs):
        return Categorical(self.weight @ jnp.concatenate([obs, jnp.ones(1)]))


def linear_policy(spec, hidden_sizes, *, activation, initial_log_std, encoder, key):
    return LinearPolicy(RunningNorm(spec.obs_size), jnp.zeros((spec.actions.num_actions, spec.obs_size + 1)))


@pytest.mark.parametrize("name", FORWARD)
def test_networks_and_optimizers_of_ones_own_learn_too(name):
    learner = dataclasses.replace(FORWARD[name], make_policy=linear_policy, optimizer=lambda rate: optax.rmsprop(rate))
    env, run = solve(learner, "probe/Echo", 60_000)
    assert isinstance(run.policy, LinearPolicy)
    assert menura.evaluate(env, run.policy, num_episodes=64).mean >= 0.99


def test_functions_of_ones_own_are_refused_where_a_run_folder_would_have_to_keep_them():
    with pytest.raises(menura.RequestError, match="make_policy is a function of your own"):
        to_json(dataclasses.replace(FORWARD["ppo"], make_policy=linear_policy))
