"""What the scripts of this folder share. Runs inside the environment that `make_env.py` makes."""

import argparse
import importlib.metadata
import json
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from imitation.algorithms.adversarial.gail import GAIL
from imitation.data import rollout
from imitation.data.types import Transitions
from imitation.data.wrappers import RolloutInfoWrapper
from imitation.rewards.reward_nets import BasicRewardNet
from imitation.util import logger
from imitation.util.networks import RunningNorm
from imitation.util.util import make_vec_env
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecEnv

NUM_ENVS = 8


def parser_of(description: str) -> argparse.ArgumentParser:
    """An argument parser with what every script takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--seed", type=int, default=0)
    return parser


def set_up(seed: int) -> np.random.Generator:
    """One thread, which is where small networks are fastest; the seed everywhere; a quiet stderr."""
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    return np.random.default_rng(seed)


def make_envs(env_id: str, rng: np.random.Generator) -> VecEnv:
    """The eight environments of `imitation`'s quick start, stepped one after another."""
    wrappers = [lambda env, _: RolloutInfoWrapper(env)]
    return make_vec_env(env_id, rng=rng, n_envs=NUM_ENVS, post_wrappers=wrappers)


def quiet() -> logger.HierarchicalLogger:
    """A logger that writes nothing on stdout."""
    return logger.configure(tempfile.mkdtemp(), format_strs=[])


def load_demonstrations(
    path: Path, *, episodes: int | None, every: int, rng: np.random.Generator
) -> tuple[Transitions, float]:
    """The first episodes of an npz, every k-th step of each from a random offset, and the mean return of all."""
    with np.load(path, allow_pickle=False) as file:
        data = {name: file[name] for name in ("observations", "actions", "rewards", "episode_lengths")}
        data["final"], data["terminated"] = file["final_observations"], file["terminated"]
    ends = np.cumsum(data["episode_lengths"])
    starts = ends - data["episode_lengths"]
    kept = []
    for i in range(len(ends) if episodes is None else min(episodes, len(ends))):
        obs = np.concatenate([data["observations"][starts[i] : ends[i]], data["final"][i : i + 1]])
        dones = np.zeros(ends[i] - starts[i], bool)
        dones[-1] = data["terminated"][i]
        steps = np.arange(rng.integers(every), len(dones), every)
        kept.append((obs[steps], data["actions"][starts[i] : ends[i]][steps], obs[steps + 1], dones[steps]))
    obs, acts, next_obs, dones = (np.concatenate(column) for column in zip(*kept, strict=True))
    infos = np.array([{}] * len(obs))
    expert_return = float(np.add.reduceat(data["rewards"].astype(np.float64), starts).mean())
    return Transitions(obs=obs, acts=acts, infos=infos, next_obs=next_obs, dones=dones), expert_return


def cartpole_demonstrations(env: VecEnv, rng: np.random.Generator, episodes: int = 60) -> Transitions:
    """Episodes of a linear controller that holds CartPole's pole up for all 500 steps."""

    def balance(obs, state, starts):
        return (np.asarray(obs) @ np.array([0.1, 0.3, 3.0, 1.0]) > 0).astype(np.int64), state

    enough = rollout.make_sample_until(min_timesteps=None, min_episodes=episodes)
    return rollout.flatten_trajectories(rollout.rollout(balance, env, enough, rng=rng))


def reward_net(env: VecEnv) -> BasicRewardNet:
    """The quick start's discriminator."""
    return BasicRewardNet(env.observation_space, env.action_space, normalize_input_layer=RunningNorm)


def quick_start(env: VecEnv, demonstrations: Transitions, seed: int) -> GAIL:
    """GAIL with the settings of `imitation`'s own quick start; no batch may be larger than the demonstrations."""
    learner = PPO(
        "MlpPolicy",
        env,
        batch_size=64,
        ent_coef=0.0,
        learning_rate=4e-4,
        gamma=0.95,
        n_epochs=5,
        seed=seed,
        device="cpu",
    )
    return GAIL(
        demonstrations=demonstrations,
        demo_batch_size=min(1024, len(demonstrations)),
        gen_replay_buffer_capacity=512,
        n_disc_updates_per_round=8,
        venv=env,
        gen_algo=learner,
        reward_net=reward_net(env),
        allow_variable_horizon=True,
        custom_logger=quiet(),
    )


def mean_return(policy, env: VecEnv, episodes: int = 10) -> float:
    """Mean return of the deterministic policy."""
    return float(evaluate_policy(policy, env, n_eval_episodes=episodes, deterministic=True)[0])


def print_result(**fields) -> None:
    """One JSON object, with the versions it was measured with."""
    packages = ("imitation", "stable-baselines3", "gymnasium", "mujoco", "numpy", "torch")
    versions = {name: importlib.metadata.version(name) for name in packages}
    print(json.dumps({**fields, "num_envs": NUM_ENVS, "torch_threads": torch.get_num_threads(), "versions": versions}))
