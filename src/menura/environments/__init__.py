"""Environments behind one ``collect``: written in JAX, of Gymnasium, or of EnvPool."""

from menura.environments.base import AbstractNativeEnv, NativeEnvs
from menura.environments.collect import collect
from menura.environments.registry import list_envs, make

__all__ = ["AbstractNativeEnv", "NativeEnvs", "collect", "list_envs", "make"]
