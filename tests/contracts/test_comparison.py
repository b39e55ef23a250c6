"""Interquartile means, their intervals and probabilities of improvement, against numbers worked by hand."""

import dataclasses
import itertools
import json
import math
from pathlib import Path

import pytest

from menura.core import RequestError
from menura.report.comparison import compare, tables
from menura.report.comparison_figure import comparison_figure
from menura.report.runs import Run
from menura.report.statistics import improvement_interval, probability_of_improvement, stratified_bootstrap


def run(env, algorithm, seed, mean_return, expert=100.0, **learner):
    return Run(
        path=Path(f"{env}-{algorithm}-{seed}"),
        config={"env": env, "algorithm": algorithm, "seed": seed, "learner": learner},
        result={
            "mean_return": float(mean_return),
            "expert_return": expert,
            "random_return": 0.0,
            "normalized": mean_return / expert,
        },
    )


def test_the_probability_of_improvement_counts_pairs_and_halves_ties():
    # 3 > 1, 3 = 3, 2 > 1, 2 < 3: (1 + ½ + 1 + 0) / 4.
    assert probability_of_improvement([[3.0, 2.0]], [[1.0, 3.0]]) == pytest.approx(2.5 / 4)
    # Tasks weigh the same, however many runs they have.
    assert probability_of_improvement([[3.0, 2.0], [5.0]], [[1.0, 3.0], [0.0]]) == pytest.approx((2.5 / 4 + 1) / 2)
    assert probability_of_improvement([[1.0, 3.0]], [[3.0, 2.0]]) == pytest.approx(1 - 2.5 / 4)


def test_the_interval_of_an_improvement_is_that_of_all_resamples():
    x, y = [3.0, 2.0], [1.0, 3.0]
    # Two runs a side have 4 × 4 equally likely resamples: few enough to go through. Their probabilities, in 16ths of
    # all: 0 1, ¼ 2, ½ 3, ⅝ 4, ¾ 2, 1 4.
    draws = list(itertools.product(range(2), repeat=2))
    whole = [
        probability_of_improvement([[x[i] for i in of_x]], [[y[j] for j in of_y]]) for of_x in draws for of_y in draws
    ]
    assert sorted(whole) == [0.0, *[0.25] * 2, *[0.5] * 3, *[0.625] * 4, *[0.75] * 2, *[1.0] * 4]
    assert improvement_interval([x], [y], num_resamples=4000) == (0.0, 1.0)
    # 30% lie at ½ or below it (3 to 6 of 16), 70% at ¾ or below it (10 to 12 of 16).
    assert improvement_interval([x], [y], level=0.4, num_resamples=4000) == (0.5, 0.75)


def test_the_interval_of_one_sided_runs_is_a_point():
    assert improvement_interval([[5.0, 6.0], [7.0, 8.0]], [[1.0, 2.0], [3.0, 4.0]]) == (1.0, 1.0)


def test_the_interval_of_an_interquartile_mean_keeps_every_tasks_weight():
    # Each task's runs are equal, so that every resample is the whole: (1 + 1 + 3 + 3) without the ends.
    assert stratified_bootstrap([[1.0, 1.0], [3.0, 3.0]]) == (2.0, 2.0)


def test_the_interval_is_that_of_the_interquartile_mean_and_not_of_the_mean():
    # Of four draws from {0, 0, 0, 100}, without the lowest and the highest, the two that are left are both 0 where at
    # most one is 100: ¾⁴ + 4·¼·¾³ = 0.738. Seven in ten resamples lie at 0; of plain means every third lies above.
    assert stratified_bootstrap([[0.0, 0.0, 0.0, 100.0]], level=0.4, num_resamples=4000) == (0.0, 0.0)


def test_there_is_no_interval_where_one_task_has_one_run():
    found = compare([run("A", "bc", 0, 10), run("B", "bc", 0, 20), run("B", "bc", 1, 30)])
    (overall,) = found.overall
    assert overall.score.value == pytest.approx(0.2)
    assert math.isnan(overall.score.low)
    assert math.isnan(overall.score.high)


def test_the_same_run_twice_is_no_second_seed():
    old, new = run("A", "bc", 0, 10), run("A", "bc", 0, 30)
    old, new = (dataclasses.replace(r, path=Path(f"2026112{i}-000000-s0")) for i, r in enumerate((old, new)))
    found = compare([new, old, run("A", "bc", 1, 50)])
    assert found.entries[0].returns == (30.0, 50.0)
    assert found.num_repeats == 1
    assert compare([new, run("A", "bc", 1, 50)]).num_repeats == 0


def test_seeds_that_are_paid_the_rewards_of_different_runs_are_one_experiment():
    def paid(algorithm):
        runs = [run("A", "ppo", s, 10 * s) for s in range(2)]
        for s, one in enumerate(runs):
            one.config["reward"] = {"path": f"runs/A/{algorithm}/2026-s{s}", "part": "reward", "form": None}
        return runs

    (entry,) = compare(paid("gail")).entries
    assert entry.seeds == (0, 1)
    # Rewards of another algorithm's runs are another experiment.
    assert [entry.seeds for entry in compare([*paid("gail"), *paid("airl")]).entries] == [(0, 1), (0, 1)]


def test_runs_whose_settings_cannot_be_read_are_all_kept():
    unknown = [dataclasses.replace(run("A", "bc", 0, r), path=Path(f"{r}"), config={}) for r in (1, 2)]
    assert compare(unknown).num_repeats == 0


def test_runs_are_compared_by_environment_and_over_all():
    runs = [run("A", "bc", s, r) for s, r in enumerate([10, 20, 30, 90])]
    runs += [run("A", "gail", s, r) for s, r in enumerate([20, 40, 60, 80])]
    runs += [run("B", "bc", 0, 5, expert=10.0), run("B", "gail", 0, 9, expert=10.0)]
    found = compare(runs)
    by_name = {(entry.env, entry.label): entry for entry in found.entries}
    assert by_name["A", "BC"].mean_return.value == 25.0
    assert by_name["A", "GAIL"].score.value == pytest.approx(0.5)
    assert math.isnan(by_name["B", "BC"].mean_return.low)
    # Over both: 0.1 0.2 0.3 0.5 0.9 without the lowest and the highest.
    overall = {o.label: o for o in found.overall}
    assert overall["BC"].score.value == pytest.approx((0.2 + 0.3 + 0.5) / 3)
    assert (overall["BC"].num_runs, overall["BC"].envs) == (5, ("A", "B"))
    (improvement,) = found.improvements
    # In A GAIL wins 1 - ½ + 2 + … of 16 pairs, in B its only one.
    won = sum((g > b) + (g == b) / 2 for g in (20, 40, 60, 80) for b in (10, 20, 30, 90)) / 16
    assert (improvement.better, improvement.worse) == ("GAIL", "BC")
    assert improvement.probability.value == pytest.approx((won + 1) / 2)
    assert math.isnan(improvement.probability.low)
    assert json.loads(json.dumps(found.to_json()["improvement"]))[0]["better"] == "GAIL"


def test_settings_that_differ_make_two_experiments():
    runs = [run("A", "gail", s, 10 * s, gamma=gamma) for s in range(2) for gamma in (0.9, 0.99)]
    assert [entry.label for entry in compare(runs).entries] == ["GAIL, gamma 0.9", "GAIL, gamma 0.99"]


def test_unfinished_runs_are_left_out_and_nothing_else_is_refused():
    going = Run(path=Path("going"), config={"env": "A", "algorithm": "bc", "seed": 1})
    assert len(compare([run("A", "bc", 0, 1.0), going]).entries[0].seeds) == 1
    with pytest.raises(RequestError, match="has finished"):
        compare([going])


def test_tables_and_picture_name_every_experiment(monkeypatch):
    from matplotlib.figure import Figure

    from menura.report import comparison_figure as module
    from menura.report.style import LIGHT

    drawn = []

    def render(draw, *, height):
        figure = Figure()
        draw(figure, LIGHT)
        drawn.extend(figure.axes)
        return b"light", b"dark"

    monkeypatch.setattr(module, "render", render)
    runs = [run(env, name, s, r) for env in "AB" for name, r in (("bc", 10), ("gail", 90)) for s in range(2)]
    found = compare(runs)
    assert [len(table.rows) for table in tables(found)] == [4, 2, 1]
    assert "BC on A" in comparison_figure(found).alt
    titles = [axes.get_title("left") for axes in drawn]
    assert titles == ["A", "B", "Over all environments", "Probability of improvement"]
    assert all(axes.get_xlabel() for axes in drawn)
