"""Tuned settings as data: by algorithm, forward solver and family of environments.

A family is an environment's id without package and version: ``Hopper-v4`` and ``Hopper-v5`` share one. An
environment without a preset of its own gets ``discrete`` or ``box``, after its actions, sized to end
within a quarter of an hour on two cores. One that is seen as pictures and takes discrete actions gets ``pixels``
before that, and an Atari game ``Atari`` before that, where there is one. The numbers come from ``benchmarks/tune.py``.
"""

import re
from dataclasses import dataclass, field
from typing import Any

from menura.core import AbstractForwardLearner, AbstractLearner, BoxActions, RequestError, Spec
from menura.forward.q_values import QPolicy
from menura.forward.sac import LogitPolicy, SquashedPolicy
from menura.forward.warm_start import hidden_sizes, network_of
from menura.imitation.holder import AbstractHolder
from menura.networks import GaussianPolicy
from menura.run.registry import ALGORITHMS, FORWARD, HOLDS, REGULARIZERS, named, replaced


@dataclass(frozen=True)
class Preset:
    """Settings that a learner and its run begin with; options of the command line go over them."""

    algorithm: str
    forward: str | None
    family: str
    total_steps: int
    num_envs: int = 32
    fields: dict[str, Any] = field(default_factory=dict)
    """Fields of the learner, dotted where they belong to the learner inside."""
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    """Settings of the environment."""

    @property
    def name(self) -> str:
        """How ``--preset`` and ``menura list presets`` call it."""
        return "-".join(filter(None, (self.algorithm, self.forward, self.family.lower())))


def _within(fields: dict[str, Any]) -> dict[str, Any]:
    """Fields of a forward learner, as those of the learner that holds it."""
    return {f"forward.{name}": value for name, value in fields.items()}


_QUICK = {
    # A narrow first policy explores near what it does already, and many short rollouts move it often.
    "forward.initial_log_std": -1.0,
    "forward.num_steps": 64,
    "forward.max_kl": 0.015,
    "forward.shrink": 0.8,
    "forward.gamma": 0.99,
}

_REPLAY = {
    # 8 copies of 16 steps and 128 gradient steps: one for every step of the environment.
    "forward.num_updates": 128,
    "forward.batch_size": 128,
    "forward.replay_size": 150_000,
    "forward.learning_starts": 2_000,
    "forward.learning_rate": 1e-3,
    # At 1 the first thousands of gradient steps are spent on entropy.
    "forward.initial_temperature": 0.05,
    "forward.standardize_observations": True,
}

_SCORED_REPLAY = _REPLAY | {
    "num_score_steps": 16,
    # The score tells the expert from what the policy does now rather than from what it did long ago.
    "score_replay_size": 20_000,
    # Cloning helps at first, and would hold the policy back in the end: it fades over 64,000 steps.
    "bc_coef": 20.0,
    "bc_updates": 500,
}

_BETWEEN_BOUNDS = {
    # The torques of a humanoid that runs switch between their bounds, which leaves little entropy.
    "forward.box_entropy": -6.0,
    "forward.learning_rate": 3e-4,
}

_HUMANOID = {"num_steps": 64, "gamma": 0.995, "hidden_sizes": (256, 256), "activation": "silu"}
_HUMANOID_PPO = _HUMANOID | {"num_epochs": 4, "num_minibatches": 4}

_MOTION_PRIOR = {
    # A motion prior beside a task (Peng et al. 2021): a score of observations, held flat by its penalty.
    "style_coef": 0.5,
    "task_coef": 0.5,
    "gradient_norm": 0.0,
    "gradient_penalty": 5.0,
    # The clip's spread is a few degrees: in its units alone a beginner is so far away that a score says nothing.
    "score_units": "both",
    "learning_rate": 2e-4,
    "num_score_steps": 4,
    "hidden_sizes": (128, 128),
    "forward.num_steps": 64,
    "forward.num_epochs": 4,
    "forward.gamma": 0.97,
    "forward.hidden_sizes": (128, 128),
    # Servos asked for angles a seventh of a radian apart.
    "forward.initial_log_std": -2.0,
}

_DISCRETE_REPLAY = {
    "forward.replay_size": 50_000,
    "forward.learning_starts": 1_000,
    "forward.learning_rate": 1e-3,
    "forward.discrete_entropy": 0.3,
}

_SEEN_SCORE = {
    # Many score steps: a convolutional score is slow to begin with, and a penalty of 1 on its slope between pictures
    # would hold it near 0.
    "num_score_steps": 16,
    "score_batch_size": 128,
    "gradient_penalty": 0.1,
    "gradient_norm": 0.0,
}

_SEEN = _SEEN_SCORE | {"forward.num_steps": 64}

_SEEN_PPO = _SEEN | {"forward.num_minibatches": 4, "forward.learning_rate": 1e-3, "forward.policy_averaging": 0.5}

_ATARI_PPO = {
    # Of Schulman et al. 2017, table 5, without its annealing.
    "num_steps": 128,
    "num_epochs": 3,
    "num_minibatches": 4,
    "learning_rate": 2.5e-4,
    "clip_eps": 0.1,
    "ent_coef": 0.01,
    "vf_coef": 1.0,
    "hidden_sizes": (),
}

# One gradient step for every two steps of the environment, of rewards over three steps each.
_DQN = {"num_updates": 32, "return_steps": 3}
_CONTROL = _DQN | {
    "num_updates": 64,
    "batch_size": 128,
    "replay_size": 50_000,
    "learning_rate": 6.3e-4,
    "exploration_steps": 12_000,
}
# Within imitation values are soft, and rewards are those of one step.
_SOFT_DQN = {
    "forward.num_steps": 8,
    "forward.num_updates": 32,
    "forward.batch_size": 128,
    "forward.replay_size": 50_000,
    "forward.learning_rate": 1e-4,
    "forward.target_every": 256,
    "forward.exploration_steps": 5_000,
    "forward.final_exploration": 0.01,
    "forward.temperature": 0.1,
}
_ATARI_DQN = {
    "num_steps": 8,
    "num_updates": 16,
    "batch_size": 32,
    "replay_size": 1_000_000,
    "learning_starts": 20_000,
    "learning_rate": 1e-4,
    "target_every": 2_000,
    "exploration_steps": 250_000,
    "final_exploration": 0.01,
    "return_steps": 3,
    "dueling": True,
    # After the 512 features of the encoder: 256 of the state's value, and 256 of the advantages.
    "hidden_sizes": (256,),
}
_SOFT_ATARI_DQN = {
    "forward.num_steps": 8,
    "forward.num_updates": 16,
    "forward.batch_size": 64,
    "forward.replay_size": 200_000,
    "forward.learning_starts": 2_000,
    "forward.learning_rate": 1e-4,
    "forward.target_every": 1_000,
    "forward.exploration_steps": 20_000,
    "forward.final_exploration": 0.01,
    "forward.temperature": 0.1,
    "forward.dueling": True,
    "forward.hidden_sizes": (256,),
}

DQN_PRESETS: tuple[Preset, ...] = (
    Preset("dqn", None, "discrete", 100_000, 4, _DQN),
    Preset(
        "dqn",
        None,
        "CartPole",
        50_000,
        4,
        _DQN
        | {
            "num_updates": 64,
            "learning_rate": 5e-4,
            # Copied more often, values of success feed on themselves.
            "target_every": 400,
            "exploration_steps": 8_000,
            "final_exploration": 0.04,
        },
    ),
    Preset(
        "dqn",
        None,
        "Acrobot",
        100_000,
        4,
        _CONTROL | {"replay_size": 100_000, "learning_rate": 3e-4, "target_every": 500, "dueling": True},
    ),
    Preset("dqn", None, "LunarLander", 100_000, 4, _CONTROL),
    Preset(
        "dqn",
        None,
        "MountainCar",
        120_000,
        4,
        _CONTROL
        | {
            "num_steps": 4,
            "num_updates": 8,
            "learning_rate": 1e-3,
            "target_every": 300,
            # The car's velocity is a fifteenth of its position: what is not seen is not explored.
            "obs_scale": (1.0, 15.0),
            "exploration_steps": 12_000,
            "final_exploration": 0.07,
        },
    ),
    Preset("dqn", None, "Atari", 10_000_000, 8, _ATARI_DQN),
    Preset(
        "dqn",
        None,
        "Pong",
        1_000_000,
        8,
        # The ball can be seen in pictures of 52 by 52, and a gradient step costs a quarter of one on 84 by 84.
        _ATARI_DQN | {"num_updates": 24, "replay_size": 250_000, "learning_rate": 1.5e-4, "target_every": 1_000},
        {"img_height": 52, "img_width": 52},
    ),
    *(
        Preset(algorithm, "dqn", "discrete", 50_000, 8, _SOFT_DQN | fields)
        for algorithm, fields in (
            ("gail", {"num_score_steps": 16, "gradient_norm": 0.0}),
            ("sqil", {}),
            ("lsiq", {}),
        )
    ),
    *(
        Preset(algorithm, "dqn", "pixels", 40_000, 8, _SOFT_DQN | fields)
        for algorithm, fields in (("gail", _SEEN_SCORE), ("sqil", {}), ("lsiq", {}))
    ),
    *(
        Preset(algorithm, "dqn", "Atari", 400_000, 8, _SOFT_ATARI_DQN | fields)
        for algorithm, fields in (("gail", _SEEN_SCORE), ("sqil", {}), ("lsiq", {}))
    ),
)

_ROADS = ("merge", "highway", "highway-fast", "roundabout")
"""Families of highway-env."""

_DRIVING = {
    # Many copies, because a step of EnvPool costs less than the call that chooses its actions.
    "forward.num_steps": 32,
    "forward.gamma": 0.99,
    "gradient_norm": 0.0,
    "reward_form": "auto",
}

PRESETS: tuple[Preset, ...] = (
    Preset("ppo", None, "discrete", 200_000, 16, {"num_minibatches": 8, "ent_coef": 0.01}),
    Preset("ppo", None, "pixels", 100_000, 16, {"num_minibatches": 8, "ent_coef": 0.01}),
    Preset("ppo", None, "Atari", 10_000_000, 8, _ATARI_PPO),
    Preset("ppo", None, "Acrobot", 400_000, 16, {"num_minibatches": 8, "ent_coef": 0.01}),
    Preset("ppo", None, "Pendulum", 600_000, 16, {"gamma": 0.95, "learning_rate": 1e-3}),
    Preset("ppo", None, "box", 1_000_000, 32),
    Preset("ppo", None, "Humanoid", 5_000_000, 64, _HUMANOID_PPO),
    Preset("trpo", None, "discrete", 300_000, 16),
    Preset("trpo", None, "box", 1_000_000, 32),
    Preset(
        "sac", None, "discrete", 50_000, 4, {"replay_size": 50_000, "learning_starts": 1_000, "discrete_entropy": 0.3}
    ),
    Preset(
        "sac", None, "Pendulum", 20_000, 4, {"replay_size": 20_000, "learning_starts": 1_000, "learning_rate": 1e-3}
    ),
    Preset("sac", None, "box", 150_000, 4, {"standardize_observations": True}),
    *DQN_PRESETS,
    Preset("bc", None, "discrete", 2_000_000),
    Preset("bc", None, "box", 2_000_000),
    # Wide and rectified: seventeen torques switch between their bounds. Decay, because a dozen episodes are few.
    Preset(
        "bc",
        None,
        "Humanoid",
        2_000_000,
        fields={
            "hidden_sizes": (256, 256),
            "activation": "relu",
            "learning_rate": 3e-4,
            "batch_size": 512,
            "weight_decay": 0.1,
            "heldout_fraction": 0.1,
            # Three of its torques in four are at a bound.
            "clipped_likelihood": True,
        },
    ),
    Preset("bc", None, "pixels", 300_000, fields={"hidden_sizes": (64,)}),
    # Small steps and a long average: at 1e-3 one clone of Pong in three lost most of its games.
    Preset(
        "bc",
        None,
        "Atari",
        3_000_000,
        fields={
            "hidden_sizes": (),
            "learning_rate": 2e-4,
            "policy_averaging": 0.9,
            "heldout_fraction": 0.1,
        },
    ),
    Preset("dagger", None, "discrete", 2_000, 4),
    # Short rounds of one copy: with four times as many labels in a round, Hopper needs three times as many in all.
    Preset("dagger", None, "box", 20_000, 1, {"num_steps": 250, "bc.num_batches": 2000}),
    Preset("gail", "trpo", "discrete", 200_000, 32, {"gradient_norm": 0.0}),
    Preset(
        "gail",
        "trpo",
        "Acrobot",
        1_500_000,
        32,
        {"gradient_norm": 0.0, "forward.gamma": 0.99, "forward.policy_averaging": 0.97},
    ),
    # Fewer and shorter steps of the policy leave some seeds swinging once too often for a million steps.
    Preset(
        "gail",
        "trpo",
        "MountainCar",
        1_000_000,
        32,
        {"forward.gamma": 0.99, "forward.max_kl": 0.03, "forward.num_steps": 64},
    ),
    Preset("gail", "trpo", "box", 1_000_000, 32),
    Preset("gail", "trpo", "Hopper", 640_000, 32),
    Preset("gail", "trpo", "HalfCheetah", 460_000, 32, _QUICK),
    Preset("gail", "trpo", "Ant", 2_500_000, 32, _QUICK),
    Preset("gail", "ppo", "discrete", 300_000, 32, {"gradient_norm": 0.0}),
    Preset("gail", "ppo", "box", 1_000_000, 32, {"forward.initial_log_std": -1.0}),
    Preset("gail", "ppo", "Hopper", 1_000_000, 32, {"forward.gamma": 0.995, "forward.learning_rate": 2.2e-4}),
    Preset("gail", "ppo", "Humanoid", 3_000_000, 64, {"gradient_norm": 0.0} | _within(_HUMANOID_PPO)),
    Preset("gail", "trpo", "Humanoid", 3_000_000, 64, {"gradient_norm": 0.0} | _within(_HUMANOID)),
    Preset("gail", "trpo", "pixels", 150_000, 16, _SEEN | {"forward.policy_averaging": 0.5}),
    Preset("gail", "ppo", "pixels", 100_000, 16, _SEEN_PPO),
    Preset("gail", "ppo", "Catch", 60_000, 16, _SEEN_PPO | {"forward.gamma": 0.9}),
    Preset(
        "gail",
        "ppo",
        "Atari",
        2_000_000,
        8,
        _SEEN_PPO
        | {
            # At 1e-3 every unit of a score of Pong's pictures was dead after 25,000 steps.
            "learning_rate": 2e-4,
            "num_score_steps": 4,
            "forward.learning_rate": 1e-4,
            "forward.num_epochs": 4,
        },
    ),
    Preset("gail", "ppo", "MotionWalk", 8_000_000, 32, _MOTION_PRIOR),
    Preset("airl", "trpo", "discrete", 200_000, 32, {"gradient_norm": 0.0, "reward_form": "auto"}),
    Preset("airl", "trpo", "box", 1_000_000, 32, {"reward_form": "auto"}),
    Preset("airl", "trpo", "HalfCheetah", 460_000, 32, {"reward_form": "auto", **_QUICK}),
    Preset("airl", "ppo", "discrete", 300_000, 32, {"gradient_norm": 0.0, "reward_form": "auto"}),
    Preset("airl", "ppo", "box", 1_000_000, 32, {"reward_form": "auto", "forward.initial_log_std": -1.0}),
    Preset("gail", "sac", "discrete", 50_000, 8, _DISCRETE_REPLAY | {"num_score_steps": 16, "gradient_norm": 0.0}),
    # A third of SAC's noise: with SAC's own one Hopper in five stays short of 95% of the expert, by one gradient step
    # for every step of the environment as by three for two.
    Preset(
        "gail", "sac", "box", 150_000, 8, _SCORED_REPLAY | {"forward.num_updates": 192, "forward.box_entropy": -2.0}
    ),
    # Over before cloning has faded, and above the expert by then.
    Preset("gail", "sac", "HalfCheetah", 40_000, 8, _SCORED_REPLAY),
    # Cloning makes it run, and it ends before the score, which is crude after so few steps, undoes that.
    Preset(
        "gail",
        "sac",
        "Humanoid",
        12_000,
        8,
        _SCORED_REPLAY
        | _BETWEEN_BOUNDS
        | {"bc_coef": 100.0, "gradient_norm": 0.0, "forward.initial_temperature": 0.01},
    ),
    # In the expert's units a score is sure of every step of a body on its back, which touches the ground where the
    # expert never does. Cloning from 200 steps, in units of what such a body sees, led nowhere.
    Preset(
        "gail",
        "sac",
        "Ant",
        500_000,
        8,
        _SCORED_REPLAY
        | {
            "bc_updates": 0,
            "score_units": "both",
            "gradient_norm": 0.0,
            "forward.replay_size": 200_000,
            "forward.hidden_sizes": (128, 128),
        },
    ),
    *(Preset(algorithm, "trpo", family, 200_000, 128, _DRIVING) for algorithm in ("gail", "airl") for family in _ROADS),
    *(
        Preset(algorithm, None, family, total_steps, num_envs, fields)
        for algorithm, total_steps, num_envs, fields in (
            ("bc", 2_000_000, 32, {}),
            ("dagger", 2_600, 4, {"num_steps": 65}),
            ("ppo", 300_000, 32, {"num_steps": 64, "num_minibatches": 8, "gamma": 0.95, "ent_coef": 0.01}),
        )
        for family in _ROADS
    ),
    *(Preset(algorithm, "sac", "discrete", 50_000, 8, _DISCRETE_REPLAY) for algorithm in ("sqil", "lsiq")),
    # Once the learner is like the expert, the same steps pay 1 and 0, and little but cloning holds the policy there: it
    # ends before it drifts away.
    Preset("sqil", "sac", "box", 20_000, 8, _REPLAY | {"bc_coef": 10.0}),
    Preset("sqil", "sac", "Humanoid", 12_000, 8, _REPLAY | {"bc_coef": 100.0} | _BETWEEN_BOUNDS),
    # By itself it comes and goes: two Hoppers in three were lost again, as most runs are from every 20th pair.
    Preset("lsiq", "sac", "box", 24_000, 8, _REPLAY | {"bc_coef": 10.0}),
)


WARM: dict[str, dict[str, Any]] = {
    # The clone's actions are nearly right: what is explored lies near them.
    "trpo": {"initial_log_std": -1.0, "critic_updates": 5},
    "ppo": {"initial_log_std": -1.0, "critic_updates": 5},
    # A high temperature would pay the policy for forgetting what it begins with.
    "sac": {"initial_temperature": 0.1, "critic_steps": 5_000},
    # At an exploration of 1 the first steps in the replay would be those of no policy.
    "dqn": {"initial_exploration": 0.05},
    "gail": {"bc_updates": 100, "bc_coef": 1.0},
    "airl": {"bc_updates": 100},
    "sqil": {"bc_coef": 1.0, "bc_updates": 100},
    "lsiq": {"bc_coef": 1.0, "bc_updates": 100},
}
"""Settings of a run that begins with the policy of another, over its preset's; by algorithm."""

KEPT_IF_LOWER = ("initial_log_std", "initial_temperature")
"""Those of them that make a beginning less random: where the preset makes it still less so, that stays."""


def warm_fields(preset: Preset, policy: Any) -> dict[str, Any]:
    """What :data:`WARM` says for a preset's learners, and networks of the same shape as the policy's."""
    forward = preset.forward or preset.algorithm
    if forward not in WARM:
        raise RequestError(f"{preset.algorithm} cannot begin with the policy of another run: leave out --warm-start.")
    prefix = "" if preset.forward is None else "forward."
    fields = dict(WARM[forward])
    if hasattr(policy, "network") or isinstance(policy, QPolicy):
        fields |= {"hidden_sizes": hidden_sizes(policy), "activation": network_of(policy).activation}
    if forward == "dqn":
        fields["dueling"] = isinstance(policy, QPolicy) and policy.values.heads is not None
        fields |= {"obs_scale": policy.values.obs_scale} if isinstance(policy, QPolicy) else {}
    if forward == "sac":
        fields["linear_mean"] = isinstance(policy, GaussianPolicy) or getattr(policy, "linear_mean", False)
        if isinstance(policy, SquashedPolicy | LogitPolicy):
            fields["standardize_observations"] = policy.norm is not None
    for name in KEPT_IF_LOWER:
        if name in fields and prefix + name in preset.fields:
            fields[name] = min(fields[name], preset.fields[prefix + name])
    # Some presets have cloning in the policy's step by themselves.
    learner: Any = learner_of(preset)
    own = WARM[preset.algorithm] if isinstance(learner, AbstractHolder) and not learner.clones else {}
    if own and forward == "sac":
        # A quarter of them pass before the policy moves.
        own = own | {"bc_updates": 200}
    return {prefix + name: value for name, value in fields.items()} | own


def family_of(env_id: str) -> str:
    """An environment's id without package and version."""
    return re.sub(r"-v\d+$", "", env_id.rsplit(":", 1)[-1])


def find_preset(algorithm: str, forward: str | None, env_id: str | None, spec: Spec) -> Preset:
    """The preset of an environment's family, or the one for its kind of actions."""
    kinds = ["box" if isinstance(spec.actions, BoxActions) else "discrete"]
    if spec.parts and kinds == ["discrete"]:
        kinds = [*(["Atari"] if _is_atari(env_id) else []), "pixels", *kinds]
    for family in (family_of(env_id or ""), *kinds):
        for preset in PRESETS:
            if (preset.algorithm, preset.forward, preset.family) == (algorithm, forward, family):
                return preset
    if isinstance(spec.actions, BoxActions) and "dqn" in (algorithm, forward):
        raise RequestError("dqn chooses among discrete actions and this environment's are real: take sac.")
    raise RequestError(
        f"{algorithm} has no forward learner {forward!r}: choose one of {', '.join(HOLDS.get(algorithm, ()))}."
    )


def usual_env_kwargs(preset: Preset, env_id: str | None) -> dict[str, Any]:
    """A preset's settings of the environment; imitation plays whole Atari games, as they were recorded.

    Where a lost life ended the learner's episodes and not the expert's, a score would tell the two apart by it.
    """
    imitates = not issubclass(ALGORITHMS[preset.algorithm], AbstractForwardLearner)
    return ({"episodic_life": False} if imitates and _is_atari(env_id) else {}) | preset.env_kwargs


def _is_atari(env_id: str | None) -> bool:
    if env_id is None:
        return False
    from menura.environments.atari import game_of

    return game_of(env_id) is not None


def named_preset(name: str) -> Preset:
    """The preset of this name."""
    return named("preset", {preset.name: preset for preset in PRESETS}, name)


def forward_of(algorithm: str, forward: str | None) -> str | None:
    """The forward learner asked for, or the algorithm's default; ``None`` where it holds none."""
    named("algorithm", ALGORITHMS, algorithm)
    if algorithm not in HOLDS:
        if forward is not None:
            raise RequestError(f"{algorithm} holds no forward learner: leave out --forward.")
        return None
    if forward is None:
        return HOLDS[algorithm][0]
    if forward not in HOLDS[algorithm]:
        choices = ", ".join(HOLDS[algorithm])
        raise RequestError(f"No forward learner {forward!r} inside {algorithm}: choose one of {choices}.")
    return forward


def learner_of(preset: Preset, *, regularizer: str | None = None) -> AbstractLearner:
    """The learner that a preset describes."""
    algorithm: Any = ALGORITHMS[preset.algorithm]
    learner = algorithm()
    if preset.forward is not None:
        forward: Any = FORWARD[preset.forward]
        learner = replaced(learner, {"forward": forward()})
    if regularizer is not None:
        if not hasattr(learner, "regularizer"):
            raise RequestError(f"{preset.algorithm} has no cost regulariser: leave out --regularizer.")
        learner = replaced(learner, {"regularizer": named("regularizer", REGULARIZERS, regularizer)()})
    return replaced(learner, preset.fields)
