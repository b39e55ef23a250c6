"""Gradient steps a second of Stable-Baselines3's SAC: 256-256 networks, batches of 256, HalfCheetah's shapes."""

import time

import numpy as np
import torch
from peer import make_envs, parser_of, print_result, quiet, set_up
from stable_baselines3 import SAC

ROWS = 10_000


def main() -> None:
    """Fill the replay with noise, train for a while uncounted, then count."""
    parser = parser_of("Gradient steps a second of Stable-Baselines3's SAC.")
    parser.add_argument("--num-updates", type=int, default=500)
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    arguments = parser.parse_args()
    rng = set_up(arguments.seed)
    torch.set_num_threads(arguments.threads)
    env = make_envs("HalfCheetah-v4", rng)
    learner = SAC("MlpPolicy", env, batch_size=256, buffer_size=ROWS, seed=arguments.seed, device="cpu")
    learner.set_logger(quiet())
    count = env.num_envs
    for _ in range(ROWS // count):
        obs, next_obs = rng.normal(size=(2, count, env.observation_space.shape[0])).astype(np.float32)
        action = rng.uniform(-1, 1, (count, env.action_space.shape[0])).astype(np.float32)
        no = np.zeros(count, bool)
        learner.replay_buffer.add(obs, next_obs, action, rng.normal(size=count), no, [{}] * count)
    learner.train(gradient_steps=50, batch_size=256)
    start = time.perf_counter()
    learner.train(gradient_steps=arguments.num_updates, batch_size=256)
    seconds = time.perf_counter() - start
    print_result(updates_per_second=arguments.num_updates / seconds, seconds=seconds, threads=arguments.threads)


if __name__ == "__main__":
    main()
