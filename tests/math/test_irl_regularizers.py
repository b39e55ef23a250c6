"""Ho & Ermon (2016, Proposition 3.2) as a test: IRL, then RL, is the least ψ*(ρ_π − ρ_E) − λ·H(π) there is."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import LinearConstraint, minimize

from menura.core import RequestError
from menura.environments.tabular import TabularMDP
from menura.irl.choices import action_choices
from menura.irl.occupancy_matching import occupancy_of, solve
from menura.irl.planning import FinitePlanner, Source
from menura.regularizers import (
    AIRLLink,
    ChiSquared,
    ChiSquaredMixture,
    FeatureExpectation,
    ForwardKL,
    GameTheoretic,
    JensenShannon,
    ReverseKL,
    TotalVariation,
    Wasserstein,
)
from menura.run.registry import REGULARIZERS

STATES, ACTIONS, DISCOUNT = 4, 3, 0.8
SMOOTH = [
    JensenShannon(),
    ReverseKL(),
    ForwardKL(),
    ChiSquared(),
    ChiSquared(bound=0.3),
    ChiSquaredMixture(alpha=1.0),
    FeatureExpectation(),
]
NONSMOOTH = [
    TotalVariation(bound=1.0),
    GameTheoretic(),
    GameTheoretic(signed=False),
    Wasserstein(),
    Wasserstein(bound=0.4),
]


def random_problem(seed, *, noisy, **settings):
    """A problem, its table, and an expert's occupancy: that of a policy, or with ``noisy`` that of none."""
    rng = np.random.default_rng(seed)
    table = rng.dirichlet(np.ones(STATES), size=(STATES, ACTIONS))
    features = rng.normal(size=(STATES, ACTIONS, 5))
    settings = {"discount": DISCOUNT, "initial": rng.dirichlet(np.ones(STATES)), **settings}
    mdp = TabularMDP.from_dense(table, state_action_features=features, **settings)
    endless = TabularMDP.from_dense(table, discount=DISCOUNT, initial=mdp.initial)
    expert = occupancy_of(endless, rng.dirichlet(np.full(ACTIONS, 0.7), size=STATES).ravel())
    if noisy:
        expert = expert * np.exp(0.3 * rng.normal(size=expert.shape))
        expert *= 1 / (1 - DISCOUNT) / expert.sum()
    return mdp, table, expert


def by_policy(mdp, table, expert, regularizer, entropy_weight):
    """The least ψ* − λ·H over the logits of policies, by quasi-Newton with exact gradients."""
    features = mdp.pair_features

    def objective(logits):
        log_policy = jax.nn.log_softmax(logits.reshape(STATES, ACTIONS))
        policy = jnp.exp(log_policy)
        moves = jnp.einsum("sa,sap->sp", policy, jnp.asarray(table))
        visits = jnp.linalg.solve(jnp.eye(STATES) - DISCOUNT * moves.T, jnp.asarray(mdp.initial))
        rho = visits[:, None] * policy
        entropy = -jnp.sum(rho * log_policy)
        return regularizer.conjugate(rho.ravel(), jnp.asarray(expert), jnp.asarray(features)) - entropy_weight * entropy

    with jax.enable_x64(True):
        graded = jax.jit(jax.value_and_grad(objective))

        def evaluate(logits):
            value, gradient = graded(jnp.asarray(logits, jnp.float64))
            return float(value), np.asarray(gradient)

        options = {"maxiter": 5000, "maxfun": 10_000, "ftol": 0.0, "gtol": 1e-11, "maxcor": 30}
        found = minimize(evaluate, np.zeros(STATES * ACTIONS), jac=True, method="L-BFGS-B", options=options)
        return found.fun, np.asarray(jax.nn.softmax(jnp.asarray(found.x.reshape(STATES, ACTIONS)))).ravel()


def by_occupancy(mdp, table, expert, regularizer, entropy_weight):
    """The same by convex programming over the occupancies that policies have, ψ* written with further variables."""
    pairs = STATES * ACTIONS
    features = mdp.pair_features
    balance = np.repeat(np.eye(STATES), ACTIONS, axis=1) - DISCOUNT * table.reshape(pairs, STATES).T
    match regularizer:
        case TotalVariation(bound=1.0):  # Σ t, t ≥ ±(ρ − ρ_E)
            more, price = pairs, np.ones(pairs)
            rows = np.block([[-np.eye(pairs), np.eye(pairs)], [np.eye(pairs), np.eye(pairs)]])
            least = np.concatenate([-expert, expert])
        case GameTheoretic(signed=signed):  # t ≥ every (signed) feature of ρ_E − ρ
            more, price = 1, np.ones(1)
            signs = (1, -1) if signed else (1,)
            rows = np.vstack([np.c_[sign * features.T, np.ones(features.shape[1])] for sign in signs])
            least = np.concatenate([sign * features.T @ expert for sign in signs])
        case Wasserstein(bound=bound):  # carry ρ to ρ_E, or throw away and fetch at the bound
            distance = np.linalg.norm(features[:, None] - features[None], axis=2)
            more, price = pairs * pairs + 2 * pairs, np.concatenate([distance.ravel(), np.full(2 * pairs, bound)])
            out, into = np.kron(np.eye(pairs), np.ones(pairs)), np.kron(np.ones(pairs), np.eye(pairs))
            eye, none = np.eye(pairs), np.zeros((pairs, pairs))
            equal = np.block([[eye, -out, -eye, none], [none, into, none, eye]])
            rows = np.vstack([equal, -equal])
            least = np.concatenate([np.zeros(pairs), expert, np.zeros(pairs), -expert])

    def objective(x):
        rho = np.maximum(x[:pairs], 1e-12).reshape(STATES, ACTIONS)
        log_policy = np.log(rho / rho.sum(axis=1, keepdims=True))
        gradient = np.concatenate([entropy_weight * log_policy.ravel(), price])
        return entropy_weight * np.sum(rho * log_policy) + price @ x[pairs:], gradient

    start = np.concatenate([np.full(pairs, 1 / (1 - DISCOUNT) / pairs), np.zeros(more)])
    found = minimize(
        objective,
        start,
        jac=True,
        method="SLSQP",
        bounds=[(1e-12, None)] * pairs + [(None if isinstance(regularizer, GameTheoretic) else 0, None)] * more,
        constraints=[
            LinearConstraint(np.hstack([balance, np.zeros((STATES, more))]), mdp.initial, mdp.initial),
            LinearConstraint(rows, least, np.inf),
        ],
        options={"maxiter": 500, "ftol": 1e-14},
    )
    rho = found.x[:pairs].reshape(STATES, ACTIONS)
    return found.fun, (rho / rho.sum(axis=1, keepdims=True)).ravel()


@pytest.mark.parametrize("noisy", [False, True], ids=["realizable", "noisy"])
@pytest.mark.parametrize("regularizer", SMOOTH, ids=repr)
def test_irl_then_rl_is_the_policy_of_least_divergence_less_entropy(regularizer, noisy):
    mdp, table, expert = random_problem(1, noisy=noisy)
    found = solve(mdp, expert, regularizer, 0.3)
    least, policy = by_policy(mdp, table, expert, regularizer, 0.3)
    assert abs(found.duality_gap) < 1e-7
    assert_allclose(found.objective, least, atol=1e-7)
    assert_allclose(np.exp(found.log_policy), policy, atol=1e-6)
    # Another weight on entropy gives another policy, so the agreement is not an accident.
    other = solve(mdp, expert, regularizer, 0.5)
    assert np.abs(np.exp(other.log_policy) - policy).max() > 1e-3


@pytest.mark.parametrize("noisy", [False, True], ids=["realizable", "noisy"])
@pytest.mark.parametrize("regularizer", NONSMOOTH, ids=repr)
def test_so_it_is_where_the_divergence_has_corners(regularizer, noisy):
    mdp, table, expert = random_problem(2, noisy=noisy)
    found = solve(mdp, expert, regularizer, 0.3)
    least, policy = by_occupancy(mdp, table, expert, regularizer, 0.3)
    assert abs(found.duality_gap) < 1e-6
    assert_allclose(found.objective, least, atol=1e-5)
    assert_allclose(np.exp(found.log_policy), policy, atol=1e-4)


def test_the_found_policy_is_the_best_response_to_the_found_reward_and_to_no_other():
    mdp, _, expert = random_problem(3, noisy=True)
    found = solve(mdp, expert, JensenShannon(), 0.3)
    policy = np.exp(found.log_policy)
    assert_allclose(occupancy_of(mdp, policy), found.occupancy, atol=1e-10)
    assert_allclose(found.entropy, -found.occupancy @ found.log_policy, rtol=1e-10)
    # The score at the saddle point is the log ratio of expert to learner, which is what a discriminator learns.
    assert_allclose(found.score, np.log(expert / found.occupancy), atol=1e-5)
    assert np.all(found.occupancy @ found.reward + 0.3 * found.entropy > expert @ found.reward)


def test_less_entropy_brings_the_learner_to_the_expert():
    mdp, _, expert = random_problem(4, noisy=False)
    far, near = (solve(mdp, expert, ReverseKL(), weight) for weight in (1.0, 0.01))
    assert near.divergence < 1e-3 < far.divergence
    assert_allclose(near.occupancy, expert, atol=0.05)


def test_it_holds_with_a_horizon_and_where_the_expert_leaves_actions_out():
    mdp, _, _ = random_problem(5, noisy=False, discount=1.0, horizon=6)
    choices = action_choices(mdp)
    planner = FinitePlanner(choices, 6, absorbing=np.zeros(STATES, bool))
    rng = np.random.default_rng(5)
    expert = planner.evaluate(rng.normal(size=12) * 3, [Source(np.arange(STATES), mdp.initial)]).flow
    expert[[0, 5]] = 0
    for regularizer in (JensenShannon(), ReverseKL(), ChiSquared(), TotalVariation(bound=1.0)):
        found = solve(mdp, expert, regularizer, 0.2)
        assert found.log_policy.shape == (6, 12)
        assert -1e-9 < found.duality_gap < 1e-6, regularizer


def test_requests_without_one_answer_are_refused():
    mdp, _, expert = random_problem(6, noisy=False)
    for arguments, message in (
        ((mdp, expert, JensenShannon(), 0.0), "more than 0"),
        ((mdp, expert[1:], JensenShannon(), 0.1), "expert_occupancy"),
        ((mdp, -expert, JensenShannon(), 0.1), "at least 0"),
        ((mdp, expert, AIRLLink(), 0.1), "no cost regularizer"),
        ((mdp.replace(initial=None), expert, JensenShannon(), 0.1), "initial distribution"),
    ):
        with pytest.raises(RequestError, match=message):
            solve(*arguments)


def test_the_page_runs_and_names_every_regularizer(repository, capsys):
    page = (repository / "docs" / "regularizers.md").read_text(encoding="utf-8")
    rows = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    assert rows == REGULARIZERS.keys()
    example = next(block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "solve" in block)
    names = {}
    exec(example, names)
    found = names["found"]
    assert abs(found.duality_gap) < 1e-9
    assert capsys.readouterr().out.split()[0] == f"{found.divergence:.6f}"
