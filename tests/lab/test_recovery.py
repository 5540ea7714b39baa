"""The true reward is found again from comparisons alone."""

import math

import numpy as np
import pytest

from tacit.audit.ranking import spearman_by_group
from tacit.evidence import Evidence
from tacit.evidence.annotators import Annotator
from tacit.lab.worlds import World
from tacit.rewards import fit


def spearman_on_unseen_prompts(n, seed, **options):
    """Mean over unseen prompts of Spearman with the truth, after a fit on n comparisons of an ideal annotator."""
    world = World()
    rows = world.compare(n, np.random.default_rng(seed), [Annotator(rationality=math.inf)], pairs_per_prompt=4)
    seen = {row["prompt"] for row in rows}
    prompts, replies = world.sample(400, 16, np.random.default_rng(seed + 1000))
    kept = [i for i, prompt in enumerate(prompts) if prompt not in seen]
    asked, given = [prompts[i] for i in kept for _ in range(16)], [reply for i in kept for reply in replies[i]]
    reward = fit(Evidence.from_records(rows, kind="comparison"), encoder="hashed", seed=seed, **options)
    groups = np.repeat(np.arange(len(kept)), 16)
    return spearman_by_group(reward.score(asked, given), world.true_reward(asked, given), groups)[1].mean()


@pytest.mark.statistical
def test_a_linear_reward_is_found_from_few_comparisons():
    found = [spearman_on_unseen_prompts(2000, seed) for seed in range(5)]
    half = 2.776 * np.std(found, ddof=1) / math.sqrt(5)  # Student's t at .975 with 4 degrees of freedom
    low, high = np.mean(found) - half, np.mean(found) + half
    assert 0.8 < low < high < 0.93


@pytest.mark.slow
def test_the_true_reward_is_recovered_from_20k_clean_comparisons():
    wide = {"hidden": (1024,), "weight_decay": 3.0, "batch_size": 256, "epochs": 20, "patience": 10}
    linear = spearman_on_unseen_prompts(20_000, 1)
    perceptron = spearman_on_unseen_prompts(20_000, 1, head="mlp", **wide)
    assert perceptron > 0.95
    assert perceptron > linear + 0.03
