"""What differs between two runs beside their figures: the machine, versions, settings, data, identities of scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmark.measure.findings import MachineState
from benchmark.report.comparison.pairing import ColumnPair
from benchmark.report.results import ModelResult, RunResult

UNKNOWN = "unknown"
# Settings that say where and how much, or that come again below as what they became.
_NOT_TOLD = frozenset({"OUTPUT_DIR", "FRESH", "OFFLINE", "DTYPE", "DEVICE"})


@dataclass(frozen=True)
class Difference:
    """One thing that is not the same in both runs.

    column: the pair of columns that it is about; "" where it holds for the whole run.
    """

    what: str
    old: str
    new: str
    column: str = ""


def find_differences(old: RunResult, new: RunResult, pairs: Sequence[ColumnPair]) -> tuple[Difference, ...]:
    """Return what differs: of the machine, versions, data and settings, then of each pair of columns."""
    found = [
        *_of_mappings(_machine(old), _machine(new)),
        *_of_mappings(dict(old.versions), dict(new.versions)),
        *_of_mappings(_data(old), _data(new)),
        *_of_mappings(_settings(old), _settings(new)),
    ]
    told = {(each.what, each.old, each.new) for each in found}
    for pair in pairs:
        found += [
            Difference(each.what, each.old, each.new, pair.name)
            for each in _of_mappings(_column(pair.old), _column(pair.new))
            if (each.what, each.old, each.new) not in told
        ]
    return (*found, *_of_scores(pairs))


def cards_of(models: Sequence[ModelResult]) -> tuple[str, ...]:
    """Return the UUIDs of the cards that the columns' rounds ran on, sorted; empty where they are not known."""
    return _told(models, lambda state: state.card_uuid)


def is_same_machine(old: RunResult, new: RunResult, pair: ColumnPair) -> bool:
    """Return whether the two columns were timed on one card, by its UUID.

    Where the card is not known, as on a CPU, the names of the devices and the numbers of cores are compared: two
    machines that are alike in these are taken for one.
    """
    old_cards, new_cards = cards_of([pair.old]), cards_of([pair.new])
    if old_cards and new_cards:
        return old_cards == new_cards
    old_cores, new_cores = _cores([pair.old]), _cores([pair.new])
    return old.device == new.device and (old_cores == new_cores or not old_cores or not new_cores)


def _told(models: Sequence[ModelResult], tell: Callable[[MachineState], str]) -> tuple[str, ...]:
    states = (state for model in models for made in model.undisturbed_rounds for state in made.states)
    return tuple(sorted({text for state in states if (text := tell(state))}))


def _cores(models: Sequence[ModelResult]) -> tuple[str, ...]:
    return _told(models, lambda state: str(state.cpu_cores or ""))


def _machine(run: RunResult) -> dict[str, str]:
    return {
        "device": run.device,
        "card": ", ".join(cards_of(run.models)) or UNKNOWN,
        "driver": ", ".join(_told(run.models, lambda state: state.driver)) or UNKNOWN,
        "CPU cores": ", ".join(_cores(run.models)) or UNKNOWN,
        "CPU governor": ", ".join(_told(run.models, lambda state: state.cpu_governor)) or UNKNOWN,
        "dtype": run.dtype,
    }


def _data(run: RunResult) -> dict[str, str]:
    return {
        "data set": run.dataset, "prompts": run.prompts_identity or UNKNOWN,
        "references": run.reference_identity or "none",
    }  # fmt: skip


def _settings(run: RunResult) -> dict[str, str]:
    return {name: value for name, value in run.settings.items() if name not in _NOT_TOLD}


def _column(model: ModelResult) -> dict[str, str]:
    return {
        **model.options, **model.axes, "MODE": model.mode, "batch size": str(model.batch_size),
        "image size": f"{model.image_size} px", "parameters": f"{model.parameters:,}",
        "images": str(model.images), "timed images": str(model.timed_images),
    }  # fmt: skip


def _of_mappings(old: Mapping[str, str], new: Mapping[str, str]) -> list[Difference]:
    """Return the entries that are not the same, in the order in which they are met."""
    return [
        Difference(name, old.get(name, "not recorded"), new.get(name, "not recorded"))
        for name in dict.fromkeys([*old, *new])
        if old.get(name) != new.get(name)
    ]


def _of_scores(pairs: Sequence[ColumnPair]) -> list[Difference]:
    """Return each identity of a score, and each number of images, that is not the same: once for the same columns."""
    names: dict[tuple[str, str, str], list[str]] = {}
    for pair in pairs:
        for score in pair.new.scores:
            before = pair.old.score(score.key)
            if before is None:
                continue
            if before.identity != score.identity:
                names.setdefault((f"identity of {score.short}", before.identity, score.identity), []).append(pair.name)
            counts = [f"{each.n_generated} against {each.n_reference}" for each in (before, score)]
            if counts[0] != counts[1]:
                names.setdefault((f"images of {score.short}", counts[0], counts[1]), []).append(pair.name)
    return [
        Difference(what, old, new, "" if len(whose) == len(pairs) else ", ".join(whose))
        for (what, old, new), whose in names.items()
    ]
