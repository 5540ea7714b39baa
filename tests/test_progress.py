"""Progress: a bar on a terminal, a line now and then in a pipe, nothing for what is short."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tacit import progress
from tacit.progress import Lines, track
from tacit.tuning.journal import Journal
from tacit.tuning.processes import Processes


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds on the clock, for a test to set."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_piped_loop_says_now_and_then_how_far_it_is(clock: list[float], capsys: Any) -> None:
    for _ in track(range(800), "encoding", total=800):
        clock[0] += 0.125
    said = capsys.readouterr()
    assert said.out == ""
    # A hundred seconds: the first line after ten, each later one after half as long again.
    assert [line.split(", ")[1] for line in said.err.splitlines()] == ["10 s", "15 s", "22 s", "34 s", "51 s", "76 s"]
    assert said.err.splitlines()[0] == "tacit: encoding: 80 of 800 (10%), 10 s, about 90 s left"


def test_a_short_loop_says_nothing(clock: list[float], capsys: Any) -> None:
    assert list(track(iter("abc"), "encoding")) == ["a", "b", "c"]
    clock[0] += 9
    assert capsys.readouterr() == ("", "")


def test_items_count_by_their_size_where_the_total_is_not_known(clock: list[float], capsys: Any) -> None:
    for _ in track([["row"] * 8] * 3, "scoring", size=len):
        clock[0] += 6
    assert capsys.readouterr().err == "tacit: scoring: 16, 12 s\ntacit: scoring: 24, 18 s\n"


def test_hours_pass_with_a_line_every_five_minutes(clock: list[float], capsys: Any) -> None:
    lines = Lines("tuning", 10_000, done=5_000)
    for _ in range(3600):
        clock[0] += 1
        lines.advance(note="loss 0.500")
    said = capsys.readouterr().err.splitlines()
    assert 15 < len(said) < 25
    # What was done before this run took no time of it.
    assert said[0] == "tacit: tuning: 5,010 of 10,000 (50%), 10 s, about 4990 s left, loss 0.500"


def test_a_piped_tuning_run_says_its_loss(clock: list[float], capsys: Any, tmp_path: Path) -> None:
    journal = Journal(tmp_path, 1, 0, (), Processes())
    with journal.progress("grpo", 0, 40) as advance:
        for _ in range(2):
            clock[0] += 11
            advance({"loss": 0.25, "seconds": 3.0})
    assert capsys.readouterr().err.splitlines()[0] == "tacit: grpo: 1 of 40 (2%), 11 s, about 429 s left, loss 0.250"
