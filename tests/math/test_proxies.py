"""Distances between samples of steps, by hand and against what they must be on known distributions."""

import math

import numpy as np
import pytest

from menura.imitation.proxies import (
    dependence_p_value,
    gaussian_kernel,
    root_mean_square_distance,
    saturation,
    share_above,
    squared_distances,
    squared_mmd,
)


def column(*values):
    return np.array(values, float)[:, None]


def test_the_squared_mmd_of_two_points_each_is_the_sum_written_out():
    # Within: one pair at distance 1, and one at 2; between: 3, 5, 2, 4 apart.
    def k(d):
        return math.exp(-(d**2) / (2 * 1.5**2))

    got = squared_mmd(column(0, 1), column(3, 5), bandwidth=1.5)
    assert got == pytest.approx(k(1) + k(2) - 2 * (k(3) + k(5) + k(2) + k(4)) / 4)


def test_the_squared_mmd_is_unbiased_and_its_limit_is_the_closed_form(rng):
    # Of N(0, 1) and N(1, 1) with bandwidth 1: 2/√3 (1 − exp(−1/6)).
    exact = 2 / math.sqrt(3) * (1 - math.exp(-1 / 6))
    same = [squared_mmd(*rng.normal(size=(2, 40, 1)), bandwidth=1.0) for _ in range(400)]
    moved = [squared_mmd(rng.normal(size=(40, 1)), rng.normal(1.0, size=(40, 1)), bandwidth=1.0) for _ in range(400)]
    assert abs(np.mean(same)) < 4 * np.std(same) / 20
    assert min(same) < 0
    assert abs(np.mean(moved) - exact) < 4 * np.std(moved) / 20


def test_far_points_have_a_kernel_of_zero_and_distances_are_never_negative():
    x = column(1e3, 1e3 + 1e-7)
    assert squared_distances(x, x).min() >= 0
    np.testing.assert_allclose(
        gaussian_kernel(column(0.0), column(0.0, 2.0, 1e4), bandwidth=2.0)[0], [1, math.exp(-0.5), 0]
    )


def test_the_width_is_the_root_of_the_mean_squared_distance_of_all_pairs():
    # Of 0, 1, 4 each with each: three zeros, and twice 1, 16 and 9.
    assert root_mean_square_distance(column(0, 1, 4)) == pytest.approx(math.sqrt(2 * (1 + 16 + 9) / 9))
    assert root_mean_square_distance(column(2, 2, 2, 2)) == 1


def test_the_share_above_counts_pairs_and_halves_ties():
    # 3 is above 1 and 2 and ties with 3; 1 ties with 1 and is below the others.
    assert share_above(np.array([3.0, 1.0]), np.array([1.0, 2.0, 3.0])) == pytest.approx((2.5 + 0.5) / 6)
    high, low = np.array([0.1, 2.0, 5.0]), np.array([0.0, 1.0])
    assert share_above(np.exp(high), np.exp(low)) == share_above(high, low)
    assert math.isnan(share_above(high, np.empty(0)))


def test_saturation_counts_both_ends():
    assert saturation(np.array([-6.0, -5.0, 0.0, 5.1]), bound=5.0) == 0.5


def test_dependence_is_found_where_it_is_and_not_where_it_is_not(rng):
    x = rng.normal(size=(100, 3))
    follows = (x[:, :1] + 0.5 * x[:, 1:2] > 0).astype(float)
    assert dependence_p_value(x, follows) == pytest.approx(1 / 200)
    shuffled = [dependence_p_value(x, rng.permutation(follows)) for _ in range(20)]
    assert np.mean(shuffled) > 0.3
    assert math.isnan(dependence_p_value(x, np.ones((100, 1))))
