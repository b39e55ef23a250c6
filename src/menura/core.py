"""What every part of the library shares: the shape of data, of a problem, and of a learner."""

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import equinox as eqx
import jax
import numpy as np
from jaxtyping import AbstractDtype, Array, Bool, Float, Int, PRNGKeyArray, Shaped

if TYPE_CHECKING:
    Hyper: TypeAlias = float | Array
    AnyArray: TypeAlias = Any
    Observed = Shaped
else:
    # A number on the command line; a traced scalar where a sweep is vmapped over it.
    Hyper: TypeAlias = float
    # Of NumPy on the host, of JAX on a device.
    AnyArray: TypeAlias = Array | np.ndarray

    class Observed(AbstractDtype):
        """Observations: numbers, or bytes where pictures are among them (:class:`Spec`)."""

        dtypes = (*Float.dtypes, "uint8")


Metrics: TypeAlias = dict[str, Array]
"""Scalars by name, ``area/name``: what one update has to say of itself."""

Penalty: TypeAlias = Callable[[Any, PRNGKeyArray], Array]
"""Of a policy and a key to a scalar: what else an update of the policy lowers, on what it draws by the key.

A learner gives it another key at every gradient step, so that many of them do not learn one draw by heart, and one key
to all that a line search compares.
"""

DrawnPenalty: TypeAlias = Callable[[Any], Array]
"""A :data:`Penalty` on one draw."""

FOR_PENALTY = 0x70656E61
"""What a penalty's key is folded with: no split of the same key gets there, as it does to small numbers."""


def drawn_by(key: PRNGKeyArray, penalty: Penalty | None) -> DrawnPenalty | None:
    """A penalty on the draw that belongs to a step's key, or none; independent of what else the step draws by it."""
    return None if penalty is None else lambda policy: penalty(policy, jax.random.fold_in(key, FOR_PENALTY))


class RequestError(ValueError):
    """The request was wrong: one sentence that says what to do. The program exits with code 2."""


class Transition(eqx.Module):
    """Steps of an environment. Leading axes, where there are any, are ``[time, env]``.

    ``next_obs`` is the true successor, also where the episode ended and the next row starts another.
    There is no ``done``: ``terminated`` decides what the future is worth, ``terminated | truncated``
    whether the next row belongs to the same episode. Actions are in the environment's own units,
    before any clipping to its bounds.
    """

    obs: Observed[AnyArray, "*batch obs"]
    action: Shaped[AnyArray, "*batch action"] | Shaped[AnyArray, "*batch"]
    reward: Float[AnyArray, "*batch"]
    next_obs: Observed[AnyArray, "*batch obs"]
    terminated: Bool[AnyArray, "*batch"]
    truncated: Bool[AnyArray, "*batch"]
    log_prob: Float[AnyArray, "*batch"]
    """Log-probability of ``action`` when it was taken; 0 where it is not known (demonstrations)."""


class ExpertData(eqx.Module):
    """Demonstrations as an imitation learner reads them: flat transitions, some of them held out."""

    train: Transition
    heldout: Transition
    """Never trained on; may have no rows."""
    ending_rate: Float[AnyArray, ""] | float = 0.0
    """Terminations for each step of the expert's episodes, whether those steps are among the rows or not."""
    num_train: Int[AnyArray, ""] | None = None
    """Rows of ``train`` that count, from the first on; what follows only fills it up to the shape that other seeds'
    data have. ``None`` for all."""
    num_heldout: Int[AnyArray, ""] | None = None
    """The same of ``heldout``."""
    drawn: bool = eqx.field(static=True, default=False)
    """Whether ``train`` is a few steps of many, and others in every update."""

    @property
    def train_size(self) -> Any:
        """How many rows of ``train`` count."""
        return self.train.obs.shape[0] if self.num_train is None else self.num_train


@dataclass(frozen=True)
class DiscreteActions:
    """Actions ``0 … num_actions - 1``."""

    num_actions: int


@dataclass(frozen=True)
class BoxActions:
    """Real vectors between ``low`` and ``high``, each of them finite or infinite."""

    low: tuple[float, ...]
    high: tuple[float, ...]

    @property
    def size(self) -> int:
        """Length of an action."""
        return len(self.low)

    @property
    def bounded(self) -> tuple[bool, ...]:
        """Which numbers of an action have a lower and an upper bound."""
        return tuple(
            bool(np.isfinite(low) and np.isfinite(high)) for low, high in zip(self.low, self.high, strict=True)
        )

    @property
    def center(self) -> np.ndarray:
        """Middle of the space, ``(size,)``; 0 where it is unbounded."""
        low, high = np.asarray(self.low, np.float32), np.asarray(self.high, np.float32)
        bounded = np.isfinite(low) & np.isfinite(high)
        return np.where(bounded, (np.where(bounded, low, 0) + np.where(bounded, high, 0)) / 2, 0).astype(np.float32)

    @property
    def half_width(self) -> np.ndarray:
        """Half of the space's width, ``(size,)``; 1 where it is unbounded."""
        low, high = np.asarray(self.low, np.float32), np.asarray(self.high, np.float32)
        bounded = np.isfinite(low) & np.isfinite(high)
        return np.where(bounded, (np.where(bounded, high, 0) - np.where(bounded, low, 0)) / 2, 1).astype(np.float32)


@dataclass(frozen=True)
class Vector:
    """A part of an observation: ``size`` real numbers."""

    size: int

    @property
    def num_bytes(self) -> int:
        """Bytes it takes as float32."""
        return 4 * self.size


@dataclass(frozen=True)
class Images:
    """A part of an observation: pictures of bytes, the oldest first, ``[frames, height, width, channels]``."""

    frames: int
    height: int
    width: int
    channels: int = 1

    @property
    def num_bytes(self) -> int:
        """Bytes of all frames."""
        return self.frames * self.height * self.width * self.channels


@dataclass(frozen=True)
class Spec:
    """What a learner must know of an environment to build its networks. Hashable.

    An observation is one flat array, whatever it is made of: float32 numbers, or, where pictures are among its parts,
    uint8 bytes, in which a vector's numbers are their float32's four bytes each.
    """

    obs_size: int
    """Length of an observation: of numbers, or of bytes."""
    actions: DiscreteActions | BoxActions
    parts: tuple[tuple[str, Vector | Images], ...] = ()
    """Names and shapes of what an observation holds, in its order, where pictures are among them."""
    history: int = 1
    """How many observations in a row one holds, the oldest first: those of vectors one after another, those of pictures
    as frames."""

    @property
    def obs_dtype(self) -> type[np.generic]:
        """``uint8`` where an observation is bytes, ``float32`` else."""
        return np.uint8 if self.parts else np.float32


def flatten_time(rollout: Any) -> Any:
    """Merge the leading ``[time, env]`` axes of every array into one."""
    return jax.tree.map(lambda x: x.reshape((-1, *x.shape[2:])), rollout)


class AbstractPolicy(eqx.Module):
    """Acts for one observation; use ``jax.vmap`` for many."""

    @abc.abstractmethod
    def distribution(self, obs: Observed[Array, " obs"]) -> Any:
        """The distribution over actions, with ``sample``, ``mode``, ``log_prob``, ``entropy``, ``kl``."""

    def __call__(self, obs: Observed[Array, " obs"], *, key: PRNGKeyArray | None = None) -> Array:
        """An action for one observation: a sample with a ``key``, the mean (or likeliest) action without."""
        distribution = self.distribution(obs)
        return distribution.mode() if key is None else distribution.sample(key=key)

    def act(self, obs: Observed[Array, " obs"], *, key: PRNGKeyArray) -> tuple[Array, Float[Array, ""]]:
        """A sampled action and its log-probability."""
        distribution = self.distribution(obs)
        action = distribution.sample(key=key)
        return action, distribution.log_prob(action)


class AbstractForwardLearner(eqx.Module):
    """Reinforcement learning: improves a policy on any reward it is handed. Holds its configuration only."""

    num_steps: eqx.AbstractVar[int]
    """Steps each copy of the environment takes between updates."""

    @abc.abstractmethod
    def steps_per_update(self, num_envs: int) -> int:
        """Environment steps in one update; raises :class:`RequestError` where that number cannot be used."""

    @abc.abstractmethod
    def init(self, spec: Spec, *, key: PRNGKeyArray) -> Any:
        """A fresh state: a pytree that holds arrays only."""

    @abc.abstractmethod
    def policy(self, state: Any) -> AbstractPolicy:
        """The policy that acts while learning."""

    @abc.abstractmethod
    def final_policy(self, state: Any) -> AbstractPolicy:
        """The policy to keep: what is evaluated, and what users get."""

    @abc.abstractmethod
    def update(
        self,
        state: Any,
        batch: Transition,
        reward: Float[Array, "time env"],
        *,
        key: PRNGKeyArray,
        penalty: Penalty | None = None,
    ) -> tuple[Any, Metrics]:
        """One improvement on a rollout ``[time, env]`` whose reward is ``reward``. Pure.

        ``penalty``, on a draw of its own (:func:`drawn_by`), is subtracted from the objective of each of the policy's
        steps; a learner whose step cannot hold it refuses.
        """


class AbstractImitationLearner(eqx.Module):
    """Learns from demonstrations. Holds its configuration, and a forward learner where it needs one."""

    heldout_fraction: eqx.AbstractVar[float]
    """Share of the demonstrations kept from training."""

    @property
    @abc.abstractmethod
    def num_steps(self) -> int:
        """Steps each copy of the environment takes between updates; 0 where none is taken at all."""

    @abc.abstractmethod
    def steps_per_update(self, num_envs: int) -> int:
        """Steps that count towards ``total_steps`` in one update: the environment's, or the expert's where
        the environment is not used."""

    @abc.abstractmethod
    def finished(self, state: Any) -> bool:
        """Whether there is nothing more to learn, before ``total_steps`` are over."""

    @abc.abstractmethod
    def init(self, spec: Spec, *, key: PRNGKeyArray) -> Any:
        """A fresh state: a pytree that holds arrays only."""

    @abc.abstractmethod
    def policy(self, state: Any) -> AbstractPolicy:
        """The policy that acts while learning."""

    @abc.abstractmethod
    def final_policy(self, state: Any) -> AbstractPolicy:
        """The policy to keep: what is evaluated, and what users get."""

    @abc.abstractmethod
    def update(
        self, state: Any, batch: Transition | None, demos: ExpertData, *, key: PRNGKeyArray
    ) -> tuple[Any, Metrics]:
        """One improvement from a rollout ``[time, env]`` (ignored by cloning) and demonstrations. Pure."""


AbstractLearner: TypeAlias = AbstractForwardLearner | AbstractImitationLearner
