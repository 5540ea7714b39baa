"""Paired differences, Holm's correction, the reference and the page of several rewards."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tacit.audit.compare import compare
from tacit.audit.metrics import evaluate
from tacit.audit.paired import BETTER, differences, holm
from tacit.audit.reference import against_reference, parse_allowed
from tacit.errors import TacitError
from tacit.evidence import Evidence


def votes(n: int, seed: int) -> list[dict[str, Any]]:
    """Comparisons of numbers that stand for their own worth, with gold beside them."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(0, 1.5, (2, n)).round(6)
    first = rng.random(n) < 1 / (1 + np.exp(b - a))
    good, bad = np.where(first, a, b), np.where(first, b, a)
    return [
        {
            "prompt": f"p{i // 2}",
            "chosen": f"{x}",
            "rejected": f"{y}",
            "gold_chosen": float(x),
            "gold_rejected": float(y),
        }
        for i, (x, y) in enumerate(zip(good, bad, strict=True))
    ]


def noisy(noise: float, seed: int) -> Any:
    """A score with noise that the text fixes."""

    def score(text: str) -> float:
        return float(text) + noise * float(np.random.default_rng([seed, zlib.crc32(text.encode())]).normal())

    return score


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_differences_are_those_of_the_metrics(study_of: Any, known: Any) -> None:
    rows = votes(400, 0)
    first = study_of(rows, known(noisy(0.0, 1)))
    second = first.under(known(noisy(2.0, 1), "worse"))
    evidence = Evidence.from_records(rows, kind="comparison", source="rows")
    measured = [evaluate(study.reward, evidence, resamples=20) for study in (first, second)]
    found = {d.metric: d for d in differences(first, second)}
    assert list(found) == list(BETTER)
    for name, d in found.items():
        assert (d.first, d.second) == pytest.approx([m[name] for m in measured], abs=1e-6), name
        assert d.difference == pytest.approx(d.first - d.second)
        assert d.ci is not None
        assert d.ci[0] <= d.difference <= d.ci[1]
    assert found["order_consistency"].first == 1.0
    assert found["accuracy"].gain > 0
    assert found["nll"].gain > 0 > found["nll"].difference
    assert found["accuracy"].p < 0.01


def test_what_is_hard_for_both_cancels(study_of: Any, known: Any) -> None:
    first = study_of(votes(400, 1), known(noisy(0.5, 1)))
    other = first.under(known(noisy(0.5, 1), "same"))
    for d in differences(first, other):
        assert d.difference == 0
        assert d.ci == pytest.approx([0, 0], abs=1e-12)
    accuracy = next(d for d in differences(first, first.under(known(noisy(0.6, 1)))) if d.metric == "accuracy")
    alone = first.share(first.credit)[1]
    assert accuracy.ci[1] - accuracy.ci[0] < 0.7 * (alone[1] - alone[0])


@pytest.mark.statistical
def test_equal_rewards_are_told_apart_as_seldom_as_claimed(study_of: Any, known: Any) -> None:
    p = []
    for seed in range(40):
        first = study_of(votes(300, seed), known(noisy(1.0, 2 * seed)))
        found = differences(first, first.under(known(noisy(1.0, 2 * seed + 1))), ("accuracy",))
        p.append(found[0].p)
    assert np.mean(np.array(p) < 0.1) < 0.25
    assert np.mean(np.array(p) < 0.5) > 0.25


def test_studies_of_other_evidence_are_not_compared(study_of: Any, known: Any) -> None:
    reward = known(float)
    with pytest.raises(TacitError, match="same comparisons"):
        differences(study_of(votes(20, 0), reward), study_of(votes(20, 1), reward))


def test_a_reference_names_what_fell(study_of: Any, known: Any) -> None:
    worse = study_of(votes(600, 2), known(noisy(2.0, 3), "worse"))
    section = against_reference(worse, known(float, "before"))
    assert section.numbers["fell"] == ["accuracy", "nll"]
    assert [f.key for f in section.findings] == ["fell_accuracy", "fell_nll"]
    assert "“before”" in section.findings[0].sentence
    # A bound beyond the loss lets it pass; better and equal rewards pass anyway.
    lost = -next(r for r in section.numbers["metrics"] if r["metric"] == "accuracy")["difference"]
    assert against_reference(worse, known(float), {"accuracy": lost + 0.01}).numbers["fell"] == []
    assert against_reference(worse, known(float), {"accuracy": lost - 0.01}).numbers["fell"] == ["accuracy"]
    assert against_reference(worse, known(noisy(2.0, 3))).findings == ()
    assert against_reference(study_of(votes(600, 2), known(float)), known(noisy(2.0, 3))).findings == ()


def test_bounds_are_read_and_refused() -> None:
    assert parse_allowed(["accuracy=0.01,nll=0.1", "spearman=0"]) == {"accuracy": 0.01, "nll": 0.1, "spearman": 0.0}
    assert parse_allowed([]) == {"accuracy": 0.0, "nll": 0.0}
    for bad in ("accuracy", "accuracy=x", "accuracy=-1", "speed=1", "accuracy=nan"):
        with pytest.raises(TacitError, match="--allow"):
            parse_allowed([bad])


def test_chance_alone_is_no_fall(study_of: Any, known: Any) -> None:
    section = against_reference(study_of(votes(30, 3), known(noisy(0.6, 1))), known(noisy(0.6, 2)), {"accuracy": 0.0})
    (row,) = (r for r in section.numbers["metrics"] if r["metric"] == "accuracy")
    assert row["95%"][0] < 0 < row["95%"][1]
    assert not row["fell"]


def test_three_rewards_on_one_page(known: Any) -> None:
    evidence = Evidence.from_records(votes(300, 4), kind="comparison", source="rows")
    rewards = [known(float, "best"), known(noisy(3.0, 1), "worst"), known(noisy(0.01, 2), "near")]
    report = compare(rewards, evidence, resamples=100)
    numbers = report.to_dict()["sections"]
    assert len(numbers["tests"]["tests"]) == 6
    p = [row["p"] for row in numbers["tests"]["tests"]]
    assert [row["p, corrected"] for row in numbers["tests"]["tests"]] == pytest.approx(holm(p))
    said = {(f.detail["first"], f.detail["second"]): f.key for _, f in report.findings}
    assert said == {("best", "worst"): "better", ("best", "near"): "not_told_apart", ("worst", "near"): "better"}
    assert "Which is better: best, worst, near?" in report.html()
    with pytest.raises(TacitError, match="each once"):
        compare(rewards[:1] * 2, evidence)


# --- the command line -------------------------------------------------------------------------------------------------


@pytest.fixture
def files(tacit: Any) -> None:
    """Two rewards, `good` of 400 votes and `poor` of 30, and later votes; by words alone."""
    rng = np.random.default_rng(0)
    words = [f"w{i}" for i in range(60)]
    worth = rng.normal(0, 1, 60)

    def rows(n: int) -> str:
        text = ""
        for i in range(n):
            sides = rng.integers(0, 60, (2, 6))
            gap = worth[sides].sum(1)
            best = int(rng.random() < 1 / (1 + np.exp(gap[0] - gap[1])))
            said = [" ".join(words[k] for k in side) for side in sides]
            text += json.dumps({"prompt": f"q{i % 200}", "chosen": said[best], "rejected": said[1 - best]}) + "\n"
        return text

    for name, n in (("many", 1500), ("few", 40), ("later", 500)):
        Path(f"{name}.jsonl").write_text(rows(n))
    for name, data in (("good", "many"), ("poor", "few")):
        done = tacit("fit", f"{data}.jsonl", "--out", name, "--encoder", "hashed", "--test", 0)
        assert done.code == 0


@pytest.mark.usefixtures("files")
def test_the_command_line_compares(tacit: Any) -> None:
    done = tacit("audit", "good", "poor", "later.jsonl", "--out", "compare.html", "--resamples", 50, "--json")
    assert done.code == 0
    assert {row["metric"] for row in done.json["sections"]["tests"]["tests"]} == {"accuracy", "nll"}
    page = Path("compare.html").read_text()
    assert "<script" not in page
    assert json.loads(Path("metrics.json").read_text())["sections"] == done.json["sections"]
    again = tacit("audit", "--config", "compare.config.yaml", "--out", "again.html", "--json")
    assert again.json["verdict"] == done.json["verdict"]
    refused = tacit("audit", "good", "poor", "later.jsonl", "--reference", "good")
    assert (refused.code, "--reference is about one reward" in refused.err) == (2, True)
    twice = tacit("audit", "good", "good", "later.jsonl")
    assert (twice.code, "each once" in twice.err) == (2, True)


@pytest.mark.usefixtures("files")
def test_a_reward_that_got_worse_ends_with_one(tacit: Any) -> None:
    fell = tacit("audit", "poor", "later.jsonl", "--reference", "good", "--resamples", 50, "--json")
    assert fell.code == 1
    assert fell.err.count("fell below the reference") == len(fell.json["audit"]["sections"]["reference"]["fell"]) == 2
    assert "accuracy fell below the reference “good”" in fell.err
    bound = ("--allow", "accuracy=0.9")
    assert tacit("audit", "poor", "later.jsonl", "--reference", "good", *bound, "--resamples", 50).code == 0
    assert tacit("audit", "good", "later.jsonl", "--reference", "poor", "--resamples", 50).code == 0
    page = tacit("audit", "poor", "later.jsonl", "--reference", "good", "--resamples", 50, "--out", "r.html")
    assert page.code == 1
    assert "Against the reference" in Path("r.html").read_text()
    assert tacit("audit", "good", "later.jsonl", *bound).code == 2
    gold = tacit("audit", "good", "later.jsonl", "--reference", "poor", "--allow", "order_consistency=0.1")
    assert (gold.code, "does not give it" in gold.err) == (2, True)
