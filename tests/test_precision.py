"""bfloat16 is chosen where the processor multiplies it, and its speed is measured in bounded time where it does not."""

from __future__ import annotations

import time

import pytest

torch = pytest.importorskip("torch")

from tacit.bench import rollout  # noqa: E402
from tacit.models import precision  # noqa: E402
from tacit.policies.transformer import auto_dtype  # noqa: E402


@pytest.mark.parametrize(("has", "allowed", "native"), [(True, True, True), (True, False, False), (False, True, False)])
def test_bfloat16_wants_the_instructions_and_the_leave_to_use_them(
    monkeypatch: pytest.MonkeyPatch, has: bool, allowed: bool, native: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: allowed, raising=False)
    assert precision.multiplies_bfloat16() is native
    assert auto_dtype(torch.device("cpu"), 4096) is (torch.bfloat16 if native else torch.float32)
    assert auto_dtype(torch.device("cpu"), 8) is torch.float32  # narrow states


def test_benchmarks_measure_bfloat16_where_it_is_native(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(rollout, "matmul_limit", lambda dtype: 5e9 if dtype is torch.float32 else 4e10)
    monkeypatch.setattr(rollout, "multiplies_bfloat16", lambda: False)
    assert rollout.gflops(rollout.matmul_limits()) == {"gflops_float32": 10}
    monkeypatch.setattr(rollout, "multiplies_bfloat16", lambda: True)
    assert rollout.gflops(rollout.matmul_limits()) == {"gflops_float32": 10, "gflops_bfloat16": 80}


def test_a_slow_processor_multiplies_smaller_matrices(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that makes 10^9 multiply-adds a second, 25 products of 2048 would take 215 s, and of 512 3 s."""
    sides: list[int] = []
    now = [0.0]
    plain = torch.Tensor.__matmul__

    def slow(a, b):
        sides.append(len(a))
        now[0] += len(a) ** 3 / 1e9
        return plain(a[:1], b[:, :1])

    monkeypatch.setattr(torch.Tensor, "__matmul__", slow)
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    assert rollout.matmul_limit(torch.float32, seconds=20.0) == pytest.approx(1e9)
    assert max(sides) == 512
    assert now[0] < 20
    assert rollout.matmul_limit(torch.float32, seconds=1e4) == pytest.approx(1e9)
    assert max(sides) == 2048
