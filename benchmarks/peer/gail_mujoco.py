"""How long `imitation`'s GAIL takes to 95% of the expert on Hopper-v4 or HalfCheetah-v4.

The demonstrations are those that menura learns from (an npz of -v5 episodes, whose observations are the same
numbers), so that both can be put side by side. Only training counts: the time of evaluations does not.
"""

import contextlib
import time
from pathlib import Path

import torch
from imitation.algorithms.adversarial.gail import GAIL
from imitation.policies.base import FeedForward32Policy, NormalizeFeaturesExtractor
from imitation.rewards.reward_nets import NormalizedRewardNet
from imitation.util.networks import RunningNorm
from peer import (
    NUM_ENVS,
    load_demonstrations,
    make_envs,
    mean_return,
    parser_of,
    print_result,
    quick_start,
    quiet,
    reward_net,
    set_up,
)
from stable_baselines3 import PPO

NORMALIZED = {
    "features_extractor_class": NormalizeFeaturesExtractor,
    "features_extractor_kwargs": {"normalize_class": RunningNorm},
}


def matched(gamma: float) -> dict:
    """The settings that menura's own search began from, as far as `imitation` has them."""
    return {
        "gail": {"demo_batch_size": 512, "gen_replay_buffer_capacity": 4096, "n_disc_updates_per_round": 8},
        "round_steps": 4096,
        "policy": "MlpPolicy",
        "ppo": {
            "batch_size": 512,
            "ent_coef": 0.0,
            "gamma": gamma,
            "learning_rate": 2.2e-4,
            "n_epochs": 10,
            "policy_kwargs": NORMALIZED,
        },
    }


SETTINGS = {
    ("matched", "Hopper-v4"): matched(gamma=0.995),
    ("matched", "HalfCheetah-v4"): matched(gamma=0.99),
    # `imitation`'s own for the seals versions of these environments (scripts/config/tuned_hps).
    ("tuned", "Hopper-v4"): {
        "gail": {"demo_batch_size": 128, "gen_replay_buffer_capacity": 4096, "n_disc_updates_per_round": 8},
        "round_steps": 4096,
        "policy": "MlpPolicy",
        "ppo": {
            "batch_size": 512,
            "clip_range": 0.1,
            "ent_coef": 0.001255299425412744,
            "gae_lambda": 0.98,
            "gamma": 0.995,
            "learning_rate": 4.3984856156897565e-5,
            "max_grad_norm": 0.9,
            "n_epochs": 20,
            "vf_coef": 0.20315938606555833,
            "policy_kwargs": {
                **NORMALIZED,
                "activation_fn": torch.nn.ReLU,
                "net_arch": {"pi": [64, 64], "vf": [64, 64]},
            },
        },
    },
    ("tuned", "HalfCheetah-v4"): {
        "gail": {"demo_batch_size": 8192, "gen_replay_buffer_capacity": 512, "n_disc_updates_per_round": 8},
        "round_steps": 4096,
        "policy": FeedForward32Policy,
        "ppo": {
            "batch_size": 64,
            "clip_range": 0.1,
            "ent_coef": 3.992371122209408e-6,
            "gae_lambda": 0.95,
            "gamma": 0.95,
            "learning_rate": 0.00026250519057717037,
            "max_grad_norm": 0.8,
            "n_epochs": 5,
            "vf_coef": 0.11483689492120866,
            "policy_kwargs": NORMALIZED,
        },
    },
}


class EnoughError(Exception):
    """Training may stop: the expert is matched, or the time is up."""


def make_trainer(name: str, env_id: str, env, demonstrations, seed: int) -> GAIL:
    """GAIL with one of the settings above, or the quick start's; no batch may be larger than the demonstrations."""
    if name == "quick-start":
        return quick_start(env, demonstrations, seed)
    settings = SETTINGS[name, env_id]
    learner = PPO(
        settings["policy"],
        env,
        n_steps=settings["round_steps"] // NUM_ENVS,
        seed=seed,
        device="cpu",
        **settings["ppo"],
    )
    gail = {**settings["gail"], "demo_batch_size": min(settings["gail"]["demo_batch_size"], len(demonstrations))}
    return GAIL(
        demonstrations=demonstrations,
        venv=env,
        gen_algo=learner,
        reward_net=NormalizedRewardNet(reward_net(env), RunningNorm),
        allow_variable_horizon=True,
        custom_logger=quiet(),
        **gail,
    )


def train_until(trainer: GAIL, env, *, target: float, wall_limit: float, eval_every: int) -> dict:
    """Train and evaluate in turn until the target or the limit; seconds are training's alone."""
    evaluations: list[dict] = []
    evaluating = 0.0
    start = time.perf_counter()

    def after_round(_: int) -> None:
        nonlocal evaluating
        now = time.perf_counter()
        seconds = now - start - evaluating
        env_steps = trainer.gen_algo.num_timesteps
        last = evaluations[-1]["env_steps"] if evaluations else 0
        if env_steps - last < eval_every and seconds < wall_limit:
            return
        evaluations.append(
            {"env_steps": env_steps, "seconds": seconds, "mean_return": mean_return(trainer.policy, env)}
        )
        evaluating += time.perf_counter() - now
        if evaluations[-1]["mean_return"] >= target or seconds >= wall_limit:
            raise EnoughError

    with contextlib.suppress(EnoughError):
        trainer.train(100_000_000, callback=after_round)
    last = evaluations[-1]
    reached = last["mean_return"] >= target
    return {
        "reached": reached,
        "seconds_to_95": last["seconds"] if reached else None,
        "env_steps_to_95": last["env_steps"] if reached else None,
        "seconds": last["seconds"],
        "env_steps": last["env_steps"],
        "steps_per_second": last["env_steps"] / last["seconds"],
        "best_return": max(row["mean_return"] for row in evaluations),
        "evaluations": evaluations,
    }


def main() -> None:
    """Train one seed."""
    parser = parser_of("How long imitation's GAIL takes to 95% of the expert.")
    parser.add_argument("env", choices=("Hopper-v4", "HalfCheetah-v4"))
    parser.add_argument("--demos", type=Path, required=True, help="npz of episodes of the same environment, -v5")
    parser.add_argument("--num-demos", type=int, default=4)
    parser.add_argument("--subsample", type=int, default=20)
    parser.add_argument("--settings", choices=("matched", "tuned", "quick-start"), default="matched")
    parser.add_argument("--wall-limit", type=float, default=600, help="seconds of training")
    parser.add_argument("--eval-every", type=int, default=50_000, help="environment steps")
    arguments = parser.parse_args()
    rng = set_up(arguments.seed)
    demonstrations, expert_return = load_demonstrations(
        arguments.demos, episodes=arguments.num_demos, every=arguments.subsample, rng=rng
    )
    env, eval_env = make_envs(arguments.env, rng), make_envs(arguments.env, rng)
    trainer = make_trainer(arguments.settings, arguments.env, env, demonstrations, arguments.seed)
    result = train_until(
        trainer,
        eval_env,
        target=0.95 * expert_return,
        wall_limit=arguments.wall_limit,
        eval_every=arguments.eval_every,
    )
    print_result(
        env=arguments.env,
        settings=arguments.settings,
        seed=arguments.seed,
        num_pairs=len(demonstrations),
        expert_return=expert_return,
        **result,
    )


if __name__ == "__main__":
    main()
