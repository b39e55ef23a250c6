"""Planning on a table: values, policies and expected visits for the three kinds of problem, exact, in float64.

A *planner* knows what can be chosen and when paths end. Four functions say all of a reward or a policy:

============================  ==========================================================
:func:`soft_values`           soft values V = log Σ exp Q and the policy exp(Q − V)
:func:`hard_values`           ordinary optimal values and a greedy policy
:func:`evaluate_policy`       what a given policy is worth, by state and by choice
:func:`occupancy`             how often a given policy makes each choice
============================  ==========================================================

- :class:`FinitePlanner`: a horizon, by backward and forward passes.
- :class:`StationaryPlanner`: a discount, by Newton–Kantorovich steps on the Bellman equation, each of which evaluates
  the current soft policy by a sparse direct or a Krylov solve; and undiscounted stochastic problems that end.
- :class:`GoalPlanner`: undiscounted choices of certain outcome, for many goals at once.

``menura.irl.objective.make_planner`` picks the one that a problem calls for.

Fitting asks one question more, :meth:`evaluate`. Let a *source* weigh some states: what is G = Σ source · V, and how
does it change with the reward? Its gradient is the expected flow π · m through every choice, where m are the visits
that the source sends out: (I − γ P_πᵀ) m = source. Its second derivative along tangents is Σ m · Cov_π(dQ). With
the expert's counts N, every likelihood and dual of this package is N · reward − G for some source (see
``docs/irl/mce.md``), so nothing else needs a gradient.
"""

from menura.irl.planning.finite import FinitePlanner
from menura.irl.planning.given import evaluate_policy, occupancy
from menura.irl.planning.goals import GoalPlanner
from menura.irl.planning.graphs import alive_choices, best_path_values, proper_choices
from menura.irl.planning.hard import hard_values
from menura.irl.planning.parts import (
    Answer,
    DivergenceError,
    HardPlan,
    Planner,
    PolicyValue,
    SoftPlan,
    Source,
    soft_values,
)
from menura.irl.planning.stationary import StationaryPlanner

__all__ = [
    "Answer",
    "DivergenceError",
    "FinitePlanner",
    "GoalPlanner",
    "HardPlan",
    "Planner",
    "PolicyValue",
    "SoftPlan",
    "Source",
    "StationaryPlanner",
    "alive_choices",
    "best_path_values",
    "evaluate_policy",
    "hard_values",
    "occupancy",
    "proper_choices",
    "soft_values",
]
