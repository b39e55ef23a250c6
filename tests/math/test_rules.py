"""What is decided from a run's proxies, on numbers made up to be just so."""

import numpy as np
import pytest

from menura.imitation.rules import best_in, columns_of, converged, newest_is_best, red_flags, still_falls

GOOD = {
    "proxy/mmd": [0.7, 0.4, 0.1, 0.02, 0.01, 0.012, 0.009, 0.011],
    "proxy/mmd_expert": [0.005] * 8,
    "proxy/moved": [np.nan, 0.2, 0.2, 0.15, 0.05, 0.04, 0.03, 0.04],
    "proxy/told_apart": [0.95, 0.9, 0.8, 0.7, 0.65, 0.6, 0.55, 0.6],
    "proxy/reward_order": [0.95, 0.9, 0.8, 0.7, 0.65, 0.6, 0.55, 0.6],
    "proxy/reward_std": [0.5] * 8,
    "proxy/score_std": [1.0] * 8,
    "proxy/saturation": [0.0] * 8,
    "proxy/action_p_value": [0.005] * 8,
}


def readings(**changes):
    columns = GOOD | {f"proxy/{name}": values for name, values in changes.items()}
    rows = [{"env_steps": 100.0 * (i + 1)} for i in range(8)]
    for name, values in columns.items():
        values = values if isinstance(values, list) else [values] * 8
        for row, value in zip(rows, values, strict=True):
            row[name] = value
    return rows


def names(rows):
    return [flag.name for flag in red_flags(columns_of(rows))]


def test_the_best_evaluation_is_the_nearest_and_of_equals_that_of_the_highest_held_out_score():
    assert best_in(columns_of(readings())) == 700
    tied = readings(mmd=[0.2, 0.1, 0.1, 0.1, 0.3, 0.3, 0.3, np.nan], score_heldout=[5, 1, 3, 2, 9, 9, 9, 9])
    assert best_in(columns_of(tied)) == 300
    assert best_in({}) is None
    assert [newest_is_best(readings()[:n]) for n in range(1, 9)] == [True, True, True, True, True, False, True, False]


def test_a_fall_counts_where_it_is_twice_its_standard_error():
    # Means 3 and 2, each with variance 1: the error is √(2/3) = 0.816, and 1 < 1.63.
    assert not still_falls(np.array([2.0, 3, 4, 1, 2, 3]))
    # The same means with variance 1/4: the error is 0.408, and 1 > 0.816.
    assert still_falls(np.array([2.5, 3, 3.5, 1.5, 2, 2.5]))
    assert not still_falls(np.array([1.0, 1, 1, 2, 2, 2]))


def test_a_run_has_converged_when_everything_says_so_and_not_before():
    rows = readings()
    # Six evaluations are needed, and the first of them still moved.
    assert not any(converged(rows[:n]) for n in range(6))
    assert converged(rows)
    assert not converged(readings(moved=[0.2] * 8))
    assert not converged(readings(told_apart=[0.8] * 8))
    assert not converged(readings(mmd=[0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]))
    assert not converged(readings(saturation=0.9))


def test_without_a_score_the_distance_must_have_fallen_to_a_tenth():
    def without_score(**changes):
        kept = ("env_steps", "proxy/mmd", "proxy/mmd_expert", "proxy/moved")
        return [{name: row[name] for name in kept} for row in readings(**changes)]

    assert converged(without_score())
    assert not converged(without_score(mmd=[0.7, 0.4, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2]))


def test_a_learner_that_came_to_rest_far_from_the_expert_has_not_converged():
    """It no longer falls, it rests, and its score tells nothing apart: but it lies where it began."""
    far = {"mmd": [0.70, 0.68, 0.66, 0.66, 0.66, 0.66, 0.66, 0.66]}
    assert names(readings(**far)) == []
    assert not converged(readings(**far))
    # 0.03 is 0.02 and twice the expert's own beside it; 0.07 a tenth of the first.
    near = [0.7, 0.4, 0.1, 0.02, 0.03, 0.03, 0.03, 0.03]
    assert converged(readings(mmd=[0.2, *near[1:]]))
    assert not converged(readings(mmd=[0.2, *near[1:4], 0.04, 0.04, 0.04, 0.04]))
    assert converged(readings(mmd=[*near[:4], 0.04, 0.04, 0.04, 0.04]))
    # The expert's own is not always known.
    assert converged(readings(mmd_expert=np.nan))


def test_a_good_run_raises_no_flag():
    assert names(readings()) == []
    # Nor does one that has hardly begun, whatever its first scores are.
    assert names(readings(reward_order=0.1, mmd=0.9)[:2]) == []


@pytest.mark.parametrize(
    ("changes", "flag"),
    [
        ({"reward_std": 1e-5}, "constant reward"),
        ({"score_std": 0.1}, "score too weak"),
        ({"score_std": 0.1, "reward_std": 1e-5}, "score too weak"),
        ({"reward_order": [0.9] * 4 + [0.1] * 4}, "sign flipped"),
        ({"saturation": 0.9}, "score too strong"),
        ({"action_p_value": 0.4}, "actions do not follow from observations"),
        ({"mmd": [0.7, 0.6, 0.7, 0.7, 0.8, 0.7, 0.7, 0.7]}, "no nearer"),
    ],
)
def test_each_flag_is_raised_by_what_it_is_for_and_alone(changes, flag):
    assert names(readings(**changes)) == [flag]


def test_a_learner_that_began_near_is_no_nearer_only_where_it_is_twice_as_far():
    near = [0.017, 0.026, 0.005, 0.003, 0.024, 0.027, 0.032, 0.032]
    assert names(readings(mmd=near, mmd_expert=0.0)) == []
    assert names(readings(mmd=[*near[:5], 0.035, 0.035, 0.036], mmd_expert=0.0)) == ["no nearer"]


def test_one_odd_evaluation_raises_no_flag():
    assert names(readings(reward_order=[0.9] * 7 + [0.05], saturation=[0.0] * 7 + [1.0])) == []


def test_a_score_that_says_the_same_of_both_is_no_flaw_where_they_are_alike():
    assert names(readings(score_std=[1.0] * 4 + [0.1] * 4)) == []


def test_what_is_not_known_raises_no_flag():
    rows = [{"env_steps": row["env_steps"], "proxy/mmd": row["proxy/mmd"]} for row in readings()]
    assert names(rows) == []
    assert red_flags({}) == []
