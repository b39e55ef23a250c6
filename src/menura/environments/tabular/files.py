"""``mdp.npz`` written and read: plain arrays, never pickled ones (docs/irl/formats.md)."""

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from menura.core import RequestError
from menura.environments.tabular import checks

NEEDED = ("state", "action", "next_state", "probability")
"""The arrays without which there is no problem."""

NUMBERS = {"num_states": int, "num_actions": int, "discount": float, "horizon": int}
"""Those that hold one number."""

KNOWN = {
    *NEEDED,
    *NUMBERS,
    "state_features",
    "state_action_features",
    "transition_features",
    "feature_names",
    "initial",
    "terminal",
}
"""All that a problem may have."""


def read_npz(path: str | Path) -> dict[str, np.ndarray]:
    """Every array of an npz file; refuses what is not one, and pickled objects."""
    try:
        Path(path).stat()  # is_zipfile only says no where there is no file
        if not zipfile.is_zipfile(path):
            raise RequestError(f"{path} is not an npz file of named arrays, such as np.savez writes.")
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            return {name: _plain(file[name], name, path) for name in file.files}
    except FileNotFoundError as error:
        raise RequestError(f"There is no file {path}.") from error
    except RequestError:
        raise
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise RequestError(f"{path} cannot be read as an npz of plain arrays: {reason}.") from error


def _plain(array: Any, name: str, path: str | Path) -> np.ndarray:
    if not isinstance(array, np.ndarray):  # a member that is not an array comes as its bytes
        raise RequestError(f"{path} holds {name}, which is not an array.")
    return array


def read_problem(path: str | Path) -> dict[str, Any]:
    """The keywords of :meth:`TabularMDP.from_transitions` that a file holds."""
    arrays = read_npz(path)
    missing = [name for name in NEEDED if name not in arrays]
    if missing:
        raise RequestError(f"{path} has no {', '.join(missing)}: mdp.npz lists one row a transition.")
    unknown = sorted(arrays.keys() - KNOWN)
    if unknown:
        raise RequestError(
            f"{path} holds {', '.join(unknown)}, which no problem has; it may hold {', '.join(sorted(KNOWN))}."
        )
    settings: dict[str, Any] = dict(arrays)
    for name, kind in NUMBERS.items():
        if name in settings:
            settings[name] = checks.scalar(settings[name], kind, name, str(path))
    if "feature_names" in settings:
        settings["feature_names"] = tuple(str(name) for name in np.atleast_1d(settings["feature_names"]))
    if "discount" not in settings and "horizon" not in settings:
        raise RequestError(f"{path} has neither a discount nor a horizon; add one.")
    return settings


def write_problem(path: str | Path, settings: dict[str, Any], pair_key: Int[np.ndarray, " pairs"]) -> None:
    """Write these keywords; features of pairs become a table of all states and actions."""
    arrays = {name: value for name, value in settings.items() if value is not None}
    arrays["feature_names"] = np.array(arrays["feature_names"], dtype=np.str_)
    pair_features = arrays.pop("pair_features", None)
    if pair_features is not None:
        num_states, num_actions, size = arrays["num_states"], arrays["num_actions"], pair_features.shape[1]
        table = np.zeros((num_states * num_actions, size))
        table[pair_key] = pair_features
        arrays["state_action_features"] = table.reshape(num_states, num_actions, size)
    np.savez_compressed(path, **arrays)
