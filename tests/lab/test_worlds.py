import math

import numpy as np
import pytest

from tacit.evidence.annotators import Annotator
from tacit.evidence.records import Comparison
from tacit.lab import phrases
from tacit.lab.worlds import COUNTS, WISHES, TrueReward, World

WORLD = World()
QUESTION = "Why is my bread so dense?"
TOPIC = next(topic for topic in phrases.TOPICS if QUESTION in topic.questions)
OTHER = next(topic for topic in phrases.TOPICS if topic is not TOPIC)


def sentence(clause):
    return clause[0].upper() + clause[1:] + "."


def read(prompt, reply):
    return dict(zip(COUNTS + WISHES, WORLD.read([prompt], [reply])[0], strict=True))


def true(prompt, *sentences):
    return WORLD.true_reward([prompt], [" ".join(sentences)])[0]


FACT, FACT2, MYTH, TIP = (sentence(c) for c in (TOPIC.right[0], TOPIC.right[1], TOPIC.wrong[0], TOPIC.examples[0]))


def test_reading_finds_what_a_reply_says():
    reply = " ".join(
        [
            f"In short, {TOPIC.right[0]}.",
            f"Perhaps {TOPIC.wrong[0]}.",
            sentence(OTHER.right[0]),
            f"For example, {TOPIC.examples[0]}.",
            sentence(phrases.POLITE[0]),
            sentence(phrases.RUDE[0]),
            sentence(phrases.PADDING[0]),
            "Something that this world cannot say!",
        ]
    )
    got = read(f"Hello! {QUESTION} Be brief, please. I know the basics well.", reply)
    assert got.pop("words") == len(reply.split())
    assert got == {
        **dict.fromkeys(
            ("right", "wrong", "off_topic", "direct", "hedges", "examples", "polite", "rude", "padding"), 1
        ),
        **{"brief": 1, "detailed": 0, "beginner": 0, "expert": 1},
    }


def test_true_reward_by_hand():
    assert true(QUESTION, FACT) == pytest.approx(4 * (1 - math.exp(-0.45)), abs=1e-5)
    assert true(QUESTION, FACT, FACT2) == pytest.approx(4 * (1 - math.exp(-0.9)), abs=1e-5)
    assert true(QUESTION, MYTH) == pytest.approx(-1.2, abs=1e-5)
    assert true(QUESTION, f"Perhaps {TOPIC.wrong[0]}.") == pytest.approx(-1.2 / 1.5, abs=1e-5)
    assert true(QUESTION, f"In short, {TOPIC.wrong[0]}.") == pytest.approx(-1.2 * 1.5 + 0.6, abs=1e-5)
    assert true(QUESTION, sentence(OTHER.right[0])) == pytest.approx(-0.2, abs=1e-5)
    assert true(QUESTION, f"I think {TOPIC.right[0]}.") == pytest.approx(4 * (1 - math.exp(-0.45)) - 0.3, abs=1e-5)
    assert true(QUESTION, sentence(phrases.POLITE[0])) == pytest.approx(0.5 * math.tanh(1), abs=1e-5)
    both = true(QUESTION, sentence(phrases.POLITE[0]), sentence(phrases.RUDE[0]))
    assert both == pytest.approx(0.5 * math.tanh(1) / 3 - 0.9, abs=1e-5)


def test_the_prompt_decides():
    novice, expert = (f"{QUESTION} {phrases.LEVELS[name][0]}" for name in ("beginner", "expert"))
    assert true(novice, TIP) == pytest.approx(0.9, abs=1e-5)
    assert true(QUESTION, TIP) == pytest.approx(0.4, abs=1e-5)
    assert true(expert, TIP) == pytest.approx(-0.1, abs=1e-5)
    direct = f"In short, {TOPIC.right[0]}."
    brief = f"{QUESTION} {phrases.LENGTH_WISHES['brief'][0]}"
    assert true(brief, direct) - true(QUESTION, direct) == pytest.approx(0.6, abs=1e-5)
    long = [sentence(clause) for clause in (*TOPIC.right, *phrases.PADDING)]
    words = len(" ".join(long).split())
    detailed = f"{QUESTION} {phrases.LENGTH_WISHES['detailed'][0]}"
    penalty = lambda wished: max(0.0, math.log(words / wished)) ** 2  # noqa: E731
    assert true(detailed, *long) - true(brief, *long) == pytest.approx(penalty(30) - penalty(70), abs=1e-5)
    assert true(OTHER.questions[0], FACT) == pytest.approx(-0.2, abs=1e-5)


def test_every_text_has_a_reward_messages_included():
    odd = ["", "Ünïcödé 🙂", "?!.", "word " * 3000]
    assert np.isfinite(WORLD.true_reward([""] * 4, odd)).all()
    chat = [{"role": "user", "content": QUESTION}]
    assert TrueReward().score([chat], [[{"role": "assistant", "content": FACT}]])[0] == pytest.approx(
        true(QUESTION, FACT)
    )


def test_samples_are_distinct_varied_and_read_back_completely():
    prompts, replies = WORLD.sample(300, 16, np.random.default_rng(0))
    assert len(set(prompts)) == 300
    assert all(len(set(own)) == 16 for own in replies)
    flat = [reply for own in replies for reply in own]
    assert len(set(flat)) > 0.95 * len(flat)
    counts = WORLD.read([p for p in prompts for _ in range(16)], flat)
    clauses = counts[:, [COUNTS.index(name) for name in COUNTS if name not in ("words", "direct", "hedges")]].sum(
        axis=1
    )
    sentences = np.array([sum(reply.count(mark) for mark in ".!") for reply in flat])
    assert (clauses == sentences).all()
    rewards = WORLD.true_reward([p for p in prompts for _ in range(16)], flat)
    assert rewards.std() == pytest.approx(WORLD.scale, rel=0.15)


def test_sampling_repeats_with_its_seed():
    one, two, other = (WORLD.sample(20, 3, np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert one == two != other


def test_no_clause_is_in_two_places():
    clauses = [c for t in phrases.TOPICS for c in (*t.right, *t.wrong, *t.examples)]
    clauses += [*phrases.POLITE, *phrases.RUDE, *phrases.PADDING]
    assert len(clauses) == len({clause.lower() for clause in clauses})
    assert not any(mark in clause for clause in clauses for mark in ".!?")


def test_comparisons_of_an_ideal_annotator_follow_the_truth():
    rows = WORLD.compare(300, np.random.default_rng(0), [Annotator(rationality=math.inf)])
    assert len(rows) == 300
    assert all(row["gold_chosen"] >= row["gold_rejected"] for row in rows)
    for row in rows[:20]:
        record = Comparison(**row)
        assert WORLD.true_reward([record.prompt], [record.chosen])[0] == pytest.approx(row["gold_chosen"], abs=1e-5)


def test_people_who_like_length_choose_longer_replies():
    habits = {"plain": Annotator(), "lengthy": Annotator(length_bias=3.0, tie_threshold=0.2)}
    longer = {}
    for name, person in habits.items():
        rows = WORLD.compare(800, np.random.default_rng(1), [person, person])
        decided = [row for row in rows if not row.get("tie")]
        longer[name] = np.mean([len(row["chosen"]) > len(row["rejected"]) for row in decided])
        assert all("annotator" in row for row in rows)
    assert len(decided) < 800
    assert longer["lengthy"] > longer["plain"] + 0.15
