"""How a training takes its folder: apart from the images, with those that it began with, and with the same settings."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import ExitStack

from files.records import Damaged, read_record, seal
from finetuning.checkpoints import whole_checkpoints
from finetuning.encodings import weights_digest
from finetuning.folder import Mark, TrainingFolder
from finetuning.images import TrainingImage
from finetuning.notes import tell
from finetuning.settings import TrainingSettings


def check_apart(settings: TrainingSettings) -> None:
    """Raise ValueError where the LoRA's folder and one of the images' folders contain each other."""
    output = settings.output_dir.resolve()
    for name in ("train_dir", "test_dir"):
        given = getattr(settings, name)
        images = given.resolve() if given is not None else None
        if images is not None and (output.is_relative_to(images) or images.is_relative_to(output)):
            raise ValueError(
                f"output_dir={settings.output_dir} and the images' folder {name}={given} must not contain each other: "
                "choose another OUTPUT_DIR"
            )


def claim(
    folder: TrainingFolder,
    settings: TrainingSettings,
    images: list[TrainingImage],
    processes: int,
    held: ExitStack,
    fresh: bool,
) -> list[TrainingImage]:
    """Keep the folder for this training, unless one is finished there, and return the images that it is about.

    Raises:
        OSError: another training holds the folder.
        ValueError: it holds a training with other settings, or files that are not ours.
    """
    if not fresh and folder.is_finished():
        folder.check_foreign()
        images = begun_with(folder, images, aloud=True)
        _compare(folder, _asked(settings, images, processes))
        return images
    held.enter_context(folder.held())
    if fresh:
        folder.clear()
    images = begun_with(folder, images, aloud=True)
    asked = _asked(settings, images, processes)
    mark = folder.read_mark()
    if mark is not None and (mark.finished or whole_checkpoints(folder.checkpoints, folder.ledger)):
        _compare(folder, asked)
        if mark.finished:
            tell(f"the LoRA in {folder.output} has changed since it was written; it is written again")
            folder.note(finished=False)
    else:
        folder.write_mark(Mark(asked))
    names = [image.path.name for image in images]
    if recorded_images(folder) != names:
        folder.ledger.write_bytes(folder.images_path, f"{seal({'pictures': names})}\n".encode())
    folder.tidy()
    return images


# What a training's folder records under names of earlier versions.
_SHOWN = {"pictures": "images", "adapter_dtype": "lora_dtype"}


def _asked(settings: TrainingSettings, images: Sequence[TrainingImage], processes: int) -> dict[str, str]:
    content = hashlib.sha256()
    for image in images:
        content.update(f"{image.file_digest} {image.caption}\n".encode())
    return settings.fingerprint() | {
        "pictures": f"{len(images)} of {content.hexdigest()[:16]}",
        "transformer": weights_digest(settings.base / "transformer")[:16],
        "processes": str(processes),
    }


def _compare(folder: TrainingFolder, asked: dict[str, str]) -> None:
    """Raise ValueError where the training that is there has other settings."""
    mark = folder.read_mark()
    found = mark.settings if mark is not None else {}
    for name, value in asked.items():
        if found.get(name) != value:
            shown = _SHOWN.get(name, name)
            raise ValueError(
                f"{folder.output} holds a training with {shown}={found.get(name)}, now {shown}={value}: "
                "set it back, choose another OUTPUT_DIR, or start over with --fresh, which deletes that training"
            )


def begun_with(folder: TrainingFolder, images: list[TrainingImage], *, aloud: bool = False) -> list[TrainingImage]:
    """Return the images that the training which is there began with, where others were only added since: the
    benchmark writes more rows into the same folder.
    """
    recorded = recorded_images(folder, aloud=aloud)
    if recorded is None:
        return images
    names = set(recorded)
    kept = [image for image in images if image.path.name in names]
    if len(kept) < len(names):
        return images
    if aloud and len(kept) < len(images):
        added = len(images) - len(kept)
        tell(
            f"{added} images were added since this training began, which goes on without them; "
            "--fresh starts over with them"
        )
    return kept


def recorded_images(folder: TrainingFolder, *, aloud: bool = False) -> list[str] | None:
    """Return the names in pictures.json, or None where there is no such file or it is damaged."""
    path = folder.images_path
    if not path.is_file():
        return None
    try:
        found = read_record(path)
        names = found.get("pictures")
        if found.keys() != {"pictures"} or not isinstance(names, list) or not all(isinstance(n, str) for n in names):
            raise Damaged("it is no list of images")
    except (OSError, Damaged) as error:
        if aloud:
            tell(f"{path} is damaged ({error}); it is written again")
        return None
    return names
