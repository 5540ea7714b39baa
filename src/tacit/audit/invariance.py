"""Invariance: does a score depend on the text alone? The reward contract's checks, and what is left of the rest.

Texts are encoded anew here, since a cache of features would give back what was computed before.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tacit.audit.bootstrap import Array, Index
from tacit.audit.sections import Finding, Section, Table
from tacit.audit.study import Study
from tacit.conversation import Completion, Prompt
from tacit.errors import TacitError
from tacit.rewards.check import EXAMPLES, allowed, check_reward
from tacit.rewards.check import Finding as Check
from tacit.rewards.contract import Reward

_TITLE = "Invariance"
_SAMPLE = 48
"""Audited texts that are scored one at a time, turned round, in company and beside a long text."""
_CHECKED = 12
"""Audited texts that the contract's checks look at beside their own."""
_LONG = 40


def invariance(study: Study) -> Section:
    """Results of `check_reward`, and the largest change of a score over batch size, order, neighbours, padding and
    precision, with the comparisons that a change as large could turn."""
    if asks_others(study.reward):
        why = "this reward asks others for its opinion, and every check would be paid for: use check_reward yourself."
        return Section.missing("invariance", _TITLE, why)
    reward = uncached(study.reward)
    chosen = np.sort(study.rng(90).permutation(len(study.items.prompts))[:_SAMPLE])
    checks = check_reward(reward, _examples(reward, study, chosen[:_CHECKED]))
    rows = _changes(study, reward, chosen) + _precision(study)
    results = [
        {"demand": check.demand, "holds": check.ok, "detail": check.detail, "mend": check.mend} for check in checks
    ]
    return Section(
        "invariance",
        _TITLE,
        f"{len(chosen)} texts are encoded and scored anew. A comparison could turn where its margin is smaller than "
        "twice the largest change.",
        {"checks": results, "changes": rows},
        (),
        (Table(_shown(checks), "The contract of a reward"), Table(rows, "Largest change of a score")),
        tuple(_findings(checks, rows)),
    )


def asks_others(reward: Any, depth: int = 8) -> bool:
    """Whether a reward, or one that it is made of, asks somebody who may want to be paid (it counts its `usage`)."""
    if hasattr(reward, "usage"):
        return True
    inside = [one for value in getattr(reward, "__dict__", {}).values() for one in _several(value)]
    return depth > 0 and any(
        asks_others(one, depth - 1) for one in inside if hasattr(one, "score") or hasattr(one, "reward")
    )


def _several(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else [value]


def uncached(reward: Reward) -> Reward:
    """A copy that encodes every text anew."""
    found = copy.copy(reward)
    if getattr(found, "cache", None) is not None:
        found.cache = None  # type: ignore[attr-defined]
    if hasattr(found, "inner"):
        found.inner = uncached(found.inner)
    return found


def _examples(reward: Reward, study: Study, chosen: Index) -> list[tuple[Prompt, Completion]]:
    """Audited texts, and the contract's own where the reward knows any text (a verifier knows its prompts alone)."""
    own = [(study.items.prompts[i], study.items.completions[i]) for i in chosen]
    try:
        reward.score([p for p, _ in EXAMPLES], [c for _, c in EXAMPLES])
    except TacitError:
        return own
    except Exception:  # no user's mistake: the checks will say what it is
        pass
    return [*EXAMPLES, *own]


def _changes(study: Study, reward: Reward, chosen: Index) -> list[dict[str, Any]]:
    prompts = [study.items.prompts[i] for i in chosen]
    completions = [study.items.completions[i] for i in chosen]
    long: Completion = "\n\n".join([str(study.items.texts[chosen[0]][1]) or "word"] * _LONG)

    def score(order: Sequence[int]) -> Array:
        return np.asarray(reward.score([prompts[i] for i in order], [completions[i] for i in order]), np.float64)

    every = list(range(len(chosen)))
    base = score(every)
    beside: dict[str, Callable[[], Array]] = {
        "batch size: one at a time": lambda: np.concatenate([score([i]) for i in every]),
        "order: turned round": lambda: score(every[::-1])[::-1],
        "neighbours: in other company": lambda: score(every + every[::-3])[: len(every)],
        "padding: beside a long text": lambda: np.asarray(
            reward.score([*prompts, prompts[0]], [*completions, long])[: len(every)], np.float64
        ),
        "twice": lambda: score(every),
    }
    rows = []
    for name, again in beside.items():
        try:
            change = np.abs(again() - base)
        except TacitError as error:
            rows.append({"what": name, "texts": 0, "note": str(error)})
            continue
        rows.append(_row(study, name, len(chosen), float(change.max()), bool((change > allowed(base)).any())))
    return rows


def _precision(study: Study) -> list[dict[str, Any]]:
    """Features rounded to half precision, of all texts; nothing for a reward that has none."""
    features, score = study.features, getattr(study.core, "score_features", None)
    if features is None or score is None or not len(features):
        return []
    import torch

    base = _scores(score(features))
    rows = []
    for name, kind in (("float16", torch.float16), ("bfloat16", torch.bfloat16)):
        rounded = torch.from_numpy(np.ascontiguousarray(features)).clamp(-65_000, 65_000).to(kind).float().numpy()
        scores = _scores(score(rounded))
        row = _row(study, f"precision: features in {name}", len(features), float(np.abs(scores - base).max()), False)
        turned = np.sign(scores[study.pairs.a] - scores[study.pairs.b]) != np.sign(
            base[study.pairs.a] - base[study.pairs.b]
        )
        rows.append({**row, "turned": float(turned.mean())})
    return rows


def _scores(members: np.ndarray) -> Array:
    """Mean over members of (members, n), or scores (n,) as they are."""
    values = np.asarray(members, dtype=np.float64)
    return values.mean(0) if values.ndim == 2 else values


def _row(study: Study, name: str, count: int, change: float, broken: bool) -> dict[str, Any]:
    spread = float(np.std(study.scores)) or 1.0
    return {
        "what": name,
        "texts": count,
        "largest change": change,
        "in standard deviations": change / spread,
        "comparisons that could turn": float(np.mean((np.abs(study.delta) < 2 * change) & (study.delta != 0))),
        "turned": None,
        "within tolerance": not broken,
    }


def _shown(checks: Sequence[Check]) -> list[dict[str, Any]]:
    return [{"demand": c.demand, "holds": c.ok, "what to do": "" if c.ok else f"{c.detail}. {c.mend}"} for c in checks]


def _findings(checks: Sequence[Check], rows: Sequence[dict[str, Any]]) -> list[Finding]:
    broken = [check for check in checks if not check.ok]
    if broken:
        first, more = broken[0], f" ({len(broken)} demands in all)" if len(broken) > 1 else ""
        sentence = (
            f"It breaks the contract of a reward: “{first.demand}” does not hold ({first.detail}){more}. {first.mend}."
        )
        return [Finding("breaks_contract", "fault", sentence, {"demands": [check.demand for check in broken]})]
    moved = [row for row in rows if row.get("within tolerance") is False]
    if moved:
        worst = max(moved, key=lambda row: float(row["largest change"]))
        sentence = (
            f"Its scores depend on more than the text: {worst['what']} moves one by {worst['largest change']:.2g}, "
            f"and {worst['comparisons that could turn']:.1%} of comparisons could turn."
        )
        return [Finding("not_invariant", "fault", sentence, {"changes": list(moved)})]
    return []
