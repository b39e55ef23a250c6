"""Run every benchmark script; rows measured before are kept, so a stopped run goes on where it was.

.venv/bin/python benchmarks/run_all.py --data DATA [--only TEXT] [--again]
"""

import subprocess
import sys
from pathlib import Path

from common import parser_of


def main() -> int:
    """1 where a script failed, after all of them ran."""
    parser_of("Run every benchmark script.").parse_args()
    failed = []
    for script in sorted(Path(__file__).parent.glob("bench_*.py")):
        print(f"== {script.name}", flush=True)
        if subprocess.run([sys.executable, str(script), *sys.argv[1:]], check=False).returncode:
            failed.append(script.name)
    if failed:
        print(f"Failed: {', '.join(failed)}.", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
