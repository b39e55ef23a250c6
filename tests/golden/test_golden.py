"""The first updates of every learner at a fixed seed, to 1e-4. `make golden` writes them anew; the changelog then
says so under "Numbers change"."""

import json
import os
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.learners import SMALL, SPECS, VARIANTS, specs_of, update_once

GOLDEN = Path(__file__).parent


@pytest.mark.parametrize("name", SMALL | VARIANTS)
def test_the_first_updates_give_the_numbers_on_file(name):
    measured = {}
    for kind in specs_of(name):
        spec = SPECS[kind]
        learner = (SMALL | VARIANTS)[name]
        state = learner.init(spec, key=jax.random.key(0))
        update = jax.jit(lambda s, k, learner=learner, spec=spec: update_once(learner, s, spec, k))
        rows = []
        for i in range(3):
            state, metrics = update(state, jax.random.key(i))
            rows.append({key: round(float(value), 6) for key, value in sorted(metrics.items())})
        measured[kind] = rows
    path = GOLDEN / f"{name}.json"
    if os.environ.get("MENURA_WRITE_GOLDEN"):
        path.write_text(json.dumps(measured, indent=1) + "\n")
    stored = json.loads(path.read_text())
    assert stored.keys() == measured.keys()
    for kind, rows in measured.items():
        for got, want in zip(rows, stored[kind], strict=True):
            assert got.keys() == want.keys()
            for metric, value in got.items():
                np.testing.assert_allclose(value, want[metric], rtol=1e-3, atol=1e-4, err_msg=f"{kind} {metric}")
