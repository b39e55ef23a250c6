"""Rust's bus engines, group 4: full maximum likelihood against the published numbers.

.venv/bin/python benchmarks/bench_irl_rust.py --data DATA
"""

import time

import numpy as np
from common import command_of_this_script, parser_of, show, wanted, write_rows
from irl_problems import bus_mdp, bus_paths

from menura.irl import fit
from menura.irl.joint import fit_jointly

NAME = "irl_rust"
ROWS = (
    "Rust's bus engines, group 4: RC, θ, −log-likelihood",
    "Rust's bus engines, group 4: standard errors of RC and θ",
    "Rust's bus engines, group 4, dynamics estimated first",
)


def main() -> None:
    parser = parser_of(__doc__)
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("--data DATA is needed.")
    if not any(wanted(NAME, row, arguments) for row in ROWS):
        return
    paths, driven = bus_paths(arguments.data)
    counts = np.bincount(driven, minlength=3)
    began = time.perf_counter()
    two_steps = fit(bus_mdp(counts / counts.sum()), paths)
    first = time.perf_counter() - began
    began = time.perf_counter()
    whole = lambda phi: np.append(phi, 1 - phi.sum())  # noqa: E731
    joint = fit_jointly(
        lambda phi: bus_mdp(whole(phi)),
        lambda phi: np.log(whole(phi))[driven],
        paths,
        counts[:2] / counts.sum(),
    )
    seconds = time.perf_counter() - began
    got = (f"{joint.theta[0]:.4f}", f"{joint.theta[1]:.4f}", f"{-joint.log_likelihood:.3f}")
    outer = tuple(f"{error:.3f}" for error in joint.bhhh_errors[:2])
    errors = two_steps.standard_errors
    rows = [
        {
            "row": ROWS[0],
            "asked": "RC 10.0750, θ 2.2930, 163.584, to the last digit; < 1 s",
            "measured": f"RC {got[0]}, θ {got[1]}, {got[2]}, {seconds:.2f} s",
            "passed": bool(got == ("10.0750", "2.2930", "163.584") and seconds < 1),
            "seeds": [],
            "command": command_of_this_script(),
        },
        {
            "row": ROWS[1],
            "asked": "beside Rust's 1.582 and 0.639",
            "measured": f"{outer[0]} and {outer[1]} from the outer product of the months' scores, as Rust's; "
            f"{joint.standard_errors[0]:.3f} and {joint.standard_errors[1]:.3f} from the Hessian",
            "passed": bool(outer == ("1.582", "0.639")),
            "seeds": [],
            "command": command_of_this_script(),
        },
        {
            "row": ROWS[2],
            "asked": "close to the full maximum likelihood",
            "measured": f"RC {two_steps.theta[0]:.4f} (s.e. {errors[0]:.3f}), θ {two_steps.theta[1]:.4f} "
            f"(s.e. {errors[1]:.3f}), {-two_steps.log_likelihood:.3f}, {first:.2f} s",
            "passed": bool(abs(two_steps.theta[0] - 10.075) < 1e-3),
            "seeds": [],
            "command": command_of_this_script(),
        },
    ]
    show(rows)
    write_rows(
        NAME,
        rows,
        title="Inverse RL: Rust's bus engines",
        data=[arguments.data / "rust_bus_1987" / "bus_panel_5000mi.csv"],
    )


if __name__ == "__main__":
    main()
