"""What settings ask of this machine, as far as it shows before anything is read: paths, devices, models' files.

Nothing here imports torch or opens more than names of files, so that a refusal takes no second.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path

import models
from benchmark.data.sources import find_dataset, find_reference, is_same
from benchmark.data.sources.image_files import nothing_found
from benchmark.data.sources.image_tables import TABLE_NAMES
from benchmark.measure.accelerators import count_gpus
from benchmark.settings.axes import axes_of, configurations
from benchmark.settings.fields import Settings
from benchmark.settings.runtime import runtime_of
from benchmark.settings.titles import check_dataset_name
from files.image_kinds import SUFFIXES
from files.listing import list_folder
from files.reading import is_there, shown

MOST_ENTRIES = 20_000  # of a folder, looked at for images: some tenths of a second


def check_preconditions(settings: Settings) -> None:
    """Check what the settings name, and that parts of it do not exclude each other.

    Raises:
        ValueError, OSError: one line with the variable, what was found, and what to do.
    """
    check_output_dir(settings.output_dir)
    columns = (settings.image_column, settings.caption_column)
    check_data("DATASET", settings.dataset, find_dataset(settings.dataset, *columns), settings.output_dir)
    if settings.reference and not is_same(settings.dataset, settings.reference):
        place = find_reference(settings.reference)
        check_data("REFERENCE", settings.reference, place, settings.output_dir)
    check_device(settings.device, settings.offload)
    check_device_map(settings)
    check_configurations(settings)
    check_reach(settings)


def check_configurations(settings: Settings) -> None:
    """Check that each model can be loaded with its options, in each mode and dtype, and with each value of a sweep.

    Raises:
        ValueError, OSError: one line with the reason.
    """
    axes = axes_of(settings)
    for model in settings.selected_models():
        if model.family.check is None:
            continue
        for configuration, point in configurations(model, axes):
            for dtype in settings.dtype:
                one = settings.model_copy(update={"dtype": (dtype,)})
                for mode in settings.mode:
                    try:
                        model.family.check(configuration.options, runtime_of(one, mode))
                    except (OSError, ValueError) as error:
                        if not point:
                            raise
                        values = ", ".join(f"{name}={shown(str(value))}" for name, value in point.items())
                        kind = OSError if isinstance(error, OSError) else ValueError
                        raise kind(f"SWEEP: {model.title} with {values}: {error}") from error


def check_reach(settings: Settings) -> None:
    """Check that each option of a model's family that was set reaches a column of this run.

    What the files on this machine do not tell yet is no fault: ask again once the hub's indexes are here.

    Raises:
        ValueError: one reaches none; one line with the reason.
    """
    check_families(settings)
    axes = axes_of(settings)
    selected = [model for model in settings.selected_models() if model.family.unreached is not None]
    chosen = [(entry, *each) for entry, model in enumerate(selected) for each in configurations(model, axes)]
    runtime = runtime_of(settings.model_copy(update={"dtype": settings.dtype[:1]}), settings.mode[0])
    for family in {model.family.key: model.family for model in selected}.values():
        assert family.unreached is not None
        defaults = {field.name: field.default for field in dataclasses.fields(family.options)}
        missed = [
            (entry, model, point, family.unreached(model.options, runtime))
            for entry, model, point in chosen
            if model.family.key == family.key
        ]
        for entry, model, point, unreached in missed:
            for option, reason in unreached.items():
                # An option that a sweep varies has to reach each model that it names. Its default asks for nothing.
                asking = [
                    others for whose, other, _, others in missed
                    if getattr(other.options, option) != defaults[option] and (option not in point or whose == entry)
                ]  # fmt: skip
                if all(option in others for others in asking):
                    variable = f"{family.key}_{option}".upper()
                    value = getattr(model.options, option)
                    value = shown(str(int(value) if isinstance(value, bool) else value))
                    raise ValueError(f"{variable}={value} reaches no column: {model.title}: {reason}; leave it out")


def check_families(settings: Settings) -> None:
    """Raise ValueError where an option was set, to another value than its default, of a family that has no column."""
    present = {model.family.key for model in settings.selected_models()}
    for family in models.FAMILIES:
        for option in dataclasses.fields(family.options) if family.key not in present else ():
            name = f"{family.key}_{option.name}"
            default = family.tiny_options.get(option.name) if settings.weights == "tiny" else None
            value = getattr(settings, name)
            if name in settings.model_fields_set and value not in (option.default, default):
                text = shown(str(int(value) if isinstance(value, bool) else value))
                raise ValueError(
                    f"{name.upper()}={text} reaches no column of this run: it has no {family.key}; leave it out"
                )


def check_data(variable: str, name: str, place: Path | None, output: Path) -> None:
    """Check a data set of DATASET or REFERENCE. place: its folder or file, None for one that is in no place here.

    Raises:
        ValueError: its name is one that the program writes, its folder overlaps OUTPUT_DIR, or holds nothing of use.
    """
    is_directory = place is not None and place.is_dir()
    called = name.rpartition("/")[2] if place is None else place.resolve().name if is_directory else place.stem
    check_dataset_name(called, variable)
    if place is not None and is_directory:
        refuse_overlap(output, place, variable)
        refuse_bare(place, variable)


def check_output_dir(folder: Path) -> None:
    """Check that a folder can be made and written, without making it. Raises OSError where it cannot."""
    path = folder
    try:
        while not is_there(path) and path != path.parent:
            path = path.parent
        if not path.is_dir():
            raise OSError(
                f"OUTPUT_DIR={shown(folder)} cannot be made: {shown(path)} is no folder; "
                "choose another folder, or move that away"
            )
        if not os.access(path, os.W_OK | os.X_OK):
            raise OSError(f"OUTPUT_DIR={shown(folder)}: {shown(path)} cannot be written; choose a folder you may write")
    except ValueError as error:  # a NUL
        raise OSError(f"OUTPUT_DIR={shown(folder)} cannot be a folder's name ({error})") from None
    except OSError as error:
        if error.strerror is None:
            raise
        raise OSError(f"OUTPUT_DIR={shown(folder)} cannot be made ({error.strerror}); choose another folder") from None


def refuse_overlap(output: Path, data: Path, variable: str = "DATASET") -> None:
    """Raise ValueError where the run's folder and the data set's are the same, or one lies in the other.

    Symlinks are followed; a folder that is mounted at two places counts as one.
    """
    inner, outer = _identities(output), _identities(data)
    what = (
        "is the data set's folder"
        if inner[0] == outer[0]
        else "lies in the data set's folder"
        if outer[0] in inner
        else "holds the data set's folder"
        if inner[0] in outer
        else ""
    )
    if what:
        raise ValueError(
            f"OUTPUT_DIR={shown(output)} {what} {variable}={shown(data)}: the run would write among your images; "
            "choose an OUTPUT_DIR outside of it"
        )


def refuse_bare(folder: Path, variable: str = "DATASET") -> None:
    """Raise ValueError where a data set's folder holds nothing that could be one, as far as its first files tell."""
    seen = 0
    for _, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 (of many thousands)
            if not name.startswith(".") and (suffix in SUFFIXES or suffix == ".parquet" or name in TABLE_NAMES):
                return
        seen += len(folders) + len(files)
        if seen > MOST_ENTRIES:
            return  # the data set tells when it is opened
    listing = list_folder(folder)
    if not listing.images:
        raise ValueError(f"{variable}={nothing_found(listing)}")


def _identities(folder: Path) -> list[object]:
    """Return what tells a folder and all above it from others: the file system's own numbers where it exists."""
    folder = folder.resolve()
    found: list[object] = []
    for place in (folder, *folder.parents):
        try:
            state = place.stat()
            found.append((state.st_dev, state.st_ino) if state.st_ino else str(place))
        except OSError:
            found.append(str(place))
    return found


def check_device(device: str, offload: bool) -> None:
    """Raise ValueError where a GPU is asked for that this machine does not have, as far as its driver says."""
    wanted = device.partition(":")
    if wanted[0] != "cuda" and not offload:
        return
    if offload and device == "cpu":
        raise ValueError("OFFLOAD=1 moves weights to and from a GPU, but DEVICE is cpu: set OFFLOAD=0 or DEVICE=cuda")
    count = count_gpus()
    if count is None:
        return  # torch tells, before data is read
    if wanted[0] == "cuda" and int(wanted[2] or 0) >= count:
        names = f"; there is cuda:0 to cuda:{count - 1}" if count else ""
        raise ValueError(
            f"DEVICE={device}: this machine shows {count} GPU(s){names}; use DEVICE=cpu, or fix the driver or "
            "CUDA_VISIBLE_DEVICES"
        )
    if offload and count == 0:
        raise ValueError("OFFLOAD=1 moves weights to and from a GPU, and this machine shows none: set OFFLOAD=0")


def check_device_map(settings: Settings, environment: Mapping[str, str] = os.environ) -> None:
    """Check that DEVICE_MAP, where it is set, is for pipelines of the hub alone, with several GPUs for this process.

    Raises:
        ValueError: one line with what stands against it, and what to do.
    """
    if not settings.device_map:
        return
    asked = f"DEVICE_MAP={settings.device_map}"
    others = dict.fromkeys(
        model.title for model in settings.selected_models() if not model.family.takes_device_map
    )  # fmt: skip
    if others:
        raise ValueError(
            f"{asked} spreads hub: pipelines alone, and this run has {', '.join(map(shown, others))}: give those a run "
            "of their own, and name the pipelines in MODELS (MODELS=hub:org/name)"
        )
    if settings.device not in ("auto", "cuda"):
        raise ValueError(
            f"{asked} spreads a pipeline over all GPUs that CUDA_VISIBLE_DEVICES leaves, but DEVICE is "
            f"{settings.device}: set DEVICE=cuda, or leave DEVICE_MAP out"
        )
    ranks = environment.get("WORLD_SIZE", "1")
    if ranks.isdecimal() and int(ranks) > 1:
        raise ValueError(
            f"{asked} needs several GPUs in one process, but a launcher started {int(ranks)}, and each rank has one "
            "GPU: run it without torchrun or accelerate launch"
        )
    count = count_gpus()
    if count is not None and count < 2:
        found = "one GPU leaves nothing to balance" if count else "this machine shows no GPU"
        raise ValueError(
            f"{asked} needs at least two GPUs, and {found}: leave it out, or let CUDA_VISIBLE_DEVICES name several"
        )
