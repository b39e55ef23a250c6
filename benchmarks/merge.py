"""Merging into traffic: how many demonstrations of a scripted driver it takes not to crash, and what fails first.

.venv/bin/python benchmarks/merge.py [--quick] [--json] [--only TEXT] [--seeds N] [--again]

`--json` prints {algorithm: {num_demos: {crash_rate, ci95, mean_speed}}} and nothing else, with the expert among the
algorithms (its number of demonstrations is 0); `ci95` is the half-width of the 95% interval of the crash rate: the
wider of Student's over the seeds and Wilson's over all of their episodes. `--quick` measures one seed with less
training and fewer episodes in minutes, and keeps nothing. Every seed learns from demonstrations of its own.
"""

import contextlib
import functools
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import merge_figures
import numpy as np
from by_seed import measure_seeds, spread
from common import known_rows, parser_of
from scipy import stats

from menura import BC, DAgger, make, train
from menura.core import AbstractPolicy
from menura.demonstrations import Demonstrations, record
from menura.demonstrations.episodes import Episode
from menura.demonstrations.labels import asking
from menura.environments.driving import crash_interval, crashed, driver_of, road_of, scene_of, speeds
from menura.evaluation import UniformPolicy
from menura.networks import Categorical
from menura.run.presets import find_preset, learner_of
from menura.run.train import Run

NAME, TITLE = "merge", "Merging into traffic"
MERGE, HIGHWAY = "merge-v0", "highway-fast-v0"
LIGHT: dict[str, Any] = {"vehicles_density": 0.5}
DENSE: dict[str, Any] = {"vehicles_density": 1.0}
ALGORITHMS = ("bc", "dagger", "gail", "airl")
SIZES = (1, 5, 20, 100)
SLACK = 0.02
"""What is asked: a crash rate at most this much above the expert's."""
EPISODES = {"full": 1000, "quick": 200}
"""Played with every policy."""
QUICK_STEPS = 60_000
"""Environment steps of adversarial learners where it is to be quick."""
HORIZON = 12
"""Steps over which errors are counted."""


class Always(AbstractPolicy):
    """Takes the same action whatever it sees."""

    action: int

    def distribution(self, obs):
        return Categorical(jnp.where(jnp.arange(5) == self.action, 0.0, -30.0))


def drives(policy: Any, episodes: int, env_id: str = MERGE, **settings: Any) -> dict[str, Any]:
    """How whole episodes of a policy go."""
    return summary(played(policy, episodes, env_id, **settings))


def played(
    policy: Any,
    episodes: int,
    env_id: str = MERGE,
    *,
    env_kwargs: dict[str, Any] | None = None,
    backend: Any = "auto",
    deterministic: bool = True,
) -> Sequence[Episode]:
    """Whole episodes of a policy."""
    env: Any = make(env_id, num_envs=min(episodes, 50), env_kwargs=env_kwargs, backend=backend)
    found = record(env, policy, episodes, seed=10_001, deterministic=deterministic).episodes
    env.close()
    return found


def summary(episodes: Sequence[Episode]) -> dict[str, Any]:
    """Crash rate, speed, returns, lengths, and the seconds of those that ended well."""
    crashes = [bool(crashed(np.asarray(e.rewards)[-1:], np.asarray([e.terminated]))[0]) for e in episodes]
    safe = [episode.num_steps for episode, crash in zip(episodes, crashes, strict=True) if not crash]
    returns = [episode.total_reward for episode in episodes]
    return {
        "episodes": len(episodes),
        "crash_rate": float(np.mean(crashes)),
        "mean_speed": float(np.mean(np.concatenate([speeds(np.asarray(e.obs)[1:]) for e in episodes]))),
        "mean_return": float(np.mean(returns)),
        "std_return": float(np.std(returns)),
        "mean_length": float(np.mean([e.num_steps for e in episodes])),
        "std_length": float(np.std([e.num_steps for e in episodes])),
        "seconds": float(np.mean(safe)) if safe else math.nan,
    }


def begins_like_envpool(episode: Episode) -> bool:
    """Whether all traffic of merge-v0 that is seen at first is in the right lane: it always is in EnvPool, and a
    quarter of the time in highway-env, which draws the lanes."""
    road = road_of(MERGE)
    assert road is not None
    return bool(np.all(scene_of(np.asarray(episode.obs)[0], road).others_y[:2] > 2))


@functools.lru_cache(maxsize=8)
def expert_demos(seed: int, env_id: str = MERGE, density: float | None = None) -> Demonstrations:
    """A hundred drives of the scripted driver: `menura demos generate --expert idm --env ENV --seed S`."""
    env_kwargs = {} if density is None else {"vehicles_density": density}
    return record(make(env_id, num_envs=8, env_kwargs=env_kwargs), driver_of(env_id), max(SIZES), seed=seed)


def trained(
    algorithm: str, num_demos: int, seed: int, *, env_id: str = MERGE, density: float | None = None, steps: int = 0
) -> Run:
    """What `menura train ALGORITHM ENV --num-demos N --seed S` trains, with the settings of its preset.

    dagger is given as many labels as the demonstrations have steps.
    """
    env_kwargs = {} if density is None else {"vehicles_density": density}
    demos = expert_demos(seed, env_id, density).take(num_demos)
    spec = make(env_id).spec
    preset = find_preset(algorithm, {"gail": "trpo", "airl": "trpo"}.get(algorithm), env_id, spec)
    learner, total_steps, num_envs = learner_of(preset), steps or preset.total_steps, preset.num_envs
    if algorithm == "dagger":
        learner, num_envs, total_steps = labels_in_rounds(demos.num_steps)
    env: Any = make(env_id, num_envs=num_envs, env_kwargs=env_kwargs)
    asked = driver_of(env_id, env_kwargs) if algorithm == "dagger" else None
    run = train(learner, env, None if asked else demos, total_steps=total_steps, seed=seed, expert=asked)
    env.close()
    return run


def labels_in_rounds(count: int) -> tuple[DAgger, int, int]:
    """DAgger that asks ``count`` times in about eight rounds: learner, copies, and steps in all."""
    num_envs = 1 if count < 40 else 4
    num_steps = max(1, round(count / num_envs / 8))
    bc = BC(num_batches=1000, patience=0, heldout_fraction=0.0)
    size = num_envs * num_steps
    return DAgger(bc, num_steps=num_steps), num_envs, max(1, count // size) * size


def by_labels(num_demos: int, seed: int, episodes: int) -> dict[str, Any]:
    """Cloning of drives, and DAgger with as many labels."""
    found = {}
    for name, algorithm in (("cloning", "bc"), ("dagger", "dagger")):
        policy = trained(algorithm, num_demos, seed).policy
        found[name] = drives(policy, episodes) | {"errors": errors_by_time(policy, seed)}
    return found


def errors_by_time(policy: AbstractPolicy, seed: int, *, copies: int = 400) -> list[float]:
    """The chance at each step of a drive that the learner does not do what the expert would, of those that still
    drive then."""
    env: Any = make(MERGE, num_envs=copies)
    begin = env.reset(20_000 + seed)
    asked = asking(env, driver_of(MERGE))
    _, visited = asked(begin, policy, share=0.0, key=jax.random.key(seed), num_steps=HORIZON)
    env.close()
    ended = np.asarray(visited.terminated) | np.asarray(visited.truncated)
    first = np.cumsum(ended, axis=0) - ended == 0
    own = np.asarray(jax.vmap(jax.vmap(policy))(jnp.asarray(visited.obs)))
    wrong = (own != np.asarray(visited.action)) & first
    return (wrong.sum(axis=1) / np.maximum(first.sum(axis=1), 1)).round(4).tolist()


def half_width(rates: Sequence[float], episodes: int) -> float:
    """Of the 95% interval of a crash rate: the wider of Student's over seeds and Wilson's over all episodes."""
    low, high = crash_interval(round(sum(rates) * episodes), len(rates) * episodes)
    return max((high - low) / 2, over_seeds(rates))


def over_seeds(values: Sequence[float]) -> float:
    """Half-width of Student's 95% interval of a mean over seeds; 0 for a single one."""
    if len(values) < 2:
        return 0.0
    return float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values)))


def in_words(results: Sequence[dict[str, Any]]) -> str:
    """A cell of the study."""
    rates = [r["crash_rate"] for r in results]
    width = half_width(rates, results[0]["episodes"])
    safe = [r["seconds"] for r in results if not math.isnan(r["seconds"])]
    passed = f", past the ramp in {spread(safe, 1)} s" if safe else ""
    speed = spread([r["mean_speed"] for r in results], 1)
    return f"crashes in {100 * np.mean(rates):.1f}% ± {100 * width:.1f} of the drives, {speed} m/s{passed}"


def cell_of(algorithm: str, num_demos: int) -> str:
    """The text of a row of the study."""
    if algorithm == "expert":
        return f"{MERGE}, the scripted driver"
    many = f"{num_demos} demonstration{'' if num_demos == 1 else 's'}"
    return f"{MERGE}, {algorithm}, {'labels for each step of ' if algorithm == 'dagger' else ''}{many}"


def measured(algorithm: str, num_demos: int, seed: int, *, quick: bool = False) -> dict[str, Any]:
    """One seed of a cell."""
    episodes = EPISODES["quick" if quick else "full"]
    if algorithm == "expert":
        return drives(driver_of(MERGE), episodes)
    steps = QUICK_STEPS if quick and algorithm in ("gail", "airl") else 0
    started = time.perf_counter()
    run = trained(algorithm, num_demos, seed, steps=steps)
    seconds = time.perf_counter() - started
    return drives(run.policy, episodes) | {"train_seconds": seconds, "steps_per_second": run.steps_per_second}


def study(arguments: Any) -> None:
    """Every algorithm from every number of demonstrations."""
    row = functools.partial(measure_seeds, NAME, arguments=arguments, describe=in_words, title=TITLE)
    row(
        row=cell_of("expert", 0),
        asked="–",
        command=".venv/bin/python benchmarks/merge.py --only 'scripted driver'",
        seeds=range(1),
        one=lambda seed: measured("expert", 0, seed),
        good=None,
    )
    expert: dict[str, Any] = (
        known_rows(NAME).get(cell_of("expert", 0), {}).get("detail", {}).get("by_seed", {}).get("0", {})
    )
    limit = expert.get("crash_rate", 0.0) + SLACK
    for algorithm in ALGORITHMS:
        for num_demos in SIZES:
            text = cell_of(algorithm, num_demos)
            command = f"menura train {algorithm} {MERGE} --demos merge.npz --num-demos {num_demos} --seed S"
            if algorithm == "dagger":
                command = f".venv/bin/python benchmarks/merge.py --only '{text}'"
            asks = num_demos == 20
            row(
                row=text,
                asked="crash rate within 2 points of the expert's, 5 of 5 seeds" if asks else "–",
                command=command,
                seeds=range(5),
                one=functools.partial(measured, algorithm, num_demos),
                good=(lambda result: result["crash_rate"] <= limit) if asks else None,
            )


def agreement(arguments: Any, *, episodes: int = 1000, slow_episodes: int = 200, crowded_episodes: int = 60) -> None:
    """The same policies on EnvPool and on highway-env's own simulator; of merge-v0 where both begin alike.

    highway-v0 has 50 cars around the driver, and its own simulator takes 10 s and more for an episode.
    """
    policies: dict[str, Callable[[str], tuple[Any, bool]]] = {
        "idle": lambda env: (Always(1), True),
        "slower": lambda env: (Always(4), True),
        "random": lambda env: (UniformPolicy(make(env).spec), False),
        "the scripted driver": lambda env: (driver_of(env), True),
    }

    def one(env_id: str, name: str) -> dict[str, Any]:
        policy, deterministic = policies[name](env_id)
        ours = drives(policy, episodes, env_id, deterministic=deterministic)
        num_theirs = crowded_episodes if env_id == "highway-v0" else slow_episodes
        theirs = played(policy, num_theirs, env_id, backend="gymnasium", deterministic=deterministic)
        alike = [episode for episode in theirs if env_id != MERGE or begins_like_envpool(episode)]
        return {"envpool": ours, "highway_env": summary(theirs), "highway_env_alike": summary(alike)}

    def agrees(result: dict[str, Any]) -> bool:
        """Whether no difference is seen at 1%: in crashes by Fisher's exact test, in return and length by Welch's."""
        sides = [result[name] for name in ("envpool", "highway_env_alike")]
        crashes = [round(side["crash_rate"] * side["episodes"]) for side in sides]
        table = [[count, side["episodes"] - count] for count, side in zip(crashes, sides, strict=True)]
        chances = [stats.fisher_exact(table).pvalue]
        for name in ("return", "length"):
            given = [(side[f"mean_{name}"], side[f"std_{name}"], side["episodes"]) for side in sides]
            if any(deviation > 0 for _, deviation, _ in given):
                chances.append(stats.ttest_ind_from_stats(*given[0], *given[1], equal_var=False).pvalue)
            else:
                chances.append(float(math.isclose(given[0][0], given[1][0], abs_tol=1e-3)))
        return bool(min(chances) >= 0.01)

    def describe(results: list[dict[str, Any]]) -> str:
        names = {"envpool": "EnvPool", "highway_env": "highway-env", "highway_env_alike": "where both begin alike"}
        parts = []
        for key, shown in names.items():
            of = results[0][key]
            parts.append(
                f"{shown}: {100 * of['crash_rate']:.1f}% crashes, return {of['mean_return']:.2f}, length "
                f"{of['mean_length']:.1f} ({of['episodes']:,} episodes)"
            )
        return "; ".join(parts[:2] if results[0]["highway_env"] == results[0]["highway_env_alike"] else parts)

    for env_id in (MERGE, HIGHWAY, "highway-v0", "roundabout-v0"):
        for name in policies:
            if "roundabout" in env_id and name == "the scripted driver":
                continue
            measure_seeds(
                NAME,
                f"{env_id}, {name}: EnvPool beside highway-env's own simulator",
                arguments,
                asked="the same crash rate, return and length (no difference at 1%), where both begin alike",
                command=f".venv/bin/python benchmarks/merge.py --only '{env_id}, {name}:'",
                seeds=range(1),
                one=lambda seed, env_id=env_id, name=name: one(env_id, name),
                good=agrees,
                describe=describe,
                title=TITLE,
            )


def agents(arguments: Any) -> None:
    """What learns on the environment's own reward, as `menura train ppo|dqn merge-v0` does."""

    def one(algorithm: str, seed: int) -> dict[str, Any]:
        preset = find_preset(algorithm, None, MERGE, make(MERGE).spec)
        env: Any = make(MERGE, num_envs=preset.num_envs)
        run = train(learner_of(preset), env, total_steps=preset.total_steps, seed=seed)
        env.close()
        return drives(run.policy, EPISODES["full"])

    for algorithm in ("ppo", "dqn"):
        measure_seeds(
            NAME,
            f"{MERGE}, {algorithm} on the environment's own reward",
            arguments,
            asked="–",
            command=f"menura train {algorithm} {MERGE} --seed S",
            seeds=range(3),
            one=functools.partial(one, algorithm),
            good=None,
            describe=lambda results: f"{in_words(results)}, return {spread([r['mean_return'] for r in results], 2)}",
            title=TITLE,
        )


def labels(arguments: Any) -> None:
    """Cloning beside DAgger at the same number of labels."""

    def describe(results: list[dict[str, Any]]) -> str:
        parts = []
        for name in ("cloning", "dagger"):
            of_name = [result[name] for result in results]
            parts.append(
                f"{name} {in_words(of_name)}, {np.mean([sum(r['errors']) for r in of_name]):.2f} errors a drive"
            )
        return "; ".join(parts)

    for num_demos in SIZES[:3]:
        count = 13 * num_demos
        measure_seeds(
            NAME,
            f"{MERGE}, {count} labels ({num_demos} drive{'s' if num_demos > 1 else ''}): cloning beside DAgger",
            arguments,
            asked="the shift, with intervals",
            command=f".venv/bin/python benchmarks/merge.py --only '{count} labels'",
            seeds=range(5),
            one=lambda seed, num_demos=num_demos: by_labels(num_demos, seed, EPISODES["full"]),
            good=None,
            describe=describe,
            title=TITLE,
        )


def shifted(algorithm: str, seed: int, *, episodes: int = 1000, num_demos: int = 20, steps: int = 0) -> dict[str, Any]:
    """Trained in light traffic, and driven there and in dense traffic."""
    if algorithm == "expert":
        policy: Any = driver_of(HIGHWAY)
    else:
        policy = trained(
            algorithm, num_demos, seed, env_id=HIGHWAY, density=LIGHT["vehicles_density"], steps=steps
        ).policy
    return {
        name: drives(policy, episodes, HIGHWAY, env_kwargs=env_kwargs)
        for name, env_kwargs in (("light", LIGHT), ("dense", DENSE))
    }


def shift(arguments: Any) -> None:
    """Train in light traffic, drive in dense."""

    def describe(results: list[dict[str, Any]]) -> str:
        return "; ".join(f"{name}: {in_words_of_highway([r[name] for r in results])}" for name in ("light", "dense"))

    for algorithm in ("expert", "bc", "dagger", "gail"):
        name = "the scripted driver" if algorithm == "expert" else f"{algorithm} from 20 drives in light traffic"
        measure_seeds(
            NAME,
            f"{HIGHWAY}, {name}, in light traffic (density 0.5) and in dense (1.0)",
            arguments,
            asked="–",
            command=f".venv/bin/python benchmarks/merge.py --only '{HIGHWAY}, {name}, in'",
            seeds=range(1 if algorithm == "expert" else 5),
            one=functools.partial(shifted, algorithm),
            good=None,
            describe=describe,
            title=TITLE,
        )


def in_words_of_highway(results: Sequence[dict[str, Any]]) -> str:
    """Where drives end after 30 seconds, and there is nothing to get past."""
    return in_words([result | {"seconds": math.nan} for result in results])


def throughput(arguments: Any) -> None:
    """Steps a second of a whole training of GAIL, beside highway-env's own simulator alone."""

    def one(seed: int) -> dict[str, Any]:
        run = trained("gail", 20, seed)
        env: Any = make(MERGE, num_envs=1, backend="gymnasium")
        env.reset(0)
        started, steps = time.perf_counter(), 300
        for _ in range(steps):
            env.step(np.array([4]))
        theirs = steps / (time.perf_counter() - started)
        env.close()
        return {"gail": run.steps_per_second, "highway_env": theirs}

    measure_seeds(
        NAME,
        f"{MERGE}: steps/s of training gail, beside highway-env's own simulator with nobody learning",
        arguments,
        asked="≥ 100×",
        command=".venv/bin/python benchmarks/merge.py --only steps/s",
        seeds=range(1),
        one=one,
        good=lambda result: result["gail"] >= 100 * result["highway_env"],
        describe=lambda results: (
            f"{results[0]['gail']:,.0f} against {results[0]['highway_env']:,.0f}: "
            f"{results[0]['gail'] / results[0]['highway_env']:.0f}×"
        ),
        title=TITLE,
    )


def as_json(cells: dict[tuple[str, int], list[dict[str, Any]]]) -> dict[str, dict[str, dict[str, float]]]:
    """What `--json` prints."""
    told: dict[str, dict[str, dict[str, float]]] = {}
    for (algorithm, num_demos), results in cells.items():
        rates = [result["crash_rate"] for result in results]
        told.setdefault(algorithm, {})[str(num_demos)] = {
            "crash_rate": float(np.mean(rates)),
            "ci95": half_width(rates, results[0]["episodes"]),
            "mean_speed": float(np.mean([result["mean_speed"] for result in results])),
        }
    return told


def with_intervals(cells: dict[tuple[str, int], list[dict[str, Any]]]) -> merge_figures.Study:
    """Crash rate (%), speed (m/s) and seconds until past the ramp of every cell, each with its half-width."""
    told: merge_figures.Study = {}
    for (algorithm, num_demos), results in cells.items():
        rates = [result["crash_rate"] for result in results]
        cell = {"crashes": (100 * float(np.mean(rates)), 100 * half_width(rates, results[0]["episodes"]))}
        for name, measure in (("speed", "mean_speed"), ("seconds", "seconds")):
            values = [result[measure] for result in results if not math.isnan(result[measure])]
            cell[name] = (float(np.mean(values)), over_seeds(values)) if values else (math.nan, 0.0)
        told.setdefault(algorithm, {})[num_demos] = cell
    return told


def known_cells() -> dict[tuple[str, int], list[dict[str, Any]]]:
    """The study as far as it has been measured."""
    rows = known_rows(NAME)
    keys = [("expert", 0), *((algorithm, size) for algorithm in ALGORITHMS for size in SIZES)]
    found = {key: list(rows.get(cell_of(*key), {}).get("detail", {}).get("by_seed", {}).values()) for key in keys}
    return {key: results for key, results in found.items() if results}


def quick_cells() -> dict[tuple[str, int], list[dict[str, Any]]]:
    """One seed of everything, small."""
    cells = {("expert", 0): [measured("expert", 0, 0, quick=True)]}
    for algorithm in ALGORITHMS:
        for size in SIZES:
            cells[algorithm, size] = [measured(algorithm, size, 0, quick=True)]
            print(f"{cell_of(algorithm, size)}: {in_words(cells[algorithm, size])}", file=sys.stderr, flush=True)
    return cells


def draw_measured(cells: dict[tuple[str, int], list[dict[str, Any]]]) -> None:
    """The pictures of the rows that there are."""

    def seeds_of(part: str) -> dict[str, list[dict[str, Any]]]:
        rows = {text: row["detail"]["by_seed"].values() for text, row in known_rows(NAME).items() if part in text}
        return {text: list(seeds) for text, seeds in rows.items()}

    if len(cells) > 1:
        merge_figures.study(with_intervals(cells))
    counts = {int(text.split(", ")[1].split()[0]): seeds for text, seeds in seeds_of(" labels (").items()}
    if counts:
        merge_figures.errors(counts)
    told = {}
    for text, seeds in seeds_of("in light traffic (density").items():
        name = "expert" if "scripted" in text else text.split(", ")[1].split()[0]
        rates = {where: [seed[where]["crash_rate"] for seed in seeds] for where in ("light", "dense")}
        told[name] = {
            where: (float(np.mean(all_of)), half_width(all_of, seeds[0][where]["episodes"]))
            for where, all_of in rates.items()
        }
    if told:
        merge_figures.shift(told)


def draw_trained(*, steps: int = 0) -> None:
    """The pictures that need policies and scores: the learned reward, and a crash."""
    runs = {name: trained(name, 20, 0, steps=steps) for name in ("gail", "airl")}
    merge_figures.reward_maps(runs, make(MERGE).spec, expert_demos(0).take(20))
    cloned = trained("bc", 1, 0).policy
    policies = {"expert": driver_of(MERGE), "BC, 1 demonstration": cloned, "GAIL, 20": runs["gail"].policy}
    merge_figures.crash_stills(policies, seed=first_crash(cloned))


def first_crash(policy: AbstractPolicy) -> int:
    """The first seed from which it crashes."""
    from menura.report.footage import record as film

    return next((seed for seed in range(50) if film(MERGE, policy, seed=seed).crashed), 0)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--seeds", type=int, help="measure at most this many seeds of each row")
    parser.add_argument("--quick", action="store_true", help="one seed of the study, small; nothing is kept")
    parser.add_argument("--json", action="store_true", help="print the study as one JSON object and nothing else")
    arguments = parser.parse_args()
    # Rows are shown as they are measured: not among what --json prints.
    with contextlib.redirect_stdout(sys.stderr) if arguments.json else contextlib.nullcontext():
        if arguments.quick:
            cells = quick_cells()
        else:
            for part in (agreement, agents, study, labels, shift, throughput):
                part(arguments)
            cells = known_cells()
            draw_measured(cells)
            if not arguments.only:
                draw_trained()
    if arguments.json:
        print(json.dumps(as_json(cells)))


if __name__ == "__main__":
    main()
