"""Generative adversarial imitation learning (Ho & Ermon 2016), with any forward learner inside."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from menura.core import (
    AbstractForwardLearner,
    AnyArray,
    ExpertData,
    Hyper,
    Metrics,
    RequestError,
    Spec,
    Transition,
    flatten_time,
)
from menura.encoders import Encoder
from menura.forward.off_policy import AbstractReplayLearner
from menura.forward.on_policy import over_rollout
from menura.forward.trpo import TRPO
from menura.imitation.absorbing import (
    absorbed_features,
    ending_rate_of,
    score_absorbed,
    with_worth_of_ending,
    worth_of_ending,
)
from menura.imitation.holder import AbstractHolder, fading_cloning
from menura.imitation.linear import LinearScore, seen
from menura.imitation.score import RewardForm, ScoreNetwork, Units, reward_of_score, slope_of
from menura.networks import MLP, Activation, mean_of_rows, over_rows
from menura.regularizers import AbstractFeatureMatching, AbstractRegularizer, JensenShannon

OF_THE_NETWORK = (
    "learning_rate",
    "num_score_steps",
    "score_batch_size",
    "score_replay_size",
    "gradient_penalty",
    "gradient_norm",
    "score_ent_coef",
    "weight_decay",
    "hidden_sizes",
    "activation",
    "encoder",
    "common_pixels",
    "score_units",
)
"""Options of GAIL that have no effect where the score is linear (FEM, GTAL): no network is trained there."""


def style_and_task(
    style: Float[Array, "*batch"], task: Float[AnyArray, "*batch"], *, style_coef: Hyper, task_coef: Hyper
) -> Float[Array, "*batch"]:
    """What a step earns for how it is done and for what it does (Peng et al. 2021, eq. 4).

    Without a weight the task's reward is not looked at, so that it may be anything.
    """
    if isinstance(task_coef, float | int) and task_coef == 0:
        return style_coef * style
    return style_coef * style + task_coef * task


class GAILState(eqx.Module):
    """What GAIL learns."""

    forward: Any
    score: ScoreNetwork | LinearScore
    """Linear for FEM and GTAL."""
    opt_state: optax.OptState
    """Empty where the score is linear."""
    num_updates: Int[Array, ""] | None = None
    """Updates so far; not counted where cloning has no part in them."""
    ending: Float[Array, ""] | None = None
    """What a step in the absorbing state paid in the last update; ``None`` where nothing follows an ending."""


LINEAR_ROWS = 8192
"""Steps of a replay that a linear score is fitted to."""
CENTER_ROWS = 1024
"""Steps of a replay whose mean reward is taken off all rewards."""


class GAIL(AbstractHolder):
    """Algorithm 1 of Ho & Ermon (2016): a step of the discriminator, then a step of the policy, on each rollout.

    With a forward learner that has a replay (SAC) it is discriminator actor-critic (Kostrikov et al. 2019): the score
    is told the expert from the whole replay, the reward of every transition is computed when it is drawn, and
    terminated episodes go on in an absorbing state (:mod:`menura.imitation.absorbing`).

    With a regularizer that matches features (FEM, GTAL) the score is a :class:`menura.imitation.linear.LinearScore`
    with the best weights in closed form, and the options in :data:`OF_THE_NETWORK` have no effect, like
    ``make_network`` and ``optimizer``.
    """

    forward: AbstractForwardLearner = TRPO()
    """Solves the reinforcement learning problem inside; TRPO is the published choice."""
    regularizer: AbstractRegularizer = JensenShannon()
    """The cost regularizer ψ. With fem and gtal no network is trained, and the command line refuses its options."""
    reward_form: RewardForm = "auto"
    """auto takes negative where the expert's episodes end sooner than a random policy's (so that ending
    is success), positive elsewhere (centered for fairl_link); with sac and dqn, logit for jensen_shannon and
    centered for the others."""
    learning_rate: Hyper = 1e-3
    """Adam's step size for the score."""
    num_score_steps: int = 8
    """Gradient steps of the score after each rollout."""
    score_batch_size: int = 256
    """Steps of the learner, and as many of the expert, in one of them."""
    score_replay_size: int = 0
    """With sac: the newest steps of the replay that the score is told the expert from; 0 for all of them."""
    gradient_penalty: Hyper = 1.0
    """Weight of (‖∇ score‖ − gradient_norm)² between expert and learner; 0 for none."""
    gradient_norm: Hyper = 1.0
    """The slope that the penalty pulls to; 0 lets the score be flat where expert and learner are alike."""
    score_ent_coef: Hyper = 0.0
    """Weight of the discriminator's entropy (the paper's 1e-3)."""
    weight_decay: Hyper = 0.0
    """Decoupled weight decay of the score network."""
    entropy_weight: Hyper = 0.0
    """λ: the learner earns −λ log π(action | obs) beside its reward (causal entropy). Not with sac, whose
    temperature is it."""
    hidden_sizes: tuple[int, ...] = (100, 100)
    """Widths of the score network's hidden layers."""
    activation: Activation = "tanh"
    """Its non-linearity."""
    encoder: Encoder = "nature"
    """What reads pictures, before the hidden layers: nature (Mnih et al. 2015) or residual (Espeholt et al. 2018)."""
    common_pixels: bool = True
    """Show the score of each pixel only values that both sides have shown, so that no mark tells them apart."""
    score_units: Units = "expert"
    """Whose mean and spread the score's observations are standardized by: the expert's, or those of both sides, where
    a learner is soon out of the narrow range of a few demonstrations."""
    make_network: Callable[..., Any] = eqx.field(default=MLP, static=True)
    """From Python only: builds the score network, called as ``menura.networks.MLP`` is."""
    optimizer: Callable[[Hyper], optax.GradientTransformation] = eqx.field(default=optax.adam, static=True)
    """From Python only: the score's optimizer for a step size, such as ``optax.sgd``."""
    heldout_fraction: float = 0.0
    """Share of the demonstrations kept from training; their score is logged as score/heldout."""
    observations_only: bool = False
    """Score pairs of observations, this one and the next, instead of actions; demonstrations may then hold none."""
    bc_updates: int = 0
    """Updates over which cloning's loss fades from the policy's step."""
    bc_coef: Hyper = 1.0
    """Weight of cloning's loss at first."""
    style_coef: Hyper = 1.0
    """Weight of the score's reward."""
    task_coef: Hyper = 0.0
    """Weight of the environment's own reward beside it: a task to be done in the expert's style; 0 for none."""

    def __check_init__(self):
        if self.observations_only and self.bc_updates:
            raise RequestError("observations_only has no actions to clone: set bc_updates to 0 (--bc-updates 0).")
        if self.score_replay_size and not isinstance(self.forward, AbstractReplayLearner):
            raise RequestError(f"{type(self.forward).__name__} has no replay: leave out --score-replay-size.")

    @property
    def _optimizer(self) -> optax.GradientTransformation:
        decay = optax.add_decayed_weights(-self.weight_decay * self.learning_rate)
        return optax.chain(self.optimizer(self.learning_rate), decay)

    @property
    def clones(self) -> bool:
        """Whether cloning's loss is part of the policy's steps, at first."""
        return self.bc_updates > 0

    def init(self, spec: Spec, *, key: PRNGKeyArray) -> GAILState:
        """A fresh policy and a fresh score."""
        forward_key, score_key = jax.random.split(key)
        absorbing = isinstance(self.forward, AbstractReplayLearner)
        forward = self.forward.init(spec, key=forward_key)
        counted = jnp.zeros((), jnp.int32) if self.bc_updates else None
        ending = jnp.zeros(()) if absorbing else None
        if isinstance(self.regularizer, AbstractFeatureMatching):
            if spec.parts:
                raise RequestError("fem and gtal weigh the observed numbers, and pictures have none: leave them out.")
            score = LinearScore(spec, observations_only=self.observations_only, absorbing=absorbing)
            return GAILState(forward, score, (), counted, ending)
        score = ScoreNetwork(
            spec,
            self.hidden_sizes,
            activation=self.activation,
            key=score_key,
            make_network=self.make_network,
            observations_only=self.observations_only,
            encoder=self.encoder,
            common_pixels=self.common_pixels,
            units=self.score_units,
        )
        weights: Any = score.network
        return GAILState(forward, score, self._optimizer.init(weights), counted, ending)

    def steps_per_update(self, num_envs: int) -> int:
        """Environment steps in one update: the forward learner's; refuses a second weight of entropy."""
        weight = self.entropy_weight
        if isinstance(self.forward, AbstractReplayLearner) and isinstance(weight, float | int) and weight:
            raise RequestError(
                f"{type(self.forward).__name__} has its own weight of entropy: leave entropy_weight at 0."
            )
        return super().steps_per_update(num_envs)

    def _seen(self, rows: Transition) -> tuple[AnyArray, AnyArray]:
        """The one place that decides what the score is given of steps, the expert's and the learner's."""
        return seen(rows, observations_only=self.observations_only)

    def reward(self, state: GAILState, batch: Transition) -> Float[Array, "time env"]:
        """What a rollout ``[time, env]`` earns by the score as it is now."""
        score = over_rollout(state.score, *self._seen(batch))
        style = reward_of_score(score, self.regularizer, self.reward_form)
        return self._with_task(style, batch.reward) - self.entropy_weight * batch.log_prob

    def _with_task(self, style: Float[Array, "*batch"], task: Float[AnyArray, "*batch"]) -> Float[Array, "*batch"]:
        return style_and_task(style, task, style_coef=self.style_coef, task_coef=self.task_coef)

    def update(
        self, state: GAILState, batch: Transition, demos: ExpertData, *, key: PRNGKeyArray
    ) -> tuple[GAILState, Metrics]:
        """The score's steps on rollout (or replay) and demonstrations, then the forward learner's on the new reward."""
        score_key, forward_key = jax.random.split(key)
        if isinstance(self.forward, AbstractReplayLearner):
            state = eqx.tree_at(lambda s: s.forward, state, self.forward.store(state.forward, batch))
        score, opt_state, metrics = self._improve_score(state, batch, demos, score_key)
        penalty, num_updates, cloning_metrics = fading_cloning(self, state, demos, score_key)
        state = GAILState(state.forward, score, opt_state, num_updates, state.ending)
        reward = self.reward(state, batch)
        ending = state.ending
        if isinstance(self.forward, AbstractReplayLearner):
            center_key, forward_key = jax.random.split(forward_key)
            reward_of, ending, about_ending = self._reward_from_replay(self.forward, state, demos, center_key)
            forward, forward_metrics = self.forward.learn(state.forward, reward_of, key=forward_key, penalty=penalty)
            metrics |= about_ending
        else:
            forward, forward_metrics = self.forward.update(
                state.forward, batch, reward, key=forward_key, penalty=penalty
            )
        if demos.heldout.obs.shape[0] > 0:
            metrics["score/heldout"] = mean_of_rows(over_rows(score, *self._seen(demos.heldout)), demos.num_heldout)
        metrics |= {"reward/mean": jnp.mean(reward), "reward/std": jnp.std(reward)}
        return GAILState(forward, score, opt_state, num_updates, ending), metrics | forward_metrics | cloning_metrics

    def _reward_from_replay(
        self, forward: AbstractReplayLearner, state: GAILState, demos: ExpertData, key: PRNGKeyArray
    ) -> tuple[Callable[[Transition], Float[Array, ""]], Float[Array, ""], Metrics]:
        """What a drawn transition earns by the score as it is now, endings included, and what one in s_a pays."""
        score, replay = state.score, forward.replay(state.forward)

        def form(score):
            return reward_of_score(score, self.regularizer, self.reward_form)

        # Departs from Kostrikov et al. 2019: the replay's mean reward is taken off every reward (Naik et al. 2024), so
        # that values need not be learned from far below. Where nothing ever ends this moves all of them alike.
        mean = jnp.mean(form(over_rows(score, *self._seen(replay.sample(key, CENTER_ROWS)))))
        if isinstance(score, LinearScore):
            absorbed = score.of_features(absorbed_features(score.num_features))
            earned_absorbed = form(absorbed) - mean
        else:
            absorbed = score_absorbed(self.regularizer, jnp.asarray(demos.ending_rate), ending_rate_of(replay))
            # Departs from Kostrikov et al. 2019: what ending earns is measured from what living on earns on average,
            # because a score that is low wherever the learner goes would make every ending a relief.
            earned_absorbed = form(absorbed) - form(jnp.zeros(()))
        # Departs from Kostrikov et al. 2019: the value of the absorbing state is summed, the other form of section 4.2,
        # instead of learned from transitions within it, because they are one in a thousand, and its target copies make
        # it as slow as need be.
        # It is paid for the entropy that living aims at, so that entropy by itself makes no ending better or worse.
        # Nothing is done of the task after an ending, so that it pays 0 there.
        weighted = self.style_coef * earned_absorbed
        worth = worth_of_ending(weighted + forward.entropy_reward(state.forward), gamma=forward.gamma)

        def reward_of(step):
            earned = self._with_task(form(score(*self._seen(step))) - mean, step.reward)
            return with_worth_of_ending(earned, step.terminated, worth)

        metrics = {"score/absorbing": absorbed, "reward/absorbing": weighted, "reward/center": mean}
        return reward_of, earned_absorbed + mean, metrics

    def _improve_score(
        self, state: GAILState, batch: Transition, demos: ExpertData, key: PRNGKeyArray
    ) -> tuple[ScoreNetwork | LinearScore, optax.OptState, Metrics]:
        """The score against this rollout, or the replay: the best one where it is known, else a few gradient steps."""
        replay = self.forward.replay(state.forward) if isinstance(self.forward, AbstractReplayLearner) else None
        if isinstance(state.score, LinearScore):
            assert isinstance(self.regularizer, AbstractFeatureMatching)
            if replay is None:
                score, metrics = state.score.fitted(self.regularizer, batch, demos)
            else:
                rows, rate = replay.sample(key, LINEAR_ROWS), ending_rate_of(replay)
                score, metrics = state.score.fitted_to_replay(self.regularizer, rows, demos, rate)
            return score, state.opt_state, metrics
        # Departs from Ho & Ermon 2016: several minibatch steps of Adam at 1e-3 instead of one at 1e-2 on everything,
        # and a penalty on the slope instead of a bonus on the discriminator's entropy, because rollouts here are a
        # tenth of theirs and 200 expert steps are soon known by heart: without the penalty the score grows until
        # its reward says nothing.
        newly_done = rows = flatten_time(batch)
        if replay is not None:
            draw_key, key = jax.random.split(key)
            newest = self.score_replay_size or None
            rows = replay.sample(draw_key, self.num_score_steps * self.score_batch_size, newest=newest)
        score = state.score.standardized_by(demos, newly_done)
        score = score.having_seen(demos.train.obs, newly_done.obs, demos.num_train)
        return self._fit_score(score, state.opt_state, self._seen(rows), self._seen(demos.train), demos.train_size, key)

    def score_loss(
        self,
        score: ScoreNetwork,
        expert: Float[Array, "batch features"],
        learner: Float[Array, "batch features"],
        mix: Float[Array, " batch"],
    ) -> tuple[Float[Array, ""], Metrics]:
        """The regularizer's loss, with the penalties: what one step of the score lowers."""
        score_expert = jax.vmap(score.of_features)(expert)
        score_learner = jax.vmap(score.of_features)(learner)
        loss = self.regularizer.loss(score_expert, score_learner)
        between = mix[:, None] * expert + (1 - mix[:, None]) * learner
        slope = jax.vmap(lambda x: slope_of(score.of_features, x))(between)
        # (‖∇ score‖ − target)², eq. 3 of Gulrajani et al. 2017, where the target is 1.
        penalty = jnp.mean(jnp.square(slope - self.gradient_norm))
        logits = jnp.concatenate([score_expert, score_learner])
        entropy = jnp.mean(jax.nn.softplus(logits) - logits * jax.nn.sigmoid(logits))
        asked = jnp.mean(self.regularizer.slope_penalty(slope))
        total = loss + asked + self.gradient_penalty * penalty - self.score_ent_coef * entropy
        return total, {
            "score/loss": loss,
            "score/expert": jnp.mean(score_expert),
            "score/learner": jnp.mean(score_learner),
            "score/accuracy": 0.5 * (jnp.mean(score_expert > 0) + jnp.mean(score_learner <= 0)),
            "score/gradient_penalty": penalty,
        }

    def _fit_score(
        self,
        score: ScoreNetwork,
        opt_state: optax.OptState,
        learner: tuple[AnyArray, AnyArray],
        expert: tuple[AnyArray, AnyArray],
        num_expert: int | Int[Array, ""],
        key: PRNGKeyArray,
    ) -> tuple[ScoreNetwork, optax.OptState, Metrics]:
        def one_step(carry, draw):
            network, opt_state = carry
            expert_at, learner_at, mix = draw
            # Only what is drawn becomes numbers: rollouts and demonstrations of pictures stay bytes.
            of_expert, of_learner = (
                jax.vmap(score.features)(*(x[(at * count).astype(jnp.int32)] for x in side))
                for side, at, count in ((expert, expert_at, num_expert), (learner, learner_at, len(learner[0])))
            )

            def loss(network):
                return self.score_loss(eqx.tree_at(lambda s: s.network, score, network), of_expert, of_learner, mix)

            gradient, metrics = jax.grad(loss, has_aux=True)(network)
            step, opt_state = self._optimizer.update(gradient, opt_state, network)
            stepped: Any = optax.apply_updates(network, step)
            return (stepped, opt_state), metrics

        # One draw for all, because every generator in a program takes time to compile.
        draws = jax.random.uniform(key, (self.num_score_steps, 3, self.score_batch_size))
        (network, opt_state), metrics = jax.lax.scan(one_step, (score.network, opt_state), draws)
        score = eqx.tree_at(lambda s: s.network, score, network)
        return score, opt_state, {name: values[-1] for name, values in metrics.items()}
