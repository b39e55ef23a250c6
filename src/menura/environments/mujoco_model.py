"""Gymnasium's MuJoCo environments on a model of one's own."""

import copy
import functools
from pathlib import Path
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec, load_env_creator

from menura.core import RequestError


def with_model(env_id: str, env_kwargs: dict[str, Any]) -> tuple[str | EnvSpec, dict[str, Any]]:
    """What ``gymnasium.make`` takes for an environment of version 4 or 5 whose ``xml_file`` may lie anywhere.

    Gymnasium's own classes know the option from version 5 on, and those of version 4 observe other numbers. A name that
    is no file here may be one of Gymnasium's own models. Environments of others are left to read the option themselves.
    """
    known = gymnasium.registry.get(env_id.rsplit(":", 1)[-1])
    is_own = known is not None and str(known.entry_point).startswith("gymnasium.envs.mujoco")
    if "xml_file" not in env_kwargs or known is None or not is_own:
        return env_id, env_kwargs
    file = Path(str(env_kwargs["xml_file"])).expanduser()
    own = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets" / file
    model = file if file.is_file() else own
    if not model.is_file():
        raise RequestError(f"There is no model {file}: mend --env-kwargs xml_file=….")
    if known.version != 4:
        return env_id, env_kwargs | {"xml_file": str(model.resolve())}
    spec = copy.deepcopy(known)
    spec.entry_point = functools.partial(_on_model, load_env_creator(str(known.entry_point)), str(model.resolve()))
    return spec, {name: value for name, value in env_kwargs.items() if name != "xml_file"}


def _on_model(environment: Any, model: str, **kwargs: Any) -> Any:
    class OnModel(environment):
        """The environment whose simulation begins with another file."""

        def _initialize_simulation(self) -> Any:
            self.fullpath = model
            return super()._initialize_simulation()

    return OnModel(**kwargs)
