"""Every export is recognised by its own columns, and by nothing else; odd cells in it end in a sentence."""

from __future__ import annotations

import json
import pkgutil
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import tacit
from evidence.export_samples import SAMPLES
from tacit.errors import EvidenceError
from tacit.evidence import Evidence, exports
from tacit.evidence.layout import Layout, LayoutError

FAMILIES = {
    module.name: import_module(f"{exports.__name__}.{module.name}").LAYOUTS
    for module in pkgutil.iter_modules(exports.__path__)
}
KINDS = {entry.name: {e.kind for es in FAMILIES.values() for e in es if e.name == entry.name}
         for entries in FAMILIES.values() for entry in entries}  # fmt: skip


UNREAD = {"llmfao", "polis"}
"""What is refused as it stands: the answers are in another file."""


def families_of(row: dict[str, Any]) -> list[str]:
    """The files that have a layout which a row fits, or which knows the row and refuses it."""
    return [name for name, layouts in FAMILIES.items() if any(knows(entry, row) for entry in layouts)]


def knows(entry: Layout, row: dict[str, Any]) -> bool:
    try:
        return entry.requires <= row.keys() and entry.fits(row)
    except LayoutError:
        return True


def test_every_layout_has_a_sample() -> None:
    assert KINDS.keys() <= SAMPLES.keys()


@pytest.mark.parametrize("name", SAMPLES)
def test_a_row_is_recognised_by_exactly_one_family(name: str) -> None:
    (family,) = families_of(SAMPLES[name])
    assert name in {entry.name for entry in FAMILIES[family]}
    if name in UNREAD:
        with pytest.raises(EvidenceError, match="row 1"):
            Evidence.from_records([SAMPLES[name]])
    else:
        assert Evidence.from_records([SAMPLES[name]]).layout == name


@pytest.mark.parametrize("name", sorted(SAMPLES.keys() - UNREAD))
def test_each_kind_of_a_layout_gives_records_of_that_kind(name: str) -> None:
    for kind in KINDS[name]:
        evidence = Evidence.from_records([SAMPLES[name]], kind=kind)
        assert evidence.layout == name
        assert evidence.kind == kind
        assert list(evidence)


@pytest.mark.parametrize("name", sorted(SAMPLES.keys() - UNREAD))
def test_a_file_of_json_lines_is_read_as_the_rows_are(name: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(SAMPLES[name]) + "\n", "utf-8")
    assert list(tacit.read(path)) == list(Evidence.from_records([SAMPLES[name]]))


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("odd", [None, "", [], {}, 7, True, float("nan"), [None], "x", [{}], {"steps": [{}]}])
def test_an_odd_cell_gives_records_or_one_sentence(name: str, odd: Any) -> None:
    for column in SAMPLES[name]:
        row = {**SAMPLES[name], column: odd}
        with suppress(EvidenceError):
            list(Evidence.from_records([row]))
        with suppress(EvidenceError):
            list(Evidence.from_records([SAMPLES[name], row]))
