"""The ψ family: losses and gradients by hand, signs, and conjugates against a supremum found numerically."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import linprog, minimize
from scipy.stats import wasserstein_distance

from menura.core import BoxActions, RequestError, Spec, flatten_time
from menura.imitation.adversarial import GAIL
from menura.imitation.score import ScoreNetwork, reward_of_score, slope_of
from menura.regularizers import (
    AIRLLink,
    ChiSquared,
    ChiSquaredMixture,
    FAIRLLink,
    FeatureExpectation,
    ForwardKL,
    GameTheoretic,
    JensenShannon,
    ReverseKL,
    TotalVariation,
    Wasserstein,
    jensen_shannon,
    logistic_loss,
    paper_features,
    wasserstein_1,
)
from menura.regularizers.base import into_range
from menura.run.registry import REGULARIZERS, from_json, to_json
from tests.learners import SPECS, VARIANTS, expert_data, random_transitions

RHO_LEARNER = jnp.array([0.5, 0.3, 0.2, 0.0])
RHO_EXPERT = jnp.array([0.1, 0.2, 0.3, 0.4])


def test_logistic_loss_by_hand():
    got = logistic_loss(jnp.array([2.0]), jnp.array([-1.0]))
    # −log sigmoid(2) − log(1 − sigmoid(−1))
    np.testing.assert_allclose(got, np.log1p(np.exp(-2)) + np.log1p(np.exp(-1)), rtol=1e-6)
    np.testing.assert_allclose(logistic_loss(jnp.zeros(3), jnp.zeros(5)), 2 * np.log(2), rtol=1e-6)


def test_lowering_the_loss_raises_the_experts_score_and_lowers_the_learners():
    expert, learner = jax.grad(logistic_loss, argnums=(0, 1))(jnp.zeros(2), jnp.zeros(2))
    np.testing.assert_allclose(expert, [-0.25, -0.25])
    np.testing.assert_allclose(learner, [0.25, 0.25])


def test_rewards_rise_with_the_score_in_every_form():
    for form in ("positive", "negative", "logit", "centered"):
        slope = jax.vmap(jax.grad(lambda s, form=form: reward_of_score(s, JensenShannon(), form)))(
            jnp.linspace(-3, 3, 7)
        )
        assert np.all(slope > 0), form


def test_reward_forms_by_hand():
    score = jnp.array([0.7])
    d = 1 / (1 + np.exp(0.7))  # the paper's D, 1 on the learner
    np.testing.assert_allclose(reward_of_score(score, JensenShannon(), "positive"), [-np.log(d)], rtol=1e-5)
    np.testing.assert_allclose(reward_of_score(score, JensenShannon(), "negative"), [np.log(1 - d)], rtol=1e-5)
    np.testing.assert_allclose(reward_of_score(score, JensenShannon(), "logit"), [np.log(1 - d) - np.log(d)], rtol=1e-5)
    np.testing.assert_allclose(reward_of_score(score, JensenShannon(), "centered"), [-np.log(d) - np.log(2)], rtol=1e-5)


def test_a_reward_form_that_was_not_resolved_is_refused():
    with pytest.raises(ValueError, match="auto"):
        reward_of_score(jnp.zeros(1), JensenShannon(), "auto")


def test_positive_rewards_pay_for_staying_and_negative_ones_for_ending():
    score = jnp.linspace(-5, 5, 11)
    assert np.all(reward_of_score(score, JensenShannon(), "positive") > 0)
    assert np.all(reward_of_score(score, JensenShannon(), "negative") < 0)


def test_the_best_score_on_a_table_reaches_the_conjugate():
    """ψ*(ρ_π − ρ_E) = max over scores of 2 log 2 − loss, reached at log ρ_E/ρ_π (Ho & Ermon 2016, eq. 14)."""

    def objective(score):
        return (
            2 * np.log(2)
            - jnp.sum(RHO_EXPERT * jax.nn.softplus(-score))
            - jnp.sum(RHO_LEARNER * jax.nn.softplus(score))
        )

    climb = jax.jit(lambda score: score + 2.0 * jax.grad(objective)(score))
    score = jnp.zeros(4)
    for _ in range(5_000):
        score = climb(score)
    want = JensenShannon().conjugate(RHO_LEARNER, RHO_EXPERT)
    np.testing.assert_allclose(objective(score), want, atol=1e-3)
    np.testing.assert_allclose(score[:3], np.log(RHO_EXPERT[:3] / RHO_LEARNER[:3]), atol=1e-2)


def test_jensen_shannon_by_hand_and_at_its_ends():
    np.testing.assert_allclose(jensen_shannon(RHO_EXPERT, RHO_EXPERT), 0, atol=1e-7)
    apart = jensen_shannon(jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0]))
    np.testing.assert_allclose(apart, 2 * np.log(2), rtol=1e-6)


def test_gradient_penalty_of_a_linear_score_by_hand():
    # ∇ = (3, 4), so (5 − 1)² and 5².
    for target, want in ((1.0, 16), (0.0, 25)):
        got = jnp.square(slope_of(lambda x: 3 * x[0] + 4 * x[1], jnp.zeros(2)) - target)
        np.testing.assert_allclose(got, want, rtol=1e-5)


def test_gail_charges_the_slope_that_the_regularizer_forbids_and_pays_its_signed_rewards():
    steep = jnp.full((4, 2), 0.5)
    score = ScoreNetwork(
        Spec(1, BoxActions((-1.0,), (1.0,))),
        (),
        activation="tanh",
        key=jax.random.key(0),
        make_network=lambda *sizes, **settings: lambda x: (3 * x[0] + 4 * x[1])[None],
    )
    for regularizer, want in ((JensenShannon(), 0.0), (Wasserstein(penalty=10.0), 10 * (5 - 1) ** 2)):
        gail = GAIL(regularizer=regularizer, gradient_penalty=0.0)
        total, said = gail.score_loss(score, steep, steep, jnp.full(4, 0.5))
        np.testing.assert_allclose(total - said["score/loss"], want, rtol=1e-5, atol=1e-6)
    got = reward_of_score(jnp.array([-9.0, 0.5, 9.0]), ReverseKL(bound=2.0), "negative")
    np.testing.assert_allclose(got, [-4.0, -1.5, 0.0], rtol=1e-6)


def exact(function, *arrays):
    """A function of JAX arrays, in float64."""
    with jax.enable_x64(True):
        return np.asarray(function(*(jnp.asarray(x, jnp.float64) for x in arrays)))


def occupancies(seed, size=8, *, zeros=False, mass=1.0):
    """Two made-up measures on a table; with ``zeros``, some pairs that only one or neither visits."""
    rng = np.random.default_rng(seed)
    learner, expert = rng.dirichlet(np.full(size, 0.7), 2) + 1e-4
    if zeros:
        learner[[0, 1]] = 0
        expert[[1, 2]] = 0
    return mass * learner / learner.sum(), expert / expert.sum()


def mixture_phi(r):
    score = np.sqrt(1 + 2 * r) - 1
    return score - score**2 / 2


# φ of the reward as printed in the literature, and the rewards that are allowed.
PHI = {
    "jensen_shannon": (JensenShannon(), lambda r: np.log(2 - np.exp(-r)), (1e-9 - np.log(2), 20.0)),
    "reverse_kl": (ReverseKL(), lambda r: 1 - np.exp(-r), (-3.0, 3.0)),
    "forward_kl": (ForwardKL(), lambda r: np.log(1 + r), (np.exp(-2) - 1, np.exp(2) - 1)),
    "chi_squared": (ChiSquared(), lambda r: r - 0.125 * r**2, (-4.0, 4.0)),
    "chi_squared_mixture": (ChiSquaredMixture(alpha=1.0), mixture_phi, (-0.5, 1.5)),
    "total_variation": (TotalVariation(bound=1.0), lambda r: r, (-1.0, 1.0)),
}


@pytest.mark.parametrize("name", PHI)
def test_the_gain_is_phi_of_the_reward_and_both_rise(name):
    regularizer, phi, _ = PHI[name]
    score = np.linspace(-0.99, 0.99, 9)
    reward, gain = exact(regularizer.reward, score), exact(regularizer.gain, score)
    assert_allclose(gain, phi(reward), rtol=1e-12, atol=1e-14)
    assert np.all(np.diff(reward) > 0)
    assert np.all(np.diff(gain) > 0)
    # Where expert and learner cannot be told apart, the score is 0 and so are both.
    assert_allclose([exact(regularizer.reward, 0.0), exact(regularizer.gain, 0.0)], 0, atol=1e-15)


@pytest.mark.parametrize("case", [dict(seed=0), dict(seed=1, zeros=True), dict(seed=2, mass=1.7)], ids=str)
@pytest.mark.parametrize("name", PHI)
def test_the_conjugate_is_the_supremum_over_costs(name, case):
    """ψ*(ρ_π − ρ_E) = sup over c of ⟨c, ρ_π − ρ_E⟩ − ψ(c), where ψ(c) = ⟨ρ_E, r − φ(r)⟩ with r = −c."""
    regularizer, phi, (low, high) = PHI[name]
    learner, expert = occupancies(**case)

    def psi(cost):
        return expert @ (-cost - phi(-cost))

    def negated(cost):
        return psi(cost) - cost @ (learner - expert)

    bounds = [(-high, -low)] * len(learner)
    supremum = max(
        -minimize(negated, np.full(len(learner), start), bounds=bounds, options={"ftol": 1e-15, "gtol": 1e-9}).fun
        for start in (-0.1, 0.3)
    )
    assert_allclose(supremum, exact(regularizer.conjugate, learner, expert), rtol=1e-6, atol=1e-7)


def test_without_bounds_the_conjugates_are_the_divergences_of_the_textbooks():
    p, e = occupancies(3)
    m = (p + e) / 2
    wide = float("inf")
    for regularizer, want in (
        (JensenShannon(), p @ np.log(p / m) + e @ np.log(e / m)),
        (ReverseKL(bound=wide), p @ np.log(p / e)),
        (ForwardKL(bound=wide), e @ np.log(e / p)),
        (ChiSquared(alpha=0.5, bound=wide), np.sum((p - e) ** 2 / e)),
        (ChiSquared(alpha=2.0, bound=wide), np.sum((p - e) ** 2 / e) / 4),
        (ChiSquaredMixture(alpha=1.0), np.sum((e - m) ** 2 / m)),
        (ChiSquaredMixture(alpha=0.5), np.sum((e - m) ** 2 / m) / 0.5),
        (TotalVariation(bound=1.0), np.abs(p - e).sum()),
    ):
        assert_allclose(exact(regularizer.conjugate, p, e), want, rtol=1e-12, err_msg=str(regularizer))
        assert_allclose(exact(regularizer.conjugate, e, e), 0, atol=1e-14)


def test_what_only_one_of_the_two_does_costs_what_the_divergence_says():
    p, e = np.array([0.5, 0.5, 0.0]), np.array([0.0, 0.5, 0.5])
    wide = float("inf")
    for regularizer in (ReverseKL(bound=wide), ForwardKL(bound=wide), ChiSquared(bound=wide)):
        assert exact(regularizer.conjugate, p, e) == np.inf
    assert_allclose(exact(TotalVariation(bound=1.0).conjugate, p, e), 1)
    # log(1/2) of nothing, and rewards of 3 and −3: 0.5·(1 − e^(−3)) + 0.5·3.
    assert_allclose(exact(ReverseKL(bound=3.0).conjugate, p, e), 0.5 * (1 - np.exp(-3)) + 1.5, rtol=1e-12)


# Loss and gradient at one score of the expert, 0.5, and one of the learner, −0.2, with their values by hand.
BY_HAND = {
    "jensen_shannon": (
        JensenShannon(),
        np.log1p(np.exp(-0.5)) + np.log1p(np.exp(-0.2)),
        -1 / (1 + np.exp(0.5)),
        1 / (1 + np.exp(0.2)),
    ),
    "reverse_kl": (ReverseKL(), -0.2 - (1 - np.exp(-0.5)), -np.exp(-0.5), 1.0),
    "forward_kl": (ForwardKL(), np.exp(-0.2) - 1 - 0.5, -1.0, np.exp(-0.2)),
    "chi_squared": (ChiSquared(alpha=0.5), -0.2 - (0.5 - 0.25 * 0.25), -(1 - 0.5 * 0.5), 1.0),
    "chi_squared_mixture": (ChiSquaredMixture(alpha=1.0), (-0.2 + 0.02) - (0.5 - 0.125), -(1 - 0.5), 1 - 0.2),
    "total_variation": (TotalVariation(bound=1.0), -0.2 - 0.5, -1.0, 1.0),
    # The mean of all scores is 0.15: 0.1 · 0.15², and 0.1 · 2 · 0.15 / 2 in each gradient.
    "wasserstein": (Wasserstein(anchor=0.1), -0.7 + 0.1 * 0.15**2, -1 + 0.015, 1 + 0.015),
    "fem": (FeatureExpectation(), -0.7, -1.0, 1.0),
    "gtal": (GameTheoretic(), -0.7, -1.0, 1.0),
    "airl_link": (
        AIRLLink(),
        np.log1p(np.exp(-0.5)) + np.log1p(np.exp(-0.2)),
        -1 / (1 + np.exp(0.5)),
        1 / (1 + np.exp(0.2)),
    ),
    "fairl_link": (
        FAIRLLink(),
        np.log1p(np.exp(-0.5)) + np.log1p(np.exp(-0.2)),
        -1 / (1 + np.exp(0.5)),
        1 / (1 + np.exp(0.2)),
    ),
}


def test_every_registered_regularizer_is_worked_by_hand():
    assert BY_HAND.keys() >= REGULARIZERS.keys()
    assert sum(name not in ("airl_link", "fairl_link") for name in BY_HAND) >= 8
    for name, cls in REGULARIZERS.items():
        assert type(BY_HAND[name][0]) is cls
        assert from_json(to_json(cls())) == cls()


@pytest.mark.parametrize("name", BY_HAND)
def test_losses_and_their_gradients_by_hand(name):
    regularizer, want, want_expert, want_learner = BY_HAND[name]
    loss, slopes = jax.value_and_grad(regularizer.loss, argnums=(0, 1))(jnp.array([0.5]), jnp.array([-0.2]))
    assert_allclose([loss, *np.concatenate(slopes)], [want, want_expert, want_learner], rtol=1e-5)
    # Means over the two samples, whatever their sizes.
    repeated = regularizer.loss(jnp.full(3, 0.5), jnp.full(2, -0.2))
    assert_allclose(repeated, want, rtol=1e-5)


@pytest.mark.parametrize("name", BY_HAND)
def test_rewards_can_be_given_either_sign(name):
    regularizer = BY_HAND[name][0]
    score = jnp.linspace(-30, 30, 13)
    positive, negative = (regularizer.signed_reward(score, sign) for sign in ("positive", "negative"))
    assert np.all(positive >= 0)
    assert np.all(negative <= 0)
    assert np.all(np.isfinite(positive))
    if name != "jensen_shannon":  # whose two forms are two links, both the paper's
        middle = jnp.linspace(-0.9, 0.9, 5)
        for sign in ("positive", "negative"):
            shift = regularizer.signed_reward(middle, sign) - regularizer.reward(middle)
            assert_allclose(shift, shift[0], rtol=1e-5)


def test_jensen_shannons_loss_is_the_logistic_one():
    expert, learner = jnp.array([0.3, -2.0, 40.0]), jnp.array([1.5, -60.0])
    psi = JensenShannon()
    assert_allclose(psi.loss(expert, learner), logistic_loss(expert, learner))
    # Which is L reward − E gain, and 2 log 2.
    rest = jnp.mean(psi.reward(learner)) - jnp.mean(psi.gain(expert))
    assert_allclose(psi.loss(expert, learner), rest + 2 * np.log(2), rtol=1e-6)


def test_scores_out_of_range_may_come_back_and_go_no_further():
    score = jnp.array([-3.0, -3.0, 0.5, 3.0, 3.0])
    towards = jnp.array([1.0, -1.0, 1.0, 1.0, -1.0])  # descent goes against these
    value, pull = jax.vjp(lambda s: into_range(s, -1.0, 1.0), score)
    assert_allclose(value, [-1, -1, 0.5, 1, 1])
    assert_allclose(pull(towards)[0], [0, -1, 1, 1, 0])
    # So an expert's step that was scored far too low is scored higher, and one scored far too high is let be.
    slope = jax.grad(TotalVariation(bound=1.0).loss)(jnp.array([-9.0, 9.0]), jnp.zeros(1))
    assert_allclose(slope, [-0.5, 0])


def test_fem_weighs_features_by_their_differences_and_its_conjugate_is_their_distance():
    rng = np.random.default_rng(4)
    features = rng.normal(size=(8, 3))
    learner, expert = occupancies(5)
    gap = (expert - learner) @ features
    psi = FeatureExpectation()
    assert_allclose(psi.weights(jnp.array([3.0, -4.0])), [0.6, -0.8], rtol=1e-6)
    assert_allclose(psi.weights(jnp.zeros(2)), 0)
    want = exact(psi.conjugate, learner, expert, features)
    # sup of ⟨c, ρ_π − ρ_E⟩ over c = −w·f in the unit ball, by a search over directions.
    found = minimize(lambda v: -(gap @ v) / np.linalg.norm(v), np.ones(3), tol=1e-12)
    assert_allclose(want, -found.fun, rtol=1e-8)
    score = features @ exact(psi.weights, gap)
    assert_allclose(expert @ score - learner @ score, want, rtol=1e-12)
    assert_allclose(exact(psi.conjugate, learner, expert), np.linalg.norm(expert - learner))
    assert np.isfinite(exact(jax.grad(psi.conjugate), expert, expert)).all()


@pytest.mark.parametrize("signed", [True, False])
def test_gtal_weighs_the_feature_that_differs_most_and_its_conjugate_is_that_difference(signed):
    rng = np.random.default_rng(6)
    features = rng.normal(size=(8, 4))
    learner, expert = occupancies(7)
    gap = (expert - learner) @ features
    psi = GameTheoretic(signed=signed)
    assert_allclose(psi.weights(jnp.array([3.0, -4.0, 1.0])), [0, -1, 0] if signed else [1, 0, 0])
    want = exact(psi.conjugate, learner, expert, features)
    # sup over the simplex of (signed) features, by linear programming.
    value = np.concatenate([gap, -gap]) if signed else gap
    found = linprog(-value, A_eq=np.ones((1, len(value))), b_eq=[1.0], bounds=(0, None))
    assert_allclose(want, -found.fun, rtol=1e-9)
    score = features @ exact(psi.weights, gap)
    assert_allclose(expert @ score - learner @ score, want, rtol=1e-12)


def test_the_papers_features_by_hand():
    obs, action = jnp.array([2.0, -1.0]), jnp.array([0.5])
    got = paper_features(obs, action)
    assert_allclose(got, [2, -1, 0.5, 4e-4, 1e-4, 0.25e-4, 1], rtol=1e-6)
    blocked = paper_features(obs, jnp.array(1), num_actions=3)
    assert_allclose(blocked, [0] * 5 + [2, -1, 4e-4, 1e-4, 1] + [0] * 5, rtol=1e-6)


def test_wasserstein_is_the_least_cost_of_carrying_one_measure_to_the_other():
    learner, expert = occupancies(8, 6)
    place = np.random.default_rng(9).normal(size=(6, 2))
    distance = np.linalg.norm(place[:, None] - place[None], axis=2)
    want = exact(Wasserstein().conjugate, learner, expert, place)
    # The transport problem, which is the dual of what the regularizer solves.
    rows, columns = np.kron(np.eye(6), np.ones(6)), np.kron(np.ones(6), np.eye(6))
    carried = linprog(distance.ravel(), A_eq=np.vstack([rows, columns]), b_eq=np.concatenate([learner, expert]))
    assert_allclose(want, carried.fun, rtol=1e-8)
    # And on a line it is what SciPy says.
    line = place[:, :1]
    assert_allclose(
        exact(Wasserstein().conjugate, learner, expert, line),
        wasserstein_distance(line[:, 0], line[:, 0], learner, expert),
        rtol=1e-8,
    )
    # A step more at a far place: what cannot be carried costs the bound.
    more = learner.copy()
    more[0] += 0.5
    assert_allclose(wasserstein_1(more, learner, distance, bound=10.0), 0.5 * 10.0, rtol=1e-9)


def test_only_slopes_above_one_are_penalized():
    psi = Wasserstein(penalty=10.0)
    assert_allclose(psi.slope_penalty(jnp.array([0.2, 1.0, 1.5])), [0, 0, 2.5])
    assert_allclose(TotalVariation(bound=1.0).slope_penalty(jnp.array([3.0])), 0)


def test_links_say_that_they_are_no_regularizers():
    score = jnp.array([-1.0, 0.0, 0.7])
    assert_allclose(AIRLLink().reward(score), score)
    assert_allclose(FAIRLLink().reward(score), [np.exp(-1), 0, -0.7 * np.exp(0.7)], rtol=1e-6)
    assert_allclose(AIRLLink(bound=2.0).reward(jnp.array([-9.0, 9.0])), [-2, 2])
    # FAIRL's rises all the way from 0 to a score of −1, whatever the bound, and stays what it is above the bound.
    far = jnp.array([-60.0, -9.0, -4.0, -2.0, -1.0])
    assert np.all(np.diff(FAIRLLink().reward(far)) > 0)
    assert_allclose(FAIRLLink().reward(far[1]), 9 * np.exp(-9), rtol=1e-5)
    assert_allclose(FAIRLLink().reward(jnp.array([2.0, 9.0])), [-2 * np.exp(2)] * 2, rtol=1e-6)
    for link in (AIRLLink(), FAIRLLink()):
        assert "no regularizer's conjugate" in link.divergence
        with pytest.raises(RequestError, match="no cost regularizer"):
            link.scores_of_table(3)


def test_a_step_on_airls_reward_lowers_its_divergence_and_on_fairls_raises_it():
    """Of one state, where every direction is open; docs/regularizers.md, Links, has the sign by hand."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        learner, expert = rng.dirichlet(np.ones(5), size=2)
        score = np.log(expert / learner)
        wide = float(np.max(np.abs(score))) + 1

        def of_learner(rho, expert=expert):
            return rho @ np.log(rho / expert)

        def of_expert(rho, expert=expert):
            return expert @ np.log(expert / rho)

        for psi, divergence, change in (
            (AIRLLink(bound=wide), of_learner, -1),
            (FAIRLLink(bound=wide), of_expert, 1),
            (FAIRLLink(), of_expert, 1),
            (ForwardKL(bound=wide), of_expert, -1),
        ):
            reward = np.asarray(psi.reward(jnp.asarray(score)), float)
            if not isinstance(psi, ForwardKL) and psi.bound == wide:
                assert_allclose(learner @ reward, -divergence(learner), rtol=1e-4)
            step = 1e-5 * learner * (reward - learner @ reward) / np.max(np.abs(reward))
            assert np.sign(divergence(learner + step) - divergence(learner)) == change


def test_settings_that_are_not_positive_are_refused():
    for make in (
        lambda: ReverseKL(bound=0.0),
        lambda: ChiSquared(alpha=-1.0),
        lambda: Wasserstein(penalty=float("nan")),
    ):
        with pytest.raises(RequestError, match="make it more than 0"):
            make()


SLOPED = ScoreNetwork(
    Spec(1, BoxActions((-1.0,), (1.0,))),
    (),
    activation="tanh",
    key=jax.random.key(0),
    make_network=lambda *sizes, **settings: lambda x: (3 * x[0] + 4 * x[1])[None],
)
"""3·observation + 4·action: a slope of 5 everywhere."""


@pytest.mark.parametrize(("norm", "want"), [(1.0, 0.5 * 16), (0.0, 0.5 * 25)])
def test_gails_gradient_penalty_is_part_of_the_loss_by_hand(norm, want):
    at = jnp.full((4, 2), 0.1)
    total, said = GAIL(gradient_penalty=0.5, gradient_norm=norm).score_loss(SLOPED, at, at, jnp.full(4, 0.5))
    assert_allclose(total - said["score/loss"], want, rtol=1e-5)


def test_gails_entropy_of_the_discriminator_is_taken_off_the_loss_by_hand():
    # Scores of 0.7 for the expert and −1.4 for the learner: D is their logistic function.
    expert, learner = jnp.full((4, 2), 0.1), jnp.full((4, 2), -0.2)
    gail = GAIL(gradient_penalty=0.0, score_ent_coef=0.3)
    total, said = gail.score_loss(SLOPED, expert, learner, jnp.full(4, 0.5))
    d = 1 / (1 + np.exp([-0.7, 1.4]))
    entropy = -(d * np.log(d) + (1 - d) * np.log(1 - d)).mean()
    assert_allclose(total - said["score/loss"], -0.3 * entropy, rtol=1e-5)


def test_gails_weight_decay_shrinks_weights_by_hand():
    """Without a gradient, a step takes off the weight its decay times the step size."""
    gail, weights = GAIL(weight_decay=0.2, learning_rate=0.1), {"w": jnp.array([1.0, -3.0])}
    step, _ = gail._optimizer.update({"w": jnp.zeros(2)}, gail._optimizer.init(weights), weights)
    assert_allclose(step["w"], [-0.02, 0.06], rtol=1e-5)


@pytest.mark.parametrize("name", sorted(REGULARIZERS))
def test_every_regularizer_goes_through_a_whole_update_off_policy(name):
    spec, gail = SPECS["box"], dataclasses.replace(VARIANTS["gail-sac"], regularizer=REGULARIZERS[name]())
    gail = dataclasses.replace(gail, reward_form="centered")
    state = gail.init(spec, key=jax.random.key(0))
    rollout, demos = random_transitions(spec, (8, 4)), expert_data(spec)
    after, metrics = jax.eval_shape(lambda s, k: gail.update(s, rollout, demos, key=k), state, jax.random.key(1))
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert {"score/loss", "reward/absorbing", "value/loss"} <= metrics.keys()
    state = dataclasses.replace(state, forward=gail.forward.store(state.forward, rollout))
    score, _, metrics = gail._improve_score(state, rollout, demos, jax.random.key(2))
    state = dataclasses.replace(state, score=score)
    paid, ending, _ = gail._reward_from_replay(gail.forward, state, demos, jax.random.key(3))
    rewards = jax.vmap(paid)(flatten_time(rollout))
    assert all(np.isfinite(x).all() for x in (rewards, ending, *metrics.values()))
    assert np.ptp(rewards) > 0
