"""Evidence as a lazy sequence of records."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tacit.errors import EvidenceError
from tacit.evidence import Comparison, Evidence, Rating, read

RECORDS = [Comparison(prompt=f"p{i}", chosen="c", rejected="r") for i in range(1000)]


@pytest.fixture(params=["memory", "file"])
def evidence(request: pytest.FixtureRequest, tmp_path: Path) -> Evidence:
    if request.param == "memory":
        return Evidence.from_records(RECORDS)
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(r.model_dump(exclude_defaults=True)) + "\n" for r in RECORDS))
    return read(path)


def prompts(evidence: Evidence) -> list[str]:
    return [str(record.prompt) for record in evidence]  # type: ignore[attr-defined]


def test_iteration_starts_anew(evidence: Evidence) -> None:
    assert list(evidence) == RECORDS == list(evidence)
    assert len(evidence) == 1000
    assert evidence


@pytest.mark.parametrize("size", [1, 7, 256, 1000, 5000])
def test_batches_have_the_size_asked_for(evidence: Evidence, size: int) -> None:
    batches = list(evidence.batches(size))
    assert {len(batch) for batch in batches[:-1]} <= {size}
    assert [record for batch in batches for record in batch] == RECORDS


def test_select_by_mask_and_by_position_and_again(evidence: Evidence) -> None:
    mask = np.zeros(1000, bool)
    mask[[3, 300, 999]] = True
    for keep in (mask, [3, 300, 999], np.array([3, 300, 999])):
        chosen = evidence.select(keep)
        assert prompts(chosen) == ["p3", "p300", "p999"]
        assert [row for row, _ in chosen.rows()] == [4, 301, 1000]
        assert len(chosen) == 3
    assert prompts(evidence.select(mask).select([0, 2])) == ["p3", "p999"]
    assert prompts(evidence.select(np.zeros(1000, bool))) == []
    assert not evidence.select([])


def test_select_refuses_what_it_cannot_mean(evidence: Evidence) -> None:
    for keep in ([2, 1], [1, 1], [-1, 3], [1000]):
        with pytest.raises(ValueError, match=r"positions? "):
            evidence.select(keep)
    with pytest.raises(ValueError, match="mask has 3 entries for 1000 records"):
        evidence.select(np.ones(3, bool))


def test_a_file_that_shrank_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    line = json.dumps({"prompt": "p", "chosen": "c", "rejected": "r"}) + "\n"
    path.write_text(line * 10)
    chosen = read(path).select([0, 9])
    path.write_text(line * 5)
    with pytest.raises(EvidenceError, match="record 10 was selected and there are 5"):
        list(chosen)


def test_records_in_memory_have_one_kind() -> None:
    assert Evidence.from_records([Rating(prompt="p", completion="c", score=1)]).kind == "rating"
    with pytest.raises(EvidenceError, match="memory, row 2: records of several kinds: Rating among Comparison"):
        Evidence.from_records([RECORDS[0], Rating(prompt="p", completion="c", score=1)])
    with pytest.raises(EvidenceError, match="there are no records"):
        Evidence.from_records([])


def test_extra_columns_are_kept() -> None:
    (record,) = Evidence.from_records([{"prompt": "p", "chosen": "c", "rejected": "r", "subset": "Chat", "n": 3}])
    assert record.model_extra == {"subset": "Chat", "n": 3}
