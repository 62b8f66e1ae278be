"""Images per second of all processes of one host together, as data: what was counted, and why there is no figure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

LEAST_WINDOW_S = 60.0
LEAST_ALONE_CALLS, LEAST_ALONE_S = 3, 5.0


@dataclass(frozen=True)
class Counted:
    """Images that were made in a span of time; one call that the span's edge cuts counts in part."""

    images: float
    seconds: float

    @property
    def images_per_s(self) -> float:
        return self.images / self.seconds


@dataclass(frozen=True)
class HostThroughput:
    """Bulk of one run of the program on the host of its rank 0, where that host had two ranks or more.

    session: which run of the program. device: what each rank has of its own, a GPU, or nothing but its process.
    together: while all ranks of the host made images, each of them past its warm-up; None where that was too short,
    with the reason. alone: rank 0 afterwards, while the others of its host had no work; None with the reason.
    """

    session: str
    host: str
    ranks: int
    device: Literal["GPU", "process"]
    together: Counted | None
    alone: Counted | None
    no_together: str = ""
    no_alone: str = ""

    @property
    def ratio(self) -> float | None:
        """How many times what one rank alone makes they make together, at most about `ranks`; None without both."""
        if self.together is None or self.alone is None:
            return None
        return self.together.images_per_s / self.alone.images_per_s


def count_devices(count: int, device: Literal["GPU", "process"]) -> str:
    """Return "4 GPUs", "1 process"."""
    plural = {"GPU": "GPUs", "process": "processes"}
    return f"{count} {device if count == 1 else plural[device]}"
