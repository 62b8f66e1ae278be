"""--check: what would run, from which weights, into which folder, and how much of it is there already."""

from __future__ import annotations

from benchmark.columns import column_folder, column_title
from benchmark.settings import ASSETS, Settings
from models.base import Runtime


def describe_run(settings: Settings) -> str:
    """Return the plan as text; loads no model, no data and no torch."""
    lines = [
        f"{settings.num_samples} images per model, {settings.image_size} px, batch size {settings.batch_size}, "
        f"weights {settings.weights}, device {settings.device}, dtype {settings.dtype}",
        f"data set: {settings.dataset}, {settings.num_references} references; "
        f"metrics: {', '.join(settings.metric_names())}",
        f"output: {settings.output_dir}" + (" (started over: FRESH=1)" if settings.fresh else ""),
    ]
    for model in settings.selected_models():
        for mode in settings.mode:
            title = column_title(model, mode)
            runtime = Runtime(
                weights=settings.weights, device="cpu", dtype="float32", image_size=settings.image_size,
                assets=ASSETS, cache=settings.output_dir / "cache", mode=mode, offload=settings.offload,
            )  # fmt: skip
            images = len(list((column_folder(title, settings) / "output").glob("*.png")))
            there = 0 if settings.fresh else images
            lines.append(f"{title}: {model.family.source(model.options, runtime)}; {there} images already there")
    return "\n".join(lines)
