"""How a drive ended: what the rewards and observations of whole episodes tell of it."""

import numpy as np
from jaxtyping import Bool, Float

from menura.core import Transition
from menura.environments.driving.scene import NUM_FEATURES, NUM_SEEN, SPEED_RANGE, Road

CRASH_REWARD = 0.5
"""A step that ends an episode is paid less than this where it was a crash, and more where it was not.

merge-v0 pays a crash at most (−1 + 0.2 + 0.1 + 1.5) / 1.8 = 0.44, and any other step at least
(−0.5 − 0.05 + 1.5) / 1.8 = 0.53; highway-v0 at most 0.33 and at least 0.67 while on the road, roundabout-v0 at most
0.17 and at least 0.79. Both simulators also say it outright, and tests hold the two equal.
"""


def crashed(reward: Float[np.ndarray, "*steps"], terminated: Bool[np.ndarray, "*steps"]) -> Bool[np.ndarray, "*steps"]:
    """Which steps ended in a crash, of merge-v0, highway-v0 and roundabout-v0 with the rewards that they come with."""
    return np.asarray(terminated) & (np.asarray(reward) < CRASH_REWARD)


def speeds(obs: Float[np.ndarray, "steps obs"]) -> Float[np.ndarray, " steps"]:
    """The own vehicle's speed in m/s, of observations of a straight road."""
    own = np.asarray(obs).reshape(-1, NUM_SEEN, NUM_FEATURES)[:, 0]
    return SPEED_RANGE * np.hypot(own[:, 3], own[:, 4])


def crash_interval(crashes: int, episodes: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of a crash rate (Wilson 1927): it stays within [0, 1], and has a width where none crashed."""
    # scipy.stats has it too, and takes a second to import.
    from scipy.special import ndtri

    z = float(ndtri(0.5 + confidence / 2))
    rate, weight = crashes / episodes, z**2 / episodes
    middle = (rate + weight / 2) / (1 + weight)
    half = z / (1 + weight) * np.sqrt(rate * (1 - rate) / episodes + weight / (4 * episodes))
    return max(0.0, middle - half), min(1.0, middle + half)


def outcome(steps: Transition, episodes: int, *, road: Road | None) -> dict[str, float]:
    """How often whole episodes ended in a crash, with Wilson's interval, and how fast was driven: from all of their
    steps. The speed is not told where there is no straight road."""
    crashes = int(np.sum(crashed(np.asarray(steps.reward), np.asarray(steps.terminated))))
    low, high = crash_interval(crashes, episodes)
    told = {"crash_rate": crashes / episodes, "crash_rate_low": low, "crash_rate_high": high}
    return told if road is None else told | {"mean_speed": float(np.mean(speeds(np.asarray(steps.next_obs))))}


def merge_reward(
    speed: Float[np.ndarray, "*steps"],
    lane: Float[np.ndarray, "*steps"],
    crash: Bool[np.ndarray, "*steps"],
    changes_lane: Bool[np.ndarray, "*steps"],
    slowness: Float[np.ndarray, "*steps"],
) -> Float[np.ndarray, "*steps"]:
    """What merge-v0 pays for a step: (1.5 − crash + 0.2 (v − 20) / 10 + 0.1 lane − 0.05 change − 0.5 slowness) / 1.8.

    highway-env's ``MergeEnv``; ``lane`` is 0 or 1, and ``slowness`` the share of its wish that whoever joins from the
    ramp's last part goes too slowly.
    """
    speed_part = 0.2 * (np.asarray(speed) - 20.0) / 10.0
    parts = 1.5 - np.asarray(crash) + speed_part + 0.1 * np.asarray(lane) - 0.05 * np.asarray(changes_lane)
    return (parts - 0.5 * np.asarray(slowness)) / 1.8
