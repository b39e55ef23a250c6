"""Pictures on the command line: trained with a history, recorded without one, imitated, resumed and shown."""

import jax.numpy as jnp
import numpy as np

from menura.cli import main
from menura.demonstrations import load
from menura.environments import make
from menura.run.artifacts import load_policy, read_json

SMALL = ["--env-kwargs", "rows=5", "columns=3", "balls=1", "--logger", "csv"]


def only_run(folder):
    (config,) = folder.rglob("config.json")
    return config.parent


def test_a_history_goes_through_training_recording_and_imitating(tmp_path):
    options = [
        "--num-envs",
        "8",
        "--num-steps",
        "8",
        "--num-minibatches",
        "2",
        "--num-epochs",
        "1",
        "--hidden-sizes",
        "8",
    ]
    trained = ["train", "ppo", "FlickerCatch-v0", "--history", "3", "--total-steps", "64", "--eval-every", "0"]
    main([*trained, *options, *SMALL, "--out", str(tmp_path / "expert")])
    run = only_run(tmp_path / "expert")
    assert read_json(run / "config.json")["history"] == 3
    assert load_policy(run)[1]["spec"]["parts"] == [
        {"name": "picture", "frames": 3, "height": 5, "width": 3, "channels": 1}
    ]
    main(
        ["demos", "generate", str(run), "--checkpoint", "last", "--episodes", "4", "-o", str(tmp_path / "flicker.npz")]
    )
    demos = load(tmp_path / "flicker.npz")
    assert demos.episodes[0].obs.shape == (5, 5, 3, 1)
    assert demos.episodes[0].obs.dtype == np.uint8
    main(["demos", "validate", str(tmp_path / "flicker.npz"), "--env", "FlickerCatch-v0", *SMALL[:4]])
    cloned = [
        "train",
        "bc",
        str(tmp_path / "flicker.npz"),
        "--history",
        "3",
        "--total-steps",
        "64",
        "--num-batches",
        "2",
    ]
    main([*cloned, "--batch-size", "32", "--hidden-sizes", "8", "--logger", "csv", "--out", str(tmp_path / "clone")])
    policy, config = load_policy(only_run(tmp_path / "clone"))
    obs = make("FlickerCatch-v0", history=3, env_kwargs={"rows": 5, "columns": 3}).spec
    assert config["spec"]["obs_size"] == obs.obs_size == 45
    assert policy(jnp.zeros(45, jnp.uint8)).shape == ()
