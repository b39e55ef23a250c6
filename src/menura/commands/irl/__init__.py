"""``menura irl``: tabular inverse reinforcement learning, one module a group of subcommands."""

from collections.abc import Callable, Sequence
from typing import Any

from menura.commands.arguments import run_subcommand
from menura.commands.irl import apprenticeship, deep, figures, fit, identify, intentions, predict

ABOUT = """Problems are read from mdp.npz, one row a transition; demonstrations from demos.npz or a CSV panel with the
columns individual, time, state, action[, goal]. docs/irl/formats.md says what they hold."""

SUBCOMMANDS: dict[str, tuple[type, Callable[[Any], None]]] = {
    "maxent": (fit.MaxEntArguments, fit.maxent),
    "mce": (fit.MCEArguments, fit.mce),
    "apprenticeship": (apprenticeship.ApprenticeshipArguments, apprenticeship.apprenticeship),
    "identify": (identify.IdentifyArguments, identify.identify),
    "predict": (predict.PredictArguments, predict.predict),
    "figures": (figures.FiguresArguments, figures.figures),
    "tree": (figures.TreeArguments, figures.tree),
    "intentions": (intentions.IntentionsArguments, intentions.intentions),
    "deep": (deep.DeepArguments, deep.deep),
}
"""Each subcommand's arguments and what carries it out."""


def main(arguments: Sequence[str]) -> None:
    """Run one of the subcommands."""
    run_subcommand(SUBCOMMANDS, arguments, program="menura irl", about=ABOUT)
