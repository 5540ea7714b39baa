"""Divergences against hand-worked numbers and against their dual; both sides of every equation in the table."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from tacit.demonstrations.divergences import NAMES, DivergenceError, divergence

ALL = [*((name, 0.5) for name in NAMES), ("alpha", 2.0), ("alpha", -1.0), ("alpha", 0.3)]
weights = st.lists(st.floats(0.02, 1.0), min_size=2, max_size=7)


def distributions(first, second):
    size = min(len(first), len(second))
    p, q = np.array(first[:size]), np.array(second[:size])
    return p / p.sum(), q / q.sum()


def test_hand_worked():
    p, q = np.array([0.75, 0.25]), np.array([0.5, 0.5])
    log = np.log
    kl = 0.75 * log(1.5) + 0.25 * log(0.5)
    reverse = 0.5 * log(2 / 3) + 0.5 * log(2)
    m = (p + q) / 2
    js = 0.5 * (p * log(p / m)).sum() + 0.5 * (q * log(q / m)).sum()
    expected = {
        "forward_kl": kl,
        "reverse_kl": reverse,
        "js": 2 * js,  # the survey's f gives twice the Jensen-Shannon divergence
        "chi2": 0.25**2 / 0.5 * 2,
        "hellinger": 2 - 2 * (0.375**0.5 + 0.125**0.5),
        "tv": 0.25,
        "alpha": (1 - (0.375**0.5 + 0.125**0.5)) / 0.25,  # 4 (1 - Bhattacharyya coefficient) at alpha 1/2
    }
    for name, value in expected.items():
        assert divergence(name).between(p, q) == pytest.approx(value, abs=1e-12), name


@pytest.mark.parametrize(("name", "alpha"), ALL)
@settings(max_examples=25)
@given(first=weights, second=weights)
def test_dual_equals_primal(name, alpha, first, second):
    d = divergence(name, alpha=alpha)
    p, q = distributions(first, second)
    u = p / q
    primal = (q * d.f(u)).sum()
    assert d.between(p, q) == pytest.approx(primal, abs=1e-12)
    best = d.derivative(u)
    assert (p * best).sum() - (q * d.conjugate(best)).sum() == pytest.approx(primal, rel=1e-9, abs=1e-9)
    rng = np.random.default_rng(len(first))
    low, high = d.domain
    for _ in range(5):  # no other discriminator does better
        other = np.clip(best + rng.normal(size=best.shape), low if low > -np.inf else -50, high - 1e-9)
        assert (p * other).sum() - (q * d.conjugate(other)).sum() <= primal + 1e-9


@pytest.mark.parametrize(("name", "alpha"), ALL)
def test_the_conjugate_is_the_supremum(name, alpha):
    d = divergence(name, alpha=alpha)
    low, high = d.domain
    for t in np.linspace(max(low, -3.0), min(high, 2.0), 13)[1:-1]:
        found = minimize_scalar(
            lambda s, t=t: d.f(np.exp(s)) - np.exp(s) * t, bounds=(-14, 8), method="bounded", options={"xatol": 1e-10}
        )
        ends = [d.f(np.exp(s)) - np.exp(s) * t for s in (-14.0, 0.0, 8.0)]
        assert d.conjugate(t) == pytest.approx(-min(found.fun, *ends), abs=2e-3), t


@pytest.mark.parametrize(("name", "alpha"), ALL)
def test_derivatives(name, alpha):
    d = divergence(name, alpha=alpha)
    u = np.array([0.2, 0.7, 1.3, 4.0])
    step = 1e-5
    assert d.f(np.ones(1)) == pytest.approx(0)
    assert (d.f(u + step) - d.f(u - step)) / (2 * step) == pytest.approx(d.derivative(u), rel=1e-7, abs=1e-7)
    assert (d.derivative(u + step) - d.derivative(u - step)) / (2 * step) == pytest.approx(
        d.second(u), rel=1e-6, abs=1e-6
    )
    assert (d.second(u) >= 0).all()


@pytest.mark.parametrize(("name", "alpha"), ALL)
def test_induced_reward(name, alpha):
    d = divergence(name, alpha=alpha)
    h = np.linspace(-3, 2, 11)
    u = np.exp(h)
    assert d.reward(h) == pytest.approx(d.conjugate(d.derivative(u)), abs=1e-9)
    assert d.reward(h) == pytest.approx(u * d.derivative(u) - d.f(u), abs=1e-9)
    assert d.reward(h, "direct") == pytest.approx(-d.f(u), abs=1e-9)
    assert (np.diff(d.reward(h)) >= -1e-12).all()  # more like the demonstrator never pays less
    assert np.isfinite(d.reward(np.array([-1e6, 1e6]))).all()


@pytest.mark.parametrize(("name", "alpha"), ALL)
def test_the_formal_reward_is_the_gradient(name, alpha):
    if name == "tv":
        pytest.skip("total variation has corners")
    d = divergence(name, alpha=alpha)
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.3, 0.5])
    step = 1e-6 * np.array([1, 0, -1])
    slope = (d.between(p, q + step) - d.between(p, q - step)) / 2e-6
    reward = d.reward(np.log(p / q))
    assert slope == pytest.approx(-(reward[0] - reward[2]), rel=1e-5)


@pytest.mark.parametrize(("name", "alpha"), ALL)
@pytest.mark.parametrize("tilt", [-2.0, 1.5])
def test_only_the_formal_reward_belongs_to_the_divergence(name, alpha, tilt):
    """f + c (u - 1) is the same divergence: u f' - f moves by a constant, -f does not."""
    d = divergence(name, alpha=alpha)
    h = np.linspace(-2, 2, 9)
    u = np.exp(h)
    p, q = np.array([0.7, 0.3]), np.array([0.4, 0.6])
    tilted = d.f(p / q) + tilt * (p / q - 1)
    assert (q * tilted).sum() == pytest.approx(d.between(p, q))
    formal = u * (d.derivative(u) + tilt) - (d.f(u) + tilt * (u - 1))
    assert formal - d.reward(h) == pytest.approx(tilt)
    direct = -(d.f(u) + tilt * (u - 1))
    assert np.ptp(direct - d.reward(h, "direct")) > 1


def test_published_rewards():
    h = np.array([-2.0, 0.0, 1.5])
    assert divergence("fairl").reward(h, "direct") == pytest.approx(-h * np.exp(h))
    assert divergence("fairl").reward(h) == pytest.approx(np.exp(h))
    assert divergence("airl").reward(h) == pytest.approx(h - 1)
    d = 1 / (1 + np.exp(-h))
    assert divergence("gail").reward(h) == pytest.approx(-np.log(1 - d) - np.log(2))


def test_supports_that_differ():
    p, q = np.array([1.0, 0.0]), np.array([0.5, 0.5])
    assert divergence("js").between(p, 1 - p) == pytest.approx(2 * np.log(2))
    assert divergence("tv").between(p, 1 - p) == pytest.approx(1)
    assert divergence("hellinger").between(p, 1 - p) == pytest.approx(2)
    assert divergence("forward_kl").between(p, q) == pytest.approx(np.log(2))
    assert divergence("reverse_kl").between(p, q) == np.inf
    assert divergence("forward_kl").between(q, p) == np.inf
    assert divergence("chi2").between(p, q) == pytest.approx(1)


def test_limits_of_alpha():
    p, q = np.array([0.6, 0.4]), np.array([0.3, 0.7])
    assert divergence("alpha", alpha=1 + 1e-6).between(p, q) == pytest.approx(divergence("kl").between(p, q), abs=1e-5)
    assert divergence("alpha", alpha=1e-6).between(p, q) == pytest.approx(divergence("rkl").between(p, q), abs=1e-5)
    assert divergence("alpha", alpha=2).between(p, q) == pytest.approx(divergence("chi2").between(p, q) / 2)


@pytest.mark.parametrize(("name", "alpha"), ALL)
def test_torch_tensors(name, alpha):
    torch = pytest.importorskip("torch")
    d = divergence(name, alpha=alpha)
    h = np.linspace(-2, 2, 7)
    for kind in ("formal", "direct"):
        tensor = d.reward(torch.from_numpy(h), kind)
        assert isinstance(tensor, torch.Tensor)
        assert tensor.numpy() == pytest.approx(d.reward(h, kind), abs=1e-12)
    t = torch.from_numpy(d.derivative(np.exp(h))).requires_grad_()
    d.dual(t, t).backward()
    assert torch.isfinite(t.grad).all()


@pytest.mark.statistical
@pytest.mark.parametrize("name", ["reverse_kl", "js", "forward_kl", "hellinger"])
def test_samples_estimate_the_dual(name):
    d = divergence(name)
    rng = np.random.default_rng(0)
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.25, 0.35, 0.4])
    best = d.derivative(p / q)
    estimate = d.dual(best[rng.choice(3, 40_000, p=p)], best[rng.choice(3, 40_000, p=q)])
    assert estimate == pytest.approx(d.between(p, q), abs=0.02)


@pytest.mark.parametrize(("name", "alpha"), [("nothing", 0.5), ("alpha", 0.0), ("alpha", 1.0)])
def test_unknown(name, alpha):
    with pytest.raises(DivergenceError):
        divergence(name, alpha=alpha)


def test_unknown_reward():
    with pytest.raises(DivergenceError, match="formal or direct"):
        divergence("js").reward(np.zeros(2), "other")
    with pytest.raises(DivergenceError, match="above 0"):
        divergence("js").reward(np.zeros(2), clip=0)
