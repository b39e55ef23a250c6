"""Write docs/benchmarks.md from everything in benchmarks/results/."""

import json
from typing import Any

from common import REPOSITORY, RESULTS, table

HEAD = """\
# Benchmarks

This page is generated: `make benchmarks` measures what is missing and writes it, and every number on it was printed by
the command in its row. Rows marked *partial* measured less than was asked, and say how much. Claims about a policy are
judged on the last checkpoint, by the mean action, over 50 episodes. What a
script in `benchmarks/` can measure and is not below has not been measured yet.
"""


def provenance(rows: list[dict[str, Any]]) -> list[str]:
    """One line for each commit, day and machine that rows of a group were measured at."""
    places: dict[str, int] = {}
    for row in rows:
        where = row["where"]
        versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
        data = "".join(f"; {name} {digest}" for name, digest in where["data"].items())
        machine = f"{where['machine']['cpu']}, {where['machine']['cores']} cores"
        line = f"{where['date']}, commit {where['commit']}; {machine}; {versions}{data}"
        places[line] = places.get(line, 0) + 1
    return [f"- {count} row{'s' if count > 1 else ''}: {line}." for line, count in places.items()]


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for path in sorted(RESULTS.glob("*.json")):
        group = json.loads(path.read_text(encoding="utf-8"))
        parts += [f"## {group['title']}\n", *table(group["rows"]), "", *provenance(group["rows"]), ""]
    return "\n".join(parts)


def main() -> None:
    """Write the page."""
    path = REPOSITORY / "docs" / "benchmarks.md"
    path.parent.mkdir(exist_ok=True)
    path.write_text(page(), encoding="utf-8")
    print(f"Wrote {path.relative_to(REPOSITORY)}.")


if __name__ == "__main__":
    main()
