"""Reports: what they say of runs that ended, still go, or broke; and that a page needs nothing but itself."""

import csv
import html.parser
import io
import json
import math
import subprocess
from pathlib import Path

import numpy as np
import pytest

from menura.core import RequestError
from menura.demonstrations.episodes import Episode
from menura.report import frames, words
from menura.report.curves import figures, learning_curves, metric_curve
from menura.report.footage import CannotRender, Footage, footage_of_episode, record
from menura.report.frames import states_from_obs
from menura.report.groups import Group, group_seeds
from menura.report.pages import write_report
from menura.report.runs import Run, find_runs, read_run
from menura.report.statistics import interquartile_mean, mean_interval, on_common_steps, stratified_bootstrap
from menura.report.tables import (
    MISSING,
    format_count,
    format_return,
    format_seconds,
    results_table,
    seeds_table,
    to_rich,
)
from menura.report.video import FPS, Video, shown_steps, side_by_side

PNG_HEAD = b"\x89PNG\r\n\x1a\n"
# A path such as a meta.json may hold; put together here so that no text of the repository names one.
FOLDER = "/" + "home/someone/secret-folder"


def write_run(
    root: Path,
    *,
    algorithm: str = "gail",
    seed: int = 0,
    num_demos: int | None = 4,
    finished: bool = True,
    mean_return: float = 480.0,
    forward: str = "TRPO",
) -> Path:
    """A run folder as training leaves it."""
    path = root / "CartPole-v1" / algorithm / f"20260101-0000{seed:02d}-s{seed}"
    path.mkdir(parents=True)
    learner = {"type": algorithm.upper(), "learning_rate": 1e-3}
    if algorithm == "gail":
        learner["forward"] = {"type": forward, "gamma": 0.99}
    config = {
        "algorithm": algorithm,
        "env": "CartPole-v1",
        "env_kwargs": {},
        "backend": "jax",
        "learner": learner,
        "demos": {"path": f"{FOLDER}/expert.npz", "num_demos": num_demos, "subsample": 10},
        "total_steps": 40_000,
        "seed": seed,
        "num_envs": 8,
        "expert_return": 500.0,
    }
    (path / "config.json").write_text(json.dumps(config))
    (path / "command.txt").write_text(f"menura train {algorithm} CartPole-v1 --demos {FOLDER}/expert.npz\n")
    meta = {
        "versions": {"jax": "0.9.9", "numpy": "2.4.0"},
        "host": "secret-host",
        "commit": "c0ffee",
        "data_sha256": None,
    }
    (path / "meta.json").write_text(json.dumps(meta))
    rows = []
    for i in range(1, 41):
        row = {"env_steps": 1000 * i, "iteration": i, "seconds": 0.1 * i}
        if algorithm == "bc":
            row |= {"loss/train": 1 / i, "loss/heldout": 1 / i + 0.1}
        else:
            row |= {"score/expert": 2 / i, "score/learner": -2 / i, "policy/entropy": 0.6, "policy/kl": 0.01}
            row |= {"episode/return": "" if i % 2 else 10 * i + seed}
        rows.append(row)
    with (path / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows if finished else rows[:15])
    with (path / "evaluations.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["env_steps", "mean_return", "std_return", "ci95", "mean_length", "episodes", "seconds"])
        for i in (10, 20, 30, 40) if finished else (10,):
            writer.writerow([1000 * i, 12 * i + seed, 5.0, 2.0, 100, 10, 0.1 * i])
    if finished:
        result = {
            "env": "CartPole-v1",
            "algorithm": algorithm,
            "checkpoint": 40_000,
            "episodes": 50,
            "mean_return": mean_return,
            "std_return": 7.0,
            "ci95": 2.0,
            "mean_length": mean_return,
            "random_return": 20.0,
            "expert_return": 500.0,
            "normalized": (mean_return - 20) / 480,
            "wall_seconds": 12.5,
            "env_steps": 0 if algorithm == "bc" else 40_000,
            "steps_per_second": 1e4,
            "seed": seed,
        }
        (path / "result.json").write_text(json.dumps(result))
    return path


@pytest.fixture
def drawn(monkeypatch) -> list:
    """Axes of the figures that are drawn, which are not made into pictures: that takes most of the time."""
    from matplotlib.figure import Figure

    from menura.report import curves
    from menura.report.style import LIGHT

    axes = []

    def render(draw, *, height=4.0):
        figure = Figure()
        draw(figure, LIGHT)
        axes.extend(figure.axes)
        return PNG_HEAD + b"light", PNG_HEAD + b"dark"

    monkeypatch.setattr(curves, "render", render)
    return axes


class Page(html.parser.HTMLParser):
    """The parts of a page that tests ask about."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of every element of a kind."""
        return [attributes for name, attributes in self.tags if name == tag]


def test_the_mean_interval_is_students_t_times_the_standard_error():
    # 1, 2, 3, 4: s = sqrt(5/3), s/sqrt(4) = 0.645497, t(0.975, 3) = 3.182446.
    mean, half_width = mean_interval([1.0, 2.0, 3.0, 4.0])
    np.testing.assert_allclose([mean, half_width], [2.5, 3.182446 * 0.6454972], rtol=1e-6)


def test_the_mean_interval_leaves_out_nan_and_needs_two_values_for_a_width():
    assert mean_interval([np.nan, 7.0])[0] == 7.0
    assert math.isnan(mean_interval([np.nan, 7.0])[1])
    assert all(map(math.isnan, mean_interval([])))


def test_the_interquartile_mean_drops_a_quarter_at_each_end():
    # Eight values lose the two lowest and two highest; five lose one of each.
    np.testing.assert_allclose(interquartile_mean([100.0, 1.0, 2.0, 3.0, 4.0, -50.0, 0.0, 9.0]), (1 + 2 + 3 + 4) / 4)
    np.testing.assert_allclose(interquartile_mean([10.0, 0.0, 1.0, 2.0, -90.0]), (0 + 1 + 2) / 3)


def test_the_bootstrap_resamples_every_stratum_by_itself():
    # Each task's runs agree, so no resample within tasks can change anything; one across tasks would.
    assert stratified_bootstrap([[0.0, 0.0], [1.0, 1.0]], np.mean) == (0.5, 0.5)


def test_the_bootstrap_of_two_runs_reaches_from_the_one_to_the_other():
    # The mean of two draws from {0, 1} is 0, 1/2, 1 with probabilities 1/4, 1/2, 1/4.
    assert stratified_bootstrap([[0.0, 1.0]], np.mean) == (0.0, 1.0)
    assert stratified_bootstrap([[0.0, 1.0]], np.mean, level=0.4) == (0.5, 0.5)


def test_curves_at_common_steps_are_joined_inside_their_range_only():
    steps, values = on_common_steps([(np.array([0.0, 2.0]), np.array([0.0, 4.0])), (np.array([1.0]), np.array([9.0]))])
    np.testing.assert_allclose(steps, [0, 1, 2])
    np.testing.assert_allclose(values, [[0, 2, 4], [np.nan, 9, np.nan]])


def test_a_finished_run_is_read_back_whole(tmp_path):
    run = read_run(write_run(tmp_path, seed=3))
    assert (run.env, run.algorithm, run.name, run.seed, run.finished) == ("CartPole-v1", "gail", "GAIL (TRPO)", 3, True)
    assert (run.mean_return, run.ci95, run.env_steps, run.seconds) == (480.0, 2.0, 40_000.0, 12.5)
    np.testing.assert_allclose(run.normalized, 460 / 480)
    assert len(run.metrics["score/expert"]) == 40
    assert np.isnan(run.metrics["episode/return"][0])
    assert run.metrics["episode/return"][1] == 23
    assert run.notes == ()


def test_a_run_still_going_has_its_last_evaluation_and_no_result(tmp_path):
    run = read_run(write_run(tmp_path, finished=False))
    assert not run.finished
    assert (run.mean_return, run.env_steps, run.expert_return) == (120.0, 15_000.0, 500.0)
    assert math.isnan(run.normalized)
    assert "still going" in words.describe(run)


def test_a_line_still_being_written_is_left_out_and_a_broken_one_is_told(tmp_path):
    path = write_run(tmp_path)
    with (path / "metrics.csv").open("a") as file:
        file.write("41000,41\n42000,42,4.2,1,1,1,1,1\n43000,43,4.3,1,1,1,1,12")
    run = read_run(path)
    assert run.metrics["env_steps"][-1] == 42_000
    assert run.notes == ("1 lines of metrics.csv do not fit its header and were left out.",)


@pytest.mark.parametrize("content", ["", "{", "[1]", "\x00\xff", '{"seed": "x", "learner": null}', "[" * 100_000])
def test_whatever_config_holds_the_run_is_read_and_reported(tmp_path, content, drawn):
    path = write_run(tmp_path)
    (path / "config.json").write_text(content)
    run = read_run(path)
    assert (run.env, run.algorithm) == ("CartPole-v1", "gail")
    write_report([path], tmp_path / "page.html")


@pytest.mark.parametrize("missing", ["config.json", "meta.json", "metrics.csv", "evaluations.csv", "result.json"])
def test_a_report_is_made_whichever_file_is_missing(tmp_path, missing, drawn):
    path = write_run(tmp_path)
    (path / missing).unlink()
    assert write_report([path], tmp_path / "page.html").exists()


def test_a_folder_of_runs_stands_for_the_runs_below_it_each_once(tmp_path):
    first, second = write_run(tmp_path, seed=0), write_run(tmp_path, seed=1)
    (first / "checkpoints" / "40000").mkdir(parents=True)
    (first / "checkpoints" / "40000" / "config.json").write_text("{}")
    assert find_runs([tmp_path, second]) == [first, second]


def test_a_folder_without_runs_is_refused_by_name(tmp_path):
    with pytest.raises(RequestError, match="holds no run"):
        find_runs([tmp_path])
    with pytest.raises(RequestError, match="is not a folder"):
        find_runs([tmp_path / "nowhere"])


def test_runs_that_differ_in_the_seed_are_one_group_and_others_are_told_apart(tmp_path):
    runs = [read_run(write_run(tmp_path / "a", seed=seed)) for seed in (0, 1)]
    runs.append(read_run(write_run(tmp_path / "b", seed=0, num_demos=1)))
    groups = group_seeds(runs)
    assert [(group.label, len(group.runs)) for group in groups] == [
        ("GAIL (TRPO), num_demos 4", 2),
        ("GAIL (TRPO), num_demos 1", 1),
    ]


def test_the_tables_hold_every_run_and_the_mean_over_seeds(tmp_path):
    runs = [read_run(write_run(tmp_path, seed=seed, mean_return=value)) for seed, value in enumerate((470.0, 490.0))]
    assert results_table(runs).rows[0] == ("GAIL (TRPO)", "CartPole-v1", "0", "40 k", "470.0 ± 2.0", "93.8 %", "12 s")
    over_seeds = seeds_table(runs)
    assert over_seeds is not None
    # t(0.975, 1) = 12.7062 and s/sqrt(2) = 10.
    assert over_seeds.rows == (
        ("GAIL (TRPO)", "CartPole-v1", "2", "480.0 ± 127.1", "480.0", "470.0 to 490.0", "95.8 %"),
    )
    assert to_rich(over_seeds).row_count == 1


def test_cloning_is_not_said_to_have_taken_environment_steps(tmp_path):
    run = read_run(write_run(tmp_path, algorithm="bc"))
    assert results_table([run]).rows[0][3] == MISSING
    assert "environment steps" not in words.describe(run)


def test_unfinished_runs_do_not_count_among_the_seeds(tmp_path):
    runs = [read_run(write_run(tmp_path, seed=0)), read_run(write_run(tmp_path, seed=1, finished=False))]
    assert seeds_table(runs) is None


@pytest.mark.parametrize(
    ("value", "text"),
    [(3532.46, "3532"), (-280.66, "-280.7"), (-3.42, "-3.42"), (math.nan, MISSING), (math.inf, MISSING)],
)
def test_returns_have_the_decimals_their_size_asks_for(value, text):
    assert format_return(value) == text


def test_counts_and_durations_are_written_for_people():
    assert [format_count(x) for x in (950.0, 40e3, 1.25e6)] == ["950", "40 k", "1.25 M"]
    assert [format_seconds(x) for x in (8.2, 61.0, 245.0, 7800.0)] == ["8.2 s", "61 s", "4 min 05 s", "2 h 10 min"]


def test_every_kind_of_figure_is_a_png_with_words_for_it(tmp_path):
    runs = [read_run(write_run(tmp_path, seed=seed)) for seed in range(3)]
    runs.append(read_run(write_run(tmp_path, algorithm="bc")))
    found = {figure.name: figure for figure in figures(runs)}
    assert set(found) == {f"{kind}-CartPole-v1" for kind in ("return", "score", "loss", "policy")}
    for figure in found.values():
        assert figure.light.startswith(PNG_HEAD)
        assert figure.dark.startswith(PNG_HEAD)
        assert figure.light != figure.dark
        assert figure.caption.endswith(".")
    assert "GAIL (TRPO) ends at 481" in found["return-CartPole-v1"].alt
    assert "expert 500.0, random policy 20.0" in found["return-CartPole-v1"].alt


def test_every_axis_of_every_figure_has_a_label(tmp_path, drawn):
    figures([read_run(write_run(tmp_path, seed=0)), read_run(write_run(tmp_path, algorithm="bc"))])
    figures([read_run(write_run(tmp_path / "alone", algorithm="bc"))])
    assert len(drawn) == 7
    assert all(axes.get_ylabel() for axes in drawn)
    below = [axes for axes in drawn if axes.get_subplotspec().is_last_row()]
    assert all(axes.get_xlabel() for axes in below)
    assert len(below) == 6


def test_a_curve_without_evaluations_shows_the_episodes_trained_on(tmp_path, drawn):
    path = write_run(tmp_path, finished=False)
    figure = learning_curves("CartPole-v1", [Group("GAIL", (read_run(path),))])
    assert figure is not None
    assert "trained on" in figure.caption


def test_a_metric_over_seeds_is_their_mean_with_its_interval():
    runs = [
        Run(Path("r"), metrics={"env_steps": np.array([1.0, 2.0]), "x": np.array([0.0, value])}) for value in (1.0, 3.0)
    ]
    curve = metric_curve(Group("x", tuple(runs)), "x")
    assert curve is not None
    np.testing.assert_allclose(curve.mean, [0, 2])
    # t(0.975, 1) = 12.7062; s/sqrt(2) = 1.
    np.testing.assert_allclose(curve.half_width, [0, 12.7062], rtol=1e-5)


def test_a_page_needs_no_other_file_and_no_network(tmp_path, drawn):
    runs = [write_run(tmp_path / "runs", seed=seed) for seed in (0, 1)]
    videos = [Video("Seen", b"mp4 bytes", "Both."), Video("Unseen", b"", "There is no video: no OpenGL.")]
    output = write_report(runs, tmp_path / "out" / "page.html", videos)
    text = output.read_text()
    page = Page(text)
    assert "http" not in text
    assert "url(" not in text
    assert page.all("script") == page.all("link") == []
    sources = [a[name] for _, a in page.tags for name in ("src", "srcset") if name in a]
    assert len(sources) == 2 * 3 + 1
    assert all(source is not None and source.startswith("data:") for source in sources)
    assert all(image["alt"] for image in page.all("img"))
    assert "There is no video: no OpenGL." in page.words
    assert sorted(path.name for path in (tmp_path / "out" / "page_files").iterdir()) == [
        "policy-CartPole-v1.png",
        "return-CartPole-v1.png",
        "score-CartPole-v1.png",
        "video-1.mp4",
    ]
    assert sorted(path.name for path in output.parent.iterdir()) == ["page.html", "page_files"]


def test_a_page_names_neither_the_host_nor_folders(tmp_path, drawn):
    text = write_report([write_run(tmp_path)], tmp_path / "page.html").read_text()
    assert "secret" not in text
    assert str(tmp_path) not in text
    assert "expert.npz" in text
    assert "c0ffee" in text
    assert "0.9.9" in text


def test_what_a_run_calls_itself_cannot_put_code_in_a_page(tmp_path, drawn):
    path = write_run(tmp_path)
    config = json.loads((path / "config.json").read_text())
    config["env"] = '<script>alert("x")</script>'
    (path / "config.json").write_text(json.dumps(config))
    page = Page(write_report([path], tmp_path / "page.html").read_text())
    assert page.all("script") == []
    assert '<script>alert("x")</script>' in page.words


def test_a_page_says_in_words_what_each_run_was(tmp_path):
    text = words.describe(read_run(write_run(tmp_path)))
    assert "It learned from 4 episodes of expert.npz, keeping every 10th step." in text
    assert "It finished after 40 k environment steps in 12 s." in text
    assert "mean return of 480.0 ± 2.0 over 50 episodes (the expert 500.0, the uniform random policy 20.0)" in text


def test_only_html_files_are_written(tmp_path):
    with pytest.raises(RequestError, match="must end in .html"):
        write_report([write_run(tmp_path)], tmp_path / "page.pdf")


def test_paths_in_text_lose_all_but_their_last_part_and_other_slashes_stay():
    text = f"menura train bc --demos {FOLDER}/expert.npz --x score/expert C:\\data\\b.npz a/b"
    assert words.without_paths(text) == "menura train bc --demos expert.npz --x score/expert b.npz a/b"


def test_a_video_goes_at_the_environments_pace_then_at_twice_that_then_is_cut():
    # 50 steps a second: 100 steps are 2 s, 61 frames, and the end is held for half a second.
    steps = shown_steps(100, 50.0, max_seconds=10.0)
    assert len(steps) == 61 + FPS // 2
    assert (steps[0], steps[30], steps[60], steps[-1]) == (0, 50, 100, 100)
    # 1000 steps would be 20 s: twice the pace shows them all but for the last frame's.
    steps = shown_steps(1000, 50.0, max_seconds=10.0)
    assert len(steps) == 10 * FPS
    assert steps[-1] == 996
    assert shown_steps(5000, 50.0, max_seconds=10.0)[-1] == 996


def test_hoppers_state_is_found_from_its_observations():
    # 5 + 6 numbers: everything but x, which moves with its velocity.
    obs = np.zeros((3, 11), np.float32)
    obs[:, 0] = 1.25
    obs[:, 5] = [0.0, 2.0, 2.0]
    found = states_from_obs("Hopper-v5", None, obs, nq=6, nv=6, dt=0.5)
    assert found is not None
    qpos, qvel = found
    np.testing.assert_allclose(qpos[:, 0], [0, 0.5, 1.5])
    np.testing.assert_allclose(qpos[:, 1], 1.25)
    np.testing.assert_allclose(qvel[:, 0], [0, 2, 2])


def test_reachers_angles_are_found_from_their_sines_and_cosines():
    angles = np.array([[0.3, -2.0]])
    obs = np.concatenate([np.cos(angles), np.sin(angles), [[0.1, 0.2, 1.0, 2.0, 0.0, 0.0]]], axis=1)
    found = states_from_obs("Reacher-v5", None, obs, nq=4, nv=4, dt=0.02)
    assert found is not None
    np.testing.assert_allclose(found[0], [[0.3, -2.0, 0.1, 0.2]])


def test_observations_that_do_not_tell_the_pose_give_no_state():
    assert states_from_obs("Pusher-v5", None, np.zeros((2, 23)), nq=11, nv=11, dt=0.05) is None
    assert states_from_obs("Hopper-v5", None, np.zeros((2, 4)), nq=6, nv=6, dt=0.05) is None


def cartpole_episode(num_steps: int = 20, *, final_obs: bool = True) -> Episode:
    obs = np.zeros((num_steps + final_obs, 4), np.float32)
    obs[:, 2] = np.linspace(0, 0.2, len(obs))
    return Episode(obs, np.zeros(num_steps, int), np.ones(num_steps, np.float32), True, num_steps)


def test_expert_and_learner_are_filmed_side_by_side(tmp_path):
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    pytest.importorskip("PIL")
    expert = footage_of_episode("CartPole-v1", cartpole_episode())
    learner = record("CartPole-v1", lambda obs: np.asarray(0), seed=1)
    assert learner.num_steps == len(learner.obs) - 1 < 20
    video = side_by_side("CartPole-v1", expert, learner, output=tmp_path / "both.mp4")
    assert video.mp4[4:8] == b"ftyp"
    assert (tmp_path / "both.mp4").read_bytes() == video.mp4
    assert "the expert's episode has 20 steps and a return of 20.0" in video.caption
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(tmp_path / "both.mp4")]
    told = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    assert "h264" in told
    assert "480x" in told
    assert "yuv420p" in told
    assert "30 fps" in told


def test_an_episode_without_its_last_observation_still_ends_with_its_whole_return():
    footage = footage_of_episode("CartPole-v1", cartpole_episode(final_obs=False))
    assert (footage.num_frames, footage.num_steps, footage.return_until(footage.num_steps)) == (20, 20, 20.0)


def test_a_gymnasium_environment_draws_itself_and_its_pictures_stay_few(monkeypatch):
    gymnasium = pytest.importorskip("gymnasium")
    from menura.report import footage

    class Blinking(gymnasium.Env):
        metadata = {"render_modes": ["rgb_array"], "render_fps": 30}
        observation_space = gymnasium.spaces.Box(-1, 1, (2,))
        action_space = gymnasium.spaces.Discrete(2)

        def __init__(self, render_mode=None):
            self.render_mode, self.age = render_mode, 0

        def reset(self, *, seed=None, options=None):
            self.age = 0
            return np.zeros(2, np.float32), {}

        def step(self, action):
            self.age += 1
            return np.zeros(2, np.float32), 1.0, self.age == 25, False, {}

        def render(self):
            return np.full((8, 8, 3), self.age, np.uint8)

    gymnasium.register("menura-test/Blinking-v0", Blinking)
    monkeypatch.setattr(footage, "_MAX_IMAGES", 10)
    try:
        seen = record("menura-test/Blinking-v0", lambda obs: np.asarray(0))
    finally:
        del gymnasium.registry["menura-test/Blinking-v0"]
    assert (seen.num_steps, seen.image_every) == (25, 4)
    shown = frames.frames_of(seen, np.array([0, 4, 13, 25]), env_id="menura-test/Blinking-v0", env_kwargs=None, size=8)
    assert [int(image[0, 0, 0]) for image in shown] == [0, 4, 12, 24]


def test_where_mujoco_finds_no_opengl_a_sentence_says_so(monkeypatch):
    pytest.importorskip("mujoco")
    monkeypatch.setattr(frames, "_opengl_choices", lambda: [{"MUJOCO_GL": "nothing-of-the-kind"}])
    learner = record("InvertedPendulum-v5", lambda obs: np.zeros(1), max_steps=3)
    video = side_by_side("InvertedPendulum-v5", None, learner)
    assert video.mp4 == b""
    assert video.caption.startswith("There is no video: MuJoCo found no OpenGL")


def test_mujoco_is_drawn_from_demonstrated_observations():
    pytest.importorskip("mujoco")
    learner = record("Hopper-v5", lambda obs: np.zeros(3), max_steps=4, seed=0)
    assert learner.qpos is not None
    # The same episode as demonstrations hold it: no state, no place along the ground.
    episode = Episode(learner.obs, None, learner.rewards, False, learner.num_steps)
    expert = footage_of_episode("Hopper-v5", episode)
    steps = np.array([0, 4])
    try:
        ours = frames.frames_of(learner, steps, env_id="Hopper-v5", env_kwargs=None, size=64)
        theirs = frames.frames_of(expert, steps, env_id="Hopper-v5", env_kwargs=None, size=64)
    except CannotRender as error:
        pytest.skip(str(error))
    assert ours[0].shape == (64, 64, 3)
    assert ours[0].std() > 10
    # The camera follows the body, so the missing place hardly shows.
    difference = np.abs(np.stack(ours).astype(int) - np.stack(theirs).astype(int))
    assert np.mean(difference) < 3


def test_a_side_that_cannot_be_drawn_is_left_out_and_said(monkeypatch):
    pytest.importorskip("imageio_ffmpeg")
    learner = record("CartPole-v1", lambda obs: np.asarray(0), seed=1)
    expert = Footage("expert", np.zeros(5, np.int64), None, 4, 50.0)
    video = side_by_side("CartPole-v1", expert, learner)
    assert video.mp4
    assert "the expert is not shown" in video.caption


def test_an_unknown_environment_gives_a_sentence():
    with pytest.raises(CannotRender, match="There is no video: "):
        record("NoSuchThing-v0", lambda obs: np.asarray(0))


def test_the_figures_are_the_same_bytes_every_time(tmp_path):
    pytest.importorskip("PIL")
    from PIL import Image

    run = read_run(write_run(tmp_path))
    first, second = figures([run]), figures([run])
    assert [figure.light for figure in first] == [figure.light for figure in second]
    with Image.open(io.BytesIO(first[0].light)) as picture:
        assert picture.width == round(6.4 * 170)
