"""A text in place of a list is refused by every reward, with what to give, and never read letter by letter."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import pytest

import tacit
from tacit.errors import TacitError
from tacit.evidence import Comparison, Evidence, Outcome, Rating, Steps
from tacit.rewards import TYPES
from tacit.rewards.combination import Gate, Part, PromptCondition, Veto, WeightedSum
from tacit.rewards.controls import InvertedReward, LengthReward, RandomReward
from tacit.rewards.judge.reward import Judge, PairwiseJudge
from tacit.rewards.verifiers import FormatCheck, Verifier

PAIRS = [
    Comparison(prompt=f"q{i % 20}", chosen=f"thank you {i}", rejected=f"NO {i}", annotator=f"w{i % 6}")
    for i in range(120)
]
RATINGS = [Rating(prompt=f"q{i % 20}", completion=f"text {i}", score={"a": i % 5, "b": i % 3}) for i in range(120)]
OUTCOMES = [Outcome(prompt=f"q{i % 20}", completion=f"text {i}", label=i % 3 == 0) for i in range(120)]
STEPS = [Steps(prompt=f"q{i}", completions=[f"a {i}", f"b {i}"], labels=[True, i % 2 == 0]) for i in range(60)]


def fitted(records: list[Any], model: str) -> Callable[[], Any]:
    return lambda: tacit.fit(Evidence.from_records(records), model=model, encoder="hashed")


def unbuilt(place: str) -> Callable[[], Any]:
    """A reward that needs a whole language model: what it is asked is looked at before anything it has."""
    module, name = place.split(":")
    cls = getattr(import_module(module), name)
    return lambda: object.__new__(cls)


class Inner(LengthReward):
    """A reward of unfinished answers as well, for others to go around."""

    def score_prefixes(self, prompts: Any, prefixes: Any) -> np.ndarray:
        return self.score(prompts, prefixes)


def around(place: str) -> Callable[[], Any]:
    """A reward around another."""
    module, name = place.split(":")
    return lambda: getattr(import_module(module), name)(Inner())


BUILT: dict[str, Callable[[], Any]] = {
    "feature": fitted(PAIRS, "scalar"),
    "distributional": fitted(PAIRS, "mean_variance"),
    "pairwise": fitted(PAIRS, "pairwise"),
    "attributes": fitted(RATINGS, "attributes"),
    "boosted": fitted(PAIRS, "boosted"),
    "process": fitted(STEPS, "process"),
    "prefix": fitted(PAIRS, "prefix"),
    "personal": fitted(PAIRS, "decomposed"),
    "verifier": lambda: Verifier(FormatCheck(answer=("boxed",))),
    "random": RandomReward,
    "length_control": LengthReward,
    "inverted": lambda: InvertedReward(LengthReward()),
    "sum": lambda: WeightedSum([Part(LengthReward(), 1.0)]),
    "gate": lambda: Gate(PromptCondition("a"), RandomReward(), LengthReward()),
    "veto": lambda: Veto(RandomReward(), Verifier(FormatCheck(answer=("boxed",))), floor=-5.0),
    "judge": lambda: Judge(Any, Any),  # type: ignore[arg-type]
    "language_model": unbuilt(TYPES["language_model"]),
    "induced": unbuilt(TYPES["induced"]),
    "induced_prefix": unbuilt(TYPES["induced_prefix"]),
    "induced_language_model": around(TYPES["induced_language_model"]),
    "induced_language_model_prefix": around(TYPES["induced_language_model_prefix"]),
    "soft_q": unbuilt(TYPES["soft_q"]),
}


MORE: dict[str, Callable[[], Any]] = {
    "judge of two answers": lambda: PairwiseJudge(Any, Any),  # type: ignore[arg-type]
    "pessimistic": lambda: tacit.fit(PAIRS, encoder="hashed", members=2, pessimism="min"),
    "within": lambda: tacit.fit(OUTCOMES, model="within", encoder="hashed"),
}


def test_every_type_of_reward_is_here() -> None:
    assert BUILT.keys() == TYPES.keys()


@pytest.mark.parametrize("kind", [*BUILT, *MORE])
def test_a_text_is_no_list_of_letters(kind: str) -> None:
    reward = (BUILT | MORE)[kind]()
    a_list = r"for one row give reward.score\(\[prompt\], \[completion\]\)"
    asked: list[tuple[str, tuple[Any, ...], str]] = [
        ("score", ([{"role": "user", "content": "a"}], ["x"]), a_list),
        ("compare", ("abc", "xyz", "uvw"), a_list),
        ("compare", (["a", "b", "c"], ["x", "y", "z"], "uvw"), a_list),
        ("both_orders", ("abc", "xyz", "uvw"), a_list),
        ("score_steps", (["a"], ["step by step"]), "no list of steps"),
        ("score_steps", ("abc", [["x"], ["y"], ["z"]]), a_list),
        ("score_steps", (["a"], [[]]), "has no steps"),
    ]
    for method in ("score", "score_members", "score_deviation", "score_prefixes", "details", "score_attributes"):
        asked += [(method, arguments, a_list) for arguments in (("abc", "xyz"), (["a"], "x"), ("a", ["x"]))]
    for method, arguments, said in asked:
        if hasattr(reward, method) and (kind, method) != ("pessimistic", "details"):  # which are none there
            with pytest.raises(TacitError, match=said):
                getattr(reward, method)(*arguments)


@pytest.mark.parametrize(
    ("prompts", "completions", "said"),
    [
        (["a"], [3], r"completions, row 1: the int 3 is no text"),
        (["a", None], ["x", "y"], r"prompts, row 2: the NoneType None is no text"),
        (["a"], [b"x"], r"completions, row 1: the bytes b'x' is no text"),
        (["a", "b"], ["x"], "2 prompts for 1 completions: give one prompt each"),
        ({"a": 1}, ["x"], "prompts is the dict"),
        (iter(["a"]), ["x"], "prompts is the list_iterator"),
    ],
)
def test_what_is_no_row_is_named(prompts: Any, completions: Any, said: str) -> None:
    with pytest.raises(TacitError, match=said):
        LengthReward().score(prompts, completions)


def test_lists_of_other_makes_are_rows() -> None:
    class Column(list):  # as pandas has them: iterable, with a length, and no list
        pass

    reward = LengthReward()
    assert reward.score(np.array(["a", "b"]), np.array(["x", "y z"], dtype=object)).tolist() == [1, 2]
    assert reward.score(("a", "b"), Column(["x", "y z"])).tolist() == [1, 2]
    messages = [[{"role": "user", "content": "a"}]]
    assert reward.score(messages, ([{"role": "assistant", "content": "x y"}],)).tolist() == [2]
    assert reward.score([], []).tolist() == []


def test_a_text_is_no_list_of_candidates() -> None:
    with pytest.raises(TacitError, match="candidates is the text 'xyz'"):
        tacit.choose(LengthReward(), "abc", "xyz")
