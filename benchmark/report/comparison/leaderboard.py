"""A leaderboard of the columns of many runs, ranked among those that can be compared, with the card of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from benchmark.report.comparison.counted_rounds import counted_means_s
from benchmark.report.comparison.differences import cards_of
from benchmark.report.comparison.estimates import compare_latencies, compare_scores
from benchmark.report.comparison.loading import NamedRun
from benchmark.report.comparison.rows import asked_the_same
from benchmark.report.comparison.two_runs import deciding_score
from benchmark.report.costs import energy_of
from benchmark.report.latency_ratios import TIE_CONFIDENCE, t_interval
from benchmark.report.numbers import has_value
from benchmark.report.results import ModelResult, RunResult
from benchmark.report.verdict import Outcome
from metrics.base import Score

Sort = Literal["score", "speed"]


@dataclass(frozen=True)
class Entry:
    """One column of one run.

    run: the path that the run was asked for by. device: its name. card: UUIDs, "" where they are not known.
    settings: all that the column was made with. differing: those of them that are not the same in all entries of its
    model family, or that all entries have and that are not the same in all of them.
    latency_s, latency_interval: the mean over timed batches, and the 95 % interval of the mean of rounds.
    score: of the leaderboard's key, None where it has none.
    behind: the first of its section against this one: WIN where the first is better beyond the 95 % interval, TIE where
    that lies within 3 %, else UNDECIDED; None of the first itself, and where no interval is known.
    """

    run: str
    started: str
    column: str
    family: str
    device: str
    card: str
    driver: str
    settings: Mapping[str, str]
    parameters: int
    images: int
    rounds: int
    latency_s: float
    latency_interval: tuple[float, float] | None
    energy_j: float | None
    peak_memory_bytes: int | None
    score: Score | None
    differing: Mapping[str, str]
    behind: Outcome | None = None


@dataclass(frozen=True)
class Section:
    """Entries that can be compared with each other, the best first. title: what they have in common."""

    title: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Leaderboard:
    """The sections, those with most entries first. key, short, better: the score that they are ranked by, or ""."""

    sort: Sort
    key: str
    short: str
    better: Literal["lower", "higher"]
    sections: tuple[Section, ...]


@dataclass(frozen=True)
class _Placed:
    """An entry with what it was made of."""

    entry: Entry
    run: RunResult
    model: ModelResult


def rank_runs(runs: Sequence[NamedRun], sort: str | None = None, across_machines: bool = False) -> Leaderboard:
    """Return the leaderboard: by the score that decides where a column has it, or by speed.

    sort: "score", "speed", or None for the first that there is. across_machines: rank speeds of all machines together.

    Raises:
        ValueError: it is to be ranked by a score, and no run has one that decides.
    """
    key = _key(runs)
    if sort == "score" and not key:
        raise ValueError("--sort score: no run has a score that decides; --sort speed ranks by speed")
    by_score = bool(key) and sort != "speed"
    placed = [_place(named, model, key) for named in runs for model in named.run.models]
    differing = _differing([each.entry for each in placed])
    placed = [
        replace(each, entry=replace(each.entry, differing=own)) for each, own in zip(placed, differing, strict=True)
    ]
    like = next((each.entry.score for each in placed if each.entry.score is not None), None)
    tell = _kind_of_score if by_score else (lambda _: "all machines") if across_machines else _machine
    groups: dict[Hashable, list[_Placed]] = {}
    for each in placed:
        groups.setdefault(tell(each), []).append(each)
    sections = [_section(group, by_score, str(title)) for title, group in groups.items()]
    sections.sort(key=lambda section: (section.title == _NO_SCORE, -len(section.entries)))
    return Leaderboard(
        "score" if by_score else "speed", key, "" if like is None else like.short,
        "lower" if like is None else like.better, tuple(sections),
    )  # fmt: skip


_NO_SCORE = "columns without this score"


def _key(runs: Sequence[NamedRun]) -> str:
    """Return the key of the score that decides in most runs, "" where in no one of them."""
    keys = Counter(key for named in runs if (key := deciding_score(named.run)))
    return keys.most_common(1)[0][0] if keys else ""


def _place(named: NamedRun, model: ModelResult, key: str) -> _Placed:
    run, cost = named.run, energy_of(model)
    energy_j = None if cost is None else cost.joules_per_image
    means_s = counted_means_s(model)
    score = model.score(key) if key else None
    drivers = sorted({state.driver for made in model.rounds for state in made.states if state.driver})
    entry = Entry(
        named.name, run.started, model.name, model.family, run.device, ", ".join(cards_of([model])),
        ", ".join(drivers), _settings(run, model), model.parameters, model.images, len(means_s), model.mean_latency_s,
        t_interval(means_s, TIE_CONFIDENCE) if len(means_s) > 1 else None, energy_j,
        model.peak_memory_bytes, score if score is not None and has_value(score.value) else None, {},
    )  # fmt: skip
    return _Placed(entry, run, model)


def _settings(run: RunResult, model: ModelResult) -> dict[str, str]:
    return {
        "MODE": model.mode, "DTYPE": run.dtype, "WEIGHTS": run.weights, **model.axes, **model.options,
        "batch size": str(model.batch_size), "image size": f"{model.image_size} px", "data": run.dataset,
        "prompts": run.prompts_identity, "references": run.reference_identity,
        "seed": run.settings.get("SEED", ""), **run.versions,
    }  # fmt: skip


def _differing(entries: Sequence[Entry]) -> list[dict[str, str]]:
    """Return of each entry the settings that are not the same in all entries of its family, or in all entries."""
    found = []
    for entry in entries:
        own = {}
        for name, value in entry.settings.items():
            having = [other for other in entries if name in other.settings]
            others = having if len(having) == len(entries) else [o for o in having if o.family == entry.family]
            if any(other.settings[name] != value for other in others):
                own[name] = value
        found.append(own)
    return found


def _kind_of_score(placed: _Placed) -> Hashable:
    score = placed.entry.score
    if score is None:
        return _NO_SCORE
    against = f" against {score.n_reference}" if score.n_reference else ""
    references = f", references {placed.run.reference_identity}" if placed.run.reference_identity else ""
    return f"{score.short}: {score.identity}, N = {score.n_generated}{against}{references}"


def _machine(placed: _Placed) -> Hashable:
    return f"{placed.entry.device} {placed.entry.card}".strip()


def _section(group: Sequence[_Placed], by_score: bool, title: str) -> Section:
    scored = by_score and title != _NO_SCORE

    def place(each: _Placed) -> float:
        score = each.entry.score
        if scored and score is not None:
            return score.value if score.better == "lower" else -score.value
        return each.entry.latency_s

    ranked = sorted(group, key=place)
    against: Callable[[_Placed, _Placed], Outcome | None] = _by_score if scored else _by_speed
    if not scored and len({_machine(each) for each in ranked}) > 1:
        title = f"{title} (of different machines)" if title != _NO_SCORE else title
    entries = [replace(each.entry, behind=against(ranked[0], each)) for each in ranked[1:]]
    return Section(title, (ranked[0].entry, *entries))


def _by_score(first: _Placed, other: _Placed) -> Outcome | None:
    one, two = first.entry.score, other.entry.score
    assert one is not None
    assert two is not None
    found = compare_scores(two, one, asked_the_same(first.run, other.run))
    return None if found is None else found[0].outcome_of_difference(one.value)


def _by_speed(first: _Placed, other: _Placed) -> Outcome | None:
    """Return what Welch's interval says, of columns of one run too, whose rounds could be paired."""
    estimate = compare_latencies(counted_means_s(other.model), counted_means_s(first.model))
    return None if estimate is None else estimate.outcome_of_ratio()
