"""What is saved is complete or not there: kills, full disks, modes, names that cannot be."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tacit import artefacts
from tacit.artefacts import LIST, atomic_directory, atomic_file, read_list, workspace
from tacit.errors import ArtefactError


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def write(path: Path, text: str = "new") -> None:
    with atomic_file(path) as temporary:
        temporary.write_text(text)


# --- workspaces -------------------------------------------------------------------------------------------------------


def test_a_workspace_goes_and_so_do_the_folders_that_were_made_for_it(tmp_path: Path) -> None:
    def fails() -> None:
        with workspace(tmp_path / "a/b/file") as folder:
            assert artefacts.shown(folder / "new" / "file") == tmp_path / "a/b/file"
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    assert names(tmp_path) == []
    write(tmp_path / "a/b/file")
    assert names(tmp_path) == ["a", "a/b", "a/b/file"]


KILLED = """
import os, signal, sys
from pathlib import Path
from tacit.artefacts import atomic_directory, atomic_file
with atomic_file(Path("file.txt")) as path, atomic_directory(Path("folder"), "reward.json") as folder:
    path.write_text("half")
    (folder / "reward.json").write_text("half")
    print("ready", flush=True)
    sys.stdin.read() if sys.argv[1] == "wait" else os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_goes_with_the_next_and_that_of_a_living_one_stays(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, "die"], cwd=tmp_path, check=False, capture_output=True)
    left = [name for name in names(tmp_path) if "/" not in name]
    assert len(left) == 2
    assert all(".tacit-" in name and name.startswith(".") for name in left)
    living = subprocess.Popen(
        [sys.executable, "-c", KILLED, "wait"], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert living.stdout is not None
    assert living.stdout.readline() == b"ready\n"
    mine = [name for name in names(tmp_path) if "/" not in name]
    assert len(mine) == 2
    assert not set(mine) & set(left)
    write(tmp_path / "other")
    assert set(mine) <= set(names(tmp_path))
    living.communicate(b"")
    assert living.returncode == 0
    assert names(tmp_path) == ["file.txt", "folder", f"folder/{LIST}", "folder/reward.json", "other"]


def test_a_folder_that_a_killed_process_had_taken_away_is_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save(text: str) -> None:
        with atomic_directory(tmp_path / "saved", "reward.json") as folder:
            (folder / "reward.json").write_text(text)

    save("first")
    rename, renamed = Path.rename, list[Path]()

    def killed(self: Path, target: Path) -> Path:
        if self.name == "saved" and len(renamed) == 1:
            raise KeyboardInterrupt  # the old one is away, the new one not there
        renamed.extend([self] * (self.name == "saved"))
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        patch.setattr(artefacts.shutil, "rmtree", lambda *_, **__: None)  # a kill cleans nothing up
        with pytest.raises(KeyboardInterrupt):
            save("second")
    assert not (tmp_path / "saved").exists()
    artefacts.remove_leftovers(tmp_path)
    assert (tmp_path / "saved/reward.json").read_text() == "first"
    assert [name for name in names(tmp_path) if "/" not in name] == ["saved"]
    save("third")
    assert (tmp_path / "saved/reward.json").read_text() == "third"


def test_hidden_files_of_others_are_no_leftovers(tmp_path: Path) -> None:
    for name in (".saved.tacit-1234567", ".saved.tacit-123456789", "saved.tacit-12345678", ".x.tacit-1234567g"):
        (tmp_path / name).mkdir()
    (tmp_path / ".file.tacit-12345678").write_text("a file is no workspace")
    before = names(tmp_path)
    write(tmp_path / "other")
    assert names(tmp_path) == sorted([*before, "other"])


def test_a_name_as_long_as_names_may_be(tmp_path: Path) -> None:
    for name in ("x" * 255, "ü" * 127):
        write(tmp_path / name)
        assert (tmp_path / name).read_text() == "new"


# --- lists ------------------------------------------------------------------------------------------------------------


def test_a_folder_lists_its_files_whatever_their_names(tmp_path: Path) -> None:
    odd = ["a[1].txt", "b*.txt", "deep/er/c?.txt", ".hidden", "new\nline", "ü"]
    for _ in range(2):
        with atomic_directory(tmp_path / "saved") as folder:
            for name in odd:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_text("x")
    listed = read_list(tmp_path / "saved")
    assert listed is not None
    assert sorted(listed.files) == sorted(odd)
    (tmp_path / "saved/a1.txt").write_text("mine")  # a pattern would match it
    with pytest.raises(ArtefactError, match=r"move .*a1\.txt away"), atomic_directory(tmp_path / "saved"):
        pytest.fail("the block must not run")


@pytest.mark.parametrize("content", ["", "{}", "[]", "[" * 100_000, '{"verb": "fit", "files": 3}', b"\xff"])
def test_a_damaged_list_lists_nothing(tmp_path: Path, content: str | bytes) -> None:
    with atomic_directory(tmp_path / "saved") as folder:
        (folder / "mine").write_text("x")
    (tmp_path / "saved" / LIST).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ArtefactError, match="holds other files"), atomic_directory(tmp_path / "saved"):
        pytest.fail("the block must not run")


def test_what_comes_while_the_block_runs_is_seen(tmp_path: Path) -> None:
    def save(stranger: str | None) -> None:
        with atomic_directory(tmp_path / "saved") as folder:
            (folder / "a").write_text("x")
            if stranger:
                (tmp_path / "saved").mkdir(exist_ok=True)
                (tmp_path / stranger).write_text("mine")

    with pytest.raises(ArtefactError, match="saved/mine"):
        save("saved/mine")
    assert names(tmp_path) == ["saved", "saved/mine"]
    (tmp_path / "saved/mine").unlink()
    save(None)
    with pytest.raises(ArtefactError, match="saved/mine"):
        save("saved/mine")
    assert names(tmp_path) == ["saved", f"saved/{LIST}", "saved/a", "saved/mine"]


# --- modes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("umask", "file", "folder"), [(0o022, 0o644, 0o755), (0o077, 0o600, 0o700), (0o002, 0o664, 0o775)]
)
def test_modes_follow_the_umask(tmp_path: Path, umask: int, file: int, folder: int) -> None:
    import torch

    from tacit.evidence import read
    from tacit.evidence.write import row_writer
    from tacit.rewards import fit
    from tacit.rewards.saving import save_reward

    before = os.umask(umask)
    try:
        save_reward(tmp_path / "reward", "feature", "x", config={}, tensors={"w": torch.zeros(3)}, texts={"t.txt": "t"})
        rows = [{"prompt": f"p{i % 9}", "chosen": f"good {i}", "rejected": f"BAD {i}"} for i in range(30)]
        for ending in ("jsonl", "csv", "parquet", "jsonl.gz"):
            with row_writer(tmp_path / f"rows.{ending}") as put:
                put(rows)
        fit(read(tmp_path / "rows.jsonl"), encoder="hashed", cache=tmp_path / "cache").save(tmp_path / "fitted")
    finally:
        os.umask(before)
    assert (tmp_path / "fitted/head.safetensors").is_file()
    for path in tmp_path.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (folder if path.is_dir() else file), path


# --- full disks -------------------------------------------------------------------------------------------------------


def no_room(where: str) -> Callable[..., Any]:
    def fails(*_: Any, **__: Any) -> None:
        match where:
            case "os":
                raise OSError(errno.ENOSPC, "No space left on device")
            case "numpy":
                raise OSError("1024 requested and 0 written")
            case _:
                raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")

    return fails


@pytest.mark.parametrize("where", ["os", "numpy", "safetensors"])
def test_a_full_disk_is_one_sentence_that_names_the_output(tmp_path: Path, where: str) -> None:
    write(tmp_path / "file", "old")
    for context in (atomic_file(tmp_path / "file"), atomic_directory(tmp_path / "folder")):
        with pytest.raises(ArtefactError, match=r"(file|folder) cannot be written: .*Free some space"), context:
            no_room(where)()
    assert names(tmp_path) == ["file"]
    assert (tmp_path / "file").read_text() == "old"


LIMITED = ("-c", "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2);"
           "from tacit.cli import main; main(sys.argv[2:])")  # fmt: skip


@pytest.mark.parametrize(
    "words",
    [
        ["score", "reward", "votes.jsonl", "--out", "s.jsonl"],
        ["score", "reward", "votes.jsonl", "--out", "s.csv"],
        ["score", "reward", "votes.jsonl", "--out", "s.parquet"],
        ["score", "reward", "votes.jsonl", "--out", "s.jsonl.gz"],
        ["fit", "votes.jsonl", "--out", "r", "--encoder", "hashed", "--test", "0", "--no-cache"],
        ["fit", "votes.jsonl", "--out", "r", "--encoder", "hashed", "--test", "0", "--cache", "cache"],
        ["audit", "reward", "votes.jsonl", "--out", "page.html", "--resamples", "10"],
    ],
)
def test_no_verb_ends_in_a_traceback_on_a_full_disk(tmp_path: Path, words: list[str]) -> None:
    from tacit.cli import main

    rng = random.Random(0)
    rows = [
        {"prompt": f"p{i % 9}", "chosen": f"good {rng.random()}" * 20, "rejected": f"BAD {rng.random()}", "when": i}
        for i in range(400)
    ]
    (tmp_path / "votes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    fit = ["fit", str(tmp_path / "votes.jsonl"), "--out", str(tmp_path / "reward"), "--encoder", "hashed", "--no-cache"]
    main([*fit, "--resamples", "10"])
    before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path) if (tmp_path / name).is_file()}
    done = subprocess.run(
        [sys.executable, *LIMITED, "2000", *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert "file too large. Free some space" in done.stderr or "no space left" in done.stderr
    after = [name for name in names(tmp_path) if not name.startswith("cache")]
    assert sorted(before) == [name for name in after if (tmp_path / name).is_file()]
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    assert not [name for name in names(tmp_path) if ".tacit-" in name]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_behind_stdout_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "v.jsonl").write_text('{"prompt": "p", "chosen": "a", "rejected": "b"}\n')
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "tacit", "check", str(tmp_path / "v.jsonl")],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "no space left on device" in done.stderr


# --- kills ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("verb", ["fit", "score", "audit"])
def test_twenty_kills_lose_nothing_and_leave_nothing(tmp_path: Path, verb: str) -> None:
    rng = random.Random(0)
    rows = [
        {"prompt": f"p{i % 90}", "chosen": f"good {rng.random()}", "rejected": f"BAD {rng.random()}"}
        for i in range(600 if verb == "audit" else 3000)
    ]
    (tmp_path / "votes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [sys.executable, "-m", "tacit"]
    words = {
        "fit": ["fit", "votes.jsonl", "--out", "out", "--encoder", "hashed", "--resamples", "10", "--cache", "cache"],
        "score": ["score", "reward", "votes.jsonl", "--out", "out.csv"],
        "audit": ["audit", "reward", "votes.jsonl", "--out", "out.html", "--resamples", "10"],
    }
    environment = {**os.environ, "TACIT_CACHE": str(tmp_path / "cache")}

    def run(*more: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([*command, *more], cwd=tmp_path, stdout=subprocess.DEVNULL, env=environment)

    assert run(*words["fit"][:3], "reward", *words["fit"][4:]).wait() == 0
    start = time.monotonic()
    assert run(*words[verb]).wait() == 0
    took = time.monotonic() - start
    whole = outcome(tmp_path)
    for _ in range(20):
        child = run(*words[verb])
        try:
            child.wait(rng.uniform(0, took))
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            child.wait()
    assert run(*words[verb]).wait() == 0
    assert outcome(tmp_path) == whole
    assert not [name for name in names(tmp_path) if ".tacit-" in name]


def outcome(folder: Path) -> dict[str, Any]:
    """The bytes of outputs; of files that say how long it took, their names."""
    timed = ("metrics.json", "out.html", "reward.json", "config.yaml", "README.md")
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "cache" not in path.parts:
            found[str(path.relative_to(folder))] = None if path.name.endswith(timed) else path.read_bytes()
    return found
