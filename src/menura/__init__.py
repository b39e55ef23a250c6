"""Imitation learning and inverse reinforcement learning on JAX: from demonstrations to a policy.

Names are imported when they are first used, so that ``import menura`` and ``menura --help`` take no time.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from menura import regularizers
    from menura.core import RequestError, Spec, Transition
    from menura.demonstrations.episodes import Demonstrations, Episode
    from menura.demonstrations.readers import load
    from menura.demonstrations.record import record
    from menura.demonstrations.writers import save
    from menura.environments.base import AbstractNativeEnv
    from menura.environments.collect import collect
    from menura.environments.registry import make
    from menura.environments.reward_wrapper import LearnedRewardWrapper
    from menura.evaluation import Evaluation, evaluate
    from menura.forward.dqn import DQN
    from menura.forward.ppo import PPO
    from menura.forward.sac import SAC
    from menura.forward.trpo import TRPO
    from menura.imitation.adversarial import GAIL
    from menura.imitation.airl import AIRL
    from menura.imitation.bc import BC
    from menura.imitation.dagger import DAgger
    from menura.imitation.lsiq import LSIQ
    from menura.imitation.sqil import SQIL
    from menura.run.artifacts import load_policy
    from menura.run.reward import load_reward
    from menura.run.train import Run, train

_HOMES = {
    "AIRL": "imitation.airl",
    "BC": "imitation.bc",
    "DAgger": "imitation.dagger",
    "DQN": "forward.dqn",
    "GAIL": "imitation.adversarial",
    "LSIQ": "imitation.lsiq",
    "LearnedRewardWrapper": "environments.reward_wrapper",
    "PPO": "forward.ppo",
    "SAC": "forward.sac",
    "SQIL": "imitation.sqil",
    "TRPO": "forward.trpo",
    "AbstractNativeEnv": "environments.base",
    "Demonstrations": "demonstrations.episodes",
    "Episode": "demonstrations.episodes",
    "Evaluation": "evaluation",
    "RequestError": "core",
    "Run": "run.train",
    "Spec": "core",
    "Transition": "core",
    "collect": "environments.collect",
    "evaluate": "evaluation",
    "load": "demonstrations.readers",
    "load_policy": "run.artifacts",
    "load_reward": "run.reward",
    "make": "environments.registry",
    "record": "demonstrations.record",
    "regularizers": "regularizers",
    "save": "demonstrations.writers",
    "train": "run.train",
}
"""Every public name, and the module that it lives in."""

__all__ = [
    "AIRL",
    "BC",
    "DAgger",
    "DQN",
    "GAIL",
    "LSIQ",
    "PPO",
    "SAC",
    "SQIL",
    "TRPO",
    "AbstractNativeEnv",
    "Demonstrations",
    "Episode",
    "Evaluation",
    "LearnedRewardWrapper",
    "RequestError",
    "Run",
    "Spec",
    "Transition",
    "collect",
    "evaluate",
    "load",
    "load_policy",
    "load_reward",
    "make",
    "record",
    "regularizers",
    "save",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'menura' has no attribute {name!r}")
    module = importlib.import_module(f"menura.{_HOMES[name]}")
    value = module if _HOMES[name] == name else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
