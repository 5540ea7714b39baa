"""One person's choices: what a reward is adapted to, and what must then not be evaluated on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from tacit.conversation import texts
from tacit.errors import TacitError
from tacit.evidence import Evidence
from tacit.evidence.records import Comparison, Record
from tacit.rewards.contract import Personal, Reward
from tacit.rewards.scoring import scored_rows


def adapted(reward: Reward, choices: Iterable[Record]) -> Reward:
    """`reward` made the own reward of the person who made these choices.

    Raises `TacitError` where the reward cannot be adapted, where the choices are no comparisons, and where they come
    from several annotators.
    """
    if not isinstance(reward, Personal):
        raise TacitError(
            f"reward `{reward.name}` is the same for everybody. Fit one with --people decomposed, groups or latent"
        )
    comparisons: list[Comparison] = []
    for record in choices:
        if not isinstance(record, Comparison):
            raise TacitError(
                f"a person's choices are comparisons, not {record.plural()}. Give rows with `chosen` and `rejected`"
            )
        comparisons.append(record)
    names = sorted({c.annotator for c in comparisons if c.annotator is not None})
    if len(names) > 1:
        raise TacitError(f"these are choices of {len(names)} annotators ({names[0]}, {names[1]}, ...). Give one's only")
    return reward.adapt(comparisons)


def seen_in(choices: Iterable[Record]) -> Callable[[Record], bool]:
    """Whether a record is one of these choices, in either order: such a record must not be evaluated on."""
    known = {_key(choice) for choice in choices if isinstance(choice, Comparison)}
    return lambda record: isinstance(record, Comparison) and _key(record) in known


def leave_out(evidence: Evidence, choices: Iterable[Record]) -> Evidence:
    """`evidence` without the choices that a reward was adapted on; `dropped` counts them.

    Raises `TacitError` where nothing is left to evaluate on.
    """
    seen = seen_in(choices)
    keep = np.array([not seen(record) for record in evidence], dtype=bool)
    if not keep.any():
        raise TacitError(
            f"{evidence.source}: every row adapted the reward, so none can test it. Give other comparisons"
        )
    return evidence.select(keep, dropped=evidence.dropped + int((~keep).sum()))


def marked_rows(reward: Reward, evidence: Evidence, choices: Sequence[Record]) -> Iterator[list[dict[str, Any]]]:
    """Scored rows of `evidence` (`scored_rows`); comparisons say in `adapted_on` whether they are among `choices`."""
    if evidence.kind != "comparison":
        yield from scored_rows(reward, evidence)
        return
    seen = seen_in(choices)
    records = iter(evidence)
    for batch in scored_rows(reward, evidence):
        yield [row | {"adapted_on": seen(next(records))} for row in batch]


def _key(record: Comparison) -> frozenset[tuple[str, str]]:
    other = record.prompt if record.rejected_prompt is None else record.rejected_prompt
    return frozenset((texts(record.prompt, record.chosen), texts(other, record.rejected)))
