"""The suite `tacit bench rollout` on its smallest model."""

from __future__ import annotations

import pytest

pytest.importorskip("transformers")


def test_both_sides_are_timed_and_agree(tacit) -> None:
    done = tacit("bench", "rollout", "--sizes", 1, "--tokens", 4, "--repeats", 1, "--json")
    assert done.code == 0, done.err
    rows = {row["side"]: row for row in done.json["rows"]}
    assert rows["transformers generate"]["times_faster"] == 1
    assert rows["tacit fp32"]["largest_difference"] < 1e-4
    assert all(row["largest_difference"] < 0.02 for side, row in rows.items() if side.startswith("tacit"))


def test_an_unknown_size_is_named(tacit) -> None:
    done = tacit("bench", "rollout", "--sizes", 7)
    assert (done.code, "no model of 7 million weights" in done.err) == (2, True)
