"""Something that must be on this machine before a model or a metric can be loaded, and how its arrival is shown."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

# Opens what shows how many bytes have arrived: `with progress(what, bytes) as report: report(done)`; 0 bytes: unknown.
OpenProgress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
MOST_SILENT_SECONDS = 30.0


@contextmanager
def no_progress(what: str, size: int) -> Iterator[Callable[[int], None]]:  # noqa: ARG001 (it is an OpenProgress)
    """Show no progress."""
    yield lambda _: None


@contextmanager
def show_bar(what: str, size: int) -> Iterator[Callable[[int], None]]:
    """Show a bar on stderr where that is a terminal, else one line: for programs without progress of their own."""
    from tqdm import tqdm

    if not sys.stderr.isatty():
        print(f"downloading {what} ({describe_bytes(size or None)})", file=sys.stderr, flush=True)
    with tqdm(total=size or None, desc=what, unit="B", unit_scale=True, file=sys.stderr, disable=None) as bar:

        def report(done: int) -> None:
            bar.update(done - bar.n)

        yield report


def tell(message: str) -> None:
    """Print a line on stderr."""
    print(message, file=sys.stderr, flush=True)


class Need(Protocol):
    """Something that must be on this machine before a model or a metric can be loaded.

    what: for the line that is shown, "SDXL: stabilityai/stable-diffusion-xl-base-1.0".
    """

    @property
    def what(self) -> str: ...

    def here(self) -> bool:
        """Return whether all of it is on this machine; the network is not used."""
        ...

    def bytes_missing(self) -> int | None:
        """Return how much would be downloaded, 0 where it is here, None where that is not known."""
        ...

    def fetch(self, progress: OpenProgress = no_progress) -> Path:
        """Return the file or folder, downloaded where it is not here.

        Raises:
            OSError: it cannot be downloaded; one line with the reason and what to do by hand.
        """
        ...


def describe_bytes(count: int | None) -> str:
    """Return a size for people: 6.9 GB, 95.6 MB, 12 kB; "size not known"."""
    if count is None:
        return "size not known"
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{max(1, round(count / 1000))} kB"
