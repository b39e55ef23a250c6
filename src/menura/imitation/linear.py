"""Scores that are linear in the features of Ho & Ermon (2016), with the best weights in closed form: FEM and GTAL."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from menura.core import BoxActions, DiscreteActions, ExpertData, Metrics, Spec, Transition, flatten_time
from menura.imitation.absorbing import mean_with_absorbed
from menura.networks import RunningNorm
from menura.regularizers import AbstractFeatureMatching, paper_features


class LinearScore(eqx.Module):
    """Scores an observation and an action by w·f, f being :func:`menura.regularizers.paper_features`.

    Observations and real actions are standardized by the *expert's* statistics, the actions after clipping to their
    bounds; discrete actions choose a block of the features.
    """

    obs_norm: RunningNorm
    action_norm: RunningNorm
    """Of the actions; of nothing where they are discrete."""
    weights: Float[Array, " features"]
    low: Float[Array, " action"]
    high: Float[Array, " action"]
    num_actions: int | None = eqx.field(static=True)
    """``None`` for real actions."""
    absorbing: bool = eqx.field(static=True)
    """Whether there is one more feature, which is 1 in the absorbing state only."""

    def __init__(self, spec: Spec, *, absorbing: bool = False):
        """Weights of 0: nothing is scored yet."""
        match spec.actions:
            case DiscreteActions(num_actions=num_actions):
                self.num_actions, self.low, self.high = num_actions, jnp.zeros(0), jnp.zeros(0)
                size = num_actions * (2 * spec.obs_size + 1)
            case BoxActions() as box:
                self.num_actions, self.low, self.high = None, jnp.asarray(box.low), jnp.asarray(box.high)
                size = 2 * (spec.obs_size + box.size) + 1
        self.obs_norm, self.action_norm = RunningNorm(spec.obs_size), RunningNorm(self.low.shape[0])
        self.absorbing = absorbing
        self.weights = jnp.zeros(size + absorbing)

    def carried_out(self, action: Float[Array, " action"]) -> Float[Array, " action"]:
        """A real action as the environment takes it."""
        # Departs from Ho & Ermon 2016: actions are clipped before they are scored, because demonstrations hold them
        # as they were carried out, and a learner would be known by its overshoot alone.
        return jnp.clip(action, self.low, self.high)

    def features(self, obs: Float[Array, " obs"], action: Array) -> Float[Array, " features"]:
        """f of one step."""
        if self.num_actions is None:
            action = self.action_norm(self.carried_out(action))
        features = paper_features(self.obs_norm(obs), action, num_actions=self.num_actions)
        return jnp.append(features, 0.0) if self.absorbing else features

    @property
    def num_features(self) -> int:
        """How many numbers :meth:`features` gives."""
        return self.weights.shape[0]

    def of_features(self, features: Float[Array, " features"]) -> Float[Array, ""]:
        """The score of what :meth:`features` gave."""
        return jnp.dot(self.weights, features)

    def __call__(self, obs: Float[Array, " obs"], action: Array) -> Float[Array, ""]:
        """The score of one step."""
        return self.of_features(self.features(obs, action))

    def standardized_by(self, expert: Transition) -> "LinearScore":
        """The score with the statistics of demonstrations."""
        score = eqx.tree_at(lambda s: s.obs_norm, self, RunningNorm(expert.obs.shape[-1]).add(expert.obs))
        if self.num_actions is None:
            actions = jax.vmap(self.carried_out)(expert.action)
            score = eqx.tree_at(lambda s: s.action_norm, score, RunningNorm(actions.shape[-1]).add(actions))
        return score

    def fitted(
        self, regularizer: AbstractFeatureMatching, batch: Transition, demos: ExpertData
    ) -> tuple["LinearScore", Metrics]:
        """The best score between the demonstrations and a rollout ``[time, env]``, by no gradient step.

        The weights are those of the newest rollout alone, as in Ho, Gupta & Ermon (2016), where the policy descends
        the gradient of the supremum: the weights that are best against the policy as it is now.
        """
        score = self.standardized_by(demos.train)
        of_expert, of_learner = (
            jnp.mean(jax.vmap(score.features)(rows.obs, rows.action), axis=0)
            for rows in (demos.train, flatten_time(batch))
        )
        return score.fitted_to(regularizer, of_expert, of_learner)

    def fitted_to_replay(
        self,
        regularizer: AbstractFeatureMatching,
        rows: Transition,
        demos: ExpertData,
        ending_rate: Float[Array, ""],
    ) -> tuple["LinearScore", Metrics]:
        """The best score between the demonstrations and flat rows of a replay, both with their absorbing states."""
        score = self.standardized_by(demos.train)
        of_expert, of_learner = (
            mean_with_absorbed(jax.vmap(score.features)(x.obs, x.action), jnp.asarray(rate))
            for x, rate in ((demos.train, demos.ending_rate), (rows, ending_rate))
        )
        return score.fitted_to(regularizer, of_expert, of_learner)

    def fitted_to(
        self,
        regularizer: AbstractFeatureMatching,
        of_expert: Float[Array, " features"],
        of_learner: Float[Array, " features"],
    ) -> tuple["LinearScore", Metrics]:
        """The score with the best weights between two means of features."""
        gap = of_expert - of_learner
        weights = regularizer.weights(gap)
        return eqx.tree_at(lambda s: s.weights, self, weights), {
            "score/loss": -jnp.dot(weights, gap),
            "score/expert": jnp.dot(weights, of_expert),
            "score/learner": jnp.dot(weights, of_learner),
            "score/largest_gap": jnp.max(jnp.abs(gap)),
        }
