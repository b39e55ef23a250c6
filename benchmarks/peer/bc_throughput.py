"""Samples a second of `imitation`'s behavioral cloning: batches of 32, its 32-32 network, CartPole."""

import time
from pathlib import Path

from imitation.algorithms.bc import BC
from peer import cartpole_demonstrations, load_demonstrations, make_envs, parser_of, print_result, quiet, set_up


def main() -> None:
    """Train for a while uncounted, then count."""
    parser = parser_of("Samples a second of imitation's behavioral cloning.")
    parser.add_argument("--demos", type=Path, help="npz of CartPole-v1 episodes (default: a linear controller's)")
    parser.add_argument("--num-batches", type=int, default=5000)
    arguments = parser.parse_args()
    rng = set_up(arguments.seed)
    env = make_envs("CartPole-v1", rng)
    demonstrations = (
        load_demonstrations(arguments.demos, episodes=None, every=1, rng=rng)[0]
        if arguments.demos
        else cartpole_demonstrations(env, rng)
    )
    learner = BC(
        observation_space=env.observation_space,
        action_space=env.action_space,
        demonstrations=demonstrations,
        rng=rng,
        batch_size=32,
        device="cpu",
        custom_logger=quiet(),
    )
    learner.train(n_batches=200, progress_bar=False)
    start = time.perf_counter()
    learner.train(n_batches=arguments.num_batches, progress_bar=False)
    seconds = time.perf_counter() - start
    print_result(
        samples_per_second=32 * arguments.num_batches / seconds, num_batches=arguments.num_batches, seconds=seconds
    )


if __name__ == "__main__":
    main()
