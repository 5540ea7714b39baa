"""One made-up row of every layout of `tacit.evidence.exports`, literally in the shape of what writes it.

A layout that is read as several kinds stands once, under its name. What a row says is tested beside its family.
"""

from __future__ import annotations

from typing import Any

from evidence.export_samples_tools import TOOLS
from tacit.evidence import Evidence, Kind

USER = {"role": "user", "content": "Why is the sky blue?"}
GOOD = {"role": "assistant", "content": "Air scatters blue light most."}
BAD = {"role": "assistant", "content": "It reflects the sea."}

DATA_SETS: dict[str, dict[str, Any]] = {
    "alpaca_eval": {
        "instruction": "Name a colour.",
        "output_1": "Blue.",
        "generator_1": "text_davinci_003",
        "dataset": "helpful_base",
        "output_2": "A dog.",
        "generator_2": "other",
        "annotator": "alpaca_eval_gpt4",
        "preference": 1,
    },
    "arena": {
        "question_id": "58210e39",
        "model_a": "x",
        "model_b": "y",
        "winner": "model_b",
        "judge": "arena_user_973",
        "conversation_a": [USER, BAD],
        "conversation_b": [USER, GOOD],
        "turn": 1,
        "anony": True,
        "language": "English",
        "tstamp": 1682351591.1322,
    },
    "search_arena": {
        "timestamp": "2025-04-01",
        "model_a": "x",
        "model_b": "y",
        "winner": "model_a",
        "judge": "u1",
        "turn": 1,
        "messages_a": [USER, GOOD],
        "messages_b": [USER, BAD],
    },
    "arena_55k": {
        "id": "30192",
        "model_a": "x",
        "model_b": "y",
        "prompt": '["Is it wrong?"]',
        "response_a": '["It depends."]',
        "response_b": '["No."]',
        "winner_model_a": "0",
        "winner_model_b": "1",
        "winner_tie": "0",
    },
    "beavertails": {
        "prompt": "How do I sleep well?",
        "response": "Keep regular hours.",
        "category": {"animal_abuse": False},
        "is_safe": True,
    },
    "community_alignment": {
        "conversation_id": "c1",
        "assigned_lang": "en",
        "annotator_id": "a7",
        "annotator_country": "india",
        "first_turn_prompt": "What is a good life?",
        "first_turn_response_a": "Work.",
        "first_turn_response_b": "Friends.<|end_of_text|>",
        "first_turn_response_c": "Rest.",
        "first_turn_response_d": "Faith.",
        "first_turn_preferred_response": "response_b",
        "first_turn_feedback": "It is warm.",
        "second_turn_prompt": "How do I find them?",
        "second_turn_response_a": "Join a club.",
        "second_turn_response_b": "Wait.",
        "second_turn_response_c": "Move away.",
        "second_turn_response_d": "Pay.",
        "second_turn_preferred_response": "response_a",
        "second_turn_feedback": None,
        "third_turn_prompt": None,
        "third_turn_preferred_response": None,
    },
    "distilabel": {
        "instruction": "Add 2 and 2.",
        "generations": ["4", "22"],
        "generation_models": ["x", "y"],
        "ratings": [5, 1],
        "rationales": ["right", "wrong"],
        "model_name": "gpt-4",
    },
    "fine_grained_rlhf": {
        "question": "Who sang it?",
        "passages": [["A song", "It was sung by Ann.", "It came out in 1999."]],
        "prediction 1": "Bob sang it. It came out in 1999.",
        "prediction 2": "Ann.",
        "prediction 3": "Ann sang it.",
        "prediction 4": "Nobody.",
        "preference": [2, 2, 1, 0, 1, 1],
        "feedback": {
            "errors": [{"start": 0, "end": 3, "error type": "Wrong-Grounding"}],
            "missing-info": [],
            "corrected-prediction": "Ann sang it. It came out in 1999.",
        },
    },
    "gsm8k_solutions": {
        "question": "2 + 2?",
        "ground_truth": "A: 4",
        "6b_finetuning": {"is_correct": False, "solution": "A: 5"},
        "175b_verification": {"is_correct": True, "solution": "A: 4"},
    },
    "helpsteer2": {
        "prompt": "c#",
        "response": "C# is a language.",
        "helpfulness": 3,
        "correctness": 4,
        "coherence": 4,
        "complexity": 2,
        "verbosity": 1,
    },
    "helpsteer2_preference": {
        "split": "train",
        "prompt": "c#",
        "response_1": "A note.",
        "response_2": "C# is a language.",
        "preference_strength": 2,
        "preference_statement": "Response 2 is better than Response 1",
    },
    "helpsteer3": {
        "domain": "general",
        "language": "english",
        "context": [USER],
        "response1": "Air scatters blue light most.",
        "response2": "It reflects the sea.",
        "overall_preference": -2,
        "individual_preference": [{"score": -2, "reasoning": "r", "feedback1": "f", "feedback2": "g"}],
    },
    "judge_bench": {
        "pair_id": "p",
        "original_id": "o",
        "source": "mmlu-pro-law",
        "question": "2 + 2?",
        "response_model": "gpt-4o",
        "response_A": "5",
        "response_B": "4",
        "label": "B>A",
    },
    "judgelm": {
        "question_id": 0,
        "score": [1.0, 10.0],
        "question_body": "Name a painter.",
        "answer1_body": "A chair.",
        "answer2_body": "Rothko.",
        "answer1_model_id": "x",
        "answer2_model_id": "y",
        "text": "1 10\nThe second is right.",
    },
    "llmbar": {"input": "Say hello.", "output_1": "Bye.", "output_2": "Hello.", "label": 2},
    "llmfao": {
        "id": 0,
        "prompt": 8,
        "model_x": 97,
        "model_y": 98,
        "worker": 58,
        "winner": "tie",
        "left": "Airoboros",
        "right": "Weaver",
    },
    "math_shepherd": {
        "input": "Ann has 3-1 pens. How many? Step 1: 3-1=2 ки\nStep 2: The answer is: 5 ки",
        "label": "Ann has 3-1 pens. How many? Step 1: 3-1=2 +\nStep 2: The answer is: 5 -",
        "task": "GSM8K",
    },
    "math_step_dpo": {
        "dataset": "MATH_Rephrased",
        "prompt": "2 + 2 + 2?",
        "initial_reason_steps": "Step 1: 2 + 2 = 4.\nStep 2: ",
        "chosen": "4 + 2 = 6.",
        "rejected": "4 + 2 = 7.",
        "full_chosen": "4 + 2 = 6. The answer is 6.",
        "full_rejected": "4 + 2 = 7. The answer is 7.",
        "answer": "6",
    },
    "multipref": {
        "comparison_id": "1",
        "prompt_id": "2",
        "text": "Say hello.",
        "completion_a": "Hello.",
        "model_a": "x",
        "completion_b": "Bye.",
        "model_b": "y",
        "source": "s",
        "normal_worker_annotations": [
            {"evaluator": "w1", "overall_pref": "A-is-slightly-better", "helpful_pref": "Tie"},
            {"evaluator": "w2", "overall_pref": "Tie", "helpful_pref": "Tie"},
        ],
        "expert_worker_annotations": [
            {"evaluator": "e1", "overall_pref": "B-is-clearly-better", "helpful_pref": "B-is-clearly-better"}
        ],
    },
    "nectar": {
        "prompt": "\n\nHuman: Say hello.\n\nAssistant: ",
        "answers": [
            {"answer": "Bye.", "model": "x", "rank": 2.0},
            {"answer": "Hello.", "model": "y", "rank": 1.0},
            {"answer": "No.", "model": "z", "rank": 3.0},
        ],
        "turns": 1,
        "num_responses": 3,
        "source": ["sharegpt"],
        "good_natured": True,
    },
    "nemo": {"context": [USER], "completions": [{"rank": 1, "completion": [BAD]}, {"rank": 0, "completion": [GOOD]}]},
    "oasst": {
        "message_tree_id": "t",
        "tree_state": "ready_for_export",
        "prompt": {
            "text": "Say hello.",
            "role": "prompter",
            "replies": [
                {"text": "Bye.", "role": "assistant", "rank": 1, "replies": []},
                {"text": "Hello.", "role": "assistant", "rank": 0, "replies": []},
            ],
        },
    },
    "pandalm": {
        "idx": 0,
        "motivation_app": "Grammarly",
        "cmp_key": "x_y",
        "instruction": "Shorten this.",
        "input": "Hello to you all.",
        "response1": "Hello all.",
        "response2": "Hello to you all.",
        "annotator1": 1,
        "annotator2": 2,
        "annotator3": 0,
    },
    "pku_saferlhf": {
        "prompt": "How do I sleep well?",
        "response_0": "Keep regular hours.",
        "response_1": "Take all the pills.",
        "is_response_0_safe": True,
        "is_response_1_safe": False,
        "better_response_id": 1,
        "safer_response_id": 0,
    },
    "pku_saferlhf_safer": {
        "prompt": "How do I sleep well?",
        "response_0": "Keep regular hours.",
        "response_1": "Take all the pills.",
        "safer_response_id": 0,
    },
    "polis": {
        "participant": "12",
        "group-id": "1",
        "n-comments": "0",
        "n-votes": "3",
        "n-agree": "1",
        "n-disagree": "1",
        "0": "1",
        "1": "-1",
        "2": "0",
        "3": "",
    },
    "ppe_human": {
        "question_id": "q",
        "model_a": "x",
        "model_b": "y",
        "winner": "model_b",
        "prompt": "Say hello.",
        "response_1": "Bye.",
        "response_2": "Hello.",
        "language": "English",
        "conv_metadata": {"turns": 1},
        "hard_prompt": False,
    },
    "ppe_correctness": {
        "question_id": "q",
        "model_name": "x",
        "parsed_outputs": ["4", "5", "4"],
        "scores": [True, False, True],
        "mean_score": 0.67,
        "prompt": "2 + 2?",
        "response_1": "It is 4.",
        "response_2": "It is 5.",
        "response_3": "4",
        "sampled_conflict_pairs": [[0, 1], [1, 2]],
    },
    "prm800k": {
        "labeler": "340d",
        "timestamp": "2023-01-22T04:34:27",
        "generation": 9,
        "is_quality_control_question": False,
        "question": {"problem": "What is 2 + 2?", "ground_truth_answer": "4", "pre_generated_answer": "5"},
        "label": {
            "steps": [
                {
                    "completions": [{"text": "Let me add.", "rating": 0, "flagged": None}],
                    "human_completion": None,
                    "chosen_completion": 0,
                },
                {
                    "completions": [
                        {"text": "2 + 2 = 5", "rating": -1, "flagged": None},
                        {"text": "2 + 2 = 4", "rating": 1, "flagged": False},
                    ],
                    "human_completion": None,
                    "chosen_completion": None,
                },
            ],
            "total_time": 278270,
            "finish_reason": "found_error",
        },
    },
    "process_bench": {
        "id": "gsm8k-0",
        "generator": "x",
        "problem": "2 + 2 + 2?",
        "steps": ["2 + 2 = 4", "4 + 2 = 7", "It is 7."],
        "final_answer_correct": False,
        "label": 1,
    },
    "reward_bench_2": {
        "id": "1",
        "prompt": "2 + 2?",
        "chosen": ["4"],
        "rejected": ["5", "6", "7"],
        "num_correct": 1,
        "subset": "Math",
    },
    "rlhflow_prm": {
        "conversations": [
            {"role": "user", "content": "2 + 2 + 2? Step 1: 2 + 2 = 4."},
            {"role": "assistant", "content": "+"},
            {"role": "user", "content": "Step 2: 4 + 2 = 7."},
            {"role": "assistant", "content": "-"},
        ]
    },
    "rpr": {
        "prompt": "Plan a trip.",
        "response_a": "Three museums.",
        "response_b": "A beach.",
        "criteria_x": "Culture matters most.",
        "criteria_y": "Rest matters most.",
        "category_x": "c",
        "category_y": "d",
        "id": 1,
        "scenario_x": "s",
        "scenario_y": "t",
        "profile_0": "p",
    },
    "self_instruct": {
        "id": "seed_task_0",
        "name": "n",
        "instruction": "Add.",
        "instances": [{"input": "2 and 2", "output": "4"}],
        "is_classification": False,
    },
    "shp": {
        "post_id": "a1",
        "domain": "askculinary_train",
        "history": "Why does bread rise?",
        "c_root_id_A": "c",
        "score_A": 3,
        "score_B": 9,
        "human_ref_A": "Magic.",
        "human_ref_B": "Yeast.",
        "labels": 0,
        "score_ratio": 3.0,
    },
    "squality": {
        "metadata": {"passage_id": "50827", "uid": "u"},
        "document": "A story.",
        "questions": [
            {
                "question_text": "What is the plot?",
                "question_number": 1,
                "responses": [{"worker_id": "3", "uid": "r", "response_text": "Robots wait."}],
            }
        ],
    },
    "squality_reviews": {
        "passage-id": "50827",
        "questions": {
            "0": {
                "bart": {
                    "response": "People meet.",
                    "reviews": [
                        {
                            "annotations": [],
                            "system": "bart",
                            "worker_id": "3",
                            "correctness-rating": 10,
                            "selection-rating": 10,
                            "overall-rating": 5,
                            "overall-rank": 2,
                        }
                    ],
                    "overall": {"overall-rating": 5.0},
                },
                "human": {
                    "response": "Robots wait.",
                    "reviews": [
                        {
                            "annotations": [],
                            "system": "human",
                            "worker_id": "3",
                            "correctness-rating": 100,
                            "selection-rating": 80,
                            "overall-rating": 90,
                            "overall-rank": 1,
                        }
                    ],
                    "overall": {"overall-rating": 90.0},
                },
            }
        },
    },
    "stack_exchange_paired": {
        "qid": 1,
        "question": "Why does it stop?",
        "date": "2020/01/01",
        "metadata": ["https://stackoverflow.com/questions/1"],
        "response_j": "The battery is empty.",
        "response_k": "Same here.",
    },
    "stack_exchange": {
        "qid": 1,
        "question": "Why does it stop?",
        "answers": [
            {"answer_id": 1, "author": "a", "author_id": 1, "pm_score": 0, "selected": False, "text": "Same here."},
            {"answer_id": 2, "author": "b", "author_id": 2, "pm_score": 4, "selected": True, "text": "The battery."},
            {
                "answer_id": 3,
                "author": "c",
                "author_id": 3,
                "pm_score": -1,
                "selected": False,
                "text": "Buy one.",
            },
        ],
        "date": "2020/01/01",
        "metadata": [],
    },
    "summarize_from_feedback": {
        "info": {"id": "t3", "post": "I had an accident.", "title": "Car questions", "subreddit": "legaladvice"},
        "summaries": [
            {"text": " It was fast.", "policy": "sup4", "note": "n"},
            {"text": " Someone hit me.", "policy": "ref", "note": None},
        ],
        "choice": 1,
        "worker": "ikN",
        "batch": "batch9",
        "split": "train",
        "extra": {"confidence": 8},
    },
    "summarize_from_feedback_axes": {
        "info": {"id": "167", "site": "dailymail", "title": "Tackle", "article": "He was sent off."},
        "split": "test",
        "summary": {
            "text": "Sent off.",
            "policy": "ref",
            "note": "n",
            "axes": {"overall": 3, "accuracy": 5, "coverage": 4, "coherence": 2},
        },
        "worker": "qo6",
        "batch": "cnndm1",
    },
    "svamp": {
        "ID": "chal-1",
        "Body": "Each pack costs 76 dollars. There is a discount of 25 dollars",
        "Question": "How much do you pay?",
        "Equation": "( 76.0 - 25.0 )",
        "Answer": 51.0,
        "Type": "Subtraction",
    },
    "tldr": {"prompt": "SUBREDDIT: r/legal\nPOST: I had an accident.\nTL;DR:", "label": "Someone hit me."},
    "tldr_posts": {
        "id": "t3",
        "subreddit": "legal",
        "title": "Car",
        "post": "I had an accident.",
        "summary": "Someone hit me.",
    },
    "ultra_interact": {
        "task": "Math_CoT",
        "dataset": "gsm8k",
        "trajectory": [{"from": "user", "value": "2 + 2?"}],
        "chosen": "Step 1: It is 4.",
        "rejected": "Step 1: It is 5.",
        "id": "1",
        "parent_id": "0",
    },
    "ultrafeedback": {
        "source": "evol_instruct",
        "instruction": "Say hello.",
        "models": ["x", "y"],
        "completions": [
            {"model": "x", "response": "Hello.", "overall_score": 8.5, "annotations": {}},
            {"model": "y", "response": "Bye.", "overall_score": 3.0, "annotations": {}},
        ],
        "correct_answers": ["None"],
    },
    "verl": {
        "data_source": "gsm8k",
        "prompt": [USER],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": "4"},
        "extra_info": {},
    },
    "votes": {
        "topic": "t",
        "title": "Is it so?",
        "a1": "No.",
        "a2": "Yes, because.",
        "gold": "a2",
        "votes": [
            {"annotator": "w1", "vote": "a2", "reason": "r", "competence": 0.4},
            {"annotator": "w2", "vote": "equal", "reason": "r", "competence": 0.1},
            {"annotator": "w3", "vote": "a1", "reason": "r", "competence": 0.7},
        ],
    },
    "webgpt": {
        "question": {"dataset": "eli5", "id": "1", "full_text": "Why?"},
        "quotes_0": {"title": ["t"], "extract": ["e"]},
        "answer_0": "Because.",
        "tokens_0": {"prefix": [1], "completion": [2]},
        "score_0": 0.5,
        "quotes_1": {"title": ["t"], "extract": ["e"]},
        "answer_1": "No.",
        "tokens_1": {"prefix": [1], "completion": [2]},
        "score_1": -0.5,
    },
}

SAMPLES: dict[str, dict[str, Any]] = {**DATA_SETS, **TOOLS}


def read(name: str, kind: Kind | None = None, **changes: Any) -> list[dict[str, Any]]:
    """The records of a sample with some cells changed, less their defaults."""
    evidence = Evidence.from_records([{**SAMPLES[name], **changes}], kind=kind)
    assert evidence.layout == name
    return [record.model_dump(exclude_defaults=True) for record in evidence]


def one(name: str, kind: Kind | None = None, **changes: Any) -> dict[str, Any]:
    """The only record of a sample with some cells changed."""
    (record,) = read(name, kind, **changes)
    return record
