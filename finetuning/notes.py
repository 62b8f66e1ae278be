"""What a training says beside its progress."""

from __future__ import annotations

import sys

from benchmark.console.plain_text import visible
from benchmark.ranks.launch import is_first


def tell(text: str) -> None:
    """Write one line to stderr, in which names of files and the like act on nothing; of several processes one does."""
    if is_first():
        print(visible(text), file=sys.stderr, flush=True)
