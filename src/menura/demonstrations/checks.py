"""What demonstrations must satisfy, one array at a time. Every refusal names the place and says what is wrong there."""

import math

import numpy as np

from menura.core import BoxActions, DiscreteActions, RequestError, Spec

_FLOAT32_MAX = float(np.finfo(np.float32).max)


def check_numbers(array: np.ndarray, *, where: str, field: str) -> None:
    """Refuse anything but finite real numbers that float32 can hold. The first axis is ``step``."""
    if array.dtype.kind not in "fiub":
        raise RequestError(f"{where}: {field} are {array.dtype}, not numbers; store them as floats or integers.")
    if array.dtype.kind != "f":
        return
    fits = np.isfinite(array)
    if array.dtype.itemsize > 4:
        fits &= np.abs(array) <= _FLOAT32_MAX
    if not np.all(fits):
        index = tuple(int(i) for i in np.argwhere(~fits)[0])
        raise RequestError(
            f"{where}, step {index[0]}: {field}{_component(index[1:])} is {array[index]}, "
            "which is not a finite 32-bit number; repair or remove this episode."
        )


def check_length(array: np.ndarray, lengths: tuple[int, ...], *, where: str, field: str) -> None:
    """Refuse a first axis of any other length."""
    if array.ndim == 0 or len(array) not in lengths:
        got = len(array) if array.ndim else 0
        wanted = " or ".join(str(n) for n in lengths)
        raise RequestError(f"{where}: {field} have {got} rows where {wanted} belong; the file's lengths do not add up.")


def check_obs_shape(obs: np.ndarray, *, where: str) -> None:
    """Refuse empty observations and pictures that are not of bytes.

    A row must be a vector, an integer, a picture, or a table of real numbers, which is one vector row after row.
    """
    is_table = obs.ndim == 3 and obs.dtype.kind == "f"
    if obs.ndim > 2 and obs.dtype != np.uint8 and not is_table:
        raise RequestError(
            f"{where}: observations have shape {obs.shape[1:]} and are {obs.dtype}; "
            "pictures can be learned from as bytes (uint8), not as other numbers."
        )
    if obs.ndim > 1 and 0 in obs.shape[1:]:
        raise RequestError(f"{where}: observations have no components; store at least one number a step.")


def check_obs_fit(obs: np.ndarray, spec: Spec, *, where: str) -> None:
    """Refuse observations that are not those of the environment."""
    single = spec.obs_size // spec.history
    if not spec.parts and is_one_hot_index(obs, single):
        wrong = np.flatnonzero((obs < 0) | (obs >= single))
        if len(wrong):
            raise RequestError(
                f"{where}, step {wrong[0]}: observations is {obs.reshape(-1)[wrong[0]]}, outside 0 … "
                f"{single - 1}; "
                "were these recorded in this environment?"
            )
        return
    size = math.prod(obs.shape[1:])
    if size not in (single, spec.obs_size):
        what = "bytes" if spec.parts else "numbers"
        raise RequestError(
            f"{where}: observations have {size} {what} and the environment's have {single}; "
            "use demonstrations recorded in this environment."
        )
    if spec.parts and obs.dtype != np.uint8:
        raise RequestError(
            f"{where}: observations are {obs.dtype} and the environment's are pictures of bytes (uint8); "
            "use demonstrations recorded in this environment."
        )


def check_actions_fit(actions: np.ndarray, spec: Spec, *, where: str) -> None:
    """Refuse actions that the environment does not have."""
    match spec.actions:
        case DiscreteActions(num_actions=num_actions):
            _check_discrete(actions, num_actions, where)
        case BoxActions():
            _check_box(actions, spec.actions, where)


def is_one_hot_index(obs: np.ndarray, obs_size: int) -> bool:
    """Whether observations are integers that name one of ``obs_size`` states."""
    is_scalar = obs.ndim == 1 or (obs.ndim == 2 and obs.shape[1] == 1)
    return obs.dtype.kind in "iu" and is_scalar and obs_size > 1


def _check_discrete(actions: np.ndarray, num_actions: int, where: str) -> None:
    if actions.ndim > 1 and actions.shape != (len(actions), 1):
        raise RequestError(
            f"{where}: actions have shape {actions.shape[1:]} and the environment takes one of {num_actions}; "
            "store the number of the action."
        )
    flat = actions.reshape(-1)
    wrong = np.flatnonzero((flat < 0) | (flat >= num_actions) | (flat != np.floor(flat)))
    if len(wrong):
        raise RequestError(
            f"{where}, step {wrong[0]}: actions is {flat[wrong[0]]}, not one of 0 … {num_actions - 1}; "
            "were these recorded in this environment?"
        )


def _check_box(actions: np.ndarray, space: BoxActions, where: str) -> None:
    size = actions.shape[1] if actions.ndim == 2 else 1
    if actions.ndim > 2 or size != space.size:
        raise RequestError(
            f"{where}: actions have shape {actions.shape[1:]} and the environment takes {space.size} numbers; "
            "use demonstrations recorded in this environment."
        )
    low, high = np.asarray(space.low), np.asarray(space.high)
    rounding = 1e-4 * np.where(np.isfinite(high - low), high - low, 1.0)
    rows = actions.reshape(len(actions), size)
    wrong = np.argwhere((rows < low - rounding) | (rows > high + rounding))
    if len(wrong):
        step, i = (int(n) for n in wrong[0])
        raise RequestError(
            f"{where}, step {step}: actions[{i}] is {rows[step, i]:.6g}, outside the environment's "
            f"{low[i]:.6g} … {high[i]:.6g}; clip or rescale the actions to its units."
        )


def _component(index: tuple[int, ...]) -> str:
    return f"[{', '.join(str(i) for i in index)}]" if index else ""
