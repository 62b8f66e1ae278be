"""The limit that a model is near is said in words, with the share of it that the model reaches."""

from __future__ import annotations

import pytest

from benchmark.measure.findings import Roofline
from benchmark.report.limits import bandwidth_share, matrix_share, name_limit

# An image is 100 s of products at full speed, or 10 s of reading.
ROOFLINE = Roofline(1e14, 1e13, 1e12, 1e12, "bfloat16")


def test_a_share_is_the_time_at_full_speed_over_the_time_taken() -> None:
    assert matrix_share(ROOFLINE, 200.0) == 0.5
    assert bandwidth_share(ROOFLINE, 200.0) == 0.05


@pytest.mark.parametrize(
    ("flops", "weight_bytes", "said"),
    [
        (62, 9, "matrix throughput (62 %)"),
        (51, 50, "matrix throughput (51 %)"),
        (55, 71, "memory bandwidth (71 %)"),
        (120, 10, "matrix throughput (120 %)"),
        (50, 0, "matrix throughput (50 %)"),
        (49.9, 9, "neither (50 % of matrix throughput, 9 % of memory bandwidth: launches, small kernels, activations)"),
        (4, 9, "neither (4 % of matrix throughput, 9 % of memory bandwidth: launches, small kernels, activations)"),
        (
            0.04,
            0,
            "neither (0.04 % of matrix throughput, 0 % of memory bandwidth: launches, small kernels, activations)",
        ),
    ],
)
def test_the_nearest_limit_is_named_from_half_of_it_on(flops: float, weight_bytes: float, said: str) -> None:
    assert name_limit(Roofline(flops, weight_bytes, 1.0, 1.0, "float32"), 100.0) == said
