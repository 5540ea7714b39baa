"""The suite `tacit bench encode` on two short texts."""

from __future__ import annotations

import pytest

from numerics import ROUNDING
from tacit.bench import encode
from tacit.features.transformer import minilm_installed

pytest.importorskip("sentence_transformers")
pytestmark = pytest.mark.skipif(not minilm_installed(), reason="the extra `minilm` is not installed")


@pytest.mark.parametrize("native", [False, True])
def test_both_sides_agree_and_bfloat16_is_measured_where_it_is_native(
    native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encode, "multiplies_bfloat16", lambda: native)
    monkeypatch.setattr(encode, "matmul_limit", lambda dtype: 1e9)
    result = encode.run(texts=2, tokens=6, rounds=1)
    assert result["ours"] > 0 < result["theirs"]
    assert result["largest_difference"] <= ROUNDING  # of vectors of length 1
    if result["device"] == "cpu":
        assert ({"ours_bfloat16", "ratio_bfloat16", "least_cosine_bfloat16"} <= result.keys()) is native
    if native:
        assert result["least_cosine_bfloat16"] > 0.999
