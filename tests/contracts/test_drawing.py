"""Pictures of the small environments show what the observation says."""

import jax
import numpy as np
import pytest

from menura.core import RequestError
from menura.environments import make
from menura.environments.registry import native_ids
from menura.report.drawing import can_draw, draw

DRAWN = [env_id for env_id in native_ids() if can_draw(env_id)]
ORANGE, BLUE, GREEN = (0xE6, 0x9F, 0x00), (0x00, 0x72, 0xB2), (0x00, 0x9E, 0x73)


def center_of(picture, color):
    """Mean row and column of the pixels that have exactly this color."""
    return np.argwhere((picture == np.array(color)).all(axis=2)).mean(axis=0)


def test_the_classic_environments_and_the_grid_are_drawn_and_probes_are_not():
    seen_as_pictures = {env_id for env_id in native_ids() if make(env_id).spec.parts}
    probes = {env_id for env_id in native_ids() if env_id.startswith("probe/")}
    assert set(DRAWN) == set(native_ids()) - probes - seen_as_pictures
    assert can_draw("gymnasium:CartPole-v1")
    assert not can_draw("Hopper-v5")


@pytest.mark.parametrize("env_id", DRAWN)
def test_a_picture_has_the_size_asked_for_and_stays_the_same(env_id):
    obs = np.asarray(make(env_id).reset(key=jax.random.key(0)).obs[0])
    picture = draw(env_id, obs, (120, 80))
    assert (picture.shape, picture.dtype) == ((80, 120, 3), np.uint8)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 3
    np.testing.assert_array_equal(picture, draw(env_id, obs, (120, 80)))


def test_the_cart_moves_right_and_the_pole_leans_with_its_angle():
    still = draw("CartPole-v1", np.zeros(4, np.float32))
    moved = draw("CartPole-v1", np.array([1, 0, 0, 0], np.float32))
    leaning = draw("CartPole-v1", np.array([0, 0, 0.2, 0], np.float32))
    assert center_of(moved, BLUE)[1] > center_of(still, BLUE)[1] + 50
    assert center_of(leaning, ORANGE)[1] > center_of(still, ORANGE)[1] + 5


def test_the_pendulum_is_upright_at_angle_zero_and_turns_to_the_left():
    upright, left = draw("Pendulum-v1", np.array([1, 0, 0.0])), draw("Pendulum-v1", np.array([0, 1, 0.0]))
    assert center_of(upright, ORANGE)[0] < 80
    np.testing.assert_allclose(center_of(upright, ORANGE)[1], 239.5, atol=1)
    np.testing.assert_allclose(center_of(left, ORANGE)[0], 159.5, atol=1)
    assert center_of(left, ORANGE)[1] < 150


def test_the_acrobot_hangs_down_at_angle_zero_and_its_tip_turns_green_above_the_line():
    hanging = draw("Acrobot-v1", np.array([1, 0, 1, 0, 0, 0.0]))
    upright = draw("Acrobot-v1", np.array([-1, 0, 1, 0, 0, 0.0]))
    assert center_of(hanging, ORANGE)[0] > 250
    assert not (upright == np.array(ORANGE)).all(axis=2).any()


def test_the_car_is_at_its_position():
    left, right = (draw("MountainCar-v0", np.array([x, 0.0])) for x in (-1.0, 0.4))
    assert center_of(left, BLUE)[1] < 180 < 300 < center_of(right, BLUE)[1]


def test_the_goal_of_a_grid_is_where_it_was_made():
    here = np.eye(9)[4]
    assert center_of(draw("GridWorld-v0", here), GREEN)[0] > 240
    assert center_of(draw("GridWorld-v0", here, env_kwargs={"goal": 0}), GREEN)[0] < 80


def test_what_is_not_drawn_is_refused_by_name():
    with pytest.raises(RequestError, match="no drawing of 'Hopper-v5'"):
        draw("Hopper-v5", np.zeros(11))
