"""A policy behind a server that is played here."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tacit.policies.contract import Policy, Sampling
from tacit.policies.tokens import PolicyError

httpx2 = pytest.importorskip("httpx2")

from tacit.policies.endpoint import EndpointPolicy  # noqa: E402


class Played:
    """A server that answers with the prompt, the seed and the number of the call; `faults` come first."""

    def __init__(self, *faults: Callable[[Any], Any]) -> None:
        self.faults, self.bodies, self.lock = list(faults), list[dict[str, Any]](), threading.Lock()
        self.paths: list[str] = []
        self.headers: list[Any] = []
        self.now = self.most = 0

    def __call__(self, request: Any) -> Any:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
            fault = self.faults.pop(0) if self.faults else None
            body = json.loads(request.content)
            self.bodies.append(body)
            self.paths.append(request.url.path)
            self.headers.append(request.headers)
        try:
            if fault is not None:
                return fault(request)
            time.sleep(0.01)
            said = body["messages"][-1]["content"] if "messages" in body else body["prompt"]
            text = f"{said} {body['seed']}"
            finish = "length" if "cut" in said else "stop"
            choice: dict[str, Any] = {"index": 0, "finish_reason": finish}
            if "messages" in body:
                choice["message"] = {"role": "assistant", "content": text}
                if body.get("logprobs"):
                    choice["logprobs"] = {"content": [{"token": "a", "logprob": -0.5}, {"token": "b", "logprob": -1.0}]}
            else:
                choice["text"] = text
                if body.get("logprobs"):
                    choice["logprobs"] = {"tokens": ["a"], "token_logprobs": [-0.25], "top_logprobs": [{}]}
            return httpx2.Response(200, json={"choices": [choice]})
        finally:
            with self.lock:
                self.now -= 1


def policy(server: Played, **options: Any) -> EndpointPolicy:
    options = {"backoff": 0.0, **options}
    return EndpointPolicy("http://played/v1", "tiny", transport=httpx2.MockTransport(server), **options)


def test_samples_come_in_order_with_seeds_of_their_own() -> None:
    server = Played()
    served = policy(server, concurrency=3)
    assert isinstance(served, Policy)
    texts = served.generate(["one", [{"role": "user", "content": "two"}]], 4, Sampling(seed=7))
    assert [[text.split()[0] for text in row] for row in texts] == [["one"] * 4, ["two"] * 4]
    assert len({text.split()[1] for row in texts for text in row}) == 8
    assert policy(Played()).generate(["two"], 4, Sampling(seed=7), first=4) == [texts[1]]
    assert 1 < server.most <= 3
    assert set(server.paths) == {"/v1/chat/completions"}
    assert "top_k" not in server.bodies[0]
    assert "logprobs" not in server.bodies[0]


def test_options_reach_the_server() -> None:
    server = Played()
    sampling = Sampling(max_new_tokens=5, temperature=0.5, top_k=3, top_p=0.9, min_p=0.1, stop=("\n",))
    policy(server, extra={"seed": 1, "temperature": None, "cache": True}).generate(["x"], 1, sampling)
    (body,) = server.bodies
    assert body == {
        "model": "tiny", "max_tokens": 5, "seed": 1, "top_p": 0.9, "top_k": 3, "min_p": 0.1, "stop": ["\n"],
        "messages": [{"role": "user", "content": "x"}], "cache": True,
    }  # fmt: skip


@pytest.mark.parametrize(("api", "logprobs"), [("chat", (-0.5, -1.0)), ("completions", (-0.25,))])
def test_logprobs_and_endings_where_offered(api: Any, logprobs: tuple[float, ...]) -> None:
    answers = policy(Played(), api=api, logprobs=True).answers(["x", "cut"])
    assert [row[0].logprobs for row in answers] == [logprobs] * 2
    assert [row[0].ended for row in answers] == [True, False]
    assert policy(Played(), api=api).answers(["x"])[0][0].logprobs is None


def test_what_may_pass_is_tried_again() -> None:
    def timeout(request: Any) -> Any:
        raise httpx2.ReadTimeout("slow", request=request)

    def lost(request: Any) -> Any:
        raise httpx2.ConnectError("gone", request=request)

    server = Played(
        timeout, lost, lambda _: httpx2.Response(503, text="busy"), lambda _: httpx2.Response(200, text="{}"),
        lambda _: httpx2.Response(429, headers={"retry-after": "0"}),
    )  # fmt: skip
    assert policy(server, concurrency=1).generate(["x"])[0][0].startswith("x ")
    assert len(server.bodies) == 6


def test_a_refusal_is_final_and_keeps_the_key_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "sk-12345")
    server = Played(lambda _: httpx2.Response(401, json={"error": {"message": "bad key sk-12345"}}))
    with pytest.raises(PolicyError, match=r"refuses the call: HTTP 401: bad key \*\*\*"):
        policy(server, key_env="SECRET_KEY").generate(["x"])
    assert len(server.bodies) == 1
    assert server.headers[0]["authorization"] == "Bearer sk-12345"
    for key in ("sk-12345", "hf_0123456789abcdefghij"):
        with pytest.raises(PolicyError, match="key_env takes the name of an environment variable") as caught:
            policy(Played(), key_env=key).generate(["x"])
        assert key not in str(caught.value)
    with pytest.raises(PolicyError, match="NO_SUCH_KEY is empty"):
        policy(Played(), key_env="NO_SUCH_KEY").generate(["x"])


def test_a_server_that_never_answers_is_named() -> None:
    def lost(request: Any) -> Any:
        raise httpx2.ConnectError("connection refused", request=request)

    with pytest.raises(PolicyError, match=r"http://played/v1/chat/completions failed 3 times, .*connection refused"):
        policy(Played(*[lost] * 3), retries=2).generate(["x"])


def test_bad_options_are_said_before_any_call() -> None:
    server = Played()
    for sampling in (Sampling(temperature=-1), Sampling(top_p=0), Sampling(max_new_tokens=0), Sampling(stop=("",))):
        with pytest.raises(PolicyError):
            policy(server).generate(["x"], 1, sampling)
    with pytest.raises(PolicyError, match="n is 0"):
        policy(server).generate(["x"], 0)
    assert not server.bodies
