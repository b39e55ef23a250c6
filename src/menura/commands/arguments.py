"""What the commands share: reading arguments into dataclasses, and JSON on stdout."""

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from menura.core import RequestError

Arguments = TypeVar("Arguments")


def parse(cls: type[Arguments], arguments: Sequence[str], *, program: str, description: str) -> Arguments:
    """A dataclass from the command line. Wrong options end the program with code 2."""
    import tyro

    flags = (tyro.conf.FlagCreatePairsOff, tyro.conf.SuppressFixed)
    return tyro.cli(cls, args=list(arguments), prog=program, description=description, config=flags)


def run_subcommand(
    subcommands: dict[str, tuple[type, Callable[[Any], None]]], arguments: Sequence[str], *, program: str, about: str
) -> None:
    """Hand the arguments to the subcommand they begin with."""
    width = max(map(len, subcommands))
    lines = [f"  {name:{width}}  {_first_line(cls)}" for name, (cls, _) in subcommands.items()]
    usage = f"usage: {program} SUBCOMMAND ...\n\n{about}\n\nsubcommands:\n" + "\n".join(lines)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage)
        sys.exit(0 if arguments else 2)
    name, *rest = arguments
    if name not in subcommands:
        raise RequestError(f"No `{program} {name}`: choose one of {', '.join(subcommands)}.")
    cls, run = subcommands[name]
    run(parse(cls, rest, program=f"{program} {name}", description=cls.__doc__ or ""))


def print_json(value: Any) -> None:
    """One JSON object on stdout, and nothing else; numbers that are not finite become null."""
    from menura.run.artifacts import finite

    print(json.dumps(finite(value), ensure_ascii=False, allow_nan=False))


def _first_line(cls: type) -> str:
    return (cls.__doc__ or "").strip().split("\n")[0].rstrip(".")
