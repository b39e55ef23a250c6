"""Returns and advantages against numbers worked by hand and an O(n²) loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from menura.returns import discounted, gae, n_step


def random_stream(seed, length=40):
    rng = np.random.default_rng(seed)
    terminated = rng.random(length) < 0.1
    truncated = (rng.random(length) < 0.1) & ~terminated
    numbers = rng.normal(size=(3, length)).astype(np.float32)
    return (*map(jnp.asarray, numbers), jnp.asarray(terminated), jnp.asarray(truncated))


def gae_by_definition(reward, value, next_value, terminated, truncated, gamma, gae_lambda):
    """Σ_l (γλ)^l δ_{t+l}, summed by two loops that stop after the step an episode ends in."""
    delta = reward + gamma * np.where(terminated, 0, next_value) - value
    advantage = np.zeros(len(reward))
    for t in range(len(reward)):
        for k in range(t, len(reward)):
            advantage[t] += (gamma * gae_lambda) ** (k - t) * delta[k]
            if terminated[k] or truncated[k]:
                break
    return advantage


def test_discounted_counts_every_later_reward_once():
    got = discounted(jnp.array([1.0, 2.0, 4.0]), gamma=0.5)
    np.testing.assert_allclose(got, [1 + 0.5 * 2 + 0.25 * 4, 2 + 0.5 * 4, 4])


def test_gae_of_two_steps_by_hand():
    one, no = jnp.ones(2), jnp.zeros(2, bool)
    # δ = 1 + 0.5·1 − 1 = 0.5 at both steps; A_1 = 0.5 and A_0 = 0.5 + 0.5·0.5·0.5.
    got = gae(one, one, one, no, no, gamma=0.5, gae_lambda=0.5)
    np.testing.assert_allclose(got, [0.625, 0.5])


def test_termination_is_worth_nothing_more_and_truncation_the_successors_value():
    reward, value, next_value = jnp.array([1.0]), jnp.array([0.0]), jnp.array([10.0])
    yes, no = jnp.array([True]), jnp.array([False])
    ended = gae(reward, value, next_value, yes, no, gamma=0.9, gae_lambda=1.0)
    cut = gae(reward, value, next_value, no, yes, gamma=0.9, gae_lambda=1.0)
    np.testing.assert_allclose([ended[0], cut[0]], [1.0, 1.0 + 9.0])


@pytest.mark.parametrize("seed", range(3))
def test_gae_equals_its_definition(seed):
    stream = random_stream(seed)
    want = gae_by_definition(*map(np.asarray, stream), 0.9, 0.8)
    np.testing.assert_allclose(gae(*stream, gamma=0.9, gae_lambda=0.8), want, atol=1e-5)
    np.testing.assert_allclose(jax.jit(lambda *s: gae(*s, gamma=0.9, gae_lambda=0.8))(*stream), want, atol=1e-5)


def test_gae_over_many_environments_equals_each_alone():
    streams = [random_stream(seed) for seed in range(4)]
    together = jax.tree.map(lambda *x: jnp.stack(x), *streams)
    got = jax.vmap(lambda *s: gae(*s, gamma=0.99, gae_lambda=0.95))(*together)
    for row, stream in zip(got, streams, strict=True):
        np.testing.assert_allclose(row, gae(*stream, gamma=0.99, gae_lambda=0.95), atol=1e-5)


@pytest.mark.parametrize("num_steps", [1, 3, 50])
def test_n_step_returns_equal_their_definition(num_steps):
    reward, _, next_value, terminated, truncated = random_stream(7)
    want = np.zeros(len(reward))
    for t in range(len(reward)):
        for k in range(t, min(t + num_steps, len(reward))):
            want[t] += 0.9 ** (k - t) * reward[k]
            last = k == min(t + num_steps, len(reward)) - 1
            if terminated[k]:
                break
            if truncated[k] or last:
                want[t] += 0.9 ** (k - t + 1) * next_value[k]
                break
    got = n_step(reward, next_value, terminated, truncated, gamma=0.9, num_steps=num_steps)
    np.testing.assert_allclose(got, want, atol=1e-5)
