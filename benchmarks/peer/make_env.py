"""Make the environment in which `imitation` can be measured beside menura.

`imitation` 1.0.1 pins Gymnasium 0.29 and Stable-Baselines3 2.2, which no environment of menura's can hold,
so it gets one of its own, with Python 3.11:

    python3.11 benchmarks/peer/make_env.py
    .peer-venv/bin/python benchmarks/peer/bc_throughput.py

PyTorch's default build for Linux carries CUDA and several gigabytes; `--torch` takes the path of a CPU wheel
or any other requirement that pip understands.
"""

import argparse
import subprocess
import sys
from pathlib import Path

REQUIREMENTS = (
    "imitation==1.0.1",
    "seals==0.2.1",
    "gymnasium==0.29.1",
    "stable-baselines3==2.2.1",
    "mujoco<3",
    "numpy<2",
    "setuptools<81",  # seals imports pkg_resources
    "imageio",  # Gymnasium's MuJoCo environments import it without asking for it
    "ale-py==0.10.1",  # Atari, for dqn_pong.py alone
    "opencv-python-headless<4.11",  # what Stable-Baselines3's Atari wrapper resizes with
)


def main() -> None:
    """Make the folder, install, and check that the three scripts' imports work."""
    parser = argparse.ArgumentParser(description="Make the environment that the scripts beside this one run in.")
    parser.add_argument("--folder", type=Path, default=Path(".peer-venv"), help="where (default: .peer-venv)")
    parser.add_argument("--torch", default="torch==2.13.0", help="what pip installs as torch (default: torch==2.13.0)")
    arguments = parser.parse_args()
    if sys.version_info[:2] != (3, 11):
        parser.error("imitation 1.0.1 is measured on Python 3.11; run this script with it.")
    subprocess.run([sys.executable, "-m", "venv", str(arguments.folder)], check=True)
    python = arguments.folder / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--quiet", "--no-compile", "--disable-pip-version-check"]
    subprocess.run([*install, arguments.torch, *REQUIREMENTS], check=True)
    subprocess.run([str(python), "-c", "import imitation, mujoco, seals, torch"], check=True)
    print(f"Made {arguments.folder}: run the scripts with {python}.")


if __name__ == "__main__":
    main()
