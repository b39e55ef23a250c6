"""Deep Q-learning on small tasks, its replay for pictures, and its speed on Pong beside Stable-Baselines3's.

.venv/bin/python benchmarks/bench_dqn.py [--only TEXT] [--seeds N]

The peer runs in its own environment, which benchmarks/peer/make_env.py makes in .peer-venv. Learning Pong itself is
benchmarks/bench_pong.py.
"""

import dataclasses
import resource
import statistics
import time
from typing import Any

import jax
import numpy as np
from bench_speed import peer
from by_seed import measure_seeds, menura, spread
from common import command_of_this_script, parser_of, show, wanted, write_rows

from menura.core import DiscreteActions, Images, Spec, Transition
from menura.environments.registry import make
from menura.forward.dqn import DQN
from menura.frame_replay import FrameReplay
from menura.run.train import Watcher, train

NAME, TITLE = "dqn", "Deep Q-learning"
TASKS = {"CartPole-v1": (500.0, 50_000), "LunarLander-v3": (154.0, 100_000), "Acrobot-v1": (-76.6, 100_000)}
TASKS |= {"MountainCar-v0": (-100.8, 120_000)}
"""What the zoo of Stable-Baselines3 has, and its steps."""
ATARI = Spec(4 * 84 * 84, DiscreteActions(6), (("observation", Images(4, 84, 84)),), history=4)
TRANSITIONS = 1_000_000
"""In the replay that is measured."""
AS_THEIRS = DQN(
    num_steps=8, num_updates=16, batch_size=32, replay_size=20_000, learning_starts=2_000, learning_rate=1e-4,
    target_every=250, exploration_steps=200_000, final_exploration=0.01, double=False, hidden_sizes=(),
)  # fmt: skip
"""The Nature network with a gradient step for every four steps of the environment: the peer's settings."""


def main() -> None:
    """Row after row."""
    parser = parser_of(__doc__)
    parser.add_argument("--seeds", type=int, help="measure at most this many seeds of each row")
    arguments = parser.parse_args()
    for env_id, (asked, steps) in TASKS.items():
        scores(arguments, env_id, asked, steps)
    one_row(arguments, "replay of 1,000,000 transitions of Pong: memory, and drawing 32 stacks", replay)
    one_row(arguments, "DQN on Pong, 84 × 84: training steps a second beside Stable-Baselines3, one run", speed)
    one_row(arguments, "DQN on Pong, 52 × 52, the preset: cores in use while acting and learning", cores)


def scores(arguments: Any, env_id: str, asked: float, steps: int) -> None:
    """One task with its preset."""
    is_quick = env_id == "CartPole-v1"
    measure_seeds(
        NAME,
        f"{env_id}, DQN: return within {steps:,} steps",
        arguments,
        asked=f"≥ {asked:g} in 5 of 5 seeds, ≤ 60 s each" if is_quick else f"mean of 5 seeds ≥ {asked:g}, the zoo's",
        command=f".venv/bin/python benchmarks/bench_dqn.py --only {env_id}",
        seeds=range(5),
        one=lambda seed: menura("train", "dqn", env_id, "--total-steps", steps, "--eval-every", 0, "--seed", seed),
        good=lambda r: r["mean_return"] >= asked and (not is_quick or r["process_seconds"] <= 60),
        describe=lambda results: (
            f"return {spread([r['mean_return'] for r in results], 1)}, mean {mean(results):.1f}; "
            f"{spread([r['process_seconds'] for r in results])} s"
        ),
        title=TITLE,
        together=None if is_quick else lambda results: mean(results) >= asked,
    )


def mean(results: list[dict[str, Any]]) -> float:
    """Return of a run, over all of them."""
    return statistics.mean(result["mean_return"] for result in results)


def one_row(arguments: Any, row: str, measure: Any) -> None:
    """A row that is measured once."""
    if wanted(NAME, row, arguments):
        entry = {"row": row, "seeds": [0], "command": command_of_this_script(), **measure()}
        write_rows(NAME, [entry], title=TITLE)
        show([entry])


def replay() -> dict[str, Any]:
    """Fill a replay to the brim with noise, and draw from it."""
    before = resident()
    source = FrameReplay(ATARI, TRANSITIONS, 8, num_updates=1, batch_size=32)
    source.allocate()
    rng = np.random.default_rng(0)
    num_steps = 125
    frames = rng.integers(0, 256, (num_steps + 4, 8, 84 * 84), dtype=np.uint8)
    stacks = np.stack([np.concatenate(list(frames[t : t + 4]), axis=-1) for t in range(num_steps + 1)])
    no, zero = np.zeros((num_steps, 8), bool), np.zeros((num_steps, 8), np.float32)
    ended = no.copy()
    ended[-1] = True
    rollout = Transition(stacks[:-1], zero.astype(np.int32), zero, stacks[1:], no, ended, zero)
    while source.size < TRANSITIONS:
        source.add(rollout)
    memory = resident() - before
    seconds = []
    for draw in range(300):
        key = jax.random.key(draw)
        started = time.perf_counter()
        source.draw(key)
        seconds.append(time.perf_counter() - started)
    milliseconds = 1000 * statistics.median(seconds)
    return {
        "asked": "≤ 8 GB resident, ≤ 1 ms",
        "measured": f"{memory / 1e9:.2f} GB, {milliseconds:.2f} ms (median of {len(seconds)})",
        "passed": memory <= 8e9 and milliseconds <= 1,
        "detail": {"resident_bytes": memory, "milliseconds": milliseconds, "computed_bytes": source.num_bytes},
    }


def resident() -> int:
    """The most memory that this process has had."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


class Clock(Watcher):
    """The time and the processor's at every update."""

    def __init__(self):
        self.rows: list[tuple[int, float, float]] = []

    def on_update(self, progress, metrics):
        self.rows.append((progress.env_steps, time.perf_counter(), time.process_time()))

    def after(self, steps: int) -> tuple[float, float]:
        """Environment steps a second, and cores in use, from so many steps on."""
        first, last = next(row for row in self.rows if row[0] >= steps), self.rows[-1]
        seconds = last[1] - first[1]
        return (last[0] - first[0]) / seconds, (last[2] - first[2]) / seconds


def our_run(learner: DQN, num_steps: int, **env_kwargs: Any) -> tuple[float, float]:
    """Steps a second and cores in use, counted over ``num_steps`` after the first gradient steps."""
    clock, starts = Clock(), learner.learning_starts + 512
    env = make("Pong-v5", num_envs=8, env_kwargs=env_kwargs)
    train(learner, env, total_steps=starts + num_steps, watchers=[clock])
    return clock.after(starts)


def speed() -> dict[str, Any]:
    """Ours, and the peer with one copy and with eight, one thread and two, of which the fastest counts."""
    steps, used = our_run(AS_THEIRS, 4_000)
    theirs = [peer("dqn_pong.py", "--threads", t, "--num-envs", n) for t in (1, 2) for n in (1, 8)]
    best = max(theirs, key=lambda result: result["steps_per_second"])
    ratio = steps / best["steps_per_second"]
    return {
        "asked": "≥ 1.3×",
        "measured": (
            f"{ratio:.2f}× ({steps:.0f} against {best['steps_per_second']:.0f} steps/s; "
            f"{used:.2f} against {best['cores_used']:.2f} cores in use)"
        ),
        "passed": ratio >= 1.3,
        "detail": {"ours": steps, "cores_used": used, "theirs": theirs},
    }


def cores() -> dict[str, Any]:
    """The preset of Pong, but for an early start."""
    from menura.run.presets import learner_of, named_preset

    preset = named_preset("dqn-pong")
    learner: Any = dataclasses.replace(learner_of(preset), learning_starts=2_000)
    steps, used = our_run(learner, 6_000, **preset.env_kwargs)
    return {
        "asked": "≥ 1.7 of 2",
        "measured": f"{used:.2f} ({steps:.0f} steps/s)",
        "passed": used >= 1.7,
        "detail": {"steps_per_second": steps, "cores_used": used},
    }


if __name__ == "__main__":
    main()
