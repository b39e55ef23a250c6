"""What the house promises of itself: what it imports, what it offers, and what it never does."""

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

OPTIONAL = (
    "ale_py",
    "beartype",
    "envpool",
    "h5py",
    "imageio",
    "imageio_ffmpeg",
    "jinja2",
    "matplotlib",
    "minari",
    "mujoco",
    "PIL",
    "pyarrow",
    "pygame",
    "pytest",
    "ray",
    "torch",
    "wandb",
)
PUBLIC_NAMES = {
    "AIRL",
    "BC",
    "DAgger",
    "GAIL",
    "LSIQ",
    "PPO",
    "DQN",
    "SAC",
    "SQIL",
    "TRPO",
    "AbstractNativeEnv",
    "Demonstrations",
    "Episode",
    "Evaluation",
    "LearnedRewardWrapper",
    "RequestError",
    "Run",
    "Spec",
    "Transition",
    "collect",
    "evaluate",
    "load",
    "load_policy",
    "load_reward",
    "make",
    "record",
    "regularizers",
    "save",
    "train",
}

PICKLING = {"_pickle", "cPickle", "cloudpickle", "dill", "joblib", "jsonpickle", "marshal", "pickle", "shelve"}
# Folders at the root of one machine, which no text that others read may name.
MACHINE_PATH = re.compile(r"(?<![\w.$~{}*-])/(?:work|root|home|tmp|Users|mnt/data)/[\w.]", re.IGNORECASE)
TEXT_SUFFIXES = {
    "",
    ".cff",
    ".cfg",
    ".csv",
    ".html",
    ".json",
    ".md",
    ".py",
    ".sh",
    ".toml",
    ".txt",
    ".xml",
    ".yaml",
    ".yml",
}


def tracked_files(repository: Path) -> list[Path]:
    """Files that git has, or would add."""
    if shutil.which("git") is None or not (repository / ".git").exists():
        pytest.skip("needs git and a clone")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=repository,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    return [repository / name for name in listed if name and (repository / name).is_file()]


def modules_after(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter has after a statement."""
    code = f"import sys, json\n{statement}\nprint(json.dumps([name.split('.')[0] for name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_using_every_public_name_imports_no_optional_package():
    loaded = modules_after("import menura\n[getattr(menura, name) for name in menura.__all__]")
    assert "menura" in loaded
    assert not loaded & set(OPTIONAL)


def test_importing_the_command_line_does_not_import_jax():
    loaded = modules_after("import menura.cli")
    assert not loaded & {"jax", "gymnasium", "scipy", *OPTIONAL}


def test_the_public_names_are_exactly_these():
    import menura

    assert set(menura.__all__) == PUBLIC_NAMES
    assert len(menura.__all__) == len(PUBLIC_NAMES)
    assert all(hasattr(menura, name) for name in PUBLIC_NAMES)


def test_every_public_name_is_documented():
    import menura

    assert [name for name in menura.__all__ if not getattr(menura, name).__doc__] == []


def test_no_module_imports_a_pickle(repository):
    for path in (repository / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            roots = {name.split(".")[0] for name in names}
            assert not roots & PICKLING, f"{path.name}:{node.lineno} imports {roots & PICKLING}"


def test_no_call_lets_numpy_unpickle(repository):
    for path in (repository / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            where = f"{path.name}:{node.lineno}"
            for keyword in node.keywords:
                if keyword.arg == "allow_pickle":
                    assert isinstance(keyword.value, ast.Constant), where
                    assert keyword.value.value is False, where
            if ast.unparse(node.func) in {"np.load", "numpy.load", "np.save", "numpy.save"}:
                assert "allow_pickle" in {keyword.arg for keyword in node.keywords}, f"{where} leaves it to the default"


def test_no_text_of_the_repository_names_a_path_of_a_machine(repository):
    found = []
    for path in tracked_files(repository):
        if path.suffix.lower() not in TEXT_SUFFIXES:
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(repository)}: {match.group()}" for match in MACHINE_PATH.finditer(text)]
    assert found == []


def test_the_constraints_name_no_index_and_no_file(repository):
    lines = (repository / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = re.compile(r"[a-z0-9][a-z0-9._-]*==[^\s;]+( ; .+)?")
    assert [line for line in lines if line and not pins.fullmatch(line)] == []


def test_every_dependency_has_a_lower_bound_and_no_upper_one(repository):
    import tomllib

    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [*project["dependencies"], *(name for extra in project["optional-dependencies"].values() for name in extra)]
    own = [name for name in asked if name.startswith("menura[") or name == "jax[cuda13]"]
    assert [name for name in asked if name not in own and not re.fullmatch(r"[\w-]+>=[\d.]+", name)] == []
