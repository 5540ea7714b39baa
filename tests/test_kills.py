"""A kill at any moment loses nothing: what was there stays, and the command given again ends as if never killed.

Every command runs once undisturbed; then, in folders of their own, it is killed with -9 at random moments of that time
and run again (`--resume` for `tune`). Outputs must be the same bytes but for the seconds that they took, nothing else
in the folder may have changed, and nothing may be left over.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tacit.evidence import read
from tacit.rewards import fit

NOBODY = 65534


@dataclass
class Ended:
    """How a command ended: its exit status (-9 where it was killed), what it printed, how long it ran."""

    code: int
    said: str
    seconds: float


class Server:
    """The other side of `forked.py`."""

    def __init__(self, log: Path, cache: Path, modules: Sequence[str] = ()) -> None:
        command = [sys.executable, str(Path(__file__).with_name("forked.py")), *modules]
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "TACIT_CACHE": str(cache),
        }
        self.log, self.cache = log, cache
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            text=True,
        )
        self._answer()

    def run(self, folder: Path, command: str, *, kill_after: float | None = None, **more: Any) -> Ended:
        """Run a command to its end, or kill it with -9 after so many seconds."""
        assert self.process.stdin is not None
        request = {"folder": str(folder), "tokens": command.split(), "log": str(self.log), **more}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        child, start = self._answer()["pid"], time.monotonic()
        if kill_after is not None:
            time.sleep(kill_after)
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(self._answer()["status"])
        return Ended(status, self.log.read_text("utf-8", "backslashreplace"), time.monotonic() - start)

    def stop(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.communicate()

    def _answer(self) -> dict[str, int]:
        assert self.process.stdout is not None
        answer: dict[str, int] = json.loads(self.process.stdout.readline())
        return answer


@contextlib.contextmanager
def serving(folder: Path, modules: Sequence[str] = ()) -> Iterator[Server]:
    server = Server(folder / "log", folder / "encoded", modules)
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server")) as one:
        yield one


# --- kill -9 ---


def timeless(value: Any) -> Any:
    """A result without the seconds that it took."""
    if isinstance(value, dict):
        return {key: timeless(inner) for key, inner in value.items() if not key.endswith("seconds")}
    return [timeless(inner) for inner in value] if isinstance(value, list) else value


def contents(folder: Path) -> dict[str, Any]:
    """What lies under a folder, by name: JSON without seconds, and no shards of encoded texts, whose names differ."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.name.startswith("shard-"):
            continue
        if path.suffix in (".json", ".jsonl") and path.is_file():
            text = path.read_text("utf-8")
            values = [json.loads(text)] if path.suffix == ".json" else [json.loads(line) for line in text.splitlines()]
            found[name] = timeless(values)
        elif path.suffix == ".yaml" and path.is_file():  # its first line has digests of files that say how long it took
            found[name] = [line for line in path.read_text("utf-8").splitlines() if not line.startswith("# tacit {")]
        else:
            found[name] = path.read_bytes() if path.is_file() else "folder"
    return found


def encoded(store: Path) -> dict[bytes, bytes]:
    """The texts that a store holds, and their vectors: each once, and no file beside them."""
    import numpy as np

    rows: list[tuple[bytes, bytes]] = []
    shards = sorted(path.name.removesuffix(".keys.npy") for path in store.glob("*/shard-*.keys.npy"))
    vectors = sorted(path.name.removesuffix(".vectors.npy") for path in store.glob("*/shard-*.vectors.npy"))
    assert vectors == shards, "vectors without their keys were left behind"
    for path in store.glob("*/shard-*.keys.npy"):
        name = path.name.removesuffix(".keys.npy")
        keys, values = np.load(path), np.load(path.with_name(f"{name}.vectors.npy"))
        rows += [(bytes(key), value.tobytes()) for key, value in zip(keys, values, strict=True)]
    assert len(dict(rows)) == len(rows), "a text was encoded twice"
    return dict(rows)


@dataclass(frozen=True)
class Killed:
    """A command that is tried in each folder; what `again` adds to it after the kill; its store of encoded texts."""

    command: str
    again: str = ""
    cache: str = ""


def stage(folder: Path, count: int = 400) -> Path:
    """Evidence, a reward and files of others."""
    rng = random.Random(0)
    rows = [
        {"prompt": f"question {i % 40}", "chosen": f"thank you, {rng.random()}", "rejected": f"NO WAY {rng.random()}"}
        for i in range(count)
    ]
    (folder / "votes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "prompts.jsonl").write_text("".join(json.dumps({"prompt": f"question {i}"}) + "\n" for i in range(8)))
    (folder / "thesis.tex").write_text("x")
    (folder / "metrics.jsonl").write_text("{}\n")
    if not (folder / "reward").exists():
        fit(read(folder / "votes.jsonl"), encoder="hashed").save(folder / "reward")
    return folder


COMMANDS = {
    "fit": Killed("fit votes.jsonl --out out --encoder hashed --resamples 200 --no-cache --members 3"),
    "encode": Killed("fit votes.jsonl --out out --encoder hashed --resamples 10 --cache store --l2 1", cache="store"),
    "score": Killed("score reward votes.jsonl --out out.jsonl"),
    "score-table": Killed("score reward votes.jsonl --out out.csv.gz"),
    "audit": Killed("audit reward votes.jsonl --out out.html --resamples 100"),
}


def killed_and_repeated(server: Server, stage: Path, folder: Path, command: Killed, *, times: int, seed: int) -> None:
    """Kill a command at random moments, and compare what its repetition leaves with the undisturbed run."""
    rng = random.Random(seed)
    before = contents(stage)
    shutil.copytree(stage, folder / "whole")
    whole = server.run(folder / "whole", command.command)
    assert whole.code == 0, whole.said
    expected = contents(folder / "whole")
    texts = encoded(folder / "whole" / command.cache) if command.cache else {}
    seconds, struck = whole.seconds, 0
    for trial in range(3 * times):
        here = folder / f"cut-{trial}"
        shutil.copytree(stage, here)
        moment = rng.uniform(0, seconds)
        done = server.run(here, command.command, kill_after=moment)
        if done.code == -signal.SIGKILL:
            struck += 1
        else:
            seconds = min(seconds, done.seconds)
        halfway = contents_of_bystanders(here, before)
        assert halfway == before, f"lost by a kill after {moment:.3f} s"
        again = server.run(here, f"{command.command} {command.again}")
        assert again.code == 0, f"after a kill at {moment:.3f} s: {again.said}"
        after = contents(here)
        assert sorted(after) == sorted(expected), f"after a kill at {moment:.3f} s"
        assert [name for name in expected if after[name] != expected[name]] == [], f"after a kill at {moment:.3f} s"
        if command.cache:
            assert encoded(here / command.cache) == texts
        shutil.rmtree(here)
        if struck == times:
            return
    raise AssertionError(f"{struck} of {3 * times} kills came before the end")


def contents_of_bystanders(folder: Path, names: dict[str, Any]) -> dict[str, Any]:
    found = contents(folder)
    return {name: found.get(name) for name in names}


@pytest.mark.parametrize("name", ["fit", "score", "audit"])
def test_a_killed_command_can_be_given_again(name: str, server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "stage"
    folder.mkdir()
    killed_and_repeated(server, stage(folder, 80), tmp_path, COMMANDS[name], times=2, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_twenty_kills(name: str, server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "stage"
    folder.mkdir()
    killed_and_repeated(server, stage(folder, 2000), tmp_path, COMMANDS[name], times=20, seed=2)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_twenty_kills_of_grpo(llama_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "stage"
    folder.mkdir()
    command = (
        f"tune grpo --policy {llama_folder} --data prompts.jsonl --reward reward --out out --max-steps 8 --save-steps 1"
        " --num-generations 2 --max-completion-length 4 --per-device-train-batch-size 4 --learning-rate 1e-3"
        " --device cpu --dtype float32 --eval-data prompts.jsonl --eval-steps 3"
    )
    with serving(tmp_path, ["transformers.models.llama.modeling_llama"]) as server:
        killed_and_repeated(server, stage(folder), tmp_path, Killed(command, "--resume"), times=20, seed=3)


# --- files that may not be read or written ---

FORBIDDEN = {
    "evidence": ("check votes.jsonl", "votes.jsonl"),
    "a packed file": ("fit votes.csv.gz --out r --encoder hashed", "votes.csv.gz"),
    "a Parquet file": ("score reward votes.parquet --out s.jsonl", "votes.parquet"),
    "an Arrow file": ("audit reward votes.arrow", "votes.arrow"),
    "a folder": ("check folder", "folder"),
    "a file of items": ("fit ids.jsonl --items items.jsonl --out r --encoder hashed", "items.jsonl"),
    "a configuration": (
        "fit votes.jsonl --config options.yaml --out r --encoder hashed --resamples 10",
        "options.yaml",
    ),
    "a recipe": ("score recipe.yaml votes.jsonl --out s.jsonl", "recipe.yaml"),
    "an array": ("fit votes.jsonl --encoder array:vectors.npz --out r", "vectors.npz"),
    "a reward": ("score reward votes.jsonl --out s.jsonl", "reward"),
    "a manifest": ("score reward votes.jsonl --out s.jsonl", "reward/reward.json"),
    "weights": ("audit reward votes.jsonl", "reward/head.safetensors"),
    "candidates": ("select reward candidates.jsonl --out s.jsonl", "candidates.jsonl"),
    "a reference": ("audit reward votes.jsonl --reference other", "other/reward.json"),
}
UNWRITABLE = {
    "a score": "score reward votes.jsonl --out locked/s.jsonl",
    "a reward": "fit votes.jsonl --out locked/r --encoder hashed --resamples 10",
    "a page": "audit reward votes.jsonl --out locked/p.html --resamples 10",
    "a store": "fit votes.jsonl --out r --encoder hashed --resamples 10 --cache locked/store",
    "an export": "combine recipe.yaml --out locked/c",
}


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Server]]:
    """A folder that another user owns, and a server whose forks become that user."""
    folder = Path(tempfile.mkdtemp(prefix="tacit-closed-"))
    try:
        folder.chmod(0o755)
        with serving(folder) as server:
            yield _filled(folder / "files"), server
    finally:
        shutil.rmtree(folder)


def _filled(folder: Path) -> Path:
    import numpy as np
    import pyarrow
    import pyarrow.parquet

    folder.mkdir()
    rows = [json.loads(line) for line in (stage(folder, 40) / "votes.jsonl").read_text().splitlines()]
    table = pyarrow.Table.from_pylist(rows)
    pyarrow.parquet.write_table(table, folder / "votes.parquet")
    with pyarrow.ipc.new_stream(folder / "votes.arrow", table.schema) as writer:
        writer.write_table(table)
    shutil.copytree(folder / "reward", folder / "other")
    (folder / "folder").mkdir()
    shutil.copy(folder / "votes.jsonl", folder / "folder")
    (folder / "locked").mkdir()
    (folder / "votes.csv.gz").write_bytes(b"\x1f\x8b")
    (folder / "options.yaml").write_text("seed: 1\n")
    (folder / "recipe.yaml").write_text("type: inverted\nof: {reward: reward}\n")
    (folder / "ids.jsonl").write_text('{"winner": 1, "loser": 2}\n' * 9)
    (folder / "items.jsonl").write_text('{"id": 1, "text": "a"}\n{"id": 2, "text": "b"}\n')
    (folder / "candidates.jsonl").write_text('{"prompt": "p", "completions": ["a", "b"]}\n')
    np.savez(folder / "vectors.npz", texts=np.array(["a"]), vectors=np.zeros((1, 2), np.float32))
    if not os.geteuid():
        for path in (folder, *folder.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
    return folder


def as_somebody(server: Server, folder: Path, command: str) -> Ended:
    """Run a command as a user who is not root, after all that it imports was imported by one who may."""
    if os.geteuid():
        return server.run(folder, command)
    with tempfile.TemporaryDirectory() as elsewhere:
        shutil.copytree(folder, Path(elsewhere) / "warm", symlinks=True)
        warm = server.run(Path(elsewhere) / "warm", command, inside=True)
        assert warm.code in (0, 2), warm.said
    for path in (server.cache, *server.cache.rglob("*")):
        if path.exists():
            os.chown(path, NOBODY, NOBODY)
    done = server.run(folder, command, user=NOBODY)
    if "Operation not permitted" in done.said:
        pytest.skip("this process may not become another user")
    return done


@pytest.mark.parametrize("what", FORBIDDEN)
def test_a_file_that_may_not_be_read_is_one_sentence(what: str, closed: tuple[Path, Server]) -> None:
    folder, server = closed
    command, name = FORBIDDEN[what]
    path = folder / name
    mode = path.stat().st_mode
    before = sorted(folder.rglob("*"))
    path.chmod(0)
    try:
        done = as_somebody(server, folder, command)
    finally:
        path.chmod(mode)
    assert done.code == 2, done.said
    *notes, sentence = done.said.splitlines()  # notes on the data may stand before it
    assert all(line.startswith("tacit: ") and "denied" not in line for line in notes), done.said
    assert sentence.startswith("tacit: ")
    assert name in sentence
    assert sorted(path for path in folder.rglob("*") if path.name not in ("r", "s.jsonl")) == before


@pytest.mark.parametrize("what", UNWRITABLE)
def test_a_folder_that_may_not_be_written_is_one_sentence(what: str, closed: tuple[Path, Server]) -> None:
    folder, server = closed
    (folder / "locked").chmod(0o555)
    try:
        done = as_somebody(server, folder, UNWRITABLE[what])
    finally:
        (folder / "locked").chmod(0o755)
    assert done.code == 2, done.said
    assert done.said.count("\n") == 1, done.said
    assert "locked" in done.said
    assert list((folder / "locked").iterdir()) == []
