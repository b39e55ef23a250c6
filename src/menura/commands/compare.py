"""``menura compare RUN…``: what several experiments come to over their seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from menura.commands.arguments import parse, print_json
from menura.core import RequestError

if TYPE_CHECKING:
    from menura.report.comparison import Comparison


@dataclass(frozen=True)
class CompareOptions:
    """Compare experiments over their seeds: interquartile means with intervals, and probabilities of improvement."""

    runs: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="RUN...")]
    """Run folders, or folders with runs below them; those that have not finished are left out."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """Draw the comparison as this PNG."""
    json: bool = False
    """Print one JSON object and nothing else."""


def main(arguments: Sequence[str]) -> None:
    """Print the tables, and draw them."""
    options = parse(CompareOptions, arguments, program="menura compare", description=CompareOptions.__doc__ or "")
    if not options.runs:
        raise RequestError("Name at least one run folder, or a folder with runs below it.")
    if options.output is not None and options.output.suffix.lower() != ".png":
        raise RequestError(f"{options.output} must end in .png.")
    comparison = comparison_of(options.runs)
    if options.output is not None:
        from menura.report.comparison_figure import comparison_figure
        from menura.report.files import write_atomically

        write_atomically(options.output, comparison_figure(comparison).light)
    if options.json:
        print_json(comparison.to_json())
        return
    show(comparison)
    if options.output is not None:
        print(options.output)


def comparison_of(paths: Sequence[Path]) -> "Comparison":
    """What the finished runs among some folders come to."""
    from menura.report.comparison import compare
    from menura.report.runs import find_runs, read_run

    return compare([read_run(path) for path in find_runs(paths)])


def print_comparison(paths: Sequence[Path]) -> None:
    """The tables of some run folders."""
    show(comparison_of(paths))


def show(comparison: "Comparison") -> None:
    """The tables on stdout."""
    from rich.console import Console

    from menura.report.comparison import tables
    from menura.report.tables import to_rich

    console = Console()
    for table in tables(comparison):
        console.print(to_rich(table))
    if comparison.num_repeats:
        print(f"Left out: {comparison.num_repeats} older, of the same settings and seed as another.")
