"""Rotations as unit quaternions ``(w, x, y, z)``: pure functions of NumPy or JAX arrays, any leading axes."""

from typing import Any

from jaxtyping import Float

from menura.core import AnyArray


def _space(x: Any) -> Any:
    """NumPy or jax.numpy, after the array."""
    return x.__array_namespace__()


def multiply(p: Float[AnyArray, "*#batch 4"], q: Float[AnyArray, "*#batch 4"]) -> Float[AnyArray, "*batch 4"]:
    """p q: first q, then p (Shoemake 1985, section 3.2)."""
    xp = _space(p)
    pw, px, py, pz = (p[..., i] for i in range(4))
    qw, qx, qy, qz = (q[..., i] for i in range(4))
    return xp.stack(
        [
            pw * qw - px * qx - py * qy - pz * qz,
            pw * qx + px * qw + py * qz - pz * qy,
            pw * qy - px * qz + py * qw + pz * qx,
            pw * qz + px * qy - py * qx + pz * qw,
        ],
        axis=-1,
    )


def conjugate(q: Float[AnyArray, "*batch 4"]) -> Float[AnyArray, "*batch 4"]:
    """The inverse rotation."""
    xp = _space(q)
    return xp.concatenate([q[..., :1], -q[..., 1:]], axis=-1)


def normalized(q: Float[AnyArray, "*batch 4"]) -> Float[AnyArray, "*batch 4"]:
    """The unit quaternion in this direction."""
    xp = _space(q)
    return q / xp.linalg.norm(q, axis=-1, keepdims=True)


def rotate(q: Float[AnyArray, "*#batch 4"], v: Float[AnyArray, "*#batch 3"]) -> Float[AnyArray, "*batch 3"]:
    """v turned by q: v + 2 w (u × v) + 2 u × (u × v), u being q's vector part (Rodrigues)."""
    xp = _space(q)
    u, w = q[..., 1:], q[..., :1]
    # Written out: a general cross product costs several times as much on small arrays.
    t = 2 * _cross(xp, u, v)
    return v + w * t + _cross(xp, u, t)


def _cross(xp: Any, a: Any, b: Any) -> Any:
    ax, ay, az = a[..., 0], a[..., 1], a[..., 2]
    bx, by, bz = b[..., 0], b[..., 1], b[..., 2]
    return xp.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], axis=-1)


def about(axis: Float[AnyArray, "3"], angle: Float[AnyArray, "*batch"]) -> Float[AnyArray, "*batch 4"]:
    """The rotation by ``angle`` (rad) about a unit axis."""
    xp = _space(angle)
    half = angle[..., None] / 2
    return xp.concatenate([xp.cos(half), xp.sin(half) * axis], axis=-1)


def matrix(q: Float[AnyArray, "*batch 4"]) -> Float[AnyArray, "*batch 3 3"]:
    """The rotation matrix, whose columns are the turned axes."""
    xp = _space(q)
    w, x, y, z = (q[..., i] for i in range(4))
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return xp.stack([xp.stack(row, axis=-1) for row in rows], axis=-2)


def rotation_angle(q: Float[AnyArray, "*batch 4"]) -> Float[AnyArray, "*batch"]:
    """By how much q turns, in 0 … π."""
    xp = _space(q)
    return 2 * xp.arctan2(xp.linalg.norm(q[..., 1:], axis=-1), xp.abs(q[..., 0]))


def twist_angle(q: Float[AnyArray, "*batch 4"], axis: Float[AnyArray, "3"]) -> Float[AnyArray, "*batch"]:
    """Of q = swing · twist, the twist's angle about a unit axis, in −π … π (Dobrowolski 2015, eq. 12)."""
    xp = _space(q)
    angle = 2 * xp.arctan2(xp.sum(q[..., 1:] * axis, axis=-1), q[..., 0])
    return xp.arctan2(xp.sin(angle), xp.cos(angle))


def euler_angles(q: Float[AnyArray, "*batch 4"], order: tuple[int, int, int]) -> Float[AnyArray, "*batch 3"]:
    """The angles of q = R_i(α) R_j(β) R_k(γ) for three different axes, each about the axis as turned by those before.

    ``order`` is (i, j, k), 0 for x. β lies within ±π/2 (Shoemake 1994, Graphics Gems IV, chapter III.5).
    """
    xp = _space(q)
    i, j, k = order
    sign = 1.0 if (j - i) % 3 == 1 else -1.0
    r = matrix(q)
    first = xp.arctan2(-sign * r[..., j, k], r[..., k, k])
    second = xp.arcsin(xp.clip(sign * r[..., i, k], -1.0, 1.0))
    third = xp.arctan2(-sign * r[..., i, j], r[..., i, i])
    return xp.stack([first, second, third], axis=-1)


def heading_angle(q: Float[AnyArray, "*batch 4"]) -> Float[AnyArray, "*batch"]:
    """Where the turned x axis points in the ground plane, from x towards y."""
    xp = _space(q)
    w, x, y, z = (q[..., i] for i in range(4))
    return xp.arctan2(2 * (x * y + w * z), 1 - 2 * (y * y + z * z))


def from_matrix(r: Float[AnyArray, "*batch 3 3"]) -> Float[AnyArray, "*batch 4"]:
    """The unit quaternion of a rotation matrix, with w ≥ 0 (Bar-Itzhack 2000, from the matrix K's largest row).

    The products w², wx, … are in the rows of one matrix; the row with the largest diagonal is the safest to divide.
    """
    xp = _space(r)
    xx, yy, zz = r[..., 0, 0], r[..., 1, 1], r[..., 2, 2]
    wx, wy, wz = r[..., 2, 1] - r[..., 1, 2], r[..., 0, 2] - r[..., 2, 0], r[..., 1, 0] - r[..., 0, 1]
    xy, xz, yz = r[..., 0, 1] + r[..., 1, 0], r[..., 0, 2] + r[..., 2, 0], r[..., 1, 2] + r[..., 2, 1]
    rows = [
        xp.stack([1 + xx + yy + zz, wx, wy, wz], axis=-1),
        xp.stack([wx, 1 + xx - yy - zz, xy, xz], axis=-1),
        xp.stack([wy, xy, 1 - xx + yy - zz, yz], axis=-1),
        xp.stack([wz, xz, yz, 1 - xx - yy + zz], axis=-1),
    ]
    products = xp.stack(rows, axis=-2)
    largest = xp.argmax(xp.diagonal(products, axis1=-2, axis2=-1), axis=-1)
    q = normalized(xp.take_along_axis(products, largest[..., None, None], axis=-2)[..., 0, :])
    return xp.where(q[..., :1] < 0, -q, q)
