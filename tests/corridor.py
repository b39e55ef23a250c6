"""A small problem, and demonstrations of it, as the arrays of mdp.npz and demos.npz."""

import numpy as np


def corridor(**changes):
    """Four cells in a row; action 1 walks right and slips back one time in five; the last is terminal."""
    rows = []
    for s in range(3):
        rows += [(s, 0, max(s - 1, 0), 1.0), (s, 1, s + 1, 0.8), (s, 1, max(s - 1, 0), 0.2)]
    state, action, next_state, probability = (np.array(x) for x in zip(*rows, strict=True))
    arrays = dict(
        state=state, action=action, next_state=next_state, probability=probability, num_states=4, num_actions=2,
        state_features=np.array([[1.0, 0], [1, 1], [1, 0], [0, 0]]), feature_names=np.array(["step", "middle"]),
        discount=1.0, terminal=np.array([3]),
    )  # fmt: skip
    arrays.update(changes)
    return {name: value for name, value in arrays.items() if value is not None}


def demos(**changes):
    arrays = dict(
        states=np.array([0, 1, 2, 0, 0, 1, 0, 1, 2]), actions=np.array([1, 1, 1, 0, 1, 1, 1, 1, 1]),
        episode_lengths=np.array([3, 6]), final_states=np.array([3, 3]),
    )  # fmt: skip
    arrays.update(changes)
    return {name: value for name, value in arrays.items() if value is not None}
