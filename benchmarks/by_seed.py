"""Rows that are several seeds of one `menura` command: run as a user runs it, kept seed by seed."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from common import known_rows, parser_of, show, stamp, wanted, write_rows

MENURA = Path(sys.executable).parent / "menura"


def menura(*arguments: Any, out: Path | None = None) -> dict[str, Any]:
    """Run `menura train …` in a process of its own; its result.json, evaluations, and wall seconds from outside."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = out or Path(temporary)
        started = time.perf_counter()
        command = [str(MENURA), *map(str, arguments), "--out", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wall = time.perf_counter() - started
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed: {done.stderr[-2000:]}")
        run = Path(done.stdout.strip().splitlines()[-1])
        result = json.loads((run / "result.json").read_text())
        evaluations = evaluations_of(run)
    return result | {"process_seconds": wall, "evaluations": evaluations}


def evaluations_of(run: Path) -> list[tuple[int, float]]:
    """Environment steps and mean return of every evaluation of a run."""
    if not (run / "evaluations.csv").exists():
        return []
    header, *rows = [line.split(",") for line in (run / "evaluations.csv").read_text().splitlines()]
    steps, returns = header.index("env_steps"), header.index("mean_return")
    return [(int(row[steps]), float(row[returns])) for row in rows]


def seeds_parser(doc: str | None) -> Any:
    """The options of a script whose rows are seeds of runs on DATA."""
    parser = parser_of(doc)
    parser.add_argument("--seeds", type=int, help="measure at most this many seeds of each row")
    return parser


def with_data(parser: Any) -> Any:
    """The parsed options, among which --data must be."""
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("--data DATA is needed.")
    return arguments


def reaches(least: float, *, max_seconds: float | None = None, max_steps: int | None = None) -> Callable[[Any], bool]:
    """Whether a run has this share of the expert's return, in time and in steps."""

    def good(result: dict[str, Any]) -> bool:
        return (
            result["mean_return"] >= least * result["expert_return"]
            and (max_seconds is None or result["process_seconds"] <= max_seconds)
            and (max_steps is None or result["env_steps"] <= max_steps)
        )

    return good


def measure_seeds(
    name: str,
    row: str,
    arguments: Any,
    *,
    asked: str,
    command: str,
    seeds: Sequence[int],
    one: Callable[[int], dict[str, Any]],
    good: Callable[[dict[str, Any]], bool] | None,
    describe: Callable[[list[dict[str, Any]]], str],
    data: Sequence[Path] | Callable[[], Sequence[Path]] = (),
    title: str = "",
    together: Callable[[list[dict[str, Any]]], bool] | None = None,
) -> None:
    """Measure the seeds of a row that are missing, and write the row again after each of them.

    The row is met where all seeds are ``good``, or where they are ``together``, if that is given. ``data`` may be a
    function, where measuring makes the files.
    """
    if not wanted(name, row, arguments):
        return
    before = {} if arguments.again else known_rows(name).get(row, {})
    # Seeds that were measured before keep what they were measured at, and by.
    of_stamp = ("commit", "date", "machine", "versions")
    earlier = {name: before["where"][name] for name in of_stamp} if "where" in before else {}
    known = before.get("detail", {}).get("by_seed", {})
    results = {int(seed): result | {"measured": earlier | result.get("measured", {})} for seed, result in known.items()}
    most = getattr(arguments, "seeds", None) or len(seeds)
    for seed in seeds[:most]:
        if seed in results:
            continue
        results[seed] = one(seed) | {"measured": stamp()}
        done = [results[s] for s in sorted(results)]
        met = sum(map(good, done)) if good else 0
        count = f"{met} of {len(done)} seeds: " if good else ""
        entry = {
            "row": row,
            "asked": asked,
            "measured": count + describe(done),
            "seeds": sorted(results),
            "passed": together(done) if together else None if good is None else met == len(done),
            "command": command,
            "detail": {"by_seed": {str(s): results[s] for s in sorted(results)}},
        }
        if len(results) < len(seeds):
            entry["partial"] = f"{len(results)} of {len(seeds)} seeds"
        write_rows(name, [entry], title=title, data=data() if callable(data) else data)
        show([entry])


def spread(values: Sequence[float], digits: int = 0) -> str:
    """Smallest and largest of a list, or the one there is."""
    low, high = min(values), max(values)
    if f"{low:.{digits}f}" == f"{high:.{digits}f}":
        return f"{low:,.{digits}f}"
    return f"{low:,.{digits}f} to {high:,.{digits}f}"
