"""Self-play fine-tuning (SPIN): the policy learns to tell demonstrations from what it said a round ago.

Chen et al. 2024 (arXiv 2401.01335, equation 4.7): in iteration t, for demonstrations y and own answers y' ~ pi_t,

    L = -E log sigma(lambda log pi(y|x)/pi_t(y|x) - lambda log pi(y'|x)/pi_t(y'|x)),

which is DPO with the demonstration chosen, the own answer rejected and the last iterate as reference. Its fixed point
is the demonstrator. The implicit reward lambda log pi / pi_t belongs to one iteration; over all of them they add up to
lambda log pi / pi_0. With one answer to a prompt and little data the policy memorises: watch the held-out numbers.

`rejection_rounds` is the other way to tune on a learnt reward without a critic: answer, keep the best, learn from it,
and (with `refit`) learn the reward anew from the demonstrations against the answers of the policy as it has become.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic_core import from_json

from tacit.artefacts import atomic_file, write_json
from tacit.conversation import Prompt, completion_text
from tacit.demonstrations.extrapolation import Demos
from tacit.demonstrations.samples import draw
from tacit.errors import ArtefactError, EvidenceError, TacitError
from tacit.rewards.contract import Reward
from tacit.tuning.data import answerable
from tacit.tuning.loop import LoopOptions, train
from tacit.tuning.losses import PreferenceOptions
from tacit.tuning.policy_gradient import GradientOptions
from tacit.tuning.preference import PreferenceTuning, PreferenceTuningOptions, Triple, encode_pairs
from tacit.tuning.processes import Processes
from tacit.tuning.rejection import Rejection
from tacit.tuning.sampling import Sampler, SamplingOptions


@dataclass(frozen=True)
class SelfPlayOptions:
    """How SPIN plays."""

    iterations: int = 3
    beta: float = 0.1
    """lambda."""
    batch: int = 32
    micro_batch: int = 16
    epochs: float = 1.0
    """Passes over the demonstrations in each iteration."""
    steps: int | None = None
    """Optimiser steps of each iteration, in place of epochs."""
    sampling: SamplingOptions = field(default_factory=SamplingOptions)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.iterations < 1 or self.beta <= 0:
            raise TacitError(f"SPIN takes at least one iteration and a positive beta (found {self})")


Load = Callable[[str | Path], Any]
"""A policy from its folder."""


def self_play(
    policy: str | Path,
    demos: Demos,
    out: str | Path,
    options: SelfPlayOptions = SelfPlayOptions(),
    loop: LoopOptions = LoopOptions(),  # noqa: B008
    *,
    load: Load | None = None,
    measure: Callable[[Any], dict[str, float]] | None = None,
    processes: Processes = Processes(),  # noqa: B008
    resume: bool = False,
    agreed: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, Any]:
    """Play `iterations` rounds from the policy in a folder, and save the last one to OUT/policy.

    OUT/iteration-N holds the answers, metrics.jsonl and policy of each round. With `resume` finished rounds are kept
    and the one that was killed goes on from its last checkpoint; `agreed` (JSON) is what such a run must have in common
    with the one before. `measure` is called with the policy of each round (the first one included). `left_out` of a row
    counts demonstrations that are too long for the model. Raises `EvidenceError` where every answer is the
    demonstration itself, and where none is short enough.
    """
    folder, opened = Path(out), load or _load
    current: str | Path = policy
    rows: list[dict[str, Any]] = []
    settings = {"policy": str(policy), "beta": options.beta, "seed": options.seed, "batch": options.batch, **agreed}
    for number in range(options.iterations):
        place = folder / f"iteration-{number + 1}"
        if resume and (done := _finished(place, settings)) is not None:
            rows.append(done)
            current = place / "policy"
            continue
        player = opened(current)
        readable = demos.take(answerable(player, demos.prompts).nonzero()[0].tolist())
        if not len(readable):
            raise EvidenceError(f"no prompt leaves room for an answer in what {policy} reads", mend="Shorten them")
        prompts, said, weights = readable.grouped()
        before = {} if measure is None else measure(player)
        draws = options.sampling.sampling(options.seed * 1_000_003 + number)
        answers, _ = draw(player, prompts, 1, draws, place / "answers" if processes.world == 1 else None)
        pairs: list[Triple] = [
            (prompt, one, own, weight)
            for prompt, every, (own,), weigh in zip(prompts, said, answers, weights, strict=True)
            for one, weight in zip(every, weigh, strict=True)
            if completion_text(one) != own
        ]
        if not pairs:
            raise EvidenceError(
                f"in iteration {number + 1} every answer is the demonstration itself: there is nothing left to learn",
                mend="Give fewer --iterations",
            )
        chosen = PreferenceTuningOptions(
            "sigmoid", PreferenceOptions(beta=options.beta), batch=options.batch, micro_batch=options.micro_batch,
            epochs=options.epochs, steps=options.steps, seed=options.seed + number,
        )  # fmt: skip
        context = getattr(getattr(player, "codec", None), "context", None)
        encoded = encode_pairs(player, pairs, context)
        method = PreferenceTuning(player, encoded, chosen, processes=processes)
        found = train(
            method, place, replace(loop, seed=loop.seed + number), settings=settings, resume=resume,
            processes=processes,
        )  # fmt: skip
        left_out = len(demos) - len(readable) + encoded.left_out
        row: dict[str, Any] = {"iteration": number + 1, "pairs": len(encoded), "left_out": left_out, **found}
        row |= {f"before/{k}": v for k, v in before.items()}
        if processes.main:
            method.save(place / "policy")
            with atomic_file(place / "result.json") as temporary:
                write_json(temporary, {"settings": settings, "row": _plain(row)})
        processes.wait()
        rows.append(row)
        current = place / "policy"
    final = opened(current)
    measured = {} if measure is None else measure(final)
    if processes.main:
        final.save(folder / "policy")
    processes.wait()
    return {"iterations": rows, **measured, "out": str(folder / "policy")}


def rejection_rounds(
    policy: Any,
    reward: Reward | Callable[[Sequence[Prompt], Sequence[str]], Reward],
    prompts: Sequence[Prompt],
    out: str | Path,
    *,
    rounds: int = 3,
    steps: int = 10,
    sampling: SamplingOptions = SamplingOptions(),  # noqa: B008
    loop: LoopOptions = LoopOptions(),  # noqa: B008
    rule: str = "raft",
    seed: int = 0,
) -> list[dict[str, Any]]:
    """`rounds` of `steps` rejection steps each (`tuning.rejection`) on the policy, which is changed in place.

    `reward` is a reward, or a function that learns one anew in each round from fresh answers of the policy to the
    prompts: `lambda prompts, answers: ...`. Returns a row for each round.
    """
    rows = []
    for number in range(rounds):
        current = reward
        if not isinstance(current, Reward):
            answers = policy.generate(prompts, 1, sampling.sampling(seed * 1_000_003 + 50_000 + number))
            current = current(prompts, [one for (one,) in answers])
        sampler = Sampler(policy, prompts, current, sampling, seed * 101 + number)
        method = Rejection(policy, sampler, GradientOptions(estimator=rule, measure_kl=True), steps)
        rows.append({"round": number + 1, **train(method, Path(out) / f"round-{number + 1}", loop)})
    return rows


def _load(folder: str | Path) -> Any:
    from tacit.policies.transformer import TransformerPolicy

    return TransformerPolicy.load(folder)


def _finished(place: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """The row of an iteration that ended; raises `ArtefactError` where it was one of other settings."""
    path = place / "result.json"
    if not path.is_file() or not (place / "policy" / "config.json").is_file():
        return None
    try:
        held = from_json(path.read_bytes())
        made, row = held["settings"], dict(held["row"])
    except (ValueError, TypeError, KeyError) as error:
        raise ArtefactError(f"{path} is damaged ({error}). Delete {place}, and it is made again") from error
    if made != settings:
        raise ArtefactError(f"{place} was made with {made}, not {settings}. Give another --out")
    return row


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Numbers and texts alone, as JSON holds them."""
    return {key: value for key, value in row.items() if value is None or isinstance(value, bool | int | float | str)}
