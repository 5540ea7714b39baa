"""A whole language model as reward: any checkpoint that `AutoModelForSequenceClassification` reads.

For token states h_1..h_T of the last layer and the head's rows W the score is

    r(x, y) = W[positive] . h_T - W[negative] . h_T + offset,

with the second term only where two labels are compared; T is the place of the last real token, which is computed and
not guessed from the padding id. Classes without a linear head named `score` (the BERT family, which reads the first
token) are asked for their logits. Batches are right padded, sorted by length and filled up to a number of tokens;
neither batch nor order shows in float32 scores beyond rounding (1e-5). Training comes with the tuning loop: it calls
`logits_BL`, which keeps gradients.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from tacit.conversation import RENDERING, Completion, Prompt
from tacit.errors import ArtefactError, MissingExtra, TacitError, extra_installed
from tacit.models.checkpoint import (
    SETTINGS,
    batches,
    content_digest,
    default_max_length,
    device_named,
    load_tokenizer,
    load_weights,
    model_folder,
    read_settings,
    right_padded,
    tokens_per_batch,
)
from tacit.models.templates import read_template
from tacit.rewards.chat import TextRule, default_rule
from tacit.rewards.inputs import require_rows
from tacit.rewards.origin import Origin
from tacit.rewards.saving import open_reward, read_origin, save_reward

log = logging.getLogger(__name__)

INSIDE = "checkpoint"
"""Folder inside a saved reward that holds the checkpoint."""

_FILES = (*SETTINGS, "*.safetensors", "*.safetensors.index.json", "chat_template.*", "tokenizer.model", "modeling_*.py")

Label = int | str | tuple[int | str, int | str] | None


@dataclass(eq=False)
class LanguageModelReward:
    """A sequence-classification checkpoint as `Reward`. Satisfies `Reward` and `Saved`; weights load at first use."""

    folder: Path
    """The checkpoint: config.json, safetensors, tokenizer."""
    rule: TextRule
    """How prompt and completion become tokens."""
    labels: tuple[int, int | None] = (0, None)
    """The logit that is the score, and the one to take from it, if any."""
    name: str = "language_model"
    dtype: str = "float32"
    """Weights and arithmetic. bfloat16 is faster on accelerators and not exact: scores then move by about 1e-2 with the
    batch, which breaks the contract of `Reward`; it is logged and written on the model card."""
    offset: float = 0.0
    """Added to every score: a constant that the checkpoint's class has no place for."""
    device: str | None = None
    """Where to run; CUDA if there is one unless given."""
    report: dict[str, Any] = field(default_factory=dict)
    origin: Origin | None = None
    """Which texts it was tuned on."""

    def __post_init__(self) -> None:
        if not extra_installed("transformers"):
            raise MissingExtra("hf", "a language-model reward")
        if self.dtype not in ("float32", "bfloat16"):
            raise TacitError(f"dtype is `{self.dtype}`. Use float32 or bfloat16")
        if self.dtype == "bfloat16":
            log.warning("%s runs in bfloat16: its scores move by about 1e-2 with the batch", self.name)

    def score(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> np.ndarray:
        """Scores (n,) float32; raises `TacitError` where counts differ, or where a score is not finite."""
        logits = self.logits(prompts, completions)
        positive, negative = self.labels
        scores = logits[:, positive] + np.float32(self.offset)
        if negative is not None:
            scores = scores - logits[:, negative]
        bad = np.flatnonzero(~np.isfinite(scores))
        if len(bad):
            raise TacitError(
                f"row {bad[0] + 1}: the model in {self.folder} gives the score {scores[bad[0]]}. Check its weights"
            )
        return scores

    def logits(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> np.ndarray:
        """The head's raw outputs (n, labels) float32, in the order given."""
        require_rows(prompts, completions)
        return self.logits_of(self.rule.token_ids(self.tokenizer, prompts, completions) if len(prompts) else [])

    def logits_of(self, ids: Sequence[Sequence[int]]) -> np.ndarray:
        """The head's raw outputs (n, labels) float32 after the last of the token ids of each text."""
        import torch

        result = np.empty((len(ids), self.model.config.num_labels), np.float32)
        device = self.model.device
        with torch.inference_mode():
            for rows in batches([len(row) for row in ids], tokens_per_batch(device.type)):
                ids_BT, real_BT = right_padded([ids[row] for row in rows], self.pad_id)
                logits = logits_BL(
                    self.model, torch.from_numpy(ids_BT).to(device), torch.from_numpy(real_BT).to(device)
                )
                result[rows] = logits.cpu().numpy()
        return result

    @cached_property
    def model(self) -> Any:
        """The model, in evaluation mode on its device."""

        device = device_named(self.device)
        return load_weights(self._class, self.folder, dtype=self.dtype, device=device)

    @cached_property
    def tokenizer(self) -> Any:
        """The checkpoint's tokenizer, as transformers wraps it."""
        assert self._class  # transformers must know the class first
        return load_tokenizer(self.folder)

    @cached_property
    def _class(self) -> Any:
        return _model_class(read_settings(self.folder))

    @cached_property
    def pad_id(self) -> int:
        """What fills a batch on the right; masked and never read, so that any id serves."""
        return int(self.tokenizer.pad_token_id or 0)

    @cached_property
    def fingerprint(self) -> str:
        """Digest of weights, tokenizer and chat template."""
        return content_digest(self.folder, [], _FILES)

    def save(self, folder: str | Path, *, copy: bool = True) -> None:
        """Write reward.json and a model card with the checkpoint inside, or with a reference to it (`copy=False`).

        A reference holds the checkpoint's path and fingerprint: `load` refuses one that has changed. Raises
        `ArtefactError` where the checkpoint has no safetensors, since pickled weights are not passed on.
        """
        if copy and not any(self.folder.glob("*.safetensors")):
            raise ArtefactError(f"{self.folder} holds no safetensors. Save the model with save_pretrained first")
        exact = "" if self.dtype == "float32" else " Runs in bfloat16: scores move by about 1e-2 with the batch."
        save_reward(
            folder,
            "language_model",
            self.name,
            config={
                "checkpoint": INSIDE if copy else str(self.folder),
                "checkpoint_fingerprint": self.fingerprint,
                "rule": asdict(self.rule),
                "labels": list(self.labels),
                "dtype": self.dtype,
                "offset": self.offset,
            },
            parts={INSIDE: _Files(self.folder)} if copy else None,
            report=self.report,
            origin=self.origin,
            meaning=f"Higher is better.{exact}",
        )

    @classmethod
    def load(cls, folder: str | Path, *, cache: str | Path | None = None, **options: Any) -> LanguageModelReward:
        """Read a saved reward, or a plain checkpoint (config.json without reward.json) by `of_checkpoint`.

        `options` are those of `of_checkpoint`, for a plain checkpoint alone; nothing is cached. Raises `ArtefactError`
        where the folder is damaged, or the checkpoint that it refers to is gone or has changed.
        """
        path = Path(folder)
        if not (path / "reward.json").is_file():
            return cls.of_checkpoint(path, **options)
        if options:
            raise TacitError(f"{folder} has its options already ({', '.join(sorted(options))} given). Give none")
        manifest, _ = open_reward(path, "language_model")
        inside = manifest["checkpoint"] == INSIDE
        checkpoint = path / INSIDE if inside else Path(manifest["checkpoint"])
        if not (checkpoint / "config.json").is_file():
            raise ArtefactError(f"{folder}: its checkpoint {checkpoint} is gone. Put it back, or save the reward again")
        positive, negative = manifest["labels"]
        reward = cls(
            checkpoint.resolve(),
            TextRule(**manifest["rule"]),
            (positive, negative),
            manifest["name"],
            manifest["dtype"],
            float(manifest["offset"]),
            report=manifest["report"],
            origin=read_origin(path),
        )
        if reward.fingerprint != manifest["checkpoint_fingerprint"]:
            raise ArtefactError(
                f"{folder} refers to {checkpoint}, which has changed since: scores would drift. Save the reward again"
            )
        return reward

    @classmethod
    def of_checkpoint(
        cls,
        folder: str | Path,
        *,
        label: Label = None,
        template: str | None = None,
        eos: bool | None = None,
        max_length: int | None = None,
        chat_template: str | Path | None = None,
        dtype: str = "float32",
        device: str | None = None,
        name: str | None = None,
    ) -> LanguageModelReward:
        """A plain checkpoint as reward.

        `label` is the index or name of the logit that is the score, or two of them whose difference is; by default the
        only one, or of two the second less the first. `template`, `eos` and `max_length` are those of `TextRule`; by
        default what the checkpoint says (`default_rule`). `chat_template` is a file of a chat template (Jinja) in place
        of the checkpoint's, which is saved with the reward. Raises `FeatureError` where the folder is no model that can
        be read, `TacitError` where its labels leave the choice open.
        """
        path = model_folder(folder)
        settings = read_settings(path)
        stated = settings.get("tacit") or {}
        if stated and stated.get("rendering") != RENDERING:
            raise ArtefactError(f"{folder} renders text by rule {stated.get('rendering')!r}, not {RENDERING!r}")
        _model_class(settings)
        given = None if chat_template is None else read_template(chat_template)
        found = default_rule(load_tokenizer(path), default_max_length(path, settings), stated, chat_template=given)
        rule = TextRule(
            found.template if template is None else template,  # type: ignore[arg-type]
            # Another template is another convention: what the checkpoint says of EOS does not hold for it.
            (found.eos if template in (None, found.template) else False) if eos is None else eos,
            found.max_length if max_length is None else max_length,
            given,
        )
        return cls(
            path, rule, _chosen_labels(path, settings, label), name or path.name, dtype,
            float(stated.get("offset", 0.0)), device,
        )  # fmt: skip


def logits_BL(model: Any, ids_BT: Tensor, real_BT: Tensor) -> Tensor:
    """The head's outputs (B, L) float32 of right-padded ids (B, T), with gradients where they are switched on.

    A linear head named `score` is applied to the state of the last real token, real_BT.sum(1) - 1; any other class
    answers for itself, with the padding masked.
    """
    import torch

    mask_BT = real_BT.long()
    head = getattr(model, "score", None)
    if head is None:
        logits: Tensor = model(input_ids=ids_BT, attention_mask=mask_BT).logits
        return logits.float()
    states_BTD = model.base_model(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False).last_hidden_state
    last_B = mask_BT.sum(1) - 1
    scores: Tensor = head(states_BTD[torch.arange(len(ids_BT), device=ids_BT.device), last_B])
    return scores.float()


@dataclass(frozen=True)
class _Files:
    """The files of a checkpoint, as a part of a saved reward."""

    source: Path

    def save(self, folder: str | Path) -> None:
        copy_checkpoint(self.source, Path(folder))

    @classmethod
    def load(cls, folder: str | Path) -> _Files:
        return cls(Path(folder))


def copy_checkpoint(source: Path, target: Path) -> None:
    """Copy what a checkpoint needs: settings, tokenizer, chat template, safetensors."""
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted({path for pattern in _FILES for path in source.glob(pattern)}):
        shutil.copyfile(path, target / path.name)


def _model_class(settings: dict[str, Any]) -> Any:
    """The class that reads a checkpoint; for our own one transformers is told to take ours, not the folder's code."""
    from transformers import AutoModelForSequenceClassification

    if settings.get("model_type") == "tacit_pooled":
        from tacit.rewards.pooled_classifier import register

        register()
    return AutoModelForSequenceClassification


def _chosen_labels(folder: Path, settings: dict[str, Any], label: Label) -> tuple[int, int | None]:
    names = settings.get("id2label") or {}
    count = len(names) or int(settings.get("num_labels") or 2)
    listed = ", ".join(f"{index} ({name})" for index, name in sorted(names.items())) or f"0 to {count - 1}"

    def index_of(one: int | str) -> int:
        index = next((int(i) for i, name in names.items() if name == one), one)
        if isinstance(index, str) or not 0 <= index < count:
            raise TacitError(f"{folder} has no label `{one}`. Its labels are: {listed}")
        return index

    if isinstance(label, tuple | list):
        return index_of(label[0]), index_of(label[1])
    if label is not None:
        return index_of(label), None
    if count <= 2:
        return (0, None) if count == 1 else (1, 0)
    raise TacitError(
        f"{folder} has {count} labels: {listed}. Say which one is the score: "
        "LanguageModelReward.of_checkpoint(folder, label=...).save(out)"
    )
