"""Every JAX environment against Gymnasium's own, step by step, and the probes against their known values."""

import equinox as eqx
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from menura.core import RequestError
from menura.environments import make
from menura.environments.host import spec_of
from menura.environments.native import Acrobot, CartPole, GridWorld, MountainCar, Pendulum, probes
from menura.environments.native.acrobot import AcrobotState
from menura.environments.native.cartpole import CartPoleState
from menura.environments.native.gridworld import MOVES, neighbors
from menura.environments.native.mountain_car import MountainCarState
from menura.environments.native.pendulum import PendulumState

CLASSIC = {
    "CartPole-v1": CartPoleState,
    "Acrobot-v1": AcrobotState,
    "MountainCar-v0": MountainCarState,
    "Pendulum-v1": PendulumState,
}


def gymnasium_env(env_id, **kwargs):
    env = gymnasium.make(env_id, disable_env_checker=True, **kwargs).unwrapped
    env.reset(seed=0)
    return env


def set_gymnasium_state(env, state):
    env.reset()
    env.state = np.array(state, np.float64)


def some_action(env_id, obs, rng):
    """Random, but mostly in the direction that brings the episode to its end."""
    explore = rng.random() < 0.2
    match env_id:
        case "CartPole-v1":
            return int(rng.integers(2))
        case "MountainCar-v0":
            return int(rng.integers(3)) if explore else (2 if obs[1] >= 0 else 0)
        case "Acrobot-v1":
            return int(rng.integers(3)) if explore else (0 if obs[4] >= 0 else 2)
    return rng.uniform(-3, 3, 1).astype(np.float32)


@jax.jit
def step_once(env, state, action):
    return env.step(state, action, key=jax.random.key(0))


@jax.jit
def observe(env, state):
    return env.observe(state)


@jax.jit
def advance(envs, carry, action, key):
    return envs.step(carry, action, key=key)


def compare_with_gymnasium(env_id, ours, theirs, *, seed, num_steps, atol):
    """One step from the same state, ``num_steps`` times along our own path; returns the number of terminations."""
    rng = np.random.default_rng(seed)
    state = ours.reset(key=jax.random.key(seed))
    terminations = 0
    for index in range(num_steps):
        action = some_action(env_id, np.asarray(observe(ours, state)), rng)
        set_gymnasium_state(theirs, state)
        state, reward, terminated = step_once(ours, state, jnp.asarray(action))
        their_obs, their_reward, their_terminated, _, _ = theirs.step(action)
        np.testing.assert_allclose(observe(ours, state), their_obs, atol=atol, rtol=1e-5, err_msg=f"step {index}")
        np.testing.assert_allclose(reward, their_reward, atol=atol, rtol=1e-5, err_msg=f"step {index}")
        assert bool(terminated) == their_terminated
        if terminated:
            terminations += 1
            state = ours.reset(key=jax.random.key(1000 * seed + index))
    return terminations


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("env_id", CLASSIC)
def test_every_step_is_gymnasiums(env_id, seed):
    ours = make(env_id, backend="jax").env
    terminations = compare_with_gymnasium(env_id, ours, gymnasium_env(env_id), seed=seed, num_steps=400, atol=2e-6)
    assert terminations >= 1 or env_id == "Pendulum-v1"


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("env_id", CLASSIC)
def test_a_whole_path_in_double_precision_is_gymnasiums(env_id, seed):
    rng = np.random.default_rng(seed)
    theirs = gymnasium_env(env_id)
    their_obs, _ = theirs.reset(seed=seed)
    with jax.enable_x64(True):
        ours = make(env_id, backend="jax").env
        state = CLASSIC[env_id](*(jnp.asarray(float(x), jnp.float64) for x in theirs.state))
        for _ in range(400):
            action = some_action(env_id, their_obs, rng)
            state, reward, terminated = step_once(ours, state, jnp.asarray(action))
            their_obs, their_reward, their_terminated, _, _ = theirs.step(action)
            np.testing.assert_allclose(observe(ours, state), their_obs, atol=1e-6)
            np.testing.assert_allclose(reward, their_reward, atol=1e-5)
            assert bool(terminated) == their_terminated
            if their_terminated:
                break


def test_changed_parameters_change_cartpole_as_they_change_gymnasiums():
    changes = {"gravity": 5.0, "masscart": 2.0, "masspole": 0.3, "length": 0.8, "force_mag": 7.0, "tau": 0.03}
    changes |= {"x_threshold": 1.0, "theta_threshold_radians": 0.3}
    theirs = gymnasium_env("CartPole-v1", sutton_barto_reward=True)
    for name, value in changes.items():
        setattr(theirs, name, value)
    theirs.total_mass = theirs.masspole + theirs.masscart
    theirs.polemass_length = theirs.masspole * theirs.length
    ours = make("CartPole-v1", env_kwargs=changes | {"sutton_barto_reward": True}).env
    assert compare_with_gymnasium("CartPole-v1", ours, theirs, seed=0, num_steps=200, atol=2e-6) >= 1


def test_changed_parameters_change_acrobot_as_they_change_gymnasiums():
    ours = make("Acrobot-v1", env_kwargs={"book_or_nips": "nips", "link_mass_2": 1.5, "link_com_pos_1": 0.4}).env
    theirs = gymnasium_env("Acrobot-v1")
    theirs.book_or_nips, theirs.LINK_MASS_2, theirs.LINK_COM_POS_1 = "nips", 1.5, 0.4
    compare_with_gymnasium("Acrobot-v1", ours, theirs, seed=0, num_steps=200, atol=2e-6)


def test_changed_parameters_change_pendulum_and_mountain_car_as_they_change_gymnasiums():
    ours = make("Pendulum-v1", env_kwargs={"g": 3, "mass": 2.0, "length": 0.7}).env
    theirs = gymnasium_env("Pendulum-v1", g=3.0)
    theirs.m, theirs.l = 2.0, 0.7
    compare_with_gymnasium("Pendulum-v1", ours, theirs, seed=0, num_steps=200, atol=2e-6)
    ours = make("MountainCar-v0", env_kwargs={"goal_velocity": 0.02, "force": 0.002}).env
    theirs = gymnasium_env("MountainCar-v0", goal_velocity=0.02)
    theirs.force = 0.002
    assert compare_with_gymnasium("MountainCar-v0", ours, theirs, seed=0, num_steps=300, atol=2e-6) >= 1


def test_the_car_stops_dead_at_the_left_wall_as_gymnasiums_does():
    state = MountainCarState(jnp.float32(-1.19), jnp.float32(-0.05))
    state, _, _ = MountainCar().step(state, jnp.asarray(0), key=jax.random.key(0))
    np.testing.assert_allclose(state, [-1.2, 0.0])


def test_acrobots_torque_noise_stays_within_its_size():
    state = Acrobot().reset(key=jax.random.key(0))
    noisy = Acrobot(torque_noise_max=0.5)
    steps = jax.jit(jax.vmap(lambda key: noisy.step(state, jnp.asarray(1), key=key)[0].theta2_dot))
    speeds = steps(jax.random.split(jax.random.key(1), 500))
    bounds = [
        Acrobot(max_torque=0.5).step(state, jnp.asarray(action), key=jax.random.key(0))[0].theta2_dot
        for action in (0, 2)
    ]
    assert min(bounds) <= speeds.min() < speeds.max() <= max(bounds)
    assert speeds.max() - speeds.min() > 0.9 * (max(bounds) - min(bounds))


@pytest.mark.parametrize("env_id", CLASSIC)
def test_episodes_begin_where_gymnasiums_do(env_id):
    ours = make(env_id, backend="jax").env
    theirs = gymnasium_env(env_id)
    their_obs = np.stack([theirs.reset(seed=seed)[0] for seed in range(1000)])
    keys = jax.random.split(jax.random.key(0), 4000)
    our_obs = np.asarray(jax.vmap(lambda key: ours.observe(ours.reset(key=key)))(keys))
    for column in range(our_obs.shape[1]):
        assert scipy.stats.ks_2samp(our_obs[:, column], their_obs[:, column]).pvalue > 1e-3


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Acrobot-v1", "Pendulum-v1"])
def test_the_parts_of_a_first_state_are_drawn_apart(env_id):
    env = make(env_id).env
    states = jax.vmap(lambda key: env.reset(key=key))(jax.random.split(jax.random.key(0), 4000))
    correlation = np.corrcoef(np.stack(states))
    np.testing.assert_allclose(correlation, np.eye(len(states)), atol=0.06)


@pytest.mark.parametrize("env_id", CLASSIC)
def test_shapes_and_time_limits_are_gymnasiums(env_id):
    ours = make(env_id, backend="jax")
    theirs = gymnasium_env(env_id)
    assert ours.spec == spec_of(theirs.observation_space, theirs.action_space, env_id=env_id)
    assert ours.max_episode_steps == gymnasium.spec(env_id).max_episode_steps
    assert ours.reset(key=jax.random.key(0)).obs.dtype == jnp.float32


def test_the_older_cartpole_differs_in_its_time_limit_only():
    assert make("CartPole-v0").env == CartPole(max_episode_steps=200)
    assert gymnasium.spec("CartPole-v0").max_episode_steps == 200


def run_episode(env_id, choose, *, seed=0, env_kwargs=None):
    """Observations (with the last), rewards, and the last step's endings, of one episode of one copy."""
    envs = make(env_id, env_kwargs=env_kwargs)
    carry = envs.reset(key=jax.random.key(seed))
    observations, rewards = [np.asarray(carry.obs[0])], []
    for index in range(1000):
        action = jnp.asarray(choose(observations[-1], index))[None]
        carry, step = advance(envs, carry, action, jax.random.key(1000 + index))
        observations.append(np.asarray(step.next_obs[0]))
        rewards.append(float(step.reward[0]))
        if step.terminated[0] or step.truncated[0]:
            break
    return np.stack(observations), rewards, bool(step.terminated[0]), bool(step.truncated[0])


@pytest.mark.parametrize(("env_id", "limit"), [("Pendulum-v1", 200), ("MountainCar-v0", 200), ("Acrobot-v1", 500)])
def test_an_episode_is_truncated_at_its_limit_and_not_terminated(env_id, limit):
    idle = np.zeros(1, np.float32) if env_id == "Pendulum-v1" else 1
    _, rewards, terminated, truncated = run_episode(env_id, lambda obs, index: idle)
    assert len(rewards) == limit
    assert (terminated, truncated) == (False, True)


def test_the_constant_probe_pays_one_and_terminates():
    _, rewards, terminated, truncated = run_episode("probe/Constant", lambda obs, index: 0)
    assert (rewards, terminated, truncated) == ([1.0], True, False)


def test_the_discount_probe_pays_at_its_second_step():
    observations, rewards, terminated, _ = run_episode("probe/Discount", lambda obs, index: 0)
    assert (rewards, terminated) == ([0.0, 1.0], True)
    np.testing.assert_array_equal(observations[:2, 0], [0, 1])


def test_the_endless_probe_is_cut_by_the_clock_alone_and_shows_no_clock():
    observations, rewards, terminated, truncated = run_episode("probe/Endless", lambda obs, index: 0)
    assert (rewards, terminated, truncated) == ([1.0] * 10, False, True)
    np.testing.assert_array_equal(observations, np.zeros((11, 1)))


def test_the_echo_probe_pays_for_the_bit_it_shows():
    shown = set()
    for seed in range(8):
        observations, right, terminated, _ = run_episode("probe/Echo", lambda obs, index: int(obs[0]), seed=seed)
        _, wrong, _, _ = run_episode("probe/Echo", lambda obs, index: 1 - int(obs[0]), seed=seed)
        assert (right, wrong, terminated) == ([1.0], [0.0], True)
        shown.add(float(observations[0, 0]))
    assert shown == {0.0, 1.0}


def test_the_continuous_echo_probe_pays_minus_the_squared_error_of_the_clipped_action():
    _, right, terminated, _ = run_episode("probe/EchoBox", lambda obs, index: obs)
    assert (right, terminated) == ([0.0], True)
    observations, off, _, _ = run_episode("probe/EchoBox", lambda obs, index: np.full(1, 7.0, np.float32))
    np.testing.assert_allclose(off, [-((1 - observations[0, 0]) ** 2)], rtol=1e-6)


def test_the_delay_probe_pays_at_the_end_for_the_first_action_only():
    _, good, terminated, _ = run_episode("probe/Delay", lambda obs, index: int(index == 0))
    _, bad, _, _ = run_episode("probe/Delay", lambda obs, index: int(index > 0))
    assert (good, bad, terminated) == ([0.0, 0.0, 0.0, 0.0, 1.0], [0.0] * 5, True)


def test_the_leave_probe_pays_every_step_until_it_is_left():
    _, left, terminated, _ = run_episode("probe/Leave", lambda obs, index: int(index < 3))
    _, stayed, terminated_by_staying, truncated = run_episode("probe/Leave", lambda obs, index: 1)
    assert (left, terminated) == ([1.0] * 4, True)
    assert (stayed, terminated_by_staying, truncated) == ([1.0] * 20, False, True)


def test_who_errs_in_the_corridor_stands_outside_until_it_comes_back():
    corridor = probes.Corridor(one_in=10)
    np.testing.assert_array_equal(corridor.right_action(jnp.array([[0, 0.5004], [0, 0.5014], [1, 0.5004]])), [1, 0, 2])
    # Two errors, a step that does not bring one back, and one that does.
    _, rewards, terminated, truncated = run_episode("probe/Corridor", lambda obs, index: 2 if index in (3, 5) else 0)
    assert rewards[:8] == [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0]
    assert (len(rewards), terminated, truncated) == (100, False, True)


def test_the_grid_is_walked_by_rows_and_columns_and_ends_at_the_goal():
    observations, rewards, terminated, _ = run_episode(
        "GridWorld-v0", lambda obs, index: [1, 1, 2, 2][index], env_kwargs={"size": 3, "goal_reward": 10}
    )
    np.testing.assert_array_equal(observations.argmax(axis=1), [0, 1, 2, 5, 8])
    np.testing.assert_array_equal(observations.sum(axis=1), 1)
    assert (rewards, terminated) == ([-1.0, -1.0, -1.0, 9.0], True)


def test_a_move_into_the_border_stays():
    np.testing.assert_array_equal(neighbors(2), [[0, 1, 2, 0], [1, 1, 3, 0], [0, 3, 2, 2], [1, 3, 3, 2]])


def test_the_grids_transition_table_is_what_its_steps_draw():
    env = GridWorld(size=3, slip=0.4)
    table = env.transitions()
    np.testing.assert_allclose(table.sum(axis=2), 1)
    keys = jax.random.split(jax.random.key(0), 4000)
    draw = jax.jit(lambda cell, action: jax.vmap(lambda key: env.step(cell, action, key=key)[0])(keys))
    for cell, action in [(0, 0), (4, 1), (7, 2)]:
        drawn = np.bincount(np.asarray(draw(jnp.asarray(cell), jnp.asarray(action))), minlength=9) / len(keys)
        np.testing.assert_allclose(drawn, table[cell, action], atol=0.03)
    np.testing.assert_array_equal(table[8], np.eye(9)[[8] * len(MOVES)])


def test_a_random_start_is_every_cell_but_the_goal():
    env = GridWorld(size=3, start=None, goal=4)
    cells = jax.vmap(lambda key: env.reset(key=key))(jax.random.split(jax.random.key(0), 500))
    assert set(np.asarray(cells).tolist()) == {0, 1, 2, 3, 5, 6, 7, 8}


@pytest.mark.parametrize("kwargs", [{"size": 1}, {"goal": 25}, {"start": -1}, {"start": 24}])
def test_a_grid_that_cannot_be_is_refused(kwargs):
    with pytest.raises(RequestError, match="GridWorld"):
        GridWorld(**kwargs)


def test_dynamics_can_be_swept_under_vmap():
    def fall(masspole):
        env = eqx.tree_at(lambda env: env.masspole, CartPole(), masspole)
        state, _, _ = env.step(env.reset(key=jax.random.key(0)), jnp.asarray(1), key=jax.random.key(0))
        return state.theta_dot

    assert len(set(jax.vmap(fall)(jnp.array([0.1, 0.5, 1.0])).tolist())) == 3


def test_environments_hold_numbers_only_so_that_importing_them_starts_no_device():
    for env in (Acrobot(), CartPole(), GridWorld(), MountainCar(), Pendulum(), probes.Delay()):
        assert all(isinstance(leaf, int | float) for leaf in jax.tree.leaves(env))
