"""Reinforcement learning on an explicit reward, and the solvers inside imitation learners."""
