"""Calls of bulk of the ranks of a host, as their journals hold them: a run of four ranks, then rank 0 alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmark.run.journal_lines import MAIN_WRITER, Batch, Line, Loaded
from benchmark.run.snapshot import Snapshot, take_snapshot

SIZE, CALL_S = 8, 2.0
ONE_RATE = SIZE / CALL_S  # images per second of a rank


def process_of(session: str, rank: int) -> str:
    return f"{session}{rank:06x}"


def loaded(session: str, rank: int, host: str = "gpu-7") -> Loaded:
    return Loaded(
        "Noise", 1, 8, (), 0.1, (1.0,), purpose="bulk", process=process_of(session, rank), session=session * 4,
        host=host, writer=writer_of(rank),
    )  # fmt: skip


def writer_of(rank: int) -> str:
    return f"rank{rank}" if rank else MAIN_WRITER


def calls(
    session: str, rank: int, ends_s: Iterable[float], seconds: float = CALL_S, sizes: Sequence[int] = ()
) -> list[Batch]:
    """Return a rank's calls by their ends; each has indices of its own. sizes: images kept of the last ones."""
    found = []
    ends = list(ends_s)
    kept = [SIZE] * (len(ends) - len(sizes)) + list(sizes)
    for place, (end_s, size) in enumerate(zip(ends, kept, strict=True)):
        start = int(session, 16) * 1_000_000 + rank * 100_000 + place * SIZE
        indices = tuple(range(start, start + size))
        found.append(Batch(
            indices, seconds, ("",) * size, batch_size=SIZE, purpose="bulk", ended_at_s=end_s, writer=writer_of(rank),
            process=process_of(session, rank), pixels=("0" * 64,) * size, digests=("0" * 64,) * size,
        ))  # fmt: skip
    return found


def ends(first_s: float, last_s: float, step_s: float = CALL_S) -> list[float]:
    """Return ends of calls back to back: from the first one's to the last one that is not after `last_s`."""
    return [first_s + place * step_s for place in range(int((last_s - first_s) / step_s + 1e-9) + 1)]


def four_ranks(session: str = "0a", begin_s: float = 1000.0, shared_s: float = 100.0, alone: int = 7) -> list[Line]:
    """Return the lines of four ranks that end their calls half a second after each other, then of rank 0 alone."""
    lines: list[Line] = [loaded(session, rank) for rank in range(4)]
    others_end_s = 0.0
    for rank in (1, 2, 3):
        of_rank = ends(begin_s + 0.5 * rank, begin_s + shared_s)
        others_end_s = max(others_end_s, of_rank[-1])
        lines += calls(session, rank, of_rank)
    main = ends(begin_s, begin_s + shared_s - CALL_S)
    after_s = others_end_s + 0.25  # rank 0 waits for the others before it goes on
    lines += calls(session, 0, [*main, *(after_s + CALL_S * (place + 1) for place in range(alone))])
    return lines


def snapshot_of(*lines: Line) -> Snapshot:
    """Return a column of these lines, with the images of each batch in its place."""
    return take_snapshot(Path(), lines, [line for line in lines if isinstance(line, Batch)], ())
