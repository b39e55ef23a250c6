"""A corridor in which cloning fails and DAgger does not, though both learn the same way from as many labels."""

import jax.numpy as jnp
import numpy as np
import pytest

from menura.core import RequestError
from menura.environments.base import NativeEnvs
from menura.environments.native.probes import Corridor
from menura.evaluation import evaluate
from menura.imitation.bc import BC
from menura.imitation.dagger import DAgger
from menura.run.train import train

LENGTH = 40


CORRIDOR = Corridor(one_in=10, max_episode_steps=LENGTH)


class Guide:
    """Never misses a turn, and knows the way back."""

    def predict(self, obs, deterministic):
        return np.asarray(CORRIDOR.right_action(jnp.asarray(obs))), None


def walked(share_decay):
    """Mean return after 400 labels, where the expert acts with this share in later rounds."""
    env = NativeEnvs(CORRIDOR, 5, "Corridor")
    bc = BC(num_batches=300, batch_size=32, hidden_sizes=(8,), learning_rate=1e-2, patience=0, heldout_fraction=0.0)
    learner = DAgger(bc, num_steps=20, share_decay=share_decay)
    run = train(learner, env, total_steps=400, seed=0, expert=Guide())
    assert run.state.labels.size == 400
    return evaluate(env, run.policy, num_episodes=50).mean


def test_in_a_corridor_cloning_is_lost_at_its_first_error_and_dagger_comes_back():
    # One error in ten steps: cloning stays inside for ten of them, DAgger is outside for one in ten.
    assert walked(1.0) < 15
    assert walked(0.0) > 33


def test_dagger_without_an_expert_is_refused():
    with pytest.raises(RequestError, match="asks an expert"):
        train(DAgger(), NativeEnvs(CORRIDOR, 5, "Corridor"), total_steps=100)
    with pytest.raises(RequestError, match="neither a policy nor has a method predict"):
        train(DAgger(), NativeEnvs(CORRIDOR, 5, "Corridor"), total_steps=100, expert=object())
