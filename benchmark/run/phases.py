"""A whole run by phases: fetch, prepare, generate, evaluate, report. Each leaves on disk what the next one reads."""

from __future__ import annotations

import dataclasses
import datetime
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from benchmark.console.interruption import Stop, stop_on_interrupt
from benchmark.console.plain_text import one_line
from benchmark.console.progress import Progress, silent_stream
from benchmark.data.run_data import Data, prepare_data
from benchmark.measure.machine import Machine, choose_machine
from benchmark.ranks.ranks import ALONE, Ranks
from benchmark.report.files import JSON_NAME, write_reports
from benchmark.report.results import RunResult
from benchmark.run.columns import trained_on
from benchmark.run.evaluation import Evaluated, evaluate, sheet_rows
from benchmark.run.folders import clear_output
from benchmark.run.jobs import Job, open_jobs
from benchmark.run.journal_lines import MAIN_WRITER
from benchmark.run.needed import check_hub_data, fetch_needs, find_needs
from benchmark.run.plan import RunPlan, plan_run
from benchmark.run.rounds import generate, generate_beside
from benchmark.run.summary import describe_run, summarize
from benchmark.run.team import NO_TEAM, Team
from benchmark.settings.command_line import NoColumnLeft, SettingsError
from benchmark.settings.fields import Settings
from benchmark.settings.preconditions import check_reach
from benchmark.settings.runtime import scoring_of
from files.locks import locked
from files.writing import remove_leftovers
from metrics.base import ImageSet
from metrics.entries import digest_together

# Each rank may have another one of these.
OWN_SETTINGS = frozenset({"output_dir", "fresh", "device", "offline"})
ELSEWHERE = "some images are on other hosts: join the folders with python -m benchmark.merge"


def run_benchmark(settings: Settings, ranks: Ranks = ALONE) -> RunResult:
    """Generate with every model, score what was made, and write results.json, results.csv, samples.png, report.html.

    ranks: of the run, of which this is rank 0; the others `run_beside` it.
    """
    started = datetime.datetime.now().astimezone()
    progress, failures = Progress(), dict[str, str]()
    team, machine = Team(ranks, settings.timed_on), _open_machine(settings, ranks)
    data, jobs = _prepare(settings, team, machine, progress, failures)
    with stop_on_interrupt(is_quiet=not ranks.is_alone) as stop:
        ranks.attend(stop)
        generate(jobs, data.prompts, machine.device, progress, stop, failures, team)
        if stop():
            ranks.settle()
        with locked(
            settings.output_dir, "scores images and writes the report", announce=progress.note,
            between_tries=stop.raise_stopped,
        ):  # fmt: skip
            evaluated = evaluate_jobs(settings, jobs, data, machine, progress, stop, failures, team)
            run = describe_run(
                settings, machine, data, [column.result for column in evaluated], failures, started, stop(),
                [job.column for job in jobs],
            )  # fmt: skip
            record_looks(run, jobs, progress)
            reported = report(dataclasses.replace(run, stop_status=stop.status), evaluated, data, settings, progress)
        return dataclasses.replace(reported, stop_status=stop.status)  # a signal may have come while they were written


def run_beside(settings: Settings, ranks: Ranks) -> int:
    """Make this rank's share of a run's images, and of the features that rank 0 asks for; return the exit status."""
    progress, failures = Progress(silent_stream()), dict[str, str]()
    team, machine = Team(ranks, settings.timed_on), _open_machine(settings, ranks)
    data, jobs = _prepare(settings, team, machine, progress, failures)
    with stop_on_interrupt(is_quiet=True) as stop:
        ranks.attend(stop)
        generate_beside(jobs, data.prompts, machine.device, stop, failures, team)
        ranks.serve(machine.device)
        return stop.status


def _open_machine(settings: Settings, ranks: Ranks) -> Machine:
    """Return what this process runs on, with OUTPUT_DIR made."""
    claim_output_dir(settings.output_dir)
    machine = choose_machine(settings.device, settings.dtype)
    if settings.offload and machine.device == "cpu":
        raise SettingsError("OFFLOAD=1 moves weights to and from a GPU, and this run is on the CPU: set OFFLOAD=0")
    if settings.timed_on == "all" and ranks.is_alone:
        raise SettingsError(
            "TIMED_ON=all times the GPU of each process, and this is one process: start it with torchrun "
            "--nproc-per-node and the number of GPUs, or leave TIMED_ON out"
        )
    return machine


def _prepare(
    settings: Settings, team: Team, machine: Machine, progress: Progress, failures: dict[str, str]
) -> tuple[Data, list[Job]]:
    """Return what is to be made: planned and prepared by the ranks that write it first, and then read by the others.

    Raises:
        OSError, ValueError: the run cannot be made, or this rank's is not that of rank 0.
    """
    team.share_folder(settings.output_dir, progress.note)
    team.wait_for_leader("prepared")
    team.wait_for_host("prepared")
    if not team.leads_folder:
        settings = settings.model_copy(update={"fresh": False})  # the leader has deleted what was there
    plan = plan_run(settings, machine, progress.note)
    try:
        fetch(plan, machine, progress, failures)
    except NoColumnLeft:
        if team.is_first:  # it has told why of each
            raise
        raise NoColumnLeft("; ".join(f"{title}: {reason}" for title, reason in failures.items())) from None
    data = prepare(plan, progress, is_prepared=not team.leads_folder)
    team.tell("prepared")
    team.titles = tuple(column.title for column in plan.columns)
    known = {name.upper(): value for name, value in settings if name not in OWN_SETTINGS}
    known |= {"device": machine.name, "versions": dict(machine.versions), "prompts": data.prompts.identity}
    team.agree(known | {"columns": ", ".join(team.titles)})
    columns = [column for column in plan.columns if column.title not in failures]
    writers = [MAIN_WRITER, *(f"rank{rank}" for rank in team.ranks.others)]
    jobs = open_jobs(
        columns, machine, data.prompts.identity, data.prompts.label_names, data.digest, failures,
        writers[team.launch.rank], writers,
    )  # fmt: skip
    team.agree_on_columns({job.title: job.journal.fingerprint for job in jobs})
    return data, jobs


def fetch(plan: RunPlan, machine: Machine, progress: Progress, failures: dict[str, str]) -> None:
    """Bring what columns and metrics need to this machine, before hours are spent on what then cannot be used.

    failures: takes, by title, why a column cannot be made; it costs no other.

    Raises:
        NoColumnLeft: none of them can; no data was prepared.
        ValueError: a setting reaches no column, or the hub has no such data set.
    """
    wanted = find_needs(plan, machine, failures)
    check_reach(plan.settings)  # the indexes of models of the hub are here now
    for title, reason in failures.items():
        progress.note(f"{title} failed: {reason}")
    if any(column.title not in failures for column in plan.columns):
        check_hub_data(plan)
    fetch_needs([item for item in wanted if item.columns], progress, failures)
    if plan.columns and all(column.title in failures for column in plan.columns):
        raise NoColumnLeft(f"no model can be loaded: {', '.join(failures)}")
    fetch_needs([item for item in wanted if not item.columns], progress, failures)


def prepare(plan: RunPlan, progress: Progress, is_prepared: bool = False) -> Data:
    """Return the run's prompts and references, written to OUTPUT_DIR; another rank has done it where `is_prepared`.

    Raises:
        OSError, ValueError: the data cannot be read, or OUTPUT_DIR holds what is not ours; nothing was written then.
    """
    settings = plan.settings
    sources = plan.sources.adopted(settings.output_dir)  # before FRESH=1 deletes what says how they were arranged
    if settings.fresh:
        clear_output(settings.output_dir, plan.columns, settings.num_samples, plan.inputs)
    return prepare_data(
        sources, settings.output_dir, settings.num_samples, settings.references_needed(), trained_on(plan.chosen),
        progress.counted, progress.note, is_prepared,
    )  # fmt: skip


def evaluate_jobs(
    settings: Settings, jobs: Sequence[Job], data: Data, machine: Machine, progress: Progress, stop: Stop,
    failures: dict[str, str], team: Team = NO_TEAM,
) -> list[Evaluated]:  # fmt: skip
    """Return each column's result with its scores, beside what its folder holds; of a failed one what there is.

    failures: takes, by title, which columns have no image.
    """
    scoring = scoring_of(settings, machine.device, progress.counted, team.helpers())
    found = []
    for job in jobs:
        if not stop():
            with suppress(OSError):  # of what cannot be read, the journal says so
                digest_together(ImageSet(job.title, job.journal.image_paths()), scoring)
        snapshot = job.journal.read()
        result = summarize(snapshot, job.column)
        if result is not None:
            name = job.column.name
            found.append(Evaluated(result, snapshot, data.left_out.get(name), data.leaks.get(name, "")))
        elif not stop() and job.title not in failures:
            failures[job.title] = "none of its images is there any more"
    whole = [
        column for column in found
        if not team.apart or len(column.snapshot.asked(settings.num_samples)) == settings.num_samples
    ]  # fmt: skip
    scored = {
        column.result.name: column
        for column in evaluate(whole, data.reference, settings, scoring, progress, stop)
    }  # fmt: skip
    unscored = dict.fromkeys(settings.metric_names(), ELSEWHERE)
    return [
        scored.get(column.result.name, replace(column, result=replace(column.result, unscored=unscored)))
        for column in found
    ]


def report(
    run: RunResult, evaluated: Sequence[Evaluated], data: Data, settings: Settings, progress: Progress
) -> RunResult:
    """Write the report files, and return the run with the failures of writing them."""
    rows = sheet_rows(evaluated, data, settings.num_samples)
    reported = write_reports(run, rows, settings.output_dir, progress.note)
    if (settings.output_dir / JSON_NAME).is_file():  # the mark of a folder with reports of ours
        remove_leftovers(settings.output_dir)
    return reported


def record_looks(run: RunResult, jobs: Sequence[Job], progress: Progress) -> None:
    """Record with each column that a verdict on its speed was formed: one after more rounds needs a wider interval."""
    compared_pairs = [pair for verdict in run.verdicts for pair in verdict.pairs]
    compared_pairs += [each.speed for answer in run.equal_quality for each in answer.alternatives]
    looked = [pair for pair in compared_pairs if pair.look]
    compared = {name for pair in looked for name in (pair.first, pair.second)}
    for job in jobs:
        if job.title in compared:
            try:
                job.journal.record_look(run.rounds)
            except OSError as error:  # the verdict stands; a later one may be a little too sure
                progress.note(f"{job.title}: that a verdict was formed could not be recorded: {one_line(error)}")


def claim_output_dir(folder: Path) -> None:
    """Make OUTPUT_DIR. Raises OSError where it cannot be written, before anything is loaded."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError as error:
        raise OSError(f"OUTPUT_DIR={folder} cannot be made ({error.strerror}); choose a folder you may write") from None
    if not writable:
        raise OSError(f"OUTPUT_DIR={folder} cannot be written; choose a folder you may write")
