"""Episodes of an expert, and the choices people make among them. Immutable; on the host."""

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from menura.core import BoxActions, DiscreteActions, ExpertData, RequestError, Spec, Transition
from menura.demonstrations import checks
from menura.environments.history import over_steps

FEW_EPISODES = 5
"""With fewer episodes than this, whole ones are too few to hold out."""


@dataclass(frozen=True, eq=False)
class Episode:
    """One whole episode of T steps.

    ``obs`` has T+1 rows, the last being where the episode ended; T where a format does not keep it
    (``has_final_obs`` is then False). Arrays may be memory maps.
    """

    obs: np.ndarray
    actions: np.ndarray | None
    """(T, …); ``None`` in demonstrations of states only."""
    rewards: np.ndarray | None
    """(T,), or ``None`` where the expert's score is not known."""
    terminated: bool
    """Whether the environment ended it, and not the clock or the recording."""
    num_steps: int

    @property
    def has_final_obs(self) -> bool:
        """Whether the successor of the last step is known."""
        return len(self.obs) == self.num_steps + 1

    @property
    def total_reward(self) -> float:
        """Undiscounted return."""
        return float("nan") if self.rewards is None else float(np.sum(self.rewards, dtype=np.float64))

    @property
    def num_transitions(self) -> int:
        """Steps with a known successor, or with none that matters: a truncated episode without its
        final observation loses the last one, and without actions, where the successor is all there is to learn
        from, so does a terminated one."""
        last_counts = self.has_final_obs or (self.terminated and self.actions is not None)
        return self.num_steps if last_counts else self.num_steps - 1


@dataclass(frozen=True, eq=False, repr=False)
class Demonstrations:
    """A set of episodes, and which of their steps are to be learned from."""

    episodes: tuple[Episode, ...]
    source: str = ""
    """The file or folder they came from."""
    env_id: str | None = None
    """The environment they say they were recorded in."""
    expert_return: float = float("nan")
    """Mean return of all episodes of the source, whichever of them are kept here; nan if unknown."""
    metadata: dict[str, Any] = field(default_factory=dict)
    kept: tuple[np.ndarray, ...] | None = None
    """For each episode the rising indices of the steps to learn from; ``None`` for all of them."""
    notes: tuple[str, ...] = ()
    """What reading them had to leave out, in sentences for people."""

    def __len__(self) -> int:
        """The number of episodes."""
        return len(self.episodes)

    def __repr__(self) -> str:
        """Sizes, not arrays."""
        of = f" of {self.env_id}" if self.env_id else ""
        return f"Demonstrations({len(self)} episodes, {self.num_transitions} transitions{of}, from {self.source!r})"

    @property
    def num_steps(self) -> int:
        """Steps in all episodes, whether kept or not."""
        return sum(episode.num_steps for episode in self.episodes)

    @property
    def num_transitions(self) -> int:
        """Rows that :meth:`flatten` gives."""
        return sum(len(self.usable(i)) for i in range(len(self)))

    @property
    def num_dropped(self) -> int:
        """Kept steps that are lost because their successor is not known."""
        return sum(len(self._kept(i)) for i in range(len(self))) - self.num_transitions

    @property
    def returns(self) -> np.ndarray:
        """Undiscounted return of every episode, ``(episodes,)`` float64; nan where rewards are not known."""
        return np.array([episode.total_reward for episode in self.episodes], np.float64)

    @property
    def lengths(self) -> np.ndarray:
        """Steps of every episode, ``(episodes,)``."""
        return np.array([episode.num_steps for episode in self.episodes], np.int64)

    @property
    def ending_rate(self) -> float:
        """Terminations for each step of all episodes: subsampling leaves it as it is."""
        return sum(episode.terminated for episode in self.episodes) / max(1, self.num_steps)

    @property
    def ends_by_termination(self) -> bool:
        """Whether most episodes were ended by the environment, and not by the clock."""
        return 2 * sum(episode.terminated for episode in self.episodes) > len(self)

    def check(self, spec: Spec | None = None) -> None:
        """Refuse what cannot be learned from, and with a ``spec`` what is not of that environment.

        Reads every array once. A refusal names the source, the episode, the step and the field.
        """
        if not self.episodes:
            raise RequestError(f"{self._name} holds no episodes; give it at least one.")
        for index, episode in enumerate(self.episodes):
            self._check_episode(episode, spec, f"{self._name}, episode {index}")

    def take(self, num_episodes: int) -> "Demonstrations":
        """The first ``num_episodes`` of them."""
        if not 1 <= num_episodes <= len(self):
            raise RequestError(
                f"{self._name} has {len(self)} episodes, so num_demos = {num_episodes} must lie in 1 … {len(self)}."
            )
        return self.select(range(num_episodes))

    def select(self, indices: Iterable[int]) -> "Demonstrations":
        """The episodes at these places, in this order."""
        indices = list(indices)
        kept = None if self.kept is None else tuple(self.kept[i] for i in indices)
        return replace(self, episodes=tuple(self.episodes[i] for i in indices), kept=kept)

    def subsample(self, episodes: int | None = None, every: int = 1, seed: int = 0) -> "Demonstrations":
        """The first ``episodes``, and of each every ``every``-th step from a random offset.

        The protocol of Ho & Ermon (2016, section 6 and appendix): the offset is uniform over
        0 … every - 1, one for each episode. ``every = 1`` keeps all steps.
        """
        if every < 1:
            raise RequestError(f"subsample = {every} must be at least 1; 1 keeps every step.")
        chosen = self if episodes is None else self.take(episodes)
        offsets = np.random.default_rng(seed).integers(0, every, size=len(chosen))
        kept = tuple(chosen._kept(i)[offset::every] for i, offset in enumerate(offsets))
        thinned = replace(chosen, kept=kept)
        if thinned.num_transitions == 0:
            raise RequestError(
                f"subsample = {every} leaves no step of {self._name}; its longest episode has {chosen.lengths.max()}."
            )
        return thinned

    def split(
        self, fraction: float, seed: int = 0, *, whole_episodes: bool = False
    ) -> tuple["Demonstrations", "Demonstrations"]:
        """Two parts: the rest, and about ``fraction`` of the episodes, chosen at random.

        With fewer than five episodes, whole ones are too few: then one run of neighbouring kept steps
        is held out, and both parts list all episodes. ``whole_episodes`` forbids that.
        """
        if not 0 <= fraction < 1:
            raise RequestError(f"The fraction held out, {fraction}, must be at least 0 and below 1.")
        if fraction == 0:
            return self, self.select([])
        rng = np.random.default_rng(seed)
        if whole_episodes and len(self) < 2:
            raise RequestError(f"{self._name} has {len(self)} episode; splitting by episode needs at least 2.")
        if whole_episodes or len(self) >= FEW_EPISODES:
            num_heldout = min(max(1, round(fraction * len(self))), len(self) - 1)
            order = rng.permutation(len(self))
            return self.select(np.sort(order[num_heldout:]).tolist()), self.select(
                np.sort(order[:num_heldout]).tolist()
            )
        return self._split_steps(fraction, rng)

    def without_actions(self) -> "Demonstrations":
        """The same observations with the actions forgotten: what imitation from observations only is given."""
        return replace(self, episodes=tuple(replace(episode, actions=None) for episode in self.episodes))

    @property
    def has_actions(self) -> bool:
        """Whether every episode says what was done in it."""
        return all(episode.actions is not None for episode in self.episodes)

    def require_actions(self) -> None:
        """Refuse demonstrations of observations only."""
        if not self.has_actions:
            raise RequestError(
                f"{self._name} holds no actions, so an expert's choices cannot be learned from it: "
                "learn from its observations with menura train gail ENV --observations-only."
            )

    def flatten(self, spec: Spec, *, with_actions: bool = True) -> Transition:
        """The kept steps of all episodes, one after another, as rows of the environment's own sizes: float32, or bytes.

        Integer observations become one-hot where ``spec`` expects that; single ones get the history that it has.
        Unknown rewards are 0, and so is ``log_prob``. ``terminated`` and ``truncated`` are True only at the last step
        of an episode. A truncated episode without its final observation loses its last step; a terminated one keeps it,
        with the last observation in the successor's place, because nothing after it is worth anything.

        ``with_actions=False`` forgets the actions (:meth:`without_actions`). In their place is nan, or −1 where they
        are discrete, so that whoever looked at one would be found out.
        """
        if not with_actions:
            return self.without_actions()._flattened(spec)
        self.require_actions()
        return self._flattened(spec)

    def _flattened(self, spec: Spec) -> Transition:
        parts = [self.rows_of_episode(i, self.usable(i), spec) for i in range(len(self))] or [_no_rows(spec)]
        return Transition(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def expert_data(
        self, spec: Spec, heldout_fraction: float = 0.0, seed: int = 0, *, with_actions: bool = True
    ) -> ExpertData:
        """What an imitation learner is handed: checked, split and flattened."""
        demos = self if with_actions else self.without_actions()
        demos.check(spec)
        train, heldout = demos.split(heldout_fraction, seed)
        kept, left = (part.flatten(spec, with_actions=with_actions) for part in (train, heldout))
        return ExpertData(kept, left, np.asarray(train.ending_rate, np.float32))

    def shuffle_actions(self, seed: int = 0) -> "Demonstrations":
        """A control from which nothing can be learned: the same states, with the kept actions dealt out at random."""
        kept = [self._kept(i) for i in range(len(self))]
        actions = [self._actions(i) for i in range(len(self))]
        pool = np.concatenate([a[k] for a, k in zip(actions, kept, strict=True)])
        pool = pool[np.random.default_rng(seed).permutation(len(pool))]
        episodes, start = [], 0
        for episode, a, k in zip(self.episodes, actions, kept, strict=True):
            shuffled = np.array(a)
            shuffled[k] = pool[start : start + len(k)]
            start += len(k)
            shuffled.flags.writeable = False
            episodes.append(replace(episode, actions=shuffled))
        return replace(self, episodes=tuple(episodes))

    def content_hash(self) -> str:
        """SHA-256 of the numbers and of which steps are kept, whatever format or precision stores them."""
        digest = hashlib.sha256()
        for i, episode in enumerate(self.episodes):
            digest.update(f"episode {episode.num_steps} {episode.terminated}".encode())
            for array in (episode.obs, episode.actions, episode.rewards, self._kept(i)):
                _update_with_array(digest, array)
        return digest.hexdigest()

    @property
    def _name(self) -> str:
        return self.source or "The demonstrations"

    def _kept(self, i: int) -> np.ndarray:
        return np.arange(self.episodes[i].num_steps) if self.kept is None else self.kept[i]

    def usable(self, i: int) -> np.ndarray:
        """The steps of an episode that rows are made of: those that are kept and whose successor is known."""
        kept = self._kept(i)
        return kept[kept < self.episodes[i].num_transitions]

    def _actions(self, i: int) -> np.ndarray:
        self.require_actions()
        actions = self.episodes[i].actions
        assert actions is not None
        return actions

    def _check_episode(self, episode: Episode, spec: Spec | None, where: str) -> None:
        first, steps = self.episodes[0], episode.num_steps
        if steps < 1:
            raise RequestError(f"{where} has {steps} steps; every episode needs at least 1.")
        fields = {"observations": episode.obs, "actions": episode.actions, "rewards": episode.rewards}
        first_fields = {"observations": first.obs, "actions": first.actions, "rewards": first.rewards}
        for name, array in fields.items():
            if (array is None) != (first_fields[name] is None):
                raise RequestError(f"{where}: {name} are in some episodes and not in others; give all or none.")
            if array is None:
                continue
            checks.check_length(
                array, (steps, steps + 1) if name == "observations" else (steps,), where=where, field=name
            )
            if array.shape[1:] != first_fields[name].shape[1:]:
                raise RequestError(
                    f"{where}: {name} have shape {array.shape[1:]}, and {first_fields[name].shape[1:]} in episode 0; "
                    "all episodes must be of one environment."
                )
            checks.check_numbers(array, where=where, field=name)
        checks.check_obs_shape(episode.obs, where=where)
        if episode.rewards is not None and episode.rewards.ndim != 1:
            raise RequestError(f"{where}: rewards have shape {episode.rewards.shape[1:]}; store one number a step.")
        if spec is not None:
            checks.check_obs_fit(episode.obs, spec, where=where)
            if episode.actions is not None:
                checks.check_actions_fit(episode.actions, spec, where=where)

    def _split_steps(self, fraction: float, rng: np.random.Generator) -> tuple["Demonstrations", "Demonstrations"]:
        usable = [self.usable(i) for i in range(len(self))]
        total = sum(len(k) for k in usable)
        num_heldout = min(max(1, round(fraction * total)), total - 1)
        if num_heldout < 1:
            raise RequestError(
                f"{self._name} keeps {total} steps, too few to hold any out; set the held-out fraction to 0."
            )
        start = int(rng.integers(0, total - num_heldout + 1))
        train, heldout, passed = [], [], 0
        for k in usable:
            place = passed + np.arange(len(k))
            is_heldout = (place >= start) & (place < start + num_heldout)
            train.append(k[~is_heldout])
            heldout.append(k[is_heldout])
            passed += len(k)
        return replace(self, kept=tuple(train)), replace(self, kept=tuple(heldout))

    def rows_of_episode(self, i: int, rows: np.ndarray, spec: Spec) -> tuple[np.ndarray, ...]:
        """The columns of a :class:`Transition` for these steps of an episode."""
        episode = self.episodes[i]
        is_last = rows == episode.num_steps - 1
        return (
            _encode_obs(episode.obs, rows, spec),
            _no_actions(len(rows), spec) if episode.actions is None else _encode_actions(episode.actions[rows], spec),
            np.zeros(len(rows), np.float32) if episode.rewards is None else episode.rewards[rows].astype(np.float32),
            _encode_obs(episode.obs, np.minimum(rows + 1, len(episode.obs) - 1), spec),
            is_last & episode.terminated,
            is_last & (not episode.terminated),
            np.zeros(len(rows), np.float32),
        )


def _encode_obs(obs: np.ndarray, rows: np.ndarray, spec: Spec) -> np.ndarray:
    """An episode's observations at ``rows``, as the environment gives them, each with the past that belongs to it."""
    single = spec.obs_size // spec.history
    if not spec.parts and checks.is_one_hot_index(obs, single):
        obs = np.eye(single, dtype=np.float32)[obs.reshape(-1)]
    if math.prod(obs.shape[1:]) != spec.obs_size:
        return over_steps(obs, rows, spec).astype(spec.obs_dtype, copy=False)
    return obs[rows].reshape(len(rows), spec.obs_size).astype(spec.obs_dtype, copy=False)


def _encode_actions(actions: np.ndarray, spec: Spec) -> np.ndarray:
    match spec.actions:
        case DiscreteActions():
            return actions.reshape(len(actions)).astype(np.int32)
        case BoxActions(low=low):
            return actions.reshape(len(actions), len(low)).astype(np.float32)


def _no_actions(count: int, spec: Spec) -> np.ndarray:
    """What stands where no actions are known."""
    if isinstance(spec.actions, DiscreteActions):
        return np.full(count, -1, np.int32)
    return np.full((count, spec.actions.size), np.nan, np.float32)


def _no_rows(spec: Spec) -> tuple[np.ndarray, ...]:
    """The columns of :meth:`Demonstrations.flatten` where there are no episodes."""
    obs, scalar, flag = np.zeros((0, spec.obs_size), spec.obs_dtype), np.zeros(0, np.float32), np.zeros(0, bool)
    size = spec.actions.size if isinstance(spec.actions, BoxActions) else 1
    return obs, _encode_actions(np.zeros((0, size)), spec), scalar, obs, flag, flag, scalar


def _update_with_array(digest: Any, array: np.ndarray | None) -> None:
    if array is None:
        digest.update(b"none")
        return
    wide = np.ascontiguousarray(array, np.dtype("<f8") if array.dtype.kind == "f" else np.dtype("<i8"))
    digest.update(f"{wide.dtype.kind} {wide.shape}".encode())
    digest.update(wide.data)
