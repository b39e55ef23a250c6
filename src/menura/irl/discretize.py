"""Continuous environments as tables: cells of a grid, and how the dynamics carry them into one another."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from menura.core import DiscreteActions, RequestError
from menura.environments.base import AbstractNativeEnv
from menura.environments.tabular import TabularMDP
from menura.irl.paths import Paths

RARE = 1e-9
"""Weight, in samples, of a transition that only the demonstrations show."""


@dataclass(frozen=True, eq=False)
class Grid:
    """A box cut into equal cells along every axis; the state after the last cell is the ending."""

    low: Float[np.ndarray, " axes"]
    high: Float[np.ndarray, " axes"]
    bins: tuple[int, ...]

    def __post_init__(self):
        if len(self.bins) != len(self.low) or min(self.bins) < 1:
            raise RequestError(
                f"Give --bins a whole number, at least 1, for each of the {len(self.low)} observed numbers."
            )

    @property
    def num_cells(self) -> int:
        """Cells in all."""
        return int(np.prod(self.bins))

    def coordinates(self, obs: Float[np.ndarray, "*n axes"]) -> Int[np.ndarray, "*n axes"]:
        """The cell along every axis; what lies outside belongs to the outermost."""
        scaled = (np.asarray(obs, np.float64) - self.low) / (self.high - self.low) * np.array(self.bins)
        return np.clip(np.floor(scaled).astype(np.int64), 0, np.array(self.bins) - 1)

    def state_of(self, obs: Float[np.ndarray, "*n axes"]) -> Int[np.ndarray, "*n"]:
        """The number of the cell, the last axis running fastest."""
        return np.asarray(np.ravel_multi_index(tuple(np.moveaxis(self.coordinates(obs), -1, 0)), self.bins), np.int64)

    def samples(self, each: int) -> Float[np.ndarray, "samples axes"]:
        """Points spread evenly over every cell, ``each`` along every axis."""
        axes = [
            low + (np.arange(n * each) + 0.5) / (n * each) * (high - low)
            for low, high, n in zip(self.low, self.high, self.bins, strict=True)
        ]
        return np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], axis=-1)

    def blocks(self, coarse: tuple[int, ...]) -> Float[np.ndarray, "states features"]:
        """One feature for each block of neighboring cells; the ending has none."""
        cells = np.stack(np.unravel_index(np.arange(self.num_cells), self.bins), axis=-1)
        block = np.ravel_multi_index(tuple((cells * np.array(coarse) // np.array(self.bins)).T), coarse)
        table = np.zeros((self.num_cells + 1, int(np.prod(coarse))))
        table[np.arange(self.num_cells), block] = 1.0
        return table


def grid_paths(grid: Grid, episodes: Any) -> Paths:
    """Episodes as paths of cells. One that terminated ends in the ending."""
    states, actions = [], []
    for episode in episodes:
        if episode.actions is None or not len(episode.actions):
            raise RequestError("A table needs demonstrations with actions; these have observations only.")
        cells = grid.state_of(episode.obs)
        steps = len(episode.actions)
        if episode.terminated:
            states.append(np.append(cells[:steps], grid.num_cells))
        elif len(cells) > steps:
            states.append(cells)
        else:
            states.append(cells[:steps])
            steps -= 1
        actions.append(np.asarray(episode.actions).reshape(len(episode.actions))[:steps])
    return Paths.from_lists(states, actions)


def grid_mdp(
    env: AbstractNativeEnv,
    grid: Grid,
    paths: Paths,
    *,
    coarse: tuple[int, ...] | None = None,
    samples: int = 16,
    discount: float = 0.99,
) -> TabularMDP:
    """The dynamics of a JAX environment between cells, from ``samples`` points along every axis of every cell.

    A transition that the demonstrations show and no sample does gets the weight :data:`RARE`. The reward is
    constant on the blocks of a coarser grid (``coarse``; by default a quarter as many along every axis).
    """
    spec = env.spec
    if not isinstance(spec.actions, DiscreteActions):
        raise RequestError("A table has finitely many actions, and this environment takes real vectors.")
    num_actions = spec.actions.num_actions
    points = grid.samples(samples)
    example = env.reset(key=jax.random.key(0))
    leaves, structure = jax.tree.flatten(example)
    if len(leaves) != points.shape[1]:
        raise RequestError("The environment's state is not what it observes, so a grid cannot stand for it.")

    def step(point, action):
        state = jax.tree.unflatten(structure, list(point))
        after, _, terminated = env.step(state, action, key=jax.random.key(0))
        return env.observe(state), env.observe(after), terminated

    over_points = jax.jit(jax.vmap(step, (0, None)))
    total = grid.num_cells + 1
    triples = []
    for action in range(num_actions):
        outcomes = over_points(jnp.asarray(points, jnp.float32), jnp.asarray(action))
        same, after, terminated = (np.asarray(array) for array in outcomes)
        if not np.allclose(same, points, atol=1e-4):
            raise RequestError("The environment's state is not what it observes, so a grid cannot stand for it.")
        reached = np.where(terminated, grid.num_cells, grid.state_of(after))
        triples.append((grid.state_of(points) * num_actions + action) * total + reached)
    key, count = np.unique(np.concatenate(triples), return_counts=True)
    last = ~paths.is_last
    following = np.append(paths.states[1:], 0)
    if paths.final_states is not None:
        following[paths.is_last] = paths.final_states
        last = np.ones(len(following), bool)
    seen = np.unique((paths.states[last] * num_actions + paths.actions[last]) * total + following[last])
    extra = seen[~np.isin(seen, key)]
    key = np.concatenate([key, extra])
    weight = np.concatenate([count.astype(float), np.full(len(extra), RARE)])
    pair, next_state = np.divmod(key, total)
    sums = np.bincount(pair, weight)
    features = grid.blocks(coarse or tuple(max(1, n // 4) for n in grid.bins))
    used = np.flatnonzero(features.any(axis=0))
    return TabularMDP.from_transitions(
        pair // num_actions,
        pair % num_actions,
        next_state,
        weight / sums[pair],
        num_states=total,
        num_actions=num_actions,
        state_features=features[:, used],
        feature_names=[f"block {i}" for i in used],
        discount=discount,
        terminal=[grid.num_cells],
    )


def grid_of(env_id: str, bins: tuple[int, ...]) -> Grid:
    """The grid over what an environment may observe, by Gymnasium's bounds."""
    from menura.environments.host import make_gymnasium

    env = make_gymnasium(env_id)
    space = env.observation_space
    low, high = np.asarray(getattr(space, "low", [np.inf]), float), np.asarray(getattr(space, "high", [np.inf]), float)
    env.close()
    if low.ndim != 1 or not np.isfinite(low).all() or not np.isfinite(high).all() or high.max() > 1e6:
        raise RequestError(f"{env_id} does not bound what it observes, so it cannot be cut into bins.")
    return Grid(low, high, bins)
