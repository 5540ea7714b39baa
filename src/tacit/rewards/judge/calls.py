"""Calls to a judge: what one is, how finished ones are kept, what they cost.

A call's key is the digest of everything that shapes its answer: where it goes, its messages, labels, temperature, seed.
With a folder every answer lies in a file of its own, `ab/abcdef....json`, written under a temporary name and renamed:
a run that was killed goes on where it stopped, several runs may share the folder, and a damaged file is asked again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tacit.artefacts import atomic_file
from tacit.progress import track
from tacit.rewards.judge.questions import Messages
from tacit.rewards.judge.settings import JudgeError, Prices

VERSION = 1
"""Part of every key: raised whenever an answer would be read in another way."""


@dataclass(frozen=True)
class Call:
    """One question."""

    messages: Messages
    labels: tuple[str, ...] | None
    """Answers whose probabilities are asked for; None asks for text."""
    temperature: float = 0.0
    seed: int = 0
    max_tokens: int = 1


@dataclass(frozen=True)
class Reply:
    """One answer."""

    text: str
    logprobs: dict[str, float] | None = None
    """log P of each label that was found, where labels were asked for."""
    top: tuple[float, ...] = ()
    """log P of the first token's alternatives, where an endpoint gives only the most probable ones."""
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Backend(Protocol):
    """Where a judge runs."""

    @property
    def identity(self) -> dict[str, Any]:
        """What of it shapes an answer: the endpoint and model, or the digest of a local model."""
        ...

    def answers(self, calls: Sequence[Call]) -> Generator[tuple[int, Reply], None, None]:
        """(number of the call, reply) as they are finished; raises `JudgeError` with the cause where one fails."""
        ...

    def excess(self, messages: Messages, reserve: int) -> int:
        """By how much the messages, with `reserve` tokens to come, are too long, in a unit of its own; 0: they fit."""
        ...

    def cut(self, text: str, excess: int, *, end: bool) -> tuple[str, int]:
        """The text without up to `excess` at its end (or beginning), and how much is gone."""
        ...


@dataclass
class Usage:
    """What was asked, and what it cost."""

    calls: int = 0
    """Calls made."""
    cached: int = 0
    """Answers that were there already."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0
    """In the currency of `prices`."""
    unreadable: int = 0
    """Answers that were no verdict and counted as undecided."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


@dataclass
class Desk:
    """Asks a backend what it has not answered before."""

    backend: Backend
    folder: Path | None = None
    """Where answers are kept; in memory only unless given."""
    prices: Prices = field(default_factory=Prices)
    budget: float | None = None
    usage: Usage = field(default_factory=Usage)
    _memory: dict[str, Reply] = field(default_factory=dict)

    def ask(self, calls: Sequence[Call]) -> list[Reply]:
        """A reply to each call, in their order; equal calls are asked once, every answer is kept as soon as it is here.

        Raises `JudgeError` where a call fails, or where the budget is spent; what was answered stays kept.
        """
        identity = self.backend.identity
        keys = [self._key(identity, call) for call in calls]
        known: dict[str, Reply] = {}
        todo: dict[str, Call] = {}
        for key, call in zip(keys, calls, strict=True):
            if key in known or key in todo:
                continue
            reply = self._kept(key)
            if reply is None:
                todo[key] = call
            else:
                known[key] = reply
        self.usage.cached += len(known)
        names = list(todo)
        with contextlib.closing(self._answers(list(todo.values()))) as answers:
            for number, reply in track(answers, "asking the judge", total=len(todo)):
                known[names[number]] = reply
                self._keep(names[number], reply)
                self._count(reply, last=len(known) == len(set(keys)))
        return [known[key] for key in keys]

    def _answers(self, calls: Sequence[Call]) -> Generator[tuple[int, Reply], None, None]:
        if calls:
            yield from self.backend.answers(calls)

    def _count(self, reply: Reply, *, last: bool) -> None:
        usage, prices = self.usage, self.prices
        usage.calls += 1
        usage.prompt_tokens += reply.prompt_tokens
        usage.completion_tokens += reply.completion_tokens
        usage.cost += (reply.prompt_tokens * prices.prompt + reply.completion_tokens * prices.completion) / 1e6
        if self.budget is not None and not last and usage.cost >= self.budget:
            raise JudgeError(
                f"the budget of {self.budget:g} is spent after {usage.calls} calls. Their answers are kept: raise "
                "`budget` and run again to go on"
            )

    def _key(self, identity: dict[str, Any], call: Call) -> str:
        text = json.dumps([VERSION, identity, asdict(call)], sort_keys=True)
        return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()

    def _kept(self, key: str) -> Reply | None:
        if self.folder is None:
            return self._memory.get(key)
        try:
            value = json.loads((self.folder / key[:2] / f"{key}.json").read_text("utf-8"))
            value["top"] = tuple(value["top"])
            reply = Reply(**value)
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return None
        numbers = [*reply.top, *(reply.logprobs or {}).values()]
        return reply if all(math.isfinite(number) for number in numbers) else None

    def _keep(self, key: str, reply: Reply) -> None:
        if self.folder is None:
            self._memory[key] = reply
            return
        with atomic_file(self.folder / key[:2] / f"{key}.json") as path:
            path.write_text(json.dumps(asdict(reply), allow_nan=False), "utf-8")
