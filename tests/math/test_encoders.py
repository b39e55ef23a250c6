"""Decoding, convolutions and the two encoders, against numbers worked by hand and against XLA's own convolution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from menura.core import BoxActions, DiscreteActions, Images, Spec, Vector
from menura.encoders import (
    NatureEncoder,
    PartsEncoder,
    ResidualEncoder,
    convolution,
    decoded,
    encoded,
    num_numbers,
    shifted,
    vectors_in,
)
from menura.environments.native.catch import Catch, CatchState
from menura.imitation.common_pixels import CommonPixels
from menura.networks import PartsNorm, PictureNetwork, make_network, make_policy, over_rows


def test_shifts_move_all_frames_alike_draw_edges_out_and_leave_vectors_alone():
    parts = (("joints", Vector(1)), ("camera", Images(2, 3, 3)))
    frames = np.arange(18, dtype=np.uint8).reshape(2, 3, 3, 1)
    obs = jnp.concatenate([encoded(jnp.array([2.5])), jnp.asarray(frames).reshape(-1)])
    drawn_out = np.pad(frames, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    possible = {drawn_out[:, i : i + 3, j : j + 3].tobytes() for i in range(3) for j in range(3)}
    move = jax.jit(lambda key: shifted(obs, parts, most=1, key=key))
    moved = [np.asarray(move(jax.random.key(seed))) for seed in range(60)]
    assert {m[4:].tobytes() for m in moved} == possible
    assert all((m[:4] == np.asarray(obs)[:4]).all() for m in moved)


def test_a_convolution_weighs_every_patch_by_its_kernel():
    picture = jnp.arange(12.0).reshape(3, 4, 1)
    kernel = jnp.array([[1.0, 0.0], [0.0, 10.0]])[:, :, None, None]
    got = convolution(picture, kernel, jnp.array([0.5]), stride=1)[..., 0]
    np.testing.assert_allclose(got, [[50.5, 61.5, 72.5], [94.5, 105.5, 116.5]])


@pytest.mark.parametrize(("side", "stride"), [(8, 4), (4, 2), (3, 1), (3, 2)])
def test_products_of_matrices_give_what_xla_gives(side, stride):
    rng = np.random.default_rng(0)
    picture, kernel = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((21, 18, 3), (side, side, 3, 5)))
    layout = ("NHWC", "HWIO", "NHWC")
    want = jax.lax.conv_general_dilated(picture[None], kernel, (stride, stride), "VALID", dimension_numbers=layout)[0]
    np.testing.assert_allclose(convolution(picture, kernel, jnp.zeros(5), stride=stride), want, atol=2e-4)


def test_the_nature_network_has_its_published_shapes():
    encoder = jax.eval_shape(lambda key: NatureEncoder(Images(4, 84, 84), key=key), jax.random.key(0))
    assert [layer.kernel.shape for layer in encoder.layers] == [(8, 8, 4, 32), (4, 4, 32, 64), (3, 3, 64, 64)]
    # 84 → 20 → 9 → 7 pixels a side, and 7 · 7 · 64 = 3136.
    assert encoder.dense.weight.shape == (512, 3136)


def test_pictures_too_small_for_it_keep_their_size_under_small_kernels():
    encoder = jax.eval_shape(lambda key: NatureEncoder(Images(1, 10, 5), key=key), jax.random.key(0))
    assert [layer.kernel.shape for layer in encoder.layers] == [(3, 3, 1, 16)]
    assert encoder.dense.weight.shape == (128, 10 * 5 * 16)


def test_the_residual_network_halves_a_picture_at_every_section():
    shapes = {size: (11 if size == 84 else 3) for size in (84, 10)}
    for size, side in shapes.items():
        encoder = jax.eval_shape(
            lambda key, size=size: ResidualEncoder(Images(1, size, size), key=key), jax.random.key(0)
        )
        assert encoder.dense.weight.shape == (256, side * side * 32)


def test_frames_and_colors_become_the_channels_of_the_pixels_they_belong_to():
    shape = Images(2, 6, 4, 3)
    encoder = PartsEncoder((("camera", shape),), "nature", key=jax.random.key(0))
    frames = jax.random.uniform(jax.random.key(1), (2, 6, 4, 3))
    stacked = jnp.concatenate([frames[0], frames[1]], axis=-1)
    np.testing.assert_allclose(encoder(frames.reshape(-1)), encoder.encoders[0](stacked), rtol=1e-6)


PARTS = (("joints", Vector(2)), ("camera", Images(2, 1, 3)))


def test_bytes_are_decoded_to_the_numbers_and_shares_of_255_that_they_stand_for():
    joints = jnp.array([1.5, -1e-20])
    obs = jnp.concatenate([encoded(joints), jnp.array([0, 51, 255, 102, 153, 204], jnp.uint8)])
    assert num_numbers(PARTS) == 8
    got = decoded(obs, PARTS)
    np.testing.assert_array_equal(got[:2], joints)
    np.testing.assert_allclose(got[2:], [0, 0.2, 1, 0.4, 0.6, 0.8], rtol=1e-6)


@pytest.mark.parametrize("actions", [DiscreteActions(4), BoxActions((-1.0,) * 3, (1.0,) * 3)])
def test_policies_of_pictures_leave_bytes_to_their_network(actions):
    spec = Spec(14, actions, PARTS)
    policy = make_policy(spec, (8,), key=jax.random.key(0))
    assert isinstance(policy.norm, PartsNorm)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(policy))
    obs = jnp.arange(14, dtype=jnp.uint8)
    assert policy.norm(obs).dtype == jnp.uint8
    # The hidden layers follow 64 features of the vector and 128 of the pictures.
    assert [w.shape for w in policy.network.weights] == [
        (8, 192),
        (4 if isinstance(actions, DiscreteActions) else 3, 8),
    ]
    assert np.isfinite(policy.distribution(obs).entropy())
    assert isinstance(make_network(spec, 1, (), beside_size=2, key=jax.random.key(0)), PictureNetwork)


def test_vectors_beside_pictures_are_standardized_and_bytes_are_not():
    joints = np.float32([[100.0, 3.0], [104.0, 3.0], [-9999.0, 7.0]])
    pixels = np.arange(18, dtype=np.uint8).reshape(3, 6)
    obs = jnp.asarray(np.concatenate([joints.view(np.uint8), pixels], axis=1))
    norm = PartsNorm(PARTS).of(obs, jnp.asarray(2))
    assert norm.count == 2
    got = norm(obs[1])
    # The mean of 100 and 104 is 102 and their deviation 2; what never varied is only centered.
    np.testing.assert_allclose(vectors_in(got, PARTS), [1.0, 0.0])
    np.testing.assert_array_equal(got[8:], pixels[1])
    assert norm.add(obs[2:]).count == 3
    np.testing.assert_allclose(norm.of(obs[2:]).vectors.mean, [-9999.0, 7.0])


def test_bytes_without_vectors_are_left_as_they_are():
    norm = PartsNorm(PARTS[1:]).of(jnp.zeros((5, 6), jnp.uint8), jnp.asarray(4))
    assert norm.count == 4
    obs = jnp.arange(6, dtype=jnp.uint8)
    np.testing.assert_array_equal(norm(obs), obs)


def test_many_bytes_are_taken_a_few_at_a_time_with_the_same_result():
    obs = jnp.arange(600 * 2, dtype=jnp.uint8).reshape(600, 2)
    got = over_rows(lambda o, i: o.astype(jnp.int32).sum() + i, obs, jnp.arange(600))
    np.testing.assert_array_equal(got, np.asarray(obs, int).sum(1) + np.arange(600))


def test_pixels_are_shown_within_what_both_sides_have_shown():
    parts = (("picture", Images(1, 1, 4)), ("speed", Vector(1)))
    speed = np.frombuffer(np.float32(2.5).tobytes(), np.uint8)

    def row(*pixels):
        return np.concatenate([np.array(pixels, np.uint8), speed])

    # A mark that only the expert has; a pixel that the learner alone changes; one both change; one without overlap.
    expert = np.stack([row(128, 0, 0, 200), row(128, 0, 255, 210)])
    learner = np.stack([row(0, 0, 255, 20), row(0, 255, 0, 30)])
    common = CommonPixels(parts).seen(jnp.asarray(expert), jnp.asarray(learner))
    np.testing.assert_array_equal(common(jnp.asarray(expert[1]))[:4], [0, 0, 255, 30])
    np.testing.assert_array_equal(common(jnp.asarray(learner[1]))[:4], [0, 0, 0, 30])
    np.testing.assert_array_equal(common(jnp.asarray(expert[0]))[4:], speed)
    # Rows that only fill up the shape are not looked at, and what was seen before is kept.
    more = common.seen(jnp.asarray(expert[::-1] * 0 + 77), jnp.asarray(learner), jnp.asarray(0))
    np.testing.assert_array_equal(more.low, common.low)


def test_a_ball_falls_and_is_caught_or_missed():
    env = Catch(rows=3, columns=3, balls=1)
    state = CatchState(jnp.asarray(0), jnp.asarray(2), jnp.asarray(1), jnp.asarray(0), jnp.asarray(True))
    np.testing.assert_array_equal(env.observe(state).reshape(3, 3), [[0, 0, 255], [0, 0, 0], [0, 255, 0]])
    key = jax.random.key(0)
    state, reward, terminated = env.step(state, jnp.asarray(2), key=key)
    np.testing.assert_array_equal(env.observe(state).reshape(3, 3), [[0, 0, 0], [0, 0, 255], [0, 0, 255]])
    assert (float(reward), bool(terminated)) == (0.0, False)
    _, reward, terminated = env.step(state, jnp.asarray(1), key=key)
    assert (float(reward), bool(terminated)) == (1.0, True)
    _, reward, terminated = env.step(state, jnp.asarray(0), key=key)
    assert (float(reward), bool(terminated)) == (-1.0, True)
