"""What an observation of highway-env's straight roads says, in metres and metres a second.

An observation is a table of the own vehicle and the nearest others, flattened: presence, x, y, vx, vy of each
(highway-env's ``Kinematics``). The first row is absolute, the others are relative to it; x is scaled by 200 m, y by the
width of all lanes, speeds by 80 m/s, and everything is clipped to [-1, 1]. What is more than 10 m behind is not seen.
"""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from menura.core import AnyArray

NUM_SEEN, NUM_FEATURES = 5, 5
"""Vehicles in an observation, the own one among them, and numbers of each."""
LANE_WIDTH, VEHICLE_LENGTH, VEHICLE_WIDTH = 4.0, 5.0, 2.0
X_RANGE, SPEED_RANGE = 200.0, 80.0
LEFT, IDLE, RIGHT, FASTER, SLOWER = range(5)
"""The actions: a lane to the left, nothing, a lane to the right, the next higher of the speeds, the next lower."""
TARGET_SPEEDS = (20.0, 25.0, 30.0)


@dataclass(frozen=True)
class Road:
    """A straight road. The middle lines of its lanes lie 4 m apart from left to right, the first at y = 0."""

    num_lanes: int
    ramp: bool = False
    """Whether traffic joins the last lane from a ramp to the right of it."""

    @property
    def y_range(self) -> float:
        """Metres that are 1 in an observation."""
        return LANE_WIDTH * self.num_lanes


_ROADS = {
    "merge-v0": Road(2, ramp=True),
    "Merge-v0": Road(2, ramp=True),
    # The same road, whose vehicles also look across the seams of its sections.
    "merge-v1": Road(2, ramp=True),
    "Merge-v1": Road(2, ramp=True),
    "highway-v0": Road(4),
    "Highway-v0": Road(4),
    "highway-fast-v0": Road(3),
    "HighwayFast-v0": Road(3),
}
ROUNDABOUTS = ("roundabout-v0", "Roundabout-v0", "roundabout-v1", "Roundabout-v1")
DRIVING_IDS = (*_ROADS, *ROUNDABOUTS)
"""Environments of highway-env that both backends have: the ids of highway-env, and EnvPool's other spelling. Those of
version 1 are in EnvPool from 1.2.7 on."""


def is_driving(env_id: str | None) -> bool:
    """Whether this is one of highway-env's environments that are known here."""
    return env_id is not None and env_id.rsplit(":", 1)[-1] in DRIVING_IDS


def road_of(env_id: str | None, env_kwargs: dict[str, Any] | None = None) -> Road | None:
    """The straight road of an environment; ``None`` where it has none, or is no driving at all."""
    road = _ROADS.get((env_id or "").rsplit(":", 1)[-1])
    if road is None or road.ramp:
        return road
    settings = env_kwargs or {}
    return Road(int((settings.get("config", {}) | settings).get("lanes_count", road.num_lanes)))


class Scene(eqx.Module):
    """The own vehicle, and the others that it sees: 4 rows, of which those that are not ``present`` mean nothing."""

    x: Float[AnyArray, "*batch"]
    """Along the road; it stays at 200 m from there on, because observations are clipped."""
    y: Float[AnyArray, "*batch"]
    speed: Float[AnyArray, "*batch"]
    """Along the road."""
    lateral_speed: Float[AnyArray, "*batch"]
    """To the right."""
    present: Bool[AnyArray, "*batch others"]
    ahead: Float[AnyArray, "*batch others"]
    """Metres from the own vehicle's middle to the other's; negative behind."""
    others_y: Float[AnyArray, "*batch others"]
    others_speed: Float[AnyArray, "*batch others"]
    others_lateral_speed: Float[AnyArray, "*batch others"]


def scene_of(obs: Float[AnyArray, "*batch obs"], road: Road) -> Scene:
    """What observations say; of NumPy's arrays on the host, of JAX's on a device."""
    table = obs.reshape(*obs.shape[:-1], NUM_SEEN, NUM_FEATURES)
    own, others = table[..., 0, :], table[..., 1:, :]
    return Scene(
        x=own[..., 1] * X_RANGE,
        y=own[..., 2] * road.y_range,
        speed=own[..., 3] * SPEED_RANGE,
        lateral_speed=own[..., 4] * SPEED_RANGE,
        present=others[..., 0] > 0.5,
        ahead=others[..., 1] * X_RANGE,
        others_y=(others[..., 2] + own[..., 2, None]) * road.y_range,
        others_speed=(others[..., 3] + own[..., 3, None]) * SPEED_RANGE,
        others_lateral_speed=(others[..., 4] + own[..., 4, None]) * SPEED_RANGE,
    )


def obs_of(scene: Scene, road: Road) -> Float[np.ndarray, "*batch obs"]:
    """The observations that say this, unclipped: :func:`scene_of`'s inverse, on the host."""
    x, y, vx, vy = (np.asarray(v) for v in (scene.x, scene.y, scene.speed, scene.lateral_speed))
    own = np.stack([np.ones_like(x), x / X_RANGE, y / road.y_range, vx / SPEED_RANGE, vy / SPEED_RANGE], axis=-1)
    columns = (
        np.ones_like(scene.ahead),
        np.asarray(scene.ahead) / X_RANGE,
        (scene.others_y - y[..., None]) / road.y_range,
        (scene.others_speed - vx[..., None]) / SPEED_RANGE,
        (scene.others_lateral_speed - vy[..., None]) / SPEED_RANGE,
    )
    others = np.stack(columns, axis=-1) * np.asarray(scene.present)[..., None]
    table = np.concatenate([own[..., None, :], others], axis=-2)
    return table.reshape(*table.shape[:-2], NUM_SEEN * NUM_FEATURES).astype(np.float32)


def occupies(scene: Scene, lane: Array | int, *, margin: float = 2.6, horizon: float = 1.0) -> Bool[Array, " others"]:
    """Which others are within ``margin`` metres of a lane's middle line, now or on their way of the next ``horizon``
    seconds, as they move now."""
    middle = LANE_WIDTH * jnp.asarray(lane, jnp.float32)
    now = jnp.asarray(scene.others_y)
    soon = now + horizon * scene.others_lateral_speed
    return scene.present & (jnp.minimum(now, soon) < middle + margin) & (jnp.maximum(now, soon) > middle - margin)
