"""--check: what would run, from which weights, into which folder, and how much of it is there already."""

from __future__ import annotations

from benchmark.console.plain_text import visible
from benchmark.data.sources import open_dataset
from benchmark.run.columns import choose_models, column_folder, column_title, refuse_strangers
from benchmark.settings.fields import ASSETS, Settings
from models.base import Runtime


def describe_run(settings: Settings) -> str:
    """Return the plan as text; loads no model, no data and no torch.

    Raises:
        ValueError: the output folder holds files of others at the names that the run would write.
    """
    lines = [
        f"{settings.num_samples} images per model, {settings.image_size} px, batch size {settings.batch_size}, "
        f"weights {settings.weights}, device {settings.device}, dtype {settings.dtype}",
        f"data set: {settings.dataset}, {settings.num_references} references; "
        f"metrics: {', '.join(settings.metric_names())}",
        f"output: {settings.output_dir}" + (" (started over: FRESH=1)" if settings.fresh else ""),
    ]
    dataset = open_dataset(
        settings.dataset, assets=ASSETS, seed=settings.seed,
        image_column=settings.image_column, caption_column=settings.caption_column,
    )  # fmt: skip
    chosen = choose_models(settings, dataset.name, lines.append)
    refuse_strangers(settings, dataset.name, chosen)
    for choice in chosen:
        model = choice.model
        for mode in settings.mode:
            title = column_title(model, mode)
            runtime = Runtime(
                weights=settings.weights, device="cpu", dtype="float32", image_size=settings.image_size,
                assets=ASSETS, cache=settings.output_dir / "cache", mode=mode, offload=settings.offload,
            )  # fmt: skip
            plain, held_out = (
                0 if settings.fresh else len(list((folder / "output").glob("*.png")))
                for folder in (column_folder(title, settings), column_folder(title, settings, held_out=True))
            )
            there = f"{plain} images already there" + (f", {held_out} of held-out captions" if held_out else "")
            lines.append(f"{title}: {model.family.source(model.options, runtime)}; {there}")
    return "\n".join(map(visible, lines))
