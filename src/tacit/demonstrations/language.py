r"""A discriminator that is a language model: the trunk of a causal one, and a scalar head on each token's last state.

With z_t the final state after token t of an exchange, before the gain g of the last norm, and h_t = w . (g z_t), the
logit of a whole answer is that of its last real token. The loss is that of `discriminator`, on whole answers or, per
token, on every beginning of an answer of l tokens,

    L = 1/2 E_demo l(-h) + 1/2 E_pi l(h) + penalty / 2 |w g|^2,      l(h) = softplus(h_l)  or  sum_t softplus(h_t) / m,

where m, the mean length of both sides, is one constant: every beginning weighs as often as it occurs. The best h_t is

    log p_demo(y_1..y_t | x) / pi(y_1..y_t | x) = \sum_{s <= t} log p_demo(y_s | x, y_<s) / pi(y_s | x, y_<s),

and h_t - h_{t-1} is what token t alone says: the credit that policy gradients are given (`LogitCredit`).

The gradient penalty (zero-centred, Mescheder et al. 2018, arXiv 1801.04406) is the squared slope of h in the normed
state z, exactly |w g|^2 at every point. Slopes in the embeddings would need second derivatives through attention, which
fused kernels do not have, and points between two texts of unlike length, which do not exist; the norm, which bounds
|z| by the root of its dimension, makes the penalty a bound on h whatever the trunk does.

A round is a few steps of AdamW from where the last one ended, half of each step's answers fresh and half of earlier
rounds. Texts are read as a reward reads them, never as tokens that were sampled: how a text is cut into tokens tells
nobody apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from tacit.artefacts import workspace
from tacit.conversation import Completion, Prompt, completion_text
from tacit.demonstrations.induced import unfinished_ids
from tacit.errors import TacitError
from tacit.models.checkpoint import (
    batches,
    default_max_length,
    device_named,
    load_tokenizer,
    model_folder,
    read_settings,
    right_padded,
)
from tacit.policies import fused, lean
from tacit.policies.packing import pack
from tacit.rewards.chat import TextRule
from tacit.rewards.inputs import require_rows
from tacit.tuning.checkpoints import flattened, nested
from tacit.tuning.data import as_responses, rows_between
from tacit.tuning.loop import State
from tacit.tuning.processes import Processes
from tacit.tuning.reward_model import classifier, save_classifier

Row = tuple[Prompt, Completion]


@dataclass(frozen=True)
class TrunkOptions:
    """A language model as discriminator, and how it is trained."""

    model: Path
    """Folder of the causal language model; by default that of the policy which learns."""
    learning_rate: float = 1e-5
    steps: int = 8
    """Steps of AdamW in a round."""
    batch: int = 32
    """Demonstrations of a step, and as many answers."""
    gradient_penalty: float = 0.1
    replay: int = 512
    """Answers of earlier rounds that are kept."""
    judge_steps: int = 60
    """Least steps of a fresh discriminator: the one that is asked when to stop, and the one that is saved."""
    tokens: int = 4096
    """Most tokens of one forward pass."""
    dtype: str = "float32"
    """Of matrix products: float32 or bfloat16."""
    device: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        least = min(self.steps, self.batch - 1, self.judge_steps, self.tokens)
        if least < 1 or self.learning_rate <= 0 or self.gradient_penalty < 0 or self.replay < 0:
            raise TacitError(f"an option of the discriminator is outside its range: {self}")
        if self.dtype not in ("float32", "bfloat16"):
            raise TacitError(f"dtype is `{self.dtype}`. Use float32 or bfloat16")


@dataclass(frozen=True)
class _Text:
    """An exchange as tokens."""

    ids: list[int]
    lead: int
    """Tokens that the prompt alone begins with, at least 1; what follows is the answer and what closes it."""


class LanguageDiscriminator:
    """Demonstrations against answers that come round by round. Satisfies `Reward` (its score is h), `Saved` and
    `PrefixLevel`.

    Args:
        demonstrations: pairs of prompt and completion.
        options: see `TrunkOptions`.
        weights: of the demonstrations, with a positive sum.
        per_token: judge every beginning of an answer.
        processes: each works on its share of a step's rows.

    Raises `FeatureError` where the folder is no causal language model, `TacitError` where its head is unlike a linear
    one or the weights are all 0.
    """

    def __init__(
        self,
        demonstrations: Sequence[Row],
        options: TrunkOptions,
        weights: Sequence[float] | None = None,
        *,
        per_token: bool = False,
        processes: Processes = Processes(),  # noqa: B008
    ) -> None:
        self.demonstrations, self.options, self.per_token = list(demonstrations), options, per_token
        self.processes, self.given, self.name = processes, weights, "log_ratio"
        given = np.ones(len(self.demonstrations)) if weights is None else np.asarray(weights, float)
        if given.sum() <= 0:
            raise TacitError("every demonstration has the weight 0. Give some a positive weight")
        self.weights = given / given.mean()
        folder = model_folder(options.model)
        self.tokenizer = load_tokenizer(folder)
        length = default_max_length(folder, read_settings(folder))
        chat = bool(self.tokenizer.chat_template)
        ends = not chat and self.tokenizer.eos_token_id is not None
        self.rule = TextRule("chat" if chat else "concatenated", ends, length)
        self.device = device_named(options.device)
        self.model = classifier(folder, self.tokenizer, self.device)
        family = lean.family(self.model)
        self.family = family if family is not None and lean.agrees(family, self.model) else None
        self.optimiser = torch.optim.AdamW(self.model.parameters(), lr=options.learning_rate, weight_decay=0.0)
        self.rounds = 0
        self.kept: list[Row] = []
        self.told = self._texts(self.demonstrations)

    # --- learning -----------------------------------------------------------------------------------------------------

    def learn(self, fresh: Sequence[Row]) -> dict[str, float]:
        """A round on fresh answers and those kept; the metrics are those of `Discriminator.learn`, of the last step."""
        found = self._fit(fresh, self.kept, self.options.steps)
        self.kept = [*fresh, *self.kept][: self.options.replay]
        self.rounds += 1
        return found

    def fresh(self, answers: Sequence[Row]) -> LanguageDiscriminator:
        """A new one of the same trunk, as it was before all rounds, trained on these answers alone."""
        options = replace(self.options, seed=self.options.seed + 1)
        made = LanguageDiscriminator(
            self.demonstrations, options, self.given, per_token=self.per_token, processes=self.processes
        )
        made._fit(answers, [], max(options.judge_steps, -(-len(answers) // options.batch)))
        return made

    def _fit(self, fresh: Sequence[Row], kept: Sequence[Row], steps: int) -> dict[str, float]:
        size, seed = self.options.batch, self.options.seed
        new, old = self._texts(fresh), self._texts(kept)
        half = size - size // 2 if old else size
        found: dict[str, float] = {}
        for step in range(steps):
            at = (self.rounds * self.options.steps + step) * size
            good = rows_between(len(self.told), at, at + size, seed)
            drawn = rows_between(len(new), step * half, (step + 1) * half, seed * 1_000_003 + self.rounds)
            bad = [new[i] for i in drawn.tolist()]
            if old:
                rng = np.random.default_rng([seed, 35, self.rounds, step])
                bad += [old[i] for i in rng.choice(len(old), size // 2, replace=len(old) < size // 2).tolist()]
            found = self._step([self.told[i] for i in good.tolist()], self.weights[good], bad)
        return found

    def _step(self, good: list[_Text], weights: np.ndarray, bad: list[_Text]) -> dict[str, float]:
        every = [*good, *bad]
        side = np.repeat([1.0, -1.0], [len(good), len(bad)])
        share = np.concatenate([weights / len(good), np.full(len(bad), 1 / len(bad))]) / 2
        if self.per_token:
            share = share / np.mean([len(text.ids) - text.lead for text in every])
        self.optimiser.zero_grad(set_to_none=True)
        mine = self.processes.share(list(range(len(every))))
        sums = np.zeros(5)
        for rows in batches([len(every[i].ids) for i in mine], self.options.tokens):
            part = [mine[row] for row in rows.tolist()]
            h, of, last = self._logits([every[i] for i in part])
            used = torch.ones_like(last) if self.per_token else last
            sign, scale = (torch.from_numpy(x[part]).float().to(h.device)[of] for x in (side, share))
            value = (scale * softplus(-sign * h))[used].sum()
            value.backward()  # type: ignore[no-untyped-call]
            with torch.no_grad():
                end, up = h[last], sign[last] > 0
                right = (end > 0) == up
                sums += [float(value), *(float(x) for x in (right[up].sum(), right[~up].sum(), end[up].sum(), end[~up].sum()))]  # noqa: E501  # fmt: skip
        if self.processes.main:
            slope = self.options.gradient_penalty / 2 * self._slope()
            slope.backward()  # type: ignore[no-untyped-call]
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.processes.add_gradients(parameters)
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, 1.0))
        if not np.isfinite(norm):
            raise TacitError(f"the discriminator diverged: its gradient is {norm}. Lower --discriminator-learning-rate")
        self.optimiser.step()
        loss, up, down, high, low = self.processes.sum(torch.from_numpy(sums)).tolist()
        return {
            "discriminator/loss": loss,
            "discriminator/accuracy": (up / len(good) + down / len(bad)) / 2,
            "discriminator/demonstrations": high / len(good),
            "discriminator/answers": low / len(bad),
        }

    def _slope(self) -> Tensor:
        """|w g|^2, the squared slope of h in the normed state; |w|^2 where the last norm is not known."""
        weight: Tensor = self.model.score.weight
        return (weight * self.family.base.norm.weight if self.family is not None else weight).square().sum()

    # --- scoring ------------------------------------------------------------------------------------------------------

    def score(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> np.ndarray:
        """h (n,) float32 of whole answers: the log-odds that one is a demonstration."""
        require_rows(prompts, completions)
        return self._ends(self._texts(list(zip(prompts, completions, strict=True))))

    def score_prefixes(self, prompts: Sequence[Prompt], prefixes: Sequence[Completion]) -> np.ndarray:
        """h (n,) float32 of unfinished answers."""
        ids = unfinished_ids(self.rule, self.tokenizer, prompts, prefixes)
        return self._ends([_Text(row, 1) for row in ids])

    def beginnings(
        self, prompts: Sequence[Prompt], completions: Sequence[Completion]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each answer the place in its text where each of its tokens ends, (l,), and h up to there, (l,) float32.

        Tokens without text, such as the one that ends an answer, are left out.
        """
        texts = self._texts(list(zip(prompts, completions, strict=True)))
        every: list[tuple[np.ndarray, np.ndarray]] = []
        found = self._scored(texts)
        for text, h, said in zip(texts, found, completions, strict=True):
            sizes = [len(self._decoded([token])) for token in text.ids[text.lead :]]
            shown = np.array(sizes, int) > 0
            whole = len(completion_text(said))
            # From the back: what a tokenizer puts before the first word is none of the answer's characters.
            ends = np.maximum(whole - np.cumsum([0, *sizes[::-1]])[:-1][::-1], 0)
            every.append((ends[shown], h[shown]))
        return every

    def _decoded(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def _ends(self, texts: list[_Text]) -> np.ndarray:
        """h (n,) float32 after the last token of each."""
        return np.array([h[-1] for h in self._scored(texts)], np.float32)

    def _scored(self, texts: list[_Text]) -> list[np.ndarray]:
        """h (l,) float32 after each token of every answer."""
        found: list[np.ndarray] = [np.zeros(0, np.float32)] * len(texts)
        with torch.no_grad():
            for rows in batches([len(text.ids) for text in texts], self.options.tokens):
                h, of, _ = self._logits([texts[row] for row in rows])
                values, owner = h.cpu().numpy(), of.cpu().numpy()
                for place, part in enumerate(np.split(values, np.flatnonzero(np.diff(owner)) + 1)):
                    found[rows[place]] = part
        return found

    def _texts(self, rows: Sequence[Row]) -> list[_Text]:
        if not rows:
            return []
        prompts, completions = [p for p, _ in rows], [c for _, c in rows]
        ids = self.rule.token_ids(self.tokenizer, prompts, completions)
        bare = unfinished_ids(self.rule, self.tokenizer, prompts, [""] * len(rows))
        return [_Text(row, _lead(row, start)) for row, start in zip(ids, bare, strict=True)]

    def _logits(self, texts: Sequence[_Text]) -> tuple[Tensor, Tensor, Tensor]:
        """h (M,) after every answer token of all texts, text after text; the text of each (M,), and which end one."""
        with torch.autocast(self.device.split(":")[0], torch.bfloat16, enabled=self._dtype is torch.bfloat16):
            states, of, last = self._packed(self.family, texts) if self.family else self._padded(texts)
            return self.model.score(states)[:, 0].float(), of, last

    def _packed(self, family: lean.Family, texts: Sequence[_Text]) -> tuple[Tensor, Tensor, Tensor]:
        # The state before a token that follows a text is that of the text's last token; the first is the prompt's.
        rows = as_responses(
            [text.ids[: text.lead] for text in texts], [[*text.ids[text.lead :], 0] for text in texts], self.device
        )
        packed = pack(rows, torch.device(self.device))
        states = fused.predicting_states(family, packed, self._dtype)
        ends = rows.mask.sum(1)[packed.rows] - 1
        said = (packed.times > 0) | (ends == 0)
        return states[said], packed.rows[said], (packed.times == ends)[said]

    def _padded(self, texts: Sequence[_Text]) -> tuple[Tensor, Tensor, Tensor]:
        ids_BT, real_BT = (torch.from_numpy(x).to(self.device) for x in right_padded([text.ids for text in texts], 0))
        states = self.model.base_model(
            input_ids=ids_BT, attention_mask=real_BT.long(), use_cache=False
        ).last_hidden_state
        place = torch.arange(ids_BT.shape[1], device=self.device)
        lead = torch.tensor([min(text.lead, len(text.ids) - 1) for text in texts], device=self.device)
        said = real_BT & (place >= lead[:, None])
        last = said & (place == real_BT.sum(1, keepdim=True) - 1)
        return states[said], said.nonzero()[:, 0], last[said]

    @property
    def _dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.options.dtype == "bfloat16" else torch.float32

    # --- keeping ------------------------------------------------------------------------------------------------------

    def state(self) -> State:
        """Weights, AdamW's moments, and the answers that are kept."""
        moments, groups = flattened(self.optimiser.state_dict())
        tensors = {f"trunk/{name}": value for name, value in self.model.named_parameters()}
        tensors |= {f"moments/{name}": value for name, value in moments.items()}
        return State({"groups": groups, "kept": [list(row) for row in self.kept], "rounds": self.rounds}, tensors)

    def restore(self, state: State) -> None:
        """Take it over."""
        with torch.no_grad():
            for name, value in self.model.named_parameters():
                value.copy_(state.tensors[f"trunk/{name}"])
        ahead = "moments/"
        moments = {k.removeprefix(ahead): v for k, v in state.tensors.items() if k.startswith(ahead)}
        self.optimiser.load_state_dict(nested(moments, state.values["groups"]))
        self.kept = [(prompt, said) for prompt, said in state.values["kept"]]
        self.rounds = int(state.values["rounds"])

    def save(self, folder: str | Path) -> None:
        """As a `LanguageModelReward` with its checkpoint inside, whose score is h."""
        target = Path(folder)
        with workspace(target) as place:
            report = {"kind": "demonstration", "n_train": len(self.demonstrations)}
            save_classifier(self.model, self.tokenizer, self.rule, target, place, name=self.name, report=report)


def _lead(row: Sequence[int], start: Sequence[int]) -> int:
    """Tokens that a text shares with its prompt alone: at least 1, and at least one is left."""
    differ = (i for i, (a, b) in enumerate(zip(row, start, strict=False)) if a != b)
    return max(1, min(next(differ, min(len(row), len(start))), len(row) - 1))
