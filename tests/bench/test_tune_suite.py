"""The suite `tacit bench tune`: equal work on both sides, and both sides in one run where TRL is there."""

from __future__ import annotations

import pytest

pytest.importorskip("transformers")

from tacit.bench import tune
from tacit.errors import MissingExtra, TacitError, extra_installed
from tacit.models.precision import multiplies_bfloat16


@pytest.mark.parametrize("name", tune.WORKS)
def test_our_side_makes_steps_of_the_stated_tokens(name: str, tmp_path) -> None:
    import torch

    given = tune.work(name, 1)
    for _, step in zip(range(1), tune._tacit(1, given, torch.float32, tmp_path), strict=False):
        assert step is None
    assert tune._least(1, given) > 0
    if given.method == "sft":
        mean = given.tokens / len(given.prompts)
        assert mean == (tune.PROMPT + tune.ANSWER if "ragged" not in name else pytest.approx(64, rel=0.15))


def test_unknown_works_and_a_missing_trl(monkeypatch: pytest.MonkeyPatch) -> None:
    if extra_installed("trl"):
        with pytest.raises(TacitError, match="no work `sgd`"):
            tune.run(works=("sgd",))
    monkeypatch.setattr(tune, "extra_installed", lambda name: name != "trl")
    with pytest.raises(MissingExtra):
        tune.run()


@pytest.mark.slow
def test_both_sides_are_timed(tacit) -> None:
    pytest.importorskip("trl", reason="TRL comes with the extra `bench`")
    done = tacit("bench", "tune", "--sizes", 1, "--works", "sft", "--repeats", 1, "--json")
    assert done.code == 0, done.err
    rows = done.json["rows"]
    dtypes = ["bfloat16", "float32"] if multiplies_bfloat16() else ["float32"]
    assert [(row["side"], row["dtype"]) for row in rows] == [(side, d) for d in dtypes for side in ("TRL", "tacit")]
    assert all(row["seconds"] > 0 and row["peak_mb"] > 0 for row in rows)
