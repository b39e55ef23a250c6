"""What docs/irl/intentions.md and docs/irl/deep.md say: their examples, and the names in their tables."""

import ast
import re

import pytest


@pytest.fixture
def page(repository):
    return lambda name: (repository / "docs" / "irl" / f"{name}.md").read_text(encoding="utf-8")


def block(text, language):
    (found,) = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    return found


@pytest.mark.parametrize("name", ["intentions", "deep"])
def test_the_example_prints_what_its_page_says(page, capsys, name):
    exec(block(page(name), "python"), {})
    assert capsys.readouterr().out == block(page(name), "text")


@pytest.mark.parametrize("name", ["intentions", "deep"])
def test_what_the_page_says_is_where_it_says_it(repository, page, name):
    places = re.findall(r"`([a-z_/]+\.py): ([\w., ]+)`", page(name))
    assert len(places) > 4
    for file, names in places:
        tree = ast.parse((repository / "src" / "menura" / file).read_text(encoding="utf-8"))
        for place in names.split(", "):
            body = tree.body
            for part in place.split("."):
                found = [node for node in body if getattr(node, "name", None) == part]
                assert found, f"{file} has no {place}"
                body = getattr(found[0], "body", [])
