"""Demonstrations: what an expert did. Read from any known format, written to two, recorded from any policy."""

from menura.demonstrations.episodes import Demonstrations, Episode
from menura.demonstrations.readers import load
from menura.demonstrations.record import record
from menura.demonstrations.writers import save

__all__ = ["Demonstrations", "Episode", "load", "record", "save"]
