"""How a driver keeps its distance and chooses its lane: the Intelligent Driver Model and MOBIL, as formulas."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from menura.core import Hyper

Scalar = Float[Array, ""]


def desired_gap(
    speed: Scalar, approach: Scalar, *, standstill: Hyper, headway: Hyper, acceleration: Hyper, braking: Hyper
) -> Scalar:
    """The gap s*, in metres, that a driver wants to the vehicle ahead, which it comes nearer to by ``approach`` m/s:
    s₀ + max(0, v T + v Δv / (2 √(a b))).

    Treiber, Hennecke & Helbing 2000, eq. 3 without its term s₁; what depends on speed never takes from s₀ (Treiber &
    Kesting 2013, eq. 11.15).
    """
    dynamic = speed * headway + speed * approach / (2 * jnp.sqrt(jnp.asarray(acceleration * braking)))
    return standstill + jnp.maximum(dynamic, 0.0)


def idm_acceleration(
    speed: Scalar,
    gap: Scalar,
    approach: Scalar,
    *,
    desired_speed: Hyper,
    standstill: Hyper,
    headway: Hyper,
    acceleration: Hyper,
    braking: Hyper,
    exponent: Hyper = 4.0,
) -> Scalar:
    """The Intelligent Driver Model's acceleration, in m/s²: a (1 − (v/v₀)^δ − (s*/s)²) at ``gap`` metres of free road
    to the vehicle ahead.

    Treiber, Hennecke & Helbing 2000, eq. 2.
    """
    wanted = desired_gap(
        speed, approach, standstill=standstill, headway=headway, acceleration=acceleration, braking=braking
    )
    free = 1 - (speed / desired_speed) ** exponent
    return acceleration * (free - (wanted / jnp.maximum(gap, 0.1)) ** 2)


def lane_change_incentive(
    own_before: Scalar, own_after: Scalar, others_before: Scalar, others_after: Scalar, *, politeness: Hyper
) -> Scalar:
    """What a lane change would gain, in m/s²: the driver's own acceleration, and ``politeness`` times that of the
    followers whom it concerns, the old one and the new one added up.

    Kesting, Treiber & Helbing 2007, left of eq. 3; a change is wanted where it exceeds the threshold Δa_th.
    """
    return own_after - own_before + politeness * (others_after - others_before)


def lane_change_is_safe(new_follower_after: Scalar, own_after: Scalar, *, safe_braking: Hyper) -> Array:
    """Whether nobody would have to brake harder than ``safe_braking`` m/s²: not the new follower (Kesting, Treiber &
    Helbing 2007, eq. 2), nor the driver itself behind its new leader."""
    # Departs from Kesting et al. 2007: the driver's own braking is bounded too, because here a change takes longer
    # than the second between two decisions, and cannot be called off.
    return (new_follower_after >= -safe_braking) & (own_after >= -safe_braking)
