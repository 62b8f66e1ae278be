"""The folder of a training: its mark, its list of files, and what of it may be deleted.

`training/settings.json` is the mark; `training/files.jsonl` names every file that a training wrote there and beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from files.deletion import delete_named, listed
from files.ledger import Ledger
from files.locks import LOCK_NAME, is_lock, locked
from files.reading import is_there
from files.records import Damaged, read_record, write_record
from files.writing import remove_leftovers
from finetuning.notes import tell
from models.loras.files import CONFIG_NAME, TRAINING_DATA_NAME, WEIGHTS_NAME

LORA_NAMES = (CONFIG_NAME, WEIGHTS_NAME, TRAINING_DATA_NAME)
_SUBFOLDERS = ("checkpoints", "validation", "tensorboard")
# The names that a training writes in `training/`, the mark and the list left out.
_PATTERNS = (
    "pictures.json", "metrics.jsonl", "loss.png", "checkpoints/step-*.pt", "validation/step-*.png",
    "tensorboard/events.out.tfevents.*",
)  # fmt: skip


@dataclass(frozen=True)
class Mark:
    """What settings.json tells of a training.

    settings: what decides the weights. finished: whether the LoRA was written. compiled: whether the compiler was
    used; None where it was not asked for. gradient_error: by how much its gradients differed; "nan" and "inf" as text.
    """

    settings: Mapping[str, str]
    finished: bool = False
    compiled: bool | None = None
    gradient_error: float | str | None = None


class TrainingFolder:
    """What lies in `output` of a training: `path` is `output/training`, `ledger` names the files that are ours."""

    def __init__(self, output: Path) -> None:
        self.output, self.path = output, output / "training"
        self.mark_path = self.path / "settings.json"
        self.images_path = self.path / "pictures.json"
        self.checkpoints = self.path / "checkpoints"
        self.validation = self.path / "validation"
        self.ledger = Ledger(output, self.path / "files.jsonl")

    def read_mark(self) -> Mark | None:
        """Return what settings.json tells, or None where there is none.

        Raises:
            ValueError: it is damaged.
        """
        path = self.mark_path
        if not (path.exists() or path.is_symlink()):
            return None
        try:
            return _as_mark(read_record(path))
        except (OSError, Damaged) as error:
            raise ValueError(
                f"{path} is damaged or of an earlier version ({error}): the training there cannot go on, and nothing "
                f"is deleted; choose another OUTPUT_DIR. There are {listed(self._there())}"
            ) from error

    def write_mark(self, mark: Mark) -> None:
        """Write settings.json. Raises OSError."""
        write_record(self.mark_path, asdict(mark))

    def note(self, **facts: Any) -> None:
        """Change what settings.json tells."""
        mark = self.read_mark()
        assert mark is not None, "a training under way has its mark"
        self.write_mark(replace(mark, **facts))

    def check_foreign(self) -> None:
        """Raise ValueError where files that are not ours stand at names that a training writes; the text names some."""
        has_mark = self.read_mark() is not None
        folders = [self.path, *(self.path / name for name in _SUBFOLDERS)]
        foreign = [path.name for path in folders if path.is_symlink() or (path.exists() and not path.is_dir())]
        if is_there(self.path / LOCK_NAME) and not is_lock(self.path / LOCK_NAME):
            foreign.append(f"training/{LOCK_NAME}")
        if has_mark:
            foreign += self.ledger.foreign(self._candidates())
        else:
            foreign += self._there()
        if foreign:
            told = f" ({self.ledger.damaged})" if self.ledger.damaged else ""
            raise ValueError(
                f"{self.output} holds files that this program did not write, under names that a training uses: "
                f"{listed(foreign)}{told}: choose another OUTPUT_DIR"
            )

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep the folder for this process during the block.

        Raises:
            OSError: another training holds it.
            ValueError: see `check_foreign` and `read_mark`.
        """
        if not is_lock(self.path / LOCK_NAME):
            self.check_foreign()  # before anything is written
        self.path.mkdir(parents=True, exist_ok=True)
        with locked(self.path, "trains a LoRA"):
            self.ledger = Ledger(self.output, self.ledger.path)  # the holder before may have written
            self.check_foreign()
            if self.ledger.damaged:
                tell(f"{self.ledger.damaged}; --fresh no longer deletes the file that was named there")
            yield

    def tidy(self) -> None:
        """Remove what killed processes left half written; call it while the folder is held and has its mark."""
        for place in (self.output, self.path, *(self.path / name for name in _SUBFOLDERS)):
            remove_leftovers(place)

    def clear(self) -> None:
        """Delete the files that our list names, and nothing else; call it while the folder is held.

        Raises:
            OSError: a file cannot be deleted.
            ValueError: the mark is damaged; nothing was deleted.
        """
        if self.read_mark() is None:
            return
        delete_named(self.output, self.ledger.names())
        # Last, so that a kill leaves a folder that is still known as ours.
        self.ledger.path.unlink(missing_ok=True)
        self.mark_path.unlink(missing_ok=True)
        self.ledger = Ledger(self.output, self.ledger.path)

    def is_finished(self) -> bool:
        """Return whether the training is done and its LoRA as it was written. Raises as `read_mark`."""
        mark = self.read_mark()
        return mark is not None and mark.finished and self.has_lora()

    def has_lora(self) -> bool:
        """Return whether the LoRA is there as a training wrote it."""
        return all(self.ledger.is_whole(self.output / name) for name in LORA_NAMES)

    def _candidates(self) -> list[Path]:
        """Return the paths of this folder that a training writes and that may be there."""
        made = [path for pattern in _PATTERNS for path in sorted(self.path.glob(pattern))]
        return [self.output / name for name in LORA_NAMES] + made

    def _there(self) -> list[str]:
        """Return the names of the files that are there at names that a training writes."""
        paths = (*self._candidates(), self.mark_path, self.ledger.path)
        return [path.relative_to(self.output).as_posix() for path in paths if path.is_symlink() or path.exists()]


def _as_mark(record: dict[str, Any]) -> Mark:
    """Return a record of settings.json. Raises Damaged where it is none."""
    settings, error = record.get("settings"), record.get("gradient_error")
    whole = (
        record.keys() == {"settings", "finished", "compiled", "gradient_error"}
        and isinstance(settings, dict)
        and all(isinstance(value, str) for value in settings.values())
        and isinstance(record["finished"], bool)
        and isinstance(record["compiled"], bool | None)
        and (isinstance(error, float | None) or error in ("nan", "inf"))
    )
    if not whole:
        raise Damaged("it is no record of a training")
    return Mark(**record)
