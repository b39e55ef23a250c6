"""What a score may see of pictures, so that it cannot tell the expert by something that says nothing of its behavior.

A clock in a corner, a watermark, another camera's dead pixel: where every demonstration has a mark that the learner's
pictures cannot have, a score that reads it is always right, and its reward is the same whatever the learner does. So
every pixel is shown only within the values that *both* sides have taken. Where one side never changes, or the two have
no value in common, it is the same number on both sides, and whatever the network is, nothing can be read there. Pixels
that both sides light up and darken, which are those that behavior changes, are shown as they are.
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, UInt8

from menura.core import AnyArray, Images
from menura.encoders import Parts


class CommonPixels(eqx.Module):
    """The smallest and largest value of every byte so far; expert's first, then the learner's."""

    low: UInt8[Array, "sides bytes"]
    high: UInt8[Array, "sides bytes"]
    parts: Parts = eqx.field(static=True)

    def __init__(self, parts: Parts):
        """Nothing seen yet: all pixels are black."""
        size = sum(part.num_bytes for _, part in parts)
        self.low, self.high = jnp.full((2, size), 255, jnp.uint8), jnp.zeros((2, size), jnp.uint8)
        self.parts = parts

    def seen(
        self,
        expert: UInt8[AnyArray, "expert bytes"],
        learner: UInt8[AnyArray, "learner bytes"],
        num_expert: Int[Array, ""] | None = None,
    ) -> "CommonPixels":
        """With pictures of both sides more; of the expert's only the first ``num_expert``."""
        counts = jnp.ones(len(expert), bool) if num_expert is None else jnp.arange(len(expert)) < num_expert
        lowest = [jnp.min(jnp.where(counts[:, None], expert, 255), axis=0), jnp.min(learner, axis=0)]
        highest = [jnp.max(jnp.where(counts[:, None], expert, 0), axis=0), jnp.max(learner, axis=0)]
        low, high = jnp.minimum(self.low, jnp.stack(lowest)), jnp.maximum(self.high, jnp.stack(highest))
        return eqx.tree_at(lambda c: (c.low, c.high), self, (low.astype(jnp.uint8), high.astype(jnp.uint8)))

    def __call__(self, obs: UInt8[Array, " bytes"]) -> UInt8[Array, " bytes"]:
        """An observation whose pixels lie within what both sides have shown; vectors are left as they are."""
        low, high = jnp.max(self.low, axis=0), jnp.min(self.high, axis=0)
        # Where the sides have nothing in common ``low`` is above ``high``, and ``high`` is what both become.
        return jnp.where(self._of_pictures(), jnp.minimum(jnp.maximum(obs, low), high), obs)

    def _of_pictures(self) -> Bool[np.ndarray, " bytes"]:
        return np.concatenate([np.full(part.num_bytes, isinstance(part, Images)) for _, part in self.parts])
