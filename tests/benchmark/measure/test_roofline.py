"""The speeds that a model is compared with: the fastest of several blocks, at sizes that the memory allows."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from benchmark.measure import roofline
from benchmark.measure.clock import Clock
from benchmark.measure.findings import NotMeasured, Roofline
from benchmark.measure.roofline import (
    best_seconds,
    measure_copy_bytes_per_s,
    measure_matrix_flops_per_s,
    measure_roofline,
)
from models.base import ImageGenerator, Request

FREE_BYTES = 2**30


class ToldClock(Clock):
    """A clock by which each timed piece of work takes the seconds that it is told, the last of them from then on."""

    def __init__(self, *seconds: float) -> None:
        super().__init__("cpu")
        self._left = list(seconds)
        self._seconds, self._is_start = 0.0, True

    def now(self, wait: bool = True) -> float:
        assert wait
        if not self._is_start:
            self._seconds += self._left.pop(0) if len(self._left) > 1 else self._left[0]
        self._is_start = not self._is_start
        return self._seconds


def test_the_fastest_block_counts() -> None:
    calls: list[None] = []
    # One call of 10 ms: five of them are a block.
    seconds = best_seconds(lambda: calls.append(None), ToldClock(0.010, 0.060, 0.050, 0.040, 0.045, 0.070))
    assert seconds == pytest.approx(0.040 / 5)
    assert len(calls) == 1 + 1 + roofline.BLOCKS * 5


def test_a_product_of_matrices_is_as_large_as_the_device_needs_to_be_busy() -> None:
    busy = measure_matrix_flops_per_s(ToldClock(1.0), "cpu", "float32", (16, 64), FREE_BYTES)
    assert busy == pytest.approx(2 * 16**3)
    quick = ToldClock(1e-5, 1e-5, 1.0)
    assert measure_matrix_flops_per_s(quick, "cpu", "float32", (16, 64), FREE_BYTES) == pytest.approx(2 * 64**3)


def test_no_product_takes_more_of_the_memory_than_is_its_share() -> None:
    three_of_32 = 3 * 32**2 * 4
    free_bytes = int(three_of_32 / roofline.MOST_OF_FREE)
    quick = ToldClock(1e-5, 1e-5, 1.0)
    assert measure_matrix_flops_per_s(quick, "cpu", "float32", (16, 64), free_bytes) == pytest.approx(2 * 32**3)


def test_a_copy_counts_what_it_reads_and_what_it_writes() -> None:
    assert measure_copy_bytes_per_s(ToldClock(1.0), "cpu", 4096, FREE_BYTES) == pytest.approx(2 * 4096)
    # Both tensors together have the share.
    assert measure_copy_bytes_per_s(ToldClock(1.0), "cpu", 4096, 8192) == pytest.approx(1024)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_real_product_has_a_speed_and_leaves_torchs_random_state(dtype: str) -> None:
    before = torch.get_rng_state()
    speed = measure_matrix_flops_per_s(Clock("cpu"), "cpu", dtype, (64, 64))  # type: ignore[arg-type]
    assert 1e6 < speed < 1e15
    assert torch.equal(torch.get_rng_state(), before)


class OneProduct(ImageGenerator):
    name, image_size, parameters = "one product", 2, 1

    def __init__(self, network: nn.Module | None) -> None:
        self._network = network

    def networks(self) -> Sequence[nn.Module]:
        return () if self._network is None else (self._network,)

    def generate(self, requests: Sequence[Request]) -> Tensor:
        assert self._network is not None
        self._network(torch.ones(len(requests), 8))
        return torch.zeros(len(requests), 3, 2, 2, dtype=torch.uint8)


REQUESTS = [Request(i, "a", i) for i in range(4)]


def test_a_roofline_is_of_one_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "CPU_SIDES", (16, 16))
    monkeypatch.setattr(roofline, "CPU_COPY_BYTES", 4096)
    network = nn.Linear(8, 4, bias=False).to(torch.float32)
    found = measure_roofline(OneProduct(network), REQUESTS, ToldClock(1.0), "cpu", "float32")
    assert found == Roofline(
        flops_per_image=2 * 8 * 4, weight_bytes_per_image=8 * 4 * 4 / 4, matrix_flops_per_s=pytest.approx(2 * 16**3),
        copy_bytes_per_s=pytest.approx(2 * 4096), dtype="float32",
    )  # fmt: skip


def test_a_model_that_names_no_networks_has_no_roofline() -> None:
    with pytest.raises(NotMeasured, match="does not name its networks"):
        measure_roofline(OneProduct(None), REQUESTS, ToldClock(1.0), "cpu", "float32")
