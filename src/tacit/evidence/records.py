"""The seven kinds of evidence: one frozen pydantic model each.

Columns are TRL's; every other column of a file is kept beside them (`record.model_extra`). Strings and message lists
both work wherever a prompt or a completion is meant.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, FiniteFloat, model_validator


def _message(message: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(message.get("role"), str):
        raise ValueError("a message needs a `role`")
    content = message.get("content")
    if not (content is None or isinstance(content, str | list)):
        raise ValueError("the `content` of a message is a text, a list of parts or nothing")
    if message.get("tool_calls") and not isinstance(message["tool_calls"], list):
        raise ValueError("the `tool_calls` of a message are a list")
    return message


Text: TypeAlias = str | list[Annotated[dict[str, Any], AfterValidator(_message)]]
"""A prompt or a completion: a string or a list of messages."""


def _identifier(value: Any) -> Any:
    """A number as its text: 17 and 17.0 (as pandas writes whole numbers beside blanks) are `17`; NaN is nobody."""
    if isinstance(value, float):
        return None if value != value else str(int(value)) if value.is_integer() else repr(value)
    return str(value) if isinstance(value, int) else value


Identifier: TypeAlias = Annotated[str | None, BeforeValidator(_identifier)]
"""A name of a person or a group, or None; numbers are read as text."""


LARGEST = 1e15
"""Of weights, margins and scores: what float32 still holds when it is squared, and far beyond what people give."""

Number: TypeAlias = Annotated[FiniteFloat, Field(ge=-LARGEST, le=LARGEST)]
Weight: TypeAlias = Annotated[FiniteFloat, Field(ge=0, le=LARGEST)]


class Record(BaseModel):
    """What all kinds share: columns that are not named here are kept, values are never coerced silently."""

    model_config = ConfigDict(extra="allow", frozen=True, protected_namespaces=())

    @classmethod
    def plural(cls) -> str:
        """What rows of this kind are called in a sentence."""
        name = cls.__name__.lower()
        return name if name.endswith("s") else f"{name}s"


class Comparison(Record):
    """A person preferred `chosen` to `rejected` (or saw no difference: `tie`)."""

    prompt: Text = ""
    chosen: Text
    rejected: Text
    tie: bool = False
    margin: Number | None = None
    weight: Weight = 1.0
    annotator: Identifier = None
    group: Identifier = None
    rejected_prompt: Text | None = None
    """The prompt of `rejected` where it differs: a cross-prompt comparison."""
    chosen_first: bool | None = None
    """Whether `chosen` was shown first (or left, or on top), where it was noted: what position bias is measured by."""


class Demonstration(Record):
    """A good example: `completion` is what a demonstrator answered to `prompt`."""

    prompt: Text
    completion: Text
    weight: Weight = 1.0


class Outcome(Record):
    """A thumb or a correctness: `label` says whether `completion` was good."""

    prompt: Text
    completion: Text
    label: bool
    template: str | None = None
    annotator: Identifier = None


class Rating(Record):
    """A number, or one number per attribute (None where not rated)."""

    prompt: Text
    completion: Text
    score: Number | dict[str, Number | None]
    annotator: Identifier = None


class Ranking(Record):
    """Several completions of one prompt in order; ranks count from 1 = best, equal ranks are ties."""

    prompt: Text
    completions: Annotated[list[Text], Field(min_length=2)]
    ranks: list[Annotated[int, Field(ge=1, le=10**9)]]
    annotator: Identifier = None

    @model_validator(mode="after")
    def _ranks_match(self) -> Ranking:
        if len(self.ranks) != len(self.completions):
            raise ValueError(f"{len(self.ranks)} ranks for {len(self.completions)} completions: give one rank each")
        return self


class Steps(Record):
    """A solution in steps, each judged right or wrong."""

    prompt: Text
    completions: Annotated[list[str], Field(min_length=1)]
    labels: list[bool]

    @model_validator(mode="after")
    def _labels_match(self) -> Steps:
        if len(self.labels) != len(self.completions):
            raise ValueError(f"{len(self.labels)} labels for {len(self.completions)} steps: give one label each")
        return self


class Problem(Record):
    """A question whose answers a rule can check."""

    prompt: Text
    answer: str
    checker: str | None = None


Kind = Literal["comparison", "demonstration", "outcome", "rating", "ranking", "steps", "problem"]
KINDS: dict[Kind, type[Record]] = {
    "comparison": Comparison,
    "demonstration": Demonstration,
    "outcome": Outcome,
    "rating": Rating,
    "ranking": Ranking,
    "steps": Steps,
    "problem": Problem,
}
