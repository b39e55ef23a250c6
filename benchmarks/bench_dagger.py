"""DAgger beside cloning: how errors add up over time.

.venv/bin/python benchmarks/bench_dagger.py [--only TEXT] [--seeds N]

docs/images/compounding_error.png is drawn from all that results/dagger.json knows. Cloning is DAgger whose expert acts
in every round: the same labels and gradient steps, and only who acts differs.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from by_seed import measure_seeds
from common import REPOSITORY, known_rows, parser_of

from menura import BC, DAgger, train
from menura.demonstrations.labels import asking
from menura.environments.base import NativeEnvs
from menura.environments.native.probes import Corridor

NAME, TITLE = "dagger", "DAgger beside behavioral cloning"
ERRORS = "a corridor with one unforeseeable turn in a hundred steps: errors by horizon, 3,200 labels"
HORIZON = 100
"""Steps of the corridor."""
SHARES = {"cloning": 1.0, "DAgger": 0.0}
"""The expert's share in the acting after the first round."""
COLORS = {"cloning": "tab:red", "DAgger": "tab:blue"}


class Guide:
    """Never misses a turn, and knows the way back."""

    def predict(self, obs: np.ndarray, *, deterministic: bool) -> tuple[np.ndarray, None]:
        return np.asarray(Corridor().right_action(jnp.asarray(obs))), None


def errors_by_time(share_decay: float, seed: int, *, copies: int = 1000) -> list[float]:
    """The chance at each step of the corridor that the learner does not do what the expert would."""
    bc = BC(num_batches=500, hidden_sizes=(32,), patience=0, heldout_fraction=0.0)
    learner = DAgger(bc, num_steps=HORIZON, share_decay=share_decay)
    run = train(learner, NativeEnvs(Corridor(), 8, "Corridor"), expert=Guide(), total_steps=3_200, seed=seed)
    many = NativeEnvs(Corridor(), copies, "Corridor")
    begin = many.reset(key=jax.random.key(1000 + seed))
    _, visited = asking(many, Guide())(begin, run.policy, share=0.0, key=jax.random.key(seed), num_steps=HORIZON)
    own = np.asarray(jax.vmap(jax.vmap(run.policy))(jnp.asarray(visited.obs)))
    return np.mean(own != visited.action, axis=1).round(5).tolist()


def growth(errors: np.ndarray, start: int = 10) -> float:
    """The power of T with which the sum of errors grows from ``start`` steps to the whole horizon."""
    total = np.cumsum(errors)
    return float(np.log(total[-1] / total[start - 1]) / np.log(len(total) / start))


def draw() -> None:
    """docs/images/compounding_error.png."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = known_rows(NAME)

    def seeds_of(row: str) -> list[dict[str, Any]]:
        return list(rows.get(row, {}).get("detail", {}).get("by_seed", {}).values())

    figure, axes = plt.subplots(1, 2, figsize=(7.2, 3.4), layout="constrained")
    steps = np.arange(1, HORIZON + 1)
    for name in SHARES if seeds_of(ERRORS) else ():
        errors = np.mean([seed[name] for seed in seeds_of(ERRORS)], axis=0)
        total = np.cumsum(errors)
        axes[0].plot(steps, errors, color=COLORS[name], label=name)
        axes[1].loglog(steps, total, color=COLORS[name], label=name)
        power, style, label = (2, "--", "T²") if name == "cloning" else (1, ":", "T")
        axes[1].loglog(steps, total[9] * (steps / 10.0) ** power, style, color="gray", lw=1, label=label)
    axes[0].set(title="corridor", xlabel="step t", ylabel="chance of an error at t")
    axes[1].set(title="corridor", xlabel="horizon T", ylabel="errors up to T")
    for axis in axes:
        axis.grid(alpha=0.3)
        axis.legend(frameon=False, fontsize=8)
    figure.savefig(REPOSITORY / "docs" / "images" / "compounding_error.png", dpi=110)
    plt.close(figure)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--seeds", type=int, help="measure at most this many seeds of each row")
    arguments = parser.parse_args()

    def powers(results):
        mean = {name: np.mean([result[name] for result in results], axis=0) for name in SHARES}
        return "; ".join(
            f"{name} {errors.sum():.1f} errors in {HORIZON} steps, growing as T^{growth(errors):.2f}"
            for name, errors in mean.items()
        )

    measure_seeds(
        NAME,
        ERRORS,
        arguments,
        asked="cloning's grow like T², DAgger's like T",
        command=".venv/bin/python benchmarks/bench_dagger.py --only corridor",
        seeds=range(5),
        one=lambda seed: {name: errors_by_time(share, seed) for name, share in SHARES.items()},
        good=lambda result: growth(result["DAgger"]) < 1.25 < 1.5 < growth(result["cloning"]),
        describe=powers,
        title=TITLE,
    )
    draw()


if __name__ == "__main__":
    main()
