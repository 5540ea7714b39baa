"""What is wrong with data is found, counted and placed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tacit.evidence import Comparison, Evidence, Finding, Outcome, Ranking, Rating, Report, Steps, check, read
from tacit.evidence.check import wilson


def pair(i: int, **other: Any) -> Comparison:
    return Comparison(**{"prompt": f"p{i}", "chosen": f"good{i}", "rejected": f"weak{i}", **other})


def report(*records: Any, **options: Any) -> Report:
    return check(Evidence.from_records(records), **options)


def found(result: Report, code: str) -> Finding:
    (finding,) = (finding for finding in result.findings if finding.code == code)
    return finding


def test_sound_data_has_no_findings() -> None:
    result = report(*(pair(i) for i in range(20)))
    assert result.findings == []
    assert result.ok
    assert result.statistics["records"] == 20
    assert result.statistics["prompts"] == 20
    assert result.statistics["items"] == 40


def test_every_broken_row_is_reported_and_not_only_the_first(tmp_path: Path) -> None:
    good = json.dumps({"prompt": "p", "chosen": "c", "rejected": "r"})
    rows = [good] * 700
    rows[1] = "{broken"
    rows[2] = json.dumps({"prompt": "p", "chosen": True, "rejected": "r"})
    rows[3] = json.dumps({"prompt": "p", "chosen": False, "rejected": "r"})
    rows[600] = json.dumps({"prompt": "p", "chosen": "c"})
    rows[650] = json.dumps({"prompt": "p", "chosen": True, "rejected": "r"})
    path = tmp_path / "bad.jsonl"
    path.write_text("\n".join(rows))
    result = check(read(path), limit=2)
    assert not result.ok
    wrong = {(finding.column, finding.count, tuple(finding.rows)) for finding in result.errors}
    assert wrong == {(None, 1, (2,)), ("chosen", 3, (3, 4)), ("rejected", 1, (601,))}
    assert result.statistics["records"] == 695
    assert result.statistics["broken"] == 5
    assert found_column(result, "chosen").examples == [
        "row 3, column `chosen`: wrong value (found True)",
        "row 4, column `chosen`: wrong value (found False)",
    ]
    json.dumps(result.to_dict(), allow_nan=False)


def found_column(result: Report, column: str) -> Finding:
    return next(finding for finding in result.errors if finding.column == column)


def test_duplicates_are_later_copies() -> None:
    finding = found(report(pair(0), pair(1), pair(0), pair(2), pair(0)), "duplicate")
    assert (finding.count, finding.rows, finding.level) == (2, [3, 5], "warning")
    assert "annotator" in finding.mend


def test_votes_of_several_people_are_no_duplicates() -> None:
    result = report(pair(0, annotator="a"), pair(0, annotator="b"), pair(1, annotator="a"), pair(0, annotator="a"))
    assert found(result, "duplicate").rows == [4]
    assert result.statistics["annotators"] == 2


def test_a_tie_is_the_same_either_way_round() -> None:
    turned = pair(0, tie=True, chosen="weak0", rejected="good0")
    assert found(report(pair(0, tie=True), turned, pair(1)), "duplicate").rows == [2]


def test_contradicting_votes_are_counted_by_pair_and_by_minority() -> None:
    up, down = pair(0), pair(0, chosen="weak0", rejected="good0")
    result = report(up, up, down, pair(1), pair(0, tie=True))
    finding = found(result, "contradiction")
    assert (finding.count, finding.rows) == (1, [1, 2, 3])
    assert result.statistics["contradicting"] == {
        "pairs": 1,
        "pairs_with_several_votes": 1,
        "minority_votes": 1,
        "share_of_repeated_votes": pytest.approx(1 / 3),
    }
    other_prompt = pair(0, prompt="p9", chosen="weak0", rejected="good0")
    assert "contradiction" not in [f.code for f in report(up, other_prompt).findings]


def test_contradicting_labels() -> None:
    yes, no = (Outcome(prompt="p", completion="c", label=label) for label in (True, False))
    assert found(report(yes, no, no), "contradiction").rows == [1, 2, 3]


def test_same_and_empty_answers() -> None:
    result = report(
        pair(0, rejected="good0"), pair(1), pair(2, chosen=" \n"), pair(3, rejected=[]), pair(4, rejected="")
    )
    assert found(result, "same_answer").rows == [1]
    assert found(result, "empty_answer").rows == [3, 4, 5]
    tied = report(pair(0, rejected="good0", tie=True), pair(1))
    assert tied.findings == []


def test_length_imbalance_has_an_interval() -> None:
    longer = [pair(i, chosen="long answer", rejected="short") for i in range(80)]
    shorter = [pair(100 + i, chosen="s", rejected="long answer") for i in range(20)]
    result = report(
        *longer, *shorter, pair(200, chosen="abc", rejected="xyz"), pair(201, chosen="abcd", rejected="x", tie=True)
    )
    assert result.statistics["longer_won"]["share"] == pytest.approx(0.8)
    assert result.statistics["longer_won"]["n"] == 100
    assert "longer answer won 80.0% of 100" in found(result, "length").reason
    few = report(*longer[:4], shorter[0])
    assert "length" not in [finding.code for finding in few.findings]
    assert "shorter answer won 100.0%" in found(report(*shorter), "length").reason


def test_wilson_interval() -> None:
    # Newcombe (1998, Statistics in Medicine 17, table I): 81 of 263 gives 0.2553 to 0.3662; 0 of 20 gives 0 to 0.1611
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson(0, 0) == (0.0, 1.0)


def test_prompts_shared_with_other_evidence() -> None:
    other = Evidence.from_records([pair(3), pair(4), pair(99)], source="train.jsonl")
    result = report(*(pair(i, chosen=f"x{i}") for i in range(6)), against=other)
    finding = found(result, "leakage")
    assert (finding.level, finding.rows) == ("error", [4, 5])
    assert "a prompt that train.jsonl has too" in finding.reason
    assert not result.ok
    apart = report(pair(7), against=other)
    assert apart.ok
    assert apart.statistics["leaked_records"] == 0


def test_the_prompt_of_the_rejected_side_leaks_too() -> None:
    mine = [pair(1, rejected_prompt="p8"), pair(2, rejected_prompt="p9"), pair(3), pair(4, rejected_prompt="p4")]
    theirs = Evidence.from_records([pair(8), pair(20, rejected_prompt="p3")], source="train.jsonl")
    result = report(*mine, against=theirs)
    assert found(result, "leakage").rows == [1, 3]  # p8 is in theirs; p3 is on a rejected side there
    assert result.statistics["prompts"] == 6  # p1, p8, p2, p9, p3, p4
    assert found(
        report(pair(9, prompt=""), pair(7, prompt="", rejected_prompt="p8"), against=theirs), "leakage"
    ).rows == [2]


def test_rows_of_the_other_evidence_that_are_no_records_are_told(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps({"prompt": "p1", "chosen": "a", "rejected": "b"}) + "\n{torn\n")
    result = report(pair(0), pair(2), against=read(path))
    assert (found(result, "against_broken").level, found(result, "against_broken").rows) == ("warning", [2])
    assert result.ok


def test_answers_of_promptless_comparisons_leak() -> None:
    other = Evidence.from_records([Comparison(chosen="a", rejected="b")])
    result = report(Comparison(chosen="c", rejected="d"), Comparison(chosen="e", rejected="a"), against=other)
    assert found(result, "leakage").rows == [2]


def test_under_one_prompt_answers_leak_and_not_the_prompt() -> None:
    def under(prompt: str, chosen: str, rejected: str) -> Comparison:
        return Comparison(prompt=prompt, chosen=chosen, rejected=rejected)

    other = Evidence.from_records([under("joke", "a", "b")])
    leak = found(report(under("joke", "c", "d"), under("joke", "e", "a"), against=other), "leakage")
    assert (leak.rows, leak.count) == ([2], 1)
    assert "by item" in leak.mend
    two = report(under("joke", "c", "d"), under("pun", "e", "a"), against=other)
    assert found(two, "leakage").rows == [1]


@pytest.mark.parametrize(
    "records",
    [
        [pair(i, tie=True) for i in range(3)],
        [pair(i, rejected=f"good{i}") for i in range(3)],
        [pair(i, weight=0) for i in range(3)],
        [pair(0, tie=True), pair(1, weight=0), pair(2, rejected="good2")],
        [Outcome(prompt=f"p{i}", completion="c", label=True) for i in range(3)],
        [Rating(prompt=f"p{i}", completion="c", score=3) for i in range(3)],
        [Ranking(prompt=f"p{i}", completions=["a", "b"], ranks=[1, 1]) for i in range(3)],
        [Steps(prompt=f"p{i}", completions=["a", "b"], labels=[False, False]) for i in range(3)],
    ],
)
def test_one_class_only(records: list[Any]) -> None:
    result = report(*records)
    assert found(result, "one_class").level == "error"


@pytest.mark.parametrize(
    "records",
    [
        [pair(0, tie=True), pair(1), pair(2, weight=0)],
        [pair(0, rejected="good0", rejected_prompt="p1")],
        [Outcome(prompt="p", completion=f"c{i}", label=i == 1) for i in range(3)],
        [Rating(prompt=f"p{i}", completion="c", score=i) for i in range(3)],
        [Rating(prompt=f"p{i}", completion="c", score={"a": i, "b": None}) for i in range(3)],
        [Ranking(prompt="p", completions=["a", "b"], ranks=[1, 2])],
        [Steps(prompt="p", completions=["a", "b"], labels=[True, False])],
    ],
)
def test_two_classes(records: list[Any]) -> None:
    assert report(*records).findings == []


def test_messages_and_text_are_the_same_answer() -> None:
    message = [{"role": "assistant", "content": "good0"}]
    assert found(report(pair(0), pair(0, chosen=message)), "duplicate").rows == [2]
