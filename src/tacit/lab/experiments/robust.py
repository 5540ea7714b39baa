"""`tacit lab robust`: fits for data with a known fault, against plain Bradley-Terry, where the truth is known.

Each fault stands beside its control, a world without it, and every `X_gain` is paired with the plain fit of the same
world and seed: positive where the row is better.

- **flips**: 3,000 comparisons of responses with 16 normal features and a linear truth; .3 (or none) of the votes are
  turned round. `calibration_error` is the mean of |sigma(d) - P| over new pairs, with P the probability of the true
  preference; `nll` is of unturned votes; `spearman` is with the true reward.
- **length**: people vote by quality plus 1.5 logits for a doubling of length (or none); one feature tells length.
  `spearman` is with quality. In `grammar`, the built-in world of texts with its own true reward, good answers *are*
  longer than bad ones: there the remedy takes away quality with the bias.
- **prompt**: every answer that people saw was as much on its topic as any other, so that votes say nothing about
  relevance. Features are style, content and content times topic; the truth is style plus 4 relevance. `own` is the
  accuracy on answers to one prompt, `foreign` of preferring the best of these to answers to another prompt, `spearman`
  over 8 own and 8 foreign answers. In `grammar` the features are hashed words, and the truth its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tacit.audit import calibration
from tacit.audit.ranking import spearman, spearman_by_group
from tacit.evidence.annotators import Annotator
from tacit.evidence.records import Comparison
from tacit.features.arrays import PrecomputedEncoder
from tacit.features.encoders import Encoder, Text
from tacit.lab.seeds import repeat
from tacit.lab.worlds import World
from tacit.rewards.contract import Reward
from tacit.rewards.feature_reward import FeatureReward, fit

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.integer[Any]]
Row = dict[str, Any]

FLIP = 0.3
LENGTH_BIAS = 1.5
LOSSES: dict[str, dict[str, Any]] = {
    "plain": {},
    "label smoothing": {"label_smoothing": FLIP},
    f"flips, rate {FLIP} given": {"robust": "flips", "flip_rate": FLIP},
    "flips, rate learnt": {"robust": "flips"},
    "gce": {"robust": "gce"},
    "symmetric": {"robust": "symmetric"},
}


def run(*, seeds: int = 10, seed: int = 0) -> dict[str, Any]:
    """The tables, as rows of one list: means and 95% intervals over `seeds`."""
    worlds = (*_FLIPS, *_LENGTHS, *_PROMPTS)
    rows = repeat(lambda s: [row for world in worlds for row in world(s)], seeds, seed, "robust")
    return {"experiment": "robust", "seeds": seeds, "rows": rows}


def _against_plain(rows: list[Row], higher: Sequence[str], lower: Sequence[str] = ()) -> list[Row]:
    plain = rows[0]
    for row in rows:
        row |= {f"{key}_gain": row[key] - plain[key] for key in higher}
        row |= {f"{key}_gain": plain[key] - row[key] for key in lower}
    return rows


# --- flipped votes ----------------------------------------------------------------------------------------------------


def flips(seed: int, *, flip: float, n: int = 3000, tests: int = 4000, dim: int = 16) -> list[Row]:
    """Every loss on one world of votes, `flip` of which are turned round."""
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=dim)
    weight *= 1.5 / np.linalg.norm(weight)
    features = rng.normal(size=(2 * (n + tests), dim)).astype(np.float32)
    truth = features @ weight
    likely = calibration.sigmoid(truth[0::2] - truth[1::2])
    votes = rng.random(n + tests) < likely
    said = votes[:n] ^ (rng.random(n) < flip)
    names = [str(i) for i in range(len(features))]
    encoder = PrecomputedEncoder(names, features)
    evidence = [
        Comparison(chosen=names[2 * i + (not first)], rejected=names[2 * i + first])
        for i, first in enumerate(said.astype(int).tolist())
    ]
    rows: list[Row] = []
    for loss, options in LOSSES.items():
        reward = fit(evidence, encoder=encoder, seed=seed, **options)
        scores = reward.score([""] * (2 * tests), names[2 * n :]).astype(np.float64)
        delta = scores[0::2] - scores[1::2]
        row: Row = {"fault": "flips", "world": f"flip {flip}", "fit": loss}
        row["calibration_error"] = float(np.abs(calibration.sigmoid(delta) - likely[n:]).mean())
        row["nll"] = float(calibration.nll(delta, votes[n:].astype(np.float64)).mean())
        row["spearman"] = spearman(scores, truth[2 * n :])
        row["flip_rate"] = reward.report.get("flip_rate", 0.0)
        rows.append(row)
    return _against_plain(rows, ["spearman"], ["calibration_error", "nll"])


# --- length -----------------------------------------------------------------------------------------------------------


def lengths(seed: int, *, bias: float, n: int = 2000, tests: int = 1000, dim: int = 8) -> list[Row]:
    """The plain and the length-regressed fit where quality owes nothing to length."""
    rng = np.random.default_rng(seed)
    count = 2 * n + tests
    quality, doublings = rng.normal(size=(count, dim)), np.maximum(rng.normal(6, 1, size=count), 3.5)
    features = np.c_[quality, doublings + 0.3 * rng.normal(size=count)].astype(np.float32)
    truth = quality @ np.linspace(-0.7, 0.7, dim)
    texts = [f"{i:06d}" + "x" * (round(2**length) - 7) for i, length in enumerate(doublings)]
    felt = truth + bias * np.log2([1 + len(text) for text in texts])
    first = rng.random(n) < calibration.sigmoid(felt[0 : 2 * n : 2] - felt[1 : 2 * n : 2])
    evidence = [
        Comparison(chosen=texts[2 * i + (not won)], rejected=texts[2 * i + won])
        for i, won in enumerate(first.astype(int).tolist())
    ]
    encoder = PrecomputedEncoder([("", text) for text in texts], features)
    asked = ([""] * tests, texts[2 * n :])
    return _length_rows(
        f"length bias {bias}", evidence, encoder, seed, lambda r: spearman(r.score(*asked), truth[2 * n :])
    )


def grammar_lengths(seed: int, *, bias: float, n: int = 2000) -> list[Row]:
    """The same on the built-in world of texts, where good answers are longer; per prompt, on prompts not seen."""
    world = World()
    people = [Annotator(rationality=2.0, length_bias=bias)]
    rows = world.compare(n, np.random.default_rng(seed), people)
    evidence = [Comparison(prompt=r["prompt"], chosen=r["chosen"], rejected=r["rejected"]) for r in rows]
    prompts, replies = world.sample(200, 8, np.random.default_rng(seed + 10_000))
    asked, given = [p for p in prompts for _ in range(8)], [reply for own in replies for reply in own]
    truth, group = world.true_reward(asked, given), np.repeat(np.arange(200), 8)

    def measure(reward: Reward) -> float:
        return float(spearman_by_group(reward.score(asked, given), truth, group)[1].mean())

    return _length_rows(f"grammar, length bias {bias}", evidence, "hashed", seed, measure)


def _length_rows(
    world: str, evidence: list[Comparison], encoder: Any, seed: int, measure: Callable[[Reward], float]
) -> list[Row]:
    rows: list[Row] = []
    for name, regressed in (("plain", False), ("length regressed", True)):
        reward = fit(evidence, encoder=encoder, seed=seed, length_regressed=regressed)
        row: Row = {"fault": "length", "world": world, "fit": name, "spearman": measure(reward)}
        row["length_coefficient"] = reward.report.get("length_coefficient", 0.0)
        rows.append(row)
    return _against_plain(rows, ["spearman"])


# --- the prompt -------------------------------------------------------------------------------------------------------


class Topics:
    """An encoder of numbers: prompt i has a topic, answer j a style and a content; features are (style, content,
    content times topic)."""

    name = "topics"
    fingerprint = "topics"

    def __init__(self, topic: Array, style: Array, content: Array) -> None:
        self.topic, self.style, self.content = topic, style, content
        self.dim = style.shape[1] + 2 * content.shape[1]

    def encode(self, texts: Sequence[Text]) -> np.ndarray:
        """Vectors (n, dim) float32 of (number of a prompt, number of an answer)."""
        i, j = np.array([(int(p), int(c)) for p, c in texts], dtype=np.int64).reshape(-1, 2).T
        content = self.content[j]
        return np.concatenate([self.style[j], content, content * self.topic[i]], axis=1).astype(np.float32)

    def config(self) -> dict[str, Any]:
        """These vectors are made anew with each seed and cannot be read back."""
        return {"encoder": "topics", "name": self.name, "dim": self.dim, "fingerprint": self.fingerprint}


def topics(seed: int, *, n: int = 1000, tests: int = 300, own: int = 8, dim: int = 8) -> list[Row]:
    """Plain and augmented fits, linear and with hidden layers, where the truth is style plus 4 relevance."""
    rng = np.random.default_rng(seed)
    count = n + tests
    topic = rng.normal(size=(count, dim))
    topic /= np.linalg.norm(topic, axis=1, keepdims=True)
    of = np.r_[np.repeat(np.arange(n), 2), np.repeat(np.arange(n, count), own)]
    noise = 0.3 * rng.normal(size=(len(of), dim))
    content = topic[of] + noise - (noise * topic[of]).sum(1, keepdims=True) * topic[of]  # all equally on their topic
    style = rng.normal(size=(len(of), 4))
    weight = np.array([1.0, 0.7, -0.5, 0.2])

    def reward(i: Index, j: Index) -> Array:
        return np.asarray(style[j] @ weight + 4 * (topic[i] * content[j]).sum(1))

    value = reward(of, np.arange(len(of)))
    first = rng.random(n) < calibration.sigmoid(value[0 : 2 * n : 2] - value[1 : 2 * n : 2])
    evidence = [
        Comparison(prompt=str(i), chosen=str(2 * i + (not won)), rejected=str(2 * i + won))
        for i, won in enumerate(first.astype(int).tolist())
    ]
    answers = np.arange(2 * n, len(of)).reshape(tests, own)
    pool = np.c_[answers, np.roll(answers, 1 + seed % (tests - 1), axis=0)]  # own answers, then those to another prompt
    asked = np.repeat(np.arange(n, count), pool.shape[1])
    truth = reward(asked, pool.ravel()).reshape(pool.shape)
    texts = ([str(i) for i in asked], [str(j) for j in pool.ravel()])
    return _prompt_rows("topics", evidence, Topics(topic, style, content), seed, texts, truth, own)


def grammar_prompts(seed: int, *, n: int = 1500, tests: int = 200, own: int = 8) -> list[Row]:
    """The same on the built-in world of texts with hashed features, whose linear head cannot multiply."""
    world = World()
    rows = world.compare(n, np.random.default_rng(seed), [Annotator(rationality=2.0)])
    evidence = [Comparison(prompt=r["prompt"], chosen=r["chosen"], rejected=r["rejected"]) for r in rows]
    prompts, replies = world.sample(tests, own, np.random.default_rng(seed + 10_000))
    pool = [replies[i] + replies[(i + 1) % tests] for i in range(tests)]
    texts = ([p for p in prompts for _ in range(2 * own)], [reply for both in pool for reply in both])
    truth = world.true_reward(*texts).reshape(tests, 2 * own)
    return _prompt_rows("grammar", evidence, "hashed", seed, texts, truth, own)


def _prompt_rows(
    world: str,
    evidence: list[Comparison],
    encoder: Encoder | str,
    seed: int,
    texts: tuple[list[str], list[str]],
    truth: Array,
    own: int,
) -> list[Row]:
    """`truth` (prompts, 2 own): own answers first, then those to another prompt."""
    rows: list[Row] = []
    for head in ("linear", "mlp"):
        several = []
        for name, share in (("plain", 0.0), ("augmented", 1.0)):
            layers: dict[str, Any] = {"hidden": (64,)} if head == "mlp" else {}
            found: FeatureReward = fit(evidence, encoder=encoder, seed=seed, head=head, augment=share, **layers)
            scores = found.score(*texts).astype(np.float64).reshape(truth.shape)
            several.append({"fault": "prompt", "world": world, "fit": f"{head}, {name}", **_reads(scores, truth, own)})
        rows += _against_plain(several, ["own", "foreign", "spearman"])
    return rows


def _reads(scores: Array, truth: Array, own: int) -> Row:
    half = own // 2
    pairs = np.sign(truth[:, :half] - truth[:, half:own]) == np.sign(scores[:, :half] - scores[:, half:own])
    best = truth[:, :own].argmax(1)
    each = np.arange(len(truth))
    foreign = scores[each, best][:, None] > scores[:, own:]
    group = np.repeat(each, truth.shape[1])
    rho = spearman_by_group(scores.ravel(), truth.ravel(), group)[1].mean()
    return {"own": float(pairs.mean()), "foreign": float(foreign.mean()), "spearman": float(rho)}


_FLIPS: tuple[Callable[[int], list[Row]], ...] = (lambda s: flips(s, flip=FLIP), lambda s: flips(s, flip=0.0))
_LENGTHS: tuple[Callable[[int], list[Row]], ...] = (
    lambda s: lengths(s, bias=LENGTH_BIAS),
    lambda s: lengths(s, bias=0.0),
    lambda s: grammar_lengths(s, bias=LENGTH_BIAS),
    lambda s: grammar_lengths(s, bias=0.0),
)
_PROMPTS: tuple[Callable[[int], list[Row]], ...] = (topics, grammar_prompts)
