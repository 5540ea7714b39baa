"""File types, row numbers and bad input."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tacit.errors import EvidenceError, MissingExtra, TacitError
from tacit.evidence import Evidence, check, read, read_rows
from tacit.evidence.read import prompted_rows
from tacit.evidence.sources import BATCH

ROWS = [{"prompt": f"p{i}", "chosen": f'good {i}, "so"', "rejected": f"bad\n{i}"} for i in range(2 * BATCH + 3)]


def lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def texts(path: Path | str, **options: Any) -> list[tuple[Any, ...]]:
    return [(r.prompt, r.chosen, r.rejected) for r in read(path, **options)]


EXPECTED = [(row["prompt"], row["chosen"], row["rejected"]) for row in ROWS]


def write(kind: str, folder: Path) -> Path:
    import csv

    import pyarrow
    import pyarrow.feather
    import pyarrow.parquet

    path = folder / f"data.{kind}"
    table = pyarrow.Table.from_pylist(ROWS)
    match kind:
        case "jsonl":
            lines(path, ROWS)
        case "json":
            path.write_text(json.dumps(ROWS, indent=2), "utf-8")
        case "csv" | "tsv":
            with path.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, list(ROWS[0]), delimiter="\t" if kind == "tsv" else ",")
                writer.writeheader()
                writer.writerows(ROWS)
        case "parquet":
            pyarrow.parquet.write_table(table, path, row_group_size=100)
        case "feather":
            pyarrow.feather.write_feather(table, path)
        case "arrow":
            with pyarrow.OSFile(str(path), "wb") as sink, pyarrow.ipc.new_stream(sink, table.schema) as writer:
                writer.write_table(table, max_chunksize=1000)
    return path


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "tsv", "parquet", "feather", "arrow"])
def test_every_file_type_gives_the_same_records_twice(kind: str, tmp_path: Path) -> None:
    evidence = read(write(kind, tmp_path))
    assert [(r.prompt, r.chosen, r.rejected) for r in evidence] == EXPECTED
    assert len(evidence) == len(ROWS)
    assert [record.prompt for record in evidence] == [row["prompt"] for row in ROWS]


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "tsv"])
def test_gzip(kind: str, tmp_path: Path) -> None:
    plain = write(kind, tmp_path)
    packed = tmp_path / f"packed.{kind}.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert texts(packed) == EXPECTED
    packed.write_bytes(packed.read_bytes()[:-200])
    with pytest.raises(EvidenceError, match="compressed file is damaged"):
        texts(packed)


def test_folders(tmp_path: Path) -> None:
    lines(tmp_path / "b.jsonl", ROWS[5:])
    lines(tmp_path / "a.jsonl", ROWS[:5])
    (tmp_path / "README.md").write_text("about")
    assert texts(tmp_path) == EXPECTED
    write("csv", tmp_path)
    with pytest.raises(EvidenceError, match=r"mixes \.csv, \.jsonl"):
        read(tmp_path)


def test_datasets_folders(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    whole = datasets.Dataset.from_list(ROWS)
    whole.save_to_disk(tmp_path / "one", num_shards=2)
    assert texts(tmp_path / "one") == EXPECTED
    datasets.DatasetDict({"train": whole.select(range(4)), "test": whole.select([4])}).save_to_disk(tmp_path / "two")
    assert texts(tmp_path / "two") == EXPECTED[:4]
    assert texts(tmp_path / "two" / "test") == EXPECTED[4:5]
    datasets.DatasetDict({"x": whole, "y": whole}).save_to_disk(tmp_path / "three")
    with pytest.raises(EvidenceError, match="splits x, y"):
        read(tmp_path / "three")


def test_hub_ids_stream_through_datasets(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    from types import SimpleNamespace

    asked: list[Any] = []

    def load_dataset(*names: str, split: str, streaming: bool) -> Any:
        asked.append((*names, split, streaming))
        return iter(ROWS)

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    assert texts("hub:owner/name:test") == EXPECTED
    assert texts("hub:owner/name/part") == EXPECTED
    assert set(asked) == {("owner/name", "test", True), ("owner/name", "part", "train", True)}
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtra, match=r"pip install 'tacit\[hub\]'"):
        read("hub:owner/name")


def test_rows_are_numbered_as_an_editor_shows_them(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("\n" + json.dumps(ROWS[0]) + "\n\n" + json.dumps(ROWS[1]) + "\n")
    assert [row for row, _ in read(path).rows()] == [2, 4]
    table = tmp_path / "a.csv"
    table.write_text('prompt,chosen,rejected\np,"two\nlines",r\np,c,r\n')
    assert [row for row, _ in read(table).rows()] == [2, 4]
    assert [row for row, _ in read_rows(table)] == [2, 4]


def test_byte_order_mark_semicolons_and_empty_cells(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"\xef\xbb\xbfprompt;chosen;rejected;margin;tie;annotator\np;c;r;;;\np;c;r;0.5;true;7\n")
    first, second = read(path)
    assert (first.margin, first.tie, first.annotator) == (None, False, None)
    assert (second.margin, second.tie, second.annotator) == (0.5, True, "7")
    marked = tmp_path / "a.jsonl"
    marked.write_bytes(b"\xef\xbb\xbf" + json.dumps(ROWS[0]).encode())
    assert texts(marked) == EXPECTED[:1]


def test_cells_may_hold_json(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('prompt,completions,ranks\np,"[""a"",""b""]","[2,1]"\n')
    (ranking,) = read(path)
    assert (ranking.completions, ranking.ranks) == (["a", "b"], [2, 1])


def test_nulls_of_columns_with_defaults_are_defaults(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "a.jsonl", [{**ROWS[0], "tie": None, "weight": None}, {**ROWS[1], "tie": True, "weight": 2}]
    )
    assert [(r.tie, r.weight) for r in read(path)] == [(False, 1.0), (True, 2.0)]


def test_columns_rename_theirs_to_ours(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", [{"q": "p", "better": "c", "worse_one": "r"}])
    assert texts(path, columns={"prompt": "q", "chosen": "better", "rejected": "worse_one"}) == [("p", "c", "r")]
    with pytest.raises(EvidenceError, match=r"no column `nope` to read as `prompt`.*`q`, `better`"):
        read(path, columns={"prompt": "nope"})


def test_items_put_texts_for_ids(tmp_path: Path) -> None:
    votes = tmp_path / "votes.csv"
    votes.write_text("winner,loser\n1,2\n2,3\n")
    items = tmp_path / "items.tsv"
    items.write_text("id\ttext\n1\tone\n2\ttwo\n")
    evidence = read(votes, items=items)
    with pytest.raises(EvidenceError, match=r"votes.csv, row 3, column `rejected`: no item has this id \(found '3'\)"):
        list(evidence)
    items.write_text("id\ttext\n1\tone\n2\ttwo\n3\tthree\n")
    assert texts(votes, items=items) == [("", "one", "two"), ("", "two", "three")]


def test_texts_are_found_by_ids_in_any_case_and_the_ids_stay_beside(tmp_path: Path) -> None:
    votes, items = tmp_path / "votes.csv", tmp_path / "items.csv"
    votes.write_text("winner,loser\nJ1,J2\n")
    items.write_text("id,text\nJ1,one\nj1,one\nJ2,two\n")
    for texts_of in (items, {"J1": "one", "J2": "two"}, {"j1": "one", "j2": "two"}):
        (record,) = read(votes, items=texts_of)
        assert (record.chosen, record.rejected) == ("one", "two")
        assert record.model_extra == {"items": {"chosen": "J1", "rejected": "J2"}}
    (record,) = read(votes, items={"J1": "J1", "J2": "J2"})
    assert record.model_extra == {}


def test_items_put_texts_for_ids_of_rankings(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", [{"prompt": "p", "completions": [17, "b"], "ranks": [2, 1]}])
    (record,) = read(path, items={"17": "one", "b": "two"})
    assert (record.completions, record.model_extra) == (["one", "two"], {"items": {"completions": [17, "b"]}})


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ("id,text\nJ1,one\nj1,uno\n", r"items.csv, row 3, column `id`: the id stands for two texts \(found 'j1'\)"),
        ("id,words\nJ1,one\n", "items.csv, row 2, column `text`: the column is missing"),
        ("id,text\nJ1,one\n,two\n", r"votes.csv, row 2, column `rejected`: no item has this id \(found ''\)"),
    ],
)
def test_items_that_name_no_text_are_refused(items: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "votes.csv").write_text("winner,loser\nJ1,\n")
    (tmp_path / "items.csv").write_text(items)
    with pytest.raises(EvidenceError, match=message):
        list(read(tmp_path / "votes.csv", items=tmp_path / "items.csv"))


def test_messages_are_no_ids(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", [{"prompt": "p", "completion": [{"role": "assistant", "content": "x"}]}])
    with pytest.raises(EvidenceError, match="column `completion`: no item has this id"):
        list(read(path, items={"1": "one"}))


def test_columns_of_items_need_a_file_and_a_known_name(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", [{"id": "1", "text": "one"}])
    for items in (None, {"1": "one"}):
        with pytest.raises(TacitError, match="Give the file with --items"):
            read(path, items=items, item_columns={"id": "id"})
    with pytest.raises(TacitError, match=r"--item-columns key=\.\.\.: texts have an `id` and a `text`"):
        read(path, items=path, item_columns={"key": "id"})


def test_prompts_alone_are_read_under_other_names(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", [{"q": "Hi", "input": "there"}])
    ((row, columns),) = prompted_rows(path, {"prompt": "q"})
    assert (row, columns["prompt"]) == (1, "Hi\n\nthere")
    with pytest.raises(EvidenceError, match=r"row 1, column `z`: there is no column `z`.*The columns are `q`, `input`"):
        list(prompted_rows(path, {"prompt": "z"}))


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        ("", "a.jsonl", r"a.jsonl: the file is empty"),
        ("\n\n", "a.json", r"the file is empty"),
        ("", "a.csv", r"the file is empty"),
        ("prompt,chosen,rejected\n", "a.csv", r"a.csv: there are no records"),
        ("[]", "a.json", r"there are no records"),
        ('{"prompt": "p", "chosen"', "a.jsonl", r"a.jsonl, row 1: broken JSON"),
        ("[1, 2]", "a.json", r"row 1: the row is not an object \(found 1\)"),
        ("hello", "a.txt", r"files of type `.txt` cannot be read"),
        ("a,a\n1,2\n", "a.csv", r"row 1, column `a`: the header names a column twice"),
        ("not parquet", "a.parquet", r"not a Parquet file"),
        ("not arrow", "a.arrow", r"not an Arrow file"),
    ],
)
def test_files_that_cannot_be_read(content: str, name: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(EvidenceError, match=message):
        read(path)


def many(path: Path) -> Path:
    """A Parquet or Arrow file of 4,000 comparisons."""
    import pyarrow
    import pyarrow.parquet

    columns = {name: [f"{name} {i * 7919 % 4001}" for i in range(4000)] for name in ("prompt", "chosen", "rejected")}
    table = pyarrow.table(columns)
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(table, path)
    else:
        with pyarrow.OSFile(str(path), "wb") as file, pyarrow.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table)
    return path


@pytest.mark.parametrize(
    ("name", "spoil", "message"),
    [
        ("a.parquet", lambda data: data[: len(data) // 2], "not a Parquet file, or not a whole one"),
        ("a.parquet", lambda data: data[:200] + b"\xff" * 4000 + data[4200:], "not a Parquet file, or not a whole one"),
        ("a.arrow", lambda data: data[: len(data) // 2], "not an Arrow file, or not a whole one"),
        ("a.arrow", lambda data: b"", "not an Arrow file, or not a whole one"),
    ],
)
def test_damaged_columns(name: str, spoil: Callable[[bytes], bytes], message: str, tmp_path: Path) -> None:
    path = many(tmp_path / name)
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(EvidenceError, match=f"{name}: {message} .*Write or download it again$"):
        list(read(path))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("dataset_dict.json", "{torn", r"dataset_dict.json: not as `datasets` writes it"),
        ("dataset_dict.json", '{"splits": []}', r"dataset_dict.json: .*`splits` lists nothing"),
        ("dataset_dict.json", '{"splits": ["train"]}', r"train: there is no such file or folder"),
        ("dataset_dict.json", '{"splits": ["a", "b"]}', r"the folder holds the splits a, b. Give one, as .*a$"),
        ("state.json", '{"other": 1}', r"state.json: not as `datasets` writes it \(KeyError: '_data_files'\)"),
        ("state.json", '{"_data_files": [{"filename": "gone.arrow"}]}', r"gone.arrow: there is no such file"),
    ],
)
def test_damaged_dataset_folders(name: str, content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(EvidenceError, match=message):
        read(tmp_path)


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.tsv", "a.jsonl", "a.jsonl.gz"])
def test_text_that_is_not_utf8_is_placed(name: str, tmp_path: Path) -> None:
    line = "p,c,r\n" if ".csv" in name else "p\tc\tr\n" if ".tsv" in name else json.dumps(GOOD) + "\n"
    head = "prompt,chosen,rejected\n".replace(",", "\t" if ".tsv" in name else ",") if ".jsonl" not in name else line
    data = (head + line * 5000).encode() + line.encode().replace(b"c", b"caf\xe9") + line.encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    with pytest.raises(EvidenceError, match=rf"{name}, row 5002: the text is not UTF-8. Save the file as UTF-8"):
        list(read(tmp_path / name))


def test_names_that_say_no_type(tmp_path: Path) -> None:
    (tmp_path / "votes").write_text("{}")
    with pytest.raises(
        EvidenceError, match=r"votes: the name has no ending that tells the type of file. Give JSON lines"
    ):
        read(tmp_path / "votes")
    pytest.importorskip("datasets")
    with pytest.raises(EvidenceError, match=r"hub:: no dataset is named. Give hub:owner/name"):
        read("hub:")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match=r"nowhere.jsonl: there is no such file"):
        read(tmp_path / "nowhere.jsonl")


GOOD = {"prompt": "p", "chosen": "c", "rejected": "r"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"prompt": "p", "chosen": "c", "reje', r"row 3: broken JSON"),
        ({"prompt": "p", "chosen": "c"}, r"row 3, column `rejected`: the column is missing.*`prompt`, `chosen`"),
        ({"chosen": "c", "rejected": "r"}, r"row 3, column `prompt`: the column is missing"),
        ({**GOOD, "chosen": True}, r"row 3, column `chosen`: wrong value \(found True\). It must be a text or a list"),
        ({**GOOD, "chosen": None}, r"row 3, column `chosen`: wrong value \(found None\)"),
        ({**GOOD, "chosen": [{"by": "gpt", "value": "c"}]}, r"row 3, column `chosen`: wrong value"),
        ({**GOOD, "chosen": [{"role": "assistant", "tool_calls": "f()"}]}, r"row 3, column `chosen`: wrong value"),
        ({**GOOD, "chosen": [{"role": "assistant", "tool_calls": 7}]}, r"row 3, column `chosen`: wrong value"),
        ({**GOOD, "weight": -1}, r"row 3, column `weight`: wrong value \(found -1\). It must be a finite number, not"),
        ({**GOOD, "margin": float("inf")}, r"row 3, column `margin`: wrong value \(found inf\)"),
        ({**GOOD, "tie": "perhaps"}, r"row 3, column `tie`: wrong value \(found 'perhaps'\). It must be true or false"),
        (
            {"prompt": "p", "completion": "c", "label": True},
            r"row 3.*a row of kind outcome in a file of kind comparison",
        ),
        ([1], r"row 3: the row is not an object"),
    ],
)
def test_a_bad_row_names_its_place_and_the_mend(row: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    shown = row if isinstance(row, str) else json.dumps(row)
    path.write_text(f"{json.dumps(GOOD)}\n{json.dumps(GOOD)}\n{shown}\n{json.dumps(GOOD)}\n")
    with pytest.raises(EvidenceError, match=rf"bad.jsonl, {message}"):
        list(read(path))


def test_bad_rows_of_tables_and_arrays(tmp_path: Path) -> None:
    table = tmp_path / "bad.csv"
    table.write_text("prompt,chosen,rejected\np,c,r\np,c\n")
    with pytest.raises(EvidenceError, match=r"bad.csv, row 3: 2 cells under 3 columns"):
        list(read(table))
    table.write_text('prompt,chosen,rejected\np,c,r\np,"c"x,r\n')
    with pytest.raises(EvidenceError, match=r"bad.csv, row 3: broken quotes"):
        list(read(table))
    table.write_bytes(b"prompt,chosen,rejected\np,c,\xff\n")
    with pytest.raises(EvidenceError, match="not UTF-8"):
        list(read(table))
    array = tmp_path / "bad.json"
    array.write_text(f"[{json.dumps(GOOD)}, {json.dumps(GOOD)}, {{'x': 1}}, {json.dumps(GOOD)}]")
    with pytest.raises(EvidenceError, match=r"bad.json, row 3: broken JSON"):
        list(read(array))
    array.write_text(f"[{json.dumps(GOOD)}, {json.dumps(GOOD)}")
    with pytest.raises(EvidenceError, match=r"bad.json, row 3: broken JSON"):
        list(read(array))


def test_ranks_must_match_completions(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", [{"prompt": "p", "completions": ["a", "b"], "ranks": [1, 2, 3]}])
    with pytest.raises(EvidenceError, match="row 1: 3 ranks for 2 completions"):
        list(read(path))


def test_a_json_array_larger_than_a_block_streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tacit.evidence.sources.BLOCK", 16)
    path = tmp_path / "a.json"
    path.write_text(json.dumps(ROWS[:50], indent=1), "utf-8")
    assert texts(path) == EXPECTED[:50]


@pytest.mark.parametrize("indent", [None, 2])
def test_rows_inside_one_object_that_is_the_file(indent: int | None, tmp_path: Path) -> None:
    path = tmp_path / "export.json"
    path.write_text(json.dumps({"exported": "today", "note": None, "Conversations": ROWS}, indent=indent), "utf-8")
    assert texts(path) == EXPECTED
    path.write_text(json.dumps({"data": [*ROWS[:2], {"prompt": "p", "chosen": True, "rejected": "x"}]}), "utf-8")
    with pytest.raises(EvidenceError, match=r"export\.json, row 3, column `chosen`"):
        texts(path)
    for document in (
        {"conversations": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "label": True},
        {"data": [1, 2], "label": True},
        {"data": ROWS, "other": ROWS},
        {"answers": ROWS},
        {"system": "Answer in French.", "conversations": ROWS},
        {"prompt": "p", "samples": [{"completion": "x", "score": 1}, {"completion": "y", "score": 2}]},
        {"label": True, "data": ROWS},
    ):
        path.write_text(json.dumps(document, indent=indent), "utf-8")
        assert [row for _, row in read_rows(path)] == [document]


def test_a_layout_is_recognised_behind_a_broken_first_row(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("{oops\n" + json.dumps(GOOD) + "\n")
    evidence = read(path)
    assert evidence.kind == "comparison"
    with pytest.raises(EvidenceError, match="row 1: broken JSON"):
        list(evidence)


def test_memory_does_not_grow_with_rows(tmp_path: Path) -> None:
    import tracemalloc

    row = json.dumps({"prompt": "p" * 200, "chosen": "c" * 400, "rejected": "r" * 400}) + "\n"
    peaks = []
    for n in (2_000, 20_000):
        path = tmp_path / f"{n}.jsonl"
        path.write_text(row * n)
        tracemalloc.start()
        assert sum(1 for _ in read(path)) == n
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0] + 500_000


def test_numbers_as_pandas_writes_them_beside_blanks() -> None:
    row = {"prompt": "p", "chosen": 4, "rejected": 5.0, "margin": float("nan"), "weight": float("nan")}
    rows = [{**row, "annotator": 17.0}, {**row, "annotator": float("nan"), "weight": 2.0}, {**row, "annotator": None}]
    records: list[Any] = list(Evidence.from_records(rows))
    assert [(r.chosen, r.rejected) for r in records] == [("4", "5")] * 3
    assert [r.annotator for r in records] == ["17", None, None]
    assert [r.weight for r in records] == [1.0, 2.0, 1.0]
    assert all(r.margin is None for r in records)


def test_cells_that_happen_to_be_json_are_texts(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text('prompt,chosen,rejected\nprimes,"[2, 3]",[]\nobject,"{""a"": 1}",{}\n')
    assert [(r.chosen, r.rejected) for r in read(file)] == [("[2, 3]", "[]"), ('{"a": 1}', "{}")]  # type: ignore[attr-defined]
    file.write_text('question,answer\nWhere?,"[0, 1]"\nWhen?,7\n')
    assert [r.answer for r in read(file)] == ["[0, 1]", "7"]  # type: ignore[attr-defined]
    file.write_text('prompt,completions,ranks\np,"[""x"", ""y""]","[2, 1]"\n')
    assert [r.ranks for r in read(file)] == [[2, 1]]  # type: ignore[attr-defined]


def test_broken_rows_are_left_out_and_counted_where_asked(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    good = json.dumps({"prompt": "p", "chosen": "c", "rejected": "r"})
    file.write_text("\n".join([good, "{", good, json.dumps({"prompt": "p", "chosen": True, "rejected": "r"})]))
    with pytest.raises(EvidenceError, match="row 2"):
        list(read(file))
    evidence = read(file, skip_broken=True)
    assert (len(evidence), evidence.broken) == (2, 2)
    assert evidence.notes == [f"{file}: 2 broken rows are left out"]
    assert not check(evidence).ok, "check names them all the same"
