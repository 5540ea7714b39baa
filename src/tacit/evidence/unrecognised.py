"""What to say of columns that no layout knows: what they lack, and how a flag names it."""

from __future__ import annotations

from tacit.evidence import prompts
from tacit.evidence.advice import listed, typed
from tacit.evidence.layout import Row, without
from tacit.evidence.names import canonical, describes, hints_at_judgement, is_named
from tacit.evidence.source_columns import Request
from tacit.evidence.verdicts import find_sides
from tacit.evidence.vocabulary import ANNOTATOR, COMPLETION

_FORMS = (
    "--columns prompt=COLUMN completion=COLUMN label=COLUMN for one answer and a judgement of it, response_a=COLUMN"
    " response_b=COLUMN winner=COLUMN for two answers and which is better, or chosen=COLUMN rejected=COLUMN"
)


def unrecognised(row: Row, request: Request) -> tuple[str, str]:
    """Why the rows are no layout that is known, and how to go on."""
    seen = without(row, *request.ignored)
    wanted = f" as kind {request.kind}" if request.kind else ""
    titles = [request.title(name) for name in seen]
    reason = f"the columns {listed(titles)} are no layout that is known{wanted}"
    rest = f"Name them with --columns (columns= in Python), as {_FORMS}"
    sides = find_sides(seen)
    if sides is not None and request.kind in (None, "comparison"):
        first, second = (request.title(side) for side in sides)
        others = [request.title(name) for name in seen if name not in sides and not describes(name)]
        others = [name for name in others if canonical(name) not in (*prompts.PROMPT_COLUMNS, *ANNOTATOR)]
        reason += f": `{first}` and `{second}` are two answers, and no column says which is better"
        return reason, f"Name it, as --columns {_filled('winner', others[:1])}"
    if len(seen) > 12:
        rest += "; a table with a column for each question must first be written with a row for each answer"
    prompt = prompts.prompt_columns(list(seen)) or {
        name: name for name in seen if canonical(name) in prompts.CONVERSATIONS
    }
    judging = [request.title(name) for name in seen if is_named(name) or hints_at_judgement(name)]
    answered = any(canonical(name) in (*COMPLETION, "answer") for name in seen)
    if not judging or request.kind not in (None, "outcome", "rating"):
        return reason, rest
    texts = [
        request.title(name)
        for name, value in seen.items()
        if isinstance(value, str) and not describes(name) and request.title(name) not in judging
        and name not in prompt.values() and canonical(name) not in COMPLETION
    ]  # fmt: skip
    lacks = [ours for ours, known in (("prompt", prompt), ("completion", answered)) if not known]
    if not lacks:
        return reason, rest
    what = " and ".join({"prompt": "the prompt", "completion": "the answer"}[ours] for ours in lacks)
    reason += f": `{judging[0]}` judges, and no column is known to be {what}"
    flags = " ".join(_filled(ours, texts if len(lacks) == 1 else []) for ours in lacks)
    return reason, f"Name {'it' if len(lacks) == 1 else 'them'}, as --columns {flags}"


def _filled(ours: str, candidates: list[str]) -> str:
    """A pair for --columns, filled in where one column alone can be meant."""
    return typed(f"{ours}={candidates[0]}") if len(candidates) == 1 else f"{ours}=COLUMN"
