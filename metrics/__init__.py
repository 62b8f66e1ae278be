"""The registry of metrics: the names that METRICS takes, and what each constructs.

Adding a metric is one file beside this one and one line below. Nothing here imports torch, so that a name can be
checked before anything heavy is loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import cast

from metrics.base import Metric, Scoring

Constructor = Callable[[Scoring], Metric]


def defer(module: str, name: str) -> Constructor:
    """Return a constructor that imports its module when it is first called."""

    def construct(scoring: Scoring) -> Metric:
        return cast(Constructor, getattr(import_module(module), name))(scoring)

    return construct


METRICS: dict[str, Constructor] = {
    "fid": defer("metrics.frechet", "FrechetDistance"),
    "kid": defer("metrics.kernel", "KernelDistance"),
    "fidelity": defer("metrics.prompt", "PromptFidelity"),
    "psnr": defer("metrics.paired", "PeakSignalToNoise"),
}
