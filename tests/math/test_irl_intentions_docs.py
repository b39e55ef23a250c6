"""What docs/irl/intentions.md and docs/irl/deep.md say: their examples."""

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
