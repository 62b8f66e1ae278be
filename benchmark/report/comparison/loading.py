"""The runs that a comparison is asked for: each a results.json, or the OUTPUT_DIR that holds one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark.report.ownership import REPORT_NAMES
from benchmark.report.results import RunResult, read_results
from files.reading import is_there, shown
from files.sources import is_folder

_JSON_NAME = REPORT_NAMES[0]


@dataclass(frozen=True)
class NamedRun:
    """A run with the path that it was asked for by."""

    name: str
    run: RunResult


def load_run(place: str) -> NamedRun:
    """Return the run of a results.json, or of the one in a folder.

    Raises:
        OSError: it cannot be read.
        ValueError: there is no such file, or it is no results.json of this version, or it has no column.
    """
    path = Path(place)
    if is_folder(path):
        path /= _JSON_NAME
    if not is_there(path):
        raise ValueError(f"{shown(path)} does not exist: give a results.json, or the OUTPUT_DIR of a run that has one")
    run = read_results(path)
    if not run.models:
        raise ValueError(f"{shown(path)} has no column: every model failed")
    return NamedRun(place, run)


def load_runs(places: Sequence[str]) -> list[NamedRun]:
    """Return the runs in their order. Raises as `load_run`, and ValueError for a run that is named twice."""
    seen: dict[Path, str] = {}
    for place in places:
        path = Path(place).resolve()
        path = path / _JSON_NAME if is_folder(path) else path
        if path in seen:
            raise ValueError(f"{shown(seen[path])} and {shown(place)} are the same run: name two")
        seen[path] = place
    return [load_run(place) for place in places]
