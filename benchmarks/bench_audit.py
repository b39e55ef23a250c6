"""What the audit says of four classic tasks: what is known of them, and the shares that constants reach by themselves.

.venv/bin/python benchmarks/bench_audit.py [--only TEXT]

Demonstrations are those of bench_gail_classic.py where it has made an expert, and on MountainCar those of a rule:
push the way the car moves. Without any, the best arm is the reference.
"""

import json
import subprocess
from pathlib import Path

import numpy as np
from by_seed import MENURA
from common import REPOSITORY, parser_of, show, wanted, write_rows

from menura import make, record, save

NAME, TITLE = "audit", "What a reward's sign gives by itself"
VERDICTS = {
    "CartPole-v1": "survival-biased",
    "Acrobot-v1": "ending-biased",
    "Pendulum-v1": "no bias detected",
    "MountainCar-v0": "ending-biased",
}


class Pusher:
    """MountainCar's rule."""

    def predict(self, obs, deterministic=True):
        """Right where the car moves right, else left."""
        return np.where(np.asarray(obs)[..., 1] > 0, 2, 0).astype(np.int64), None


def demonstrations(env: str) -> Path:
    """Where an expert's episodes are, or would be."""
    path = REPOSITORY / "benchmarks" / "experts" / f"{env}.npz"
    if env == "MountainCar-v0" and not path.exists():
        save(record(make(env, num_envs=20), Pusher(), 20, seed=0), path)
    return path


def main() -> None:
    arguments = parser_of(__doc__).parse_args()
    for env, verdict in VERDICTS.items():
        row = f"menura audit {env}"
        if not wanted(NAME, row, arguments):
            continue
        demos = demonstrations(env)
        options = ["--demos", str(demos), "--num-demos", "1"] if demos.exists() else []
        command = [MENURA, "audit", env, *options, "--json"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        result = json.loads(done.stdout)
        shares = ", ".join(
            f"{arm['trained_on']} {arm['mean_return']:.1f}"
            + ("" if arm["normalized"] is None else f" ({arm['normalized']:.0%})")
            for arm in result["arms"].values()
        )
        reference = "" if result["reference_return"] is None else f" {result['reference_return']:.1f}"
        entry = {
            "row": row,
            "asked": verdict,
            "measured": (
                f"{result['verdict']}: {shares}; random {result['random_return']:.1f}, "
                f"{result['reference']}{reference}; {result['wall_seconds']:.0f} s"
            ),
            "seeds": result["seeds"],
            "passed": result["verdict"] == verdict,
            "command": f"menura audit {env}"
            + (f" --demos benchmarks/experts/{env}.npz --num-demos 1" if options else ""),
            "detail": result,
        }
        write_rows(NAME, [entry], title=TITLE, data=[demos] if options else [])
        show([entry])


if __name__ == "__main__":
    main()
