"""People in known worlds: whom a reward serves, whose it is, and who can be trusted; and the readers of real crowds."""

from __future__ import annotations

import gzip
import json
from functools import partial

import numpy as np
import pytest

from real_data import DATA
from tacit.errors import TacitError
from tacit.lab.experiments import adaptation, crowds, groups, polis, reliability
from tacit.lab.people import Person
from tacit.lab.polis import factors, pairs, read_conversations
from tacit.lab.seeds import repeat


def test_simulated_people_vote_as_their_rewards_say():
    rng = np.random.default_rng(0)
    people = Person.of(np.array([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0]]), 1.0, np.array([0.0, 0.0, 1.0]))
    crowd = people.choose(4000, rng)
    gaps = (crowd.gaps() * crowd.standardise.scale).numpy()
    for p, (axis, sign) in enumerate(((0, 1), (1, 1), (0, -1))):
        own = sign * gaps[crowd.person.numpy() == p, axis]
        # Among pairs whose log-odds are near 2 the better one is chosen with probability sigma(2) = .88.
        near = np.abs(np.abs(own) - 1) < 0.1
        assert (own[near] > 0).mean() == pytest.approx(1 / (1 + np.exp(-2.0)), abs=0.05)


def test_pairs_are_agreed_over_disagreed_among_allowed_statements():
    rng = np.random.default_rng(0)
    votes = rng.integers(-1, 2, size=(40, 25)).astype(np.int8)
    votes[3] = 1  # agrees with everything, so prefers nothing
    allowed = rng.random((40, 25)) < 0.5
    person, agreed, disagreed = pairs(votes, allowed, 6, rng)
    assert (votes[person, agreed] == 1).all()
    assert (votes[person, disagreed] == -1).all()
    assert allowed[person, agreed].all()
    assert allowed[person, disagreed].all()
    assert np.bincount(person, minlength=40).max() == 6
    assert 3 not in person
    assert len({*zip(person.tolist(), agreed.tolist(), disagreed.tolist(), strict=True)}) == len(person)


def test_statement_factors_are_mean_and_singular_vectors():
    votes = np.array([[1, -1, 0], [1, 1, -1], [1, -1, -1]], np.int8)
    found = factors(votes, 1)
    assert found[:, 0] == pytest.approx([1.0, -1 / 3, -1.0])
    assert np.abs(found[[0, 2], 1]).max() < 1e-6  # only the second statement divides the people
    assert abs(found[1, 1]) > 0.5


def test_a_folder_without_conversations_is_named(tmp_path):
    with pytest.raises(TacitError, match="holds no"):
        read_conversations(tmp_path)
    with pytest.raises(TacitError, match=r"crowd-comparisons\.csv\.gz"):
        crowds.read_llmfao(tmp_path)


def test_conversations_are_read_from_the_published_tables(tmp_path):
    tables = {
        "talk.comments.csv.gz": "timestamp,comment-id,comment-body\n1,4, Trains \n2,7,Cars\n",
        "talk.participants-votes.csv.gz": "participant,group-id,4,7\n0,1,1,\n1,,-1,0\n",
    }
    for name, text in tables.items():
        with gzip.open(tmp_path / name, "wt", encoding="utf-8") as file:
            file.write(text)
    (talk,) = read_conversations(tmp_path)
    assert (talk.name, talk.statements) == ("talk", ["Trains", "Cars"])
    assert talk.votes.tolist() == [[1, 0], [-1, 0]]


def test_a_new_person_s_votes_adapt_or_test_but_never_both(monkeypatch):
    rng = np.random.default_rng(0)
    votes = np.sign(rng.standard_normal((40, 30)) + rng.standard_normal(30)).astype(np.int8)
    talk = polis.Conversation("talk", [f"statement {i}" for i in range(30)], votes)
    seen = []

    def spy(crowd, ways, episodes):
        sides = [
            [{int(s) for i in rows.tolist() if i >= 0 for s in crowd.rows[i]} for rows in part]
            for part in (episodes.context, episodes.query)
        ]
        seen.extend(zip(*sides, strict=True))
        return {"pooled": {"accuracy": np.zeros(len(episodes.context)), "nll": np.zeros(len(episodes.context))}}

    monkeypatch.setattr(polis, "adaptation", spy)
    monkeypatch.setattr(polis, "learn", lambda *given, **options: {})
    texts = rng.standard_normal((30, 20)).astype(np.float32)
    for setting in polis.SETTINGS:
        assert list(polis._setting(talk, texts, setting, range(2)))
    assert len(seen) > 100
    assert all(context and query and not context & query for context, query in seen)


@pytest.mark.skipif(not (DATA / "convarg").is_dir(), reason="the folder of real data is absent")
def test_real_crowds_are_read_whole():
    llmfao = crowds.read_llmfao(DATA)
    assert (len(llmfao.chosen), len(set(llmfao.worker)), len(set(llmfao.prompt))) == (8931, 124, 13)
    assert llmfao.tie.mean() == pytest.approx(0.389, abs=0.001)
    convarg = crowds.read_convarg(DATA)
    with gzip.open(DATA / "convarg" / "pairs.dev.jsonl.gz", "rt") as file:
        first = json.loads(next(file))
    assert len(convarg.chosen) > 69_000
    decided = [v["vote"] for v in first["votes"] if v["vote"] != "equal"]
    agrees = [1 if vote == first["gold"] else -1 for vote in decided]
    n = len(first["votes"])
    assert convarg.gold[:n][~convarg.tie[:n]].tolist() == agrees
    assert {*convarg.fold.tolist()} == set(range(5))


@pytest.mark.slow
def test_the_worst_group_gains_and_the_groups_are_found():
    rows = {(row["comparisons"], row["reward"]): row for row in groups.run(seeds=10)["rows"]}
    for each in ("10", "40"):
        assert rows[each, "MaxMin, groups known"]["worst_over_pooled_ci"][0] > 0.05
        assert rows[each, "MaxMin, groups found"]["worst_over_pooled_ci"][0] > 0.02
    assert rows["40", "MaxMin, groups found"]["ari"] > 0.95
    assert rows["10", "MaxMin, groups found"]["ari_ci"][0] > 0.6


@pytest.mark.slow
def test_unreliable_annotators_are_found_and_weigh_less():
    rows = {(row["comparisons"], row["reward"]): row for row in reliability.run(seeds=10)["rows"]}
    for each in ("20", "60"):
        own = rows[each, "reliability"]
        assert own["gain_ci"][0] > 0.005
        assert 0.85 < own["coverage"] <= 1
    assert rows["60", "reliability"]["correlation_ci"][0] > 0.9


@pytest.mark.slow
def test_shared_structure_helps_a_new_person(monkeypatch):
    monkeypatch.setattr(adaptation, "SHOTS", (10,))
    rows = {row["reward"]: row for row in repeat(partial(adaptation.world, name="groups"), 3, 0, "groups")}
    assert rows["groups"]["accuracy"] > rows["logistic, pooled prior"]["accuracy"] + 0.05
    assert rows["latent"]["accuracy"] > rows["logistic, pooled prior"]["accuracy"] + 0.03
    assert rows["latent"]["gain"] > 0.03
