"""What --check prints: which columns, from which weights, into which folder, and how much of it is there already."""

from __future__ import annotations

from benchmark.console.plain_text import visible
from benchmark.data.left_out import describe_left_out
from benchmark.data.prompts import PromptSet
from benchmark.data.reference import Reference
from benchmark.data.run_data import Sources
from benchmark.measure.accelerators import count_gpus
from benchmark.ranks.launch import Launch
from benchmark.run.columns import list_notes
from benchmark.run.folders import place_columns
from benchmark.run.needed import describe_hub_data, describe_needs, find_needs
from benchmark.run.plan import plan_run
from benchmark.run.recorded import count_images
from benchmark.run.remaining import describe_remaining, remaining
from benchmark.settings.fields import Settings
from benchmark.settings.runtime import runtime_of

ONE_PROCESS = Launch()


def _describe_references(settings: Settings, sources: Sources) -> str:
    """Return the line on reference images, as far as is known before the data are read."""
    name = settings.reference or settings.dataset
    if settings.references_needed() == 0:
        return "references: none, since random weights are not scored"
    if sources.reference is None and isinstance(sources.prompts, PromptSet):
        return "references: none, since the data set is prompts without images"
    if isinstance(sources.reference, Reference):
        return f"references: the statistics {name}"
    return f"references: at most {settings.num_references} images of {name}"


def _describe_timing(settings: Settings) -> str:
    """Return the line on rounds, and on the images that are not timed."""
    timed, rounds = settings.timed_count(), settings.rounds
    first = f"all {timed} images" if timed == settings.num_samples else f"the first {timed} images"
    rest = settings.num_samples - timed
    size = settings.bulk_batch_size
    bulk = f"; {rest} images in bulk, batch size {size}" if rest else ""
    passes = f"; passes: {', '.join(settings.passes)}"
    return f"timing: {rounds} round{'s' * (rounds > 1)} of {first}, each in a fresh process{passes}{bulk}"


def _describe_device_map(settings: Settings) -> str:
    """Return over how many GPUs components are spread, as far as the driver says; nothing where they are not."""
    return f", components balanced over {count_gpus() or 'all'} GPUs" if settings.device_map else ""


def _describe_processes(launch: Launch) -> list[str]:
    """Return the line on a launcher's processes; nothing where there is one process."""
    if launch.is_alone:
        return []
    times = "the first one times the models; all make the images in bulk"
    there = f"processes: {launch.ranks}, {launch.local_ranks} of them here"
    return [f"{there}: {times}; the time of what is left to do is calculated for one process"]


def describe_run(settings: Settings, launch: Launch = ONE_PROCESS) -> tuple[str, bool]:
    """Return the plan as text, and whether every column can run as far as is known; loads no model, data or torch.

    launch: how this process was started.

    Raises:
        ValueError: the output folder holds files of others at the names that the run would write.
    """
    lines = [
        f"{settings.num_samples} images per model, {settings.image_size} px, batch size {settings.batch_size}, "
        f"weights {settings.weights}, device {settings.device}, dtype {', '.join(settings.dtype)}"
        f"{_describe_device_map(settings)}",
        _describe_timing(settings),
        *_describe_processes(launch),
        f"data set: {settings.dataset}; metrics: {', '.join(settings.metric_names())}",
        f"output: {settings.output_dir}" + (" (started over: FRESH=1)" if settings.fresh else ""),
    ]
    place = len(lines)
    plan = plan_run(settings, None, lines.append)
    lines[place - 1 : place - 1] = [_describe_references(settings, plan.sources), *describe_left_out(plan.sources)]
    folders = [place_columns(settings.output_dir, plan.columns, held_out) for held_out in (False, True)]
    left, columns = [], []
    for column, *places in zip(plan.columns, *folders, strict=True):
        plain, held_out = (0 if settings.fresh else count_images(place) for place in places)
        there = f"{plain} images already there" + (f", {held_out} of held-out captions" if held_out else "")
        there += f", of {settings.num_samples}"
        # Which of the two a run goes on with shows when the data are read; most of it is there in the one that it used.
        left.append(remaining(column, places[held_out > plain], settings.fresh))
        model = column.model
        source = model.family.source(model.options, runtime_of(column.settings, column.mode))
        columns.append(f"{column.title}: {source}; {there}")
    lines += [*list_notes(plan.columns), describe_remaining(left), *columns]
    failures: dict[str, str] = {}
    lines += describe_hub_data(plan)
    lines += describe_needs(find_needs(plan, None, failures), failures)
    return "\n".join(map(visible, lines)), not failures
