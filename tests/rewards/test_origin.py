"""What a reward remembers of its fitting data: distances by hand, calibrated on new data, kept on disk."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tacit
from tacit.errors import ArtefactError
from tacit.rewards.origin import Origin
from tacit.rewards.saving import ORIGIN, read_origin


def test_distances_are_those_of_the_shrunk_covariance() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 6)) @ rng.normal(size=(6, 6)) + 3
    origin = Origin.of(x, np.arange(2000), seed=1)
    assert origin is not None
    v, m = origin.directions.astype(float), origin.mean.astype(float)
    assert v.T @ v == pytest.approx(np.eye(v.shape[1]), abs=1e-5)
    covariance = v @ np.diag(origin.variances) @ v.T + float(origin.rest[0]) * (np.eye(6) - v @ v.T)
    new = rng.normal(size=(5, 6)) + 3
    z = (new - m) / origin.scale
    expected = np.sqrt(np.einsum("ni,ij,nj->n", z, np.linalg.inv(covariance), z) / 6)
    assert origin.place(new)[1] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("dim", [8, 3000])
def test_distance_is_about_one_for_data_like_it_and_larger_elsewhere(dim: int) -> None:
    rng = np.random.default_rng(1)
    width = np.geomspace(3, 0.1, dim)
    x = rng.normal(size=(1500, dim)) * width
    origin = Origin.of(x, np.arange(1500))
    assert origin is not None
    coordinates, near = origin.place(rng.normal(size=(500, dim)) * width)
    _, far = origin.place((rng.normal(size=(500, dim)) + 1.5) * width)
    assert np.mean(near**2) == pytest.approx(1, abs=0.15)
    assert np.mean(far**2) > 2
    # New data lies as far out as the sketch, which had no part in the statistics.
    assert np.mean(near > np.quantile(origin.distances, 0.95)) == pytest.approx(0.05, abs=0.04)
    assert coordinates[:, :4].std(0) == pytest.approx(np.ones(4), abs=0.2)


def test_a_sketch_has_one_response_of_a_prompt_and_small_data_have_none() -> None:
    x = np.random.default_rng(2).normal(size=(400, 5))
    origin = Origin.of(x, np.repeat(np.arange(100), 4))
    assert origin is not None
    assert len(origin.sketch) == 50
    assert Origin.of(x, np.repeat(np.arange(10), 40)) is None


def votes(n: int = 120) -> list[dict[str, Any]]:
    rng = random.Random(0)
    words = ["egg", "tea", "rice", "bread", "soup"]
    return [
        {
            "prompt": f"question {i % 60}",
            "chosen": f"thank you for the {rng.choice(words)} {rng.randint(1, 99)}",
            "rejected": f"NO {rng.choice(words)} {rng.randint(1, 99)}!",
            "annotator": f"p{i % 3}",
        }
        for i in range(n)
    ]


@pytest.mark.parametrize("model", ["scalar", "mean_variance", "pairwise", "boosted", "reliability"])
def test_it_is_saved_with_the_reward(tmp_path: Path, model: str) -> None:
    if model == "boosted":
        pytest.importorskip("lightgbm")
    file = tmp_path / "votes.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in votes()))
    reward: Any = tacit.fit(tacit.read(file), model=model, encoder="hashed")
    reward.save(tmp_path / "r")
    back: Any = tacit.load(tmp_path / "r")
    for name, tensor in reward.origin.tensors().items():
        assert np.array_equal(back.origin.tensors()[name], tensor), name
    assert (tmp_path / "r" / ORIGIN).stat().st_size < 1_000_000
    prompts, completions = ["question 1"] * 2, ["thank you", "NO"]
    assert np.array_equal(reward.score(prompts, completions), back.score(prompts, completions))
    (tmp_path / "r" / ORIGIN).unlink()
    with pytest.raises(ArtefactError, match=rf"lacks its file {ORIGIN}"):
        tacit.load(tmp_path / "r")


def test_a_damaged_file_is_said(tmp_path: Path) -> None:
    (tmp_path / ORIGIN).write_bytes(b"no tensors")
    with pytest.raises(ArtefactError, match="damaged"):
        read_origin(tmp_path)
