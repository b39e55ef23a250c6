"""``menura``: finds the command that was asked for, and turns wrong requests into one sentence.

Nothing heavy is imported before a command is known, so that help comes at once.
"""

import importlib
import os
import sys
from collections.abc import Sequence

COMMANDS = {
    "demo": "train a small expert, record it, imitate it, and write a report",
    "train": "train an algorithm: menura train ALGORITHM [ENV | DATASET]",
    "eval": "play whole episodes with a trained policy",
    "demos": "show, validate, convert, generate or split demonstrations",
    "audit": "what an environment gives to a reward that knows nothing of the expert",
    "irl": "tabular inverse reinforcement learning, and the use of a fitted model",
    "compare": "compare runs over their seeds: interquartile means, intervals, probability of improvement",
    "reward": "draw the rewards that runs learned, and compare them",
    "report": "write a page of curves, tables and videos from runs",
    "video": "film a trained policy",
    "list": "list algorithms, environments, presets, regularizers or runs",
    "doctor": "say what is installed and what works on this machine",
}

HELP = """usage: menura COMMAND ...

Learn to act, and learn what is wanted, from experts.

commands:
{commands}

`menura COMMAND --help` explains one of them. Start with `menura demo`.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command. Exit codes: 0 done, 1 the run failed, 2 the request was wrong."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        width = max(map(len, COMMANDS))
        print(HELP.format(commands="\n".join(f"  {name:{width}}  {text}" for name, text in COMMANDS.items())), end="")
        sys.exit(0)
    if arguments[0] in ("-V", "--version"):
        from importlib.metadata import version

        print(f"menura {version('menura')}")
        sys.exit(0)
    name, *rest = arguments
    if name not in COMMANDS:
        _refuse(f"No command {name!r}: choose one of {', '.join(COMMANDS)}.")
    _prepare_jax()
    from menura.core import RequestError

    try:
        importlib.import_module(f"menura.commands.{name}").main(rest)
    except RequestError as error:
        _refuse(str(error))
    except KeyboardInterrupt as stop:
        print(str(stop) or "Interrupted.", file=sys.stderr)
        sys.exit(1)
    except (FloatingPointError, ChildProcessError) as error:
        print(f"menura: {error}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:
        # Whoever read the output has gone: not an error, and nothing more can be said to them.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def _refuse(sentence: str) -> None:
    print(f"menura: {sentence}", file=sys.stderr)
    sys.exit(2)


def _prepare_jax() -> None:
    """Keep compiled programs between commands, and say nothing about absent accelerators."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.path.join(cache, "menura", "jax"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
