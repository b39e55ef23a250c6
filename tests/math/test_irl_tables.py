"""Tables from Gymnasium, from trajectories, and as environments to play."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from menura.environments.base import NativeEnvs
from menura.environments.tabular import TabularMDP
from menura.irl import Paths, fit
from menura.irl.discretize import Grid, grid_mdp
from menura.irl.joint import fit_jointly


@pytest.mark.parametrize(
    ("env_id", "states", "terminal"), [("FrozenLake-v1", 16, 5), ("CliffWalking-v1", 48, 1), ("Taxi-v4", 500, 4)]
)
def test_gymnasium_tables_are_read_with_their_endings(env_id, states, terminal):
    mdp = TabularMDP.from_gymnasium(env_id, discount=0.95)
    assert mdp.num_states == states
    assert len(mdp.terminal) == terminal
    assert_allclose(np.bincount(mdp.transition_pair, mdp.probability), 1)


def test_rows_that_repeat_a_transition_add_up():
    mdp = TabularMDP.from_transitions(
        [0, 0, 0], [0, 0, 0], [1, 0, 1], [0.25, 0.5, 0.25], transition_features=[[1.0], [2.0], [3.0]], discount=0.9
    )
    assert_allclose(mdp.probability, [0.5, 0.5])
    assert_allclose(mdp.transition_features, [[2.0], [2.0]])


def test_smoothing_counts_every_successor_of_a_state_for_every_action():
    mdp = TabularMDP.from_trajectories(
        [[0, 1, 0, 2]], [[0, 1, 1]], num_states=3, num_actions=2, smoothing=1.0, discount=0.9, terminal=[2]
    )
    table = np.zeros((3, 2, 3))
    table[mdp.state, mdp.action, mdp.next_state] = mdp.probability
    # From state 0: action 0 led to 1 once, action 1 to 2 once; each successor gets one count more.
    assert_allclose(table[0], [[0, 2 / 3, 1 / 3], [0, 1 / 3, 2 / 3]])


def test_a_table_can_be_played():
    mdp = TabularMDP.from_transitions(
        [0, 0, 1], [0, 0, 0], [1, 0, 2], [0.75, 0.25, 1.0], num_actions=2, state_features=[[1.0], [2], [0]],
        terminal=[2], discount=0.9, initial=[1.0, 0, 0],
    )  # fmt: skip
    env = NativeEnvs(mdp.as_env(np.array([2.0])), 4000, "table")
    carry = env.reset(key=jax.random.key(0))
    carry, step = env.step(carry, jnp.zeros(4000, jnp.int32), key=jax.random.key(1))
    assert abs(float(step.next_obs[:, 1].mean()) - 0.75) < 0.03
    assert_allclose(step.reward, 2.0)
    moved = step.next_obs[:, 1] == 1
    _, after = env.step(carry, jnp.zeros(4000, jnp.int32), key=jax.random.key(2))
    assert bool(after.terminated[moved].all())
    _, refused = env.step(env.reset(key=jax.random.key(0)), jnp.ones(4000, jnp.int32), key=jax.random.key(3))
    assert bool((refused.next_obs[:, 0] == 1).all())


def test_mountain_car_in_cells_moves_as_the_car_does():
    from menura.environments.native.mountain_car import MountainCar

    grid = Grid(np.array([-1.2, -0.07]), np.array([0.6, 0.07]), (12, 12))
    start = np.array([[-0.5, 0.0], [-0.49, 0.01]])
    path = Paths.from_lists([grid.state_of(start)], [[2]])
    mdp = grid_mdp(MountainCar(), grid, path, samples=3, discount=0.99)
    assert mdp.num_states == 145
    fastest = grid.state_of(np.array([0.45, 0.069]))
    ends = mdp.next_state[(mdp.state == fastest) & (mdp.action == 2)]
    assert 144 in ends
    assert_allclose(np.bincount(mdp.transition_pair, mdp.probability), 1)


def test_joint_likelihood_is_no_lower_than_that_of_two_steps():
    rng = np.random.default_rng(0)

    def make(phi):
        p = float(phi[0])
        return TabularMDP.from_transitions(
            [0, 0, 0, 1, 1, 1], [0, 0, 1, 0, 0, 1], [0, 1, 0, 1, 0, 0], [p, 1 - p, 1, p, 1 - p, 1],
            state_action_features=[[[0.0], [1.0]], [[-1.0], [0.0]]], discount=0.9,
        )  # fmt: skip

    states, actions, stay = [0], [], [0, 0]
    for _ in range(60):
        actions.append(int(rng.integers(2)))
        if actions[-1] == 1:
            states.append(0)
        else:
            moved = rng.random() > 0.6
            stay[int(moved)] += 1
            states.append(1 - states[-1] if moved else states[-1])
    paths = Paths.from_lists([states], [actions])
    dynamics = lambda phi: stay[0] * np.log(phi[0]) + stay[1] * np.log(1 - phi[0])  # noqa: E731
    phi = np.array([stay[0] / 60 * 60 / sum(stay)])
    joint = fit_jointly(make, dynamics, paths, phi)
    apart = fit(make(phi), paths).log_likelihood + dynamics(phi)
    assert joint.full_log_likelihood >= apart - 1e-9
    assert joint.iterations < 20
