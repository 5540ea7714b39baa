"""Calls to a server that speaks OpenAI's dialect: several at once, tried again where that may help.

A time-out, a lost connection, a reply that is not what it should be, HTTP 408, 409, 425, 429 and 5xx are tried again,
later and later; every other refusal is final. The key comes from the environment and goes into one header.
"""

from __future__ import annotations

import json
import os
import random
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tacit.errors import MissingExtra, TacitError, extra_installed

T = TypeVar("T")

_AGAIN = (408, 409, 425, 429)
_LONGEST_WAIT = 60.0


@dataclass
class Server:
    """Where calls go, and how often they are tried."""

    base_url: str
    """As http://localhost:8000/v1."""
    purpose: str = "an endpoint"
    """Who needs it, for messages."""
    error: type[TacitError] = TacitError
    """What is raised where a call fails."""
    key_env: str | None = None
    """Environment variable that holds the key; OPENAI_API_KEY, if set, unless given."""
    timeout: float = 60.0
    """Seconds that a call may take."""
    retries: int = 5
    """Further tries."""
    backoff: float = 1.0
    """Seconds before the second try; doubled each time, up to 60, and never less than the server asks for."""
    concurrency: int = 8
    """Calls under way at once."""
    afterwards: str = ""
    """Said at the end of a failure."""
    transport: Any = None
    """An httpx2 transport in place of the network."""
    _stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        if not extra_installed("httpx2"):
            raise MissingExtra("api", self.purpose)

    def post(
        self, path: str, bodies: Sequence[bytes], read: Callable[[int, str], T]
    ) -> Generator[tuple[int, T], None, None]:
        """(number, what `read` makes of the reply) as calls come back; those under way at a failure are handed on.

        `read` gets the number of the call and the reply's text; an ordinary error says that it is no such reply.
        """
        import httpx2

        self._stop = threading.Event()
        headers = {"Authorization": f"Bearer {key}"} if (key := self._secret()) else {}
        limits = httpx2.Limits(max_connections=self.concurrency)
        with (
            httpx2.Client(headers=headers, timeout=self.timeout, limits=limits, transport=self.transport) as client,
            ThreadPoolExecutor(self.concurrency) as pool,
        ):
            todo = iter(range(len(bodies)))
            running: dict[Future[T], int] = {}
            failure: Exception | None = None
            try:
                while True:
                    while failure is None and len(running) < 2 * self.concurrency:
                        number = next(todo, None)
                        if number is None:
                            break
                        running[pool.submit(self._ask, client, path, bodies[number], number, read)] = number
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
                            failure = error if isinstance(error, Exception) else self.error(str(error))
                            self._stop.set()
                            for waiting in running:
                                waiting.cancel()
            finally:
                self._stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
        if failure is not None:
            raise failure

    def _secret(self) -> str | None:
        name = self.key_env
        if name is not None and not os.environ.get(name):
            raise self.error(f"the environment variable {name} is empty: put the key of {self.base_url} there")
        return os.environ.get(name or "OPENAI_API_KEY") or None

    def _ask(self, client: Any, path: str, body: bytes, number: int, read: Callable[[int, str], T]) -> T:
        """One call with its further tries; raises `error` with the last cause."""
        import httpx2

        url = self.base_url.rstrip("/") + path
        cause, asked_wait = "", 0.0
        for attempt in range(self.retries + 1):
            if attempt:
                pause = min(_LONGEST_WAIT, self.backoff * 2 ** (attempt - 1)) * random.uniform(0.75, 1.25)
                self._stop.wait(max(pause, asked_wait))
            if self._stop.is_set():
                raise self.error("stopped, since another call failed")
            asked_wait = 0.0
            try:
                response = client.post(url, content=body, headers={"Content-Type": "application/json"})
            except httpx2.TimeoutException:
                cause = f"no answer within {self.timeout:g} s"
            except httpx2.TransportError as error:
                cause = f"no connection ({error})"
            except httpx2.HTTPError as error:
                cause = str(error)
            else:
                if response.status_code == 200:
                    try:
                        return read(number, response.text)
                    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
                        cause = f"a reply that is no completion ({error}): {_short(response.text)}"
                else:
                    cause = f"HTTP {response.status_code}: {self._message(response)}"
                    if response.status_code not in _AGAIN and response.status_code < 500:
                        raise self.error(f"{url} refuses the call: {cause}")
                    asked_wait = _seconds(response.headers.get("retry-after"))
        ending = f". {self.afterwards}" if self.afterwards else ""
        raise self.error(f"{url} failed {self.retries + 1} times, at last with {cause}{ending}")

    def _message(self, response: Any) -> str:
        try:
            error = response.json()["error"]
            text = str(error["message"] if isinstance(error, dict) else error)
        except (ValueError, KeyError, TypeError):
            text = str(response.text)
        secret = os.environ.get(self.key_env or "OPENAI_API_KEY")
        return _short(text.replace(secret, "***") if secret else text)


def body_of(values: dict[str, Any]) -> bytes:
    """A request's body; values that are None are left out."""
    return json.dumps({key: value for key, value in values.items() if value is not None}, allow_nan=False).encode()


def _seconds(header: str | None) -> float:
    try:
        return min(_LONGEST_WAIT, max(0.0, float(header or 0)))
    except ValueError:
        return 0.0


def _short(text: str, limit: int = 160) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"
