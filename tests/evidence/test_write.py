"""Rows out and in again, whatever the type of file; nothing half written."""

from __future__ import annotations

import json
import math
import tempfile
import uuid
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
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


# --- values that JSON has not -----------------------------------------------------------------------------------------

WHEN = datetime(2024, 2, 29, 23, 59, 59, 123456, tzinfo=UTC)
ODD: dict[str, Any] = {
    "when": WHEN,
    "day": date(2024, 2, 29),
    "at": time(1, 2, 3),
    "took": timedelta(days=-1, seconds=3),
    "price": Decimal("-12.50"),
    "raw": b"\x00\xff=",
    "inner": {"when": WHEN, "raw": [b"a"]},
}


def test_json_lines_hold_odd_values_as_text(tmp_path: Path) -> None:
    more = {"nan": math.nan, "up": math.inf, "down": -math.inf, "id": uuid.UUID(int=7), "keys": {1: 2}}
    assert written(tmp_path / "a.jsonl", [{**ODD, **more}]) == [
        {
            "when": "2024-02-29T23:59:59.123456+00:00",
            "day": "2024-02-29",
            "at": "01:02:03",
            "took": "-PT23H59M57S",
            "price": "-12.50",
            "raw": "AP89",
            "inner": {"when": "2024-02-29T23:59:59.123456+00:00", "raw": ["YQ=="]},
            "nan": None,
            "up": "Infinity",
            "down": "-Infinity",
            "id": "00000000-0000-0000-0000-000000000007",
            "keys": {"1": 2},
        }
    ]


def test_parquet_keeps_the_types_of_odd_values(tmp_path: Path) -> None:
    rows = [ODD, {**ODD, "price": Decimal("12345.678"), "raw": None, "nan": math.nan, "keys": {1: 2}}]
    first, second = written(tmp_path / "a.parquet", rows[:1], rows[1:])
    assert first == {**ODD, "nan": None, "keys": None, "price": Decimal("-12.500")}
    assert math.isnan(second.pop("nan"))
    assert second == {**ODD, "price": Decimal("12345.678"), "raw": None, "keys": {"1": 2}}


def test_parquet_keeps_maps_and_writes_objects_without_keys_as_text(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    maps = pyarrow.array([[("a", 1), ("b", 2)], None, []], pyarrow.map_(pyarrow.string(), pyarrow.int64()))
    table = pyarrow.table({"n": [1, 2, 3], "map": maps})
    rows = [{**row, "meta": {}, "deep": [{"x": {}}]} for row in table.to_pylist()]
    with row_writer(tmp_path / "a.parquet") as write:
        write(rows)
    again = pyarrow.parquet.read_table(tmp_path / "a.parquet")
    assert again["map"].to_pylist() == maps.to_pylist()
    assert pyarrow.types.is_map(again["map"].type)
    assert again["meta"].to_pylist() == ["{}"] * 3
    assert again["deep"].to_pylist() == ['[{"x": {}}]'] * 3


def test_a_mix_of_types_stops_at_the_first_batch_that_brings_it(tmp_path: Path) -> None:
    with row_writer(tmp_path / "a.jsonl") as write:  # JSON lines have no types of columns
        write([{"prompt": 1}, {"prompt": "x"}])
    with row_writer(tmp_path / "a.parquet") as write:
        write([{"prompt": "x"}])
        with pytest.raises(EvidenceError, match=r"a\.parquet, column `prompt`: a Parquet column holds one type"):
            write([{"prompt": MESSAGES}])


def test_tables_hold_odd_values_as_text(tmp_path: Path) -> None:
    assert written(tmp_path / "a.csv", [{**ODD, "nan": math.nan, "down": -math.inf, "yes": True, "none": None}]) == [
        {
            "when": "2024-02-29T23:59:59.123456+00:00",
            "day": "2024-02-29",
            "at": "01:02:03",
            "took": "'-PT23H59M57S",
            "price": "-12.50",
            "raw": "AP89",
            "inner": '{"when": "2024-02-29T23:59:59.123456+00:00", "raw": ["YQ=="]}',
            "nan": "nan",
            "down": "-inf",
            "yes": "true",
            "none": "",
        }
    ]


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.tsv", "a.parquet"])
def test_half_a_character_is_written(tmp_path: Path, name: str) -> None:
    half = "a\ud83d"
    with row_writer(tmp_path / name) as write:
        write([{"text": half, "meta": {half: [half]}, "smile": "\N{SLIGHTLY SMILING FACE}"}])
    if name == "a.jsonl":
        text = (tmp_path / name).read_text("utf-8")
        assert json.loads(text) == {"text": half, "meta": {half: [half]}, "smile": "\N{SLIGHTLY SMILING FACE}"}
        return
    ((_, row),) = read_rows(tmp_path / name)
    assert row["text"] == r"a\ud83d"
    assert row["smile"] == "\N{SLIGHTLY SMILING FACE}"


# --- spreadsheets -----------------------------------------------------------------------------------------------------

FORMULAS = [
    "=1+1",
    "+49 170 1",
    "-a",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "=cmd|' /C calc'!A0",
    "-",
    "'=1",
    "''+x",
    "+inf",
    "-1-1",
]
HARMLESS = ["-5", "+3.5e-7", "-.5", "a=1", " =1", "'quoted'", "", "1-2", "-12345678901234567890"]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.csv.gz", "a.tsv.gz"])
def test_no_cell_is_a_formula(tmp_path: Path, name: str) -> None:
    rows = [{"text": text, "=name()": text} for text in FORMULAS]
    for row, text in zip(written(tmp_path / name, rows), FORMULAS, strict=True):
        number = text == "+inf"
        assert row == {"text": text if number else "'" + text, "'=name()": text if number else "'" + text}
    same = [{"text": text, "number": -1.5, "whole": -3} for text in HARMLESS]
    assert written(tmp_path / name, same) == [{**row, "number": "-1.5", "whole": "-3"} for row in same]


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_other_types_of_files_keep_formulas_as_they_are(tmp_path: Path, name: str) -> None:
    rows = [{"text": text} for text in FORMULAS]
    assert written(tmp_path / name, rows) == rows


@settings(max_examples=200)
@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5) | st.sampled_from(FORMULAS)
)
def test_taking_one_quote_away_gives_every_text_back(text: str) -> None:
    from tacit.evidence.cells import safe_text

    safe = safe_text(text)
    assert safe.lstrip("'")[:1] not in ("=", "@", "\t", "\r") or safe.startswith("'")
    back = safe[1:] if safe.startswith("'") and safe.lstrip("'")[:1] in tuple("=+-@\t\r") else safe
    assert back == text


def test_an_answer_of_ten_megabytes_is_written(tmp_path: Path) -> None:
    rows = [{"prompt": "p", "completion": "long " * 2_000_000}]
    for name in ("a.jsonl", "a.csv", "a.parquet"):
        assert written(tmp_path / name, rows) == rows


@settings(max_examples=40)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20), min_size=1))
def test_any_text_survives_a_csv_file(texts: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        rows = written(Path(folder) / "a.csv", [{"n": n, "text": "_" + text} for n, text in enumerate(texts)])
    assert [row["text"] for row in rows] == ["_" + text for text in texts]


def test_equal_rows_are_equal_bytes_whenever_they_are_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """gzip keeps a time and a name inside, and the name is that of the workspace."""
    for folder, clock in (("a", 1e9), ("b", 2e9)):
        monkeypatch.setattr("time.time", lambda clock=clock: clock)
        with row_writer(tmp_path / folder / "rows.csv.gz") as write:
            write([{"prompt": "p", "score": 1.5}])
    assert (tmp_path / "a/rows.csv.gz").read_bytes() == (tmp_path / "b/rows.csv.gz").read_bytes()
