"""What checks run ends in time and leaves nothing behind: patterns, schemas, mathematics, code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tacit.errors import TacitError
from tacit.evidence import Problem
from tacit.rewards.combination import PromptCondition
from tacit.rewards.verifiers import JsonSchemaCheck, LatexCheck, RegexCheck, UnitTests, allow_code, fit
from tacit.rewards.verifiers.limits import limited, pattern_found

ENDLESS, TEXT = r"(a+)+$", "a" * 60 + "!"
POSIX = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a POSIX system")


@POSIX
def test_a_pattern_that_takes_too_long_is_named() -> None:
    reason = r"'\(a\+\)\+\$' takes more than 0.5 s on a text of 61 characters"
    with pytest.raises(TacitError, match=reason):
        RegexCheck(ENDLESS, seconds=0.5)(TEXT, None)
    with pytest.raises(TacitError, match=reason):
        RegexCheck(seconds=0.5)(TEXT, ENDLESS)
    assert RegexCheck(ENDLESS)("aaa", None) == 1  # the next one is answered by a new process
    with pytest.raises(TacitError, match=reason):
        pattern_found(ENDLESS, TEXT, seconds=0.5)
    assert PromptCondition(ENDLESS).holds(["aaa", "b"], ["", ""]).tolist() == [True, False]


@POSIX
def test_patterns_have_limits_in_threads_and_after_a_fork_too() -> None:
    outcomes: list[object] = []

    def ask() -> None:
        try:
            outcomes.append(pattern_found(ENDLESS, TEXT, seconds=0.3))
        except TacitError as error:
            outcomes.append("takes more than" in str(error))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == [True] * 3
    assert pattern_found("b", "abc")
    child = os.fork()
    if child == 0:
        os._exit(int(not (pattern_found("b", "abc") and not pattern_found("d", "abc"))))
    assert os.waitpid(child, 0)[1] == 0
    assert pattern_found("c", "abc")


@pytest.mark.parametrize("pattern", ["(", "a{99999999999999999999}", "(" * 5000 + ")" * 5000, "[z-a]"])
def test_what_is_no_pattern_is_one_sentence(pattern: str) -> None:
    for make in (RegexCheck, PromptCondition):
        with pytest.raises(TacitError, match="does not compile"):
            make(pattern)
    with pytest.raises(TacitError, match="row 1, column `answer`"):
        fit([Problem(prompt="p", answer=pattern)], check="regex")


@pytest.mark.parametrize("text", ["\ud800", "\x00", "a\nb", "é" * 10_000, ""])
def test_any_text_can_be_matched(text: str) -> None:
    assert pattern_found(r"\A" + "." * bool(text), text)
    assert pattern_found(r"(?s).*", text, whole=True)


@POSIX
def test_patterns_in_schemas_have_limits() -> None:
    pytest.importorskip("jsonschema", reason="needs the extra `verify`")
    schema = json.dumps({"type": "string", "pattern": ENDLESS})
    with pytest.raises(TacitError, match=r"the JSON schema .* takes more than 0.5 s on a text of 63 characters"):
        JsonSchemaCheck(schema, seconds=0.5)(json.dumps(TEXT), None)
    assert JsonSchemaCheck(schema)('"aaa"', None) == 1
    assert JsonSchemaCheck(schema)("[" * 100_000, None) == 0
    with pytest.raises(TacitError, match=r"cannot be checked .*Unresolvable"):
        JsonSchemaCheck('{"$ref": "https://example.org/schema.json"}')("{}", None)


def test_latex_is_compared_in_threads_too() -> None:
    pytest.importorskip("math_verify", reason="needs the extra `verify`")
    scores: list[float] = []
    thread = threading.Thread(target=lambda: scores.append(LatexCheck()(r"\boxed{\sqrt{8}}", r"2\sqrt{2}")))
    thread.start()
    thread.join()
    assert scores == [1]


def test_the_worker_goes_with_the_process_that_asked() -> None:
    code = (
        "from tacit.rewards.verifiers import limits\n"
        "assert limits.pattern_found('a', 'a')\n"
        "print(limits._worker._process.pid, flush=True)\n"
        "import time; time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        worker = int(run.stdout.readline())
        assert alive(worker)
        run.kill()
        run.wait()
    assert within(10, lambda: not alive(worker))


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan"), float("inf")])
def test_a_limit_is_a_number_above_zero(seconds: float) -> None:
    for make in (lambda: RegexCheck("a", seconds=seconds), lambda: LatexCheck(seconds=seconds)):
        with pytest.raises(TacitError, match=r"`seconds` is .* Give more than 0"):
            make()


def test_a_fault_of_the_worker_is_no_answer() -> None:
    with pytest.raises(Exception, match="KeyError"):
        limited("nothing", {}, 1.0)


# --- code ---


@pytest.fixture
def allowed() -> Iterator[None]:
    allow_code()
    yield
    allow_code(False)


def alive(process: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def within(seconds: float, holds: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.05)
    return holds()


# A daemon: it leaves its session and its parent, says who it is and sleeps.
DAEMON = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        with open({path!r}, "w") as file:
            file.write(str(os.getpid()))
        time.sleep(600)
    os._exit(0)
while not os.path.exists({path!r}):
    time.sleep(0.01)
time.sleep(0.1)
"""
linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc, so Linux")


@linux
@pytest.mark.usefixtures("allowed")
@pytest.mark.parametrize(("ending", "score"), [("", 1), ("raise ValueError", 0), ("time.sleep(600)", 0)])
def test_nothing_that_code_starts_outlives_its_test(ending: str, score: float, tmp_path: Path) -> None:
    path = tmp_path / "pid"
    code = DAEMON.format(path=str(path)) + ending
    assert UnitTests(seconds=3)(code, "assert True") == score
    daemon = int(path.read_text())
    assert not alive(daemon)


@linux
def test_nothing_outlives_the_process_that_scores(tmp_path: Path) -> None:
    path, folder = tmp_path / "pid", tmp_path / "tmp"
    folder.mkdir()
    code = DAEMON.format(path=str(path)) + "time.sleep(600)"
    script = (
        "from tacit.rewards.verifiers import UnitTests, allow_code\n"
        f"allow_code(); UnitTests(seconds=300)({code!r}, 'assert True')\n"
    )
    run = subprocess.Popen([sys.executable, "-c", script], env={**os.environ, "TMPDIR": str(folder)})
    assert within(60, lambda: path.is_file() and path.read_text() != "")
    daemon = int(path.read_text())
    assert alive(daemon)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    assert within(10, lambda: not alive(daemon))
    assert within(10, lambda: not list(folder.iterdir()))  # nor its files


@linux
@pytest.mark.usefixtures("allowed")
def test_a_fork_bomb_ends(tmp_path: Path) -> None:
    log = tmp_path / "pids"
    code = (
        "import os, time\n"
        "for _ in range(6):\n"
        "    os.fork()\n"
        "    os.setsid() if os.getpid() != os.getsid(0) else None\n"
        f"with open({str(log)!r}, 'a') as file: file.write(f'{{os.getpid()}}\\n')\n"
        "time.sleep(600)\n"
    )
    assert UnitTests(seconds=3)(code, "assert True") == 0
    processes = [int(line) for line in log.read_text().split()]
    assert len(processes) > 10
    assert not [process for process in processes if alive(process)]
