"""Rows out and in again, whatever the type of file; nothing half written."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tacit.errors import EvidenceError, TacitError
from tacit.evidence import read_rows
from tacit.evidence.write import ENDINGS, ending, row_writer

MESSAGES = [{"role": "user", "content": 'a "quoted",\nline; über'}]
ROWS: list[dict[str, Any]] = [
    {"prompt": MESSAGES, "score": 0.5, "label": True},
    {"prompt": [{"role": "user", "content": ""}], "score": -2.0, "note": "tab\there"},
]


def written(path: Path, *batches: list[dict[str, Any]]) -> list[dict[str, Any]]:
    with row_writer(path) as write:
        for batch in batches:
            write(batch)
    return [row for _, row in read_rows(path)]


def half_written(path: Path) -> None:
    with row_writer(path) as write:
        write(ROWS)
        raise RuntimeError("half way")


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_json_lines_keep_rows_as_they_are(tmp_path: Path, name: str) -> None:
    assert written(tmp_path / name, ROWS[:1], ROWS[1:]) == ROWS


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.csv.gz", "a.tsv.gz"])
def test_tables_have_the_union_of_columns(tmp_path: Path, name: str) -> None:
    assert written(tmp_path / name, ROWS[:1], ROWS[1:]) == [
        {"prompt": MESSAGES, "score": "0.5", "label": "true", "note": ""},
        {"prompt": ROWS[1]["prompt"], "score": "-2.0", "label": "", "note": "tab\there"},
    ]


def test_parquet_keeps_types_and_joins_those_that_fit(tmp_path: Path) -> None:
    many = [{"prompt": MESSAGES, "score": 1}] * 5000  # more than one batch, whole numbers first
    rows = written(tmp_path / "a.parquet", many, ROWS)
    assert len(rows) == 5002
    assert rows[0] == {"prompt": MESSAGES, "score": 1.0, "label": None, "note": None}
    assert rows[-1] == {**ROWS[1], "label": None}


def test_parquet_says_where_types_mix(tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match=r"one type.*end --out in \.jsonl"):
        written(tmp_path / "a.parquet", [{"prompt": "text"}, {"prompt": MESSAGES}])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("known", ENDINGS)
def test_nothing_is_left_where_the_block_fails(tmp_path: Path, known: str) -> None:
    with pytest.raises(RuntimeError, match="half way"):
        half_written(tmp_path / f"a{known}")
    assert not list(tmp_path.iterdir())


def test_a_former_file_stays_until_the_new_one_is_complete(tmp_path: Path) -> None:
    written(tmp_path / "a.csv", [{"old": 1}])
    with pytest.raises(RuntimeError, match="half way"):
        half_written(tmp_path / "a.csv")
    assert [row for _, row in read_rows(tmp_path / "a.csv")] == [{"old": "1"}]
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


@pytest.mark.parametrize("name", ["a.xlsx", "a", ".jsonl", "a.json", "jsonl"])
def test_an_ending_that_is_not_known_is_refused_before_any_work(tmp_path: Path, name: str) -> None:
    with pytest.raises(TacitError, match=r"End it in \.jsonl"), row_writer(tmp_path / name):
        pytest.fail("the block must not run")


def test_endings_are_found_whatever_the_case() -> None:
    assert ending("Scores.v2.CSV.gz") == ".csv.gz"


@settings(max_examples=40)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20), min_size=1))
def test_any_text_survives_a_csv_file(texts: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        rows = written(Path(folder) / "a.csv", [{"n": n, "text": "_" + text} for n, text in enumerate(texts)])
    assert [row["text"] for row in rows] == ["_" + text for text in texts]
