"""Soft and hard values, given policies and occupancies, for the three kinds of problem, against brute force."""

import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose

from menura.core import RequestError
from menura.environments.tabular import TabularMDP
from menura.irl.choices import action_choices
from menura.irl.planning import (
    DivergenceError,
    FinitePlanner,
    GoalPlanner,
    Source,
    StationaryPlanner,
    evaluate_policy,
    goals,
    hard_values,
    occupancy,
    soft_values,
)

STATES, ACTIONS, END = 4, 2, 3


def table(rng, *, certain=False):
    """P(next | state, action) of three states and an end, which every action may reach."""
    out = np.zeros((STATES, ACTIONS, STATES))
    for s, a in itertools.product(range(STATES - 1), range(ACTIONS)):
        if certain:
            out[s, a, END if a == 1 else rng.integers(STATES)] = 1.0
        else:
            out[s, a] = rng.dirichlet(np.ones(STATES))
    return out


def problem(kind, seed=0):
    """A planner, its P, a reward for every state and action (never positive), the discount, and the steps or None."""
    rng = np.random.default_rng(seed)
    p = table(rng, certain=kind == "goals")
    settings = {"finite": dict(horizon=3, discount=0.9), "must end": dict(horizon=3), "discounted": dict(discount=0.8)}
    mdp = TabularMDP.from_dense(p, state_features=np.ones((STATES, 1)), **settings.get(kind, {}))
    choices, absorbing = action_choices(mdp), np.arange(STATES) == END
    reward = -rng.random((STATES - 1, ACTIONS)) - 0.8
    if kind in ("finite", "must end"):
        planner = FinitePlanner(choices, 3, discount=mdp.discount, absorbing=absorbing, must_end=kind == "must end")
    elif kind == "goals":
        planner = GoalPlanner(choices, [np.array([END])], starts=np.arange(STATES))
    else:
        planner = StationaryPlanner(choices, discount=mdp.discount, absorbing=absorbing)
    return planner, p, reward, mdp.discount, mdp.horizon


KINDS = ["finite", "must end", "discounted", "ends", "goals"]


def dense_value(p, policy, reward, discount, horizon, must_end):
    """(states,) of following policy (steps, 3, 2) from the start, by recursion or one dense solve."""
    moves = np.einsum("...sa,sap->...sp", policy, p[:-1])
    gains = np.einsum("...sa,sa->...s", policy, reward)
    if horizon is None:
        return np.append(np.linalg.solve(np.eye(STATES - 1) - discount * moves[0][:, :-1], gains[0]), 0.0)
    value = np.append(np.full(STATES - 1, -np.inf if must_end else 0.0), 0.0)
    for t in range(horizon - 1, -1, -1):
        with np.errstate(invalid="ignore"):
            later = np.where(moves[t] > 0, moves[t] * value, 0.0).sum(axis=1)
        value = np.append(gains[t] + discount * later, 0.0)
    return value


def random_policy(rng, horizon):
    policy = rng.dirichlet(np.ones(ACTIONS), size=(horizon or 1, STATES - 1))
    return policy, policy.reshape(len(policy), -1) if horizon else policy.reshape(-1)


@pytest.mark.parametrize("kind", KINDS)
def test_hard_values_are_the_best_of_all_deterministic_policies(kind):
    planner, p, reward, discount, horizon = problem(kind)
    one_step = [np.eye(ACTIONS)[list(acts)] for acts in itertools.product(range(ACTIONS), repeat=STATES - 1)]
    best = np.full(STATES, -np.inf)
    for policy in itertools.product(one_step, repeat=horizon or 1):
        try:
            value = dense_value(p, np.array(policy), reward, discount, horizon, kind == "must end")
        except np.linalg.LinAlgError:  # a policy that never ends
            continue
        if kind not in ("ends", "goals") or (value <= 0).all():
            best = np.maximum(best, value)
    plan = hard_values(planner, reward.ravel())
    first = plan.value if horizon is None else plan.value[0]
    assert_allclose(first, best, rtol=1e-12)
    followed = evaluate_policy(planner, plan.policy, reward.ravel()).value
    assert_allclose(followed, plan.value, rtol=1e-11)


@pytest.mark.parametrize("kind", KINDS)
def test_hard_values_are_what_soft_values_tend_to_as_entropy_counts_less(kind):
    planner, _, reward, _, _ = problem(kind)
    hard = hard_values(planner, reward.ravel()).value
    warm = soft_values(planner, reward.ravel()).value
    assert np.all(warm >= hard - 1e-12)
    cold = 1e-3 * soft_values(planner, reward.ravel() / 1e-3).value
    finite = np.isfinite(hard)
    assert_allclose(cold[finite], hard[finite], atol=0.02)
    assert np.array_equal(finite, np.isfinite(cold))


@pytest.mark.parametrize("kind", KINDS)
def test_a_policy_is_worth_what_a_dense_solve_says(kind):
    planner, p, reward, discount, horizon = problem(kind)
    policy, given = random_policy(np.random.default_rng(1), horizon)
    found = evaluate_policy(planner, given, reward.ravel())
    expected = dense_value(p, policy, reward, discount, horizon, kind == "must end")
    assert_allclose(found.value if horizon is None else found.value[0], expected, rtol=1e-12)
    later = found.value if horizon is None else found.value[1]
    with np.errstate(invalid="ignore"):
        q = reward + discount * np.where(p[:-1] > 0, p[:-1] * later, 0.0).sum(axis=2)
    assert_allclose(found.choice_value if horizon is None else found.choice_value[0], q.ravel(), rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_soft_values_are_the_reward_and_the_entropy_of_their_policy(kind):
    planner, _, reward, _, horizon = problem(kind)
    plan = soft_values(planner, reward.ravel())
    if horizon is None:
        with_entropy = reward.ravel() - np.where(plan.policy > 0, plan.log_policy, 0.0)
        assert_allclose(evaluate_policy(planner, plan.policy, with_entropy).value, plan.value, rtol=1e-11)
    else:
        c = planner.all_choices
        for t in range(horizon):
            q = reward.ravel() + planner.discount * c.expect(plan.value[t + 1])
            sums = np.logaddexp.reduce(q.reshape(STATES - 1, ACTIONS), axis=1)
            assert_allclose(plan.value[t, :END], sums, rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_occupancy_counts_every_path_by_its_probability(kind):
    planner, p, reward, discount, horizon = problem(kind)
    policy, given = random_policy(np.random.default_rng(2), horizon)
    start = np.array([0.5, 0.3, 0.0, 0.2])
    found = occupancy(planner, given, start)
    steps = horizon or 400
    expected, now = np.zeros((steps, STATES - 1, ACTIONS)), start.copy()
    for t in range(steps):
        both = now[: STATES - 1, None] * policy[t if horizon else 0]
        expected[t] = discount**t * both
        now = np.einsum("sa,sap->p", both, p[:-1])
    expected = expected if horizon else expected.sum(axis=0)
    assert_allclose(found, expected.reshape(found.shape), rtol=1e-10, atol=1e-14)
    if kind != "must end":  # there, what has not ended is worth −∞
        value = evaluate_policy(planner, given, reward.ravel()).value
        assert_allclose(found.sum(axis=0) @ reward.ravel() if horizon else found @ reward.ravel(),
                        start @ (value[0] if horizon else value), rtol=1e-10)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_the_flow_of_an_evaluation_is_the_occupancy_of_the_soft_policy(kind):
    planner, _, reward, _, _ = problem(kind)
    start = np.array([0.5, 0.3, 0.2, 0.0])
    flow = planner.evaluate(reward.ravel(), [Source(np.arange(STATES), start)]).flow
    found = occupancy(planner, soft_values(planner, reward.ravel()).policy, start)
    assert_allclose(found.reshape(-1, found.shape[-1]).sum(axis=0), flow, rtol=1e-11)


def test_hand_numbers_of_a_machine_that_is_kept_or_replaced():
    # Kept, it earns 2 and breaks with probability 1/2; broken, it earns nothing until it is replaced at a cost of 1.
    mdp = TabularMDP.from_transitions(
        [0, 0, 1, 1], [0, 0, 0, 1], [0, 1, 1, 0], [0.5, 0.5, 1, 1], state_features=np.ones((2, 1)), discount=0.5
    )
    planner = StationaryPlanner(action_choices(mdp), discount=0.5, absorbing=np.zeros(2, bool))
    reward = np.array([2.0, 0.0, -1.0])
    # V0 = 2 + V0/4 + V1/4 and V1 = −1 + V0/2: V0 = 1.75 / 0.625 = 2.8, V1 = 0.4, and waiting at V1/2 is worse.
    plan = hard_values(planner, reward)
    assert_allclose(plan.value, [2.8, 0.4], rtol=1e-14)
    assert plan.choice.tolist() == [0, 2]
    # Never replaced, V0 = 2 + V0/4 = 8/3.
    never = evaluate_policy(planner, np.array([1.0, 1, 0]), reward)
    assert_allclose(never.value, [8 / 3, 0], rtol=1e-14)
    assert_allclose(never.choice_value, [8 / 3, 0, 1 / 3], rtol=1e-14)
    # Visits: m0 = 1 + m0/4 + m1/2 · P(replace), all of it kept.
    assert_allclose(occupancy(planner, np.array([1.0, 1, 0]), np.array([1.0, 0])), [4 / 3, 2 / 3, 0], rtol=1e-14)


@pytest.mark.parametrize("discount", [0.9999, 1 - 1e-7])
def test_a_discount_near_one_takes_few_solves(discount, monkeypatch):
    from menura.irl.planning import hard

    rng = np.random.default_rng(3)
    p = rng.dirichlet(np.ones(30) * 0.1, size=(30, 3))
    mdp = TabularMDP.from_dense(p, state_features=np.ones((30, 1)), discount=discount)
    planner = StationaryPlanner(action_choices(mdp), discount=discount, absorbing=np.zeros(30, bool))
    reward = rng.normal(size=90)
    solves = []
    follow = hard._follow
    monkeypatch.setattr(hard, "_follow", lambda *a: (solves.append(1), follow(*a))[1])
    value = hard_values(planner, reward).value
    assert len(solves) < 8
    assert_allclose((reward.reshape(30, 3) + discount * p @ value).max(axis=1), value, rtol=1e-11)
    planner.plan(reward)
    assert planner.sweeps < 20


def ring(reward_of_waiting, *, certain=True):
    """From 0 and 1 one may go to the other (action 0) or to the end, 2 (action 1)."""
    p = np.zeros((3, 2, 3))
    p[0, 0, 1] = p[1, 0, 0] = p[:2, 1, 2] = 1.0
    if not certain:
        p[0, 1] = [0.5, 0, 0.5]
    mdp = TabularMDP.from_dense(p, state_features=np.ones((3, 1)))
    choices, absorbing = action_choices(mdp), np.arange(3) == 2
    planner = (
        GoalPlanner(choices, [np.array([2])], starts=np.arange(2))
        if certain
        else StationaryPlanner(choices, discount=1.0, absorbing=absorbing)
    )
    return planner, np.array([reward_of_waiting, -1.0, reward_of_waiting, -1.0])


@pytest.mark.parametrize("certain", [True, False])
def test_circles_that_pay_are_refused_by_the_reward_that_makes_them_pay(certain):
    planner, reward = ring(0.25, certain=certain)
    with pytest.raises(DivergenceError, match=r"reward.* 0\.25"):
        hard_values(planner, reward)
    with pytest.raises(DivergenceError, match=r"reward.* 0\.25"):
        soft_values(planner, reward)


@pytest.mark.parametrize("certain", [True, False])
def test_circles_without_reward_are_not_taken(certain):
    planner, reward = ring(0.0, certain=certain)
    plan = hard_values(planner, reward)
    assert_allclose(evaluate_policy(planner, plan.policy, reward).value, plan.value, atol=1e-14)
    assert_allclose(plan.value, [-1, -1, 0] if certain else [-1, -1, 0])


def test_a_policy_that_never_ends_is_worth_nothing_finite_and_has_no_occupancy():
    planner, reward = ring(-0.5)
    endless = np.array([1.0, 0, 1, 0])
    found = evaluate_policy(planner, endless, reward)
    assert_allclose(found.value, [-np.inf, -np.inf, 0])
    assert_allclose(found.choice_value, [-np.inf, -1, -np.inf, -1])
    with pytest.raises(DivergenceError, match="without end from state 0"):
        occupancy(planner, endless, np.array([1.0, 0, 0]))
    assert_allclose(occupancy(planner, endless, np.array([0.0, 0, 1])), 0)


def test_dead_ends_are_worth_minus_infinity():
    # From 0 to the end, 1, or to 2, where nothing can be done.
    mdp = TabularMDP.from_transitions([0, 0], [0, 1], [1, 2], [1.0, 1.0], state_features=np.ones((3, 1)))
    choices, absorbing = action_choices(mdp), np.array([False, True, False])
    reward = np.array([-1.0, 5.0])
    for planner in (
        GoalPlanner(choices, [np.array([1])], starts=np.array([0])),
        StationaryPlanner(choices, discount=0.9, absorbing=absorbing),
        StationaryPlanner(choices, discount=1.0, absorbing=absorbing),
    ):
        plan = hard_values(planner, reward)
        assert_allclose(plan.value, [-1, 0, -np.inf])
        assert plan.choice.tolist() == [0, -1, -1]
        assert_allclose(soft_values(planner, reward).value, [-1, 0, -np.inf])
        assert_allclose(evaluate_policy(planner, np.array([0.5, 0.5]), reward).value, [-np.inf, 0, -np.inf])
        assert_allclose(occupancy(planner, np.array([0.5, 0.5]), np.array([1.0, 0, 0])), [0.5, 0.5])


def test_policies_that_are_none_are_refused():
    planner, reward = ring(-1.0)
    with pytest.raises(RequestError, match=r"state 1 sum to 1\.5"):
        evaluate_policy(planner, np.array([0.5, 0.5, 1, 0.5]), reward)
    with pytest.raises(RequestError, match="0 or more"):
        occupancy(planner, np.array([0.5, 0.5, -1, 2]), np.array([1.0, 0, 0]))
    with pytest.raises(RequestError, match=r"shape \(3,\)"):
        occupancy(planner, np.ones(3), np.array([1.0, 0, 0]))


def streets(side, rng):
    """A grid of streets both ways, its goals at corners and inside, and rewards below what could diverge."""
    cell = np.arange(side * side).reshape(side, side)
    ways = [(cell[:, :-1], cell[:, 1:]), (cell[:, 1:], cell[:, :-1]), (cell[:-1], cell[1:]), (cell[1:], cell[:-1])]
    state, following = (np.concatenate([way[k].ravel() for way in ways]) for k in (0, 1))
    action = np.repeat(np.arange(4), side * (side - 1))
    mdp = TabularMDP.from_transitions(
        state, action, following, np.ones(len(state)), state_features=np.ones((side * side, 1))
    )
    ends = [np.array([g]) for g in (0, side - 1, side * (side - 1), side * side - 1, side * side // 2)]
    return action_choices(mdp), ends, -1.2 - rng.gamma(4, 0.25, len(state))


def test_goals_answer_the_same_alone_together_and_in_threads(monkeypatch):
    rng = np.random.default_rng(5)
    choices, ends, reward = streets(12, rng)
    reward = 30 * reward  # so that far goals need potentials of their own
    features = rng.normal(size=(choices.num_choices, 2))
    sources = [Source(rng.integers(144, size=4), rng.random(4)) for _ in ends]
    alone = [
        GoalPlanner(choices, [end], starts=np.arange(144)).evaluate(reward, [source], features)
        for end, source in zip(ends, sources, strict=True)
    ]
    monkeypatch.setattr(goals, "THREADED_STATES", 0)
    together = GoalPlanner(choices, ends, starts=np.arange(144))
    for _ in range(2):
        answer = together.evaluate(reward, sources, features)
        assert 1 < len(together._groups) <= 5
        assert_allclose(answer.value, sum(a.value for a in alone), rtol=1e-12)
        assert_allclose(answer.flow, sum(a.flow for a in alone), rtol=1e-9, atol=1e-12)
        assert_allclose(answer.curvature, sum(a.curvature for a in alone), rtol=1e-9, atol=1e-12)
        for tangent, single in zip(answer.tangents, alone, strict=True):
            assert_allclose(tangent, single.tangents[0], rtol=1e-9, atol=1e-11)
    for goal, plan in together.plans(reward):
        assert_allclose(plan.value, together.plan(reward, goal).value, rtol=1e-12)
        assert_allclose(plan.value[ends[goal]], 0)


def test_groups_become_fewer_when_rewards_allow_it():
    choices, ends, reward = streets(12, np.random.default_rng(6))
    planner = GoalPlanner(choices, ends, starts=np.arange(144))
    sources = [Source(np.array([5]), np.ones(1)) for _ in ends]
    planner.evaluate(30 * reward, sources)
    assert len(planner._groups) > 1
    planner.evaluate(reward, sources)
    assert len(planner._groups) == 1
    fresh = GoalPlanner(choices, ends, starts=np.arange(144)).evaluate(reward, sources)
    assert_allclose(planner.evaluate(reward, sources).value, fresh.value, rtol=1e-12)


def test_rewards_that_surely_diverge_are_refused_without_a_factorization(monkeypatch):
    # At rewards of 0 a factorization meets pivots of 0 and fills up: minutes for a large network, and for nothing.
    choices, ends, reward = streets(12, np.random.default_rng(7))
    planner = GoalPlanner(choices, ends, starts=np.arange(144))
    monkeypatch.setattr(goals, "factorize", lambda matrix: pytest.fail("It factorized."))
    with pytest.raises(DivergenceError, match="reward 0 of going"):
        planner.evaluate(np.zeros_like(reward), [Source(np.array([5]), np.ones(1)) for _ in ends])


def test_a_goal_on_a_circle_that_grows_is_solved_alone():
    # 0 ⇄ 1 gains 0.5 a round, so only a goal that stands on the circle and absorbs it has values.
    mdp = TabularMDP.from_transitions([0, 1], [0, 0], [1, 0], [1.0, 1.0], state_features=np.ones((2, 1)))
    planner = GoalPlanner(action_choices(mdp), [np.array([0]), np.array([1])], starts=np.arange(2))
    plans = dict(planner.plans(np.array([0.5, 0.0])))
    assert_allclose(plans[0].value, [0, 0], atol=1e-14)
    assert_allclose(plans[1].value, [0.5, 0])


def test_transitions_in_any_order_make_the_same_problem():
    rng = np.random.default_rng(8)
    p = rng.dirichlet(np.ones(5), size=(5, 3)) * (rng.random((5, 3, 1)) < 0.8)
    tidy = TabularMDP.from_dense(p, state_features=np.ones((5, 1)), discount=0.9)
    order = rng.permutation(tidy.num_transitions)
    features = rng.normal(size=(tidy.num_transitions, 2))
    mixed = TabularMDP.from_transitions(
        tidy.state[order], tidy.action[order], tidy.next_state[order], tidy.probability[order], num_states=5,
        num_actions=3, transition_features=features[order], discount=0.9,
    )  # fmt: skip
    for name in ("state", "action", "next_state"):
        assert np.array_equal(getattr(mixed, name), getattr(tidy, name))
    assert_allclose(mixed.probability, tidy.probability, rtol=1e-15)
    assert_allclose(mixed.transition_features, features)
