"""`imitation`'s GAIL on CartPole-v1 with its quick-start settings: steps a second, and the return it reaches."""

import time
from pathlib import Path

from peer import (
    cartpole_demonstrations,
    load_demonstrations,
    make_envs,
    mean_return,
    parser_of,
    print_result,
    quick_start,
    set_up,
)


def main() -> None:
    """Train, then evaluate."""
    parser = parser_of("imitation's GAIL on CartPole-v1 with its quick-start settings.")
    parser.add_argument("--demos", type=Path, help="npz of CartPole-v1 episodes (default: a linear controller's)")
    parser.add_argument("--env-steps", type=int, default=200_000, help="at least 16,384, which is one round")
    arguments = parser.parse_args()
    rng = set_up(arguments.seed)
    env = make_envs("CartPole-v1", rng)
    demonstrations = (
        load_demonstrations(arguments.demos, episodes=None, every=1, rng=rng)[0]
        if arguments.demos
        else cartpole_demonstrations(make_envs("CartPole-v1", rng), rng)
    )
    trainer = quick_start(env, demonstrations, arguments.seed)
    start = time.perf_counter()
    trainer.train(arguments.env_steps)
    seconds = time.perf_counter() - start
    env_steps = trainer.gen_algo.num_timesteps
    print_result(
        steps_per_second=env_steps / seconds,
        env_steps=env_steps,
        seconds=seconds,
        mean_return=mean_return(trainer.policy, make_envs("CartPole-v1", rng), episodes=50),
        seed=arguments.seed,
    )


if __name__ == "__main__":
    main()
