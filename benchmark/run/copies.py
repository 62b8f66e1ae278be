"""Copies of one run's OUTPUT_DIR, made by hosts without a shared file system: which of their columns are the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import models
from benchmark.data import manifest
from benchmark.run import column_folder
from benchmark.run.column_folder import MARK_NAME, journals_in
from benchmark.run.journal import Journal
from benchmark.run.journal_lines import Batch
from benchmark.run.recorded import recorded_lines
from benchmark.settings.column_key import FAMILY
from benchmark.settings.fields import Settings
from benchmark.settings.fingerprint import defaults_of
from benchmark.settings.selection import SelectedModel
from files import PROGRAM
from files.deletion import listed
from files.locks import foreign_locks
from files.records import Damaged, read_record

_INPUTS = f"*/input/{manifest.NAME}"


@dataclass(frozen=True)
class Join:
    """One column of a run: where its copies are joined, and the folders of the other copies.

    target: in the first copy; it need not exist. fingerprint: as it is recorded there, or will be.
    """

    target: Path
    fingerprint: Mapping[str, Any]
    sources: tuple[Path, ...]


def plan_joins(outputs: Sequence[Path]) -> list[Join]:
    """Return how the columns of the other copies are joined to those of the first; nothing is written.

    outputs: the OUTPUT_DIR of each copy. Columns belong together where their fingerprints are the same, wherever they
    lie. One that the first copy lacks gets the place there that it has in the other copy.

    Raises:
        ValueError: these are no copies of one run, or a folder is damaged or holds files that are not this program's.
        OSError: a folder cannot be read.
    """
    _check_places(outputs)
    columns = {output: _marks(output) for output in outputs}
    inputs = {output: sorted(output.glob(_INPUTS)) for output in outputs}
    for output in outputs:
        if not columns[output] and not inputs[output]:
            raise ValueError(
                f"{output} is no OUTPUT_DIR of this program: no folder in it has a {MARK_NAME} or input/{manifest.NAME}"
            )
    _check_inputs(inputs)
    first, *others = outputs
    targets = dict(columns[first])
    sources: dict[Path, list[Path]] = {target: [] for target in targets}
    for output in others:
        for folder, mark in columns[output].items():
            target = _target(first / folder.name, folder, mark, targets)
            targets.setdefault(target, mark)
            sources.setdefault(target, []).append(folder)
    joins = [Join(target, mark, tuple(sources[target])) for target, mark in targets.items()]
    for join in joins:
        _check_target(join)
    return joins


def _check_places(outputs: Sequence[Path]) -> None:
    if len(outputs) < 2:
        raise ValueError("one copy has nothing to be joined with: name two OUTPUT_DIRs of one run, or more")
    for output in outputs:
        if not output.is_dir():
            raise ValueError(f"{output} is no folder: name the OUTPUT_DIR of each copy")
        if (output / MARK_NAME).is_file():
            raise ValueError(f"{output} is the folder of one column: name the OUTPUT_DIR that it lies in")
    for place, output in enumerate(outputs):
        for other in outputs[:place]:
            if output.samefile(other):
                raise ValueError(f"{other} and {output} are the same folder: name each copy once")
            for inner, outer in ((output, other), (other, output)):
                if inner.resolve().is_relative_to(outer.resolve()):
                    raise ValueError(f"{inner} lies in {outer}: copies that are joined lie beside each other")


def _marks(output: Path) -> dict[Path, dict[str, Any]]:
    """Return the fingerprint of each column in an OUTPUT_DIR, by folder. Raises where it cannot be told what one is."""
    found = {}
    for folder in sorted(path for path in output.iterdir() if path.is_dir()):
        path, journals = folder / MARK_NAME, journals_in(folder)
        if not path.is_file():
            if journals:
                raise ValueError(
                    f"{folder} holds {listed(journal.name for journal in journals)} and no {MARK_NAME}, which says "
                    "with what settings its images were made: copy it again, or move the folder away"
                )
            continue
        if not journals and PROGRAM.encode() not in path.read_bytes():
            continue  # another program's
        column_folder.refuse_earlier(folder)
        try:
            mark = read_record(path)
        except Damaged as error:
            raise ValueError(
                f"{path} is damaged ({error}): copy it again, or run with OUTPUT_DIR={output}, which writes it again "
                "where the journals tell what it said"
            ) from None
        if mark.get("program") == PROGRAM:
            found[folder] = mark
    return found


def _target(
    place: Path, folder: Path, mark: Mapping[str, Any], targets: Mapping[Path, Mapping[str, Any]]
) -> Path:  # fmt: skip
    """Return which of `targets` has the column of `folder`; `place`, if it is free, where there is no such target."""
    same = [target for target, of_target in targets.items() if not _differing(of_target, mark)]
    if same:
        return place if place in same else same[0]
    if place not in targets:
        return place
    differing = _differing(targets[place], mark)
    raise ValueError(
        f"{folder} holds images made {_told(mark, differing)}, {place} {_told(targets[place], differing)}: "
        "they are no copies of one run"
    )


def _differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """Return the settings that two fingerprints differ in. One that a fingerprint lacks counts as its default."""
    names = dict.fromkeys((*first, *second))
    differing = [name for name in names if first.get(name) != second.get(name)]
    if all(name in first and name in second for name in differing):
        return differing
    defaults = _defaults(first)
    return [name for name in differing if first.get(name, defaults.get(name)) != second.get(name, defaults.get(name))]


def _defaults(mark: Mapping[str, Any]) -> dict[str, str]:
    """Return what a setting is that the fingerprint of a column of this model lacks."""
    family = next((family for family in models.FAMILIES if family.key == mark.get(FAMILY)), None)
    if family is None:
        return {}
    return defaults_of(Settings.model_construct(weights=mark.get("WEIGHTS")), SelectedModel(family, family.options))


def _told(mark: Mapping[str, Any], names: Sequence[str]) -> str:
    return listed(f"with {name}={mark[name]}" if name in mark else f"without {name}" for name in names)


def _check_inputs(inputs: Mapping[Path, Sequence[Path]]) -> None:
    """Raise ValueError where two copies have prompts and references of two data sets in the folders of one name."""
    found: dict[str, tuple[Path, object]] = {}
    for output, paths in inputs.items():
        for path in paths:
            manifest.refuse_earlier(path.parent)
            try:
                identity = manifest.read_header(path.parent).get("identity")
            except Damaged as error:
                raise ValueError(
                    f"{path} is damaged, its first line does not say what it holds ({error}): run with "
                    f"OUTPUT_DIR={output}, which writes it again where the rows tell what it said"
                ) from None
            other, of_other = found.setdefault(str(path.relative_to(output)), (path.parent, identity))
            if identity != of_other:
                raise ValueError(
                    f"{path.parent} holds the data set [{identity}], {other} [{of_other}]: they are no copies of "
                    "one run"
                )


def _check_target(join: Join) -> None:
    """Raise ValueError where the target holds files of others at names that the join writes."""
    if any(folder.samefile(join.target) for folder in join.sources if join.target.exists()):
        raise ValueError(f"{join.target} is a link to the other copy: there is nothing to be joined")
    Journal(join.target, join.fingerprint)
    lines = [line for folder in join.sources for line in recorded_lines(folder)]
    count = max((line.stop for line in lines if isinstance(line, Batch)), default=0)
    if strangers := [*column_folder.foreign_files(join.target, count), *foreign_locks(join.target)]:
        raise ValueError(
            f"{join.target} holds files that may not be this program's at the names that it writes: "
            f"{listed(strangers)}; move them away"
        )
