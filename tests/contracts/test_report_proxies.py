"""What a report says of a run's proxies: the figure, the red flags, and why there are none."""

import csv
import json

import pytest

from menura.report import pages, proxies
from menura.report.groups import group_seeds
from menura.report.proxies import flags_in_words, proxies_in_words, proxy_curves
from menura.report.runs import read_run
from menura.report.style import LIGHT
from tests.contracts.test_report import write_run
from tests.math.test_rules import readings


@pytest.fixture
def run_with(tmp_path):
    """Writes a run folder whose evaluations hold these readings."""

    def write(rows, *, seed=0, heldout="num_demos"):
        path = write_run(tmp_path, seed=seed)
        config = json.loads((path / "config.json").read_text())
        (path / "config.json").write_text(json.dumps(config | {"heldout": heldout}))
        if rows:
            with (path / "evaluations.csv").open("w", newline="") as file:
                writer = csv.DictWriter(file, ["mean_return", *rows[0]], restval=7.0)
                writer.writeheader()
                writer.writerows(rows)
        return read_run(path)

    return write


@pytest.fixture
def drawn(monkeypatch):
    """Axes of the figures, which are not made into pictures."""
    from matplotlib.figure import Figure

    axes = []

    def render(draw, *, height=4.0):
        figure = Figure()
        draw(figure, LIGHT)
        axes.extend(figure.axes)
        return b"light", b"dark"

    monkeypatch.setattr(proxies, "render", render)
    return axes


def test_the_figure_shows_the_distance_the_expert_s_own_and_what_the_score_tells_apart(run_with, drawn):
    rows = readings(heldout_loss=2.0, score_heldout=1.0, score_learner=0.5)
    figure = proxy_curves("CartPole-v1", group_seeds([run_with(rows)]))
    distance, apart, loss, score, moved, saturated = drawn
    assert [axes.get_ylabel() for axes in (loss, moved, saturated)] == ["Held-out loss", "Moved (nats)", "Saturated"]
    heldout, of_learner = score.lines[:2]
    assert set(heldout.get_ydata()) == {1.0}
    assert (set(of_learner.get_ydata()), of_learner.get_linestyle()) == ({0.5}, "--")
    learner, expert = distance.lines[:2]
    assert learner.get_ydata()[3] == 0.02
    assert set(expert.get_ydata()) == {0.005}
    assert list(apart.lines[0].get_ydata())[-2:] == [0.55, 0.6]
    assert "0.011" in figure.alt
    assert "held out" in figure.caption


def test_without_a_score_the_figure_shows_the_held_out_loss(run_with, drawn):
    rows = [
        {"env_steps": row["env_steps"], "proxy/mmd": row["proxy/mmd"], "proxy/heldout_loss": 2.0} for row in readings()
    ]
    assert proxy_curves("CartPole-v1", group_seeds([run_with(rows)])) is not None
    assert [axes.get_ylabel() for axes in drawn] == ["Distance (MMD²)", "Held-out loss"]


def test_runs_without_proxies_have_no_such_figure(run_with):
    assert proxy_curves("CartPole-v1", group_seeds([run_with(None)])) is None


def test_flags_are_in_words_with_the_knob_and_on_the_page(run_with):
    good, strong = run_with(readings()), run_with(readings(saturation=0.9), seed=1)
    assert flags_in_words(good) == []
    (flag,) = flags_in_words(strong)
    assert "--gradient-penalty" in flag
    page = pages.render_page([good, strong], [], [], title="t")
    assert page.count('class="flags"') == 1
    assert flag in page.replace("&#39;", "'")


def test_a_run_says_its_best_checkpoint_or_which_option_would_tell_it(run_with):
    assert "step 700" in proxies_in_words(run_with(readings()))
    assert "--num-demos, --subsample or --heldout-fraction" in proxies_in_words(run_with(None, seed=1, heldout=None))
    assert "--eval-every" in proxies_in_words(run_with(None, seed=2))
