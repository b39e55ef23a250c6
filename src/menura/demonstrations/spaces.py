"""Observation spaces as Minari writes them in JSON, and observations of several parts as one row of bytes."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from menura.core import Images, RequestError, Spec, Vector

Leaf = tuple[tuple[str, ...], dict[str, Any]]
"""The keys that lead to a space that holds no other, and that space."""


def leaves_of(space: dict[str, Any], path: tuple[str, ...] = ()) -> list[Leaf]:
    """What a Dict or Tuple holds, however deep, in its order; any other space is its own only leaf."""
    match space.get("type"):
        case "Dict":
            inner = list(space["subspaces"].items())
        case "Tuple":
            inner = [(f"_index_{i}", part) for i, part in enumerate(space["subspaces"])]
        case _:
            return [(path, space)]
    return [leaf for name, part in inner for leaf in leaves_of(part, (*path, name))]


def is_picture(space: dict[str, Any]) -> bool:
    """Whether a space is of bytes with rows and columns."""
    return space.get("type") == "Box" and space.get("dtype") == "uint8" and len(space.get("shape", ())) > 1


def require_readable(space: dict[str, Any], *, where: str) -> None:
    """Refuse a space with anything in it but vectors, tables of real numbers, integers and pictures of bytes."""
    leaves = leaves_of(space)
    if not leaves:
        raise RequestError(f"{where} is a {space['type']} of nothing, so there is nothing to learn from.")
    for path, leaf in leaves:
        kind, shape = leaf.get("type"), tuple(leaf.get("shape", ()))
        is_table = len(shape) == 2 and str(leaf.get("dtype")).startswith("float")
        is_vector = kind == "Box" and (len(shape) == 1 or is_table)
        fits = kind in ("Discrete", "MultiBinary") or is_vector or is_picture(leaf)
        # A Box of one number without an axis is read within a Dict only: alone it is hardly an observation.
        if not fits and not (kind == "Box" and path and shape == ()):
            shaped = f" of shape {shape}" if shape else ""
            raise RequestError(
                f"{where} {'/'.join(path)}".rstrip()
                + f" is a {kind}{shaped}; only vectors, tables of real numbers, Discrete spaces and pictures of bytes "
                "can be learned from."
            )


def encoded(read: Callable[[tuple[str, ...]], np.ndarray], space: dict[str, Any]) -> np.ndarray:
    """An episode's observations as one array: as it is where the space is a single one, else all parts side by side.

    Then they are float32 numbers, or bytes where pictures are among them; integers are one-hot.
    """
    leaves = leaves_of(space)
    if len(leaves) == 1 and not leaves[0][0]:
        return read(())
    pieces = [_numbers(read(path), leaf) for path, leaf in leaves]
    if any(is_picture(leaf) for _, leaf in leaves):
        pieces = [np.ascontiguousarray(piece).view(np.uint8) for piece in pieces]
    return np.concatenate(pieces, axis=1)


def _numbers(array: np.ndarray, leaf: dict[str, Any]) -> np.ndarray:
    if leaf.get("type") == "Discrete":
        return np.eye(leaf["n"], dtype=np.float32)[array.reshape(-1).astype(np.int64) - leaf.get("start", 0)]
    return array.reshape(len(array), -1).astype(np.uint8 if is_picture(leaf) else np.float32, copy=False)


def parts_of_space(space: dict[str, Any]) -> tuple[tuple[str, Vector | Images], ...]:
    """What :func:`encoded` puts side by side, where pictures are among it; nothing elsewhere."""
    leaves = leaves_of(space)
    if not any(is_picture(leaf) for _, leaf in leaves):
        return ()
    return tuple(("/".join(path) or "observation", _part(leaf)) for path, leaf in leaves)


def _part(leaf: dict[str, Any]) -> Vector | Images:
    if leaf.get("type") == "Discrete":
        return Vector(leaf["n"])
    if not is_picture(leaf):
        return Vector(math.prod(leaf["shape"]) if "shape" in leaf else math.prod(np.atleast_1d(leaf["n"]).tolist()))
    from menura.environments.encoding import picture_of_shape

    return picture_of_shape(tuple(leaf["shape"]), where="The dataset")


def space_of_parts(spec: Spec) -> dict[str, Any]:
    """The Dict of an environment whose observations have several parts."""
    return {"type": "Dict", "subspaces": {name: _box(part) for name, part in spec.parts}}


def _box(part: Vector | Images) -> dict[str, Any]:
    if isinstance(part, Vector):
        bounds = {"low": [float("-inf")] * part.size, "high": [float("inf")] * part.size}
        return {"type": "Box", "dtype": "float32", "shape": [part.size], **bounds}
    shape = [part.height, part.width, part.channels]
    shape = shape if part.frames == 1 else [part.frames, *shape]
    zeros = np.zeros(shape, np.uint8)
    return {"type": "Box", "dtype": "uint8", "shape": shape, "low": zeros.tolist(), "high": (zeros + 255).tolist()}


def split(obs: np.ndarray, space: dict[str, Any]) -> dict[str, np.ndarray]:
    """Rows of bytes as the arrays that :func:`space_of_parts` describes, by name."""
    found, start = {}, 0
    for name, box in space["subspaces"].items():
        width = math.prod(box["shape"]) * np.dtype(box["dtype"]).itemsize
        piece = np.ascontiguousarray(obs[:, start : start + width]).view(box["dtype"])
        found[name] = piece.reshape(len(obs), *box["shape"])
        start += width
    return found
