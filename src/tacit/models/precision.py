"""What the processor multiplies natively."""

from __future__ import annotations


def multiplies_bfloat16() -> bool:
    """Whether matrix products in bfloat16 have instructions of their own here (AVX512-BF16 or AMX).

    Elsewhere torch emulates them, 50 to 100 times slower than float32. oneDNN must be free to use the instructions too:
    ONEDNN_MAX_CPU_ISA=AVX2 forbids them.
    """
    import torch

    # Private in torch, and so asked for with care; there is no public question yet.
    asked = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    has = any(getattr(torch.cpu, name, bool)() for name in asked)
    allowed = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return bool(has and (allowed is None or allowed()))
