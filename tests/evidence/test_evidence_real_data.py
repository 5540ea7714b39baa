"""Real files, where they are: $TACIT_DATA or ../shared/data beside the repository."""

from __future__ import annotations

import os
from itertools import combinations
from pathlib import Path

import pytest

from tacit.errors import EvidenceError
from tacit.evidence import Ranking, check, read, split

DATA = Path(os.environ.get("TACIT_DATA") or Path(__file__).parents[3] / "shared" / "data")
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the shared data is not here (set TACIT_DATA)")


def test_hh_transcripts() -> None:
    for name, n in (("harmless-base", 2312), ("helpful-base", 2354)):
        evidence = read(DATA / "hh-rlhf" / f"{name}.test.jsonl.gz")
        assert len(evidence) == n
        first = next(iter(evidence))
        assert first.prompt[-1]["role"] == "user"  # type: ignore[attr-defined]
        assert "Human:" not in first.chosen  # type: ignore[attr-defined]


def test_hh_length_control_and_empty_answers() -> None:
    report = check(read(DATA / "hh-rlhf" / "helpful-base.test.jsonl.gz"))
    assert report.ok
    assert report.statistics["longer_won"]["share"] == pytest.approx(0.599, abs=5e-4)
    codes = {finding.code: finding.count for finding in report.warnings}
    assert codes == {"empty_answer": 4, "same_answer": 2, "length": 2337}


def test_humour_votes_with_their_items() -> None:
    evidence = read(DATA / "humour" / "votes.dev.csv.gz", items=DATA / "humour" / "items.dev.tsv.gz")
    assert len(evidence) == 71389
    train, test = split(evidence, by="item")
    sides = [{t for r in side for t in (r.chosen, r.rejected)} for side in (train, test)]  # type: ignore[attr-defined]
    assert not sides[0] & sides[1]
    assert len(train) + len(test) + train.dropped == 71389
    assert check(evidence).statistics["contradicting"]["pairs_with_several_votes"] == 17361


def test_convincing_arguments_with_five_votes_a_pair() -> None:
    folder = DATA / "convarg"
    evidence = read(folder / "pairs.dev.jsonl.gz", items=folder / "arguments.dev.jsonl.gz", columns={"prompt": "title"})
    statistics = check(evidence).statistics
    assert statistics["records"] == 69429
    assert statistics["annotators"] == 3799


def test_llmfao_ties_and_workers() -> None:
    statistics = check(read(DATA / "llmfao" / "crowd-comparisons.csv.gz")).statistics
    assert (statistics["records"], statistics["annotators"], statistics["prompts"]) == (8931, 124, 13)
    assert statistics["ties"] / statistics["records"] == pytest.approx(0.39, abs=0.005)


def test_open_assistant_rankings() -> None:
    rankings = [r for r in read(DATA / "oasst-100" / "en_100_tree.jsonl.gz") if isinstance(r, Ranking)]
    pairs = sum(a != b for ranking in rankings for a, b in combinations(ranking.ranks, 2))
    assert pairs == 754


def test_panda_lm_has_answers_that_are_no_texts() -> None:
    evidence = read(DATA / "pandalm" / "testset-v1.json.gz")
    with pytest.raises(EvidenceError, match=r"row 158, column `chosen`: wrong value \(found True\)"):
        list(evidence)
    report = check(evidence)
    assert report.statistics["records"] == 999 * 3 - 18
    assert report.statistics["annotators"] == 3
    assert {row for finding in report.errors for row in finding.rows} == {158, 159, 160, 162, 163, 165}


def test_demonstrations_and_problems() -> None:
    assert len(read(DATA / "self-instruct" / "seed_tasks.jsonl.gz")) == 175
    assert read(DATA / "gsm8k" / "test.jsonl.gz").kind == "problem"
