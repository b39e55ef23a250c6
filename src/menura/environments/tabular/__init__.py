"""Problems with finitely many states and actions, kept as sparse index arrays.

- ``mdp``: :class:`TabularMDP` itself
- ``build``: what is checked, sorted and merged before there is one
- ``checks``: whether arrays are what they are said to be
- ``sources``: dense and sparse matrices, Gymnasium's tables, and observed transitions as rows
- ``files``: ``mdp.npz``
- ``env``: the problem as a JAX environment to play
"""

from menura.environments.tabular.checks import LARGEST_NUMBER, PROBABILITY_TOLERANCE
from menura.environments.tabular.env import TabularEnv, make_tabular_env
from menura.environments.tabular.files import read_npz
from menura.environments.tabular.mdp import TabularMDP, transition_reward

__all__ = [
    "LARGEST_NUMBER",
    "PROBABILITY_TOLERANCE",
    "TabularEnv",
    "TabularMDP",
    "make_tabular_env",
    "read_npz",
    "transition_reward",
]
