"""`tacit bench audit` on a few rows."""

from __future__ import annotations

from tacit.bench.audit import run


def test_an_audit_is_timed_as_a_user_types_it() -> None:
    result = run(rows=300)
    assert result["comparisons"] == 300
    assert result["cpu_seconds"] > 0
    assert 10 < result["page_kb"] < 1024
