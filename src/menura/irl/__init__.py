"""Tabular inverse reinforcement learning: exact, sparse, on the host."""

from menura.irl.estimate import Estimate, evaluate_at, fit
from menura.irl.paths import Paths

__all__ = ["Estimate", "Paths", "evaluate_at", "fit"]
