"""One HTML page that holds everything: it needs no network, no script and no other file."""

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import metadata, resources
from pathlib import Path

from menura.core import RequestError
from menura.report import words
from menura.report.curves import figures
from menura.report.files import write_atomically
from menura.report.proxies import flags_in_words
from menura.report.runs import Run, find_runs, read_run
from menura.report.style import Figure
from menura.report.tables import Table, results_table, seeds_table
from menura.report.video import Video


@dataclass(frozen=True)
class RunWords:
    """What a page says of one run."""

    title: str
    description: str
    flags: list[str]
    """What looks wrong with it, and what to turn."""
    configuration: str
    command: str
    provenance: list[tuple[str, str]]


def write_report(runs: Iterable[Path], output: Path, videos: Sequence[Video] = (), *, title: str | None = None) -> Path:
    """Write the page of some run folders (or of folders with runs below them), and its pictures beside it.

    The pictures are in the page, and for use elsewhere also in ``<name of the page>_files/``.
    """
    output = Path(output)
    if output.suffix.lower() not in (".html", ".htm"):
        raise RequestError(f"{output} must end in .html.")
    read = [read_run(path) for path in find_runs(runs)]
    if not read:
        raise RequestError("Name at least one run folder.")
    found = figures(read)
    page = render_page(read, found, videos, title=title or words.headline(read))
    beside = output.with_name(f"{output.stem}_files")
    for figure in found:
        write_atomically(beside / f"{figure.name}.png", figure.light)
    for index, video in enumerate(videos):
        if video.mp4:
            write_atomically(beside / f"video-{index + 1}.mp4", video.mp4)
    write_atomically(output, page.encode())
    return output


def render_page(runs: Sequence[Run], shown: Sequence[Figure], videos: Sequence[Video], *, title: str) -> str:
    """The page's HTML."""
    try:
        import jinja2
    except ModuleNotFoundError as error:
        raise RequestError("Pages need jinja2: install menura with its `viz` extra.") from error
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["data_uri"] = _data_uri
    source = resources.files("menura.report").joinpath("page.html.j2").read_text(encoding="utf-8")
    tables: list[Table] = [results_table(runs)]
    over_seeds = seeds_table(runs)
    if over_seeds is not None:
        tables.insert(0, over_seeds)
    return environment.from_string(source).render(
        title=title,
        tables=tables,
        figures=shown,
        videos=videos,
        runs=[_run_words(run) for run in runs],
        version=_version(),
    )


def _run_words(run: Run) -> RunWords:
    seed = "" if run.seed is None else f", seed {run.seed}"
    return RunWords(
        f"{run.name} on {run.env}{seed}",
        words.describe(run),
        flags_in_words(run),
        words.configuration(run),
        words.command(run),
        words.provenance(run),
    )


def _data_uri(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _version() -> str:
    try:
        return metadata.version("menura")
    except metadata.PackageNotFoundError:
        return ""
