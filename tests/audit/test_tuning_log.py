"""The log of a tuning run: its law comes back, and a gold score may come from another reward."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tacit.audit.optimised import candidates_of, over_optimisation, scored_by
from tacit.audit.tuning_log import Log, read_log, tuning_law, tuning_run
from tacit.errors import EvidenceError
from tacit.evidence import Evidence

ROWS = [{"prompt": f"p{i}", "chosen": "2", "rejected": "1"} for i in range(5)]


def law(kl: np.ndarray, c: float, alpha: float, beta: float) -> np.ndarray:
    d = np.sqrt(kl)
    return np.asarray(c + d * (alpha - beta * np.log(d)))


def test_the_law_comes_back_exactly_without_noise() -> None:
    kl = np.linspace(0.1, 40, 30)
    found, peak = tuning_law(kl, law(kl, 0.3, 1.2, 0.9), resamples=20)
    assert found[0] == pytest.approx([0.3, 1.2, 0.9])
    # dR/dd = alpha - beta log d - beta = 0 at d = exp(alpha / beta - 1).
    assert peak[0] == pytest.approx(np.exp(2 * (1.2 / 0.9 - 1)))
    assert found.std(0) == pytest.approx(np.zeros(3), abs=1e-8)


@pytest.mark.statistical
def test_the_peak_is_covered_though_steps_err_together() -> None:
    kl = np.linspace(0.2, 30, 80)
    true = np.exp(2 * (1.0 / 0.8 - 1))
    covered = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        noise = np.zeros(80)
        for t in range(1, 80):
            noise[t] = 0.5 * noise[t - 1] + rng.normal(0, 0.03)
        _, peaks = tuning_law(kl, law(kl, 0, 1.0, 0.8) + noise, resamples=300, rng=rng)
        low, high = np.quantile(peaks[1:], [0.025, 0.975])
        covered += low <= true <= high
    assert covered >= 15


def run(study_of: Any, gold: np.ndarray, kl: np.ndarray) -> Any:
    study = study_of(ROWS, float)
    study.log = Log("run", kl, kl / 10, gold)
    return tuning_run(study)


def test_a_run_that_went_too_far_is_told_so(study_of: Any) -> None:
    rng = np.random.default_rng(0)
    kl = np.linspace(0.2, 30, 60)
    section = run(study_of, law(kl, 1.0, 1.0, 0.8) + rng.normal(0, 0.02, 60), kl)
    assert [f.key for f in section.findings] == ["tuned_too_far"]
    numbers = section.numbers
    assert numbers["peak_kl_ci"][0] <= np.exp(2 * 0.25) <= numbers["peak_kl_ci"][1]
    assert numbers["lost"] == pytest.approx(law(kl, 1, 1, 0.8).max() - law(kl, 1, 1, 0.8)[-1], abs=0.05)
    early = kl[:4] / 10
    rising = run(study_of, np.sqrt(np.r_[early, kl]), np.r_[early, kl])
    assert [f.key for f in rising.findings] == ["kl_budget"]
    assert "still rising" in rising.findings[0].sentence


def test_a_log_without_gold_says_so(study_of: Any) -> None:
    kl = np.linspace(0.2, 30, 60)
    section = run(study_of, np.full(60, np.nan), kl)
    assert section.findings == ()
    assert "is not known" in section.lead
    assert "no log" in tuning_run(study_of(ROWS, float)).absent


def test_lines_are_read_by_either_name(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    lines = [
        {"step": 1, "objective/kl": 0.5, "reward": 1.0},
        {"step": 2, "kl": -0.01, "reward": 2.0, "gold": 0.1},
        {"step": 2, "eval_loss": 1.0},
        {"step": 3, "objective/kl": 9.0, "reward": 3.0, "eval_kl": 0.7, "eval_reward": 2.5, "eval_gold": 0.2},
    ]
    file.write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    log = read_log(file)
    assert log.kl.tolist() == [0.5, 0.0, 0.7]
    assert log.reward.tolist() == [1.0, 2.0, 2.5]
    assert np.isnan(log.gold[0])
    assert log.gold[1:].tolist() == [0.1, 0.2]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"kl": 1, "reward": 2}\n{"kl"', "row 2"),
        ('{"kl": "much", "reward": 2}\n', "column `kl`"),
        ('{"loss": 1}\n', "no line has a KL"),
        ("[1]\n", "no object"),
        (None, "no such log"),
    ],
)
def test_bad_logs_name_the_place(tmp_path: Path, text: str | None, said: str) -> None:
    file = tmp_path / "metrics.jsonl"
    if text is not None:
        file.write_text(text)
    with pytest.raises(EvidenceError, match=said):
        read_log(file)


def test_another_reward_may_be_the_gold(study_of: Any, known: Any) -> None:
    rng = np.random.default_rng(1)
    rows = [
        {"prompt": f"p{i}", "completions": [f"{x:.4f}" for x in rng.normal(size=16)], "ranks": list(range(1, 17))}
        for i in range(60)
    ]
    evidence = Evidence.from_records(rows, kind="ranking", source="rows")
    listed = scored_by(known(lambda text: -float(text)), candidates_of(evidence))
    assert len(listed) == 60
    assert listed[0].gold == pytest.approx([-float(text) for text in rows[0]["completions"]])
    study = study_of(rows, known(float), kind="ranking", candidates=listed)
    section = over_optimisation(study)
    # The reward likes the opposite of gold: one candidate is best, and every more hurts.
    assert next(f.key for f in section.findings) == "over_optimised"
    assert section.numbers["curves"]["none"]["measured_peak_n"] == 1


def test_gold_and_log_from_the_command_line(tacit: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    words = ["good", "fine", "bad", "poor", "plain"]
    texts = [" ".join(rng.choice(words, 5)) for _ in range(400)]
    rows = [{"prompt": f"p{i % 40}", "chosen": texts[i], "rejected": texts[-1 - i]} for i in range(200)]
    Path("votes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    fit = ("--encoder", "hashed", "--test", 0)
    assert tacit("fit", "votes.jsonl", "--out", "reward", *fit).code == 0
    Path("length.yaml").write_text("type: length_control\n")
    kl = np.linspace(0.1, 20, 20)
    Path("metrics.jsonl").write_text(
        "".join(json.dumps({"kl": k, "reward": k, "gold": g}) + "\n" for k, g in zip(kl, law(kl, 0, 1, 1), strict=True))
    )
    asked = ("--resamples", 20, "--json")
    done = tacit("audit", "reward", "votes.jsonl", "--gold", "length.yaml", "--log", "metrics.jsonl", *asked)
    sections = done.json["audit"]["sections"]
    assert set(sections) == {"optimised", "run"}
    assert sections["run"]["peak_kl"] == pytest.approx(1.0, rel=1e-3)
    assert (np.diff(sections["optimised"]["length"]["gold"]) >= 0).all()  # gold is length
    page = tacit("audit", "reward", "votes.jsonl", "--log", "metrics.jsonl", "--out", "r.html", *asked)
    assert "A tuning run" in Path("r.html").read_text()
    assert page.code == 0
    missing = tacit("audit", "reward", "votes.jsonl", "--gold", "nowhere/reward")
    assert (missing.code, "there is no such reward" in missing.err) == (2, True)
