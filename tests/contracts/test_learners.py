"""What holds of every registered learner, on discrete and on real actions."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from menura.evaluation import UniformPolicy
from menura.run.artifacts import load_tree, save_tree
from menura.run.registry import from_json, to_json
from tests.learners import SMALL, SPECS, VARIANTS, specs_of, update_once

LEARNERS = SMALL | VARIANTS
EVERY = [(name, kind) for name in LEARNERS for kind in specs_of(name)]


class Case(NamedTuple):
    """A learner and what it does with a spec; ``jax.jit`` of the same function compiles once for all tests."""

    learner: Any
    spec: Any
    init: Callable[[Any], Any]
    update: Callable[[Any, Any], Any]


@pytest.fixture(scope="module", params=EVERY, ids="-".join)
def case(request):
    """A learner on discrete or on real actions."""
    name, kind = request.param
    learner, spec = LEARNERS[name], SPECS[kind]

    def init(key):
        state = learner.init(spec, key=key)
        # Here and not outside, because what leaves a compiled function is an array, whatever it was.
        assert all(isinstance(x, jax.Array) for x in jax.tree.leaves(state)), "States hold arrays only."
        return state

    return Case(learner, spec, init, lambda state, key: update_once(learner, state, spec, key))


def leaves(tree):
    return [np.asarray(x) for x in jax.tree.leaves(tree)]


def test_every_learner_keeps_the_contract(case, tmp_path):
    learner, spec = case.learner, case.spec
    state = jax.jit(case.init)(jax.random.key(0))
    new, metrics = jax.jit(case.update)(state, jax.random.key(1))
    # States are of the same shapes and types before and after.
    assert jax.tree.structure(state) == jax.tree.structure(new)
    assert [(x.shape, x.dtype) for x in leaves(state)] == [(x.shape, x.dtype) for x in leaves(new)]
    # Metrics are finite scalars named area/name, and something was learned.
    assert all(np.shape(value) == () and np.isfinite(value) for value in metrics.values())
    assert all(name.count("/") == 1 for name in metrics)
    assert any(not np.array_equal(a, b) for a, b in zip(leaves(state), leaves(new), strict=True))
    # An update is pure: the same arguments give the same result, also when it is traced anew.
    again, _ = jax.jit(lambda s, k: update_once(learner, s, spec, k))(state, jax.random.key(1))
    for a, b in zip(leaves(new), leaves(again), strict=True):
        np.testing.assert_array_equal(a, b)
    # What is saved comes back, to the bit.
    save_tree(tmp_path / "state.safetensors", new)
    loaded = load_tree(tmp_path / "state.safetensors", jax.eval_shape(lambda: state))
    for a, b in zip(leaves(new), leaves(loaded), strict=True):
        np.testing.assert_array_equal(a, b)
    # The policy acts within its action space.
    action = learner.policy(new)(jnp.zeros(spec.obs_size), key=jax.random.key(2))
    assert action.shape == UniformPolicy(spec).act(jnp.zeros(spec.obs_size), key=jax.random.key(0))[0].shape


def test_seeds_under_vmap_equal_the_same_seeds_alone(case):
    keys = jax.random.split(jax.random.key(5), 2)

    def train(key, init=case.init, update=case.update):
        init_key, update_key = jax.random.split(key)
        return update(init(init_key), update_key)[0]

    together = jax.jit(jax.vmap(train))(keys)
    for i, key in enumerate(keys):
        alone = train(key, jax.jit(case.init), jax.jit(case.update))
        for a, b in zip(leaves(together), leaves(alone), strict=True):
            np.testing.assert_allclose(a[i], b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", LEARNERS)
def test_learners_become_json_and_come_back(name):
    learner = LEARNERS[name]
    assert to_json(from_json(to_json(learner))) == to_json(learner)
    assert type(from_json(to_json(learner))) is type(learner)


@pytest.mark.parametrize("name", SMALL)
def test_learners_are_frozen_and_every_field_is_documented(name):
    import inspect

    learner = SMALL[name]
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(learner, dataclasses.fields(learner)[0].name, 1)
    source = inspect.getsource(type(learner))
    for field in dataclasses.fields(learner):
        declared = source.index(f"    {field.name}: ")
        after = source[declared:].split("\n", 2)[1].strip()
        assert after.startswith('"""'), f"{type(learner).__name__}.{field.name} has no docstring"


@pytest.mark.parametrize("name", ["gail", "airl"])
def test_a_holder_acts_with_the_newest_policy_and_keeps_what_its_forward_learner_keeps(name):
    learner = SMALL[name]
    state = jax.jit(lambda key: learner.init(SPECS["box"], key=key))(jax.random.key(0))
    average = jax.tree.map(lambda x: x + 1, state.forward.average)
    state = eqx.tree_at(lambda s: s.forward.average, state, average)
    assert eqx.tree_equal(learner.policy(state), state.forward.policy)
    assert eqx.tree_equal(learner.final_policy(state), average)
