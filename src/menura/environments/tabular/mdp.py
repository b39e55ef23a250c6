"""A problem with finitely many states and actions, kept as sparse index arrays.

A :class:`TabularMDP` lists its transitions one a row and sorted: the actions of a state are neighbours, and so
are the outcomes of an action. A *pair* is an action in a state that offers it; pairs are numbered in that order,
and every array of the planners is indexed by state, by pair, or by transition.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from menura.environments.tabular import build, checks, files, sources

if TYPE_CHECKING:
    from menura.environments.tabular.env import TabularEnv


@dataclass(frozen=True, eq=False)
class TabularMDP:
    """States, the actions that each offers, where these lead, and the features that rewards are made of.

    Build one with :meth:`from_transitions`, :meth:`from_dense`, :meth:`from_scipy`, :meth:`from_gymnasium`,
    :meth:`from_trajectories` or :meth:`load`; they sort and check. A reward is linear in the features: the sum
    over the three kinds that are present. A state's features count whenever the state is left.
    """

    num_states: int
    num_actions: int
    state: Int[np.ndarray, " transitions"]
    action: Int[np.ndarray, " transitions"]
    next_state: Int[np.ndarray, " transitions"]
    probability: Float[np.ndarray, " transitions"]
    state_features: Float[np.ndarray, "states _"] | None = None
    pair_features: Float[np.ndarray, "pairs _"] | None = None
    """State-action features, for the pairs that exist only."""
    transition_features: Float[np.ndarray, "transitions _"] | None = None
    feature_names: tuple[str, ...] = ()
    discount: float = 1.0
    horizon: int | None = None
    initial: Float[np.ndarray, " states"] | None = None
    terminal: Int[np.ndarray, " terminals"] | None = None

    @cached_property
    def pair_start(self) -> Int[np.ndarray, " pairs"]:
        """The first transition of each pair."""
        return build.first_of_runs(self.state, self.action)

    @property
    def num_pairs(self) -> int:
        """Number of actions that exist, counted over all states."""
        return len(self.pair_start)

    @property
    def num_transitions(self) -> int:
        """Number of (state, action, next state) triples with a positive probability."""
        return len(self.state)

    @cached_property
    def pair_state(self) -> Int[np.ndarray, " pairs"]:
        """The state of each pair."""
        return self.state[self.pair_start]

    @cached_property
    def pair_action(self) -> Int[np.ndarray, " pairs"]:
        """The action of each pair."""
        return self.action[self.pair_start]

    @cached_property
    def transition_pair(self) -> Int[np.ndarray, " transitions"]:
        """The pair that each transition is an outcome of."""
        lengths = np.diff(np.append(self.pair_start, self.num_transitions))
        return np.repeat(np.arange(self.num_pairs, dtype=build.index_type(self.num_pairs)), lengths)

    @cached_property
    def pair_key(self) -> Int[np.ndarray, " pairs"]:
        """``state * num_actions + action``, rising: what :meth:`pair_index` searches."""
        return self.pair_state.astype(np.int64) * self.num_actions + self.pair_action

    @property
    def num_features(self) -> int:
        """Length of θ."""
        return len(self.feature_names)

    @property
    def is_deterministic(self) -> bool:
        """Whether every action has one outcome."""
        return self.num_pairs == self.num_transitions

    @property
    def adds_features(self) -> bool:
        """Whether the kinds of features share their weights, rather than standing side by side."""
        blocks = (self.state_features, self.pair_features, self.transition_features)
        return self.num_features < sum(block.shape[1] for block in blocks if block is not None)

    def pair_index(self, state: Int[np.ndarray, " n"], action: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        """The pairs of these states and actions; −1 where the state does not offer the action."""
        key = np.asarray(state, np.int64) * self.num_actions + action
        found = np.minimum(np.searchsorted(self.pair_key, key), max(self.num_pairs - 1, 0))
        in_range = (np.asarray(action) >= 0) & (np.asarray(action) < self.num_actions)
        return np.where(in_range & (self.pair_key[found] == key), found, -1)

    def describe_pair(self, pair: int) -> str:
        """``state 3, action 1``, for messages."""
        return f"state {int(self.pair_state[pair])}, action {int(self.pair_action[pair])}"

    @classmethod
    def from_transitions(
        cls,
        state: Any,
        action: Any,
        next_state: Any,
        probability: Any,
        *,
        num_states: int | None = None,
        num_actions: int | None = None,
        state_features: Any = None,
        state_action_features: Any = None,
        pair_features: Any = None,
        transition_features: Any = None,
        feature_names: Sequence[str] | None = None,
        discount: float = 1.0,
        horizon: int | None = None,
        initial: Any = None,
        terminal: Any = None,
        source: str = "the transitions",
    ) -> "TabularMDP":
        """From one row a transition, in any order. Rows that repeat a triple add up.

        Features are given by state, by state and action ``(states, actions, features)`` (or, for large
        problems, ``pair_features`` for the pairs that exist, in the order of their numbers), or by row. With
        several kinds, θ has a weight for every column of every kind, in this order; if ``feature_names`` has
        only as many names as each kind has columns, the kinds share those weights and are added. Without any
        kind of features, every state is a feature. Actions of terminal states are dropped. ``source`` is what
        messages call the rows, such as the file that they were read from.
        """
        rows = build.checked_rows(state, action, next_state, probability, num_states, num_actions, source)
        terminal = checks.terminal_states(terminal, rows.num_states, source)
        by_row = checks.feature_table(transition_features, len(rows.state), "transition_features", source)
        table = build.merged_table(rows, terminal, by_row, source)
        by_pair = build.pair_feature_table(pair_features, state_action_features, rows, table.pair_key, source)
        by_state = checks.feature_table(state_features, rows.num_states, "state_features", source)
        names = () if feature_names is None else tuple(feature_names)
        if by_state is None and by_pair is None and table.features is None:
            by_state = build.every_state_its_own(rows.num_states, source)
            names = names or tuple(f"state {s}" for s in range(rows.num_states))
        kinds = [kind.shape[1] for kind in (by_state, by_pair, table.features) if kind is not None]
        discount, horizon = checks.timing(discount, horizon, source)
        return cls(
            rows.num_states,
            rows.num_actions,
            table.state,
            table.action,
            table.next_state,
            table.probability,
            state_features=by_state,
            pair_features=by_pair,
            transition_features=table.features,
            feature_names=checks.names_of_features(names, kinds, source),
            discount=discount,
            horizon=horizon,
            initial=checks.initial_distribution(initial, rows.num_states, source),
            terminal=terminal,
        )

    @classmethod
    def from_dense(cls, transitions: Float[np.ndarray, "states actions states"], **settings: Any) -> "TabularMDP":
        """From P(next state | state, action) ``(states, actions, states)``; a row of zeros is an action not offered.

        ``settings`` are the keywords of :meth:`from_transitions`.
        """
        return cls.from_transitions(**{**sources.dense(transitions), **settings})

    @classmethod
    def from_scipy(cls, matrices: Sequence[Any], **settings: Any) -> "TabularMDP":
        """From one sparse ``(states, states)`` matrix an action; an empty row is an action that is not offered.

        ``settings`` are the keywords of :meth:`from_transitions`.
        """
        return cls.from_transitions(**{**sources.sparse(matrices), **settings})

    @classmethod
    def from_gymnasium(cls, env_id: str, env_kwargs: dict[str, Any] | None = None, **settings: Any) -> "TabularMDP":
        """From the table ``P`` of ``FrozenLake-v1``, ``Taxi-v3``, ``CliffWalking-v1`` and their like.

        States that only an ending leads to become terminal, unless ``terminal`` says otherwise; where a state
        both ends an episode and is passed through (Taxi's drop-off), a terminal copy of it is appended. ``settings``
        are the keywords of :meth:`from_transitions`.
        """
        return cls.from_transitions(**{**sources.gymnasium_table(env_id, env_kwargs), **settings})

    @classmethod
    def from_trajectories(
        cls,
        states: Sequence[Any],
        actions: Sequence[Any],
        *,
        num_states: int,
        num_actions: int,
        smoothing: float = 0.0,
        **settings: Any,
    ) -> "TabularMDP":
        """Estimated from what happened: P(s' | s, a) = (count + smoothing) / (total + smoothing · successors of s).

        ``smoothing`` is a pseudo-count given to every successor that any action of the state was seen to
        have, so that an action never tried in a state has their average. With 0, only pairs that were tried exist.
        ``settings`` are the keywords of :meth:`from_transitions`.
        """
        counted = sources.observed(states, actions, num_states, num_actions, smoothing)
        return cls.from_transitions(**{**counted, **settings})

    def replace(self, **changes: Any) -> "TabularMDP":
        """The same problem with some settings or features changed, checked again."""
        return TabularMDP.from_transitions(**{**self._settings(), **changes})

    def _settings(self) -> dict[str, Any]:
        names = ("state", "action", "next_state", "probability", "num_states", "num_actions", "state_features")
        more = ("pair_features", "transition_features", "feature_names", "discount", "horizon", "initial", "terminal")
        return {name: getattr(self, name) for name in (*names, *more)}

    def save(self, path: str | Path) -> None:
        """Write ``mdp.npz``."""
        files.write_problem(path, self._settings(), self.pair_key)

    @classmethod
    def load(cls, path: str | Path) -> "TabularMDP":
        """Read ``mdp.npz``."""
        return cls.from_transitions(**files.read_problem(path), source=str(path))

    def as_env(
        self, theta: Float[np.ndarray, " features"] | None = None, max_episode_steps: int | None = None
    ) -> "TabularEnv":
        """As a JAX environment whose reward is θ·features; 0 without a θ."""
        from menura.environments.tabular.env import make_tabular_env

        return make_tabular_env(self, theta, max_episode_steps)


def transition_reward(mdp: TabularMDP, theta: Float[np.ndarray, " features"]) -> Float[np.ndarray, " transitions"]:
    """θ·features of every transition."""
    total = np.zeros(mdp.num_transitions)
    position = 0
    indices = (mdp.state, mdp.transition_pair, None)
    for block, index in zip((mdp.state_features, mdp.pair_features, mdp.transition_features), indices, strict=True):
        if block is None:
            continue
        start = 0 if mdp.adds_features else position
        value = block @ theta[start : start + block.shape[1]]
        total += value if index is None else value[index]
        position += block.shape[1]
    return total
