"""SAC beside Stable-Baselines3's on the same cores: gradient steps a second, and the return on HalfCheetah.

.venv/bin/python benchmarks/bench_sac.py [--only TEXT] [--seeds N] [--steps N] [--again] [--keep-peer]

The peer runs in its own environment, which benchmarks/peer/make_env.py makes in .peer-venv. A seed of HalfCheetah's row
takes hours on two cores at 300,000 steps; `--steps 50000` makes a row of its own. With `--again --keep-peer` ours is
measured again, and what the peer had is kept, since no change of ours changes it.
"""

import statistics
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from bench_speed import peer
from by_seed import measure_seeds, menura, spread
from common import command_of_this_script, known_rows, parser_of, show, wanted, write_rows

from menura.core import BoxActions, Spec, Transition
from menura.environments.collect import QUICK_COMPILATION
from menura.forward.sac import SAC

NAME, TITLE = "sac", "SAC beside Stable-Baselines3"
ROUNDS = 3
NUM_UPDATES = 200


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--seeds", type=int, help="measure at most this many seeds of HalfCheetah's row")
    parser.add_argument("--steps", type=int, default=300_000, help="environment steps of HalfCheetah's row")
    parser.add_argument("--keep-peer", action="store_true", help="keep the peer's returns where they are known")
    arguments = parser.parse_args()

    row = "SAC gradient steps, 256-256, batch 256, HalfCheetah's shapes, against Stable-Baselines3, one run"
    if wanted(NAME, row, arguments):
        entry = {"row": row, "asked": "≥ 1.5×", "seeds": [0], "command": command_of_this_script(), **gradient_steps()}
        write_rows(NAME, [entry], title=TITLE)
        show([entry])

    steps = arguments.steps
    of_cheetah = f"HalfCheetah-v5, SAC: return after {steps:,} steps beside Stable-Baselines3's"
    measured = known_rows(NAME).get(of_cheetah, {}).get("detail", {}).get("by_seed", {})
    known = {int(seed): result["theirs"] for seed, result in measured.items()} if arguments.keep_peer else {}
    measure_seeds(
        NAME,
        of_cheetah,
        arguments,
        asked="at least Stable-Baselines3's",
        command=f".venv/bin/python benchmarks/bench_sac.py --only HalfCheetah-v5 --steps {steps}",
        seeds=range(3),
        one=partial(side_by_side, steps=steps, known=known),
        good=lambda r: r["mean_return"] >= r["theirs"]["mean_return"],
        describe=lambda results: (
            f"return {spread([r['mean_return'] for r in results])} against "
            f"{spread([r['theirs']['mean_return'] for r in results])}; "
            f"{spread([r['process_seconds'] / 60 for r in results])} min against "
            f"{spread([r['theirs']['seconds'] / 60 for r in results])} min"
        ),
        title=TITLE,
    )


def gradient_steps() -> dict:
    """Ours and the peer's in turn, the peer with one thread and with two, of which the faster counts."""
    ours, theirs, ratios = [], [], []
    update = our_update()
    for _ in range(ROUNDS):
        ours.append(update())
        theirs.append(max(map(peer_update, (1, 2))))
        ratios.append(ours[-1] / theirs[-1])
    ratio = statistics.median(ratios)
    return {
        "measured": (
            f"{ratio:.2f}× (median of {ROUNDS}; {1000 / statistics.median(ours):.1f} against "
            f"{1000 / statistics.median(theirs):.1f} ms)"
        ),
        "passed": ratio >= 1.5,
        "detail": {"ours": ours, "theirs": theirs, "ratios": ratios},
    }


def peer_update(threads: int) -> float:
    """The peer's gradient steps a second."""
    return peer("sac_updates.py", "--threads", threads, "--num-updates", NUM_UPDATES)["updates_per_second"]


def our_update(num_updates: int = NUM_UPDATES):
    """A function that makes gradient steps, and says how many there were in a second."""
    spec = Spec(17, BoxActions((-1.0,) * 6, (1.0,) * 6))
    learner = SAC(num_updates=num_updates, replay_size=10_000, learning_starts=0)
    rng = np.random.default_rng(0)
    obs, next_obs = rng.normal(size=(2, 10, 1000, spec.obs_size)).astype(np.float32)
    no, zeros = np.zeros((10, 1000), bool), np.zeros((10, 1000), np.float32)
    action = rng.uniform(-1, 1, (10, 1000, spec.actions.size)).astype(np.float32)
    rows = Transition(obs, action, rng.normal(size=(10, 1000)).astype(np.float32), next_obs, no, no, zeros)
    state = learner.store(learner.init(spec, key=jax.random.key(0)), jax.tree.map(jnp.asarray, rows))
    learn = jax.jit(
        lambda state, key: learner.learn(state, lambda step: step.reward, key=key), compiler_options=QUICK_COMPILATION
    )
    standing = [jax.block_until_ready(learn(state, jax.random.key(1))[0])]

    def once() -> float:
        started = time.perf_counter()
        standing[0], _ = jax.block_until_ready(learn(standing[0], jax.random.key(2)))
        return num_updates / (time.perf_counter() - started)

    return once


def side_by_side(seed: int, *, steps: int, known: dict[int, dict]) -> dict:
    """One seed of ours and one of theirs, measured if not ``known``; -v4 and -v5 have the same dynamics and reward."""
    ours = menura("train", "sac", "HalfCheetah-v5", "--total-steps", steps, "--eval-every", 0, "--seed", seed)
    theirs = known.get(seed) or peer("sac_mujoco.py", "HalfCheetah-v4", "--steps", steps, "--seed", seed)
    return ours | {"theirs": theirs}


if __name__ == "__main__":
    main()
