"""A whole run: reference -> for each model: generate; then evaluate -> report."""

from __future__ import annotations

import dataclasses
import datetime
import os
import traceback
from collections.abc import Callable
from pathlib import Path

from benchmark.columns import Column, choose_models, clear_reference, plan_columns
from benchmark.command_line import SettingsError
from benchmark.contact_sheet import draw_contact_sheet
from benchmark.datasets import open_dataset
from benchmark.evaluation import evaluate, sheet_rows
from benchmark.generation import Plan, generate_images
from benchmark.held_out import HeldOut, prepare_held_out
from benchmark.html_report import write_html_report
from benchmark.interruption import stop_on_interrupt
from benchmark.machine import choose_machine
from benchmark.plain_text import one_line
from benchmark.progress import Progress
from benchmark.reference import adopt_arrangement
from benchmark.results import ModelResult, RunResult, describe_run, summarize, write_csv, write_json
from benchmark.settings import ASSETS, Settings
from metrics.base import Scoring


def run_benchmark(settings: Settings) -> RunResult:
    """Generate with every model, score what was made, and write results.json, results.csv, samples.png, report.html."""
    claim_output_dir(settings.output_dir)
    started = datetime.datetime.now().astimezone()
    machine, progress = choose_machine(settings.device, settings.dtype), Progress()
    if settings.offload and machine.device == "cpu":
        raise SettingsError("OFFLOAD=1 moves weights to and from a GPU, and this run is on the CPU: set OFFLOAD=0")

    # The reference: pictures to compare with, whose captions are the prompts.
    dataset = open_dataset(
        settings.dataset, assets=ASSETS, seed=settings.seed,
        image_column=settings.image_column, caption_column=settings.caption_column,
    )  # fmt: skip
    chosen = choose_models(settings, dataset.name, progress.note)
    if settings.fresh:
        clear_reference(settings, dataset.name)
    dataset = adopt_arrangement(dataset, settings.output_dir / dataset.name)  # what fine-tuning prepared there
    rows = settings.rows_needed()
    training = {
        choice.title: choice.adaptation.training_data
        for choice in chosen
        if choice.adaptation is not None and choice.adaptation.training_data is not None
    }
    held_out = prepare_held_out(dataset, settings.output_dir / dataset.name, rows, training, progress.counted)
    reference = held_out.reference
    requests = reference.requests(settings.num_samples, settings.seed)

    # Phase 1: every model makes its pictures; they are on disk when it is done, and another run would find them.
    columns = plan_columns(settings, chosen, machine, reference, held_out.digest)
    plan = Plan(settings.batch_size, settings.warmup, machine.device)
    failures: dict[str, str] = {}
    with stop_on_interrupt() as stopped:
        for column in columns:
            try:
                generate_images(column.load, requests, column.journal, plan, progress, stopped)
            except Exception as error:  # one model's failure must not take the others' results with it
                if not isinstance(error, OSError | ValueError):
                    traceback.print_exc()
                failures[column.title] = f"{type(error).__name__}: {one_line(error)}"
                progress.note(f"{column.title} failed: {failures[column.title]}")
        interrupted = stopped()

    # Phase 2: what is on disk is summed up and scored.
    done = [column for column in columns if column.title not in failures]
    results = [
        summarize(column.journal, settings.num_samples, plan.batch_size, column.mode, column.title) for column in done
    ]
    scoring = Scoring(
        device=machine.device, assets=ASSETS, cache=settings.output_dir / "cache",
        inception_weights=settings.inception_weights, fid_protocol=settings.fid_protocol,
        feature_dtype=settings.feature_dtype, dinov2_model=settings.dinov2_model, clip_model=settings.clip_model,
        progress=progress.counted,
    )  # fmt: skip
    pairs = [(result, column.journal) for result, column in zip(results, done, strict=True) if result is not None]
    adapted = {column.title: column for column in done if column.baseline}
    trained_on = {
        title: held_out.left_out[column.model] for title, column in adapted.items() if column.model in held_out.left_out
    }
    models = evaluate(pairs, reference, settings, scoring, progress, trained_on)
    models = [
        mark_adapted(model, adapted[model.name], held_out) if model.name in adapted else model for model in models
    ]

    run = describe_run(
        settings, machine, reference, models, failures, started, interrupted=interrupted, left_out=held_out.note
    )
    titles = [model.name for model in models]
    rows_of_sheet = sheet_rows(pairs, reference, settings.num_samples)
    sheet = settings.output_dir / "samples.png"
    reports: dict[str, Callable[[Path], None]] = {
        "results.json": lambda path: write_json(run, path),
        "results.csv": lambda path: write_csv(run, path),
        "samples.png": lambda path: draw_contact_sheet(rows_of_sheet, [*titles, "reference"], path),
        "report.html": lambda path: write_html_report(run, sheet, path),
    }
    for name, write in reports.items():
        try:
            write(settings.output_dir / name)
        except OSError as error:  # the table is still to be printed
            failures[name] = one_line(error)
    return dataclasses.replace(run, failures=failures)


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
