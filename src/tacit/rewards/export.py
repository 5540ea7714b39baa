"""A reward as a Hugging Face folder that `AutoModelForSequenceClassification` reads, with equal scores (1e-5).

- A feature reward with a linear head on the last token of a causal language model, not normalised, becomes the stock
  class of its architecture, which loads anywhere.
- On any other pooling, or with an MLP head, it becomes `PooledForSequenceClassification`, which transformers reads
  after `tacit.rewards.pooled_classifier.register()`; for programs without Tacit its code lies in the folder.
- A language model with one label is a checkpoint already, and is copied.

In a stock class the head is one row: w = the mean over members, with standardisation and temperature folded in by the
fit. Such heads have no bias. Where the final norm of the model has one (beta, as in GPT-2), the constant b goes there
exactly: beta + b w / |w|^2. A model with an RMS norm has no place for a constant. It is then left out of a reward whose
zero means nothing (one learnt from comparisons or rankings) and named (`offset`; `tacit.load` adds it again); a reward
on outcomes or ratings keeps it and takes the class of our own. `form` overrules.

config.json keeps the rule from text to tokens under `tacit`, and the tokenizer gets a chat template that renders
messages as Tacit does, since another one would let scores drift.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from torch import Tensor

from tacit.artefacts import atomic_directory
from tacit.conversation import RENDERING
from tacit.errors import MissingExtra, TacitError, extra_installed
from tacit.models.checkpoint import load_tokenizer, load_weights, quietly
from tacit.rewards.chat import blocks_template
from tacit.rewards.check import EXAMPLES, allowed
from tacit.rewards.contract import Reward
from tacit.rewards.language_model import LanguageModelReward, copy_checkpoint

if TYPE_CHECKING:
    from tacit.features.transformer import TransformerEncoder
    from tacit.rewards.feature_reward import FeatureReward

Form = Literal["auto", "stock", "custom"]

_NORMS = ("ln_f", "norm", "final_layernorm", "final_layer_norm", "norm_f", "ln_out")
_MODULE = "modeling_tacit"
_CUSTOM = "PooledForSequenceClassification"
_HEAD = ("linear", "bias", "hidden", "out")


def to_hf(reward: Reward, folder: str | Path, *, form: Form = "auto") -> dict[str, Any]:
    """Write `reward` to `folder` as a checkpoint and score the examples of `check_reward` with both.

    Returns `class`, `offset` (what `tacit.load` adds to the checkpoint's logits), `largest_difference`, and `load`, the
    line by which a program without Tacit reads it. Raises
    `TacitError` where the reward has no such form, or the exported scores differ by more than `check.allowed`.
    """
    from tacit.rewards.feature_reward import FeatureReward

    if not extra_installed("transformers"):
        raise MissingExtra("hf", "`tacit export`")
    with atomic_directory(folder, "config.json") as temporary:
        if isinstance(reward, LanguageModelReward):
            _write_language_model(reward, temporary)
        elif type(reward) is FeatureReward:
            _write_feature(reward, temporary, form)
        else:
            raise TacitError(
                f"`{reward.name}` is a {type(reward).__name__}: only a feature reward on a transformer (minilm or "
                "hf:PATH) and a language model become a Hugging Face checkpoint"
            )
        exported = LanguageModelReward.of_checkpoint(temporary)
        prompts, completions = [p for p, _ in EXAMPLES], [c for _, c in EXAMPLES]
        theirs, ours = exported.score(prompts, completions), reward.score(prompts, completions)
        change = np.abs(theirs - ours)
        if not (change <= allowed(ours)).all():
            raise TacitError(
                f"the exported scores differ by {change.max():.2g} from those of `{reward.name}`: this architecture "
                f"({type(exported.model).__name__}) reads its states another way. Use --form custom"
            )
    name = type(exported.model).__name__
    trust = ", trust_remote_code=True" if name == _CUSTOM else ""
    return {
        "class": name,
        "offset": exported.offset,
        "largest_difference": float(change.max()),
        "load": f"AutoModelForSequenceClassification.from_pretrained({str(folder)!r}{trust})",
    }


def _write_language_model(reward: LanguageModelReward, folder: Path) -> None:
    if reward.model.config.num_labels != 1 or reward.labels != (0, None):
        raise TacitError(f"`{reward.name}` scores one of several labels, and a reward checkpoint has one. Use it as is")
    copy_checkpoint(reward.folder, folder)
    if reward.rule.chat_template is not None:
        (folder / "chat_template.jinja").write_text(reward.rule.chat_template, "utf-8")
    config = reward.model.config.__class__.from_pretrained(folder)
    config.tacit = _stated(reward.rule.template, reward.rule.eos, reward.rule.max_length, reward.offset)
    config.save_pretrained(folder)


def _write_feature(reward: FeatureReward, folder: Path, form: Form) -> None:
    from tacit.features.transformer import TransformerEncoder

    encoder = reward.encoder
    if not isinstance(encoder, TransformerEncoder):
        raise TacitError(
            f"`{reward.name}` stands on the encoder `{encoder.name}`, which is no transformer. Fit with --encoder "
            "minilm or hf:PATH to export"
        )
    if encoder.dtype != "float32":
        raise TacitError(f"`{reward.name}` stands on {encoder.dtype} features. Fit with dtype=float32 to export")
    tokenizer = load_tokenizer(encoder.folder)
    pad_id = _padding(tokenizer)
    parameters = reward.parameters
    weight, bias = parameters["linear"].mean(0), float(parameters["bias"].mean())
    linear = "out" not in parameters
    stock = _stock_model(encoder) if form != "custom" and linear else None
    if stock is not None:
        left = _set_head(stock, weight, bias)
        relative = reward.report.get("kind") in ("comparison", "ranking")
        if form == "stock" or left == 0 or relative:
            _finish(stock, tokenizer, pad_id, encoder, folder, left)
            return
    if form == "stock":
        raise TacitError(
            f"no stock class holds `{reward.name}`: it takes a linear head on the last layer's last token of a causal "
            f"language model, not normalised (here: pool={encoder.pool}, layers={encoder.layers}, "
            f"normalize={str(encoder.normalize).lower()}, {'linear' if linear else 'mlp'} head). Use --form custom"
        )
    _finish(_custom_model(encoder, parameters), tokenizer, pad_id, encoder, folder, 0.0)
    shutil.copyfile(Path(__file__).with_name("pooled_classifier.py"), folder / f"{_MODULE}.py")


def _stock_model(encoder: TransformerEncoder) -> Any:
    """The stock class with the encoder's weights and any head, or None where none reads the last token's state."""
    import torch
    from transformers import AutoModelForSequenceClassification

    if encoder.pool != "last" or encoder.normalize or encoder.layer_numbers:
        return None
    try:
        model = load_weights(
            AutoModelForSequenceClassification,
            encoder.folder,
            dtype="float32",
            device="cpu",
            may_lack=("score.",),
            num_labels=1,
            problem_type="regression",
            id2label={0: "reward"},
        )
    except TacitError:
        return None  # no such class for this architecture, or one with another head
    head = getattr(model, "score", None)
    return model if isinstance(head, torch.nn.Linear) and head.bias is None else None


def _set_head(model: Any, weight: Tensor, bias: float) -> float:
    """Write the head, and the constant into the bias of the final norm; what found no place is returned."""
    import torch

    with torch.no_grad():
        model.score.weight.copy_(weight[None])
        if bias == 0:
            return 0.0
        norms = (getattr(model.base_model, name, None) for name in _NORMS)
        norm = next((found for found in norms if isinstance(found, torch.nn.LayerNorm)), None)
        length = float(weight.double().square().sum())
        if norm is None or norm.bias is None or length == 0 or not _feeds_head(model, norm):
            return bias
        norm.bias.add_((bias / length * weight.double()).float())
    return 0.0


def _feeds_head(model: Any, norm: Any) -> bool:
    """Whether what the norm gives is what the head reads, with nothing (a projection, say) between."""
    import torch

    seen: list[Tensor] = []
    hook = norm.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    try:
        with torch.inference_mode():
            states = model.base_model(input_ids=torch.zeros(1, 2, dtype=torch.long)).last_hidden_state
    finally:
        hook.remove()
    return len(seen) == 1 and bool(torch.equal(seen[0].reshape(-1), states.reshape(-1)))


def _custom_model(encoder: TransformerEncoder, parameters: dict[str, Tensor]) -> Any:
    import torch
    from transformers import AutoModel

    from tacit.rewards.pooled_classifier import PooledConfig, PooledForSequenceClassification

    base = load_weights(AutoModel, encoder.folder, dtype="float32", device="cpu")
    named = {name: value for name, value in parameters.items() if name.split(".")[0] in _HEAD}
    heads = {name.replace(".", "_"): value.float() for name, value in named.items()}
    config = PooledConfig(
        base=base.config.to_dict(),
        pool=encoder.pool,
        normalize=encoder.normalize,
        layers=list(encoder.layer_numbers),
        heads={name: list(value.shape) for name, value in heads.items()},
        problem_type="regression",
        id2label={0: "reward"},
    )
    config.auto_map = {
        "AutoConfig": f"{_MODULE}.PooledConfig",
        "AutoModelForSequenceClassification": f"{_MODULE}.{_CUSTOM}",
    }
    model = PooledForSequenceClassification(config).eval()
    model.encoder.load_state_dict(base.state_dict())
    with torch.no_grad():
        for name, value in heads.items():
            model.head[name].copy_(value)
    return model


def _finish(model: Any, tokenizer: Any, pad_id: int, encoder: TransformerEncoder, folder: Path, offset: float) -> None:
    """Write weights, settings and tokenizer, with the padding id, the text rule and its chat template."""
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        if model.config.model_type == "tacit_pooled":
            model.config.base["vocab_size"] = len(tokenizer)
    model.config.pad_token_id = pad_id
    model.config.tacit = _stated("plain", False, encoder.max_length, offset)
    with quietly():
        model.save_pretrained(folder)
    lead, trail = _special_texts(tokenizer)
    tokenizer.chat_template = blocks_template(lead, trail)
    tokenizer.model_max_length = encoder.max_length
    tokenizer.save_pretrained(folder)


def _stated(template: str, eos: bool, max_length: int, offset: float) -> dict[str, Any]:
    return {
        "rendering": RENDERING,
        "template": template,
        "eos": eos,
        "max_length": max_length,
        "offset": offset,
    }


def _padding(tokenizer: Any) -> int:
    """A padding id that no text ends with: the tokenizer's own where it is not EOS, else a new token."""
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        tokenizer.add_special_tokens({"pad_token": "<|tacit_pad|>"})
    return int(tokenizer.pad_token_id)


def _special_texts(tokenizer: Any) -> tuple[str, str]:
    """What the tokenizer itself puts before and after a text, as text."""
    encoding = tokenizer.backend_tokenizer.encode("a", add_special_tokens=True)
    body = encoding.special_tokens_mask.index(0)
    last = len(encoding.ids) - encoding.special_tokens_mask[::-1].index(0)
    return "".join(encoding.tokens[:body]), "".join(encoding.tokens[last:])
