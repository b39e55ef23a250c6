"""The return of Stable-Baselines3's SAC on a MuJoCo task after a number of environment steps, by its defaults.

One environment and one gradient step for each of its steps, which is how SAC is published; `rl-baselines3-zoo`
changes nothing for HalfCheetah but `learning_starts`.
"""

import time

from imitation.util.util import make_vec_env
from peer import mean_return, parser_of, print_result, quiet, set_up
from stable_baselines3 import SAC


def main() -> None:
    """Train, then evaluate."""
    parser = parser_of("The return of Stable-Baselines3's SAC on a MuJoCo task.")
    parser.add_argument("env")
    parser.add_argument("--steps", type=int, default=300_000)
    parser.add_argument("--learning-starts", type=int, default=10_000)
    parser.add_argument("--episodes", type=int, default=50, help="of the final evaluation")
    arguments = parser.parse_args()
    rng = set_up(arguments.seed)
    env = make_vec_env(arguments.env, rng=rng, n_envs=1)
    starts = min(arguments.learning_starts, arguments.steps // 2)
    learner = SAC("MlpPolicy", env, seed=arguments.seed, device="cpu", learning_starts=starts)
    learner.set_logger(quiet())
    start = time.perf_counter()
    learner.learn(arguments.steps)
    seconds = time.perf_counter() - start
    print_result(
        env=arguments.env,
        seed=arguments.seed,
        env_steps=learner.num_timesteps,
        seconds=seconds,
        mean_return=mean_return(learner.policy, make_vec_env(arguments.env, rng=rng, n_envs=1), arguments.episodes),
    )


if __name__ == "__main__":
    main()
