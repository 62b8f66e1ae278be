"""What the footer says of several ranks: who made the images, what a host makes, and how its cards compare."""

from __future__ import annotations

from collections.abc import Sequence

from benchmark.report.cards import (
    SLOW_RATIO,
    compare_cards,
    list_uncounted_cards,
    short_uuids,
    shown_latency,
    slowest_over_fastest,
)
from benchmark.report.disturbances import has_card
from benchmark.report.host_throughput import count_devices
from benchmark.report.latency_ratios import LEAST_ROUNDS
from benchmark.report.model_result import ModelResult
from benchmark.report.numbers import shown_range

_MOST_HOSTS_NAMED = 4


def list_host_notes(models: Sequence[ModelResult]) -> list[str]:
    """Return how many ranks of which hosts made images, and from what the throughput of a host is; of one rank none."""
    return [*_made_by(models), *_throughput(models), *_without(models), *_other_cards(models)]


def list_card_notes(models: Sequence[ModelResult]) -> list[str]:
    """Return a line for each column that was timed on several cards, and a warning for each card that is slow."""
    lines = []
    for model in models:
        cards = compare_cards(model)
        uuids = [*(card.uuid for card in cards if card.uuid), *(card.uuid for card in model.cards)]
        names = {"": "rank 0"} | short_uuids(uuids)  # rank 0 has no UUID on a CPU, or where NVML does not tell it
        if cards:
            each = [f"{shown_latency(card.seconds)} on {names[card.uuid]} ({card.ratio:.3f}x)" for card in cards]
            slow = ", ".join(names[card.uuid] for card in cards if card.is_slow) or "none"
            if any(card.interval is None for card in cards):
                slow = f"not decided, below {LEAST_ROUNDS} rounds on a card"
            lines.append(
                f"Cards: {model.name} takes {', '.join(each)}, each against the mean of the others; slowest "
                f"over fastest {slowest_over_fastest(cards):.3f}x; slow: {slow}"
            )
        for card in cards:
            if card.is_slow and card.interval is not None:
                low, high = card.interval
                lines.append(
                    f"WARNING: {names[card.uuid]} is slow: {model.name} takes {card.ratio:.3f}x of "
                    f"what it takes on the other cards (95 %: {low:.3f}..{high:.3f}); slow is above {SLOW_RATIO:.2f}x"
                )
        for uuid in list_uncounted_cards(model):
            lines.append(
                f"{model.name}: no round on {names[uuid]} counts: it is incomplete, or another process was on the card"
            )
    return lines


def _made_by(models: Sequence[ModelResult]) -> list[str]:
    ranks: dict[str, set[str]] = {}
    for model in models:
        for host, writers in model.made_by.items():
            ranks.setdefault(host, set()).update(writers)
    counts = {host: len(writers) for host, writers in sorted(ranks.items())}
    if sum(counts.values()) < 2:
        return []
    has_cards = any(has_card(state) for model in models for made in model.rounds for state in made.states)
    made_by = f"Images made by {count_devices(sum(counts.values()), 'GPU' if has_cards else 'process')}"
    if len(counts) == 1:
        return [f"{made_by} of {next(iter(counts))}"]
    each = ", ".join(f"{host} ({count})" for host, count in counts.items())
    if len(counts) > _MOST_HOSTS_NAMED:
        each = f"{shown_range(list(counts.values()), 0)} each"
    return [f"{made_by} of {len(counts)} hosts: {each}"]


def _throughput(models: Sequence[ModelResult]) -> list[str]:
    """Return, for each host, of how many images in how many seconds each column's throughput is."""
    of_hosts: dict[str, list[str]] = {}
    for model in models:
        found = model.host_throughput
        if found is None or found.together is None:
            continue
        line = (
            f"{model.name} {found.together.images:,.0f} images in {found.together.seconds:.1f} s with "
            f"{count_devices(found.ranks, found.device)} at work"
        )
        if found.alone is not None:
            line += f", {found.alone.images:,.0f} in {found.alone.seconds:.1f} s with one"
        of_hosts.setdefault(found.host, []).append(line)
    return [f"Throughput of the host {host}: {'; '.join(lines)}" for host, lines in of_hosts.items()]


def _other_cards(models: Sequence[ModelResult]) -> list[str]:
    """Return whether the host's other cards were idle while one was timed, of a run of several ranks."""
    if not _made_by(models):
        return []
    states = [state for model in models for made in model.rounds for state in made.states if state.other_cards]
    busy = dict.fromkeys(uuid for state in states for uuid in state.busy_cards)
    if busy:
        return [f"WARNING: other GPUs of the host were in use at an end of timed rounds: {', '.join(busy)}"]
    if not states:
        return []
    most = max(state.other_cards for state in states)
    return [f"The host's other GPUs ({most}) were idle at both ends of every timed round"]


def _without(models: Sequence[ModelResult]) -> list[str]:
    lines = []
    for model in models:
        found = model.host_throughput
        if found is None:
            continue
        if found.together is None:
            lines.append(f"{model.name}: no throughput of the host: {found.no_together}")
        elif found.alone is None:
            lines.append(f"{model.name}: not compared with one {found.device}: {found.no_alone}")
    return lines
