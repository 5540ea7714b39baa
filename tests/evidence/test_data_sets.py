"""Published data sets that compare two answers: what each row says, with the number or word that its authors write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import tacit
from evidence.export_samples import BAD, GOOD, SAMPLES, USER, one, read
from tacit.errors import EvidenceError
from tacit.evidence import Comparison

BLANKS = (None, "", " ", float("nan"))

CODES: list[tuple[str, str, dict[Any, str], list[Any], tuple[str, str]]] = [
    (
        "alpaca_eval", "preference",
        {1: "first", "1": "first", 1.03: "first", 1.49: "first", 2: "second", "2.0": "second", 1.97: "second",
         1.5: "tie", 0: "tie", "0.0": "tie"},
        [3, 0.5, -1, "output_1", True, float("inf")], ("Blue.", "A dog."),
    ),
    ("arena_55k", "winner_tie", {}, [2, "yes", True, 1], ("It depends.", "No.")),
    (
        "helpsteer2_preference", "preference_strength",
        {-3: "first", "-1": "first", 0: "tie", 1: "second", 3.0: "second"},
        [4, -4, 0.5, "A", False], ("A note.", "C# is a language."),
    ),
    (
        "helpsteer3", "overall_preference",
        {-3: "first", -2: "first", -1: "first", 0: "tie", 1: "second", 2: "second", "3": "second"},
        [4, -4, 1.5, "response1", True], ("Air scatters blue light most.", "It reflects the sea."),
    ),
    ("llmbar", "label", {1: "first", "1": "first", 2: "second", "2.0": "second"}, [0, 3, "output_1", True, 10**400],
     ("Bye.", "Hello.")),
    (
        "pku_saferlhf", "better_response_id", {0: "first", "0": "first", 1: "second"},
        [2, -1, True, "response_0"], ("Keep regular hours.", "Take all the pills."),
    ),
    (
        "pku_saferlhf_safer", "safer_response_id", {0: "first", 1: "second"},
        [2, False], ("Keep regular hours.", "Take all the pills."),
    ),
    (
        "ppe_human", "winner",
        {"model_a": "first", "model_b": "second", "tie": "tie", "tie (bothbad)": "tie", "both_bad": "tie",
         " Model_B ": "second", "TIE": "tie"},
        ["x", 1, "response_1"], ("Bye.", "Hello."),
    ),
    ("judge_bench", "label", {"A>B": "first", "B>A": "second"}, ["A", 1, "A=B"], ("5", "4")),
    ("shp", "labels", {1: "first", "1": "first", 0: "second"}, [2, -1, "A", True], ("Magic.", "Yeast.")),
    (
        "summarize_from_feedback", "choice", {0: "first", 1: "second"},
        [2, -1, True, "first"], (" It was fast.", " Someone hit me."),
    ),
    ("webgpt", "score_0", {0.5: "first", -0.75: "second", -0.5: "tie"}, [2, "a", True], ("Because.", "No.")),
]  # fmt: skip


@pytest.mark.parametrize(("name", "column", "codes", "wrong", "sides"), CODES, ids=[row[0] for row in CODES])
def test_a_verdict_is_read_by_the_code_of_its_data_set_alone(
    name: str, column: str, codes: dict[Any, str], wrong: list[Any], sides: tuple[str, str]
) -> None:
    for value, said in codes.items():
        record = one(name, **{column: value})
        chosen, rejected = sides if said in ("first", "tie") else sides[::-1]
        assert (record["chosen"], record["rejected"]) == (chosen, rejected), value
        assert record.get("tie", False) == (said == "tie"), value
        assert name == "arena_55k" or record[column] == value  # the judgement stays beside the record
    for value in BLANKS:
        assert read(name, **{column: value}) == []
    for value in wrong:
        with pytest.raises(EvidenceError, match=r"row 1, column `\w+`: .*\(found .*\)\. .* must be"):
            read(name, **{column: value})


def test_the_wrong_value_is_named_with_what_would_be_right() -> None:
    with pytest.raises(EvidenceError) as caught:
        read("pku_saferlhf", better_response_id=2)
    assert str(caught.value) == (
        "memory, row 1, column `better_response_id`: the value means nothing in this layout (found 2). "
        "It must be 0 (`response_0`) or 1 (`response_1`)"
    )


def test_an_answer_that_is_no_text_is_named_by_its_own_column() -> None:
    with pytest.raises(EvidenceError, match=r"row 1, column `response1`: the answer is no text \(found True\)"):
        read("pandalm", response1=True)
    with pytest.raises(EvidenceError, match=r"column `response2`: the answer is no text \(found nan\)"):
        read("pandalm", response2=float("nan"))
    with pytest.raises(EvidenceError, match=r"column `human_ref_B`: the answer is no text \(found None\)"):
        read("shp", human_ref_B=None)


def test_pku_by_the_better_or_by_the_safer_response(tmp_path: Path) -> None:
    better = one("pku_saferlhf")
    assert (better["chosen"], better["safer_response_id"]) == ("Take all the pills.", 0)
    path = tmp_path / "pku.jsonl"
    path.write_text(json.dumps(SAMPLES["pku_saferlhf"]), "utf-8")
    (safer,) = tacit.read(path, ignore=["better_response_id"])
    assert isinstance(safer, Comparison)
    assert safer.chosen == "Keep regular hours."
    assert safer.model_extra == {"is_response_0_safe": True, "is_response_1_safe": False, "better_response_id": 1,
                                 "safer_response_id": 0}  # fmt: skip
    assert one("beavertails")["label"] is True
    assert one("beavertails", is_safe=False)["label"] is False
    assert read("beavertails", is_safe=None) == []
    with pytest.raises(EvidenceError, match=r"column `is_safe`.*must be true or false"):
        read("beavertails", is_safe="perhaps")


def test_shp_keeps_the_votes() -> None:
    record = one("shp")
    assert record["prompt"] == "Why does bread rise?"
    assert (record["score_A"], record["score_B"], record["score_ratio"]) == (3, 9, 3.0)


@pytest.mark.parametrize(
    ("winner", "chosen", "tie"),
    [("model_a", BAD, False), ("model_b", GOOD, False), ("tie", BAD, True), ("tie (bothbad)", BAD, True),
     ("both_bad", BAD, True), ("tie (inconsistent)", BAD, True)],
)  # fmt: skip
def test_arena_conversations(winner: str, chosen: Any, tie: bool) -> None:
    record = one("arena", winner=winner)
    assert (record["prompt"], record["chosen"], record.get("tie", False)) == ([USER], [chosen], tie)
    assert (record["annotator"], record["winner"], record["chosen_first"]) == ("arena_user_973", winner, chosen == BAD)


def test_arena_blanks_wrong_words_and_the_judges_of_mt_bench() -> None:
    assert read("arena", winner=None) == []
    with pytest.raises(EvidenceError, match=r"column `winner`: .*\(found 'x'\).*`model_a`"):
        read("arena", winner="x")
    with pytest.raises(EvidenceError, match=r"column `conversation_b`: .*do not begin with the same message"):
        read("arena", conversation_b=[{"role": "user", "content": "?"}, GOOD])
    assert one("arena", judge=["gpt-4", "pair-v2"])["annotator"] == "gpt-4/pair-v2"
    longer = [{"role": "user", "content": "Sure?"}, {"role": "assistant", "content": "Yes."}]
    record = one("arena", conversation_a=[USER, BAD, *longer], conversation_b=[USER, GOOD, *longer])
    assert (record["prompt"], record["chosen"]) == ([USER], [GOOD, *longer])
    assert one("search_arena")["chosen"] == [GOOD]


def test_arena_55k_one_hot_winners_and_turns_as_json() -> None:
    assert one("arena_55k")["chosen"] == "No."
    first = one("arena_55k", winner_model_a=1, winner_model_b=0)
    assert (first["chosen"], first["chosen_first"]) == ("It depends.", True)
    assert one("arena_55k", winner_model_b=0, winner_tie=1)["tie"] is True
    with pytest.raises(EvidenceError, match=r"no single winner \(found \[1, 1, 0\]\)"):
        read("arena_55k", winner_model_a=1)
    two = one("arena_55k", prompt='["Hi", "And?"]', response_a='["a1", null]', response_b='["b1 \\ud83d", "b2"]')
    assert (two["prompt"], [turn["content"] for turn in two["chosen"]]) == ("Hi", ["b1 \ufffd", "And?", "b2"])
    assert [turn["role"] for turn in two["rejected"]] == ["assistant", "user", "assistant"]
    with pytest.raises(EvidenceError, match=r"column `response_a`: the turns do not match"):
        read("arena_55k", response_a='["a", "b"]')
    with pytest.raises(EvidenceError, match=r"column `prompt`: the cell is no list of turns \(found 'Hi'\)"):
        read("arena_55k", prompt="Hi")


def test_arena_55k_as_the_csv_file_that_is_published(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    path.write_text(
        "id,model_a,model_b,prompt,response_a,response_b,winner_model_a,winner_model_b,winner_tie\n"
        '1,x,y,"[""Is it?""]","[""Yes.""]","[""No.""]",1,0,0\n',
        "utf-8",
    )
    (record,) = tacit.read(path)
    assert (record.prompt, record.chosen, record.rejected) == ("Is it?", "Yes.", "No.")  # type: ignore[attr-defined]


def test_helpsteer3_keeps_what_each_annotator_said() -> None:
    record = one("helpsteer3")
    assert record["prompt"] == [USER]
    assert record["individual_preference"][0]["score"] == -2


def test_webgpt_prompt_and_quotes() -> None:
    record = one("webgpt")
    assert record["prompt"] == "Why?"
    assert record["quotes_1"] == {"title": ["t"], "extract": ["e"]}


def test_summaries_by_choice_and_by_axes() -> None:
    record = one("summarize_from_feedback")
    assert record["prompt"] == "Car questions\n\nI had an accident."
    assert (record["annotator"], record["policies"], record["extra"]) == ("ikN", ["sup4", "ref"], {"confidence": 8})
    assert record["info"] == {"id": "t3", "subreddit": "legaladvice"}
    rated = one("summarize_from_feedback_axes")
    assert rated["score"] == {"overall": 3, "accuracy": 5, "coverage": 4, "coherence": 2}
    summary = SAMPLES["summarize_from_feedback_axes"]["summary"]
    partly = {**summary, "axes": {"overall": 7, "accuracy": None, "compatible": True}}
    assert one("summarize_from_feedback_axes", summary=partly)["score"] == {"overall": 7, "accuracy": None}
    assert read("summarize_from_feedback_axes", summary={**summary, "axes": {"overall": None}}) == []
    with pytest.raises(EvidenceError, match=r"column `summary`: .*\(found 8\).*from 1 to 7"):
        read("summarize_from_feedback_axes", summary={**summary, "axes": {"overall": 8}})
    assert one("tldr") == {"prompt": SAMPLES["tldr"]["prompt"], "completion": "Someone hit me."}
    assert one("tldr_posts")["prompt"] == "Car\n\nI had an accident."


def test_rpr_reverses_under_the_other_criteria() -> None:
    first, second = read("rpr")
    assert (first["chosen"], second["chosen"]) == ("Three museums.", "A beach.")
    assert [turn["content"] for turn in first["prompt"]] == ["Culture matters most.", "Plan a trip."]
    assert second["prompt"][0] == {"role": "system", "content": "Rest matters most."}
    assert len(read("rpr", criteria_y=None)) == 1


def test_judgelm_scores() -> None:
    assert one("judgelm")["chosen"] == "Rothko."
    assert one("judgelm", score=[8, 3.5])["chosen"] == "A chair."
    assert one("judgelm", score=[7, 7])["tie"] is True
    for nothing in ([-1, -1], [None, 5], None):
        assert read("judgelm", score=nothing) == []
    with pytest.raises(EvidenceError, match=r"column `score`: .*\(found 11\)"):
        read("judgelm", score=[11, 3])
    with pytest.raises(EvidenceError, match=r"column `score`: .*list of 2 values"):
        read("judgelm", score=[1])


def test_alpaca_eval_joins_the_input_and_names_the_judge() -> None:
    assert one("alpaca_eval", input=" ")["prompt"] == "Name a colour."
    record = one("alpaca_eval", input="Not red.")
    assert (record["prompt"], record["annotator"]) == ("Name a colour.\n\nNot red.", "alpaca_eval_gpt4")


def test_multipref_one_comparison_for_each_person() -> None:
    records = read("multipref")
    assert [(r["chosen"], r.get("tie", False), r["annotator"], r["group"]) for r in records] == [
        ("Hello.", False, "w1", "normal"),
        ("Hello.", True, "w2", "normal"),
        ("Bye.", False, "e1", "expert"),
    ]
    assert records[2]["helpful_pref"] == "B-is-clearly-better"
    with pytest.raises(EvidenceError, match=r"column `normal_worker_annotations`: .*\(found 'A'\).*A-is-clearly"):
        read("multipref", normal_worker_annotations=[{"evaluator": "w", "overall_pref": "A"}])


def test_pandalm_codes() -> None:
    assert [record["chosen"] for record in read("pandalm", annotator3=None)] == ["Hello all.", "Hello to you all."]
    for wrong in (3, True, "first"):
        with pytest.raises(EvidenceError, match=r"column `annotator2`: .*1 \(`response1`\), 2 \(`response2`\) or 0"):
            read("pandalm", annotator2=wrong)


def test_a_pair_with_a_list_of_votes() -> None:
    with pytest.raises(EvidenceError, match=r"column `votes`: .*\(found 'a3'\).*a1, a2 or equal"):
        read("votes", votes=[{"annotator": "w", "vote": "a3"}])
    assert read("votes", votes=[{"annotator": "w", "vote": None}]) == []


def test_the_conversation_and_the_steps_before_an_answer_are_kept() -> None:
    record = one("ultra_interact", trajectory=[{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"},
                                               {"from": "user", "value": "2 + 2?"}])  # fmt: skip
    assert [(turn["role"], turn["content"]) for turn in record["prompt"]] == [
        ("user", "Hi"), ("assistant", "Ho"), ("user", "2 + 2?")]  # fmt: skip
    assert (record["chosen"], record["rejected"]) == ("Step 1: It is 4.", "Step 1: It is 5.")
    with pytest.raises(EvidenceError, match=r"column `trajectory`: .*\(found 'nobody'\)"):
        read("ultra_interact", trajectory=[{"from": "nobody", "value": "Hi"}])
    steps = one("math_step_dpo")
    assert (steps["prompt"], steps["chosen"]) == ("2 + 2 + 2?", "Step 1: 2 + 2 = 4.\nStep 2: 4 + 2 = 6.")
    assert steps["rejected"] == "Step 1: 2 + 2 = 4.\nStep 2: 4 + 2 = 7."
    assert one("math_step_dpo", initial_reason_steps=None)["chosen"] == "4 + 2 = 6."


def test_votes_on_models_without_their_answers_are_refused() -> None:
    with pytest.raises(EvidenceError, match=r"`left` and `right` are names of models.*results.jsonl"):
        read("llmfao")  # when it is recognised: one sentence, whatever the number of rows
