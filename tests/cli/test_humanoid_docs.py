"""docs/humanoid.md: the commands of its part on motion capture run as written, on a clip made here."""

import re
import shlex

import pytest

from tests.cli.test_train import run
from tests.walking_clip import write_walk

pytest.importorskip("mujoco")


def commands_of(page):
    """The first block of commands of the part on motion capture, each as its words."""
    part = page.read_text(encoding="utf-8").split("## From motion capture", 1)[1]
    block = re.search(r"```sh\n(.*?)```", part, re.DOTALL).group(1)
    return [shlex.split(line) for line in block.replace("\\\n", " ").splitlines() if line]


def test_the_commands_of_the_page_run_as_written(repository, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_walk(tmp_path / "humanoid3d_walk.txt")
    convert, train, video = commands_of(repository / "docs" / "humanoid.md")
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
