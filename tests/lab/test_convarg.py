"""Real arguments: a reward that length alone outdoes is told so, by how much, and with an interval."""

from __future__ import annotations

import numpy as np
import pytest

from real_data import DATA
from tacit.audit.report import Report
from tacit.errors import TacitError
from tacit.evidence.records import Comparison
from tacit.lab.experiments import convarg


def test_each_argument_is_scored_by_a_fit_without_its_debate():
    """Votes for the first axis in debates 0 to 4 and against it in debate 5, which shares its fold with debate 0."""
    rng = np.random.default_rng(0)
    pairs, debate, vectors = [], [], {}
    for d in range(6):
        for i in range(30):
            for side, sign in (("good", 1), ("bad", -1)):
                vectors[f"debate {d}", f"{side} {i}"] = np.array([sign, rng.normal()], np.float32)
            better, worse = (f"good {i}", f"bad {i}") if d != 5 else (f"bad {i}", f"good {i}")
            pairs.append(Comparison(prompt=f"debate {d}", chosen=better, rejected=worse))
            debate.append(d)
    table = convarg.cross_fitted(convarg.Arguments(pairs, np.array(debate), vectors), length=False)
    assert len(table) == 360
    right = [
        np.mean([table[p.prompt, p.chosen] > table[p.prompt, p.rejected] for p in pairs[k : k + 30]]) for k in (0, 150)
    ]
    # The fold of 0 and 5 is scored by the others alone, which are of one mind: right on 0, wrong on 5.
    assert right == [1.0, 0.0]


def test_missing_data_is_named(tmp_path):
    with pytest.raises(TacitError, match=r"arguments\.dev\.jsonl\.gz"):
        convarg.read_arguments(tmp_path)


@pytest.fixture(scope="module")
def report() -> Report:
    if not (DATA / "convarg").is_dir():
        pytest.skip("the shared data is not here (set TACIT_DATA)")
    return convarg.audited(convarg.read_arguments(DATA), "plain", resamples=300)


def test_the_report_says_that_length_alone_does_better_and_by_how_much(report):
    rows = {row["reward"]: row for row in report.to_dict()["sections"]["controls"]["controls"]}
    plain, length = rows["plain"], rows["length alone"]
    assert plain["accuracy"] == pytest.approx(0.721, abs=0.01)
    assert length["accuracy"] == pytest.approx(0.740, abs=0.002)
    assert length["gain over it"] == pytest.approx(plain["accuracy"] - length["accuracy"])
    assert length["gain 95%"][0] < length["gain over it"] < length["gain 95%"][1]
    (sentence,) = (f.sentence for _, f in report.findings if f.key == "beaten_by_length_alone")
    assert sentence.startswith("Length alone")
    for number in (f"{length['accuracy']:.1%}", f"{plain['accuracy']:.1%}", f"{length['gain over it']:+.1%}"):
        assert number in sentence
    assert sentence in report.html()
    assert "beaten_by_length_alone" in report.faults
    assert "beaten_by_random" not in report.faults
