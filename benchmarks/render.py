"""Write docs/benchmarks.md from everything in benchmarks/results/."""

import json
from typing import Any

import gail_paper_page
from common import REPOSITORY, RESULTS, stamps_of, table

HEAD = """\
# Benchmarks

This page is generated: `make benchmarks` measures what is missing and writes it. The command in a row makes its
numbers; `S` in it stands for each of the row's seeds, and `DATA` for the folder of the demonstrations. Rows marked
*partial* measured less than was asked, and say how much. Claims about a policy are judged on the last checkpoint, by
the mean action, over 50 episodes. What a script in `benchmarks/` can measure and is not below has not been measured
yet.

The column *at* has the commit that was measured and the day, for each seed where they differ (`+changes`: files that
git tracks differed from it), the first digits of the SHA-256 of the data, and in brackets the machine and the versions,
which stand [at the end](#machines-and-versions).
"""


class Footnotes:
    """One number for every distinct machine and set of versions."""

    def __init__(self):
        self._numbers: dict[str, int] = {}
        self._rows: dict[str, int] = {}

    def numbers_of(self, row: dict[str, Any]) -> str:
        """The footnotes of a row, each counted once more."""
        texts = dict.fromkeys(map(self._text, stamps_of(row)))
        for text in texts:
            self._rows[text] = self._rows.get(text, 0) + 1
        return ", ".join(str(self._numbers.setdefault(text, len(self._numbers) + 1)) for text in texts)

    @staticmethod
    def _text(where: dict[str, Any]) -> str:
        machine, versions = where["machine"], where["versions"]
        text = f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}; "
        return text + ", ".join(f"{name} {version}" for name, version in versions.items())

    def lines(self) -> list[str]:
        """All of them, as Markdown."""
        return [
            f"- [{number}] {self._rows[text]} row{'s' if self._rows[text] > 1 else ''}: {text}."
            for text, number in self._numbers.items()
        ]


def page() -> str:
    """The whole page."""
    parts, footnotes = [HEAD], Footnotes()
    for path in sorted(RESULTS.glob("*.json")):
        group = json.loads(path.read_text(encoding="utf-8"))
        rows = [row | {"footnote": footnotes.numbers_of(row)} for row in group["rows"]]
        parts.append(f"## {group['title']}\n")
        if path.stem == gail_paper_page.NAME:
            rows = gail_paper_page.ordered(rows)
            parts += gail_paper_page.lead(rows)
        parts += [*table(rows), ""]
    return "\n".join([*parts, "## Machines and versions\n", *footnotes.lines(), ""])


def main() -> None:
    """Write the page, and the picture that is made of results."""
    path = REPOSITORY / "docs" / "benchmarks.md"
    path.parent.mkdir(exist_ok=True)
    path.write_text(page(), encoding="utf-8")
    gail_paper_page.draw(REPOSITORY / "docs" / "images" / "gail_paper.png")
    print(f"Wrote {path.relative_to(REPOSITORY)}.")


if __name__ == "__main__":
    main()
