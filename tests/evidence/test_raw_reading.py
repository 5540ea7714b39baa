"""Files as people have them, damaged or strange: rows as they were meant, or one error that names file and row."""

from __future__ import annotations

import datetime
import gzip
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tacit.errors import EvidenceError, TacitError
from tacit.evidence import read
from tacit.evidence.read import read_rows

pyarrow = pytest.importorskip("pyarrow")
Rows = list[dict[str, Any]]
ROWS: Rows = [
    {"prompt": f"question {i % 7} é", "chosen": f"thanks {i}", "rejected": "NO" * i, "n": None if i % 3 else i}
    for i in range(60)
]


def rows_of(path: Path) -> Rows:
    return [value for _, value in read_rows(path)]


def written(path: Path, content: str | bytes) -> Path:
    content = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def refused(path: Path) -> str:
    with pytest.raises(TacitError) as caught:
        rows_of(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


# --- Arrow and Parquet ---


def table() -> Any:
    """Every way in which Arrow keeps a text, lists, messages and nulls."""
    whole = pyarrow.Table.from_pylist(
        [{**row, "m": [{"role": "user", "content": row["prompt"]}], "w": [1.0] * (i % 3)} for i, row in enumerate(ROWS)]
    )
    whole = whole.append_column("dictionary", whole["prompt"].dictionary_encode())
    whole = whole.append_column("large", whole["chosen"].cast(pyarrow.large_string()))
    return whole.append_column("view", whole["rejected"].cast(pyarrow.string_view()))


def save(path: Path, whole: Any) -> Path:
    import pyarrow.parquet

    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(whole, path)
        return path
    new = pyarrow.ipc.new_file if path.suffix == ".feather" else pyarrow.ipc.new_stream
    with new(path, whole.schema) as writer:
        writer.write_table(whole, max_chunksize=20)
    return path


# Reads every file named on stdin and says how that went; a crash ends the list.
READER = """
import sys
from tacit.errors import TacitError
from tacit.evidence.read import read_rows
for name in sys.stdin.read().split():
    try:
        print(name, len(repr([value for _, value in read_rows(name)])), flush=True)
    except TacitError as error:
        print(name, "refused", flush=True)
"""


def damaged(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 4])):
        start = rng.randrange(len(changed) // 4) * 4
        match rng.randrange(4):
            case 0:
                changed[start] ^= 1 << rng.randrange(8)
            case 1:
                changed[start : start + 4] = rng.choice([b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff", b"\0\0\0\x40"])
            case 2:
                changed[start : start + 32] = bytes(len(changed[start : start + 32]))
            case 3:
                del changed[start + 64 :]
    return bytes(changed)


@pytest.mark.parametrize("name", ["stream.arrow", "file.feather", "file.parquet"])
def test_a_damaged_file_is_refused_or_read_and_never_kills(tmp_path: Path, name: str) -> None:
    whole = table() if name != "file.parquet" else table().drop(["view"])
    content = save(tmp_path / name, whole).read_bytes()
    rng = random.Random(name)
    paths = [written(tmp_path / f"{i}-{name}", damaged(content, rng)) for i in range(200)]
    done = subprocess.run(
        [sys.executable, "-c", READER], input="\n".join(map(str, paths)), capture_output=True, text=True, timeout=200
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == len(paths)
    assert done.stdout.count("refused") > 50


def test_wrong_dictionary_indices_are_refused(tmp_path: Path) -> None:
    import numpy as np

    indices = pyarrow.array(np.array([0, 1, 70_000, 1], np.int32))
    wrong = pyarrow.DictionaryArray.from_arrays(indices, pyarrow.array(["a", "b"]), safe=False)
    path = save(tmp_path / "wrong.arrow", pyarrow.table({"prompt": wrong, "chosen": wrong}))
    said = refused(path)
    assert "row 1, column `prompt`: the file is damaged" in said
    assert "70000" in said


def test_text_of_another_encoding_in_a_column_is_named(tmp_path: Path) -> None:
    latin = pyarrow.array([b"caf\xe9"]).view(pyarrow.string())
    for name in ("latin.arrow", "latin.parquet"):
        path = save(tmp_path / name, pyarrow.table({"prompt": latin, "chosen": latin}))
        assert "row 1, column `prompt`: the text is not UTF-8" in refused(path)


@pytest.mark.parametrize("name", ["twice.arrow", "twice.parquet"])
def test_two_columns_of_one_name_are_refused(tmp_path: Path, name: str) -> None:
    values = [pyarrow.array(["a"]), pyarrow.array(["b"])]
    path = save(tmp_path / name, pyarrow.Table.from_arrays(values, names=["chosen", "chosen"]))
    assert "column `chosen`: two columns have one name. Rename one" in refused(path)


def test_values_that_python_lacks_are_read_as_text(tmp_path: Path) -> None:
    """A date beyond the year 9999, a time zone that nobody knows: the other columns of the row are not lost by it."""
    far = pyarrow.array([2**40, 0], pyarrow.timestamp("s"))
    nowhere = pyarrow.array([0, None], pyarrow.timestamp("s", "Mars/Base"))
    day = pyarrow.array([datetime.date(2024, 1, 2)] * 2)
    columns = {"prompt": pyarrow.array(["p", "q"]), "far": far, "nowhere": nowhere, "day": day}
    first, second = rows_of(save(tmp_path / "times.arrow", pyarrow.table(columns)))
    assert (first["prompt"], first["nowhere"], first["day"]) == ("p", "1970-01-01 00:00:00", datetime.date(2024, 1, 2))
    assert "1099511627776" in first["far"]
    assert (second["far"], second["nowhere"]) == ("1970-01-01 00:00:00", None)


def test_a_struct_that_names_a_field_twice_is_refused(tmp_path: Path) -> None:
    twice = pyarrow.StructArray.from_arrays([pyarrow.array([1]), pyarrow.array([2])], names=["a", "a"])
    path = save(tmp_path / "struct.arrow", pyarrow.table({"prompt": pyarrow.array(["p"]), "m": twice}))
    assert "row 1, column `m`: values of type struct" in refused(path)


# --- encodings and line ends ---


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.tsv.gz", "a.jsonl.gz"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_utf_16_is_called_by_its_name(tmp_path: Path, name: str, encoding: str) -> None:
    text = "prompt,chosen\np,a\n" if "sv" in name else json.dumps([ROWS[0]])
    assert "the text is UTF-16 or UTF-32. Save the file as UTF-8" in refused(
        written(tmp_path / name, text.encode(encoding))
    )


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_and_the_byte_order_mark_do_not_matter(tmp_path: Path, end: str, mark: str) -> None:
    expected = [{"prompt": "p", "chosen": "a", "rejected": "b"}, {"prompt": "q", "chosen": "c", "rejected": "d"}]
    text = mark + end.join(["prompt,chosen,rejected", "p,a,b", "", "q,c,d", ""])
    assert rows_of(written(tmp_path / "a.csv", text)) == expected
    if end != "\r":
        lines = mark + end.join([*map(json.dumps, expected), "", ""])
        assert rows_of(written(tmp_path / "a.jsonl", lines)) == expected
        assert rows_of(written(tmp_path / "a.json", mark + end + json.dumps(expected, indent=1))) == expected


def test_a_file_that_is_not_utf_8_and_cut_short_is_one_error(tmp_path: Path) -> None:
    noise = random.Random(0).randbytes(40_000)
    packed = gzip.compress(b"prompt,chosen\n" + noise)
    (tmp_path / "cut.csv.gz").write_bytes(packed[:-5000])
    assert "cut.csv.gz" in refused(tmp_path / "cut.csv.gz")


# --- values ---


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("[" * 5000 + "]" * 5000, "broken JSON"),
        ("[" * 300 + "]" * 300, "broken JSON"),
        ("9" * 5000, "broken JSON"),
        (r'"\ud83d"', "broken JSON"),
    ],
)
def test_values_that_nothing_can_hold_are_faults_of_their_row(tmp_path: Path, value: str, said: str) -> None:
    good = json.dumps(ROWS[0])
    bad = f'{{"prompt": "p", "chosen": "a", "rejected": "b", "extra": {value}}}'
    assert f"row 2: {said}" in refused(written(tmp_path / "a.jsonl", f"{good}\n{bad}\n"))
    assert f"row 2: {said}" in refused(written(tmp_path / "a.json", f"[{good}, {bad}]"))


def test_whole_emoji_escapes_and_nested_values_are_read(tmp_path: Path) -> None:
    row = {"prompt": "😀", "deep": json.loads("[" * 150 + "]" * 150), "nul": "\0", "large": 10**300}
    assert rows_of(written(tmp_path / "a.json", json.dumps([row]))) == [row]
    assert rows_of(written(tmp_path / "a.jsonl", json.dumps(row))) == [row]


@pytest.mark.parametrize("value", ["1e308", "-1e16", "1e400", "9" * 400])
@pytest.mark.parametrize("column", ["weight", "margin"])
def test_numbers_that_would_overflow_a_fit_name_their_row(tmp_path: Path, column: str, value: str) -> None:
    rows = [json.dumps(row)[:-1] + f', "{column}": {value if i == 3 else 1}}}' for i, row in enumerate(ROWS)]
    with pytest.raises(EvidenceError, match=r"row 4") as caught:
        list(read(written(tmp_path / "a.jsonl", "\n".join(rows))))
    assert column in str(caught.value)


def test_a_huge_score_names_its_row(tmp_path: Path) -> None:
    rows = [{"prompt": "p", "completion": f"c{i}", "score": 1e300 if i == 5 else i} for i in range(9)]
    with pytest.raises(EvidenceError, match=r"row 6, column `score`: wrong value .found 1e.300.. It must be a finite"):
        list(read(written(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows)))))


def test_an_error_can_show_a_number_without_a_text() -> None:
    assert "too large to show" in str(EvidenceError("wrong", mend="x", value=10**5000))


def test_an_answer_of_ten_megabytes(tmp_path: Path) -> None:
    answer = "word " * (2 << 20)
    row = {"prompt": "p", "chosen": answer, "rejected": "b"}
    assert rows_of(written(tmp_path / "a.jsonl", json.dumps(row))) == [row]
    assert rows_of(written(tmp_path / "a.csv", f"prompt,chosen,rejected\np,{answer},b\n")) == [row]


# --- lines without an end ---


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.csv.gz", "a.csv", "a.json.gz"])
def test_a_bomb_stops_early(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tacit.evidence.bounded.LONGEST", 1 << 20)
    monkeypatch.setattr("tacit.evidence.sources.LONGEST", 1 << 20)
    start = (
        b"prompt,chosen\n" if "csv" in name else b"[" if name == "a.json.gz" else json.dumps(ROWS[0]).encode() + b"\n"
    )
    said = refused(written(tmp_path / name, start + b'{"a": "' + b"x" * (8 << 20)))
    assert "a row is longer than 1 MB" in said


def test_an_open_quote_stops_at_the_longest_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tacit.evidence.sources.LONGEST", 1 << 16)
    text = 'prompt,chosen\np,"open\n' + "q,a\n" * (1 << 16)
    assert "row 2: a row is longer" in refused(written(tmp_path / "a.csv", text))


# --- tables ---


def test_a_header_may_span_lines_and_follow_blank_ones(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", '\n\n"pro\nmpt",chosen\np,a\n\n"q\nr",b\n')
    assert list(read_rows(path)) == [(5, {"pro\nmpt": "p", "chosen": "a"}), (7, {"pro\nmpt": "q\nr", "chosen": "b"})]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('prompt,"chosen\np,a\n', "row 1: broken quotes"),
        ("\nprompt,chosen,chosen\np,a,b\n", "row 2, column `chosen`: the header names a column twice"),
        ("prompt,,\np,a,b\n", 'row 1, column `""`: the header names a column twice'),
        ('prompt,chosen\np,a\nq,"b"c\n', "row 3: broken quotes"),
        ("prompt,chosen\np,a\n\nq\n", "row 4: 1 cells under 2 columns"),
    ],
)
def test_a_table_that_cannot_be_read_names_its_row(tmp_path: Path, text: str, said: str) -> None:
    assert said in refused(written(tmp_path / "a.csv", text))


def test_a_column_without_a_name_is_context(tmp_path: Path) -> None:
    """The index that pandas writes."""
    path = written(tmp_path / "a.csv", ",prompt,chosen,rejected\n0,p,a,b\n1,q,c,d\n")
    assert [record.prompt for record in read(path)] == ["p", "q"]
