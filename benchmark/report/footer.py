"""The footer of a report: what the table must be read with."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmark.report.cost_notes import list_cost_notes, list_passes_not_run
from benchmark.report.disturbances import list_disturbances
from benchmark.report.host_notes import list_card_notes, list_host_notes
from benchmark.report.numbers import has_value, paired_interval, shown_interval, shown_number, shown_percent
from benchmark.report.reasons import group_reasons
from benchmark.report.results import ModelResult, Round, RunResult
from metrics.base import Score

FRECHET_BIASED_BELOW = 5000
WEIGHTS_MEANING = {
    "pretrained": "official, from the hub or from the local folders named in results.json",
    "random": "random, in the full-size architectures: speed and memory are real, the images are noise",
    "tiny": "small embedded models of the same architectures, not the published ones",
}


def footer_lines(run: RunResult) -> list[str]:
    """Return what the table must be read with: machine, data, protocol, rounds, weights, identities, costs, notes."""
    versions = ", ".join(f"{name} {version}" for name, version in run.versions.items())
    lines = [
        f"Device: {run.device}, {run.dtype}; {versions}; {run.started}",
        f"Data: {run.dataset}, {run.num_samples} requests per model{run.dataset_note}",
        f"Protocol: {run.protocol}",
        *run.notes,
        *_rounds(run),
        *_bulk(run.models),
        *list_host_notes(run.models),
        f"Weights: {WEIGHTS_MEANING[run.weights]}",
    ]
    lines += [f"Quality: n/a ({run.no_quality})"] if run.no_quality else _identities(run.models)
    if not run.no_quality:
        lines += [*_paired(run.models), *_unscored(run.models)]
    lines += [*list_cost_notes(run.models), *list_passes_not_run(run.models, run.passes, run.rounds)]
    lines += [*list_card_notes(run.models), *list_disturbances(run.models)]
    for model in run.models:
        lines += [f"{model.name}: WARNING: {warning}" for warning in model.warnings]
        lines += [f"{model.name}: {note}" for note in model.notes]
        lines += _about_rounds(model, run.rounds)
        if model.images < run.num_samples:
            lines.append(f"{model.name}: {model.images} of {run.num_samples} images")
    lines += [f"{name}: failed: {reason}" for name, reason in run.failures.items()]
    lines += [f"{name}: not started" for name in run.not_started]
    if run.interrupted:
        lines.append("Interrupted; partial results. Run the same command to resume.")
    return lines


def _rounds(run: RunResult) -> list[str]:
    """Return how often the columns were timed, how far the rounds lie apart, and whether they made the same images."""
    if not run.models:
        return []
    timed = _each(run.models, lambda model: str(model.timed_images), len(run.models))
    fresh = "in a fresh process" if run.rounds == 1 else "each in a fresh process"
    lines = [f"Rounds: {run.rounds}, {fresh}, {timed} timed images"]
    spreads = [(model.name, model.round_spread) for model in run.models]
    shown = ", ".join(f"{name} {shown_percent(spread)}" for name, spread in spreads if spread is not None)
    if shown:
        lines.append(f"Spread between rounds (standard deviation of round means): {shown}")
    same = [model for model in run.models if 0 < compared_images(model)[1] == compared_images(model)[0]]
    if same:
        counts = _each(same, lambda model: "{} of {}".format(*compared_images(model)), len(run.models))
        lines.append(f"Images of later rounds equal to those that were kept, in each column: {counts}")
    return lines


def _about_rounds(model: ModelResult, rounds: int) -> list[str]:
    """Return what is wrong with the rounds of one column."""
    lines = []
    equal, compared = compared_images(model)
    if equal < compared:
        others = _named([found for found in model.rounds if found.equal < found.compared])
        lines.append(
            f"{compared - equal} of {compared} images of later rounds differ from those that were kept, if only in "
            f"rounding ({others})"
        )
    complete = sum(found.complete for found in model.rounds)
    if complete < rounds:
        partial = [found for found in model.rounds if not found.complete]
        parts = [f"; round {found.number + 1}: {found.images} of {model.timed_images} images" for found in partial]
        lines.append(f"{complete} of {rounds} rounds complete{''.join(parts)}")
    unsettled = [found for found in model.rounds if not found.warmup_agreed]
    if unsettled:
        lines.append(f"the warm-up calls did not settle on one time in {_named(unsettled)} of {rounds}")
    return [f"{model.name}: {line}" for line in lines]


def compared_images(model: ModelResult) -> tuple[int, int]:
    """Return how many images of later rounds are equal to those that were kept, and how many were compared."""
    return sum(found.equal for found in model.rounds), sum(found.compared for found in model.rounds)


def _bulk(models: Sequence[ModelResult]) -> list[str]:
    """Return at which batch sizes the images were made, where not all of them at that of the timed ones."""
    bulk = [model for model in models if model.bulk is not None]
    if not bulk:
        return []
    timed = _each(bulk, lambda model: str(model.batch_size), len(bulk))
    sizes = _each(
        bulk, lambda model: ", then ".join(map(str, model.bulk.batch_sizes)) if model.bulk else "", len(models)
    )
    return [f"Bulk: images beyond the timed ones at batch size {sizes}; the timed ones at batch size {timed}"]


def _each(models: Sequence[ModelResult], text: Callable[[ModelResult], str], count: int) -> str:
    """Return the text that holds for all of `count` columns, or each text with the columns that it holds for."""
    names: dict[str, list[str]] = {}
    for model in models:
        names.setdefault(text(model), []).append(model.name)
    if len(names) == 1 and len(models) == count:
        return next(iter(names))
    return ", ".join(f"{found} ({', '.join(whose)})" for found, whose in names.items())


def _named(rounds: Sequence[Round]) -> str:
    """Return "round 1", or "rounds 1, 3": counted from 1, as the progress counts them."""
    return f"round{'s' * (len(rounds) > 1)} {', '.join(str(found.number + 1) for found in rounds)}"


def _paired(models: Sequence[ModelResult]) -> list[str]:
    """One line for each column that is another with a LoRA: what that changed, of the same prompts and seeds."""
    by_name = {model.name: model for model in models}
    lines = []
    for model in models:
        baseline = by_name.get(model.baseline)
        if baseline is None:
            continue
        changes = []
        for score in model.scores:
            before = baseline.score(score.key)
            if before is None or (before.identity, before.n_generated) != (score.identity, score.n_generated):
                continue
            if not (has_value(before.value) and has_value(score.value)):
                continue
            text = f"{score.short} {score.value - before.value:+.{score.decimals}f}"
            interval = paired_interval(score, before)
            if interval is not None:
                text += f" (95 %: {interval[0]:+.{score.decimals}f}..{interval[1]:+.{score.decimals}f})"
            changes.append(text)
        if changes:
            lines.append(f"{model.name} against {baseline.name}, paired: {', '.join(changes)}")
    return lines


def _unscored(models: Sequence[ModelResult]) -> list[str]:
    """One line for each reason why metrics have no value: which of them, for which models."""
    lines = []
    for text, rows, columns in group_reasons({model.name: model.unscored for model in models}):
        whose = f" for {', '.join(columns)}" if columns else ""
        lines.append(f"No {', '.join(rows)}{whose}: {text}")
    return lines


def _identities(models: Sequence[ModelResult]) -> list[str]:
    """One line for each kind of score: what it was computed with, on how many images, and how sure it is."""
    lines: dict[str, list[str]] = {}
    for model in models:
        for score in model.scores:
            against = f" against {score.n_reference}" if score.n_reference else ""
            line = f"{score.short}: {score.identity}, N = {score.n_generated}{against}"
            if has_value(score.floor):
                at = "" if score.floor_count == score.n_generated else f" at N = {score.floor_count}"
                line += f"; {score.floor_meaning} {shown_number(score.floor, score.decimals)}{at}"
            if score.key == "fid" and score.n_generated < FRECHET_BIASED_BELOW:
                line += f"; biased upwards below {FRECHET_BIASED_BELOW:,} images; small differences are noise"
            lines.setdefault(line, []).append(_interval(score, model))
    return [
        line + (f"; 95 % interval {', '.join(filter(None, intervals))}" if any(intervals) else "")
        for line, intervals in lines.items()
    ]


def _interval(score: Score, model: ModelResult) -> str:
    shown = shown_interval(score.interval, score.decimals)
    return f"{model.name} {shown}" if shown else ""
