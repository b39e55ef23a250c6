"""The forward pass of MaxEnt IRL as Ziebart et al. (2008, algorithm 1) print it, beside the exact one.

The paper's distribution on stochastic dynamics is P(path | θ, T) ∝ Π P_T · exp(θ·f). Conditioned on the state, the
next *transition* then has probability P_T(s′|s,a) exp(θ·f) Z(s′) / Z(s): successors from which much can be gained are
likelier than the dynamics make them. Its visit counts follow these tilted transitions, and so does the gradient of
the likelihood (:mod:`menura.irl.objective`). The printed algorithm instead sums them to action probabilities
Z_a / Z_s and lets the untilted dynamics carry the visits on: an approximation, exact where outcomes are certain.
"""

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float

from menura.core import RequestError
from menura.irl.linear import factorize
from menura.irl.objective import Problem
from menura.irl.optimize import Prior, Search, maximize


def action_probabilities(
    log_choice: Float[np.ndarray, "*time transitions"], pair_start: np.ndarray
) -> Float[np.ndarray, "*time pairs"]:
    """P(a | s) = Z_a / Z_s from the probabilities of transitions (Ziebart et al. 2008, algorithm 1, step 3)."""
    return np.add.reduceat(np.exp(log_choice), pair_start, axis=-1)


def printed_features(problem: Problem, theta: Float[np.ndarray, " features"]) -> Float[np.ndarray, " features"]:
    """Expected features of a path by the printed forward pass (algorithm 1, steps 4 to 6)."""
    mdp, choices = problem.mdp, problem.choices
    start = np.zeros(mdp.num_states)
    for part in problem.starts():
        for source in part.sources:
            start += source.dense(mdp.num_states)
    planner, *others = problem.planners
    if others or len(problem.members[0]) > 1:
        raise RequestError("The printed forward pass takes one goal at a time.")
    plan = planner.plan(choices.reward(theta))
    if mdp.is_deterministic:
        carried = np.exp(plan.log_policy)
    else:
        carried = action_probabilities(plan.log_policy, mdp.pair_start)[..., mdp.transition_pair] * mdp.probability
    if mdp.horizon is not None:
        flow, visits = np.zeros(choices.num_choices), start
        for now in carried:
            through = now * visits[mdp.state]
            flow += through
            visits = np.bincount(mdp.next_state, through, mdp.num_states)
    else:
        matrix = sp.csr_array((carried, (mdp.state, mdp.next_state)), (mdp.num_states,) * 2)
        lu = factorize(sp.csc_array(sp.eye_array(mdp.num_states) - matrix))
        if lu is None:
            raise RequestError("The printed forward pass never ends here; use the tilted one.")
        flow = carried * lu.solve(start, "T")[mdp.state]
    return choices.features.pull_back(flow)


def printed_root(problem: Problem, start: Float[np.ndarray, " features"]) -> Search:
    """The θ at which the printed visit counts give the expert's features: no likelihood has its maximum there."""
    from scipy.optimize import root

    objective = problem.likelihood()
    search = maximize(objective.evaluate, objective.derive, start, prior=Prior())
    expert = problem.expert_features(problem.choices.reward(search.theta))
    found = root(lambda theta: expert - printed_features(problem, theta), search.theta, method="hybr", tol=1e-12)
    if not np.max(np.abs(found.fun)) < 1e-6:
        raise RequestError("The printed forward pass found no θ that has the expert's features; use the tilted one.")
    evaluations = search.evaluations + int(found.nfev)
    return Search(found.x, objective.evaluate(found.x), search.iterations, evaluations, True)
