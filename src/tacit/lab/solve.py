"""Exact solutions of small worlds: values, occupancies, and optimal, soft-optimal and KL-regularised policies.

Everything is batched: rewards and policies are (..., S, A) and values (..., S), with any leading axes.
In a world with a horizon T policies and values carry a time axis before the states, (..., T, S, A) and (..., T, S); a
policy of time length 1 is used at all times. Absorbing states are worth 0 and are no part of an occupancy.

    evaluate        v(s) = sum_a pi(a|s) [r(s,a) + gamma E v(s')]
    visits          mu(s,a) = sum_t gamma^t P(s_t = s, a_t = a), so that the return is sum mu r
    optimal         v(s) = max_a q(s,a)
    soft_optimal    v(s) = tau log sum_a ref(a|s) exp(q(s,a) / tau),  pi(a|s) = ref(a|s) exp((q(s,a) - v(s)) / tau)

`ref` = 1 is the maximum-entropy policy (Ziebart 2010), a policy the KL-regularised one, which maximises the return less
tau KL(pi || ref) along the way; on token worlds with the reward paid at the end it is ref exp(R / tau) / Z over texts,
the optimum that RLHF and DPO share (as Rafailov et al. have it: the survey's DPO box leaves out ref, turns round beta).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tacit.demonstrations.divergences import divergence
from tacit.lab.mdp import MDP, Array, WorldError

_DENSE = 100
"""Up to this many states linear systems are solved directly; above it by sweeps, which end in worlds that end."""
_SWEEPS, _IMPROVEMENTS, _TOLERANCE = 10_000, 1000, 1e-11


@dataclass(frozen=True)
class Solution:
    """A policy with what it is worth."""

    policy: Array
    """(..., S, A), or (..., T, S, A) in a world with a horizon."""
    q: Array
    """(..., S, A) or (..., T, S, A) r + gamma E v(s'); 0 in absorbing states."""
    values: Array
    """(..., S) or (..., T, S); soft values where the policy is soft."""


def evaluate(mdp: MDP, policy: Array, reward: Array | None = None) -> Array:
    """(..., S) or (..., T, S) values of a policy for the world's reward or another one."""
    table = _masked(mdp, mdp.reward if reward is None else reward)
    if mdp.horizon is not None:
        policy = timed(mdp, policy)
        ahead = np.zeros(1)
        values = []
        for t in reversed(range(mdp.horizon)):
            q = table if t == mdp.horizon - 1 else table + mdp.discount * mdp.expected(ahead)
            ahead = (policy[..., t, :, :] * q).sum(-1)
            values.append(ahead)
        return np.stack(values[::-1], -2)
    earned = (policy * table).sum(-1)
    if mdp.states <= _DENSE:
        return _direct(_system(mdp, policy), earned)
    values_now = earned
    for _ in range(_SWEEPS):
        following = earned + mdp.discount * (policy * mdp.expected(values_now)).sum(-1) * mdp.live
        if np.abs(following - values_now).max() < _TOLERANCE:
            return np.asarray(following)
        values_now = following
    raise WorldError(f"values did not settle in {_SWEEPS} sweeps. Lower the discount, or give the world a horizon")


def visits(mdp: MDP, policy: Array, start: Array | None = None) -> Array:
    """(..., S, A) or (..., T, S, A) discounted number of times that a policy makes each move, from `start` (S,)."""
    begin = (mdp.start if start is None else start) * mdp.live
    if mdp.horizon is not None:
        policy = timed(mdp, policy)
        made, mass = [], begin
        for t in range(mdp.horizon):
            made.append(mdp.discount**t * mass[..., None] * policy[..., t, :, :])
            mass = mdp.spread(mass[..., None] * policy[..., t, :, :]) * mdp.live
        return np.stack(made, -3)
    if mdp.states <= _DENSE:
        there = _direct(np.swapaxes(_system(mdp, policy), -1, -2), begin)
        return np.asarray(there[..., None] * policy)
    total = mass = np.broadcast_to(begin, policy.shape[:-1])
    for _ in range(_SWEEPS):
        mass = mdp.discount * mdp.spread(mass[..., None] * policy) * mdp.live
        total = total + mass
        if np.abs(mass).sum(-1).max() < _TOLERANCE:
            return np.asarray(total[..., None] * policy)
    raise WorldError(f"visits did not settle in {_SWEEPS} sweeps. Lower the discount, or give the world a horizon")


def occupancy(mdp: MDP, policy: Array, start: Array | None = None) -> Array:
    """`visits` as a distribution over moves: they sum to one over (S, A), or over (T, S, A) with a horizon."""
    made = visits(mdp, policy, start)
    axes = _axes(mdp)
    return np.asarray(made / made.sum(axes, keepdims=True))


def returns(mdp: MDP, policy: Array, reward: Array | None = None, start: Array | None = None) -> Array:
    """(...) expected discounted return from the world's start, or another."""
    values = evaluate(mdp, policy, reward)
    first = values[..., 0, :] if mdp.horizon is not None else values
    return np.asarray((first * (mdp.start if start is None else start)).sum(-1))


def optimal(mdp: MDP, reward: Array | None = None) -> Solution:
    """A best policy; ties go to the first action."""
    return _solve(mdp, reward, None, None)


def soft_optimal(
    mdp: MDP,
    reward: Array | None = None,
    *,
    temperature: float = 1.0,
    reference: Array | None = None,
    begin: Array | None = None,
) -> Solution:
    """The policy that maximises return plus tau entropy, or less tau KL to `reference` (..., S, A) where one is given.

    A reference need not be normalised: one of 1 and 0 is the maximum-entropy policy among the moves that have 1.

    Policy iteration with soft values: Newton's method on the soft Bellman equation, so that few steps suffice;
    fewer from a policy `begin` that is near (in worlds without a horizon).
    """
    if not temperature > 0:
        raise WorldError(f"temperature {temperature} is not above 0. `optimal` is the limit at 0")
    return _solve(mdp, reward, temperature, reference, begin)


def total_variation(p: Array, q: Array, axes: int = 2) -> Array:
    """(...) half the sum of |p - q| over the last `axes` axes (2 for occupancies, 3 with a horizon)."""
    return np.asarray(np.abs(p - q).sum(tuple(range(-axes, 0))) / 2)


def f_divergence(p: Array, q: Array, name: str, *, alpha: float = 0.5, axes: int = 2) -> Array:
    """(...) D_f(p || q) of occupancies over their last `axes` axes, by name (`demonstrations.divergences`)."""
    flat = [array.reshape(*array.shape[: array.ndim - axes], -1) for array in (p, q)]
    return divergence(name, alpha=alpha).between(*flat)


def timed(mdp: MDP, policy: Array) -> Array:
    """A policy over the time of a world with a horizon: its time axis, of length T or 1, stretched to T."""
    if mdp.horizon is None or policy.ndim < 3 or policy.shape[-3] not in (1, mdp.horizon):
        raise WorldError(f"a policy of shape {policy.shape} has no time axis of length {mdp.horizon} before the states")
    return np.broadcast_to(policy, (*policy.shape[:-3], mdp.horizon, *policy.shape[-2:]))


def residual(mdp: MDP, solution: Solution, reward: Array | None = None, temperature: float = 0.0) -> float:
    """Largest error of a solution in its own (soft) Bellman equation, without a reference; 0 when it is solved."""
    table = _masked(mdp, mdp.reward if reward is None else reward)
    ahead = mdp.expected(solution.values)
    if mdp.horizon is not None:
        table = table[..., None, :, :]
        ahead = np.concatenate([ahead[..., 1:, :, :], np.zeros_like(ahead[..., :1, :, :])], -3)
    q = (table + mdp.discount * ahead) * mdp.live[:, None]
    values, _ = _choose(q, temperature or None, None)
    return float(np.abs(values * mdp.live - solution.values).max())


def _solve(
    mdp: MDP, reward: Array | None, temperature: float | None, reference: Array | None, begin: Array | None = None
) -> Solution:
    table = _masked(mdp, mdp.reward if reward is None else reward)
    live = mdp.live
    log_ref = None
    if reference is not None:
        with np.errstate(divide="ignore"):
            log_ref = np.log(reference)
    if mdp.horizon is not None:
        layers: list[tuple[Array, Array, Array]] = []
        for t in reversed(range(mdp.horizon)):
            q = table + mdp.discount * mdp.expected(layers[-1][2]) * live[:, None] if layers else table
            own = None if log_ref is None else timed(mdp, log_ref)[..., t, :, :]
            values, policy = _choose(q, temperature, own)
            layers.append((policy, q, values * live))
        policies, qs, vs = zip(*layers[::-1], strict=True)
        return Solution(np.stack(policies, -3), np.stack(qs, -3), np.stack(vs, -2))
    shape = np.broadcast_shapes(table.shape, () if log_ref is None else log_ref.shape)
    values = np.zeros(shape[:-1])
    first = mdp.uniform() if reference is None else reference / reference.sum(-1, keepdims=True)
    policy = np.broadcast_to(first if begin is None else begin, shape)
    for _ in range(_IMPROVEMENTS):
        if mdp.states <= _DENSE:
            bonus = 0.0 if temperature is None else temperature * _entropy(policy, log_ref)
            values = _direct(_system(mdp, policy), ((policy * table).sum(-1) + bonus) * live)
        q = (table + mdp.discount * mdp.expected(values)) * live[:, None]
        following, policy = _choose(q, temperature, log_ref)
        following = following * live
        change = np.abs(following - values).max()
        values = following
        if change < _TOLERANCE * max(1.0, float(np.abs(values).max())):
            q = (table + mdp.discount * mdp.expected(values)) * live[:, None]
            return Solution(policy, q, values)
    raise WorldError(f"no policy was settled on in {_IMPROVEMENTS} steps. Lower the discount, or give a horizon")


def _choose(q: Array, temperature: float | None, log_ref: Array | None) -> tuple[Array, Array]:
    """Values (..., S) and policy (..., S, A) for action values q."""
    if temperature is None:
        best = q.argmax(-1)
        return q.max(-1), np.eye(q.shape[-1])[best]
    logits = q / temperature if log_ref is None else q / temperature + log_ref
    top = logits.max(-1, keepdims=True)
    weights = np.exp(logits - top)
    total = weights.sum(-1, keepdims=True)
    return temperature * (top + np.log(total))[..., 0], weights / total


def _entropy(policy: Array, log_ref: Array | None) -> Array:
    """(..., S) entropy, or minus the KL to the reference."""
    log_policy = np.log(np.where(policy > 0, policy, 1))
    gap = log_policy if log_ref is None else np.where(policy > 0, log_policy - np.where(policy > 0, log_ref, 0), 0)
    return np.asarray(-(policy * gap).sum(-1))


def _system(mdp: MDP, policy: Array) -> Array:
    """(..., S, S) I - gamma P_pi between live states."""
    moves = np.einsum("...sa,sat->...st", policy, mdp.dense)
    live = mdp.live
    return np.asarray(np.eye(mdp.states) - mdp.discount * moves * live[:, None] * live)


def _direct(system: Array, right: Array) -> Array:
    right = np.broadcast_to(right, np.broadcast_shapes(right.shape, system.shape[:-1]))
    try:
        found = np.linalg.solve(system, right[..., None])[..., 0]
    except np.linalg.LinAlgError:
        found = np.full(right.shape, np.nan)
    if not np.isfinite(found).all() or np.abs(found).max() > 1e12:
        raise WorldError("a policy never ends at discount 1. Lower the discount, or give the world a horizon")
    return np.asarray(found)


def _masked(mdp: MDP, reward: Array) -> Array:
    if reward.shape[-2:] != (mdp.states, mdp.actions):
        raise WorldError(f"the reward has shape {reward.shape}. It must end in {(mdp.states, mdp.actions)}")
    return np.asarray(reward * mdp.live[:, None])


def _axes(mdp: MDP) -> tuple[int, ...]:
    return (-2, -1) if mdp.horizon is None else (-3, -2, -1)
