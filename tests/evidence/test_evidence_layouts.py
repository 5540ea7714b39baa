"""Every layout of INTERFACES.md, literally as its project writes it."""

from __future__ import annotations

from typing import Any

import pytest

from tacit.errors import EvidenceError
from tacit.evidence import Evidence, Kind

USER, GOOD, BAD = (
    {"role": "user", "content": "Q"},
    {"role": "assistant", "content": "good"},
    {"role": "assistant", "content": "bad"},
)


def read_row(row: dict[str, Any], kind: Kind | None = None) -> tuple[Evidence, list[dict[str, Any]]]:
    evidence = Evidence.from_records([row], kind=kind)
    return evidence, [record.model_dump(exclude_defaults=True) for record in evidence]


def holds(record: dict[str, Any], **expected: Any) -> bool:
    return all(record.get(name) == value for name, value in expected.items())


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ({"prompt": "Q", "completion": "good"}, "demonstration"),
        ({"prompt": [USER], "completion": [GOOD]}, "demonstration"),
        ({"prompt": "Q", "chosen": "good", "rejected": "bad"}, "comparison"),
        ({"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]}, "comparison"),
        ({"prompt": "Q", "chosen": "good", "rejected": "bad", "margin": 0.5, "tools": ["t"]}, "comparison"),
        ({"prompt": "Q", "completion": "good", "label": True}, "outcome"),
        ({"prompt": [USER], "completion": [GOOD], "label": False}, "outcome"),
        ({"prompt": "Q", "completions": ["one", "two"], "labels": [True, False]}, "steps"),
        ({"prompt": "Q", "completions": ["one", "two"], "ranks": [2, 1]}, "ranking"),
        ({"prompt": "Q", "completion": "good", "score": 4.5}, "rating"),
        ({"prompt": "Q", "completion": "good", "score": {"helpful": 4.0, "honest": None}}, "rating"),
        ({"prompt": "Q", "answer": "42"}, "problem"),
    ],
)
def test_trl_columns_are_records_as_they_stand(row: dict[str, Any], kind: str) -> None:
    evidence, (record,) = read_row(row)
    assert evidence.kind == kind
    assert record == row


def test_content_may_be_a_list_of_text_parts() -> None:
    prompt = [{"role": "user", "content": [{"type": "text", "text": "Q"}]}]
    _, (record,) = read_row({"prompt": prompt, "chosen": [GOOD], "rejected": [BAD]})
    assert record["prompt"] == prompt


def test_implicit_prompt_of_messages() -> None:
    evidence, (record,) = read_row({"chosen": [USER, GOOD], "rejected": [USER, BAD]})
    assert evidence.layout == "implicit_prompt"
    assert record == {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]}


def test_anthropic_transcripts_are_split_after_the_shared_turns() -> None:
    start = "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Q\n\nAssistant: "
    _, (record,) = read_row({"chosen": start + "good", "rejected": start + "bad"})
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}, USER]
    assert record == {"prompt": turns, "chosen": "good", "rejected": "bad"}


def test_sides_that_begin_differently_are_an_error() -> None:
    with pytest.raises(EvidenceError, match=r"row 1, column `rejected`.*same prompt.*rejected_prompt"):
        read_row({"chosen": [USER, GOOD], "rejected": [{"role": "user", "content": "other"}, BAD]})[1]


def test_ultrafeedback_binarised_repeats_the_prompt_in_both_sides() -> None:
    evidence, (record,) = read_row(
        {"prompt": "Q", "chosen": [USER, GOOD], "rejected": [USER, BAD], "score_chosen": 8.0}
    )
    assert evidence.layout == "repeated_prompt"
    assert record == {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD], "score_chosen": 8.0}


def test_nemo_lowest_rank_is_best() -> None:
    completions = [{"rank": 1, "completion": [BAD]}, {"rank": 0, "completion": [GOOD]}]
    row = {"context": [USER], "completions": completions}
    evidence, (record,) = read_row(row)
    assert evidence.kind == "comparison"
    assert holds(record, prompt=[USER], chosen=[GOOD], rejected=[BAD])
    _, (ranking,) = read_row(row, "ranking")
    assert holds(ranking, prompt=[USER], completions=[[BAD], [GOOD]], ranks=[2, 1])
    three = {"context": [USER], "completions": [*completions, {"rank": 5, "completion": "worst"}]}
    evidence, (ranking,) = read_row(three)
    assert evidence.kind == "ranking"
    assert ranking["ranks"] == [2, 1, 3]
    assert len(read_row(three, "comparison")[1]) == 3


def test_openrlhf_and_axolotl() -> None:
    _, (record,) = read_row({"input": "Q", "chosen": "good", "rejected": "bad"})
    assert record == {"prompt": "Q", "chosen": "good", "rejected": "bad"}
    _, (record,) = read_row({"system": "S", "input": "Q", "chosen": "good", "rejected": "bad"})
    assert record["prompt"] == [{"role": "system", "content": "S"}, USER]
    _, (record,) = read_row({"system": None, "input": "Q", "chosen": "good", "rejected": "bad"})
    assert record["prompt"] == "Q"


def test_verl() -> None:
    truth = {"style": "rule", "ground_truth": 42}
    evidence, (record,) = read_row({"data_source": "gsm8k", "prompt": [USER], "reward_model": truth, "extra_info": {}})
    assert evidence.kind == "problem"
    assert holds(record, prompt=[USER], answer="42", data_source="gsm8k")


def test_reward_bench() -> None:
    evidence, (record,) = read_row({"prompt": "Q", "chosen": "good", "rejected": "bad", "subset": "refusals", "id": 1})
    assert evidence.layout == "preference"
    assert record["subset"] == "refusals"


def test_reward_bench_2_is_a_ranking_with_two_places() -> None:
    row = {
        "id": "1",
        "prompt": "Q",
        "chosen": ["good"],
        "rejected": ["b1", "b2", "b3"],
        "num_correct": 1,
        "subset": "Math",
    }
    evidence, (record,) = read_row(row)
    assert evidence.kind == "ranking"
    assert holds(record, completions=["good", "b1", "b2", "b3"], ranks=[1, 2, 2, 2], subset="Math")
    _, pairs = read_row(row, "comparison")
    assert [(pair["chosen"], pair["rejected"]) for pair in pairs] == [("good", "b1"), ("good", "b2"), ("good", "b3")]


def test_ultrafeedback_as_ratings_and_rankings() -> None:
    completions = [
        {"response": "good", "overall_score": 8.5, "annotations": {"helpfulness": {"Rating": "5"}}},
        {"response": "bad", "overall_score": 3.0, "annotations": {}},
        {"response": "also bad", "overall_score": 3.0, "annotations": {}},
        {"response": "unrated", "overall_score": None, "annotations": {}},
    ]
    row = {"instruction": "Q", "completions": completions}
    evidence, records = read_row(row)
    assert evidence.kind == "rating"
    assert [(r["prompt"], r["completion"], r["score"]) for r in records] == [
        ("Q", "good", 8.5),
        ("Q", "bad", 3.0),
        ("Q", "also bad", 3.0),
    ]
    _, (ranking,) = read_row(row, "ranking")
    assert ranking["ranks"] == [1, 2, 2]


@pytest.mark.parametrize(
    ("preference", "chosen", "tie"), [(1, "one", False), (2.0, "two", False), (1.5, "one", True), (1.7, "two", False)]
)
def test_alpaca_eval(preference: float, chosen: str, tie: bool) -> None:
    _, (record,) = read_row({"instruction": "Q", "output_1": "one", "output_2": "two", "preference": preference})
    assert (record["prompt"], record["chosen"], record.get("tie", False)) == ("Q", chosen, tie)
    assert record["preference"] == preference


def test_alpaca_eval_without_a_verdict_gives_no_record_and_nonsense_is_an_error() -> None:
    row = {"instruction": "Q", "output_1": "one", "output_2": "two"}
    evidence = Evidence.from_records([{**row, "preference": None}, {**row, "preference": 2}])
    assert [record.chosen for record in evidence] == ["two"]
    with pytest.raises(
        EvidenceError, match=r"row 1, column `preference`: numbers in a verdict \(3\) do not say.*--verdict 3=first"
    ):
        read_row({**row, "preference": 3})


def test_arena_conversations() -> None:
    row = {
        "model_a": "x",
        "conversation_a": [USER, BAD],
        "conversation_b": [USER, GOOD],
        "winner": "model_b",
        "judge": "j1",
    }
    _, (record,) = read_row(row)
    assert holds(record, prompt=[USER], chosen=[GOOD], rejected=[BAD], annotator="j1")
    _, (record,) = read_row({**row, "winner": "tie (bothbad)"})
    assert record["tie"] is True


def label_studio_task(
    *results: dict[str, Any], data: dict[str, Any] | None = None, **annotation: Any
) -> dict[str, Any]:
    """A task as the export has it: results name the tag twice, annotations carry more than is read."""
    written = [{"id": "r", "from_name": "pw", "to_name": "pw", "origin": "manual", **result} for result in results]
    whole = {"id": 1, "completed_by": 3, "was_cancelled": False, "ground_truth": False, "lead_time": 4.2}
    return {
        "id": 7,
        "data": data or {"prompt": "Q", "answer1": "one", "answer2": "two"},
        "annotations": [{**whole, "result": written, **annotation}],
        "predictions": [],
        "project": 1,
    }


def chose(side: str) -> dict[str, Any]:
    return {"type": "pairwise", "value": {"selected": side}}


def test_label_studio_json_export() -> None:
    evidence, (record,) = read_row(label_studio_task(chose("right")))
    assert (evidence.layout, evidence.kind) == ("label_studio", "comparison")
    assert holds(record, prompt="Q", chosen="two", rejected="one", annotator="3", task=7, from_name="pw")
    _, (record,) = read_row(label_studio_task(chose("left"), completed_by={"id": 3, "email": "a@b.c"}))
    assert holds(record, chosen="one", annotator="a@b.c")
    assert read_row(label_studio_task(chose("left"), was_cancelled=True))[1] == []


def test_label_studio_has_no_ties_but_annotations_that_say_nothing() -> None:
    said = label_studio_task(chose("left"))
    nothing = label_studio_task()
    evidence = Evidence.from_records([nothing, said, nothing])
    assert [record.chosen for record in evidence] == ["one"]
    twice = {**said, "annotations": said["annotations"] * 2}
    assert len(read_row(twice)[1]) == 2


@pytest.mark.parametrize(
    ("data", "to_name", "rejected"),
    [
        ({"text1": "one", "text2": "two"}, "pw", "two"),
        ({"prompt": "Q", "first try": "one", "second try": "two", "round": 2}, "pw", "two"),
        ({"b": "two", "a": "one", "source": "x", "prompt": "Q"}, "a,b", "two"),
        ({"prompt": "Q", "items": ["one", "two"]}, "pw", "two"),
        ({"prompt": "Q", "items": [{"id": "x", "title": "A", "body": "one"}, {"id": "y", "body": "two"}]}, "pw", "two"),
    ],
)
def test_label_studio_answers_are_found_among_the_data(data: dict[str, Any], to_name: str, rejected: str) -> None:
    _, (record,) = read_row(label_studio_task({**chose("left"), "to_name": to_name}, data=data))
    assert holds(record, chosen="one", rejected=rejected)


def test_label_studio_answers_that_cannot_be_told_are_an_error() -> None:
    task = label_studio_task(chose("left"), data={"prompt": "Q", "try": "one", "retry": "two", "model": "x"})
    with pytest.raises(EvidenceError, match=r"row 1, column `data`: .* not found among `prompt`, `try`, .*`answer1`"):
        list(Evidence.from_records([task]))


@pytest.mark.parametrize("choice", [[{"selected": "right"}], {"selected": "right"}, "right"])
def test_label_studio_min_and_csv_exports(choice: Any) -> None:
    row = {
        "id": 7,
        "prompt": "Q",
        "left one": "one",
        "right one": "two",
        "pw": choice,
        "annotator": 3,
        "annotation_id": 9,
        "created_at": "2024-03-29T05:39:54.721157Z",
        "updated_at": "2024-03-29T05:52:32.001770Z",
        "lead_time": 37.4,
    }
    evidence, (record,) = read_row(row)
    assert evidence.layout == "label_studio_min"
    assert holds(record, prompt="Q", chosen="two", rejected="one", annotator="3")
    blank = {name: value for name, value in row.items() if name != "pw"}
    assert len(list(Evidence.from_records([row, blank]))) == 1


def test_label_studio_ranker_orders_its_items() -> None:
    data = {"prompt": "Q", "items": [{"id": name, "title": "T", "body": f"answer {name}"} for name in "abc"]}
    ordered = {"type": "ranker", "value": {"ranker": {"rank": ["c", "a", "b"]}}}
    evidence, (record,) = read_row(label_studio_task(ordered, data=data))
    assert (evidence.layout, evidence.kind) == ("label_studio_ranker", "ranking")
    assert holds(record, prompt="Q", completions=["answer c", "answer a", "answer b"], ranks=[1, 2, 3], annotator="3")
    buckets = {"type": "ranker", "value": {"ranker": {"good": ["c"], "biased": ["a"], "_": ["b"]}}}
    with pytest.raises(EvidenceError, match=r"row 1, column `annotations`: .*several buckets, which is no order"):
        list(Evidence.from_records([label_studio_task(buckets, data=data)]))


def test_panda_lm_gives_a_comparison_for_each_annotator() -> None:
    row = {"instruction": "Do", "input": "this", "response1": "one", "response2": "two"}
    _, records = read_row({**row, "annotator1": 1, "annotator2": 2, "annotator3": 0})
    assert [record["chosen"] for record in records] == ["one", "two", "one"]
    assert [record.get("tie", False) for record in records] == [False, False, True]
    assert {record["prompt"] for record in records} == {"Do\n\nthis"}
    assert [record["annotator"] for record in records] == ["annotator1", "annotator2", "annotator3"]


def test_list_of_votes() -> None:
    votes = [{"annotator": "w1", "vote": "a2"}, {"annotator": "w2", "vote": "equal"}]
    _, records = read_row({"a1": "one", "a2": "two", "votes": votes, "gold": "a2"})
    assert [(r["chosen"], r["annotator"], r.get("tie", False)) for r in records] == [
        ("two", "w1", False),
        ("one", "w2", True),
    ]


def test_winner_and_loser() -> None:
    evidence, (record,) = read_row({"winner": "good", "loser": "bad", "worker": 12})
    assert evidence.layout == "promptless"
    assert record == {"chosen": "good", "rejected": "bad", "annotator": "12"}


def test_demonstrations_of_other_projects() -> None:
    assert read_row({"instruction": "Do", "input": "", "output": "done"})[1][0]["prompt"] == "Do"
    assert holds(
        read_row({"instruction": "Do", "input": "it", "output": "done"})[1][0], prompt="Do\n\nit", completion="done"
    )
    assert read_row({"messages": [USER, GOOD]})[1] == [{"prompt": [USER], "completion": [GOOD]}]
    instances = [{"input": "", "output": "x"}, {"input": "i", "output": "y"}]
    assert [r["completion"] for r in read_row({"instruction": "Do", "instances": instances})[1]] == ["x", "y"]


def test_open_assistant_trees() -> None:
    def reply(text: str, rank: int | None, *replies: Any) -> dict[str, Any]:
        return {"text": text, "role": "assistant", "rank": rank, "replies": list(replies)}

    deeper = {"text": "And?", "role": "prompter", "replies": [reply("end", 0)]}
    tree = {"text": "Q", "role": "prompter", "replies": [reply("bad", 1), reply("good", 0, deeper)]}
    row = {"message_tree_id": "t", "tree_state": "ready_for_export", "prompt": tree}
    _, (ranking,) = read_row(row)
    assert holds(ranking, prompt=[USER], completions=["bad", "good"], ranks=[2, 1])
    _, demonstrations = read_row(row, "demonstration")
    assert [record["completion"] for record in demonstrations] == ["good", "end"]
    assert demonstrations[1]["prompt"] == [USER, GOOD, {"role": "user", "content": "And?"}]


def test_unknown_columns_name_themselves_and_the_way_out() -> None:
    with pytest.raises(EvidenceError, match=r"`foo`, `bar` are no layout.*--columns"):
        Evidence.from_records([{"foo": 1, "bar": 2}])
    with pytest.raises(EvidenceError, match="as kind rating"):
        Evidence.from_records([{"prompt": "Q", "chosen": "a", "rejected": "b"}], kind="rating")
