"""From what a column's folder holds to its result, and from the results to the run as it is reported."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from benchmark.data.run_data import Data
from benchmark.measure.findings import Findings
from benchmark.measure.machine import Machine
from benchmark.report.equal_quality import find_equal_quality
from benchmark.report.frontier import find_frontier
from benchmark.report.model_result import Bulk, Card, CardRound, ModelResult, Round
from benchmark.report.results import RunResult
from benchmark.report.verdicts import Group, decide
from benchmark.run.columns import Column, list_notes
from benchmark.run.host_throughput import count_made, find_host_throughput
from benchmark.run.journal_lines import Measured
from benchmark.run.snapshot import Snapshot
from benchmark.settings.fields import Settings
from benchmark.settings.fingerprint import as_text

PROTOCOL = "from prompts to uint8 images on the device, synchronised; latency per image = batch seconds / batch size"


def summarize(snapshot: Snapshot, column: Column) -> ModelResult | None:
    """Return what a column's folder holds as a result without scores; None where no image or no timed call is there."""
    settings, loaded = column.settings, snapshot.loaded
    rounds, asked = summarize_rounds(snapshot, settings), snapshot.asked(settings.num_samples)
    if not rounds or not asked or loaded is None:
        return None
    return ModelResult(
        name=column.title, mode=column.mode, parameters=loaded.parameters, image_size=loaded.image_size,
        batch_size=settings.batch_size, images=len(asked),
        timed_images=settings.timed_count(), rounds=rounds, bulk=summarize_bulk(snapshot, settings.num_samples),
        looks=snapshot.looks, peak_memory_bytes=loaded.peak_memory_bytes, notes=loaded.notes,
        folder=str(snapshot.folder), baseline=column.baseline, class_conditional=loaded.class_conditional,
        family=column.key.family, options=column.key.options, axes=column.key.axes, model=column.name,
        is_default=column.is_default, host_throughput=find_host_throughput(snapshot),
        made_by=count_made(snapshot, settings.num_samples), cards=summarize_cards(snapshot, settings),
    )  # fmt: skip


def summarize_rounds(snapshot: Snapshot, settings: Settings) -> tuple[Round, ...]:
    """Return the first ROUNDS rounds of which a call was timed, each with the calls of the requests of this run."""
    count, kept = settings.timed_count(), snapshot.pixels()
    found = []
    for number in range(settings.rounds):
        calls = [call for call in snapshot.timed if call.round == number and call.indices[0] < count]
        made_by = tuple(dict.fromkeys(call.process for call in calls))
        origins = {(number, process) for process in made_by}
        told = [loaded for loaded in snapshot.processes if loaded.purpose == "timed" and loaded.round == number]
        # Where what a process told of itself was lost, another one of its round tells it.
        made = [loaded for loaded in told if loaded.process in made_by] or told
        if not calls or not made:
            continue
        timed = {index for call in calls for index in call.indices if index < count}
        pixels = {
            index: digest for call in calls if number for index, digest in zip(call.indices, call.pixels, strict=True)
            if index in kept and index < count
        }  # fmt: skip
        first_call_s = made[0].first_call_s
        assert first_call_s is not None, "a process of a round makes an untimed call before the timed ones"
        found.append(Round(
            number=number, processes=made_by,
            latencies_s=tuple(call.seconds / call.batch_size for call in calls), images=len(timed),
            complete=timed.issuperset(range(count)),
            equal=sum(kept[index] == digest for index, digest in pixels.items()), compared=len(pixels),
            load_s=made[0].load_s, first_call_s=first_call_s, warmup_s=made[0].warmup_s,
            warmup_agreed=all(loaded.warmup_agreed for loaded in made),
            sessions=tuple(dict.fromkeys(loaded.session for loaded in made)),
            findings=_findings([line for line in snapshot.measured if (line.round, line.process) in origins]),
            states=tuple(line.machine for line in snapshot.states if (line.round, line.process) in origins),
        ))  # fmt: skip
    return tuple(found)


def summarize_cards(snapshot: Snapshot, settings: Settings) -> tuple[Card, ...]:
    """Return the first ROUNDS rounds on each other card of the host that was timed, by the card's UUID."""
    count, found = settings.timed_count(), []
    for uuid, timed in sorted(snapshot.timed_on.items()):
        rounds = []
        for number in range(settings.rounds):
            calls = [call for call in timed if call.round == number and call.indices[0] < count]
            origins = {(number, call.process) for call in calls}
            if calls:
                rounds.append(CardRound(
                    number, tuple(call.seconds / call.batch_size for call in calls),
                    complete={index for call in calls for index in call.indices}.issuperset(range(count)),
                    states=tuple(line.machine for line in snapshot.states if (line.round, line.process) in origins),
                ))  # fmt: skip
        if rounds:
            found.append(Card(uuid, tuple(rounds)))
    return tuple(found)


def _findings(lines: Sequence[Measured]) -> Findings:
    """Return what the passes of a round found; of two processes of a round, the later one stands where it found it."""
    last = {line.name: line for line in sorted(lines, key=lambda line: line.found is not None)}
    unmeasured: dict[str, str] = {line.name: line.reason for line in last.values() if line.found is None}
    found: dict[str, Any] = {line.name: line.finding for line in last.values() if line.found is not None}
    return Findings(**found, unmeasured=unmeasured, pass_seconds={line.name: line.seconds for line in last.values()})


def summarize_bulk(snapshot: Snapshot, count: int) -> Bulk | None:
    """Return what is known of the images of requests 0..count-1 that were not timed; None where there is no such one.

    The rate is that of full batches, where there is one: padding gives no image.
    """
    batches = [batch for batch in snapshot.batches if batch.purpose == "bulk" and batch.start < count]
    if not batches:
        return None
    full = [batch for batch in batches if batch.size == batch.batch_size] or batches
    images, seconds = sum(batch.size for batch in full), sum(batch.seconds for batch in full)
    trials = next((size.trials for size in snapshot.bulk_sizes if size.trials), ())
    return Bulk(tuple(dict.fromkeys(batch.batch_size for batch in batches)), images, seconds, images / seconds, trials)


def describe_run(
    settings: Settings, machine: Machine, data: Data, models: Sequence[ModelResult],
    failures: Mapping[str, str], started: datetime.datetime, interrupted: bool, asked: Sequence[Column] = (),
) -> RunResult:  # fmt: skip
    """Return the run as it is reported: its columns, and all that their figures must be read with.

    asked: all columns that could be made; those without a result that did not fail were not come to.
    """
    there = {model.name for model in models} | set(failures)
    not_started = [column for column in asked if column.title not in there]
    of_groups: dict[Group, list[str]] = {}
    for column in not_started:
        if column.is_default:
            of_groups.setdefault(Group(column.mode, column.dtype), []).append(column.title)
    return RunResult(
        models=tuple(models), failures=dict(failures), dataset=data.prompts.name, dataset_note=_note(settings, data),
        num_samples=settings.num_samples, device=machine.name, dtype=_dtypes(settings, machine),
        weights=settings.weights, versions=machine.versions,
        settings={name.upper(): as_text(value) for name, value in settings},
        started=started.isoformat(timespec="seconds"),
        protocol=f"{PROTOCOL}; batch size {settings.batch_size}, at least {max(settings.warmup, 1)} warm-up calls",
        rounds=settings.rounds,
        no_quality="random weights" if settings.weights == "random" else "", interrupted=interrupted,
        not_started=tuple(column.title for column in not_started), passes=settings.pass_names(),
        prompts_identity=_prompts_identity(data),
        reference_identity="" if data.reference is None else data.reference.identity,
        verdicts=decide(models, settings.rounds, interrupted, failures, of_groups),
        equal_quality=find_equal_quality(
            models, settings.rounds, settings.quality_margin, interrupted, failures,
            [column.title for column in not_started],
        ),
        frontier=find_frontier(models, settings.rounds, failures),
        notes=tuple(list_notes(asked)),
    )  # fmt: skip


def _dtypes(settings: Settings, machine: Machine) -> str:
    """Return the dtypes of the run's columns as the footer shows them."""
    return machine.dtype if settings.dtype == ("auto",) else ", ".join(settings.dtype)


def _prompts_identity(data: Data) -> str:
    """Return what tells these prompts from others; those that are left out of them count too."""
    return f"{data.prompts.identity} without {data.digest}" if data.digest else data.prompts.identity


def _note(settings: Settings, data: Data) -> str:
    """Return what the footer says of the data behind the number of requests."""
    cycles = data.prompts.cycles(settings.num_samples)
    notes = [f"each prompt was used up to {cycles} times, with new seeds"] if cycles > 1 else []
    reference = data.reference
    if settings.weights != "random":
        if reference is None:
            notes.append("no reference images")
        elif reference.belongs_to:
            notes.append(
                "the references include the images that these captions came from, so scores can fall below the floor"
            )
        else:
            notes.append(f"references: {reference.name}")
    if data.note:
        notes.append(data.note.removeprefix("; "))
    if reference is not None and (unreadable := reference.without_image()):
        notes.append(
            f"{unreadable} of {len(reference.rows)} rows have no image that decodes (input/manifest.jsonl says why)"
        )
    return "".join(f"; {note}" for note in notes)
