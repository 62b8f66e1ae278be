"""A whole run: reference -> for each model: generate; then evaluate -> report."""

from __future__ import annotations

import dataclasses
import datetime
import os
import traceback
from collections.abc import Sequence
from pathlib import Path

from benchmark.console.interruption import Stop, stop_on_interrupt
from benchmark.console.plain_text import one_line
from benchmark.console.progress import Progress
from benchmark.data.held_out import HeldOut, prepare_held_out
from benchmark.data.reference import Reference, adopt_arrangement
from benchmark.data.sources import open_dataset
from benchmark.measure.machine import Machine, choose_machine
from benchmark.report.files import JSON_NAME, write_reports
from benchmark.report.results import ModelResult, RunResult, describe_run, summarize
from benchmark.run.columns import ChosenModel, Column, choose_models, clear_output, plan_columns, refuse_strangers
from benchmark.run.evaluation import evaluate, sheet_rows
from benchmark.run.generation import Plan, generate_images
from benchmark.run.journal import Journal
from benchmark.settings.command_line import SettingsError
from benchmark.settings.fields import ASSETS, Settings
from files.locks import locked
from files.writing import remove_leftovers
from metrics.base import Scoring


def run_benchmark(settings: Settings) -> RunResult:
    """Generate with every model, score what was made, and write results.json, results.csv, samples.png, report.html."""
    claim_output_dir(settings.output_dir)
    started = datetime.datetime.now().astimezone()
    machine, progress = choose_machine(settings.device, settings.dtype), Progress()
    if settings.offload and machine.device == "cpu":
        raise SettingsError("OFFLOAD=1 moves weights to and from a GPU, and this run is on the CPU: set OFFLOAD=0")
    chosen, held_out = prepare(settings, progress)
    failures: dict[str, str] = {}
    columns = plan_columns(settings, chosen, machine, held_out.reference, held_out.digest, failures)
    with stop_on_interrupt() as stop:
        generate(settings, columns, held_out.reference, machine, progress, stop, failures)
        with locked(
            settings.output_dir, "scores images and writes the report", announce=progress.note,
            between_tries=stop.raise_stopped,
        ):  # fmt: skip
            models, pairs = score(settings, columns, held_out, machine, progress, stop, failures)
            run = describe_run(
                settings, machine, held_out.reference, models, failures, started,
                interrupted=stop(), left_out=held_out.note,
            )  # fmt: skip
            run = dataclasses.replace(run, stop_status=stop.status)
            rows_of_sheet = sheet_rows(pairs, held_out.reference, settings.num_samples)
            reported = write_reports(run, rows_of_sheet, settings.output_dir, progress.note)
            if (settings.output_dir / JSON_NAME).is_file():  # the mark of a folder with reports of ours
                remove_leftovers(settings.output_dir)
        return dataclasses.replace(reported, stop_status=stop.status)  # a signal may have come while they were written


def prepare(settings: Settings, progress: Progress) -> tuple[list[ChosenModel], HeldOut]:
    """Return the run's models, and the reference whose captions are the prompts, written to OUTPUT_DIR.

    Raises:
        OSError, ValueError: the data cannot be read, or OUTPUT_DIR holds what is not ours; nothing was written then.
    """
    dataset = open_dataset(
        settings.dataset, assets=ASSETS, seed=settings.seed,
        image_column=settings.image_column, caption_column=settings.caption_column,
    )  # fmt: skip
    chosen = choose_models(settings, dataset.name, progress.note)
    refuse_strangers(settings, dataset.name, chosen)
    folder = settings.output_dir / dataset.name
    dataset = adopt_arrangement(dataset, folder)  # what fine-tuning prepared there, also where it is made anew
    if settings.fresh:
        clear_output(settings, dataset.name, chosen)
    training = {
        choice.title: choice.adaptation.training_data
        for choice in chosen
        if choice.adaptation is not None and choice.adaptation.training_data is not None
    }
    return chosen, prepare_held_out(
        dataset, folder, settings.rows_needed(), training, progress.counted, progress.note
    )  # fmt: skip


def generate(
    settings: Settings, columns: Sequence[Column], reference: Reference, machine: Machine, progress: Progress,
    stop: Stop, failures: dict[str, str],
) -> None:  # fmt: skip
    """Make the images that each column lacks; they are on disk afterwards, and another run would find them.

    failures: takes, by title, why a column could not be made; it costs no other.
    """
    requests = reference.requests(settings.num_samples, settings.seed)
    plan = Plan(settings.batch_size, settings.warmup, machine.device)
    for column in columns:
        try:
            generate_images(column.load, requests, column.journal, plan, progress, stop)
        except Exception as error:  # one model's failure must not take the others' results with it
            if not isinstance(error, OSError | ValueError):
                traceback.print_exc()
            failures[column.title] = f"{type(error).__name__}: {one_line(error)}"
            progress.note(f"{column.title} failed: {failures[column.title]}")


def score(
    settings: Settings, columns: Sequence[Column], held_out: HeldOut, machine: Machine, progress: Progress,
    stop: Stop, failures: dict[str, str],
) -> tuple[list[ModelResult], list[tuple[ModelResult, Journal]]]:  # fmt: skip
    """Return each column's result with its scores, and the results before scoring with their images.

    failures: takes, by title, which columns have no image.
    """
    done = [column for column in columns if column.title not in failures]
    pairs = []
    for column in done:
        result = summarize(column.journal, settings.num_samples, settings.batch_size, column.mode, column.title)
        if result is not None:
            pairs.append((result, column.journal))
        elif not stop():
            failures[column.title] = "none of its images is there any more"
    scoring = Scoring(
        device=machine.device, assets=ASSETS, cache=settings.output_dir / "cache",
        inception_weights=settings.inception_weights, fid_protocol=settings.fid_protocol,
        feature_dtype=settings.feature_dtype, dinov2_model=settings.dinov2_model, clip_model=settings.clip_model,
        progress=progress.counted,
    )  # fmt: skip
    adapted = {column.title: column for column in done if column.baseline}
    trained_on = {
        title: held_out.left_out[column.model] for title, column in adapted.items() if column.model in held_out.left_out
    }
    scored = evaluate(pairs, held_out.reference, settings, scoring, progress, trained_on, stop)
    return [
        mark_adapted(model, adapted[model.name], held_out) if model.name in adapted else model for model in scored
    ], pairs


def mark_adapted(model: ModelResult, column: Column, held_out: HeldOut) -> ModelResult:
    """Return an adapted column's result with the column that it is paired with, and with its leak if there is one."""
    leak = held_out.leaks.get(column.model)
    return dataclasses.replace(
        model, baseline=column.baseline, warnings=model.warnings if leak is None else (*model.warnings, leak)
    )


def claim_output_dir(folder: Path) -> None:
    """Make OUTPUT_DIR. Raises OSError where it cannot be written, before anything is loaded."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError as error:
        raise OSError(f"OUTPUT_DIR={folder} cannot be made ({error.strerror}); choose a folder you may write") from None
    if not writable:
        raise OSError(f"OUTPUT_DIR={folder} cannot be written; choose a folder you may write")
