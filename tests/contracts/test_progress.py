"""What a run says while it trains, where there is no terminal."""

import numpy as np

from menura.commands.progress import ProgressBar
from menura.evaluation import Evaluation
from menura.run.train import Progress
from tests.math.test_rules import readings


def say(rows, capsys):
    evaluation = Evaluation(np.array([1.0, 3.0]), np.array([2, 2]))
    progress = Progress(env_steps=800, readings=rows)
    with ProgressBar(800, title="gail CartPole-v1") as bar:
        bar.on_evaluation(progress, evaluation)
        bar.on_evaluation(progress, evaluation)
    return capsys.readouterr().err.strip().splitlines()


def test_the_line_of_an_evaluation_has_every_reading_that_is_known(capsys):
    rows = readings(score_heldout=1.5, heldout_loss=0.25)
    line, _ = say(rows, capsys)
    for words in ("MMD² 0.011", "expert's own 0.005", "told apart 0.6", "held-out score 1.5", "held-out loss 0.25",
                  "saturated 0", "moved (nats) 0.04"):  # fmt: skip
        assert words in line, words
    line, _ = say(readings(mmd_expert=float("nan")), capsys)
    assert "expert's own" not in line


def test_a_red_flag_is_said_once_with_its_knob(capsys):
    lines = say(readings(saturation=0.9), capsys)
    (flag,) = [line for line in lines if "red flag" in line]
    assert "all but certain" in flag
    assert "--gradient-penalty" in flag
