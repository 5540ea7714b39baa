"""Several ratings at once: by hand, by contract, with holes, weighed and mixed."""

import numpy as np
import pytest
import torch

import tacit
from numerics import assert_float32_close
from tacit import rewards
from tacit.audit.metrics import evaluate
from tacit.errors import EvidenceError, TacitError
from tacit.evidence import Evidence
from tacit.evidence.records import Comparison, Outcome, Rating
from tacit.features.arrays import PrecomputedEncoder
from tacit.rewards.attributes import attribute_loss, gate_loss, parse_weights, table
from tacit.rewards.check import check_reward
from tacit.rewards.objectives import Targets

DIM = 5


def test_missing_ratings_cost_nothing():
    scores = torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]])  # one member, two rows, one response, two attributes
    value, there = torch.tensor([[0.0, 1.0], [0.0, 9.0]]), torch.tensor([[1.0, 1.0], [1.0, 0.0]])  # (A, n)
    said = Targets(torch.stack([value, there]), torch.zeros(2, 0), torch.zeros(2, dtype=torch.bool), torch.zeros(2))
    loss = attribute_loss(scores, said, torch.zeros(1, 0))
    assert loss.tolist() == [[0.5 * (1 + 4), 0.5 * 4]]


def test_a_gate_mixes_by_softmax_and_factor():
    scores = torch.log(torch.tensor([[[[0.25, 0.75], [0.25, 0.75]]]]))
    values = torch.tensor([[[2.0], [0.0]], [[0.0], [4.0]]])  # side, attribute, row
    said = Targets(values, torch.zeros(1, 0), torch.zeros(1, dtype=torch.bool), torch.zeros(1))
    own = torch.tensor([[1.5]])
    gap = (0.25 * 2 - 0.75 * 4) * np.log1p(np.exp(1.5))
    assert gate_loss(scores, said, own).item() == pytest.approx(np.logaddexp(0, -gap), rel=1e-5)


def test_weights_are_read_and_checked():
    names = ("helpful", "verbose")
    assert parse_weights(None, names, 0.5) == (0.5, 0.5)
    assert parse_weights(["verbose=-0.5"], names, 1.0) == (0.0, -0.5)
    assert parse_weights(["helpful=1,verbose=2"], names, 1.0) == (1.0, 2.0)
    assert parse_weights({"helpful": 3}, names, 1.0) == (3.0, 0.0)
    for wrong, said in ((["kind=1"], "no attribute `kind`"), (["helpful"], "give attribute=number")):
        with pytest.raises(TacitError, match=said):
            parse_weights(wrong, names, 1.0)
    with pytest.raises(TacitError, match="not all of them 0"):
        parse_weights(["helpful=0"], names, 1.0)


def test_the_table_names_what_cannot_be_learnt():
    names, value, there = table([{"b": 1.0, "a": None}, {"a": 2.0}, {"a": 3.0, "b": 2.0}])
    assert names == ("a", "b")
    assert value.tolist() == [[0, 1], [2, 0], [3, 2]]
    assert there.tolist() == [[0, 1], [1, 0], [1, 1]]
    with pytest.raises(EvidenceError, match="attribute `b` has 2 ratings and no two of them differ"):
        table([{"a": 1.0, "b": 5.0}, {"a": 2.0, "b": 5.0}])


def world(n=800, holes=0.5, seed=0):
    """Ratings of two attributes, each a coordinate of the features in its own unit, with noise and holes."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, DIM)).astype(np.float32)
    truth = np.stack([3 + 2 * z[:, 0], -50 + 10 * z[:, 1]], axis=1)
    given = truth + np.array([0.5, 2.5]) * rng.normal(size=(n, 2))
    missing = rng.random((n, 2)) < holes
    rows = [
        Rating(
            prompt=f"p{i}",
            completion=str(i),
            score={a: None if missing[i, k] else float(given[i, k]) for k, a in enumerate(("helpful", "long"))},
        )
        for i in range(n)
    ]
    texts = [(f"p{i}", str(i)) for i in range(n)]
    asked = [(f"p{i}", "") for i in range(n)]
    encoder = PrecomputedEncoder([*texts, *asked], np.concatenate([z, np.zeros_like(z)]))
    return rows, encoder, truth


@pytest.mark.parametrize("options", [{}, {"members": 3}, {"head": "mlp", "hidden": (16,), "learning_rate": 3e-3}])
def test_each_attribute_is_learnt_in_its_own_unit(options):
    rows, encoder, truth = world()
    reward = rewards.fit(rows, model="attributes", encoder=encoder, **options)
    guess = reward.score_attributes([r.prompt for r in rows], [r.completion for r in rows])
    for k in range(2):
        assert np.corrcoef(guess[:, k], truth[:, k])[0, 1] > 0.98
        assert guess[:, k].mean() == pytest.approx(float(truth[:, k].mean()), abs=0.1 * float(truth[:, k].std()))
        assert guess[:, k].std() == pytest.approx(truth[:, k].std(), rel=0.1)


def test_the_solve_together_is_ridge_regression_of_each_attribute_alone():
    from sklearn.linear_model import Ridge

    rows, encoder, _ = world(n=300)
    reward = rewards.fit(rows, model="attributes", encoder=encoder, l2=0.01)
    z = encoder.encode([(r.prompt, r.completion) for r in rows])
    scaled = (z - z.mean(0)) / z.std(0)
    guess = reward.score_attributes([r.prompt for r in rows], [r.completion for r in rows])
    for k, name in enumerate(("helpful", "long")):
        there = np.array([r.score[name] is not None for r in rows])
        y = np.array([r.score[name] or 0.0 for r in rows])
        # Our loss is a mean over all rows and of standardised ratings, which leaves the minimum where alpha = n l2.
        alone = Ridge(alpha=0.01 * len(rows)).fit(scaled[there], y[there])
        np.testing.assert_allclose(guess[:, k], alone.predict(scaled), atol=0.01 * y[there].std())


def test_a_score_is_the_weighted_sum():
    rows, encoder, _ = world(n=200)
    reward = rewards.fit(rows, model="attributes", encoder=encoder, weights=["helpful=1", "long=-0.5"])
    ask = ([r.prompt for r in rows[:9]], [r.completion for r in rows[:9]])
    details = reward.details(*ask)
    expected = details["helpful"] - 0.5 * details["long"]
    assert_float32_close(
        reward.score(*ask), expected, scale=max(float(np.abs(part).max()) for part in details.values())
    )


def gated(seed=0, n=900):
    """People look at `helpful` where the prompt says 1, and at `long` where it says -1."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(2 * n, DIM)).astype(np.float32)
    z[:, 2:] = 0
    says = np.repeat(rng.choice([-1.0, 1.0], size=n), 2)
    z[:, 4] = says
    names = [str(i) for i in range(2 * n)]
    prompts = [f"p{i // 2}" for i in range(2 * n)]
    asked = np.zeros_like(z[::2])
    asked[:, 4] = says[::2]
    texts = [*zip(prompts, names, strict=True), *((f"p{i}", "") for i in range(n))]
    encoder = PrecomputedEncoder(texts, np.concatenate([z, asked]))
    worth = 3 * np.where(says > 0, z[:, 0], z[:, 1])
    first = rng.random(n) < 1 / (1 + np.exp(worth[1::2] - worth[::2]))
    votes = [
        Comparison(prompt=f"p{i}", chosen=names[2 * i + (not won)], rejected=names[2 * i + int(won)])
        for i, won in enumerate(first.tolist())
    ]
    ratings = [
        Rating(
            prompt=prompts[i],
            completion=names[i],
            score={"helpful": float(2 * z[i, 0] + 1), "long": float(9 * z[i, 1])},
        )
        for i in range(0, 2 * n, 3)
    ]
    return ratings, votes, encoder, prompts, names, says, worth


def test_a_gate_finds_what_prompts_ask_for():
    ratings, votes, encoder, prompts, names, says, worth = gated()
    reward = rewards.fit(ratings, model="attributes", encoder=encoder, gate=votes)
    mixture = reward.mixture(prompts[::2])
    np.testing.assert_allclose(mixture.sum(1), 1, rtol=1e-5)
    assert mixture[says[::2] > 0, 0].mean() > 0.85
    assert mixture[says[::2] < 0, 1].mean() > 0.85
    slope = np.polyfit(worth, reward.score(prompts, names), 1)[0]  # log-odds
    assert slope == pytest.approx(1, abs=0.25)


def test_the_contract_holds_and_saving_keeps_everything(tmp_path):
    words = ["fine", "good", "poor", "dull"]
    plain = [
        Rating(
            prompt=f"ask {i}", completion=words[i % 4], score={"a": float(i % 4), "b": float(i % 3) if i % 2 else None}
        )
        for i in range(60)
    ]
    asked = [Comparison(prompt=f"ask {i}", chosen="dull", rejected=words[i % 3]) for i in range(40)]
    for options in ({"members": 2}, {"gate": asked}):
        reward = rewards.fit(plain, model="attributes", encoder="hashed", **options)
        assert [str(f) for f in check_reward(reward, new_process=True) if not f.ok] == []
    reward.save(tmp_path / "r")
    again = tacit.load(tmp_path / "r")
    assert_float32_close(again.mixture(["ask 3"]), reward.mixture(["ask 3"]))
    assert again.attributes == ("a", "b")


def test_an_audit_holds_each_attribute_against_its_own_score():
    rows, encoder, _ = world()
    reward = rewards.fit(rows, model="attributes", encoder=encoder, weights=["helpful=1"])
    found = evaluate(reward, Evidence.from_records(rows), resamples=20)["attributes"]
    assert found["helpful"]["spearman"] is None or found["helpful"]["spearman"] > 0.9
    shared = [r.model_copy(update={"prompt": "one"}) for r in rows]
    z = encoder.encode([(r.prompt, r.completion) for r in rows])
    one = PrecomputedEncoder([("one", r.completion) for r in rows], z)
    reward.encoder = one
    found = evaluate(reward, Evidence.from_records(shared), resamples=20)["attributes"]
    assert found["helpful"]["spearman"] > 0.9
    assert found["long"]["spearman"] > 0.9  # which a score of `helpful` alone could not have


def test_what_does_not_fit_is_named():
    rows, encoder, _ = world(n=30)
    with pytest.raises(EvidenceError, match="learns from ratings"):
        rewards.fit([Comparison(prompt="p", chosen="a", rejected="b")], model="attributes", encoder=encoder)
    labels = [Outcome(prompt="p", completion=str(i), label=bool(i)) for i in range(2)]
    with pytest.raises(EvidenceError, match="a gate learns from comparisons"):
        rewards.fit(rows, model="attributes", encoder=encoder, gate=labels)
    with pytest.raises(EvidenceError, match="Give --model attributes"):
        rewards.fit(rows, model="scalar", encoder=encoder)


@pytest.mark.slow
def test_holes_cost_little_and_the_gate_finds_the_mixture():
    from tacit.lab.experiments.attributes import run

    (row,) = run(seeds=10)["rows"]
    assert row["attribute_r_ci"][0] > 0.99
    assert row["mixture_error_ci"][1] < 0.06 < row["constant_error_ci"][0]
    best_other = max(row[f"{name}_accuracy_ci"][1] for name in ("equal", "fixed", "scalar"))
    assert row["accuracy_ci"][0] > best_other + 0.05
