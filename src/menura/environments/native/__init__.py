"""Environments written in JAX, which run inside a jitted iteration by the thousand."""

from menura.environments.native.acrobot import Acrobot
from menura.environments.native.cartpole import CartPole
from menura.environments.native.catch import Catch
from menura.environments.native.gridworld import GridWorld
from menura.environments.native.mountain_car import MountainCar
from menura.environments.native.pendulum import Pendulum

__all__ = ["Acrobot", "CartPole", "Catch", "GridWorld", "MountainCar", "Pendulum"]
