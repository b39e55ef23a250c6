"""What every imitation learner with a forward learner inside does alike: it acts, and ends, as that one does."""

from typing import Any

import equinox as eqx

from menura.core import AbstractForwardLearner, AbstractImitationLearner, AbstractPolicy
from menura.forward.dqn import DQN


class AbstractHolder(AbstractImitationLearner):
    """Imitation by reinforcement learning: rewards of its own for the forward learner that it holds."""

    forward: eqx.AbstractVar[AbstractForwardLearner]
    """Solves the reinforcement learning problem inside."""

    def state_of_forward(self, state: Any) -> Any:
        """The forward learner's part of a state."""
        return state.forward

    @property
    def num_steps(self) -> int:
        """Steps each copy of the environment takes between updates: the forward learner's."""
        return self.forward.num_steps

    @property
    def clones(self) -> bool:
        """Whether cloning's loss is part of the forward learner's steps."""
        return False

    def steps_per_update(self, num_envs: int) -> int:
        """Environment steps in one update: the forward learner's; refuses to clone into one without likelihoods."""
        if self.clones and isinstance(self.forward, DQN):
            self.forward.require_likelihood()
        return self.forward.steps_per_update(num_envs)

    def finished(self, state: Any) -> bool:
        """Never: it does not know how far it is from the expert."""
        return False

    def policy(self, state: Any) -> AbstractPolicy:
        """The forward learner's newest policy."""
        return self.forward.policy(self.state_of_forward(state))

    def final_policy(self, state: Any) -> AbstractPolicy:
        """The policy that the forward learner would keep."""
        return self.forward.final_policy(self.state_of_forward(state))
