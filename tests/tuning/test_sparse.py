"""Tools for sparse rewards, credit with models, rejection sampling: numbers by hand and known truth."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tabular import Tabular, TextReward, lettered
from torch import tensor

from numerics import assert_float32_close
from tacit.errors import EvidenceError, TacitError
from tacit.evidence import Comparison, Outcome, Rating
from tacit.features.hashed import HashedEncoder
from tacit.tuning import credit
from tacit.tuning.crediting import LearntReturn, PrefixCredit, crediting, held
from tacit.tuning.data import as_responses, read_prompts, take
from tacit.tuning.hindsight import quantile_edges
from tacit.tuning.loop import LoopOptions, train
from tacit.tuning.policy_gradient import GradientOptions, PolicyGradient
from tacit.tuning.preference import encode_labels, pairs_of
from tacit.tuning.processes import Processes
from tacit.tuning.rejection import accepted, best_of_group, rso_pairing
from tacit.tuning.run import Job, peak_of
from tacit.tuning.sampling import Sampler, SamplingOptions
from tacit.tuning.sparse import CountBonus, Curriculum, NoveltyBonus, ReverseCurriculum, relabelled
from tacit.tuning.supervised import Demonstrations, demonstrations_of, encode


def test_the_curriculum_asks_what_is_uncertain() -> None:
    curriculum = Curriculum(3, memory=0.5, floor=0.0)
    assert curriculum.weights().tolist() == pytest.approx([1 / 3] * 3)
    curriculum.learn([0, 1], tensor([[1.0, 1.0, 1.0, 1.0], [0.0, 1.0, 0.0, 0.0]]))
    # 0.5 * 1 + 4 of 0.5 * 2 + 4, and 0.5 + 1 of 5
    assert curriculum.rates.tolist() == pytest.approx([0.9, 0.3, 0.5])
    assert curriculum.weights().tolist() == pytest.approx(np.array([0.09, 0.21, 0.25]) / 0.55)
    draws = np.array([curriculum.next(1)[0] for _ in range(3000)])
    shares = np.bincount(draws, minlength=3) / 3000
    assert np.abs(shares - curriculum.weights()).max() < 4 * (0.25 / 3000) ** 0.5
    assert sorted(curriculum.next(3)) == [0, 1, 2]
    assert len(curriculum.next(7)) == 7
    again = Curriculum(3, memory=0.5, floor=0.0)
    again.restore(curriculum.state())
    assert again.next(5) == curriculum.next(5)


def test_the_reverse_curriculum_gives_less_as_answers_succeed() -> None:
    starts = ReverseCurriculum(["one two three four five", None], start=0.8, step=0.4)
    assert starts.prefix(0) == "one two three "
    assert starts.prefix(1) == ""
    starts.learn([0], tensor([[1.0, 0.0]]))
    assert starts.prefix(0) == "one two three "
    starts.learn([0], tensor([[1.0, 1.0]]))
    assert starts.prefix(0) == "one two "
    starts.learn([0], tensor([[1.0, 1.0]]))
    assert starts.prefix(0) == ""
    with pytest.raises(TacitError, match="needs solutions"):
        ReverseCurriculum([None])


def test_partial_solutions_are_part_of_what_is_scored() -> None:
    policy = Tabular()
    seen: list[str] = []

    def reward(prompt: str, text: str) -> float:
        seen.append(text)
        return 1.0

    options = SamplingOptions(prompts_per_round=2, num_generations=2, max_completion_length=3)
    starts = ReverseCurriculum(["x y ", "x y "], start=0.5, step=0.0)
    policy.encode = lambda prompts: [[int(p[0])] for p in prompts]  # type: ignore[method-assign]
    Sampler(policy, ["0", "1"], TextReward(reward), options, starts=starts).collect()
    assert len(seen) == 4
    assert all(text.startswith("x ") for text in seen)
    policy.tokenizer = SimpleNamespace(chat_template="{{ messages }}")  # type: ignore[assignment]
    with pytest.raises(TacitError, match="chat template"):
        Sampler(policy, ["0", "1"], TextReward(reward), options, starts=starts)


def test_hindsight_instructions_by_hand() -> None:
    found = relabelled(["p", "q", "r"], np.array([-1.0, 0.5, 3.0]), ["bad", "fair", "good"], [0.0, 1.0])
    assert found == ["bad\np", "fair\nq", "good\nr"]
    with pytest.raises(TacitError, match="2 instructions need 1 edges"):
        relabelled(["p"], np.zeros(1), ["a", "b"], [0.0, 1.0])
    with pytest.raises(TacitError, match="texts, not messages"):
        relabelled([[{"role": "user", "content": "p"}]], np.zeros(1), ["a", "b"], [0.5])


def test_quantiles_of_repeated_rewards_leave_the_best_above_them() -> None:
    right = np.array([0.0, 1.0, 1.0, 1.0])  # the median is the best reward itself
    assert quantile_edges(right, 2).tolist() == [0.5]
    assert quantile_edges(1 - right, 2).tolist() == [0.0]
    assert quantile_edges(np.ones(4), 2).tolist() == [1.0]
    assert quantile_edges(np.array([0.0, 1.0, 2.0, 3.0]), 2).tolist() == [1.5]
    assert quantile_edges(np.array([0.0, 1.0, 4.0, 4.0, 4.0, 4.0]), 3).tolist() == [2.5, 2.5]


def test_counts_by_hand() -> None:
    bonus = CountBonus(HashedEncoder(), 2.0)
    found = bonus(["p", "p", "q", "p"], ["one thing", "one thing", "one thing", "something else entirely, and longer"])
    assert found.tolist() == pytest.approx([2, 2 / 2**0.5, 2, 2])
    assert bonus(["p"], ["one thing"]).tolist() == pytest.approx([2 / 3**0.5])
    again = CountBonus(HashedEncoder(), 2.0)
    again.restore(bonus.state())
    assert again(["p"], ["one thing"]).tolist() == pytest.approx([1.0])


def test_novelty_falls_for_what_was_seen_and_stays_for_what_was_not() -> None:
    bonus = NoveltyBonus(HashedEncoder(), 1.0, seed=3)
    first = float(bonus(["p"], ["the quick brown fox"])[0])
    for _ in range(20):
        last = float(bonus(["p"], ["the quick brown fox"])[0])
    new = float(bonus(["p"], ["a completely different answer"])[0])
    assert first == pytest.approx(1.0)
    assert last < 0.2 * new


def needle(prompt: str, text: str) -> float:
    """A reward for one of 121 answers."""
    return float(text == "bcb")


def found(
    folder: Path, truth: Any, away: float, *, steps: int = 80, seed: int = 1, shown: str = "", **tools: Any
) -> float:
    """The probability of the one right answer after tuning, for a policy that begins with `away` nats against it."""
    policy = Tabular(prompts=1, letters=4, horizon=4, seed=seed, spread=0.1)
    with torch.no_grad():
        policy.model.logits[..., 0] += away
    options = SamplingOptions(prompts_per_round=8, num_generations=4, max_completion_length=4)
    sampler = Sampler(policy, ["0"] * 8, TextReward(truth), options, seed, **tools)
    mixed = Demonstrations(policy, encode(policy, ["0"], [shown]), 1) if shown else None
    chosen = GradientOptions("grpo", scale_rewards="none", average="constant", demonstration_weight=0.1)
    train(
        PolicyGradient(policy, sampler, chosen, steps, demonstrations=mixed),
        folder,
        LoopOptions(learning_rate=0.1, logging_steps=40),
    )
    every = policy.every()
    row = policy.texts(every.tokens, every.mask).index("bcb")
    return float(policy.log_probabilities().detach().exp()[0, row])


@pytest.mark.statistical
def test_demonstrations_find_a_reward_that_sampling_alone_does_not(tmp_path: Path) -> None:
    assert found(tmp_path / "alone", needle, 4.0) < 1e-3
    imitated = found(tmp_path / "shown", lambda prompt, text: 0.0, 4.0, shown="bcb")
    assert found(tmp_path / "both", needle, 4.0, shown="bcb") > imitated + 0.1


@pytest.mark.slow
def test_a_count_bonus_makes_a_rare_answer_likelier(tmp_path: Path) -> None:
    """Over three seeds, at least three times in the geometric mean; it does not find it every time."""
    gains = []
    for seed in range(3):
        bonus = CountBonus(HashedEncoder(), 0.3)
        with_, alone = (
            found(tmp_path / f"{seed}{len(tools)}", needle, 2.0, steps=150, seed=seed, **tools)
            for tools in ({"bonus": bonus}, {})
        )
        gains.append(np.log(with_ / alone))
    assert np.mean(gains) > np.log(3)


def test_rso_accepts_as_its_target_does() -> None:
    """With many candidates from pi, what is accepted follows pi exp(R / beta)."""
    rng = np.random.default_rng(0)
    p, values, beta = np.array([0.7, 0.2, 0.1]), np.array([0.0, 1.0, 2.0]), 1.0
    kinds = rng.choice(3, size=(20_000, 40), p=p)
    found = accepted(torch.from_numpy(values[kinds]), beta, np.random.default_rng(1), 2)
    assert (found[:, 0] != found[:, 1]).all()
    target = p * np.exp(values / beta)
    target /= target.sum()
    shares = np.bincount(np.take_along_axis(kinds, found[:, :1], 1)[:, 0], minlength=3) / 20_000
    # A group of 40 lacks the best kind with probability 0.015, which bends its share by about that much.
    assert np.abs(shares - target).max() < 0.02
    with pytest.raises(TacitError, match="positive beta"):
        accepted(torch.zeros(1, 4), 0.0, rng)
    with pytest.raises(TacitError, match="2 of n candidates"):
        accepted(torch.zeros(1, 1), 1.0, rng)
    better, worse, useful = rso_pairing(0.5)(tensor([[1.0, 3.0], [2.0, 2.0]]), rng)
    assert (better[0], worse[0]) == (1, 0)
    assert useful.tolist() == [True, False]


def test_the_best_of_a_group_is_one() -> None:
    found = best_of_group(tensor([[1.0, 3.0, 3.0], [0.0, 0.0, 0.0]]))
    assert found.tolist() == [[False, True, False], [True, False, False]]


# --- credit with models -----------------------------------------------------------------------------------------------


def sampled(policy: Tabular, reward: Any = None, n: int = 8, seed: int = 0) -> Any:
    options = SamplingOptions(prompts_per_round=64, num_generations=n, max_completion_length=3)
    return Sampler(policy, ["0", "1"], reward or TextReward(lettered), options, seed)


def test_the_learnt_return_finds_the_value_of_states() -> None:
    """On one-hot states the ridge regression tends to V(s): the mean return from there, known by enumeration."""
    policy = Tabular(seed=4)
    way, sampler = LearntReturn(True, ridge=1e-3, memory=1.0), sampled(policy)
    for _ in range(30):
        made, _ = sampler.collect()
        tokens = way(made, policy)
        assert_float32_close(tokens.sum(1), made.rewards)
    every = policy.every()
    probability = policy.logprobs(every).logprobs.sum(1).exp().detach()
    texts = policy.texts(every.tokens, every.mask)
    returns = torch.tensor([lettered(str(p), t) for p, t in zip(every.prompt_of.tolist(), texts, strict=True)])
    prompt, state = policy.states(every)
    assert way.gram is not None
    weights = torch.linalg.solve(way.gram + 1e-3 * torch.eye(len(way.gram), dtype=torch.float64), way.cross)
    for p in range(2):
        for s in range(3):  # the states that are visited most
            through = (prompt == p) & (state == s) & every.mask
            rows = through.any(1)
            truth = float((probability * returns)[rows].sum() / probability[rows].sum())
            guess = float(weights[p * policy.model.states + s] + weights[-1])
            assert guess == pytest.approx(truth, abs=0.25), (p, s)


def test_prefix_credit_is_the_difference_of_prefix_scores() -> None:
    class Letters:
        name = "letters"

        def score(self, prompts: Any, completions: Any) -> np.ndarray:
            return np.array([3.0 * c.count("a") - c.count("b") for c in completions], np.float32)

        def score_prefixes(self, prompts: Any, prefixes: Any) -> np.ndarray:
            return self.score(prompts, prefixes)

    class Decoding:
        def batch_decode(self, rows: Any, **options: Any) -> list[str]:
            return ["".join(chr(97 + a) for a in row if a < 2) for row in rows]

    policy = Tabular(seed=4)
    policy.tokenizer = Decoding()  # type: ignore[assignment]
    made, _ = sampled(policy, Letters()).collect()
    found = PrefixCredit(Letters(), 1)(made, policy)
    expected = torch.where(made.rollout.tokens == 0, 3.0, torch.where(made.rollout.tokens == 1, -1.0, 0.0)) * made.mask
    assert_float32_close(found, expected)
    coarse = PrefixCredit(Letters(), 2)(made, policy)
    assert_float32_close(coarse.sum(1), made.rewards)
    assert bool((coarse[:, 0] == 0)[made.mask.sum(1) > 1].all())
    assert held(np.array([[np.nan, 2.0, np.nan], [1.0, np.nan, 3.0]])).tolist() == [[0, 2, 2], [1, 1, 3]]


def test_credit_by_name(tmp_path: Path) -> None:
    plain = TextReward(lettered)
    assert crediting("none", plain) is None
    policy = Tabular(seed=4)
    made, _ = sampled(policy).collect()
    uniform = crediting("uniform", plain, share=0.5)
    assert uniform is not None
    assert_float32_close(uniform(made, policy), credit.uniform(made.rewards, made.mask, 0.5))
    for name, said in (
        ("attention", "has no attention"),
        ("prefix", "does not score unfinished"),
        ("x", "no credit `x`"),
    ):
        with pytest.raises(TacitError, match=said):
            crediting(name, plain)


# --- data -------------------------------------------------------------------------------------------------------------


def test_rows_as_responses() -> None:
    made = as_responses([[1], [2, 3], [1]], [[5], [6, 7, 8], [9, 4]], "cpu")
    assert made.prompts == [[1], [2, 3]]
    assert made.prompt_of.tolist() == [0, 1, 0]
    assert made.tokens.tolist() == [[5, 0, 0], [6, 7, 8], [9, 4, 0]]
    part = take(made, [2, 0])
    assert part.prompts == [[1]]
    assert part.tokens.tolist() == [[9, 4], [5, 0]]
    assert part.mask.tolist() == [[True, True], [True, False]]


def test_evidence_becomes_pairs_labels_and_demonstrations() -> None:
    better = Comparison(prompt="0", chosen="a", rejected="b", weight=2.0)
    found, ties = pairs_of([better, Comparison(prompt="0", chosen="a", rejected="b", tie=True)])
    assert (found, ties) == ([("0", "a", "b", 2.0)], 1)
    with pytest.raises(EvidenceError, match=r"row 1.*different prompts"):
        pairs_of([Comparison(prompt="0", chosen="a", rejected="b", rejected_prompt="1")])
    with pytest.raises(EvidenceError, match="not from ratings"):
        pairs_of([Rating(prompt="0", completion="a", score=1.0)])
    assert demonstrations_of([better]) == (["0"], ["a"], [2.0])
    tie = better.model_copy(update={"tie": True})
    assert demonstrations_of([tie, better]) == (["0"], ["a"], [2.0]), "of a tie neither side is a good example"
    policy = Tabular()
    assert encode_labels(policy, [better]).desirable == [True, False]
    with pytest.raises(EvidenceError, match="both kinds of labels"):
        encode_labels(policy, [Outcome(prompt="0", completion="a", label=True)])
    with pytest.raises(TacitError, match="none of 1 rows has at most 2 tokens"):
        encode(policy, ["0"], ["ab"], max_length=2)
    assert len(encode(policy, ["0", "1"], ["ab", "a"], max_length=3)) == 1


def test_prompts_are_read_once_each(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": p}) + "\n" for p in ("a", "b", "a")))
    assert read_prompts(path) == ["a", "b"]
    path.write_text('{"prompt": "a"}\n{"text": "b"}\n')
    with pytest.raises(EvidenceError, match="row 2, column `prompt`"):
        read_prompts(path)


def test_the_peak_of_an_audit(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps({"audit": {"sections": [{"x": 1}, {"curve": {"peak_kl": None}}, {"peak_kl": 2.5}]}}))
    assert peak_of(path) == 2.5
    path.write_text("{}")
    with pytest.raises(TacitError, match="predicts no peak"):
        peak_of(path)


def test_options_that_a_method_does_not_take_are_named() -> None:
    with pytest.raises(
        TacitError, match=r"`tacit tune ppo` takes no --rule; it works with rejection.*--cliprange-value"
    ):
        Job("ppo", "p", "d", Path("o"), {"rule": "raft"}, lambda source: None)  # type: ignore[arg-type, return-value]


def test_groups_without_difference_are_replaced_by_fresh_ones() -> None:
    policy = Tabular(seed=4)
    reward = TextReward(lambda p, c: 1.0 if p == "0" else float(c.count("a")))
    plain = SamplingOptions(prompts_per_round=8, num_generations=3, max_completion_length=3)
    dynamic = SamplingOptions(prompts_per_round=8, num_generations=3, max_completion_length=3, dynamic_sampling=20)
    prompts = ["0", "1"] * 20
    kept, metrics = Sampler(policy, prompts, reward, plain).collect()
    groups = kept.grouped(kept.scores)
    assert bool((groups.amax(1) == groups.amin(1)).any())
    fresh, after = Sampler(policy, prompts, reward, dynamic).collect()
    groups = fresh.grouped(fresh.scores)
    assert len(fresh.prompts) == 8
    assert bool((groups.amax(1) > groups.amin(1)).all())
    assert after["frac_reward_zero_std"] == metrics["frac_reward_zero_std"] > 0
    rows = policy.logprobs(fresh.rollout).logprobs
    assert_float32_close(rows, fresh.rollout.logprobs)


def test_a_round_that_cannot_be_shared_is_refused() -> None:
    options = SamplingOptions(prompts_per_round=3)
    with pytest.raises(TacitError, match="cannot be shared by 2 processes"):
        Sampler(Tabular(), ["0"], TextReward(lettered), options, 0, Processes(0, 2))


def test_attention_credit_is_what_the_last_token_attends_to(tmp_path: Path, llama_folder: Path) -> None:
    """The weights of a completion's tokens by hand, where policy and reward share a tokenizer."""
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    from tacit.policies.transformer import TransformerPolicy
    from tacit.rewards.language_model import LanguageModelReward

    tokenizer = AutoTokenizer.from_pretrained(llama_folder)
    tokenizer.eos_token = "[SEP]"
    model = AutoModelForCausalLM.from_pretrained(llama_folder)
    model.config.eos_token_id = model.generation_config.eos_token_id = tokenizer.eos_token_id
    policy = TransformerPolicy(model, tokenizer)
    classifier = AutoModelForSequenceClassification.from_pretrained(llama_folder, num_labels=1)
    classifier.config.pad_token_id = 0
    classifier.save_pretrained(tmp_path / "reward")
    tokenizer.save_pretrained(tmp_path / "reward")
    reward = LanguageModelReward.of_checkpoint(tmp_path / "reward", template="concatenated", eos=True)
    options = SamplingOptions(prompts_per_round=1, num_generations=2, max_completion_length=6)
    sampler = Sampler(policy, ["The quick"], reward, options)
    text = " brown fox jumps"
    given = policy.responses(["The quick"], [text])
    from tacit.policies.contract import Rollout

    width = given.mask.shape[1]
    twice = Rollout(
        given.prompts, torch.zeros(2, dtype=torch.int64), given.tokens.repeat(2, 1), given.mask.repeat(2, 1),
        logprobs=torch.zeros(2, width), ended=torch.ones(2, dtype=torch.bool), texts=[text, text],
    )  # fmt: skip
    made = sampler.scored([0], twice, [text, text], 2)
    way = crediting("attention", reward, share=1.0)
    assert way is not None
    found = way(made, policy)
    ids = reward.rule.token_ids(reward.tokenizer, ["The quick"], [text])[0]
    assert ids[-width:] == given.tokens[0].tolist()
    classifier.set_attn_implementation("eager")
    with torch.no_grad():
        said = classifier.base_model(torch.tensor([ids]), output_attentions=True).attentions[-1][0].mean(0)[-1]
    weights = said[-width:-1]  # the end token has no characters
    expected = made.rewards[0] * torch.nn.functional.pad(weights / weights.sum(), (0, 1))
    assert_float32_close(found[0], expected)
    assert_float32_close(found.sum(1), made.rewards)
