"""Rewards whose every score is known, and studies of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from tacit.audit.study import Study
from tacit.conversation import completion_text
from tacit.evidence import Evidence


class Known:
    """A reward that scores a completion by a function of its text, or by a table."""

    def __init__(self, score: Callable[[str], float] | Mapping[str, float], name: str = "known") -> None:
        self.of = score.__getitem__ if isinstance(score, Mapping) else score
        self.name = name

    def score(self, prompts: Sequence[Any], completions: Sequence[Any]) -> np.ndarray:
        return np.array([self.of(completion_text(c)) for c in completions], dtype=np.float32)


@pytest.fixture(scope="session")
def known() -> type[Known]:
    return Known


@pytest.fixture(scope="session")
def study_of() -> Callable[..., Study]:
    """A study of rows of evidence (dictionaries) by a reward, or by a function of the completion's text."""

    def make(rows: Sequence[Mapping[str, Any]], reward: Any, *, kind: str = "comparison", **options: Any) -> Study:
        own = reward if hasattr(reward, "score") else Known(reward)
        evidence = Evidence.from_records(rows, kind=kind, source="rows")  # type: ignore[arg-type]
        return Study.of(own, evidence, evidence.kind, evidence.source, **{"resamples": 200, **options})

    return make
