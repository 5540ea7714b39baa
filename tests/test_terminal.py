"""What every verb shares: configuration files, JSON, tables, one sentence for an error."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from tacit import terminal
from tacit.errors import TacitError


def configuration(folder: Path, text: str) -> Path:
    path = folder / "options.yaml"
    path.write_text(text, "utf-8")
    return path


def test_a_configuration_gives_its_values_and_drops_what_is_not_set(tmp_path: Path) -> None:
    path = configuration(tmp_path, "test: 0.3\nhidden: [8, 8]\nkind:\nencoder: null\n")
    known = ["test", "hidden", "kind", "encoder"]
    assert terminal.load_configuration(path, known) == {"test": 0.3, "hidden": [8, 8]}


def test_an_empty_configuration_is_none_at_all(tmp_path: Path) -> None:
    assert terminal.load_configuration(configuration(tmp_path, "# nothing\n"), ["test"]) == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("encodr: hashed", "unknown key `encodr`. Did you mean `encoder`?"),
        ("zzz: 1", "unknown key `zzz`. Known keys: encoder, seed"),
        ("3: 1", "unknown key `3`"),
        ("encoder: {name: hashed}", "key `encoder` holds a mapping. Keys are flat"),
        ("- encoder", "holds a list, not options"),
        ("seed: 1\nencoder: [", "row 3: not readable as YAML"),
    ],
)
def test_a_bad_configuration_names_the_key_and_the_mend(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(TacitError) as caught:
        terminal.load_configuration(configuration(tmp_path, text + "\n"), ["encoder", "seed"])
    assert said in str(caught.value)
    assert "options.yaml" in str(caught.value)


def test_a_missing_configuration_is_named(tmp_path: Path) -> None:
    with pytest.raises(TacitError, match=r"absent\.yaml: there is no such configuration file"):
        terminal.load_configuration(tmp_path / "absent.yaml", [])


def test_a_saved_configuration_reads_back(tmp_path: Path) -> None:
    options = {"encoder": "hf:models/größe", "hidden": [4, 2], "l2": 1e-3, "test": 0.2, "kind": None, "no_cache": False}
    terminal.save_configuration(tmp_path / "run.yaml", options)
    kept = {key: value for key, value in options.items() if value is not None}
    assert terminal.load_configuration(tmp_path / "run.yaml", options) == kept


@pytest.mark.parametrize(
    ("name", "expected"),
    [("scores.jsonl", "scores.config.yaml"), ("a.b.csv.gz", "a.b.config.yaml"), ("m.json", "m.config.yaml")],
)
def test_the_neighbour_of_an_output(name: str, expected: str) -> None:
    assert terminal.beside(Path("out") / name, ".config.yaml") == Path("out") / expected


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TACIT_CACHE", "here")
    assert terminal.cache_folder("features") == Path("here/features")
    monkeypatch.delenv("TACIT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "there")
    assert terminal.cache_folder("features") == Path("there/tacit/features")


def test_json_has_null_for_what_is_not_finite(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.print_json({"a": math.nan, "b": (np.float32(0.5), np.arange(2)), "c": Path("x"), 1: math.inf, "d": True})
    read = json.loads(capsys.readouterr().out)
    assert read == {"a": None, "b": [0.5, [0, 1]], "c": "x", "1": None, "d": True}


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, ""),
        (True, "True"),
        (1234567, "1,234,567"),
        (0.61234, "0.612"),
        (-0.0001, "0.000"),
        (20000.4, "20,000"),
        ([0.1, 0.25], "[0.100, 0.250]"),
        ({"a_b": 1, "none": None, "ci": [0, 1]}, "a b 1\nci [0, 1]"),
        ("text", "text"),
    ],
)
def test_values_in_tables(value: object, shown: str) -> None:
    assert terminal.show(value) == shown


def test_a_metric_stands_beside_its_interval() -> None:
    rows = terminal.metric_rows({"accuracy": 0.6, "accuracy_ci": [0.5, 0.7], "n_test": 9, "fit": {"l2": 1}, "no": None})
    assert rows == [
        {"metric": "accuracy", "value": 0.6, "95% interval": [0.5, 0.7]},
        {"metric": "n test", "value": 9, "95% interval": None},
    ]


def test_a_column_that_nothing_fills_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.print_table([{"a_b": 1, "empty": None, "c": None}, {"a_b": 2, "c": 3, "late": 4}])
    shown = capsys.readouterr().out
    assert "a b" in shown
    assert "c" in shown
    assert "late" in shown
    assert "empty" not in shown


def test_markup_in_a_table_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.print_table([{"a": "[bold]x[/bold]"}], "[red]t")
    shown = capsys.readouterr().out
    assert "[bold]x[/bold]" in shown
    assert "[red]t" in shown


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (TacitError("a.csv,\n row 3:  bad"), 2, "tacit: a.csv, row 3: bad\n"),
        (PermissionError(13, "Permission denied", "x"), 2, "tacit: x: permission denied. Give a path"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_what_a_user_can_mend_is_one_sentence(
    error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught, terminal.one_sentence():
        raise error
    assert caught.value.code == code
    shown = capsys.readouterr()
    assert shown.err.startswith(said)
    assert shown.err.count("\n") <= 1
    assert shown.out == ""


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError), terminal.one_sentence():
        _ = 1 / 0


@pytest.mark.parametrize(("columns", "shown_as"), [(60, "0.500 [0.400, 0.600]"), (24, "│ [0.400, 0.600] │")])
def test_an_interval_stands_behind_or_below_its_value(
    columns: int, shown_as: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    rows = [{"share": 0.5, "share_ci": [0.4, 0.6], "n": 3}, {"share": 0.1, "share_ci": [None, None], "n": 3}]
    terminal.print_table(rows)
    shown = capsys.readouterr().out
    assert shown_as in shown
    assert "0.100" in shown
    assert "ci" not in shown
    assert "None" not in shown


def test_a_sentence_is_shortened_in_its_middle(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        terminal.fail("file.jsonl: " + "x" * 100_000 + ". Fix it")
    said = capsys.readouterr().err
    assert len(said) < 2100
    assert said.startswith("tacit: file.jsonl: xxx")
    assert said.endswith("xxx. Fix it\n")


def test_text_that_no_terminal_can_show_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    with terminal.one_sentence():
        terminal.print_json({"column": "cut \ud83d"})
        print("\ud83d")
    said = capsys.readouterr().out
    assert json.loads(said.removesuffix("\\ud83d\n")) == {"column": "cut \ud83d"}
    with pytest.raises(SystemExit), terminal.one_sentence():
        raise TacitError("the column \ud83d is missing. Add it")
    assert capsys.readouterr().err == "tacit: the column \\ud83d is missing. Add it\n"


def test_a_full_memory_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, terminal.one_sentence():
        raise MemoryError
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
