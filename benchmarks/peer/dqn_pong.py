"""Training steps a second of Stable-Baselines3's DQN on Pong: 84 x 84, Nature network, batch 32, a step in four.

make_env.py installs what it needs beside the rest: ale-py with its games, and OpenCV.
"""

import resource
import time
import warnings

import ale_py  # noqa: F401  # registers its games with Gymnasium
import torch
from peer import print_result, quiet
from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.vec_env import VecFrameStack

STARTS = 2_000


class Clock(BaseCallback):
    """The time, and the processor's, when learning began."""

    def __init__(self):
        super().__init__()
        self.began = None

    def _on_step(self) -> bool:
        # A few gradient steps go by uncounted.
        if self.began is None and self.num_timesteps >= STARTS + 400:
            self.began = (time.perf_counter(), cpu_seconds(), self.num_timesteps)
        return True


def cpu_seconds() -> float:
    """Of this process and its threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Train for a while, and count from the first gradient steps on."""
    import argparse

    parser = argparse.ArgumentParser(description="Training steps a second of Stable-Baselines3's DQN on Pong.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=4_000, help="steps that are counted")
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    parser.add_argument("--num-envs", type=int, default=1)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(arguments.threads)
    count = arguments.num_envs
    env = VecFrameStack(make_atari_env("PongNoFrameskip-v4", n_envs=count, seed=arguments.seed), n_stack=4)
    # The settings of the zoo, with one gradient step for every four environment steps whatever the number of copies.
    learner = DQN(
        "CnnPolicy",
        env,
        batch_size=32,
        buffer_size=20_000,
        learning_rate=1e-4,
        learning_starts=STARTS,
        target_update_interval=1_000,
        train_freq=max(1, 4 // count),
        gradient_steps=max(1, count // 4),
        exploration_fraction=0.1,
        exploration_final_eps=0.01,
        seed=arguments.seed,
        device="cpu",
    )
    learner.set_logger(quiet())
    clock = Clock()
    learner.learn(STARTS + 400 + arguments.steps, callback=clock)
    began, used, first = clock.began
    seconds, cpu, steps = time.perf_counter() - began, cpu_seconds() - used, learner.num_timesteps - first
    print_result(steps_per_second=steps / seconds, cores_used=cpu / seconds, threads=arguments.threads, copies=count)


if __name__ == "__main__":
    main()
