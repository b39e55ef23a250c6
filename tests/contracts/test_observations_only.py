"""GAIL from observations only: what it needs of demonstrations, and that it never looks at an action."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import menura
from menura.core import BoxActions, DiscreteActions, ExpertData, RequestError, Spec, Transition, flatten_time
from menura.demonstrations import Demonstrations, Episode, save
from menura.imitation.linear import LinearScore, seen
from menura.imitation.score import ScoreNetwork
from menura.networks import MLP
from menura.regularizers import FeatureExpectation, JensenShannon
from tests.cli.test_train import run
from tests.learners import SMALL, SPECS, VARIANTS, expert_data, random_transitions

BOX = Spec(1, BoxActions((-1.0,), (1.0,)))
ONLY = dataclasses.replace(SMALL["gail"], observations_only=True)
CASES = [("box", JensenShannon()), ("discrete", FeatureExpectation())]
REPLAYS = [("box", "gail-sac-standardized"), ("discrete", "gail-dqn")]


def counting(steps, first, *, terminated, final):
    """Row t observes ``first + t``: every successor is one more."""
    obs = (first + np.arange(steps + final, dtype=np.float32))[:, None]
    return Episode(obs, np.zeros((steps, 1), np.float32), np.ones(steps), terminated, steps)


def unknown(rows):
    """The same steps, with nothing that can be read where the actions were."""
    nothing = -1 if jnp.issubdtype(rows.action.dtype, jnp.integer) else jnp.nan
    return dataclasses.replace(rows, action=jnp.full_like(rows.action, nothing))


@pytest.mark.parametrize(("kind", "regularizer"), CASES, ids=lambda x: x if isinstance(x, str) else type(x).__name__)
def test_a_score_of_observations_only_never_sees_an_action(kind, regularizer):
    spec, gail = SPECS[kind], dataclasses.replace(ONLY, regularizer=regularizer, heldout_fraction=0.3)
    demos, rollout = expert_data(spec), random_transitions(spec, (8, 4))
    others = dataclasses.replace(rollout, action=rollout.action[::-1])
    state = gail.init(spec, key=jax.random.key(0))

    @jax.jit
    def learned(demos, rollout, seen_by_score):
        score, opt_state, metrics = gail._improve_score(state, seen_by_score, demos, jax.random.key(1))
        after = dataclasses.replace(state, score=score, opt_state=opt_state)
        new, more = gail.update(state, rollout, demos, key=jax.random.key(2))
        return (score, opt_state, metrics, gail.reward(after, seen_by_score)), (new, more)

    of_score, whole = learned(demos, rollout, rollout)
    blind = ExpertData(unknown(demos.train), unknown(demos.heldout))
    of_score_blind, whole_blind = learned(blind, rollout, others)
    for a, b in zip(jax.tree.leaves((of_score, whole)), jax.tree.leaves((of_score_blind, whole_blind)), strict=True):
        np.testing.assert_array_equal(a, b)
    # It does see what came next.
    moved = dataclasses.replace(rollout, next_obs=rollout.next_obs + 1)
    assert not np.allclose(of_score[3], learned(demos, rollout, moved)[0][3])


@pytest.mark.parametrize(("kind", "name"), REPLAYS)
def test_a_score_that_is_told_the_expert_from_a_replay_never_sees_an_action_either(kind, name):
    """The values do see the learner's own actions, and nothing sees the expert's."""
    spec = SPECS[kind]
    gail = dataclasses.replace(VARIANTS[name], observations_only=True, bc_updates=0)
    demos, rollout = expert_data(spec), random_transitions(spec, (8, 4))
    blind = ExpertData(unknown(demos.train), unknown(demos.heldout))
    state = gail.init(spec, key=jax.random.key(0))

    @jax.jit
    def learned(demos, rollout):
        stored = dataclasses.replace(state, forward=gail.forward.store(state.forward, rollout))
        score = gail._improve_score(stored, rollout, demos, jax.random.key(1))[0]
        paid, _, _ = gail._reward_from_replay(
            gail.forward, dataclasses.replace(stored, score=score), demos, jax.random.key(2)
        )
        return (score, jax.vmap(paid)(flatten_time(rollout))), gail.update(state, rollout, demos, key=jax.random.key(3))

    of_score, whole = learned(demos, rollout)
    others = dataclasses.replace(rollout, action=rollout.action[::-1])
    of_score_blind, whole_blind = learned(blind, rollout)
    same = [(of_score, of_score_blind), (whole, whole_blind), (of_score, learned(blind, others)[0])]
    for one, other in same:
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_change_is_measured_in_the_experts_by_hand():
    spec = Spec(2, DiscreteActions(3))
    score = ScoreNetwork(spec, (4,), activation="tanh", key=jax.random.key(0), make_network=MLP, observations_only=True)
    obs, successor = jnp.array([[0.0, 1.0], [2.0, 1.0]]), jnp.array([[1.0, 1.0], [5.0, 2.0]])
    unknown = jnp.zeros(2)
    rows = Transition(obs, unknown, unknown, successor, unknown > 0, unknown > 0, unknown)
    score = score.standardized_by(ExpertData(rows, rows), rows)
    # Observations: means 1 and 1, deviations 1 and 0. Changes are (1, 0) and (3, 1): means 2 and ½, deviations 1 and ½.
    got = score.features(jnp.array([3.0, 1.5]), jnp.array([6.0, 1.0]))
    np.testing.assert_allclose(got, [2.0, 0.5, 1.0, -2.0], rtol=1e-5)
    linear = LinearScore(spec, observations_only=True)
    assert linear.features(obs[0], successor[0]).shape == linear.weights.shape == (9,)


def test_subsampled_pairs_keep_their_own_successors_also_where_episodes_end():
    episodes = (
        counting(7, 0, terminated=True, final=True),
        counting(7, 100, terminated=False, final=True),
        counting(7, 200, terminated=True, final=False),
        counting(7, 300, terminated=False, final=False),
    )
    demos = Demonstrations(episodes).without_actions()
    # Without a final observation the last step says nothing, however the episode ended.
    assert (demos.num_transitions, demos.num_dropped) == (26, 2)
    for chosen in (demos, demos.subsample(every=3, seed=1)):
        rows = chosen.flatten(BOX, with_actions=False)
        obs, successor = seen(rows, observations_only=True)
        np.testing.assert_array_equal(successor, obs + 1)
        assert np.isnan(rows.action).all()
    rows = demos.flatten(BOX, with_actions=False)
    assert {7.0, 107.0} <= set(rows.next_obs[:, 0].tolist())
    assert rows.terminated.sum() == rows.truncated.sum() == 1
    with pytest.raises(RequestError, match="holds no actions.*--observations-only"):
        demos.flatten(BOX)


@pytest.fixture(scope="module")
def silent(tmp_path_factory, demos):
    """The same episodes on file, as states alone."""
    path = tmp_path_factory.mktemp("silent") / "states.npz"
    save(menura.load(demos).without_actions(), path)
    assert "actions" not in np.load(path).files
    return path


TINY = [
    "--total-steps", "128", "--num-envs", "4", "--forward.num-steps", "16", "--forward.hidden-sizes", "8",
    "--forward.value-epochs", "1", "--eval-every", "0", "--reward-form", "positive", "--logger", "csv",
]  # fmt: skip


def test_demonstrations_without_actions_train_to_the_numbers_of_those_with_them(silent, demos, capsys, tmp_path):
    metrics = []
    for path in (silent, demos):
        code, out, err = run(
            capsys, "train", "gail", "CartPole-v1", "--demos", path, "--observations-only", *TINY, "--out", tmp_path
        )
        assert code == 0, err
        folder = tmp_path / out.strip().splitlines()[-1]
        assert json.loads((folder / "config.json").read_text())["learner"]["observations_only"] is True
        header, *rows = [line.split(",") for line in (folder / "metrics.csv").read_text().splitlines()]
        kept = [i for i, name in enumerate(header) if "seconds" not in name]
        metrics.append([[row[i] for i in kept] for row in rows])
    assert metrics[0] == metrics[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["bc", "CartPole-v1"], "holds no actions"),
        (["gail", "CartPole-v1"], "--observations-only"),
        (["gail", "CartPole-v1", "--observations-only", "--shuffle-actions"], "leave out --shuffle-actions"),
    ],
)
def test_other_learners_refuse_them_in_one_sentence(silent, arguments, words, capsys, tmp_path):
    code, out, err = run(capsys, "train", *arguments, "--demos", silent, "--out", tmp_path / "none")
    assert (code, out, len(err.strip().splitlines())) == (2, "", 1)
    assert words in err
    assert not (tmp_path / "none").exists()
