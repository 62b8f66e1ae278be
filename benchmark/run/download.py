"""What --download does: everything that a run with these settings needs comes to this machine; nothing is generated."""

from __future__ import annotations

from benchmark.console.plain_text import one_line, visible
from benchmark.console.progress import Progress
from benchmark.measure.machine import choose_machine
from benchmark.run.needed import Wanted, fetch_needs, find_needs
from benchmark.run.phases import claim_output_dir, prepare
from benchmark.run.plan import plan_run
from benchmark.settings.fields import Settings


def download_run(settings: Settings) -> tuple[str, bool]:
    """Return a line for each thing that the run needs, and whether all of them are here now.

    Models and metrics' networks go into their libraries' own caches, the data set's images to OUTPUT_DIR.

    Raises:
        OSError, ValueError: the settings cannot be run.
    """
    settings = settings.model_copy(update={"fresh": False})  # nothing is deleted before the run itself
    claim_output_dir(settings.output_dir)
    progress = Progress()
    machine = choose_machine(settings.device, settings.dtype)
    plan = plan_run(settings, machine, progress.note)
    failures: dict[str, str] = {}
    lines: list[str] = []
    wanted = find_needs(plan, machine, failures, all_columns=True)
    lines += [f"failed: {title}: {reason}" for title, reason in failures.items()]
    is_whole = not failures

    def done(item: Wanted, reason: str) -> None:
        nonlocal is_whole
        is_optional = getattr(item.need, "is_optional", False)
        lines.append(f"here: {item.need.what}" if not reason else f"failed: {item.need.what}: {reason}")
        is_whole = is_whole and (not reason or is_optional)

    for item in wanted:  # each by itself: a column that fails keeps none of the others' files away
        fetch_needs([item], progress, {}, done, announce=lambda _: None)  # its line on stdout says it
    try:
        data = prepare(plan, progress)
    except (OSError, ValueError) as error:
        lines.append(f"failed: data set {settings.dataset}: {one_line(error)}")
        return "\n".join(map(visible, lines)), False
    count = len(data.prompts.prompts)
    places = ", ".join(str(folder) for folder, _ in plan.inputs)
    lines.append(f"here: data set {settings.dataset}: {count} prompts" + (f", images in {places}" if places else ""))
    return "\n".join(map(visible, lines)), is_whole
