"""What all processes of a launcher would say is said once: by the first process of each host.

Imports no torch.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, NoReturn

from benchmark.console.plain_text import one_line
from benchmark.ranks.launch import is_launched

SECONDS_TO_SPEAK = 10.0  # by which one process may be slower than another to see that it cannot begin


def speaks_for_host(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether this process is the one that speaks, of those that a launcher started on this host."""
    return not is_launched(environment) or environment.get("LOCAL_RANK", "") in ("", "0")


def say_failure(line: str) -> None:
    """Write to stderr, in one process of each host, why this program cannot begin.

    The launcher ends all processes as soon as one of them fails. So a process that does not speak waits here: if it
    ended at once, the first one might be ended before it has said why. Where the launcher does not end this process
    meanwhile, the failure is its own, and it speaks.
    """
    if not speaks_for_host():
        time.sleep(SECONDS_TO_SPEAK)
    print(line, file=sys.stderr)


class SpeakingParser(argparse.ArgumentParser):
    """A parser whose help and errors, of one line each, are printed by one process of each host."""

    def print_help(self, file: IO[str] | None = None) -> None:  # type: ignore[override]
        if speaks_for_host():
            super().print_help(file)

    def error(self, message: str) -> NoReturn:
        say_failure(f"{Path(self.prog).stem}: {one_line(message)}; --help lists the arguments")
        self.exit(2)
