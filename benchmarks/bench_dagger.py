"""DAgger beside cloning: how errors add up over time.

.venv/bin/python benchmarks/bench_dagger.py [--data DATA] [--only TEXT] [--seeds N]

Needs DATA only for Hopper, whose expert is GAIL's policy of four episodes, trained here and kept.
docs/images/compounding_error.png is drawn from all that results/dagger.json knows. Cloning is DAgger whose expert acts
in every round: the same labels and gradient steps, and only who acts differs.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from bench_gail_classic import EXPERTS, expert
from by_seed import measure_seeds, menura, spread
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
LABELS = {"CartPole-v1": (160, 16, 4), "Hopper-v5": (3_000, 250, 1)}
"""The most labels on either task, those of a round, and copies that act.

Each number of labels has a run of its own, because evaluations on the way begin all episodes of a host simulator anew:
with one every few rounds Hopper's expert would only ever show how they begin."""
LEVEL = 0.95
"""The share of the expert's return that is called its level."""
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


def labels_row(env: str) -> str:
    return f"{env}, returns by the number of labels"


def run_to_ask(env: str, data: Path | None) -> Path:
    """The folder of a run whose policy answers: PPO's where the environment is in JAX, else GAIL's."""
    runs = EXPERTS / "runs"
    if env == "CartPole-v1":
        expert(env)
        return sorted((runs / env / "ppo").glob("*-s*"))[-1]
    found = sorted((runs / env / "gail").glob("*/result.json"))
    if not found:
        demos = ["--demos", data / "gail_experts" / f"{env}.npz", "--num-demos", 4, "--subsample", 20]
        menura("train", "gail", env, *demos, "--total-steps", 1_500_000, "--eval-every", 0, out=runs)
        found = sorted((runs / env / "gail").glob("*/result.json"))
    return found[-1].parent


def by_labels(env: str, asked: Path, seed: int) -> dict[str, Any]:
    """Returns as labels come in, of cloning and of DAgger, and the expert's own."""
    most, each, copies = LABELS[env]
    found: dict[str, Any] = {name: [] for name in SHARES}
    for name, share in SHARES.items():
        for labels in range(each, most + each, each):
            options = ["--num-envs", copies, "--num-steps", each // copies, "--expert", asked, "--eval-every", 0]
            options += ["--total-labels", labels, "--share-decay", share, "--seed", seed]
            result = menura("train", "dagger", env, *options)
            found[name].append([labels, result["mean_return"]])
            found["expert"] = result["expert_return"]
            found["random"] = result["random_return"]
    return found


def labels_to_level(result: dict[str, Any], name: str) -> float:
    """The least labels from which on all runs are at the expert's level; infinite where the last is not."""
    least = result["random"] + LEVEL * (result["expert"] - result["random"])
    below = [labels for labels, mean in result[name] if mean < least]
    after = [labels for labels, _ in result[name] if not below or labels > below[-1]]
    return after[0] if after else float("inf")


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

    envs = [env for env in LABELS if seeds_of(labels_row(env))]
    rows_of_axes = 1 + bool(envs)
    figure, panels = plt.subplots(
        rows_of_axes, 2, figsize=(7.2, 3.4 * rows_of_axes), layout="constrained", squeeze=False
    )
    axes = panels[0]
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
    for axis, env in zip(panels[-1] if envs else (), envs, strict=False):
        for name in SHARES:
            curves = np.array([[mean for _, mean in seed[name]] for seed in seeds_of(labels_row(env))])
            labels = [count for count, _ in seeds_of(labels_row(env))[0][name]]
            axis.plot(labels, curves.mean(axis=0), color=COLORS[name], label=name)
            axis.fill_between(labels, curves.min(axis=0), curves.max(axis=0), color=COLORS[name], alpha=0.2, lw=0)
        axis.axhline(seeds_of(labels_row(env))[0]["expert"], color="gray", lw=1, ls=":", label="expert")
        axis.set(title=env, xlabel="labels", ylabel="return")
    for axis in panels.ravel():
        if not axis.has_data():
            axis.set_axis_off()
            continue
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
    for env in LABELS:
        if env == "Hopper-v5" and arguments.data is None:
            continue

        def one(seed: int, env: str = env) -> dict[str, Any]:
            return by_labels(env, run_to_ask(env, arguments.data), seed)

        def describe(results: list[dict[str, Any]], env: str = env) -> str:
            parts = []
            for name in SHARES:
                needed = [labels_to_level(result, name) for result in results]
                reached = [number for number in needed if np.isfinite(number)]
                said = f"{spread(reached)} labels" if reached else "never"
                said += f" in {len(reached)} of {len(needed)} seeds" if 0 < len(reached) < len(needed) else ""
                parts.append(f"{name}: {said}")
            return (
                f"to stay at {LEVEL:.0%} of the expert ({results[0]['expert']:,.0f}) within {LABELS[env][0]:,} labels: "
                + "; ".join(parts)
            )

        measure_seeds(
            NAME,
            labels_row(env),
            arguments,
            asked="the expert's level with fewer labels than cloning",
            command=f".venv/bin/python benchmarks/bench_dagger.py --data DATA --only {env}",
            seeds=range(3),
            one=one,
            good=lambda result: labels_to_level(result, "DAgger") < labels_to_level(result, "cloning"),
            describe=describe,
            title=TITLE,
        )
    draw()


if __name__ == "__main__":
    main()
