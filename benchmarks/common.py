"""What the benchmark scripts share: where a number was measured, and how it is kept and shown.

A script is `bench_<name>.py`. It measures row after row and keeps each one with `write_rows` as soon as it has it, in
`results/<name>.json`; a row that is there already is not measured again unless `--again` says so. `render.py` makes
`docs/benchmarks.md` of all of them. A row is a dictionary:

    row       what was measured, the same text every time: it is the row's key
    asked     the number that was asked for, in words
    measured  the number that was got, in words
    seeds     list of seeds
    passed    True, False, or None where nothing was asked
    command   what anyone types to measure it again
    detail    anything else, as JSON
    partial   optional: why the row is less than what was asked ("2 of 5 seeds")
"""

import argparse
import datetime
import hashlib
import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "results"
PACKAGES = ("menura", "jax", "jaxlib", "equinox", "numpy", "gymnasium", "envpool", "mujoco")
ROW_KEYS = {"row", "asked", "measured", "seeds", "passed", "command"}


def parser_of(description: str) -> argparse.ArgumentParser:
    """An argument parser with what every benchmark takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", type=Path, help="folder with gail_experts/ (CONTRIBUTING.md says how to get it)")
    parser.add_argument("--only", help="measure only rows whose text contains this")
    parser.add_argument("--again", action="store_true", help="measure rows that are there already")
    return parser


def wanted(name: str, row: str, arguments: argparse.Namespace) -> bool:
    """Whether a row is to be measured now."""
    if arguments.only and arguments.only.lower() not in row.lower():
        return False
    known = known_rows(name).get(row)
    return arguments.again or known is None or bool(known.get("partial"))


def known_rows(name: str) -> dict[str, dict[str, Any]]:
    """Rows measured before, by their text."""
    path = RESULTS / f"{name}.json"
    if not path.exists():
        return {}
    return {row["row"]: row for row in json.loads(path.read_text(encoding="utf-8"))["rows"]}


def write_rows(name: str, rows: Iterable[dict[str, Any]], *, title: str = "", data: Iterable[Path] = ()) -> Path:
    """Keep rows in `results/<name>.json` with where they were measured; rows of the same text are replaced."""
    kept = known_rows(name)
    where = stamp() | {"data": {path.name: sha256(path) for path in data}}
    for row in rows:
        if missing := ROW_KEYS - row.keys():
            raise ValueError(f"Row {row.get('row')!r} lacks {sorted(missing)}.")
        kept[row["row"]] = {**row, "where": where}
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    text = json.dumps({"title": title or name.replace("_", " ").capitalize(), "rows": list(kept.values())}, indent=2)
    partial = path.with_suffix(".json.partial")
    partial.write_text(text + "\n", encoding="utf-8")
    os.replace(partial, path)
    return path


def stamp() -> dict[str, Any]:
    """The day, the commit that is measured, and by what."""
    day = datetime.datetime.now(datetime.UTC).date().isoformat()
    return {"date": day, "commit": commit(), "machine": machine(), "versions": versions()}


def command_of_this_script() -> str:
    """What was typed, as it can be typed again from the repository's root; folders by the names of their options."""
    script = Path(sys.argv[0]).resolve()
    shown = script.relative_to(REPOSITORY) if script.is_relative_to(REPOSITORY) else script.name
    folders = {"--data": "DATA", "--runs": "RUNS"}
    arguments = [folders.get(before, a) for before, a in zip(sys.argv, sys.argv[1:], strict=False)]
    return shlex.join([".venv/bin/python", str(shown), *arguments])


def machine() -> dict[str, Any]:
    """The processor and how many of its cores this process may use."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cpu": model, "cores": cores, "system": platform.system()}


def versions() -> dict[str, str]:
    """Python's version and those of the packages that matter, where they are installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """The commit measured, with `+changes` where files that git tracks differ from it."""
    head = _git("rev-parse", "--short=12", "HEAD")
    if not head:
        return "unknown"
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!benchmarks/results", ":!docs")
    return f"{head}+changes" if changed else head


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def sha256(path: Path) -> str:
    """The first 16 digits of a file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def show(rows: Iterable[dict[str, Any]]) -> None:
    """Print rows as they will stand in docs/benchmarks.md."""
    print("\n".join(table(rows)), flush=True)


def table(rows: Iterable[dict[str, Any]]) -> list[str]:
    """A Markdown table, one line an element."""
    lines = ["| what | asked | measured | met | seeds | at | command |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        measured = f"{row['measured']} (partial: {row['partial']})" if row.get("partial") else row["measured"]
        met = {True: "yes", False: "**no**", None: "–"}[row["passed"]]
        seeds = seeds_in_words(row["seeds"])
        cells = [row["row"], row["asked"], measured, met, seeds, measured_at(row), f"`{row['command']}`"]
        lines.append("| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
    return lines


def measured_at(row: dict[str, Any]) -> str:
    """Commit and day, of every seed where they differ, the data's hashes, and the footnote of machine and versions."""
    if "where" not in row:
        return "now"
    parts = list(dict.fromkeys(f"{at['commit']}, {at['date']}" for at in stamps_of(row)))
    parts += [f"{name} {digest}" for name, digest in row["where"]["data"].items()]
    return "; ".join(parts) + (f" [{row['footnote']}]" if "footnote" in row else "")


def stamps_of(row: dict[str, Any]) -> list[dict[str, Any]]:
    """Where each of its seeds was measured; what one does not say is where the row was written last."""
    by_seed = row.get("detail", {}).get("by_seed", {}).values()
    return [row["where"] | one["measured"] for one in by_seed if isinstance(one, dict) and "measured" in one] or [
        row["where"]
    ]


def seeds_in_words(seeds: list[int]) -> str:
    """`0–4` for a run of seeds, else the seeds one by one."""
    if len(seeds) > 2 and seeds == list(range(seeds[0], seeds[0] + len(seeds))):
        return f"{seeds[0]}–{seeds[-1]}"
    return ", ".join(map(str, seeds)) or "–"
