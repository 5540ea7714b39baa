"""Whose reward, from the command line: fit, score and audit on behalf of one person."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

import tacit as package
from tacit import check_reward
from tacit.rewards.contract import Personal
from tacit.rewards.people.groups import group_rewards


def lines(name: str, rows: list[dict[str, Any]]) -> Path:
    path = Path(name)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def votes(seed: int = 0) -> list[dict[str, Any]]:
    """30 people: the odd ones like courtesy and the even ones dislike it, nine times out of ten."""
    rng = random.Random(seed)
    rows = []
    for i in range(1200):
        person = i % 30
        warm = f"thank you kindly, the {rng.choice(['egg', 'tea', 'rice'])} needs {rng.randint(1, 99)} minutes"
        curt = f"{rng.randint(1, 99)} MINUTES FOR {rng.choice(['EGG', 'TEA', 'RICE'])}!"
        pair = (warm, curt) if (person % 2 == 1) == (rng.random() < 0.9) else (curt, warm)
        row = {"prompt": f"q {rng.randrange(150)}", "chosen": pair[0], "rejected": pair[1]}
        rows.append(row | {"annotator": f"p{person}", "group": f"g{person % 2}"})
    return rows


def nameless(rows: list[dict[str, Any]], *columns: str) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key not in columns} for row in rows]


def own_accuracy(path: Path, *, odd: bool) -> float:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    mine = [r["score"] > 0 for r in rows if (int(r["annotator"][1:]) % 2 == 1) == odd and not r["adapted_on"]]
    return sum(mine) / len(mine)


@pytest.mark.parametrize("people", ["decomposed", "groups", "latent"])
def test_a_personal_reward_is_fitted_scored_and_audited_for_one_person(tacit: Any, people: str) -> None:
    data = lines("votes.jsonl", nameless(votes(), "group"))
    fresh = votes(seed=1)
    everybody = lines("fresh.jsonl", fresh)
    for odd, name in ((True, "p1"), (False, "p2")):
        lines(f"{name}.jsonl", [row for row in fresh if row["annotator"] == name])
        if odd:
            fitted = tacit(
                *("fit", data, "--people", people, "--out", "r", "--encoder", "hashed", "--by", "annotator"),
                *("--resamples", 20, "--json"),
            )
            assert fitted.code == 0, fitted.err
        done = tacit("score", "r", everybody, "--for", f"{name}.jsonl", "--out", f"{name}.scores.jsonl", "--json")
        assert done.code == 0, done.err
        assert own_accuracy(Path(f"{name}.scores.jsonl"), odd=odd) > 0.75
    result = fitted.json
    table = {(row["shots"], row["reward"]): row for row in result["people"]}
    controls = {"pooled", "gaussian heads", "uniform heads", "logistic", "logistic, pooled prior"}
    assert {reward for _, reward in table} == {people} | controls
    assert table[10, people]["accuracy"] > table[10, "pooled"]["accuracy"] + 0.1
    assert table[10, "pooled"]["gain"] == 0
    plain = tacit("audit", "r", everybody, "--resamples", 20, "--json")
    own = tacit("audit", "r", "p1.jsonl", "--resamples", 20, "--json")
    assert plain.code == own.code == 0
    first, rest = fresh[1::30][:15], fresh[1::30][10:]  # five of the choices are audited as well
    lines("few.jsonl", first)
    done = tacit("audit", "r", lines("rest.jsonl", rest), "--for", "few.jsonl", "--resamples", 20, "--json")
    assert (done.json["n_adapted"], done.json["n_left_out"], done.json["n_test"]) == (15, 5, len(rest) - 5)
    assert done.json["accuracy"] > 0.7
    refused = tacit("audit", "r", "few.jsonl", "--for", "few.jsonl")
    assert refused.code == 2
    assert "every row adapted the reward" in refused.err
    loaded = package.load("r")
    assert isinstance(loaded, Personal)
    assert all(finding.ok for finding in check_reward(loaded, new_process=True))
    adapted = loaded.adapt(package.read("p1.jsonl"))
    assert all(finding.ok for finding in check_reward(adapted))


def test_reliability_is_fitted_and_reported_per_annotator(tacit: Any) -> None:
    rows = votes()
    kept = [row for row in rows if row["group"] == "g1" or row["annotator"] in ("p0", "p2")]
    data = lines("votes.jsonl", nameless(kept, "group"))  # 15 people agree, two say the opposite
    done = tacit("fit", data, "--people", "reliability", "--out", "r", "--encoder", "hashed", "--json")
    assert done.code == 0, done.err
    annotators = {row["annotator"]: row for row in done.json["fit"]["annotators"]}
    assert len(annotators) == 17
    assert annotators["p1"]["agreement"] > 0.7 > 0.4 > annotators["p0"]["agreement"]
    assert annotators["p1"].keys() >= {"votes", "rationality", "rationality_ci", "flip", "agreement_ci", "weight"}
    assert tacit("score", "r", data, "--out", "s.jsonl").code == 0
    assert tacit("audit", "r", data, "--resamples", 20, "--json").code == 0
    assert all(finding.ok for finding in check_reward(package.load("r")))
    refused = tacit("score", "r", data, "--for", data, "--out", "t.jsonl")
    assert refused.code == 2
    assert "same for everybody" in refused.err


def test_known_groups_are_taken_from_the_column(tacit: Any) -> None:
    data = lines("votes.jsonl", votes())
    done = tacit("fit", data, "--people", "groups", "--out", "r", "--encoder", "hashed", "--json", "--test", 0)
    assert done.code == 0
    fit = done.json["fit"]
    assert (fit["known"], sorted(fit["groups"])) == (True, ["g0", "g1"])
    each = group_rewards(package.load("r"))
    assert set(each) == {"g0", "g1"}
    sides = each["g1"].score(["", ""], ["thank you kindly, the tea needs 5 minutes", "5 MINUTES FOR TEA!"])
    assert sides[0] > sides[1] + 1
    assert max(fit["group_loss_maxmin"]) <= max(fit["group_loss_pooled"]) + 1e-3
    found = tacit("fit", data, "--people", "groups", "--groups", 2, "--out", "f", "--encoder", "hashed", "--json")
    assert not found.json["fit"]["known"]
    assert len(found.json["fit"]["of_annotator"]) == 30


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        (("--people", "decomposed", "--head", "mlp"), "no option `head`"),
        (("--people", "latent", "--components", "3"), "no option `components`"),
        (("--people", "latent", "--model", "pairwise"), "Leave --model pairwise out"),
        (("--people", "reliability"), "Fill the column `annotator`"),
        (("--people", "latent"), "Fill the column `annotator`"),
        (("--people", "groups"), "Fill the column `annotator`"),
    ],
)
def test_what_people_models_cannot_do_is_said(tacit: Any, tokens: tuple[str, ...], said: str) -> None:
    data = lines("votes.jsonl", nameless(votes()[:200], "annotator", "group"))
    done = tacit("fit", data, "--out", "r", "--encoder", "hashed", *tokens)
    assert done.code == 2
    assert said in done.err


def test_heads_need_no_names_and_one_person_only_is_adapted_to(tacit: Any) -> None:
    data = lines("votes.jsonl", nameless(votes()[:300], "annotator", "group"))
    done = tacit(
        "fit", data, "--people", "decomposed", "--components", 4, "--out", "r", "--encoder", "hashed", "--json"
    )
    assert done.code == 0
    assert "people" not in done.json  # nobody is named, so nobody can be adapted to and tested
    assert done.json["fit"]["heads"] == 9
    refused = tacit("score", "r", data, "--for", lines("two.jsonl", votes()[:40]), "--out", "s.jsonl")
    assert refused.code == 2
    assert "choices of 30 annotators" in refused.err


def test_the_saved_configuration_repeats_a_personal_fit_and_score(tacit: Any) -> None:
    data = lines("votes.jsonl", votes()[:400])
    first = ("--people", "decomposed", "--components", 5, "--temperature", 0.5, "--encoder", "hashed")
    assert tacit("fit", data, "--out", "r", *first).code == 0
    assert tacit("fit", "--config", "r/config.yaml", "--out", "again").code == 0
    assert Path("r/head.safetensors").read_bytes() == Path("again/head.safetensors").read_bytes()
    lines("p1.jsonl", [row for row in votes() if row["annotator"] == "p1"])
    assert tacit("score", "r", data, "--for", "p1.jsonl", "--out", "s.jsonl").code == 0
    assert tacit("score", "--config", "s.config.yaml", "--out", "t.jsonl").code == 0
    assert Path("s.jsonl").read_bytes() == Path("t.jsonl").read_bytes()
