"""Planning for a number of steps, by backward and forward passes."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from menura.irl.choices import Choices
from menura.irl.planning.parts import Answer, Kept, SoftPlan, Source, weigh


class FinitePlanner:
    """A number of steps. Absorbing states are worth 0; with ``must_end``, what has not ended by then is worth −∞."""

    def __init__(
        self,
        choices: Choices,
        horizon: int,
        *,
        discount: float = 1.0,
        absorbing: Bool[np.ndarray, " states"],
        must_end: bool = False,
    ):
        self.all_choices = choices
        self._kept = Kept(choices, ~absorbing[choices.state])
        self.choices = self._kept.choices
        self.horizon, self.discount, self.absorbing = horizon, discount, absorbing
        self.end_value = np.where(absorbing, 0.0, -np.inf) if must_end else np.zeros(choices.num_states)
        """What every state is worth after the last step."""
        self._plain = not absorbing.any() and len(self.choices.acting) == choices.num_states

    def ends(self, goal: int = 0) -> Bool[np.ndarray, " states"]:
        """Which states are absorbing."""
        return self.absorbing

    def allows(
        self, choice: Int[np.ndarray, " n"], time: Int[np.ndarray, " n"], goal: int = 0
    ) -> Bool[np.ndarray, " n"]:
        """Whether a policy may make each choice at that time."""
        values, _ = self._backward(np.zeros(self.all_choices.num_choices))
        impossible = (~np.isfinite(values)).astype(np.float64)
        out = np.zeros(len(choice), bool)
        for t in np.unique(time):
            now = time == t
            rows = choice[now]
            leads = self.all_choices.matrix[rows] @ impossible[t + 1] == 0
            out[now] = leads & ~self.absorbing[self.all_choices.state[rows]]
        return out

    def plan(self, reward: Float[np.ndarray, " choices"], goal: int = 0) -> SoftPlan:
        """Values before every step and after the last; the policy of every step."""
        values, own = self._backward(reward)
        return SoftPlan(values, self._kept.put(own, -np.inf))

    def evaluate(
        self,
        reward: Float[np.ndarray, " choices"],
        sources: Sequence[Source],
        features: Float[np.ndarray, "choices features"] | None = None,
        visits: Sequence[Source] | None = None,
    ) -> Answer:
        """G and its flow, and with ``features`` its derivatives along them; with ``visits`` their information."""
        (source,) = sources
        values, policy = self._backward_with_policy(reward)
        time = np.zeros_like(source.state) if source.time is None else source.time
        value = weigh(values[time, source.state], source.weight)
        passed, own_flow = self._forward(policy, source.by_time(self.horizon, self.choices.num_states))
        flow = self._kept.put(own_flow, 0.0)
        if features is None:
            return Answer(value, flow)
        seen = None if visits is None else visits[0].by_time(self.horizon, self.choices.num_states)
        return Answer(value, flow, *self._second(policy, passed, self._kept.take(features), source.state, time, seen))

    def _backward(self, reward: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values (H+1, S) and log-policies (H, P) of the choices kept."""
        c, r = self.choices, self._kept.take(reward)
        values = np.empty((self.horizon + 1, c.num_states))
        log_policy = np.empty((self.horizon, c.num_choices))
        values[-1] = self.end_value
        for t in range(self.horizon - 1, -1, -1):
            later = c.expect(values[t + 1])
            q = r + (later if self.discount == 1 else self.discount * later)
            value = c.soft_max(q)
            if not self._plain:
                value[self.absorbing] = 0.0
            shift = value[c.state] if self._plain else np.where(np.isfinite(value), value, 0.0)[c.state]
            np.subtract(q, shift, out=log_policy[t])
            values[t] = value
        return values, log_policy

    def _backward_with_policy(self, reward: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values (H+1, S) and policies (H, P), each exponential taken once where every state offers as many choices."""
        c, r = self.choices, self._kept.take(reward)
        if not self._plain or not c.width:
            values, log_policy = self._backward(reward)
            return values, np.exp(log_policy)
        values = np.empty((self.horizon + 1, c.num_states))
        policy = np.empty((self.horizon, c.num_choices))
        values[-1] = self.end_value
        ones = np.ones(c.width)
        for t in range(self.horizon - 1, -1, -1):
            later = c.expect(values[t + 1])
            q = r + (later if self.discount == 1 else self.discount * later)
            top = float(q.max())
            if not top - float(q.min()) < 600:  # one shift for all would underflow
                values, log_policy = self._backward(reward)
                return values, np.exp(log_policy)
            weight = np.exp(q - top).reshape(c.num_states, c.width)
            total = weight @ ones
            np.add(np.log(total), top, out=values[t])
            np.divide(weight, total[:, None], out=policy[t].reshape(c.num_states, c.width))
        return values, policy

    def _forward(self, policy: np.ndarray, pushed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Visits (H, S) when so much sets out at every time, and the flow through every choice over all times."""
        c = self.choices
        if not self._plain:
            pushed[:, self.absorbing] = 0.0
        passed = np.zeros_like(pushed)
        total = np.zeros(c.num_choices)
        arriving = np.zeros(c.num_states)
        for t in range(self.horizon):
            passed[t] = pushed[t] + arriving
            flow = policy[t] * passed[t][c.state]
            total += flow
            if t + 1 < self.horizon:
                arriving = c.arrive(flow) if self.discount == 1 else self.discount * c.arrive(flow)
                if not self._plain:
                    arriving[self.absorbing] = 0.0
        return passed, total

    def _second(
        self,
        policy: np.ndarray,
        passed: np.ndarray,
        features: np.ndarray,
        state: np.ndarray,
        time: np.ndarray,
        seen: np.ndarray | None,
    ) -> tuple[tuple[np.ndarray], np.ndarray, np.ndarray | None]:
        """dV / dθ at these states and times, Σ visits · Cov_π(dQ), and the same of the visits seen."""
        c, size = self.choices, features.shape[1]
        d_value = np.zeros((c.num_states, size))
        curvature = np.zeros((size, size))
        information = None if seen is None else np.zeros((size, size))
        tangents = np.zeros((len(state), size))
        for t in range(self.horizon - 1, -1, -1):
            d_q = features + self.discount * c.expect(d_value)
            d_value = c.sum_by_state(policy[t][:, None] * d_q)
            spread = d_q - d_value[c.state]
            curvature += spread.T @ ((policy[t] * passed[t][c.state])[:, None] * spread)
            if seen is not None and information is not None:
                information += spread.T @ ((policy[t] * seen[t][c.state])[:, None] * spread)
            now = time == t
            tangents[now] = d_value[state[now]]
        return (tangents,), curvature, information
