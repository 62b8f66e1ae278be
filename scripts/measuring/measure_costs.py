"""Measures what every image and every rank costs the CPU, the disk and the store, for docs/scaling.md.

    python -m scripts.measuring.measure_costs                  # some minutes on a quiet machine
    python -m scripts.measuring.measure_costs --what png,store

CPU seconds are those of one thread, so that other work on the machine hardly moves them. Wall seconds move with it:
read them with the load average that the figures name. Files are written to the folder for temporary files (TMPDIR).
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch.distributed import TCPStore  # type: ignore[attr-defined]  # it is documented, and not in __all__

from benchmark.measure.clock import Clock
from benchmark.run.column_folder import lines_name
from benchmark.run.journal import Journal, pixel_digest
from benchmark.run.journal_lines import MAIN_WRITER, Batch
from files.images import read_rgb, save_png
from files.tensors import load_sealed, save_sealed
from files.writing import append_line, sync_file
from metrics.degenerate import nearest_others
from metrics.extractors.appearance import SIDE, Appearance
from metrics.images import as_tensor
from scripts.measuring.harness import describe_run, end_script, open_parser, write_report
from scripts.measuring.measure_features import write_image

CLOCK = Clock("cpu")
SIDES = (256, 512, 1024)
CLIENTS = (1, 8)  # processes that ask the store at once
VALUE_BYTES = 100  # of a sign of life
PROMPT = "a photograph of a red robot that waters flowers in front of a small house, in the evening light"


def measure(work: Callable[[], object], repeats: int) -> dict[str, float]:
    """Return the median CPU and wall milliseconds of `work`, which runs once before it counts."""
    work()
    cpu_s, wall_s = [], []
    for _ in range(repeats):
        began = time.thread_time()
        wall_s.append(CLOCK.time(work)[1])
        cpu_s.append(time.thread_time() - began)
    return {"cpu_ms": statistics.median(cpu_s) * 1e3, "wall_ms": statistics.median(wall_s) * 1e3}


def measure_png(folder: Path, sides: Sequence[int], repeats: int) -> dict[str, Any]:
    """Return, by side, what an image costs: packed, synced, its digests, decoded again. One thread."""
    found: dict[str, Any] = {}
    for side in sides:
        write_image(folder, side, 0)  # smooth noise, about as large as a photograph's
        found[str(side)] = _measure_image(read_rgb(folder / "00000.png"), folder / "packed.png", repeats)
        print(f"{side} px: {found[str(side)]}", flush=True)
    return found


def _measure_image(image: Image.Image, path: Path, repeats: int) -> dict[str, Any]:
    save_png(image, path)
    content = path.read_bytes()
    return {
        "bytes": len(content),
        "pack": measure(lambda: save_png(image, path), repeats),
        "sync": measure(lambda: _write_synced(path, content), repeats),
        "digest of the file": measure(lambda: hashlib.sha256(path.read_bytes()), repeats),
        "digest of the pixels": measure(lambda: pixel_digest(image), repeats),
        "decode": measure(lambda: as_tensor(read_rgb(path)), repeats),
    }


def _write_synced(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    sync_file(path)


def measure_sha256(repeats: int) -> dict[str, float]:
    """Return GB/s of SHA-256 in one thread, by its CPU seconds."""
    content = os.urandom(64_000_000)
    return {"gb_per_s": len(content) / 1e6 / measure(lambda: hashlib.sha256(content), repeats)["cpu_ms"]}


def measure_journal(folder: Path, images: int, repeats: int) -> dict[str, Any]:
    """Return a journal's bytes for each image by batch size, what a line costs, and seconds to read 10,000 images.

    The images are of 512 px, all of them with the same content, and in the system's memory when they are read.
    """
    pixels = Image.effect_noise((64, 64), 50).convert("RGB")
    found: dict[str, Any] = {"bytes_per_image": {}}
    for size in (1, 8, 64):
        journal = Journal(folder / f"lines-{size}", {"what": "cost"})
        with journal.locked():
            journal.record_batch(batch_of(0, size), [pixels] * size)
        text = (journal.folder / lines_name(MAIN_WRITER)).read_text()
        found["bytes_per_image"][str(size)] = len(text) / size
        if size == 8:
            line = text.rstrip("\n")
            found["line of 8 images"] = measure(lambda line=line: append_line(folder / "x.jsonl", line), repeats)  # type: ignore[misc]
    write_image(folder, 512, 1)
    large = read_rgb(folder / "00001.png")
    journal = Journal(folder / "read", {"what": "cost"})
    with journal.locked():
        for start in range(0, images, 8):
            journal.record_batch(batch_of(start, 8), [large] * 8)
    began = time.process_time()
    snapshot, wall_s = CLOCK.time(journal.read)
    cpu_s = time.process_time() - began
    again_s = CLOCK.time(journal.read)[1]  # a file that did not change is hashed once in a process
    count = len(snapshot.pixels())
    found["read"] = {
        "images": count,
        "bytes": sum(path.stat().st_size for path in (journal.folder / "output").iterdir()),
        "seconds_for_10000": {"cpu": cpu_s * 1e4 / count, "wall": wall_s * 1e4 / count, "again": again_s * 1e4 / count},
    }
    print(f"journal: {found}", flush=True)
    return found


def batch_of(start: int, size: int) -> Batch:
    indices = tuple(range(start, start + size))
    return Batch(indices, 1.0, (PROMPT,) * size, batch_size=size, purpose="bulk", ended_at_s=1.8e9)


def measure_store(clients: Sequence[int], requests: int, keys: int) -> dict[str, Any]:
    """Return requests/s that a TCPStore on this machine answers, by the processes that ask, and ms to read all keys.

    A request is a sign of life: one set and one check. keys: as many as there are ranks.
    """
    store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=60))
    found: dict[str, Any] = {"signs_per_s": {}}
    context = multiprocessing.get_context("spawn")
    for count in clients:
        with context.Pool(count) as pool:
            pool.map(_connect, [store.port] * count, chunksize=1)
            spans = pool.starmap(_ask, [(store.port, requests)] * count, chunksize=1)
        wall_s = max(ended for _, ended in spans) - min(began for began, _ in spans)
        found["signs_per_s"][str(count)] = count * requests / wall_s
    names = [f"sign/{number}" for number in range(keys)]
    for name in names:
        store.set(name, "x" * VALUE_BYTES)
    found["read_all"] = {"keys": keys, "ms": statistics.median(
        CLOCK.time(lambda: store.multi_get(names))[1] for _ in range(20)
    ) * 1e3}  # fmt: skip
    print(f"store: {found}", flush=True)
    return found


def _connect(port: int) -> Any:
    return TCPStore("localhost", port, is_master=False, wait_for_workers=False).port


def _ask(port: int, requests: int) -> tuple[float, float]:
    """Ask, and return when that began and ended: on Linux the clock is the same for all processes."""
    store = TCPStore("localhost", port, is_master=False, wait_for_workers=False)
    name, value = f"sign/{os.getpid()}", "x" * VALUE_BYTES
    began = CLOCK.now()
    for _ in range(requests):
        store.set(name, value)
        store.check(["lost"])
    return began, CLOCK.now()


def measure_gather(images: int, width: int = 2048) -> dict[str, float]:
    """Return the bytes and ms of `images` rows of features, written to a cache by one process and read by another."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "features"
        rows_ND = torch.rand(images, width)
        _, write_s = CLOCK.time(lambda: save_sealed(path, {"features": rows_ND}, path.name))
        _, read_s = CLOCK.time(lambda: load_sealed(path, path.name))
        size = path.stat().st_size
    return {"images": images, "bytes_per_image": size / images, "write_ms": write_s * 1e3, "read_ms": read_s * 1e3}


def measure_copies(images: int, repeats: int) -> dict[str, Any]:
    """Return what looking for copies costs: a thumbnail of 512 px, and comparing those of `images` images."""
    image_CHW = torch.randint(0, 256, (3, 512, 512), dtype=torch.uint8)
    rows_ND = 255 * torch.rand(images, 3 * SIDE * SIDE)
    return {
        "images": images,
        "a thumbnail": measure(lambda: Appearance().extract([image_CHW]), repeats),
        "comparing them": measure(lambda: nearest_others(rows_ND), 1),
    }


def main(given: Sequence[str] | None = None) -> int:
    """Measure what was asked."""
    parser = open_parser(__file__, __doc__, repeats=30, repeated="times that each of the small things is done")
    everything = "png,sha256,journal,store,gather,copies"
    parser.add_argument("--what", default=everything, help="some of these [%(default)s]")
    arguments = parser.parse_args(given)
    repeats, images, requests, keys, rows = arguments.repeats, 800, 20_000, 1000, 10_000
    sides: Sequence[int] = SIDES
    if arguments.tiny:
        repeats, images, requests, keys, rows, sides = 2, 8, 20, 10, 10, (64,)
    about, report = describe_run(__file__), dict[str, Any]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        measurements: dict[str, Callable[[], Any]] = {
            "png": lambda: measure_png(folder, sides, repeats),
            "sha256": lambda: measure_sha256(repeats),
            "journal": lambda: measure_journal(folder, images, repeats),
            "store": lambda: measure_store(CLIENTS[:1] if arguments.tiny else CLIENTS, requests, keys),
            "gather": lambda: measure_gather(rows),
            "copies": lambda: measure_copies(rows, repeats),
        }
        for what in arguments.what.split(","):
            if what not in measurements:
                parser.error(f"no measurement {what!r}; there are {', '.join(measurements)}")
            report[what] = measurements[what]()
            write_report(arguments.output, about, report)
    return 0


if __name__ == "__main__":
    end_script(__file__, main)
