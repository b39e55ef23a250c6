"""Gymnasium's MuJoCo environments on a model of one's own."""

import copy
import functools
from pathlib import Path
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec, load_env_creator

from menura.core import RequestError


def with_model(env_id: str, env_kwargs: dict[str, Any]) -> tuple[str | EnvSpec, dict[str, Any]]:
    """What ``gymnasium.make`` takes for an environment whose ``xml_file`` may be of any of its versions and anywhere.

    Gymnasium's own classes know the option from version 5 on, and those before observe other numbers. A name that is
    no file here may be one of Gymnasium's own models.
    """
    if "xml_file" not in env_kwargs:
        return env_id, env_kwargs
    file = Path(str(env_kwargs["xml_file"])).expanduser()
    own = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets" / file
    model = file if file.is_file() else own
    if not model.is_file():
        raise RequestError(f"There is no model {file}: mend --env-kwargs xml_file=….")
    kwargs, spec = env_kwargs | {"xml_file": str(model.resolve())}, copy.deepcopy(gymnasium.spec(env_id))
    if not env_id.endswith(("-v3", "-v4")) or not isinstance(spec.entry_point, str):
        return env_id, kwargs
    del kwargs["xml_file"]
    spec.entry_point = functools.partial(_on_model, load_env_creator(spec.entry_point), str(model.resolve()))
    return spec, kwargs


def _on_model(environment: Any, model: str, **kwargs: Any) -> Any:
    class OnModel(environment):
        """The environment whose simulation begins with another file."""

        def _initialize_simulation(self) -> Any:
            self.fullpath = model
            return super()._initialize_simulation()

    return OnModel(**kwargs)
