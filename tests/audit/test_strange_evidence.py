"""Audits of evidence that allows little: what cannot be computed says why, without a crash or a warning."""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Rows = list[dict[str, Any]]


def votes(n: int, prompts: int = 60, seed: int = 0) -> Rows:
    rng = random.Random(seed)
    rows = []
    for i in range(n):
        good, bad = f"thank you, {rng.randint(10, 99)} minutes", f"NO WAY, IT IS {rng.randint(10, 99)}"
        chosen, rejected = (good, bad) if rng.random() < 0.8 else (bad, good)
        rows.append({"prompt": f"question {i % prompts}", "chosen": chosen, "rejected": rejected})
    return rows


def each(rows: Rows, **changes: Any) -> Rows:
    return [{**row, **changes} for row in rows]


def outcomes(n: int, of_prompt: int) -> Rows:
    rng = random.Random(1)
    return [
        {"prompt": f"q{i // of_prompt}", "completion": f"answer {rng.randint(0, 999)} {i}", "label": i % 2 == 0}
        for i in range(n)
    ]


EVIDENCE: dict[str, Rows] = {
    "one row": votes(1),
    "three rows": votes(3),
    "20 rows": votes(20),
    "one prompt": votes(120, prompts=1),
    "one annotator": each(votes(120), annotator="ann"),
    "all ties": each(votes(120), tie=True),
    "the same row": votes(1) * 60,
    "equal answers": each(votes(120), chosen="same", rejected="same"),
    "empty answers": each(votes(120), chosen="", rejected=""),
    "no weight but one": [{**row, "weight": float(i == 3)} for i, row in enumerate(votes(120))],
    "no gold": each(votes(120), gold_chosen=None, gold_rejected=None, topic=None),
    "constant gold": each(votes(120), gold_chosen=1.0, gold_rejected=1.0),
    "some gold": [{**row, **({"gold_chosen": 1.0} if i == 0 else {})} for i, row in enumerate(votes(120))],
    "no prompts": [{k: v for k, v in row.items() if k != "prompt"} for row in votes(120)],
    "always first": each(votes(120), chosen_first=True),
    "lists and objects in columns": each(votes(120), source=["a"], domain={"b": 1}),
    "two sources": [{**row, "source": "ab"[i % 2]} for i, row in enumerate(votes(120))],
    "numbers that hardly vary": [{**row, "k": i % 30 if i < 50 else 0} for i, row in enumerate(votes(120))],
    "outcomes": outcomes(40, 4),
    "ratings": [{"prompt": f"q{i // 3}", "completion": f"text {i}", "score": float(i % 3)} for i in range(60)],
    "rankings": [
        {"prompt": f"q{i}", "completions": [f"a{i}", f"b{i}", f"c{i}"], "ranks": [1, 1, 2]} for i in range(20)
    ],
}
SECTIONS = ["right", "seen", "controls", "biases", "position", "edits", "optimised", "slices", "domains", "distance"]
SECTIONS += ["spread", "rows", "data", "invariance"]


@pytest.fixture(scope="module")
def rewards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tacit import read
    from tacit import rewards as models

    folder = tmp_path_factory.mktemp("rewards")
    of_the_fit = [{**row, "prompt": f"Earlier {row['prompt']}"} for row in votes(300, seed=3)]
    (folder / "votes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in of_the_fit))
    evidence = read(folder / "votes.jsonl")
    models.fit(evidence, encoder="hashed", members=3).save(folder / "members")
    models.fit(evidence, encoder="hashed", model="pairwise").save(folder / "pairwise")
    (folder / "length.yaml").write_text("type: length_control\n")
    (folder / "constant.yaml").write_text(
        "type: veto\nof:\n  type: random\nunless:\n  type: random\nabove: 2\nfloor: 0\n"
    )
    return folder


def audited(tacit: Callable[..., Any], reward: Path, rows: Rows, *flags: Any) -> Any:
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        done = tacit("audit", reward, "rows.jsonl", "--out", "r.html", "--resamples", 20, "--json", *flags)
    assert [str(w.message) for w in caught if issubclass(w.category, RuntimeWarning | UserWarning)] == []
    return done


@pytest.mark.parametrize("name", EVIDENCE)
def test_every_section_is_there_or_says_why_not(tacit: Any, rewards: Path, name: str) -> None:
    done = audited(tacit, rewards / "members", EVIDENCE[name])
    assert (done.code, done.err) == (0, "")
    sections = done.json["audit"]["sections"]
    assert list(sections) == SECTIONS
    for key, numbers in sections.items():
        assert "absent" not in numbers or len(numbers["absent"]) > 10, key
    page = Path("r.html").read_text()
    assert page.count("Not computed:") == sum("absent" in numbers for numbers in sections.values())
    assert ">nan<" not in page
    assert "nan%" not in page


@pytest.mark.parametrize("reward", ["constant.yaml", "length.yaml", "pairwise"])
@pytest.mark.parametrize("name", ["20 rows", "one prompt", "all ties", "no prompts"])
def test_rewards_that_say_little(tacit: Any, rewards: Path, reward: str, name: str) -> None:
    done = audited(tacit, rewards / reward, EVIDENCE[name])
    assert (done.code, done.err) == (0, "")


def test_a_constant_reward_is_no_better_than_chance(tacit: Any, rewards: Path) -> None:
    done = audited(tacit, rewards / "constant.yaml", votes(200))
    assert done.json["accuracy"] == 0.5
    found = {f["key"] for f in done.json["audit"]["verdict"]}
    assert "no_better_than_chance" in found
    sections = done.json["audit"]["sections"]
    assert sections["edits"]["absent"] == "all scores of a prompt are equal."


def test_cells_without_a_number(tacit: Any, rewards: Path) -> None:
    """Empty cells and NaN in columns that the audit looks at."""
    lines = ["prompt,chosen,rejected,gold_chosen,gold_rejected,source,k,chosen_first"]
    for i, row in enumerate(votes(90)):
        some = f"{i / 90},0.5,{'ab'[i % 2]},{i % 40},true" if i % 3 else ",,,,"
        lines.append(f'{row["prompt"]},"{row["chosen"]}","{row["rejected"]}",{some}')
    Path("rows.csv").write_text("\n".join(lines) + "\n")
    done = tacit("audit", rewards / "members", "rows.csv", "--out", "r.html", "--resamples", 20, "--json")
    assert (done.code, done.err) == (0, "")
    assert {row["domain"] for row in done.json["audit"]["sections"]["domains"]["domains"]} == {"a", "b"}


def test_comparing_and_a_reference_on_little(tacit: Any, rewards: Path) -> None:
    for name in ("one row", "one prompt", "all ties", "outcomes", "ratings"):
        Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in EVIDENCE[name]))
        few = ("--resamples", 20, "--json")
        both = (rewards / "members", rewards / "pairwise", "rows.jsonl", *few)
        assert tacit("audit", *both).code == 0, name
        done = tacit("audit", rewards / "members", "rows.jsonl", "--reference", rewards / "pairwise", *few)
        assert done.code in (0, 1), name
        assert len(done.json["audit"]["sections"]["reference"]["fell"]) == done.err.count("fell below the reference")


def test_evidence_without_a_pair_is_said_in_one_sentence(tacit: Any, rewards: Path) -> None:
    done = audited(tacit, rewards / "members", outcomes(20, 1))
    assert done.code in (0, 2)
    if done.code == 2:
        assert done.err.count("\n") == 1
        assert "no comparison to audit with" in done.err


def test_three_right_of_three_do_not_make_sure(tacit: Any, rewards: Path) -> None:
    rows = [{"prompt": f"q{i}", "chosen": "thank you, 12 minutes", "rejected": "NO WAY, IT IS 12"} for i in range(3)]
    done = audited(tacit, rewards / "members", rows)
    # Clopper and Pearson: .025^(1/3) = .292
    assert done.json["accuracy_ci"] == pytest.approx([0.2924, 1.0], abs=1e-4)
    assert done.json["audit"]["sections"]["right"]["accuracy_ci"] == pytest.approx([0.2924, 1.0], abs=1e-4)
    assert "accuracy" not in {f["key"] for f in done.json["audit"]["verdict"]}


@pytest.mark.parametrize("name", ["all ties", "equal answers", "empty answers"])
def test_nothing_is_said_of_order_where_there_is_none(tacit: Any, rewards: Path, name: str) -> None:
    done = audited(tacit, rewards / "members", EVIDENCE[name])
    sections = done.json["audit"]["sections"]
    assert "no order is right or wrong" in sections["right"]["absent"]
    assert "no order is right or wrong" in sections["controls"]["absent"]
    said = {f["key"] for f in done.json["audit"]["verdict"]}
    assert not said & {"no_better_than_chance", "over_confident", "beaten_by_random", "accuracy"}


def test_one_annotator_leaves_the_intervals_of_prompts(tacit: Any, rewards: Path) -> None:
    one = audited(tacit, rewards / "members", EVIDENCE["one annotator"]).json
    none = audited(tacit, rewards / "members", votes(120)).json
    assert one["n_annotators"] == 1
    assert one["accuracy_ci"] == none["accuracy_ci"]
    assert one["audit"]["sections"]["right"]["accuracy_ci"] is not None


def test_a_domain_may_be_one_person(tacit: Any, rewards: Path) -> None:
    rows = [{**row, "annotator": "ab"[i % 2]} for i, row in enumerate(votes(200))]
    done = audited(tacit, rewards / "members", rows)
    cells = done.json["audit"]["sections"]["domains"]["matrix"]
    assert all(cell["accuracy_ci"] for cell in cells)
