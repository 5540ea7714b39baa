"""The whole road on the built-in world: votes, a learnt reward, its audit, best of n, a language model tuned with the
reward, and a page that shows them.

`run` is what `tacit demo` calls. Because the world's true reward is known, it shows what real data cannot: how far the
learnt reward is from the truth that the votes came from, and what choosing by it really gains.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tacit.artefacts import atomic_directory, shown, write_json
from tacit.audit.metrics import evaluate
from tacit.errors import extra_installed
from tacit.evidence import Evidence, split
from tacit.evidence.annotators import Annotator
from tacit.improve.best_of_n import best_of_n_curve
from tacit.lab.worlds import TrueReward, World
from tacit.rewards import fit
from tacit.rewards.contract import Reward

Array = npt.NDArray[np.float64]

NS = (1, 2, 4, 8, 16, 32, 64)
CURVES = (
    ("random", "random", "chosen by lot", "by lot"),
    ("longest", "longest", "the longest reply", "longest"),
    ("oracle", "oracle", "the best possible choice, by the true reward", "best possible"),
    ("proxy", "promise", "promised: the learnt reward of its choice", "promised"),
    ("gold", "truth", "delivered: the true reward of that choice", "delivered"),
)
"""(key in the curve, class in the page, label, head of its column), in the order they are drawn."""


class LongestReply:
    """The control reward: the number of characters."""

    name = "length"

    def score(self, prompts: Sequence[Any], completions: Sequence[Any]) -> np.ndarray:
        """Lengths (n,), float32."""
        return np.array([len(text) for text in completions], dtype=np.float32)


class RandomChoice:
    """The control reward that knows nothing: a number made from the text by a fixed hash."""

    name = "random"

    def score(self, prompts: Sequence[Any], completions: Sequence[Any]) -> np.ndarray:
        """Numbers in 0..1 (n,), float32, the same for the same text everywhere."""
        import zlib

        keys = (f"{prompt}\0{text}".encode() for prompt, text in zip(prompts, completions, strict=True))
        return np.array([zlib.crc32(key) / 2**32 for key in keys], dtype=np.float32)


def people(count: int, rng: np.random.Generator, *, length_bias: float = 1.6) -> list[Annotator]:
    """Simulated people who differ in care, sometimes click the wrong side, and like length."""
    return [
        Annotator(
            rationality=float(rng.uniform(1.5, 3.0)),
            flip=0.03,
            position_bias=float(rng.normal(0, 0.2)),
            length_bias=length_bias * float(rng.uniform(0.5, 1.5)),
            name=f"person-{i:02d}",
        )
        for i in range(count)
    ]


def run(
    out: str | Path,
    n: int = 5000,
    seed: int = 0,
    *,
    encoder: str = "hashed",
    head: str = "mlp",
    prompts: int = 200,
    samples: int = 64,
    resamples: int = 1000,
    tuning: bool = True,
    speaker: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Make `n` comparisons, fit, audit, choose the best of 1..`samples`, tune; write the page and return every number.

    Writes index.html, metrics.json, comparisons.jsonl (what the people said, without the truth), reward/ and policy/
    into `out`. The result holds `judges` (metrics on unseen prompts of the learnt reward, the truth and both controls;
    `spearman_truth` is over all `samples` replies of a prompt), `curve` (in standard deviations over all sampled
    replies), `tuning` (the small language model before and after, in the same unit; None without `tuning` or the
    extra hf), and `summary`, `table` and `tuning_table`, rows ready to be shown. `speaker` are options of `_speak`.
    """
    with atomic_directory(out, "index.html") as folder:
        return _run(folder, n, seed, encoder, head, prompts, samples, resamples, tuning, speaker)


def _run(
    folder: Path,
    n: int,
    seed: int,
    encoder: str,
    head: str,
    prompts: int,
    samples: int,
    resamples: int,
    tuning: bool,
    speaker: Mapping[str, Any] | None,
) -> dict[str, Any]:
    start = time.perf_counter()
    world, rng = World(), np.random.default_rng(seed)
    crowd = people(20, rng)
    rows = world.compare(n, rng, crowd)
    _write_votes(folder / "comparisons.jsonl", rows)
    train, test = split(Evidence.from_records(rows, kind="comparison", source="demo"), by="prompt", test=0.2, seed=seed)
    learnt = fit(train, encoder=encoder, head=head, seed=seed, name="demo")
    learnt.save(folder / "reward")
    judges: dict[str, Reward] = {
        "learnt": learnt,
        "truth": TrueReward(world),
        "length": LongestReply(),
        "random": RandomChoice(),
    }
    audited = {name: evaluate(judge, test, resamples=resamples, seed=seed) for name, judge in judges.items()}

    asked, replies = _unseen(world, {row["prompt"] for row in rows}, prompts, samples, rng)
    flat_prompts, flat_replies = [p for p in asked for _ in range(samples)], [r for own in replies for r in own]
    shape = (len(asked), samples)
    scores = np.asarray(learnt.score(flat_prompts, flat_replies), dtype=np.float64).reshape(shape)
    truth = world.true_reward(flat_prompts, flat_replies).reshape(shape)
    lengths = np.array([len(reply) for reply in flat_replies], dtype=np.float64).reshape(shape)
    ns = [k for k in NS if k <= samples]
    curve = best_of_n_curve(_standard(scores), _standard(truth), ns, lengths=lengths, resamples=resamples, seed=seed)
    pairs = _as_pairs(flat_prompts, flat_replies, truth)
    ranked = {name: evaluate(judge, pairs, resamples=resamples, seed=seed) for name, judge in judges.items()}
    for name, metrics in audited.items():
        metrics |= {"spearman_truth": ranked[name]["spearman"], "spearman_truth_ci": ranked[name]["spearman_ci"]}

    spoken = None
    if tuning and extra_installed("transformers"):
        units = {"truth": _unit(truth), "learnt": _unit(scores)}
        spoken = _speak(world, judges, asked, units, folder, seed, **(speaker or {}))
    result: dict[str, Any] = {
        "n": n,
        "n_train": len(train),
        "n_test": len(test),
        "seed": seed,
        "encoder": encoder,
        "head": head,
        "judges": audited,
        "curve": curve,
        "summary": _summary(audited),
        "table": [{"n": k, **{short: curve[key][i] for key, _, _, short in CURVES[::-1]}} for i, k in enumerate(ns)],
        "tuning": spoken,
        "tuning_table": _tuning_table(spoken),
        "page": str(shown(folder) / "index.html"),
        "seconds": time.perf_counter() - start,
    }
    example = _example(asked, replies, scores, truth)
    (folder / "index.html").write_text(render(result, example, len(crowd)), "utf-8")
    write_json(folder / "metrics.json", result)
    return result


def _speak(
    world: World,
    judges: Mapping[str, Reward],
    asked: Sequence[str],
    units: Mapping[str, tuple[float, float]],
    folder: Path,
    seed: int,
    *,
    learn_on: int = 500,
    ask: int = 64,
    **options: Any,
) -> dict[str, Any]:
    """The small language model before and after tuning with the learnt and with a random reward; writes policy/.

    `units` are the means and deviations in which the rewards are counted; prompts to `ask` are the first of `asked`,
    and `learn_on` others are tuned on. `options` are those of `speeches`, and `size` of `speaker`.
    """
    from tacit.lab.speaker import Size, speaker, speeches

    with tempfile.TemporaryDirectory() as scratch:
        policy = speaker(world, Path(scratch) / "sft", seed=seed, size=options.pop("size", Size()))
        others, _ = _unseen(world, set(asked), learn_on, 1, np.random.default_rng([seed, 8]))
        result, learnt = speeches(
            policy,
            {"learnt": judges["learnt"], "random": judges["random"]},
            world.true_reward,
            others,
            asked[:ask],
            Path(scratch),
            seed=seed,
            **options,
        )
    learnt["learnt"].save(folder / "policy")
    for row in result["rows"]:
        for key, (mean, deviation) in {**units, "gain": (0.0, units["truth"][1])}.items():
            row[key] = (row[key] - mean) / deviation
            row[f"{key}_ci"] = [(end - mean) / deviation for end in row[f"{key}_ci"]]
    return {"prompt": asked[0], **result}


def render(result: Mapping[str, Any], example: Mapping[str, Any], crowd: int) -> str:
    """The page, self-contained: inline style and SVG, nothing is loaded from anywhere."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    template = environment.from_string(files("tacit.lab").joinpath("demo.html.j2").read_text("utf-8"))
    curve = result["curve"]
    return template.render(
        people=crowd,
        comparisons=result["n"],
        n_test=result["n_test"],
        summary=result["summary"],
        lesson=_lesson(result["judges"]),
        plot=_plot(curve),
        prompts=curve["prompts"],
        samples=curve["n"][-1],
        kl=f"{curve['kl'][-1]:.2f}",
        reading=_reading(curve),
        table=[
            {"n": n, "values": [_signed(curve[key][i]) for key, *_ in CURVES[::-1]]} for i, n in enumerate(curve["n"])
        ],
        example=example,
        tuning=None if result["tuning"] is None else _tuning_reading(result["tuning"]),
        tuning_table=result["tuning_table"],
        tuning_prompt="" if result["tuning"] is None else result["tuning"]["prompt"],
        replies=[] if result["tuning"] is None else _replies(result["tuning"]),
        seconds=f"{result['seconds']:.0f}",
        seed=result["seed"],
    )


def _write_votes(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            said = {key: value for key, value in row.items() if not key.startswith("gold_")}
            file.write(json.dumps(said, ensure_ascii=False) + "\n")


def _unseen(
    world: World, seen: set[str], prompts: int, samples: int, rng: np.random.Generator
) -> tuple[list[str], list[list[str]]]:
    """Prompts that no comparison used, with their replies."""
    asked: list[str] = []
    replies: list[list[str]] = []
    while len(asked) < prompts:
        more, own = world.sample(prompts, samples, rng)
        fresh = [i for i, prompt in enumerate(more) if prompt not in seen][: prompts - len(asked)]
        asked += [more[i] for i in fresh]
        replies += [own[i] for i in fresh]
        seen = seen | set(asked)
    return asked, replies


def _as_pairs(prompts: Sequence[str], replies: Sequence[str], truth: Array) -> Evidence:
    """Neighbouring replies as comparisons with their true rewards, so that `evaluate` ranks all of them by prompt."""
    gold = truth.ravel()
    rows = [
        {
            "prompt": prompts[i],
            "chosen": replies[i],
            "rejected": replies[i + 1],
            "gold_chosen": float(gold[i]),
            "gold_rejected": float(gold[i + 1]),
        }
        for i in range(0, len(replies) - 1, 2)
    ]
    return Evidence.from_records(rows, kind="comparison", source="demo")


def _unit(values: Array) -> tuple[float, float]:
    """Mean and standard deviation, the latter 1 where there is none."""
    return float(values.mean()), float(values.std()) or 1.0


def _standard(values: Array) -> Array:
    mean, deviation = _unit(values)
    standard: Array = (values - mean) / deviation
    return standard


def _summary(audited: Mapping[str, Mapping[str, Any]]) -> list[dict[str, str]]:
    """A row for each judge: agreement with people, with the truth, and Spearman with the truth, with intervals."""
    names = {"learnt": "the learnt reward", "truth": "the true reward", "length": "length alone", "random": "chance"}
    columns = {"people": "accuracy", "truth": "order_consistency", "spearman": "spearman_truth"}
    rows = []
    for name, label in names.items():
        row = {"chosen by": label}
        for head, key in columns.items():
            low, high = audited[name][f"{key}_ci"]
            row[head] = f"{audited[name][key]:.3f}"
            known = name == "truth" and head != "people"  # the truth against itself
            row[f"{head} 95%"] = "" if known else f"{low:.3f} to {high:.3f}"
        rows.append(row)
    return rows


def _tuning_table(spoken: Mapping[str, Any] | None) -> list[dict[str, str]]:
    """A row for each policy: its true reward with an interval, the learnt one, words and KL."""
    names = {"untuned": "untuned", "learnt": "tuned with the learnt reward", "random": "tuned with a random reward"}
    return [
        {
            "language model": names[row["policy"]],
            "true reward": _signed(row["truth"]),
            "95%": " to ".join(_signed(end) for end in row["truth_ci"]),
            "learnt reward": _signed(row["learnt"]),
            "words": f"{row['words']:.0f}",
            "KL": f"{abs(row['kl']):.1f}",
        }
        for row in (spoken["rows"] if spoken else [])
    ]


def _replies(spoken: Mapping[str, Any]) -> list[dict[str, str]]:
    """The first prompt's reply by each policy."""
    labels = [row["language model"] for row in _tuning_table(spoken)]
    said = [own[0] for own in spoken["replies"].values()]
    return [{"label": label, "reply": reply} for label, reply in zip(labels, said, strict=True)]


def _tuning_reading(spoken: Mapping[str, Any]) -> str:
    """What tuning gained, in words."""
    rows = {row["policy"]: row for row in spoken["rows"]}
    gains = {name: row["gain"] for name, row in rows.items()}
    low, high = rows["learnt"]["gain_ci"]
    text = f"Tuning with the learnt reward changes the true reward by {gains['learnt']:+.2f} standard deviations "
    text += f"({low:+.2f} to {high:+.2f}), where the learnt reward promised "
    text += f"{rows['learnt']['learnt'] - rows['untuned']['learnt']:+.2f}; tuning with random numbers by "
    text += f"{gains['random']:+.2f}. "
    more = rows["learnt"]["words"] / rows["untuned"]["words"] - 1
    if more > 0.1:
        text += f"Replies grow by {more:.0%}: people liked length, the reward learnt it, and tuning spends it. "
    return text + "Tuning stops at a KL budget: the further it goes, the less of the promise is kept."


def _lesson(judges: Mapping[str, Mapping[str, Any]]) -> str:
    """What agreement with people does and does not say."""
    learnt, truth, length = (judges[name]["accuracy"] for name in ("learnt", "truth", "length"))
    text = "Even the truth does not agree with people every time: they err, and length alone agrees with them in "
    text += f"{length:.0%} of the votes. "
    if learnt > truth:
        text += (
            "The learnt reward agrees with them more than the truth does, since it learnt their liking for length as "
            "well. "
        )
    return text + "Agreement with people is not yet agreement with the truth."


def _reading(curve: Mapping[str, Any]) -> str:
    """What the curve says, in words."""
    n, delivered, promised = curve["n"], curve["gold"], curve["proxy"]
    best = int(np.argmax(delivered))
    share = (delivered[-1] - delivered[0]) / (curve["oracle"][-1] - curve["oracle"][0])
    longest = _signed(curve["longest"][-1] - delivered[0])
    text = (
        f"Choosing the best of {n[-1]} by the learnt reward gains {delivered[-1] - delivered[0]:.2f} standard "
        f"deviations of true reward, {share:.0%} of what the true reward itself could gain; the learnt reward promised "
        f"{promised[-1] - promised[0]:.2f}. Taking the longest reply gains {longest}."
    )
    if best < len(n) - 1:
        text += f" The true reward is highest at n = {n[best]}: beyond, choosing harder finds the reward's errors."
    return text


def _example(asked: Sequence[str], replies: Sequence[Sequence[str]], scores: Array, truth: Array) -> dict[str, Any]:
    """The prompt with the median loss of true reward by choosing with the learnt one; three of its replies."""
    rows = np.arange(len(asked))
    loss = truth.max(axis=1) - truth[rows, scores.argmax(axis=1)]
    row = int(np.argsort(loss, kind="stable")[len(loss) // 2])
    picks = {
        "One reply, not chosen": 0,
        f"The learnt reward's best of {scores.shape[1]}": int(scores[row].argmax()),
        "The true reward's best": int(truth[row].argmax()),
    }
    learnt, true = _standard(scores), _standard(truth)
    return {
        "prompt": asked[row],
        "choices": [
            {
                "label": label,
                "reply": replies[row][i],
                "learnt": f"{learnt[row, i]:+.2f}",
                "true": f"{true[row, i]:+.2f}",
            }
            for label, i in picks.items()
        ],
    }


def _plot(curve: Mapping[str, Any]) -> dict[str, Any]:
    """Geometry of the picture: x in log2 n, y in standard deviations."""
    width, height, left, right, top, bottom = 560, 400, 44, 546, 12, 346
    values = [v for key, *_ in CURVES for v in curve[key]] + [v for ends in curve["gold_ci"] or [] for v in ends]
    low, high = float(np.floor(min(values) * 2) / 2), float(np.ceil(max(values) * 2) / 2)
    span = np.log2(curve["n"][-1]) or 1.0

    def x(n: int) -> float:
        return round(left + 8 + (right - left - 16) * float(np.log2(n)) / float(span), 1)

    def y(value: float) -> float:
        return round(bottom - (bottom - top) * (value - low) / (high - low), 1)

    curves = []
    for key, css, label, short in CURVES:
        dots = [(x(n), y(value)) for n, value in zip(curve["n"], curve[key], strict=True)]
        ends = curve[f"{key}_ci"] if key == "gold" else None
        upper = [(x(n), y(pair[1])) for n, pair in zip(curve["n"], ends, strict=True)] if ends else []
        lower = [(x(n), y(pair[0])) for n, pair in zip(curve["n"], ends, strict=True)] if ends else []
        curves.append(
            {
                "css": css,
                "label": label,
                "short": short,
                "points": _points(dots),
                "band": _points(upper + lower[::-1]),
                "dots": dots if key == "gold" else [],
            }
        )
    return {
        "width": width,
        "height": height,
        "left": left,
        "right": right,
        "bottom": bottom,
        "title": _reading(curve),
        "x_ticks": [{"at": x(n), "label": n} for n in curve["n"]],
        "y_ticks": [
            {"at": y(v), "label": f"{v:g}"} for v in np.arange(low, high + 0.25, 0.5 if high - low < 3 else 1.0)
        ],
        "curves": curves,
    }


def _signed(value: float) -> str:
    return f"{value:+.2f}" if abs(value) >= 0.005 else "0.00"


def _points(pairs: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{a},{b}" for a, b in pairs)
