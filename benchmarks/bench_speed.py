"""Speed as ratios measured in one run: against the environment alone, against `imitation`, and of the program itself.

.venv/bin/python benchmarks/bench_speed.py --data DATA [--only TEXT]

The peer runs in its own environment, which benchmarks/peer/make_env.py makes in .peer-venv.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from by_seed import MENURA, menura
from common import REPOSITORY, command_of_this_script, parser_of, show, wanted, write_rows

from menura import load, make, train
from menura.environments.registry import make as make_env
from menura.imitation.bc import BC
from menura.run.presets import find_preset, learner_of

NAME, TITLE = "speed", "Speed"
PEER = REPOSITORY / ".peer-venv" / "bin" / "python"


def main() -> None:
    parser = parser_of(__doc__)
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("--data DATA is needed.")

    def keep(row, asked, passed, measured, *data, seeds=(0,), detail=None):
        entry = {
            "row": row,
            "asked": asked,
            "measured": measured,
            "seeds": list(seeds),
            "passed": passed,
            "command": command_of_this_script(),
            "detail": detail or {},
        }
        write_rows(NAME, [entry], title=TITLE, data=data)
        show([entry])

    def file_of(env):
        return arguments.data / "gail_experts" / f"{env}.npz"

    row = "`menura --help` beyond a bare interpreter"
    if wanted(NAME, row, arguments):
        bare = median_seconds(sys.executable, "-c", "pass")
        extra = median_seconds(MENURA, "--help") - bare
        keep(row, "≤ 0.35 s", extra <= 0.35, f"{extra:.3f} s (bare {bare:.3f} s)", seeds=())

    for env, asked in (("Hopper-v5", 0.80), ("Humanoid-v5", 0.75)):
        row = f"{env}: GAIL training throughput ÷ environment stepped alone, EnvPool, 64 envs"
        if wanted(NAME, row, arguments):
            pairs = [throughput(env, arguments.data) for _ in range(3)]
            ratios = [ours / alone for ours, alone in pairs]
            ours, alone = (statistics.median(column) for column in zip(*pairs, strict=True))
            ratio = statistics.median(ratios)
            text = f"{ratio:.2f} (median of {len(ratios)}; {ours:,.0f} of {alone:,.0f} steps/s)"
            keep(row, f"≥ {asked:.2f}", ratio >= asked, text, file_of(env), detail={"ratios": ratios})

    row = "first update: compilation, cold and from the cache (Hopper-v5 preset)"
    if wanted(NAME, row, arguments):
        cold, warm = first_update_seconds(arguments.data)
        met = cold <= 10 and warm <= 2
        keep(row, "≤ 10 s cold, ≤ 2 s from the cache", met, f"{cold:.1f} s, {warm:.1f} s", file_of("Hopper-v5"))

    row = "`make demo` after set-up"
    if wanted(NAME, row, arguments):
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            subprocess.run([MENURA, "demo", "--out", Path(folder) / "demo"], check=True, capture_output=True)
            seconds = time.perf_counter() - started
        keep(row, "≤ 120 s", seconds <= 120, f"{seconds:.0f} s")

    row = "BC against `imitation`, batch 32, 32-32 network, samples/s, one run"
    if wanted(NAME, row, arguments):
        ours, theirs = cloning_throughput(arguments.data), peer("bc_throughput.py")["samples_per_second"]
        text = f"{ours / theirs:.0f}× ({ours:,.0f} against {theirs:,.0f} samples/s)"
        keep(row, "≥ 30×", ours >= 30 * theirs, text, file_of("Hopper-v5"))

    row = "CartPole-v1, GAIL against `imitation`'s quick start, the same 8 Gymnasium environments, steps/s, one run"
    native = "CartPole-v1, GAIL on the JAX environment against `imitation`'s quick start, steps/s, one run"
    if wanted(NAME, row, arguments) or wanted(NAME, native, arguments):
        demos = REPOSITORY / "benchmarks" / "experts" / "CartPole-v1.npz"
        theirs = peer("gail_cartpole.py", "--demos", demos)
        speed = theirs["steps_per_second"]
        common = ["--demos", demos, "--seed", 0, "--eval-every", 0, "--total-steps", 200_000]
        ours = menura("train", "gail", "CartPole-v1", *common, "--backend", "gymnasium", "--num-envs", 8)
        ratio = ours["steps_per_second"] / speed
        text = (
            f"{ratio:.1f}× ({ours['steps_per_second']:,.0f} against {speed:,.0f}; return after 200 k steps "
            f"{ours['mean_return']:.0f} against {theirs['mean_return']:.0f})"
        )
        keep(row, "≥ 4×", ratio >= 4, text, demos)
        fast = menura("train", "gail", "CartPole-v1", *common)
        solved = seconds_to_500(demos)
        ratio = fast["steps_per_second"] / speed
        text = (
            f"{ratio:.1f}× ({fast['steps_per_second']:,.0f} against {speed:,.0f}); 500 after {solved:.1f} s of training"
        )
        keep(native, "≥ 15×; 500 within 10 s after compilation", ratio >= 15 and solved <= 10, text, demos)

    for env, seconds in (("Hopper-v5", 1200), ("HalfCheetah-v5", 600)):
        row = f"{env}: training time to 95% of the expert beside `imitation`, same demonstrations"
        if wanted(NAME, row, arguments):
            demos = file_of(env)
            theirs = peer("gail_mujoco.py", env.replace("v5", "v4"), "--demos", demos, "--wall-limit", seconds)
            ours = seconds_to_95(env, demos)
            reached = theirs.get("seconds_to_95")
            text = f"{ours['seconds']:.0f} s, {ours['env_steps'] / 1e6:.2f} M steps; imitation "
            if reached:
                text += f"{reached:.0f} s, {theirs['env_steps_to_95'] / 1e6:.2f} M: {reached / ours['seconds']:.1f}×"
            else:
                best = theirs["best_return"] / theirs["expert_return"]
                text += f"{100 * best:.0f}% at best in {theirs['seconds']:.0f} s"
            asked = "≥ 3× faster on Hopper; `imitation` does not get there on HalfCheetah"
            keep(row, asked, reached is None or reached >= 3 * ours["seconds"], text, demos, detail=theirs)


def median_seconds(*command, repeats: int = 9) -> float:
    """Wall time of a program, the median of several runs."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def peer(script: str, *arguments) -> dict:
    """What a script of benchmarks/peer prints when the peer's own Python runs it."""
    if not PEER.exists():
        subprocess.run([sys.executable, REPOSITORY / "benchmarks/peer/make_env.py"], check=True)
    command = [PEER, REPOSITORY / "benchmarks" / "peer" / script, *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def throughput(env_id: str, data: Path) -> tuple[float, float]:
    """Steps a second of GAIL with the preset of the environment's family, and of the environment alone meanwhile.

    The environment's own rate is that of the very steps that training took, timed inside the same run: episodes
    grow longer as the learner improves, and a random policy's many restarts would make the environment look slower.
    """
    num_envs = 64
    preset = find_preset("gail", "trpo", env_id, make_env(env_id).spec)
    learner = learner_of(preset)
    name = {"Humanoid-v5": "Humanoid-v5-oldmass"}.get(env_id, env_id)
    demos = load(data / "gail_experts" / f"{name}.npz").take(4)
    env = make_env(env_id, num_envs=num_envs, backend="envpool")
    if demos.episodes[0].obs.shape[1] != env.spec.obs_size:
        # The speed is the same whoever the expert is: what is missing of today's observation is filled with zeros.
        demos = padded(demos, env.spec.obs_size)
    seconds, count, inner = [0.0], [0], env.step

    def timed(action):
        started = time.perf_counter()
        step = inner(action)
        seconds[0] += time.perf_counter() - started
        count[0] += num_envs
        return step

    env.step = timed
    updates = 40 if env_id.startswith("Hopper") else 20
    run = train(learner, env, demos, total_steps=updates * learner.num_steps * num_envs)
    env.close()
    return run.steps_per_second, count[0] / seconds[0]


def padded(demos, obs_size: int):
    """The demonstrations with zeros after each observation."""
    import dataclasses

    def one(episode):
        missing = obs_size - episode.obs.shape[1]
        obs = np.pad(np.asarray(episode.obs)[:, :obs_size], ((0, 0), (0, max(missing, 0))))
        return dataclasses.replace(episode, obs=obs)

    return dataclasses.replace(demos, episodes=tuple(map(one, demos.episodes)))


def first_update_seconds(data: Path) -> tuple[float, float]:
    """Seconds that compiling the first update takes in a new process, without and with a filled cache."""
    script = (
        "import time, sys, menura, jax; from menura.run.presets import *; from menura.run.train import Watcher\n"
        "env = menura.make('Hopper-v5', num_envs=32)\n"
        "learner = learner_of(find_preset('gail', 'trpo', 'Hopper-v5', env.spec))\n"
        "demos = menura.load(sys.argv[1]).take(4).subsample(every=20)\n"
        "times = []\n"
        "class W(Watcher):\n"
        "    def on_update(self, progress, metrics): times.append(time.perf_counter())\n"
        "started = time.perf_counter()\n"
        "menura.train(learner, env, demos, total_steps=4 * 32 * learner.num_steps, watchers=[W()])\n"
        "print((times[0] - started) - (times[3] - times[2]))\n"
    )
    import os

    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {
            "JAX_COMPILATION_CACHE_DIR": cache,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
        }
        command = [sys.executable, "-c", script, str(data / "gail_experts" / "Hopper-v5.npz")]
        cold, warm = (
            float(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)
            for _ in range(2)
        )
    return cold, warm


def cloning_throughput(data: Path) -> float:
    """Expert steps a second in cloning, after compilation: batch 32, two layers of 32."""
    demos = load(data / "gail_experts" / "Hopper-v5.npz")
    learner = BC(batch_size=32, hidden_sizes=(32, 32), num_batches=1000, patience=0)
    return train(learner, None, demos, spec=make("Hopper-v5").spec, total_steps=3_000_000).steps_per_second


def seconds_to_500(demos_path: Path) -> float:
    """Training seconds until the mean action of GAIL on the JAX CartPole first earns 500 in ten of ten episodes."""
    env = make("CartPole-v1", num_envs=32)
    learner = learner_of(find_preset("gail", "trpo", "CartPole-v1", env.spec))
    return first_reaching(learner, env, "CartPole-v1", load(demos_path), 500.0, every=8_192, total_steps=300_000)[
        "seconds"
    ]


def seconds_to_95(env_id: str, demos_path: Path) -> dict:
    """Training seconds and steps until the mean action first earns 95% of the expert's return."""
    shape = make(env_id).spec
    preset = find_preset("gail", "trpo", env_id, shape)
    demos = load(demos_path).take(4).subsample(every=20)
    env = make(env_id, num_envs=preset.num_envs)
    goal = 0.95 * demos.expert_return
    return first_reaching(learner_of(preset), env, env_id, demos, goal, every=32_768, total_steps=preset.total_steps)


def first_reaching(learner, env, env_id, demos, goal, *, every, total_steps) -> dict:
    """Train with an evaluation every so often; the standing at the first one that reaches the goal."""
    from menura.run.train import Watcher

    class Stopwatch(Watcher):
        found = None

        def on_evaluation(self, progress, evaluation):
            if self.found is None and evaluation.mean >= goal:
                self.found = {"seconds": progress.seconds, "env_steps": progress.env_steps}

    watch = Stopwatch()
    evaluation_env = make(env_id, num_envs=10)
    train(learner, env, demos, total_steps=total_steps, eval_env=evaluation_env, eval_every=every, watchers=[watch])
    return watch.found or {"seconds": float("inf"), "env_steps": total_steps}


if __name__ == "__main__":
    main()
