"""Calls to a server that speaks OpenAI's dialect: several at once, tried again where that may help.

A time-out, a lost connection, a reply that is not what it should be, HTTP 408, 409, 425, 429 and 5xx are tried again,
later and later; every other refusal is final. The key comes from the environment and goes into one header, to one host,
which is said on stderr; what a server sends back is read without it.
"""

from __future__ import annotations

import json
import os
import random
import re
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

from tacit.errors import MissingExtra, TacitError, extra_installed

T = TypeVar("T")

_AGAIN = (408, 409, 425, 429)
_LONGEST_WAIT = 60.0
_SHORTEST_KEY = 8
"""Characters from which on a key is taken out of replies; a shorter one would be found in ordinary words."""
SECRET = re.compile(
    r"\b(?:sk-[\w-]{20,}|(?:hf|gsk|gh[pousr])_[A-Za-z0-9]{20,}|xai-[A-Za-z0-9]{20,}|glpat-[\w-]{16,}|AIza[\w-]{30,}"
    r"|AKIA[A-Z0-9]{16}|Bearer [\w.-]{16,})"
)
"""What keys of well-known servers look like."""
_announced: set[tuple[str, str]] = set()


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
        if fault := address_fault(self.base_url):
            raise self.error(fault)

    def post(
        self, path: str, bodies: Sequence[bytes], read: Callable[[int, str], T]
    ) -> Generator[tuple[int, T], None, None]:
        """(number, what `read` makes of the reply) as calls come back; those under way at a failure are handed on.

        `read` gets the number of the call and the reply's text; an ordinary error says that it is no such reply.
        """
        import httpx2

        self._stop = threading.Event()
        headers = {}
        if key := self._secret():
            headers["Authorization"] = f"Bearer {key}"
            self._announce()
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
        """The key, without white space around it; raises `error` where it is missing or no header can hold it."""
        name = self.key_env or "OPENAI_API_KEY"
        if not re.fullmatch(r"[A-Za-z_]\w{0,80}", name) or SECRET.search(name):
            raise self.error("key_env takes the name of an environment variable, not the key itself: MY_API_KEY, say")
        key = (os.environ.get(name) or "").strip()
        if self.key_env is not None and not key:
            raise self.error(f"the environment variable {name} is empty: put the key of {self.base_url} there")
        if not re.fullmatch(r"[!-~]*", key):
            raise self.error(f"the environment variable {name} holds no key: give it printable ASCII without spaces")
        return key or None

    def _announce(self) -> None:
        """Say once which key goes to which host."""
        name, address = self.key_env or "OPENAI_API_KEY", urlsplit(self.base_url)
        if (name, address.netloc) in _announced:
            return
        _announced.add((name, address.netloc))
        open_way = address.scheme != "https" and address.hostname not in ("localhost", "127.0.0.1", "::1")
        print(
            f"tacit: sending the key in {name} to {address.netloc}{' unencrypted (http)' if open_way else ''}",
            file=sys.stderr,
        )

    def _without_key(self, text: str) -> str:
        key = self._secret()
        return text if key is None or len(key) < _SHORTEST_KEY else text.replace(key, "***")

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
            except (httpx2.InvalidURL, UnicodeError) as error:
                raise self.error(f"{url} is no address ({error}). Give one such as http://localhost:8000/v1") from error
            else:
                text = self._without_key(response.text)
                if response.status_code == 200:
                    try:
                        return read(number, text)
                    except (KeyError, IndexError, TypeError, ValueError, AttributeError, RecursionError) as error:
                        cause = f"a reply that is no completion ({error}): {_short(text)}"
                else:
                    cause = f"HTTP {response.status_code}: {_message(text)}"
                    if response.status_code not in _AGAIN and response.status_code < 500:
                        raise self.error(f"{url} refuses the call: {cause}")
                    asked_wait = _seconds(response.headers.get("retry-after"))
        ending = f". {self.afterwards}" if self.afterwards else ""
        raise self.error(f"{url} failed {self.retries + 1} times, at last with {cause}{ending}")


def address_fault(base_url: str) -> str | None:
    """What is wrong with the address of a server, without the secret that it may hold; None where nothing is."""
    try:
        address = urlsplit(base_url)
        port = address.port
    except ValueError:
        return "the server's address cannot be read. Give one such as http://localhost:8000/v1"
    if address.username is not None or address.password is not None or address.query or address.fragment:
        return (
            "the server's address holds a user, a password or a query. Give one such as https://host/v1, and put the "
            "key into an environment variable"
        )
    if address.scheme not in ("http", "https") or not address.hostname or port == 0:
        return f"{base_url} is no server's address. Give one such as http://localhost:8000/v1"
    return None


def _message(text: str) -> str:
    """What the body of a refusal says."""
    try:
        error = json.loads(text)["error"]
        return _short(str(error["message"] if isinstance(error, dict) else error))
    except (ValueError, KeyError, TypeError, RecursionError):
        return _short(text)


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
