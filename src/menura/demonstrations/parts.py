"""Some of the parts that the observations of demonstrations are made of."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from menura.core import DiscreteActions, Images, RequestError, Spec, Vector
from menura.demonstrations.episodes import Demonstrations
from menura.demonstrations.spaces import parts_of_space, space_of_parts


def parts_of_demos(demos: Demonstrations) -> tuple[tuple[str, Vector | Images], ...]:
    """What the rows are made of, where they are bytes of pictures and vectors side by side; nothing elsewhere."""
    told = demos.metadata.get("observation_space")
    return parts_of_space(told) if isinstance(told, dict) and demos.episodes[0].obs.ndim == 2 else ()


def with_parts(demos: Demonstrations, names: Sequence[str]) -> Demonstrations:
    """Demonstrations of these parts alone, in their old order: bytes, or numbers where all of them are vectors."""
    parts = parts_of_demos(demos)
    if not parts:
        raise RequestError(f"{demos.source} has no pictures beside other parts to choose from: leave out --parts.")
    known = [name for name, _ in parts]
    if unknown := [name for name in names if name not in known]:
        raise RequestError(f"{demos.source} has no part {unknown[0]!r}: choose --parts from {', '.join(known)}.")
    kept = tuple((name, part) for name, part in parts if name in names)
    ends = np.cumsum([part.num_bytes for _, part in parts])

    def chosen(obs: np.ndarray) -> np.ndarray:
        pieces = np.split(np.asarray(obs), ends[:-1], axis=1)
        rows = np.concatenate([piece for piece, name in zip(pieces, known, strict=True) if name in names], axis=1)
        return rows if any(isinstance(part, Images) for _, part in kept) else rows.view(np.float32)

    episodes = tuple(dataclasses.replace(episode, obs=chosen(episode.obs)) for episode in demos.episodes)
    metadata = {name: value for name, value in demos.metadata.items() if name != "observation_space"}
    if any(isinstance(part, Images) for _, part in kept):
        metadata["observation_space"] = space_of_parts(Spec(0, DiscreteActions(1), kept))
    return dataclasses.replace(demos, episodes=episodes, metadata=metadata)
