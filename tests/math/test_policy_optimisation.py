"""PPO's objective and TRPO's step by hand: on a quadratic, at its KL bound, and when the search fails."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from menura.core import BoxActions, DiscreteActions, Spec
from menura.forward.on_policy import averaged, standardize, trainable, with_returns
from menura.forward.ppo import approximate_kl, clipped_surrogate
from menura.forward.trpo import TRPO, fisher_product, line_search, natural_step
from menura.networks import ValueFunction, make_policy


@pytest.mark.parametrize(
    ("ratio", "advantage", "want"),
    [(1.5, 1.0, 1.2), (1.5, -1.0, -1.5), (0.5, 1.0, 0.5), (0.5, -1.0, -0.8), (1.1, 2.0, 2.2)],
)
def test_clipped_surrogate_by_hand(ratio, advantage, want):
    got = clipped_surrogate(jnp.log(ratio), jnp.zeros(()), jnp.asarray(advantage), clip_eps=0.2)
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_approximate_kl_is_never_negative_and_zero_without_change():
    assert float(approximate_kl(jnp.asarray(-1.0), jnp.asarray(-1.0))) == 0
    for difference in (-2.0, -0.1, 0.1, 2.0):
        assert float(approximate_kl(jnp.asarray(difference), jnp.zeros(()))) > 0


def test_natural_step_on_a_quadratic_by_hand():
    fisher, gradient = jnp.array([1.0, 4.0]), jnp.array([2.0, 8.0])
    step = natural_step(gradient, lambda v: fisher * v, max_kl=0.5, damping=1e-6, num_cg_steps=10)
    # F⁻¹g = (2, 2); xᵀFx = 4 + 16 = 20; the KL of a step s is ½ sᵀFs.
    np.testing.assert_allclose(step, np.array([2.0, 2.0]) * np.sqrt(2 * 0.5 / 20), rtol=1e-4)
    np.testing.assert_allclose(0.5 * jnp.sum(fisher * step**2), 0.5, rtol=1e-4)


def test_natural_step_is_finite_where_the_fisher_information_is_nearly_singular():
    """A curvature below lineax's own bound for singular operators must not give nan."""
    size = 20_000
    gradient = jax.random.normal(jax.random.key(0), (size,))
    step = natural_step(gradient, lambda v: jnp.zeros_like(v), max_kl=0.01, damping=1e-3, num_cg_steps=10)
    assert np.all(np.isfinite(step))
    assert float(jnp.dot(step, gradient)) > 0


def test_line_search_takes_the_longest_step_that_improves_within_the_bound():
    def evaluate(x):
        return x[0] - 2 * x[0] ** 2, x[0] ** 2

    found, outcome = line_search(
        evaluate, jnp.zeros(1), jnp.array(0.0), jnp.array([1.0]), max_kl=0.1, shrink=0.5, max_backtracks=10
    )
    # 1 and 0.5 break the KL bound or do not improve; 0.25 has KL 0.0625.
    np.testing.assert_allclose(found, [0.25])
    assert bool(outcome["accepted"])
    assert int(outcome["backtracks"]) == 2


@pytest.mark.parametrize("surrogate", [lambda x: -(x[0] ** 2), lambda x: x[0] * jnp.nan])
def test_line_search_restores_the_old_parameters_when_nothing_improves(surrogate):
    old = jnp.array([0.0])
    found, outcome = line_search(
        lambda x: (surrogate(x), jnp.abs(x[0])),
        old,
        jnp.array(0.0),
        jnp.array([1.0]),
        max_kl=1.0,
        shrink=0.5,
        max_backtracks=5,
    )
    np.testing.assert_array_equal(found, old)
    assert not bool(outcome["accepted"])
    assert int(outcome["backtracks"]) == 5
    assert float(outcome["kl"]) == 0


@pytest.mark.parametrize("actions", [DiscreteActions(3), BoxActions((-1.0, -2.0), (1.0, 2.0))])
def test_fisher_products_equal_the_hessian_of_the_mean_kl(actions):
    policy = make_policy(Spec(3, actions), (4,), key=jax.random.key(0))
    policy = eqx.tree_at(lambda p: p.network.weights[-1], policy, policy.network.weights[-1] * 50)
    weights, fixed = eqx.partition(policy, trainable(policy))
    flat, unravel = ravel_pytree(weights)
    obs = jax.random.normal(jax.random.key(1), (20, 3))

    def distributions(x):
        return jax.vmap(eqx.combine(unravel(x), fixed).distribution)(obs)

    old = distributions(flat)
    hessian = jax.hessian(lambda x: jnp.mean(jax.vmap(lambda p, q: p.kl(q))(old, distributions(x))))(flat)
    v = jax.random.normal(jax.random.key(2), flat.shape)
    np.testing.assert_allclose(fisher_product(distributions, flat)(v), hessian @ v, atol=2e-4)


@pytest.mark.parametrize("actions", [DiscreteActions(2), BoxActions((-1.0,), (1.0,))])
@pytest.mark.parametrize("max_kl", [1e-3, 1e-2, 1e-1])
def test_trpo_improves_and_never_exceeds_its_kl_bound(actions, max_kl):
    spec = Spec(4, actions)
    learner = TRPO(max_kl=max_kl)
    policy = make_policy(spec, learner.hidden_sizes, key=jax.random.key(0))
    keys = jax.random.split(jax.random.key(1), 512)
    obs = jax.random.normal(jax.random.key(2), (512, 4))
    action = jax.vmap(lambda o, k: policy(o, key=k))(obs, keys)
    wanted = obs[:, 0] > 0 if isinstance(actions, DiscreteActions) else obs[:, 0]
    advantage = standardize(-jnp.square(action.reshape(-1).astype(jnp.float32) - wanted))
    new, metrics = jax.jit(learner._policy_step)(policy, obs, action, advantage)
    kl = jnp.mean(jax.vmap(lambda o: policy.distribution(o).kl(new.distribution(o)))(obs))
    assert float(metrics["policy/accepted"]) == 1
    assert float(metrics["policy/improvement"]) > 0
    assert 0.2 * max_kl < float(kl) <= max_kl * 1.001


def test_rescaling_returns_leaves_predictions_alone():
    value = ValueFunction(Spec(2, DiscreteActions(2)), (8,), key=jax.random.key(0))
    value = eqx.tree_at(lambda v: v.network.weights[-1], value, jnp.ones((1, 8)))
    value = with_returns(value, jnp.array([[1.0, 2.0], [3.0, 9.0]]))
    obs = jnp.array([0.3, -0.4])
    before = value(obs)
    after = with_returns(value, jnp.array([[100.0, 250.0]]))
    np.testing.assert_allclose(after(obs), before, rtol=1e-4)
    np.testing.assert_allclose(after.returns.mean, [(1 + 2 + 3 + 9 + 350) / 6], rtol=1e-5)


def test_averaged_policies_by_hand():
    spec = Spec(2, DiscreteActions(2))
    old, new = (make_policy(spec, (3,), key=jax.random.key(seed)) for seed in (0, 1))
    new = eqx.tree_at(lambda p: p.norm, new, new.norm.add(jnp.array([[1.0, 2.0], [3.0, 5.0]])))
    # An average that has seen nothing gives way altogether.
    np.testing.assert_array_equal(averaged(old, new, decay=0.75).network.weights[0], new.network.weights[0])
    old = eqx.tree_at(lambda p: p.norm, old, old.norm.add(jnp.ones((1, 2))))
    got = averaged(old, new, decay=0.75)
    np.testing.assert_allclose(
        got.network.weights[0], 0.75 * old.network.weights[0] + 0.25 * new.network.weights[0], rtol=1e-5
    )
    np.testing.assert_array_equal(got.norm.mean, new.norm.mean)
