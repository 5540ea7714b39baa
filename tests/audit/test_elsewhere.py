"""Other domains, distance from the fitting data, and members that disagree: planted truth and hand-computed numbers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tacit.audit.crossfit import fit_here_test_there
from tacit.audit.disagreement import disagreement
from tacit.audit.distance import distance, energy_test
from tacit.audit.domains import domains
from tacit.audit.study import Study
from tacit.rewards.origin import Origin

N = 800


class Vectors:
    """Text `i` of `vectors` stands for its row; scores are a linear function, of each member."""

    name = "vectors"

    def __init__(self, vectors: np.ndarray, weights: np.ndarray) -> None:
        self.vectors, self.weights = vectors.astype(np.float32), np.atleast_2d(weights).astype(np.float32)
        self.encoder = SimpleNamespace(
            fingerprint="test", dim=vectors.shape[1], encode=self._encode, name="test", texts_at_once=10_000
        )

    def _encode(self, texts: Any) -> np.ndarray:
        return self.vectors[[int(c) for _, c in texts]]

    def score_members(self, prompts: Any, completions: Any) -> np.ndarray:
        return self.weights @ self.vectors[[int(c) for c in completions]].T

    def score(self, prompts: Any, completions: Any) -> np.ndarray:
        return self.score_members(prompts, completions).mean(0)


def world(seed: int, truths: np.ndarray, *, dim: int = 6, n: int = N) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Vectors (2 n, dim), and n votes by the truth (domains, dim) of each one's domain."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2 * n, dim))
    domain = np.arange(n) % len(truths)
    gap = ((x[:n] - x[n:]) * truths[domain]).sum(1)
    first = rng.random(n) < 1 / (1 + np.exp(-gap))
    rows = [
        {
            "prompt": f"p{i}",
            "chosen": str(i if first[i] else n + i),
            "rejected": str(n + i if first[i] else i),
            "source": "abc"[domain[i]],
        }
        for i in range(n)
    ]
    return x, rows


def studied(study_of: Any, x: np.ndarray, rows: list[dict[str, Any]], weights: np.ndarray, **more: Any) -> Study:
    study: Study = study_of(rows, Vectors(x, weights), **more)
    order = [int(c) for _, c in study.items.texts]
    study.__dict__["features"] = x[order].astype(np.float32)
    return study


ONE = np.array([2.0, 1.0, 0, 0, 0, 0])
OTHER = np.array([-2.0, 1.0, 0, 0, 0, 0])


def test_a_fit_elsewhere_is_worse_only_where_people_want_something_else(study_of: Any) -> None:
    found = {}
    for name, truths in (("alike", np.stack([ONE, ONE])), ("apart", np.stack([ONE, OTHER]))):
        x, rows = world(0, truths)
        section = domains(studied(study_of, x, rows, ONE))
        assert section.numbers["column"] == "source"
        cells = {(c["fitted_on"], c["tested_on"]): c for c in section.numbers["matrix"]}
        found[name] = {f.key for f in section.findings}
        here, there = cells["a", "a"]["accuracy"], cells["b", "a"]["accuracy"]
        assert here > 0.75
        assert (there < 0.5) == (name == "apart")
        assert cells["b", "a"]["against_own"] == pytest.approx(there - here)
        assert cells["length alone", "a"]["accuracy"] == pytest.approx(0.5, abs=0.1)
    assert found == {"alike": set(), "apart": {"does_not_transfer"}}


def test_no_fit_sees_a_prompt_that_it_predicts() -> None:
    # One prompt has all the evidence on the first feature: whoever predicts it has not seen it and knows nothing.
    x = np.zeros((80, 2), np.float32)
    x[:40, 1] = 1.0
    x[0, 0] = 1.0
    a, b = np.arange(40), np.arange(40, 80)
    domain = np.arange(40) % 2
    delta = fit_here_test_there(x, a, b, np.zeros(40), np.arange(40), domain, rng=np.random.default_rng(0))
    assert delta.shape == (2, 40)
    # Row 0 alone has the first feature, so by symmetry of the rest it is predicted as every other row of its fold.
    assert delta[0, 0] == pytest.approx(delta[1, 0], abs=0.7)
    assert (delta > 0).all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"source": None}, "no row has a column"),
        ({"source": "one"}, "no two values"),
    ],
)
def test_domains_that_are_not_there(study_of: Any, change: dict[str, Any], said: str) -> None:
    x, rows = world(1, np.stack([ONE, ONE]), n=60)
    section = domains(studied(study_of, x, [{**row, **change} for row in rows], ONE))
    assert said in section.absent
    named = domains(studied(study_of, x, rows, ONE, domains="colour"))
    assert "no row has the column `colour`" in named.absent


def test_a_named_column_may_have_many_values(study_of: Any) -> None:
    x, rows = world(2, np.stack([ONE, ONE]))
    rows = [{**row, "place": f"t{i % 20}"} for i, row in enumerate(rows)]
    section = domains(studied(study_of, x, rows, ONE, domains="place"))
    assert len(section.numbers["domains"]) == 8
    assert "480 comparisons of other or too small domains are left out" in section.lead


def test_energy_by_hand() -> None:
    # |x - z|: 2, 3, 1, 2; within x: 1; within z: 1. E = 2 * 2 - 1 - 1 = 2 of 2 * 2 = 4, and its root is shown.
    size, _ = energy_test(np.array([[0.0], [1.0]]), np.array([[2.0], [3.0]]), np.random.default_rng(0))
    assert size == pytest.approx(np.sqrt(0.5))


@pytest.mark.statistical
def test_energy_p_values_are_uniform_without_a_shift_and_small_with_one() -> None:
    rng = np.random.default_rng(1)
    null, shifted = [], []
    for _ in range(60):
        x, z = rng.normal(size=(2, 60, 3))
        null.append(energy_test(x, z, rng, permutations=99)[1])
        shifted.append(energy_test(x, z + 0.8, rng, permutations=99)[1])
    assert np.mean(np.array(null) <= 0.1) < 0.25
    assert np.mean(np.array(shifted) <= 0.05) > 0.9


def test_distance_names_data_from_elsewhere(study_of: Any) -> None:
    rng = np.random.default_rng(3)
    fitted = rng.normal(size=(2000, 6))
    for shift, named in ((0.0, set()), (2.0, {"far_from_fit"})):
        x, rows = world(4, np.stack([ONE]))
        study = studied(study_of, x + shift, rows, ONE)
        study.reward.origin = Origin.of(fitted, np.arange(2000))  # type: ignore[attr-defined]
        section = distance(study)
        assert {f.key for f in section.findings} == named
        assert (section.numbers["p"] < 0.01) == bool(named)
        assert (section.numbers["share_beyond"] > 0.3) == bool(named)
        quarters = section.numbers["by_distance"][:4]
        assert [row["comparisons"] for row in quarters] == [N // 4] * 4
        assert sum(row["accuracy"] for row in quarters) / 4 == pytest.approx(study.share(study.credit)[0])


def test_distance_that_cannot_be_known(study_of: Any) -> None:
    x, rows = world(5, np.stack([ONE]), n=60)
    assert "remembers nothing" in distance(studied(study_of, x, rows, ONE)).absent
    assert "no text features" in distance(study_of(rows, float)).absent


def test_members_disagree_where_the_reward_errs(study_of: Any) -> None:
    """Members know the first feature alike, and the second each in its own way: rows of the second kind are lost."""
    rng = np.random.default_rng(6)
    n = 600
    x = np.zeros((2 * n, 2))
    known = np.arange(n) % 4 != 3
    x[:n, 0] = known
    x[:n, 1] = ~known * rng.choice([-1.0, 1.0], n)
    rows = [{"prompt": f"p{i}", "chosen": str(i), "rejected": str(n + i)} for i in range(n)]
    weights = np.stack([np.ones(5), rng.normal(0, 1, 5)], axis=1)
    weights[:, 0] += rng.normal(0, 0.01, 5)
    section = disagreement(studied(study_of, x, rows, weights))
    quarters = section.numbers["by_spread"]
    gaps = weights @ (x[:n] - x[n:]).T
    assert quarters[0]["mean spread"] == pytest.approx(gaps.std(0, ddof=1)[known].mean(), rel=1e-4)
    assert quarters[0]["accuracy"] == 1.0
    wrong = np.sign(gaps.mean(0)[~known])
    assert section.numbers["change"] == pytest.approx((wrong.mean() + 1) / 2 - 1, abs=1e-6)
    assert {f.key for f in section.findings} == {"spread_tells"}


def test_one_member_cannot_disagree(study_of: Any) -> None:
    x, rows = world(7, np.stack([ONE]), n=60)
    assert "one member" in disagreement(studied(study_of, x, rows, ONE)).absent
    assert "fewer than 80" in disagreement(studied(study_of, x, rows, np.stack([ONE, OTHER]))).absent
