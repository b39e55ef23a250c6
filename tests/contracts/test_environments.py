"""What every backend must do alike, and what ``make`` chooses and refuses."""

import re
import subprocess
import sys
import types
from functools import partial
from pathlib import Path

import gymnasium
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from menura.commands.train import env_kwargs_of
from menura.core import DiscreteActions, RequestError
from menura.environments import NativeEnvs, collect, list_envs, make
from menura.environments.native import CartPole, Pendulum
from menura.environments.native.cartpole import CartPoleState
from menura.environments.native.pendulum import PendulumState
from menura.environments.registry import native_ids
from menura.networks import make_policy

# EnvPool declares the bounds of its CartPole in double precision, and Gymnasium warns of the cast.
pytestmark = pytest.mark.filterwarnings("ignore:.*precision lowered by casting:UserWarning")

BACKENDS = ["jax", "gymnasium", "envpool"]


def make_on(backend, env_id, *, num_envs=3, **env_kwargs):
    if backend == "envpool":
        pytest.importorskip("envpool")
    return make(env_id, num_envs=num_envs, backend=backend, env_kwargs=env_kwargs)


def start(env, seed):
    return env.reset(key=jax.random.key(seed)) if isinstance(env, NativeEnvs) else env.reset(seed)


@partial(jax.jit, static_argnames="num_steps")
def collect_jitted(env, carry, policy, key, *, num_steps):
    return collect(env, carry, policy, key=key, num_steps=num_steps)


def roll_out(env, *, seed=0, carry=None, num_steps=80):
    """A rollout of a nearly uniform policy, as NumPy arrays, and where it stopped."""
    policy = make_policy(env.spec, (4,), key=jax.random.key(0))
    carry = start(env, seed) if carry is None else carry
    if isinstance(env, NativeEnvs):
        carry, rollout = collect_jitted(env, carry, policy, jax.random.key(seed), num_steps=num_steps)
    else:
        carry, rollout = collect(env, carry, policy, key=jax.random.key(seed), num_steps=num_steps)
    return carry, jax.tree.map(np.asarray, rollout)


def true_successor(env_id, obs, action):
    """The observation that must follow, by the dynamics; and the state's distance from a first one."""
    if env_id == "CartPole-v1":
        env, state, action = CartPole(), CartPoleState(*jnp.asarray(obs)), jnp.asarray(action)
    else:
        env, state = Pendulum(), PendulumState(jnp.arctan2(obs[1], obs[0]), jnp.asarray(obs[2]))
    return env.observe(env.step(state, action, key=jax.random.key(0))[0])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("env_id", "limit", "ending"),
    [("CartPole-v1", 500, "terminated"), ("CartPole-v1", 8, "truncated"), ("Pendulum-v1", 10, "truncated")],
)
def test_next_obs_is_the_true_successor_also_at_endings(backend, env_id, limit, ending):
    _, rollout = roll_out(make_on(backend, env_id, max_episode_steps=limit))
    ended = getattr(rollout, ending)
    assert ended.any(axis=0).all()
    successor = jax.jit(jax.vmap(jax.vmap(lambda obs, action: true_successor(env_id, obs, action))))
    np.testing.assert_allclose(rollout.next_obs, successor(rollout.obs, rollout.action), atol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("env_id", "limit"), [("CartPole-v1", 12), ("Pendulum-v1", 10)])
def test_the_next_episode_begins_in_the_row_after_an_ending_and_no_other(backend, env_id, limit):
    _, rollout = roll_out(make_on(backend, env_id, max_episode_steps=limit))
    ended = (rollout.terminated | rollout.truncated)[:-1]
    following, successor = rollout.obs[1:], rollout.next_obs[:-1]
    np.testing.assert_array_equal(following[~ended], successor[~ended])
    fresh = following[ended]
    assert np.all(np.any(fresh != successor[ended], axis=1))
    if env_id == "CartPole-v1":
        assert np.all(np.abs(fresh) <= 0.05)
    else:
        assert np.all(np.abs(fresh[:, 2]) <= 1)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_falling_pole_terminates_and_is_never_also_truncated(backend):
    _, rollout = roll_out(make_on(backend, "CartPole-v1", max_episode_steps=20), num_steps=200)
    fallen = (np.abs(rollout.next_obs[..., 2]) > 12 * np.pi / 180) | (np.abs(rollout.next_obs[..., 0]) > 2.4)
    np.testing.assert_array_equal(rollout.terminated, fallen)
    assert rollout.truncated.any()
    assert rollout.terminated.any()
    assert not np.any(rollout.terminated & rollout.truncated)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_episode_that_terminates_on_its_last_step_ends_in_one_way_only(backend):
    _, free = roll_out(make_on(backend, "CartPole-v1", num_envs=1))
    length = int(np.argmax(free.terminated[:, 0])) + 1
    _, timed = roll_out(make_on(backend, "CartPole-v1", num_envs=1, max_episode_steps=length))
    np.testing.assert_array_equal(timed.obs[:length], free.obs[:length])
    # EnvPool itself reports such an ending as truncated and nothing else.
    is_truncated = backend == "envpool"
    assert timed.truncated[length - 1, 0] == is_truncated
    assert timed.terminated[length - 1, 0] == (not is_truncated)


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_episode_lasts_until_the_limit_where_nothing_terminates_it(backend):
    _, rollout = roll_out(make_on(backend, "Pendulum-v1", max_episode_steps=10), num_steps=35)
    expected = np.zeros((35, 3), bool)
    expected[[9, 19, 29]] = True
    np.testing.assert_array_equal(rollout.truncated, expected)
    assert not rollout.terminated.any()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
def test_a_seed_decides_the_whole_rollout(backend, env_id):
    env = make_on(backend, env_id, max_episode_steps=15)
    _, first = roll_out(env, seed=3)
    _, again = roll_out(env, seed=3)
    _, anew = roll_out(make_on(backend, env_id, max_episode_steps=15), seed=3)
    _, other = roll_out(env, seed=4)
    jax.tree.map(np.testing.assert_array_equal, first, again)
    jax.tree.map(np.testing.assert_array_equal, first, anew)
    assert not np.any(first.obs[0] == other.obs[0])
    assert len(np.unique(first.obs[0, :, 0])) == env.num_envs


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
def test_a_rollout_has_time_and_env_axes_and_the_dtypes_of_every_backend(backend, env_id):
    env = make_on(backend, env_id, num_envs=2)
    _, rollout = roll_out(env, num_steps=5)
    discrete = isinstance(env.spec.actions, DiscreteActions)
    assert rollout.obs.shape == rollout.next_obs.shape == (5, 2, env.spec.obs_size)
    assert rollout.action.shape == ((5, 2) if discrete else (5, 2, 1))
    for name in ("reward", "terminated", "truncated", "log_prob"):
        assert getattr(rollout, name).shape == (5, 2)
    assert rollout.obs.dtype == rollout.next_obs.dtype == rollout.reward.dtype == np.float32
    assert rollout.terminated.dtype == rollout.truncated.dtype == bool
    assert env.max_episode_steps == gymnasium.spec(env_id).max_episode_steps


@pytest.mark.parametrize("backend", BACKENDS)
def test_collecting_goes_on_where_the_last_call_stopped(backend):
    env = make_on(backend, "CartPole-v1", max_episode_steps=20)
    carry, first = roll_out(env, num_steps=7)
    _, second = roll_out(env, carry=carry, num_steps=7)
    going = ~(first.terminated[-1] | first.truncated[-1])
    assert going.any()
    np.testing.assert_array_equal(second.obs[0][going], first.next_obs[-1][going])


def test_the_same_problem_on_every_backend():
    specs = {make_on(backend, env_id).spec for backend in BACKENDS for env_id in ["CartPole-v1"]}
    assert len(specs) == 1


@pytest.mark.parametrize("env_id", native_ids())
def test_thousands_of_native_copies_step_in_one_compiled_call(env_id):
    env = make(env_id, num_envs=4096)
    size = getattr(env.spec.actions, "size", None)
    action = jnp.zeros(4096, jnp.int32) if size is None else jnp.zeros((4096, size))
    step = jax.jit(lambda env, carry, key: env.step(carry, action, key=key))
    carry = env.reset(key=jax.random.key(0))
    for index in range(3):
        carry, result = step(env, carry, jax.random.key(index))
    assert result.next_obs.shape == (4096, env.spec.obs_size)
    assert step._cache_size() == 1
    assert all(np.isfinite(leaf).all() for leaf in result)


def test_thousands_of_native_copies_are_collected_in_one_jitted_call():
    _, rollout = roll_out(make("CartPole-v1", num_envs=4096), num_steps=50)
    assert rollout.obs.shape == (50, 4096, 4)
    assert 15 < 50 * 4096 / rollout.terminated.sum() < 35


def test_auto_prefers_jax_then_envpool_then_gymnasium():
    pytest.importorskip("envpool")
    assert make("CartPole-v1").backend == "jax"
    assert make("CartPole-v1", env_kwargs={"masspole": 0.3}).backend == "jax"
    assert make("MountainCarContinuous-v0").backend == "envpool"
    assert make("CartPole-v1", env_kwargs={"render_mode": None}).backend == "gymnasium"
    assert make("MountainCarContinuous-v0", env_kwargs={"render_mode": None}).backend == "gymnasium"
    assert make("gymnasium:CartPole-v1").backend == "gymnasium"


def test_whole_numbers_are_taken_for_real_parameters():
    env = make("Pendulum-v1", env_kwargs={"g": 9, "max_torque": 1})
    assert isinstance(env.env.g, float)
    assert env.env.g == 9.0
    assert env.spec.actions.high == (1.0,)


def test_an_environment_of_ones_own_is_taken_as_an_object_or_a_class():
    assert make(CartPole(masspole=0.3), num_envs=2).env.masspole == 0.3
    assert make(CartPole, env_kwargs={"masspole": 0.3}).env == CartPole(masspole=0.3)


def test_a_callable_makes_one_gymnasium_environment_for_each_copy():
    def maker(g):
        return gymnasium.make("Pendulum-v1", g=g, max_episode_steps=4)

    env = make(maker, num_envs=2, env_kwargs={"g": 1.0})
    assert (env.backend, env.num_envs, env.id, env.max_episode_steps) == ("gymnasium", 2, "Pendulum-v1", 4)
    _, rollout = roll_out(env, num_steps=4)
    assert rollout.truncated[-1].all()


def test_a_callable_that_gives_one_environment_twice_is_refused():
    env = gymnasium.make("Pendulum-v1")
    with pytest.raises(RequestError, match="make a new one at every call"):
        make(lambda: env, num_envs=2)


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ({"env": "Cartpole-v1"}, "Did you mean CartPole-v1"),
        ({"env": "nothing-like-it-v9"}, "menura list envs"),
        ({"env": "no_such_package:Thing-v0"}, "no_such_package"),
        ({"env": "CartPole-v1", "num_envs": 0}, "num_envs must be at least 1"),
        ({"env": "CartPole-v1", "backend": "tpu"}, "choose from auto, jax, envpool, gymnasium"),
        ({"env": "MountainCarContinuous-v0", "backend": "jax"}, "leave out --backend jax"),
        ({"env": "GridWorld-v0", "backend": "gymnasium"}, "jax has"),
        ({"env": "CartPole-v1", "backend": "jax", "env_kwargs": {"masspol": 1}}, "which are force_mag, gravity"),
        ({"env": "CartPole-v1", "env_kwargs": {"masspol": 1}}, "The JAX version takes force_mag, gravity"),
        ({"env": "CartPole-v1", "env_kwargs": {"masspole": "heavy"}}, "masspole of CartPole-v1 must be float"),
        ({"env": "CartPole-v1", "env_kwargs": {"masspole": True}}, "must be a number"),
        ({"env": "CartPole-v1", "env_kwargs": {"max_episode_steps": 0}}, "must be at least 1"),
        ({"env": "Acrobot-v1", "env_kwargs": {"book_or_nips": "film"}}, "must be 'book' or 'nips'"),
        ({"env": "GridWorld-v0", "env_kwargs": {"size": 1}}, "size must be at least 2"),
        ({"env": CartPole(), "env_kwargs": {"masspole": 1.0}}, "Set masspole on the CartPole object"),
        ({"env": CartPole(), "backend": "gymnasium"}, "leave out backend"),
        ({"env": gymnasium.make("Pendulum-v1")}, "a callable that returns a new gymnasium.Env"),
        ({"env": lambda: 3}, "must return a gymnasium.Env"),
        ({"env": lambda: None, "backend": "jax"}, "leave out backend"),
    ],
)
def test_what_cannot_be_made_is_refused_in_words_that_say_what_to_do(request_, says, monkeypatch):
    # A user has no type checker between the request and the answer.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(RequestError) as error:
        make(**request_)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_envpool_is_imported_without_what_only_draws_its_board_games():
    pytest.importorskip("envpool")
    program = (
        "import sys; from menura.environments.host import import_envpool; pool = import_envpool();"
        "assert 'matplotlib' not in sys.modules; assert 'envpool.jumanji' not in sys.modules;"
        "pool.make('Game2048-v1', env_type='gymnasium', num_envs=1).reset()"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_envpool_says_what_it_lacks():
    pytest.importorskip("envpool")
    with pytest.raises(RequestError, match="EnvPool has no 'GridWorld-v0'"):
        make("GridWorld-v0", backend="envpool")
    with pytest.raises(RequestError, match="does not know all of colour"):
        make("CartPole-v1", backend="envpool", env_kwargs={"colour": 1})


@pytest.mark.filterwarnings("ignore:.*Humanoid-v4 is out of date")
@pytest.mark.parametrize("env_id", ["Humanoid-v4", "Humanoid-v5"])
def test_gymnasium_takes_a_model_from_any_folder_in_every_version(env_id, tmp_path, monkeypatch):
    pytest.importorskip("mujoco")
    model = (Path(gymnasium.__file__).parent / "envs/mujoco/assets/humanoid.xml").read_text()
    (tmp_path / "heavy.xml").write_text(re.sub(r"<option ", '<option gravity="0 0 -19.62" ', model))
    (tmp_path / "broken.xml").write_text("<mujoco")
    monkeypatch.chdir(tmp_path)
    heights = {}
    for xml_file in (None, "humanoid.xml", "heavy.xml", str(tmp_path / "heavy.xml")):
        kwargs = {"terminate_when_unhealthy": False} | ({} if xml_file is None else {"xml_file": xml_file})
        env = make(env_id, backend="gymnasium", env_kwargs=kwargs)
        assert env.spec.obs_size == {"Humanoid-v4": 376, "Humanoid-v5": 348}[env_id]
        env.reset(0)
        heights[xml_file] = float([env.step(np.zeros((1, 17), np.float32)) for _ in range(9)][-1].next_obs[0, 0])
        env.close()
    assert heights[None] == heights["humanoid.xml"]
    assert env_kwargs_of(["xml_file=heavy.xml", "clip=none.txt"]) == {
        "xml_file": str(tmp_path / "heavy.xml"), "clip": "none.txt"}  # fmt: skip
    assert heights[str(tmp_path / "heavy.xml")] == heights["heavy.xml"] < heights[None] - 0.01
    packaged = make(f"gymnasium.envs.mujoco:{env_id}", backend="gymnasium", env_kwargs={"xml_file": "heavy.xml"})
    assert packaged.spec.obs_size == env.spec.obs_size
    packaged.close()
    with pytest.raises(RequestError, match=r"no model .*missing.xml: mend --env-kwargs xml_file"):
        make(env_id, backend="gymnasium", env_kwargs={"xml_file": "missing.xml"})
    with pytest.raises(RequestError, match="cannot be simulated on that xml_file"):
        make(env_id, backend="gymnasium", env_kwargs={"xml_file": "broken.xml"})


def test_envpool_takes_a_model_from_any_folder_and_computes_contact_forces(tmp_path, monkeypatch):
    pytest.importorskip("envpool")
    from menura.environments.host import import_envpool

    models = Path(import_envpool().make_spec("Humanoid-v4").config.base_path) / "mujoco" / "assets_gym"
    model = (models / "humanoid.xml").read_text()
    # Twice the gravity: it must be this file that is simulated, also where its path is relative.
    (tmp_path / "heavy.xml").write_text(re.sub(r"<option ", '<option gravity="0 0 -19.62" ', model))
    monkeypatch.chdir(tmp_path)
    heights = {}
    for xml_file in ("humanoid.xml", "heavy.xml", str(tmp_path / "heavy.xml")):
        env = make(
            "Humanoid-v4", backend="envpool", env_kwargs={"xml_file": xml_file, "terminate_when_unhealthy": False}
        )
        env.reset(0)
        steps = [env.step(np.zeros((1, 17), np.float32)) for _ in range(30)]
        heights[xml_file] = float(steps[8].next_obs[0, 0])
        assert np.any(steps[-1].next_obs[0, -84:] != 0)
    assert heights[str(tmp_path / "heavy.xml")] == heights["heavy.xml"] < heights["humanoid.xml"] - 0.01
    with pytest.raises(RequestError, match=r"no model .*missing.xml: mend --env-kwargs xml_file"):
        make("Humanoid-v4", backend="envpool", env_kwargs={"xml_file": "missing.xml"})


def test_envpool_is_asked_for_where_it_is_missing(monkeypatch):
    monkeypatch.setattr("menura.environments.host.envpool_is_installed", lambda: False)
    with pytest.raises(RequestError, match="not installed"):
        make("CartPole-v1", backend="envpool")
    assert make("MountainCarContinuous-v0").backend == "gymnasium"


def test_listed_environments_name_their_backends_the_preferred_one_first():
    known = list_envs()
    assert known["CartPole-v1"][0] == "jax"
    assert known["CartPole-v1"][-1] == "gymnasium"
    assert known["probe/Echo"] == ("jax",)
    assert "Hopper-v5" in known
    assert "GymV21Environment-v0" not in known
    assert list(known) == sorted(known)


def test_gymnasium_is_not_imported_before_it_is_needed():
    code = "import sys, menura.environments as e; e.make('CartPole-v1'); assert 'gymnasium' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_examples_of_the_documentation_run(repository, monkeypatch):
    text = (repository / "docs" / "environments.md").read_text(encoding="utf-8")
    examples = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert len(examples) >= 2
    for example in examples:
        # Classes find the types of their fields in the module they say they are from.
        module = types.ModuleType("example")
        monkeypatch.setitem(sys.modules, "example", module)
        exec(compile(example, "docs/environments.md", "exec"), module.__dict__)
