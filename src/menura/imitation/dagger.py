"""DAgger: cloning on the states that the learner itself visits (Ross, Gordon & Bagnell 2011)."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, Shaped

from menura.core import (
    AbstractImitationLearner,
    ExpertData,
    Hyper,
    Metrics,
    RequestError,
    Spec,
    Transition,
    flatten_time,
)
from menura.forward.on_policy import with_observations
from menura.imitation.bc import BC
from menura.networks import Policy
from menura.replay import Replay


def expert_share(round: Int[Array, ""], *, decay: Hyper) -> Float[Array, ""]:
    """β_i, the chance that the expert acts at a step of round i = 0, 1, …: decay^i, and so 1 in the first one.

    Ross, Gordon & Bagnell 2011, section 3.1: β_i = p^(i−1) counted from 1; with a decay of 0, I(i = 1).
    """
    return jnp.power(jnp.asarray(decay, jnp.float32), round)


def disagreement(action: Shaped[Array, "*action"], label: Shaped[Array, "*action"]) -> Float[Array, ""]:
    """How far an action is from the expert's in one state: 0 or 1 where actions are discrete (the 0-1 loss of Ross &
    Bagnell 2010), their root mean squared difference in the environment's units where they are real."""
    if jnp.issubdtype(label.dtype, jnp.integer):
        return (action != label).astype(jnp.float32)
    return jnp.sqrt(jnp.mean(jnp.square(action - label)))


class DAggerState(eqx.Module):
    """What DAgger learns, and every label that the expert has given."""

    policy: Policy
    opt_state: optax.OptState
    labels: Replay
    """Visited states, with the expert's action in each in place of the one that was carried out."""
    round: Int[Array, ""]
    """Rounds so far."""


class DAgger(AbstractImitationLearner):
    """Dataset aggregation: the learner acts, the expert says what it would have done, and all of it is cloned."""

    bc: BC = BC(num_batches=1000, patience=0, heldout_fraction=0.0)
    """What learns from the labels; its `num_batches` are the gradient steps of a round."""
    num_steps: int = 50
    """Steps each copy of the environment takes in a round; the expert is asked at every one of them."""
    share_decay: Hyper = 0.0
    """In round i the expert acts at a step with probability share_decay^(i - 1): always in the first one; 0 for the
    learner alone after that."""
    max_labels: int = 0
    """Labels that there is room for; 0 for as many as the run asks for."""

    @property
    def heldout_fraction(self) -> float:
        """None: no demonstrations are used, and every label is learned from."""
        return 0.0

    def steps_per_update(self, num_envs: int) -> int:
        """Environment steps in a round, each of which costs one label; refuses settings that cannot be used."""
        if self.num_steps < 1 or not 0 <= self.share_decay <= 1:
            raise RequestError("num_steps must be at least 1, and share_decay must lie between 0 and 1.")
        for name in ("patience", "heldout_fraction"):
            if getattr(self.bc, name) != 0:
                raise RequestError(f"DAgger learns from every label for bc.num_batches steps: set bc.{name} to 0.")
        return num_envs * self.num_steps

    def finished(self, state: DAggerState) -> bool:
        """Never before the labels are used up."""
        return False

    def init(self, spec: Spec, *, key: PRNGKeyArray) -> DAggerState:
        """A fresh policy, and room for the labels."""
        if self.max_labels < 1:
            raise RequestError("max_labels must be at least 1: menura.train fills it in, so set it to call init alone.")
        fresh = self.bc.init(spec, key=key)
        return DAggerState(fresh.policy, fresh.opt_state, Replay(spec, self.max_labels), jnp.zeros((), jnp.int32))

    def policy(self, state: DAggerState) -> Policy:
        """The newest policy."""
        return state.policy

    def final_policy(self, state: DAggerState) -> Policy:
        """The newest policy."""
        # Departs from Ross et al. 2011: they return the best policy of all rounds on validation data, which would
        # cost labels of its own; the last one has learned from all of them.
        return state.policy

    def expert_share(self, state: DAggerState) -> Float[Array, ""]:
        """β of the coming round."""
        return expert_share(state.round, decay=self.share_decay)

    def update(
        self, state: DAggerState, batch: Transition, demos: ExpertData | None, *, key: PRNGKeyArray
    ) -> tuple[DAggerState, Metrics]:
        """Aggregate a rollout ``[time, env]`` whose actions are the expert's labels, and clone all there are."""
        flat = flatten_time(batch)
        differs = jnp.mean(jax.vmap(lambda obs, label: disagreement(state.policy(obs), label))(flat.obs, flat.action))
        labels = state.labels.add(flat)
        # Departs from Ross et al. 2011: each round goes on from the weights of the one before instead of training
        # anew, because most of what is to be learned has been learned already.
        policy, opt_state, loss = self.bc.fit(
            with_observations(state.policy, batch), state.opt_state, labels.rows, labels.size, key=key
        )
        metrics = {
            "loss/train": loss,
            "expert/disagreement": differs,
            "expert/share": self.expert_share(state),
            "expert/labels": labels.size.astype(jnp.float32),
        }
        return DAggerState(policy, opt_state, labels, state.round + 1), metrics
