"""Models in the file format of llama2.c, as transformers models with their tokenizers.

A model file holds seven int32 (dim, hidden_dim, n_layers, n_heads, n_kv_heads, vocab_size, seq_len; a negative
vocab_size says that the output matrix is one of its own), then float32: embedding (V, d), and stacked over layers
attention norms, wq, wk, wv, wo, feed-forward norms, w1 (gate), w2 (down), w3 (up), then the last norm, two tables of
rotations that are not needed, and the output matrix where it is its own. Neighbouring dimensions turn together there,
the halves of a head in transformers: rows of wq and wk are put into that order.

A tokenizer file holds the longest piece's length (int32), then for each id a score (float32), a length (int32) and the
bytes of the piece: a byte-pair encoding whose best score merges first, with single bytes for what it lacks. Id 1 opens
a text, and closes it, since texts follow one another in training.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tacit.artefacts import atomic_directory
from tacit.policies.tokens import PolicyError

_BEGIN = 1
_HEADER = 7
_SMALLEST, _LARGEST = 1, 1 << 24


class Shape(NamedTuple):
    """The header of a model file."""

    dim: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int
    context: int


def model_file(path: str | Path) -> Path | None:
    """The llama2.c model that a path means: a .bin file, or the one beside its tokenizer in a folder; else None."""
    source = Path(path).expanduser()
    if source.is_file() and source.suffix == ".bin":
        return source
    if source.is_dir() and not (source / "config.json").is_file():
        models = [file for file in sorted(source.glob("*.bin")) if not file.name.startswith("tok")]
        if len(models) == 1 and any(source.glob("tok*.bin")):
            return models[0]
    return None


def read(path: str | Path, tokenizer: str | Path | None = None) -> tuple[Any, Any]:
    """A transformers Llama (float32) and its fast tokenizer from a llama2.c file.

    Without `tokenizer` the file tokV.bin (V pieces) or tokenizer.bin beside the model is taken. Raises `PolicyError`
    where a file is no such file, or the two do not belong together.
    """
    import torch
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    source = model_file(path)
    if source is None:
        raise PolicyError(f"{path} holds no llama2.c model. Give its .bin file, or a folder with it and its tokenizer")
    shape, shared, arrays = _arrays(source)
    wrapper = _tokenizer(_tokenizer_file(source, tokenizer, shape.vocabulary), shape)
    config = LlamaConfig(
        vocab_size=shape.vocabulary, hidden_size=shape.dim, intermediate_size=shape.hidden,
        num_hidden_layers=shape.layers, num_attention_heads=shape.heads, num_key_value_heads=shape.kv_heads,
        max_position_embeddings=shape.context, rms_norm_eps=1e-5, tie_word_embeddings=shared,
        bos_token_id=_BEGIN, eos_token_id=_BEGIN, pad_token_id=0,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    state = {name: torch.from_numpy(array.copy()) for name, array in _named(shape, arrays).items()}
    if shared:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model.load_state_dict(state)
    model.generation_config = GenerationConfig(bos_token_id=_BEGIN, eos_token_id=[_BEGIN, 2], pad_token_id=0)
    return model.eval(), wrapper


def convert(path: str | Path, out: str | Path, tokenizer: str | Path | None = None) -> dict[str, int]:
    """Write the transformers folder of a llama2.c model, tokenizer included; its sizes."""
    from tacit.models.checkpoint import quietly

    model, wrapper = read(path, tokenizer)
    with atomic_directory(out, "config.json") as folder, quietly():
        model.save_pretrained(folder)
        wrapper.save_pretrained(folder)
    config = model.config
    return {
        "weights": sum(parameter.numel() for parameter in model.parameters()),
        "layers": config.num_hidden_layers,
        "hidden_size": config.hidden_size,
        "vocabulary": config.vocab_size,
        "context": config.max_position_embeddings,
    }


def _arrays(source: Path) -> tuple[Shape, bool, dict[str, np.ndarray]]:
    """The header, whether the output matrix is the embedding, and the arrays by their names in llama2.c."""
    with source.open("rb") as file:
        head = file.read(4 * _HEADER)
        numbers = struct.unpack(f"<{_HEADER}i", head) if len(head) == 4 * _HEADER else (0,) * _HEADER
        shape = Shape(*numbers)._replace(vocabulary=abs(numbers[5]))
        if not all(_SMALLEST <= number <= _LARGEST for number in shape) or (
            shape.dim % shape.heads or shape.heads % shape.kv_heads or (shape.dim // shape.heads) % 2
        ):
            raise PolicyError(f"{source} is no llama2.c model: its header is {list(numbers)}. Give another file")
        values = np.fromfile(file, "<f4")
    d, f, n, kv = shape.dim, shape.hidden, shape.layers, shape.kv_heads * (shape.dim // shape.heads)
    table = (shape.context, shape.dim // shape.heads // 2)
    shapes: dict[str, tuple[int, ...]] = {
        "embedding": (shape.vocabulary, d), "attention_norm": (n, d), "wq": (n, d, d), "wk": (n, kv, d),
        "wv": (n, kv, d), "wo": (n, d, d), "mlp_norm": (n, d), "w1": (n, f, d), "w2": (n, d, f), "w3": (n, f, d),
        "last_norm": (d,), "cos": table, "sin": table,
    }  # fmt: skip
    shared = numbers[5] > 0
    if not shared:
        shapes["output"] = (shape.vocabulary, d)
    sizes = [int(np.prod(size)) for size in shapes.values()]
    if len(values) != sum(sizes):
        raise PolicyError(
            f"{source} holds {len(values)} weights, and its header asks for {sum(sizes)}: it is cut off, or of a later "
            "version of llama2.c. Fetch it again, or export it in version 0"
        )
    parts = np.split(values, np.cumsum(sizes)[:-1])
    return shape, shared, {
        name: part.reshape(size) for (name, size), part in zip(shapes.items(), parts, strict=True)
    }  # fmt: skip


def _named(shape: Shape, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays by their names in transformers."""
    size = shape.dim // shape.heads
    names = {"model.embed_tokens.weight": arrays["embedding"], "model.norm.weight": arrays["last_norm"]}
    if "output" in arrays:
        names["lm_head.weight"] = arrays["output"]

    def halves(rows: np.ndarray) -> np.ndarray:
        """Rows of pairs that turn together, neighbours there, to halves of each head here."""
        return rows.reshape(-1, size // 2, 2, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape)

    for layer in range(shape.layers):
        own = {name: array[layer] for name, array in arrays.items() if array.ndim and len(array) == shape.layers}
        names |= {
            f"model.layers.{layer}.{name}.weight": array
            for name, array in {
                "input_layernorm": own["attention_norm"],
                "self_attn.q_proj": halves(own["wq"]),
                "self_attn.k_proj": halves(own["wk"]),
                "self_attn.v_proj": own["wv"],
                "self_attn.o_proj": own["wo"],
                "post_attention_layernorm": own["mlp_norm"],
                "mlp.gate_proj": own["w1"],
                "mlp.down_proj": own["w2"],
                "mlp.up_proj": own["w3"],
            }.items()
        }
    return names


def _tokenizer_file(source: Path, given: str | Path | None, vocabulary: int) -> Path:
    places = [Path(given)] if given is not None else [source.with_name(f"tok{vocabulary}.bin"),
                                                      source.with_name("tokenizer.bin")]  # fmt: skip
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise PolicyError(
            f"{source} has no tokenizer beside it ({', '.join(place.name for place in places)}). Name it: --tokenizer"
        )
    return found


def _pieces(path: Path, vocabulary: int) -> list[tuple[str, float]]:
    """Pieces and scores by id."""
    content, place, pieces = path.read_bytes(), 4, list[tuple[str, float]]()
    try:
        for _ in range(vocabulary):
            score, length = struct.unpack_from("<fi", content, place)
            piece = content[place + 8 : place + 8 + length]
            if length < 0 or len(piece) != length:
                raise ValueError("a piece is cut off")
            pieces.append((piece.decode("utf-8"), score))
            place += 8 + length
        if place != len(content):
            raise ValueError(f"{len(content) - place} bytes are left over")
    except (struct.error, ValueError) as error:
        raise PolicyError(f"{path} is no tokenizer of {vocabulary} pieces ({error}). Give the model's own") from error
    return pieces


def _tokenizer(path: Path, shape: Shape) -> Any:
    """The fast tokenizer: SentencePiece's byte-pair encoding as the library `tokenizers` has it."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors
    from transformers import PreTrainedTokenizerFast

    pieces = _pieces(path, shape.vocabulary)
    names = ["<unk>", "<s>", "</s>"]
    texts = names + [piece.replace(" ", "▁") for piece, _ in pieces[len(names) :]]
    ids = {text: number for number, text in reversed(list(enumerate(texts)))}  # of equal pieces the first counts
    merges = sorted(
        (
            (-score, ids[text], text[:cut], text[cut:])
            for text, (_, score) in list(zip(texts, pieces, strict=True))[len(names) :]
            for cut in range(1, len(text))
            if text[:cut] in ids and text[cut:] in ids
        ),
        key=lambda merge: (merge[0], merge[1], ids[merge[2]], ids[merge[3]]),
    )
    for number, text in enumerate(texts):
        ids.setdefault(text, number)
    model = models.BPE(
        vocab=ids, merges=[(left, right) for _, _, left, right in merges], unk_token="<unk>", fuse_unk=True,
        byte_fallback=True,
    )  # fmt: skip
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", _BEGIN)])
    tokenizer.add_special_tokens([AddedToken(name, normalized=False, special=True) for name in names])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="<s>", pad_token="<unk>",
        model_max_length=shape.context,
    )  # fmt: skip
