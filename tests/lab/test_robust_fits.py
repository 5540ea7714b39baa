"""Faulty votes in known worlds: the claims of `tacit lab robust` and `tacit lab humour-pessimism`."""

import json
import math

import pytest

from real_data import DATA
from tacit.cli import main
from tacit.errors import TacitError
from tacit.lab.experiments import humour_pessimism, robust


def by_fit(rows):
    return {row["fit"]: row for row in rows}


def test_flips_are_modelled():
    rows = by_fit(robust.flips(0, flip=0.3))
    assert rows["flips, rate learnt"]["calibration_error"] < rows["plain"]["calibration_error"] - 0.05
    assert rows["flips, rate learnt"]["flip_rate"] == pytest.approx(0.3, abs=0.05)
    clean = by_fit(robust.flips(0, flip=0.0, n=1000))
    assert clean["flips, rate learnt"]["flip_rate"] < 0.05


def test_augmentation_makes_a_reward_read_the_prompt():
    rows = by_fit(robust.topics(0, n=400, tests=60))
    assert rows["linear, augmented"]["spearman_gain"] > 0.3
    assert rows["linear, augmented"]["own_gain"] > -0.05


@pytest.mark.slow
def test_the_claims_hold_over_ten_seeds():
    result = robust.run(seeds=10)
    rows = {(row["world"], row["fit"]): row for row in result["rows"]}
    learnt = rows["flip 0.3", "flips, rate learnt"]
    assert learnt["calibration_error_gain_ci"][0] > 0.05
    assert learnt["nll_gain_ci"][0] > 0
    assert rows["flip 0.0", "flips, rate learnt"]["calibration_error_gain_ci"][0] > -0.01
    assert rows["length bias 1.5", "length regressed"]["spearman_gain_ci"][0] > 0.1
    assert rows["length bias 0.0", "length regressed"]["spearman_gain_ci"][0] > -0.02
    assert rows["topics", "linear, augmented"]["spearman_gain_ci"][0] > 0.3
    assert rows["grammar", "mlp, augmented"]["spearman_gain_ci"][0] > 0


def test_humour_needs_its_folder(tmp_path):
    with pytest.raises(TacitError, match=r"holds no humour.items\.dev\.tsv\.gz\. Give --data"):
        humour_pessimism.run(data=tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "humour").is_dir(), reason="the shared data is not here (set TACIT_DATA)")
def test_a_fit_on_humour_is_calibrated_on_unseen_votes(capsys):
    main(["lab", "humour-pessimism", "--data", str(DATA), "--seeds", "5", "--json"])
    rows = {row["reading"]: row for row in json.loads(capsys.readouterr().out)["rows"]}
    assert rows["single"]["above_floor"] < 0.01
    assert rows["single"]["nll"] < math.log(2)
