"""The loss, its sign, and the divergence behind GAIL."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from menura.imitation.adversarial import gradient_penalty, reward_of_score
from menura.regularizers import JensenShannon, jensen_shannon, logistic_loss

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

    score = jnp.zeros(4)
    for _ in range(5_000):
        score = score + 2.0 * jax.grad(objective)(score)
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
        got = gradient_penalty(lambda x: 3 * x[0] + 4 * x[1], jnp.zeros(2), target=target)
        np.testing.assert_allclose(got, want, rtol=1e-5)
