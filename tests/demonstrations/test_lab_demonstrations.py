"""The experiment at a size that only shows that it runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from real_data import DATA
from tacit.lab.experiments.demonstrations import DIVERGENCES, PAIRINGS, Size, once


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "corpora").is_dir(), reason="needs the corpora and stories260K (TACIT_DATA)")
@pytest.mark.parametrize("world", ["stories", "authors"])
def test_every_method_has_a_row(world: str, tmp_path: Path) -> None:
    size = Size(
        rounds=2, rows=16, tokens=12, prompts=24, held_out=10, best_of=2, passages=60, epochs=1, hidden=32,
        vocabulary=400, worlds=(world,),
    )  # fmt: skip
    rows = once(DATA, tmp_path, 0, size)
    assert len(rows) == 3 + 1 + len(PAIRINGS) + 2 + len(DIVERGENCES) + 1
    assert all(np.isfinite([row["gold"], row["kl"], row["told_apart"], row["proxy"]]).all() for row in rows)
    by = {row["method"]: row for row in rows}
    assert by["SPIN"]["gain"] == by["SPIN"]["gold"] - by["initial policy"]["gold"]
    assert by["initial policy"]["kl"] == pytest.approx(0.0, abs=1e-3)
    if world == "stories":
        assert by["demonstrations"]["gold"] > by["initial policy"]["gold"]
