"""How the scripted driver decides, and what drives are worth, against numbers worked by hand."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from menura.environments.driving import Road, Scene, ScriptedDriver, crash_interval, crashed, scene_of
from menura.environments.driving.car_following import (
    desired_gap,
    idm_acceleration,
    lane_change_incentive,
    lane_change_is_safe,
)
from menura.environments.driving.outcome import merge_reward
from menura.environments.driving.scene import FASTER, IDLE, LEFT, RIGHT, SLOWER, obs_of
from menura.report.charts import chart_of
from menura.report.driving import MOMENTS, drive_of

SETTINGS = {"standstill": 2.0, "headway": 1.5, "acceleration": 1.0, "braking": 4.0}
"""√(a b) = 2."""


def f(x):
    return jnp.asarray(x, jnp.float32)


def test_the_desired_gap_is_standstill_and_headway_and_more_where_one_comes_nearer():
    assert_allclose(desired_gap(f(20), f(0), **SETTINGS), 2 + 20 * 1.5)
    assert_allclose(desired_gap(f(20), f(4), **SETTINGS), 2 + 20 * 1.5 + 20 * 4 / (2 * 2))
    # A leader that draws away never makes it less than the standstill.
    assert_allclose(desired_gap(f(20), f(-40), **SETTINGS), 2)


def test_the_driver_model_accelerates_on_a_free_road_up_to_its_speed():
    free = jax.vmap(lambda v: idm_acceleration(v, f(1e6), f(0), desired_speed=30.0, **SETTINGS))
    assert_allclose(free(jnp.array([0.0, 15.0, 30.0])), [1, 1 - 1 / 16, 0], atol=1e-6)


def test_the_driver_model_at_half_its_gap_brakes_fourfold():
    got = idm_acceleration(f(15), f(24.5 / 2), f(0), desired_speed=30.0, **SETTINGS)
    assert_allclose(got, 1 - 1 / 16 - 4, rtol=1e-6)


def test_the_incentive_counts_others_by_politeness():
    assert_allclose(lane_change_incentive(f(-1), f(1), f(0.5), f(-1.5), politeness=0.25), 2 - 0.5)


def test_a_lane_change_is_safe_where_neither_brakes_hard():
    safe = [bool(lane_change_is_safe(f(a), f(b), safe_braking=4.0)) for a, b in ((-3, 0), (-5, 0), (0, -5))]
    assert safe == [True, False, False]


def test_the_reward_of_merging_is_highway_envs():
    speed, lane, second = np.array([30.0, 25.0, 20.0]), np.array([1.0, 0.0, 0.0]), np.arange(3) == 1
    got = merge_reward(speed, lane, second, second, np.array([0.0, 0.0, 1.0]))
    assert_allclose(got, [1, (1.5 - 1 + 0.1 - 0.05) / 1.8, (1.5 - 0.5) / 1.8])


def test_a_crash_is_a_last_step_that_pays_little():
    reward, terminated = np.array([0.3, 0.3, 0.9, 0.9]), np.array([False, True, False, True])
    np.testing.assert_array_equal(crashed(reward, terminated), [False, True, False, False])


def test_wilsons_interval_has_a_width_where_nothing_crashed():
    # z² / (n + z²) with z = 1.96.
    assert_allclose(crash_interval(0, 10), [0, 0.27753], atol=1e-5)
    assert_allclose(crash_interval(5, 10), [0.2366, 0.7634], atol=1e-4)


ROAD = Road(2, ramp=True)


def scene(*others, y=4.0, speed=25.0):
    """The own vehicle at 100 m, and others: metres ahead, y, speed, lateral speed."""
    rows = np.zeros((4, 4))
    rows[: len(others)] = np.reshape(others, (-1, 4))
    return Scene(
        *(np.asarray(v, float) for v in (100.0, y, speed, 0.0)),
        np.arange(4) < len(others),
        *(rows[:, i] for i in range(4)),
    )


def action(seen, **changes):
    driver = dataclasses.replace(ScriptedDriver(), **changes)
    return int(driver(jnp.asarray(obs_of(seen, ROAD))))


def test_observations_say_what_was_written():
    told = scene((30, 0, 22, 0.5), (-8, 8, 27, -1))
    back = scene_of(obs_of(told, ROAD)[None], ROAD)
    for name in ("x", "y", "speed", "lateral_speed", "present"):
        assert_allclose(getattr(back, name)[0], getattr(told, name), rtol=1e-5)
    for name in ("ahead", "others_y", "others_speed", "others_lateral_speed"):
        assert_allclose(getattr(back, name)[0, :2], getattr(told, name)[:2], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (scene(speed=22.0), FASTER),
        # A second of 1.6 m/s² does not lead halfway to 30.
        (scene(), IDLE),
        (scene(speed=30.0), IDLE),
        # A slow leader, and the lane to the left is free.
        (scene((25, 4, 20, 0)), LEFT),
        # The same with somebody alongside there.
        (scene((25, 4, 20, 0), (2, 0, 25, 0)), SLOWER),
        # The same in the left lane, the other way round.
        (scene((25, 0, 20, 0), y=0.0), RIGHT),
        # Whoever comes from the ramp counts as ahead; the standing end of the ramp does not.
        (scene((25, 8, 20, 0), (2, 0, 25, 0)), SLOWER),
        (scene((25, 8, 0, 0), (2, 0, 25, 0)), IDLE),
        # Somebody in the left lane is about to come over.
        (scene((15, 0, 20, 3)), SLOWER),
    ],
)
def test_the_driver_does_what_its_models_say(seen, expected):
    assert action(seen) == expected


def test_the_driver_answers_for_batches_as_it_does_one_by_one():
    seen = np.stack([obs_of(scene(), ROAD), obs_of(scene((25, 4, 20, 0)), ROAD)])
    assert ScriptedDriver().predict(seen)[0].tolist() == [IDLE, LEFT]


def test_the_chart_of_driving_is_gap_and_relative_speed():
    chart = chart_of("merge-v0", 25)
    at = np.array([[20.0, -3.0], [60.0, 5.0]])
    assert_allclose(chart.of_obs(chart.to_obs(at)), at, atol=1e-3)
    # Nobody ahead in the own lane.
    assert_allclose(chart.of_obs(obs_of(scene((20, 0, 20, 0)), ROAD)[None]), [[100, 0]])


def test_a_film_passes_through_what_was_observed_and_goes_on_where_x_is_clipped():
    # 25 m/s, past the 200 m that are observed; a leader that draws away by 2 m/s.
    starts = [
        dataclasses.replace(scene((30 + 2 * t, 4, 27, 0)), x=np.asarray(min(150.0 + 25 * t, 200.0))) for t in range(5)
    ]
    drive = drive_of(np.stack([obs_of(s, ROAD) for s in starts]), ROAD)
    assert len(drive.moments) == 4 * MOMENTS + 1
    own = [float(moment.own[0]) for moment in drive.moments]
    assert_allclose(own, 150 + 25 * np.arange(len(own)) / MOMENTS, atol=1e-3)
    leader = [float(moment.others[0][0]) for moment in drive.moments]
    assert_allclose(np.subtract(leader, own), 30 + 2 * np.arange(len(own)) / MOMENTS, atol=1e-2)
    assert math.isclose(float(drive.moments[-1].own[0]), 250.0, abs_tol=1e-3)
