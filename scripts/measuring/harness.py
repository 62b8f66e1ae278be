"""What all measuring scripts share: their flags, what a figure must be read with, and the file of their figures.

A script is called as `python -m scripts.measuring.NAME` or `python scripts/measuring/NAME.py`. Times and peaks of
memory are those of `benchmark.measure.clock.Clock`.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from benchmark.console.interruption import exit_status_of, leave
from benchmark.console.plain_text import one_line
from benchmark.measure.machine import choose_machine
from files.writing import write_text

ROOT = Path(__file__).resolve().parents[2]
_written: dict[Path, None] = {}  # the files of figures of this process, in their order


def open_parser(
    script: str, description: str | None, *, repeats: int | None = None, repeated: str = "", device: str | None = None
) -> argparse.ArgumentParser:
    """Return a parser with the flags that every measuring script has: --output and --tiny, and, where they mean
    something to this one, --repeats and --device.

    script: its `__file__`. repeats, device: the defaults; None: no such flag. repeated: what is done so often.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    output = str(Path("runs") / f"{Path(script).stem}.json")  # as text, so that it is checked too
    parser.add_argument("--output", type=_new_file, default=output, help="the figures go there as JSON [%(default)s]")
    parser.add_argument("--tiny", action="store_true", help="small sizes: shows that the script works on any machine")
    if repeats is not None:
        parser.add_argument("--repeats", type=_count, default=repeats, help=f"{repeated} [%(default)s]")
    if device is not None:
        parser.add_argument("--device", default=device, help="auto, cpu, cuda or cuda:1 [%(default)s]")
    return parser


def _new_file(text: str) -> Path:
    """Return the path of a file that can be written; neither it nor its folder is made yet."""
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a folder; name a file")
    there = next(folder for folder in path.absolute().parents if folder.exists())
    try:
        with tempfile.TemporaryDirectory(dir=there):
            return path
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text} cannot be written: {there}: {error.strerror}") from None


def duration(text: str) -> float:
    """Return the seconds that a flag gives.

    Raises:
        argparse.ArgumentTypeError: they are not above 0.
    """
    seconds = float(text)
    if not seconds > 0:
        raise argparse.ArgumentTypeError(f"{text}: expected seconds above 0")
    return seconds


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected 1 or more")
    return count


def describe_run(script: str, device: str = "cpu") -> dict[str, Any]:
    """Return what a figure must be read with: command, date, device, cores and versions.

    script: the caller's `__file__`.

    Raises:
        ValueError: there is no such device.
    """
    try:
        machine = choose_machine(device, "auto")
    except ValueError as error:
        raise ValueError(f"there is no device {device} here; give --device cpu, or --tiny to try the script") from error
    module = ".".join(Path(script).resolve().relative_to(ROOT).with_suffix("").parts)
    return {
        "command": " ".join(["python -m", module, *sys.argv[1:]]),
        "date": datetime.date.today().isoformat(),
        "device": machine.name,
        "cores": os.cpu_count(),
        "load_average_of_5_minutes": os.getloadavg()[1],
        "versions": dict(machine.versions),
    }


def write_report(path: Path, about: Mapping[str, Any], figures: Mapping[str, Any]) -> None:
    """Write the figures with what they must be read with. May be called again whenever there are more.

    Raises:
        OSError: the file cannot be written.
    """
    write_text(path, json.dumps({"about": about, **figures}, indent=1, default=str) + "\n")
    _written[path] = None


def end_script(script: str, main: Callable[[], int]) -> NoReturn:
    """Run `main`, say where the figures went, and leave with its status.

    A user's error (status 2) and a signal are one line, without traceback.
    """
    name = Path(script).stem

    def run() -> int:
        try:
            status = main()
        except (OSError, ValueError) as error:
            print(f"{name}: {one_line(error)}", file=sys.stderr)
            return 2
        if _written:
            print(f"figures: {', '.join(map(str, _written))}")
        return status

    leave(exit_status_of(run, name, "stopped"))
