"""Alignment from demonstrations by reward extrapolation (AfD): one reward, fitted once, with no adversary.

Sun and van der Schaar 2024 (arXiv 2405.15624). With the initial policy pi_0, the policy pi_SFT that supervised tuning
makes of it, and demonstrations, comparisons are made of two answers to one prompt:

| pairing | chosen | rejected | |
|---|---|---|---|
| `init-sft` | pi_SFT | pi_0 | both sides are the model's own hand; the paper's recommendation |
| `init-demo` | demonstration | pi_0 | whatever tells a person (or a larger model) from the model is learnt |
| `sft-demo` | demonstration | pi_SFT | the same, and little else is left to learn |
| `mismatched` | demonstration | a demonstration of another prompt | no policy at all |

What tells the sides apart is what the reward learns. Where the sides differ in their hand (length, layout, tokens that
one of them never writes) the reward extrapolates along that, which is how the pairings with demonstrations on one side
are hacked; `heterogeneity` in the report says how far surface alone tells them apart.

`mismatched` needs no model and knows only whether an answer belongs to its prompt: both sides are demonstrations, so
that nothing of how *good* an answer is, or of the demonstrator's style, is in such a reward.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from tacit.conversation import Completion, Prompt, completion_text, prompt_text, texts
from tacit.demonstrations.distance import FOLDS, heterogeneity
from tacit.demonstrations.samples import draw, fingerprint
from tacit.errors import EvidenceError, TacitError
from tacit.evidence import Comparison, Evidence, Record
from tacit.policies.contract import Policy, Sampling
from tacit.tuning.supervised import demonstrations_of

Pairing = Literal["init-sft", "init-demo", "sft-demo", "mismatched"]
SIDES: dict[str, tuple[str, str]] = {
    "init-sft": ("init", "sft"),
    "init-demo": ("init", "demo"),
    "sft-demo": ("sft", "demo"),
    "mismatched": ("other", "demo"),
}
"""Rejected and chosen side of each pairing."""
_HEARD = 2000
"""Texts of a side that heterogeneity looks at."""


@dataclass(frozen=True)
class AnswerOptions:
    """How a policy's answers are drawn, and how the SFT policy is trained where none is given."""

    answers: int = 1
    """Answers of each policy to each prompt; pairs of one prompt share the weight of its demonstration."""
    max_completion_length: int = 64
    temperature: float = 1.0
    top_p: float = 1.0
    sft_epochs: float = 3.0
    sft_learning_rate: float = 2e-5
    sft_batch: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        for name, bad in (
            ("answers", self.answers < 1),
            ("max_completion_length", self.max_completion_length < 1),
            ("temperature", self.temperature < 0),
            ("top_p", not 0 < self.top_p <= 1),
            ("sft_epochs", self.sft_epochs <= 0),
            ("sft_learning_rate", self.sft_learning_rate <= 0),
            ("sft_batch", self.sft_batch < 1),
        ):
            if bad:
                raise TacitError(f"option `{name}` is {getattr(self, name)!r}, outside its range")

    def sampling(self, salt: int) -> Sampling:
        """How to draw; each side has a seed of its own."""
        return Sampling(
            self.max_completion_length, self.temperature, top_p=self.top_p, seed=self.seed * 1_000_003 + salt
        )


@dataclass(frozen=True)
class Demos:
    """n demonstrations."""

    prompts: list[Prompt]
    completions: list[Completion]
    weights: list[float]

    @classmethod
    def of(cls, evidence: Iterable[Record], source: str = "memory") -> Demos:
        """Demonstrations, or the chosen sides of comparisons; raises `EvidenceError` for anything else."""
        return cls(*demonstrations_of(evidence, source))

    def __len__(self) -> int:
        return len(self.prompts)

    def columns(self) -> tuple[list[Prompt], list[Completion], list[float]]:
        """Prompts, completions and weights."""
        return self.prompts, self.completions, self.weights

    def take(self, rows: Sequence[int]) -> Demos:
        """Some of them."""
        return Demos(
            [self.prompts[i] for i in rows], [self.completions[i] for i in rows], [self.weights[i] for i in rows]
        )

    def grouped(self) -> tuple[list[Prompt], list[list[Completion]], list[list[float]]]:
        """Distinct prompts, in order, with their completions and weights."""
        place: dict[str, int] = {}
        prompts: list[Prompt] = []
        said: list[list[Completion]] = []
        weights: list[list[float]] = []
        for prompt, completion, weight in zip(self.prompts, self.completions, self.weights, strict=True):
            at = place.setdefault(prompt_text(prompt), len(prompts))
            if at == len(prompts):
                prompts.append(prompt)
                said.append([])
                weights.append([])
            said[at].append(completion)
            weights[at].append(weight)
        return prompts, said, weights


@dataclass
class Made:
    """Comparisons, and where they came from."""

    comparisons: list[Comparison]
    report: dict[str, Any] = field(default_factory=dict)

    def evidence(self, source: str) -> Evidence:
        """As evidence; raises `EvidenceError` where nothing was left."""
        if not self.comparisons:
            raise EvidenceError(
                "both sides say the same in every row, so that there is nothing to learn",
                mend="Take another --pairing, more --answers, or a policy that answers otherwise",
                source=source,
            )
        return Evidence.from_records(self.comparisons, source=source)


@dataclass
class Extrapolation:
    """The two policies of AfD; either may be missing where the pairing does not need it."""

    pairing: Pairing = "init-sft"
    init: Policy | None = None
    sft: Policy | None = None
    options: AnswerOptions = field(default_factory=AnswerOptions)
    work: Path | None = None
    """Folder of samples that are drawn once and read again."""

    def __post_init__(self) -> None:
        if self.pairing not in get_args(Pairing):
            raise TacitError(f"no pairing `{self.pairing}`. Choose one of: {', '.join(get_args(Pairing))}")
        for side in SIDES[self.pairing]:
            if side in ("init", "sft") and getattr(self, side) is None:
                raise TacitError(
                    f"pairing {self.pairing} asks the {_CALLED[side]}. Give --policy FOLDER"
                    + (" or --sft FOLDER" if side == "sft" else "")
                    + ", or take --pairing mismatched, which needs none"
                )

    def pairs(self, demos: Demos, *, encoder: Any = None, cache: Any = None) -> Made:
        """Comparisons under the prompts of demonstrations; with an encoder heterogeneity is in the report.

        Answers that equal their partner are left out and counted. Raises `EvidenceError` for `mismatched` with fewer
        than two prompts.
        """
        prompts, said, weights = demos.grouped()
        rng = np.random.default_rng([self.options.seed, 21])
        low, high = SIDES[self.pairing]
        sides, files = {}, {}
        for side in (low, high):
            sides[side], files[side] = self._answers(side, prompts, said, rng)
        comparisons: list[Comparison] = []
        same = 0
        for at, prompt in enumerate(prompts):
            a, b = sides[low][at], sides[high][at]
            count = max(len(a), len(b))
            weight = float(np.mean(weights[at])) * len(said[at]) / count
            for i in range(count):
                chosen, rejected = b[i % len(b)], a[i % len(a)]
                if completion_text(chosen) == completion_text(rejected):
                    same += 1
                else:
                    comparisons.append(Comparison(prompt=prompt, chosen=chosen, rejected=rejected, weight=weight))
        report: dict[str, Any] = {
            "pairing": self.pairing,
            "chosen": _CALLED[high],
            "rejected": _CALLED[low],
            "prompts": len(prompts),
            "demonstrations": len(demos),
            "comparisons": len(comparisons),
            "equal_pairs": same,
            "answers": asdict(self.options),
            "samples": {_CALLED[side]: str(file) for side, file in files.items() if file is not None},
        }
        if encoder is not None and len(prompts) >= FOLDS and comparisons:
            heard = comparisons[:_HEARD]
            report["heterogeneity"] = heterogeneity(
                [texts(c.prompt, c.rejected) for c in heard], [texts(c.prompt, c.chosen) for c in heard], encoder,
                cache=cache, same_answers=self.pairing == "mismatched", seed=self.options.seed,
            )  # fmt: skip
            report["warnings"] = _warnings(self.pairing, report["heterogeneity"])
        return Made(comparisons, report)

    def _answers(
        self, side: str, prompts: Sequence[Prompt], said: Sequence[list[Completion]], rng: np.random.Generator
    ) -> tuple[list[list[Any]], Path | None]:
        """Completions of a side for each prompt."""
        match side:
            case "demo":
                return [list(one) for one in said], None
            case "other":
                return _others(said, rng), None
        policy = self.init if side == "init" else self.sft
        assert policy is not None
        # Where demonstrations are the other side, each needs an answer to stand against.
        n = self.options.answers
        return draw(policy, prompts, n, self.options.sampling(1 if side == "init" else 2), self.work)


def supervised(policy: Any, demos: Demos, work: str | Path, options: AnswerOptions) -> Path:
    """The SFT policy of these demonstrations: trained with `tuning.supervised`, or found in `work` from a former run.

    The folder's name is a digest of the policy, the demonstrations and the options. `policy` is left as it was found:
    the one that is trained is loaded anew from its folder, or is a copy.
    """
    import hashlib
    import json

    from tacit.tuning.loop import LoopOptions, train
    from tacit.tuning.supervised import SupervisedTuning, encode

    rows = [[prompt_text(p), completion_text(c), w] for p, c, w in zip(*demos.columns(), strict=True)]
    learning = [options.sft_epochs, options.sft_learning_rate, options.sft_batch, options.seed]
    key = json.dumps([fingerprint(policy), rows, learning])
    place = Path(work) / f"sft-{hashlib.blake2b(key.encode(), digest_size=12).hexdigest()}"
    if (place / "policy" / "config.json").is_file():
        return place / "policy"
    learner = copied(policy)
    context = getattr(getattr(learner, "codec", None), "context", None)
    method = SupervisedTuning(
        learner,
        encode(learner, *demos.columns(), max_length=context),
        batch=options.sft_batch,
        micro_batch=min(options.sft_batch, 32),
        epochs=options.sft_epochs,
        seed=options.seed,
    )
    loop = LoopOptions(learning_rate=options.sft_learning_rate, seed=options.seed, num_samples=0)
    train(method, place, loop)
    method.save(place / "policy")
    return place / "policy"


def copied(policy: Any) -> Any:
    """The same policy with weights of its own, to be trained."""
    import copy

    return type(policy)(
        copy.deepcopy(policy.model),
        policy.tokenizer,
        name=policy.name,
        dtype=str(policy.dtype).removeprefix("torch."),
    )


_CALLED = {
    "init": "initial policy",
    "sft": "SFT policy",
    "demo": "demonstration",
    "other": "demonstration of another prompt",
}


def _others(said: Sequence[list[Completion]], rng: np.random.Generator) -> list[list[Completion]]:
    """For every demonstration one of another prompt: a random one of the prompt that a random cycle puts next."""
    if len(said) < 2:
        raise EvidenceError("answers of other prompts need at least two prompts", mend="Give more", column="prompt")
    order = rng.permutation(len(said))
    after = np.empty_like(order)
    after[order] = np.roll(order, -1)
    return [
        [said[after[at]][int(i)] for i in rng.integers(len(said[after[at]]), size=len(own))]
        for at, own in enumerate(said)
    ]


def _warnings(pairing: str, found: dict[str, Any]) -> list[str]:
    """What the reward is likely to have learnt in place of what was meant."""
    warnings = []
    gained = found["accuracy"] - 0.5
    for name, what in (("length_accuracy", "length alone"), ("surface_accuracy", "length and layout alone")):
        if gained > 0.1 and found[name] - 0.5 > 0.8 * gained:
            warnings.append(
                f"{what} tells chosen from rejected as well as anything ({found[name]:.2f} of {found['accuracy']:.2f}):"
                " the reward is likely to be that. Fit with --length-regressed, or take --pairing init-sft"
            )
            break
    if pairing == "mismatched":
        warnings.append(
            "with no policy the reward knows whether an answer belongs to its prompt, and nothing of how good it is"
        )
    return warnings
