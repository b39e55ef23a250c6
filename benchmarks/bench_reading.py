"""How well a run is read without its reward: rank correlations, chosen checkpoints, red flags, stopping.

.venv/bin/python benchmarks/bench_reading.py [--only TEXT] [--again] [--kept]

Trains GAIL on native tasks from experts of our own (bench_gail_classic.py makes them): runs as they should be, and runs
broken on purpose. Each run is kept in benchmarks/experts/reading/ with what it was measured at, so that a stopped
script goes on where it was. All rows are read from the same runs: where nothing is missing they are left as they are.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
import scipy.stats
from bench_gail_classic import EXPERTS, expert
from common import parser_of, show, stamp, wanted, write_rows

from menura import evaluate, make
from menura.forward.constant import ConstantReward
from menura.forward.trpo import TRPO
from menura.imitation.rules import ALL_FLAGS, best_in, columns_of, converged, red_flags
from menura.regularizers import JensenShannon
from menura.regularizers.base import AbstractRegularizer
from menura.report.statistics import stratified_bootstrap
from menura.run.artifacts import read_json, write_json
from menura.run.launch import uniform_return
from menura.run.presets import find_preset, learner_of
from menura.run.registry import replaced
from menura.run.request import Request, load_parts
from menura.run.sweep import drive
from menura.run.train import Watcher, training

NAME, TITLE = "reading", "Reading a run without its reward"
RUNS = EXPERTS / "reading"
TASKS = {"CartPole-v1": (60_000, 10), "Acrobot-v1": (200_000, 5), "Pendulum-v1": (300_000, 5)}
"""Environment steps of a run, and every how-many-th step of one episode it learns from."""
EVALUATIONS = 10
EPISODES = 20
"""Of each checkpoint's true return."""
GOOD, BROKEN = 30, 45
"""Runs that are asked for: as they should be, and broken on purpose."""


class Broken(AbstractRegularizer):
    """Jensen–Shannon whose learner is paid by another function of the score than the one that was fitted."""

    flipped: bool
    """Paid for looking unlike the expert; else the same for everything."""
    class_of_scores: ClassVar[str] = JensenShannon.class_of_scores
    loss_formula: ClassVar[str] = JensenShannon.loss_formula
    reward_formula: ClassVar[str] = "wrong"
    divergence: ClassVar[str] = JensenShannon.divergence

    def _wrong(self, score):
        return -score if self.flipped else jnp.zeros_like(score)

    def loss(self, score_expert, score_learner):
        return JensenShannon().loss(score_expert, score_learner)

    def reward(self, score):
        return JensenShannon().reward(self._wrong(score))

    def gain(self, score):
        return JensenShannon().gain(score)

    def signed_reward(self, score, sign):
        return JensenShannon().signed_reward(self._wrong(score), sign)

    def slope_penalty(self, slope):
        return JensenShannon().slope_penalty(slope)

    def conjugate(self, rho_learner, rho_expert, features=None):
        return JensenShannon().conjugate(rho_learner, rho_expert, features)

    def scores_of_table(self, num_pairs, features=None):
        return JensenShannon().scores_of_table(num_pairs, features)


KINDS = {
    "as it should be": {},
    "sign flipped": {"regularizer": Broken(flipped=True)},
    "constant reward": {"regularizer": Broken(flipped=False)},
    "too strong": {"gradient_penalty": 0.0, "learning_rate": 1e-2, "num_score_steps": 64},
    "too weak": {"learning_rate": 1e-7, "num_score_steps": 1},
    "actions shuffled": {},
}


OWN_FLAG = {
    "sign flipped": "sign flipped",
    "constant reward": "constant reward",
    "too strong": "score too strong",
    "too weak": "score too weak",
    "actions shuffled": "actions do not follow from observations",
}
"""What is to be raised by the runs that are broken on purpose."""


class TrueReturns(Watcher):
    """What the policy of every checkpoint earns, over other episodes than those that are read."""

    def __init__(self, learner, env: str):
        self._learner, self._env = learner, make(env, num_envs=EPISODES)
        self.returns: list[float] = []
        self.readings: list[dict[str, float]] = []

    def on_checkpoint(self, checkpoint, *, is_best, exact):
        policy = self._learner.final_policy(checkpoint.state)
        self.returns.append(evaluate(self._env, policy, num_episodes=EPISODES, seed=10_007).mean)
        self.readings = checkpoint.progress.readings


def path_of(env: str, kind: str, seed: int) -> Path:
    return RUNS / f"{env}-{kind.replace(' ', '-')}-{seed}.json"


def make_runs(env: str, kind: str, seeds: Sequence[int]) -> None:
    """Train these seeds by one program, and keep what was read of each beside its true returns."""
    total_steps, subsample = TASKS[env]
    learner = replaced(learner_of(find_preset("gail", "trpo", env, make(env, num_envs=1).spec)), KINDS[kind])
    request = Request(learner, env, demos=expert(env), num_demos=1, subsample=subsample)
    loops, watchers, expert_return = [], [], float("nan")
    for seed in seeds:
        demos, heldout = load_parts(replace(request, seed=seed, shuffle_actions=kind == "actions shuffled"))
        expert_return = demos.expert_return
        watchers.append(TrueReturns(learner, env))
        loops.append(
            training(
                learner,
                make(env, num_envs=32),
                demos,
                total_steps=total_steps,
                seed=seed,
                eval_env=make(env, num_envs=5),
                eval_every=total_steps // EVALUATIONS,
                heldout=heldout,
                watchers=watchers[-1:],
            )
        )
    for error in drive(loops):
        if error is not None:
            raise error
    for seed, watcher in zip(seeds, watchers, strict=True):
        readings = [{k: float(f"{v:.6g}") for k, v in row.items()} for row in watcher.readings]
        run = {"kind": kind, "seed": seed, "returns": watcher.returns, "readings": readings}
        of_run = {"expert_return": expert_return, "measured": stamp()}
        write_json(path_of(env, kind, seed), run | of_run)


def name_of(run: dict) -> str:
    return path_of(run["env"], run["kind"], run["seed"]).stem


def kept_run(env: str, kind: str, seed: int) -> dict:
    """What a run's file holds; a reading that was not a number is null there."""
    run = read_json(path_of(env, kind, seed)) | {"env": env}
    run["readings"] = [{k: np.nan if v is None else v for k, v in row.items()} for row in run["readings"]]
    return run


def rank_correlation(run: dict, proxy: str) -> float:
    """Spearman's, over the checkpoints of one run; nan where one of the two does not vary."""
    values = np.array([row.get(proxy, np.nan) for row in run["readings"]])
    known = np.isfinite(values)
    if known.sum() < 3 or np.ptp(values[known]) == 0 or np.ptp(np.array(run["returns"])[known]) == 0:
        return float("nan")
    return float(scipy.stats.spearmanr(values[known], np.array(run["returns"])[known])[0])


def interval(values: np.ndarray) -> tuple[float, float]:
    """The 95% bootstrap interval of a mean over runs."""
    return stratified_bootstrap([values], lambda x: float(np.mean(x)))


def shares(run: dict, random_return: float) -> dict[str, float]:
    """Returns of checkpoints as shares of the best checkpoint's, 0 being the random policy's."""
    returns = np.array(run["returns"])
    steps = [row["env_steps"] for row in run["readings"]]
    chosen = returns[steps.index(best_in(columns_of(run["readings"])))]
    span = returns.max() - random_return
    return {"chosen": float((chosen - random_return) / span), "last": float((returns[-1] - random_return) / span)}


def stop_of(run: dict) -> int | None:
    """The evaluation at which `--stop-when-converged` would have ended the run."""
    rows = run["readings"]
    return next((i for i in range(len(rows)) if converged(rows[: i + 1])), None)


def correlations_row(runs: list[dict], random_returns: dict[str, float]) -> dict:
    detail = {}
    for proxy in [name for name in runs[0]["readings"][-1] if name.startswith("proxy/")]:
        found = np.array([rho for run in runs if not np.isnan(rho := rank_correlation(run, proxy))])
        if len(found):
            of_mean = interval(found) if len(found) > 1 else None
            detail[proxy] = {"mean": float(found.mean()), "interval": of_mean, "runs": len(found)}
    ranked = sorted(detail.items(), key=lambda item: -abs(item[1]["mean"]))
    words = []
    for name, found in ranked:
        brackets = [] if found["interval"] is None else ["{:.2f} to {:.2f}".format(*found["interval"])]
        # Where a proxy does not vary in a run, it ranks nothing there.
        brackets += [] if found["runs"] == len(runs) else [f"of {found['runs']} runs"]
        words.append(f"{name.removeprefix('proxy/')} {found['mean']:.2f} ({', '.join(brackets)})")
    return {"measured": "; ".join(words), "passed": None, "detail": detail}


def chosen_row(runs: list[dict], random_returns: dict[str, float]) -> dict:
    found = [shares(run, random_returns[run["env"]]) for run in runs]
    chosen, last = (np.array([share[name] for share in found]) for name in ("chosen", "last"))
    low, high = interval(chosen)
    envs = dict.fromkeys(run["env"] for run in runs)
    by_env = {env: float(chosen[[run["env"] == env for run in runs]].mean()) for env in envs}
    words = f"{100 * chosen.mean():.1f}% ({100 * low:.1f} to {100 * high:.1f}), least {100 * chosen.min():.1f}%; "
    words += f"the last checkpoint {100 * last.mean():.1f}%, least {100 * last.min():.1f}%"
    return {"measured": words, "passed": bool(chosen.mean() >= 0.97), "detail": {"runs": found, "by_env": by_env}}


def flags_row(runs: list[dict], random_returns: dict[str, float]) -> dict:
    table = {kind: {flag.name: 0 for flag in ALL_FLAGS} | {"runs": 0} for kind in KINDS}
    for run in runs:
        table[run["kind"]]["runs"] += 1
        for flag in red_flags(columns_of(run["readings"])):
            table[run["kind"]][flag.name] += 1
    words, right = [], True
    for kind, counts in table.items():
        own = OWN_FLAG.get(kind)
        others = {name: n for name, n in counts.items() if name not in (own, "runs") and n}
        fired = counts["runs"] if own is None else counts[own]
        right &= fired == counts["runs"] and (own is not None or not others)
        said = f"{kind}: " + ("" if own is None else f"{fired} of {counts['runs']}")
        said += f"{counts['runs']} runs, no flag" if own is None and not others else ""
        words.append(said + "".join(f", {name} {n}" for name, n in others.items()))
    return {"measured": "; ".join(words), "passed": right, "detail": table}


def stops_row(runs: list[dict], random_returns: dict[str, float]) -> dict:
    stops = [(run, at) for run in runs if (at := stop_of(run)) is not None]
    shared, saved = [], []
    for run, at in stops:
        low = random_returns[run["env"]]
        shared.append((run["returns"][at] - low) / (max(run["returns"]) - low))
        saved.append(1 - (at + 1) / len(run["returns"]))
    words = f"{len(stops)} of {len(runs)} runs stop by themselves"
    if stops:
        words += f", sparing {100 * np.mean(saved):.0f}% of their steps, at {100 * np.mean(shared):.1f}% of the best "
        words += f"checkpoint's return (least {100 * np.min(shared):.1f}%)"
    return {"measured": words, "passed": None, "detail": {"shares": shared, "saved": saved}}


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--seeds", type=int, default=11, help="seeds of good runs on each task")
    parser.add_argument("--broken-seeds", type=int, default=3, help="of runs of each kind that are broken on purpose")
    parser.add_argument("--kept", action="store_true", help="train nothing: read the runs that are kept once more")
    arguments = parser.parse_args()
    if not (arguments.kept or any(wanted(NAME, row, arguments) for row, *_ in ROWS)):
        return
    wanted_runs = [
        (env, kind, seed)
        for kind in KINDS
        for env in TASKS
        for seed in range(arguments.broken_seeds if kind in OWN_FLAG else arguments.seeds)
    ]
    if arguments.kept:
        wanted_runs = [x for x in wanted_runs if path_of(*x).exists()]
    for env, kind in dict.fromkeys((env, kind) for env, kind, _ in wanted_runs):
        seeds = [seed for *of, seed in wanted_runs if of == [env, kind]]
        missing = [seed for seed in seeds if arguments.again or not path_of(env, kind, seed).exists()]
        if missing:
            print(f"{env}, {kind}, seeds {missing}", file=sys.stderr, flush=True)
            make_runs(env, kind, missing)
    runs = [kept_run(*x) for x in wanted_runs]
    good = [run for run in runs if run["kind"] not in OWN_FLAG]
    random_returns = {env: uniform_return(Request(ConstantReward(TRPO()), env)) for env in TASKS}
    number = f"{len(good)} GAIL runs on {', '.join(dict.fromkeys(run['env'] for run in good))}"
    for row, asked, reads_all, measured in ROWS:
        over = runs if reads_all else good
        entry = {
            "row": row,
            "asked": asked,
            "seeds": sorted({run["seed"] for run in over}),
            "command": ".venv/bin/python benchmarks/bench_reading.py",
            **measured(over, random_returns),
        }
        # Where the runs were measured; the row is only read from them.
        stamps = {json.dumps(run["measured"]): run for run in over if "measured" in run}
        entry["detail"]["by_seed"] = {name_of(run): {"measured": run["measured"]} for run in stamps.values()}
        if not reads_all:
            entry["measured"] = f"{number}, {EVALUATIONS} checkpoints each: {entry['measured']}"
            if len(good) < GOOD:
                entry["partial"] = f"{len(good)} of {GOOD} runs"
        elif len(over) < BROKEN + len(good):
            entry["partial"] = f"{len(over) - len(good)} of {BROKEN} broken runs"
        if "partial" in entry:
            entry["passed"] = None
        write_rows(NAME, [entry], title=TITLE, data=[expert(env) for env in TASKS])
        show([entry])


ROWS = (
    ("rank correlation of proxies with the true return", "published, with intervals", False, correlations_row),
    (
        "best checkpoint chosen by held-out steps, as a share of the best true one",
        "≥ 97%, mean over ≥ 30 runs",
        False,
        chosen_row,
    ),
    ("red flags", "each on its own broken runs, none on good runs", True, flags_row),
    ("runs that stop when converged", "–", False, stops_row),
)
"""Their names, what is asked, whether broken runs count too, and what reads the runs."""


if __name__ == "__main__":
    main()
