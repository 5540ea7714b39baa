"""Published data sets: what each row says, with the number or word that its authors write for it."""

from __future__ import annotations

from typing import Any

import pytest

import tacit
from evidence.export_samples import BAD, GOOD, SAMPLES, USER
from tacit.errors import EvidenceError
from tacit.evidence import Evidence, Kind

BLANKS = (None, "", float("nan"))


def read(name: str, kind: Kind | None = None, **changes: Any) -> list[dict[str, Any]]:
    """The records of a sample with some cells changed, less their defaults."""
    evidence = Evidence.from_records([{**SAMPLES[name], **changes}], kind=kind)
    assert evidence.layout == name
    return [record.model_dump(exclude_defaults=True) for record in evidence]


def one(name: str, kind: Kind | None = None, **changes: Any) -> dict[str, Any]:
    (record,) = read(name, kind, **changes)
    return record


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
    ("llmbar", "label", {1: "first", "1": "first", 2: "second", "2.0": "second"}, [0, 3, "output_1", True],
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
        {"model_a": "first", "model_b": "second", "tie": "tie", "tie (bothbad)": "tie", "both_bad": "tie"},
        ["x", 1, "response_1"], ("Bye.", "Hello."),
    ),
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
    with pytest.raises(EvidenceError, match=r"column `human_ref_B`: the answer is no text \(found None\)"):
        read("shp", human_ref_B=None)


def test_pku_by_the_better_or_by_the_safer_response() -> None:
    better = one("pku_saferlhf")
    assert (better["chosen"], better["safer_response_id"]) == ("Take all the pills.", 0)
    row = SAMPLES["pku_saferlhf"]
    without = {name: value for name, value in row.items() if name != "better_response_id"}
    (safer,) = Evidence.from_records([without])
    assert safer.chosen == "Keep regular hours."  # type: ignore[attr-defined]
    assert one("beavertails")["label"] is True
    assert one("beavertails", is_safe=False)["label"] is False
    assert read("beavertails", is_safe=None) == []
    with pytest.raises(EvidenceError, match=r"column `is_safe`.*must be true or false"):
        read("beavertails", is_safe="perhaps")


def test_shp_keeps_the_votes() -> None:
    record = one("shp")
    assert record["prompt"] == "Why does bread rise?"
    assert (record["score_A"], record["score_B"], record["score_ratio"]) == (3, 9, 3.0)


def test_nectar_ranks_from_one() -> None:
    ranking = one("nectar")
    assert ranking["prompt"] == [{"role": "user", "content": "Say hello."}]
    assert (ranking["completions"], ranking["ranks"]) == (["Bye.", "Hello.", "No."], [2, 1, 3])
    assert ranking["models"] == ["x", "y", "z"]
    pairs = read("nectar", "comparison")
    assert [(pair["chosen"], pair["rejected"]) for pair in pairs] == [
        ("Hello.", "Bye."),
        ("Bye.", "No."),
        ("Hello.", "No."),
    ]
    answers = SAMPLES["nectar"]["answers"]
    assert one("nectar", answers=[answers[0], {**answers[1], "rank": None}, answers[2]])["ranks"] == [1, 2]
    with pytest.raises(EvidenceError, match=r"column `answers`: .*\(found 0\).*from 1"):
        read("nectar", answers=[answers[0], {**answers[1], "rank": 0}])
    turns = "\n\nHuman: Hi.\n\nAssistant: Hello.\n\nHuman: Bye.\n\nAssistant:"
    assert [turn["role"] for turn in one("nectar", prompt=turns)["prompt"]] == ["user", "assistant", "user"]


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


def test_arena_55k_as_the_csv_file_that_is_published(tmp_path: Any) -> None:
    path = tmp_path / "train.csv"
    path.write_text(
        "id,model_a,model_b,prompt,response_a,response_b,winner_model_a,winner_model_b,winner_tie\n"
        '1,x,y,"[""Is it?""]","[""Yes.""]","[""No.""]",1,0,0\n',
        "utf-8",
    )
    (record,) = tacit.read(path)
    assert (record.prompt, record.chosen, record.rejected) == ("Is it?", "Yes.", "No.")  # type: ignore[attr-defined]


def test_helpsteer_attributes_people_and_turns() -> None:
    record = one("helpsteer2")
    assert record["score"] == {"helpfulness": 3, "correctness": 4, "coherence": 4, "complexity": 2, "verbosity": 1}
    assert one("helpsteer2", verbosity=None)["score"]["verbosity"] is None
    blank = dict.fromkeys(("helpfulness", "correctness", "coherence", "complexity", "verbosity"))
    assert read("helpsteer2", **blank) == []
    with pytest.raises(EvidenceError, match=r"column `coherence`: .*\(found 5\).*0 to 4"):
        read("helpsteer2", coherence=5)
    lists = {name: [i, 4] for i, name in enumerate(blank)}
    two = read("helpsteer2", **lists)
    assert [record["score"]["verbosity"] for record in two] == [4, 4]
    assert [record["score"]["helpfulness"] for record in two] == [0, 4]
    with pytest.raises(EvidenceError, match="different lengths"):
        read("helpsteer2", **{**lists, "verbosity": [1]})
    turns = one("helpsteer2", prompt="Hi\n<extra_id_1>Assistant\nHello\n<extra_id_1>User\nc#")["prompt"]
    assert [(turn["role"], turn["content"]) for turn in turns] == [
        ("user", "Hi"), ("assistant", "Hello"), ("user", "c#")]  # fmt: skip


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


def prm(*steps: tuple[list[tuple[str, Any]], int | None, Any]) -> dict[str, Any]:
    return {
        "steps": [
            {
                "completions": [{"text": text, "rating": rating, "flagged": None} for text, rating in candidates],
                "chosen_completion": chosen,
                "human_completion": human,
            }
            for candidates, chosen, human in steps
        ],
        "finish_reason": "solution",
    }


def test_prm800k_solutions_and_their_alternatives() -> None:
    first, second = read("prm800k")
    assert (first["completions"], first["labels"]) == (["Let me add.", "2 + 2 = 5"], [True, False])
    assert (second["completions"], second["labels"]) == (["Let me add.", "2 + 2 = 4"], [True, True])
    assert (first["prompt"], first["annotator"], first["ground_truth_answer"]) == ("What is 2 + 2?", "340d", "4")
    solved = prm(
        ([("a", 1)], 0, None), ([("b", -1), ("c", None)], None, {"text": "h"}), ([("d", 1), ("e", 0)], 0, None)
    )
    records = read("prm800k", label=solved)
    assert [(record["completions"], record["labels"]) for record in records] == [
        (["a", "b"], [True, False]),
        (["a", "h", "e"], [True, True, True]),
        (["a", "h", "d"], [True, True, True]),
    ]
    unrated = prm(([("a", 1)], 0, None), ([("b", None)], 0, None), ([("c", 1)], 0, None))
    assert [record["completions"] for record in read("prm800k", label=unrated)] == [["a"]]
    assert read("prm800k", label=prm(([("a", None)], 0, None))) == []
    with pytest.raises(EvidenceError, match=r"column `label`: .*\(found 2\).*-1, 0 or 1"):
        read("prm800k", label=prm(([("a", 2)], 0, None)))
    with pytest.raises(EvidenceError, match=r"`chosen_completion` names no completion \(found 3\)"):
        read("prm800k", label=prm(([("a", 1)], 3, None)))


def test_math_shepherd_signs() -> None:
    record = one("math_shepherd")
    assert record["prompt"] == "Ann has 3-1 pens. How many?"
    assert record["completions"] == ["Step 1: 3-1=2", "Step 2: The answer is: 5"]
    assert record["labels"] == [True, False]
    behind = one("math_shepherd", input="How many? ки Step 1: 2 ки", label="How many? + Step 1: 2 -")
    assert (behind["completions"], behind["labels"]) == (["Step 1: 2"], [False])
    with pytest.raises(EvidenceError, match=r"column `label`: step 2 has no sign.*\+ or -"):
        read("math_shepherd", label=SAMPLES["math_shepherd"]["label"].replace("5 -", "5 0"))


def test_rpr_reverses_under_the_other_criteria() -> None:
    first, second = read("rpr")
    assert (first["chosen"], second["chosen"]) == ("Three museums.", "A beach.")
    assert [turn["content"] for turn in first["prompt"]] == ["Culture matters most.", "Plan a trip."]
    assert second["prompt"][0] == {"role": "system", "content": "Rest matters most."}
    assert len(read("rpr", criteria_y=None)) == 1


def test_ppe_correctness_as_outcomes_rankings_and_conflicts() -> None:
    assert [record["label"] for record in read("ppe_correctness")] == [True, False, True]
    ranking = one("ppe_correctness", "ranking")
    assert (ranking["completions"], ranking["ranks"]) == (["It is 4.", "It is 5.", "4"], [1, 2, 1])
    pairs = read("ppe_correctness", "comparison")
    assert [(pair["chosen"], pair["rejected"]) for pair in pairs] == [("It is 4.", "It is 5."), ("4", "It is 5.")]
    assert read("ppe_correctness", "ranking", scores=[True, True, True]) == []
    assert [record["label"] for record in read("ppe_correctness", scores=[1, None, 0])] == [True, False]
    with pytest.raises(EvidenceError, match=r"column `scores`: .*list of 3 values"):
        read("ppe_correctness", scores=[True])
    with pytest.raises(EvidenceError, match=r"column `scores`: .*\(found 0.5\).*true or false"):
        read("ppe_correctness", scores=[0.5, True, True])


def test_fine_grained_preferences_and_sentences() -> None:
    said = [(pair["chosen"], pair["rejected"], pair.get("tie", False)) for pair in read("fine_grained_rlhf")]
    wrong = "Bob sang it. It came out in 1999."
    assert said == [
        ("Ann.", wrong, False), ("Ann sang it.", wrong, False), (wrong, "Nobody.", False),
        ("Ann.", "Ann sang it.", True), ("Ann.", "Nobody.", False), ("Ann sang it.", "Nobody.", False)]  # fmt: skip
    steps = one("fine_grained_rlhf", "steps")
    assert (steps["completions"], steps["labels"]) == (["Bob sang it.", "It came out in 1999."], [False, True])
    assert "It was sung by Ann." in steps["prompt"]
    assert len(read("fine_grained_rlhf", preference=[1, None, 2, 0, 1, 1])) == 5
    with pytest.raises(EvidenceError, match=r"column `preference`: .*\(found 3\)"):
        read("fine_grained_rlhf", preference=[1, 3, 2, 0, 1, 1])
    with pytest.raises(EvidenceError, match=r"column `preference`: .*list of 6 values"):
        read("fine_grained_rlhf", preference=[1, 2])


def test_squality_stories_and_reviews() -> None:
    story = one("squality")
    assert (story["prompt"], story["completion"]) == ("A story.\n\nWhat is the plot?", "Robots wait.")
    low, high = read("squality_reviews")
    assert low["score"] == {"correctness": 10, "selection": 10, "overall": 5}
    assert (high["completion"], high["annotator"], high["score"]["overall"]) == ("Robots wait.", "3", 90)
    ranking = one("squality_reviews", "ranking")
    assert (ranking["completions"], ranking["ranks"]) == (["People meet.", "Robots wait."], [2, 1])
    assert ranking["annotator"] == "3"


def test_community_alignment_goes_on_with_the_preferred_answer() -> None:
    first, second = read("community_alignment")
    assert (first["ranks"], first["completions"][1], first["annotator"]) == ([2, 1, 2, 2], "Friends.", "a7")
    assert [turn["content"] for turn in second["prompt"]] == ["What is a good life?", "Friends.", "How do I find them?"]
    assert (second["ranks"], first["feedback"]) == ([1, 2, 2, 2], "It is warm.")
    pairs = read("community_alignment", "comparison")
    assert [(pair["chosen"], pair["rejected"]) for pair in pairs[:3]] == [
        ("Friends.", "Work."), ("Friends.", "Rest."), ("Friends.", "Faith.")]  # fmt: skip
    assert len(pairs) == 6
    assert read("community_alignment", first_turn_preferred_response=None) == []
    with pytest.raises(EvidenceError, match=r"column `first_turn_preferred_response`: .*\(found 'response_e'\)"):
        read("community_alignment", first_turn_preferred_response="response_e")


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
    record = one("alpaca_eval", input="Not red.")
    assert (record["prompt"], record["annotator"]) == ("Name a colour.\n\nNot red.", "alpaca_eval_gpt4")


def test_distilabel_ratings() -> None:
    good, bad = read("distilabel")
    assert (good["completion"], good["score"], good["rationale"], good["generation_model"]) == ("4", 5.0, "right", "x")
    assert (bad["completion"], bad["score"]) == ("22", 1.0)
    assert [record["completion"] for record in read("distilabel", ratings=[None, 1])] == ["22"]
    assert one("distilabel", "ranking")["ranks"] == [1, 2]
    assert one("distilabel", "ranking", ratings=[1, 5])["ranks"] == [2, 1]
    assert read("distilabel", ratings=None) == []
    system = one("distilabel", ratings=[5, None], system_prompt="Be brief.")["prompt"]
    assert [turn["content"] for turn in system] == ["Be brief.", "Add 2 and 2."]
    with pytest.raises(EvidenceError, match=r"column `ratings`: .*list of 2 values"):
        read("distilabel", ratings=[5])


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


def test_reward_bench_2_is_one_ranking_also_with_several_right_answers() -> None:
    record = one("reward_bench_2", chosen=["red", "blue"], rejected=["dog", "cat"], subset="Ties", num_correct=2)
    assert (record["completions"], record["ranks"]) == (["red", "blue", "dog", "cat"], [1, 1, 2, 2])
    assert len(read("reward_bench_2", "comparison", chosen=["red", "blue"])) == 6


def test_polis_wide_votes_with_the_statements() -> None:
    statements = {"0": "Build more.", "1": "Build less.", "2": "?", "3": "?"}
    agrees, disagrees = read("polis")
    assert (agrees["completion"], agrees["label"], agrees["annotator"]) == ("0", True, "12")
    assert (disagrees["completion"], disagrees["label"]) == ("1", False)
    assert statements[agrees["completion"]] == "Build more."
    for wrong in (2, "yes", True):
        with pytest.raises(EvidenceError, match=r"column `3`: .*1 \(agrees\), -1 \(disagrees\), 0 \(passes\) or blank"):
            read("polis", **{"3": wrong})


def test_polis_statements_from_a_second_file(tmp_path: Any) -> None:
    votes = tmp_path / "participants-votes.csv"
    votes.write_text("participant,group-id,n-votes,0,1,2\n7,1,2,-1,1,0\n8,0,1,,,1\n", "utf-8")
    texts = {"0": "Build more.", "1": "Build less.", "2": "Wait."}
    said = [(r.annotator, r.completion, r.label) for r in tacit.read(votes, items=texts)]  # type: ignore[attr-defined]
    assert said == [("7", "Build more.", False), ("7", "Build less.", True), ("8", "Wait.", True)]


def test_problems_and_solutions() -> None:
    assert one("svamp")["answer"] == "51"
    assert one("svamp", Answer=2.5)["answer"] == "2.5"
    assert one("svamp")["prompt"].startswith("Each pack costs 76 dollars.")
    assert one("svamp")["prompt"].endswith("How much do you pay?")
    wrong, right = read("gsm8k_solutions")
    assert (wrong["completion"], wrong["label"], wrong["model"]) == ("A: 5", False, "6b_finetuning")
    assert (right["completion"], right["label"]) == ("A: 4", True)


def test_votes_on_models_without_their_answers_are_refused() -> None:
    with pytest.raises(EvidenceError, match=r"`left` and `right` are names of models.*results.jsonl"):
        read("llmfao")
