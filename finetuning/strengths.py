"""A LoRA at several strengths on one domain of captions: the benchmark's run, with a sweep over PIXART_LORA_SCALE.

Strength 0 is the column without the LoRA. The columns of the other strengths are compared on the first captions alone,
and have no more images than that takes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from benchmark.console.interruption import stop_on_interrupt
from benchmark.console.progress import Progress
from benchmark.data.prompts import PromptSet
from benchmark.data.run_data import Data, Sources
from benchmark.measure.machine import Machine
from benchmark.report.contact_sheet import SheetRow
from benchmark.run.columns import Column
from benchmark.run.evaluation import Evaluated, sheet_rows
from benchmark.run.jobs import Job, open_jobs
from benchmark.run.phases import claim_output_dir, evaluate_jobs, fetch, prepare
from benchmark.run.plan import plan_run
from benchmark.run.rounds import generate
from benchmark.settings.fields import Settings
from benchmark.settings.runtime import scoring_of
from finetuning.held_out import spread
from finetuning.page import BASE, LORA, DomainFindings
from metrics.base import Comparison, ImageSet, Score, Scoring
from metrics.scoring import Scored, open_metrics, score_all

CURVE_METRIC = "kid"  # unbiased, so that few captions are enough
FLOOR_METRICS = ("fid", "kid", "prdc")


@dataclass(frozen=True)
class DomainRun:
    """What the benchmark found on one domain. base, lora: the columns of strength 0 and 1."""

    findings: DomainFindings
    data: Data
    base: Evaluated
    lora: Evaluated

    def sheet_rows(self) -> list[SheetRow]:
        """Return the contact sheet's rows: what both made of the first captions, and the real image."""
        named = [
            replace(found, result=replace(found.result, name=name))
            for name, found in ((BASE, self.base), (LORA, self.lora))
        ]
        return sheet_rows(named, self.data, self.findings.count)


def run_domain(
    settings: Settings,
    sources: Sources,
    curve_samples: int,
    machine: Machine,
    progress: Progress,
    training: ImageSet | None = None,
) -> DomainRun:
    """Make what lacks of the images of a domain's captions, without the LoRA and at each strength, and score them.

    settings: SWEEP is over PIXART_LORA_SCALE and has 1; NUM_SAMPLES is the most captions that are asked. curve_samples:
    captions of the curve. training: the images that were trained on, for what copies and floors tell; None outside of
    the target.

    Raises:
        OSError, ValueError: as the phases of a run; or a column could not be made, or a strength has no distance.
        Stopped: a signal came; the next call goes on from there.
    """
    claim_output_dir(settings.output_dir)
    failures: dict[str, str] = {}
    plan = plan_run(settings, machine, progress.note, sources)
    if settings.weights != "tiny":  # the embedded model's scores need no download
        fetch(plan, machine, progress, failures)
        _raise_first(failures)
    data = prepare(plan, progress)
    count = min(settings.num_samples, len(data.prompts.prompts))
    few = min(curve_samples, count)
    columns = [_with_samples(column, count if _is_end(column) else few) for column in plan.columns]
    if training is not None:
        data = replace(data, left_out={column.name: training for column in columns})
    jobs = open_jobs(columns, machine, data.prompts.identity, data.prompts.label_names, data.digest, failures)
    _raise_first(failures)
    _refuse_other_captions(jobs, data.prompts)
    ends = [job for job in jobs if _is_end(job.column)]
    whole = settings.model_copy(update={"num_samples": count, "num_references": count})
    first = settings.model_copy(update={"num_samples": few, "num_references": few, "metrics": (CURVE_METRIC,)})
    with stop_on_interrupt() as stop:
        generate(jobs, data.prompts, machine.device, progress, stop, failures)
        stop.raise_stopped()
        _raise_first(failures)
        scored = evaluate_jobs(whole, ends, data, machine, progress, stop, failures)
        curve = evaluate_jobs(first, jobs, data, machine, progress, stop, failures)
        stop.raise_stopped()
        _raise_first(failures)
    base, lora = scored
    distances = {
        strength_of(job.column): _distance(found.result.scores, found.result.unscored, job.title)
        for job, found in zip(jobs, curve, strict=True)
    }
    findings = DomainFindings(
        name=sources.name, count=count, before=_by_key(base.result.scores), after=_by_key(lora.result.scores),
        unscored=lora.result.unscored, curve=dict(sorted(distances.items())), curve_count=few,
        remarks=_remarks(data, base, lora),
    )  # fmt: skip
    if training is not None:
        scoring = scoring_of(settings, machine.device, progress.counted)
        findings = _with_floors(findings, data, training, scoring)
    return DomainRun(findings, data, base, lora)


def strength_of(column: Column) -> float:
    """Return the strength of the LoRA in a column, 0 without it."""
    return 0.0 if column.lora is None else float(column.model.options.lora_scale)


def _is_end(column: Column) -> bool:
    """Return whether a column is the base or the whole LoRA, which are compared on all captions."""
    return strength_of(column) in (0.0, 1.0)


def _with_samples(column: Column, count: int) -> Column:
    return replace(column, settings=column.settings.model_copy(update={"num_samples": count}))


def _raise_first(failures: Mapping[str, str]) -> None:
    for title, reason in failures.items():
        raise ValueError(f"{title} failed: {reason}")


def _refuse_other_captions(jobs: Sequence[Job], prompts: PromptSet) -> None:
    """Raise ValueError where a folder has images of other captions: those of a folder of images can be edited."""
    for job in jobs:
        asked = job.journal.read().asked(job.column.settings.num_samples)
        changed = [index for index, text in asked.items() if text != prompts.row(index).text]
        if changed:
            raise ValueError(
                f"{job.journal.folder} holds images of other captions, first image {changed[0]}: choose another "
                "--output_dir, or start over with FRESH=1"
            )


def _with_floors(findings: DomainFindings, data: Data, training: ImageSet, scoring: Scoring) -> DomainFindings:
    """Return the findings with the scores of as many training images, in the place of generated ones.

    They are real, and none is of a held-out caption: a model whose images are as good as real ones scores this.
    """
    assert data.reference is not None, "a domain has real images"

    reference = data.reference

    def score(count: int, names: Sequence[str]) -> Scored:
        return score_all(open_metrics(names, scoring), Comparison(spread(training, count), reference.images(count)))

    whole, first = score(findings.count, FLOOR_METRICS), score(findings.curve_count, (CURVE_METRIC,))
    curve_floor = _distance(first.scores, first.unscored, training.name)
    return replace(findings, floor=_by_key(whole.scores), curve_floor=curve_floor)


def _distance(scores: Sequence[Score], unscored: Mapping[str, str], name: str) -> Score:
    """Return the distance of the curve. Raises ValueError where there is none; the text says why."""
    found = _by_key(scores).get(CURVE_METRIC)
    if found is None:
        raise ValueError(f"no distance of {name}: {unscored.get(CURVE_METRIC)}")
    return found


def _by_key(scores: Sequence[Score]) -> dict[str, Score]:
    return {score.key: score for score in scores}


def _remarks(data: Data, *columns: Evaluated) -> tuple[str, ...]:
    """Return what the scores must be read with: what was left out of the captions, and what is wrong with images."""
    warnings = (f"{column.result.name}: {warning}" for column in columns for warning in column.result.warnings)
    return tuple(filter(None, (data.note, *warnings)))
