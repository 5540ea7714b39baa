"""How good is a reward on evidence that it has not seen?

`evaluate` scores every distinct (prompt, completion) once and reports, each with a 95% interval from a clustered
bootstrap (`tacit.audit.bootstrap`):

- `accuracy`: the share of comparisons in which the preferred completion scores higher. A comparison that people called
  a tie counts one half whatever the scores, and so does one whose scores are exactly equal; a constant reward therefore
  gets .5. `accuracy_decided` leaves people's ties out; `ties`, `tie_share` and `score_ties` say how many there are.
- `length_accuracy`: the same for the control reward "the longer completion (in characters) is better".
- `order_consistency` (Sun, Shen & Ton 2024, arXiv 2411.04991): the share of pairs with
  (score_a - score_b) (r_a - r_b) > 0, where r is what a pair is truly worth and not one noisy vote on it. r is the gold
  score where there are gold columns, else the majority among the votes of pairs that were judged twice or more, each
  such pair counted once; without either it is unknown, and None. Outcomes and ratings have none beside `accuracy`.
- `spearman`: rank correlation with `spearman_against`, per prompt and averaged over prompts with at least two
  distinct values; over all items where there are no prompts.
- `top_1`: of rankings, the share whose completion with the highest score is one of those ranked best; completions with
  the same score share the credit. Of RewardBench 2 also its own numbers (`tacit.audit.reward_bench`).
- `nll`, `ece`: of the forecast P(a preferred to b) = sigma(score_a - score_b); `ece_scaled` and `nll_scaled` after a
  temperature fitted on other prompts. Chance alone adds to a calibration error, so `ece` is corrected for it
  (`tacit.audit.calibration.corrected_ece`). `ece_binned` is what is usually printed, without correction; `ece_floor`
  and `ece_floor_95` are the mean and the 95% quantile of `ece_binned` if these forecasts were perfectly calibrated.

Where a reward looks at two completions at once (`Comparing`), its `compare` stands for score_a - score_b everywhere.

`n_seen` and `n_seen_prompts` count rows that the reward was fitted on, and rows whose prompt it was
(`tacit.audit.overlap`).

What is resampled, and said in `resampled`: prompts; prompts and people where `annotator` is filled; items in place of
prompts where all rows have the same prompt or none (of a comparison both).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np

from tacit.audit import calibration, ranking, reward_bench
from tacit.audit.arrays import Items, Pairs, item_means, pair_clusters, people, read_pairs, read_values, resampled
from tacit.audit.bootstrap import Array, Clusters, Index, interval, ratio, share_interval
from tacit.audit.overlap import seen_counts
from tacit.errors import EvidenceError
from tacit.evidence.records import Kind, Record
from tacit.rewards.contract import Detailed, Reward

PAIR_LIMIT = 200_000
"""Rated pairs looked at: a random sample of this size stands for more."""

_PROMPT, _ITEM = 0, 2
_SHARES = ("accuracy", "accuracy_decided", "length_accuracy", "order_consistency")
"""Shares of right and wrong, whose intervals do not vanish where all are right."""


class _Rows(Protocol):
    @property
    def kind(self) -> Kind: ...

    @property
    def source(self) -> str: ...

    def __iter__(self) -> Iterator[Record]: ...


def evaluate(reward: Reward, evidence: _Rows, *, resamples: int = 1000, seed: int = 0) -> dict[str, Any]:
    """Metrics of `reward` on `evidence` (comparison, ranking, outcome, rating or steps), as a JSON-ready dictionary.

    `X_ci` is the 95% interval of `X`. A metric that the evidence cannot give is None. Columns `gold_chosen` and
    `gold_rejected` of a comparison hold a gold score; order consistency and Spearman are then measured against it.

    Raises `EvidenceError` for kinds that do not say which completion is better, and for empty evidence.
    """
    if evidence.kind == "steps":
        from tacit.audit.steps import evaluate_steps

        return evaluate_steps(reward, evidence, resamples=resamples, seed=seed)
    measure = {"comparison": _comparisons, "ranking": _comparisons, "outcome": _outcomes, "rating": _ratings}
    if evidence.kind not in measure:
        raise EvidenceError(
            f"evidence of kind {evidence.kind} does not say which completion is better",
            mend="Audit with comparisons, rankings, outcomes, ratings or steps.",
            source=evidence.source,
        )
    result = measure[evidence.kind](reward, evidence, evidence.source, resamples, np.random.default_rng(seed))
    return {"kind": evidence.kind, "reward": reward.name, "resamples": resamples, "seed": seed, **result}


def pair_accuracy(delta: Array, tie: Array) -> Array:
    """Credit of each comparison (n,): 1 where delta > 0, 1/2 where delta = 0 or people saw a tie, else 0."""
    return np.where(np.asarray(tie, dtype=bool), 0.5, (np.sign(np.asarray(delta, dtype=np.float64)) + 1) / 2)


def _comparisons(
    reward: Reward, evidence: Iterable[Record], source: str, resamples: int, rng: np.random.Generator
) -> dict[str, Any]:
    pairs = read_pairs(evidence)
    n = len(pairs.a)
    _require_rows(n, source)
    if not pairs.weight.sum():
        raise EvidenceError(
            "every weight is 0", mend="Give some rows a positive weight", source=source, column="weight"
        )
    items, w, y = pairs.items, pairs.weight, np.where(pairs.tie > 0, 0.5, 1.0)
    scores = items.score(reward)
    lengths, prompt_of = np.array(items.lengths, dtype=np.float64), np.array(items.prompt_of, dtype=np.intp)
    delta = pairs.forecast(reward, scores)
    clusters = pair_clusters(pairs, prompt_of)
    decided = pairs.tie == 0
    rightly, consistent, against = order(pairs, delta)
    fold_cluster = np.minimum(pairs.a, pairs.b) if items.one_prompt else prompt_of[pairs.a]
    scaled = calibration.cross_fitted(delta, y, fold_cluster, rng, weight=w)
    credit = pair_accuracy(delta, pairs.tie)
    shares = {
        "accuracy": (credit, None),
        "accuracy_decided": (credit, decided),
        "length_accuracy": (pair_accuracy(lengths[pairs.a] - lengths[pairs.b], pairs.tie), None),
        "order_consistency": (rightly, consistent),
        "nll": (calibration.nll(delta, y), None),
        "nll_scaled": (calibration.nll(scaled, y), None),
        "tie_share": (pairs.tie, None),
    }
    tables = {
        "ece": calibration.residuals(delta, y, both_orders=True),
        "ece_scaled": calibration.residuals(scaled, y, both_orders=True),
    }
    floor = calibration.calibrated_eces(delta, rng, weight=w, tie_share=float(np.average(pairs.tie, weights=w)))
    return {
        **_counts(items, n, pairs.annotator),
        **seen_counts(reward, items, pairs.a, pairs.b),
        "ties": int(pairs.tie.sum()),
        "score_ties": int((delta == 0).sum()),
        **_sums(shares, tables, w, clusters, resamples, rng),
        **_floor(floor),
        "temperature": calibration.fit_temperature(delta, y, w),
        "order_consistency_against": against,
        **(_best_of(scores, pairs, evidence, resamples, rng) if pairs.against == "ranks" else {}),
        **_spearman(scores, pairs.target_item, pairs.target_group, pairs.target, items, resamples, rng),
        "spearman_against": pairs.against,
    }


def _best_of(
    scores: Array, pairs: Pairs, evidence: Iterable[Record], resamples: int, rng: np.random.Generator
) -> dict[str, Any]:
    """`top_1` of rankings with its interval, by prompt or by ranking; and RewardBench 2's numbers of its rows."""
    groups, credit = reward_bench.top_1(scores, pairs.target_item, pairs.target_group, pairs.target)
    if not len(groups):
        return {"top_1": None, "top_1_ci": None}
    first = {int(g): int(i) for g, i in zip(pairs.target_group[::-1], pairs.target_item[::-1], strict=True)}
    items = pairs.items
    clusters = Clusters.of(groups if items.one_prompt else [items.prompt_of[first[int(g)]] for g in groups])
    mean, draws = clusters.means(credit[:, None], np.ones(len(credit)), resamples, rng)
    few = clusters.smallest < 2
    result: dict[str, Any] = {"top_1": float(mean[0])}
    result["top_1_ci"] = None if few else share_interval(float(mean[0]), draws[:, 0], clusters.smallest)
    if getattr(evidence, "layout", None) == reward_bench.LAYOUT:
        rows = reward_bench.as_columns(evidence, scores, pairs.target_item)
        result["reward_bench_2"] = reward_bench.reward_bench_2(rows)
    return result


def _outcomes(
    reward: Reward, evidence: Iterable[Record], source: str, resamples: int, rng: np.random.Generator
) -> dict[str, Any]:
    rows = read_values(evidence)
    items, item, y, n = rows.items, rows.item, rows.value, len(rows.item)
    _require_rows(n, source)
    prompt = np.array(items.prompt_of, dtype=np.intp)[item]
    if y.min() == y.max():
        raise EvidenceError(
            f"every outcome has label {bool(y[0])}",
            mend="Give outcomes of both labels: there is nothing to tell apart.",
            source=source,
            column="label",
        )
    scores = items.score(reward)
    delta, length = scores[item], np.array(items.lengths, dtype=np.float64)[item]
    person, unit = people(items, rows.annotator), item if items.one_prompt else prompt
    clusters = Clusters.of(unit) if person is None else Clusters.of(unit, person)
    scaled = calibration.cross_fitted(delta, y, unit, rng)
    within: dict[str, Any] = {}
    for key, values in (("accuracy", delta), ("length_accuracy", length)):
        names, won, pairs = ranking.auc_by_group(values, y, prompt)
        across = float(ranking.weighted_auc(values, y, np.ones((1, n)))[0])
        draws = np.concatenate([ranking.weighted_auc(values, y, w) for w in clusters.weights(resamples, rng)])
        within |= {f"{key}_across_prompts": across, f"{key}_across_prompts_ci": _ci(draws, clusters)}
        if pairs.any() and not items.one_prompt:
            sums = Clusters.of(names).sums(np.stack([won, pairs], axis=1), resamples, rng)
            within |= {key: float(won.sum() / pairs.sum()), f"{key}_ci": _ci(ratio(*sums.T), Clusters.of(names))}
        else:
            within |= {key: across, f"{key}_ci": _ci(draws, clusters)}
        within["pairs"] = int(pairs.sum())
    shares = {"nll": (calibration.nll(delta, y), None), "nll_scaled": (calibration.nll(scaled, y), None)}
    tables = {
        "ece": calibration.residuals(delta, y, both_orders=False),
        "ece_scaled": calibration.residuals(scaled, y, both_orders=False),
    }
    rate = float(y.mean())
    seen, value = item_means(item, y)
    return {
        **_counts(items, n, rows.annotator),
        **seen_counts(reward, items, item),
        "ties": 0,
        "tie_share": 0.0,
        **within,
        "accuracy_is": "within prompts" if within["pairs"] and not items.promptless else "across prompts",
        **dict.fromkeys(("order_consistency", "order_consistency_ci")),
        **_sums(shares, tables, np.ones(n), clusters, resamples, rng),
        "nll_base_rate": float(-(rate * np.log(rate) + (1 - rate) * np.log(1 - rate))),
        **_floor(calibration.calibrated_eces(delta, rng, both_orders=False)),
        "temperature": calibration.fit_temperature(delta, y),
        **_spearman(scores, seen, np.array(items.prompt_of, dtype=np.intp)[seen], value, items, resamples, rng),
        "spearman_against": "label",
    }


def _ratings(
    reward: Reward, evidence: Iterable[Record], source: str, resamples: int, rng: np.random.Generator
) -> dict[str, Any]:
    rows = read_values(evidence)
    items = rows.items
    _require_rows(len(rows.item), source)
    scores = items.score(reward)
    lengths, prompt_of = np.array(items.lengths, dtype=np.float64), np.array(items.prompt_of, dtype=np.intp)
    item, value = item_means(rows.item, rows.value)
    i, j = ranking.pairs_within(prompt_of[item], limit=PAIR_LIMIT, rng=rng)
    if len(i) == 0 or np.all(value[i] == value[j]):
        i, j = ranking.pairs_within(np.zeros(len(item), dtype=np.intp), limit=PAIR_LIMIT, rng=rng)
    better = np.sign(value[i] - value[j])
    differ = better != 0
    none = np.zeros(len(i))
    shares = {
        "accuracy": (pair_accuracy(better * (scores[item[i]] - scores[item[j]]), none), differ),
        "length_accuracy": (pair_accuracy(better * (lengths[item[i]] - lengths[item[j]]), none), differ),
    }
    first, second = prompt_of[item[i]], prompt_of[item[j]]
    within = bool((first == second).all()) and not items.promptless
    clusters = (
        Clusters.of(item[i], item[j], tables=[_ITEM, _ITEM])
        if items.one_prompt
        else Clusters.of(first)
        if within
        else Clusters.of(first, np.where(first == second, -1, second), tables=[_PROMPT, _PROMPT])
    )
    measured = _sums(shares, {}, np.ones(len(i)), clusters, resamples, rng)
    attributes = {}
    own = reward.details(items.prompts, items.completions) if rows.attributes and isinstance(reward, Detailed) else {}
    for name, (rated, given) in rows.attributes.items():
        seen, mean = item_means(rated, given)
        attributes[name] = _spearman(
            np.asarray(own.get(name, scores), np.float64), seen, prompt_of[seen], mean, items, resamples, rng
        )
    return {
        **_counts(items, len(rows.item), rows.annotator),
        **seen_counts(reward, items, rows.item),
        "pairs": int(differ.sum()),
        "ties": int((~differ).sum()),
        "tie_share": float(np.mean(~differ)) if len(differ) else 0.0,
        **measured,
        "accuracy_is": "within prompts" if within else "across prompts",
        **dict.fromkeys(("order_consistency", "order_consistency_ci", "nll", "nll_ci", "ece", "ece_ci")),
        **_spearman(scores, item, prompt_of[item], value, items, resamples, rng),
        "spearman_against": "score",
        **({"attributes": attributes} if attributes else {}),
    }


def _sums(
    shares: Mapping[str, tuple[Array, Array | None]],
    tables: dict[str, Array],
    weight: Array,
    clusters: Clusters,
    resamples: int,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Weighted means over the rows that count, and calibration errors, with the intervals of one common bootstrap."""
    values = np.concatenate([*(value[:, None] for value, _ in shares.values()), *tables.values()], axis=1)
    weights, weight_of = [weight], [0] * values.shape[1]
    for column, (_, counts) in enumerate(shares.values()):
        if counts is not None:
            weight_of[column] = len(weights)
            weights.append(weight * counts)
    means, draws = clusters.means(values, np.stack(weights, axis=1), resamples, rng, weight_of=weight_of)
    result: dict[str, Any] = {}
    for column, name in enumerate(shares):
        result[name], result[f"{name}_ci"] = _plain(means[column]), _ci(draws[:, column], clusters)
        if name in _SHARES and clusters.smallest >= 2:
            result[f"{name}_ci"] = share_interval(float(means[column]), draws[:, column], clusters.smallest)
    start = len(shares)
    for name, table in tables.items():
        part = slice(start, start + table.shape[1])
        estimate, ends = calibration.corrected_ece(means[part], draws[:, part], clusters=clusters.smallest)
        result[name], result[f"{name}_ci"] = estimate, ends if clusters.smallest >= 2 else None
        result[f"{name}_binned"] = float(np.abs(means[part]).sum())
        start = part.stop
    return result


def order(pairs: Pairs, delta: Array) -> tuple[Array, Array, str | None]:
    """Whether the reward orders each comparison as it truly is (n,), how much each counts (n,), and what says so."""
    if pairs.against == "gold":
        gold = pairs.gold[:, 0] - pairs.gold[:, 1]
        known = np.isfinite(gold) & (gold != 0)
        return pair_accuracy(delta * np.sign(np.where(known, gold, 0.0)), np.zeros(len(delta))), known, "gold"
    low, high = np.minimum(pairs.a, pairs.b), np.maximum(pairs.a, pairs.b)
    _, pair = np.unique(low * np.int64(len(pairs.items.prompts)) + high, return_inverse=True)
    pair = pair.reshape(-1)
    forward = np.where(pairs.a == low, 1.0, -1.0)
    votes = np.bincount(pair, pairs.weight > 0)
    weight = np.bincount(pair, pairs.weight)
    majority = np.sign(np.bincount(pair, pairs.weight * forward * (pairs.tie == 0)))
    known = (votes >= 2) & (majority != 0)
    rightly = pair_accuracy(delta * forward * majority[pair], np.zeros(len(delta)))
    return rightly, np.where(known[pair], ratio(1.0, weight[pair]), 0.0), "majority" if known.any() else None


def _floor(simulated: Array) -> dict[str, float | None]:
    return {"ece_floor": _plain(simulated.mean()), "ece_floor_95": _plain(np.quantile(simulated, 0.95))}


def _spearman(
    scores: Array, item: Index, group: Index, value: Array, items: Items, resamples: int, rng: np.random.Generator
) -> dict[str, Any]:
    """Mean of the groups' rho, resampled by prompt; with one prompt or none rho over all items, resampled by item, or
    the mean of the rankings' rho, resampled by ranking."""
    if items.one_prompt and len(np.unique(group)) == 1:
        clusters = Clusters.of(item)
        rho = ranking.spearman(scores[item], value)
        draws = [ranking.weighted_spearman(scores[item], value, w) for w in clusters.weights(resamples, rng)]
        return {"spearman": _plain(rho), "spearman_ci": _ci(np.concatenate(draws), clusters), "spearman_groups": 1}
    groups, rhos = ranking.spearman_by_group(scores[item], value, group)
    if len(groups) == 0:
        return {"spearman": None, "spearman_ci": None, "spearman_groups": 0}
    first = {int(g): int(i) for g, i in zip(group[::-1], item[::-1], strict=True)}
    clusters = Clusters.of(groups if items.one_prompt else [items.prompt_of[first[int(g)]] for g in groups])
    sums = clusters.sums(np.stack([rhos, np.ones(len(rhos))], axis=1), resamples, rng)
    return {
        "spearman": float(rhos.mean()),
        "spearman_ci": _ci(ratio(*sums.T), clusters),
        "spearman_groups": len(groups),
    }


def _counts(items: Items, n: int, person: Index) -> dict[str, Any]:
    return {
        "n_test": n,
        "n_items": len(items.prompts),
        "n_prompts": 0 if items.promptless else len(set(items.prompt_of)),
        "n_annotators": items.annotators or None,
        "resampled": resampled(items, person),
    }


def _ci(draws: Array, clusters: Clusters) -> list[float] | None:
    return interval(draws, clusters=clusters.smallest) if clusters.smallest >= 2 else None


def _plain(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def _require_rows(n: int, source: str) -> None:
    if n == 0:
        raise EvidenceError(
            "no row to audit", mend="Give at least one comparison, ranking, outcome or rating.", source=source
        )
