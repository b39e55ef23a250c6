"""The audit: a reward that is biased on purpose is found out, by the rule that it states."""

import dataclasses
import json
import math
import os
import signal

import numpy as np
import pytest

from menura.commands.audit import AuditOptions, _request
from menura.demonstrations.record import record
from menura.demonstrations.writers import save
from menura.environments import make
from menura.run.audit import LABELS, audit, findings, gain, verdict
from menura.run.request import Request
from tests.cli.test_train import run
from tests.learners import SMALL

# Three updates, of which one would do: the mean action follows the slightest preference.
TINY = ["--total-steps", "1536", "--num-envs", "4", "--episodes", "8"]


@pytest.fixture(scope="module")
def leaving_demos(tmp_path_factory):
    """An expert that leaves at once, where every step costs 1."""

    class Leaver:
        def predict(self, obs, deterministic=True):
            return np.zeros(len(obs), np.int64), None

    path = tmp_path_factory.mktemp("audit") / "leave.npz"
    env = make("probe/Leave", num_envs=4, env_kwargs={"reward_size": -1.0})
    save(record(env, Leaver(), 20, seed=0), path)
    return path


def test_a_reward_that_is_survival_biased_on_purpose_is_detected(capsys, tmp_path):
    kept = tmp_path / "new" / "audit.json"
    code, out, err = run(capsys, "audit", "probe/Leave", *TINY, "--json", "-o", kept)
    assert code == 0
    result = json.loads(out)
    assert result == json.loads(kept.read_text())
    assert [path.name for path in kept.parent.iterdir()] == ["audit.json"]
    assert result["verdict"] == "survival-biased"
    # Twenty steps of 1, which is all there is to earn; leaving at once earns 1.
    assert result["arms"]["positive"]["mean_return"] == result["reference_return"] == 20
    assert result["arms"]["negative"]["mean_return"] == 1
    assert result["arms"]["positive"]["normalized"] == 1
    assert (result["reference"], result["expert_return"], result["reward_form"]) == ("the best arm", None, None)
    assert list(result["arms"]) == ["zero", "positive", "negative", "environment"]
    assert result["arms"]["positive"]["ended_early"] == 0
    assert result["arms"]["negative"]["ended_early"] == 1
    assert "A positive constant reward alone reaches 100% of the best arm here" in result["findings"][0]
    assert "say nothing about imitation" in result["findings"][0]
    assert "constant +1, seed 0: return 20.0" in err


def test_an_ending_that_is_the_task_is_detected_and_demonstrations_are_compared_with_it(capsys, leaving_demos):
    code, out, _ = run(
        capsys, "audit", "probe/Leave", "--env-kwargs", "reward_size=-1", "--demos", leaving_demos, *TINY
    )
    assert code == 0
    assert "Verdict: ending-biased." in out
    words = " ".join(out.split())
    assert "A negative constant reward alone reaches 100% of the expert here" in words
    assert "GAIL takes --reward-form negative here, whose sign alone does the same." in words
    assert "the constants alone explain both" in words
    assert LABELS["environment"] not in out
    assert "training on a constant 0 gets, whichever is better" in words


def test_an_interrupted_audit_writes_nothing(capsys, tmp_path, monkeypatch):
    from menura.commands.audit import ProgressBar

    monkeypatch.setattr(ProgressBar, "on_update", lambda *_: os.kill(os.getpid(), signal.SIGINT))
    code, out, err = run(capsys, "audit", "probe/Leave", *TINY, "--json", "-o", tmp_path / "audit.json")
    assert (code, out) == (1, "")
    assert "Interrupted" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        # (positive, negative, zero)
        ((1.0, -0.2, 0.0), "survival-biased"),
        ((-0.2, 1.0, 0.0), "ending-biased"),
        ((0.49, 0.1, 0.0), "no bias detected"),
        ((0.5, 0.5, 0.0), "survival-biased"),
        ((0.6, 0.9, 0.0), "ending-biased"),
        # What a policy that was paid nothing does too is not due to the sign.
        ((0.7, 0.1, 0.45), "no bias detected"),
        ((0.73, 0.1, 0.45), "survival-biased"),
        ((1.0, 1.0, 0.95), "no bias detected"),
        ((0.5, 0.1, -0.3), "survival-biased"),
        ((math.nan, math.nan, math.nan), "undecided"),
    ],
)
def test_the_verdict_by_hand(shares, said):
    positive, negative, zero = shares
    assert verdict(gain(positive, zero), gain(negative, zero)) == said


def by_hand(**changes):
    """A result in which nothing reaches the expert but GAIL."""
    shares = {"zero": 0.0, "positive": 0.2, "negative": 0.0, "shuffled": 0.1, "demonstrations": 0.97} | changes
    survival, ending = (gain(shares[name], shares["zero"]) for name in ("positive", "negative"))
    return {
        "arms": {name: {"normalized": share, "ended_early": 0.0} for name, share in shares.items()},
        "forward": "trpo",
        "reference": "the expert",
        "random_ended_early": 0.0,
        "max_episode_steps": 200,
        "reward_form": "positive",
        "from_survival": survival,
        "from_ending": ending,
        "verdict": verdict(survival, ending),
    }


def test_findings_say_what_was_measured():
    said = findings(by_hand())
    assert said[0] == (
        "A positive constant reward alone reaches 20% of the expert here, by staying alive alone: read results of an "
        "always-positive reward from there on, not from 0%."
    )
    assert (
        said[1]
        == "A negative constant reward alone reaches 0% of the expert here: ending soon earns nothing by itself."
    )
    assert "No episode ended before the time limit of 200 steps" in said[2]
    assert said[3].endswith("what is reached comes from what the expert did in each state.")
    assert "the expert's states alone lead there" in findings(by_hand(shuffled=0.95))[-1]
    assert any("Without any reward 30%" in line for line in findings(by_hand(zero=0.3)))
    assert "absorbing state" in findings(by_hand() | {"forward": "sac"})[-1]
    biased = by_hand(positive=0.9)
    sign = "GAIL takes --reward-form positive here, whose sign alone does the same."
    assert (sign in findings(biased), sign in findings(biased | {"forward": "sac"})) == (True, False)
    unseen = by_hand()
    del unseen["arms"]["shuffled"]
    assert findings(unseen)[-1] == "GAIL reaches 97% from the expert's observations alone."
    (only,) = findings(by_hand(zero=math.nan, positive=math.nan, negative=math.nan))
    assert "--total-steps" in only


WRONG = {
    "no environment": ([], "equired"),
    "an unknown environment": (["CartPool-v1"], "CartPole-v1"),
    "an unknown forward learner": (["CartPole-v1", "--forward", "magic"], "choose one of"),
    "absent demonstrations": (["CartPole-v1", "--demos", "nowhere.npz"], "nowhere.npz"),
    "a choice among no demonstrations": (["CartPole-v1", "--subsample", "5"], "--demos PATH"),
    "no episodes": (["CartPole-v1", "--episodes", "1"], "--episodes must be at least 2"),
    "no steps": (["CartPole-v1", "--total-steps", "0"], "--total-steps"),
    "seeds that are none": (["CartPole-v1", "--seeds", "3"], "0..4"),
    "seeds backwards": (["CartPole-v1", "--seeds", "3..1"], "0..4"),
    "a seed and seeds": (["CartPole-v1", "--seed", "1", "--seeds", "0..1"], "not both"),
    "a folder for a file": (["CartPole-v1", "-o", "."], "name a file"),
    "half a setting": (["CartPole-v1", "--env-kwargs", "gravity"], "name=value"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_audits_get_exit_code_2(case, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments, words = WRONG[case]
    code, out, err = run(capsys, "audit", *arguments)
    assert (code, out) == (2, "")
    assert words in err
    assert list(tmp_path.iterdir()) == []


def test_demonstrations_that_are_no_better_than_chance_are_refused(capsys, leaving_demos):
    """Where steps pay, an expert that lost 1 is worse than chance, which earns 2."""
    code, out, err = run(capsys, "audit", "probe/Leave", "--demos", leaving_demos)
    assert (code, out) == (2, "")
    assert "earn -1 on average, no more than a random policy's" in err


def test_a_replay_outside_of_the_learner_is_refused_in_one_sentence(capsys):
    code, out, err = run(capsys, "audit", "Pong-v5", "--forward", "dqn", "--json")
    assert (code, out, len(err.strip().splitlines())) == (2, "", 1), err
    assert "take --forward ppo here" in err


def test_games_are_played_as_gail_plays_them():
    request = _request(AuditOptions("Pong-v5", forward="ppo", env_kwargs=("img_height=52",)))
    assert request.env_kwargs == {"episodic_life": False, "img_height": 52}


def test_gails_own_options_are_those_of_what_is_audited(capsys, leaving_demos):
    options = ("--regularizer", "wasserstein", "--observations-only", "--reward-form", "centered")
    request = _request(AuditOptions("probe/Leave", demos=leaving_demos, regularizer="wasserstein",
                                    observations_only=True, reward_form="centered"))  # fmt: skip
    gail = request.learner
    assert (type(gail.regularizer).__name__, gail.observations_only, gail.reward_form) == (
        "Wasserstein", True, "centered")  # fmt: skip
    where = ("audit", "probe/Leave", "--env-kwargs", "reward_size=-1", *TINY, "--total-steps", "512")
    code, out, _ = run(capsys, *where, "--demos", leaving_demos, "--json", *options)
    assert code == 0
    result = json.loads(out)
    assert (result["reward_form"], result["regularizer"]) == ("centered", "wasserstein")
    # Without actions there are none to shuffle.
    assert list(result["arms"]) == ["zero", "positive", "negative", "demonstrations"]
    code, _, err = run(capsys, *where, *options)
    assert code == 2
    assert "give some with --demos PATH" in err


def test_no_arm_is_paid_for_the_task(leaving_demos):
    """Where the task's own reward was part of GAIL's, its arms would not be controls."""
    learner = dataclasses.replace(SMALL["gail"], reward_form="auto")
    results = []
    for task_coef in (0.0, -100.0):
        request = Request(dataclasses.replace(learner, task_coef=task_coef), "probe/Leave", demos=leaving_demos,
                          env_kwargs={"reward_size": -1.0}, total_steps=64, num_envs=4)  # fmt: skip
        results.append(audit(request, episodes=4)["arms"]["shuffled"]["returns"])
    assert results[0] == results[1]
