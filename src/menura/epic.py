"""The EPIC distance between rewards (Gleave et al. 2021, arXiv 2006.13900): 0 where no dynamics can tell them apart.

Rewards are functions of (s, a, s'). Two that differ by potential shaping, γ·Φ(s') − Φ(s), and by a positive factor
have the same best policies under every dynamics (Ng, Harada & Russell 1999). The distance takes both away, and compares
what is left on a *coverage distribution* of transitions; no policy is trained.

Numbers are of float64, on the host: where rewards are alike, what is left of a float32 is noise.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float, Shaped

from menura.core import RequestError

Obs: TypeAlias = Float[np.ndarray, "batch obs"]
Actions: TypeAlias = Shaped[np.ndarray, "batch ..."]
BatchReward: TypeAlias = Callable[[Obs, Actions, Obs], np.ndarray]
"""Rewards of a batch of (s, a, s'), one a row."""

FLAT = 1e-5
"""Canonical rewards that spread by less than this, beside the size of the rewards, are called constant."""
MOST_AT_ONCE = 1 << 16
"""Rows that a reward is asked for at once."""


class Coverage(NamedTuple):
    """A sample of what rewards are compared on."""

    obs: Obs
    """s of transitions drawn from the coverage distribution D."""
    action: Actions
    next_obs: Obs
    pair_obs: Obs
    """States drawn from D_S, D's own states, independently of everything else."""
    pair_action: Actions
    """Actions drawn from D_A, as many."""


def canonically_shaped(
    reward: Float[np.ndarray, " batch"],
    mean_after: Float[np.ndarray, " batch"],
    mean_before: Float[np.ndarray, " batch"],
    mean_anywhere: float = 0.0,
    *,
    gamma: float,
) -> Float[np.ndarray, " batch"]:
    """C(R)(s, a, s') = R(s, a, s') + E[γ R(s', A, S') − R(s, A, S') − γ R(S, A, S')] (definition 4.1).

    ``mean_after`` is E[R(s', A, S')], ``mean_before`` E[R(s, A, S')] and ``mean_anywhere`` E[R(S, A, S')], which is the
    same for all and makes no difference to the distance. It is the representative of all that differ by shaping.
    """
    return reward + gamma * mean_after - mean_before - gamma * mean_anywhere


def pearson_distance(x: Float[np.ndarray, " batch"], y: Float[np.ndarray, " batch"]) -> float:
    """√((1 − ρ) / 2) with ρ the correlation: 0 for x = a·y + b with a > 0, 1 for a < 0; nan where one is constant.

    Taken as half the length between the two, centered and scaled to length 1, which loses no digits near 0.
    """
    unit_x, unit_y = _unit(np.asarray(x, np.float64)), _unit(np.asarray(y, np.float64))
    return float(min(1.0, 0.5 * np.linalg.norm(unit_x - unit_y)))


def canonical_rewards(reward_of: BatchReward, coverage: Coverage, *, gamma: float) -> Float[np.ndarray, " batch"]:
    """Canonically shaped rewards of the coverage's transitions, with its pairs for the means (appendix A.1).

    With the same pairs for both rewards of a comparison, shaping goes away exactly, whatever the sample.
    """
    obs, action, next_obs, pair_obs, pair_action = coverage
    direct = _in_parts(reward_of, obs, action, next_obs)
    after, before = (_means(reward_of, states, pair_action, pair_obs) for states in (next_obs, obs))
    return canonically_shaped(direct, after, before, gamma=gamma)


def epic_distance(reward_a: BatchReward, reward_b: BatchReward, coverage: Coverage, *, gamma: float) -> float:
    """The Pearson distance of the canonically shaped rewards (definition 4.6): in [0, 1].

    Refuses rewards that are constant once shaped, of which no correlation can be taken.
    """
    return pearson_distance(*both_canonical(reward_a, reward_b, coverage, gamma=gamma))


def both_canonical(
    reward_a: BatchReward, reward_b: BatchReward, coverage: Coverage, *, gamma: float
) -> tuple[Float[np.ndarray, " batch"], Float[np.ndarray, " batch"]]:
    """The canonically shaped rewards of two; refuses one that is constant."""
    found = []
    for name, reward_of in (("first", reward_a), ("second", reward_b)):
        canonical = canonical_rewards(reward_of, coverage, gamma=gamma)
        size = np.abs(_in_parts(reward_of, coverage.obs, coverage.action, coverage.next_obs)).max()
        if np.std(canonical) <= FLAT * size:
            raise RequestError(
                f"The {name} reward is constant on these states and actions, up to shaping, so it is not at any "
                "distance from others: compare rewards that tell steps apart."
            )
        found.append(canonical)
    return found[0], found[1]


def resampled_distances(
    canonical_a: Float[np.ndarray, " batch"],
    canonical_b: Float[np.ndarray, " batch"],
    *,
    num_resamples: int = 500,
    seed: int = 0,
) -> Float[np.ndarray, " resamples"]:
    """Distances on transitions drawn again with replacement: how much the sample decides (the bootstrap)."""
    rng = np.random.default_rng(seed)
    draws = rng.integers(0, len(canonical_a), (num_resamples, len(canonical_a)))
    return np.array([pearson_distance(canonical_a[rows], canonical_b[rows]) for rows in draws])


def _unit(x: Float[np.ndarray, " batch"]) -> Float[np.ndarray, " batch"]:
    centered = x - np.mean(x)
    length = np.linalg.norm(centered)
    return centered / length if length > 0 else np.full_like(centered, np.nan)


def _in_parts(reward_of: BatchReward, obs: np.ndarray, action: np.ndarray, next_obs: np.ndarray) -> np.ndarray:
    """Rewards of any number of rows."""
    parts = [
        np.asarray(reward_of(obs[i : i + MOST_AT_ONCE], action[i : i + MOST_AT_ONCE], next_obs[i : i + MOST_AT_ONCE]))
        for i in range(0, len(obs), MOST_AT_ONCE)
    ]
    return np.concatenate(parts).astype(np.float64)


def _means(reward_of: BatchReward, states: np.ndarray, actions: np.ndarray, successors: np.ndarray) -> np.ndarray:
    """Mean reward of each state over all the pairs of an action and a successor."""
    num_pairs = len(actions)
    step = max(1, MOST_AT_ONCE // num_pairs)
    means = []
    for i in range(0, len(states), step):
        some = states[i : i + step]
        repeated = np.repeat(some, num_pairs, axis=0)
        values = reward_of(
            repeated,
            np.tile(actions, (len(some), *[1] * (actions.ndim - 1))),
            np.tile(successors, (len(some), 1)),
        )
        means.append(np.asarray(values, np.float64).reshape(len(some), num_pairs).mean(axis=1))
    return np.concatenate(means)
