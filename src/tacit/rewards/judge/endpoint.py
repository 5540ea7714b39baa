"""A judge behind any endpoint in the manner of OpenAI: `/chat/completions` or `/completions`, with logprobs.

`tacit.models.server` says which calls are tried again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

from tacit.errors import MissingExtra, extra_installed
from tacit.models.server import Server, body_of
from tacit.rewards.judge.calls import Call, Reply
from tacit.rewards.judge.questions import Messages, as_text, label_logprobs
from tacit.rewards.judge.settings import JudgeError, JudgeSettings

_VERDICT_TOKENS = 2
"""Tokens asked for where a label is: the second one tells 1 from 10."""


@dataclass
class Endpoint:
    """A backend over HTTP."""

    settings: JudgeSettings

    def __post_init__(self) -> None:
        if not extra_installed("httpx2"):
            raise MissingExtra("api", "a judge behind an endpoint")

    @property
    def identity(self) -> dict[str, Any]:
        """Address, interface, model and further keys."""
        settings = self.settings
        return {
            "base_url": settings.base_url.rstrip("/"),
            "api": settings.api,
            "model": settings.model,
            "top_logprobs": settings.top_logprobs,
            "extra": settings.extra,
        }

    def answers(self, calls: Sequence[Call]) -> Generator[tuple[int, Reply], None, None]:
        """Replies as they come in, `concurrency` calls at once; after a failure those under way are still handed on."""
        settings = self.settings
        server = Server(
            settings.base_url,
            "a judge behind an endpoint",
            JudgeError,
            settings.key_env,
            settings.timeout,
            settings.retries,
            settings.backoff,
            settings.concurrency,
            "Answers so far are kept where there is a cache: run again to go on",
        )
        path = "/chat/completions" if settings.api == "chat" else "/completions"
        yield from server.post(
            path, [self._body(call) for call in calls], lambda number, text: self._reply(calls[number], text)
        )

    def excess(self, messages: Messages, reserve: int) -> int:
        """Characters beyond `max_characters`; what is to come is not counted."""
        limit = self.settings.max_characters
        return 0 if limit is None else max(0, sum(len(content) for _, content in messages) - limit)

    def cut(self, text: str, excess: int, *, end: bool) -> tuple[str, int]:
        """Characters off the end or the beginning."""
        drop = min(excess, len(text))
        return (text[: len(text) - drop] if end else text[drop:]), drop

    def _body(self, call: Call) -> bytes:
        settings, labels = self.settings, call.labels
        body: dict[str, Any] = {"model": settings.model, "temperature": call.temperature, "seed": call.seed}
        body["max_tokens"] = _VERDICT_TOKENS if labels else call.max_tokens
        if settings.api == "chat":
            body["messages"] = [{"role": role, "content": content} for role, content in call.messages]
            if labels:
                body |= {"logprobs": True, "top_logprobs": settings.top_logprobs}
        else:
            body["prompt"] = as_text(call.messages)
            if labels:
                body["logprobs"] = settings.top_logprobs
        return body_of(body | settings.extra)

    def _reply(self, call: Call, text: str) -> Reply:
        """The reply in a response's JSON; raises an ordinary error where it is not what it should be."""
        value = json.loads(text)
        choice = value["choices"][0]
        said = choice["message"].get("content") if self.settings.api == "chat" else choice["text"]
        used = value.get("usage") or {}
        tokens = int(used.get("prompt_tokens") or 0), int(used.get("completion_tokens") or 0)
        if call.labels is None:
            if not isinstance(said, str):
                raise ValueError("no text")
            return Reply(said, None, (), *tokens)
        given = choice.get("logprobs")
        if not given:
            raise JudgeError(
                f"{self.settings.base_url} gives no token probabilities for `{self.settings.model}`. Use read: text"
            )
        positions = _chat_positions(given) if self.settings.api == "chat" else _plain_positions(given)
        place = next((i for i, (token, _) in enumerate(positions) if token.strip()), 0)
        first, top = positions[place]
        second = positions[place + 1][1] if place + 1 < len(positions) else []
        found = label_logprobs(top, call.labels, second, first)
        return Reply(said or first, found, tuple(logprob for _, logprob in top), *tokens)


Position = tuple[str, list[tuple[str, float]]]
"""A token, and its alternatives with their log-probabilities."""


def _chat_positions(given: Any) -> list[Position]:
    return [
        (str(at["token"]), _finite([(str(one["token"]), one["logprob"]) for one in at["top_logprobs"]] or [
            (str(at["token"]), at["logprob"])
        ]))
        for at in given["content"]
    ]  # fmt: skip


def _plain_positions(given: Any) -> list[Position]:
    tokens = [str(token) for token in given["tokens"]]
    return [(token, _finite(list(top.items()))) for token, top in zip(tokens, given["top_logprobs"], strict=True)]


def _finite(top: list[tuple[str, Any]]) -> list[tuple[str, float]]:
    """Log-probabilities, none above 0; minus infinity is left out, anything else that is not finite is an error."""
    numbers = [(token, float(logprob)) for token, logprob in top if logprob != -math.inf]
    if not numbers or not all(math.isfinite(logprob) for _, logprob in numbers):
        raise ValueError("log-probabilities that are not numbers")
    return [(token, min(0.0, logprob)) for token, logprob in numbers]
