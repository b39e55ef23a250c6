"""Imitation in the space of values: no score is trained, and the forward learner's state is the whole state."""

from typing import Any

import equinox as eqx
from jaxtyping import PRNGKeyArray

from menura.core import ExpertData, Hyper, Metrics, Penalty, Spec
from menura.forward.off_policy import AbstractReplayLearner
from menura.imitation.bc import negative_log_likelihood
from menura.imitation.holder import AbstractHolder, cloning, fading

CLONED_ROWS = 64
"""Steps of the expert in cloning's loss."""


class AbstractValueImitation(AbstractHolder):
    """SQIL and LS-IQ: the expert's steps are half of what the forward learner's values are drawn to."""

    forward: eqx.AbstractVar[AbstractReplayLearner]
    """Learns the soft values, from half the expert's steps and half its own."""

    bc_coef: eqx.AbstractVar[float]
    """Weight of cloning's loss at first; 0 for none."""

    @property
    def clones(self) -> bool:
        """Whether cloning's loss stands beside, at first."""
        return self.bc_coef != 0

    def init(self, spec: Spec, *, key: PRNGKeyArray) -> Any:
        """The forward learner's fresh state: there is no other."""
        return self.forward.init(spec, key=key)

    def state_of_forward(self, state: Any) -> Any:
        """The whole of it."""
        return state

    def _cloning(self, state: Any, demos: ExpertData, key: PRNGKeyArray) -> tuple[Penalty | None, Metrics]:
        """Cloning's loss as a penalty, which fades over ``bc_updates`` updates, if there are any."""
        if not self.clones:
            return None, {}
        weight: Hyper = self.bc_coef
        if self.bc_updates:
            weight = fading(weight, self.forward.updates_learned(state), over=self.bc_updates)
        return cloning(self.policy(state), demos, weight=weight, num_rows=CLONED_ROWS, key=key)

    def _heldout(self, state: Any, demos: ExpertData) -> Metrics:
        """Minus the mean log-likelihood of the actions that were kept from training, where some were."""
        if demos.heldout.obs.shape[0] == 0:
            return {}
        policy: Any = self.forward.final_policy(state)
        return {"loss/heldout": negative_log_likelihood(policy, demos.heldout, demos.num_heldout)}
