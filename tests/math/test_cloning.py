"""Cloning's likelihood by hand: actions that were carried out at a bound, and expert means that lie past it."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from menura.core import BoxActions, ExpertData, Spec, Transition
from menura.imitation.bc import BC, clips_at, negative_log_likelihood
from menura.networks import make_policy

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
    np.testing.assert_allclose(negative_log_likelihood(policy, steps_of(obs, action)), want, rtol=1e-5)


def test_a_clone_finds_an_experts_mean_past_the_bound():
    rng = np.random.default_rng(0)
    spec = Spec(1, BoxActions((-1.0,), (1.0,)))
    obs = rng.uniform(-1, 1, (1000, 1)).astype(np.float32)
    action = np.clip(2 * obs + 0.3 * rng.normal(size=obs.shape), -1, 1).astype(np.float32)
    rows = steps_of(jnp.asarray(obs), jnp.asarray(action))
    learner = BC(hidden_sizes=(), learning_rate=3e-2, num_batches=400, patience=0, heldout_fraction=0.0)
    none = jax.tree.map(lambda x: x[:0], rows)
    update = jax.jit(lambda s, k: learner.update(s, None, ExpertData(rows, none), key=k)[0])
    policy = learner.final_policy(update(learner.init(spec, key=jax.random.key(0)), jax.random.key(1)))
    # By the density of what was carried out the difference is 2.7.
    np.testing.assert_allclose(policy(jnp.ones(1)) - policy(-jnp.ones(1)), [4.0], atol=0.3)
    np.testing.assert_allclose(jnp.exp(policy.log_std), [0.3], atol=0.06)
