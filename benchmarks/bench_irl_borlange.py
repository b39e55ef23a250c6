"""Borlänge's road network: maximum likelihood of 1,832 routes to 466 destinations.

.venv/bin/python benchmarks/bench_irl_borlange.py --data DATA
"""

import statistics
import time

from common import command_of_this_script, parser_of, show, wanted, write_rows
from irl_problems import roads

from menura.irl import fit
from menura.irl.objective import make_problem

NAME = "irl_borlange"
ROWS = (
    "Borlänge, 1,832 routes, 466 destinations: maximum likelihood",
    "Borlänge: one value and gradient",
)


def main() -> None:
    parser = parser_of(__doc__)
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("--data DATA is needed.")
    if not any(wanted(NAME, row, arguments) for row in ROWS):
        return
    mdp, paths = roads(arguments.data)
    began = time.perf_counter()
    found = fit(mdp, paths, method="maxent")
    seconds = time.perf_counter() - began
    objective, spent = make_problem(mdp, paths, "maxent").likelihood(), []
    for _ in range(7):
        began = time.perf_counter()
        objective.evaluate(found.theta)
        spent.append(time.perf_counter() - began)
    once = statistics.median(spent)
    theta = ", ".join(
        f"{name} {value:.4f} ({error:.4f})"
        for name, value, error in zip(found.names, found.theta, found.standard_errors, strict=True)
    )
    rows = [
        {
            "row": ROWS[0],
            "asked": "gradient norm < 1, ≤ 30 s whole",
            "measured": f"{seconds:.1f} s, gradient norm {found.gradient_norm:.2g}, log-likelihood "
            f"{found.log_likelihood:.3f}, {found.evaluations} evaluations; {theta}",
            "passed": bool(found.gradient_norm < 1 and seconds <= 30),
            "seeds": [],
            "command": command_of_this_script(),
        },
        {
            "row": ROWS[1],
            "asked": "≤ 0.5 s",
            "measured": f"{once:.2f} s, median of {len(spent)}",
            "passed": bool(once <= 0.5),
            "seeds": [],
            "command": command_of_this_script(),
        },
    ]
    show(rows)
    write_rows(
        NAME,
        rows,
        title="Inverse RL: Borlänge's roads",
        data=[arguments.data / "borlange_route_choice" / "linkIncidence.txt"],
    )


if __name__ == "__main__":
    main()
