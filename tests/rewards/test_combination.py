"""Controls, and rewards made of rewards: by hand, from YAML, and as one folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tacit
from numerics import assert_float32_close
from tacit.errors import ArtefactError, TacitError
from tacit.evidence import Comparison, Evidence, Outcome
from tacit.rewards.check import EXAMPLES, check_reward
from tacit.rewards.combination import Gate, Part, PromptCondition, ScoreCondition, Veto, WeightedSum, measure_parts
from tacit.rewards.contract import Reward
from tacit.rewards.controls import InvertedReward, LengthReward, RandomReward
from tacit.rewards.recipe import RecipeError, combined, read_recipe
from tacit.rewards.verifiers import FormatCheck, LengthCheck, RegexCheck, Verifier


class Table:
    """A reward with a score for each completion, and members around it where asked."""

    def __init__(self, scores: dict[str, float], members: int = 1, name: str = "table") -> None:
        self.scores, self.members, self.name = scores, members, name

    def score(self, prompts: Any, completions: Any) -> np.ndarray:
        return self.score_members(prompts, completions).mean(0)

    def score_members(self, prompts: Any, completions: Any) -> np.ndarray:
        base = np.array([self.scores[c] for c in completions], dtype=np.float32)
        return base + np.arange(self.members, dtype=np.float32)[:, None] - np.float32((self.members - 1) / 2)


A, B = Table({"x": 1.0, "y": 3.0}, name="a"), Table({"x": 0.2, "y": 0.9}, name="b")

# --- controls ---


@pytest.mark.parametrize(
    "reward",
    [
        RandomReward(3),
        LengthReward(),
        LengthReward("characters", shorter=True),
        InvertedReward(LengthReward("tokens")),
        Verifier(FormatCheck(answer=("boxed", "hashes")), name="format only"),
        WeightedSum([Part(LengthReward(), 0.5, "z", 10.0, 5.0), Part(RandomReward(), 1.0, "logit")]),
        Gate(PromptCondition("(?i)capital"), RandomReward(), LengthReward()),
        Gate(ScoreCondition(RandomReward(1)), RandomReward(2), InvertedReward(RandomReward(2))),
        Veto(RandomReward(), Verifier(LengthCheck(most=20)), floor=-5.0),
    ],
    ids=lambda reward: reward.name,
)
def test_every_control_and_combination_keeps_the_contract(reward: Reward) -> None:
    assert [str(f) for f in check_reward(reward, new_process=True) if not f.ok] == []


def test_random_is_uniform_and_depends_on_text_and_seed() -> None:
    texts = [f"text {i}" for i in range(4000)]
    scores = RandomReward(0).score(["p"] * 4000, texts)
    assert 0 <= scores.min() < scores.max() < 1
    assert abs(scores.mean() - 0.5) < 4 * np.sqrt(1 / 12 / 4000)
    assert abs(scores.std() - np.sqrt(1 / 12)) < 0.01
    for other in (RandomReward(1).score(["p"] * 4000, texts), RandomReward(0).score(["q"] * 4000, texts)):
        assert abs(np.corrcoef(scores, other)[0, 1]) < 4 / np.sqrt(4000)


def test_length_and_its_inverse_by_hand() -> None:
    assert LengthReward().score(["", ""], ["one two", "three"]).tolist() == [2, 1]
    assert InvertedReward(LengthReward("characters")).score([""], ["four"]).tolist() == [-4]
    with pytest.raises(TacitError, match="give words, characters or tokens"):
        LengthReward("lines")
    with pytest.raises(ArtefactError, match="`a` cannot be saved"):
        InvertedReward(A).save("nowhere")


# --- sums, gates, vetoes by hand ---


def test_a_sum_by_hand() -> None:
    total = WeightedSum([Part(A, 2.0, "z", mean=2.0, std=0.5), Part(B, 1.0, "logit"), Part(A, -1.0)])
    expected = [2 * (1 - 2) / 0.5 + np.log(0.2 / 0.8) - 1, 2 * (3 - 2) / 0.5 + np.log(0.9 / 0.1) - 3]
    np.testing.assert_allclose(total.score(["", ""], ["x", "y"]), expected, rtol=1e-5)
    soft = WeightedSum([Part(A, 1.0, "log_sigmoid", mean=2.0)])
    np.testing.assert_allclose(soft.score([""], ["x"]), [-np.log1p(np.e)], rtol=1e-6)


def test_a_logit_needs_probabilities_and_keeps_certain_ones_finite() -> None:
    with pytest.raises(TacitError, match=r"part `a` scores 3, outside \[0, 1\]"):
        WeightedSum([Part(A, scale="logit")]).score([""], ["y"])
    certain = WeightedSum([Part(Verifier(RegexCheck("x")), scale="logit")]).score(["", ""], ["x", "y"])
    np.testing.assert_allclose(certain, [np.log(9999), -np.log(9999)], rtol=1e-4)


def test_a_scale_that_was_not_measured_says_how_to() -> None:
    total = WeightedSum([Part(A, scale="z")])
    with pytest.raises(TacitError, match="was not measured"):
        total.score([""], ["x"])
    measured = total.measured(["", ""], ["x", "y"])
    assert (measured.parts[0].mean, measured.parts[0].std) == (2.0, 1.0)
    np.testing.assert_allclose(measured.score(["", ""], ["x", "y"]), [-1, 1])
    with pytest.raises(TacitError, match="on every row: no z-score"):
        total.measured(["", ""], ["x", "x"])
    for step in (0.1, float(np.spacing(np.float32(1e4)))):  # one rounding of a constant is no spread
        near = WeightedSum([Part(Table({"x": 1e4, "y": 1e4 + step}), scale="z")])
        if step == 0.1:
            assert near.measured(["", ""], ["x", "y"]).parts[0].std == pytest.approx(0.05, rel=0.02)
        else:
            with pytest.raises(TacitError, match="on every row: no z-score"):
                near.measured(["", ""], ["x", "y"])


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"scale": "zz"}, "scale is 'zz'"), ({"weight": float("nan")}, "weight is nan"), ({"std": 0.0}, "std is 0.0")],
)
def test_a_part_refuses_what_has_no_meaning(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(TacitError, match=reason):
        Part(A, **options)


def test_a_gate_by_hand() -> None:
    by_prompt = Gate(PromptCondition("code"), A, B)
    np.testing.assert_allclose(
        by_prompt.score(["code", "chat", "decoded"], ["x", "x", "y"]), [1.0, 0.2, 3.0], rtol=1e-6
    )
    by_score = Gate(ScoreCondition(B, above=0.9), A, InvertedReward(A))
    np.testing.assert_allclose(by_score.score(["", ""], ["x", "y"]), [-1.0, 3.0])


def test_a_veto_never_raises_a_score() -> None:
    assert Veto(A, B, floor=-2.0).score(["", ""], ["x", "y"]).tolist() == [-2.0, 3.0]
    assert Veto(A, B, floor=2.0).score(["", ""], ["x", "y"]).tolist() == [1.0, 3.0]


def test_members_meet_member_by_member() -> None:
    pair, four, three = (Table(A.scores, members=k) for k in (2, 4, 3))
    both = WeightedSum([Part(pair), Part(four, 10.0)]).score_members([""], ["x"])
    np.testing.assert_allclose(both[:, 0], [0.5 - 5, 1.5 + 5, 0.5 + 15, 1.5 + 25])
    odd = WeightedSum([Part(three), Part(four)]).score_members([""], ["x"])
    np.testing.assert_allclose(odd[:, 0], 1 + np.array([-0.5, 0.5, 1.5, 2.5]))
    assert Gate(PromptCondition("."), pair, four).score_members(["p"], ["x"]).shape == (4, 1)


def test_parts_inside_parts_are_measured() -> None:
    inner = WeightedSum([Part(A, scale="z")], "inner")
    whole = measure_parts(Veto(Gate(PromptCondition("p"), inner, A), B, -9.0), ["p", "p"], ["x", "y"])
    np.testing.assert_allclose(whole.score(["p", "p"], ["x", "y"]), [-9, 1])


# --- recipes ---

RECIPE = """
type: veto
floor: -10
unless: {type: regex, pattern: "[.!]$"}
of:
  type: sum
  name: helpful and short
  parts:
    - {reward: learnt, weight: 1, scale: z}
    - {type: length_control, shorter: true, weight: 0.1}
    - {type: number, answers: problems.jsonl, weight: 2, unknown: 0}
    - type: gate
      weight: 1
      when: {prompt: "code"}
      then: {type: format, sections: [Plan]}
      otherwise: {type: inverted, of: {type: random, seed: 7}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recipes")
    pairs = [
        Comparison(prompt=f"q{i}", chosen=f"thank you {i}", rejected=f"no way {i}", annotator=f"a{i % 3}")
        for i in range(60)
    ]
    tacit.fit(pairs, encoder="hashed", members=2).save(folder / "learnt")  # type: ignore[attr-defined]
    (folder / "problems.jsonl").write_text('{"prompt": "What is 2 + 2?", "answer": "4"}\n')
    (folder / "mix.yaml").write_text(RECIPE)
    (folder / "outer.yml").write_text("type: sum\nparts:\n  - {reward: learnt}\n  - {type: random}\n")
    return folder


def test_a_recipe_becomes_one_folder_with_equal_scores(folder: Path, tmp_path: Path) -> None:
    data = Evidence.from_records(
        [Outcome(prompt="What is 2 + 2?", completion=c, label=True) for c in ("4.", "thank you")]
    )
    reward, told = combined(read_recipe(folder / "mix.yaml"), data)
    assert told["measured_on"] == 2
    reward.save(tmp_path / "one")
    (tmp_path / "one").rename(tmp_path / "moved")  # it needs nothing of where it was made
    again = tacit.load(tmp_path / "moved")
    prompts, completions = [p for p, _ in EXAMPLES], [c for _, c in EXAMPLES]
    assert_float32_close(again.score(prompts, completions), reward.score(prompts, completions))  # type: ignore[attr-defined]
    assert again.score(["q"], ["no full stop"])[0] == -10
    assert [str(f) for f in check_reward(again, new_process=True) if not f.ok] == []


def test_load_reads_a_recipe_and_parts_may_be_recipes(folder: Path) -> None:
    reward = tacit.load(folder / "outer.yml")
    learnt, random = tacit.load(folder / "learnt"), RandomReward()
    expected = learnt.score(["q"], ["thank you"]) + random.score(["q"], ["thank you"])
    np.testing.assert_allclose(reward.score(["q"], ["thank you"]), expected, rtol=1e-6)
    (folder / "nested.yaml").write_text("type: inverted\nof: {reward: outer.yml}\n")
    np.testing.assert_allclose(tacit.load(folder / "nested.yaml").score(["q"], ["thank you"]), -expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("type: sum\nparts: [{type: randm}]", "key `parts.0.type`: no such type (found 'randm'). Choose one of: sum,"),
        (
            "type: sum\nparts: [{type: random, weight: heavy}]",
            "key `parts.0.weight`: wrong value (found 'heavy'). Give a",
        ),
        (
            "type: sum\nparts: [{type: random, wieght: 2}]",
            "key `parts.0.wieght`: unknown key (found '2'). Known here: weig",
        ),
        ("type: sum", "key `parts`: the key is missing. Add `parts:`"),
        ("type: sum\nparts: []", "a sum has no parts"),
        ("type: sum\nparts: [{type: random, scale: zz}]", "key `parts.0`: scale is 'zz'. Choose one of: none, z,"),
        ("type: veto\nfloor: low", "key `floor`: wrong value (found 'low'). Give a number"),
        ("type: veto\nfloor: -1\nof: {type: random}", "key `unless`: the key is missing"),
        ("type: gate\nwhen: {prompt: '('}\nthen: {type: random}", "the regular expression '(' does not compile"),
        ("type: number\ntolerence: 1\nanswers: problems.jsonl", "key `tolerence`: unknown key"),
        ("type: number", "key `answers`: the key is missing"),
        ("type: number\nanswers: nowhere.jsonl", "there is no such file"),
        ("type: format", "format asks for nothing"),
        ("reward: nowhere", "key `reward`: "),
        ("reward: learnt\ntype: sum", "key `type`: both `reward` and `type`"),
        ("- type: sum", "holds no keys"),
        ("type: [", "row 2: not readable as YAML"),
        ("reward: bad.yaml", "this recipe is a part of itself"),
    ],
)
def test_a_wrong_recipe_names_file_key_value_and_mend(folder: Path, text: str, reason: str) -> None:
    (folder / "bad.yaml").write_text(text + "\n")
    with pytest.raises(RecipeError) as caught:
        tacit.load(folder / "bad.yaml")
    assert str(caught.value).startswith(str(folder / "bad.yaml"))
    assert reason in str(caught.value)
