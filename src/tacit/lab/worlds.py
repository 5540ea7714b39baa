r"""A small world of prompts and replies whose true reward is known, and hidden from whoever learns.

A prompt asks about a topic and may wish for a brief or a detailed answer, as a beginner or an expert. A reply is a few
sentences: statements about the topic (right or wrong; plain, direct or hedged), examples, courtesy, rudeness, padding.
The true reward is computed from the text alone, by reading it back. With counts

    f right statements on the topic, m wrong ones, o right ones on other topics, d whether one of them is direct,
    h hedges, e examples, p courtesies, u rudenesses, k paddings, w words,

a wished length W (30, 45 or 70 words) and indicators B (brief wished), N (a beginner), X (an expert), it is

    r = 4 (1 - e^{-0.45 f})                    saturating: the fifth fact tells little
      - 1.2 m (1 + d/2) / (1 + h/2)            a wrong statement is worse when direct, and better when hedged
      - 0.2 o
      + 0.6 d (1 + B)                          a direct answer, twice where brevity was asked for
      - 0.3 max(0, h - m)                      hedging without need
      + e (0.4 + 0.5 N - 0.5 X)                examples help beginners and bore experts
      + 0.5 tanh(p) / (1 + 2 u) - 0.9 u        courtesy that rudeness undoes
      - 0.3 k
      - (log(w / W))_+^2                       too long for what was asked

Not linear in anything that a bag of words sees: it saturates, multiplies and depends on the prompt. `World.scale` is
the standard deviation of r over replies, the unit for simulated people.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from tacit.conversation import Completion, Prompt, completion_text, prompt_text
from tacit.evidence.annotators import Annotator, prefer
from tacit.lab import phrases

Array = npt.NDArray[np.float64]

COUNTS = ("right", "wrong", "off_topic", "direct", "hedges", "examples", "polite", "rude", "padding", "words")
"""What is read from a reply, in the order of the columns of `World.read`."""
WISHES = ("brief", "detailed", "beginner", "expert")
WISHED_WORDS = {"brief": 30.0, "any": 45.0, "detailed": 70.0}

_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_WORD = re.compile(r"[\w'-]+")


@dataclass(frozen=True)
class World:
    """The world; `scale` is the standard deviation of its true reward over sampled replies."""

    name: str = "grammar"
    scale: float = 1.5

    def sample(self, n_prompts: int, n_replies: int, rng: np.random.Generator) -> tuple[list[str], list[list[str]]]:
        """Distinct prompts, and `n_replies` replies to each, no two alike: (n_prompts,), (n_prompts, n_replies)."""
        prompts: dict[str, int] = {}
        while len(prompts) < n_prompts:
            topic = int(rng.integers(len(phrases.TOPICS)))
            prompts.setdefault(_write_prompt(topic, rng), topic)
        replies = []
        for topic in prompts.values():
            own: dict[str, None] = {}
            while len(own) < n_replies:
                own.setdefault(_write_reply(topic, rng))
            replies.append(list(own))
        return list(prompts), replies

    def read(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> Array:
        """Counts (n, 10) of `COUNTS` and wishes (n, 4) of `WISHES` side by side, from the texts alone: (n, 14)."""
        rows = [
            (*_read_reply(completion_text(c), _topic_of(prompt_text(p))), *_wishes(prompt_text(p)))
            for p, c in zip(prompts, completions, strict=True)
        ]
        return np.array(rows, dtype=np.float64).reshape(-1, len(COUNTS) + len(WISHES))

    def true_reward(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> Array:
        """The hidden reward r of each reply, (n,), to six decimals: the equation of this module. Any text has one."""
        f, m, o, direct, h, e, p, u, k, w, brief, detailed, beginner, expert = self.read(prompts, completions).T
        d = np.minimum(direct, 1)
        wished = np.select(
            [brief > 0, detailed > 0], [WISHED_WORDS["brief"], WISHED_WORDS["detailed"]], WISHED_WORDS["any"]
        )
        over = np.maximum(0.0, np.log(np.maximum(w, 1) / wished))
        reward: Array = (
            4.0 * (1 - np.exp(-0.45 * f))
            - 1.2 * m * (1 + d / 2) / (1 + h / 2)
            - 0.2 * o
            + 0.6 * d * (1 + brief)
            - 0.3 * np.maximum(0, h - m)
            + e * (0.4 + 0.5 * beginner - 0.5 * expert)
            + 0.5 * np.tanh(p) / (1 + 2 * u)
            - 0.9 * u
            - 0.3 * k
            - over**2
        )
        return reward.round(6)

    def compare(
        self,
        n: int,
        rng: np.random.Generator,
        annotators: Sequence[Annotator] = (Annotator(),),
        *,
        pairs_per_prompt: int = 2,
    ) -> list[dict[str, Any]]:
        """`n` comparisons by `annotators` as rows of evidence, with the truth beside them in `gold_chosen/_rejected`.

        Every prompt has `pairs_per_prompt` pairs of fresh replies, shown in random order to a random person, who feels
        rewards in units of `scale` and lengths in characters.
        """
        prompts, replies = self.sample(-(-n // pairs_per_prompt), 2 * pairs_per_prompt, rng)
        asked = [prompt for prompt in prompts for _ in range(pairs_per_prompt)][:n]
        first = [reply for own in replies for reply in own[0::2]][:n]
        second = [reply for own in replies for reply in own[1::2]][:n]
        gold_a, gold_b = self.true_reward(asked, first), self.true_reward(asked, second)
        lengths = [np.array([len(text) for text in side]) for side in (first, second)]
        who = rng.integers(len(annotators), size=n)
        votes = prefer(annotators, who, gold_a / self.scale, gold_b / self.scale, *lengths, rng=rng)
        rows = []
        for i, vote in enumerate(votes):
            texts, golds = (first[i], second[i]), (float(gold_a[i]), float(gold_b[i]))
            best = 0 if vote >= 0.5 else 1
            row: dict[str, Any] = {
                "prompt": asked[i],
                "chosen": texts[best],
                "rejected": texts[1 - best],
                "gold_chosen": golds[best],
                "gold_rejected": golds[1 - best],
                "chosen_first": best == 0,
            }
            if vote == 0.5:
                row["tie"] = True
            if len(annotators) > 1:
                row["annotator"] = annotators[who[i]].name or f"person-{who[i]}"
            rows.append(row)
        return rows


@dataclass
class TrueReward:
    """The world's own reward in the contract of `tacit.rewards.contract.Reward`."""

    world: World = field(default_factory=World)
    name: str = "truth"

    def score(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> np.ndarray:
        """True rewards (n,), float32."""
        return self.world.true_reward(prompts, completions).astype(np.float32)


def _write_prompt(topic: int, rng: np.random.Generator) -> str:
    length = ("brief", "any", "detailed")[rng.integers(3)]
    level = ("beginner", "any", "expert")[rng.integers(3)]
    wishes = [_pick(phrases.LENGTH_WISHES[length], rng), _pick(phrases.LEVELS[level], rng)]
    if rng.random() < 0.5:
        wishes.reverse()
    question = _pick(phrases.OPENERS, rng) + _pick(phrases.TOPICS[topic].questions, rng)
    parts = [question, *wishes, _pick(phrases.CLOSERS, rng)]
    return " ".join(part for part in parts if part)


def _write_reply(topic: int, rng: np.random.Generator) -> str:
    own = phrases.TOPICS[topic]
    care, flair = rng.random(2)  # of one writer: how careful, how chatty
    right = list(rng.permutation(len(own.right))[: rng.binomial(4, 0.3 + 0.4 * care)])
    wrong = list(rng.permutation(len(own.wrong))[: rng.binomial(2, 0.5 * (1 - care))])
    body = [own.right[i] for i in right] + [own.wrong[i] for i in wrong]
    if rng.random() < 0.02:
        other = phrases.TOPICS[(topic + 1 + int(rng.integers(len(phrases.TOPICS) - 1))) % len(phrases.TOPICS)]
        body.append(_pick(other.right, rng))
    body = [body[i] for i in rng.permutation(len(body))]
    shy, straight = rng.random() ** 2 * 0.7, rng.random() < 0.4
    sentences = []
    for i, statement in enumerate(body):
        opener = (
            _pick(phrases.DIRECT, rng)
            if straight and i == 0
            else _pick(phrases.HEDGED, rng)
            if rng.random() < shy
            else _pick(phrases.PLAIN, rng)
        )
        sentences.append(f"{opener} {statement}")
    for i in rng.permutation(len(own.examples))[: rng.binomial(2, 0.35)]:
        sentences.append(f"{_pick(phrases.EXAMPLE, rng)} {own.examples[i]}")
    for i in rng.permutation(len(phrases.PADDING))[: rng.binomial(3, 0.05 + 0.5 * flair**2)]:
        sentences.insert(int(rng.integers(len(sentences) + 1)), phrases.PADDING[i])
    for pool, share in ((phrases.POLITE, 0.1 + 0.2 * flair), (phrases.RUDE, 0.10)):
        for i in rng.permutation(len(pool))[: rng.binomial(2, share)]:
            sentences.insert(int(rng.choice([0, len(sentences)])), pool[i])
    if not sentences:
        sentences = [_pick(phrases.POLITE, rng)]
    end = "!" if rng.random() < 0.1 else "."
    return " ".join(_capital(sentence.strip()) + "." for sentence in sentences)[:-1] + end


def _pick(options: Sequence[str], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


@cache
def _lexicon() -> dict[str, tuple[str, int]]:
    """Every clause in lower case: what it is, and the topic it is about (-1 for none)."""
    found: dict[str, tuple[str, int]] = {}
    for number, topic in enumerate(phrases.TOPICS):
        for kind in ("right", "wrong", "examples"):
            found |= {clause.lower(): (kind, number) for clause in getattr(topic, kind)}
    for kind in ("polite", "rude", "padding"):
        found |= {clause.lower(): (kind, -1) for clause in getattr(phrases, kind.upper())}
    return found


@cache
def _openers() -> tuple[tuple[str, str], ...]:
    """(opener in lower case with its space, what it does), longest first."""
    kinds = {"direct": phrases.DIRECT, "hedges": phrases.HEDGED, "": (*phrases.EXAMPLE, *phrases.PLAIN)}
    pairs = {(opener.lower() + " ", kind) for kind, pool in kinds.items() for opener in pool if opener}
    return tuple(sorted(pairs, key=lambda pair: (-len(pair[0]), pair)))


@cache
def _read_sentence(sentence: str) -> tuple[str, int, str]:
    """(what its clause is or "", the clause's topic, what its opener does or "") of one sentence in lower case."""
    kind, topic = _lexicon().get(sentence, ("", -1))
    if kind:
        return kind, topic, ""
    for opener, does in _openers():
        if sentence.startswith(opener):
            kind, topic = _lexicon().get(sentence[len(opener) :], ("", -1))
            return kind, topic, does
    return "", -1, ""


def _read_reply(text: str, asked: int) -> tuple[int, ...]:
    count = dict.fromkeys(COUNTS, 0)
    for sentence in _SENTENCE.split(text.strip()):
        kind, topic, does = _read_sentence(sentence.rstrip(".!?").lower())
        if does:
            count[does] += 1
        if kind == "right":
            count["right" if topic == asked else "off_topic"] += 1
        elif kind:
            count[kind] += 1
    count["words"] = len(_WORD.findall(text))
    return tuple(count.values())


@cache
def _topic_of(prompt: str) -> int:
    """The topic whose question the prompt holds; -1 where it holds none."""
    for number, topic in enumerate(phrases.TOPICS):
        if any(question in prompt for question in topic.questions):
            return number
    return -1


@cache
def _wishes(prompt: str) -> tuple[bool, ...]:
    pools = {**phrases.LENGTH_WISHES, **phrases.LEVELS}
    return tuple(any(wish in prompt for wish in pools[name]) for name in WISHES)
