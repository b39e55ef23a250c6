"""Rewards from a network over features, by exact gradients (deep MaxEnt; Wulfmeier, Ondruska & Posner 2015).

The planner gives the gradient of the likelihood (or of the dual) in the reward of every choice: the expert's counts
less the expected visits, exact and in float64. JAX carries it on to the network's parameters, in float64 too.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.sparse as sp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from menura.core import RequestError
from menura.environments.tabular import TabularMDP, read_npz
from menura.irl.choices import Choices
from menura.irl.estimate import evaluate_at
from menura.irl.folders import replace_folder
from menura.irl.objective import Match, Method, Objective, make_problem
from menura.irl.paths import Paths
from menura.irl.planning import DivergenceError
from menura.networks import MLP, Activation

DEEP_FILE = "deep.json"
"""The file by which the folder of a deep reward is known."""

CHECK_EVERY, PATIENCE = 10, 20
"""Steps between two looks at held-out demonstrations, and looks without improvement after which training stops."""


class NetworkReward(eqx.Module):
    """A reward of standardized features, and a number added to it everywhere."""

    network: Any
    """Takes the features of one choice and gives one number."""
    shift: Float[Array, ""]
    center: Float[Array, " features"]
    scale: Float[Array, " features"]

    def __call__(self, features: Float[Array, " features"]) -> Float[Array, ""]:
        """The reward of one choice."""
        center, scale = jax.lax.stop_gradient((self.center, self.scale))
        return jnp.reshape(self.network((features - center) / scale), ()) + self.shift


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a network sees: distinct rows of features, and how much of each is in the reward of every choice."""

    rows: Float[np.ndarray, "rows features"]
    weight: Any
    """(choices, rows) CSR: an action whose outcomes have features of their own earns the mean of their rewards."""

    def reward(self, network: NetworkReward) -> Float[np.ndarray, " choices"]:
        """The reward of every choice."""
        with jax.enable_x64(True):
            return self.weight @ np.asarray(_rewards(network, jnp.asarray(self.rows)))

    def pull_back(self, network: NetworkReward, slope: Float[np.ndarray, " choices"]) -> PyTree:
        """Σ slope · d reward / d parameters."""
        with jax.enable_x64(True):
            return _pull_back(network, jnp.asarray(self.rows), jnp.asarray(self.weight.T @ slope))


@eqx.filter_jit
def _rewards(network: NetworkReward, rows: Float[Array, "rows features"]) -> Float[Array, " rows"]:
    return jax.vmap(network)(rows)


@eqx.filter_jit
def _pull_back(network: NetworkReward, rows: Float[Array, "rows features"], slope: Float[Array, " rows"]) -> PyTree:
    parameters, rest = eqx.partition(network, eqx.is_inexact_array)
    _, pull = jax.vjp(lambda p: jax.vmap(eqx.combine(p, rest))(rows), parameters)
    return pull(slope)[0]


def make_inputs(mdp: TabularMDP, choices: Choices) -> Inputs:
    """The features of every choice: of state, action and transition side by side, or added where they share weights."""
    rows, of_transition = _feature_rows(mdp)
    if choices.num_choices == mdp.num_transitions:
        index, weight = of_transition, np.ones(mdp.num_transitions)
        starts = np.arange(mdp.num_transitions + 1)
    else:
        index, weight = of_transition, mdp.probability.copy()  # which summing in place below would write to
        starts = np.append(mdp.pair_start, mdp.num_transitions)
    distinct, inverse = np.unique(rows, axis=0, return_inverse=True)
    used, index = np.unique(inverse.reshape(-1)[index], return_inverse=True)
    table = sp.csr_array((weight, index, starts), (choices.num_choices, len(used)))
    table.sum_duplicates()
    return Inputs(distinct[used], table)


def _feature_rows(mdp: TabularMDP) -> tuple[Float[np.ndarray, "rows features"], np.ndarray]:
    """Rows by state, pair or transition, whichever tells all features apart, and the row of every transition."""
    if mdp.transition_features is not None:
        state, pair, size, of_transition = mdp.state, mdp.transition_pair, mdp.num_transitions, None
    elif mdp.pair_features is not None:
        state, pair, size, of_transition = mdp.pair_state, np.arange(mdp.num_pairs), mdp.num_pairs, mdp.transition_pair
    else:
        state, pair, size, of_transition = np.arange(mdp.num_states), np.zeros(0, int), mdp.num_states, mdp.state
    parts = []
    if mdp.state_features is not None:
        parts.append(mdp.state_features[state])
    if mdp.pair_features is not None:
        parts.append(mdp.pair_features[pair])
    if mdp.transition_features is not None:
        parts.append(mdp.transition_features)
    rows = sum(parts[1:], parts[0]) if mdp.adds_features else np.concatenate(parts, axis=1)
    return rows, np.arange(size) if of_transition is None else of_transition


def tabulate(mdp: TabularMDP, network: NetworkReward) -> TabularMDP:
    """The problem with the network's reward as its only feature: with θ = 1, all that takes a θ takes the network."""
    rows, _ = _feature_rows(mdp)
    with jax.enable_x64(True):
        reward = np.asarray(_rewards(network, jnp.asarray(rows)))[:, None]
    kinds = ("state_features", "pair_features", "transition_features")
    features: dict[str, Any] = dict.fromkeys(kinds)
    features[next(kind for kind in reversed(kinds) if getattr(mdp, kind) is not None)] = reward
    return mdp.replace(**features, feature_names=("network",))


@dataclass(frozen=True, eq=False)
class DeepEstimate:
    """A fitted network, and what it makes of the demonstrations."""

    method: Method
    match: Match
    names: tuple[str, ...]
    network: NetworkReward
    reward: Float[np.ndarray, " choices"]
    """Of every choice: of an action with mce, of a transition with maxent."""
    log_likelihood: float
    heldout_log_likelihood: float | None
    gradient_norm: float
    """Euclidean norm of the log-likelihood's gradient in the network's parameters."""
    expert_features: Float[np.ndarray, " features"]
    learner_features: Float[np.ndarray, " features"]
    """Of a path of the deployed policy, expected."""
    history: Float[np.ndarray, " steps"]
    """What was maximized, divided by the expert's steps, before every step."""
    heldout_history: Float[np.ndarray, " looks"]
    """Held-out log-likelihood a step, every 10 steps."""
    num_states: int
    num_transitions: int
    num_paths: int
    num_steps: int
    num_parameters: int
    best_step: int
    """The step whose parameters were kept."""
    seed: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """As ``menura irl deep --json`` prints it."""
        named = lambda values: dict(zip(self.names, map(float, values), strict=True))  # noqa: E731
        return {
            "method": self.method,
            "match": self.match,
            "log_likelihood": self.log_likelihood,
            "heldout_log_likelihood": self.heldout_log_likelihood,
            "gradient_norm": self.gradient_norm,
            "feature_expectations": {"expert": named(self.expert_features), "learner": named(self.learner_features)},
            "num_states": self.num_states,
            "num_transitions": self.num_transitions,
            "num_paths": self.num_paths,
            "num_steps": self.num_steps,
            "num_parameters": self.num_parameters,
            "iterations": len(self.history),
            "best_step": self.best_step,
            "seed": self.seed,
            "seconds": self.seconds,
        }

    def save(self, folder: str | Path, mdp: TabularMDP, demos: Paths) -> None:
        """Write the network, its problem and demonstrations, and its reward as an estimate of θ = 1.

        ``estimate`` inside is what :func:`menura.irl.estimate.load_estimate` reads. Everything is written to a folder
        beside, which then takes the place of an earlier one as a whole.
        """
        with replace_folder(folder, DEEP_FILE) as place:
            (place / DEEP_FILE).write_text(json.dumps(self.to_json(), indent=2) + "\n", encoding="utf-8")
            save_network(place / "network.npz", self.network)
            mdp.save(place / "mdp.npz")
            demos.save(place / "demos.npz")
            table = tabulate(mdp, self.network)
            evaluate_at(table, demos, np.ones(1), method=self.method).save(place / "estimate", table, demos)


def save_network(path: str | Path, network: NetworkReward) -> None:
    """Write every array of a network; of a :class:`~menura.networks.MLP` also its shape."""
    inner = network.network
    arrays: dict[str, Any] = {f"leaf_{i}": np.asarray(leaf) for i, leaf in enumerate(_leaves(network))}
    if isinstance(inner, MLP):
        arrays["sizes"] = np.array([inner.weights[0].shape[1], *(len(bias) for bias in inner.biases)])
        arrays["activation"] = np.array(inner.activation)
    np.savez(path, **arrays)


def load_network(path: str | Path, like: Any = None) -> NetworkReward:
    """Read what :func:`save_network` wrote; for a network of one's own, ``like`` is one of the same shape."""
    arrays = read_npz(path)
    if like is None:
        if "sizes" not in arrays or "activation" not in arrays:
            raise RequestError(f"{path} holds a network of another kind than an MLP; give one of its shape as like.")
        first, *hidden, last = arrays["sizes"].tolist()
        activation: Any = str(arrays["activation"])
        like = MLP(first, last, tuple(hidden), activation=activation, key=jax.random.key(0))
    with jax.enable_x64(True):
        width = len(arrays["leaf_1"]) if "leaf_1" in arrays else 0
        shell = NetworkReward(like, jnp.zeros(()), jnp.zeros(width), jnp.zeros(width))
        expected = _leaves(shell)
        found = [arrays.get(f"leaf_{i}") for i in range(len(expected))]
        # The last two arrays are the features' center and scale, whose length only the file knows.
        shapes = [leaf.shape for leaf in expected[:-2]]
        if any(a is None for a in found) or [a.shape for a in found[:-2] if a is not None] != shapes:
            raise RequestError(f"{path} holds a network of another shape than the one given as like.")
        arrays_, rest = eqx.partition(shell, eqx.is_array)
        filled = jax.tree.unflatten(jax.tree.structure(arrays_), [jnp.asarray(a) for a in found])
        return eqx.combine(filled, rest)


def _leaves(network: NetworkReward) -> list[Any]:
    return jax.tree.leaves(eqx.filter(network, eqx.is_array))


def fit_network(
    mdp: TabularMDP,
    demos: Paths,
    network: Any = None,
    *,
    method: Method = "mce",
    match: Match = "likelihood",
    hidden_sizes: tuple[int, ...] = (32, 32),
    activation: Activation = "tanh",
    learning_rate: float = 0.01,
    steps: int = 1000,
    weight_decay: float = 0.0,
    heldout: Paths | None = None,
    seed: int = 0,
    watch: Callable[[float], None] | None = None,
) -> DeepEstimate:
    """Train a reward network by Adam with exact gradients, its step size falling to 0 along a cosine.

    Without ``network`` it is a new MLP. A network of one's own is any Equinox module, or other pytree that can be
    called, from the standardized features of one choice to one number. With ``heldout`` demonstrations the parameters
    of their highest likelihood are kept and training stops when that no longer rises; without, those of the highest
    objective. ``match="features"`` is deep MaxEnt as published: the expert's frequencies less the learner's.
    """
    began = time.perf_counter()
    _check_settings(learning_rate, steps, weight_decay, hidden_sizes)
    problem = make_problem(mdp, demos, method)
    if match == "features" and method == "maxent":
        raise RequestError("MaxEnt's likelihood already matches features; leave out --match features, or use mce.")
    objective = problem.dual() if match == "features" else problem.likelihood()
    outside = None if heldout is None else make_problem(mdp, heldout, method).likelihood()
    inputs = make_inputs(mdp, problem.choices)
    start = _start(network, inputs, objective, hidden_sizes, activation, seed)
    found, history, looks, best_step = _train(
        start, inputs, objective, outside, learning_rate, steps, weight_decay, watch or (lambda share: None)
    )
    likelihood = problem.likelihood() if match == "features" else objective
    reward = inputs.reward(found)
    offset = problem.choices.with_offset(reward)
    value, slope = likelihood.at_reward(offset)
    gradient = inputs.pull_back(found, slope)
    features = problem.choices.features
    return DeepEstimate(
        method=method,
        match=match,
        names=mdp.feature_names,
        network=found,
        reward=reward,
        log_likelihood=value,
        heldout_log_likelihood=None if outside is None else _value(outside, inputs, found),
        gradient_norm=float(np.sqrt(sum(float(np.square(leaf).sum()) for leaf in map(np.asarray, _leaves(gradient))))),
        expert_features=problem.expert_features(offset),
        learner_features=features.pull_back(problem.learner_flow(offset)),
        history=np.array(history),
        heldout_history=np.array(looks),
        num_states=mdp.num_states,
        num_transitions=mdp.num_transitions,
        num_paths=demos.num_paths,
        num_steps=len(demos.states),
        num_parameters=sum(leaf.size for leaf in _leaves(found)[:-2]),
        best_step=best_step,
        seed=seed,
        seconds=time.perf_counter() - began,
    )


def _check_settings(learning_rate: float, steps: int, weight_decay: float, hidden_sizes: tuple[int, ...]) -> None:
    if not 0 < learning_rate < np.inf:
        raise RequestError(f"The learning rate is {learning_rate:g}; make it more than 0.")
    if steps < 1:
        raise RequestError(f"The number of steps is {steps}; make it at least 1.")
    if not 0 <= weight_decay < np.inf:
        raise RequestError(f"The weight decay is {weight_decay:g}; make it 0 or more.")
    if any(size < 1 for size in hidden_sizes):
        raise RequestError("Hidden layers need at least 1 unit each.")


def _start(network, inputs, objective, hidden_sizes, activation, seed) -> NetworkReward:
    """A network in float64, shifted down until the objective exists."""
    rows = inputs.rows
    spread = rows.std(axis=0)
    with jax.enable_x64(True):
        if network is None:
            key = jax.random.key(seed)
            network = MLP(rows.shape[1], 1, hidden_sizes, activation=activation, out_scale=0.1, key=key)
        network = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64) if eqx.is_inexact_array(x) else x, network)
        center, scale = jnp.asarray(rows.mean(axis=0)), jnp.asarray(np.where(spread > 1e-12, spread, 1.0))
        start = NetworkReward(network, jnp.zeros(()), center, scale)
    try:
        reward = inputs.reward(start)
    except (TypeError, ValueError) as error:
        raise RequestError(f"The network does not turn {rows.shape[1]} features into one number: {error}.") from error
    if not np.isfinite(reward).all():
        raise RequestError("The network's rewards are not finite at the start; begin with other parameters.")
    branching = np.log(max(int(objective.choices.sizes.max()), 2)) + 0.2
    for attempt in range(12):
        if np.isfinite(_value(objective, inputs, start)):
            return start
        with jax.enable_x64(True):
            lower = -float(reward.max()) - branching * 1.7**attempt
            start = replace(start, shift=jnp.asarray(lower))
    raise RequestError("No start was found: the values diverge however low the rewards; set a discount or a horizon.")


def _value(objective: Objective, inputs: Inputs, network: NetworkReward) -> float:
    """The objective; −∞ where it does not exist."""
    try:
        return objective.at_reward(objective.choices.with_offset(inputs.reward(network)))[0]
    except DivergenceError:
        return -np.inf


_ADAM = optax.scale_by_adam()


@jax.jit
def _adam(gradient: Any, state: Any) -> tuple[Any, Any]:
    return _ADAM.update(gradient, state)


def _train(network, inputs, objective, outside, learning_rate, steps, weight_decay, watch):
    """The parameters kept, what was maximized before every step, held-out likelihoods, and the step of those kept."""
    # Adam does not mind the scale, but its ε does.
    per_step = 1.0 / max(float(np.abs(objective.counts).sum()), 1e-300)
    held_steps = 1.0 if outside is None else max(float(outside.counts.sum()), 1.0)
    trained, rest = eqx.partition(network, eqx.is_inexact_array)
    with jax.enable_x64(True):
        flat, unravel = ravel_pytree(trained)
        state = _ADAM.init(flat)
    parameters = np.array(flat)
    # Weights decay, biases and the shift do not.
    decayed = np.concatenate([np.full(leaf.size, leaf.ndim >= 2) for leaf in jax.tree.leaves(trained)])

    def build(values: np.ndarray) -> NetworkReward:
        with jax.enable_x64(True):
            return eqx.combine(unravel(jnp.asarray(values)), rest)

    def look(built: NetworkReward) -> tuple[float, np.ndarray]:
        return objective.at_reward(objective.choices.with_offset(inputs.reward(built)))

    here = build(parameters)
    value, slope = look(here)
    history, looks = [], []
    best, best_value, best_step, stale = here, -np.inf, 0, 0
    for step in range(steps + 1):
        score = None
        if outside is None:
            score = value * per_step
        elif step % CHECK_EVERY == 0 or step == steps:
            score = _value(outside, inputs, here) / held_steps
            looks.append(score)
        if score is not None:
            stale += 1
            if score > best_value:
                best, best_value, best_step, stale = here, score, step, 0
        watch(step / steps)
        if step == steps or (outside is not None and stale > PATIENCE):
            break
        history.append(value * per_step)
        with jax.enable_x64(True):
            gradient = ravel_pytree(inputs.pull_back(here, slope * per_step))[0]
            direction, state = _adam(gradient, state)
        rate = learning_rate * 0.5 * (1 + np.cos(np.pi * step / steps))
        change = rate * (np.asarray(direction) - weight_decay * decayed * parameters)
        parameters, here, value, slope = _step(parameters, change, (here, value, slope), build, look)
    watch(1.0)
    return best, history, looks, best_step


def _step(parameters, change, stay, build, look):
    """Along a change, half as far as often as the objective does not exist there."""
    for halving in range(20):
        trial = parameters + change / 2**halving
        built = build(trial)
        try:
            value, slope = look(built)
        except DivergenceError:
            continue
        if np.isfinite(value):
            return trial, built, value, slope
    return parameters, *stay
