"""Personal rewards: the maths against hand and other solvers, and what each should find in a known world."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from numerics import ROUNDING, assert_float32_close
from tacit.errors import EvidenceError, TacitError
from tacit.lab.people import Person, accuracy, orthogonal
from tacit.rewards.people.adapting import (
    Context,
    Fixed,
    Logistic,
    crossed,
    held_out,
    linear_head,
    newton,
    person_metrics,
    query_odds,
)
from tacit.rewards.people.crowd import Episodes, compared, pooled_head
from tacit.rewards.people.decomposed import Decomposed, DecomposedOptions, components, decompose
from tacit.rewards.people.groups import Grouped, GroupOptions, fit_groups, worst_group
from tacit.rewards.people.latent import Latent, LatentOptions, train
from tacit.rewards.people.mixture import find_groups
from tacit.rewards.people.table import adaptation, controls, rows_of


def context(gaps, weight=None, items=None):
    gaps = torch.as_tensor(gaps, dtype=torch.float32)
    people, n, _ = gaps.shape
    weight = torch.ones(people, n) if weight is None else torch.as_tensor(weight, dtype=torch.float32)
    items = torch.arange(2 * n).reshape(n, 2).expand(people, -1, -1) if items is None else items
    return Context(gaps, weight, items)


@pytest.fixture(scope="module")
def grouped():
    """Two groups of opposed taste beside a shared one, and new people of both."""
    rng = np.random.default_rng(0)
    truth = orthogonal(2, 12, 3.0, rng)
    group = np.arange(60) % 2
    crowd = Person.of(truth[group]).choose(30, rng, groups=group)
    new = Person.of(truth[group[:20]]).choose(40, rng, standardise=crowd.standardise)
    pooled, report = pooled_head(crowd)
    return crowd, new, pooled, float(report["l2"]), truth, group


# --- adapting ---------------------------------------------------------------------------------------------------------


def test_newton_solves_penalised_logistic_regression():
    from scipy.optimize import minimize

    rng = np.random.default_rng(0)
    gaps = torch.from_numpy(rng.standard_normal((2, 15, 6))).float()
    offset, weight = torch.from_numpy(rng.standard_normal((2, 15))).float(), torch.ones(2, 15)
    weight[1, 10:] = 0
    dual = newton(gaps @ gaps.transpose(1, 2) / 0.7, offset, weight)
    for p in range(2):
        z, o, c = gaps[p].double().numpy(), offset[p].double().numpy(), weight[p].double().numpy()

        def loss(w, z=z, o=o, c=c):
            return (c * np.logaddexp(0, -(o + z @ w))).sum() + 0.35 * w @ w

        expected = minimize(loss, np.zeros(6), method="BFGS", options={"gtol": 1e-8}).x
        assert np.allclose((dual[p] @ gaps[p] / 0.7).numpy(), expected, atol=1e-4)


def test_cross_fitting_by_one_eigendecomposition_equals_newton():
    torch.manual_seed(0)
    gaps = torch.randn(3, 20, 8)
    kernel = gaps @ gaps.transpose(1, 2) / 8
    offset, weight = torch.randn(3, 20) * 0.3, (torch.rand(3, 2, 20) < 0.7).float()
    ridges = torch.tensor([10.0, 1.0, 0.3])
    fitted = crossed(kernel, offset, weight, ridges)
    for r, ridge in enumerate(ridges):
        for f in range(2):
            dual = newton(kernel / ridge, offset, weight[:, f])
            exact = (kernel / ridge @ dual[..., None])[..., 0]
            assert torch.allclose(fitted[:, r, f], exact, atol=2e-3)


def test_padding_changes_no_adaptation(grouped):
    crowd, new, pooled, l2, _, _ = grouped
    rows = new.person[:, None].new_tensor([[0, 1, 2, 3, 4, 5]])
    longer = torch.cat([rows, rows.new_full((1, 4), -1)], dim=1)
    ways = controls(crowd, pooled, DecomposedOptions(components=4)) | {
        "groups": fit_groups(crowd, pooled, l2, GroupOptions(groups=2, restarts=2))[0].adapt,
        "latent": train(crowd, pooled, LatentOptions(steps=10, latent=2))[0].adapt,
        "attention": train(crowd, pooled, LatentOptions(steps=10, latent=2, pooling="attention"))[0].adapt,
    }
    for name, adapt in ways.items():
        short, padded = (adapt(Context.of(new, r))["linear"] for r in (rows, longer))
        assert_float32_close(short, padded, rtol=8 * ROUNDING, msg=name)


def test_people_do_not_matter_to_each_other(grouped):
    crowd, new, pooled, _, _, _ = grouped
    latent = train(crowd, pooled, LatentOptions(steps=5, decoder="mlp"))[0]
    episodes = Episodes.draw(new, 6, 0)
    for adapt in (Logistic(pooled).adapt, latent.adapt):
        together = adapt(Context.of(new, episodes.context))
        alone = adapt(Context.of(new, episodes.context[3:4]))
        for key, value in together.items():
            assert_float32_close(value[3], alone[key][0], rtol=8 * ROUNDING, msg=key)


def test_shared_responses_are_held_out_by_response():
    liked, disliked = torch.meshgrid(torch.arange(6), torch.arange(6, 12), indexing="ij")
    items = torch.stack([liked.flatten(), disliked.flatten()], dim=1)[None]
    train_on, test_on = held_out(context(torch.randn(1, 36, 3), items=items), 5)
    assert bool(train_on.any())
    assert bool(test_on.any())
    for fold in range(5):
        fitted, tested = items[0][train_on[0, fold]].flatten(), items[0][test_on[0, fold]].flatten()
        assert not set(fitted.tolist()) & set(tested.tolist())
    train_on, test_on = held_out(context(torch.randn(1, 10, 3)), 5)  # nothing shared: ordinary folds
    assert bool((test_on.sum(1) == 1).all())
    assert bool((train_on ^ test_on).all())


def test_logistic_with_a_right_prior_beats_plain_logistic(grouped):
    _, new, _, _, truth, _ = grouped
    prior = torch.from_numpy(truth[0]).float() * new.standardise.scale
    mine = new.of_people(range(0, 20, 2))
    found = adaptation(mine, {"plain": Logistic().adapt, "prior": Logistic(prior).adapt}, Episodes.draw(mine, 10, 0))
    assert found["prior"]["accuracy"].mean() > found["plain"]["accuracy"].mean() + 0.05


def test_person_metrics_by_hand():
    metrics = person_metrics(torch.tensor([[2.0, -1.0, 0.0], [1.0, 0.0, 0.0]]), torch.tensor([[1.0, 1, 2], [1, 0, 0]]))
    assert metrics["accuracy"].tolist() == [0.5, 1.0]
    expected = (math.log1p(math.exp(-2)) + math.log1p(math.exp(1)) + 2 * math.log(2)) / 4
    assert metrics["nll"][0] == pytest.approx(expected, rel=1e-6)


# --- decomposed -------------------------------------------------------------------------------------------------------


def test_hypothesis_reweighting_by_hand():
    adapter = Decomposed(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), temperature=0.5)
    weights = adapter.weigh(context([[[2.0, 5.0], [1.0, -3.0]]]))
    losses = [sum(math.log1p(math.exp(-s * z)) for z in (2.0, 1.0)) for s in (1, -1)]
    expected = 1 / (1 + math.exp((losses[0] - losses[1]) / 0.5))
    assert weights[0, 0].item() == pytest.approx(expected, rel=1e-5)
    averaged = Decomposed(adapter.heads, reduction="mean").weigh(context([[[2.0, 5.0], [1.0, -3.0]]]))
    assert averaged[0, 0].item() == pytest.approx(1 / (1 + math.exp((losses[0] - losses[1]) / 2)), rel=1e-5)


def test_centred_components_are_those_of_scikit_learn_and_lose_what_all_agree_on():
    from sklearn.decomposition import PCA

    rng = np.random.default_rng(0)
    # Everybody likes feature 1. Of the differences, feature 0 has variance 1.62; feature 1 has second moment 2, most of
    # it the squared mean: its variance is .73.
    points = (rng.standard_normal((2000, 4)) * [0.9, 1.0, 0.3, 0.2]).astype(np.float32)
    first, second = rng.integers(2000, size=3000), rng.integers(2000, size=3000)
    better = points[first, 1] > points[second, 1]
    chosen, rejected = np.where(better, first, second), np.where(better, second, first)
    crowd = compared(points, chosen, rejected, ["a"] * 3000)
    found, share = components(crowd, 3, centred=True)
    reference = PCA(3).fit(points[chosen] - points[rejected])
    centred = (found / crowd.standardise.scale).numpy()
    assert np.allclose(np.abs((centred * reference.components_).sum(1)), 1, atol=1e-3)
    assert np.allclose(share, reference.explained_variance_ratio_, atol=1e-3)
    uncentred = (components(crowd, 3, centred=False)[0] / crowd.standardise.scale).numpy()
    assert np.abs(centred[0]).argmax() == 0
    assert np.abs(uncentred[0]).argmax() == 1
    assert uncentred[0, 1] > 0.9  # and signed as the crowd prefers


def test_both_signs_and_the_population_are_kept(grouped):
    crowd, _, pooled, _, _, _ = grouped
    adapter, report = decompose(crowd, pooled, DecomposedOptions(components=3))
    assert report["heads"] == len(adapter.heads) == 7
    assert torch.allclose(adapter.heads[:3], -adapter.heads[3:6])
    scores = crowd.gaps() @ adapter.heads.T
    assert torch.allclose(scores.square().mean(0).sqrt(), torch.ones(7), atol=1e-3)
    assert torch.nn.functional.cosine_similarity(adapter.heads[6], pooled, dim=0) > 0.999


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [("components", 0, "1 or more"), ("temperature", 0.0, "above 0"), ("directions", "up", "centred, uncentred")],
)
def test_wrong_options_name_what_is_right(option, value, said):
    with pytest.raises(TacitError, match=said):
        DecomposedOptions(**{option: value})


# --- groups -----------------------------------------------------------------------------------------------------------


def test_groups_are_found_and_likelihood_never_falls(grouped):
    crowd, new, pooled, l2, _, group = grouped
    found = find_groups(crowd, 2, pooled, l2 * float(crowd.weight.sum()))
    assert all(b >= a - 1e-4 * abs(a) for a, b in zip(found.trace, found.trace[1:], strict=False))
    assigned = found.member.argmax(1).numpy()
    assert (assigned == group).all() or (assigned == 1 - group).all()
    again = find_groups(crowd, 2, pooled, l2 * float(crowd.weight.sum()))
    assert torch.equal(found.heads, again.heads)
    right = adaptation(
        new,
        {"groups": Grouped(found.heads, found.log_share).adapt, "pooled": Fixed(pooled).adapt},
        Episodes.draw(new, 10, 0),
    )
    assert right["groups"]["accuracy"].mean() > right["pooled"]["accuracy"].mean() + 0.1


def test_the_number_of_groups_is_chosen_by_held_out_likelihood(grouped):
    crowd, _, pooled, l2, _, _ = grouped
    _, _, report = fit_groups(crowd.without_groups(), pooled, l2, GroupOptions(restarts=4))
    assert report["groups"] == ["group 1", "group 2"]
    assert report["path"][1]["held_out_loss"] < report["path"][0]["held_out_loss"] - 0.05


def test_posterior_over_groups_by_hand():
    adapter = Grouped(torch.tensor([[1.0], [-1.0]]), torch.tensor([0.2, 0.8]).log())
    sigma = 1 / (1 + math.exp(-3.0))
    expected = 0.2 * sigma / (0.2 * sigma + 0.8 * (1 - sigma))
    assert adapter.posterior(context([[[3.0]]]))[0, 0].item() == pytest.approx(expected, rel=1e-5)
    assert adapter.adapt(context([[[3.0]]]))["linear"][0, 0].item() == pytest.approx(2 * expected - 1, rel=1e-4)


def test_maxmin_evens_the_groups_and_closes_the_gap(grouped):
    crowd, _, _, l2, _, _ = grouped
    member = (crowd.group == torch.arange(2)[:, None]).float()
    member[1, (crowd.group == 1).nonzero()[::3, 0]] = 0.0  # unequal sizes
    found = worst_group(crowd, member, l2)
    assert found.gap < 1e-3
    assert float(found.losses.max() - found.losses.min()) < 2e-3
    assert float(found.weights.sum()) == pytest.approx(1, abs=1e-5)


def test_maxmin_leaves_an_easy_group_alone():
    # The second group agrees with the first and is surer: the first alone decides.
    rng = np.random.default_rng(0)
    truth = orthogonal(1, 4, 1.0, rng)[0]
    crowd = Person.of(np.stack([truth, 4 * truth])).choose(800, rng, groups=np.arange(2))
    member = (crowd.group == torch.arange(2)[:, None]).float()
    found = worst_group(crowd, member, 1e-3)
    assert found.weights[0] > 0.95


def test_rows_without_a_group_are_named():
    made = compared(np.eye(4, dtype=np.float32), np.array([0, 1, 2]), np.array([1, 2, 3]), ["a"] * 3, ["x", "y", None])
    with pytest.raises(EvidenceError, match="row 3, column `group`"):
        fit_groups(made, torch.zeros(4), 0.1, GroupOptions())


# --- latent -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("decoder", "pooling"), [("linear", "product"), ("mlp", "attention")])
def test_a_latent_user_is_found(grouped, decoder, pooling):
    crowd, new, pooled, _, _, _ = grouped
    model, report = train(crowd, pooled, LatentOptions(decoder=decoder, pooling=pooling, latent=4, steps=250))
    right = adaptation(new, {"latent": model.adapt, "pooled": Fixed(pooled).adapt}, Episodes.draw(new, 10, 0))
    assert right["latent"]["accuracy"].mean() > right["pooled"]["accuracy"].mean() + 0.08
    assert report["held_out_loss"] < 0.6  # on the tenth of the people that is watched
    again, _ = train(crowd, pooled, LatentOptions(decoder=decoder, pooling=pooling, latent=4, steps=250))
    assert all(torch.equal(a, again.weights[key]) for key, a in model.weights.items())


def test_an_mlp_decoder_scores_queries_as_its_equation_says(grouped):
    crowd, new, pooled, _, _, _ = grouped
    model, _ = train(crowd, pooled, LatentOptions(decoder="mlp", steps=20, latent=3, width=5))
    episodes = Episodes.draw(new, 5, 0)
    odds, weight = query_odds(new, episodes, model.adapt)
    z = model.encode(Context.of(new, episodes.context))[0]
    w = model.weights
    for p in (0, 7):
        chosen, rejected = (new.features[new.rows[episodes.query[p], side]] for side in (0, 1))

        def score(x, p=p):
            hidden = torch.relu((x @ model.projection.T) @ w["dec_x"] + z[p] @ w["dec_z"] + w["dec_b"])
            return w["scale"] * (x @ pooled) + hidden @ w["dec_out"]

        expected = score(chosen) - score(rejected)
        kept = weight[p] > 0
        assert_float32_close(odds[p][kept], expected[kept])


def test_nothing_said_leaves_the_prior(grouped):
    crowd, _, pooled, _, _, _ = grouped
    for pooling in ("product", "attention"):
        model, _ = train(crowd, pooled, LatentOptions(steps=10, pooling=pooling))
        silent = context(torch.zeros(1, 2, crowd.dim), weight=torch.zeros(1, 2))
        mean, deviation = model.encode(silent)
        assert mean.abs().max() == 0
        assert torch.allclose(deviation, torch.ones_like(deviation))
        assert_float32_close(model.adapt(silent)["linear"], model.decode(torch.zeros(1, 8))["linear"])
    assert isinstance(model, Latent)


# --- table ------------------------------------------------------------------------------------------------------------


def test_rows_are_paired_with_the_pooled_reward():
    found = {
        "pooled": {"accuracy": np.array([0.5, 0.7]), "nll": np.array([0.6, 0.6])},
        "own": {"accuracy": np.array([0.6, 0.8]), "nll": np.array([0.5, 0.4])},
    }
    pooled, own = rows_of(found, shots=10)
    assert (own["shots"], own["people"], pooled["gain"]) == (10, 2, 0.0)
    assert own["gain"] == pytest.approx(0.1)
    assert own["gain_ci"] == pytest.approx([0.1, 0.1])  # both gain as much, so resampling people changes nothing
    assert own["accuracy_ci"] == pytest.approx([0.6, 0.8])


def test_accuracy_of_linear_rewards_in_closed_form():
    rng = np.random.default_rng(0)
    head, truth, spread = rng.standard_normal((3, 5))
    spread = np.abs(spread)
    gaps = rng.standard_normal((200_000, 5)) * spread
    expected = ((gaps @ head > 0) == (gaps @ truth > 0)).mean()
    assert accuracy(head, truth, spread) == pytest.approx(expected, abs=0.005)
    assert linear_head(torch.ones(2, 3))["bias"].tolist() == [0, 0]
