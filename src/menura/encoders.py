"""From bytes to features: how observations with pictures are decoded, and the convolutional networks that read them.

Frames stay bytes everywhere else: only here, within a forward pass, do they become numbers, which are divided by 255.
"""

import math
from collections.abc import Callable
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, UInt8

from menura.core import Images, Vector

Encoder = Literal["nature", "residual"]
"""The network that reads pictures: of Mnih et al. (2015), or a residual one as in Espeholt et al. (2018)."""

Parts = tuple[tuple[str, Vector | Images], ...]

SMALL = 36
"""Below so many pixels a side, the published kernels of :class:`NatureEncoder` leave nothing of a picture."""


def num_numbers(parts: Parts) -> int:
    """How many numbers :func:`decoded` gives."""
    return sum(part.size if isinstance(part, Vector) else part.num_bytes for _, part in parts)


def decoded(obs: UInt8[Array, " bytes"], parts: Parts) -> Float[Array, " numbers"]:
    """An observation's numbers, part after part: of pictures their bytes over 255, of vectors what the bytes encode."""
    numbers = []
    for piece, (_, part) in zip(_pieces(obs, parts), parts, strict=True):
        if isinstance(part, Vector):
            numbers.append(jax.lax.bitcast_convert_type(piece.reshape(part.size, 4), jnp.float32))
        else:
            numbers.append(piece.astype(jnp.float32) / 255)
    return jnp.concatenate(numbers)


def encoded(numbers: Float[Array, " numbers"]) -> UInt8[Array, " bytes"]:
    """A vector's bytes, as they stand in an observation with pictures."""
    return jax.lax.bitcast_convert_type(numbers.astype(jnp.float32), jnp.uint8).reshape(-1)


def vectors_in(obs: UInt8[Array, " bytes"], parts: Parts) -> Float[Array, " numbers"]:
    """The numbers of all vectors in an observation with pictures, one vector after another."""
    vectors = tuple((name, part) for name, part in parts if isinstance(part, Vector))
    pieces = [piece for piece, (_, part) in zip(_pieces(obs, parts), parts, strict=True) if isinstance(part, Vector)]
    return decoded(jnp.concatenate(pieces), vectors) if vectors else jnp.zeros(0)


def with_vectors(
    obs: UInt8[Array, " bytes"], parts: Parts, numbers: Float[Array, " numbers"]
) -> UInt8[Array, " bytes"]:
    """The observation with these numbers in the place of what :func:`vectors_in` gives."""
    pieces, start = [], 0
    for piece, (_, part) in zip(_pieces(obs, parts), parts, strict=True):
        if isinstance(part, Vector):
            piece = encoded(numbers[start : start + part.size])
            start += part.size
        pieces.append(piece)
    return jnp.concatenate(pieces)


def _pieces(obs: UInt8[Array, " bytes"], parts: Parts) -> list[UInt8[Array, " _part"]]:
    """The bytes of each part."""
    ends = np.cumsum([part.num_bytes for _, part in parts])
    return jnp.split(obs, ends[:-1])


def shifted(obs: UInt8[Array, " bytes"], parts: Parts, *, most: int, key: PRNGKeyArray) -> UInt8[Array, " bytes"]:
    """The observation with its pictures moved by up to ``most`` pixels either way, up or down and left or right, and
    their edges drawn out (Kostrikov, Yarats & Fergus 2021, section 3.1). Frames of one part move together."""
    pieces = []
    for number, (piece, (_, part)) in enumerate(zip(_pieces(obs, parts), parts, strict=True)):
        if isinstance(part, Images):
            shape = (part.frames, part.height, part.width, part.channels)
            drawn_out = jnp.pad(piece.reshape(shape), ((0, 0), (most, most), (most, most), (0, 0)), mode="edge")
            down, right = jax.random.randint(jax.random.fold_in(key, number), (2,), 0, 2 * most + 1)
            piece = jax.lax.dynamic_slice(drawn_out, (0, down, right, 0), shape).reshape(-1)
        pieces.append(piece)
    return jnp.concatenate(pieces)


def convolution(
    picture: Float[Array, "height width channels"],
    kernel: Float[Array, "side side channels filters"],
    bias: Float[Array, " filters"],
    *,
    stride: int,
) -> Float[Array, "rows columns filters"]:
    """A convolution without padding, with a bias for each filter."""

    def by_xla(x: Array, w: Array) -> Array:
        layout = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x[None], w, (stride, stride), "VALID", dimension_numbers=layout)[0]

    # XLA's convolution for CPUs takes twenty times as long within a loop as outside, and every learner loops over its
    # gradient steps within one program; as a product of matrices it takes the same time in both, and less than that.
    return jax.lax.platform_dependent(picture, kernel, cpu=_by_products(stride), default=by_xla) + bias[None, None, :]


def _by_products(stride: int) -> Callable[[Array, Array], Array]:
    def product(picture: Array, kernel: Array) -> Array:
        side, channels = kernel.shape[0], picture.shape[-1]
        if stride > 1 and side % stride == 0:
            # A stride of s is one of 1 where every block of s × s pixels is one pixel with s² times the channels.
            blocks = side // stride
            rows, columns = ((size - side) // stride + blocks for size in picture.shape[:2])
            picture = picture[: rows * stride, : columns * stride].reshape(rows, stride, columns, stride, channels)
            picture = picture.transpose(0, 2, 1, 3, 4).reshape(rows, columns, -1)
            kernel = kernel.reshape(blocks, stride, blocks, stride, channels, -1)
            kernel = kernel.transpose(0, 2, 1, 3, 4, 5).reshape(blocks, blocks, picture.shape[-1], -1)
            return _of_patches(picture, kernel, 1)
        return _of_patches(picture, kernel, stride)

    return product


def _of_patches(picture: Array, kernel: Array, stride: int) -> Array:
    """Every patch that the kernel covers as a row, times the kernel as a matrix."""
    side, channels = kernel.shape[0], picture.shape[-1]
    rows, columns = ((size - side) // stride + 1 for size in picture.shape[:2])
    patches = jnp.stack(
        [
            picture[i : i + (rows - 1) * stride + 1 : stride, j : j + (columns - 1) * stride + 1 : stride]
            for i in range(side)
            for j in range(side)
        ],
        axis=2,
    )
    flat = patches.reshape(rows * columns, side * side * channels)
    return (flat @ kernel.reshape(side * side * channels, -1)).reshape(rows, columns, -1)


class Convolution(eqx.Module):
    """One layer of filters; orthogonal at first, with gain √2 unless told otherwise."""

    kernel: Float[Array, "side side channels filters"]
    bias: Float[Array, " filters"]
    stride: int = eqx.field(static=True)
    padded: bool = eqx.field(static=True)
    """Whether the picture is given a border, so that it keeps its size."""

    def __init__(
        self,
        channels: int,
        filters: int,
        side: int,
        stride: int = 1,
        *,
        padded: bool = False,
        gain: float = math.sqrt(2.0),
        key: PRNGKeyArray,
    ):
        shape = (side * side * channels, filters)
        weights = jax.nn.initializers.orthogonal(gain)(key, shape, jnp.float32)
        self.kernel, self.bias = weights.reshape(side, side, channels, filters), jnp.zeros(filters)
        self.stride, self.padded = stride, padded

    def __call__(self, picture: Float[Array, "height width channels"]) -> Float[Array, "rows columns filters"]:
        """The filtered picture."""
        if self.padded:
            border = (self.kernel.shape[0] - 1) // 2
            picture = jnp.pad(picture, ((border, border), (border, border), (0, 0)))
        return convolution(picture, self.kernel, self.bias, stride=self.stride)


class Dense(eqx.Module):
    """One fully connected layer with relu."""

    weight: Float[Array, "out in"]
    bias: Float[Array, " out"]

    def __init__(self, in_size: int, out_size: int, *, key: PRNGKeyArray):
        self.weight = jax.nn.initializers.orthogonal(math.sqrt(2.0))(key, (out_size, in_size), jnp.float32)
        self.bias = jnp.zeros(out_size)

    def __call__(self, x: Float[Array, " in"]) -> Float[Array, " out"]:
        """The features of one input."""
        return jax.nn.relu(self.weight @ x + self.bias)


class NatureEncoder(eqx.Module):
    """Convolutions and one wide layer, all with relu.

    Of Mnih et al. (2015): 32 filters of 8×8 at stride 4, 64 of 4×4 at stride 2, 64 of 3×3, and 512 features. A picture
    with a side below 36 pixels is too small for them, and gets the network of Young & Tian (2019): 16 filters of 3×3
    and 128 features.
    """

    layers: tuple[Convolution, ...]
    dense: Dense

    def __init__(self, shape: Images, *, key: PRNGKeyArray):
        # Departs from Young & Tian 2019: pictures are given a border, because some are no larger than a few pixels.
        is_small = min(shape.height, shape.width) < SMALL
        # filters, side, stride
        sizes = ((16, 3, 1),) if is_small else ((32, 8, 4), (64, 4, 2), (64, 3, 1))
        *keys, dense_key = jax.random.split(key, len(sizes) + 1)
        layers, channels = [], shape.frames * shape.channels
        for (filters, side, stride), layer_key in zip(sizes, keys, strict=True):
            layers.append(Convolution(channels, filters, side, stride, padded=is_small, key=layer_key))
            channels = filters
        self.layers = tuple(layers)
        self.dense = Dense(_size_after(lambda x: self._filtered(x), shape), 128 if is_small else 512, key=dense_key)

    def _filtered(self, picture: Array) -> Array:
        for layer in self.layers:
            picture = jax.nn.relu(layer(picture))
        return picture

    def __call__(self, picture: Float[Array, "height width channels"]) -> Float[Array, " features"]:
        """The features of one picture, whose frames lie in its channels."""
        return self.dense(self._filtered(picture).reshape(-1))


class ResidualSection(eqx.Module):
    """A convolution, the largest of every 3×3 at stride 2, and two residual blocks (Espeholt et al. 2018, fig. 3)."""

    first: Convolution
    blocks: tuple[tuple[Convolution, Convolution], ...]

    def __init__(self, channels: int, filters: int, *, key: PRNGKeyArray):
        keys = jax.random.split(key, 5)
        self.first = Convolution(channels, filters, 3, padded=True, gain=1.0, key=keys[0])
        of_blocks = [Convolution(filters, filters, 3, padded=True, gain=1.0, key=k) for k in keys[1:]]
        self.blocks = ((of_blocks[0], of_blocks[1]), (of_blocks[2], of_blocks[3]))

    def __call__(self, picture: Float[Array, "height width channels"]) -> Float[Array, "rows columns filters"]:
        """The picture at half its size."""
        x = self.first(picture)
        x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (3, 3, 1), (2, 2, 1), "SAME")
        for inner, outer in self.blocks:
            x = x + outer(jax.nn.relu(inner(jax.nn.relu(x))))
        return x


class ResidualEncoder(eqx.Module):
    """The deeper network of Espeholt et al. (2018): sections of 16, 32 and 32 filters, and 256 features.

    Every section halves the picture, and a small one goes through fewer: while its shorter side has 4 pixels or more.
    """

    sections: tuple[ResidualSection, ...]
    dense: Dense

    def __init__(self, shape: Images, *, key: PRNGKeyArray):
        # Departs from Espeholt et al. 2018: no LSTM, because what came before is in the stack of frames.
        filters, side = [16], -(-min(shape.height, shape.width) // 2)
        for more in (32, 32):
            if side >= 4:
                filters.append(more)
                side = -(-side // 2)
        *keys, dense_key = jax.random.split(key, len(filters) + 1)
        channels = (shape.frames * shape.channels, *filters[:-1])
        self.sections = tuple(
            ResidualSection(before, after, key=k) for before, after, k in zip(channels, filters, keys, strict=True)
        )
        self.dense = Dense(_size_after(lambda x: self._filtered(x), shape), 256, key=dense_key)

    def _filtered(self, picture: Array) -> Array:
        for section in self.sections:
            picture = section(picture)
        return jax.nn.relu(picture)

    def __call__(self, picture: Float[Array, "height width channels"]) -> Float[Array, " features"]:
        """The features of one picture, whose frames lie in its channels."""
        return self.dense(self._filtered(picture).reshape(-1))


def _size_after(filtered: Callable[[Array], Array], shape: Images) -> int:
    picture = jax.ShapeDtypeStruct((shape.height, shape.width, shape.frames * shape.channels), jnp.float32)
    return math.prod(jax.eval_shape(filtered, picture).shape)


VECTOR_FEATURES = 64
"""Of every vector beside pictures."""


class PartsEncoder(eqx.Module):
    """Features of an observation with pictures: every picture through convolutions, every vector through one layer."""

    encoders: tuple[Any, ...]
    parts: Parts = eqx.field(static=True)

    def __init__(self, parts: Parts, encoder: Encoder, *, key: PRNGKeyArray):
        of_pictures = {"nature": NatureEncoder, "residual": ResidualEncoder}[encoder]
        keys = jax.random.split(key, len(parts))
        self.encoders = tuple(
            Dense(part.size, VECTOR_FEATURES, key=k) if isinstance(part, Vector) else of_pictures(part, key=k)
            for (_, part), k in zip(parts, keys, strict=True)
        )
        self.parts = parts

    @property
    def num_features(self) -> int:
        """Features of all parts together."""
        sizes = (e.bias.shape[0] if isinstance(e, Dense) else e.dense.bias.shape[0] for e in self.encoders)
        return sum(sizes)

    def __call__(self, numbers: Float[Array, " numbers"]) -> Float[Array, " features"]:
        """The features of what :func:`decoded` gave."""
        features, start = [], 0
        for (_, part), encoder in zip(self.parts, self.encoders, strict=True):
            size = part.size if isinstance(part, Vector) else part.num_bytes
            piece = numbers[start : start + size]
            start += size
            if isinstance(part, Images):
                piece = piece.reshape(part.frames, part.height, part.width, part.channels)
                # Frames and colors alike become channels.
                piece = piece.transpose(1, 2, 0, 3).reshape(part.height, part.width, -1)
            features.append(encoder(piece))
        return jnp.concatenate(features)
