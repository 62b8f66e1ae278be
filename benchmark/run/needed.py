"""What a run needs of the network: told by --check, fetched before any data is prepared and any image made."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import metrics
from benchmark.console.plain_text import one_line
from benchmark.console.progress import Progress
from benchmark.data.prompts import PromptSet
from benchmark.data.sources.hub import HubImages
from benchmark.measure.accelerators import count_gpus
from benchmark.measure.machine import Machine
from benchmark.run.columns import Column
from benchmark.run.folders import place_columns
from benchmark.run.journal_lines import Timed
from benchmark.run.plan import RunPlan
from benchmark.run.recorded import count_images, recorded_lines
from benchmark.run.slices import lacking_rounds, timed_slices
from benchmark.settings.runtime import runtime_of, scoring_of
from files.downloads import Need, UrlFile, describe_bytes, is_offline
from files.hub import check_reachable
from metrics import needed
from metrics.scoring import needs_of, without_network
from models.base import Runtime


@dataclass(frozen=True)
class Wanted:
    """Something that the run needs. columns: the titles of those that cannot be made without; metrics: their names."""

    need: Need
    columns: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()

    @property
    def users(self) -> str:
        """Who needs it: "SDXL, SDXL compiled", "fid, kid"."""
        return ", ".join((*self.columns, *self.metrics))


def find_needs(
    plan: RunPlan, machine: Machine | None, failures: dict[str, str], *, all_columns: bool = False
) -> list[Wanted]:
    """Return what the run's columns and metrics need, each thing once, whether it is here or not.

    machine: None before torch is imported. failures: takes, by title, why a column cannot run at all. all_columns: also
    what those need whose images are all there.
    """
    users: dict[Need, tuple[list[str], list[str]]] = {}
    complete = set() if all_columns else _complete(plan)
    for column in plan.columns:
        if column.title in complete or column.model.family.needs is None:
            continue
        try:
            for need in column.model.family.needs(column.model.options, _runtime(column, machine)):
                users.setdefault(need, ([], []))[0].append(column.title)
        except (OSError, ValueError) as error:
            failures[column.title] = f"{type(error).__name__}: {one_line(error)}"
    for name, need in _needs_of_metrics(plan):
        users.setdefault(need, ([], []))[1].append(name)
    return [Wanted(need, tuple(columns), tuple(names)) for need, (columns, names) in users.items()]


def hub_data(plan: RunPlan) -> dict[HubImages, bool]:
    """Return the hub's data sets that the run reads, each with whether rows of it are prepared already."""
    used = [plan.sources.prompts, plan.sources.reference if plan.settings.references_needed() else None]
    output, is_fresh = plan.settings.output_dir, plan.settings.fresh
    return {
        each: not is_fresh and any((output / each.name / "input").glob("*")) for each in used
        if isinstance(each, HubImages)
    }  # fmt: skip


def describe_hub_data(plan: RunPlan) -> list[str]:
    """Return the lines of --check on data sets of the hub."""
    return [
        f"{'here' if is_prepared else 'to download'}: data set {each.name}, "
        + ("prepared already" if is_prepared else "streamed: the rows that the run needs")
        for each, is_prepared in hub_data(plan).items()
    ]


def check_hub_data(plan: RunPlan) -> None:
    """Check that the hub has the data sets that are not prepared yet, before gigabytes of weights are fetched.

    Raises:
        ValueError: it lacks one; one line.
    """
    for each, is_prepared in hub_data(plan).items():
        if not is_prepared:
            each.check_exists()


def _runtime(column: Column, machine: Machine | None) -> Runtime:
    runtime = runtime_of(column.settings, column.mode, machine)
    if machine is None and column.settings.dtype == ("auto",) and column.settings.device != "cpu" and count_gpus():
        return dataclasses.replace(runtime, dtype="bfloat16")  # as most GPUs have it; it decides which files are read
    return runtime


def _complete(plan: RunPlan) -> set[str]:
    """Return the titles of columns that have all of their images and rounds, and so are not loaded."""
    if plan.settings.fresh:
        return set()
    found = set()
    for held_out in (False, True):
        for column, folder in zip(
            plan.columns, place_columns(plan.settings.output_dir, plan.columns, held_out), strict=True
        ):
            has_images = count_images(folder) >= column.settings.num_samples
            own = column.settings
            slices = timed_slices(own.timed_count(), own.batch_size)
            if has_images and not lacking_rounds(slices, _timed_in(folder), own.rounds):
                found.add(column.title)
    return found


def _timed_in(folder: Path) -> list[Timed]:
    """Return the timed calls that a column's folder records; none where its fingerprint cannot be read."""
    return [line for line in recorded_lines(folder) if isinstance(line, Timed)]


def _needs_of_metrics(plan: RunPlan) -> list[tuple[str, Need]]:
    settings = plan.settings
    found: list[tuple[str, Need]] = []
    if settings.weights == "random":  # has no quality
        return []
    scoring = scoring_of(settings, "cpu")
    has_reference = plan.sources.reference is not None or not isinstance(plan.sources.prompts, PromptSet)
    for name in settings.metric_names():
        metric, needs = metrics.METRICS[name], needs_of(name, scoring)
        if not needs or (metric.needs_reference and not has_reference):
            continue
        # The embedded models need no download, and neither does their score: another network stands in.
        if settings.weights == "tiny" and metric.needs is needed.inception:
            continue
        found += [(name, need) for need in needs]
    return found


def fetch_needs(
    wanted: Sequence[Wanted],
    progress: Progress,
    failures: dict[str, str],
    done: Callable[[Wanted, str], None] = lambda _, __: None,
    announce: Callable[[str], None] | None = None,
) -> None:
    """Fetch what is not here; what cannot be fetched is told at once, with what that costs.

    failures: takes, by title, why a column cannot be made; it costs no other. A column that has failed needs nothing
    more. done: called with each, and with the reason where it cannot be fetched. announce: takes what is told; None: as
    a note of the progress.
    """
    tell = announce or progress.note
    for item in wanted:
        if item.columns and not item.metrics and all(title in failures for title in item.columns):
            continue
        try:
            item.need.fetch(progress.arriving)
        except (OSError, ValueError) as error:
            reason = one_line(error)
            done(item, reason)
            if getattr(item.need, "is_optional", False):
                tell(f"{item.users} without {item.need.what}: {reason}")
                continue
            for title in item.columns:
                if title not in failures:
                    failures[title] = f"OSError: {reason}"
                    tell(f"{title} failed: {failures[title]}")
            if item.metrics:
                tell(without_network(item.metrics, reason))
        else:
            done(item, "")


def describe_needs(wanted: Sequence[Wanted], failures: Mapping[str, str]) -> list[str]:
    """Return the lines of --check: what is here, what would be downloaded, and how large it is."""
    lines = [f"{title} cannot run: {reason}" for title, reason in failures.items()]
    offline, total, is_known = is_offline(), 0, True
    missing = 0
    for item in wanted:
        told = f"{item.need.what} (for {item.users})"
        if item.need.here():
            lines.append(f"here: {told}")
            continue
        missing += 1
        size = item.need.bytes_missing()
        total += size or 0
        is_known &= size is not None
        lines.append(f"{'missing' if offline else 'to download'}: {told}, {describe_bytes(size)}")
    if not missing:
        lines.append("to download: nothing")
    elif offline:
        lines.append("OFFLINE=1 downloads nothing: what is missing is left out of the run")
    else:
        if reason := _unreachable(wanted):
            lines.append(f"{reason}, so what it has cannot be downloaded now")
        lines.append(
            f"to download: {describe_bytes(total)}{'' if is_known else ' and what is not known'}; "
            "--download fetches it without generating"
        )
    return lines


def _unreachable(wanted: Sequence[Wanted]) -> str:
    """Return why the hub cannot be asked for what is missing, "" where it can or is not needed."""
    if all(isinstance(item.need, UrlFile) or item.need.here() for item in wanted):
        return ""
    try:
        check_reachable()
    except OSError as error:
        return str(error)
    return ""
