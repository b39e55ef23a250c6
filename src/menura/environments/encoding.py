"""Observations of any Gymnasium space that can be learned from, as one flat array, and what it is made of."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from menura.core import Images, RequestError, Vector

NAMELESS = "observation"
"""The part of an observation that is no Dict or Tuple."""


def parts_of(space: spaces.Space, *, env_id: str) -> tuple[tuple[str, Vector | Images], ...]:
    """Names and shapes of what a space holds, in its order; refuses the kinds that no network here reads."""
    return tuple(("/".join(path) or NAMELESS, _part_of(leaf, env_id)) for path, leaf in _leaves(space))


def encode_obs(obs: Any, space: spaces.Space) -> np.ndarray:
    """Observations as flat float32 numbers, or as bytes where the space has pictures. Leading axes are kept.

    ``Discrete`` becomes one-hot. In bytes a number is its float32's four.
    """
    leaves = list(_leaves(space))
    if len(leaves) == 1 and not leaves[0][0]:
        return _encode_leaf(obs, leaves[0][1])
    pieces = [_encode_leaf(_at(obs, path), leaf) for path, leaf in leaves]
    if any(is_picture(leaf) for _, leaf in leaves):
        pieces = [np.ascontiguousarray(piece).view(np.uint8) for piece in pieces]
    return np.concatenate(pieces, axis=-1)


def encode_each(obs: Sequence[Any], space: spaces.Space) -> np.ndarray:
    """As :func:`encode_obs`, for a list of single observations: one row each."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        return np.stack([encode_obs(one, space) for one in obs])
    return encode_obs(np.stack(obs), space)


def is_picture(space: spaces.Space) -> bool:
    """Whether a space is of bytes with rows and columns."""
    return isinstance(space, spaces.Box) and space.dtype == np.uint8 and len(space.shape) > 1


def _leaves(space: spaces.Space, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], spaces.Space]]:
    """What a space holds, however deep, and the keys that lead there."""
    if isinstance(space, spaces.Dict):
        inner = space.spaces.items()
    elif isinstance(space, spaces.Tuple):
        inner = ((str(index), part) for index, part in enumerate(space.spaces))
    else:
        yield path, space
        return
    for name, part in inner:
        yield from _leaves(part, (*path, name))


def _at(obs: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        obs = obs[key if isinstance(obs, dict) else int(key)]
    return obs


def _part_of(space: spaces.Space, env_id: str) -> Vector | Images:
    if isinstance(space, spaces.Discrete):
        return Vector(int(space.n))
    if isinstance(space, spaces.MultiBinary) or (isinstance(space, spaces.Box) and _is_vector_or_table(space)):
        return Vector(math.prod(space.shape))
    if is_picture(space):
        return _picture(space.shape, env_id)
    about = f" of {space.dtype} of shape {space.shape}" if isinstance(space, spaces.Box) else ""
    raise RequestError(
        f"{env_id} observes a {type(space).__name__}{about}; vectors, Discrete, pictures of bytes (uint8), and Dict "
        "and Tuple of those can be learned from, so wrap it to give one of them."
    )


def _is_vector_or_table(space: spaces.Box) -> bool:
    """Whether a space is a vector, or a table of real numbers, which is flattened to one."""
    return len(space.shape) <= 1 or (len(space.shape) == 2 and np.issubdtype(space.dtype, np.floating))


def _picture(shape: tuple[int, ...] | None, env_id: str) -> Images:
    """(height, width), (height, width, colors), (frames, height, width) or (frames, height, width, colors).

    Of three numbers the smallest is that of colors or of frames, whichever end it stands at.
    """
    match shape:
        case (height, width):
            return Images(1, height, width, 1)
        case (first, second, third) if third <= first:
            return Images(1, first, second, third)
        case (frames, height, width):
            return Images(frames, height, width, 1)
        case (frames, height, width, channels):
            return Images(frames, height, width, channels)
    raise RequestError(f"{env_id} observes pictures of shape {shape}; two to four axes can be learned from.")


def picture_of_shape(shape: tuple[int, ...], *, where: str) -> Images:
    """What a row of stored pictures is."""
    return _picture(shape, where)


def _encode_leaf(obs: Any, space: spaces.Space) -> np.ndarray:
    if isinstance(space, spaces.Discrete):
        index = np.asarray(obs, np.int64) - int(space.start)
        return np.eye(int(space.n), dtype=np.float32)[index]
    array = np.asarray(obs)
    leading = array.shape[: array.ndim - len(space.shape or ())]
    return array.reshape(*leading, -1).astype(np.uint8 if is_picture(space) else np.float32, copy=False)
