"""Apprenticeship learning: projections by hand, exact weights, equal occupancies, and what its page says."""

import contextlib
import io
import re
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from menura.core import RequestError
from menura.environments.tabular import TabularMDP
from menura.irl import Paths, fit
from menura.irl.apprenticeship import closest_mixture, fit_mixture, project_on_line
from menura.irl.estimate import policy_of
from menura.irl.greedy import hard_planners
from menura.irl.objective import make_problem
from menura.irl.policy_mixture import PolicyMixture

KINDS = {
    "horizon": dict(horizon=7),
    "horizon and discount": dict(horizon=7, discount=0.8),
    "discount": dict(discount=0.8),
    "discount and terminal": dict(discount=0.8, terminal=[5]),
    "terminal": dict(terminal=[5]),
}


def two_states(**settings):
    """Action 0 stays and action 1 moves to the other state; features count the states."""
    return TabularMDP.from_transitions(
        [0, 0, 1, 1], [0, 1, 0, 1], [0, 1, 1, 0], np.ones(4), state_features=np.eye(2), **settings
    )


def random_problem(seed, *, certain=False, **settings):
    """Six states and three actions; from every state every other can be reached."""
    rng = np.random.default_rng(seed)
    if certain:
        table = np.eye(6)[(np.arange(6)[:, None] + np.array([1, 2, 5])) % 6]
    else:
        table = rng.dirichlet(np.full(6, 0.5), size=(6, 3))
    initial = np.array([0.5, 0.5, 0, 0, 0, 0])
    return TabularMDP.from_dense(table, state_action_features=rng.normal(size=(6, 3, 3)), initial=initial, **settings)


def wanderings(mdp, number, seed, limit):
    """Paths of the uniform policy that end in the terminal state, or after so many steps."""
    rng = np.random.default_rng(seed)
    states, actions = [], []
    while len(states) < number:
        path, taken = [int(rng.choice(6, p=mdp.initial))], []
        while len(taken) < limit and path[-1] not in (() if mdp.terminal is None else mdp.terminal):
            taken.append(int(rng.integers(3)))
            outcomes = (mdp.state == path[-1]) & (mdp.action == taken[-1])
            path.append(int(rng.choice(mdp.next_state[outcomes], p=mdp.probability[outcomes])))
        if mdp.horizon is not None or mdp.terminal is None or path[-1] in mdp.terminal:
            states.append(path)
            actions.append(taken)
    return Paths.from_lists(states, actions)


@pytest.mark.parametrize("projection", ["hull", "line"])
def test_two_states_by_hand(projection):
    steps = 60  # what a discount of one half leaves after that is below rounding
    demos = Paths.from_lists([[0] * steps, [0] + [1] * (steps - 1)], [[0] * steps, [1] + [0] * (steps - 1)])
    mixture = fit_mixture(two_states(discount=0.5), demos, projection=projection, tolerance=1e-12)
    root = np.sqrt(0.5)
    assert_allclose(mixture.expert_features, [1.5, 0.5])
    assert_allclose(mixture.features, [[2, 0], [1, 1]])
    assert_allclose(mixture.thetas, [[0, 0], [-root, root]], atol=1e-12)
    assert_allclose(mixture.margins, [root, 0], atol=1e-12)
    assert_allclose(mixture.weights, [0.5, 0.5])
    assert mixture.policies.tolist() == [[[[0, 0]]], [[[1, 0]]]]
    # State 0 is left ½·2 + ½·1 times, of these ½·1 by moving; the pairs are (0, stay), (0, move), (1, stay), (1, move).
    assert_allclose(mixture.single_policy(), [[[2 / 3, 1 / 3, 1, 0]]])
    assert_allclose(mixture.occupancy(), [[[1, 0.5, 0.5, 0]]])


def test_two_states_with_a_horizon_by_hand():
    demos = Paths.from_lists([[0, 0, 1], [0, 1, 1]], [[0, 1, 0], [1, 0, 0]])
    mixture = fit_mixture(two_states(horizon=3), demos)
    # One demonstration leaves state 1 once, the other twice. Staying earns 0 of it, moving at once 2.
    assert_allclose(mixture.expert_features, [1.5, 1.5])
    assert_allclose(mixture.features, [[3, 0], [1, 2]])
    assert_allclose(mixture.weights, [0.25, 0.75])
    assert_allclose(mixture.single_policy()[0, 0, :2], [0.25, 0.75])
    # Who has not moved at once never will: the single policy knows that from the state.
    assert_allclose(mixture.single_policy()[0, 1], [1, 0, 1, 0])


def test_the_projection_is_that_of_a_triangle():
    # From (0, 0) towards (2, 0), the nearest point to (1, 5) is (1, 0); to (9, 5) it is the end, to (-3, 5) the start.
    for expert, nearest in (([1.0, 5.0], 1.0), ([9.0, 5.0], 2.0), ([-3.0, 5.0], 0.0)):
        assert_allclose(project_on_line(np.zeros(2), np.array([2.0, 0.0]), np.array(expert)), [nearest, 0])
    assert_allclose(project_on_line(np.ones(2), np.ones(2), np.zeros(2)), 1)


def test_the_closest_mixture_meets_the_conditions_of_its_program(rng):
    for _ in range(200):
        size, number = rng.integers(1, 6), rng.integers(1, 15)
        features = rng.normal(size=(number, size)).round(1)
        features = np.concatenate([features, features[rng.integers(number, size=3)]])  # some twice
        expert = rng.normal(size=size) if rng.random() < 0.5 else rng.dirichlet(np.ones(len(features))) @ features
        weights = closest_mixture(features, expert)
        assert (weights >= 0).all()
        assert_allclose(weights.sum(), 1, rtol=1e-12)
        assert (weights > 0).sum() <= size + 1
        gap = weights @ features - expert
        ahead = (features - expert) @ gap
        assert_allclose(ahead[weights > 0], gap @ gap, atol=1e-11)
        assert ahead.min() >= gap @ gap - 1e-11


def test_the_closest_mixture_goes_on_from_an_earlier_one(rng):
    features, expert = rng.normal(size=(12, 4)), np.zeros(4)
    early = closest_mixture(features[:8], expert)
    assert_allclose(closest_mixture(features, expert, early), closest_mixture(features, expert), atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_mixture_earns_what_a_policy_of_the_problem_earns(kind, seed):
    settings = KINDS[kind]
    mdp = random_problem(seed, **settings)
    demos = wanderings(mdp, 400, seed, 7 if "horizon" in settings else 60)
    mixture = fit_mixture(mdp, demos, tolerance=1e-9)
    assert mixture.converged
    assert mixture.lower_bound < 1e-12
    assert_allclose(mixture.learner_features, mixture.expert_features, atol=1e-9)
    assert len(mixture.weights) <= mdp.num_features + 1
    # So for every reward, the expert's own among them, the mixture earns as much.
    for theta in np.random.default_rng(seed).normal(size=(5, 3)):
        missed = abs(theta @ mixture.learner_features - theta @ mixture.expert_features)
        assert missed <= np.linalg.norm(theta) * mixture.distance + 1e-12


@pytest.mark.parametrize("kind", KINDS)
def test_the_single_policy_has_the_occupancy_of_the_mixture(kind):
    mdp = random_problem(3, **KINDS[kind])
    mixture = fit_mixture(mdp, wanderings(mdp, 50, 3, 7 if "horizon" in KINDS[kind] else 60))
    (planner,) = hard_planners(make_problem(mdp, mixture.paths, "mce"))
    (single,), (mixed,) = mixture.single_policy(), mixture.occupancy()
    assert len(mixture.weights) > 1
    assert_allclose(planner.choices.sum_by_state(single.T)[planner.choices.acting], 1, rtol=1e-12)
    rows = single if planner.horizon is not None else np.repeat(single, planner.num_rows, axis=0)
    assert_allclose(planner.occupancy(rows), mixed, atol=1e-12)
    assert_allclose(planner.choices.features.pull_back(mixed.sum(axis=0)), mixture.learner_features, atol=1e-12)


def test_drawing_a_policy_an_episode_earns_the_features_of_the_mixture(rng):
    mdp = random_problem(4, horizon=5)
    mixture = fit_mixture(mdp, wanderings(mdp, 50, 4, 5))
    total, number = np.zeros(3), 1000
    for _ in range(number):
        policy = mixture.draw(rng)[0]
        state = rng.choice(6, p=mdp.initial)
        for row in policy:
            pair = 3 * state + row[state]
            total += mdp.pair_features[pair]
            outcomes = mdp.transition_pair == pair
            state = rng.choice(mdp.next_state[outcomes], p=mdp.probability[outcomes])
    assert_allclose(total / number, mixture.learner_features, atol=0.3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("certain", [False, True])
def test_no_deterministic_policy_is_better_than_the_planned_one(kind, certain):
    mdp = random_problem(5, certain=certain, **KINDS[kind])
    demos = wanderings(mdp, 5, 5, 7 if "horizon" in KINDS[kind] else 60)
    (planner,) = hard_planners(make_problem(mdp, demos, "mce"))
    rng = np.random.default_rng(5)
    reward = rng.normal(size=mdp.num_pairs)
    earn = lambda rows: planner.occupancy(planner.chances(row) for row in rows).sum(axis=0) @ reward  # noqa: E731
    best = planner.best(reward)
    most = earn(best)
    for _ in range(50):
        other = best.copy()
        for _ in range(rng.integers(1, 4)):
            # Where paths go on until they end, the last row is the way out, which is not free.
            row = rng.integers(planner.steps or 1)
            state = rng.choice(np.flatnonzero(best[row] >= 0))
            other[row, state] = rng.choice(np.flatnonzero(mdp.pair_state == state))
        assert earn(other) <= most + 1e-12


def test_margins_never_rise_and_reach_the_tolerance():
    mdp = random_problem(6, discount=0.9)
    demos = wanderings(mdp, 300, 6, 150)
    rounds = {}
    for projection in ("hull", "line"):
        mixture = fit_mixture(mdp, demos, projection=projection, tolerance=1e-3)
        assert (np.diff(mixture.margins) <= 1e-12).all()
        assert (mixture.margins[:-1] > 1e-3).all()
        assert mixture.margins[-1] <= 1e-3
        assert mixture.distance <= mixture.margins[-1] + 1e-12
        rounds[projection] = len(mixture.margins)
    assert rounds["hull"] < rounds["line"]


def test_where_no_policy_matches_the_distance_is_proved():
    # The demonstration slipped through at once; any policy must try 1 / 0.25 times on average.
    mdp = TabularMDP.from_transitions([0, 0], [0, 0], [0, 1], [0.75, 0.25], state_features=[[1.0], [0.0]], terminal=[1])
    mixture = fit_mixture(mdp, Paths.from_lists([[0, 1]], [[0]]))
    assert_allclose([mixture.distance, mixture.lower_bound], 3, rtol=1e-12)
    assert mixture.converged
    assert "No policy earns" in mixture.warnings[0]


def test_certain_outcomes_are_always_matched_even_where_going_on_pays():
    # Long detours: what is missing after the first policies is steps, and such a reward pays for never ending.
    mdp = random_problem(7, certain=True, terminal=[5]).replace(initial=None)
    demos = wanderings(mdp.replace(initial=[1.0, 0, 0, 0, 0, 0]), 8, 7, 40)
    mdp = mdp.replace(pair_features=None, state_features=np.eye(6), feature_names=None)
    mixture = fit_mixture(mdp, demos)
    assert mixture.lower_bound == 0
    assert mixture.distance < 1e-9
    assert mixture.policies.shape[2] == demos.lengths.max() + 1
    assert_allclose(mixture.single_policy().sum(), 5, rtol=1e-12)


def test_every_policy_is_best_for_no_reward_and_the_mixture_still_matches():
    mdp = random_problem(8, horizon=7)
    demos = wanderings(mdp, 100, 8, 7)
    (planner,) = hard_planners(make_problem(mdp, demos, "mce"))
    mixture = fit_mixture(mdp, demos)
    assert not mixture.thetas[0].any()
    # θ = 0 explains anything: the policy planned for it takes the first action everywhere, far from the expert.
    assert (mdp.pair_action[planner.best(np.zeros(mdp.num_pairs))] == 0).all()
    assert mixture.margins[0] > 0.5
    assert mixture.distance < 1e-9
    # And the last θ is no estimate of the reward: alone, its best policy is as far from matching as others.
    alone = np.linalg.norm(mixture.features - mixture.expert_features, axis=1)
    assert alone.min() > 0.1


def test_each_goal_has_its_own_part_of_a_policy():
    mdp = random_problem(9, certain=True)
    mdp = mdp.replace(initial=None)
    demos = Paths.from_lists([[0, 1, 3, 4], [0, 2], [3, 4, 3, 2]], [[0, 1, 0], [1], [0, 2, 2]], goals=[4, 2, 2])
    mixture = fit_mixture(mdp, demos)
    assert mixture.distance < 1e-9
    assert mixture.policies.shape[1:] == (2, 4, 6)
    # In rising order: goal 2 takes no action in state 2, goal 4 none in state 4.
    assert (mixture.policies[:, [0, 1], :, [2, 4]] == -1).all()
    assert (mixture.policies[:, [0, 1], :, [4, 2]] >= 0).all()
    planners = hard_planners(make_problem(mdp, demos, "mce"))
    for planner, single, mixed in zip(planners, mixture.single_policy(), mixture.occupancy(), strict=True):
        assert_allclose(planner.occupancy(np.repeat(single, planner.num_rows, axis=0)), mixed, atol=1e-12)


def test_a_start_that_cannot_end_is_refused():
    mdp = TabularMDP.from_transitions(
        [0, 2], [0, 0], [1, 2], [1.0, 1.0], num_states=3, initial=[0.5, 0, 0.5], terminal=[1]
    )
    with pytest.raises(RequestError, match="begin in state 2, from which no policy can surely go on or end"):
        fit_mixture(mdp, Paths.from_lists([[0, 1]], [[0]]))


def test_larger_problems_take_iterative_solves():
    rng = np.random.default_rng(10)
    size = 400
    state = np.repeat(np.arange(size), 6)
    action = np.tile([0, 0, 0, 1, 1, 1], size)
    next_state = (state + rng.choice([-7, -1, 1, 13, 40], size=len(state))) % size
    mdp = TabularMDP.from_transitions(
        state, action, next_state, np.full(len(state), 1 / 3), discount=0.99,
        state_features=rng.normal(size=(size, 2)), initial=np.eye(size)[0],
    )  # fmt: skip
    demos = Paths.from_lists([[0]], [[0]])
    problem = make_problem(mdp, demos, "mce")
    (planner,) = hard_planners(problem)
    reward = problem.choices.reward(np.array([1.0, -0.5]))
    value = np.zeros(size)
    for _ in range(2000):
        value = problem.choices.max_by_state(reward + 0.99 * problem.choices.expect(value))
    got = planner.occupancy([planner.chances(planner.best(reward)[0])])[0] @ reward
    assert_allclose(got, value[0], rtol=1e-7)


@pytest.mark.parametrize("kind", ["horizon", "discount", "terminal"])
def test_a_saved_mixture_is_read_back(tmp_path, kind):
    mdp = random_problem(11, **KINDS[kind])
    mixture = fit_mixture(mdp, wanderings(mdp, 30, 11, 7 if kind == "horizon" else 60))
    mixture.save(tmp_path / "mixture")
    read = PolicyMixture.load(tmp_path / "mixture")
    assert read.to_json() == mixture.to_json()
    np.testing.assert_array_equal(read.policies, mixture.policies)
    # The file of the problem divides probabilities by their sums once more.
    assert_allclose(read.single_policy(), mixture.single_policy(), rtol=1e-12, atol=1e-15)
    with np.load(tmp_path / "mixture" / "mixture.npz", allow_pickle=False) as file:
        np.testing.assert_array_equal(file["single_policy"], mixture.single_policy())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (dict(weights=None), "has no weights"),
        (dict(weights=np.array([2.0, -1.0])), "weights are not probabilities"),
        (dict(rounds=np.array([0, 9])), "names a round that is not there"),
        (dict(thetas=np.full((2, 2), np.nan)), "thetas must be"),
        (dict(policies=np.full((2, 1, 1, 2), 5)), "action that its state does not offer"),
        (dict(policies=np.zeros((2, 1, 3, 2), int)), "policies must be"),
    ],
)
def test_a_damaged_mixture_is_refused(tmp_path, change, sentence):
    demos = Paths.from_lists([[0] * 60, [0] + [1] * 59], [[0] * 60, [1] + [0] * 59])
    fit_mixture(two_states(discount=0.5), demos).save(tmp_path / "m")
    with np.load(tmp_path / "m" / "mixture.npz") as file:
        arrays = {**file, **change}
    np.savez(tmp_path / "m" / "mixture.npz", **{name: value for name, value in arrays.items() if value is not None})
    with pytest.raises(RequestError, match=sentence):
        PolicyMixture.load(tmp_path / "m")


def page(repository):
    return (repository / "docs" / "irl" / "apprenticeship.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """The example of the page, run once in a folder of its own: its names, and what it ``printed``."""
    text = page(Path(__file__).parents[2])
    names, printed = {}, io.StringIO()
    with contextlib.chdir(tmp_path_factory.mktemp("example")), contextlib.redirect_stdout(printed):
        exec(re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0], names)
    return {**names, "printed": printed.getvalue()}


def test_the_example_prints_what_its_page_says(repository, example):
    (said,) = re.findall(r"```text\n(.*?)```", page(repository), re.DOTALL)
    assert example["printed"] == said


def test_the_line_takes_as_many_rounds_as_the_page_says(repository, example):
    line = fit_mixture(example["mdp"], example["demos"], projection="line")
    text = " ".join(page(repository).split())
    assert f"takes {len(line.margins)} for a margin of 10⁻⁶" in text
    assert f"it takes {len(example['mixture'].margins)}, and the line" in text


def test_maximum_entropy_gives_what_was_done_a_probability_and_the_mixture_need_not(example):
    mixture, soft = example["mixture"], example["soft"]
    assert_allclose(mixture.learner_features, soft.learner_features, atol=1e-8)
    plan = policy_of(make_problem(example["mdp"], example["demos"], "mce"), soft.theta)
    taken = example["mdp"].pair_index(example["demos"].states, example["demos"].actions)
    assert (np.exp(plan.log_policy[taken]) > 0).all()
    assert (mixture.single_policy()[0, 0][taken] == 0).any()
    assert fit(example["mdp"], example["demos"]).log_likelihood > soft.log_likelihood


def test_the_page_names_every_key_and_array(repository, example, tmp_path):
    text = page(repository)
    assert all(f"`{key}`" in text for key in example["mixture"].to_json())
    example["mixture"].save(tmp_path / "out")
    with np.load(tmp_path / "out" / "mixture.npz") as file:
        assert all(f"`{name}`" in text for name in file.files)
