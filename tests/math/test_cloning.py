"""Cloning's likelihood by hand: actions that were carried out at a bound, and expert means that lie past it."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from menura.core import BoxActions, DiscreteActions, ExpertData, Images, RequestError, Spec, Transition
from menura.forward.dqn import DQN
from menura.imitation.adversarial import GAIL
from menura.imitation.bc import BC, clips_at, negative_log_likelihood
from menura.imitation.sqil import SQIL
from menura.networks import make_policy
from menura.run.resolve import require_pictures

SPEC = Spec(1, BoxActions((-1.0, -np.inf), (3.0, np.inf)))
"""An action between −1 and 3, and one that is not bounded."""


def steps_of(obs, action):
    """Demonstrated steps."""
    scalar, flag = jnp.zeros(len(obs)), jnp.zeros(len(obs), bool)
    return Transition(obs, action, scalar, obs, flag, flag, scalar)


def test_the_loss_of_an_action_at_a_bound_is_that_of_lying_there_or_beyond():
    policy = make_policy(SPEC, (), key=jax.random.key(0))
    policy = eqx.tree_at(lambda p: p.network.biases[-1], policy, jnp.array([0.5, 0.25]))
    obs, action = jnp.zeros((3, 1)), jnp.array([[3.0, 1.0], [-1.0, -1.0], [0.4, 0.3]])
    np.testing.assert_array_equal(clips_at(policy), [[-1, -np.inf], [3, np.inf]])
    # The network's 0.5 is half of the half-width, 2, from the center, 1; there is no bound at ±1 for the second.
    first, second = stats.norm(2.0, 2.0), stats.norm(0.25, 1.0)
    of_first = [first.logsf(3.0), first.logcdf(-1.0), first.logpdf(0.4)]
    want = -np.mean(of_first + second.logpdf([1.0, -1.0, 0.3]))
    np.testing.assert_allclose(negative_log_likelihood(policy, steps_of(obs, action), clipped=True), want, rtol=1e-5)
    plain = -np.mean(first.logpdf([3.0, -1.0, 0.4]) + second.logpdf([1.0, -1.0, 0.3]))
    np.testing.assert_allclose(negative_log_likelihood(policy, steps_of(obs, action)), plain, rtol=1e-5)


def test_a_clone_finds_an_experts_mean_past_the_bound():
    rng = np.random.default_rng(0)
    spec = Spec(1, BoxActions((-1.0,), (1.0,)))
    obs = rng.uniform(-1, 1, (1000, 1)).astype(np.float32)
    action = np.clip(2 * obs + 0.3 * rng.normal(size=obs.shape), -1, 1).astype(np.float32)
    rows = steps_of(jnp.asarray(obs), jnp.asarray(action))
    none = jax.tree.map(lambda x: x[:0], rows)
    for clipped, difference in ((True, 4.0), (False, 2.7)):
        learner = BC(
            hidden_sizes=(),
            learning_rate=3e-2,
            num_batches=400,
            patience=0,
            heldout_fraction=0.0,
            clipped_likelihood=clipped,
        )
        state = jax.jit(lambda key: learner.init(spec, key=key))(jax.random.key(0))  # noqa: B023
        state, _ = jax.jit(lambda s: learner.update(s, None, ExpertData(rows, none), key=jax.random.key(1)))(state)  # noqa: B023
        policy = learner.final_policy(state)
        np.testing.assert_allclose(policy(jnp.ones(1)) - policy(-jnp.ones(1)), [difference], atol=0.3)
        if clipped:
            np.testing.assert_allclose(jnp.exp(policy.log_std), [0.3], atol=0.06)


def test_the_clone_that_is_kept_averages_policies_over_the_last_tenth_at_first():
    rng = np.random.default_rng(0)
    spec = Spec(2, DiscreteActions(3))
    rows = steps_of(jnp.asarray(rng.normal(size=(50, 2)), jnp.float32), jnp.asarray(rng.integers(0, 3, 50)))
    learner = BC(hidden_sizes=(4,), num_batches=5, policy_averaging=0.8, heldout_fraction=0.0)
    data = ExpertData(rows, jax.tree.map(lambda x: x[:0], rows))
    states = [learner.init(spec, key=jax.random.key(0))]
    for number in range(2):
        states.append(learner.update(states[-1], None, data, key=jax.random.key(number))[0])
    weights = [state.policy.network.weights[0] for state in states]
    want = (0.1 * weights[0] + 0.9 * weights[1]) * 2 / 11 + weights[2] * 9 / 11
    kept = learner.final_policy(states[2])
    np.testing.assert_allclose(kept.network.weights[0], want, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(kept.norm.mean, rows.obs.mean(axis=0), rtol=1e-5, atol=1e-6)


def test_moved_pictures_are_learned_from_where_there_are_any():
    spec = Spec(12 * 12, DiscreteActions(2), (("observation", Images(1, 12, 12)),))
    dark = np.zeros((40, 12, 12), np.uint8)
    dark[np.arange(40), 3 + np.arange(40) % 6, 6] = 255
    rows = steps_of(jnp.asarray(dark.reshape(40, -1)), jnp.asarray(np.arange(40) % 6 > 2, jnp.int32))
    data = ExpertData(rows, jax.tree.map(lambda x: x[:0], rows))
    losses = {}
    for shift in (0, 3):
        learner = BC(hidden_sizes=(), num_batches=60, random_shift=shift, heldout_fraction=0.0)
        state, metrics = learner.update(learner.init(spec, key=jax.random.key(0)), None, data, key=jax.random.key(1))
        losses[shift] = float(metrics["loss/heldout"])
    # Where the light stands is all there is to know, and moves hide it.
    assert losses[0] < 0.01 < 0.1 < losses[3]
    with pytest.raises(RequestError, match="random_shift=3 is about pictures, and none are observed"):
        require_pictures(learner, SPEC)
    with pytest.raises(RequestError, match=r"forward\.encoder=residual is about pictures"):
        require_pictures(SQIL(forward=DQN(encoder="residual")), SPEC)
    with pytest.raises(RequestError, match="common_pixels=False is about pictures"):
        require_pictures(GAIL(common_pixels=False), SPEC)
    require_pictures(GAIL(), SPEC)
