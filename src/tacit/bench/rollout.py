"""Speed of sampling: `TransformerPolicy.rollout` beside transformers' own `generate`, on equal weights and prompts."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from tacit.errors import MissingExtra, TacitError, extra_installed
from tacit.models.precision import multiplies_bfloat16

SIZES = {
    1: (128, 352, 4, 4, 1024),
    15: (384, 1024, 7, 6, 4096),
    60: (640, 1728, 11, 10, 8192),
}
"""Models by millions of weights: hidden size, inner size, layers, heads, vocabulary."""


def run(
    sizes: tuple[int, ...] = (1, 15, 60),
    prompts: int = 8,
    n: int = 8,
    prompt_tokens: int = 16,
    tokens: int = 48,
    repeats: int = 3,
    seed: int = 0,
) -> dict[str, Any]:
    """Sample `n` responses of exactly `tokens` tokens to each of `prompts` random prompts, on each side in turn.

    Sides: transformers' generate (float32, as it loads), ours in float32, ours in bfloat16 where the device has it.
    Rows hold medians of seconds and of processor seconds (with one thread they compare the sides on a machine that does
    other work as well), `times_faster` (median of the ratios within a round), the share of the device's matrix products
    in the same precision, and the largest difference between the log-probabilities sampled and those of the training
    pass. Raises `MissingExtra` without transformers.
    """
    if not extra_installed("transformers"):
        raise MissingExtra("hf", "`bench rollout`")
    if unknown := [size for size in sizes if size not in SIZES]:
        raise TacitError(
            f"there is no model of {unknown[0]} million weights. Choose from: {', '.join(map(str, SIZES))}"
        )
    import torch

    limits = matmul_limits()
    rows: list[dict[str, Any]] = []
    for size in sizes:
        rows += _compare(size, prompts, n, prompt_tokens, tokens, repeats, seed, limits)
    return {
        "rows": rows,
        "threads": torch.get_num_threads(),
        **gflops(limits),
    }


def _compare(
    size: int, prompts: int, n: int, prompt_tokens: int, tokens: int, repeats: int, seed: int, limits: dict[Any, float]
) -> list[dict[str, Any]]:
    import torch

    from tacit.policies.contract import Sampling
    from tacit.policies.rollout import sample
    from tacit.policies.tokens import Codec
    from tacit.policies.transformer import TransformerPolicy

    policy = bench_policy(size, "float32", prompt_tokens + tokens)
    fast = TransformerPolicy(policy.model, policy.tokenizer, dtype="auto")
    generator = torch.Generator().manual_seed(seed)
    vocabulary = policy.model.config.vocab_size
    ids = torch.randint(3, vocabulary, (prompts, prompt_tokens), generator=generator)
    repeated = ids.repeat_interleave(n, 0).to(policy.device)
    sampling = Sampling(max_new_tokens=tokens, seed=seed)

    def theirs() -> Any:
        return policy.model.generate(
            repeated, attention_mask=torch.ones_like(repeated), do_sample=True, top_k=0, min_new_tokens=tokens,
            max_new_tokens=tokens, pad_token_id=0,
        )  # fmt: skip

    def ours(side: TransformerPolicy) -> Any:
        codec = Codec(side.tokenizer, (), prompt_tokens + tokens)  # no end token: exactly `tokens` tokens
        with torch.inference_mode():
            return sample(side._decoder, codec, ids.tolist(), n, sampling, device=side.device)

    sides: dict[str, Callable[[], Any]] = {"transformers generate": theirs, "tacit fp32": lambda: ours(policy)}
    if fast.dtype is not policy.dtype:
        sides["tacit"] = lambda: ours(fast)
    rollouts = {name: side() for name, side in sides.items()}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    busy: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, side in sides.items():
            start, worked = time.perf_counter(), time.process_time()
            side()
            seconds[name].append(time.perf_counter() - start)
            busy[name].append(time.process_time() - worked)
    work = multiply_adds(policy.model) * prompts * n * (tokens - 1)
    rows = []
    for name, times in seconds.items():
        ratios = [other / mine for other, mine in zip(seconds["transformers generate"], times, strict=True)]
        middle = statistics.median(times)
        exact = fast if name == "tacit" else policy
        row = {
            "weights": f"{size}M", "side": name, "seconds": round(middle, 3),
            "processor_seconds": round(statistics.median(busy[name]), 3),
            "tokens_per_second": round(prompts * n * tokens / middle),
            "times_faster": round(statistics.median(ratios), 2),
            "share_of_products": round(work / middle / limits[exact.dtype], 3),
        }  # fmt: skip
        if name != "transformers generate":
            with torch.no_grad():
                difference = exact.logprobs(rollouts[name]).logprobs - rollouts[name].logprobs
            row["largest_difference"] = float(difference.abs().max())
        rows.append(row)
    return rows


def bench_policy(size: int, dtype: str, context: int) -> Any:
    """A Llama of `size` million random weights with a tokenizer that writes numbers."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from tacit.policies.transformer import TransformerPolicy

    hidden, inner, layers, heads, vocabulary = SIZES[size]
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=hidden, intermediate_size=inner, num_hidden_layers=layers,
        num_attention_heads=heads, max_position_embeddings=max(512, context), tie_word_embeddings=True, bos_token_id=1,
        eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    words = {"<pad>": 0, "<s>": 1, "</s>": 2} | {str(number): number for number in range(3, vocabulary)}
    numbers = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    numbers.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=numbers, eos_token="</s>", pad_token="<pad>")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return TransformerPolicy(LlamaForCausalLM(config).eval().to(device), tokenizer, dtype=dtype)


def multiply_adds(model: Any) -> float:
    """Of the matrix products for one token: every weight of a matrix once, the head included."""
    matrices = sum(
        weight.numel() for name, weight in model.named_parameters() if weight.dim() == 2 and "embed" not in name
    )
    head = model.get_output_embeddings().weight
    tied = head is model.get_input_embeddings().weight
    return float(matrices + (head.numel() if tied else 0))


def matmul_limits() -> dict[Any, float]:
    """`matmul_limit` of float32, and of bfloat16 where the device multiplies it natively."""
    import torch

    native = torch.cuda.is_available() or multiplies_bfloat16()
    return {dtype: matmul_limit(dtype) for dtype in (torch.float32, *([torch.bfloat16] if native else []))}


def gflops(limits: dict[Any, float]) -> dict[str, int]:
    """GFLOP/s of each limit, a multiply-add being two operations."""
    return {f"gflops_{str(dtype).removeprefix('torch.')}": round(2 * limit / 1e9) for dtype, limit in limits.items()}


def matmul_limit(dtype: Any, size: int = 2048, rounds: int = 25, seconds: float = 20.0) -> float:
    """Multiply-adds per second of a torch product of two (size, size) matrices of this type; the best of `rounds`.

    The matrices are smaller where `rounds` products would take more than `seconds`, as on a processor that emulates
    the type.
    """
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"

    def multiply(matrix: Any) -> float:
        start = time.perf_counter()
        (matrix @ matrix)[0, 0].item()
        return time.perf_counter() - start

    side = min(size, 256)
    while True:
        matrix = torch.randn(side, side, device=device).to(dtype)
        multiply(matrix)
        if side == size or 8 * rounds * multiply(matrix) > seconds:
            return float(side**3 / min(multiply(matrix) for _ in range(rounds)))
        side = min(size, 2 * side)
