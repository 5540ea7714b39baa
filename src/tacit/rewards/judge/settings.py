"""What a judge is: the keys of its YAML file, each with its meaning.

    type: judge
    mode: yes_no                  # or pairwise, rubric
    model: some-model
    base_url: http://localhost:8000/v1
    key_env: MY_API_KEY           # name of the environment variable; the key itself is never written anywhere

A key that is not known, or a pair of keys that contradict each other, is an error that names the file and the key. A
judge may come from somebody else, so it may name only variables that hold keys of such servers (`*_API_KEY`), and which
one goes to which host is said when it is asked. Secrets in the file itself are refused, since the file is copied into
the saved reward.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from tacit.artefacts import resolved
from tacit.errors import TacitError
from tacit.models.server import SECRET, address_fault
from tacit.plain_yaml import YamlError, read_yaml

_KEY_VARIABLE = re.compile(r"(?:[A-Za-z0-9]+_)*API_KEY(?:_[A-Za-z0-9]+)*", re.IGNORECASE)
_SECRET_NAME = re.compile(
    r"(?:api|access|secret|private|auth|bearer)?[-_]?(?:key|token|secret)|password|passwd|authorization|credentials?",
    re.IGNORECASE,
)
Mode = Literal["yes_no", "pairwise", "rubric"]


class JudgeError(TacitError):
    """A judge that cannot be asked, or an answer that cannot be used; the message holds the cause."""


class Prices(BaseModel):
    """Money for a million tokens, in whatever currency."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: Annotated[float, Field(ge=0)] = 0.0
    completion: Annotated[float, Field(ge=0)] = 0.0


class JudgeSettings(BaseModel):
    """A judge: what it is asked, how its answer is read, and where it runs."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, protected_namespaces=(), allow_inf_nan=False
    )

    type: Literal["judge"] = "judge"
    name: str = "judge"

    mode: Mode = "yes_no"
    """yes_no: is this answer good? pairwise: which of two answers is better? rubric: a number on a scale."""
    read: Literal["probabilities", "text"] = "probabilities"
    """probabilities of the answer's first token, or the text that the judge writes (for endpoints without them)."""
    critique: bool = False
    """Let the judge write a critique first, and read its verdict after it."""
    samples: Annotated[int, Field(ge=1)] = 1
    """Critiques, or votes where text is read, that are averaged."""
    template: str | None = None
    """The question, with {prompt} and {completion}, or {prompt}, {first} and {second}; in rubric also {low}, {high}."""
    template_file: Path | None = None
    """The same in a file of its own, relative to the YAML file."""
    instruction: str | None = None
    """How to answer, after the question; it must ask for the very words of the mode: Yes or No, A or B, a number."""
    critique_instruction: str | None = None
    """How to ask for the critique, after the question."""
    system: str | None = None
    """System message before the question."""
    scale: tuple[int, int] = (1, 10)
    """Lowest and highest number of rubric."""
    references: tuple[str, ...] = ()
    """Answers that a pairwise judge compares with to score one answer alone; a polite refusal unless given."""
    unreadable: Literal["stop", "neutral"] = "stop"
    """An answer that is no verdict stops the run, or counts as undecided (and is counted)."""

    model: str | None = None
    """Model of an endpoint."""
    base_url: str = "https://api.openai.com/v1"
    """Endpoint in the manner of OpenAI."""
    api: Literal["chat", "completions"] = "chat"
    """Which of its two interfaces."""
    key_env: str | None = None
    """Environment variable that holds the key, a name such as MY_API_KEY; OPENAI_API_KEY, if set, unless given."""
    folder: Path | None = None
    """Folder of a causal language model to run here instead, relative to the YAML file."""
    device: str | None = None
    """Where to run it; CUDA if there is one unless given."""

    temperature: Annotated[float, Field(ge=0)] | None = None
    """Of sampling; 0 for one sample and 0.7 for several unless given."""
    seed: int = 0
    """Seed of the first sample; each further one takes the next."""
    top_logprobs: Annotated[int, Field(ge=2)] = 20
    """Alternatives to ask for beside a token."""
    max_tokens: Annotated[int, Field(ge=1)] = 512
    """Most tokens of a critique or of a text answer."""
    max_length: Annotated[int, Field(ge=64)] | None = None
    """Most tokens that a local model reads; what it can unless given."""
    max_characters: Annotated[int, Field(ge=200)] | None = None
    """Most characters of a question to an endpoint; no limit unless given."""
    extra: dict[str, Any] = {}
    """Further keys of the request's body; a null takes a key out."""

    timeout: Annotated[float, Field(gt=0)] = 60.0
    """Seconds that a call may take."""
    retries: Annotated[int, Field(ge=0)] = 5
    """Further tries after a time-out, a lost connection, a broken reply, HTTP 408, 409, 425, 429 or 5xx."""
    backoff: Annotated[float, Field(ge=0)] = 1.0
    """Seconds before the second try; doubled each time, up to 60, and never less than the endpoint asks for."""
    concurrency: Annotated[int, Field(ge=1)] = 8
    """Calls under way at once."""
    prices: Prices = Prices()
    """Price of a million tokens, to count costs."""
    budget: Annotated[float, Field(gt=0)] | None = None
    """Stop before the cost of a run passes this."""
    cache: Path | None = None
    """Folder where finished calls are kept, relative to the YAML file; --cache of the verbs unless given."""

    @field_validator("key_env")
    @classmethod
    def _names_a_key(cls, name: str | None) -> str | None:
        if name is not None and not _KEY_VARIABLE.fullmatch(name):
            raise ValueError("name an environment variable that holds a server's key: *_API_KEY, such as MY_API_KEY")
        return name

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.model is None) == (self.folder is None):
            raise ValueError("give either `model` (of an endpoint) or `folder` (of a local model)")
        if self.template is not None and self.template_file is not None:
            raise ValueError("give `template` or `template_file`, not both")
        if self.samples > 1 and not self.critique and self.read == "probabilities":
            raise ValueError("several `samples` of one probability are equal: add `critique: true` or `read: text`")
        if self.scale[0] >= self.scale[1] or self.scale[0] < 0 or self.scale[1] > 100:
            raise ValueError(f"`scale` is {list(self.scale)}: give two numbers from 0 to 100, the lower one first")
        if self.references and self.mode != "pairwise":
            raise ValueError("`references` are for mode pairwise")
        if self.budget is not None and not (self.prices.prompt or self.prices.completion):
            raise ValueError("`budget` needs `prices`")
        if self.folder is None and (fault := address_fault(self.base_url)):
            raise ValueError(f"key `base_url`: {fault}")
        return self

    @property
    def heat(self) -> float:
        """The temperature in effect."""
        return (0.7 if self.samples > 1 else 0.0) if self.temperature is None else self.temperature


def read_settings(path: str | Path) -> JudgeSettings:
    """The judge that a YAML file describes, with its template read and its paths made absolute.

    Raises `JudgeError` naming the file, the key and what would be right.
    """
    file = Path(path)
    if not file.is_file():
        raise JudgeError(f"{path}: there is no such file. Give --judge a YAML file that describes a judge")
    try:
        value = read_yaml(file, mend="Fix it")
    except YamlError as error:
        raise JudgeError(str(error)) from error
    if not isinstance(value, dict):
        raise JudgeError(f"{path}: describes no judge. Write `type: judge` and its keys, one `key: value` a line")
    settings = checked(value, str(path))
    here = resolved(file).parent
    changes: dict[str, Any] = {
        name: here / place.expanduser()
        for name in ("folder", "cache")
        if (place := getattr(settings, name)) is not None
    }
    if settings.template_file is not None:
        template = here / settings.template_file
        if not template.is_file():
            raise JudgeError(f"{path}: key `template_file`: there is no file {template}")
        changes |= {"template": template.read_text("utf-8").rstrip("\n"), "template_file": None}
    return settings.model_copy(update=changes)


def checked(value: dict[str, Any], source: str) -> JudgeSettings:
    """Settings from a mapping; raises `JudgeError` naming `source`, the key and the value, unless that is a secret."""
    if (secret := next(_secrets(value), None)) is not None:
        raise JudgeError(f"{source}: key `{secret}`: no secret belongs here. Name its environment variable: key_env")
    try:
        return JudgeSettings.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        known = ", ".join(JudgeSettings.model_fields)
        if first["type"] == "extra_forbidden":
            raise JudgeError(f"{source}: unknown key `{key}`. Known keys: {known}") from error
        said = first["msg"].removeprefix("Value error, ")
        shown = "" if key == "key_env" else f" is {first['input']!r}"  # somebody may have put the key itself there
        place = f"{source}: key `{key}`{shown}: " if key else f"{source}: "
        raise JudgeError(f"{place}{said}") from error


def _secrets(value: Any) -> Iterator[str]:
    """Keys, with those that they lie in, whose name or value is that of a secret; YAML's aliases are followed once."""
    seen: set[int] = set()
    todo: list[tuple[Any, str]] = [(value, "")]
    while todo:
        inner, place = todo.pop()
        if isinstance(inner, str):
            if SECRET.search(inner):
                yield place
        elif isinstance(inner, dict | list | tuple) and id(inner) not in seen:
            seen.add(id(inner))
            pairs = inner.items() if isinstance(inner, dict) else ((None, part) for part in inner)
            for name, part in pairs:
                key = place if name is None else f"{place}.{name}" if place else str(name)
                if name is not None and part is not None and _SECRET_NAME.fullmatch(str(name)):
                    yield key
                todo.append((part, key))
