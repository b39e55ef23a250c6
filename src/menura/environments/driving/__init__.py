"""Driving among others on highway-env's roads: what is seen, a scripted driver, and how drives end."""

from menura.environments.driving.driver import ScriptedDriver, driver_of
from menura.environments.driving.outcome import crash_interval, crashed, outcome, speeds
from menura.environments.driving.scene import DRIVING_IDS, Road, Scene, is_driving, road_of, scene_of

__all__ = [
    "DRIVING_IDS",
    "Road",
    "Scene",
    "ScriptedDriver",
    "crash_interval",
    "crashed",
    "driver_of",
    "is_driving",
    "outcome",
    "road_of",
    "scene_of",
    "speeds",
]
