"""What --check prints: which columns, from which weights, into which folder, and how much of it is there already."""

from __future__ import annotations

from benchmark.console.plain_text import visible
from benchmark.run.folders import place_columns
from benchmark.run.plan import plan_run
from benchmark.settings.fields import Settings
from benchmark.settings.runtime import runtime_of


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
    if settings.reference:
        lines.insert(2, f"references: {settings.reference}")
    plan = plan_run(settings, None, lines.append)
    folders = [place_columns(settings.output_dir, plan.columns, held_out) for held_out in (False, True)]
    for column, *places in zip(plan.columns, *folders, strict=True):
        plain, held_out = (0 if settings.fresh else len(list((place / "output").glob("*.png"))) for place in places)
        there = f"{plain} images already there" + (f", {held_out} of held-out captions" if held_out else "")
        model = column.model
        source = model.family.source(model.options, runtime_of(column.settings, column.mode))
        lines.append(f"{column.title}: {source}; {there}")
    return "\n".join(map(visible, lines))
