"""`tacit lab polis`: personal rewards on three real Pol.is conversations, beside every control.

A person who agreed with a statement and disagreed with another prefers the first; up to 40 such pairs of each person
are learnt from. A third of the people with six votes of either kind or more is held out at a time, until each was. A
new person's statements are halved: pairs within one half adapt the reward, pairs within the other test it, so that no
vote serves both. Three settings:

- `texts`: statements are MiniLM vectors (64 principal components);
- `texts, new statements`: likewise, and tests are on a quarter of the statements, on which nobody's vote is learnt;
- `votes`: statements are the mean vote and 16 factors of the votes of the people learnt from, and no text.

Metrics are means over people, with intervals from a bootstrap over people; a person's own are averaged over the seeds,
which draw folds, halves and pairs. `gain` is the paired difference in accuracy to the pooled reward.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tacit.errors import TacitError
from tacit.features import load_encoder
from tacit.lab.experiments.adaptation import learn
from tacit.lab.polis import Conversation, factors, pairs, read_conversations
from tacit.progress import track
from tacit.rewards.people.crowd import Episodes, compared
from tacit.rewards.people.table import adaptation, rows_of

Floats = npt.NDArray[np.float32]
SETTINGS = ("texts", "texts, new statements", "votes")
SHOTS = (10, 30)
EACH, FOLDS, LEAST, SIZE = 40, 3, 6, 64


def run(*, data: Path, seeds: int = 2, seed: int = 0) -> dict[str, Any]:
    """Accuracy and NLL of every way to adapt for each conversation, setting and number of comparisons."""
    rows: list[dict[str, Any]] = []
    for conversation in read_conversations(data):
        texts = load_encoder("minilm?layers=last").encode([("", text) for text in conversation.statements])
        for setting in SETTINGS:
            rows += _setting(conversation, texts, setting, range(seed, seed + seeds))
    return {"experiment": "polis", "seeds": seeds, "rows": rows}


def _setting(conversation: Conversation, texts: Floats, setting: str, seeds: range) -> Iterator[dict[str, Any]]:
    people = len(conversation.votes)
    sums: dict[int, dict[str, dict[str, npt.NDArray[np.float64]]]] = {}
    counts = {shots: np.zeros(people) for shots in SHOTS}
    able = np.flatnonzero(((conversation.votes == 1).sum(1) >= LEAST) & ((conversation.votes == -1).sum(1) >= LEAST))
    title = f"{conversation.name}, {setting}"
    for seed, fold in track([(s, f) for s in seeds for f in range(FOLDS)], title, len(seeds) * FOLDS):
        rng = np.random.default_rng((seed, fold))
        dealt = np.random.default_rng(seed).permutation(able)
        for shots, who, found in _fold(conversation, texts, setting, dealt[fold::FOLDS], seed, rng):
            counts[shots][who] += 1
            for way, metrics in found.items():
                for key, values in metrics.items():
                    held = sums.setdefault(shots, {}).setdefault(way, {}).setdefault(key, np.zeros(people))
                    held[who] += values
    for shots in SHOTS:
        tested = counts[shots] > 0
        means = {
            way: {key: values[tested] / counts[shots][tested] for key, values in metrics.items()}
            for way, metrics in sums.get(shots, {}).items()
        }
        if means:
            yield from rows_of(means, conversation=conversation.name, setting=setting, shots=shots)


def _fold(
    conversation: Conversation, texts: Floats, setting: str, new: npt.NDArray[np.int64], seed: int, rng: Any
) -> Iterator[tuple[int, npt.NDArray[np.int64], dict[str, dict[str, npt.NDArray[np.float64]]]]]:
    """(shots, people, metrics of each way to adapt) of the `new` people, from what the others voted."""
    votes, count = conversation.votes, len(conversation.statements)
    fresh = np.zeros(count, bool)
    if setting == "texts, new statements":
        fresh[rng.permutation(count)[: count // 4]] = True
    is_new = np.zeros(len(votes), bool)
    is_new[new] = True
    learnt = votes * ~is_new[:, None] * ~fresh
    features = factors(learnt[~is_new], 16) if setting == "votes" else _principal(texts, ~fresh)
    who, agreed, disagreed = pairs(learnt, np.ones(votes.shape, bool), EACH, rng)
    crowd = compared(features, agreed, disagreed, [str(p) for p in who])
    if fresh.any():
        queried = np.broadcast_to(fresh, votes.shape)
        given = np.broadcast_to(~fresh, votes.shape)
    else:
        given = rng.random(votes.shape) < 0.5
        queried = ~given
    shown = votes * is_new[:, None]
    parts = [pairs(shown, allowed, 2 * EACH, rng) for allowed in (given, queried)]
    who, agreed, disagreed = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    tests = compared(features, agreed, disagreed, [str(p) for p in who], standardise=crowd.standardise)
    context = torch.arange(len(tests)) < len(parts[0][0])
    ways = learn(crowd, seed, restarts=4, steps=300)
    for shots in SHOTS:
        try:
            episodes = Episodes.draw(tests, shots, seed, contexts=context, queries=~context)
        except TacitError:  # nobody in this fold voted that much
            continue
        index = tests.person[episodes.context[:, 0]].numpy()
        yield shots, np.array([int(name) for name in tests.people])[index], adaptation(tests, ways, episodes)


def _principal(texts: Floats, known: npt.NDArray[np.bool_]) -> Floats:
    """The first principal components (statements, k) of the vectors, found on the known statements."""
    centre = texts[known].mean(0)
    _, _, axes = np.linalg.svd(texts[known] - centre, full_matrices=False)
    projected: Floats = ((texts - centre) @ axes[:SIZE].T).astype(np.float32)
    return projected
