"""`Verifier`: a check with the reference answers of the prompts it knows, as a reward."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tacit.conversation import Completion, Prompt, prompt_text, texts
from tacit.errors import ArtefactError, EvidenceError, TacitError
from tacit.evidence.dataset import Evidence
from tacit.evidence.records import Problem, Record
from tacit.progress import track
from tacit.rewards.inputs import require_rows
from tacit.rewards.saving import open_reward, save_reward
from tacit.rewards.verifiers.checks import Check, LatexCheck, NumberCheck, check_config, make_check, needs_answer
from tacit.rewards.verifiers.code import UnitTests

ANSWERS = "answers.json"


@dataclass(eq=False)
class Verifier:
    """r(x, y) = check(y, answer of x), in [0, 1]; a checker that a problem names itself goes before `check`.

    A prompt is known by its text as `tacit.conversation` renders it. Satisfies `Reward` and `Saved`.
    """

    check: Check
    answers: Mapping[str, str] = field(default_factory=dict)
    """Reference answers by prompt text; needed where the check needs one."""
    checkers: Mapping[str, Check] = field(default_factory=dict)
    """Other checks, for the prompts that name one."""
    unknown: float | None = None
    """The score where a check needs the answer of a prompt that is not known; None makes that an error."""
    name: str = "verifier"
    report: dict[str, Any] = field(default_factory=dict)

    def score(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> np.ndarray:
        """Scores (n,) float32 in [0, 1]; raises `TacitError` for a prompt without a reference answer."""
        require_rows(prompts, completions)
        rows = [texts(p, c) for p, c in zip(prompts, completions, strict=True)]
        checks = [self.checkers.get(prompt, self.check) for prompt, _ in rows]
        slow = [i for i, check in enumerate(checks) if isinstance(check, UnitTests)]
        scores = np.empty(len(rows), dtype=np.float32)
        for i in set(range(len(rows))) - set(slow):
            scores[i] = self._score(checks[i], *rows[i])
        if slow:  # each waits for a process of its own
            with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
                scores[slow] = list(pool.map(lambda i: self._score(checks[i], *rows[i]), slow))
        return scores

    def _score(self, check: Check, prompt: str, completion: str) -> float:
        if not needs_answer(check):
            return check(completion, None)
        answer = self.answers.get(prompt)
        if answer is None:
            if self.unknown is not None:
                return self.unknown
            raise TacitError(
                f"verifier `{self.name}` knows no answer to the prompt {prompt[:80]!r} (it knows {len(self.answers)})."
                " Add it to the problems, or say what such prompts score with --unknown"
            )
        return check(completion, answer)

    def save(self, folder: str | Path) -> None:
        """Write reward.json, answers.json and a model card, atomically."""
        kinds = {prompt: {"check": c.kind, "options": check_config(c)} for prompt, c in self.checkers.items()}
        save_reward(
            folder,
            "verifier",
            self.name,
            config={"check": self.check.kind, "options": check_config(self.check), "unknown": self.unknown},
            texts={ANSWERS: json.dumps({"answers": dict(self.answers), "checkers": kinds}, ensure_ascii=False)},
            report=self.report,
            meaning=f"1 where check `{self.check.kind}` holds, 0 where it does not.",
        )

    @classmethod
    def load(cls, folder: str | Path, *, cache: str | Path | None = None) -> Verifier:
        """Read a saved folder; raises `ArtefactError` where it is missing, damaged or newer."""
        manifest, _ = open_reward(folder, "verifier")
        path = Path(folder) / ANSWERS
        try:
            stored = json.loads(path.read_text("utf-8"))
            checkers = {p: make_check(c["check"], c["options"]) for p, c in stored["checkers"].items()}
            answers = dict(stored["answers"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ArtefactError(f"{path} is damaged ({error}). Make the verifier again") from error
        check = make_check(manifest["check"], manifest["options"])
        for prompt, answer in answers.items():
            used = checkers.get(prompt, check)
            if not isinstance(answer, str) or (not isinstance(used, LatexCheck) and _fault(used, answer)):
                wrong = _fault(used, answer) if isinstance(answer, str) else "is no text"
                shown = f"the reference answer {str(answer)[:60]!r} to {prompt[:60]!r}"
                raise ArtefactError(f"{path}: {shown} {wrong}. Make the verifier again")
        return cls(check, answers, checkers, manifest["unknown"], manifest["name"], manifest["report"])


def fit(
    evidence: Iterable[Record],
    *,
    check: str | Check | None = None,
    options: Mapping[str, Any] | None = None,
    unknown: float | None = None,
    name: str = "verifier",
    encoder: Any = None,
    cache: Any = None,
    seed: int = 0,
    **unsupported: Any,
) -> Verifier:
    """The verifier of problems: it holds their answers, and nothing is learnt.

    `check` is a check or its name with `options`; by default number. A problem's own `checker` goes before it. Every
    `fit` is given `encoder`, `cache` and `seed`; this one does not use them.

    Raises `EvidenceError` for other evidence, for two problems with one prompt and different answers or checkers, and
    for a reference answer that its check cannot use (not one plain number, no mathematics, no pattern).
    """
    if unsupported:
        raise TacitError(f"a verifier has no option `{min(unsupported)}`. It takes: check, options, unknown")
    start = time.perf_counter()
    chosen = make_check(check or NumberCheck.kind, options) if check is None or isinstance(check, str) else check
    source = getattr(evidence, "source", "memory")
    answers: dict[str, str] = {}
    checkers: dict[str, Check] = {}
    rows = evidence.rows() if isinstance(evidence, Evidence) else enumerate(evidence, 1)
    for row, record in track(rows, "reading reference answers"):
        if not isinstance(record, Problem):
            raise EvidenceError(
                f"a verifier is made of problems, not of {record.plural()}",
                mend="Give rows with `prompt` and `answer`",
                source=source,
                row=row,
            )
        prompt = prompt_text(record.prompt)
        own = checkers.get(prompt, chosen)
        if record.checker is not None and record.checker != chosen.kind:
            try:
                own = make_check(record.checker)
            except TacitError as error:
                raise EvidenceError(
                    str(error).rstrip("."), mend="Fix it", source=source, row=row, column="checker"
                ) from error
        if answers.setdefault(prompt, record.answer) != record.answer:
            raise EvidenceError(
                f"this prompt has the answer {answers[prompt][:40]!r} already",
                mend="Keep one problem of each prompt",
                source=source,
                row=row,
                column="answer",
                value=record.answer,
            )
        if wrong := _fault(own, record.answer):
            latex = ", or use --check latex (in a YAML file `type: latex`)" if isinstance(own, NumberCheck) else ""
            raise EvidenceError(
                f"the reference answer {wrong}, as check `{own.kind}` needs it",
                mend=f"Fix it{latex}",
                source=source,
                row=row,
                column="answer",
                value=record.answer,
            )
        if own is not chosen:
            checkers[prompt] = own
    if not answers:
        raise EvidenceError("there are no problems", mend="Give at least one", source=source)
    report = {"kind": "problem", "n_train": len(answers), "seconds": time.perf_counter() - start}
    return Verifier(chosen, answers, checkers, unknown, name, report)


def _fault(check: Check, answer: str) -> str | None:
    """What is wrong with a reference answer for a check; None where the check does not use it."""
    return check.reference_fault(answer) if needs_answer(check) else None
