"""Published data sets of ratings, rankings, steps, outcomes and problems: what each row says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import tacit
from evidence.export_samples import SAMPLES, one, read
from tacit.errors import EvidenceError
from tacit.evidence import Evidence, Outcome
from tacit.evidence.exports import rlhflow_prm


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


def test_reward_bench_2_is_one_ranking_also_with_several_right_answers() -> None:
    record = one("reward_bench_2", chosen=["red", "blue"], rejected=["dog", "cat"], subset="Ties", num_correct=2)
    assert (record["completions"], record["ranks"]) == (["red", "blue", "dog", "cat"], [1, 1, 2, 2])
    assert len(read("reward_bench_2", "comparison", chosen=["red", "blue"])) == 6


def test_rlhflow_signs() -> None:
    record = one("rlhflow_prm")
    assert (record["prompt"], record["labels"]) == ("2 + 2 + 2?", [True, False])
    assert record["completions"] == ["Step 1: 2 + 2 = 4.", "Step 2: 4 + 2 = 7."]
    turns = SAMPLES["rlhflow_prm"]["conversations"]
    blank = one("rlhflow_prm", conversations=[{"role": "user", "content": "2 + 2?\n\nIt is 5.\n\n"}, turns[3]])
    assert (blank["prompt"], blank["completions"], blank["labels"]) == ("2 + 2?", ["It is 5."], [False])
    with pytest.raises(EvidenceError, match="the first turn is not a problem and a step"):
        read("rlhflow_prm", conversations=[{"role": "user", "content": "2 + 2?"}, turns[1]])
    chat = {"conversations": [turns[0], {"role": "assistant", "content": "It is 6."}]}
    assert not rlhflow_prm.LAYOUTS[0].fits(chat)


def test_process_bench_counts_the_first_wrong_step_from_zero() -> None:
    record = one("process_bench")
    assert (record["completions"], record["labels"]) == (["2 + 2 = 4", "4 + 2 = 7"], [True, False])
    assert one("process_bench", label=0)["labels"] == [False]
    assert one("process_bench", label=-1)["labels"] == [True, True, True]
    assert read("process_bench", label=None) == []
    for wrong in (3, -2, 0.5, True):
        with pytest.raises(EvidenceError, match=r"column `label`: .*0 to 2\), or -1"):
            read("process_bench", label=wrong)


def test_stack_exchange_by_pairs_and_by_scores() -> None:
    assert one("stack_exchange_paired")["chosen"] == "The battery is empty."
    assert one("stack_exchange")["ranks"] == [2, 1, 3]
    assert [(pair["chosen"], pair["rejected"]) for pair in read("stack_exchange", "comparison")] == [
        ("The battery.", "Same here."),
        ("Same here.", "Buy one."),
        ("The battery.", "Buy one."),
    ]


STATEMENTS = "timestamp,comment-id,comment-body\n1,0,Build more.\n2,1,Build less.\n3,2,Wait.\n"
COLUMNS = {"id": "comment-id", "text": "comment-body"}


def votes_on_statements(tmp_path: Path, cells: str) -> Evidence:
    votes, comments = tmp_path / "participants-votes.csv", tmp_path / "comments.csv"
    votes.write_text(f"participant,group-id,n-votes,0,1,2\n{cells}\n", "utf-8")
    comments.write_text(STATEMENTS, "utf-8")
    return tacit.read(votes, items=comments, item_columns=COLUMNS)


def test_polis_wide_votes_with_the_statements_of_a_second_file(tmp_path: Path) -> None:
    evidence = votes_on_statements(tmp_path, "7,1,2,-1,1,0\n8,0,1,,,1")
    said = [(r.annotator, r.completion, r.label, r.prompt) for r in evidence if isinstance(r, Outcome)]
    assert said == [("7", "Build more.", False, ""), ("7", "Build less.", True, ""), ("8", "Wait.", True, "")]
    assert evidence.columns.unused == ["n-votes"]
    assert {"participant", "0", "1", "2"} <= set(evidence.columns.read)


@pytest.mark.parametrize("wrong", ["2", "yes", "0.5", "true"])
def test_polis_votes_outside_the_code_are_refused(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(EvidenceError, match=r"row 2, column `1`: .*1 \(agrees\), -1 \(disagrees\), 0 \(passes\)"):
        list(votes_on_statements(tmp_path, f"7,1,2,-1,{wrong},0"))


def test_polis_without_the_statements_is_refused(tmp_path: Path) -> None:
    votes_on_statements(tmp_path, "7,1,2,-1,1,0")
    with pytest.raises(EvidenceError, match=r"row 2: the answers are ids of texts.*--items FILE.*--item-columns"):
        tacit.read(tmp_path / "participants-votes.csv")


def test_problems_and_solutions() -> None:
    assert one("svamp")["answer"] == "51"
    assert one("svamp", Answer=2.5)["answer"] == "2.5"
    with pytest.raises(EvidenceError, match=r"column `Answer`: .*\(found inf\)"):
        read("svamp", Answer=float("inf"))
    assert one("svamp")["prompt"].startswith("Each pack costs 76 dollars.")
    assert one("svamp")["prompt"].endswith("How much do you pay?")
    wrong, right = read("gsm8k_solutions")
    assert (wrong["completion"], wrong["label"], wrong["model"]) == ("A: 5", False, "6b_finetuning")
    assert (right["completion"], right["label"]) == ("A: 4", True)
