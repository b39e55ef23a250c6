"""docs/humanoid.md: its commands run as written, on demonstrations and a clip made here."""

import re
import shlex
from pathlib import Path

import gymnasium
import pytest

from menura.demonstrations import save
from menura.demonstrations.record import record
from menura.environments import make
from menura.evaluation import UniformPolicy
from tests.cli.test_train import run
from tests.walking_clip import write_walk

pytest.importorskip("mujoco")


def commands_of(page, part):
    """The first block of commands of a part, each as its words."""
    part = page.read_text(encoding="utf-8").split(f"## {part}", 1)[1]
    block = re.search(r"```sh\n(.*?)```", part, re.DOTALL).group(1)
    return [shlex.split(line) for line in block.replace("\\\n", " ").splitlines() if line]


def test_the_commands_of_the_page_run_as_written(repository, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_walk(tmp_path / "humanoid3d_walk.txt")
    convert, train, video = commands_of(repository / "docs" / "humanoid.md", "From motion capture")
    assert {words[0] for words in (convert, train, video)} == {"menura"}
    code, _, err = run(capsys, *convert[1:])
    assert code == 0, err
    # All that is not as written: one update of the policy in place of thousands.
    code, out, err = run(capsys, *train[1:], "--total-steps", "4096", "--logger", "csv")
    assert code == 0, err
    folder = out.strip().splitlines()[-1]
    assert video[1:3] == ["video", "runs/MotionWalk-v0/gail/*"]
    code, out, err = run(capsys, "video", folder, *video[3:])
    if "OpenGL" in err:
        pytest.skip("MuJoCo found no OpenGL to draw with.")
    assert code == 0, err
    assert (tmp_path / "walk.mp4").read_bytes()[4:8] == b"ftyp"
    assert "learner" in out


def write_runner(folder):
    """A model of its own, and demonstrations on it, by the names that the page gives them."""
    model = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets" / "humanoid.xml"
    (folder / "humanoid_old.xml").write_text(model.read_text())
    env = make("Humanoid-v4", num_envs=2)
    save(record(env, UniformPolicy(env.spec), 4, deterministic=False), folder / "Humanoid-v5-oldmass.npz")
    env.close()


@pytest.mark.filterwarnings("ignore:.*Humanoid-v4 is out of date")
def test_imitation_from_replay_runs_as_written(repository, tmp_path, monkeypatch, capsys):
    pytest.importorskip("envpool")
    monkeypatch.chdir(tmp_path)
    write_runner(tmp_path)
    commands = commands_of(repository / "docs" / "humanoid.md", "Off-policy")
    assert [words[2] for words in commands] == ["sqil", "gail"]
    # Two updates that learn, of two gradient steps each.
    short = ["--total-steps", "256", "--forward.learning-starts", "128", "--forward.num-updates", "2"]
    short += ["--forward.replay-size", "512", "--eval-episodes", "1", "--logger", "csv"]
    for words in commands:
        code, out, err = run(capsys, *words[1:], *short)
        assert code == 0, err
        header, *rows = (Path(out.strip().splitlines()[-1]) / "metrics.csv").read_text().splitlines()
        assert float(rows[-1].split(",")[header.split(",").index("value/loss")]) > 0


@pytest.mark.filterwarnings("ignore:.*Humanoid-v4 is out of date")
def test_cloning_on_a_model_of_ones_own_runs_as_written_and_is_filmed(repository, tmp_path, monkeypatch, capsys):
    pytest.importorskip("envpool")
    monkeypatch.chdir(tmp_path)
    write_runner(tmp_path)
    (train,) = commands_of(repository / "docs" / "humanoid.md", "From an expert with actions")
    code, out, err = run(capsys, *train[1:], "--total-steps", "512", "--num-batches", "1", "--logger", "csv")
    assert code == 0, err
    folder = Path(out.strip().splitlines()[-1])
    (imitate,) = commands_of(repository / "docs" / "humanoid.md", "One episode is enough")
    code, out, err = run(capsys, *imitate[1:], "--total-steps", "4096", "--eval-episodes", "1", "--logger", "csv")
    assert code == 0, err
    # The model is found from any other folder, too.
    folder = folder.resolve()
    monkeypatch.chdir(tmp_path.parent)
    code, out, err = run(capsys, "eval", folder, "--episodes", "2", "--json")
    assert code == 0, err
    code, out, err = run(capsys, "video", folder, "-o", tmp_path / "walk.mp4")
    if "OpenGL" in err:
        pytest.skip("MuJoCo found no OpenGL to draw with.")
    assert code == 0, err
    assert "learner" in out


def test_an_expert_of_ones_own_is_trained_recorded_and_imitated_as_written(repository, tmp_path, monkeypatch, capsys):
    pytest.importorskip("envpool")
    monkeypatch.chdir(tmp_path)
    train, generate, imitate = commands_of(repository / "docs" / "humanoid.md", "An expert of one's own")
    short = ["--total-steps", "4096", "--eval-episodes", "1", "--logger", "csv"]
    code, out, err = run(capsys, *train[1:], *short)
    assert code == 0, err
    folder = out.strip().splitlines()[-1]
    code, _, err = run(capsys, *(folder if word == "RUN" else word for word in generate[1:]))
    assert code == 0, err
    code, _, err = run(capsys, *imitate[1:], *short)
    assert code == 0, err
