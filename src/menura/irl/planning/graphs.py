"""Which states lead where, and best paths: what can be said of a problem before its values are computed."""

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float, Int
from scipy.sparse import csgraph

from menura.irl.choices import Choices


def alive_choices(choices: Choices, absorbing: Bool[np.ndarray, " states"]) -> Bool[np.ndarray, " choices"]:
    """The choices after which one can always go on: dead ends, and what may lead there, are taken away."""
    kept = ~absorbing[choices.state]
    matrix = choices.matrix
    while True:
        alive = absorbing.copy()
        alive[choices.state[kept]] = True
        if alive.all():
            return kept
        more = kept & (matrix @ (~alive).astype(np.float64) == 0)
        if np.array_equal(more, kept):
            return kept
        kept = more


def proper_choices(choices: Choices, absorbing: Bool[np.ndarray, " states"]) -> Bool[np.ndarray, " choices"]:
    """The choices from which an absorbing state can still be reached with probability 1."""
    kept = ~absorbing[choices.state]
    matrix = choices.matrix
    while True:
        reaching = reachable(backward_graph(choices.restrict(kept)), np.flatnonzero(absorbing))
        more = kept & reaching[choices.state] & (matrix @ (~reaching).astype(np.float64) == 0)
        if np.array_equal(more, kept):
            return kept
        kept = more


def forward_graph(choices: Choices) -> sp.csr_array:
    """(states, states), an entry for every state that a choice may lead to."""
    size = choices.num_states
    matrix = choices.matrix
    pairs = np.repeat(choices.state, np.diff(matrix.indptr))
    return sp.csr_array((np.ones(len(pairs), np.int8), (pairs, matrix.indices)), (size, size))


def backward_graph(choices: Choices) -> sp.csr_array:
    """(states, states), an entry from every state to those that a choice leads from."""
    return forward_graph(choices).T.tocsr()


def reachable(graph: sp.csr_array, states: Int[np.ndarray, " some"]) -> Bool[np.ndarray, " states"]:
    """The states that can be reached from some states along a graph, these among them."""
    size = len(graph.indptr) - 1
    reached = np.zeros(size, bool)
    reached[states] = True
    if len(states) == 1:
        reached[csgraph.breadth_first_order(graph, states[0], return_predecessors=False)] = True
    elif len(states) > 1:
        found = csgraph.breadth_first_order(_with_root(graph, states), size, return_predecessors=False)
        reached[found[found < size]] = True
    return reached


def _with_root(graph: sp.csr_array, states: Int[np.ndarray, " some"]) -> sp.csr_array:
    """A graph with one node more, the last, that leads to each of some states."""
    size = len(graph.indptr) - 1
    root = sp.csr_array((np.ones(len(states), np.int8), states, [0, len(states)]), (1, size))
    empty = sp.csr_array((size + 1, 1), dtype=np.int8)
    return sp.csr_array(sp.hstack([sp.vstack([graph, root]), empty]))


def steps_to(choices: Choices, absorbing: Bool[np.ndarray, " states"]) -> Int[np.ndarray, " states"]:
    """The fewest choices after which an absorbing state may be reached; −1 where none can be."""
    steps = np.where(absorbing, 0, -1)
    matrix, nearest, layer = choices.matrix, absorbing, 0
    while nearest.any():
        layer += 1
        leads = (matrix @ nearest.astype(np.float64) > 0) & (steps[choices.state] < 0)
        nearest = np.zeros(choices.num_states, bool)
        nearest[choices.state[leads]] = True
        steps[nearest] = layer
    return steps


def best_path_values(
    choices: Choices, reward: Float[np.ndarray, " choices"], goal: Int[np.ndarray, " absorbing"]
) -> Float[np.ndarray, " states"] | None:
    """The largest sum of rewards on a path to the goal; ``None`` if circling pays without end.

    −∞ where no path leads to the goal. Choices must have certain outcomes.
    """
    size = choices.num_states
    at_goal = np.zeros(size, bool)
    at_goal[goal] = True
    usable = ~at_goal[choices.state]
    if np.all(reward[usable] < 0):
        return -_shortest(choices, -reward, goal, usable)
    value = np.full(size, -np.inf)
    value[goal] = 0.0
    for _ in range(size + 1):
        new = choices.max_by_state(np.where(usable, reward + value[choices.outcome], -np.inf))
        new[goal] = 0.0
        tolerance = 1e-12 * np.maximum(1.0, np.abs(np.where(np.isfinite(value), value, 0.0)))
        if not np.any(new > value + tolerance):
            return np.maximum(new, value)
        value = np.maximum(new, value)
    return None


def _shortest(choices: Choices, cost: np.ndarray, goal: np.ndarray, usable: np.ndarray) -> np.ndarray:
    """Dijkstra from the goal along reversed choices; the cheapest of parallel ones counts."""
    rows, columns, data = choices.outcome[usable], choices.state[usable], cost[usable]
    order = np.lexsort((data, columns, rows))
    rows, columns, data = rows[order], columns[order], data[order]
    first = np.concatenate([[True], (np.diff(rows) != 0) | (np.diff(columns) != 0)]) if len(rows) else np.zeros(0, bool)
    graph = sp.csr_array((data[first], (rows[first], columns[first])), (choices.num_states,) * 2)
    found = csgraph.dijkstra(graph, indices=goal, min_only=True)
    return np.asarray(found)


def surely_grows(matrix: sp.csr_array, scale: float) -> bool:
    """Whether powers of ``scale`` times a non-negative matrix are found not to vanish, by a proof that is cheap.

    Where x ≥ 0 is not 0 and scale · M x ≥ x, the spectral radius is at least 1 (Collatz–Wielandt). Powers of M give
    the x; states where the inequality fails are taken away until it holds for all that are left. ``False`` leaves the
    question open.
    """
    x: np.ndarray = np.ones(len(matrix.indptr) - 1)
    for _ in range(30):
        x = matrix @ x
        top = float(np.max(x, initial=0.0))
        if top == 0:
            return False
        x /= top
    kept = x > 0
    for _ in range(100):
        x = np.where(kept, x, 0.0)
        more = kept & (scale * (matrix @ x) > x * (1 + 1e-10))
        if np.array_equal(more, kept):
            return bool(kept.any())
        kept = more
    return False
