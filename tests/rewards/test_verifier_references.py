r"""References of verifiers: an answer equal to a sound one scores 1, a piece of it 0; what is not sound is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import tacit
from tacit.errors import ArtefactError, EvidenceError, TacitError
from tacit.evidence import Evidence, Problem
from tacit.rewards.verifiers import ExactCheck, LatexCheck, NumberCheck, RegexCheck, UnitTests, Verifier, fit
from tacit.rewards.verifiers.answers import answer_number, reference_number
from tacit.rewards.verifiers.mathematics import latex_text

UNSOUND = [
    *[
        "25 cm^2",
        "(2,5)",
        "10^5",
        r"\sqrt{2}",
        r"2\pi",
        "5!",
        "3:4",
        "12:30",
        "2516_8",
        "seven",
        "",
        "x = 5",
        "5x",
        "1/0",
    ],
    *["18 dollars", "5 or 6", r"\pm 5", "3,5", "0,001", "1,00,000", "1/2/3", "--5", "(18)", "{5}", "5 5", "∞", "NaN"],
]
PLAIN = {
    **{"18": "18", "1,000": "1000", r"10\,000": "10000", "10{,}000": "10000", "-7": "-7", "−7": "-7", "+4": "4"},
    **{
        "3/4": "3/4",
        r"\frac34": "3/4",
        r"-\tfrac{1}{2}": "-1/2",
        "1 3/4": "7/4",
        "0.5": "1/2",
        ".5": "1/2",
        "18.": "18",
    },
    **{
        "45%": "45",
        r"\$18": "18",
        "$18": "18",
        "$18$": "18",
        r"\text{13}": "13",
        "2 million": "2000000",
        "1e3": "1000",
    },
    **{"so 7 - 4 = 3\n#### 3": "3", r"It is \boxed{5}": "5", "The answer is 6.": "6", r"1\,234\,567.5": "2469135/2"},
}


@pytest.mark.parametrize("answer", UNSOUND)
def test_fit_refuses_a_reference_that_is_not_one_plain_number(answer: str, tmp_path: Path) -> None:
    path = tmp_path / "problems.jsonl"
    rows = [{"prompt": "one", "answer": "1"}, {"prompt": "odd", "answer": answer}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(EvidenceError, match=r"row 2, column `answer`.*not one plain number.*--check latex") as caught:
        fit(tacit.read(path, kind="problem"))
    assert repr(answer)[:20] in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(("answer", "value"), PLAIN.items())
def test_plain_numbers_are_references(answer: str, value: str) -> None:
    number = reference_number(answer)
    assert number is not None
    assert str(number.value) == value
    assert NumberCheck()(f"So \\boxed{{{answer}}}.", answer) == 1


DIGITS = st.integers(0, 10**9)
NUMBERS = st.one_of(
    st.builds(str, DIGITS),
    st.builds("{:,}".format, DIGITS),
    st.builds(lambda n: f"{n:,}".replace(",", r"\,"), DIGITS),
    st.builds("{}.{}".format, DIGITS, DIGITS),
    st.builds("{}/{}".format, DIGITS, st.integers(1, 999)),
    st.builds("{} {}/{}".format, DIGITS, DIGITS, st.integers(1, 9)),
    st.builds(r"\frac{{{}}}{{{}}}".format, DIGITS, st.integers(1, 99)),
    st.builds("{}e{}".format, DIGITS, st.integers(-50, 50)),
    st.builds(r"{} \times 10^{{{}}}".format, DIGITS, st.integers(-9, 9)),
)
SIGNED = st.builds(str.__add__, st.sampled_from(["", "-", "+", "−", "$", "-$", "\\$"]), NUMBERS)
ENDS = ["", "%", r"\%", " percent", " thousand", ".", "$", " ", "}", " cm", "^2", "!", "°", r"\pi"]
WRITTEN = st.builds("{}{}{}".format, st.sampled_from(["", "$", " ", "#### ", "\\text{"]), SIGNED, st.sampled_from(ENDS))
SIGNS = st.text(alphabet="0123456789.,/-+%$=:^_!()[]{}\\ #efracpiboxdtsqr±½²·×", max_size=14)


@settings(deadline=None, max_examples=2000)
@given(st.one_of(WRITTEN, SIGNS, st.text(max_size=8)))
def test_an_answer_equal_to_an_accepted_reference_scores_one(reference: str) -> None:
    if NumberCheck().reference_fault(reference) is None:
        assert NumberCheck()(f"So we get \\boxed{{{reference}}}.", reference) == 1
        assert NumberCheck()("no number at all", reference) == 0
    else:
        with pytest.raises(TacitError, match="is not one plain number"):
            NumberCheck()("\\boxed{5}", reference)


@settings(deadline=None, max_examples=200)
@given(SIGNED)
def test_written_numbers_are_accepted(reference: str) -> None:
    assert NumberCheck().reference_fault(reference) is None


@pytest.mark.parametrize(
    ("completion", "value"),
    [
        *[("2 * 3 = 6", "6"), ("The answer is 2 * 3 = 6", "6"), (r"\boxed{2 * 3 = 6}", "6"), ("#### 2 + 3 = 5", "5")],
        *[(r"\boxed{x = 5}", "5"), (r"\boxed{x \approx 5}", "5"), ("So x = 5 when there are 3 apples.", "5")],
        *[(r"\boxed{25 cm^2}", "25"), (r"\boxed{25\text{ cm}^2}", "25"), ("It is 25 cm^2.", "25"), ("12 km/h", "12")],
        *[("The answer is 5 apples and 3 pears.", "5"), ("The answer is about 7.", "7"), ("The answer is 5!", "5")],
        *[("First \\boxed{3}, then \\boxed{5}", "5"), (r"\boxed{10\,000}", "10000"), (r"\boxed{10 000}", "10000")],
        *[("He has 3 + 4 = 7. Each costs $2, so it is $14.", "14"), ("she was in 5th + 1 = 6th place", "6")],
        *[("4 * $2 = $8 a day", "8"), ("It costs **5** dollars", "5"), ("so $57500/year.", "57500"), ("(5)", "5")],
        *[(r"\boxed{a = b = 5}", "5"), (r"\boxed{f(2,3) = 5}", "5"), (r"\boxed{18 \text{ dollars}}", "18")],
    ],
)  # fmt: skip
def test_the_number_of_a_completion(completion: str, value: str) -> None:
    number = answer_number(completion)
    assert number is not None
    assert str(number.value) == value


@pytest.mark.parametrize(
    "completion",
    [
        *[r"\boxed{(2,5)}", r"\boxed{10^5}", r"\boxed{\sqrt{2}}", r"\boxed{2\pi}", r"\boxed{5!}", r"\boxed{3:4}"],
        *[r"\boxed{2x}", r"\boxed{2516_8}", r"\boxed{x=2, y=3}", r"\boxed{5 or 6}", r"\boxed{x \neq 5}"],
        *[r"\boxed{x <= 5}", r"\boxed{\pm 5}", r"\boxed{1,2,3}", r"\boxed{3,5}", r"\boxed{wrong}. Or 5?"],
        *["The answer is 5 or 6.", "The answer is 5, 6.", "#### 3:4", "The answer is not 5."],
        *["The answer is between 3 and 4.", "The answer is (2,5).", r"The answer is 2\sqrt{3}.", "The answer is 3-5"],
        *[r"so it is 2\sqrt{3}", "so it is 10^5", "it lasts from 3 to 5", "at 12:30", r"so \boxed{7"],
        *["The answer is 3:4.", "The total is 3 + 4", "Either 5 or 6", "It is 3,5.", r"It is $5\pi$.", "0x10", ""],
    ],
)  # fmt: skip
def test_what_is_no_plain_number_is_not_read_by_its_digits(completion: str) -> None:
    assert answer_number(completion) is None


@pytest.mark.parametrize(
    ("answer", "reference", "score"),
    [
        *[("0.3333333", "1/3", 1), ("0.3333", "1/3", 0), ("0.000001", "0.000002", 0), ("1e-9", "2e-9", 0)],
        *[("0", "1e-9", 0), ("1e-9", "0", 0), ("0.0", "0", 1), ("1048575", "1048576", 0)],
        *[("1048576.5", "1048576", 1), ("3000001", "3000000", 0), ("0.5", "50%", 1), ("50", "50%", 1)],
        *[("0.00012345678", "0.00012345677", 1), ("-0.5", "0.5", 0), ("10/20", "1/2", 1)],
    ],
)  # fmt: skip
def test_tolerance_is_relative_and_none_between_whole_numbers(answer: str, reference: str, score: float) -> None:
    assert NumberCheck()(f"\\boxed{{{answer}}}", reference) == score


def test_a_tolerance_that_is_given_holds_for_all_numbers() -> None:
    assert NumberCheck(tolerance=0.01)(r"\boxed{101}", "100") == 1
    assert NumberCheck(tolerance=0.01)(r"\boxed{0.0102}", "0.01") == 0
    assert NumberCheck(tolerance=0.0)(r"\boxed{0.3333333}", "1/3") == 0
    for tolerance in (-1.0, float("nan"), float("inf")):
        with pytest.raises(TacitError, match="Give 0 or more"):
            NumberCheck(tolerance=tolerance)


# --- LaTeX ---

LATEX = {
    **{r"\frac{1}{2004!}": [(r"\frac{1}{2006!}", 0)], r"\frac{1}{2^{99}}": [(r"\frac{1}{2^{98}}", 0)]},
    **{"2^{100}": [("2^{100}-1", 0), ("4^{50}", 1)], "10^{10^{10}}": [("10^{10^{9}}", 0)]},
    **{"5!": [("120", 1), ("5", 0)], "2x+4y-3=0": [("2x=3-4y", 1)]},
    **{r"\sqrt{17}": [("4.123105625617661", 1), ("4.12", 0)], r"6.02 \times 10^{23}": [("6.02e23", 1), ("6.02", 0)]},
    **{"10000": [(r"10\,000", 1), ("10{,}000", 1), ("10", 0)], r"\$18": [("18", 1), (r"\$18.00", 1)], "5": [("5.", 1)]},
    **{r"\{1,2\}": [(r"\{2,1\}", 1), ("1", 0)], "(2,5)": [("[2,5]", 0), ("5", 0)], r"(-\infty,2)": [("x<2", 1)]},
    **{"2516_8": [("2516", 0), ("1358", 1)], "25 cm^2": [("2", 0)], r"2\pi": [("2", 0)], "3:4": [("4", 0)]},
    **{r"\text{E}": [("E", 1), ("(E)", 1), ("D", 0)], "seven": [("evens", 0), ("Seven", 1)]},
    **{r"\pm 2021": [("2021", 0)], r"\text{13}": [("13", 1)], "12:30": [("30", 0)], "10^5": [("100000", 1)]},
}  # fmt: skip


@pytest.mark.parametrize("reference", LATEX)
def test_latex_is_equal_to_itself_and_to_no_piece_of_it(reference: str) -> None:
    pytest.importorskip("math_verify", reason="needs the extra `verify`")
    check = LatexCheck()
    assert check.reference_fault(reference) is None
    assert check(f"First \\boxed{{0}}, but it is \\boxed{{{reference}}}.", reference) == 1
    for answer, score in LATEX[reference]:
        assert check(f"\\boxed{{{answer}}}", reference) == score, answer


def test_several_boxes_are_not_joined() -> None:
    pytest.importorskip("math_verify", reason="needs the extra `verify`")
    assert LatexCheck()(r"I get \boxed{1} and later \boxed{2}.", r"\{1,2\}") == 0
    assert LatexCheck()(r"I get \boxed{1} and later \boxed{2}.", "2") == 1
    assert LatexCheck()(r"I get \boxed{2} and later \boxed{1}.", "2") == 0


@pytest.mark.parametrize("answer", ["", "   ", r"\frac{", "$$", "\\"])
def test_fit_refuses_a_reference_that_is_no_mathematics(answer: str) -> None:
    pytest.importorskip("math_verify", reason="needs the extra `verify`")
    with pytest.raises(
        EvidenceError, match=r"row 1, column `answer`: the reference answer cannot be read as mathematics"
    ):
        fit([Problem(prompt="m", answer=answer)], check="latex")


def test_latex_that_takes_too_long_is_wrong_and_the_next_one_is_read() -> None:
    pytest.importorskip("math_verify", reason="needs the extra `verify`")
    check = LatexCheck(seconds=1)
    assert check(r"\boxed{9^{9^{9^{9^{9}}}} + \frac{1}{9^{9^{9^{9}}}}}", "5") == 0
    assert check(r"\boxed{\frac{10}{2}}", "5") == 1


@settings(deadline=None)
@given(st.text(alphabet="0123456789\\,{}$. ()_^eE-", max_size=12))
@example("$ 0")
@example("0E-0E0")
def test_plain_latex_stays_as_it_is_read(text: str) -> None:
    assert latex_text(latex_text(text)) == latex_text(text) or "_" in text


# --- text ---


@pytest.mark.parametrize(
    ("completion", "reference", "score"),
    [
        *[(r"\boxed{\text{E}}", "E", 1), ("E) Paris", "E", 1), ("(E)", "E", 1), ("E.", "E", 1)],
        *[(r"\boxed{\textbf{(E)}~5}", "E", 1), ("The answer is (B).", "b", 1), ("**E**", "E", 1)],
        *[("E: Paris", "E", 1), ("option E", "E", 1), ("#### E", "E", 1), (r"\boxed{E) Paris}", "E", 1)],
        *[("(E) Paris", "E) Paris", 1), ("Paris", "E) Paris", 1), ("E", "E) Paris", 1), ("E) London", "E) Paris", 0)],
        *[("D) Paris", "E) Paris", 0), ("D) Paris", "E", 0), (r"\boxed{\text{D}}", "E", 0), ("A dog", "A", 0)],
        *[("A) London B) Paris", "A", 0), ("E or F", "E", 0), ("Every", "E", 0), ("", "E", 0), ("(2,5)", "[2,5]", 0)],
        *[("5!", "5", 0), ("-5", "5", 0), (" Paris. ", "paris", 1), (r"\text{New York}", "New  York", 1)],
        *[("Not Paris", "Paris", 0), ("The answer is: yes", "Yes", 1), (r"$\mathrm{B}$", "B", 1)],
        *[('"Paris!"', "Paris", 1)],
    ],
)  # fmt: skip
def test_exact_answers(completion: str, reference: str, score: float) -> None:
    assert ExactCheck()(completion, reference) == score


@settings(deadline=None, max_examples=500)
@given(st.text(alphabet='abcE .,()[]:!?*"\\text{}$5#\n', max_size=12))
def test_an_exact_reference_is_equal_to_itself_or_refused(reference: str) -> None:
    if ExactCheck().reference_fault(reference) is None:
        assert ExactCheck()(reference, reference) == 1
    else:
        with pytest.raises(EvidenceError, match="row 1, column `answer`"):
            fit([Problem(prompt="p", answer=reference)], check="exact")


# --- the verifier ---


@pytest.mark.parametrize(
    ("check", "answer", "reason"),
    [
        ("regex", "(", "is no regular expression"),
        ("json_schema", "{", "is no JSON schema"),
        ("unit_tests", "assert (", "is no Python"),
        ("unit_tests", " ", "holds no tests"),
        ("exact", "...", "is empty but for punctuation"),
    ],
)
def test_every_check_refuses_references_that_it_cannot_use(check: str, answer: str, reason: str) -> None:
    with pytest.raises(EvidenceError, match=f"row 1, column `answer`: the reference answer {reason}"):
        fit([Problem(prompt="p", answer=answer)], check=check)
    with pytest.raises(EvidenceError, match=reason):
        fit([Problem(prompt="p", answer=answer, checker=check)])


def test_options_in_place_of_references_leave_them_alone() -> None:
    assert fit([Problem(prompt="p", answer="any (")], check=RegexCheck("a")).score(["p"], ["a"]).tolist() == [1]


def test_rows_are_those_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "problems.csv"
    path.write_text("prompt,answer\none,1\n\nodd,seven\n")
    with pytest.raises(EvidenceError, match=r"problems.csv, row 4, column `answer`"):
        tacit.fit(tacit.read(path, kind="problem"))


def test_a_saved_verifier_with_an_unsound_reference_is_refused(tmp_path: Path) -> None:
    fit([Problem(prompt="one", answer="1")]).save(tmp_path / "v")
    stored: dict[str, Any] = json.loads((tmp_path / "v" / "answers.json").read_text())
    manifest: dict[str, Any] = json.loads((tmp_path / "v" / "reward.json").read_text())
    for answer, reason in (("25 cm^2", "not one plain number"), (5, "is no text")):
        stored["answers"]["one"] = answer
        (tmp_path / "v" / "answers.json").write_text(json.dumps(stored))
        with pytest.raises(ArtefactError, match=r"answers\.json is damaged: it is not the file that was saved"):
            tacit.load(tmp_path / "v")
        unsealed = {name: value for name, value in manifest.items() if name not in ("files", "seal")}
        (tmp_path / "w").mkdir(exist_ok=True)
        (tmp_path / "w" / "answers.json").write_text(json.dumps(stored))
        (tmp_path / "w" / "reward.json").write_text(json.dumps(unsealed))
        with pytest.raises(ArtefactError, match=rf"answers.json: the reference answer .* to 'one' (is )?{reason}"):
            tacit.load(tmp_path / "w")


def test_a_recipe_names_the_row_of_its_problems(tmp_path: Path) -> None:
    (tmp_path / "problems.jsonl").write_text('{"prompt": "p", "answer": "(2,5)"}\n')
    (tmp_path / "v.yaml").write_text("type: number\nanswers: problems.jsonl\n")
    with pytest.raises(TacitError, match=r"problems.jsonl, row 1, column `answer`.*--check latex"):
        tacit.load(tmp_path / "v.yaml")


def test_mixed_checks_are_checked_each_by_its_own() -> None:
    rows = [Problem(prompt="a", answer="(2,5)", checker="exact"), Problem(prompt="b", answer="5")]
    verifier = fit(Evidence.from_records(rows))
    assert isinstance(verifier, Verifier)
    assert verifier.score(["a", "b"], ["(2,5)", "5"]).tolist() == [1, 1]
    assert UnitTests().reference_fault("assert 1") is None
