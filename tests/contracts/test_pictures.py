"""Pictures and histories keep their bytes and their order from the simulator to the learner."""

import dataclasses

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

from menura.core import (
    AbstractForwardLearner,
    BoxActions,
    DiscreteActions,
    ExpertData,
    Images,
    RequestError,
    Spec,
    Transition,
    Vector,
)
from menura.demonstrations import load, save
from menura.demonstrations.parts import with_parts
from menura.demonstrations.record import record
from menura.demonstrations.stream import Stream
from menura.encoders import decoded
from menura.environments import collect, make
from menura.environments.encoding import encode_obs, parts_of
from menura.environments.history import newest, spec_with_history, spec_without_history
from menura.environments.host import spec_of
from menura.evaluation import UniformPolicy
from menura.networks import expert_norm, make_norm
from menura.run.artifacts import spec_from_json, spec_to_json
from menura.run.request import spec_of_demos
from tests.catch import KnowsTheRules, small_catch, small_expert
from tests.learners import SMALL, VARIANTS

CAMERA = spaces.Box(0, 255, (4, 3, 2), np.uint8)
ROBOT = spaces.Dict(
    {"joints": spaces.Box(-1, 1, (2,), np.float64), "camera": CAMERA, "grip": spaces.Discrete(3, start=1)}
)


class Robot(gymnasium.Env):
    """Sees random pictures for five steps, after which its episode is over; in one of two, the clock ends it."""

    observation_space = ROBOT
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.age = 0
        return self.seen(), {}

    def seen(self):
        camera = self.np_random.integers(0, 256, CAMERA.shape, np.uint8)
        return {"joints": self.np_random.normal(size=2), "camera": camera, "grip": 1 + int(self.np_random.integers(3))}

    def step(self, action):
        self.age += 1
        over = self.age == 5
        clock = bool(self.np_random.random() < 0.5)
        return self.seen(), 1.0, over and not clock, over and clock, {}


@pytest.mark.parametrize(
    ("space", "parts"),
    [
        (spaces.Box(0, 255, (6, 5), np.uint8), (("observation", Images(1, 6, 5)),)),
        (spaces.Box(0, 255, (6, 5, 3), np.uint8), (("observation", Images(1, 6, 5, 3)),)),
        (spaces.Box(0, 255, (4, 6, 5), np.uint8), (("observation", Images(4, 6, 5)),)),
        (spaces.Box(0, 255, (4, 6, 5, 3), np.uint8), (("observation", Images(4, 6, 5, 3)),)),
        (spaces.Tuple([CAMERA, spaces.MultiBinary(2)]), (("0", Images(1, 4, 3, 2)), ("1", Vector(2)))),
        (ROBOT, (("camera", Images(1, 4, 3, 2)), ("grip", Vector(3)), ("joints", Vector(2)))),
    ],
)
def test_spaces_with_pictures_are_bytes_of_known_parts(space, parts):
    # Gymnasium sorts the keys of a plain dict; the order is the space's.
    assert sorted(parts_of(space, env_id="x")) == sorted(parts)
    spec = spec_of(space, spaces.Discrete(2), env_id="x")
    assert spec.obs_dtype == np.uint8
    assert spec.obs_size == sum(part.num_bytes for _, part in parts)
    assert spec_from_json(spec_to_json(spec_with_history(spec, 3))) == spec_with_history(spec, 3)
    obs = encode_obs(space.sample(), space)
    assert (obs.shape, obs.dtype) == ((spec.obs_size,), np.uint8)


def test_a_dict_of_vectors_alone_is_one_vector_of_numbers():
    space = spaces.Dict({"a": spaces.Box(-1, 1, (2,), np.float64), "b": spaces.Discrete(3)})
    assert spec_of(space, spaces.Discrete(2), env_id="x") == Spec(5, DiscreteActions(2))
    obs = encode_obs({"a": np.array([[0.5, 1.5]]), "b": np.array([2])}, space)
    assert obs.dtype == np.float32
    np.testing.assert_array_equal(obs, [[0.5, 1.5, 0, 0, 1]])


def test_what_a_dict_holds_is_decoded_again():
    sample = ROBOT.sample()
    obs = encode_obs(sample, ROBOT)
    numbers, parts = decoded(jnp.asarray(obs), parts_of(ROBOT, env_id="x")), parts_of(ROBOT, env_id="x")
    start, found = 0, {}
    for name, part in parts:
        size = part.size if isinstance(part, Vector) else part.num_bytes
        found[name] = np.asarray(numbers[start : start + size])
        start += size
    np.testing.assert_array_equal(found["joints"], sample["joints"].astype(np.float32))
    np.testing.assert_array_equal(found["grip"], np.eye(3)[sample["grip"] - 1])
    np.testing.assert_array_equal(np.rint(found["camera"] * 255).reshape(CAMERA.shape), sample["camera"])


@pytest.mark.parametrize("space", [spaces.Box(0, 1, (6, 5, 3), np.float32), spaces.Sequence(spaces.Discrete(2))])
def test_other_observations_are_refused(space):
    with pytest.raises(RequestError, match="observes a .*pictures of bytes"):
        spec_of(space, spaces.Discrete(2), env_id="x")


def stacks_of(rollout, spec, history):
    """What a history of single frames must have been, episode by episode, made again by hand for one copy."""
    frames = np.asarray(newest(np.asarray(rollout.obs[:, 0]), spec))
    ended = np.asarray(rollout.terminated | rollout.truncated)[:, 0]
    begins = np.concatenate([[True], ended[:-1]])
    wanted, start = [], 0
    for i in range(len(frames)):
        start = i if begins[i] else start
        wanted.append([frames[max(i - back, start)] for back in reversed(range(history))])
    return np.array(wanted)


@pytest.mark.parametrize("history", [1, 3])
def test_a_history_never_crosses_the_end_of_an_episode(history):
    native = make(small_catch(balls=1), num_envs=2, history=history)
    host = make(Robot, num_envs=2, history=history)
    for env, carry in ((native, native.reset(key=jax.random.key(0))), (host, host.reset(0))):
        _, rollout = collect(env, carry, UniformPolicy(env.spec), key=jax.random.key(1), num_steps=14)
        single = spec_without_history(env.spec)
        wanted = stacks_of(rollout, env.spec, history)
        for t in range(14):
            at = slice(0, 0)
            for (_, part), (_, whole) in zip(single.parts, env.spec.parts, strict=True):
                got = np.asarray(rollout.obs[t, 0, at.stop : at.stop + whole.num_bytes])
                start = sum(p.num_bytes for _, p in single.parts[: [q for _, q in single.parts].index(part)])
                want = wanted[t][:, start : start + part.num_bytes]
                np.testing.assert_array_equal(got.reshape(history, -1), want)
                at = slice(at.stop, at.stop + whole.num_bytes)
        # The successor at an ending is the true one: all but its newest frame was seen before.
        ends = np.flatnonzero(np.asarray(rollout.terminated | rollout.truncated)[:, 0])
        assert len(ends) >= 2
        (_, first), shape = single.parts[0], (history, -1)
        before, after = (np.asarray(x[ends, 0, : first.num_bytes * history]) for x in (rollout.obs, rollout.next_obs))
        for b, a in zip(before, after, strict=True):
            np.testing.assert_array_equal(a.reshape(shape)[:-1], b.reshape(shape)[1:])


@pytest.fixture(scope="module")
def robot_demos():
    env = make(Robot, num_envs=2, history=3)
    return env.spec, record(env, UniformPolicy(env.spec), 4)


def test_recordings_keep_every_frame_once_and_give_the_history_back(robot_demos):
    spec, demos = robot_demos
    assert demos.episodes[0].obs.shape == (6, spec.obs_size // 3)
    demos.check(spec)
    rows = demos.flatten(spec)
    assert (rows.obs.shape, rows.obs.dtype) == ((20, spec.obs_size), np.uint8)
    env = make(Robot, num_envs=2, history=3)
    first = env.reset(0)
    np.testing.assert_array_equal(rows.obs[0], first[0])
    np.testing.assert_array_equal(rows.obs[5], first[1])
    np.testing.assert_array_equal(rows.next_obs[:4], rows.obs[1:5])
    np.testing.assert_array_equal(newest(rows.next_obs[4], spec), demos.episodes[0].obs[-1])


@pytest.mark.parametrize("name", ["robot.npz", "robot"])
def test_frames_come_back_from_disk_byte_for_byte(robot_demos, tmp_path, name):
    pytest.importorskip("h5py")
    spec, demos = robot_demos
    save(demos, tmp_path / name)
    back = load(tmp_path / name)
    for one, other in zip(demos.episodes, back.episodes, strict=True):
        assert other.obs.dtype == np.uint8
        np.testing.assert_array_equal(one.obs, other.obs)
    back.check(spec)
    assert spec_of_demos(back, history=3).parts == spec.parts


def test_some_parts_of_what_was_observed_can_be_kept(robot_demos, tmp_path):
    pytest.importorskip("h5py")
    _, demos = robot_demos
    vectors = with_parts(demos, ["joints"])
    spec = spec_of_demos(vectors)
    assert (spec.obs_size, spec.parts) == (2, ())
    for one, whole in zip(vectors.episodes, demos.episodes, strict=True):
        start = sum(part.num_bytes for name, part in parts_of(ROBOT, env_id="x") if name < "joints")
        np.testing.assert_array_equal(one.obs, np.ascontiguousarray(whole.obs[:, start : start + 8]).view(np.float32))
    # A picture alone goes on being one, also as a Minari dataset.
    save(with_parts(demos, ["camera"]), tmp_path / "camera-v0")
    assert spec_of_demos(load(tmp_path / "camera-v0")).parts == (("camera", Images(1, 4, 3, 2)),)
    with pytest.raises(RequestError, match="has no part 'wrist': choose --parts from camera, grip, joints"):
        with_parts(demos, ["wrist"])
    with pytest.raises(RequestError, match="leave out --parts"):
        with_parts(vectors, ["joints"])


def test_vectors_of_a_stream_are_standardized_by_all_that_was_drawn(robot_demos):
    spec, demos = robot_demos
    stream = Stream.of(demos, spec)
    drawn = (stream.draw(np.random.default_rng(seed), 8) for seed in (0, 1))
    first, second = (jax.tree.map(jnp.asarray, one) for one in drawn)
    fresh = make_norm(spec)
    both = expert_norm(expert_norm(fresh, first), second)
    together = fresh.of(jnp.concatenate([first.train.obs, second.train.obs]))
    np.testing.assert_allclose(both.vectors.mean, together.vectors.mean, rtol=1e-5, atol=1e-6)
    assert both.count == 16
    whole = jax.tree.map(jnp.asarray, demos.expert_data(spec))
    assert expert_norm(expert_norm(fresh, whole), whole).count == demos.num_transitions


def test_minari_itself_reads_the_pictures_that_are_written(robot_demos, tmp_path):
    minari = pytest.importorskip("minari")
    env = make(small_catch(), num_envs=2)
    catch = record(env, small_expert(), 2)
    save(catch, tmp_path / "catch-v0")
    dataset = minari.MinariDataset(tmp_path / "catch-v0" / "data")
    np.testing.assert_array_equal(next(iter(dataset)).observations, catch.episodes[0].obs)
    assert catch.episodes[0].obs.shape[1:] == (5, 3, 1)
    _, robot = robot_demos
    save(robot, tmp_path / "robot-v0")
    episode = next(iter(minari.MinariDataset(tmp_path / "robot-v0" / "data")))
    flat = np.concatenate([episode.observations[name].reshape(6, -1).view(np.uint8) for name in ROBOT.spaces], axis=1)
    np.testing.assert_array_equal(flat, robot.episodes[0].obs)


def test_demonstrations_larger_than_memory_are_drawn_from_the_disk(tmp_path):
    pytest.importorskip("h5py")
    env = make(small_catch(), num_envs=2)
    save(record(env, small_expert(), 6), tmp_path / "catch")
    demos = load(tmp_path / "catch")
    # Maps of the file, and not arrays of their own.
    assert not demos.episodes[0].obs.flags.owndata
    spec = spec_with_history(env.spec, 2)
    stream = Stream.of(demos, spec, heldout_fraction=0.3)
    drawn, again = stream.at(jax.random.key(3)), stream.at(jax.random.key(3))
    np.testing.assert_array_equal(drawn.train.obs, again.train.obs)
    assert not np.array_equal(drawn.train.obs, stream.at(jax.random.key(4)).train.obs)
    train, heldout = demos.split(0.3)
    rows = {row.tobytes() for row in train.flatten(spec).obs}
    assert {row.tobytes() for row in drawn.train.obs} == rows
    assert len(drawn.heldout.obs) == heldout.num_transitions


def bytes_of(spec, shape):
    rng = np.random.default_rng(0)
    obs, next_obs = rng.integers(0, 256, (2, *shape, spec.obs_size), np.uint8)
    flag, number = np.zeros(shape, bool), np.zeros(shape, np.float32)
    is_box = isinstance(spec.actions, BoxActions)
    action = np.zeros((*shape, 2), np.float32) if is_box else np.zeros(shape, np.int32)
    return jax.tree.map(jnp.asarray, Transition(obs, action, number, next_obs, flag, flag, number))


@pytest.mark.parametrize(
    ("name", "encoder", "actions"),
    [
        ("ppo", "residual", DiscreteActions(3)),
        ("trpo", "nature", BoxActions((-1.0, -1.0), (1.0, 1.0))),
        ("sac", "nature", BoxActions((-1.0, -1.0), (1.0, 1.0))),
        ("gail-sac-standardized", "nature", BoxActions((-1.0, -1.0), (1.0, 1.0))),
        ("gail", "nature", DiscreteActions(3)),
        ("airl", "nature", DiscreteActions(3)),
        ("sqil", "nature", DiscreteActions(3)),
        ("lsiq", "nature", DiscreteActions(3)),
        ("bc", "residual", DiscreteActions(3)),
        ("dqn", "nature", DiscreteActions(3)),
        ("gail-dqn", "nature", DiscreteActions(3)),
        ("sqil-dqn", "nature", DiscreteActions(3)),
    ],
)
def test_learners_take_pictures(name, encoder, actions):
    parts = (("camera", Images(1, 6, 5)), ("joints", Vector(2)))
    learner = (SMALL | VARIANTS)[name]
    holder = learner if hasattr(learner, "encoder") else learner.forward
    holder = dataclasses.replace(holder, encoder=encoder)
    learner = holder if hasattr(learner, "encoder") else dataclasses.replace(learner, forward=holder)
    spec = Spec(38, actions, parts)
    rollout, expert = bytes_of(spec, (8, 4)), ExpertData(bytes_of(spec, (30,)), bytes_of(spec, (10,)))

    def update(key):
        state = learner.init(spec, key=key)
        if isinstance(learner, AbstractForwardLearner):
            return state, learner.update(state, rollout, rollout.reward, key=key)[0]
        return state, learner.update(state, rollout if learner.num_steps else None, expert, key=key)[0]

    before, after = jax.eval_shape(update, jax.random.key(0))
    shapes = [[(x.shape, x.dtype) for x in jax.tree.leaves(state)] for state in (before, after)]
    assert shapes[0] == shapes[1]


def test_the_rules_of_catch_are_known():
    env = make("Catch-v0", num_envs=4)
    assert record(env, KnowsTheRules(), 8).expert_return == 5.0
