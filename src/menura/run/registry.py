"""Names to things: algorithms and regularizers by name, and learners to and from plain JSON."""

import dataclasses
from typing import Any

from menura.core import AbstractForwardLearner, AbstractImitationLearner, AbstractLearner, RequestError
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
from menura.regularizers import (
    AbstractRegularizer,
    AIRLLink,
    ChiSquared,
    ChiSquaredMixture,
    FAIRLLink,
    FeatureExpectation,
    ForwardKL,
    GameTheoretic,
    JensenShannon,
    ReverseKL,
    TotalVariation,
    Wasserstein,
)

FORWARD: dict[str, type[AbstractForwardLearner]] = {"ppo": PPO, "trpo": TRPO, "sac": SAC, "dqn": DQN}
"""Learn from the environment's reward by themselves, and from any other inside imitation learners."""
IMITATION: dict[str, type[AbstractImitationLearner]] = {
    "bc": BC,
    "dagger": DAgger,
    "gail": GAIL,
    "airl": AIRL,
    "sqil": SQIL,
    "lsiq": LSIQ,
}
ALGORITHMS: dict[str, type[AbstractLearner]] = {**FORWARD, **IMITATION}
HOLDS: dict[str, tuple[str, ...]] = {
    "gail": ("trpo", "ppo", "sac", "dqn"),
    "airl": ("trpo", "ppo"),
    "sqil": ("sac", "dqn"),
    "lsiq": ("sac", "dqn"),
}
"""The forward learners that an imitation learner can hold, the one that it holds where none is named first."""
REGULARIZERS: dict[str, type[AbstractRegularizer]] = {
    "jensen_shannon": JensenShannon,
    "reverse_kl": ReverseKL,
    "forward_kl": ForwardKL,
    "chi_squared": ChiSquared,
    "chi_squared_mixture": ChiSquaredMixture,
    "total_variation": TotalVariation,
    "wasserstein": Wasserstein,
    "fem": FeatureExpectation,
    "gtal": GameTheoretic,
    "airl_link": AIRLLink,
    "fairl_link": FAIRLLink,
}

_CLASSES = {cls.__name__: cls for cls in (*ALGORITHMS.values(), *REGULARIZERS.values())}


def named(kind: str, table: dict[str, Any], name: str) -> Any:
    """The entry of a table, or one sentence that lists what there is."""
    if name not in table:
        raise RequestError(f"No {kind} {name!r}: choose one of {', '.join(table)}.")
    return table[name]


def algorithm_name(learner: AbstractLearner) -> str:
    """The name by which the command line knows a learner."""
    return next(name for name, cls in ALGORITHMS.items() if type(learner) is cls)


def regularizer_name(regularizer: AbstractRegularizer) -> str:
    """The name by which the command line knows a regularizer; of one's own, its class's."""
    known = (name for name, cls in REGULARIZERS.items() if type(regularizer) is cls)
    return next(known, type(regularizer).__name__)


def to_json(module: Any) -> Any:
    """A learner as plain JSON: its class's name, then its fields."""
    if dataclasses.is_dataclass(module):
        fields = {f.name: getattr(module, f.name) for f in dataclasses.fields(module)}
        for f in dataclasses.fields(module):
            if callable(f.default) and fields.pop(f.name) is not f.default:
                raise RequestError(
                    f"{type(module).__name__}.{f.name} is a function of your own, which a run folder cannot keep: "
                    "train with menura.train from Python."
                )
        return {"type": type(module).__name__, **{name: to_json(value) for name, value in fields.items()}}
    if isinstance(module, tuple):
        return [to_json(item) for item in module]
    if isinstance(module, bool | int | str) or module is None:
        return module
    return float(module)


def from_json(value: Any) -> Any:
    """What :func:`to_json` wrote, built again."""
    if isinstance(value, dict):
        fields = {name: from_json(item) for name, item in value.items() if name != "type"}
        cls = named("learner", _CLASSES, value.get("type", ""))
        try:
            return cls(**fields)
        except TypeError as error:
            raise RequestError(f"This configuration was written by another version of menura: {error}.") from error
    return tuple(map(from_json, value)) if isinstance(value, list) else value


def replaced(module: Any, changes: dict[str, Any]) -> Any:
    """A learner with fields changed; dotted names reach into the learners it holds."""
    own = {name: value for name, value in changes.items() if "." not in name}
    inner: dict[str, dict[str, Any]] = {}
    for name, value in changes.items():
        if "." in name:
            head, tail = name.split(".", 1)
            inner.setdefault(head, {})[tail] = value
    known = {f.name for f in dataclasses.fields(module)}
    for name in (*own, *inner):
        if name not in known:
            raise RequestError(f"{type(module).__name__} has no field {name!r}; it has {', '.join(sorted(known))}.")
    own |= {name: replaced(getattr(module, name), part) for name, part in inner.items()}
    return dataclasses.replace(module, **own)
