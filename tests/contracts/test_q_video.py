"""What a policy holds its actions to be worth, beside the pictures of its play."""

import dataclasses

import jax
import numpy as np
import pytest

from menura.environments import make
from menura.forward.dqn import DQN
from menura.report.footage import record
from menura.report.q_panel import PANEL, QPanel, legend_height
from menura.report.style import DARK

GROUND = (24, 27, 32)


@pytest.fixture(scope="module")
def footage():
    """An episode of Catch that a fresh network plays."""
    learner = DQN(hidden_sizes=(8,))
    spec = make("Catch-v0").spec
    state = learner.init(spec, key=jax.random.key(0))
    return record("Catch-v0", learner.final_policy(state), pictures=True), learner.final_policy(state)


def test_footage_of_a_q_policy_holds_the_value_of_every_action_in_every_picture(footage):
    shown, policy = footage
    assert shown.action_names == ("left", "stay", "right")
    assert shown.q_values.shape == (shown.num_frames, 3)
    np.testing.assert_allclose(
        shown.q_values[3], policy.q_values(jax.numpy.asarray(shown.obs[3].reshape(-1))), rtol=1e-4, atol=1e-5
    )


def test_a_panel_draws_each_action_in_its_color_bright_only_up_to_now(footage):
    shown = dataclasses.replace(footage[0], q_values=np.tile([0.0, 1.0, 5.0], (46, 1)))
    panel = QPanel(shown, 45, 480, GROUND)
    picture = np.asarray(panel.at(20), int)
    assert picture.shape == (PANEL + legend_height(3), 480, 3)
    now = round(panel._x(20))
    for index, value in enumerate([0.0, 1.0, 5.0]):
        color = [int(DARK.color(index)[i : i + 2], 16) for i in (1, 3, 5)]
        row = round(panel._y(value))
        near = picture[row - 1 : row + 2]
        assert np.abs(near[:, now - 60] - color).sum(axis=-1).min() < 60
        assert np.abs(near[:, now + 60] - color).sum(axis=-1).min() > 120
    # The largest is marked, and no other.
    marks = [picture[PANEL + 9, 8 + 154 * i + 3] for i in range(3)]
    assert [bool(np.abs(mark - GROUND).sum() > 100) for mark in marks] == [False, False, True]
