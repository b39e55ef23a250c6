"""Distributions against scipy.stats, statistics against NumPy, and the Fisher information against its definition."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from menura.core import BoxActions, DiscreteActions, Spec
from menura.networks import MLP, Categorical, DiagonalGaussian, RunningNorm, ValueFunction, make_policy

GAUSSIAN = DiagonalGaussian(jnp.array([0.3, -1.0]), jnp.array([-0.5, 0.2]))
OTHER_GAUSSIAN = DiagonalGaussian(jnp.array([0.0, -0.5]), jnp.array([0.1, 0.0]))
CATEGORICAL = Categorical(jnp.array([0.1, 1.0, -2.0]))
OTHER_CATEGORICAL = Categorical(jnp.array([0.0, 0.3, 0.5]))


def test_gaussian_agrees_with_scipy():
    action = np.array([0.5, -2.0])
    scipy_normal = stats.norm(np.asarray(GAUSSIAN.mean), np.exp(np.asarray(GAUSSIAN.log_std)))
    np.testing.assert_allclose(GAUSSIAN.log_prob(jnp.asarray(action)), scipy_normal.logpdf(action).sum(), rtol=1e-5)
    np.testing.assert_allclose(GAUSSIAN.entropy(), scipy_normal.entropy().sum(), rtol=1e-5)


def test_an_action_at_a_bound_tells_only_that_it_lies_there_or_beyond():
    # Clipped to [-1, 0.5] and unbounded; then inside, at the lower bound, at the upper one and past it.
    low, high = jnp.array([-1.0, -jnp.inf]), jnp.array([0.5, jnp.inf])
    first, second = (stats.norm(m, s) for m, s in zip(GAUSSIAN.mean, np.exp(GAUSSIAN.log_std), strict=True))
    cases = {0.2: first.logpdf(0.2), -1.0: first.logcdf(-1.0), 0.5: first.logsf(0.5), 0.9: first.logpdf(0.9)}
    for action, expected in cases.items():

        def likelihood(distribution, action=action):
            return distribution.clipped_log_prob(jnp.array([action, 3.0]), low=low, high=high)

        np.testing.assert_allclose(likelihood(GAUSSIAN), expected + second.logpdf(3.0), rtol=1e-5)
        gradient = jax.grad(likelihood)(GAUSSIAN)
        assert np.all(np.isfinite(gradient.mean))
        assert np.all(np.isfinite(gradient.log_std))
    # A mean far past the bound is as good as can be, and stays there.
    sure = DiagonalGaussian(jnp.array([9.0]), jnp.array([-1.0]))
    at_bound = sure.clipped_log_prob(jnp.array([0.5]), low=low[:1], high=high[:1])
    np.testing.assert_allclose(at_bound, 0.0, atol=1e-6)


def test_categorical_agrees_with_scipy():
    p = np.exp(CATEGORICAL.logits) / np.exp(CATEGORICAL.logits).sum()
    np.testing.assert_allclose(CATEGORICAL.entropy(), stats.entropy(p), rtol=1e-5)
    np.testing.assert_allclose(CATEGORICAL.log_prob(jnp.asarray(2)), np.log(p[2]), rtol=1e-5)
    assert int(CATEGORICAL.mode()) == 1


def test_categorical_kl_agrees_with_scipy():
    p, q = (np.exp(d.log_probs) for d in (CATEGORICAL, OTHER_CATEGORICAL))
    np.testing.assert_allclose(CATEGORICAL.kl(OTHER_CATEGORICAL), stats.entropy(p, q), rtol=1e-5)


def test_gaussian_kl_by_hand():
    # One dimension, N(0, 1) to N(1, 2²): log 2 + (1 + 1)/(2·4) − 1/2.
    p = DiagonalGaussian(jnp.zeros(1), jnp.zeros(1))
    q = DiagonalGaussian(jnp.ones(1), jnp.log(2.0) * jnp.ones(1))
    np.testing.assert_allclose(p.kl(q), np.log(2) + 2 / 8 - 0.5, rtol=1e-6)
    np.testing.assert_allclose(p.kl(p), 0, atol=1e-7)


def test_samples_have_the_distributions_moments():
    keys = jax.random.split(jax.random.key(0), 20_000)
    samples = np.asarray(jax.vmap(lambda k: GAUSSIAN.sample(key=k))(keys))
    np.testing.assert_allclose(samples.mean(0), GAUSSIAN.mean, atol=0.05)
    np.testing.assert_allclose(samples.std(0), np.exp(GAUSSIAN.log_std), atol=0.05)
    counts = np.bincount(np.asarray(jax.vmap(lambda k: CATEGORICAL.sample(key=k))(keys)), minlength=3)
    np.testing.assert_allclose(counts / len(keys), np.exp(CATEGORICAL.log_probs), atol=0.02)


@pytest.mark.parametrize("distribution", [GAUSSIAN, CATEGORICAL])
def test_fisher_information_is_the_hessian_of_the_kl(distribution):
    flat, unravel = jax.flatten_util.ravel_pytree(distribution)
    hessian = jax.hessian(lambda x: distribution.kl(unravel(x)))(flat)
    tangent = jax.random.normal(jax.random.key(1), flat.shape)
    got, _ = jax.flatten_util.ravel_pytree(distribution.fisher_product(unravel(tangent)))
    np.testing.assert_allclose(got, hessian @ tangent, atol=1e-5)


def test_running_norm_of_batches_equals_numpy_over_all():
    data = np.random.default_rng(0).normal(3.0, 2.0, size=(90, 4)).astype(np.float32)
    norm = RunningNorm(4)
    for batch in np.split(data, [10, 35]):
        norm = norm.add(jnp.asarray(batch))
    np.testing.assert_allclose(norm.mean, data.mean(0), rtol=1e-4)
    np.testing.assert_allclose(norm.var, data.var(0), rtol=1e-4)
    np.testing.assert_allclose(jax.vmap(norm)(jnp.asarray(data)).std(0), 1, rtol=1e-3)


def test_a_feature_that_never_varied_is_only_centred():
    norm = RunningNorm(1).add(jnp.full((5, 1), 7.0))
    np.testing.assert_allclose(norm(jnp.array([7.5])), [0.5])


def test_mlp_computes_its_layers_by_hand():
    network = MLP(2, 1, (2,), activation="relu", key=jax.random.key(0))
    weights = (jnp.array([[1.0, 2.0], [-1.0, 0.0]]), jnp.array([[3.0, 4.0]]))
    network = eqx.tree_at(lambda n: (n.weights, n.biases), network, (weights, (jnp.array([0.5, 0.0]), jnp.ones(1))))
    np.testing.assert_allclose(network(jnp.array([1.0, 1.0])), [3 * 3.5 + 4 * 0 + 1])


def test_policies_scale_real_actions_to_the_environments_bounds():
    spec = Spec(3, BoxActions((0.0, -4.0), (2.0, 4.0)))
    policy = make_policy(spec, (8,), key=jax.random.key(0))
    distribution = policy.distribution(jnp.zeros(3))
    np.testing.assert_allclose(distribution.mean, [1.0, 0.0], atol=0.05)
    np.testing.assert_allclose(np.exp(distribution.log_std), [1.0, 4.0], rtol=1e-5)


def test_a_policy_without_a_key_takes_its_likeliest_action():
    policy = make_policy(Spec(3, DiscreteActions(4)), (8,), key=jax.random.key(0))
    obs = jnp.array([1.0, 0.0, -1.0])
    assert int(policy(obs)) == int(jnp.argmax(policy.distribution(obs).logits))
    action, log_prob = policy.act(obs, key=jax.random.key(3))
    np.testing.assert_allclose(log_prob, policy.distribution(obs).log_prob(action))


def test_values_are_in_units_of_reward():
    value = ValueFunction(Spec(2, DiscreteActions(2)), (4,), key=jax.random.key(0))
    value = eqx.tree_at(lambda v: (v.returns.mean, v.returns.var), value, (jnp.array([5.0]), jnp.array([4.0])))
    value = eqx.tree_at(lambda v: v.network.biases[-1], value, jnp.array([1.5]))
    np.testing.assert_allclose(value(jnp.zeros(2)), 5 + 2 * 1.5, rtol=1e-6)
