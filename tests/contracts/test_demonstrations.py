"""Demonstrations in memory: what is kept, what is dropped, what is refused."""

import dataclasses

import numpy as np
import pytest

from menura.core import BoxActions, DiscreteActions, RequestError, Spec
from menura.demonstrations import Demonstrations, Episode, load, save
from menura.run.request import spec_of_demos

BOX = Spec(3, BoxActions((-1.0, -2.0), (1.0, 2.0)))
DISCRETE = Spec(4, DiscreteActions(3))


def box_episode(steps: int, *, terminated: bool = False, final: bool = True, first: float = 0.0) -> Episode:
    """Observation row t is ``first + t``, so a successor can be told from its observation."""
    obs = (first + np.arange(steps + final, dtype=np.float32))[:, None] * np.ones(3, np.float32)
    actions = np.stack([np.linspace(-1, 1, steps), np.linspace(2, -2, steps)], axis=1).astype(np.float32)
    return Episode(obs, actions, np.arange(steps, dtype=np.float32), terminated, steps)


def demos_of(*episodes: Episode) -> Demonstrations:
    return Demonstrations(tuple(episodes), source="toy.npz", expert_return=7.0)


def test_returns_lengths_and_counts_are_those_of_the_episodes():
    demos = demos_of(box_episode(4), box_episode(3))
    assert len(demos) == 2
    assert demos.num_steps == demos.num_transitions == 7
    np.testing.assert_allclose(demos.returns, [0 + 1 + 2 + 3, 0 + 1 + 2])
    np.testing.assert_array_equal(demos.lengths, [4, 3])


def test_flatten_gives_the_true_successor_and_marks_only_the_last_step():
    flat = demos_of(box_episode(2, terminated=True), box_episode(3, first=10)).flatten(BOX)
    np.testing.assert_allclose(flat.obs[:, 0], [0, 1, 10, 11, 12])
    np.testing.assert_allclose(flat.next_obs[:, 0], [1, 2, 11, 12, 13])
    np.testing.assert_array_equal(flat.terminated, [False, True, False, False, False])
    np.testing.assert_array_equal(flat.truncated, [False, False, False, False, True])
    np.testing.assert_allclose(flat.reward, [0, 1, 0, 1, 2])
    np.testing.assert_allclose(flat.log_prob, np.zeros(5))
    assert flat.action.dtype == flat.obs.dtype == np.float32


def test_truncated_episodes_without_final_obs_lose_their_last_step():
    demos = demos_of(box_episode(3, final=False), box_episode(3, final=True))
    flat = demos.flatten(BOX)
    assert demos.num_dropped == 1
    assert len(flat.reward) == demos.num_transitions == 5
    np.testing.assert_allclose(flat.obs[:, 0], [0, 1, 0, 1, 2])
    np.testing.assert_array_equal(flat.truncated, [False, False, False, False, True])


def test_terminated_episodes_without_final_obs_keep_their_last_step():
    demos = demos_of(box_episode(3, terminated=True, final=False))
    flat = demos.flatten(BOX)
    assert demos.num_dropped == 0
    np.testing.assert_array_equal(flat.terminated, [False, False, True])
    np.testing.assert_allclose(flat.next_obs[:2, 0], [1, 2])


def test_integer_observations_become_one_hot():
    episode = Episode(np.array([0, 2, 3]), np.array([1, 2]), None, True, 2)
    flat = demos_of(episode).flatten(DISCRETE)
    np.testing.assert_array_equal(flat.obs, [[1, 0, 0, 0], [0, 0, 1, 0]])
    np.testing.assert_array_equal(flat.next_obs, [[0, 0, 1, 0], [0, 0, 0, 1]])
    np.testing.assert_array_equal(flat.action, [1, 2])
    assert flat.action.dtype == np.int32
    np.testing.assert_array_equal(flat.reward, [0, 0])


def test_discrete_actions_may_be_stored_as_whole_floats_in_a_column():
    episode = Episode(np.zeros((3, 4)), np.array([[1.0], [2.0]]), None, True, 2)
    demos = demos_of(episode)
    demos.check(DISCRETE)
    np.testing.assert_array_equal(demos.flatten(DISCRETE).action, [1, 2])


def test_take_keeps_the_first_and_says_how_many_there_are():
    demos = demos_of(box_episode(2), box_episode(3), box_episode(4))
    np.testing.assert_array_equal(demos.take(2).lengths, [2, 3])
    assert demos.take(1).expert_return == 7.0
    with pytest.raises(RequestError, match=r"toy\.npz has 3 episodes.*num_demos = 4"):
        demos.take(4)
    with pytest.raises(RequestError, match="must lie in"):
        demos.take(0)


def test_subsample_keeps_every_kth_step_from_an_offset_below_k():
    demos = demos_of(*(box_episode(20) for _ in range(200))).subsample(every=5, seed=3)
    offsets = np.array([kept[0] for kept in demos.kept])
    assert set(offsets) == {0, 1, 2, 3, 4}
    for kept in demos.kept:
        np.testing.assert_array_equal(kept, np.arange(kept[0], 20, 5))
    assert demos.num_transitions == 200 * 4


def test_subsample_is_decided_by_its_seed():
    demos = demos_of(*(box_episode(20) for _ in range(10)))
    same = [demos.subsample(every=7, seed=1).content_hash() for _ in range(2)]
    assert same[0] == same[1] != demos.subsample(every=7, seed=2).content_hash()


def test_subsampled_pairs_keep_their_own_successor():
    flat = demos_of(box_episode(21)).subsample(every=4).flatten(BOX)
    np.testing.assert_allclose(flat.next_obs, flat.obs + 1)


def test_subsample_refuses_to_leave_nothing():
    with pytest.raises(RequestError, match="leaves no step"):
        demos_of(box_episode(1)).subsample(every=1000, seed=0)
    with pytest.raises(RequestError, match="at least 1"):
        demos_of(box_episode(1)).subsample(every=0)


def test_split_divides_the_episodes_and_shares_none():
    demos = demos_of(*(box_episode(3, first=10 * i) for i in range(10)))
    train, heldout = demos.split(0.3, seed=0)
    assert (len(train), len(heldout)) == (7, 3)
    firsts = [{float(e.obs[0, 0]) for e in part.episodes} for part in (train, heldout)]
    assert not firsts[0] & firsts[1]
    assert firsts[0] | firsts[1] == {10.0 * i for i in range(10)}


def test_split_of_few_episodes_holds_out_a_run_of_neighbouring_steps():
    demos = demos_of(box_episode(100)).subsample(every=5)
    train, heldout = demos.split(0.25, seed=0)
    steps = heldout.kept[0]
    assert len(steps) == 5
    np.testing.assert_array_equal(np.diff(steps), 5)
    np.testing.assert_array_equal(np.sort(np.concatenate([train.kept[0], steps])), demos.kept[0])


def test_split_of_nothing_holds_out_no_rows():
    data = demos_of(box_episode(4)).expert_data(BOX, 0.0, 0)
    assert data.heldout.obs.shape == (0, 3)
    assert data.heldout.action.shape == (0, 2)
    assert data.train.obs.shape == (4, 3)
    empty = Demonstrations((Episode(np.array([0, 2, 3]), np.array([1, 2]), None, True, 2),)).expert_data(DISCRETE)
    assert empty.heldout.action.shape == (0,)


def test_split_refuses_impossible_fractions():
    demos = demos_of(box_episode(1, terminated=True))
    with pytest.raises(RequestError, match="below 1"):
        demos.split(1.0)
    with pytest.raises(RequestError, match="too few to hold any out"):
        demos.split(0.5)
    with pytest.raises(RequestError, match="needs at least 2"):
        demos.split(0.5, whole_episodes=True)


def test_shuffled_actions_are_the_same_ones_elsewhere():
    demos = demos_of(box_episode(30), box_episode(20, first=5))
    shuffled = demos.shuffle_actions(seed=0)
    before, after = demos.flatten(BOX), shuffled.flatten(BOX)
    np.testing.assert_array_equal(after.obs, before.obs)
    assert np.mean(np.all(after.action == before.action, axis=1)) < 0.2
    np.testing.assert_array_equal(np.sort(after.action, axis=0), np.sort(before.action, axis=0))


def test_shuffling_touches_only_the_kept_steps():
    demos = demos_of(box_episode(30)).subsample(every=3)
    shuffled = demos.shuffle_actions(seed=0)
    others = np.setdiff1d(np.arange(30), demos.kept[0])
    np.testing.assert_array_equal(shuffled.episodes[0].actions[others], demos.episodes[0].actions[others])
    assert not np.array_equal(shuffled.flatten(BOX).action, demos.flatten(BOX).action)


def test_content_hash_follows_the_numbers_and_not_how_they_are_stored():
    demos = demos_of(box_episode(4))
    wide = dataclasses.replace(demos.episodes[0], obs=demos.episodes[0].obs.astype(np.float64))
    assert demos_of(wide).content_hash() == demos.content_hash()
    changed = demos.episodes[0].obs.copy()
    changed[2, 1] += 1e-3
    assert demos_of(dataclasses.replace(wide, obs=changed)).content_hash() != demos.content_hash()
    assert demos_of(dataclasses.replace(wide, terminated=True)).content_hash() != demos.content_hash()


def test_ends_by_termination_asks_the_majority():
    assert demos_of(
        box_episode(2, terminated=True), box_episode(2, terminated=True), box_episode(2)
    ).ends_by_termination
    assert not demos_of(box_episode(2, terminated=True), box_episode(2)).ends_by_termination


def test_states_alone_are_valid_but_give_no_expert():
    demos = demos_of(Episode(np.zeros((3, 3)), None, None, False, 2))
    demos.check(BOX)
    assert np.isnan(demos.returns[0])
    with pytest.raises(RequestError, match="holds no actions"):
        demos.flatten(BOX)


def test_printing_shows_sizes_and_not_arrays():
    assert repr(demos_of(box_episode(4))) == "Demonstrations(1 episodes, 4 transitions, from 'toy.npz')"


def broken(field: str, change) -> Demonstrations:
    """Two episodes, the second with one field changed."""
    episode = box_episode(4)
    array = getattr(episode, field).astype(np.float64)
    return demos_of(box_episode(3), dataclasses.replace(episode, **{field: change(array)}))


def put(index, value):
    def change(array):
        array[index] = value
        return array

    return change


@pytest.mark.parametrize(
    ("field", "change", "message"),
    [
        ("obs", put((2, 1), np.nan), r"toy\.npz, episode 1, step 2: observations\[1\] is nan"),
        ("actions", put((3, 0), np.inf), r"toy\.npz, episode 1, step 3: actions\[0\] is inf"),
        ("rewards", put(1, -np.inf), r"toy\.npz, episode 1, step 1: rewards is -inf"),
        ("obs", put((0, 0), 1e300), r"episode 1, step 0: observations\[0\] is 1e\+300"),
        ("obs", lambda a: a[:3], "episode 1: observations have 3 rows where 4 or 5 belong"),
        ("obs", lambda a: np.zeros(()), "episode 1: observations have 0 rows"),
        ("actions", lambda a: a[:3], "episode 1: actions have 3 rows where 4 belong"),
        ("rewards", lambda a: np.append(a, 0), "episode 1: rewards have 5 rows where 4 belong"),
        ("rewards", lambda a: a[:, None], "episode 1: rewards have shape"),
        ("obs", lambda a: a[:, :2], r"episode 1: observations have shape \(2,\), and \(3,\) in episode 0"),
        ("actions", lambda a: a.astype(str), "episode 1: actions are <U32, not numbers"),
        ("actions", lambda a: a.astype(object), "episode 1: actions are object, not numbers"),
        ("actions", lambda a: a.astype(complex), "episode 1: actions are complex128, not numbers"),
        ("actions", lambda a: None, "episode 1: actions are in some episodes and not in others"),
    ],
)
def test_check_names_source_episode_step_and_field(field, change, message):
    with pytest.raises(RequestError, match=message):
        broken(field, change).check()


def test_check_refuses_images_and_empty_sets():
    with pytest.raises(RequestError, match="as bytes .uint8., not as other numbers"):
        demos_of(Episode(np.zeros((3, 8, 8, 3)), np.zeros(2), None, True, 2)).check()
    with pytest.raises(RequestError, match="as bytes .uint8., not as other numbers"):
        demos_of(Episode(np.zeros((3, 8, 8), int), np.zeros(2), None, True, 2)).check()
    with pytest.raises(RequestError, match="no components"):
        demos_of(Episode(np.zeros((3, 0)), np.zeros(2), None, True, 2)).check()
    with pytest.raises(RequestError, match="holds no episodes"):
        demos_of().check()
    with pytest.raises(RequestError, match="has 0 steps"):
        demos_of(Episode(np.zeros((1, 3)), np.zeros((0, 2)), None, True, 0)).check()


def test_tables_of_real_numbers_are_read_row_after_row(tmp_path):
    table = np.arange(3 * 5 * 5, dtype=np.float32).reshape(3, 5, 5)
    save(demos_of(Episode(table, np.array([0, 4]), None, True, 2)), tmp_path / "drive.npz")
    demos, spec = load(tmp_path / "drive.npz"), Spec(25, DiscreteActions(5))
    demos.check(spec)
    np.testing.assert_array_equal(demos.flatten(spec).obs, table[:2].reshape(2, 25))
    assert spec_of_demos(demos) == spec


def test_check_against_an_environment_finds_the_wrong_one():
    good = demos_of(box_episode(4))
    good.check(BOX)
    with pytest.raises(RequestError, match="observations have 3 numbers and the environment's have 5"):
        good.check(Spec(5, BOX.actions))
    with pytest.raises(RequestError, match=r"episode 0: actions have shape \(2,\) and the environment takes one of 3"):
        good.check(Spec(3, DiscreteActions(3)))
    with pytest.raises(RequestError, match=r"episode 0: actions have shape \(2,\) and the environment takes 1 numbers"):
        good.check(Spec(3, BoxActions((-1.0,), (1.0,))))


def test_check_finds_actions_outside_the_bounds_but_forgives_rounding():
    episode = box_episode(4)
    actions = episode.actions.copy()
    actions[2, 0] = 1.0 + 1e-6
    demos_of(dataclasses.replace(episode, actions=actions)).check(BOX)
    actions[2, 0] = 1.25
    with pytest.raises(RequestError, match=r"toy\.npz, episode 0, step 2: actions\[0\] is 1\.25, outside .* -1 … 1"):
        demos_of(dataclasses.replace(episode, actions=actions)).check(BOX)
    demos_of(dataclasses.replace(episode, actions=actions)).check(Spec(3, BoxActions((-np.inf,) * 2, (np.inf,) * 2)))


@pytest.mark.parametrize("action", [3, -1, 0.5])
def test_check_finds_actions_that_do_not_exist(action):
    episode = Episode(np.zeros((3, 4)), np.array([0, action]), None, True, 2)
    with pytest.raises(RequestError, match=r"toy\.npz, episode 0, step 1: actions is .*, not one of 0 … 2"):
        demos_of(episode).check(DISCRETE)


def test_check_finds_states_that_do_not_exist():
    episode = Episode(np.array([0, 4, 1]), np.array([0, 1]), None, True, 2)
    with pytest.raises(RequestError, match="episode 0, step 1: observations is 4, outside 0 … 3"):
        demos_of(episode).check(DISCRETE)
