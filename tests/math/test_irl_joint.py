"""Reward and dynamics estimated together: the errors by Hessian and by the outer product of scores."""

import numpy as np
from numpy.testing import assert_allclose

from menura.environments.tabular import TabularMDP
from menura.irl import Paths
from menura.irl.choices import action_choices
from menura.irl.joint import fit_jointly
from menura.irl.objective import make_planner

STAY = 0.4


def machine(phi):
    """Two states of wear; keeping wears with probability 1 − φ, replacing brings back the first."""
    p = float(phi[0])
    return TabularMDP.from_transitions(
        [0, 0, 0, 1, 1], [0, 0, 1, 0, 1], [0, 1, 0, 1, 0], [p, 1 - p, 1, 1, 1],
        state_action_features=[[[0.0, 0], [0, 1]], [[-1.0, 0], [0, 1]]], feature_names=("wear", "new"), discount=0.9,
    )  # fmt: skip


def history(rng, steps, theta):
    """One machine kept and replaced by the policy of θ, and at each step whether it wore: −1 where that is certain."""
    mdp = machine(np.array([STAY]))
    choices = action_choices(mdp)
    (planner,) = make_planner(mdp, choices, None, np.array([0]))
    policy = np.exp(planner.plan(choices.reward(theta)).log_policy).reshape(2, 2)
    states, actions, wore = [0], [], []
    for _ in range(steps):
        state = states[-1]
        actions.append(int(rng.random() > policy[state, 0]))
        kept_new = state == 0 and actions[-1] == 0
        wore.append(int(rng.random() > STAY) if kept_new else -1)
        states.append(0 if actions[-1] == 1 else 1 if state == 1 or wore[-1] == 1 else 0)
    return Paths.from_lists([states], [actions]), np.array(wore)


def estimate(rng, *, by_step=True, steps=4000):
    paths, wore = history(rng, steps, np.array([1.0, -1.5]))

    def dynamics(phi):
        p = float(phi[0])
        each = np.where(wore < 0, 0.0, np.where(wore == 1, np.log(1 - p), np.log(p)))
        return each if by_step else float(each.sum())

    return fit_jointly(machine, dynamics, paths, np.array([np.mean(wore[wore >= 0] == 0)]))


def test_both_kinds_of_errors_agree_when_the_model_is_true_and_the_data_are_many(rng):
    found = estimate(rng)
    assert_allclose(found.bhhh_errors, found.standard_errors, rtol=0.1)
    assert np.all(np.abs(np.append(found.theta, found.phi) - [1.0, -1.5, STAY]) < 4 * found.standard_errors)


def test_errors_by_scores_are_the_inverse_of_their_outer_product_by_step(rng):
    found = estimate(rng, steps=60)
    paths, wore = history(np.random.default_rng(0), 60, np.array([1.0, -1.5]))
    choices = action_choices(machine(found.phi))

    def each(point):
        mdp = machine(point[2:])
        (planner,) = make_planner(mdp, action_choices(mdp), None, np.array([0]))
        log_policy = planner.plan(action_choices(mdp).reward(point[:2])).log_policy.reshape(2, 2)
        moved = np.where(wore < 0, 0.0, np.where(wore == 1, np.log(1 - point[2]), np.log(point[2])))
        return log_policy[paths.states, paths.actions] + moved

    at = np.append(found.theta, found.phi)
    scores = np.stack([(each(at + e) - each(at - e)) / 2e-5 for e in 1e-5 * np.eye(3)])
    assert choices.num_choices == 4
    assert_allclose(found.bhhh_errors, np.sqrt(np.diag(np.linalg.inv(scores @ scores.T))), rtol=1e-6)


def test_a_likelihood_known_as_a_sum_gives_the_same_estimate_without_errors_by_scores():
    each, total = (estimate(np.random.default_rng(1), by_step=by_step, steps=300) for by_step in (True, False))
    assert_allclose(total.theta, each.theta, rtol=1e-12)
    assert_allclose(total.standard_errors, each.standard_errors, rtol=1e-6)
    assert np.isnan(total.bhhh_errors).all()
    assert np.isfinite(each.bhhh_errors).all()
