"""What a whole run found, and results.json, which holds all of it and is read back into the same object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmark.console.plain_text import visible
from benchmark.measure.findings import PassName, Roofline
from benchmark.report.cards import compare_cards
from benchmark.report.costs import energy_of, memory_of, rooflines_of, stages_of, throughput_per_joule
from benchmark.report.equal_quality import EqualQuality
from benchmark.report.findings_check import check_findings
from benchmark.report.frontier import Frontier
from benchmark.report.limits import bandwidth_share, matrix_share
from benchmark.report.model_result import Bulk as Bulk
from benchmark.report.model_result import ModelResult as ModelResult
from benchmark.report.model_result import Round as Round
from benchmark.report.numbers import has_value
from benchmark.report.typed_json import from_json, to_json
from benchmark.report.verdicts import Verdict
from files import PROGRAM
from files.reading import read_regular, shown
from files.records import Damaged, unseal, version_of, write_record

SCHEMA_VERSION = 5
# Figures of a column that follow from its rounds: in the file for its readers, and computed again when it is read.
_DERIVED = (
    "latency_s", "round_spread", "throughput_per_s", "efficiency_per_s_per_million_parameters",
    "energy_j_per_image", "energy_spread", "images_per_kwh", "throughput_per_s_per_joule", "mean_power_w",
    "stage_seconds", "peak_tensor_bytes", "peak_reserved_bytes", "matrix_share", "bandwidth_share",
    "host_images_per_s", "host_ratio", "card_speeds",
)  # fmt: skip


@dataclass(frozen=True)
class RunResult:
    """A whole run.

    failures: column, or report file, to the reason why there is none.
    dataset_note: what the footer says of the data behind the number of requests.
    rounds: how many were asked for; the verdicts are on that many.
    no_quality: why no model has quality figures ("random weights"), or "".
    interrupted: a signal ended it early, and what there is was reported. stop_status: the exit status for that signal,
    0 where none came.
    not_started: columns that an interrupted run did not come to.
    passes: which were asked for. notes: what the footer says of the run as a whole, a line each.
    prompts_identity, reference_identity: digests of the content of the prompts and of the reference images; "" where
    there are none. Scores of different references are never compared, and only the same prompts make pairs.
    verdicts: the winners, in the order in which they are printed.
    equal_quality: for each model with more than one configuration, and over all, the fastest of equal quality.
    frontier: of all columns, cost against the score that decides; None where scores cannot be compared.
    """

    models: tuple[ModelResult, ...]
    failures: Mapping[str, str]
    dataset: str
    dataset_note: str
    num_samples: int
    rounds: int
    device: str
    dtype: str
    weights: Literal["pretrained", "random", "tiny"]
    versions: Mapping[str, str]
    settings: Mapping[str, str]
    started: str
    protocol: str
    no_quality: str = ""
    interrupted: bool = False
    stop_status: int = 0
    not_started: tuple[str, ...] = ()
    passes: tuple[PassName, ...] = ()
    notes: tuple[str, ...] = ()
    prompts_identity: str = ""
    reference_identity: str = ""
    verdicts: tuple[Verdict, ...] = ()
    equal_quality: tuple[EqualQuality, ...] = ()
    frontier: Frontier | None = None


def write_results(run: RunResult, path: Path) -> None:
    """Write everything, the raw latencies too, with `schema_version` and a checksum; a NaN is written as null.

    Raises:
        OSError: it cannot be written; the former file is as it was.
    """
    content = {"program": PROGRAM, "schema_version": SCHEMA_VERSION, **to_json(run)}
    rooflines = rooflines_of(run.models)
    for column, model in zip(content["models"], run.models, strict=True):
        column |= to_json(_derived(model, rooflines.get(model.name)))
    write_record(path, content)


def read_results(path: Path | str) -> RunResult:
    """Return the run that `write_results` wrote; where a figure was NaN, it is None.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged, of another program, or of another schema version; one line that names the file.
    """
    path = Path(path)
    text = read_regular(path)
    try:
        content = _read_content(text)
        for model in content["models"] if isinstance(content.get("models"), list) else ():
            for name in _DERIVED if isinstance(model, dict) else ():
                model.pop(name, None)
        run: RunResult = from_json(RunResult, content, "")
        for number, model in enumerate(run.models):
            _check_rounds(model, f"models[{number}]")
            _check_host(model, f"models[{number}]")
    except Damaged as error:
        line = visible(f"{shown(path)} cannot be read as results: {error}")
        raise ValueError(f"{line}; run the benchmark again, which writes it anew") from error
    return run


def _check_rounds(model: ModelResult, place: str) -> None:
    """Raise Damaged where figures that follow from rounds, passes or bulk could not be computed or would lie."""
    if not model.rounds:
        raise Damaged(f"{place}.rounds is empty")
    for at, found in enumerate(model.rounds):
        if not found.latencies_s or not all(has_value(seconds) and seconds > 0 for seconds in found.latencies_s):
            raise Damaged(f"{place}.rounds[{at}].latencies_s are not all numbers above 0")
        if found.number <= (model.rounds[at - 1].number if at else -1):
            raise Damaged(f"{place}.rounds are not in order of their numbers")
        if not 0 <= found.equal <= found.compared:
            raise Damaged(f"{place}.rounds[{at}]: {found.equal} of {found.compared} images cannot be equal")
        check_findings(found.findings, found.states, f"{place}.rounds[{at}]")
    if model.bulk is not None and not (model.bulk.batch_sizes and has_value(model.bulk.images_per_s)):
        raise Damaged(f"{place}.bulk has no batch size, or its images_per_s is not a number")


def _check_host(model: ModelResult, place: str) -> None:
    """Raise Damaged where figures of the host or of its other cards could not be computed or would lie."""
    if (host := model.host_throughput) is not None:
        if host.ranks < 2:
            raise Damaged(f"{place}.host_throughput.ranks is {host.ranks} instead of 2 or more")
        for name, counted in (("together", host.together), ("alone", host.alone)):
            if counted and not all(has_value(figure) and figure > 0 for figure in (counted.images, counted.seconds)):
                raise Damaged(f"{place}.host_throughput.{name} has a figure that is not a number above 0")
    for number, card in enumerate(model.cards):
        if not card.rounds:
            raise Damaged(f"{place}.cards[{number}].rounds is empty")
        for at, made in enumerate(card.rounds):
            if not made.latencies_s or not all(has_value(seconds) and seconds > 0 for seconds in made.latencies_s):
                raise Damaged(f"{place}.cards[{number}].rounds[{at}].latencies_s are not all numbers above 0")


def _read_content(text: bytes) -> dict[str, Any]:
    """Return the fields of the run in a results.json. Raises Damaged where the file as a whole is not of this form."""
    try:
        content = unseal(text)
    except Damaged:
        if _is_other_version(version_of(text)):  # whose checksum may be made in another way
            raise _other_version(version_of(text)) from None
        raise
    if content.pop("program", None) != PROGRAM:
        raise Damaged(f"it is not of {PROGRAM}")
    version = content.pop("schema_version", None)
    if version != SCHEMA_VERSION:
        raise _other_version(version)
    return content


def _is_other_version(version: object) -> bool:
    return isinstance(version, int) and not isinstance(version, bool) and version != SCHEMA_VERSION


def _other_version(version: object) -> Damaged:
    return Damaged(f"it has schema_version {version}, and this version of the program reads {SCHEMA_VERSION}")


def _derived(model: ModelResult, roofline: Roofline | None) -> dict[str, object]:
    latency_s = {
        "mean": model.mean_latency_s, "std": model.std_latency_s,
        "min": min(model.latencies_s), "median": model.median_latency_s, "p95": model.p95_latency_s,
        "max": max(model.latencies_s),
    }  # fmt: skip
    energy, stages, memory = energy_of(model), stages_of(model), memory_of(model)
    host = model.host_throughput
    figures = (
        latency_s, model.round_spread, model.throughput_per_s, model.efficiency,
        energy and energy.joules_per_image, energy and energy.spread, energy and energy.images_per_kwh,
        throughput_per_joule(model), energy and energy.mean_power_w,
        stages and {stage.name: stage.seconds for stage in stages.stages},
        memory and memory.peak_tensor_bytes, memory and memory.peak_reserved_bytes,
        roofline and matrix_share(roofline, model.mean_latency_s),
        roofline and bandwidth_share(roofline, model.mean_latency_s),
        host and host.together and host.together.images_per_s, host and host.ratio, compare_cards(model),
    )  # fmt: skip
    return dict(zip(_DERIVED, figures, strict=True))
