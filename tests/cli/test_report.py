"""``menura report`` and ``menura video`` on a tiny run."""

import sys

import numpy as np
import pytest

from menura import cli


def menura(*arguments: object) -> int:
    """The exit code of a command."""
    try:
        cli.main([str(argument) for argument in arguments])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of cloning, of a few updates, and the folder above it."""
    folder = tmp_path_factory.mktemp("trained")
    obs = np.zeros((21, 4), np.float32)
    obs[:, 2] = np.linspace(-0.1, 0.1, 21)
    np.savez(
        folder / "expert.npz",
        observations=np.concatenate([obs[:-1]] * 3),
        actions=np.concatenate([np.arange(20) // 10] * 3),
        rewards=np.ones(60, np.float32),
        episode_lengths=np.array([20, 20, 20]),
        terminated=np.array([True] * 3),
        final_observations=np.stack([obs[-1]] * 3),
        meta=np.array("{}"),
    )
    flags = ("--demos", folder / "expert.npz", "--out", folder / "runs", "--total-steps", 10_000, "--eval-every", 0)
    assert menura("train", "bc", "CartPole-v1", *flags) == 0
    (run,) = (folder / "runs" / "CartPole-v1" / "bc").iterdir()
    return run


def test_report_writes_a_page_and_prints_the_table(trained, tmp_path, capsys):
    assert menura("report", trained.parent, "-o", tmp_path / "page.html") == 0
    told = capsys.readouterr().out
    assert "BC" in told
    assert "page.html" in told
    page = (tmp_path / "page.html").read_text()
    assert "data:video/mp4;base64," in page
    assert "episode has 20 steps and a return of 20.0" in page


def test_report_without_videos_plays_nothing(trained, tmp_path):
    assert menura("report", trained, "-o", tmp_path / "page.html", "--no-video", "--title", "A title") == 0
    page = (tmp_path / "page.html").read_text()
    assert "<video" not in page
    assert "<h1>A title</h1>" in page


def test_report_of_a_run_whose_policy_is_gone_says_so_in_the_page(trained, tmp_path):
    lonely = tmp_path / "CartPole-v1" / "bc" / "20260101-000000-s0"
    lonely.mkdir(parents=True)
    for name in ("config.json", "metrics.csv"):
        (lonely / name).write_bytes((trained / name).read_bytes())
    assert menura("report", lonely, "-o", tmp_path / "page.html") == 0
    assert "There is no video: " in (tmp_path / "page.html").read_text()


def test_video_writes_both_sides(trained, tmp_path, capsys):
    output = tmp_path / "film" / "both.mp4"
    assert menura("video", trained, "-o", output, "--episodes", 2, "--checkpoint", "best") == 0
    assert output.read_bytes()[4:8] == b"ftyp"
    assert "Expert and learner" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("report", "nowhere"), "is not a folder"),
        (("report",), "Name at least one run folder"),
        (("video", "nowhere", "-o", "x.mp4"), "is not a folder"),
        (("video", "nowhere", "-o", "x.gif"), "must end in .mp4"),
        (("video", "nowhere", "-o", "x.mp4", "--episodes", "0"), "at least 1"),
    ],
)
def test_a_wrong_request_ends_with_code_2_and_one_sentence(arguments, sentence, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert menura(*arguments) == 2
    told = capsys.readouterr().err.strip()
    assert sentence in told
    assert "\n" not in told
    assert list(tmp_path.iterdir()) == []


def test_report_refuses_a_page_that_is_no_html_before_it_plays_anything(trained, tmp_path, capsys):
    assert menura("report", trained, "-o", tmp_path / "page.pdf") == 2
    assert "must end in .html" in capsys.readouterr().err


@pytest.mark.parametrize("package", ["matplotlib", "jinja2"])
def test_a_missing_package_is_named_with_the_extra_that_brings_it(trained, tmp_path, capsys, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    assert menura("report", trained, "-o", tmp_path / "page.html", "--no-video") == 2
    told = capsys.readouterr().err
    assert package in told
    assert "`viz` extra" in told
    assert not (tmp_path / "page.html").exists()
