"""What tells demonstrations from answers in the adversarial loop: text features, or a language model.

Both are asked alike: learn from a round of answers, give the reward that follows from the logit, and make a fresh
discriminator of the same kind, which has seen nothing but what it is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from tacit.conversation import completion_text, texts
from tacit.demonstrations.discriminator import Discriminator, DiscriminatorOptions
from tacit.demonstrations.induced import (
    InducedLanguagePrefixReward,
    InducedLanguageReward,
    InducedPrefixReward,
    InducedReward,
)
from tacit.demonstrations.language import LanguageDiscriminator, Row, TrunkOptions
from tacit.features import Encoder, FeatureStore
from tacit.policies.contract import TrainablePolicy
from tacit.tuning import credit
from tacit.tuning.crediting import PrefixCredit, held, token_spans
from tacit.tuning.loop import State
from tacit.tuning.processes import Processes
from tacit.tuning.sampling import Experience


class Judge(Protocol):
    """See the module."""

    @property
    def rounds(self) -> int:
        """Rounds that it has learnt from."""
        ...

    def learn(self, fresh: Sequence[Row]) -> dict[str, float]:
        """Learn from fresh answers and those kept; metrics `discriminator/...`."""
        ...

    def logits(self, rows: Sequence[Row]) -> np.ndarray:
        """h (n,) float64."""
        ...

    def reward(self, **shape: Any) -> Any:
        """The reward that the logit induces; `renew` makes it follow what is learnt later."""
        ...

    def renew(self, reward: Any) -> None:
        """Let the reward know what was learnt."""
        ...

    def fresh(self, answers: Sequence[Row]) -> Judge:
        """One that has learnt from these answers alone."""
        ...

    def credit(self, reward: Any) -> Any:
        """From experience to token rewards, for one that judges beginnings."""
        ...

    def state(self) -> State:
        """What a resumed run needs."""
        ...

    def restore(self, state: State, answers: Sequence[Row]) -> None:
        """Take it over; `answers` are any that show what answers are like."""
        ...


class FeatureJudge:
    """A `Discriminator` on features of texts; of unfinished answers one beginning of each, where asked to."""

    def __init__(
        self, encoder: Encoder, rows: Sequence[Row], weights: Sequence[float], options: DiscriminatorOptions, *,
        per_token: bool = False, seed: int = 0, cache: Path | None = None,
    ) -> None:  # fmt: skip
        self.encoder, self.rows, self.weights, self.options = encoder, list(rows), list(weights), options
        self.per_token, self.seed, self.cache = per_token, seed, cache
        self.store = FeatureStore(encoder, cache)
        self.discriminator: Discriminator | None = None

    @property
    def rounds(self) -> int:
        """Rounds that it has learnt from."""
        return 0 if self.discriminator is None else self.discriminator.rounds

    def features(self, rows: Sequence[Row]) -> np.ndarray:
        """(n, d)."""
        return self.store.features([texts(prompt, completion) for prompt, completion in rows])

    def learn(self, fresh: Sequence[Row]) -> dict[str, float]:
        """A round."""
        told = self.features(fresh)
        discriminator = self._ready(told)
        if not self.per_token:
            return discriminator.learn(told)
        rng = np.random.default_rng([self.seed, 32, discriminator.rounds])
        told = np.concatenate([told, self.features([(p, cut(completion_text(c), rng)) for p, c in fresh])])
        return discriminator.learn(told, self.features([(p, cut(completion_text(c), rng)) for p, c in self.rows]))

    def logits(self, rows: Sequence[Row]) -> np.ndarray:
        """h (n,)."""
        found: np.ndarray = self.reward().logits([p for p, _ in rows], [c for _, c in rows])
        return found

    def reward(self, **shape: Any) -> InducedReward:
        """An induced reward on the features."""
        kind = InducedPrefixReward if self.per_token else InducedReward
        empty = {"linear": torch.zeros(1, self.encoder.dim), "bias": torch.zeros(1)}
        head = empty if self.discriminator is None else self.discriminator.parameters()
        return kind(self.encoder, head, cache=self.cache, **shape)

    def renew(self, reward: InducedReward) -> None:
        """Give it the head that was learnt."""
        assert self.discriminator is not None
        reward.parameters = self.discriminator.parameters()

    def fresh(self, answers: Sequence[Row]) -> FeatureJudge:
        """With four times the iterations, on whole answers."""
        mine = self.options
        options = replace(mine, replay=0, passes=4 * mine.passes, seed=mine.seed + 1)
        made = FeatureJudge(self.encoder, self.rows, self.weights, options, seed=self.seed, cache=self.cache)
        made.learn(answers)
        made.per_token = self.per_token
        return made

    def credit(self, reward: InducedPrefixReward) -> PrefixCredit:
        """Differences of the scores of beginnings."""
        return PrefixCredit(reward, 1)

    def state(self) -> State:
        """The discriminator."""
        return State({}, {} if self.discriminator is None else self.discriminator.tensors())

    def restore(self, state: State, answers: Sequence[Row]) -> None:
        """Take it over."""
        self._ready(self.features(answers)).restore(state.tensors, int(state.values["rounds"]))

    def _ready(self, answers: np.ndarray) -> Discriminator:
        if self.discriminator is None:
            self.discriminator = Discriminator(self.features(self.rows), answers, self.options, self.weights)
        return self.discriminator


class LanguageJudge:
    """A `LanguageDiscriminator`."""

    def __init__(self, inner: LanguageDiscriminator) -> None:
        self.inner = inner

    @property
    def rounds(self) -> int:
        """Rounds that it has learnt from."""
        return self.inner.rounds

    def learn(self, fresh: Sequence[Row]) -> dict[str, float]:
        """A round."""
        return self.inner.learn(fresh)

    def logits(self, rows: Sequence[Row]) -> np.ndarray:
        """h (n,)."""
        return self.inner.score([p for p, _ in rows], [c for _, c in rows]).astype(np.float64)

    def reward(self, **shape: Any) -> InducedLanguageReward:
        """An induced reward that reads this very model, and so follows it."""
        kind = InducedLanguagePrefixReward if self.inner.per_token else InducedLanguageReward
        return kind(self.inner, **shape)

    def renew(self, reward: InducedLanguageReward) -> None:
        """Nothing: the reward holds the model itself."""

    def fresh(self, answers: Sequence[Row]) -> LanguageJudge:
        """From the trunk as it was before all rounds."""
        return LanguageJudge(self.inner.fresh(answers))

    def credit(self, reward: InducedLanguageReward) -> LogitCredit:
        """Differences of the scores of beginnings, all of them from one pass."""
        return LogitCredit(reward, self.inner)

    def state(self) -> State:
        """The model."""
        return self.inner.state()

    def restore(self, state: State, answers: Sequence[Row]) -> None:
        """Take it over."""
        self.inner.restore(state)


class LogitCredit:
    """Token rewards r_t = R(h_t) - R(h_{t-1}) from the logits that one pass gives after every token of an answer.

    R is the induced, normalised reward; what the whole answer's reward has besides lands on its last token, so that
    the sum stays. The policy's tokens are found in the discriminator's by where they end in the text.
    """

    def __init__(self, reward: InducedLanguageReward, discriminator: LanguageDiscriminator) -> None:
        self.reward, self.discriminator = reward, discriminator

    def __call__(self, made: Experience, policy: TrainablePolicy) -> torch.Tensor:
        """(B, T)."""
        prompts = [prompt for prompt in made.prompts for _ in range(made.n)]
        scores = np.full(tuple(made.mask.shape), np.nan, np.float32)
        known = self.discriminator.beginnings(prompts, made.texts)
        for row, (ends, (stops, h)) in enumerate(zip(token_spans(policy, made), known, strict=True)):
            place = np.searchsorted(stops, np.asarray(ends[:-1], int), side="right") - 1
            found = np.flatnonzero(place >= 0)
            scores[row, found] = self.reward.valued(h[place[found]])
        last = made.mask.sum(1).cpu().numpy() - 1
        scores[np.arange(len(scores)), last] = made.rewards.cpu().numpy()
        return credit.differences(torch.from_numpy(held(scores)).to(made.rewards.device), made.rewards, made.mask)


def cut(text: str, rng: np.random.Generator) -> str:
    """The text up to a random word's end; a single word, or none, stays whole."""
    places = [i for i in range(1, len(text)) if text[i].isspace() and not text[i - 1].isspace()]
    return text[: places[int(rng.integers(len(places)))]] if places else text


def judge_of(
    reads: Encoder | TrunkOptions, rows: Sequence[Row], weights: Sequence[float], options: DiscriminatorOptions, *,
    per_token: bool, seed: int, cache: Path | None, processes: Processes,
) -> Judge:  # fmt: skip
    """The judge that reads through an encoder of text features, or through a trunk (`TrunkOptions`)."""
    if isinstance(reads, TrunkOptions):
        return LanguageJudge(LanguageDiscriminator(rows, reads, weights, per_token=per_token, processes=processes))
    return FeatureJudge(reads, rows, weights, options, per_token=per_token, seed=seed, cache=cache)
