"""Which rewards explain the same behaviour, and how far two rewards are apart.

A maximum-entropy policy pi with temperature tau says of its reward (Cao, Cohen and Szpruch 2021, theorem 1):

    r(s,a) = tau log pi(a|s) + v(s) - gamma E[v(s') | s, a],  for any v with v = 0 in absorbing states,

so rewards share their soft-optimal policy exactly where they differ by potential shaping gamma E v(s') - v(s). That
space has one dimension for each live state. A constant lies in it where nothing ends (v = c / (gamma - 1)) and not
where episodes can end, since a constant there pays for staying alive. Rewards that share only their *optimal* policy
are a larger set, a cone (Ng and Russell 2000); `explains` tells whether a reward is in it.

Distances are of the STARC family (Skalse et al. 2024): bring rewards to a canonical form that equivalent ones share,
scale it to length one, take half the Euclidean distance, in [0, 1]. `minimal` is the orthogonal projection past the
shaping space; `levelled` subtracts values of the uniform policy (VAL). EPIC (Gleave et al. 2021) is the same distance
with another canonical form, which is not constant on rewards with one behaviour where the dynamics matter.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from tacit.lab.mdp import MDP, Array, WorldError
from tacit.lab.solve import evaluate, optimal, soft_optimal

Form = Literal["minimal", "levelled"]


def shaping(mdp: MDP, potential: Array) -> Array:
    """(..., S, A) gamma E[phi(s')] - phi(s) of a potential (..., S), which counts as 0 in absorbing states."""
    held = potential * mdp.live
    return np.asarray((mdp.discount * mdp.expected(held) - held[..., None]) * mdp.live[:, None])


def invisible(mdp: MDP) -> Array:
    """(D, S A) orthonormal basis of the changes of reward that no soft-optimal behaviour shows; D live states.

    Moves of absorbing states are not part of it: rewards there count as 0. Needs a world without a horizon, since
    with one, values depend on time and only those changes are invisible that shape at every time alike.
    """
    return _span(mdp)


def canonical(mdp: MDP, reward: Array, form: Form = "minimal") -> Array:
    """(..., S, A) a form of a reward (..., S, A) that is equal for all rewards of one soft-optimal behaviour."""
    held = reward * mdp.live[:, None]
    if form == "minimal":
        basis, shape = invisible(mdp), held.shape
        flat = held.reshape(-1, mdp.states * mdp.actions)
        return np.asarray(flat - (flat @ basis.T) @ basis).reshape(shape)
    if form == "levelled":
        _without_horizon(mdp)
        return np.asarray(held + shaping(mdp, evaluate(mdp, mdp.uniform(), held)))
    raise WorldError(f"no canonical form `{form}`. Take minimal or levelled")


def distance(mdp: MDP, first: Array, second: Array, form: Form = "minimal") -> Array:
    """(...) distance of two rewards in [0, 1]: 0 equal up to shaping and a positive scale, 1 opposite.

    A reward that is only shaping has canonical form 0; its distance from another is 1/2, from another such 0.
    """
    a, b = (_unit(canonical(mdp, reward, form)) for reward in (first, second))
    return np.asarray(np.sqrt(((a - b) ** 2).sum((-2, -1))) / 2)


def gap(mdp: MDP, first: Array, second: Array) -> Array:
    """(...) relative distance without free scale: |c(first) - c(second)| / |c(second)| in the minimal form.

    The temperature of the demonstrator being known, soft-optimal behaviour fixes the scale as well.
    """
    a, b = (canonical(mdp, reward) for reward in (first, second))
    return np.asarray(np.sqrt(((a - b) ** 2).sum((-2, -1)) / (b**2).sum((-2, -1))))


def epic(mdp: MDP, first: Array, second: Array) -> Array:
    """(...) EPIC distance sqrt((1 - rho) / 2) for state-action rewards, moves of live states equally often.

    C(r)(s, a) = r(s, a) + gamma E[m(s')] - m(s) + const, where m(s) is the mean of r(s, .), 0 in absorbing states; the
    constant leaves with the Pearson correlation.
    """
    forms = []
    for reward in (first, second):
        held = reward * mdp.live[:, None]
        form = (held + shaping(mdp, held.mean(-1)))[..., mdp.live, :]
        form = form - form.mean((-2, -1), keepdims=True)
        forms.append(_unit(form))
    return np.asarray(np.sqrt(((forms[0] - forms[1]) ** 2).sum((-2, -1))) / 2)


def from_policy(mdp: MDP, policy: Array, temperature: float = 1.0, values: Array | float = 0.0) -> Array:
    """(..., S, A) the reward tau log pi(a|s) + v(s) - gamma E v(s'), for which `policy` is soft-optimal at any v.

    Raises `WorldError` for a policy with zeros: no finite reward makes those actions impossible.
    """
    if not (policy[..., mdp.live, :] > 0).all():
        raise WorldError("the policy never takes some action. No finite reward explains that: smooth it first")
    log_policy = np.log(np.where(policy > 0, policy, 1)) * mdp.live[:, None]
    return np.asarray(temperature * log_policy - shaping(mdp, np.broadcast_to(values, policy.shape[:-1])))


def same_behaviour(mdp: MDP, first: Array, second: Array, *, temperature: float = 1.0) -> Array:
    """(...) largest difference between the soft-optimal policies of two rewards, over live states."""
    policies = [soft_optimal(mdp, reward, temperature=temperature).policy for reward in (first, second)]
    return np.asarray(np.abs(policies[0] - policies[1])[..., mdp.live, :].max((-2, -1)))


def explains(mdp: MDP, reward: Array, policy: Array, tolerance: float = 1e-8) -> Array:
    """(...) whether `policy` is optimal for `reward` in every live state: its actions are as good as any."""
    _without_horizon(mdp)
    best = optimal(mdp, reward)
    loss = (best.values - (policy * best.q).sum(-1)) * mdp.live
    return np.asarray(loss.max(-1) <= tolerance * np.maximum(1, np.abs(best.values).max(-1)))


def state_only(mdp: MDP, policy: Array, temperature: float = 1.0) -> tuple[Array, Array]:
    """The reward r(s) that explains a soft-optimal policy (..., S, A) best, (..., S), and what it leaves over, (...).

    Least squares of tau log pi(a|s) = r(s) - v(s) + gamma E[v(s') | s, a] over r and v. Where the world is decomposable
    (AIRL; Fu et al. 2018, theorem 5.1) r is found up to a constant; the smallest such r is given here, and the second
    value, the root mean square left over, is 0 only if some r(s) explains the policy.
    """
    _without_horizon(mdp)
    live = np.flatnonzero(mdp.live)
    count = len(live)
    ahead = mdp.discount * mdp.dense[live][:, :, live].reshape(-1, count)
    own = np.repeat(np.eye(count), mdp.actions, 0)
    design = np.concatenate([own, ahead - own], 1)
    target = temperature * np.log(policy[..., live, :]).reshape(-1, count * mdp.actions).T
    found = np.linalg.lstsq(design, target, rcond=1e-10)[0]
    left = np.sqrt(((design @ found - target) ** 2).mean(0))
    reward = np.zeros((found.shape[1], mdp.states))
    reward[:, live] = found[:count].T
    return reward.reshape(policy.shape[:-1]), left.reshape(policy.shape[:-2])


def _span(mdp: MDP) -> Array:
    _without_horizon(mdp)
    live = np.flatnonzero(mdp.live)
    directions = shaping(mdp, np.eye(mdp.states)[live]).reshape(len(live), -1)
    _, size, right = np.linalg.svd(directions, full_matrices=False)
    rank = int((size > 1e-10 * size.max()).sum())
    return np.asarray(right[:rank])


def _unit(form: Array) -> Array:
    size = np.sqrt((form**2).sum((-2, -1), keepdims=True))
    return np.asarray(np.where(size > 1e-12, form / np.where(size > 0, size, 1), 0))


def _without_horizon(mdp: MDP) -> None:
    if mdp.horizon is not None:
        raise WorldError(f"identifiability is worked out for worlds without a horizon; this one has {mdp.horizon}")
