"""How many images per second the ranks of one host make together, from the recorded ends of their calls of bulk.

A window of time is open while every rank of the host makes images: from the latest of their first recorded ends, so
that each is past its warm-up, to the earliest of their last ones. Then rank 0 goes on alone, and tells what one makes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal

from benchmark.report.disturbances import has_card
from benchmark.report.host_throughput import (
    LEAST_ALONE_CALLS,
    LEAST_ALONE_S,
    LEAST_WINDOW_S,
    Counted,
    HostThroughput,
    count_devices,
)
from benchmark.run.journal_lines import MAIN_WRITER, Batch
from benchmark.run.snapshot import Snapshot


def find_host_throughput(snapshot: Snapshot) -> HostThroughput | None:
    """Return what the latest run of the program tells that has a figure; without one, why the latest has none.

    None: in no run did two ranks of rank 0's host make images in bulk.
    """
    origins = {loaded.process: loaded for loaded in snapshot.processes if loaded.purpose == "bulk"}
    sessions: dict[str, dict[str, list[Batch]]] = {}
    for call in snapshot.bulk_calls:
        if origin := origins.get(call.process):
            sessions.setdefault(origin.session, {}).setdefault(origin.writer, []).append(call)
    hosts = {(origin.session, origin.writer): origin.host for origin in origins.values()}
    has_cards = any(has_card(line.machine) for line in snapshot.states)
    found = []
    for session, ranks in sessions.items():
        host = hosts.get((session, MAIN_WRITER))
        of_host = {writer: calls for writer, calls in ranks.items() if hosts[session, writer] == host}
        if MAIN_WRITER in of_host and len(of_host) > 1:
            found.append((of_host[MAIN_WRITER][-1].ended_at_s, _measure(session, host or "", of_host, has_cards)))
    found.sort(key=lambda each: each[0], reverse=True)
    return next((each for _, each in found if each.together), found[0][1] if found else None)


def count_made(snapshot: Snapshot, count: int) -> dict[str, dict[str, int]]:
    """Return how many of the images of requests 0..count-1 each rank made: by host and by the rank's writer.

    Images whose host is not recorded are left out.
    """
    hosts = {loaded.process: loaded.host for loaded in snapshot.processes if loaded.host}
    made: dict[str, dict[str, int]] = {}
    for batch in snapshot.batches:
        images = sum(index < count for index in batch.indices)
        if images and batch.process in hosts:
            writers = made.setdefault(hosts[batch.process], {})
            writers[batch.writer] = writers.get(batch.writer, 0) + images
    return {host: dict(sorted(writers.items())) for host, writers in sorted(made.items())}


def _measure(session: str, host: str, ranks: Mapping[str, Sequence[Batch]], has_cards: bool) -> HostThroughput:
    """Return the rates of two ranks or more.

    ranks: by its writer, the calls of each rank, at least one, in the order of their ends.
    """
    others_ended_s = [calls[-1].ended_at_s for writer, calls in ranks.items() if writer != MAIN_WRITER]
    shared = [call for call in ranks[MAIN_WRITER] if _began_at_s(call) < max(others_ended_s)]
    after = ranks[MAIN_WRITER][len(shared) :]
    open_s = max(calls[0].ended_at_s for calls in ranks.values())
    closed_s = min([*others_ended_s, *(call.ended_at_s for call in shared[-1:])])
    window_s = max(0.0, closed_s - open_s) if shared else 0.0
    device: Literal["GPU", "process"] = "GPU" if has_cards else "process"
    together, no_together = None, ""
    if window_s >= LEAST_WINDOW_S:
        together = Counted(sum(_images_within(calls, open_s, closed_s) for calls in ranks.values()), window_s)
    else:
        whose = count_devices(len(ranks), device)
        no_together = f"{whose} made images together for {window_s:.0f} s, and {LEAST_WINDOW_S:.0f} s are needed"
    calls, alone = _count_alone(after)
    no_alone = ""
    if alone is None or calls < LEAST_ALONE_CALLS or alone.seconds < LEAST_ALONE_S:
        seconds = alone.seconds if alone else 0.0
        no_alone = (
            f"alone, it made {calls} full calls in {seconds:.1f} s after its first one, and {LEAST_ALONE_CALLS} calls "
            f"and {LEAST_ALONE_S:.0f} s are needed"
        )
        alone = None
    return HostThroughput(session, host, len(ranks), device, together, alone, no_together, no_alone)


def _began_at_s(call: Batch) -> float:
    return call.ended_at_s - call.seconds


def _images_within(calls: Sequence[Batch], open_s: float, closed_s: float) -> float:
    """Return the images of a rank in a window that lies between its first end and its last one.

    What a rank does from one end to the next is the later call's. A call that an edge of the window cuts counts by the
    share of this time that lies inside: a whole one, or none, would be wrong by up to one call of each rank.
    """
    images = 0.0
    for before, call in pairwise(calls):
        span_s = call.ended_at_s - before.ended_at_s
        inside_s = min(call.ended_at_s, closed_s) - max(before.ended_at_s, open_s)
        if span_s > 0:
            images += call.size * max(0.0, inside_s) / span_s
        elif open_s < call.ended_at_s <= closed_s:
            images += call.size
    return images


def _count_alone(calls: Sequence[Batch]) -> tuple[int, Counted | None]:
    """Return how many calls count of those that rank 0 made alone, and their images and seconds from end to end.

    The first one does not count: rank 0 waited before it. A padded call gives fewer images than it costs, and what
    lies before the first call of a process, or of another size, is no call alone.
    """
    counted = [
        (call.size, call.ended_at_s - before.ended_at_s) for before, call in pairwise(calls)
        if call.size == call.batch_size == before.batch_size and call.process == before.process
    ]  # fmt: skip
    images, seconds = sum(size for size, _ in counted), sum(span_s for _, span_s in counted)
    return len(counted), Counted(images, seconds) if seconds > 0 else None
