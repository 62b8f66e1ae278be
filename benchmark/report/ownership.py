"""Which files in an output folder are ours, told by what is in them: no other program's is replaced or deleted."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Callable
from pathlib import Path

from files import PROGRAM
from files.images import is_our_png
from files.reading import is_there, read_regular

REPORT_NAMES = ("results.json", "results.csv", "samples.png", "report.html")
FRONTIER_NAME = "frontier.png"  # written where a model has more than one configuration
GENERATOR = f'<meta name="generator" content="{PROGRAM}">'  # in the head of report.html
CSV_COLUMNS = (  # each results.csv begins with these, that of an earlier version too
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
        FRONTIER_NAME: is_our_png,
        "report.html": lambda path: GENERATOR.encode() in _head(path),
    }
    return [name for name in is_ours if is_there(output_dir / name) and not (
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
