"""Beginning with a policy that is there already: what is kept of it, what is refused, and what holds it at first."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from menura.core import BoxActions, DiscreteActions, Images, RequestError, Spec, Vector, drawn_by
from menura.forward.dqn import DQN
from menura.forward.sac import before_squashing
from menura.forward.warm_start import begun_with, taken_over
from menura.imitation.bc import distance_to_demos
from menura.imitation.holder import fading_cloning
from menura.networks import RunningNorm, make_policy
from menura.run.presets import named_preset, warm_fields
from menura.run.resolve import warm_policy
from tests.learners import SMALL, SPECS, VARIANTS, expert_data, random_transitions

SOFT_DQN = DQN(num_updates=20, batch_size=8, replay_size=48, learning_starts=0, temperature=0.3, activation="tanh",
               hidden_sizes=(8,), learning_rate=1e-2, initial_exploration=0.0, final_exploration=0.0)  # fmt: skip
SAC_LIKE_BC = dataclasses.replace(SMALL["sac"], activation="tanh", linear_mean=True)
STANDARDIZING = dataclasses.replace(SMALL["sac"], standardize_observations=True)


def cloned(spec, hidden_sizes=(8,), activation="tanh", seed=0):
    """A policy with weights and statistics that say something."""
    policy = make_policy(spec, hidden_sizes, activation=activation, initial_log_std=-2.9, key=jax.random.key(seed))
    rng = np.random.default_rng(seed)
    norm = RunningNorm(spec.obs_size).add(jnp.asarray(rng.normal(2.0, 3.0, (20, spec.obs_size)), jnp.float32))
    last = jnp.asarray(rng.normal(0.0, 0.1, policy.network.weights[-1].shape), jnp.float32)
    return eqx.tree_at(lambda p: (p.norm, p.network.weights[-1]), policy, (norm, last))


OBS = jnp.asarray(np.random.default_rng(5).normal(2.0, 3.0, (6, 3)), jnp.float32)


@pytest.mark.parametrize("name", ["trpo", "sac"])
def test_a_real_policy_goes_on_with_the_same_mean_actions(name):
    spec = SPECS["box"]
    learner = dataclasses.replace(SMALL["trpo"], initial_log_std=-1.5) if name == "trpo" else SAC_LIKE_BC
    policy = cloned(spec)
    taken = taken_over(learner, spec, policy)
    assert type(taken) is type(learner.init(spec, key=jax.random.key(0)).policy)
    assert jax.tree.structure(taken) == jax.tree.structure(learner.init(spec, key=jax.random.key(0)).policy)
    inside = [policy(o) for o in OBS]
    assert all(np.all(np.abs((a - policy.center) / policy.half_width) < 0.95) for a in inside)
    assert_allclose([taken(o) for o in OBS], inside, rtol=1e-4, atol=1e-4)
    if name == "trpo":
        assert_allclose(taken.log_std, -1.5)
    # Beginning with it again, as a resumed run does, changes nothing.
    again = taken_over(learner, spec, taken)
    for a, b in zip(jax.tree.leaves(taken), jax.tree.leaves(again), strict=True):
        assert_allclose(a, b, rtol=1e-6)


@pytest.mark.parametrize("kind", ["box", "discrete"])
def test_a_cloned_policy_keeps_its_statistics_where_sac_standardizes(kind):
    spec, learner = SPECS[kind], dataclasses.replace(SAC_LIKE_BC, standardize_observations=True)
    policy = cloned(spec)
    state = begun_with(learner.init(spec, key=jax.random.key(0)), taken_over(learner, spec, policy))
    state = learner.store(state, random_transitions(spec, (3, 4)))
    for part in (state.policy, state.average):
        assert_allclose(part.norm.mean, policy.norm.mean, rtol=1e-5)
    # The values see the learner's own observations: those of a fall are far from the clone's.
    for part in (state.q, state.target_q):
        assert_allclose(
            part.norm.mean, jnp.mean(random_transitions(spec, (3, 4)).obs.reshape(12, 3), axis=0), rtol=1e-4
        )
    if kind == "box":
        assert_allclose([state.policy(o) for o in OBS], [policy(o) for o in OBS], rtol=1e-4, atol=1e-4)
    else:
        want = [policy.distribution(o).log_probs for o in OBS]
        assert_allclose([state.policy.distribution(o).log_probs for o in OBS], want, rtol=1e-4, atol=1e-4)
    # So does what goes on with a policy of SAC, however few observations that had seen.
    earlier = eqx.tree_at(lambda p: p.norm, state.policy, policy.norm)
    again = taken_over(learner, spec, earlier)
    again = begun_with(learner.init(spec, key=jax.random.key(0)), again)
    again = learner.store(again, random_transitions(spec, (3, 4)))
    assert_allclose(again.policy.norm.mean, policy.norm.mean, rtol=1e-5)


@pytest.mark.parametrize("name", ["ppo", "sac"])
def test_a_discrete_policy_goes_on_with_the_same_probabilities(name):
    spec = SPECS["discrete"]
    policy = cloned(spec)
    taken = taken_over(SMALL["ppo"] if name == "ppo" else SAC_LIKE_BC, spec, policy)
    want = [policy.distribution(o).log_probs for o in OBS]
    assert_allclose([taken.distribution(o).log_probs for o in OBS], want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("obs_scale", [None, (2.0, 0.5, 4.0)])
def test_soft_values_have_the_policy_begun_with_as_their_softmax(obs_scale):
    spec, learner = SPECS["discrete"], dataclasses.replace(SOFT_DQN, obs_scale=obs_scale)
    policy = cloned(spec)
    taken = taken_over(learner, spec, policy)
    logits = jnp.stack([policy.distribution(o).logits for o in OBS])
    assert_allclose([taken.q_values(o) for o in OBS], 0.3 * logits, rtol=1e-4, atol=1e-5)
    state = begun_with(learner.init(spec, key=jax.random.key(0)), taken)
    for values in (state.values, state.target_values, state.average):
        assert_allclose([values(o) for o in OBS], 0.3 * logits, rtol=1e-4, atol=1e-5)
    want = [policy.distribution(o).log_probs for o in OBS]
    assert_allclose([learner.final_policy(state).distribution(o).log_probs for o in OBS], want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["sac", "dqn"])
def test_what_standardizes_vectors_beside_pictures_becomes_part_of_their_layer(name):
    parts = (("joints", Vector(2)), ("camera", Images(1, 4, 3)), ("speed", Vector(1)))
    spec, rng = Spec(24, DiscreteActions(4), parts), np.random.default_rng(0)

    def row():
        pixels = rng.integers(0, 256, 12, np.uint8)
        joints, speed = np.float32(rng.normal(2.0, 3.0, 2)), np.float32(rng.normal(-50.0, 9.0, 1))
        return np.concatenate([joints.view(np.uint8), pixels, speed.view(np.uint8)])

    obs = jnp.asarray(np.stack([row() for _ in range(6)]))
    policy = make_policy(spec, (8,), key=jax.random.key(0))
    last = jnp.asarray(rng.normal(0.0, 0.1, policy.network.weights[-1].shape), jnp.float32)
    policy = eqx.tree_at(lambda p: (p.norm, p.network.head.weights[-1]), policy, (policy.norm.of(obs), last))
    learner = SAC_LIKE_BC if name == "sac" else SOFT_DQN
    taken = taken_over(learner, spec, policy)
    assert jax.tree.structure(taken) == jax.tree.structure(learner.policy(learner.init(spec, key=jax.random.key(0))))
    want = [policy.distribution(o).log_probs for o in obs]
    assert_allclose([taken.distribution(o).log_probs for o in obs], want, rtol=1e-4, atol=1e-4)


def test_settings_are_those_of_what_is_begun_with_and_of_nothing_else():
    dueling = named_preset("dqn-acrobot")
    assert dueling.fields["dueling"]
    assert warm_fields(dueling, cloned(SPECS["discrete"])) == {
        "initial_exploration": 0.05, "hidden_sizes": (8,), "activation": "tanh", "dueling": False}  # fmt: skip
    values = values_of(dueling=True, obs_scale=(1.0, 2.0, 3.0))
    found = warm_fields(named_preset("dqn-discrete"), values)
    assert (found["dueling"], found["obs_scale"], found["hidden_sizes"]) == (True, (1.0, 2.0, 3.0), (8,))
    for learner in (STANDARDIZING, SMALL["sac"]):
        policy = learner.init(SPECS["box"], key=jax.random.key(0)).policy
        found = warm_fields(named_preset("gail-sac-box"), policy)
        assert found["forward.standardize_observations"] == learner.standardize_observations
    assert "forward.standardize_observations" not in warm_fields(named_preset("gail-sac-box"), cloned(SPECS["box"]))
    assert not {"dueling", "obs_scale"} & warm_fields(named_preset("ppo-discrete"), values).keys()


@pytest.mark.parametrize("dueling", [False, True])
def test_values_go_on_as_they_are_even_where_the_largest_is_taken(dueling):
    spec, learner = SPECS["discrete"], dataclasses.replace(SOFT_DQN, temperature=0.0, dueling=dueling)
    earlier = learner.final_policy(learner.init(spec, key=jax.random.key(3)))
    taken = taken_over(learner, spec, earlier)
    state = begun_with(learner.init(spec, key=jax.random.key(0)), taken)
    assert_array_equal([state.values(o) for o in OBS], [earlier.q_values(o) for o in OBS])


def test_soft_values_are_drawn_to_the_demonstrations_by_the_penalty():
    spec = SPECS["discrete"]
    state = SOFT_DQN.store(SOFT_DQN.init(spec, key=jax.random.key(0)), random_transitions(spec, (8, 4)))
    demos = random_transitions(spec, (16,), seed=3)

    @jax.jit
    def learned(state, weight):
        penalty = lambda p, key: weight * distance_to_demos(p, p, demos)  # noqa: E731
        learned, metrics = SOFT_DQN.learn(state, lambda step: 0.0, key=jax.random.key(1), penalty=penalty)
        return SOFT_DQN.policy(learned), metrics["value/loss"]

    (without, _), (drawn, loss) = learned(state, 0.0), learned(state, 10.0)
    assert float(distance_to_demos(drawn, drawn, demos)) < 0.9 * float(distance_to_demos(without, without, demos))
    # The loss that is reported is that of the values alone.
    assert float(loss) < 5


def test_the_first_rollout_does_not_change_what_the_network_means():
    policy = taken_over(SMALL["trpo"], SPECS["box"], cloned(SPECS["box"]))
    moved = eqx.tree_at(lambda p: p.norm, policy, policy.norm.add(100 + 50 * jnp.ones((4096, 3))))
    assert_allclose(moved(OBS[0]), policy(OBS[0]), atol=1e-2)


def test_a_policy_cloned_without_an_environment_acts_within_other_bounds_as_it_did():
    narrow = Spec(3, BoxActions((-0.5, 1.0), (0.5, 2.0)))
    policy = cloned(narrow)
    taken = taken_over(SMALL["trpo"], SPECS["box"], policy)
    assert_allclose([taken(o) for o in OBS], [policy(o) for o in OBS], rtol=1e-4, atol=1e-5)
    assert_allclose(taken.half_width, [1.0, 2.5])


def test_before_squashing_by_hand():
    at = jnp.array([-0.95, 0.0, 0.5, 0.95, 1.0, 3.0])
    edge, slope = np.arctanh(0.95), 1 / (1 - 0.95**2)
    want = [-edge, 0.0, np.arctanh(0.5), edge, edge + np.log1p(0.05 * slope), edge + np.log1p(2.05 * slope)]
    assert_allclose(before_squashing(at), want, rtol=1e-4)
    gradient = jax.grad(lambda x: jnp.sum(before_squashing(x)))(at)
    assert_allclose(gradient[jnp.array([1, 2, 5])], [1.0, 4 / 3, slope / (1 + 2.05 * slope)], rtol=1e-4)
    # Both sides of the seam have the same slope.
    seam = jax.grad(lambda x: jnp.sum(before_squashing(x)))(jnp.array([0.9499, 0.9501]))
    assert_allclose(seam[0], seam[1], rtol=5e-3)
    assert_allclose(before_squashing(-at), -before_squashing(at), rtol=1e-6)


def values_of(**changes):
    learner = dataclasses.replace(SOFT_DQN, **changes)
    return learner.final_policy(learner.init(SPECS["discrete"], key=jax.random.key(0)))


REFUSED = {
    "another size of observations": (SMALL["trpo"], cloned(Spec(5, SPECS["box"].actions)), "name a run of this env"),
    "discrete for real": (SMALL["trpo"], cloned(Spec(3, DiscreteActions(2))), "discrete actions"),
    "other hidden layers": (SMALL["gail"], cloned(SPECS["box"], (8, 4)), "--forward.hidden-sizes 8 4 --forward.activ"),
    "another activation": (SMALL["ppo"], cloned(SPECS["box"], activation="relu"), "--activation relu"),
    "a learner that squashes": (dataclasses.replace(SAC_LIKE_BC, linear_mean=False), cloned(SPECS["box"]),
                                "pass --linear-mean"),
    "squashed into one that does not": (SMALL["trpo"], SMALL["sac"].init(SPECS["box"], key=jax.random.key(0)).policy,
                                        "SAC's policy can only go on in sac"),
    "squashed, and not told": (SAC_LIKE_BC, dataclasses.replace(SMALL["sac"], activation="tanh").init(
        SPECS["box"], key=jax.random.key(0)).policy, "leave out --linear-mean"),
    "of standardized observations": (SMALL["sac"], STANDARDIZING.init(
        SPECS["box"], key=jax.random.key(0)).policy, "pass --standardize-observations"),
    "of observations as they are": (STANDARDIZING, SMALL["sac"].init(
        SPECS["box"], key=jax.random.key(0)).policy, "leave out --standardize-observations"),
    "a learner that does not act": (SMALL["bc"], cloned(SPECS["box"]), "leave out the warm start"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_with_what_to_pass(case):
    learner, policy, words = REFUSED[case]
    with pytest.raises(RequestError, match=words):
        warm_policy(learner, SPECS["box"], policy)


REFUSED_AS_VALUES = {
    "a policy as values of which the largest is taken": (
        dataclasses.replace(SOFT_DQN, temperature=0.0), cloned(SPECS["discrete"]), "pass --temperature"),
    "a policy as dueling values": (
        dataclasses.replace(SOFT_DQN, dueling=True), cloned(SPECS["discrete"]), "leave out --dueling"),
    "values that duel as values that do not": (
        SOFT_DQN, values_of(dueling=True), "a dueling head: pass --dueling"),
    "values of scaled observations": (
        SOFT_DQN, values_of(obs_scale=(1.0, 2.0, 3.0)), "pass --obs-scale 1.0 2.0 3.0"),
    "values of another width": (
        SOFT_DQN, values_of(hidden_sizes=(4,)), "pass --hidden-sizes 4"),
    "values as a policy": (SMALL["ppo"], values_of(), "can only go on in dqn"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED_AS_VALUES)
def test_values_that_do_not_fit_are_refused_with_what_to_pass(case):
    learner, policy, words = REFUSED_AS_VALUES[case]
    with pytest.raises(RequestError, match=words):
        warm_policy(learner, SPECS["discrete"], policy)


@pytest.mark.parametrize("name", ["ppo", "sac"])
def test_the_policy_is_held_while_its_critic_is_new(name):
    spec, learner = SPECS["discrete"], SMALL[name]
    if name == "ppo":
        learner = dataclasses.replace(learner, critic_updates=2)
    else:
        # Rollouts have 32 steps and learning starts at the first: with 33 steps more, the third moves the policy.
        learner = dataclasses.replace(learner, critic_steps=33, learning_starts=32, activation="tanh")
    state = learner.init(spec, key=jax.random.key(0))
    state = begun_with(state, taken_over(learner, spec, cloned(spec)))
    rollout = random_transitions(spec, (8, 4))
    update = jax.jit(lambda s, k: learner.update(s, rollout, rollout.reward, key=k)[0])
    policies, critics = [state.policy], [state.value if name == "ppo" else state.q]
    for i in range(3):
        state = update(state, jax.random.key(i))
        policies.append(state.policy)
        critics.append(state.value if name == "ppo" else state.q)

    def same(a, b):
        return [np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)]

    assert all(same(policies[0], policies[1]))
    assert all(same(policies[0], policies[2]))
    assert not all(same(policies[2].network, policies[3].network))
    for before, after in zip(critics[:-1], critics[1:], strict=True):
        assert not all(same(before, after))


def test_the_distance_to_the_experts_actions_by_hand():
    spec = SPECS["box"]
    policy = cloned(spec)
    rows = random_transitions(spec, (5,))
    reference = eqx.tree_at(lambda p: p.log_std, policy, jnp.array([-1.0, 0.5]))
    mean = np.stack([policy(o) for o in rows.obs])
    std = np.exp([-1.0, 0.5]) * np.asarray(policy.half_width)
    z = (np.asarray(rows.action) - mean) / std
    want = np.mean(np.sum(0.5 * z**2 + np.log(std) + 0.5 * np.log(2 * np.pi), axis=1))
    # The policy's own deviations play no part, and are not pulled at.
    value, gradient = eqx.filter_value_and_grad(lambda p: distance_to_demos(p, reference, rows))(policy)
    assert_allclose(value, want, rtol=1e-4)
    assert_array_equal(gradient.log_std, 0)
    assert float(jnp.max(jnp.abs(gradient.network.biases[-1]))) > 0
    discrete = cloned(SPECS["discrete"])
    rows = random_transitions(SPECS["discrete"], (5,))
    log_probs = [discrete.distribution(o).log_probs[a] for o, a in zip(rows.obs, rows.action, strict=True)]
    assert_allclose(distance_to_demos(discrete, discrete, rows), -np.mean(log_probs), rtol=1e-5)


def test_a_trust_region_step_follows_rewards_less_the_penalty():
    """With rewards that say nothing, all that is left of the step is towards the demonstrations."""
    spec, trpo = SPECS["box"], SMALL["trpo"]
    policy = taken_over(trpo, spec, cloned(spec))
    rollout, demos = random_transitions(spec, (32,)), random_transitions(spec, (16,), seed=3)

    @jax.jit
    def stepped(weight):
        flat = jnp.zeros(32)
        penalty = lambda p: weight * distance_to_demos(p, policy, demos)  # noqa: E731
        return trpo._policy_step(policy, rollout.obs, rollout.action, flat, penalty)

    for weight in (1.0, 10.0):
        nearer, metrics = stepped(weight)
        gain = distance_to_demos(policy, policy, demos) - distance_to_demos(nearer, policy, demos)
        assert_allclose(metrics["policy/improvement"], weight * gain, rtol=2e-2)
        assert float(gain) > 0
        assert 0 < float(metrics["policy/kl"]) <= trpo.max_kl
    _, metrics = stepped(0.0)
    assert float(metrics["policy/accepted"]) == 0


def test_the_distance_of_a_squashed_policy_is_that_of_its_mean_action_in_half_widths():
    spec = Spec(3, BoxActions((-1.0, 0.0), (3.0, 1.0)))
    policy = SMALL["sac"].policy(SMALL["sac"].init(spec, key=jax.random.key(0)))
    # With nothing in its network it acts in the middle, at (1, 0.5).
    middle = eqx.tree_at(lambda p: p.network, policy, jax.tree.map(jnp.zeros_like, policy.network))
    rows = dataclasses.replace(random_transitions(spec, (2,)), action=jnp.array([[3.0, 0.5], [1.0, 0.25]]))
    assert_allclose(distance_to_demos(middle, middle, rows), (1.0**2 + 0.5**2) / 2, rtol=1e-6)


def test_sacs_policy_step_is_drawn_to_the_demonstrations_by_the_penalty():
    spec, sac = SPECS["box"], dataclasses.replace(SMALL["sac"], learning_starts=0, num_updates=20, learning_rate=1e-2)
    state = sac.store(sac.init(spec, key=jax.random.key(0)), random_transitions(spec, (8, 4)))
    demos = random_transitions(spec, (16,), seed=3)

    @jax.jit
    def learned(state, weight):
        penalty = lambda p, key: weight * distance_to_demos(p, p, demos)  # noqa: E731
        return sac.learn(state, lambda step: 0.0 * step.reward, key=jax.random.key(1), penalty=penalty)[0].policy

    without, drawn = (distance_to_demos(p, p, demos) for p in (learned(state, 0.0), learned(state, 100.0)))
    assert float(drawn) < 0.9 * float(without)


@pytest.mark.parametrize("name", ["sac", "dqn", "ppo", "trpo"])
def test_every_gradient_step_draws_the_penaltys_rows_anew(name):
    """Many steps on one draw would learn it by heart. TRPO makes one step, whose line search needs one function."""
    spec = SPECS["discrete"]
    learner = SOFT_DQN if name == "dqn" else SMALL[name]
    if name == "sac":
        learner = dataclasses.replace(learner, learning_starts=0)
    batch, seen = random_transitions(spec, (learner.num_steps, 4)), []

    def penalty(policy, key):
        jax.debug.callback(lambda data: seen.append(tuple(np.asarray(data).tolist())), jax.random.key_data(key))
        return 0.0 * distance_to_demos(policy, policy, jax.tree.map(lambda x: x[0], batch))

    state = learner.init(spec, key=jax.random.key(0))
    jax.block_until_ready(learner.update(state, batch, batch.reward, key=jax.random.key(1), penalty=penalty))
    jax.effects_barrier()
    num_steps = {
        "ppo": lambda: learner.num_epochs * learner.num_minibatches,
        "trpo": lambda: 1,
    }.get(name, lambda: learner.num_updates)()
    assert len(set(seen)) == num_steps


def test_a_penaltys_key_is_none_that_the_step_draws_by_itself():
    key = jax.random.key(3)
    drawn = drawn_by(key, lambda policy, key: jax.random.key_data(key))
    assert drawn(None).tolist() not in jax.random.key_data(jax.random.split(key, 600)).tolist()
    assert drawn_by(key, None) is None


def test_clonings_part_is_of_the_rows_that_the_key_draws():
    spec = SPECS["box"]
    demos, sqil = expert_data(spec), dataclasses.replace(SMALL["sqil"], bc_coef=1.0)
    gail = dataclasses.replace(VARIANTS["gail-sac"], bc_updates=10)
    of_sqil, of_gail = (learner.init(spec, key=jax.random.key(0)) for learner in (sqil, gail))
    for penalty, policy in (
        (sqil._cloning(of_sqil, demos, jax.random.key(1))[0], sqil.policy(of_sqil)),
        (fading_cloning(gail, of_gail, demos, jax.random.key(1))[0], gail.policy(of_gail)),
    ):
        one, again, other = (float(penalty(policy, jax.random.key(number))) for number in (2, 2, 3))
        assert one == again != other


def test_standardized_logits_go_on_as_soft_values_of_observations_as_they_are():
    spec = SPECS["discrete"]
    sac = dataclasses.replace(STANDARDIZING, hidden_sizes=(8,), activation="tanh")
    state = sac.store(sac.init(spec, key=jax.random.key(0)), random_transitions(spec, (8, 4)))
    last = jnp.asarray(np.random.default_rng(0).normal(0.0, 0.3, (4, 8)), jnp.float32)
    policy = eqx.tree_at(lambda p: p.network.weights[-1], state.policy, last)
    taken = taken_over(SOFT_DQN, spec, policy)
    want = [policy.distribution(o).log_probs for o in OBS]
    assert np.ptp(want) > 0.1
    assert_allclose([taken.distribution(o).log_probs for o in OBS], want, rtol=1e-3, atol=1e-3)


def test_a_warm_start_is_never_more_random_than_its_preset():
    """Where the preset begins with less noise than that of a warm start, it stays."""
    box = cloned(SPECS["box"])
    for name, option, want in (
        ("gail-sac-humanoid", "forward.initial_temperature", 0.01),
        ("gail-sac-box", "forward.initial_temperature", 0.05),
        ("sac-box", "initial_temperature", 0.1),
        ("gail-ppo-motionwalk", "forward.initial_log_std", -2.0),
        ("gail-trpo-box", "forward.initial_log_std", -1.0),
    ):
        assert warm_fields(named_preset(name), box)[option] == want, name


@pytest.mark.parametrize(
    ("name", "want"),
    [
        ("gail-trpo-box", {"bc_updates": 100, "bc_coef": 1.0}),
        ("airl-trpo-box", {"bc_updates": 100}),
        ("lsiq-dqn-discrete", {"bc_updates": 100, "bc_coef": 1.0}),
        # These three have cloning by themselves, and it is left as it is.
        ("gail-sac-box", {}),
        ("sqil-sac-box", {}),
        ("lsiq-sac-box", {}),
        ("gail-sac-ant", {"bc_updates": 200, "bc_coef": 1.0}),
        ("trpo-box", {}),
    ],
)
def test_every_imitator_that_begins_with_a_clone_has_cloning_beside_it(name, want):
    found = warm_fields(named_preset(name), cloned(SPECS["discrete" if "discrete" in name else "box"]))
    assert {option: value for option, value in found.items() if option.startswith("bc_")} == want


@pytest.mark.parametrize("name", ["airl", "sqil", "lsiq"])
@pytest.mark.parametrize("kind", ["box", "discrete"])
def test_cloning_draws_the_policy_to_the_expert_and_fades(name, kind):
    spec, changes = SPECS[kind], {"bc_updates": 2, "bc_coef": 50.0}
    if name != "airl":
        changes["forward"] = dataclasses.replace(SMALL["sac"], learning_starts=0, learning_rate=1e-2, num_updates=20)
    learner = dataclasses.replace(SMALL[name], **changes)
    demos, rows = expert_data(spec), random_transitions(spec, (8, 4))

    @eqx.filter_jit
    def updated(learner, state, key):
        return learner.update(state, rows, demos, key=key)

    def distance(state):
        policy = learner.policy(state)
        return float(distance_to_demos(policy, policy, demos.train))

    states, weights = [learner.init(spec, key=jax.random.key(0))], []
    for number in range(3):
        state, metrics = updated(learner, states[-1], jax.random.key(number))
        states.append(state)
        weights.append(float(metrics["cloning/weight"]))
    assert_allclose(weights, [50.0, 25.0, 0.0])
    without, _ = updated(dataclasses.replace(learner, bc_coef=0.0), states[0], jax.random.key(0))
    assert distance(states[1]) < 0.99 * min(distance(states[0]), distance(without))


def test_cloning_of_sqil_stays_where_nothing_is_said_of_its_end():
    spec, learner = SPECS["box"], dataclasses.replace(SMALL["sqil"], bc_coef=3.0)
    state = learner.init(spec, key=jax.random.key(0))
    for number in range(2):
        state, metrics = learner.update(
            state, random_transitions(spec, (8, 4)), expert_data(spec), key=jax.random.key(number)
        )
        assert float(metrics["cloning/weight"]) == 3.0
