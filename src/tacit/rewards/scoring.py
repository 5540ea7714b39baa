"""Scores beside rows: what `tacit score` writes, in batches, so that memory does not grow with rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from tacit.conversation import Completion, Prompt, completion_text
from tacit.errors import EvidenceError, TacitError
from tacit.evidence import Comparison, Evidence, Kind, Ranking, Record
from tacit.evidence.records import Steps
from tacit.progress import track
from tacit.rewards.contract import Comparing, Detailed, Reward, StepLevel, Uncertain
from tacit.rewards.solutions import Cut, natural_cut, whole_solution
from tacit.rewards.uncertainty import Pessimistic

Row = dict[str, Any]


class _Score(Protocol):
    def __call__(self, record: Record, mean: np.ndarray, members: np.ndarray | None) -> Row: ...


def member_scores(
    reward: Reward, prompts: Sequence[Prompt], completions: Sequence[Completion]
) -> tuple[np.ndarray, np.ndarray | None]:
    """Scores (n,) and, where the reward has several members, each member's (members, n); the text is encoded once.

    Raises `TacitError` for scores that are not finite.
    """
    members: np.ndarray | None = None
    if isinstance(reward, Pessimistic):
        scores, members = reward.score_with_members(prompts, completions)
    elif isinstance(reward, Uncertain):
        members = reward.score_members(prompts, completions)
        require_scores(reward.name, members[0] if len(members) else np.empty(0), completions)
        scores = members.mean(0)
    else:
        scores = reward.score(prompts, completions)
    require_scores(reward.name, scores, completions)
    return scores, members if members is not None and len(members) > 1 else None


def require_scores(name: str, scores: np.ndarray, completions: Sequence[Completion]) -> None:
    """Raise `TacitError` where a reward gave another number of scores than (n,), or one that is not finite."""
    if np.shape(scores) != (len(completions),):
        raise TacitError(
            f"reward `{name}` gave scores of shape {np.shape(scores)} for {len(completions)} texts. Fit it again"
        )
    if len(bad := np.flatnonzero(~np.isfinite(scores))):
        text = completion_text(completions[bad[0]])[:60]
        raise TacitError(
            f"reward `{name}` gave {scores[bad[0]]} for the answer {text!r}. Fit it again, or leave that out"
        )


def spread(members: np.ndarray) -> np.ndarray:
    """Standard deviation over members, (members, n) to (n,), with the divisor members - 1."""
    result: np.ndarray = members.std(axis=0, ddof=1)
    return result


def require_completions(evidence: Evidence) -> None:
    """Raise `EvidenceError` for evidence that holds no answers."""
    if evidence.kind not in _KINDS:
        raise EvidenceError(
            f"evidence of kind {evidence.kind} holds no completions to score",
            mend="Give rows with `prompt` and `completion`, or comparisons, ratings, outcomes, rankings or steps",
            source=evidence.source,
        )


def scored_rows(reward: Reward, evidence: Evidence, *, size: int = 8192) -> Iterator[list[Row]]:
    """Every record of `evidence` as a row with scores added, in batches of `size` records.

    - demonstration, outcome: `score`, and `score_std`, the spread over members, where the reward has several;
    - rating: `predicted_score` and `predicted_score_std`, since `score` is what people gave;
    - comparison: `score_chosen`, `score_rejected` and their difference `score` (the log-odds that the chosen side is
      preferred) with its `score_std`;
    - ranking: the lists `scores` and `scores_std`, in the order of `completions`;
    - steps: `score` and `score_std` of the whole solution, and the list `step_scores` where the reward scores steps.

    Where the reward looks at two completions at once (`Comparing`), the `score` of a comparison is what it forecasts of
    the two, and not a difference; there is no `score_std` then. What a `Detailed` reward has to add has columns of its
    own: `score_helpful` (or `predicted_score_helpful`), `score_chosen_helpful` and `score_rejected_helpful`,
    `scores_helpful`.

    Other columns stay. Raises `EvidenceError` for problems, which hold no completion, and for a row that has one of
    these columns already.
    """
    require_completions(evidence)
    kind: Kind = evidence.kind
    if kind == "demonstration" and "score" in evidence.columns.unused:
        kind = "rating"  # the rows have a score of their own
    scores_of = _KINDS[kind]
    cut = _cut_of(reward, evidence) if evidence.kind == "steps" else "newline"
    done = 0
    for records in track(evidence.batches(size), "scoring", size=len):
        pairs = [responses(record, cut) for record in records]
        prompts = [prompt for pair in pairs for prompt, _ in pair]
        completions = [completion for pair in pairs for _, completion in pair]
        mean, members = member_scores(reward, prompts, completions)
        details = reward.details(prompts, completions) if isinstance(reward, Detailed) else {}
        odds = forecasts(reward, records) if evidence.kind == "comparison" else None
        steps = _step_scores(reward, records) if evidence.kind == "steps" else None
        rows, start = [], 0
        for number, (record, pair) in enumerate(zip(records, pairs, strict=True), done + 1):
            part = slice(start, start + len(pair))
            start = part.stop
            row = record.model_dump(exclude_unset=True)
            added = scores_of(record, mean[part], None if members is None else members[:, part])
            for name, values in details.items():
                added |= _named(kind, name, values[part].tolist())
            if odds is not None and np.isfinite(odds[number - done - 1]):
                added["score"] = float(odds[number - done - 1])
                added.pop("score_std", None)
            if steps is not None:
                added["step_scores"] = steps[number - done - 1].tolist()
            if clash := row.keys() & added.keys():
                raise EvidenceError(
                    f"record {number} has a column of this name already",
                    mend="Rename it, so that scores can be written beside it",
                    source=evidence.source,
                    column=min(clash),
                )
            rows.append(row | added)
        done += len(records)
        yield rows


def forecasts(reward: Reward, records: Sequence[Any]) -> np.ndarray | None:
    """Log-odds (n,) that the chosen side is preferred, by a reward that looks at both; nan where the two have different
    prompts, and None for other rewards."""
    if not isinstance(reward, Comparing):
        return None
    odds = np.full(len(records), np.nan, np.float32)
    same = [i for i, record in enumerate(records) if record.rejected_prompt in (None, record.prompt)]
    asked = [records[i] for i in same]
    odds[same] = reward.compare([r.prompt for r in asked], [r.chosen for r in asked], [r.rejected for r in asked])
    return odds


def _named(kind: str, name: str, values: list[float]) -> Row:
    match kind:
        case "comparison":
            return {f"score_chosen_{name}": values[0], f"score_rejected_{name}": values[1]}
        case "ranking":
            return {f"scores_{name}": values}
        case _:
            return {f"{'predicted_score' if kind == 'rating' else 'score'}_{name}": values[0]}


def _cut_of(reward: Reward, evidence: Evidence) -> Cut:
    """How solutions in steps become one completion: as the reward cuts them, else as gives their steps back."""
    own: Cut | None = getattr(reward, "cut", None)
    return own or natural_cut([record.completions for record in evidence if isinstance(record, Steps)])


def _step_scores(reward: Reward, records: Sequence[Any]) -> list[np.ndarray] | None:
    if not isinstance(reward, StepLevel):
        return None
    return reward.score_steps([record.prompt for record in records], [record.completions for record in records])


def responses(record: Any, cut: Cut = "newline") -> list[tuple[Prompt, Completion]]:
    """The (prompt, completion) pairs of a record: of a comparison the chosen side first, of steps the whole."""
    match record:
        case Comparison():
            other = record.prompt if record.rejected_prompt is None else record.rejected_prompt
            return [(record.prompt, record.chosen), (other, record.rejected)]
        case Ranking():
            return [(record.prompt, completion) for completion in record.completions]
        case Steps():
            return [(record.prompt, whole_solution(record.completions, cut))]
        case _:
            return [(record.prompt, record.completion)]


def _single(name: str) -> _Score:
    def added(record: Record, mean: np.ndarray, members: np.ndarray | None) -> Row:
        row = {name: float(mean[0])}
        return row if members is None else row | {f"{name}_std": float(spread(members)[0])}

    return added


def _comparison(record: Record, mean: np.ndarray, members: np.ndarray | None) -> Row:
    row = {"score": float(mean[0] - mean[1]), "score_chosen": float(mean[0]), "score_rejected": float(mean[1])}
    return row if members is None else row | {"score_std": float(spread(members[:, :1] - members[:, 1:])[0])}


def _ranking(record: Record, mean: np.ndarray, members: np.ndarray | None) -> Row:
    row = {"scores": mean.tolist()}
    return row if members is None else row | {"scores_std": spread(members).tolist()}


_KINDS: dict[str, _Score] = {
    "demonstration": _single("score"),
    "outcome": _single("score"),
    "rating": _single("predicted_score"),
    "comparison": _comparison,
    "ranking": _ranking,
    "steps": _single("score"),
}
