"""What others got wrong, and what must hold of every fit: tests that fail when a known bug is put back."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from menura.environments.tabular import TabularMDP
from menura.irl import Paths, evaluate_at, fit
from menura.irl.choices import action_choices, transition_choices
from menura.irl.estimate import policy_of
from menura.irl.maxent import printed_features
from menura.irl.objective import Objective, Part, make_problem
from menura.irl.optimize import Prior, maximize
from menura.irl.planning import FinitePlanner, GoalPlanner, Source, StationaryPlanner


def dense_mdp(rng, states=6, actions=3, **settings):
    table = rng.dirichlet(np.ones(states), size=(states, actions))
    features = np.zeros((states, actions, states * actions))
    features[np.arange(states)[:, None], np.arange(actions), np.arange(states * actions).reshape(states, actions)] = 1
    return TabularMDP.from_dense(table, state_action_features=features, **settings), table


def occupancy(table, policy, start, discount):
    """Σ γ^t P(s, a at t) of a policy (time, state, action), by forward simulation."""
    total, now = np.zeros(policy.shape[1:]), start
    for t, step in enumerate(policy):
        both = now[:, None] * step
        total += discount**t * both
        now = np.einsum("sa,sap->p", both, table)
    return total


def test_the_deployed_policy_has_the_experts_occupancy_under_the_fits_own_discount():
    # imitation fits an undiscounted policy and deploys a discounted one: 3.9e-2 off on a problem of this size.
    rng = np.random.default_rng(0)
    start = np.full(6, 1 / 6)
    mdp, table = dense_mdp(rng, discount=0.7, horizon=10, initial=start)
    choices = action_choices(mdp)
    none = np.zeros(6, bool)
    planner = FinitePlanner(choices, 10, discount=0.7, absorbing=none)
    expert = np.exp(planner.plan(rng.normal(size=18)).log_policy).reshape(10, 6, 3)
    wanted = occupancy(table, expert, start, 0.7).ravel()
    source = (Source(np.arange(6), start),)
    empty = np.zeros(0, np.int64)
    dual = Objective(
        choices, wanted, (Part(planner, source, (np.zeros(6, np.int64),)),), empty, empty, np.zeros(0), None, 1
    )
    theta = maximize(dual.evaluate, dual.derive, np.zeros(18), prior=Prior(), tolerance=1e-13).theta
    deployed = np.exp(planner.plan(theta).log_policy).reshape(10, 6, 3)
    assert_allclose(occupancy(table, deployed, start, 0.7).ravel(), wanted, atol=1e-8)
    undiscounted = FinitePlanner(choices, 10, discount=1.0, absorbing=none).plan(theta)
    off = occupancy(table, np.exp(undiscounted.log_policy).reshape(10, 6, 3), start, 0.7).ravel()
    assert np.abs(off - wanted).max() > 1e-3


def test_feature_matching_gives_the_deployed_policy_the_demonstrations_features():
    rng = np.random.default_rng(1)
    mdp, table = dense_mdp(rng, states=4, actions=2, discount=0.8, horizon=6)
    features = rng.normal(size=(4, 2, 2))
    mdp = mdp.replace(pair_features=None, state_action_features=features, feature_names=("a", "b"))
    states, actions = [], []
    for _ in range(30):
        path, acts = [rng.integers(4)], []
        for _ in range(6):
            acts.append(rng.integers(2))
            path.append(rng.choice(4, p=table[path[-1], acts[-1]]))
        states.append(path)
        actions.append(acts)
    paths = Paths.from_lists(states, actions)
    found = fit(mdp, paths, match="features")
    assert found.duality_gap < 1e-8
    policy = np.exp(policy_of(make_problem(mdp, paths, "mce"), found.theta).log_policy).reshape(6, 4, 2)
    first = np.bincount(paths.states[paths.first], minlength=4) / paths.num_paths
    learner = np.einsum("sa,saf->f", occupancy(table, policy, first, 0.8), features)
    each = 0.8 ** paths.time[:, None] * features[paths.states, paths.actions]
    assert_allclose(learner, each.sum(axis=0) / paths.num_paths, atol=1e-8)
    likeliest = fit(mdp, paths).theta
    assert np.abs(likeliest - found.theta).max() > 1e-3  # on a sample of random outcomes the two differ


def test_visits_are_carried_on_one_step_at_a_time():
    # irl-imitation #1: the loops over time and states in the wrong order mix up the visits of two times.
    rng = np.random.default_rng(2)
    mdp, table = dense_mdp(rng, horizon=5)
    reward = rng.normal(size=18)
    planner = FinitePlanner(action_choices(mdp), 5, absorbing=np.zeros(6, bool))
    start = rng.dirichlet(np.ones(6))
    policy = np.exp(planner.plan(reward).log_policy).reshape(5, 6, 3)
    flow = planner.evaluate(reward, [Source(np.arange(6), start)]).flow
    assert_allclose(flow, occupancy(table, policy, start, 1.0).ravel(), rtol=1e-12)


def test_values_use_a_soft_maximum_and_the_discount():
    # Inverse-Reinforcement-Learning #4 (hard maximum), irl-benchmark #39 (discount ignored).
    mdp = TabularMDP.from_transitions([0, 0], [0, 1], [0, 0], [1.0, 1.0], state_features=np.ones((1, 1)), discount=0.5)
    planner = StationaryPlanner(action_choices(mdp), discount=0.5, absorbing=np.zeros(1, bool))
    assert_allclose(planner.plan(np.zeros(2)).value, [np.log(2) / (1 - 0.5)], rtol=1e-14)


def test_several_terminal_states_and_negative_rewards_are_handled():
    # irl-maxent #3 and #4. From 0 to terminal 1 or 2 directly: weights exp(-1) and exp(-2).
    mdp = TabularMDP.from_transitions(
        [0, 0],
        [0, 1],
        [1, 2],
        [1.0, 1.0],
        state_action_features=np.array([[[-1.0], [-2.0]]] + [[[0.0]] * 2] * 2),
        terminal=[1, 2],
    )
    planner = GoalPlanner(transition_choices(mdp), [np.array([1, 2])], starts=np.array([0]))
    plan = planner.plan(np.array([-1.0, -2.0]))
    assert_allclose(plan.value, [np.log(np.exp(-1) + np.exp(-2)), 0, 0], rtol=1e-14)


@pytest.mark.parametrize("discount", [0.9, 0.9999, 1 - 1e-7])
def test_newton_solves_the_bellman_equation_at_any_discount(discount):
    rng = np.random.default_rng(3)
    mdp, table = dense_mdp(rng, discount=discount)
    planner = StationaryPlanner(action_choices(mdp), discount=discount, absorbing=np.zeros(6, bool))
    reward = rng.normal(size=18)
    value = planner.plan(reward).value
    q = reward.reshape(6, 3) + discount * table @ value
    assert_allclose(np.logaddexp.reduce(q, axis=1), value, rtol=1e-12)
    assert planner.sweeps < 20


def test_far_goals_do_not_underflow():
    # 3,000 links of cost 2: exp(-6000) is no number, its logarithm is. Goals at both ends share what they can.
    size = 3001
    state = np.concatenate([np.arange(size - 1), np.arange(1, size)])
    following = np.concatenate([np.arange(1, size), np.arange(size - 1)])
    action = np.concatenate([np.zeros(size - 1, int), np.ones(size - 1, int)])
    mdp = TabularMDP.from_transitions(state, action, following, np.ones(len(state)), state_features=np.ones((size, 1)))
    planner = GoalPlanner(
        transition_choices(mdp), [np.array([size - 1]), np.array([0])], starts=np.array([0, size - 1])
    )
    reward = np.full(mdp.num_pairs, -2.0)
    to_the_end, to_the_beginning = planner.plan(reward, 0).value, planner.plan(reward, 1).value
    assert_allclose(to_the_end, to_the_beginning[::-1], rtol=1e-12)
    # A walk gains ln λ a link, λ the small root of z = e^-2 (1 + z²); at the wall the first link is simpler.
    w = np.exp(-2.0)
    root = (1 - np.sqrt(1 - 4 * w * w)) / (2 * w)
    assert_allclose(np.diff(to_the_end)[-2000:], -np.log(root), rtol=1e-9)
    answer = planner.evaluate(reward, [Source(np.array([0]), np.ones(1)), Source(np.array([size - 1]), np.ones(1))])
    step = 1e-6
    more = planner.evaluate(
        reward + step, [Source(np.array([0]), np.ones(1)), Source(np.array([size - 1]), np.ones(1))]
    )
    assert_allclose((more.value - answer.value) / step, answer.flow.sum(), rtol=1e-4)


def test_one_factorization_serves_goals_inside_the_network():
    rng = np.random.default_rng(4)
    size = 30
    state = np.repeat(np.arange(size), 3)
    following = (state + np.tile([1, 2, size - 1], size)) % size
    mdp = TabularMDP.from_transitions(
        state, np.tile([0, 1, 2], size), following, np.ones(3 * size), state_features=np.ones((size, 1))
    )
    choices = transition_choices(mdp)
    reward = -1.3 - rng.random(3 * size)
    goals = [np.array([g]) for g in range(0, size, 4)]
    together = GoalPlanner(choices, goals, starts=np.arange(size))
    sources = [Source(np.array([1, 3]), np.array([1.0, 2.0])) for _ in goals]
    features = rng.normal(size=(3 * size, 2))
    answer = together.evaluate(reward, sources, features)
    assert len(together._groups) == 1
    alone = [
        GoalPlanner(choices, [g], starts=np.arange(size)).evaluate(reward, [s], features)
        for g, s in zip(goals, sources, strict=True)
    ]
    assert_allclose(answer.value, sum(a.value for a in alone), rtol=1e-12)
    assert_allclose(answer.flow, sum(a.flow for a in alone), rtol=1e-9, atol=1e-12)
    assert_allclose(answer.curvature, sum(a.curvature for a in alone), rtol=1e-9)
    step = 1e-5
    for k in range(2):
        up, down = (together.evaluate(reward + sign * step * features[:, k], sources).value for sign in (1, -1))
        assert_allclose((up - down) / (2 * step), answer.flow @ features[:, k], rtol=1e-6)


def test_unreachable_states_do_not_matter():
    rows = dict(state=[0, 1, 2, 2], action=[0, 0, 0, 1], next_state=[1, 3, 2, 3], probability=np.ones(4))
    mdp = TabularMDP.from_transitions(**rows, state_features=np.array([[-1.0], [-1], [5], [0]]), terminal=[3])
    paths = Paths.from_lists([[0, 1, 3]], [[0, 0]])
    for method in ("maxent", "mce"):
        assert_allclose(evaluate_at(mdp, paths, np.ones(1), method=method).log_likelihood, 0, atol=1e-12)


def test_the_printed_forward_pass_is_another_answer_on_random_outcomes_only():
    rng = np.random.default_rng(6)
    mdp, table = dense_mdp(rng, states=4, actions=2, horizon=3)
    paths = Paths.from_lists([[0, 1, 2, 3], [1, 2, 0, 1]], [[0, 1, 0], [1, 1, 0]])
    theta = rng.normal(size=8) * 2
    exact = evaluate_at(mdp, paths, theta, method="maxent").learner_features
    assert np.abs(printed_features(make_problem(mdp, paths, "maxent"), theta) - exact).max() > 0.01
    certain = TabularMDP.from_dense(
        (table == table.max(axis=2, keepdims=True)).astype(float), state_features=np.eye(4), horizon=3
    )
    states = [[0]]
    for a in (0, 1, 1):
        states[0].append(int(table[states[0][-1], a].argmax()))
    paths = Paths.from_lists(states, [[0, 1, 1]])
    exact = evaluate_at(certain, paths, theta[:4], method="maxent").learner_features
    assert_allclose(printed_features(make_problem(certain, paths, "maxent"), theta[:4]), exact, rtol=1e-12)


def test_shared_factorizations_keep_tiny_values_accurate():
    # With pivots off the diagonal these values are wrong by tens of nats, though the equations seem solved.
    rng = np.random.default_rng(7)
    side = 30
    cell = np.arange(side * side).reshape(side, side)
    ways = [(cell[:, :-1], cell[:, 1:]), (cell[:, 1:], cell[:, :-1]), (cell[:-1], cell[1:]), (cell[1:], cell[:-1])]
    state, following = (np.concatenate([w[k].ravel() for w in ways]) for k in (0, 1))
    action = np.repeat(np.arange(4), side * (side - 1))
    mdp = TabularMDP.from_transitions(
        state, action, following, np.ones(len(state)), state_features=np.ones((side * side, 1))
    )
    choices = transition_choices(mdp)
    reward = -1.2 - rng.gamma(4, 0.25, len(state))
    goals = [np.array([g]) for g in (0, side - 1, side * side - 1, 431)]
    shared = GoalPlanner(choices, goals, starts=np.arange(side * side))
    for members, _, _, potential, z in shared._solve_groups(reward):
        for column, goal in enumerate(members):
            value = np.log(z[:, column]) + potential - potential[goals[goal][0]]
            backed_up = choices.soft_max(reward + value[choices.outcome])
            backed_up[goals[goal]] = 0.0
            assert_allclose(backed_up, value, rtol=0, atol=1e-10)
