"""The commands of docs/merge.md, as they stand there, small."""

import json
import re
import shlex
from pathlib import Path

import pytest

from menura.cli import main
from menura.report import video

pytest.importorskip("envpool")

SMALL = {
    "bc": ["--total-steps", "256", "--num-batches", "2"],
    "gail": ["--total-steps", "512", "--num-envs", "16"],
    "dagger": ["--num-steps", "5", "--bc.num-batches", "2"],
    "ppo": ["--total-steps", "512", "--num-envs", "8"],
}


def commands(repository):
    text = (repository / "docs" / "merge.md").read_text(encoding="utf-8")
    block = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)[0]
    return [shlex.split(line, comments=True)[1:] for line in block.splitlines() if line.startswith("menura ")]


def test_the_commands_of_the_page_run_as_written(repository, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    # Drawing takes most of the time.
    monkeypatch.setattr(video, "FPS", 2)
    runs, ran = {}, []
    for words in commands(repository):
        words = [runs.get(word, word) for word in words]
        if words[0] == "train":
            number = {"--total-labels": "20", "--num-demos": "2"}
            words = [number.get(before, word) for before, word in zip(["", *words], words, strict=False)]
            words += [*SMALL[words[1]], "--eval-episodes", "1"]
        if words[0] == "demos":
            words[words.index("--episodes") + 1] = "4"
        if words[0] == "eval":
            words[words.index("--episodes") + 1] = "20"
        main(words)
        ran.append(words[0])
        out = capsys.readouterr().out
        if words[0] == "train":
            runs[words[1].upper()] = out.strip().splitlines()[-1]
        if words[0] == "eval":
            assert "crashed in" in out
    assert {"demos", "train", "eval", "video", "reward"} <= set(ran)
    assert (tmp_path / "merge.mp4").stat().st_size > 3_000
    assert (tmp_path / "reward.png").stat().st_size > 10_000
    result = json.loads((Path(runs["BC"]) / "result.json").read_text())
    assert result["crash_rate_low"] <= result["crash_rate"] <= result["crash_rate_high"]
    assert 18 < result["mean_speed"] <= 31
