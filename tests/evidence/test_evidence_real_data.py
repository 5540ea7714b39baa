"""Real files, where they are: $TACIT_DATA or ../shared/data beside the repository."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from real_data import DATA
from tacit.errors import EvidenceError
from tacit.evidence import Comparison, Evidence, Outcome, Problem, Ranking, check, read, split
from tacit.evidence.read import read_rows

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the shared data is not here (set TACIT_DATA)")


def rows(path: Path) -> Iterator[dict[str, Any]]:
    return (row for _, row in read_rows(path))


def test_hh_transcripts() -> None:
    for name, n in (("harmless-base", 2312), ("helpful-base", 2354)):
        evidence = read(DATA / "hh-rlhf" / f"{name}.test.jsonl.gz")
        assert len(evidence) == n
        first = next(iter(evidence))
        assert first.prompt[-1]["role"] == "user"  # type: ignore[attr-defined]
        assert "Human:" not in first.chosen  # type: ignore[attr-defined]


def test_hh_length_control_and_empty_answers() -> None:
    report = check(read(DATA / "hh-rlhf" / "helpful-base.test.jsonl.gz"))
    assert report.ok
    assert report.statistics["longer_won"]["share"] == pytest.approx(0.599, abs=5e-4)
    codes = {finding.code: finding.count for finding in report.warnings}
    assert codes == {"empty_answer": 4, "same_answer": 2, "length": 2337}


def test_humour_votes_with_their_items() -> None:
    evidence = read(DATA / "humour" / "votes.dev.csv.gz", items=DATA / "humour" / "items.dev.tsv.gz")
    assert len(evidence) == 71389
    train, test = split(evidence, by="item")
    sides = [{t for r in side for t in (r.chosen, r.rejected)} for side in (train, test)]  # type: ignore[attr-defined]
    assert not sides[0] & sides[1]
    assert len(train) + len(test) + train.dropped == 71389
    assert check(evidence).statistics["contradicting"]["pairs_with_several_votes"] == 17361


def test_convincing_arguments_with_five_votes_a_pair() -> None:
    folder = DATA / "convarg"
    evidence = read(folder / "pairs.dev.jsonl.gz", items=folder / "arguments.dev.jsonl.gz", columns={"prompt": "title"})
    statistics = check(evidence).statistics
    assert statistics["records"] == 69429
    assert statistics["annotators"] == 3799


def test_each_vote_on_arguments_is_read_as_it_was_given() -> None:
    path = DATA / "convarg" / "pairs.dev.jsonl.gz"
    records = iter(read(path))
    for_the_gold = strict = 0
    for row in rows(path):
        for vote in row["votes"]:
            record = next(records)
            assert isinstance(record, Comparison)
            assert (record.tie, record.annotator) == (vote["vote"] == "equal", vote["annotator"])
            if not record.tie:
                assert (record.chosen, record.rejected) == (
                    row[vote["vote"]],
                    row[{"a1": "a2", "a2": "a1"}[vote["vote"]]],
                )
                strict, for_the_gold = strict + 1, for_the_gold + (vote["vote"] == row["gold"])
    assert (strict, for_the_gold) == (53644, 38411)


def test_llmfao_needs_the_answers_of_its_models() -> None:
    path = DATA / "llmfao" / "crowd-comparisons.csv.gz"
    with pytest.raises(EvidenceError, match=r"row 2, column `left`: .*names of models.*results.jsonl"):
        list(read(path))
    answers = {(row["prompt"], row["model"]): row["result"] for row in rows(DATA / "llmfao" / "results.jsonl.gz")}
    texts = {row["id"]: row["text"] for row in rows(DATA / "llmfao" / "prompts.jsonl.gz")}
    votes = [
        {
            "prompt": texts[int(row["prompt"])],
            "left": answers[int(row["prompt"]), int(row["model_x"])],
            "right": answers[int(row["prompt"]), int(row["model_y"])],
            "winner": row["winner"],
            "worker": row["worker"],
        }
        for row in rows(path)
        if all((int(row["prompt"]), int(row[model])) in answers for model in ("model_x", "model_y"))
    ]
    statistics = check(Evidence.from_records(votes)).statistics
    assert (statistics["records"], statistics["annotators"], statistics["prompts"]) == (8931, 124, 13)
    assert statistics["ties"] / statistics["records"] == pytest.approx(0.39, abs=0.005)
    record = next(r for r in Evidence.from_records(votes) if isinstance(r, Comparison) and not r.tie)
    vote = next(vote for vote in votes if vote["winner"] != "tie")
    assert record.chosen == vote[vote["winner"]]


def test_open_assistant_rankings() -> None:
    rankings = [r for r in read(DATA / "oasst-100" / "en_100_tree.jsonl.gz") if isinstance(r, Ranking)]
    pairs = sum(a != b for ranking in rankings for a, b in combinations(ranking.ranks, 2))
    assert (len(rankings), pairs) == (212, 754)
    assert len(read(DATA / "oasst-100" / "en_100_tree.jsonl.gz", kind="demonstration")) == 258


def test_panda_lm_has_answers_that_are_no_texts() -> None:
    path = DATA / "pandalm" / "testset-v1.json.gz"
    evidence = read(path)
    with pytest.raises(EvidenceError, match=r"row 158, column `response1`: the answer is no text \(found True\)"):
        list(evidence)
    report = check(evidence)
    assert report.statistics["records"] == 999 * 3 - 18
    assert report.statistics["annotators"] == 3
    assert {row for finding in report.errors for row in finding.rows} == {158, 159, 160, 162, 163, 165}
    sound = [record for chunk in evidence.scan() for record in chunk.records if isinstance(record, Comparison)]
    assert sum(record.tie for record in sound) == 322
    row = next(rows(path))
    said = [(row["response1"], row["response2"])[row[f"annotator{i}"] - 1] for i in (1, 2, 3)]
    assert [record.chosen for record in sound[:3]] == said


@pytest.mark.parametrize(
    ("name", "people", "agree", "disagree"),
    [
        ("canadian-electoral-reform", 417, 7205, 2831),
        ("football-concussions", 1283, 6637, 4227),
        ("scoop-hivemind.affordable-housing", 371, 8041, 4549),
    ],
)
def test_polis_votes_have_the_totals_that_polis_counts(name: str, people: int, agree: int, disagree: int) -> None:
    statements = list(rows(DATA / "polis" / f"{name}.comments.csv.gz"))
    path = DATA / "polis" / f"{name}.participants-votes.csv.gz"
    counted = list(rows(path))
    assert sum(int(row["n-agree"]) for row in counted) == agree
    assert sum(int(row["n-disagree"]) for row in counted) == disagree
    items = {row["comment-id"]: row["comment-body"] for row in statements}
    votes = [record for record in read(path, items=items) if isinstance(record, Outcome)]
    assert Counter(record.label for record in votes) == {True: agree, False: disagree}
    assert len({record.annotator for record in votes}) == people
    named = statements[0]
    of_one = Counter(record.label for record in votes if record.completion == named["comment-body"])
    assert (of_one[True], of_one[False]) == (int(named["agrees"]), int(named["disagrees"]))


def test_solutions_of_gsm8k_have_the_accuracies_that_are_published() -> None:
    evidence = read(DATA / "gsm8k" / "example_model_solutions.jsonl.gz")
    right = Counter(record.model_extra["model"] for record in evidence if record.label)  # type: ignore[attr-defined,index]
    assert right == {"6b_finetuning": 286, "175b_finetuning": 458, "6b_verification": 515, "175b_verification": 742}
    assert len(evidence) == 4 * 1319


def test_svamp_problems() -> None:
    problems = [record for record in read(DATA / "svamp" / "SVAMP.json.gz") if isinstance(record, Problem)]
    assert (len(problems), problems[0].answer) == (1000, "51")
    assert all(problem.answer.replace(".", "").removeprefix("-").isdigit() for problem in problems)


def test_tables_of_correctness_without_answers_are_refused() -> None:
    for name in ("gsm8k_train_correct.csv.gz", "gsm8k_test_correct.dev.jsonl.gz"):
        with pytest.raises(EvidenceError, match="are no layout that is known"):
            read(DATA / "prompt-oirl" / name)


def test_demonstrations_and_problems() -> None:
    assert len(read(DATA / "self-instruct" / "seed_tasks.jsonl.gz")) == 175
    assert len(read(DATA / "self-instruct" / "user_oriented_instructions.jsonl.gz")) == 252
    assert read(DATA / "gsm8k" / "test.jsonl.gz").kind == "problem"
