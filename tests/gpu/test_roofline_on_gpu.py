"""On a GPU: a call costs what it does on the CPU, and the card's own speeds are those of a GPU and leave no memory."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from embedded_models import load, make_requests

from benchmark.measure.clock import Clock
from benchmark.measure.flops import count_call
from benchmark.measure.roofline import measure_copy_bytes_per_s, measure_matrix_flops_per_s, measure_roofline
from models.base import DType

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


@pytest.mark.parametrize("name", ["sdxl", "pixart", "var", "infinity"])
def test_a_call_costs_what_it_does_on_the_cpu(name: str, tmp_path: Path) -> None:
    found = []
    for device in ("cpu", "cuda"):
        generator = load(name, device, tmp_path, dtype="bfloat16")
        asked = generator.prepare(make_requests(2))
        generator.generate(asked)
        found.append(count_call(generator, asked))
    on_cpu, on_gpu = found
    assert on_gpu.flops == on_cpu.flops
    assert on_gpu.by_operation["scaled_dot_product_attention"] == on_cpu.by_operation["scaled_dot_product_attention"]
    assert on_gpu.weight_bytes == pytest.approx(on_cpu.weight_bytes, rel=0.01)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_a_product_is_as_fast_as_a_gpu_makes_it(dtype: DType) -> None:
    clock = Clock("cuda")
    first, second = (measure_matrix_flops_per_s(clock, "cuda", dtype) for _ in range(2))
    print(f"{dtype}: {first / 1e12:.1f} and {second / 1e12:.1f} TFLOP/s")
    assert first > 1e12
    assert second == pytest.approx(first, rel=0.2)


def test_a_copy_is_as_fast_as_a_gpu_makes_it() -> None:
    speed = measure_copy_bytes_per_s(Clock("cuda"), "cuda")
    print(f"{speed / 1e9:.0f} GB/s")
    assert speed > 1e11


def test_a_roofline_leaves_no_memory_and_the_same_images(tmp_path: Path) -> None:
    generator = load("var", "cuda", tmp_path, dtype="bfloat16")
    asked = generator.prepare(make_requests(2))
    before = generator.generate(asked)
    torch.cuda.empty_cache()
    reserved_bytes = torch.cuda.memory_reserved()
    found = measure_roofline(generator, asked, Clock("cuda"), "cuda", "bfloat16")
    assert min(found.flops_per_image, found.weight_bytes_per_image, found.matrix_flops_per_s) > 0
    assert torch.cuda.memory_reserved() <= reserved_bytes
    assert torch.equal(generator.generate(asked), before)
