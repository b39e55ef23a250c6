"""Run every benchmark script, the cheapest first; rows measured before are kept, so a stopped run goes on where it was.

.venv/bin/python benchmarks/run_all.py --data DATA [--only TEXT] [--again]
"""

import subprocess
import sys
from pathlib import Path

from common import parser_of

MINUTES: dict[tuple[str, ...], float] = {
    ("bench_irl_rust.py",): 0.1,
    ("bench_irl_mountaincar.py",): 0.5,
    ("bench_irl_borlange.py",): 2,
    ("bench_audit.py",): 4,
    ("bench_pixels.py",): 12,
    ("bench_dagger.py",): 6,
    ("bench_speed.py",): 10,
    ("bench_bc.py",): 15,
    ("bench_dqn.py",): 45,
    ("bench_irl_scaling.py",): 20,
    ("bench_gail_classic.py",): 25,
    ("bench_reward.py",): 28,
    ("bench_airl.py",): 30,
    ("bench_warm_start.py",): 35,
    ("bench_reading.py",): 38,
    ("merge.py",): 39,
    ("gail_paper.py", "--part", "classic"): 40,
    ("bench_sac.py",): 60,
    ("bench_offpolicy.py",): 90,
    ("bench_humanoid.py",): 170,
    ("bench_humanoid_motion.py",): 12,
    ("bench_gail_mujoco.py",): 120,
    ("bench_pong.py",): 600,
    ("gail_paper.py", "--part", "mujoco"): 190,
}
"""About how long each script takes on two cores where nothing has been measured yet."""


def in_order() -> list[tuple[str, ...]]:
    """Scripts with their options, the cheapest first."""
    return sorted(MINUTES, key=lambda command: MINUTES[command])


def main() -> int:
    """1 where a script failed, after all of them ran."""
    parser_of("Run every benchmark script.").parse_args()
    failed = []
    for script, *options in in_order():
        print(f"== {script} {' '.join(options)}", flush=True)
        command = [sys.executable, str(Path(__file__).parent / script), *options, *sys.argv[1:]]
        if subprocess.run(command, check=False).returncode:
            failed.append(script)
    if failed:
        print(f"Failed: {', '.join(failed)}.", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
