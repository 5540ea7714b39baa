"""A judge behind any endpoint in the manner of OpenAI: `/chat/completions` or `/completions`, with logprobs.

A time-out, a lost connection, a reply that is not what it should be, HTTP 408, 409, 425, 429 and 5xx are tried again,
later and later; every other refusal is final. The key comes from the environment and goes into one header.
"""

from __future__ import annotations

import json
import math
import os
import random
import threading
from collections.abc import Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

from tacit.errors import MissingExtra, extra_installed
from tacit.rewards.judge.calls import Call, Reply
from tacit.rewards.judge.questions import Messages, as_text, label_logprobs
from tacit.rewards.judge.settings import JudgeError, JudgeSettings

_AGAIN = (408, 409, 425, 429)
_LONGEST_WAIT = 60.0
_VERDICT_TOKENS = 2
"""Tokens asked for where a label is: the second one tells 1 from 10."""


@dataclass
class Endpoint:
    """A backend over HTTP."""

    settings: JudgeSettings
    _stop: threading.Event = field(default_factory=threading.Event)

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
        import httpx2

        settings, self._stop = self.settings, threading.Event()
        headers = {"Authorization": f"Bearer {key}"} if (key := self._secret()) else {}
        limits = httpx2.Limits(max_connections=settings.concurrency)
        with (
            httpx2.Client(headers=headers, timeout=settings.timeout, limits=limits) as client,
            ThreadPoolExecutor(settings.concurrency) as pool,
        ):
            todo = iter(range(len(calls)))
            running: dict[Future[Reply], int] = {}
            failure: Exception | None = None
            try:
                while True:
                    while failure is None and len(running) < 2 * settings.concurrency:
                        number = next(todo, None)
                        if number is None:
                            break
                        running[pool.submit(self._ask, client, calls[number])] = number
                    if not running:
                        break
                    for done in wait(running, return_when=FIRST_COMPLETED).done:
                        number = running.pop(done)
                        if done.cancelled():
                            continue
                        error = done.exception()
                        if error is None:
                            yield number, done.result()
                        elif failure is None:
                            failure = error if isinstance(error, Exception) else JudgeError(str(error))
                            self._stop.set()
                            for waiting in running:
                                waiting.cancel()
            finally:
                self._stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
        if failure is not None:
            raise failure

    def excess(self, messages: Messages, reserve: int) -> int:
        """Characters beyond `max_characters`; what is to come is not counted."""
        limit = self.settings.max_characters
        return 0 if limit is None else max(0, sum(len(content) for _, content in messages) - limit)

    def cut(self, text: str, excess: int, *, end: bool) -> tuple[str, int]:
        """Characters off the end or the beginning."""
        drop = min(excess, len(text))
        return (text[: len(text) - drop] if end else text[drop:]), drop

    def _secret(self) -> str | None:
        name = self.settings.key_env
        if name is not None and not os.environ.get(name):
            raise JudgeError(f"the environment variable {name} is empty: put the key of {self.settings.base_url} there")
        return os.environ.get(name or "OPENAI_API_KEY") or None

    def _ask(self, client: Any, call: Call) -> Reply:
        """One call with its further tries; raises `JudgeError` with the last cause."""
        import httpx2

        settings = self.settings
        url = settings.base_url.rstrip("/") + ("/chat/completions" if settings.api == "chat" else "/completions")
        body = self._body(call)
        cause, asked_wait = "", 0.0
        for attempt in range(settings.retries + 1):
            if attempt:
                pause = min(_LONGEST_WAIT, settings.backoff * 2 ** (attempt - 1)) * random.uniform(0.75, 1.25)
                self._stop.wait(max(pause, asked_wait))
            if self._stop.is_set():
                raise JudgeError("stopped, since another call failed")
            asked_wait = 0.0
            try:
                response = client.post(url, content=body, headers={"Content-Type": "application/json"})
            except httpx2.TimeoutException:
                cause = f"no answer within {settings.timeout:g} s"
            except httpx2.TransportError as error:
                cause = f"no connection ({error})"
            except httpx2.HTTPError as error:
                cause = str(error)
            else:
                if response.status_code == 200:
                    try:
                        return self._reply(call, response.text)
                    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
                        cause = f"a reply that is no completion ({error}): {_short(response.text)}"
                else:
                    cause = f"HTTP {response.status_code}: {self._message(response)}"
                    if response.status_code not in _AGAIN and response.status_code < 500:
                        raise JudgeError(f"{url} refuses the call: {cause}")
                    asked_wait = _seconds(response.headers.get("retry-after"))
        raise JudgeError(
            f"{url} failed {settings.retries + 1} times, at last with {cause}. Answers so far are kept where there is "
            "a cache: run again to go on"
        )

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
        body = {key: value for key, value in (body | settings.extra).items() if value is not None}
        return json.dumps(body, allow_nan=False).encode("utf-8")

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

    def _message(self, response: Any) -> str:
        try:
            error = response.json()["error"]
            text = str(error["message"] if isinstance(error, dict) else error)
        except (ValueError, KeyError, TypeError):
            text = str(response.text)
        secret = os.environ.get(self.settings.key_env or "OPENAI_API_KEY")
        return _short(text.replace(secret, "***") if secret else text)


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


def _seconds(header: str | None) -> float:
    try:
        return min(_LONGEST_WAIT, max(0.0, float(header or 0)))
    except ValueError:
        return 0.0


def _short(text: str, limit: int = 160) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"
