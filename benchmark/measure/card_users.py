"""Which processes that NVML lists for a card are not of this run, also where a container gives them other numbers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import psutil

from benchmark.console.plain_text import one_line
from benchmark.measure.nvml import Listed

# A desktop's windows take less of a card's time and memory than this; a game or a renderer takes more.
GRAPHICS_BYTES = 1_000_000_000


@dataclass(frozen=True)
class CardUsers:
    """The processes of a card: the number of this one's entry, None where it has none, and those of others.

    has_own_numbers: NVML numbers processes as this process sees them, and not as a host does outside of a container.
    """

    own: int | None
    others: tuple[Listed, ...]
    has_own_numbers: bool

    def describe(self) -> tuple[str, ...]:
        """Return the others as texts, each with its name, where that can be known, and its number."""
        return tuple(_describe(entry.pid, self.has_own_numbers) for entry in self.others)


def tell_apart(
    listed: Sequence[Listed], process: int, relatives: Collection[int], before: Collection[int] = (),
    own: int | None = None,
) -> CardUsers:  # fmt: skip
    """Return which of the listed processes is `process`, which has the card in use, and which are others.

    Where its number is not there, NVML numbers processes differently; then its entry is the one that has come since
    `before` was listed, and of several the one with the most memory. Processes with a window alone, which compute
    nothing, are left out up to GRAPHICS_BYTES of memory.

    relatives: this run's processes. before: the numbers listed before this one used the card. own: its entry's number
    where an earlier list has told it.
    """
    has_own_numbers = any(entry.pid == process for entry in listed)
    strangers = [
        entry
        for entry in listed
        if entry.pid not in relatives and (entry.kind == "compute" or (entry.used_bytes or 0) > GRAPHICS_BYTES)
    ]
    if has_own_numbers:
        own = process
    elif own is None:
        new = [entry for entry in strangers if entry.pid not in before and entry.kind == "compute"]
        own = max(new, key=lambda entry: entry.used_bytes or 0).pid if new else None
    return CardUsers(own, tuple(entry for entry in strangers if entry.pid != own), has_own_numbers)


def _describe(pid: int, has_own_numbers: bool) -> str:
    if has_own_numbers:
        try:
            return f"{one_line(psutil.Process(pid).name())} ({pid})"
        except psutil.Error:  # it has ended, or is hidden
            pass
    return f"process {pid}"
