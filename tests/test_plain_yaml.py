"""YAML of plain values: read as people write it, bounded, and written so that it reads back."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tacit.plain_yaml import YamlError, read_yaml, write_yaml


def read(folder: Path, text: str | bytes) -> Any:
    path = folder / "options.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    return read_yaml(path)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2024-01-01", "2024-01-01"),  # YAML 1.1 has a date, 90, 8 and a text here
        ("2001-12-14t21:59:43.10-05:00", "2001-12-14t21:59:43.10-05:00"),
        ("1:30", "1:30"),
        ("010", "010"),
        ("1e-3", 1e-3),
        ("-1_000", -1000),
        ("0x1F", 31),
        (".5", 0.5),
        ("3.", 3.0),
        ("-.inf", -math.inf),
        ("=", "="),
        ("true", True),
        ("~", None),
        ("[1, {b: c}]", [1, {"b": "c"}]),
        ("'1'", "1"),
    ],
)
def test_values_are_what_a_person_means(tmp_path: Path, text: str, value: Any) -> None:
    found = read(tmp_path, f"key: {text}\n")["key"]
    assert (found, type(found)) == (value, type(value))


def test_a_byte_order_mark_and_an_empty_file(tmp_path: Path) -> None:
    assert read(tmp_path, b"\xef\xbb\xbfkey: 1\n") == {"key": 1}
    assert read(tmp_path, "# nothing\n") is None


def test_anchors_and_merges_are_kept(tmp_path: Path) -> None:
    text = "one: &one {weight: 1, scale: z}\ntwo:\n  <<: *one\n  weight: 2\n"
    assert read(tmp_path, text)["two"] == {"weight": 2, "scale": "z"}


LEVELS = "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))
MERGES = "".join(
    f"{b}: &{b} {{<<: [{', '.join([f'*{a}'] * 9)}]}}\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: !!binary aGk=\n", "row 1: the tag `!!binary` is not plain YAML"),
        ("b: 1\na: !!python/object/apply:os.getcwd []\n", "row 2: the tag `!!python/object/apply:os.getcwd`"),
        ("a: !!set {x}\n", "the tag `!!set`"),
        ("a: !!timestamp 2001-01-01\n", "the tag `!!timestamp`"),
        ("a: !mine x\n", "the tag `!mine`"),
        ("a: !!int x\n", "not readable as YAML"),
        ("a: !!int ''\n", "not readable as YAML"),
        ("a: !!bool maybe\n", "not readable as YAML"),
        ("seed: 1\nother: 2\nseed: 3\n", "row 3: the key `seed` stands twice"),
        ("? [a]\n: 1\n", "row 1: a list or a mapping as a key"),
        ("a: &a [*a]\n", "more than 100000 values once aliases are expanded"),
        ("a: &a {b: *a}\n", "more than 100000 values"),
        ("a: &a [x, x, x, x, x, x, x, x, x, x]\n" + LEVELS, "row 5: more than 100000 values"),
        ("a: &a {x: 1}\n" + MERGES, "more than 100000 values"),
        ("[" * 90 + "]" * 90, "nested more than 64 deep"),
        ("[" * 50_000, "nested more than 64 deep"),
        ('a: "x\\0y"\n', "row 1: a character that no text holds ('x\\x00y')"),
        ('a: "\\ud83d"\n', "a character that no text holds"),
        ("a: " + "9" * 5000, "row 1: a number of more than 400 digits"),
        ("a: 1\n---\nb: 2\n", "row 2: not readable as YAML"),
        ("a: 1\n\x07: 2\n", "not readable as YAML"),
        ("a: [\n", "row 2: not readable as YAML"),
        (b"\xff\xfea\0", "the text is not UTF-8"),
        (b"a" * (17 << 20), "larger than 16 MB"),
    ],
)
def test_what_is_not_plain_is_refused_with_its_row(tmp_path: Path, text: str | bytes, said: str) -> None:
    start = time.monotonic()
    with pytest.raises(YamlError) as caught:
        read(tmp_path, text)
    assert said in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path / 'options.yaml'}")
    assert time.monotonic() - start < 30


TEXTS = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufeff"), max_size=12)
LOOKALIKES = st.sampled_from(
    ["1e-3", "1:30", "010", "0x1f", "1_0", "yes", "null", "~", "", "=", "<<", ".5", "2024-01-01", ".inf"]
)
VALUES = st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False) | TEXTS | LOOKALIKES


@given(
    st.dictionaries(TEXTS | LOOKALIKES, st.recursive(VALUES, lambda inner: st.lists(inner, max_size=3), max_leaves=5))
)
def test_what_is_written_reads_back(tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any]) -> None:
    found = read(tmp_path_factory.mktemp("yaml"), write_yaml(values))
    assert found == (values or {})
    assert [type(found[key]) for key in values] == [type(value) for value in values.values()]
