"""Losses for wrong labels, length as a nuisance, answers of other prompts, and the generative regulariser."""

import json
import math

import numpy as np
import pytest
import torch
from scipy.special import expit

import tacit
from numerics import assert_float32_close
from tacit.cli import main
from tacit.errors import EvidenceError, TacitError
from tacit.evidence.records import Comparison, Outcome
from tacit.features.arrays import PrecomputedEncoder
from tacit.rewards import heads
from tacit.rewards.examples import collect
from tacit.rewards.fitting import fit
from tacit.rewards.generative import completion_logprobs, regularised, regulariser
from tacit.rewards.length import without_length
from tacit.rewards.objectives import OBJECTIVES, Targets
from tacit.rewards.options import FitOptions
from tacit.rewards.robust import START, flip_aware, flip_rate, robust_objective

BT, OUTCOME = OBJECTIVES["bradley_terry"], OBJECTIVES["outcome"]
NONE = torch.zeros(1, 0)


def said(tie=(False,), margin=(0.0,), target=(0.0,)):
    return Targets(torch.tensor(target), torch.zeros(len(tie), 0), torch.tensor(tie), torch.tensor(margin))


# --- losses -----------------------------------------------------------------------------------------------------------


def test_losses_by_hand():
    d, p = math.log(3), 0.75  # sigma(log 3) = 3/4
    scores = torch.tensor([[[d, 0.0]]])
    assert robust_objective(BT, "flips", 0.1).loss(scores, said(), NONE).item() == pytest.approx(
        -math.log(0.9 * p + 0.1 * (1 - p))
    )
    assert robust_objective(BT, "gce").loss(scores, said(), NONE).item() == pytest.approx((1 - p**0.7) / 0.7)
    assert robust_objective(BT, "symmetric").loss(scores, said(), NONE).item() == pytest.approx(1 - p)
    tie = robust_objective(BT, "flips", 0.1).loss(scores, said(tie=(True,)), NONE).item()
    assert tie == pytest.approx(-0.5 * math.log(0.7) - 0.5 * math.log(0.3))  # .9 * .75 + .1 * .25 = .7
    assert robust_objective(BT, "symmetric").loss(scores, said(margin=(d,)), NONE).item() == pytest.approx(0.5)
    one = torch.tensor([[[d]]])
    assert robust_objective(OUTCOME, "symmetric").loss(one, said(target=(0.0,)), NONE).item() == pytest.approx(p)
    assert robust_objective(OUTCOME, "gce").loss(one, said(target=(1.0,)), NONE).item() == pytest.approx(
        (1 - p**0.7) / 0.7
    )


def test_a_learnt_rate_starts_at_a_tenth_and_stays_below_a_half():
    assert flip_rate(torch.tensor([[START]])).item() == pytest.approx(0.1)
    assert flip_rate(torch.tensor([[50.0]])).item() <= 0.5
    objective = robust_objective(BT, "flips")
    own, scores = torch.tensor([[START]]), torch.tensor([[[1.0, 0.0]]])
    assert objective.loss(scores, said(), own).item() == pytest.approx(flip_aware(torch.tensor(1.0), 0.1).item())


def test_what_a_wrong_label_can_cost():
    far = torch.tensor([[[-40.0, 0.0]]])
    assert BT.loss(far, said(), NONE).item() == pytest.approx(40)
    assert robust_objective(BT, "flips", 0.2).loss(far, said(), NONE).item() == pytest.approx(-math.log(0.2))
    assert robust_objective(BT, "gce").loss(far, said(), NONE).item() == pytest.approx(1 / 0.7)
    assert robust_objective(BT, "symmetric").loss(far, said(), NONE).item() == pytest.approx(1)


@pytest.mark.parametrize(
    ("base", "how", "rate", "said"),
    [
        ("bradley_terry", "mae", None, "no robust loss `mae`"),
        ("davidson", "gce", None, "not of davidson"),
        ("bradley_terry", "gce", 0.1, "takes no flip rate"),
        ("bradley_terry", "none", 0.1, "Add --robust flips"),
        ("bradley_terry", "flips", 0.6, "between 0 and one half"),
    ],
)
def test_wrong_combinations_are_named(base, how, rate, said):
    with pytest.raises(TacitError, match=said):
        robust_objective(OBJECTIVES[base], how, rate)
    with pytest.raises(TacitError, match="two answers to one question"):
        FitOptions(robust="flips", label_smoothing=0.1)


def flipped_world(n=6000, flip=0.3, seed=0, dim=8):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(2 * n, dim)).astype(np.float32)
    truth = features @ np.linspace(-1, 1, dim)
    first = rng.random(n) < expit(truth[0::2] - truth[1::2])
    first ^= rng.random(n) < flip
    sides = [(2 * i, 2 * i + 1) if f else (2 * i + 1, 2 * i) for i, f in enumerate(first.tolist())]
    examples = collect([Comparison(prompt=f"p{i}", chosen=str(c), rejected=str(r)) for i, (c, r) in enumerate(sides)])
    order = [int(text) for _, text in examples.texts]
    return features[order], truth[order], examples


@pytest.mark.parametrize(("head", "near"), [("linear", 0.25), ("mlp", 0.5)])
def test_the_flip_rate_is_found_and_scores_are_of_the_true_preference(head, near):
    features, truth, examples = flipped_world()
    options = {"head": "mlp", "hidden": (16,), "epochs": 4} if head == "mlp" else {}
    robust = fit(features, examples, FitOptions(robust="flips", **options))
    plain = fit(features, examples, FitOptions(**options))
    assert robust.report["flip_rate"] == pytest.approx(0.3, abs=0.05)

    def slope(result):
        return np.polyfit(truth, heads.score_in_chunks(result.parameters, features)[0], 1)[0]

    assert slope(robust) == pytest.approx(1.0, abs=near)
    assert slope(plain) < 0.5


# --- length -----------------------------------------------------------------------------------------------------------


def test_a_head_without_length_is_the_head_at_the_mean_length():
    generator = torch.Generator().manual_seed(0)
    for parameters in (heads.linear(2, 4), heads.mlp(2, 4, (5,), generator)):
        for tensor in parameters.values():
            tensor.normal_(generator=generator)
        features = torch.randn(6, 3, generator=generator)
        kept, coefficient = without_length(parameters, torch.tensor(1.7))
        whole = torch.cat([features, torch.full((6, 1), 1.7)], dim=1)
        assert_float32_close(heads.scores(kept, features), heads.scores(parameters, whole))
        torch.testing.assert_close(coefficient, parameters["linear"][:, -1])


def length_world(n=3000, bias=1.5, seed=0, dim=8):
    """Votes that follow quality and length; one feature says how long an answer is."""
    rng = np.random.default_rng(seed)
    quality = rng.normal(size=(2 * n, dim))
    doublings = rng.normal(5, 1, size=2 * n)
    features = np.c_[quality, doublings + 0.3 * rng.normal(size=2 * n)].astype(np.float32)
    truth = quality @ np.linspace(-0.5, 0.5, dim)
    texts = [f"{i:05d}" + "x" * (round(2**length) - 6) for i, length in enumerate(np.maximum(doublings, 3))]
    lengths = np.log2([1 + len(text) for text in texts])
    felt = truth + bias * lengths
    first = rng.random(n) < expit(felt[0::2] - felt[1::2])
    records = [
        Comparison(prompt=f"p{i}", chosen=texts[2 * i + (not f)], rejected=texts[2 * i + f])
        for i, f in enumerate(first.tolist())
    ]
    encoder = PrecomputedEncoder([(f"p{i // 2}", text) for i, text in enumerate(texts)], features)
    return records, encoder, texts, truth


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_length_is_taken_out_and_its_coefficient_reported(head):
    records, encoder, texts, truth = length_world()
    prompts = [f"p{i // 2}" for i in range(len(texts))]
    options = {"head": "mlp", "hidden": (16,), "epochs": 4} if head == "mlp" else {}
    plain = tacit.fit(records, encoder=encoder, **options)
    without = tacit.fit(records, encoder=encoder, length_regressed=True, **options)
    lengths = np.log2([1 + len(text) for text in texts])
    scores = {name: r.score(prompts, texts) for name, r in (("plain", plain), ("without", without))}
    assert np.corrcoef(scores["plain"], lengths)[0, 1] > 0.6
    assert abs(np.corrcoef(scores["without"], lengths)[0, 1]) < 0.25
    assert np.corrcoef(scores["without"], truth)[0, 1] > np.corrcoef(scores["plain"], truth)[0, 1] + 0.2
    if head == "linear":
        assert without.report["length_coefficient"] == pytest.approx(1.5, rel=0.2)
        doubting = tacit.fit(records, encoder=encoder, length_regressed=True, laplace=True)
        assert doubting.posterior is not None
        assert doubting.posterior.reference.shape == (9,)
        assert (doubting.score_deviation(prompts, texts)[1] > 0).all()


# --- augmentation in the fit ------------------------------------------------------------------------------------------


def records(n=60):
    return [Comparison(prompt=f"topic {i}", chosen=f"yes, topic {i}", rejected=f"no {i}") for i in range(n)]


def test_augmentation_teaches_and_does_not_count_as_said():
    # Every answer is on its topic, so that nothing tells topic from style; features are (style, topic, their product).
    rng = np.random.default_rng(0)
    given, vectors = [], {}
    for i in range(300):
        style = rng.normal(size=2)
        best = int(style[1] * 2 > style[0] * 2 + rng.logistic())
        given.append(Comparison(prompt=f"p{i}", chosen=f"{i} {best}", rejected=f"{i} {1 - best}"))
        for j in range(300):
            for k in range(2):
                vectors[f"p{j}", f"{i} {k}"] = [style[k], float(i == j), style[k] * (i == j)]
    encoder = PrecomputedEncoder(list(vectors), np.array(list(vectors.values()), np.float32))
    plain = tacit.fit(given, encoder=encoder)
    more = tacit.fit(given, encoder=encoder, augment=2.0)
    assert (plain.report["n_augmented"], more.report["n_augmented"], more.report["n_train"]) == (0, 600, 300)

    def right(reward, wrong):
        prompts = [record.prompt for record in given]
        best = reward.score(prompts, [record.chosen for record in given])
        return np.mean(best > reward.score(prompts, [record.rejected for record in wrong]))

    assert right(plain, given) == pytest.approx(right(more, given), abs=0.05)
    foreign = given[1:] + given[:1]
    assert right(plain, foreign) < 0.8
    assert right(more, foreign) > 0.9
    outcomes = [Outcome(prompt=f"p{i}", completion="c", label=i % 2 == 0) for i in range(8)]
    with pytest.raises(EvidenceError, match="outcome cannot be augmented"):
        tacit.fit(outcomes, encoder="hashed", augment=0.5)


def test_comparisons_across_prompts_are_warned_of():
    across = [Comparison(prompt=f"a{i}", chosen=f"x{i}", rejected=f"y{i}", rejected_prompt=f"b{i}") for i in range(20)]
    report = tacit.fit([*records(20), *across], encoder="hashed").report
    assert report["warnings"][0].startswith("50% of the comparisons are across prompts")
    assert "warnings" not in tacit.fit(records(20), encoder="hashed").report


def test_the_options_from_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TACIT_CACHE", str(tmp_path / "cache"))
    rows = [{"prompt": r.prompt, "chosen": r.chosen, "rejected": r.rejected} for r in records()]
    (tmp_path / "v.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    fitted = ["fit", "v.jsonl", "--encoder", "hashed", "--resamples", "10", "--json", "--out", "r"]
    main([*fitted, "--robust", "flips", "--augment", "0.5", "--length-regressed"])
    report = json.loads(capsys.readouterr().out)["fit"]
    assert 0 <= report["flip_rate"] < 0.5
    assert {"length_coefficient", "n_augmented"} <= report.keys()
    with pytest.raises(SystemExit):
        main([*fitted, "--robust", "gce", "--flip-rate", "0.2"])
    assert "takes no flip rate" in capsys.readouterr().err


# --- the generative regulariser ---------------------------------------------------------------------------------------


def test_logprobs_are_of_the_completion_alone():
    logits = torch.log(torch.tensor([[[0.5, 0.5], [0.2, 0.8], [0.9, 0.1], [0.3, 0.7]]]))
    tokens = torch.tensor([[0, 1, 1, 0]])
    completion = torch.tensor([[False, False, True, True]])
    # The third token is 1 after [.2, .8], the fourth 0 after [.9, .1]; the second belongs to the prompt.
    assert completion_logprobs(logits, tokens, completion).item() == pytest.approx(math.log(0.8) + math.log(0.9))
    padded = completion_logprobs(
        torch.cat([logits, logits[:, :1]], dim=1), torch.tensor([[0, 1, 1, 0, 0]]), torch.tensor([[0, 0, 1, 1, 0]])
    )
    assert padded.item() == pytest.approx(math.log(0.8) + math.log(0.9))


def test_regularisers_by_hand():
    chosen, rejected = torch.tensor([-10.0]), torch.tensor([-20.0])
    assert regulariser("sft", chosen).item() == pytest.approx(math.log(1 + math.e))
    assert regulariser("dpo_noref", chosen, rejected).item() == pytest.approx(math.log(1 + math.exp(-1)))
    assert regularised(torch.tensor([2.0]), torch.tensor([10.0]), alpha=0.25).item() == pytest.approx(4.0)
    with pytest.raises(TacitError, match="rejected"):
        regulariser("dpo_noref", chosen)
    with pytest.raises(TacitError, match="no regulariser"):
        regulariser("dpo", chosen)
    with pytest.raises(TacitError, match="alpha"):
        regularised(chosen, chosen, alpha=2)
