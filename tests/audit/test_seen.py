"""Rows that a reward was fitted on are counted and named, by hashes alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tacit
from tacit.audit.metrics import evaluate
from tacit.audit.overlap import warning
from tacit.audit.report import audit
from tacit.evidence import Comparison, Evidence, Outcome, Ranking, Steps
from tacit.rewards.combination import Part, WeightedSum
from tacit.rewards.controls import InvertedReward, LengthReward
from tacit.rewards.origin import Origin, origins_of
from tacit.rewards.saving import ORIGIN


def pair(i: int, prompt: str | None = None, end: str = "") -> Comparison:
    return Comparison(
        prompt=f"question {i}" if prompt is None else prompt,
        chosen=f"thank you {i}{end}",
        rejected=f"NO {i}{end}",
        annotator=f"w{i % 6}",
    )


FITTED = [pair(i) for i in range(60)]
NEW = [pair(i) for i in range(100, 130)]
SAME_PROMPTS = [pair(i, end=" indeed") for i in range(10)]


@pytest.fixture(scope="module")
def reward(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("seen") / "r"
    tacit.fit(FITTED, encoder="hashed").save(folder)
    return tacit.load(folder)


def counted(reward: Any, records: list[Any]) -> tuple[Any, Any]:
    found = evaluate(reward, Evidence.from_records(records), resamples=20)
    return found["n_seen"], found["n_seen_prompts"]


def test_rows_and_prompts_of_the_fit_are_counted(reward: Any) -> None:
    assert counted(reward, NEW) == (0, 0)
    assert counted(reward, FITTED[:7]) == (7, 7)
    assert counted(reward, [*NEW, *SAME_PROMPTS, *FITTED[:5]]) == (5, 15)
    # Messages render as the strings did, and one known answer of two is no row of the fit.
    messages = Comparison(prompt=[{"role": "user", "content": "question 3"}], chosen="thank you 3", rejected="new")
    assert counted(reward, [messages, *NEW]) == (0, 1)
    outcomes = [Outcome(prompt="question 3", completion=text, label=text == "NO 3") for text in ("NO 3", "new")]
    assert counted(reward, outcomes) == (1, 2)
    ranking = Ranking(prompt="question 3", completions=["NO 3", "thank you 3", "new"], ranks=[1, 2, 3])
    assert counted(reward, [ranking]) == (1, 3)


@pytest.mark.parametrize("prompt", ["Tell a joke", ""])
def test_under_one_prompt_answers_alone_are_known(prompt: str) -> None:
    reward = tacit.fit([pair(i, prompt) for i in range(30)], encoder="hashed")
    assert counted(reward, [pair(i, prompt) for i in range(20, 50)]) == (10, 10)
    assert counted(reward, [pair(i, prompt) for i in range(30, 50)]) == (0, 0)


@pytest.mark.parametrize(
    "model",
    ["scalar", "mean_variance", "pairwise", "boosted", "prefix", "decomposed", "groups", "latent", "reliability"],
)
def test_every_model_remembers_through_its_folder(model: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"steps": 20} if model == "latent" else {}
    tacit.fit(FITTED, model=model, encoder="hashed", **options).save(tmp_path / "r")
    assert counted(tacit.load(tmp_path / "r"), [*NEW, *FITTED[:5], *SAME_PROMPTS]) == (5, 15)


def test_rewards_inside_others_remember(reward: Any, tmp_path: Path) -> None:
    for other in (InvertedReward(reward), WeightedSum([Part(LengthReward(), 1.0), Part(reward, 1.0)])):
        assert counted(other, [*NEW, *FITTED[:5]]) == (5, 5)
    tacit.fit(FITTED, encoder="hashed", members=2, pessimism="min").save(tmp_path / "r")
    assert counted(tacit.load(tmp_path / "r"), [*NEW, *FITTED[:5]]) == (5, 5)
    assert counted(LengthReward(), FITTED) == (None, None)


def test_solutions_in_steps_are_remembered(tmp_path: Path) -> None:
    rows = [Steps(prompt=f"q{i}", completions=[f"a {i}", f"b {i}"], labels=[True, i % 2 == 0]) for i in range(60)]
    tacit.fit(rows[:40], encoder="hashed").save(tmp_path / "r")
    assert counted(tacit.load(tmp_path / "r"), rows[30:]) == (10, 10)


def test_the_report_names_them_with_accuracy_on_each(reward: Any) -> None:
    report = audit(reward, Evidence.from_records([*NEW, *FITTED[:20], *SAME_PROMPTS], source="x.jsonl"), resamples=50)
    (finding,) = (finding for _, finding in report.findings if finding.key == "seen_in_fit")
    assert finding.severity == "fault"
    assert finding.sentence == (
        "x.jsonl: of 60 rows 20 were fitted on and 10 have a prompt of the fit with other answers, so that these"
        " numbers flatter the reward. Audit on evidence that it has not seen."
    )
    section = next(section for section in report.sections if section.key == "seen")
    assert [row["comparisons"] for row in section.tables[0].rows] == [20, 10, 30]
    clean = audit(reward, Evidence.from_records(NEW), resamples=50)
    assert "seen_in_fit" not in {finding.key for _, finding in clean.findings}
    assert "None of these comparisons was fitted on" in next(s for s in clean.sections if s.key == "seen").lead


@pytest.mark.parametrize(
    ("rows", "prompts", "said"),
    [
        (0, 0, ""),
        (3, 3, "x: of 1,000 rows 3 were fitted on, so that"),
        (0, 4, "x: of 1,000 rows 4 have a prompt of the fit with other answers, so that"),
    ],
)
def test_the_sentence(rows: int, prompts: int, said: str) -> None:
    sentence = warning({"n_seen": rows, "n_seen_prompts": prompts, "n_test": 1000}, "x")
    assert sentence.startswith(said)
    assert bool(sentence) == bool(said)


def test_no_text_is_kept_and_old_folders_still_load(tmp_path: Path, reward: Any) -> None:
    from safetensors.torch import load_file, save_file

    texts = [("a secret prompt", "a secret answer")]
    origin = Origin.of_texts(texts)
    assert origin.knows(texts)[1].tolist() == [True]
    assert origin.knows([("a secret prompt", "other"), ("", "a secret answer")])[0].tolist() == [True, False]
    tacit.fit(FITTED, encoder="hashed").save(tmp_path / "r")
    assert b"question" not in (tmp_path / "r" / ORIGIN).read_bytes()
    tensors = {k: v for k, v in load_file(tmp_path / "r" / ORIGIN).items() if k not in ("prompts", "responses")}
    assert Origin.of_tensors(tensors).knows(texts)[0].tolist() == [False]
    assert all(len(origin.responses) == 120 for origin in origins_of(reward))
    save_file({"mean": tensors["mean"]}, tmp_path / "part.safetensors")
    assert np.array_equal(np.sort(origin.prompts), origin.prompts)
