"""What models and metrics learn of a run's settings: the one place where Settings become Runtime and Scoring."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmark.settings.fields import ASSETS, Settings
from metrics.base import Helpers, OpenTask, Scoring, no_progress
from models.base import DType, Mode, Runtime

if TYPE_CHECKING:
    from benchmark.measure.machine import Machine


def runtime_of(
    settings: Settings, mode: Mode, machine: Machine | None = None, label_names: tuple[str, ...] = ()
) -> Runtime:
    """Return where and how a model is loaded.

    settings: with one dtype, as those of a column. machine: None before torch is imported: device and dtype are then as
    the settings say, `auto` counting as float32.
    label_names: the data set's class names.
    """
    (asked,) = settings.dtype
    best: DType = "float32" if machine is None else machine.dtype
    return Runtime(
        weights=settings.weights,
        device=settings.device if machine is None else machine.device,
        dtype=best if asked == "auto" else asked,
        image_size=settings.image_size,
        assets=ASSETS,
        cache=settings.output_dir / "cache",
        mode=mode,
        offload=settings.offload,
        label_names=label_names,
        device_map=settings.device_map,
    )


def scoring_of(
    settings: Settings, device: str, progress: OpenTask = no_progress, helpers: Helpers | None = None
) -> Scoring:
    """Return where and how metrics run. Features of references are kept in OUTPUT_DIR/cache.

    helpers: other processes that extract features, too.
    """
    return Scoring(
        device=device,
        assets=ASSETS,
        cache=settings.output_dir / "cache",
        inception_weights=settings.inception_weights,
        fid_protocol=settings.fid_protocol,
        feature_dtype=settings.feature_dtype,
        dinov2_model=settings.dinov2_model,
        clip_model=settings.clip_model,
        progress=progress,
        helpers=helpers,
    )
