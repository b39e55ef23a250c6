"""Training from a replay on the host: acting beside learning, checkpoints in chunks, and memory that is refused."""

import dataclasses
import threading

import jax
import numpy as np
import pytest

import menura
from menura.core import RequestError
from menura.environments import make
from menura.evaluation import UniformPolicy
from menura.forward.dqn import DQN
from menura.frame_replay import FrameReplay
from menura.run import memory
from menura.run.folder import RunFolder, load_checkpoint
from menura.run.request import Request
from menura.run.resolve import resolve_replay_storage
from menura.run.train import Watcher, train
from tests.learners import SMALL
from tests.pictures import Pictures

LEARNER = DQN(
    num_steps=8, num_updates=4, batch_size=8, replay_size=300, replay_storage="host", learning_starts=32,
    hidden_sizes=(16,), learning_rate=1e-2, gamma=0.0, target_every=4, exploration_steps=400, priority_exponent=0.5,
)  # fmt: skip


class Losses(Watcher):
    """Keeps what every update says."""

    def __init__(self):
        self.rows = []
        self.memory = None

    def on_memory(self, num_bytes):
        self.memory = num_bytes

    def on_update(self, progress, metrics):
        self.rows.append((progress.env_steps, metrics["value/loss"], metrics["episode/return"]))


def folder_of(path):
    """A run folder as the command line makes it, without its training."""
    request = Request(learner=LEARNER, env="Pictures", num_envs=2)
    path.mkdir()
    menura.run.artifacts.write_json(path / "config.json", request.to_json(Pictures.spec) | {"num_envs": 2})
    return path


def test_a_stopped_run_goes_on_to_the_numbers_of_one_that_never_stopped(tmp_path):
    whole, first, second = Losses(), Losses(), Losses()
    run = train(LEARNER, Pictures(), total_steps=480, eval_every=160, eval_env=Pictures(), watchers=[whole])
    folder = RunFolder(folder_of(tmp_path / "run"), loggers=())
    train(LEARNER, Pictures(), total_steps=320, eval_every=160, eval_env=Pictures(), watchers=[first, folder])
    assert len(list((tmp_path / "run" / "replay").iterdir())) == 2
    checkpoint = load_checkpoint(tmp_path / "run", Pictures())
    assert checkpoint is not None
    again = train(
        LEARNER, Pictures(), total_steps=480, eval_every=160, eval_env=Pictures(), watchers=[second], resume=checkpoint
    )
    np.testing.assert_array_equal(np.array(whole.rows), np.array(first.rows + second.rows))
    for a, b in zip(jax.tree.leaves(run.state), jax.tree.leaves(again.state), strict=True):
        np.testing.assert_array_equal(a, b)
    newest = sorted((tmp_path / "run" / "replay").iterdir())[-1]
    newest.unlink()
    with pytest.raises(RequestError, match="lacks transitions from"):
        load_checkpoint(tmp_path / "run", Pictures())
    assert whole.rows[-1][1] > 0
    assert whole.memory == LEARNER.host_replay(Pictures.spec, 2).num_bytes


def test_acting_and_learning_go_on_at_the_same_time(monkeypatch):
    both = threading.Barrier(2, timeout=60)
    draw = FrameReplay.draw

    class Waiting(Pictures):
        """Its ninth step, the first of the second rollout, waits for batches to be drawn, and they for it."""

        steps = 0

        def step(self, action):
            """One frame more."""
            self.steps += 1
            if self.steps == 9:
                both.wait()
            return super().step(action)

    def draw_beside(self, key):
        if self.count == 8 and threading.current_thread() is not threading.main_thread():
            both.wait()
        return draw(self, key)

    monkeypatch.setattr(FrameReplay, "draw", draw_beside)
    assert train(LEARNER, Waiting(), total_steps=32).env_steps == 32
    assert not both.broken


def test_an_imitation_learners_replay_holds_no_reward(monkeypatch):
    added, add = [], FrameReplay.add

    def watched(self, rollout):
        added.append(rollout)
        add(self, rollout)

    monkeypatch.setattr(FrameReplay, "add", watched)
    demos = menura.record(Pictures(), UniformPolicy(Pictures.spec), 2, seed=0, deterministic=False)
    seen = Losses()
    train(menura.SQIL(forward=LEARNER), Pictures(), demos, total_steps=48, watchers=[seen])
    assert len(added) == 3
    assert all(np.all(rollout.reward == 0) for rollout in added)
    # Learning begins once 32 steps were learned from, one rollout after they were taken.
    assert [loss > 0 for _, loss, _ in seen.rows] == [False, False, True]


def test_pictures_from_a_simulator_are_kept_on_the_host_and_all_else_on_the_device():
    auto = dataclasses.replace(LEARNER, replay_storage="auto")
    assert resolve_replay_storage(auto, Pictures()).replay_storage == "host"
    native = make("CartPole-v1", num_envs=2)
    assert resolve_replay_storage(auto, native).replay_storage == "device"
    held = resolve_replay_storage(menura.SQIL(forward=auto), Pictures())
    assert held.forward.replay_storage == "host"
    with pytest.raises(RequestError, match="leave out replay_storage"):
        resolve_replay_storage(LEARNER, native)
    with pytest.raises(RequestError, match="score-replay-size"):
        resolve_replay_storage(menura.GAIL(forward=auto, score_replay_size=10), Pictures())
    by_priority = dataclasses.replace(auto, priority_exponent=0.6)
    with pytest.raises(RequestError, match="even draw: leave out --forward.priority-exponent"):
        resolve_replay_storage(menura.GAIL(forward=by_priority), Pictures())


def test_a_replay_that_does_not_fit_is_refused_before_it_is_allocated(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 10_000_000)
    monkeypatch.setattr(FrameReplay, "allocate", lambda self: pytest.fail("allocated"))
    large = dataclasses.replace(LEARNER, replay_size=1_000_000)
    with pytest.raises(RequestError, match=r"replay_size=1000000 takes .* MB of memory and 10 MB are free: make it"):
        train(large, Pictures(), total_steps=100)
    on_device = dataclasses.replace(LEARNER, replay_storage="device", replay_size=100_000)
    monkeypatch.setattr("menura.run.train._beginning", lambda *_: pytest.fail("allocated"))
    with pytest.raises(RequestError, match="replay_size=100000"):
        train(on_device, Pictures(), total_steps=100)
    with pytest.raises(RequestError, match=r"max_labels=100000 .* leave it out and make total_steps \d+ or less"):
        train(
            dataclasses.replace(SMALL["dagger"], max_labels=0),
            Pictures(),
            total_steps=100_000,
            expert=UniformPolicy(Pictures.spec),
        )


def test_seeds_at_once_need_room_for_each_of_their_replays(monkeypatch):
    needed = memory.replay_bytes(LEARNER, Pictures.spec, 2)
    monkeypatch.setattr(memory, "available_bytes", lambda: 2 * needed)
    memory.require_memory(LEARNER, Pictures.spec, 2, copies=2)
    with pytest.raises(RequestError, match="for 3 seeds at once takes .* or train fewer at once"):
        memory.require_memory(LEARNER, Pictures.spec, 2, copies=3)


def test_a_replay_with_the_networks_must_fit_where_they_are(monkeypatch):
    on_device = dataclasses.replace(LEARNER, replay_storage="device")
    monkeypatch.setattr(memory, "on_accelerator", lambda: 1000)
    memory.require_memory(LEARNER, Pictures.spec, 2)
    with pytest.raises(RequestError, match="are free"):
        memory.require_memory(on_device, Pictures.spec, 2)


def test_memory_that_a_container_may_not_take_does_not_count(tmp_path, monkeypatch):
    (tmp_path / "meminfo").write_text("MemTotal: 900 kB\nMemAvailable:    800 kB\n")
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    assert memory.available_bytes() == 800 * 1024
    (tmp_path / "memory.max").write_text("500000\n")
    (tmp_path / "memory.current").write_text("300000\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 100000\n")
    assert memory.available_bytes() == 300_000
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.available_bytes() == 800 * 1024
