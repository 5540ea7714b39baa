"""A judge behind a local server that speaks OpenAI's dialect, good and bad, and a judge on a tiny model."""

from __future__ import annotations

import hashlib
import json
import math
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import tacit
from numerics import ROUNDING, assert_float32_close
from tacit.errors import ArtefactError, EvidenceError, TacitError
from tacit.evidence.records import Comparison, Outcome, Rating
from tacit.rewards.check import EXAMPLES, check_reward
from tacit.rewards.contract import Comparing
from tacit.rewards.judge import Judge, JudgeError, JudgeSettings, PairwiseJudge, fit, judge_of, read_settings
from tacit.rewards.judge.calibration import calibrate, nll
from tacit.rewards.judge.calls import Usage
from tacit.rewards.judge.questions import expected, label_logprobs, label_of, log_odds, question
from tacit.rewards.judge.reward import _shares

pytest.importorskip("httpx2")

KEY = "sk-very-secret"


def quality(text: str) -> float:
    """What the server thinks of an answer, between -2 and 2: +1 for thanks, -1 for shouting, a little of chance."""
    chance = int(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=4).hexdigest(), 16) / 2**32 - 0.5
    return 1.5 * ("thank" in text) - 1.5 * ("NO" in text) + chance


def between(text: str, name: str) -> str:
    found = re.search(rf"<{name}>\n(.*?)\n</{name}>", text, re.DOTALL)
    return found[1] if found else ""


class FakeServer:
    """Answers as a judge would; `faults` are played first, one a call; `answer` may be replaced."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.faults: list[Callable[[BaseHTTPRequestHandler], None]] = []
        self.paths: Counter[str] = Counter()
        self.headers: list[dict[str, str]] = []
        self.bias = 0.7  # log-odds in favour of answer A, whatever it is
        self.lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer.lock:
                    outer.requests.append(body)
                    outer.paths[self.path] += 1
                    outer.headers.append(dict(self.headers))
                    fault = outer.faults.pop(0) if outer.faults else None
                if fault is not None:
                    fault(self)
                    return
                reply(self, 200, json.dumps(outer.answer(body)))

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        text = body.get("prompt") or "\n".join(message["content"] for message in body["messages"])
        usage = {"prompt_tokens": len(text), "completion_tokens": 3}
        if not body.get("logprobs"):
            said = self.text(text, body)
            choice: dict[str, Any] = {"message": {"role": "assistant", "content": said}}
            return {"choices": [choice if "messages" in body else {"text": said}], "usage": usage}
        top = self.top(text)
        if "messages" in body:
            content = [{"token": top[0][0], "logprob": top[0][1], "top_logprobs": listed(top)}]
            return {"choices": [{"message": {"content": top[0][0]}, "logprobs": {"content": content}}], "usage": usage}
        logprobs = {"tokens": [top[0][0]], "top_logprobs": [dict(top)]}
        return {"choices": [{"text": top[0][0], "logprobs": logprobs}], "usage": usage}

    def odds(self, text: str) -> float:
        if "<answer A>" in text:
            return quality(between(text, "answer A")) - quality(between(text, "answer B")) + self.bias
        return 2 * quality(between(text, "answer")) + ("too bold" in text)

    def top(self, text: str) -> list[tuple[str, float]]:
        if "from 1 " in text:
            weights = {str(v): -((v - 5.5 - 2 * self.odds(text)) ** 2) for v in range(1, 11)}
            norm = math.log(sum(math.exp(w) for w in weights.values()))
            return sorted(((t, w - norm) for t, w in weights.items()), key=lambda pair: -pair[1])
        yes = 1 / (1 + math.exp(-self.odds(text)))
        first, second = ("A", "B") if "<answer A>" in text else ("Yes", "No")
        shares = {first: 0.6 * yes, f" {first}": 0.3 * yes, second: 0.9 * (1 - yes), "Hmm": 0.1}
        return sorted(((t, math.log(p)) for t, p in shares.items()), key=lambda pair: -pair[1])

    def text(self, text: str, body: dict[str, Any]) -> str:
        if "critique" in text and "verdict yet" in text and "messages" in body and len(body["messages"]) == 1:
            return "This is too bold." if body["seed"] % 2 else "Nothing wrong."
        if "from 1 " in text:
            return f"Score: {min(10, max(1, round(5.5 + 2 * self.odds(text))))}/10"
        draw = hashlib.blake2b(f"{body['seed']}{text}".encode("utf-8", "replace"), digest_size=4).hexdigest()
        yes = int(draw, 16) / 2**32 < 1 / (1 + math.exp(-self.odds(text)))
        if "<answer A>" in text:
            return "Answer A is better." if yes else "B"
        return "Yes." if yes else "**No**, it is not."


def listed(top: list[tuple[str, float]]) -> list[dict[str, Any]]:
    return [{"token": token, "logprob": logprob} for token, logprob in top]


def reply(handler: BaseHTTPRequestHandler, status: int, text: str, **headers: str) -> None:
    data = text.encode()
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)


def hang(handler: BaseHTTPRequestHandler) -> None:
    """Says nothing until the client has gone."""
    handler.connection.recv(1)


def drop(handler: BaseHTTPRequestHandler) -> None:
    handler.connection.close()


@pytest.fixture
def server() -> Iterator[FakeServer]:
    fake = FakeServer()
    yield fake
    fake.server.shutdown()
    fake.server.server_close()


@pytest.fixture
def make(server: FakeServer) -> Callable[..., Judge]:
    def made(cache: Path | None = None, **settings: Any) -> Judge:
        fast = {"model": "m", "base_url": server.url, "backoff": 0.001, "retries": 3, "timeout": 5.0}
        return judge_of(JudgeSettings(**(fast | settings)), cache=cache)

    return made


PROMPTS = ["How do I boil an egg?", "How do I boil an egg?", "Who?"]
COMPLETIONS = ["thank you, six minutes", "NO WAY", "me {prompt} {completion}"]


# --- reading answers --------------------------------------------------------------------------------------------------


def test_surface_forms_of_a_label_are_added() -> None:
    top = [("Yes", math.log(0.4)), (" yes", math.log(0.1)), ("**No**", math.log(0.2)), ("Yesterday", math.log(0.3))]
    found = label_logprobs(top, ("Yes", "No"))
    assert math.exp(found["Yes"]) == pytest.approx(0.5)
    assert math.exp(found["No"]) == pytest.approx(0.2)
    assert log_odds(found, ("Yes", "No")) == pytest.approx(math.log(0.5 / 0.2))
    assert [label_of(token, ("A", "B")) for token in ("A", " A", "(A)", "a", "▁B", "Ab")] == [
        "A",
        "A",
        "A",
        None,
        "B",
        None,
    ]


def test_a_label_beyond_the_list_is_bounded_by_what_is_left() -> None:
    top = [math.log(0.9), math.log(0.06)]
    assert log_odds({"Yes": top[0]}, ("Yes", "No"), top) == pytest.approx(math.log(0.9 / 0.04))
    assert log_odds({"No": math.log(0.9)}, ("Yes", "No"), [math.log(0.9), math.log(0.01)]) == pytest.approx(
        -math.log(0.9 / 0.01)
    )
    assert log_odds({}, ("Yes", "No"), top) is None


def test_a_number_in_two_tokens_takes_its_share() -> None:
    labels = tuple(str(value) for value in range(1, 11))
    top, second = [("1", math.log(0.8)), ("2", math.log(0.2))], [("0", math.log(0.75)), ("\n", math.log(0.25))]
    found = label_logprobs(top, labels, second, "1")
    assert {label: round(math.exp(value), 6) for label, value in found.items()} == {"1": 0.2, "2": 0.2, "10": 0.6}
    assert expected(found) == pytest.approx(0.2 + 0.4 + 6)
    whole = label_logprobs([("10", math.log(0.5)), ("1", math.log(0.5))], labels)
    assert expected(whole) == pytest.approx(5.5)


def test_texts_are_filled_in_once() -> None:
    settings = JudgeSettings(model="m", template="{prompt}|{completion}|{other}", instruction="Yes or No?")
    ((role, content),) = question(settings, {"prompt": "{completion}", "completion": "{prompt}"})
    assert (role, content) == ("user", "{completion}|{prompt}|{other}\n\nYes or No?")


# --- modes over HTTP --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("api", ["chat", "completions"])
def test_yes_no_is_the_log_odds_of_the_tokens(make: Any, server: FakeServer, api: str) -> None:
    judge = make(api=api)
    scores = judge.score(PROMPTS, COMPLETIONS)
    assert_float32_close(scores, [2 * quality(c) for c in COMPLETIONS])
    assert scores.dtype == np.float32
    assert server.paths == {("/v1/chat/completions" if api == "chat" else "/v1/completions"): 3}
    assert judge.usage["calls"] == 3
    assert judge.usage["completion_tokens"] == 9


def test_rubric_is_the_expected_number(make: Any, server: FakeServer) -> None:
    scores = make(mode="rubric").score(PROMPTS, COMPLETIONS)
    for score, completion in zip(scores, COMPLETIONS, strict=True):
        numbers = np.arange(1, 11)
        weights = np.exp(-((numbers - 5.5 - 4 * quality(completion)) ** 2))
        assert score == pytest.approx((numbers * weights).sum() / weights.sum(), abs=1e-4)
    parsed = make(mode="rubric", read="text").score(PROMPTS, COMPLETIONS)
    np.testing.assert_allclose(parsed, [min(10, max(1, round(5.5 + 4 * quality(c)))) for c in COMPLETIONS])


def test_pairwise_is_free_of_the_order(make: Any, server: FakeServer) -> None:
    judge = make(mode="pairwise")
    assert isinstance(judge, Comparing)
    assert not isinstance(make(), Comparing)
    first, second = ["thank you", "NO", "same"], ["NO", "thank you", "same"]
    odds = judge.compare(["q"] * 3, first, second)
    truth = [quality(a) - quality(b) for a, b in zip(first, second, strict=True)]
    assert_float32_close(odds, truth)  # the server's bias for A is gone
    np.testing.assert_array_equal(judge.compare(["q"] * 3, second, first), -odds)
    one = make(mode="pairwise", references=["NO", "fine"]).score(["q"], ["thank you"])[0]
    wins = [1 / (1 + math.exp(-(quality("thank you") - quality(other)))) for other in ("NO", "fine")]
    assert 1 / (1 + math.exp(-one)) == pytest.approx(np.mean(wins), abs=1e-6)


def test_votes_are_the_share_of_the_samples(make: Any, server: FakeServer) -> None:
    judge = make(read="text", samples=9, seed=5)
    score = judge.score(PROMPTS[2:], COMPLETIONS[2:])[0]
    assert sorted(request["seed"] for request in server.requests) == list(range(5, 14))
    assert all(request["temperature"] == 0.7 for request in server.requests)
    asked = server.requests[0]["messages"][0]["content"]
    votes = sum(server.text(asked, {"seed": seed, "messages": []}).startswith("Yes") for seed in range(5, 14))
    assert 0 < votes < 9
    assert score == pytest.approx(math.log((votes + 0.5) / (9 - votes + 0.5)), abs=1e-6)


def test_critiques_come_first_and_their_probabilities_are_averaged(make: Any, server: FakeServer) -> None:
    score = make(critique=True, samples=2).score(PROMPTS[:1], COMPLETIONS[:1])[0]
    roles = [[message["role"] for message in request["messages"]] for request in server.requests]
    assert roles.count(["user"]) == 2
    assert roles.count(["user", "assistant", "user"]) == 2
    base = 2 * quality(COMPLETIONS[0])
    mean = np.mean([1 / (1 + math.exp(-base)), 1 / (1 + math.exp(-base - 1))])  # "too bold" moves the second one
    assert score == pytest.approx(math.log(mean / (1 - mean)), abs=1e-5)


def test_long_texts_lose_the_beginning_of_the_prompt_first(make: Any, server: FakeServer) -> None:
    make(max_characters=400).score(["x" * 900 + "END"], ["whole"])
    asked = server.requests[0]["messages"][0]["content"]
    assert len(asked) <= 400
    assert "xEND\n</request>" in asked
    assert between(asked, "answer") == "whole"
    make(max_characters=400).score(["short"], ["BEGIN" + "y" * 900])
    asked = server.requests[1]["messages"][0]["content"]
    assert len(asked) <= 400
    assert between(asked, "request") == ""
    assert between(asked, "answer").startswith("BEGINyyy")


@pytest.mark.parametrize(
    ("lengths", "excess", "shares"),
    [([10, 4], 5, [5, 0]), ([10, 4], 8, [7, 1]), ([10, 9, 1], 3, [2, 1, 0]), ([3, 3], 9, [3, 3]), ([5], 0, [0])],
)
def test_the_longest_answer_gives_first(lengths: list[int], excess: int, shares: list[int]) -> None:
    found = _shares(lengths, excess)
    assert sum(found) >= min(excess, sum(lengths))
    assert max(abs(a - b) for a, b in zip(found, shares, strict=True)) <= 1


# --- the contract -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [{}, {"mode": "rubric"}, {"mode": "pairwise"}, {"read": "text", "samples": 3}, {"critique": True}],
)
def test_the_contract_holds(make: Any, server: FakeServer, settings: dict[str, Any], tmp_path: Path) -> None:
    judge = make(tmp_path / "cache", **settings)
    bad = [str(finding) for finding in check_reward(judge, new_process=not settings) if not finding.ok]
    assert not bad, "\n".join(bad)


def test_the_key_goes_into_the_header_and_nowhere_else(
    make: Any, server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGE_API_KEY", KEY)
    judge = make(tmp_path / "cache", key_env="JUDGE_API_KEY")
    judge.score(PROMPTS, COMPLETIONS)
    assert all(headers["Authorization"] == f"Bearer {KEY}" for headers in server.headers)
    judge.save(tmp_path / "saved")
    saved = json.loads((tmp_path / "saved" / "reward.json").read_text())["settings"]
    assert "{completion}" in saved["template"]  # what it asks is kept, whatever a later version would ask
    assert tacit.load(tmp_path / "saved").settings.key_env == "JUDGE_API_KEY"
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or KEY not in path.read_text()
    server.faults = [lambda handler: reply(handler, 401, json.dumps({"error": {"message": f"bad key {KEY}"}}))]
    with pytest.raises(JudgeError, match=r"refuses the call: HTTP 401: bad key \*\*\*"):
        judge.score(["new"], ["row"])
    echo = {"choices": [{"text": KEY, "message": {"content": f"your key is {KEY}"}}]}
    for fault in (json.dumps(echo), f"<html>{KEY}", json.dumps({"error": f"no such key: {KEY}"})):
        server.faults = [lambda handler, fault=fault: reply(handler, 200, fault)] * 9  # type: ignore[misc]
        for settings in ({}, {"read": "text"}):
            with pytest.raises(JudgeError) as caught:
                make(tmp_path / "cache", key_env="JUDGE_API_KEY", retries=0, **settings).score(["odd"], ["row"])
            assert KEY not in str(caught.value)
    server.faults = []
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or KEY not in path.read_text()
    monkeypatch.delenv("JUDGE_API_KEY")
    with pytest.raises(JudgeError, match="environment variable JUDGE_API_KEY is empty"):
        judge.score(["another"], ["row"])


def test_which_key_goes_where_is_said_once(
    make: Any, server: FakeServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ANNOUNCED_API_KEY", KEY)
    judge = make(key_env="ANNOUNCED_API_KEY")
    judge.score(PROMPTS, COMPLETIONS)
    judge.score(["another"], ["row"])
    shown = capsys.readouterr()
    assert shown.err == f"tacit: sending the key in ANNOUNCED_API_KEY to 127.0.0.1:{server.server.server_port}\n"
    assert KEY not in shown.out
    monkeypatch.setenv("ANNOUNCED_API_KEY", f" {KEY}\n")
    judge.score(["white"], ["space"])
    assert server.headers[-1]["Authorization"] == f"Bearer {KEY}"
    for odd_key in ("two\nlines-of-a-key", "schlüssel", "two words"):
        monkeypatch.setenv("ANNOUNCED_API_KEY", odd_key)
        with pytest.raises(JudgeError, match="the environment variable ANNOUNCED_API_KEY holds no key") as caught:
            judge.score(["an odd"], ["key"])
        assert odd_key not in str(caught.value)


def test_a_saved_judge_that_names_another_variable_is_refused(make: Any, server: FakeServer, tmp_path: Path) -> None:
    make().save(tmp_path / "saved")
    manifest = json.loads((tmp_path / "saved" / "reward.json").read_text())
    manifest["settings"]["key_env"] = "AWS_SECRET_ACCESS_KEY"
    (tmp_path / "saved" / "reward.json").write_text(json.dumps(manifest))
    with pytest.raises(JudgeError, match=r"saved/reward.json: key `key_env`: name an environment variable"):
        tacit.load(tmp_path / "saved")


# --- failures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        lambda handler: reply(handler, 429, "slow down", Retry_After="0.01"),
        lambda handler: reply(handler, 500, "{}"),
        lambda handler: reply(handler, 200, "<html>no JSON"),
        lambda handler: reply(handler, 200, '{"choices": []}'),
        lambda handler: reply(handler, 200, json.dumps(odd(float("nan")))),
        drop,
        hang,
    ],
    ids=["429", "500", "no-json", "no-choice", "nan", "dropped", "time-out"],
)
def test_passing_failures_are_tried_again(make: Any, server: FakeServer, fault: Any) -> None:
    server.faults = [fault, fault]
    judge = make(concurrency=2, timeout=3 if fault is hang else 60)
    assert_float32_close(judge.score(PROMPTS, COMPLETIONS), [2 * quality(c) for c in COMPLETIONS])
    assert len(server.requests) == 5


def odd(logprob: float) -> dict[str, Any]:
    content = [{"token": "Yes", "logprob": logprob, "top_logprobs": [{"token": "Yes", "logprob": logprob}]}]
    return {"choices": [{"message": {"content": "Yes"}, "logprobs": {"content": content}}]}


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        (lambda handler: reply(handler, 500, '{"error": {"message": "out of memory"}}'), "HTTP 500: out of memory"),
        (lambda handler: reply(handler, 200, "<html>"), "a reply that is no completion .*<html>"),
        (
            lambda handler: reply(handler, 200, json.dumps(odd(float("nan")))),
            ".*log-probabilities that are not numbers",
        ),
        (hang, "no answer within 0.2 s"),
    ],
)
def test_lasting_failures_stop_with_their_cause(make: Any, server: FakeServer, fault: Any, cause: str) -> None:
    server.faults = [fault] * 100
    with pytest.raises(JudgeError, match=rf"failed 3 times, at last with {cause}"):
        make(concurrency=2, retries=2, timeout=0.2 if fault is hang else 60).score(PROMPTS, COMPLETIONS)
    assert len(server.requests) <= 9  # no call began after the first one had failed for good


def test_a_refusal_is_final(make: Any, server: FakeServer) -> None:
    server.faults = [lambda handler: reply(handler, 404, '{"error": "no model m"}')]
    with pytest.raises(JudgeError, match="refuses the call: HTTP 404: no model m"):
        make(concurrency=1).score(PROMPTS[:1], COMPLETIONS[:1])
    assert len(server.requests) == 1


def test_no_server_is_one_sentence(make: Any) -> None:
    with pytest.raises(JudgeError, match="at last with no connection"):
        make(base_url="http://127.0.0.1:9/v1", retries=1).score(["a"], ["b"])


def test_an_endpoint_without_probabilities_says_what_to_do(make: Any, server: FakeServer) -> None:
    plain = json.dumps({"choices": [{"message": {"content": "Yes"}}]})
    server.faults = [lambda handler: reply(handler, 200, plain)]
    with pytest.raises(JudgeError, match=r"gives no token probabilities for `m`. Use read: text"):
        make().score(["a"], ["b"])


def test_an_answer_that_is_no_verdict_stops_or_counts_as_undecided(make: Any, server: FakeServer) -> None:
    server.text = lambda text, body: "As a language model I cannot say."  # type: ignore[method-assign]
    with pytest.raises(JudgeError, match=r"'As a language .* to the prompt 'How do .* marks no verdict \(Yes or No\)"):
        make(read="text").score(PROMPTS, COMPLETIONS)
    judge = make(read="text", unreadable="neutral")
    assert_float32_close(judge.score(PROMPTS, COMPLETIONS), np.zeros(len(PROMPTS)), scale=1.0)
    assert judge.usage["unreadable"] == 3


# --- cache, cost, budget ----------------------------------------------------------------------------------------------


def test_finished_calls_are_never_made_again(make: Any, server: FakeServer, tmp_path: Path) -> None:
    first = make(tmp_path).score(PROMPTS, COMPLETIONS)
    assert len(server.requests) == 3
    again = make(tmp_path)
    np.testing.assert_array_equal(again.score(PROMPTS, COMPLETIONS), first)
    assert (len(server.requests), again.usage["cached"], again.usage["calls"]) == (3, 3, 0)
    make(tmp_path, model="other").score(PROMPTS[:1], COMPLETIONS[:1])
    make(tmp_path, template="Q {prompt} A {completion}").score(PROMPTS[:1], COMPLETIONS[:1])
    assert len(server.requests) == 5
    for path in (tmp_path / "judge").rglob("*.json"):
        path.write_text(path.read_text()[:10])  # damaged files are asked again
    np.testing.assert_array_equal(make(tmp_path).score(PROMPTS, COMPLETIONS), first)
    assert len(server.requests) == 8


def test_equal_rows_are_asked_once(make: Any, server: FakeServer) -> None:
    scores = make().score(["q"] * 50, ["a"] * 50)
    assert len(server.requests) == 1
    assert np.ptp(scores) == 0


def test_answers_before_a_failure_are_kept(make: Any, server: FakeServer, tmp_path: Path) -> None:
    completions = [f"answer {i}" for i in range(20)]
    answer = server.answer

    def failing(body: dict[str, Any]) -> dict[str, Any]:
        if "answer 15" in body["messages"][0]["content"]:
            return {"broken": True}
        return answer(body)

    server.answer = failing  # type: ignore[method-assign]
    with pytest.raises(JudgeError):
        make(tmp_path, concurrency=2, retries=0).score(["q"] * 20, completions)
    kept = len(list((tmp_path / "judge").rglob("*.json")))
    assert kept >= 10
    server.answer, before = answer, len(server.requests)  # type: ignore[method-assign]
    make(tmp_path).score(["q"] * 20, completions)
    assert len(server.requests) - before == 20 - kept


def test_a_killed_run_goes_on_where_it_stopped(server: FakeServer, tmp_path: Path) -> None:
    answer = server.answer

    def slow(body: dict[str, Any]) -> dict[str, Any]:
        time.sleep(0.02)
        return answer(body)

    server.answer = slow  # type: ignore[method-assign]
    code = (
        "from tacit.rewards.judge import JudgeSettings, judge_of\n"
        f"judge = judge_of(JudgeSettings(model='m', base_url={server.url!r}, concurrency=2), cache={str(tmp_path)!r})\n"
        "judge.score(['q'] * 400, [f'answer {i}' for i in range(400)])\n"
    )
    run = subprocess.Popen([sys.executable, "-c", code])
    while len(server.requests) < 20 and run.poll() is None:
        time.sleep(0.02)
    run.kill()
    run.wait()
    kept = list((tmp_path / "judge").rglob("*.json"))
    assert len(kept) >= 10
    for path in kept:
        if not path.name.startswith("."):
            json.loads(path.read_text())
    server.answer = answer  # type: ignore[method-assign]
    judge = judge_of(JudgeSettings(model="m", base_url=server.url), cache=tmp_path)
    scores = judge.score(["q"] * 40, [f"answer {i}" for i in range(40)])
    assert_float32_close(scores, [2 * quality(f"answer {i}") for i in range(40)])
    assert judge.usage["cached"] >= 5


def test_costs_are_counted_and_the_budget_holds(make: Any, server: FakeServer, tmp_path: Path) -> None:
    judge = make(prices={"prompt": 2.0, "completion": 10.0})
    judge.score(PROMPTS, COMPLETIONS)
    usage = Usage(**judge.usage)
    assert usage.cost == pytest.approx((2 * usage.prompt_tokens + 10 * usage.completion_tokens) / 1e6)
    price = usage.cost / 3
    short = make(tmp_path, prices={"prompt": 2.0, "completion": 10.0}, budget=5 * price, concurrency=1)
    with pytest.raises(JudgeError, match=r"the budget of .* is spent after"):
        short.score(["q"] * 50, [f"answer {i}" for i in range(50)])
    assert len(server.requests) < 15
    assert short.usage["calls"] == len(list((tmp_path / "judge").rglob("*.json")))


# --- calibration ------------------------------------------------------------------------------------------------------


def test_calibration_recovers_a_known_slope_and_intercept() -> None:
    rng = np.random.default_rng(0)
    raw = rng.normal(size=20_000) * 3
    ones = np.ones(len(raw))
    says = (rng.random(len(raw)) < 1 / (1 + np.exp(-(0.4 * raw - 0.7)))).astype(float)
    found = calibrate("outcome", raw, says, ones)
    assert (found.slope, found.intercept) == (pytest.approx(0.4, abs=0.02), pytest.approx(-0.7, abs=0.05))
    sign = np.where(rng.random(len(raw)) < 1 / (1 + np.exp(-0.4 * raw)), 1.0, -1.0)
    paired = calibrate("comparison", sign * raw, ones, ones)
    assert (paired.slope, paired.intercept) == (pytest.approx(0.4, abs=0.02), 0)
    line = calibrate("rating", raw, 2 * raw + 1, ones)
    assert (line.slope, line.intercept) == (pytest.approx(2), pytest.approx(1))
    always = calibrate("comparison", np.ones(8), np.ones(8), np.ones(8))
    assert always.slope == pytest.approx(math.log(9), abs=1e-2)  # sigma = 9/10: Platt's target for eight of eight
    assert nll(np.array([0.0]), np.array([1.0]), np.array([1.0])) == pytest.approx(math.log(2))


def people(n: int, seed: int = 0) -> list[Comparison]:
    """Choices by a softer judgement than the server's: P = sigma(half of its difference)."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        texts = [f"{rng.choice(['thank you', 'NO', 'well'])} number {rng.integers(10**6)}" for _ in range(2)]
        odds = quality(texts[0]) - quality(texts[1])
        first = rng.random() < 1 / (1 + math.exp(-odds))
        rows.append(Comparison(prompt=f"q{i}", chosen=texts[not first], rejected=texts[first]))
    return rows


def test_fit_finds_the_temperature_of_people(make: Any, server: FakeServer, tmp_path: Path) -> None:
    settings = make().settings
    judge = fit(people(800), judge=settings, cache=tmp_path)
    assert judge.calibration.slope == pytest.approx(0.5, abs=0.12)  # the server says twice what people mean
    held = judge.report["held_out"]
    assert held["n"] == 800
    assert held["calibrated"]["accuracy"] == held["raw"]["accuracy"]
    assert held["calibrated"]["nll"] < held["raw"]["nll"] - 0.05
    judge.save(tmp_path / "saved")
    loaded = tacit.load(tmp_path / "saved", cache=tmp_path)
    assert_float32_close(loaded.score(PROMPTS, COMPLETIONS), judge.score(PROMPTS, COMPLETIONS))
    pair = fit(people(300), judge=make(mode="pairwise").settings, cache=tmp_path)
    assert isinstance(pair, PairwiseJudge)
    assert pair.report["orders"]["position_bias"] == pytest.approx(server.bias, abs=1e-5)
    assert pair.calibration.slope == pytest.approx(1.0, abs=0.4)


def test_fit_on_outcomes_and_ratings(make: Any, tmp_path: Path) -> None:
    rows = [(f"q{i}", f"{word} {i}") for i in range(40) for word in ("thank you", "NO", "well")]
    good = [Outcome(prompt=p, completion=c, label=quality(c) + 0.3 * (i % 3 - 1) > 0) for i, (p, c) in enumerate(rows)]
    judge = fit(good, judge=make().settings, cache=tmp_path)
    assert judge.report["held_out"]["calibrated"]["accuracy"] > 0.8
    rated = [Rating(prompt=p, completion=c, score=3 + 2 * quality(c)) for p, c in rows]
    line = fit(rated, judge=make().settings, cache=tmp_path)
    assert (line.calibration.slope, line.calibration.intercept) == (
        pytest.approx(1, abs=1e-4),
        pytest.approx(3, abs=1e-4),
    )
    with pytest.raises(EvidenceError, match=r"mode pairwise is not calibrated on evidence of kind outcome"):
        fit(good, judge=make(mode="pairwise").settings)
    with pytest.raises(TacitError, match=r"Give it with --judge FILE.yaml"):
        fit(good)
    across = [row.model_copy(update={"rejected_prompt": "other"}) for row in people(3)]
    with pytest.raises(EvidenceError, match="row 1, column `rejected_prompt`"):
        fit(across, judge=make(mode="pairwise").settings)


# --- YAML and the command line ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model: m\nmod: yes_no", "unknown key `mod`"),
        ("model: m\nmode: maybe", "key `mode` is 'maybe'"),
        ("mode: yes_no", "either `model` .* or `folder`"),
        ("model: m\nsamples: 3", "add `critique: true` or `read: text`"),
        ("model: m\napi_key: sk-1", "key `api_key`: no secret belongs here"),
        (
            "model: m\nbase_url: https://me:sk-1@host/v1",
            "key `base_url`: the server's address holds a user, a password",
        ),
        ("model: m\nbase_url: https://host/v1?key=sk-1", "key `base_url`: .* or a query"),
        ("model: m\nbase_url: ftp://host", "key `base_url`: ftp://host is no server's address"),
        ("model: m\nbase_url: http://host:port/v1", "key `base_url`: .* cannot be read"),
        ("model: m\nkey_env: AWS_SECRET_ACCESS_KEY", "key `key_env`: name an environment variable .* MY_API_KEY"),
        ("model: m\nkey_env: HOME", "key `key_env`: name an environment variable"),
        ("model: m\nkey_env: sk-1", "key `key_env`: name an environment variable"),
        ("model: m\nextra: {user: {api_key: sk-1}}", "key `extra.user.api_key`: no secret belongs here"),
        ("model: m\nextra: {headers: [{Authorization: sk-1}]}", "key `extra.headers.Authorization`: no secret"),
        ("model: m\nsystem: use sk-1234567890abcdefghij", "key `system`: no secret belongs here"),
        ("model: m\ntemplate_file: none.txt", "there is no file"),
        ("model: m\nbudget: 1", "`budget` needs `prices`"),
        ("model: m\nscale: [5, 5]\nmode: rubric", "`scale` is"),
        ("model: [", "row 1: not readable as YAML"),
        ("- a", "describes no judge"),
    ],
)
def test_a_wrong_file_is_one_sentence(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "judge.yaml"
    path.write_text(text)
    with pytest.raises(JudgeError, match=said) as caught:
        read_settings(path)
    assert "sk-1" not in str(caught.value)
    assert "judge.yaml" in str(caught.value)


def test_a_template_must_show_what_is_judged(make: Any) -> None:
    with pytest.raises(JudgeError, match=r"has no {completion}"):
        make(template="{prompt}?")
    with pytest.raises(JudgeError, match=r"has no {second}"):
        make(mode="pairwise", template="{prompt} {first}")
    with pytest.raises(JudgeError, match=r"the template has {first}"):
        make(template="{prompt} {completion} {first}")


def test_the_command_line_fits_scores_and_audits(
    server: FakeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tacit.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TACIT_CACHE", str(tmp_path / "cache"))
    Path("question.txt").write_text("<request>\n{prompt}\n</request>\n<answer>\n{completion}\n</answer>\nGood?\n")
    described = {"type": "judge", "model": "m", "base_url": server.url, "template_file": "question.txt"}
    Path("judge.yaml").write_text(yaml.safe_dump(described))
    Path("votes.jsonl").write_text("".join(row.model_dump_json(exclude_none=True) + "\n" for row in people(80)))
    main(
        ["fit", "votes.jsonl", "--model", "judge", "--judge", "judge.yaml", "--out", "r", "--resamples", "20", "--json"]
    )
    result = json.loads(capsys.readouterr().out)
    assert result["fit"]["slope"] > 0
    assert (result["n_train"], result["n_test"]) == (64, 16)
    asked = len(server.requests)
    main(["score", "r", "votes.jsonl", "--out", "s.jsonl", "--cache", "cache/features", "--json"])
    assert len(server.requests) == asked  # every answer was there already
    assert json.loads(capsys.readouterr().out)["usage"]["cached"] > 0
    row = json.loads(Path("s.jsonl").read_text().splitlines()[0])
    sides = row["score_chosen"], row["score_rejected"]
    assert_float32_close(row["score"], sides[0] - sides[1], scale=max(map(abs, sides)))
    capsys.readouterr()
    main(["audit", "r", "votes.jsonl", "--cache", "cache/features", "--resamples", "20", "--json"])
    assert json.loads(capsys.readouterr().out)["n_test"] == 80
    main(["score", "judge.yaml", "votes.jsonl", "--out", "t.jsonl", "--json"])
    with pytest.raises(SystemExit):
        main(["fit", "votes.jsonl", "--model", "judge", "--out", "r2"])
    assert "Give it with --judge FILE.yaml" in capsys.readouterr().err


# --- a local model ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def local(llama_folder: Path) -> Path:
    pytest.importorskip("transformers")
    return llama_folder


def test_the_contract_holds_on_a_local_model(local: Path) -> None:
    critique = {"critique": True, "critique_instruction": "Why?", "samples": 2, "max_tokens": 4}
    for settings in ({}, {"mode": "rubric"}, {"mode": "pairwise"}, critique):
        judge = judge_of(JudgeSettings(folder=local, **SHORT[settings.get("mode", "yes_no")], **settings))
        bad = [str(finding) for finding in check_reward(judge, new_process=not settings) if not finding.ok]
        assert not bad, "\n".join(bad)


# The tiny model reads 96 tokens of a tokenizer that knows few words.
SHORT: dict[str, dict[str, Any]] = {
    "yes_no": {"template": "{prompt}|{completion}", "instruction": "?"},
    "rubric": {"template": "{prompt}|{completion}", "instruction": "?", "scale": (1, 10)},
    "pairwise": {"template": "{prompt}|{first}|{second}", "instruction": "?"},
}


def sequence_probability(folder: Path, text: str, ids: tuple[int, ...]) -> float:
    """P(ids | text), token by token, by transformers alone."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    start = tokenizer(text)["input_ids"]
    with torch.no_grad():
        logits = model(torch.tensor([[*start, *ids]])).logits[0].log_softmax(-1)
    return math.exp(sum(float(logits[len(start) - 1 + i, token]) for i, token in enumerate(ids)))


def test_label_probabilities_are_exact_even_in_several_tokens(local: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(local)
    judge = judge_of(JudgeSettings(folder=local, **SHORT["yes_no"]))
    forms = [[f"{s}{w}" for s in ("", " ") for w in (word, word.lower(), word.upper())] for word in ("Yes", "No")]
    ids = [[tuple(tokenizer(form)["input_ids"]) for form in some] for some in forms]
    assert max(len(sequence) for some in ids for sequence in some) > 1  # this tokenizer knows no "Yes"
    text = "User: who?|a fox\n\n?\n\nAssistant:"
    yes, no = (sum(sequence_probability(local, text, sequence) for sequence in set(some)) for some in ids)
    size = max(-math.log(yes), -math.log(no))
    assert_float32_close(judge.score(["who?"], ["a fox"])[0], math.log(yes / no), rtol=8 * ROUNDING, scale=size)


def test_ten_is_not_one(local: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(local)
    judge = judge_of(JudgeSettings(folder=local, mode="rubric", **SHORT["rubric"]))
    text = "User: who?|a fox\n\n?\n\nAssistant:"
    share = {}
    for value in range(1, 11):
        spelled = {tuple(tokenizer(form)["input_ids"]) for form in (str(value), f" {value}")}
        share[value] = sum(sequence_probability(local, text, sequence) for sequence in spelled)
    share[1] -= share[10]
    mean = sum(value * part for value, part in share.items()) / sum(share.values())
    assert_float32_close(judge.score(["who?"], ["a fox"])[0], mean, rtol=8 * ROUNDING)


def test_sampled_texts_follow_their_seeds_and_not_their_neighbours(local: Path) -> None:
    from tacit.rewards.judge.calls import Call

    backend = judge_of(JudgeSettings(folder=local, **SHORT["yes_no"])).desk.backend
    calls = [Call((("user", f"fox {i}"),), None, 1.0, seed, 6) for i in range(2) for seed in range(3)]
    together = {index: reply.text for index, reply in backend.answers(calls)}
    alone = {index: next(iter(backend.answers([call])))[1].text for index, call in enumerate(calls)}
    assert together == alone
    assert len(set(together.values())) > 3


def test_a_local_judge_cuts_long_texts_and_is_saved(local: Path, tmp_path: Path) -> None:
    judge = judge_of(JudgeSettings(folder=local, **SHORT["yes_no"]))
    messages = judge._fitting({"prompt": "the lazy dog " * 90 + "END", "completion": "one two three"})
    content = messages[0][1]
    assert content.endswith("END|one two three\n\n?")
    assert judge.desk.backend.excess(messages, 0) == 0
    judge.save(tmp_path / "saved")
    loaded = tacit.load(tmp_path / "saved")
    prompts, completions = [p for p, _ in EXAMPLES], [c for _, c in EXAMPLES]
    assert_float32_close(loaded.score(prompts, completions), judge.score(prompts, completions))
    manifest = json.loads((tmp_path / "saved" / "reward.json").read_text())
    manifest["model"]["model"] = "another"
    (tmp_path / "saved" / "reward.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtefactError, match="has changed: scores would drift"):
        tacit.load(tmp_path / "saved")
    with pytest.raises(JudgeError, match="Shorten it, or raise max_length"):
        judge_of(JudgeSettings(folder=local)).score(["a"], ["b"])
