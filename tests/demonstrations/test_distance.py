"""Two-sample statistics on planted truth, the audit that uses them, and memorisation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from worlds import demonstrations, loaded

from tacit.demonstrations.audit import imitated
from tacit.demonstrations.distance import auc, discriminate, heterogeneity, memorisation, mmd, separated
from tacit.demonstrations.extrapolation import AnswerOptions
from tacit.errors import TacitError
from tacit.evidence import Evidence
from tacit.features import load_encoder

PROMPTS = list(range(200))


def test_areas_by_hand() -> None:
    assert auc(np.array([0.0, 1.0]), np.array([1.0, 2.0])) == (0.5 + 1 + 1 + 1) / 4
    told = separated(np.array([-1.0, 2.0, 3.0, 4.0]), np.array([0, 0, 1, 1]), [0, 1, 0, 1])
    assert told.accuracy == 0.75  # half of the first side, all of the second


def test_a_shift_is_told_as_well_as_can_be() -> None:
    from scipy.stats import norm

    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2000, 4)), rng.normal(size=(2000, 4)) + np.array([1.5, 0, 0, 0])
    told = discriminate(first, second, list(range(2000)), list(range(2000)))
    best = float(norm.cdf(0.75))  # Bayes accuracy of two unit normals 1.5 apart
    assert told.accuracy_ci[0] - 0.01 < best < told.accuracy_ci[1] + 0.01
    assert not told.same


def test_folds_go_by_prompt() -> None:
    # Both sides of a prompt share a mark that others lack: rows drawn at random would leak it, prompts do not.
    rng = np.random.default_rng(1)
    mark = rng.normal(size=(100, 50))
    prompt = np.repeat(np.arange(100), 5)
    told = discriminate(mark[prompt], mark[prompt], prompt.tolist(), prompt.tolist())
    assert told.accuracy == pytest.approx(0.5, abs=0.02)


@pytest.mark.statistical
def test_equal_sides_are_called_different_as_often_as_they_should() -> None:
    rng = np.random.default_rng(2)
    found = []
    for _ in range(40):
        prompt_effect = rng.normal(size=(60, 3)) * 3
        found.append(mmd(*(prompt_effect + rng.normal(size=(60, 3)) for _ in range(2)), permutations=99)["p"] <= 0.1)
    # 40 draws at a level of .1: 10 or more would come up once in 200 times.
    assert sum(found) < 10
    shifted = mmd(rng.normal(size=(60, 3)), rng.normal(size=(60, 3)) + 0.8, permutations=199)
    assert shifted["p"] <= 0.01


def test_the_discrepancy_is_that_of_the_formula() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(7, 2)), rng.normal(size=(7, 2)) + 1
    x = np.concatenate([a, b])
    x = x / x.std(0)
    gap = ((x[:, None] - x[None]) ** 2).sum(-1)
    width = np.median(gap[~np.eye(14, dtype=bool)])
    k = np.exp(-gap / width)
    total = sum(k[i, j] + k[7 + i, 7 + j] - k[i, 7 + j] - k[7 + i, j] for i in range(7) for j in range(7) if i != j)
    assert mmd(a, b, permutations=9)["mmd2"] == pytest.approx(total / 42)


def test_memorised_answers_are_found() -> None:
    rng = np.random.default_rng(4)
    learnt, held = rng.normal(size=(300, 8)), rng.normal(size=(100, 8))
    honest = [memorisation(*(rng.normal(size=(n, 8)) for n in (200, 100, 300)), resamples=200) for _ in range(20)]
    shares = [one["share_nearer"] for one in honest]
    assert 0.04 < np.mean(shares) < 0.075  # .05, and each has a standard deviation of .025
    assert sum(one["share_nearer_ci"][0] > 0.05 for one in honest) <= 3
    assert all(one["copies"] == 0 for one in honest)
    copied = memorisation(np.concatenate([learnt[:60], rng.normal(size=(140, 8))]), held, learnt)
    assert copied["copies"] == 0.3
    assert copied["share_nearer_ci"][0] > 0.2


def test_heterogeneity_says_what_tells_sides_apart() -> None:
    rng = np.random.default_rng(5)
    first = [(f"p{i}", " ".join(rng.choice(["a", "b", "c"], 5))) for i in PROMPTS]
    longer = [(f"p{i}", " ".join(rng.choice(["a", "b", "c"], 12))) for i in PROMPTS]
    found = heterogeneity(first, longer, load_encoder("hashed"))
    assert found["length_accuracy"] > 0.95
    other = [(f"p{i}", " ".join(rng.choice(["a", "b", "d"], 5))) for i in PROMPTS]
    found = heterogeneity(first, other, load_encoder("hashed"))
    assert found["length_accuracy"] < 0.6
    assert found["accuracy"] > 0.8


def test_an_audit_knows_the_demonstrator_from_the_policy(base_folder: Path, tmp_path: Path) -> None:
    options = AnswerOptions(max_completion_length=10)
    apart = imitated(
        loaded(base_folder), Evidence.from_records(demonstrations(80, seed=3, first=500)), encoder="hashed",
        options=options, work=tmp_path, learnt=Evidence.from_records(demonstrations(150, seed=1)),
    )  # fmt: skip
    assert apart.rows[-1]["accuracy_ci"][0] > 0.5
    assert apart.numbers["mmd_p"] < 0.05
    assert apart.numbers["memorisation"]["share_nearer"] < 0.2
    plain = demonstrations(80, seed=3, first=500, tilt=0.0)
    same = imitated(loaded(base_folder), Evidence.from_records(plain), encoder="hashed", options=options)
    assert same.numbers["mmd_p"] > 0.01
    # Six words of twelve alike and an end that is sure, whoever says them: 6 ln 12 / 7 nats a token.
    assert same.numbers["nats_per_token"] == pytest.approx(6 * np.log(12) / 7, abs=0.06)
    with pytest.raises(TacitError, match="too few"):
        imitated(loaded(base_folder), Evidence.from_records(plain[:3]), encoder="hashed", options=options)


def test_audit_on_demonstrations_as_a_user_types_it(
    tacit: Any, base_folder: Path, demos_file: Path, tmp_path: Path
) -> None:
    common = ("--resamples", 20, "--json")
    fitted = tacit("fit", demos_file, "--from", "demonstrations", "--policy", base_folder, "--pairing", "init-demo",
                   "--out", "r", "--encoder", "hashed", "--max-completion-length", 10, *common)  # fmt: skip
    assert fitted.code == 0, fitted.err
    asked = ("audit", "r", demos_file, "--policy", base_folder, "--max-completion-length", 10, "--learnt", demos_file)
    done = tacit(*asked, *common)
    assert done.code == 0, done.err
    assert done.json["accuracy"] > 0.6
    assert {"told_apart", "mmd_p", "nats_per_token", "memorisation"} <= done.json["demonstrations"].keys()
    page = tacit(*asked, *common, "--out", "report.html")
    assert page.code == 0, page.err
    assert "From demonstrations" in Path("report.html").read_text()
    assert "told_apart" in page.json["audit"]["sections"]["imitation"]
    refused = tacit("audit", "r", demos_file)
    assert refused.code == 2
    assert "Give --policy FOLDER" in refused.err
