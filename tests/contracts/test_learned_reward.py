"""A learned reward outlives its run: the same numbers from its folder, in another process, for other learners."""

import dataclasses
import json
import subprocess
import sys

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import menura
from menura.core import BoxActions, DiscreteActions, RequestError, Spec, Transition
from menura.imitation.absorbing import worth_of_ending
from menura.imitation.reward import discounted_as, earned, update_on
from menura.regularizers import FeatureExpectation
from menura.run.artifacts import file_hash
from menura.run.reward import check_fits, read_reward, reward_in, save_reward

SPEC = Spec(4, DiscreteActions(2))
SMALL = menura.PPO(hidden_sizes=(4,), num_steps=8, num_minibatches=2, num_epochs=1)
REPLAY = menura.SAC(
    hidden_sizes=(4,), num_steps=8, num_updates=2, batch_size=8, replay_size=64, learning_starts=0, gamma=0.9
)
LEARNERS = {
    "gail": menura.GAIL(forward=SMALL, hidden_sizes=(4,), reward_form="negative"),
    "airl": menura.AIRL(forward=SMALL, hidden_sizes=(4,)),
    "from replay": menura.GAIL(forward=REPLAY, hidden_sizes=(4,), reward_form="logit"),
    "fem": menura.GAIL(forward=SMALL, regularizer=FeatureExpectation(), reward_form="centered"),
    "observations only": menura.GAIL(forward=SMALL, hidden_sizes=(4,), reward_form="positive", observations_only=True),
}


def steps(count=6, key=3):
    """Flat steps, the last of which terminates."""
    rng = np.random.default_rng(key)
    obs, next_obs = (rng.normal(size=(count, 4)).astype(np.float32) for _ in range(2))
    action = rng.integers(0, 2, count).astype(np.int32)
    ended, nothing = np.arange(count) == count - 1, np.zeros(count, np.float32)
    return Transition(obs, action, nothing, next_obs, ended, np.zeros(count, bool), nothing)


def scored(learner):
    """A score that is not the same everywhere."""
    score = learner.init(SPEC, key=jax.random.key(1)).score
    return jax.tree.map(lambda x: x + 0.3 * jnp.cos(jnp.arange(x.size, dtype=x.dtype).reshape(x.shape)), score)


@pytest.fixture(params=LEARNERS)
def learner(request):
    return LEARNERS[request.param]


def description_of(learner, reward):
    from menura.run.artifacts import spec_to_json
    from menura.run.registry import to_json

    return {"format": 1, "part": reward.part, "spec": spec_to_json(SPEC), "learner": to_json(learner)}


def test_a_moved_reward_pays_the_same_in_another_process(tmp_path):
    rewards = {}
    names = ["airl", "from replay"]
    for name in names:
        learner = LEARNERS[name]
        ending = jnp.asarray(-0.7) if name == "from replay" else None
        reward = reward_in(learner, scored(learner), SPEC, ending=ending)
        folder = save_reward(tmp_path / "made" / name, reward, description_of(learner, reward))
        one_by_one, rows = jax.jit(reward.__call__), steps()
        columns = (rows.obs, rows.action, rows.next_obs, rows.terminated)
        rewards[name] = [float(one_by_one(*(column[i] for column in columns))) for i in range(len(rows.reward))]
        assert sorted(path.name for path in folder.iterdir()) == ["reward.json", "reward.safetensors"]
    (tmp_path / "made").rename(tmp_path / "moved")
    program = (
        "import json, sys, numpy as np, jax, menura\n"
        "at, rows = sys.argv[1], [np.asarray(x) for x in json.loads(sys.argv[3])]\n"
        "rows[0], rows[2] = rows[0].astype(np.float32), rows[2].astype(np.float32)\n"
        "rewards = {n: jax.jit(menura.load_reward(at + '/' + n).__call__) for n in json.loads(sys.argv[2])}\n"
        "print(json.dumps({n: [float(r(*row)) for row in zip(*rows)] for n, r in rewards.items()}))"
    )
    rows = steps()
    given = [np.asarray(x).tolist() for x in (rows.obs, rows.action, rows.next_obs, rows.terminated)]
    command = [sys.executable, "-c", program, str(tmp_path / "moved"), json.dumps(names), json.dumps(given)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for name, values in json.loads(done.stdout).items():
        # Equal, and not only close.
        assert values == rewards[name], name
        assert np.ptp(rewards[name]) > 0


def test_a_reward_is_what_the_learner_was_paid_less_the_entropy(learner):
    state = learner.init(SPEC, key=jax.random.key(0))
    state = dataclasses.replace(state, score=scored(learner))
    going = dataclasses.replace(steps(), terminated=np.zeros(6, bool))
    reward = reward_in(learner, state.score, SPEC, "shaped" if isinstance(learner, menura.AIRL) else "reward")
    if isinstance(learner, menura.AIRL):
        paid = learner.logit(state, going) + learner.entropy_weight * learner.log_prob(state, going)
    else:
        paid = learner.reward(state, jax.tree.map(lambda x: x[None], going))[0]
    np.testing.assert_allclose(earned(reward, going), paid, rtol=1e-5, atol=1e-6)


def test_airls_reward_is_that_of_the_state_and_needs_no_actions_of_its_own_kind():
    reward = reward_in(LEARNERS["airl"], scored(LEARNERS["airl"]), SPEC)
    assert not reward.sees_actions
    assert not reward.sees_successors
    # g of the state alone: neither the potential nor where the step leads is in it.
    g = jax.vmap(reward.score.reward)(jnp.asarray(steps().obs), jnp.asarray(steps().action))
    np.testing.assert_allclose(earned(reward, steps()), g, rtol=1e-5)
    elsewhere = dataclasses.replace(steps(), next_obs=steps(key=9).next_obs)
    np.testing.assert_array_equal(earned(reward, steps()), earned(reward, elsewhere))
    other = dataclasses.replace(steps(), action=np.zeros((6, 3), np.float32))
    np.testing.assert_array_equal(earned(reward, steps()), earned(reward, other))
    positive = reward_in(LEARNERS["airl"], reward.score, SPEC, form="positive")
    np.testing.assert_allclose(earned(positive, steps()), jax.nn.softplus(earned(reward, steps())), rtol=1e-5)
    check_fits(reward, Spec(4, BoxActions((-1.0,) * 3, (1.0,) * 3)), env_id="other", source="run")


def test_endings_of_a_run_from_replay_are_worth_what_follows_for_the_learner_that_is_paid():
    learner = LEARNERS["from replay"]
    reward = reward_in(learner, scored(learner), SPEC, ending=jnp.asarray(-0.7))
    assert reward_in(learner, scored(learner), SPEC, form="positive", ending=jnp.asarray(-0.7)).ending is None
    rows = steps()
    alone = jax.vmap(reward.of_step)(rows.obs, rows.action, rows.next_obs, rows.terminated)
    for gamma in (0.9, 0.5):
        added = np.asarray(earned(discounted_as(reward, gamma), rows)) - np.asarray(alone)
        np.testing.assert_allclose(added[:-1], 0, atol=1e-6)
        np.testing.assert_allclose(added[-1], gamma / (1 - gamma) * float(reward.of_ending()), rtol=1e-5)
    # SAC's own entropy is paid for too after an ending, as it is for living.
    state = REPLAY.init(SPEC, key=jax.random.key(0))
    rollout = jax.tree.map(lambda x: jnp.asarray(x)[:, None], steps(8))
    seen = []

    class Looking(type(REPLAY)):
        def learn(self, state, reward_of, *, key, **_):
            seen.append(reward_of(jax.tree.map(lambda x: x[-1, 0], rollout)))
            return state, {}

    fields = {f.name: getattr(REPLAY, f.name) for f in dataclasses.fields(REPLAY)}
    update_on(Looking(**fields), state, rollout, reward, key=jax.random.key(0))
    last = jax.tree.map(lambda x: x[-1, 0], rollout)
    expected = reward.of_step(last.obs, last.action, last.next_obs, last.terminated) + worth_of_ending(
        reward.of_ending() + REPLAY.entropy_reward(state), gamma=0.9
    )
    np.testing.assert_allclose(seen[0], expected, rtol=1e-5)


def test_rewards_of_another_shape_and_damaged_ones_are_refused(tmp_path):
    learner = LEARNERS["gail"]
    reward = reward_in(learner, scored(learner), SPEC)
    with pytest.raises(RequestError, match="sees 4 numbers, and Other observes 3"):
        check_fits(reward, Spec(3, DiscreteActions(2)), env_id="Other", source="run")
    with pytest.raises(RequestError, match="2 discrete actions, and Other takes 3 discrete actions"):
        check_fits(reward, Spec(4, DiscreteActions(3)), env_id="Other", source="run")
    with pytest.raises(RequestError, match="Only airl's"):
        reward_in(learner, reward.score, SPEC, "shaped")
    folder = save_reward(tmp_path / "reward", reward, description_of(learner, reward))
    with pytest.raises(RequestError, match="is not empty"):
        save_reward(folder, reward, description_of(learner, reward))
    before = file_hash(folder)
    (folder / "reward.safetensors").write_bytes(b"something else")
    assert file_hash(folder) != before
    with pytest.raises(RequestError, match="is not the file that"):
        read_reward(folder)


@pytest.mark.filterwarnings("ignore:.*(different from the unwrapped version|This is probably too).*:UserWarning")
def test_a_gymnasium_environment_pays_a_learned_reward_and_passes_gymnasiums_check():
    learner = LEARNERS["gail"]
    reward = reward_in(learner, scored(learner), SPEC)
    env = menura.LearnedRewardWrapper(gymnasium.make("CartPole-v1").unwrapped, reward)
    check_env(env, skip_render_check=True)
    obs, _ = env.reset(seed=0)
    next_obs, paid, terminated, _, info = env.step(1)
    np.testing.assert_allclose(paid, reward(obs, np.asarray(1), next_obs, terminated), rtol=1e-5)
    assert info["environment_reward"] == 1.0
    assert paid < 0
    # What becomes of an observation afterwards changes nothing that is paid.
    before = next_obs.copy()
    next_obs *= 100.0
    following, paid, terminated, _, _ = env.step(0)
    np.testing.assert_allclose(paid, reward(before, np.asarray(0), following, terminated), rtol=1e-5)
    with pytest.raises(RequestError, match="sees 4 numbers and DiscreteActions"):
        menura.LearnedRewardWrapper(gymnasium.make("Pendulum-v1"), reward)
