"""The registry of metrics: the names that METRICS takes, and the class of each.

A new metric is one file beside this one and one line below. Nothing here imports torch: a name is checked before
anything heavy is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import cast

from files.downloads import Need
from metrics import needed
from metrics.base import Metric, Scoring


@dataclass(frozen=True)
class Constructor:
    """Constructs a metric; its module is imported at the first call.

    label: the name of the metric's (first) row, for a table in which no model has a value for it. row: that row's key,
    where it is not the metric's name. needs: the networks that it needs on this machine beside those in assets/ and in
    packages; None: it needs none. needs_reference: whether it compares with reference images.
    """

    module: str
    name: str
    label: str = ""
    row: str = ""
    needs: Callable[[Scoring], Sequence[Need]] | None = None
    needs_reference: bool = True

    def __call__(self, scoring: Scoring) -> Metric:
        return cast(Metric, getattr(import_module(self.module), self.name)(scoring))


METRICS: dict[str, Constructor] = {
    "fid": Constructor("metrics.frechet", "FrechetDistance", "FID Score (lower = better)", needs=needed.inception),
    "kid": Constructor("metrics.kernel", "KernelDistance", "KID Score (lower = better)", needs=needed.inception),
    "prdc": Constructor(
        "metrics.manifold", "Manifold", "Precision (higher = better)", row="precision", needs=needed.inception
    ),
    "cmmd": Constructor("metrics.kernel", "CLIPDistance", "CMMD (lower = better)", needs=needed.clip),
    "fd-dinov2": Constructor("metrics.frechet", "DINOv2Distance", "FD-DINOv2 (lower = better)", needs=needed.dinov2),
    "fd-effnet": Constructor("metrics.frechet", "EfficientNetDistance", "FD-EffNetLite0 (lower = better)"),
    "clipscore": Constructor(
        "metrics.clip_score", "CLIPScore", "CLIPScore (higher = better)", needs=needed.clip, needs_reference=False
    ),
    "fidelity": Constructor(
        "metrics.prompt", "PromptFidelity", "Prompt Fidelity % (higher = better)", needs_reference=False
    ),
    "match": Constructor(
        "metrics.matching", "CaptionMatch", "Caption Match % (higher = better)", needs=needed.inception
    ),
    "lpips": Constructor("metrics.paired", "PerceptualDistance", "LPIPS (lower = better)", needs=needed.alexnet),
    "ssim": Constructor("metrics.paired", "StructuralSimilarity", "SSIM (higher = better)"),
    "psnr": Constructor("metrics.paired", "PeakSignalToNoise", "PSNR dB (higher = better)"),
    "delta-e": Constructor("metrics.paired", "ColourDifference", "Delta E 2000 (lower = better)"),
    "memorisation": Constructor(
        "metrics.memorisation", "Memorisation", "Memorised % (lower = better)", needs=needed.inception
    ),
}
