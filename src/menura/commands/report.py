"""``menura report RUN… -o FILE``: one page about one or several runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from menura.commands.arguments import parse
from menura.core import RequestError

if TYPE_CHECKING:
    from menura.report.runs import Run
    from menura.report.video import Video

MAX_VIDEOS = 4


@dataclass(frozen=True)
class ReportOptions:
    """Write one self-contained HTML page about runs: tables, curves, and a video of expert and learner."""

    runs: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="RUN...")]
    """Run folders, or folders with runs below them."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("report.html")
    """The page to write."""
    title: str | None = None
    """The page's title; by default algorithms and environments."""
    no_video: bool = False
    """Leave out the videos, which are one for each algorithm and at most four."""


def main(arguments: Sequence[str]) -> None:
    """Write the page, print its tables, and say where it is."""
    options = parse(ReportOptions, arguments, program="menura report", description=ReportOptions.__doc__ or "")
    from rich.console import Console

    from menura.report.pages import write_report
    from menura.report.proxies import flags_in_words
    from menura.report.runs import find_runs, read_run
    from menura.report.tables import results_table, seeds_table, to_rich

    if not options.runs:
        raise RequestError("Name at least one run folder, or a folder with runs below it.")
    paths = find_runs(options.runs)
    runs = [read_run(path) for path in paths]
    videos = [] if options.no_video else videos_of(runs)
    page = write_report(paths, options.output, videos, title=options.title)
    console = Console()
    for table in (results_table(runs), seeds_table(runs)):
        if table is not None:
            console.print(to_rich(table))
    for run in runs:
        for flag in flags_in_words(run):
            console.print(f"{run.name} on {run.env}, {run.path.name}: {flag}", highlight=False)
    console.print(f"{page}", soft_wrap=True, highlight=False)


def videos_of(runs: Sequence["Run"]) -> list["Video"]:
    """A video of the first run of each algorithm on each environment; where one fails, a sentence says why."""
    from menura.commands.video import video_of_run
    from menura.report.video import Video

    first = {(run.env, run.name): run for run in reversed(runs)}
    chosen = [run for run in runs if first[run.env, run.name] is run][:MAX_VIDEOS]
    videos = []
    for run in chosen:
        try:
            videos.append(video_of_run(run.path))
        except RequestError as error:
            videos.append(Video(f"{run.name} on {run.env}", b"", f"There is no video: {error}"))
    return videos
