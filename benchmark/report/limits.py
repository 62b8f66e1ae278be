"""Which limit of the device a model is near: its matrix throughput, or the bandwidth of its memory. Imports no torch.

Source: Williams et al., Roofline (Communications of the ACM 52, 2009).
"""

from __future__ import annotations

from benchmark.measure.findings import Roofline

# From this share of a limit on, a model is said to be near it: it could not become twice as fast.
NEAR = 0.5


def matrix_share(roofline: Roofline, seconds_per_image: float) -> float:
    """Return the FLOPs that the model does each second, as a share of what a large matrix product reaches.

    seconds_per_image: of a timed batch, over its size. The share may be over 1 where the model's convolutions run in
    another precision than the product, as they do in float32 on GPUs (TF32).
    """
    return roofline.flops_per_image / (seconds_per_image * roofline.matrix_flops_per_s)


def bandwidth_share(roofline: Roofline, seconds_per_image: float) -> float:
    """Return the bytes of weights that the model reads each second, as a share of what a copy in memory moves.

    Weights that stay in a cache are read from there, so that small models may be over 1; activations are not counted.
    """
    return roofline.weight_bytes_per_image / (seconds_per_image * roofline.copy_bytes_per_s)


def name_limit(roofline: Roofline, seconds_per_image: float) -> str:
    """Return the limit that the model is nearest to, with its share: "matrix throughput (62 %)".

    Where it has less than NEAR of both, something else takes the time: "neither (4 % of matrix throughput, 9 % of
    memory bandwidth: launches, small kernels, activations)".
    """
    matrix, bandwidth = matrix_share(roofline, seconds_per_image), bandwidth_share(roofline, seconds_per_image)
    if max(matrix, bandwidth) < NEAR:
        shares = f"{_percent(matrix)} of matrix throughput, {_percent(bandwidth)} of memory bandwidth"
        return f"neither ({shares}: launches, small kernels, activations)"
    if matrix >= bandwidth:
        return f"matrix throughput ({_percent(matrix)})"
    return f"memory bandwidth ({_percent(bandwidth)})"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.01 or not share else f"{100 * share:.1g} %"
