"""What has been generated: PNGs and one line for each batch, written so that a kill loses only the work in flight."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from PIL import Image

SCHEMA_VERSION = 1


class FingerprintError(ValueError):
    """The folder holds images made with other settings."""


@dataclass(frozen=True)
class Batch:
    """One timed generate() call: requests start..stop-1, what each was asked for, and the seconds for all of them.

    `cold` marks a first call in a process that did no warm-up: it is kept, but not a latency.
    """

    start: int
    stop: int
    seconds: float
    prompts: tuple[str, ...]
    cold: bool = False

    @property
    def size(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Loaded:
    """What is known of a model once it is loaded and warm, written once for each process that loads it."""

    name: str
    parameters: int
    image_size: int
    notes: tuple[str, ...]
    load_s: float
    first_call_s: float | None
    warmup_s: float
    peak_memory_bytes: int | None = None


class Journal:
    """The folder of one model's images: `output/00000.png`, `timings.jsonl`, `fingerprint.json`.

    Raises FingerprintError where the folder holds another fingerprint: images of two settings are never mixed.
    """

    def __init__(self, folder: Path, fingerprint: Mapping[str, str]) -> None:
        self.folder = folder
        self._images = folder / "output"
        self._timings = folder / "timings.jsonl"
        self._claim(dict(fingerprint))
        self._cut_torn_line()

    @staticmethod
    def clear(folder: Path) -> None:
        """Delete what a journal wrote in `folder`, and nothing else."""
        shutil.rmtree(folder / "output", ignore_errors=True)
        for name in ("timings.jsonl", "fingerprint.json"):
            (folder / name).unlink(missing_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep the folder for this process while it generates; a kill lets go of it.

        Raises OSError where another process generates into it: the two would make the same images.
        """
        try:
            with FileLock(self.folder / ".lock", timeout=0):
                yield
        except Timeout:
            raise OSError(
                f"another run is writing into {self.folder}: wait for it, or choose another OUTPUT_DIR"
            ) from None

    def image_path(self, index: int) -> Path:
        """Return where request `index`'s picture is, or will be."""
        return self._images / f"{index:05d}.png"

    def batches(self) -> list[Batch]:
        """Return every recorded batch whose pictures are all there, in the order of their indices.

        A batch made twice (its pictures were lost, or the run was extended past a short last batch) counts once:
        the later line stands.
        """
        latest: dict[int, Batch] = {}
        for line in self._lines("batch"):
            batch = Batch(line["start"], line["stop"], line["seconds"], tuple(line["prompts"]), line["cold"])
            latest[batch.start] = batch
        return [latest[start] for start in sorted(latest) if self._is_whole(latest[start])]

    def loaded(self) -> Loaded | None:
        """Return what the last process that loaded the model wrote, with the highest peak memory of all of them."""
        lines = self._lines("loaded")
        if not lines:
            return None
        peaks = [line["peak_memory_bytes"] for line in lines + self._lines("finished") if line.get("peak_memory_bytes")]
        fields = {name: value for name, value in lines[-1].items() if name != "kind"}
        fields |= {"notes": tuple(fields["notes"]), "peak_memory_bytes": max(peaks, default=None)}
        return Loaded(**fields)

    def record_loaded(self, loaded: Loaded) -> None:
        self._append({"kind": "loaded", **asdict(loaded)})

    def record_finished(self, peak_memory_bytes: int | None, loop_s: float, timed_s: float) -> None:
        """Record the whole loop's wall time beside the timed part of it: the difference is our own overhead."""
        self._append({"kind": "finished", "peak_memory_bytes": peak_memory_bytes, "loop_s": loop_s, "timed_s": timed_s})

    def record_batch(self, batch: Batch, images: Sequence[Image.Image]) -> None:
        """Write the batch's pictures, and then its line: a line says that its pictures are durable."""
        assert len(images) == batch.size, f"{len(images)} images for requests {batch.start}..{batch.stop - 1}"
        self._images.mkdir(parents=True, exist_ok=True)
        for index, image in zip(range(batch.start, batch.stop), images, strict=True):
            path = self.image_path(index)
            partial = path.with_suffix(".partial")
            with partial.open("wb") as file:
                image.save(file, format="PNG", compress_level=1)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        self._append({"kind": "batch", **asdict(batch)})

    def _is_whole(self, batch: Batch) -> bool:
        return all(self.image_path(index).is_file() for index in range(batch.start, batch.stop))

    def _claim(self, fingerprint: dict[str, str]) -> None:
        path = self.folder / "fingerprint.json"
        if not path.is_file():
            self.folder.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".partial")
            partial.write_text(json.dumps({"schema_version": SCHEMA_VERSION, **fingerprint}, indent=1))
            partial.replace(path)
            return
        found = _read_json(path, path.read_text())
        for name, value in {"schema_version": SCHEMA_VERSION, **fingerprint}.items():
            if found.get(name) != value:
                raise FingerprintError(
                    f"{self.folder} holds images made with {name}={found.get(name)}, now {name}={value}: "
                    "set it back, choose another OUTPUT_DIR, or start over with FRESH=1"
                )

    def _lines(self, kind: str) -> list[dict[str, Any]]:
        if not self._timings.is_file():
            return []
        lines = [_read_json(self._timings, line) for line in self._timings.read_text().splitlines()]
        return [line for line in lines if line["kind"] == kind]

    def _append(self, line: Mapping[str, object]) -> None:
        with self._timings.open("a") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _cut_torn_line(self) -> None:
        """Drop the last line where a kill left it without its end."""
        if not self._timings.is_file():
            return
        content = self._timings.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            with self._timings.open("r+b") as file:
                file.truncate(whole)


def _read_json(path: Path, text: str) -> dict[str, Any]:
    """Return the object in `text`, which was read from `path`. Raises ValueError with the remedy where it is none."""
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is damaged ({error}); delete {path.parent}, or start over with FRESH=1") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path} is damaged (no JSON object); delete {path.parent}, or start over with FRESH=1")
    return found
