"""The language model as discriminator: its loss by hand, log-ratios that are known, credit, the loop, and resuming."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_adversarial import LOOP
from worlds import LENGTH, PREFERRED, WORDS, demonstrations, loaded, truth

from numerics import BFLOAT16, assert_float32_close, assert_gradients_close
from tacit import rewards
from tacit.demonstrations.adversarial import Adversarial, AdversarialOptions, Adversary
from tacit.demonstrations.extrapolation import Demos
from tacit.demonstrations.induced import InducedLanguagePrefixReward, InducedLanguageReward
from tacit.demonstrations.language import LanguageDiscriminator, TrunkOptions
from tacit.errors import TacitError
from tacit.policies.contract import Sampling
from tacit.rewards.check import check_reward
from tacit.rewards.language_model import LanguageModelReward
from tacit.tuning.crediting import token_spans
from tacit.tuning.loop import LoopOptions, train
from tacit.tuning.policy_gradient import GradientOptions
from tacit.tuning.sampling import SamplingOptions

TILT = 1.5
_P = np.exp(TILT * np.isin(WORDS, PREFERRED))
SAYS = dict(zip(WORDS, np.log(_P / _P.sum()).tolist(), strict=True))
"""log p of each word for the demonstrator, whose words are independent."""


def rows_of(n: int, seed: int = 1, first: int = 0) -> list[tuple[Any, Any]]:
    return [(d.prompt, d.completion) for d in demonstrations(n, seed=seed, first=first)]


def sayable(text: str) -> bool:
    """Whether the demonstrator could have said it."""
    return len(text.split()) == LENGTH and set(text.split()) <= set(WORDS)


def answers_of(folder: Path, rows: list[tuple[Any, Any]], seed: int) -> list[tuple[Any, Any]]:
    drawn = loaded(folder).generate([p for p, _ in rows], 1, Sampling(10, seed=seed))
    return [(prompt, one) for (prompt, _), (one,) in zip(rows, drawn, strict=True)]


def judge(folder: Path, n: int = 12, *, per_token: bool = False, **options: Any) -> LanguageDiscriminator:
    return LanguageDiscriminator(rows_of(n), TrunkOptions(folder, **options), per_token=per_token)


def by_hand(of: LanguageDiscriminator, prompt: str, completion: str) -> torch.Tensor:
    """h after every token of the answer, by the model's own forward pass."""
    ids = of.tokenizer(prompt + completion)["input_ids"] + [of.tokenizer.eos_token_id]
    lead = len(of.tokenizer(prompt)["input_ids"])
    states = of.model.base_model(torch.tensor([ids])).last_hidden_state[0]
    return of.model.score(states)[lead:, 0]


@pytest.mark.parametrize("per_token", [False, True])
def test_the_loss_is_the_logistic_one_of_last_tokens_or_of_all(per_token: bool, base_folder: Path) -> None:
    of = judge(base_folder, per_token=per_token, gradient_penalty=0.3)
    torch.nn.init.normal_(of.model.score.weight, std=0.3, generator=torch.Generator().manual_seed(0))
    good, bad = rows_of(3), [("say 1:", " red"), ("say 2:", " lamp stone glass")]
    weights = np.array([2.0, 0.5, 0.5])
    up = [by_hand(of, *row) for row in good]
    down = [by_hand(of, *row) for row in bad]
    length = np.mean([len(h) for h in [*up, *down]]) if per_token else 1.0
    soft = torch.nn.functional.softplus
    loss = sum(w * (soft(-h).sum() if per_token else soft(-h[-1])) for w, h in zip(weights, up, strict=True)) / 3
    loss = (loss + sum(soft(h).sum() if per_token else soft(h[-1]) for h in down) / 2) / 2 / length
    w = of.model.score.weight
    slope = (w * of.model.model.norm.weight).square().sum()
    (expected,) = torch.autograd.grad(loss + 0.3 / 2 * slope, w)
    of.optimiser.step = lambda: None  # type: ignore[method-assign,assignment]
    found = of._step(of._texts(good), weights, of._texts(bad))
    assert found["discriminator/loss"] == pytest.approx(float(loss.detach()), rel=1e-5)
    last = [float(h[-1].detach()) for h in down]
    assert_float32_close(found["discriminator/answers"], np.mean(last), scale=float(np.abs(last).max()))
    norm = math.sqrt(sum(float(p.grad.square().sum()) for p in of.model.parameters() if p.grad is not None))
    assert norm <= 1.001  # the whole gradient was cut to length 1: directions remain
    cosine = torch.nn.functional.cosine_similarity(w.grad.flatten(), expected.flatten(), dim=0)
    assert float(cosine) == pytest.approx(1.0, abs=1e-5)


def test_a_model_of_another_family_goes_through_its_own_pass(base_folder: Path) -> None:
    of = judge(base_folder)
    torch.nn.init.normal_(of.model.score.weight, generator=torch.Generator().manual_seed(0))
    prompts, said = ["say 1:", "say 2:", "", ""], [" red blue", " lamp", " glass", ""]
    lean, every = of.score(prompts, said), of.beginnings(prompts, said)
    of.family = None
    assert_float32_close(lean, of.score(prompts, said))
    for (ends, h), (other_ends, other) in zip(every, of.beginnings(prompts, said), strict=True):
        assert np.array_equal(ends, other_ends)
        assert_float32_close(h, other)
    assert every[0][0].tolist() == [4, 9]
    assert of.score([], []).shape == (0,)


@pytest.mark.slow
@pytest.mark.parametrize(("per_token", "off"), [(False, 1.0), (True, 0.7)])
def test_the_logit_is_the_log_ratio_of_demonstrator_and_policy(per_token: bool, off: float, base_folder: Path) -> None:
    """p_demo is known, and pi says its own: h must be their log-ratio, up to what 2,000 answers a side can tell."""
    rows = rows_of(2000)
    options = TrunkOptions(base_folder, learning_rate=3e-3, batch=64, judge_steps=400, gradient_penalty=0.01)
    of = LanguageDiscriminator(rows, options, per_token=per_token).fresh(answers_of(base_folder, rows, 5))
    unseen = rows_of(300, seed=77, first=5000)
    asked = [row for row in [*unseen, *answers_of(base_folder, unseen, 9)] if sayable(row[1])]
    policy = loaded(base_folder)
    responses = policy.responses([p for p, _ in asked], [c for _, c in asked])
    with torch.no_grad():
        said = policy.logprobs(responses).logprobs.double().numpy()
    truly = np.array([sum(SAYS[word] for word in c.split()) for _, c in asked]) - said.sum(1)
    found = of.score([p for p, _ in asked], [c for _, c in asked])
    slope, _ = np.polyfit(truly, found, 1)
    assert np.corrcoef(truly, found)[0, 1] > 0.94
    assert 0.8 < slope < 1.2
    assert np.abs(found - truly).mean() < off
    if not per_token:
        return
    # One token a word: what a word adds is its own log-ratio, and that of a preferred one is larger by the tilt.
    every = of.beginnings([p for p, _ in asked], [c for _, c in asked])
    steps = np.array([np.diff(h, prepend=0.0) for _, h in every])
    assert steps.shape == (len(asked), LENGTH)
    own = np.array([[SAYS[word] for word in c.split()] for _, c in asked]) - said[:, :LENGTH]
    assert np.corrcoef(own.ravel(), steps.ravel())[0, 1] > 0.85
    liked = np.array([[word in PREFERRED for word in c.split()] for _, c in asked])
    gap = own[liked].mean() - own[~liked].mean()
    assert steps[liked].mean() - steps[~liked].mean() == pytest.approx(gap, abs=0.35)


def built(folder: Path, steps: int, *, per_token: bool = False, **options: Any) -> Adversarial:
    trunk = {"learning_rate": 1e-3, **{k: options.pop(k) for k in ("replay", "judge_steps") if k in options}}
    chosen = AdversarialOptions(per_token=per_token, **{"stop_when_same": False, **options})
    adversary = Adversary(Demos.of(demonstrations(120, seed=1)), TrunkOptions(folder, **trunk), chosen)
    sampling = SamplingOptions(prompts_per_round=16, num_generations=4, max_completion_length=10)
    gradient = GradientOptions(estimator="rloo", beta=0.02, measure_kl=True)
    return Adversarial(loaded(folder), adversary, sampling, gradient, steps)


def distance(policy: Any) -> float:
    """KL(demonstrator || policy) on fresh demonstrations, from both densities."""
    rows = rows_of(200, seed=50, first=9000)
    with torch.no_grad():
        said = policy.logprobs(policy.responses([p for p, _ in rows], [c for _, c in rows])).logprobs.sum(1)
    return float(np.mean([sum(SAYS[word] for word in c.split()) for _, c in rows]) - said.mean())


@pytest.mark.slow
@pytest.mark.parametrize("per_token", [False, True])
def test_the_policy_comes_near_the_demonstrator(per_token: bool, base_folder: Path, tmp_path: Path) -> None:
    method = built(base_folder, 50, per_token=per_token)
    before = distance(method.policy)
    train(method, tmp_path, LoopOptions(learning_rate=1e-3, lr_scheduler_type="constant", num_samples=0))
    assert method.failure == ""
    # The exact distance alone: accuracies on the 24 held-out prompts of so few demonstrations are off by .07.
    assert distance(method.policy) < before / 2


def test_each_token_is_credited_with_what_it_adds(base_folder: Path) -> None:
    method = built(base_folder, 2, per_token=True, judge_steps=1)
    adversary = method.adversary
    torch.nn.init.normal_(adversary.judge.inner.model.score.weight, generator=torch.Generator().manual_seed(0))  # type: ignore[attr-defined]
    adversary.reward.offset, adversary.reward.scale = 0.5, 2.0
    method.sampler.quiet = True  # type: ignore[attr-defined]
    made, _ = method.sampler.collect()
    assert method.crediting is not None
    found = method.crediting(made, method.policy)
    assert_float32_close(found.sum(1), made.rewards)
    assert (found[~made.mask] == 0).all()
    for row, ends in enumerate(token_spans(method.policy, made)[:6]):
        prompt, text = made.prompts[row // made.n], made.texts[row]
        values = adversary.reward.score_prefixes([prompt] * (len(ends) - 1), [text[:end] for end in ends[:-1]])
        steps = np.diff([0.0, *values.tolist(), float(made.rewards[row])])
        assert_float32_close(found[row, : len(ends)], steps, scale=float(made.rewards.abs().max()))


def test_a_killed_run_goes_on_along_the_same_way(base_folder: Path, tmp_path: Path) -> None:
    loop = LoopOptions(learning_rate=1e-3, lr_scheduler_type="constant", num_samples=0, save_steps=2)
    whole = built(base_folder, 4, per_token=True, check_every=3, judge_steps=2, replay=40)
    train(whole, tmp_path / "whole", loop)

    class Killed(Exception):
        pass

    first = built(base_folder, 4, per_token=True, check_every=3, judge_steps=2, replay=40)
    inner, calls = first.round, []

    def until(step: int) -> Any:
        calls.append(step)
        if len(calls) == 3:
            raise Killed
        return inner(step)

    first.round = until  # type: ignore[method-assign]
    with pytest.raises(Killed):
        train(first, tmp_path / "cut", loop)
    assert not list((tmp_path / "cut").rglob("*.p*t*"))  # safetensors alone
    again = built(base_folder, 4, per_token=True, check_every=3, judge_steps=2, replay=40)
    train(again, tmp_path / "cut", loop, resume=True)
    for ours, theirs in zip(again.policy.model.parameters(), whole.policy.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    mine, others = (one.adversary.judge.inner for one in (again, whole))  # type: ignore[attr-defined]
    for ours, theirs in zip(mine.model.parameters(), others.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert mine.kept == others.kept
    assert len(mine.kept) == 40
    assert mine.rounds == 4
    assert again.checks == whole.checks


@pytest.mark.parametrize("per_token", [False, True])
def test_the_reward_is_one_like_any_other(per_token: bool, base_folder: Path, tmp_path: Path) -> None:
    method = built(base_folder, 3, per_token=per_token, divergence="js", judge_steps=30)
    train(method, tmp_path / "run", LOOP)
    method.save_reward(tmp_path / "reward")
    reward = rewards.load(tmp_path / "reward")
    assert type(reward) is (InducedLanguagePrefixReward if per_token else InducedLanguageReward)
    assert not [str(finding) for finding in check_reward(reward, new_process=True) if not finding.ok]
    live = method.adversary.reward
    live.save(tmp_path / "live")
    prompts, said = ["say 1:", "say 2:", "say 3:"], [" red", " lamp stone glass", ""]
    kept = rewards.load(tmp_path / "live")
    assert_float32_close(kept.score(prompts, said), live.score(prompts, said))
    inside = rewards.load(tmp_path / "live" / "log_ratio")
    assert isinstance(inside, LanguageModelReward)
    assert_float32_close(inside.score(prompts, said), live.logits(prompts, said))
    if per_token:
        assert_float32_close(kept.score_prefixes(prompts[:2], said[:2]), live.score_prefixes(prompts[:2], said[:2]))
    else:
        assert not hasattr(kept, "score_prefixes")


def test_the_reward_of_a_run_prefers_the_style(base_folder: Path, tmp_path: Path) -> None:
    method = built(base_folder, 2)
    train(method, tmp_path, LOOP)
    drawn = answers_of(base_folder, rows_of(150, first=700), 3)
    scores = method.adversary.learnt("whole").score([p for p, _ in drawn], [c for _, c in drawn])
    assert np.corrcoef(scores, truth([c for _, c in drawn]))[0, 1] > 0.4


def test_as_a_user_types_it(tacit: Any, base_folder: Path, demos_file: Path) -> None:
    about = ("tune", "adversarial", "--policy", base_folder, "--data", demos_file)
    done = tacit(
        *about, "--out", "run", "--discriminator", "language-model", "--max-steps", 3, "--max-completion-length", 8,
        "--discriminator-learning-rate", 0.001, "--discriminator-steps", 2, "--per-token", "--replay", 16, "--json",
        "--save-steps", 2,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert done.json["failure"] is None
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert {"discriminator/accuracy", "objective/kl", "distinct"} <= lines[0].keys()
    again = tacit(
        *about, "--out", "run", "--discriminator", "language-model", "--max-steps", 3, "--max-completion-length", 8,
        "--discriminator-learning-rate", 0.001, "--discriminator-steps", 2, "--per-token", "--replay", 16, "--json",
        "--save-steps", 2, "--resume",
    )  # fmt: skip
    assert again.code == 0, again.err
    scored = tacit("score", "run/reward", demos_file, "--out", "scored.jsonl", "--json")
    assert scored.code == 0, scored.err
    pairs = [
        {"prompt": p, "chosen": said, "rejected": other}
        for (p, said), (_, other) in zip(rows_of(40), answers_of(base_folder, rows_of(40), 4), strict=True)
    ]
    Path("pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    audited = tacit("audit", "run/reward", "pairs.jsonl", "--json", "--resamples", 20)
    assert audited.code == 0, audited.err
    Path("asked.jsonl").write_text("".join(json.dumps({"prompt": p}) + "\n" for p, _ in rows_of(8)))
    tuned = tacit(
        "tune", "rloo", "--policy", base_folder, "--data", "asked.jsonl", "--reward", "run/reward", "--out", "tuned",
        "--max-steps", 1, "--max-completion-length", 8, "--credit", "prefix", "--json",
    )  # fmt: skip
    assert tuned.code == 0, tuned.err
    for flags, words in (
        (("--discriminator", "language-model", "--encoder", "hashed"), "--encoder only with --discriminator features"),
        (("--discriminator-steps", 2), "--discriminator-steps only with --discriminator language-model"),
    ):
        refused = tacit(*about, "--out", "b", *flags)
        assert refused.code == 2
        assert words in refused.err


def test_wrong_options_are_sentences(base_folder: Path) -> None:
    with pytest.raises(TacitError, match="outside its range"):
        TrunkOptions(base_folder, steps=0)
    with pytest.raises(TacitError, match="dtype is `float16`"):
        TrunkOptions(base_folder, dtype="float16")
    with pytest.raises(TacitError, match="weight 0"):
        LanguageDiscriminator(rows_of(2), TrunkOptions(base_folder), [0.0, 0.0])
    with pytest.raises(TacitError, match="one prompt each"):
        judge(base_folder).score(["a"], [])


def test_bfloat16_is_near_and_learns(base_folder: Path) -> None:
    exact, rough = (judge(base_folder, 40, dtype=dtype, learning_rate=1e-3) for dtype in ("float32", "bfloat16"))
    for of in (exact, rough):
        torch.nn.init.normal_(of.model.score.weight, std=0.3, generator=torch.Generator().manual_seed(0))
    prompts, said = ["say 1:", "say 2:"], [" red blue", " lamp stone glass"]
    assert_float32_close(rough.score(prompts, said), exact.score(prompts, said), rtol=8 * BFLOAT16)
    first = rough.learn([(p, " lamp stone") for p in prompts])
    for _ in range(3):
        last = rough.learn([(p, " lamp stone") for p in prompts])
    assert last["discriminator/loss"] < first["discriminator/loss"]
    assert all(p.dtype == torch.float32 for p in rough.model.parameters())


class Half:
    """One of two processes, whose gradients and sums are the whole's once both have been added up by hand."""

    def __init__(self, rank: int) -> None:
        self.rank, self.main = rank, rank == 0

    def share(self, rows: list[Any]) -> list[Any]:
        return rows[self.rank :: 2]

    def add_gradients(self, parameters: Any) -> None:
        self.parts = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in parameters]

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        return values


@pytest.mark.parametrize("per_token", [False, True])
def test_two_processes_make_the_step_of_one(per_token: bool, base_folder: Path) -> None:
    every = []
    for processes in (None, Half(0), Half(1)):
        of = judge(base_folder, per_token=per_token)
        torch.nn.init.normal_(of.model.score.weight, std=0.3, generator=torch.Generator().manual_seed(0))
        of.optimiser.step = lambda: None  # type: ignore[method-assign,assignment]
        whole = Half(0)
        whole.share = lambda rows: rows  # type: ignore[method-assign]
        of.processes = processes or whole  # type: ignore[assignment]
        found = of._step(of.told[:5], np.ones(5), of.told[5:8])
        every.append((found["discriminator/loss"], of.processes.parts))  # type: ignore[attr-defined]
    (loss, one), (first, left), (second, right) = every
    assert loss == pytest.approx(first + second, rel=1e-5)
    sums = [a + b for a, b in zip(left, right, strict=True)]
    assert_gradients_close(dict(enumerate(sums)), dict(enumerate(one)))
