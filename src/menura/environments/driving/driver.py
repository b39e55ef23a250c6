"""A scripted driver: the Intelligent Driver Model and MOBIL, acting through an environment's five actions."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from menura.core import AbstractPolicy, RequestError
from menura.environments.driving.car_following import idm_acceleration, lane_change_incentive, lane_change_is_safe
from menura.environments.driving.scene import (
    FASTER,
    IDLE,
    LANE_WIDTH,
    LEFT,
    RIGHT,
    SLOWER,
    TARGET_SPEEDS,
    VEHICLE_LENGTH,
    Road,
    Scene,
    occupies,
    road_of,
    scene_of,
)
from menura.networks import Categorical

_UNLIKELY = -30.0
"""Logit of every action that it does not take."""
_FREE = 1e6
"""Metres of a free road."""
_STANDING = 3.0
"""m/s below which something on the ramp is the end of the ramp, and joins no lane."""
_BRAKE = 1.0
"""Deceleration, in m/s², from which on it brakes at once: a whole step of speed lost is less than a crash."""


class ScriptedDriver(AbstractPolicy):
    """Keeps its distance by the Intelligent Driver Model and changes lanes by MOBIL, from what it observes alone.

    Once a second it takes one of the environment's actions. The acceleration of the model, over that second, says
    which of the speeds 20, 25 and 30 m/s to go for; a lane is changed where MOBIL wants it and nobody must brake hard.
    Vehicles on a ramp count as being in the lane that they will join, and followers only where they are seen, within
    10 m. See docs/merge.md.
    """

    num_lanes: int = eqx.field(static=True, default=2)
    ramp: bool = eqx.field(static=True, default=True)
    """Whether traffic joins the last lane from a ramp."""
    desired_speed: float = eqx.field(static=True, default=30.0)
    """v₀, m/s."""
    headway: float = eqx.field(static=True, default=1.0)
    """T, seconds to the vehicle ahead."""
    standstill: float = eqx.field(static=True, default=3.0)
    """s₀, metres."""
    acceleration: float = eqx.field(static=True, default=3.0)
    """a, m/s²."""
    braking: float = eqx.field(static=True, default=4.0)
    """b, m/s²."""
    politeness: float = eqx.field(static=True, default=0.3)
    """p of MOBIL."""
    threshold: float = eqx.field(static=True, default=0.4)
    """Δa_th of MOBIL, m/s²."""
    safe_braking: float = eqx.field(static=True, default=4.0)
    """b_safe of MOBIL, m/s²."""
    ramp_sight: float = eqx.field(static=True, default=60.0)
    """Metres ahead within which a vehicle on the ramp counts."""

    def distribution(self, obs: Float[Array, " obs"]) -> Categorical:
        """All but certain of one action."""
        chosen = self.choose(scene_of(obs, Road(self.num_lanes, self.ramp)))
        return Categorical(jnp.where(jnp.arange(5) == chosen, 0.0, _UNLIKELY))

    def predict(self, observation: np.ndarray, *, deterministic: bool = True) -> tuple[np.ndarray, None]:
        """Actions for a batch of observations, as Stable-Baselines3's algorithms give them."""
        flat = np.asarray(observation, np.float32).reshape(len(observation), -1)
        return np.asarray(_actions(self, flat)), None

    def choose(self, scene: Scene) -> Int[Array, ""]:
        """The action in a scene."""
        lanes = jnp.arange(self.num_lanes)
        own, follower_alone, follower_behind = jax.vmap(lambda lane: self._accelerations(scene, lane))(lanes)
        lane, bound_for = self._nearest_lane(scene.y), self._nearest_lane(scene.y + scene.lateral_speed)
        action = self._speed_action(scene.speed, jnp.minimum(own[lane], own[bound_for]))
        settled = (lane == bound_for) & (jnp.abs(scene.lateral_speed) < 0.5)
        settled &= jnp.abs(scene.y - LANE_WIDTH * lane) < 0.6
        best = jnp.asarray(self.threshold, jnp.float32)
        for side, change in ((1, RIGHT), (-1, LEFT)):
            other = jnp.clip(lane + side, 0, self.num_lanes - 1)
            gain = lane_change_incentive(
                own[lane],
                own[other],
                follower_alone[other] + follower_behind[lane],
                follower_behind[other] + follower_alone[lane],
                politeness=self.politeness,
            )
            # Departs from Kesting et al. 2007: who is in the lane beyond counts too, because both may change into the
            # same lane within one second.
            beyond = jnp.clip(other + side, 0, self.num_lanes - 1)
            safe = lane_change_is_safe(
                jnp.minimum(follower_behind[other], follower_behind[beyond]),
                jnp.minimum(own[other], own[beyond]),
                safe_braking=self.safe_braking,
            )
            take = settled & (other != lane) & safe & (gain > best)
            action, best = jnp.where(take, change, action), jnp.where(take, gain, best)
        return action

    def _accelerations(self, scene: Scene, lane: Int[Array, ""]) -> tuple[Array, Array, Array]:
        """Of the model, in this lane: the own vehicle's, and its follower's without it and behind it; those of a
        follower that is not seen are 0."""
        here = occupies(scene, lane)
        if self.ramp:
            # Whoever is on the ramp will be in the last lane.
            joins = scene.present & (scene.others_y > LANE_WIDTH * lane) & (scene.others_speed > _STANDING)
            here |= joins & (lane == self.num_lanes - 1) & (scene.ahead < self.ramp_sight)
        leads, follows = here & (scene.ahead > 0), here & (scene.ahead <= 0)
        behind_each = jax.vmap(self._idm, (None, 0, 0))
        own = jnp.min(behind_each(scene.speed, jnp.where(leads, scene.ahead, _FREE), scene.others_speed))
        leader = jnp.argmin(jnp.where(leads, scene.ahead, _FREE))
        nearest = jnp.argmax(jnp.where(follows, scene.ahead, -_FREE))
        speed, behind = scene.others_speed[nearest], -scene.ahead[nearest]
        room = jnp.where(jnp.any(leads), scene.ahead[leader], _FREE)
        alone = self._idm(speed, behind + room, scene.others_speed[leader])
        pressed = self._idm(speed, behind, scene.speed)
        return own, *jnp.where(jnp.any(follows), jnp.stack([alone, pressed]), 0.0)

    def _idm(self, speed: Array, distance: Array, leader_speed: Array) -> Array:
        """Acceleration at a distance, middle to middle, from a leader; an infinite road is free."""
        return idm_acceleration(
            jnp.maximum(speed, 0.1),
            distance - VEHICLE_LENGTH,
            speed - leader_speed,
            desired_speed=self.desired_speed,
            standstill=self.standstill,
            headway=self.headway,
            acceleration=self.acceleration,
            braking=self.braking,
        )

    def _nearest_lane(self, y: Array) -> Int[Array, ""]:
        return jnp.clip(jnp.round(y / LANE_WIDTH).astype(jnp.int32), 0, self.num_lanes - 1)

    def _speed_action(self, speed: Array, acceleration: Array) -> Int[Array, ""]:
        """Towards the speed, of those that there are, that a second of this acceleration leads to."""
        index, wanted = _nearest_speed(speed), _nearest_speed(speed + acceleration)
        slower = (wanted < index) | (acceleration < -_BRAKE)
        return jnp.where(slower, SLOWER, jnp.where(wanted > index, FASTER, IDLE))


@jax.jit
def _actions(driver: ScriptedDriver, obs: Float[Array, "batch obs"]) -> Int[Array, " batch"]:
    return jax.vmap(driver)(obs)


def _nearest_speed(speed: Array) -> Array:
    """Index of the nearest of the speeds, as the environment finds it."""
    low, step = TARGET_SPEEDS[0], TARGET_SPEEDS[1] - TARGET_SPEEDS[0]
    return jnp.clip(jnp.round((speed - low) / step), 0, len(TARGET_SPEEDS) - 1)


def driver_of(env_id: str, env_kwargs: dict[str, Any] | None = None) -> ScriptedDriver:
    """The scripted driver of an environment."""
    road = road_of(env_id, env_kwargs)
    if road is None:
        raise RequestError(
            f"The scripted driver keeps to straight roads: {env_id} is none, but merge-v0 and highway-v0 are."
        )
    return ScriptedDriver(road.num_lanes, road.ramp)
