"""What a training says beside its progress."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from benchmark.console.plain_text import visible


def is_first(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether this process is the one that speaks, of those that a launcher started.

    Without a launcher, RANK may be the rank of a LoRA.
    """
    return "WORLD_SIZE" not in environment or environment.get("RANK", "0") == "0"


def tell(text: str) -> None:
    """Write one line to stderr, in which names of files and the like act on nothing; of several processes one does."""
    if is_first():
        print(visible(text), file=sys.stderr, flush=True)
