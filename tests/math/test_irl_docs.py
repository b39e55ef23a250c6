"""What docs/irl says: its example, its numbers worked by hand, and the names in its tables."""

import ast
import json
import re

import numpy as np
import pytest
from numpy.testing import assert_allclose

from menura import cli
from menura.core import RequestError
from menura.environments.tabular import TabularMDP
from menura.irl import Paths, evaluate_at, fit
from menura.irl.estimate import policy_of
from menura.irl.maxent import action_probabilities, printed_features
from menura.irl.objective import make_problem


def page(repository, name):
    return (repository / "docs" / "irl" / f"{name}.md").read_text(encoding="utf-8")


def assigned(node):
    """The name that an annotated assignment gives a value to."""
    return node.target.id if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) else None


def blocks(text, language):
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.fixture
def example(repository, tmp_path, monkeypatch, capsys):
    """The example of the first page, run in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(blocks(page(repository, "index"), "python")[0], names)
    return names


def test_the_example_prints_what_its_page_says(repository, capsys, example):
    (said,) = blocks(page(repository, "index"), "text")
    assert capsys.readouterr().out == said


def test_the_comparisons_quote_the_example(repository):
    (said,) = blocks(page(repository, "index"), "text")
    fits = dict(re.findall(r"slip (0.\d  [a-z]+(?:, features)?) .*?step (.*)", said))
    text = page(repository, "mce").replace("\N{MINUS SIGN}", "-")
    for name in ("0.2  mce", "0.2  mce, features"):
        step, mud, likelihood = re.split(r"  mud |  ", fits[name])
        assert f"| {step} | {mud} | {likelihood} |" in text
    step, mud = re.findall(r"-\d\.\d+", fits["0.2  maxent"])[:2]
    assert f"finds {step} and {mud}" in text


def test_the_commands_of_the_first_page_take_its_files(example, capsys):
    capsys.readouterr()
    cli.main(["irl", "mce", "--mdp", "mdp.npz", "--demos", "demos.npz", "--at=-2,-1", "--json"])
    assert json.loads(capsys.readouterr().out)["log_likelihood"] < -3907.51


def test_no_theta_gives_the_printed_forward_pass_the_features_of_the_example(example):
    with pytest.raises(RequestError, match="found no θ"):
        fit(example["mdp"], example["demos"], method="maxent", forward_pass="printed")


def test_likelihood_is_paths_times_the_dual_on_certain_outcomes_and_only_there(example):
    rng = np.random.default_rng(1)
    theta = np.array([-2.2, -0.4])
    for slip in (0.0, 0.2):
        mdp = example["grid"](slip)
        problem = make_problem(mdp, example["walks"](mdp, np.array([-2.0, -1.0]), 20, rng), "mce")
        likelihood, dual = (objective.evaluate(theta).value for objective in (problem.likelihood(), problem.dual()))
        if slip == 0:
            assert_allclose(likelihood, 20 * dual, rtol=1e-12)
        else:
            assert abs(likelihood - 20 * dual) > 1


def test_maxent_is_optimistic_about_a_gamble_and_mce_is_not():
    # Action 0 costs 1 for certain; action 1 costs 0 or 2 with even chances. Costs are paid on leaving 1, 2 and 3.
    mdp = TabularMDP.from_transitions(
        [0, 0, 0, 1, 2, 3], [0, 1, 1, 0, 0, 0], [3, 1, 2, 4, 4, 4], [1, 0.5, 0.5, 1, 1, 1],
        state_features=[[0.0], [0], [-2], [-1], [0]], terminal=[4],
    )  # fmt: skip
    paths = Paths.from_lists([[0, 3, 4], [0, 1, 4]], [[0, 0], [1, 0]])
    theta = np.ones(1)
    causal, whole = (make_problem(mdp, paths, method) for method in ("mce", "maxent"))
    plan = policy_of(causal, theta)
    assert_allclose(np.exp(plan.log_policy[:2]), 0.5, rtol=1e-12)
    assert_allclose(plan.value[0], np.log(2) - 1, rtol=1e-12)
    assert_allclose(evaluate_at(mdp, paths, theta, method="mce").learner_features, -1, rtol=1e-12)
    weight = np.exp([-1, np.log(0.5), np.log(0.5) - 2])
    plan = policy_of(whole, theta)
    assert_allclose(np.exp(plan.log_policy[:3]), weight / weight.sum(), rtol=1e-12)
    assert_allclose(plan.value[0], np.log(weight.sum()), rtol=1e-12)
    gamble = action_probabilities(plan.log_policy, mdp.pair_start)[1]
    cost = -evaluate_at(mdp, paths, theta, method="maxent").learner_features[0]
    assert_allclose([gamble, 1 / (1 + np.exp(-2)), plan.value[0], cost], [0.6068, 0.8808, -0.0666, 0.5379], atol=5e-5)
    assert_allclose(printed_features(whole, theta), -1, rtol=1e-12)


def test_a_constant_feature_has_no_standard_error_where_no_path_can_end_early():
    rng = np.random.default_rng(2)
    mdp = TabularMDP.from_dense(
        rng.dirichlet(np.ones(3), size=(3, 2)), state_features=[[1.0, 0], [1, 1], [1, 2]], discount=0.9
    )
    errors = fit(mdp, Paths.from_lists([[0, 1, 2, 0, 1, 2, 1]], [[0, 1, 0, 1, 0, 0, 1]])).standard_errors
    assert np.isnan(errors[0])
    assert errors[1] > 0


def test_the_files_written_by_hand_are_read(repository, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(blocks(page(repository, "formats"), "python")[0], {})
    cli.main(["irl", "mce", "--mdp", "mdp.npz", "--demos", "demos.npz", "--json"])
    said = json.loads(capsys.readouterr().out)
    text = page(repository, "formats")
    assert all(f"`{key}`" in text for key in said)
    assert said["gradient_norm"] < 1e-8


def test_what_the_pages_say_is_where_they_say_it(repository):
    pages = [*(repository / "docs" / "irl").glob("*.md"), repository / "docs" / "regularizers.md"]
    texts = [path.read_text(encoding="utf-8") for path in pages]
    places = [place for text in texts for place in re.findall(r"`([a-z_/]+\.py): ([\w., ]+)`", text)]
    assert len(places) > 60
    for file, names in places:
        tree = ast.parse((repository / "src" / "menura" / file).read_text(encoding="utf-8"))
        for name in names.split(", "):
            body = tree.body
            for part in name.split("."):
                found = [node for node in body if part in (getattr(node, "name", None), assigned(node))]
                assert found, f"{file} has no {name}"
                body = getattr(found[0], "body", [])
