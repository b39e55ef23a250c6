"""The replay that keeps every picture once: what is drawn is, to the byte, what was seen."""

import jax
import numpy as np
import pytest

from menura.core import DiscreteActions, Images, RequestError, Spec, Transition, Vector
from menura.frame_replay import FrameReplay
from menura.priorities import SumTree
from tests.pictures import Pictures


def rollouts(num_rollouts, num_steps=7, num_envs=2, seed=0):
    """What a uniform policy meets, and all of it as one rollout ``[time, env]``."""
    env = Pictures(num_envs)
    carry, made = env.reset(seed), []
    rng = np.random.default_rng(seed)
    for _ in range(num_rollouts):
        rows = []
        for _ in range(num_steps):
            action = rng.integers(0, 2, num_envs).astype(np.int32)
            step = env.step(action)
            rows.append(
                (carry, action, step.reward, step.next_obs, step.terminated, step.truncated, np.zeros(num_envs, "f4"))
            )
            carry = step.obs
        made.append(Transition(*(np.stack(column) for column in zip(*rows, strict=True))))
    return made, jax.tree.map(lambda *parts: np.concatenate(parts), *made)


def replay_of(spec, capacity, made, num_envs=2, **settings):
    source = FrameReplay(spec, capacity, num_envs, **({"num_updates": 4, "batch_size": 32} | settings))
    source.allocate()
    for rollout in made:
        source.add(rollout)
    return source


def by_frame(obs):
    return {row.tobytes(): i for i, row in enumerate(obs)}


@pytest.mark.parametrize("capacity", [1000, 60])
def test_what_is_drawn_is_what_was_seen_and_no_stack_crosses_an_ending(capacity):
    made, seen = rollouts(20)
    source = replay_of(Pictures.spec, capacity, made, num_updates=100)
    rows = source.draw(jax.random.key(0)).batches.rows
    rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), rows)
    # Every frame is unlike all others, so that its bytes tell when it was seen.
    when = by_frame(seen.obs.reshape(-1, Pictures.spec.obs_size))
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), seen)
    found = [when[obs.tobytes()] for obs in rows.obs]
    for got, want in zip(jax.tree.leaves(rows), jax.tree.leaves(flat), strict=True):
        np.testing.assert_array_equal(got, want[found])
    assert flat.terminated[found].any()
    assert flat.truncated[found].any()
    # All that is still whole is drawn, and nothing older: of 140 steps of each copy the last 30, or all.
    assert len(set(found)) == source.size
    assert source.size == 280 if capacity == 1000 else 20 < source.size <= 60
    assert min(found) >= (0 if capacity == 1000 else 2 * 110)


def test_rewards_of_n_steps_stop_at_endings_and_at_the_newest_step():
    made, seen = rollouts(6)
    source = replay_of(Pictures.spec, 1000, made, num_returned=3)
    batch = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), source.draw(jax.random.key(1)).batches)
    ended = seen.terminated | seen.truncated
    when = by_frame(seen.obs.reshape(-1, Pictures.spec.obs_size))
    lengths = set()
    for i in range(len(batch.index)):
        time, env = divmod(when[batch.rows.obs[i].tobytes()], 2)
        last = time
        while last < time + 2 and last < 41 and not ended[last, env]:
            last += 1
        lengths.add(last - time)
        np.testing.assert_array_equal(batch.counted[i], np.arange(3) <= last - time)
        np.testing.assert_array_equal(batch.rewards[i][: last - time + 1], seen.reward[time : last + 1, env])
        np.testing.assert_array_equal(batch.rows.next_obs[i], seen.next_obs[last, env])
        assert batch.rows.terminated[i] == seen.terminated[last, env]
    assert lengths == {0, 1, 2}


def test_the_newest_rollout_comes_back_whole():
    made, _ = rollouts(9)
    source = replay_of(Pictures.spec, 40, made)
    for got, want in zip(jax.tree.leaves(source.newest(7)), jax.tree.leaves(made[-1]), strict=True):
        np.testing.assert_array_equal(got, want)


def test_chunks_hold_all_that_can_be_drawn():
    made, _ = rollouts(12)
    for exponent in (0.0, 0.6):
        whole = replay_of(Pictures.spec, 70, made[:8], priority_exponent=exponent)
        again = replay_of(Pictures.spec, 70, [], priority_exponent=exponent)
        part = replay_of(Pictures.spec, 70, made[:3], priority_exponent=exponent)
        chunks = [part.chunk(0)]
        for rollout in made[3:8]:
            part.add(rollout)
        for chunk in (*chunks, part.chunk(21)):
            again.add_chunk(chunk)
        again.stand_at(part.standing())
        for source in (whole, again):
            for rollout in made[8:]:
                source.add(rollout)
        for a, b in zip(*(jax.tree.leaves(s.draw(jax.random.key(3))) for s in (whole, again)), strict=True):
            np.testing.assert_array_equal(a, b)


def test_parts_of_different_depth_and_vectors_come_back():
    spec = Spec(2 * 6 + 8 + 3, DiscreteActions(2), (("a", Images(2, 2, 3)), ("b", Vector(2)), ("c", Images(3, 1, 1))))
    rng = np.random.default_rng(0)
    a, b, c = rng.integers(0, 256, (12, 6), "u1"), rng.normal(size=(12, 2)).astype("f4"), rng.integers(0, 256, 12, "u1")

    def obs(t):
        return np.concatenate([a[t - 1], a[t], b[t].view("u1"), c[t - 2 : t + 1]])

    stacks = np.stack([obs(t) for t in range(2, 12)])
    no, zero = np.zeros((9, 1), bool), np.zeros((9, 1), np.float32)
    action = np.arange(9, dtype=np.int32)[:, None]
    source = replay_of(spec, 50, [Transition(stacks[:9, None], action, zero, stacks[1:, None], no, no, zero)], 1)
    rows = source.draw(jax.random.key(0)).batches.rows
    np.testing.assert_array_equal(rows.obs.reshape(-1, 23), stacks[rows.action.ravel()])
    np.testing.assert_array_equal(rows.next_obs.reshape(-1, 23), stacks[rows.action.ravel() + 1])


def test_stacks_that_jump_are_refused():
    made, _ = rollouts(1)
    jumping = made[0].__class__(**{**vars(made[0]), "next_obs": made[0].next_obs[::-1].copy()})
    with pytest.raises(RequestError, match="replay_storage"):
        replay_of(Pictures.spec, 50, [jumping])


def test_a_million_pictures_of_atari_take_less_than_8_gigabytes():
    spec = Spec(4 * 84 * 84, DiscreteActions(6), (("screen", Images(4, 84, 84)),))
    source = FrameReplay(spec, 1_000_000, 8, num_updates=1, batch_size=32)
    assert 7.0e9 < source.num_bytes < 8e9
    source = replay_of(Pictures.spec, 1000, [], priority_exponent=0.6)
    held = [x for x in vars(source).values() if isinstance(x, np.ndarray)]
    counted = source.num_bytes - sum(x.nbytes for x in held) - source.tree.sums.nbytes
    assert abs(counted) < 100


def test_a_sum_tree_draws_by_share_and_never_what_has_none():
    tree = SumTree(5)
    tree.set(np.array([0, 2, 4]), np.array([1.0, 3.0, 4.0]))
    np.testing.assert_allclose(tree.share(np.arange(5)), [1 / 8, 0, 3 / 8, 0, 4 / 8])
    drawn = np.bincount(tree.draw(np.random.default_rng(0), 8000), minlength=5)
    # One from each equal part of the sum, so that counts are exact but for the parts on a border.
    np.testing.assert_allclose(drawn, [1000, 0, 3000, 0, 4000], atol=1)
    tree.add(np.array([1]))
    assert tree.share(np.array([1]))[0] == 4 / 12
