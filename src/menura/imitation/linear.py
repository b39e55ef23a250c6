"""Scores that are linear in the features of Ho & Ermon (2016), with the best weights in closed form: FEM and GTAL."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from menura.core import AnyArray, BoxActions, DiscreteActions, ExpertData, Metrics, Spec, Transition, flatten_time
from menura.imitation.absorbing import mean_with_absorbed
from menura.networks import RunningNorm, mean_of_rows
from menura.regularizers import AbstractFeatureMatching, paper_features


def seen(rows: Transition, *, observations_only: bool) -> tuple[AnyArray, AnyArray]:
    """What a score is given of steps: observations, and beside them actions, or only what was observed next.

    With the successor, ρ is the occupancy of pairs (s, s') (Torabi, Warnell & Stone 2018, section 4), and no action is
    looked at, neither the expert's nor the learner's.
    """
    return rows.obs, (rows.next_obs if observations_only else rows.action)


class LinearScore(eqx.Module):
    """Scores an observation and an action by w·f, f being :func:`menura.regularizers.paper_features`.

    Observations and real actions are standardized by the *expert's* statistics, the actions after clipping to their
    bounds; discrete actions choose a block of the features. With ``observations_only`` the change from an observation
    to its successor stands in the action's place.
    """

    obs_norm: RunningNorm
    action_norm: RunningNorm
    """Of the actions, or of the changes; of nothing where actions are discrete."""
    weights: Float[Array, " features"]
    low: Float[Array, " action"]
    high: Float[Array, " action"]
    num_actions: int | None = eqx.field(static=True)
    """``None`` for real actions, and where none are seen."""
    observations_only: bool = eqx.field(static=True)
    absorbing: bool = eqx.field(static=True)
    """Whether there is one more feature, which is 1 in the absorbing state only."""

    def __init__(self, spec: Spec, *, observations_only: bool = False, absorbing: bool = False):
        """Weights of 0: nothing is scored yet."""
        self.observations_only = observations_only
        match spec.actions:
            case _ if observations_only:
                anything = jnp.full(spec.obs_size, jnp.inf)
                self.num_actions, self.low, self.high = None, -anything, anything
                size = 4 * spec.obs_size + 1
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

    def _beside(self, obs: Float[Array, " obs"], second: Array) -> Array:
        """What stands beside the observation: a discrete action, a real one as carried out, or the change."""
        if self.observations_only:
            return second - obs
        return second if self.num_actions is not None else self.carried_out(second)

    def features(self, obs: Float[Array, " obs"], second: Array) -> Float[Array, " features"]:
        """f of one step, as :func:`seen` gives it."""
        beside = self._beside(obs, second)
        if self.num_actions is None:
            beside = self.action_norm(beside)
        features = paper_features(self.obs_norm(obs), beside, num_actions=self.num_actions)
        return jnp.append(features, 0.0) if self.absorbing else features

    @property
    def num_features(self) -> int:
        """How many numbers :meth:`features` gives."""
        return self.weights.shape[0]

    def of_features(self, features: Float[Array, " features"]) -> Float[Array, ""]:
        """The score of what :meth:`features` gave."""
        return jnp.dot(self.weights, features)

    def __call__(self, obs: Float[Array, " obs"], second: Array) -> Float[Array, ""]:
        """The score of one step, as :func:`seen` gives it."""
        return self.of_features(self.features(obs, second))

    def _seen_features(self, rows: Transition) -> Float[Array, "batch features"]:
        return jax.vmap(self.features)(*seen(rows, observations_only=self.observations_only))

    def standardized_by(self, demos: ExpertData) -> "LinearScore":
        """The score with the statistics of the expert's steps."""
        obs, second = seen(demos.train, observations_only=self.observations_only)
        score = eqx.tree_at(lambda s: s.obs_norm, self, self.obs_norm.of(obs, demos.num_train))
        if self.num_actions is None:
            beside = jax.vmap(self._beside)(obs, second)
            score = eqx.tree_at(lambda s: s.action_norm, score, score.action_norm.of(beside, demos.num_train))
        return score

    def fitted(
        self, regularizer: AbstractFeatureMatching, batch: Transition, demos: ExpertData
    ) -> tuple["LinearScore", Metrics]:
        """The best score between the demonstrations and a rollout ``[time, env]``, by no gradient step.

        The weights are those of the newest rollout alone, as in Ho, Gupta & Ermon (2016), where the policy descends
        the gradient of the supremum: the weights that are best against the policy as it is now.
        """
        score = self.standardized_by(demos)
        of_expert = mean_of_rows(score._seen_features(demos.train), demos.num_train)
        of_learner = mean_of_rows(score._seen_features(flatten_time(batch)))
        return score.fitted_to(regularizer, of_expert, of_learner)

    def fitted_to_replay(
        self,
        regularizer: AbstractFeatureMatching,
        rows: Transition,
        demos: ExpertData,
        ending_rate: Float[Array, ""],
    ) -> tuple["LinearScore", Metrics]:
        """The best score between the demonstrations and flat rows of a replay, both with their absorbing states."""
        score = self.standardized_by(demos)
        of_expert, of_learner = (
            mean_with_absorbed(score._seen_features(x), jnp.asarray(rate), num_rows)
            for x, rate, num_rows in ((demos.train, demos.ending_rate, demos.num_train), (rows, ending_rate, None))
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
