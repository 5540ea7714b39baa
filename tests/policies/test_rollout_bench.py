"""The suite `tacit bench rollout` on its smallest model."""

from __future__ import annotations

import math

import pytest

from numerics import BFLOAT16, ROUNDING

pytest.importorskip("transformers")


def test_both_sides_are_timed_and_agree(tacit) -> None:
    done = tacit("bench", "rollout", "--sizes", 1, "--tokens", 4, "--repeats", 1, "--json")
    assert done.code == 0, done.err
    rows = {row["side"]: row for row in done.json["rows"]}
    assert rows["transformers generate"]["times_faster"] == 1
    size = math.log(1024)  # of a log-probability: the vocabulary's
    assert rows["tacit fp32"]["largest_difference"] <= ROUNDING * size
    assert all(row["largest_difference"] <= BFLOAT16 * size for side, row in rows.items() if side.startswith("tacit"))


def test_an_unknown_size_is_named(tacit) -> None:
    done = tacit("bench", "rollout", "--sizes", 7)
    assert (done.code, "no model of 7 million weights" in done.err) == (2, True)
