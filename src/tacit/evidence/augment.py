"""Comparisons that nobody made: answers set against answers of other prompts, and pairs across prompts.

`augment` is the causal augmentation of RRM (Liu et al. 2024, arXiv 2409.13156): an answer to *this* prompt is preferred
to a good answer to another, and two answers to another prompt are a tie under this one. What makes an answer good
whatever was asked (its length, its manners) then stops paying off, and the reward has to read the prompt.

`pair_across` turns ratings or outcomes of different prompts into comparisons. `WARNING` goes into the report of a fit
on any such comparisons.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tacit.conversation import completion_text, prompt_text
from tacit.errors import EvidenceError
from tacit.evidence.records import Comparison, Outcome, Rating

WARNING = (
    "{share:.0%} of the comparisons are across prompts. Their answers are further apart, so that people err less"
    " (E|r(x,y1) - r(x,y2)| <= E|r(x1,y1) - r(x2,y2)|), but part of that is which prompt is easier to answer well: the"
    " accuracy on them says little about choosing among answers to one prompt. Audit on comparisons within prompts,"
    " and split by prompt, so that neither prompt of a pair is on both sides"
)
"""Format with the `share` of comparisons whose two sides have different prompts."""


def augment(
    comparisons: Sequence[Comparison], share: float, *, ties: float = 0.5, seed: int = 0, source: str = "memory"
) -> list[Comparison]:
    """New comparisons under the prompts of `comparisons`, `round(share * n)` of them, without the given ones.

    A given comparison (x, y+, y-), drawn anew for each, and another (x', z+, z-) of a prompt x' != x become

        (x, y > z)     with y one of y+, y-  and z one of z+, z-          a part 1 - `ties`
        (x, z+ ~ z-)   a tie                                              a part `ties`

    with the weight of the given comparison. A pair whose sides would be one text is drawn again. Comparisons across
    prompts and without a prompt give nothing to augment with.

    Raises `EvidenceError` where fewer than two prompts are left, and `ValueError` for shares out of range.
    """
    if share < 0 or not 0 <= ties <= 1:
        raise ValueError(f"share must not be negative and ties lie in 0..1 (found {share} and {ties})")
    sound = [record for record in comparisons if record.rejected_prompt is None and prompt_text(record.prompt)]
    texts = [prompt_text(record.prompt) for record in sound]
    _, prompt = np.unique(np.array(texts, dtype=object), return_inverse=True)
    if len(sound) == 0 or prompt.max() == 0:
        raise EvidenceError(
            "answers of other prompts need at least two prompts",
            mend="Give comparisons with prompts, or fit without --augment",
            source=source,
            column="prompt",
        )
    rng = np.random.default_rng(seed)
    count = round(share * len(comparisons))
    made: list[Comparison] = []
    while len(made) < count:
        need = count - len(made)
        here, there = _two_prompts(prompt, need, rng)
        tied = rng.random(need) < ties
        side, other = rng.integers(2, size=(2, need))
        for i, j, tie, a, b in zip(here, there, tied.tolist(), side.tolist(), other.tolist(), strict=True):
            own, foreign = sound[i], sound[j]
            chosen = foreign.chosen if tie else (own.chosen, own.rejected)[a]
            rejected = foreign.rejected if tie else (foreign.chosen, foreign.rejected)[b]
            if completion_text(chosen) != completion_text(rejected):
                made.append(Comparison(prompt=own.prompt, chosen=chosen, rejected=rejected, tie=tie, weight=own.weight))
        if not made:
            raise EvidenceError(
                "all answers are one text", mend="Run `tacit check` on the file", source=source, column="chosen"
            )
    return made


def pair_across(
    records: Sequence[Rating | Outcome], n: int, *, seed: int = 0, source: str = "memory"
) -> list[Comparison]:
    """`n` comparisons of rated (or labelled) answers to different prompts: the higher one is chosen, equals are ties.

    Mind `WARNING`: these say as much about prompts as about answers. Raises `EvidenceError` where there are fewer than
    two prompts, or a rating has several attributes.
    """
    values = []
    for row, record in enumerate(records, 1):
        value = float(record.label) if isinstance(record, Outcome) else record.score
        if isinstance(value, dict):
            raise EvidenceError(
                "ratings with several attributes cannot be ordered",
                mend="Keep one number per row in column `score`",
                source=source,
                row=row,
                column="score",
                value=value,
            )
        values.append(value)
    _, prompt = np.unique(np.array([prompt_text(r.prompt) for r in records], dtype=object), return_inverse=True)
    if len(records) == 0 or prompt.max() == 0:
        raise EvidenceError(
            "pairs across prompts need at least two prompts", mend="Give more", source=source, column="prompt"
        )
    first, second = _two_prompts(prompt, n, np.random.default_rng(seed))
    pairs = []
    for i, j in zip(first, second, strict=True):
        better, worse = (i, j) if values[i] >= values[j] else (j, i)
        pairs.append(
            Comparison(
                prompt=records[better].prompt,
                chosen=records[better].completion,
                rejected=records[worse].completion,
                rejected_prompt=records[worse].prompt,
                tie=values[i] == values[j],
            )
        )
    return pairs


def _two_prompts(prompt: np.ndarray, n: int, rng: np.random.Generator) -> tuple[list[int], list[int]]:
    """n pairs of positions with different prompts: the first uniform, the second uniform among those that differ."""
    order = np.argsort(prompt, kind="stable")
    size = np.bincount(prompt)
    start = np.cumsum(size) - size
    first = rng.integers(len(prompt), size=n)
    own = prompt[first]
    # A number among the positions of other prompts, moved past the block of one's own.
    drawn = (rng.random(n) * (len(prompt) - size[own])).astype(np.int64)
    drawn += np.where(drawn >= start[own], size[own], 0)
    return first.tolist(), order[drawn].tolist()
