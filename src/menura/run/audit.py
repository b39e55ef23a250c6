"""What a set-up gives by itself: returns under rewards that know nothing of the expert, and what they say.

A reward that is never negative pays for living on, one that is never positive for ending (Kostrikov et al.
2019). Where either already brings the expert's return, that return is no evidence of imitation.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import jax
import numpy as np

from menura.core import AbstractLearner, RequestError
from menura.environments.base import Envs, NativeEnvs
from menura.evaluation import Evaluation, UniformPolicy, evaluate
from menura.forward.constant import ConstantReward
from menura.forward.off_policy import AbstractReplayLearner
from menura.imitation.adversarial import GAIL
from menura.run.launch import FINAL_EPISODES, Prepared, normalized, prepare
from menura.run.registry import FORWARD, algorithm_name, regularizer_name
from menura.run.request import Request, load_demos, make_env
from menura.run.train import Watcher, train

BIASED = 0.5
"""Share of what can be gained that a constant must bring to be called a bias."""
NOTABLE = 0.1
"""Share from which on a sentence speaks of it; of what is left, below which nothing can be gained."""

FROM_REPLAY = [name for name, learner in FORWARD.items() if issubclass(learner, AbstractReplayLearner)]
"""Forward learners with which GAIL has an absorbing state."""
CONSTANTS = {"zero": 0.0, "positive": 1.0, "negative": -1.0}
LABELS = {
    "zero": "constant 0",
    "positive": "constant +1",
    "negative": "constant −1",
    "environment": "the environment's reward",
    "shuffled": "GAIL, actions shuffled",
    "demonstrations": "GAIL, demonstrations as they are",
}
"""The arms in the order in which they are trained, in words."""
RULE = (
    f"survival-biased (ending-biased) if training on a constant +1 (−1) goes at least {BIASED:.0%} of the way to the "
    "reference's return from where a random policy or training on a constant 0 gets, whichever is better; where both "
    "do, the larger one decides; undecided if the reference is no better than random"
)
"""How the verdict is reached."""

Watch = Callable[[str, int], AbstractContextManager[Watcher]]


class Arm(NamedTuple):
    """One way to be paid: an evaluation of the final policy of each seed."""

    evaluations: tuple[Evaluation, ...]
    seconds: float

    @property
    def mean(self) -> float:
        """Mean return over seeds."""
        return float(np.mean([evaluation.mean for evaluation in self.evaluations]))


def gain(share: float, zero_share: float) -> float:
    """What a constant brings of what random actions and a policy paid nothing leave to be gained; shares are of the
    way from random to the reference."""
    begin = max(0.0, zero_share)
    return 0.0 if begin > 1 - NOTABLE else (share - begin) / (1 - begin)


def verdict(survival: float, ending: float) -> str:
    """The rule of :data:`RULE`, from the gains of the positive and of the negative constant."""
    if math.isnan(survival) or math.isnan(ending):
        return "undecided"
    if max(survival, ending) < BIASED:
        return "no bias detected"
    return "survival-biased" if survival >= ending else "ending-biased"


def audit(
    request: Request,
    *,
    seeds: Sequence[int] = (0,),
    episodes: int = FINAL_EPISODES,
    watch: Watch = lambda arm, seed: nullcontext(Watcher()),
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Train the forward learner inside the request's GAIL on constants, and GAIL itself where there are
    demonstrations; what ``menura audit --json`` prints.

    Without demonstrations, or with ones that hold no rewards, the environment's own reward is trained on too, and
    the best arm is what returns are measured by. ``watch(arm, seed)`` gives a watcher of one training; ``say`` gets
    a line when one is over.
    """
    started = time.perf_counter()
    if not isinstance(request.learner, GAIL):
        raise RequestError("An audit is of GAIL: give it a request whose learner is one.")
    # Paid for the task, it would be no control.
    request = dataclasses.replace(request, learner=dataclasses.replace(request.learner, task_coef=0.0))
    prepared = prepare(request)
    env, demos = prepared.env, prepared.demos
    evaluation_env = make_env(request, min(episodes, FINAL_EPISODES), evaluation=True)
    assert env is not None
    assert evaluation_env is not None
    try:
        _require_arms(prepared)
        uniform = evaluate(evaluation_env, UniformPolicy(env.spec), num_episodes=episodes, seed=0, deterministic=False)
        expert_return = math.nan if demos is None else demos.expert_return
        if expert_return <= uniform.mean:
            raise RequestError(
                f"The episodes of {request.demos} earn {expert_return:.4g} on average, no more than a random policy's "
                f"{uniform.mean:.4g}: give better ones, or none."
            )
        arms = {}
        for name in _arms(prepared, expert_return):
            begun = time.perf_counter()
            found = tuple(_one(prepared, name, seed, evaluation_env, episodes, watch, say) for seed in seeds)
            arms[name] = Arm(found, time.perf_counter() - begun)
    finally:
        for batch in (env, evaluation_env):
            if not isinstance(batch, NativeEnvs):
                batch.close()
    return _result(prepared, seeds, episodes, uniform, expert_return, arms) | {
        "wall_seconds": time.perf_counter() - started
    }


def _require_arms(prepared: Prepared) -> None:
    """Refuse, before anything is trained, what one of the arms would refuse later."""
    learner: Any = prepared.request.learner
    if getattr(learner.forward, "replay_storage", None) == "host":
        raise RequestError("Constants are paid to learners whose replay is with the networks: take --forward ppo here.")
    jax.eval_shape(lambda key: learner.init(prepared.spec, key=key), jax.random.key(0))


def _arms(prepared: Prepared, expert_return: float) -> list[str]:
    left_out = set()
    if prepared.demos is None:
        left_out |= {"shuffled", "demonstrations"}
    elif prepared.request.learner.observations_only:  # pyright: ignore[reportAttributeAccessIssue]
        left_out.add("shuffled")
    if not math.isnan(expert_return):
        left_out.add("environment")
    return [name for name in LABELS if name not in left_out]


def _one(
    prepared: Prepared,
    name: str,
    seed: int,
    evaluation_env: Envs,
    episodes: int,
    watch: Watch,
    say: Callable[[str], None],
) -> Evaluation:
    """Train one arm from one seed, and play with what it learned."""
    request, demos = prepared.request, None
    assert isinstance(request.learner, GAIL)
    learner: AbstractLearner = request.learner.forward
    if name in CONSTANTS:
        learner = ConstantReward(request.learner.forward, CONSTANTS[name])  # pyright: ignore[reportArgumentType]
    elif name in ("shuffled", "demonstrations"):
        learner = request.learner
        demos = load_demos(dataclasses.replace(request, seed=seed, shuffle_actions=name == "shuffled"))
    with watch(name, seed) as watcher:
        run = train(learner, prepared.env, demos, total_steps=request.total_steps, seed=seed, watchers=[watcher])
    if run.stopped_early:
        raise KeyboardInterrupt("Interrupted; an audit keeps nothing before it is done.")
    evaluation = evaluate(evaluation_env, run.policy, num_episodes=episodes, seed=1)
    say(f"{LABELS[name]}, seed {seed}: return {evaluation}")
    return evaluation


def _result(
    prepared: Prepared,
    seeds: Sequence[int],
    episodes: int,
    uniform: Evaluation,
    expert_return: float,
    arms: dict[str, Arm],
) -> dict[str, Any]:
    request, env = prepared.request, prepared.env
    assert isinstance(request.learner, GAIL)
    limit = None if env is None else env.max_episode_steps
    by_expert = not math.isnan(expert_return)
    reference_return = expert_return if by_expert else _best(arms, uniform)
    share = {name: normalized(arm.mean, uniform.mean, reference_return) for name, arm in arms.items()}
    survival, ending = gain(share["positive"], share["zero"]), gain(share["negative"], share["zero"])
    result = {
        "env": request.env,
        "forward": algorithm_name(request.learner.forward),
        "total_steps": request.total_steps,
        "num_envs": request.num_envs,
        "seeds": list(seeds),
        "episodes": episodes,
        "max_episode_steps": limit,
        "random_return": uniform.mean,
        "random_length": float(np.mean(uniform.lengths)),
        "random_ended_early": ended_early([uniform], limit),
        "expert_return": expert_return,
        "reference": "the expert" if by_expert else "the best arm",
        "reference_return": reference_return,
        "regularizer": None if prepared.demos is None else regularizer_name(request.learner.regularizer),
        "reward_form": None if prepared.demos is None else request.learner.reward_form,
        "arms": {
            name: {
                "trained_on": LABELS[name],
                "mean_return": arm.mean,
                "returns": [evaluation.mean for evaluation in arm.evaluations],
                "mean_length": float(np.mean([evaluation.lengths for evaluation in arm.evaluations])),
                "ended_early": ended_early(arm.evaluations, limit),
                "normalized": share[name],
                "seconds": arm.seconds,
            }
            for name, arm in arms.items()
        },
        "from_survival": survival,
        "from_ending": ending,
        "verdict": verdict(survival, ending),
        "rule": RULE,
    }
    return result | {"findings": findings(result)}


def _best(arms: dict[str, Arm], uniform: Evaluation) -> float:
    """The best arm's mean return; nan where it is above a random policy's by no more than chance would have it."""
    best = max(arms.values(), key=lambda arm: arm.mean)
    played = np.concatenate([evaluation.returns for evaluation in best.evaluations])
    error = math.sqrt(np.var(played) / len(played) + np.var(uniform.returns) / len(uniform.returns))
    return best.mean if best.mean - uniform.mean > 2 * error else math.nan


def ended_early(evaluations: Sequence[Evaluation], limit: int | None) -> float:
    """Share of episodes that ended before the time limit; all of them where there is none."""
    lengths = np.concatenate([evaluation.lengths for evaluation in evaluations])
    return 1.0 if limit is None else float(np.mean(lengths < limit))


def findings(result: dict[str, Any]) -> list[str]:
    """One sentence, or a few, for each thing that an audit found."""
    arms, reference = result["arms"], result["reference"]
    if result["verdict"] == "undecided":
        return [
            "No arm did better than a random policy by more than chance, so that nothing can be said: train longer "
            "(--total-steps N), or give demonstrations (--demos PATH)."
        ]
    share = {name: arm["normalized"] for name, arm in arms.items()}
    said = [
        _of_constant("positive", share, result["from_survival"], reference),
        _of_constant("negative", share, result["from_ending"], reference),
    ]
    if share["zero"] >= NOTABLE:
        said.append(
            f"Without any reward {share['zero']:.0%} of {reference} is reached: the task begins there, not at 0%."
        )
    if not any([result["random_ended_early"], *(arm["ended_early"] for arm in arms.values())]):
        said.append(
            f"No episode ended before the time limit of {result['max_episode_steps']} steps: while that holds, a "
            "constant reward tells no policy from another."
        )
    bias, form = result["verdict"], result["reward_form"]
    is_on_policy = result["forward"] not in FROM_REPLAY
    if is_on_policy and (bias, form) in (("survival-biased", "positive"), ("ending-biased", "negative")):
        said.append(f"GAIL takes --reward-form {form} here, whose sign alone does the same.")
    if "shuffled" in share:
        said.append(_of_imitation(share))
    elif "demonstrations" in share:
        said.append(f"GAIL reaches {share['demonstrations']:.0%} from the expert's observations alone.")
    if not is_on_policy:
        said.append(
            "Constants are paid without an absorbing state; GAIL with this forward learner has one, so that the sign "
            "of its reward pays neither for living on nor for ending."
        )
    return said


def _of_constant(name: str, share: dict[str, float], more: float, reference: str) -> str:
    kind, pays = {"positive": ("A positive", "staying alive"), "negative": ("A negative", "ending soon")}[name]
    text = f"{kind} constant reward alone reaches {share[name]:.0%} of {reference} here"
    if more >= BIASED:
        return (
            f"{text}: {pays} is the task, and a reward of that sign pays for it whatever it has learned. Returns on "
            "this environment say nothing about imitation; use one without early endings, such as Pendulum-v1 or "
            "HalfCheetah-v5, or show this control beside every result."
        )
    if more >= NOTABLE:
        return f"{text}, by {pays} alone: read results of an always-{name} reward from there on, not from 0%."
    return f"{text}: {pays} earns nothing by itself."


def _of_imitation(share: dict[str, float]) -> str:
    text = (
        f"GAIL reaches {share['demonstrations']:.0%} with the demonstrations, {share['shuffled']:.0%} with their "
        "actions shuffled"
    )
    if share["shuffled"] >= BIASED and max(share["positive"], share["negative"]) >= BIASED:
        return f"{text}; the constants alone explain both."
    if share["shuffled"] >= BIASED:
        return f"{text}: the expert's states alone lead there, and nothing shows that its actions were learned."
    return f"{text}: what is reached comes from what the expert did in each state."
