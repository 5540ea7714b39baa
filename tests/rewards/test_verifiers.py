"""Rewards that check: numbers as they are written, forms, code, and the verifier as a reward."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tacit
from real_data import DATA
from tacit.errors import ArtefactError, EvidenceError, TacitError
from tacit.evidence import Evidence, Outcome, Problem
from tacit.rewards.check import check_reward
from tacit.rewards.verifiers import (
    ExactCheck,
    FormatCheck,
    JsonSchemaCheck,
    LatexCheck,
    LengthCheck,
    NumberCheck,
    RegexCheck,
    UnitTests,
    Verifier,
    allow_code,
    answers,
    fit,
    make_check,
    numbers,
)

# --- numbers ---


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[("1,234.50", "1234.5"), ("1{,}234.5", "1234.5"), ("$1,234.50", "1234.5"), ("€ 12", "12"), ("18.", "18")],
        *[("-7", "-7"), ("−7", "-7"), ("-$7", "-7"), ("$-7", "-7"), ("x = -3", "-3"), ("(-3)", "-3"), (".5", "1/2")],
        *[("3/4", "3/4"), (r"\frac{3}{4}", "3/4"), (r"\dfrac34", "3/4"), (r"-\frac{1}{2}", "-1/2"), ("¾", "3/4")],
        *[("1 3/4", "7/4"), (r"1\frac{3}{4}", "7/4"), ("1¾ cups", "7/4"), ("-1 1/2", "-3/2")],
        *[("3.2e5", "320000"), ("3.2 × 10^5", "320000"), (r"3.2 \times 10^{5}", "320000"), ("3.2*10^-1", "8/25")],
        *[("3.2×10⁵", "320000"), ("2 million", "2000000"), ("$3.5 thousand", "3500"), (r"\text{18} km", "18")],
        *[("about 12 km/h", "12"), ("45%", "45"), (r"45\%", "45"), ("45 percent", "45"), ("+4", "4")],
    ],
)
def test_a_number_is_read_as_it_is_written(text: str, value: str) -> None:
    number = numbers.stated_number(text)
    assert number is not None
    assert number.value == Fraction(value)


@pytest.mark.parametrize("text", ["", "no number", "seven", "1/0", "9" * 1000, "1e9999"])
def test_what_is_no_number_is_none(text: str) -> None:
    assert numbers.stated_number(text) is None


def test_a_hyphen_between_two_numbers_is_no_sign() -> None:
    matches = numbers.number_matches("pages 3-5, 9 - 4 and 12-3")
    assert [number.value for match in matches if (number := numbers.value_of(match))] == [3, 5, 9, 4, 12, 3]


@settings(deadline=None)
@given(st.fractions(), st.sampled_from(["{}", "so it is {}.", r"\boxed{{{}}}", "#### {}", "The answer is ${}"]))
def test_every_fraction_is_read_back(value: Fraction, form: str) -> None:
    text = form.format(value)
    assert answers.answer_number(text) == numbers.Number(value)


@settings(deadline=None)
@given(st.integers(-(10**12), 10**12))
def test_grouped_digits_are_read_back(value: int) -> None:
    number = numbers.plain_number(f"{value:,}")
    assert number is not None
    assert number.value == value


def test_percent_matches_its_value_and_its_digits() -> None:
    percent, half, fifty = (numbers.plain_number(text) for text in ("50%", "0.5", "50"))
    assert percent
    assert half
    assert fifty
    assert percent.equals(half)
    assert percent.equals(fifty)
    assert half.equals(percent)
    assert not half.equals(fifty)


def test_the_answer_is_found_by_the_first_rule_that_finds_one() -> None:
    text = "The answer is 3.\n#### 4\nand \\boxed{\\frac{1}{2}} beside 9"
    assert answers.final_answer(text) == "\\frac{1}{2}"
    assert answers.final_answer(text, ("hashes", "boxed")) == "4"
    assert answers.final_answer(text, ("phrase",)) == "3."
    assert answers.final_answer(text, ("last",)) == "9"
    assert answers.final_answer("nothing here") is None
    assert answers.boxed("\\boxed{a{b}c} then \\boxed{unclosed") == "a{b}c"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("#### " * 50_000 + "4", 4),
        ("111," * 50_000, None),
        ("\n" * 100_000, None),
        ("\\boxed{" * 10_000 + "7", None),
        (" " * 100_000 + "5", 5),
        ("answer " * 20_000, None),
    ],
)
def test_hostile_texts_are_read_in_time(text: str, value: int | None) -> None:
    """A pattern that takes quadratic time on these would run into the time limit of the test."""
    found = answers.answer_number(text)
    assert (None if found is None else found.value) == value
    assert FormatCheck(sections=("Plan",))(text, None) == 0


def test_a_phrase_without_a_number_gives_way_to_the_next_rule() -> None:
    found = answers.answer_number("The answer is unclear.\nPerhaps 5, more likely 7")
    assert found is not None
    assert found.value == 7


# --- checks ---


@pytest.mark.parametrize(
    ("completion", "answer", "score"),
    [
        *[("16 - 7 = 9, so 9 * 2 = $18\nA: 18", "... #### 18", 1), ("A: 17", "#### 18", 0), ("no idea", "18", 0)],
        *[("#### 0.3333333", "1/3", 1), ("#### 0.333", "1/3", 0), ("it is 1,000", "1000", 1), ("7", "-7", 0)],
    ],
)
def test_number_check(completion: str, answer: str, score: float) -> None:
    assert NumberCheck()(completion, answer) == score


def test_number_check_needs_a_reference_that_is_a_number() -> None:
    with pytest.raises(TacitError, match=r"'seven' is not one plain number\. Fix it"):
        NumberCheck()("7", "seven")
    assert NumberCheck(tolerance=0.01)("0.333", "1/3") == 1
    with pytest.raises(TacitError, match="'bocksed'"):
        NumberCheck(rules=("bocksed",))


@pytest.mark.parametrize(
    ("completion", "answer", "score"),
    [
        *[("It is $\\frac{1}{2}$.", "0.5", 1), ("\\boxed{1+x^2}", "x^2+1", 1), ("$2\\sqrt{2}$", "\\sqrt{8}", 1)],
        *[("\\boxed{\\{2,1\\}}", "\\{1,2\\}", 1), ("\\boxed{x^2-1}", "x^2+1", 0), ("no idea", "3", 0)],
    ],
)
def test_latex_check(completion: str, answer: str, score: float) -> None:
    pytest.importorskip("math_verify", reason="needs the extra `verify`")
    assert LatexCheck()(completion, answer) == score


def test_exact_check_ignores_case_and_punctuation() -> None:
    assert ExactCheck()("The answer is (B).", "b") == 1
    assert ExactCheck()(" Paris. ", "paris") == 1
    assert ExactCheck()("Not Paris", "Paris") == 0


def test_regex_check() -> None:
    assert RegexCheck(r"\d{3}")("call 123", None) == 1
    assert RegexCheck(r"\d{3}", whole=True)("call 123", None) == 0
    assert RegexCheck()("blue sky", "^blue") == 1
    with pytest.raises(TacitError, match="does not compile"):
        RegexCheck("(")


def test_json_schema_check() -> None:
    pytest.importorskip("jsonschema", reason="needs the extra `verify`")
    check = make_check("json_schema", {"schema": {"type": "object", "required": ["age"]}})
    assert check('{"age": 3}', None) == 1
    assert check('Here you are:\n```json\n{"age": 3}\n```', None) == 1
    assert check('{"name": "x"}', None) == 0
    assert check("{age: 3}", None) == 0
    assert JsonSchemaCheck()("[1]", '{"type": "array"}') == 1
    with pytest.raises(TacitError, match="the JSON schema"):
        JsonSchemaCheck('{"type": "nonsense"}')


def test_length_check_falls_over_its_buffer() -> None:
    check = LengthCheck(least=2, most=4, buffer=4)
    assert [check(" ".join("a" * n), None) for n in (1, 2, 4, 5, 7, 8, 9)] == [0, 1, 1, 0.75, 0.25, 0, 0]
    assert LengthCheck(most=3, unit="characters")("four", None) == 0
    assert LengthCheck(most=4, unit="tokens")("it's!", None) == 1  # it ' s !
    with pytest.raises(TacitError, match="0 <= least <= most"):
        LengthCheck(least=5, most=4)


@pytest.mark.parametrize(
    ("text", "score"),
    [
        *[("<think>a</think> <answer>b</answer>", 1), ("<think>a</think><answer>b</answer> and", 0)],
        *[("<answer>b</answer><think>a</think>", 0), ("<think>a<think>b</think></think><answer>c</answer>", 0)],
    ],
)
def test_format_tags(text: str, score: float) -> None:
    assert FormatCheck(tags=("think", "answer"))(text, None) == score


def test_format_think_sections_and_answer() -> None:
    think = FormatCheck(think=True)
    texts = ("<think>a</think>b", "<think>a</think>", "a", "<think>a", "<think>a</think>b</think>c")
    assert [think(text, None) for text in texts] == [1, 0, 0, 0, 0]
    sections = FormatCheck(sections=("Plan", "Result"))
    assert sections("## Plan\nx\n**Result**: y", None) == 1
    assert sections("## Result\n## Plan", None) == 0
    assert FormatCheck(answer=("boxed",))("so \\boxed{wrong}", None) == 1
    assert FormatCheck(answer=("boxed", "hashes"))("so 18", None) == 0
    with pytest.raises(TacitError, match="asks for nothing"):
        FormatCheck()


@pytest.mark.parametrize(
    ("kind", "options", "reason"),
    [
        ("nmber", {}, "no check `nmber`. Did you mean `number`? Choose one of: number"),
        ("number", {"tolerence": 1}, "no option `tolerence`. It takes: tolerance, rules"),
        ("number", {"tolerance": "much"}, "option `tolerance` of check `number` is 'much'. Give a value of type float"),
        ("length", {"most": True}, "Give a value of type int"),
        ("format", {"tags": 3}, "Give a list of texts"),
    ],
)
def test_wrong_checks_say_what_is_right(kind: str, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(TacitError) as caught:
        make_check(kind, options)
    assert reason in str(caught.value)


# --- code ---

TESTS = "assert double(2) == 4\nassert double(-1) == -2"


@pytest.fixture
def allowed() -> Any:
    allow_code()
    yield
    allow_code(False)


def test_code_does_not_run_unless_allowed() -> None:
    with pytest.raises(TacitError, match="--run-code"):
        UnitTests()("def double(x): return 2 * x", TESTS)


@pytest.mark.parametrize(
    ("code", "score"),
    [
        ("def double(x): return 2 * x", 1),
        ("Here it is:\n```python\ndef double(x):\n    return x + x\n```\nEasy.", 1),
        ("def double(x): return x + 2", 0),
        ("not python", 0),
        ("import os; os._exit(0)", 0),
        ("import sys; sys.exit(0)", 0),
        ("def double(x):\n    while True: pass", 0),
        ("x = bytearray(1 << 40)\ndef double(x): return 2 * x", 0),
        ("def double(x): return 2 * x\nopen('big', 'wb').write(bytes(2 << 20))", 0),
    ],
    ids=["right", "fenced", "wrong", "no code", "exit", "sys.exit", "endless", "greedy", "big file"],
)
@pytest.mark.usefixtures("allowed")
def test_unit_tests(code: str, score: float) -> None:
    assert UnitTests(seconds=3)(code, TESTS) == score


@pytest.mark.usefixtures("allowed")
def test_verifier_runs_unit_tests_of_many_rows_in_order() -> None:
    verifier = Verifier(UnitTests(), {"double": TESTS})
    codes = [f"def double(x): return {factor} * x" for factor in (2, 3, 2, 1)]
    assert verifier.score(["double"] * 4, codes).tolist() == [1, 0, 1, 0]


# --- the reward ---

PROBLEMS = [
    Problem(prompt="What is 2 + 2?", answer="4"),
    Problem(prompt="What is half of 7?", answer="3 1/2"),
    Problem(prompt="Name a colour of the sky.", answer="blue|grey", checker="regex"),
]
EXAMPLES: list[tuple[str, str]] = [
    ("What is 2 + 2?", "It is 4."),
    ("What is 2 + 2?", "It is 5."),
    ("What is 2 + 2?", ""),
    ("What is half of 7?", "\\boxed{3.5}"),
    ("Name a colour of the sky.", "Often blue."),
    ("What is half of 7?", "word " * 3000),
]


def test_a_verifier_scores_by_the_answers_of_its_problems(tmp_path: Path) -> None:
    verifier = fit(PROBLEMS)
    assert verifier.score([p for p, _ in EXAMPLES], [c for _, c in EXAMPLES]).tolist() == [1, 0, 0, 1, 1, 0]
    findings = check_reward(verifier, EXAMPLES, new_process=True)
    assert [str(f) for f in findings if not f.ok] == []
    verifier.save(tmp_path / "v")
    again = tacit.load(tmp_path / "v")
    assert isinstance(again, Verifier)
    assert again.checkers["Name a colour of the sky."] == RegexCheck()
    (tmp_path / "v" / "answers.json").write_text("{")
    with pytest.raises(ArtefactError, match="is damaged"):
        tacit.load(tmp_path / "v")


def test_an_unknown_prompt_is_an_error_unless_said_otherwise() -> None:
    with pytest.raises(TacitError, match=r"no answer to the prompt 'What is love\?' \(it knows 3\)"):
        fit(PROBLEMS).score(["What is love?"], ["4"])
    assert fit(PROBLEMS, unknown=0.25).score(["What is love?"], ["4"]).tolist() == [0.25]
    assert Verifier(LengthCheck(most=3)).score(["anything"], ["two words"]).tolist() == [1]


@pytest.mark.parametrize(
    ("problem", "reason"),
    [
        (Problem(prompt="What is 2 + 2?", answer="5"), "row 4, column `answer`"),
        (Problem(prompt="x", answer="5", checker="numbr"), "row 4, column `checker`"),
        (Outcome(prompt="x", completion="y", label=True), "made of problems, not of outcomes"),
    ],
)
def test_bad_problems_name_their_row(problem: Any, reason: str) -> None:
    with pytest.raises(EvidenceError) as caught:
        fit([*PROBLEMS, problem])
    assert reason in str(caught.value)


def test_fit_takes_a_verifier_for_problems_by_itself() -> None:
    verifier = tacit.fit(Evidence.from_records(PROBLEMS), check="number")
    assert isinstance(verifier, Verifier)
    with pytest.raises(TacitError, match="a verifier has no option `l2`"):
        tacit.fit(PROBLEMS, l2=1.0)


GSM8K = DATA / "gsm8k"


@pytest.mark.skipif(not GSM8K.is_dir(), reason="needs the GSM8K files in ../shared/data")
@pytest.mark.parametrize("check", ["number", "latex"])
def test_verifiers_agree_with_the_labels_of_gsm8k(check: str) -> None:
    if check == "latex":
        pytest.importorskip("math_verify", reason="needs the extra `verify`")
    problems = tacit.read(GSM8K / "test.jsonl.gz", kind="problem", columns={"prompt": "question"})
    verifier = fit(problems, check=check)
    rows = [row for _, row in tacit.evidence.read_rows(GSM8K / "example_model_solutions.jsonl.gz")]
    rows = rows if check == "number" else rows[:100]
    models = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")
    flat = [(row["question"], row[m]["solution"], row[m]["is_correct"]) for row in rows for m in models]
    scores = verifier.score([q for q, _, _ in flat], [s for _, s, _ in flat])
    agreement = np.mean(scores == np.array([label for _, _, label in flat]))
    assert len(flat) == 4 * len(rows)
    assert agreement > 0.995


def test_json_round_trip_of_options_is_exact(tmp_path: Path) -> None:
    verifier = Verifier(FormatCheck(tags=("think", "answer"), sections=("A",)), name="form")
    verifier.save(tmp_path / "f")
    assert json.loads((tmp_path / "f" / "reward.json").read_text())["options"]["tags"] == ["think", "answer"]
    again = tacit.load(tmp_path / "f")
    assert isinstance(again, Verifier)
    assert again.check == verifier.check
