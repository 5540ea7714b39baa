r"""`tacit lab over-optimisation`: does the law of over-optimisation foretell where choosing by a learnt reward fails?

Proxies are fitted on 300 to 20,000 votes (`linear`; a perceptron, `mlp`, on up to 5,000) and choose the best of n; gold
is the truth. Pools of candidates:

- **replies**: the built-in world; 48 new prompts with 1,024 of its replies each.
- **long tail**: the same, but one candidate in sixteen goes on with a random number (geometric, mean 8) of sentences
  about anything: rare texts unlike any that people voted on, which a linear proxy scores by adding up.
- **humour** (`--data`): one-liners. Votes on one part of them fit the proxies, the others are one pool of candidates
  from which n are drawn; gold is their best-worst score.

In each a quarter of the votes may be turned round (`noise`), as in Coste et al. 2024 (arXiv 2310.02743). `reading` says
what is made of the proxy: `single` is one fit, the others read ten bootstrap members (`tacit.rewards.uncertainty`).

- `final`: gold gained over plain sampling by the best of the largest n, in standard deviations of gold over candidates;
  `over_single` the same less that of the single fit on the same votes; `best` is the highest over all n.
- `peak_log2_n`, `peak_kl`: where gold is highest on one half of the prompts (or of the pool), out of 1, 2, 4, ...
- `foretold`: the peak of d (alpha - beta d) in nats of KL (Gao et al. 2023), fitted to the other half over all n, and
  no further out than the largest n; `early` is fitted to n <= 32 alone. `agrees`: the 95% bootstrap interval of
  foretold less measured peak holds 0.
- `regret`: the best gold less that where the law says to stop, on the half that the law has not seen; `early_regret`
  likewise, and the controls `regret_32`, stopping at n = 32, and `regret_last`, going on to the largest n.
- `peak_moves`: `peak_kl` less that of the proxy from the fewest votes, same reading.

Rows with no votes are controls: by lot, by length, and by gold itself. All over seeds: means and 95% intervals. `rows`
has what is gained, `peaks` the rest.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tacit.audit.overoptimisation import fit_laws, pooled_best_of_n
from tacit.evidence import Evidence
from tacit.evidence.annotators import Annotator
from tacit.evidence.records import Comparison, Record
from tacit.features import Encoder, FeatureStore, load_encoder
from tacit.features.arrays import PrecomputedEncoder
from tacit.improve.best_of_n import expected_best_of_n, kl_best_of_n
from tacit.lab import phrases
from tacit.lab.humour import one_liners
from tacit.lab.seeds import repeat
from tacit.lab.worlds import World
from tacit.rewards.feature_reward import fit
from tacit.rewards.uncertainty import How, read_members

Array = npt.NDArray[np.float64]
Row = dict[str, Any]

SIZES = (300, 1000, 5000, 20_000)
HEADS: dict[str, int] = {"linear": 20_000, "mlp": 5000}
"""Heads of proxies, and the most votes that each is fitted on."""
MEMBERS = 10
NOISE = 0.25
LABELS = ("pool", "noise", "head", "votes", "reading")
EARLY = 32
"""The largest n that the early law sees."""
RATIONALITY = 2.0
TAIL = 1 / 16
TAIL_SENTENCES = 8.0
_READINGS: tuple[How, ...] = ("none", "min", "variance", "quantile")
_RESAMPLES = 400


@dataclass(frozen=True)
class Pool:
    """Candidates: gold (prompts, N) with N samples of each prompt, or (items,) of one pool to draw from."""

    name: str
    gold: Array
    features: npt.NDArray[np.float32]
    """(candidates, d), rows in the order of `gold`."""
    lengths: Array
    lot: Array
    ns: tuple[int, ...]

    def of(self, scores: npt.ArrayLike) -> Array:
        """Scores (candidates,) in the shape of `gold`."""
        return np.asarray(scores, np.float64).reshape(self.gold.shape)

    def halves(self, rng: np.random.Generator) -> tuple[Array, Array]:
        """Two halves of the prompts, or of the items, as weights (units,) of 0 and 1."""
        first = np.zeros(len(self.gold))
        first[rng.permutation(len(first))[: len(first) // 2]] = 1.0
        return first, 1 - first

    def curves(self, proxy: Array, *weightings: Array) -> list[Array]:
        """Gold of the proxy's best of n less that of plain sampling, in standard deviations: weights (r, units) each
        to (r, len(ns))."""
        gold = (self.gold - self.gold.mean()) / self.gold.std()
        if gold.ndim == 1:
            found = [pooled_best_of_n(proxy, gold, weights, self.ns) for weights in weightings]
        else:
            each = expected_best_of_n(proxy, gold, self.ns)
            found = [weights @ each / weights.sum(1, keepdims=True) for weights in weightings]
        return [curve - curve[:, :1] for curve in found]


def run(
    *,
    seeds: int = 10,
    seed: int = 0,
    data: Path | None = None,
    sizes: Sequence[int] = SIZES,
    prompts: int = 48,
    samples: int = 1024,
    heads: Sequence[str] = tuple(HEADS),
) -> dict[str, Any]:
    """The table over seeds in the built-in world, and on the one-liners in `data` where it is given.

    `samples`, a power of two from 64 on, is the largest n.
    """
    every = repeat(lambda s: _built_in(s, sizes, heads, prompts, samples), seeds, seed, "built-in world")
    if data is not None:
        told = one_liners(data)
        every += repeat(lambda s: _humour(*told, s, sizes, heads), seeds, seed, "one-liners")
    gained = ("final", "over_single", "best")
    rows = [{k: v for k, v in row.items() if k in LABELS or k.removesuffix("_ci") in gained} for row in every]
    peaks = [{k: v for k, v in row.items() if k in LABELS or k.removesuffix("_ci") not in gained} for row in every]
    return {"experiment": "over-optimisation", "seeds": seeds, "members": MEMBERS, "rows": rows, "peaks": peaks}


def _built_in(seed: int, sizes: Sequence[int], heads: Sequence[str], prompts: int, samples: int) -> list[Row]:
    """Both pools of the built-in world under one seed."""
    world, rng, encoder = World(), np.random.default_rng(seed), load_encoder("hashed")
    asked, replies = world.sample(prompts, samples, rng)
    going_on = [[lengthened(text, rng) if rng.random() < TAIL else text for text in own] for own in replies]
    ns = tuple(2**k for k in range(int(np.log2(samples)) + 1))
    kinds = {"replies": list(chain(*replies)), "long tail": list(chain(*going_on))}
    questions = [question for question in asked for _ in range(samples)]
    votes = {  # the same pairs at either noise
        noise: world.compare(max(sizes), np.random.default_rng([seed, 1]), [_person(noise)]) for noise in (0.0, NOISE)
    }
    texts = dict.fromkeys((vote["prompt"], vote[side]) for vote in votes[0.0] for side in ("chosen", "rejected"))
    for given in kinds.values():
        texts |= dict.fromkeys(zip(questions, given, strict=True))
    known = PrecomputedEncoder(list(texts), FeatureStore(encoder).features(list(texts)))
    pools = [_pool(name, world, known, questions, given, ns) for name, given in kinds.items()]
    rows = []
    for noise, said in votes.items():
        records = list(Evidence.from_records(said, kind="comparison", source="world"))
        rows += _rows(pools, records, known, noise, sizes, heads, seed)
    return rows


def _person(noise: float) -> Annotator:
    return Annotator(rationality=RATIONALITY, flip=noise)


def _pool(
    name: str, world: World, encoder: Encoder, asked: Sequence[str], replies: Sequence[str], ns: tuple[int, ...]
) -> Pool:
    """Candidates with as many replies to each prompt as the largest of `ns`."""
    pairs, shape = list(zip(asked, replies, strict=True)), (-1, ns[-1])
    return Pool(
        name,
        world.true_reward(asked, replies).reshape(shape),
        FeatureStore(encoder).features(pairs),
        np.array([len(text) for text in replies], np.float64).reshape(shape),
        np.array([zlib.crc32("\0".join(pair).encode()) for pair in pairs], np.float64).reshape(shape),
        ns,
    )


def lengthened(text: str, rng: np.random.Generator) -> str:
    """A reply that goes on: sentences of the built-in world about anything, in a number that is geometric."""
    clauses = [c for topic in phrases.TOPICS for kind in (topic.right, topic.wrong, topic.examples) for c in kind]
    clauses += [*phrases.POLITE, *phrases.RUDE, *phrases.PADDING]
    openers = (*phrases.DIRECT, *phrases.HEDGED, *phrases.EXAMPLE, *phrases.PLAIN)
    more = []
    for _ in range(int(rng.geometric(1 / TAIL_SENTENCES))):
        opener, clause = openers[rng.integers(len(openers))], clauses[rng.integers(len(clauses))]
        sentence = f"{opener} {clause}".strip()
        more.append(sentence[:1].upper() + sentence[1:] + ".")
    return " ".join([text, *more])


def _humour(
    evidence: Evidence,
    encoder: PrecomputedEncoder,
    gold: dict[str, float],
    seed: int,
    sizes: Sequence[int],
    heads: Sequence[str] = ("linear",),
) -> list[Row]:
    """One-liners: 55% of them give the votes, which are 20,000 and more, the others are the pool."""
    rng = np.random.default_rng([seed, 2])
    texts = list(gold)
    voted = set(np.array(texts)[rng.permutation(len(texts))[: int(0.55 * len(texts))]].tolist())
    held = [text for text in texts if text not in voted]
    votes = [r for r in evidence if isinstance(r, Comparison) and r.chosen in voted and r.rejected in voted]
    votes = [votes[i] for i in rng.permutation(len(votes))[: max(sizes)]]
    turn = rng.random(len(votes))
    pool = Pool(
        "humour",
        np.array([gold[text] for text in held]),
        FeatureStore(encoder).features([("", text) for text in held]),
        np.array([len(text) for text in held], np.float64),
        np.array([zlib.crc32(text.encode()) for text in held], np.float64),
        tuple(2**k for k in range(9)),
    )
    rows = []
    for noise in (0.0, NOISE):
        told = [
            r.model_copy(update={"chosen": r.rejected, "rejected": r.chosen}) if t < noise else r
            for r, t in zip(votes, turn, strict=True)
        ]
        rows += _rows([pool], told, encoder, noise, sizes, heads, seed)
    return rows


def _rows(
    pools: Sequence[Pool],
    votes: Sequence[Record],
    encoder: Encoder,
    noise: float,
    sizes: Sequence[int],
    heads: Sequence[str],
    seed: int,
) -> list[Row]:
    """Every reading of the proxies of each head from the first votes of each size, and once the controls."""
    rows: list[Row] = []
    for head, size in [(head, size) for head in heads for size in sizes if size <= HEADS[head]]:
        single, several = (fit(votes[:size], encoder=encoder, members=k, seed=seed, head=head) for k in (1, MEMBERS))
        for pool in pools:
            members = several.score_features(pool.features).astype(np.float64)
            readings = {"single": single.score_features(pool.features)[0]}
            readings |= {"mean" if how == "none" else how: read_members(members, how) for how in _READINGS}
            labels: Row = {"pool": pool.name, "noise": str(noise), "head": head, "votes": str(size)}
            made = [labels | {"reading": n} | _measured(pool, pool.of(s), seed) for n, s in readings.items()]
            for row in made:
                same = [r for r in rows if all(r[k] == row[k] for k in ("pool", "head", "reading"))]
                row["over_single"] = row["final"] - made[0]["final"]
                row["peak_moves"] = row["peak_kl"] - (same or [row])[0]["peak_kl"]
            rows += made
    if noise == 0:
        for pool in pools:
            for name, proxy in (("by lot", pool.lot), ("length", pool.lengths), ("gold", pool.gold)):
                labels = {"pool": pool.name, "noise": "", "head": "", "votes": "", "reading": name}
                rows.append(labels | _measured(pool, proxy, seed))
    return rows


def _measured(pool: Pool, proxy: Array, seed: int) -> Row:
    """One proxy's curve, its measured peak on one half and the peaks foretold from the other."""
    rng = np.random.default_rng([seed, 3])
    kl, ns = kl_best_of_n(pool.ns), np.array(pool.ns)
    weightings = (np.ones((1, len(pool.gold))), *(_resampled(half, rng) for half in pool.halves(rng)))
    (whole, *_), seen, unseen = pool.curves(proxy, *weightings)
    early = ns <= EARLY
    measured = kl[unseen.argmax(1)]
    laws = {"foretold": fit_laws(kl, seen), "early": fit_laws(kl[early], seen[:, early])}
    peaks = {name: np.minimum(law.peak, kl[-1]) for name, law in laws.items()}
    row: Row = {
        "final": float(whole[-1]),
        "best": float(whole.max()),
        "peak_log2_n": float(np.log2(ns[unseen[0].argmax()])),
        "peak_kl": float(measured[0]),
    }
    top = unseen[0].max()
    for name, prefix in (("foretold", ""), ("early", "early_")):
        low, high = np.quantile(peaks[name][1:] - measured[1:], [0.025, 0.975])
        row[name] = float(peaks[name][0])
        row[f"{prefix}agrees"] = bool(low <= 0 <= high)
        row[f"{prefix}regret"] = float(top - np.interp(peaks[name][0], kl, unseen[0]))
    row["regret_32"] = float(top - unseen[0][early][-1])
    row["regret_last"] = float(top - unseen[0][-1])
    return row


def _resampled(half: Array, rng: np.random.Generator) -> Array:
    """The half itself, and resamples of its units, as weights (1 + resamples, units)."""
    drawn = rng.multinomial(int(half.sum()), half / half.sum(), size=_RESAMPLES)
    return np.concatenate([half[None], drawn.astype(np.float64)])
