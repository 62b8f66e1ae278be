"""Which files in an output folder are ours, told by what is in them: no other program's is replaced or deleted."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from files import PROGRAM
from files.deletion import deletable, listed
from files.images import is_our_png
from files.reading import is_there, read_regular
from files.records import Damaged

REPORT_NAMES = ("results.json", "results.csv", "samples.png", "report.html")
GENERATOR = f'<meta name="generator" content="{PROGRAM}">'  # in the head of report.html
CSV_COLUMNS = (
    "model", "mode", "parameters", "images", "batch_size", "image_size_px", "mean_latency_s", "std_latency_s",
    "min_latency_s", "max_latency_s", "throughput_per_s", "peak_memory_bytes", "load_s", "first_call_s",
)  # fmt: skip
_HEAD_BYTES = 4096
_PROGRAM_ENTRY = re.compile(rb'"program":\s*"' + re.escape(PROGRAM.encode()) + rb'"')
# Versions without that entry wrote these.
_EARLIER_KEYS = frozenset({"schema_version", "models", "failures", "num_samples", "protocol", "started"})


def foreign_reports(output_dir: Path) -> list[str]:
    """Return which names of our report files are taken in `output_dir` by what this program did not write.

    A damaged results.json is ours while its entry "program" can be read. A symlink, folder or pipe is not ours.
    """
    is_ours: dict[str, Callable[[Path], bool]] = {
        "results.json": _is_our_json,
        "results.csv": lambda path: _head(path).startswith(",".join(CSV_COLUMNS).encode()),
        "samples.png": is_our_png,
        "report.html": lambda path: GENERATOR.encode() in _head(path),
    }
    return [name for name in REPORT_NAMES if is_there(output_dir / name) and not (
        _is_file(output_dir / name) and is_ours[name](output_dir / name)
    )]  # fmt: skip


def _is_file(path: Path) -> bool:
    return stat.S_ISREG(path.lstat().st_mode)


def _head(path: Path) -> bytes:
    """Return the first bytes of a regular file, b"" where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(_HEAD_BYTES)
    except OSError:
        return b""


def _is_our_json(path: Path) -> bool:
    if _PROGRAM_ENTRY.search(_head(path)):
        return True
    try:
        content = json.loads(read_regular(path))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and "program" not in content and content.keys() >= _EARLIER_KEYS


def check_clearable(
    folder: Path,
    mark: str,
    read_mark: Callable[[Path], Mapping[str, Any]],
    there: Sequence[str],
    named: Callable[[], Iterable[str]],
) -> None:
    """Raise ValueError where FRESH=1 may delete nothing in `folder`.

    That is where its mark is missing, damaged or another's, and where something would be left at a name of ours, so
    that the next run would be refused.

    mark: the mark's name. read_mark: reads the mark of a folder; raises OSError where there is none, and Damaged.
    there: the files at names of ours; without any there is nothing to delete. named: gives those that the folder's
    record names and that are as they were written.
    """
    if not there:
        return
    try:
        reason = "" if read_mark(folder).get("program") == PROGRAM else f"{mark} is not of this program"
    except Damaged as error:
        reason = f"{mark} is damaged ({error})"
    except OSError:
        reason = f"there is no {mark}"
    if reason:
        raise ValueError(
            f"FRESH=1 deletes nothing in {folder}: {reason}, so these files may not be this program's: "
            f"{listed(there)}; choose another OUTPUT_DIR (--output-dir), or move them away"
        )
    gone = set(deletable(folder, named()))
    if left := [name for name in there if name not in gone]:
        raise ValueError(
            f"FRESH=1 deletes nothing in {folder}: {listed(left)} would be left, since no whole line names them, they "
            "were edited, or they lie behind a link; run once without FRESH=1, which makes again what is damaged, or "
            "move them away"
        )
