"""Where the columns of a run are in OUTPUT_DIR: found by their keys, refused where others' files are, and cleared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from benchmark.data import manifest
from benchmark.report.ownership import foreign_reports
from benchmark.run import column_folder
from benchmark.run.column_folder import MARK_NAME, SCHEMA_VERSION
from benchmark.run.columns import Column
from benchmark.settings.fingerprint import as_text, defaults_of
from benchmark.settings.titles import compared, folder_name
from files import PROGRAM
from files.deletion import listed
from files.locks import foreign_locks, locked
from files.reading import is_there
from files.records import Damaged, read_record
from files.sources import expanded, is_folder

HELD_OUT = "HELD_OUT"


def place_columns(output: Path, columns: Sequence[Column], held_out: bool = False) -> list[Path]:
    """Return each column's folder in OUTPUT_DIR: the one whose fingerprint has its key, or a new one's.

    A new one is called as the model, with its mode and what a sweep varies; where that name is taken, by a column of
    another key, a digest of the key follows. held_out: the columns' images are of held-out captions alone, and have
    folders of their own.
    """
    return _place(output, columns, held_out, _read_marks(output))


def _place(
    output: Path, columns: Sequence[Column], held_out: bool, marks: Mapping[Path, Mapping[str, Any]]
) -> list[Path]:
    taken: dict[str, Path] = {}
    placed = []
    for column in columns:
        folder = _recorded(column, marks, held_out) or _new_folder(output, column, marks, held_out, taken)
        taken[compared(folder.name)] = folder
        placed.append(folder)
    return placed


def _read_marks(output: Path) -> dict[Path, dict[str, Any]]:
    """Return the fingerprints in OUTPUT_DIR that this version wrote, by folder; what is damaged is left out."""
    found = {}
    for folder in sorted(output.iterdir()) if output.is_dir() else []:
        try:
            if (folder / MARK_NAME).is_file():
                mark = read_record(folder / MARK_NAME)
                if mark.get("program") == PROGRAM and mark.get("schema_version") == SCHEMA_VERSION:
                    found[folder] = mark
        except (Damaged, OSError):
            continue
    return found


def _recorded(column: Column, marks: Mapping[Path, Mapping[str, Any]], held_out: bool) -> Path | None:
    """Return the folder whose fingerprint has the column's key; of several the one with most of the settings."""
    defaults = defaults_of(column.settings, column.model)
    found = [
        folder for folder, mark in marks.items()
        if (HELD_OUT in mark) == held_out and column.key.matches(mark, defaults)
    ]  # fmt: skip
    asked = {name.upper(): as_text(value) for name, value in column.settings}
    return max(
        found, key=lambda folder: sum(asked.get(name) == text for name, text in marks[folder].items()), default=None
    )


def _new_folder(
    output: Path, column: Column, marks: Mapping[Path, object], held_out: bool, taken: Mapping[str, Path]
) -> Path:
    name = folder_name(column.name, column.key.axes, held_out, column.swept)
    used = {compared(folder.name) for folder in marks} | set(taken)
    return output / (f"{name}-{column.key.digest}" if compared(name) in used else name)


def written_folders(output: Path, columns: Sequence[Column]) -> list[Path]:
    """Return every folder that a run of these columns may write images into, whether or not it is there."""
    marks = _read_marks(output)  # once for both kinds
    places = zip(*(_place(output, columns, held_out, marks) for held_out in (False, True)), strict=True)
    return [folder for both in places for folder in both]


def refuse_strangers(
    output: Path, columns: Sequence[Column], count: int, references: Sequence[tuple[Path, int]]
) -> None:
    """Raise ValueError where a name that this run writes is taken by a file that is not this program's.

    So it is where the run would write into the folder of one of its models, or into results of another version.
    count: how many images a column has. references: the folders of reference images, each with its number of rows.
    """
    folders = written_folders(output, columns)
    inputs = [folder for folder, _ in references]
    refuse_models_folders(output, [*folders, *inputs], columns)
    for folder in folders:
        column_folder.refuse_earlier(folder)
    for folder in inputs:
        manifest.refuse_earlier(folder)
    strangers = [output / name for name in foreign_reports(output)]
    for folder in folders:
        strangers += [folder / name for name in column_folder.foreign_files(folder, count)]
    for folder, rows in references:
        strangers += [folder / name for name in manifest.foreign_files(folder, rows)]
    strangers += [folder / name for folder in (output, *folders, *inputs) for name in foreign_locks(folder)]
    if strangers:
        raise ValueError(
            f"OUTPUT_DIR={output} holds files that may not be this program's at the names that it writes: "
            f"{listed(map(str, strangers))}; choose another OUTPUT_DIR (--output-dir), or move them away"
        )


def refuse_models_folders(output: Path, written: Sequence[Path], columns: Sequence[Column]) -> None:
    """Raise ValueError where a folder that the run writes is a folder that a model's options name, or lies in one."""
    named = {
        expanded(value)
        for column in columns
        for field in fields(column.model.options)
        if field.metadata.get("check") and isinstance(value := getattr(column.model.options, field.name), str) and value
    }  # options that have a check of their value are those that name files
    for model in (folder.resolve() for folder in named if is_folder(folder)):
        for folder in (output, *written):
            if folder.resolve().is_relative_to(model):
                raise ValueError(
                    f"OUTPUT_DIR={output}: the run would write {folder} in a model's folder, {model}; choose another "
                    "OUTPUT_DIR (--output-dir)"
                )


def clear_output(output: Path, columns: Sequence[Column], count: int, references: Sequence[tuple[Path, int]]) -> None:
    """Delete what earlier runs wrote of these columns and of the references: what FRESH=1 asks for.

    All marks are checked and all folders are locked before the first file is deleted.

    Raises:
        ValueError: a folder's mark is missing or damaged; nothing was deleted.
        OSError: another process uses a folder; nothing was deleted.
    """
    folders = [folder for folder in written_folders(output, columns) if folder.is_dir()]
    inputs = [(folder, rows) for folder, rows in references if is_there(folder)]
    _check_clearable(folders, count, inputs)  # before anything is written
    with _all_locked([*folders, *(folder for folder, _ in inputs)]):
        _check_clearable(folders, count, inputs)  # when nothing can change any more
        for folder in folders:
            column_folder.clear(folder, count)
        for folder, rows in inputs:
            manifest.clear(folder, rows)


def _check_clearable(folders: Sequence[Path], count: int, references: Sequence[tuple[Path, int]]) -> None:
    for folder in folders:
        column_folder.check_clearable(folder, count)
    for folder, rows in references:
        manifest.check_clearable(folder, rows)


@contextmanager
def _all_locked(folders: Sequence[Path]) -> Iterator[None]:
    with ExitStack() as locks:
        for folder in folders:
            locks.enter_context(locked(folder, "deletes what earlier runs wrote"))
        yield
