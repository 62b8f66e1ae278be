"""Splits images into shares, one for each process, and has the helpers of a scoring work on theirs."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from metrics.base import Helpers, ImageSet, Scoring

# A share holds at least so many whole batches; with fewer images, fewer processes help, or none.
LEAST_BATCHES = 1

Work = Callable[[str], None]  # takes the device of the process that does it
Made = TypeVar("Made")


def ends_of_shares(count: int, at_once: int, processes: int) -> list[int]:
    """Return the end of each process's share of `count` images: whole batches, so that rows are those of one process.

    Each holds at least LEAST_BATCHES whole ones; where that is not enough for all, there are fewer shares.
    """
    processes = max(1, min(processes, count // (LEAST_BATCHES * at_once)))
    batches = -(-count // at_once)
    return [min(count, batches * number // processes * at_once) for number in range(1, processes + 1)]


def shares_of(images: ImageSet, scoring: Scoring) -> list[ImageSet]:
    """Return the share of this process and then those of the helpers: the same of the same images, whatever is done."""
    processes = 1 if scoring.helpers is None else 1 + scoring.helpers.count
    ends = ends_of_shares(len(images), scoring.images_at_once, processes)
    bounds = zip([0, *ends], ends, strict=False)
    return [
        ImageSet(f"{images.name}, share {number} of {len(ends)}", images.paths[first:end])
        for number, (first, end) in enumerate(bounds, 1)
    ]


def to_send(images: ImageSet) -> tuple[Path, tuple[str, ...]]:
    """Return one folder and the images' names below it: short names in a tuple are small to send."""
    paths = [path.absolute() for path in images.paths]
    folder = os.path.commonpath([path.parent for path in paths])
    return Path(folder), tuple(os.path.relpath(path, folder) for path in paths)


def do_together(
    own: Callable[[Callable[[int], None]], Made], count: int, name: str, works: Sequence[Work], helpers: Helpers,
    scoring: Scoring,
) -> tuple[Made, tuple[str, ...]]:  # fmt: skip
    """Return what `own` makes of `count` images here, and for each helper's work "" or in one line why it failed.

    own: takes what it tells how many of its images are done. name: of the task that shows it. A stop ends the waiting.

    Raises:
        OSError, ValueError: those of `own`, once the helpers are done, so that what is asked next finds them idle.
    """
    wait = _ask(helpers, works)
    with scoring.progress(name, count) as report:
        # The last image counts once all shares are there: until then a stop can end the waiting.
        most = count - 1

        def still() -> None:
            report(most)

        try:
            made = own(lambda done: report(min(done, most)))
        except (OSError, ValueError):
            wait(still)
            raise
        failures = wait(still)
        report(count)
    return made, failures


def _ask(helpers: Helpers, works: Sequence[Work]) -> Callable[[Callable[[], None]], tuple[str, ...]]:
    """Ask helpers as `Helpers.ask` does; where they cannot be reached, that is why each of them has failed."""

    def unreached(error: OSError) -> tuple[str, ...]:
        return (" ".join(str(error).split()),) * len(works)

    def wait(idle: Callable[[], None]) -> tuple[str, ...]:
        try:
            return asked(idle)
        except OSError as error:
            return unreached(error)

    try:
        asked = helpers.ask(works)
    except OSError as error:
        failures = unreached(error)
        return lambda _: failures
    return wait
