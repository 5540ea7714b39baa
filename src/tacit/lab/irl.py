"""Maximum causal entropy inverse reinforcement learning on small worlds, exactly (Ziebart 2010).

The reward is linear in features of moves, r = Phi w, and the demonstrator soft-optimal for it. With n(s,a) the share of
demonstrated moves and n(s) = sum_a n(s,a), minus the mean log-likelihood at temperature tau is

    loss(w) = -sum n(s,a) log pi_w(a|s) = (1/tau) [<n(s) - gamma P^T n, V_w> - <n, Phi w>] + l2 / 2 |w / tau|^2,
    gradient = (1/tau) Phi^T (mu_w - n) + l2 w / tau^2,

where mu_w are the visits of pi_w begun at b = n(s) - gamma P^T n. If n are the exact visits of a policy, b is where it
began, and this is the matching of feature expectations, a convex problem. With counts b is right for the states that
were seen, so that sampling noise in the dynamics cannot drive w to infinity, as it does with the world's start.

Features decide what can be known: with one for each move any policy is explained, and this is behaviour cloning; with
one for each state the dynamics have to explain the rest, and states that nobody visited are filled in.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize

from tacit.lab.mdp import MDP, Array, WorldError
from tacit.lab.solve import evaluate, soft_optimal, visits

_STEPS = 40


def move_features(mdp: MDP) -> Array:
    """(S, A, S A) one feature for each move."""
    return np.eye(mdp.states * mdp.actions).reshape(mdp.states, mdp.actions, -1)


def state_features(mdp: MDP) -> Array:
    """(S, A, S) the state in which a move is made."""
    return np.repeat(np.eye(mdp.states)[:, None], mdp.actions, 1)


def arrival_features(mdp: MDP) -> Array:
    """(S, A, S) the state to which a move leads, in expectation: rewards for entering a state, ends included."""
    return mdp.dense


def maximum_entropy(
    mdp: MDP,
    demonstrated: Array,
    features: Array,
    *,
    temperature: float = 1.0,
    l2: float = 1e-6,
    iterations: int = 300,
    reference: Array | None = None,
) -> Array:
    """Weights (..., D) of the reward that explains demonstrated moves best.

    Args:
        mdp: The world; its own reward and start are not looked at.
        demonstrated: (..., S, A) counts or visits of demonstrated moves, each member of the batch by itself.
        features: (S, A, D).
        temperature: tau of the demonstrator; without it the scale of the reward is not identified.
        l2: Weight of the penalty; it picks the smallest of the rewards that cannot be told apart.
        iterations: Most steps of L-BFGS, over all of a batch together.
        reference: (..., S, A) a policy to which the demonstrator is regularised, or 1 for moves that it may make and 0
            for others; 1 everywhere where none is given.

    Raises `WorldError` for a world with a horizon and arrays of other shapes.
    """
    if mdp.horizon is not None:
        raise WorldError("maximum_entropy works in worlds without a horizon")
    size = (mdp.states, mdp.actions)
    if demonstrated.shape[-2:] != size or features.shape[:2] != size:
        raise WorldError(
            f"moves {demonstrated.shape} and features {features.shape} must be of {size} states and actions"
        )
    batch, count = demonstrated.shape[:-2], features.shape[-1]
    held = features * mdp.live[:, None, None]
    moves = demonstrated * mdp.live[:, None]
    moves = moves / moves.sum((-2, -1), keepdims=True)
    begin = moves.sum(-1) - mdp.discount * mdp.spread(moves) * mdp.live
    target = np.einsum("...sa,sad->...d", moves, held)
    first = mdp.uniform() if reference is None else reference / reference.sum(-1, keepdims=True)
    near: list[Array] = [np.broadcast_to(first, (*batch, *size))]

    def loss(flat: Array) -> tuple[float, Array]:
        weights = flat.reshape(*batch, count)
        found = soft_optimal(mdp, linear(held, weights), reference=reference, begin=near[0])
        near[0] = found.policy
        made = visits(mdp, found.policy, begin)
        value = (found.values * begin).sum(-1) - (weights * target).sum(-1) + l2 / 2 * (weights**2).sum(-1)
        slope = np.einsum("...sa,sad->...d", made, held) - target + l2 * weights
        return float(value.sum()), slope.ravel()

    options = {"maxiter": iterations, "maxcor": 30, "ftol": 1e-14, "gtol": 1e-8}
    zero = np.zeros(int(np.prod(batch, dtype=int)) * count)
    found = minimize(loss, zero, jac=True, method="L-BFGS-B", options=options)
    weights = found.x.reshape(-1, count)
    flat = (len(weights), *size)
    ends = _sharpened(
        mdp,
        held,
        weights,
        target.reshape(len(weights), count),
        begin.reshape(len(weights), -1),
        l2,
        None if reference is None else np.broadcast_to(reference, (*batch, *size)).reshape(flat),
    )
    return np.asarray(temperature * ends.reshape(*batch, count))


def _sharpened(
    mdp: MDP, held: Array, weights: Array, target: Array, begin: Array, l2: float, reference: Array | None
) -> Array:
    """(B, D) weights after Fisher scoring from (B, D): L-BFGS stops early along rewards of what is hardly ever done.

    The Fisher information of log pi_w is sum_sa mu_w(s,a) dA dA^T, where dA(s,a) = dQ(s,a) - dV(s) is the advantage of
    each feature taken as a reward. Steps are damped (Levenberg-Marquardt) and kept only where the loss falls.
    """
    each = np.moveaxis(held, -1, 0)  # (D, S, A)
    unit = np.eye(held.shape[-1])

    def at(weights: Array, near: Array | None) -> tuple[Array, Array, Array, Array]:
        found = soft_optimal(mdp, linear(held, weights), reference=reference, begin=near)
        made = visits(mdp, found.policy, begin)
        loss = (found.values * begin).sum(-1) - (weights * target).sum(-1) + l2 / 2 * (weights**2).sum(-1)
        return loss, np.einsum("bsa,sad->bd", made, held) - target + l2 * weights, found.policy, made

    loss, slope, policy, made = at(weights, None)
    damping = np.full(len(weights), 1e-6)
    for _ in range(_STEPS):
        values = evaluate(mdp, policy[:, None], each[None])  # (B, D, S)
        advantage = each + mdp.discount * mdp.expected(values) - values[..., None]
        flat = (advantage * mdp.live[:, None]).reshape(len(weights), len(unit), -1)
        curve = (flat * np.maximum(made, 0).reshape(len(weights), 1, -1)) @ np.swapaxes(flat, 1, 2) + l2 * unit
        curve += unit * (damping[:, None] * np.einsum("bdd->bd", curve))[:, None]
        moved = weights - np.linalg.solve(curve, slope[..., None])[..., 0]
        ahead = at(moved, policy)
        gain = loss - ahead[0]
        better = gain > -1e-15  # what rare moves gain is below the precision of the loss
        damping = np.where(better, np.maximum(damping / 10, 1e-12), damping * 10)
        if not better.any():
            if damping.min() > 1:
                break
            continue
        weights = np.where(better[:, None], moved, weights)
        loss, slope = np.where(better, ahead[0], loss), np.where(better[:, None], ahead[1], slope)
        policy = np.where(better[:, None, None], ahead[2], policy)
        made = np.where(better[:, None, None], ahead[3], made)
        if np.abs(gain).max() < 1e-15 and np.abs(slope).max() < 1e-15:
            break
    return weights


def linear(features: Array, weights: Array) -> Array:
    """(..., S, A) rewards of weights (..., D)."""
    return np.asarray(np.moveaxis(np.tensordot(features, weights, (-1, -1)), (0, 1), (-2, -1)))
