"""Problems with finitely many states and actions, kept as sparse index arrays.

A :class:`TabularMDP` lists its transitions one a row and sorted: the actions of a state are neighbours, and so
are the outcomes of an action. A *pair* is an action in a state that offers it; pairs are numbered in that order,
and every array of the planners is indexed by state, by pair, or by transition.
"""

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from menura.core import DiscreteActions, RequestError, Spec
from menura.environments.base import AbstractNativeEnv

PROBABILITY_TOLERANCE = 1e-6
"""How far the probabilities of one action's outcomes may sum away from 1; they are then divided by their sum."""

LARGEST_NUMBER = 2**62
"""Whole numbers stay below this, so that a state and an action fit into one 64-bit number."""


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
        changes = (np.diff(self.state) != 0) | (np.diff(self.action) != 0)
        return np.flatnonzero(np.concatenate([[True], changes])) if len(self.state) else np.zeros(0, np.int64)

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
        return np.repeat(np.arange(self.num_pairs, dtype=_index_type(self.num_pairs)), lengths)

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
        return self.num_features < sum(block.shape[1] for block in self._blocks)

    @property
    def _blocks(self) -> list[np.ndarray]:
        blocks = (self.state_features, self.pair_features, self.transition_features)
        return [block for block in blocks if block is not None]

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
        kind of features, every state is a feature. Actions of terminal states are dropped.
        """
        state, action, next_state = (
            _whole_numbers(x, name, source)
            for x, name in ((state, "state"), (action, "action"), (next_state, "next_state"))
        )
        probability = _real_numbers(probability, "probability", source)
        num_states = _count(num_states, "num_states", max(_largest(state), _largest(next_state)) + 1, source)
        num_actions = _count(num_actions, "num_actions", _largest(action) + 1, source)
        if num_states * num_actions >= LARGEST_NUMBER:
            raise RequestError(f"{source}: {num_states} states times {num_actions} actions are too many; number fewer.")
        lengths = {len(state), len(action), len(next_state), len(probability)}
        if probability.ndim != 1 or len(lengths) != 1:
            raise RequestError(f"{source}: state, action, next_state and probability must be equally long.")
        if not len(state):
            raise RequestError(f"{source}: there are no transitions; list at least one.")
        _check_range(state, num_states, "state", "num_states", source)
        _check_range(action, num_actions, "action", "num_actions", source)
        _check_range(next_state, num_states, "next_state", "num_states", source)
        bad = np.flatnonzero(~(probability >= 0) | ~np.isfinite(probability))
        if len(bad):
            raise RequestError(f"{source}: row {bad[0]} has probability {probability[bad[0]]:g}; make it 0 to 1.")
        terminal = _terminal(terminal, num_states, source)
        features = _by_transition(transition_features, len(state), source)

        keep = probability > 0
        if terminal is not None and len(terminal):
            is_terminal = np.zeros(num_states, bool)
            is_terminal[terminal] = True
            keep &= ~is_terminal[state]
        rows = np.flatnonzero(keep)
        key = (state[rows].astype(np.int64) * num_actions + action[rows]).astype(np.int64)
        if len(rows) and not _rises(key, next_state[rows]):
            order = np.lexsort((next_state[rows], key))
            rows, key = rows[order], key[order]
        _check_sums(state, action, probability, num_actions, terminal, source)
        first = _first_of_runs(key, next_state[rows])
        merged = np.add.reduceat(probability[rows], first) if len(rows) else probability[:0]
        if features is not None:
            if len(first) < len(rows):
                weighted = features[rows] * probability[rows][:, None]
                features = np.add.reduceat(weighted, first, axis=0) / merged[:, None]
            else:
                features = features[rows]
        rows, key = rows[first], key[first]
        starts = _first_of_runs(key)
        # An exact sum of 1 is what undiscounted planning builds on.
        totals = np.add.reduceat(merged, starts) if len(rows) else merged
        lengths = np.diff(np.append(starts, len(rows)))
        merged = merged / np.repeat(totals, lengths)
        if pair_features is not None and state_action_features is not None:
            raise RequestError(f"{source}: give pair_features or state_action_features, not both.")
        if state_action_features is not None:
            table = _real_numbers(state_action_features, "state_action_features", source)
            if table.ndim != 3 or table.shape[:2] != (num_states, num_actions):
                raise RequestError(
                    f"{source}: state_action_features has shape {table.shape}; make it "
                    f"(num_states, num_actions, features) = ({num_states}, {num_actions}, …)."
                )
            pair_features = table.reshape(num_states * num_actions, -1)[key[starts]]
        index = _index_type(num_states)
        mdp = cls(
            num_states,
            num_actions,
            state[rows].astype(index),
            action[rows].astype(index),
            next_state[rows].astype(index),
            merged,
            _features(state_features, num_states, "state_features", source),
            _features(pair_features, len(starts), "pair_features", source),
            features,
            tuple(feature_names) if feature_names is not None else (),
            float(discount),
            None if horizon is None else int(horizon),
            _initial(initial, num_states, source),
            terminal,
        )
        mdp = _with_names(mdp, source)
        if not 0 < mdp.discount <= 1:
            raise RequestError(f"{source}: discount is {mdp.discount:g}; make it more than 0 and at most 1.")
        if horizon is not None and (int(horizon) != horizon or horizon < 1):
            raise RequestError(f"{source}: horizon is {horizon}; make it a whole number of steps, at least 1.")
        return mdp

    @classmethod
    def from_dense(cls, transitions: Float[np.ndarray, "states actions states"], **settings: Any) -> "TabularMDP":
        """From P(next state | state, action) ``(states, actions, states)``; a row of zeros is an action not offered."""
        table = np.asarray(transitions, np.float64)
        if table.ndim != 3 or table.shape[0] != table.shape[2]:
            raise RequestError(f"A dense table has shape (states, actions, states), not {table.shape}.")
        state, action, next_state = np.nonzero(table)
        settings = {"num_states": table.shape[0], "num_actions": table.shape[1], **settings}
        return cls.from_transitions(state, action, next_state, table[state, action, next_state], **settings)

    @classmethod
    def from_scipy(cls, matrices: Sequence[Any], **settings: Any) -> "TabularMDP":
        """From one ``(states, states)`` matrix an action; an empty row is an action that is not offered."""
        parts = [matrix.tocoo() for matrix in matrices]
        action = np.concatenate([np.full(part.nnz, a) for a, part in enumerate(parts)])
        rows, columns, data = (np.concatenate([getattr(p, name) for p in parts]) for name in ("row", "col", "data"))
        settings = {"num_states": parts[0].shape[0], "num_actions": len(parts), **settings}
        return cls.from_transitions(rows, action, columns, data, **settings)

    @classmethod
    def from_gymnasium(cls, env_id: str, env_kwargs: dict[str, Any] | None = None, **settings: Any) -> "TabularMDP":
        """From the table ``P`` of ``FrozenLake-v1``, ``Taxi-v3``, ``CliffWalking-v1`` and their like.

        States that only an ending leads to become terminal, unless ``terminal`` says otherwise; where a state
        both ends an episode and is passed through (Taxi's drop-off), a terminal copy of it is appended.
        """
        from menura.environments.host import make_gymnasium

        try:
            env = make_gymnasium(env_id, env_kwargs)
        except RequestError:
            # Gymnasium drops old numbers; the dynamics of these two are the same.
            if env_id != "Taxi-v3":
                raise
            env = make_gymnasium("Taxi-v4", env_kwargs)
        table = getattr(env.unwrapped, "P", None)
        if table is None:
            raise RequestError(
                f"{env_id} has no table P of its dynamics; FrozenLake-v1, Taxi-v3 and CliffWalking-v1 do."
            )
        rows = [
            (s, a, int(s2), float(p), bool(done))
            for s, actions in table.items()
            for a, outcomes in actions.items()
            for p, s2, _, done in outcomes
        ]
        state, action, next_state, probability, done = (np.array(column) for column in zip(*rows, strict=True))
        num_states, num_actions = len(table), int(action.max()) + 1
        initial = getattr(env.unwrapped, "initial_state_distrib", None)
        env.close()
        endings = np.unique(next_state[done])
        reached = (
            np.ones(num_states, bool) if initial is None else _reached(np.asarray(initial) > 0, state, next_state, done)
        )
        passed = np.intersect1d(endings, next_state[~done & reached[state] & (state != next_state)])
        copies = {int(s): num_states + i for i, s in enumerate(passed)}
        ends_in = np.array([copies.get(int(s), int(s)) for s in next_state])
        next_state = np.where(done, ends_in, next_state)
        terminal = np.unique(next_state[done])
        total = num_states + len(copies)
        if initial is not None:
            initial = np.concatenate([initial, np.zeros(len(copies))])
        settings = {
            "num_states": total,
            "num_actions": num_actions,
            "initial": initial,
            "terminal": terminal,
            **settings,
        }
        return cls.from_transitions(state, action, next_state, probability, source=env_id, **settings)

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
        """
        state = np.concatenate([np.asarray(s)[:-1] for s in states])
        next_state = np.concatenate([np.asarray(s)[1:] for s in states])
        action = np.concatenate([np.asarray(a) for a in actions])
        if smoothing < 0 or not np.isfinite(smoothing):
            raise RequestError(f"smoothing is {smoothing:g}; make it 0 or more.")
        if not len(state) == len(action):
            raise RequestError("A trajectory has one state more than it has actions.")
        triples, count = np.unique(np.stack([state, action, next_state]), axis=1, return_counts=True)
        weight = count.astype(np.float64)
        if smoothing > 0:
            moves = np.unique(np.stack([state, next_state]), axis=1)
            everywhere = np.repeat(moves, num_actions, axis=1)
            extra = np.stack([everywhere[0], np.tile(np.arange(num_actions), moves.shape[1]), everywhere[1]])
            triples = np.concatenate([triples, extra], axis=1)
            weight = np.concatenate([weight, np.full(extra.shape[1], float(smoothing))])
        total = np.bincount(triples[0] * num_actions + triples[1], weight, num_states * num_actions)
        probability = weight / total[triples[0] * num_actions + triples[1]]
        settings = {"num_states": num_states, "num_actions": num_actions, **settings}
        return cls.from_transitions(triples[0], triples[1], triples[2], probability, **settings)

    def replace(self, **changes: Any) -> "TabularMDP":
        """The same problem with some settings or features changed, checked again."""
        settings = self._settings()
        settings.update(changes)
        return TabularMDP.from_transitions(**settings)

    def _settings(self) -> dict[str, Any]:
        names = ("state", "action", "next_state", "probability", "num_states", "num_actions", "state_features")
        more = ("pair_features", "transition_features", "feature_names", "discount", "horizon", "initial", "terminal")
        return {name: getattr(self, name) for name in (*names, *more)}

    def save(self, path: str | Path) -> None:
        """Write ``mdp.npz``."""
        arrays = {name: value for name, value in self._settings().items() if value is not None}
        arrays["feature_names"] = np.array(self.feature_names, dtype=np.str_)
        pair_features = arrays.pop("pair_features", None)
        if pair_features is not None:
            table = np.zeros((self.num_states * self.num_actions, pair_features.shape[1]))
            table[self.pair_key] = pair_features
            arrays["state_action_features"] = table.reshape(self.num_states, self.num_actions, -1)
        np.savez_compressed(path, **arrays)

    @classmethod
    def load(cls, path: str | Path) -> "TabularMDP":
        """Read ``mdp.npz``."""
        arrays = read_npz(path)
        needed = ("state", "action", "next_state", "probability")
        missing = [name for name in needed if name not in arrays]
        if missing:
            raise RequestError(f"{path} has no {', '.join(missing)}: mdp.npz lists one row a transition.")
        known = {*needed, "num_states", "num_actions", "state_features", "state_action_features", "transition_features"}
        known |= {"feature_names", "discount", "horizon", "initial", "terminal"}
        unknown = sorted(arrays.keys() - known)
        if unknown:
            raise RequestError(
                f"{path} holds {', '.join(unknown)}, which no problem has; it may hold {', '.join(sorted(known))}."
            )
        settings: dict[str, Any] = dict(arrays)
        for name, kind in (("num_states", int), ("num_actions", int), ("discount", float), ("horizon", int)):
            if name in settings:
                settings[name] = _scalar(settings[name], kind, name, str(path))
        if "feature_names" in settings:
            settings["feature_names"] = tuple(str(name) for name in np.atleast_1d(settings["feature_names"]))
        if "discount" not in settings and "horizon" not in settings:
            raise RequestError(f"{path} has neither a discount nor a horizon; add one.")
        return cls.from_transitions(**settings, source=str(path))

    def as_env(
        self, theta: Float[np.ndarray, " features"] | None = None, max_episode_steps: int | None = None
    ) -> "TabularEnv":
        """As a JAX environment whose reward is θ·features; 0 without a θ."""
        return make_tabular_env(self, theta, max_episode_steps)


class TabularEnv(AbstractNativeEnv):
    """A :class:`TabularMDP` to play: it observes the state, one-hot.

    An action that a state does not offer leaves the state as it is, at the lowest reward of the problem.
    """

    outcome_start: Int[Array, " pairs_of_all"]
    """First transition of ``state * num_actions + action``; its end is the next one's start."""
    next_state: Int[Array, " transitions"]
    cumulative: Float[Array, " transitions"]
    """Probability of the outcomes of the same action up to and including this one."""
    reward: Float[Array, " transitions"]
    refusal_reward: Float[Array, ""]
    initial_cumulative: Float[Array, " states"]
    is_terminal: Bool[Array, " states"]
    num_states: int = eqx.field(static=True)
    num_actions: int = eqx.field(static=True)
    limit: int | None = eqx.field(static=True)
    search_steps: int = eqx.field(static=True)

    @property
    def spec(self) -> Spec:
        """One number observed for each state."""
        return Spec(self.num_states, DiscreteActions(self.num_actions))

    @property
    def max_episode_steps(self) -> int | None:
        """The problem's horizon, or what was asked for."""
        return self.limit

    def reset(self, *, key: PRNGKeyArray) -> Int[Array, ""]:
        """A state drawn from the initial distribution."""
        draw = jax.random.uniform(key)
        state = jnp.searchsorted(self.initial_cumulative, draw, side="right")
        return jnp.minimum(state, self.num_states - 1).astype(jnp.int32)

    def observe(self, state: Int[Array, ""]) -> Float[Array, " obs"]:
        """The state, one-hot."""
        return jax.nn.one_hot(state, self.num_states, dtype=jnp.float32)

    def step(
        self, state: Int[Array, ""], action: Int[Array, ""], *, key: PRNGKeyArray
    ) -> tuple[Int[Array, ""], Float[Array, ""], Bool[Array, ""]]:
        """Draw the outcome of an action."""
        pair = state * self.num_actions + action
        first, end = self.outcome_start[pair], self.outcome_start[pair + 1]
        draw = jax.random.uniform(key)

        def halve(bounds, _):
            low, high = bounds
            middle = (low + high) // 2
            above = self.cumulative[middle] > draw
            return (jnp.where(above, low, middle + 1), jnp.where(above, middle, high)), None

        last = jnp.maximum(end - 1, first)
        (found, _), _ = jax.lax.scan(halve, (first, last), length=self.search_steps)
        found = jnp.minimum(found, last)
        offered = end > first
        new = jnp.where(offered, self.next_state[jnp.minimum(found, len(self.next_state) - 1)], state)
        reward = jnp.where(offered, self.reward[jnp.minimum(found, len(self.reward) - 1)], self.refusal_reward)
        return new.astype(jnp.int32), reward, self.is_terminal[new]


def make_tabular_env(mdp: TabularMDP, theta: Any = None, max_episode_steps: int | None = None) -> TabularEnv:
    """The JAX environment of a problem whose reward is θ·features."""
    if mdp.initial is None:
        raise RequestError("A problem that is played needs its initial distribution; give initial.")
    counts = np.bincount(
        mdp.state.astype(np.int64) * mdp.num_actions + mdp.action, minlength=mdp.num_states * mdp.num_actions
    )
    total = np.cumsum(mdp.probability)
    before = np.repeat(
        total[mdp.pair_start] - mdp.probability[mdp.pair_start], np.diff(np.append(mdp.pair_start, len(total)))
    )
    reward = transition_reward(mdp, np.zeros(mdp.num_features) if theta is None else np.asarray(theta, np.float64))
    is_terminal = np.zeros(mdp.num_states, bool)
    if mdp.terminal is not None:
        is_terminal[mdp.terminal] = True
    return TabularEnv(
        jnp.asarray(np.concatenate([[0], np.cumsum(counts)]), jnp.int32),
        jnp.asarray(mdp.next_state, jnp.int32),
        jnp.asarray(total - before, jnp.float32),
        jnp.asarray(reward, jnp.float32),
        jnp.asarray(reward.min(), jnp.float32),
        jnp.asarray(np.cumsum(mdp.initial), jnp.float32),
        jnp.asarray(is_terminal),
        mdp.num_states,
        mdp.num_actions,
        mdp.horizon if max_episode_steps is None else max_episode_steps,
        int(np.ceil(np.log2(max(counts.max(), 2)))) + 1,
    )


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


def read_npz(path: str | Path) -> dict[str, np.ndarray]:
    """Every array of an npz file; refuses what is not one, and pickled objects."""
    try:
        Path(path).stat()  # is_zipfile only says no where there is no file
        if not zipfile.is_zipfile(path):
            raise RequestError(f"{path} is not an npz file of named arrays, such as np.savez writes.")
        with np.load(path, allow_pickle=False) as file:
            return {name: _plain(file[name], name, path) for name in file.files}
    except FileNotFoundError as error:
        raise RequestError(f"There is no file {path}.") from error
    except RequestError:
        raise
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise RequestError(f"{path} cannot be read as an npz of plain arrays: {_one_line(error)}.") from error


def _plain(array: Any, name: str, path: str | Path) -> np.ndarray:
    if not isinstance(array, np.ndarray):  # a member that is not an array comes as its bytes
        raise RequestError(f"{path} holds {name}, which is not an array.")
    return array


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")


def _reached(reached: np.ndarray, state: np.ndarray, next_state: np.ndarray, done: np.ndarray) -> np.ndarray:
    """The states that can be reached from these without an ending."""
    while True:
        more = reached.copy()
        more[next_state[reached[state] & ~done]] = True
        if np.array_equal(more, reached):
            return reached
        reached = more


def _index_type(size: int) -> type:
    return np.int32 if size < 2**31 - 1 else np.int64


def _largest(values: np.ndarray) -> int:
    return int(values.max()) if len(values) else -1


def _whole_numbers(values: Any, name: str, source: str) -> np.ndarray:
    array = np.asarray(values)
    if array.ndim != 1:
        raise RequestError(f"{source}: {name} has shape {array.shape}; make it one-dimensional.")
    if array.dtype.kind in "i" or not len(array):
        return array if array.dtype.kind in "i" else array.astype(np.int64)
    if array.dtype.kind not in "uf" or not np.all((array == np.floor(array)) & (abs(array) < LARGEST_NUMBER)):
        raise RequestError(f"{source}: {name} must hold whole numbers.")
    return array.astype(np.int64)


def _real_numbers(values: Any, name: str, source: str) -> np.ndarray:
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise RequestError(f"{source}: {name} must hold real numbers.")
    return array.astype(np.float64, copy=False)


def _scalar(value: np.ndarray, kind: type, name: str, source: str) -> Any:
    if value.size != 1 or value.dtype.kind not in "iuf":
        raise RequestError(f"{source}: {name} must be one number.")
    number = value.reshape(()).item()
    if not np.isfinite(number):
        raise RequestError(f"{source}: {name} is {number}; make it a finite number.")
    if kind is int and number != int(number):
        raise RequestError(f"{source}: {name} is {number}; make it a whole number.")
    return kind(number)


def _count(given: int | None, name: str, needed: int, source: str) -> int:
    if given is None:
        return needed
    if given != int(given) or given < 1:
        raise RequestError(f"{source}: {name} is {given}; make it a whole number, at least 1.")
    return int(given)


def _check_range(values: np.ndarray, size: int, name: str, limit: str, source: str) -> None:
    bad = np.flatnonzero((values < 0) | (values >= size))
    if len(bad):
        raise RequestError(
            f"{source}: row {bad[0]} has {name} {values[bad[0]]}; {limit} is {size}, so make it 0 to {size - 1}."
        )


def _terminal(terminal: Any, num_states: int, source: str) -> np.ndarray | None:
    if terminal is None:
        return None
    array = np.unique(_whole_numbers(np.atleast_1d(np.asarray(terminal)), "terminal", source))
    if len(array) and (array[0] < 0 or array[-1] >= num_states):
        raise RequestError(f"{source}: terminal names a state outside 0 to {num_states - 1}.")
    return array


def _features(values: Any, rows: int, name: str, source: str) -> np.ndarray | None:
    if values is None:
        return None
    array = _real_numbers(values, name, source)
    if array.ndim != 2 or array.shape[0] != rows:
        raise RequestError(f"{source}: {name} has shape {array.shape}; make it ({rows}, features).")
    if not np.isfinite(array).all():
        row = int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])
        raise RequestError(f"{source}: row {row} of {name} is not finite.")
    return array


def _by_transition(values: Any, rows: int, source: str) -> np.ndarray | None:
    return _features(values, rows, "transition_features", source)


def _initial(values: Any, num_states: int, source: str) -> np.ndarray | None:
    if values is None:
        return None
    array = _real_numbers(values, "initial", source)
    if array.shape != (num_states,):
        raise RequestError(f"{source}: initial has shape {array.shape}; make it ({num_states},).")
    if not (np.isfinite(array) & (array >= 0)).all():
        state = int(np.flatnonzero(~(np.isfinite(array) & (array >= 0)))[0])
        raise RequestError(f"{source}: initial gives state {state} probability {array[state]:g}; make it 0 to 1.")
    if abs(array.sum() - 1) > PROBABILITY_TOLERANCE:
        raise RequestError(f"{source}: initial sums to {array.sum():g}; make it sum to 1.")
    return array / array.sum()


def _rises(key: np.ndarray, next_state: np.ndarray) -> bool:
    return bool(np.all((key[1:] > key[:-1]) | ((key[1:] == key[:-1]) & (next_state[1:] >= next_state[:-1]))))


def _first_of_runs(*keys: np.ndarray) -> np.ndarray:
    if not len(keys[0]):
        return np.zeros(0, np.int64)
    changed = np.zeros(len(keys[0]) - 1, bool)
    for key in keys:
        changed |= key[1:] != key[:-1]
    return np.flatnonzero(np.concatenate([[True], changed]))


def _check_sums(state, action, probability, num_actions, terminal, source) -> None:
    key = state.astype(np.int64) * num_actions + action
    if terminal is not None and len(terminal):
        listed = ~np.isin(state, terminal)
        key, probability, state, action = key[listed], probability[listed], state[listed], action[listed]
    if not len(key):
        return
    if key[-1] < 50_000_000:
        sums = np.bincount(key, probability)
        seen = np.zeros(len(sums), bool)
        seen[key] = True
    else:
        pairs, inverse = np.unique(key, return_inverse=True)
        sums, seen = np.bincount(inverse, probability), np.ones(len(pairs), bool)
        key = inverse
    wrong = np.flatnonzero(seen & ~(np.abs(sums - 1) <= PROBABILITY_TOLERANCE))
    if len(wrong):
        row = int(np.flatnonzero(key == wrong[0])[0])
        raise RequestError(
            f"{source}: the probabilities of state {state[row]}, action {action[row]} (row {row}) sum to "
            f"{sums[wrong[0]]:g}; make them sum to 1."
        )


def _with_names(mdp: TabularMDP, source: str) -> TabularMDP:
    """The problem with a name for every weight; states become features where none are given."""
    from dataclasses import replace

    if not mdp._blocks:
        if mdp.num_states > 5000:
            raise RequestError(f"{source}: there are no features; add state_features, for example.")
        names = mdp.feature_names or tuple(f"state {s}" for s in range(mdp.num_states))
        mdp = replace(mdp, state_features=np.eye(mdp.num_states), feature_names=names)
    widths = [block.shape[1] for block in mdp._blocks]
    names = mdp.feature_names or tuple(f"f{i}" for i in range(sum(widths)))
    shared = len(set(widths)) == 1 and len(names) == widths[0]
    if len(names) != sum(widths) and not shared:
        raise RequestError(
            f"{source}: there are {len(names)} feature_names for {sum(widths)} columns of "
            f"features; give each column one."
        )
    if len(set(names)) < len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise RequestError(f"{source}: two features are called {twice!r}; rename one.")
    return replace(mdp, feature_names=names)
