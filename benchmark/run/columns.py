"""The columns of a run: one for each model and mode, with its title, its folder and how it is loaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from pathlib import Path

from benchmark.console.plain_text import one_line
from benchmark.data import manifest
from benchmark.data.reference import Reference
from benchmark.measure.machine import Machine
from benchmark.report.ownership import foreign_reports
from benchmark.run import journal as journals
from benchmark.run.journal import DamagedFolder, Journal
from benchmark.settings.fields import ASSETS, SelectedModel, Settings
from benchmark.settings.titles import check_titles, folder_name, title_with_mode
from files.deletion import listed
from files.locks import foreign_locks, locked
from files.sources import expanded, is_folder
from models.base import Adaptation, ImageGenerator, Mode, Runtime


@dataclass(frozen=True)
class Column:
    """One column of the table. `load` builds the generator; nothing is loaded before it is called.

    model: the title without the mode. baseline: the title of the column that this one is the same model as, but for an
    adapter; "" for all others.
    """

    title: str
    mode: Mode
    journal: Journal
    load: Callable[[], ImageGenerator]
    model: str = ""
    baseline: str = ""


@dataclass(frozen=True)
class ChosenModel:
    """A model of the run, with its adapter where it has one, and then the same model without it."""

    model: SelectedModel
    adaptation: Adaptation | None = None
    plain: SelectedModel | None = None

    @property
    def title(self) -> str:
        return self.model.title


def choose_models(settings: Settings, dataset: str, announce: Callable[[str], None]) -> list[ChosenModel]:
    """Return the run's models in the order of the columns, an adapted one after the model that it was made of.

    An adapter is named in the settings, or lies where fine-tuning on this data set leaves it, which is announced.

    Raises:
        OSError: a named adapter is none.
        ValueError: an adapter's record of its training is damaged, or two columns would have one title.
    """
    chosen = []
    for model in settings.selected_models():
        family = model.family
        if family.variants is None:
            chosen.append(ChosenModel(model))
            continue
        # Random weights are for speed, which an adapter leaves as it is: only a named one is looked at.
        folder = settings.output_dir / dataset / family.adapter_folder
        default = folder if settings.weights != "random" and folder.is_dir() else None
        options, adaptation = family.variants(model.options, default)
        plain = replace(model, options=options)
        chosen.append(ChosenModel(plain))
        if adaptation is not None:
            adapted = ChosenModel(replace(model, options=adaptation.options), adaptation, plain)
            chosen.append(adapted)
            if not getattr(model.options, adaptation.option):
                variable = f"{family.key}_{adaptation.option}".upper()
                announce(f"{adapted.title}: adapter found in {folder} ({variable}=none leaves it out)")
    titles = [choice.title for choice in chosen]
    for title in titles:
        if titles.count(title) > 1:
            raise ValueError(f"{title} would be two columns, with an adapter's: rename that model's folder in MODELS")
    check_titles(titles, settings.mode)
    return chosen


def column_title(model: SelectedModel, mode: Mode) -> str:
    """Return the column's title; the mode stands in it where that is not the plain one."""
    return title_with_mode(model.title, mode)


def column_folder(title: str, settings: Settings, held_out: bool = False) -> Path:
    """Return where a column's images are: "VAR-d16 (compiled)" -> OUTPUT_DIR/VAR-d16-compiled.

    Images of held-out captions alone have a folder of their own, beside those of runs that asked all of them.
    """
    return settings.output_dir / folder_name(title, held_out)


def column_folders(settings: Settings, chosen: Sequence[ChosenModel]) -> list[Path]:
    """Return every folder that a run of these models may write images into, whether or not it is there."""
    titles = [column_title(choice.model, mode) for choice in chosen for mode in settings.mode]
    return [column_folder(title, settings, held_out) for title in titles for held_out in (False, True)]


def refuse_strangers(settings: Settings, dataset: str, chosen: Sequence[ChosenModel]) -> None:
    """Raise ValueError where a name that this run writes is taken by a file that is not this program's.

    So it is where the run would write into the folder of one of its models, or into results of another version.
    """
    output, references = settings.output_dir, settings.output_dir / dataset / "input"
    columns = column_folders(settings, chosen)
    refuse_models_folders(output, [*columns, references], chosen)
    for folder in columns:
        journals.refuse_earlier(folder)
    manifest.refuse_earlier(references)
    strangers = [output / name for name in foreign_reports(output)]
    for folder in columns:
        strangers += [folder / name for name in journals.foreign_files(folder, settings.num_samples)]
    strangers += [references / name for name in manifest.foreign_files(references, settings.rows_needed())]
    strangers += [folder / name for folder in (output, *columns, references) for name in foreign_locks(folder)]
    if strangers:
        raise ValueError(
            f"OUTPUT_DIR={settings.output_dir} holds files that may not be this program's at the names that it writes: "
            f"{listed(map(str, strangers))}; choose another OUTPUT_DIR (--output-dir), or move them away"
        )


def refuse_models_folders(output: Path, written: Sequence[Path], chosen: Sequence[ChosenModel]) -> None:
    """Raise ValueError where a folder that the run writes is a folder that a model's options name, or lies in one."""
    named = {
        expanded(value)
        for choice in chosen
        for field in fields(choice.model.options)
        if field.metadata.get("check") and isinstance(value := getattr(choice.model.options, field.name), str) and value
    }  # options that have a check of their value are those that name files
    for model in (folder.resolve() for folder in named if is_folder(folder)):
        for folder in (output, *written):
            if folder.resolve().is_relative_to(model):
                raise ValueError(
                    f"OUTPUT_DIR={output}: the run would write {folder} in a model's folder, {model}; choose another "
                    "OUTPUT_DIR (--output-dir)"
                )


def clear_output(settings: Settings, dataset: str, chosen: Sequence[ChosenModel]) -> None:
    """Delete what earlier runs wrote of these columns and of the data set's references: what FRESH=1 asks for.

    All marks are checked and all folders are locked before the first file is deleted.

    Raises:
        ValueError: a folder's mark is missing or damaged; nothing was deleted.
        OSError: another process uses a folder; nothing was deleted.
    """
    references = settings.output_dir / dataset / "input"
    count, rows = settings.num_samples, settings.rows_needed()
    columns = [folder for folder in column_folders(settings, chosen) if folder.is_dir()]
    places = [*columns, references] if references.is_dir() else columns
    with ExitStack() as locks:
        for is_locked in (False, True):  # before anything is written, and again when nothing can change any more
            for folder in columns:
                journals.check_clearable(folder, count)
            manifest.check_clearable(references, rows)
            if not is_locked:
                for folder in places:
                    locks.enter_context(locked(folder, "deletes what earlier runs wrote"))
        for folder in columns:
            journals.clear(folder, count)
        manifest.clear(references, rows)


def plan_columns(
    settings: Settings,
    chosen: Sequence[ChosenModel],
    machine: Machine,
    reference: Reference,
    held_out: str = "",
    failures: dict[str, str] | None = None,
) -> list[Column]:
    """Return the run's columns in the order of the table.

    held_out: the digest of what is left out of the reference, "" where nothing is. failures: takes, by title, why a
    column has no usable folder; such a column is left out and costs no other.

    Raises:
        FingerprintError: a folder holds images of other settings; nothing was generated yet.
    """
    columns = []
    for choice in chosen:
        for mode in settings.mode:
            try:
                columns.append(_plan_column(choice, mode, settings, machine, reference, held_out))
            except DamagedFolder as error:
                if failures is None:
                    raise
                failures[column_title(choice.model, mode)] = one_line(error)
    return columns


def _plan_column(
    choice: ChosenModel, mode: Mode, settings: Settings, machine: Machine, reference: Reference, held_out: str
) -> Column:
    model = choice.model
    title = column_title(model, mode)
    resolved = {
        "device": machine.name, "dtype": machine.dtype, "torch": machine.versions["torch"],
        "dataset_identity": reference.identity,
    }  # fmt: skip
    if held_out:
        resolved["held_out"] = held_out
    if choice.adaptation is not None:  # its content counts, not where it lies
        resolved[f"{model.family.key}_{choice.adaptation.option}"] = f"adapter {choice.adaptation.digest}"
    runtime = Runtime(
        weights=settings.weights, device=machine.device, dtype=machine.dtype, image_size=settings.image_size,
        assets=ASSETS, cache=settings.output_dir / "cache", mode=mode, offload=settings.offload,
        label_names=reference.label_names,
    )  # fmt: skip
    folder = column_folder(title, settings, bool(held_out))
    journal = Journal(folder, settings.fingerprint(model, mode, resolved), settings.num_samples)
    baseline = column_title(choice.plain, mode) if choice.plain is not None else ""
    return Column(title, mode, journal, lambda: model.family.load(model.options, runtime), model.title, baseline)
