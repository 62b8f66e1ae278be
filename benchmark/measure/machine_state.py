"""The state of the machine at both ends of a round: the card, who else has it in use, and the host's processors."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from benchmark.console.plain_text import one_line
from benchmark.measure.card_users import tell_apart
from benchmark.measure.findings import MachineState, NotMeasured
from benchmark.measure.nvml import Card, Listed, UsedMemory, card_of, list_cards, torch_uuid
from benchmark.measure.own_processes import ProcessorTime, find_own_processes, other_cores, read_processor_time

# Reasons that hold clocks down and are not the same for every round: by NVML's name, what they mean. Others are normal,
# such as "sw power cap" under a full load.
SPOILING_LIMITS: Mapping[str, str] = {
    "sw thermal slowdown": "the card was too hot",
    "hw thermal slowdown": "the card was too hot",
    "hw slowdown": "the card was too hot, or short of power",
    "hw power brake slowdown": "the power supply held the card back",
    "sync boost": "the clocks were those of the slowest card of a group",
    "reliability": "the voltage was at its limit",
}
GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
SECONDS_TO_LEAVE = 2.0  # an ended worker may still be listed, and its memory in use
# Memory in use before this process has any. Where the driver's own part is included, that is half a gigabyte or more.
UNUSED_BYTES = 400_000_000
UNUSED_BYTES_WITH_RESERVED = 1_200_000_000
# What CUDA may take beside torch's own memory after a model is loaded: kernels, their stacks, graphs.
GROWTH_BYTES = 1_500_000_000
LEAST_SHARE_HELD = 0.01


class Cuda(Protocol):
    """What is asked of torch about its device."""

    def is_started(self) -> bool:
        """Return whether this process has started CUDA; it does not do so by that."""

    def uuid(self, device: str) -> str:
        """Return the UUID of the card."""

    def reserved_bytes(self, device: str) -> int:
        """Return how much of the card's memory torch holds."""


class TorchCuda:
    """Torch's CUDA, which is imported only where a GPU is used."""

    def is_started(self) -> bool:
        return "torch" in sys.modules and bool(sys.modules["torch"].cuda.is_initialized())

    def uuid(self, device: str) -> str:
        return torch_uuid(device)

    def reserved_bytes(self, device: str) -> int:
        import torch

        return torch.cuda.memory_reserved(device)


@dataclass(frozen=True)
class _Seen:
    """A card before this process has used it: its state, its memory, and who is listed; None: it lists no processes."""

    state: MachineState
    memory: UsedMemory | None
    listed: tuple[Listed, ...] | None

    @property
    def hidden_bytes(self) -> int | None:
        """The memory in use that no listed process holds; None where that is what an unused card has."""
        return find_hidden_bytes(self.memory, self.listed or ())


class StateReader:
    """Reads the machine's state at both ends of a worker.

    It is made before the worker's model is loaded and before CUDA is started in its process, so that whatever NVML
    lists by then is not its own. Every card is read then, since only CUDA tells which of them is `device`.

    Others are processes that compute on the card, and those with a window alone that hold much of its memory; not this
    process, those that it started, and those that it comes from. In a container NVML may give processes other numbers:
    then the entry that came with this process is its own. Or it lists none, or none outside of the container: then
    memory that was in use before this process had any, that no listed process holds, or that grows beside torch's, is
    another's. Who comes and leaves between both ends is not seen.

    Nothing is raised where something cannot be read. Each end takes some milliseconds, and up to SECONDS_TO_LEAVE more
    where another process seems to be there, which may be an ended worker.
    """

    def __init__(
        self, device: str, list_cards: Callable[[], Sequence[Card]] = list_cards, cuda: Cuda | None = None
    ) -> None:
        self._device, self._cuda = device, cuda or TorchCuda()
        self._host = read_host()
        self._processor_time: ProcessorTime | None = None  # at the start of the round
        self._made_s = time.monotonic()
        self._unread = ""
        self._cards: Sequence[Card] = ()
        self._used: list[_UsedCard] = []  # several of a model that is on several
        if device.startswith("cuda"):
            try:
                self._cards = list_cards()
            except NotMeasured as reason:
                self._unread = str(reason)
        self._is_late = bool(self._cards) and self._cuda.is_started()
        self._seen = {card.uuid: self._look_at(card) for card in self._cards}

    def start(self, devices: Sequence[str] = ()) -> MachineState:
        """Return the state as it was when the reader was made. To be called when the model is loaded.

        devices: the GPUs of a model that is on several. The state is that of the first; who else has any of them in
        use, and what held down the clocks of any, counts for all.
        """
        self._processor_time = read_processor_time(find_own_processes())
        if self._cards:
            try:
                self._used = [self._used_card(device) for device in devices or (self._device,)]
            except NotMeasured as reason:
                self._unread = str(reason)
            else:
                return self._with_other_cards(_join([
                    replace(self._seen[used.card.uuid].state, other_processes=self._others_at_start(used))
                    for used in self._used
                ]))  # fmt: skip
        return replace(self._host, unread=self._unread)

    def _used_card(self, device: str) -> _UsedCard:
        card = card_of(self._cuda.uuid(device), self._cards)
        return _UsedCard(card, lambda: self._cuda.reserved_bytes(device))

    def start_again(self) -> MachineState:
        """Return the state now, after `end`, as the start of another model's work in this process."""
        own = find_own_processes()
        self._processor_time = read_processor_time(own)
        for used in self._used:
            used.begin()
        return self._read_end(read_host(), own.pids)

    def end(self) -> MachineState:
        """Return the state now, and how many cores other processes have kept busy since `start`."""
        assert self._processor_time is not None, "the round has started"
        own = find_own_processes()
        host = replace(read_host(), other_cpu_cores=other_cores(self._processor_time, read_processor_time(own)))
        return self._read_end(host, own.pids)

    def _read_end(self, host: MachineState, relatives: Collection[int]) -> MachineState:
        if not self._used:
            return replace(host, unread=self._unread)
        return self._with_other_cards(_join([used.read_end(host, relatives) for used in self._used]))

    def _with_other_cards(self, state: MachineState) -> MachineState:
        """Return the state with which of the host's other cards are in use now."""
        used = {used.card.uuid for used in self._used}
        others = [card for card in self._cards if card.uuid not in used]
        busy = tuple(card.uuid for card in others if _is_busy(card))
        return replace(state, other_cards=len(others), busy_cards=busy)

    def _look_at(self, card: Card) -> _Seen:
        while True:
            seen = _Seen(read_card(card, self._host), card.used_memory(), card.processes())
            if self._is_late or seen.hidden_bytes is None or not self._wait():
                return seen

    def _others_at_start(self, card: _UsedCard) -> tuple[str, ...]:
        seen = self._seen[card.card.uuid]
        # Where CUDA was started before the reader was made, any entry may be this process's.
        before = () if self._is_late else tuple(entry.pid for entry in seen.listed or ())
        relatives = find_own_processes().pids
        others = card.find_others(relatives, before)
        while others and self._wait():
            others = card.find_others(relatives, before)
        if not others and seen.hidden_bytes is not None and not self._is_late:
            return (f"unknown ({_gigabytes(seen.hidden_bytes)} in use)",)
        return others

    def _wait(self) -> bool:
        """Wait a little for an ended worker to leave the card; return whether there was time left for it."""
        if time.monotonic() - self._made_s >= SECONDS_TO_LEAVE:
            return False
        time.sleep(0.1)
        return True


class _UsedCard:
    """The card that this process uses, from the moment at which its model is there.

    is_hidden: NVML lists no process for it, not even this one.
    """

    def __init__(self, card: Card, reserved_bytes: Callable[[], int]) -> None:
        self.card, self._reserved_bytes = card, reserved_bytes
        self.is_hidden = not card.processes()
        self._own: int | None = None
        self.begin()

    def begin(self) -> None:
        """Count from now on: what holds the clocks down, and what grows beside torch's memory."""
        self._start_s, self._held_ns = time.monotonic(), self.card.held_ns()
        self._bytes_beside_torch = self._read_bytes_beside_torch()

    def find_others(self, relatives: Collection[int], before: Collection[int] = ()) -> tuple[str, ...]:
        """Return who else is listed. relatives: this run's processes. before: whom NVML listed before this one."""
        users = tell_apart(self.card.processes() or (), os.getpid(), relatives, before, self._own)
        self._own = users.own
        return users.describe()

    def read_end(self, host: MachineState, relatives: Collection[int]) -> MachineState:
        """Return the card's state, onto that of the host."""
        others = self.find_others(relatives)
        listed = self.card.processes() or ()
        if listed and not others:
            hidden_bytes = find_hidden_bytes(self.card.used_memory(), listed, self._reserved_bytes())
            others = others if hidden_bytes is None else (f"unknown ({_gigabytes(hidden_bytes)} in use)",)
        bytes_beside_torch = self._read_bytes_beside_torch()
        if self.is_hidden and bytes_beside_torch is not None and self._bytes_beside_torch is not None:
            grown_bytes = bytes_beside_torch - self._bytes_beside_torch
            others = (f"unknown ({_gigabytes(grown_bytes)} more in use)",) if grown_bytes > GROWTH_BYTES else others
        state = read_card(self.card, host)
        limits = dict.fromkeys((*state.clock_limits, *self._limits_since_start()))
        return replace(state, other_processes=others, clock_limits=tuple(limits))

    def _limits_since_start(self) -> Iterator[str]:
        least_ns = LEAST_SHARE_HELD * (time.monotonic() - self._start_s) * 1e9
        for name, held_ns in self.card.held_ns().items():
            if held_ns - self._held_ns.get(name, held_ns) > least_ns:
                yield name

    def _read_bytes_beside_torch(self) -> int | None:
        memory = self.card.used_memory()
        return None if memory is None else memory.used_bytes - self._reserved_bytes()


def _is_busy(card: Card) -> bool:
    """Return whether a process computes on a card: one that NVML lists, or one that holds memory and is not listed."""
    listed = card.processes() or ()
    return any(entry.kind == "compute" for entry in listed) or find_hidden_bytes(card.used_memory(), listed) is not None


def _join(states: Sequence[MachineState]) -> MachineState:
    """Return the state of the first of these cards, with who uses any of them, and what holds any of them back."""
    others = dict.fromkeys(other for state in states for other in state.other_processes)
    limits = dict.fromkeys(limit for state in states for limit in state.clock_limits)
    return replace(states[0], other_processes=tuple(others), clock_limits=tuple(limits))


def find_hidden_bytes(memory: UsedMemory | None, listed: Sequence[Listed], own_bytes: int = 0) -> int | None:
    """Return the memory in use that no listed process holds; None where an unused card may have as much.

    None, too, where one of them does not tell what it holds, or they tell less than the `own_bytes` that this one does.
    """
    if memory is None or any(entry.used_bytes is None for entry in listed):
        return None
    listed_bytes = sum(entry.used_bytes or 0 for entry in listed)
    if listed_bytes < own_bytes:
        return None
    unused_bytes = UNUSED_BYTES_WITH_RESERVED if memory.has_reserved else UNUSED_BYTES
    left_bytes = memory.used_bytes - listed_bytes
    return left_bytes if left_bytes > unused_bytes else None


def read_host() -> MachineState:
    """Return the state of the host's processors, and nothing of a card."""
    load_average, governor = None, ""
    with suppress(OSError):
        load_average = os.getloadavg()[0]
    with suppress(OSError):
        governor = one_line(GOVERNOR.read_text(encoding="utf-8", errors="replace"))
    return MachineState(
        unix_s=time.time(), load_average=load_average, cpu_cores=os.cpu_count() or 0, cpu_governor=governor
    )


def read_card(card: Card, host: MachineState) -> MachineState:
    """Return the state of a card, but for who uses it, onto that of the host."""
    memory = card.used_memory()
    return replace(
        host, card_uuid=card.uuid, driver=card.driver, used_memory_bytes=None if memory is None else memory.used_bytes,
        sm_clock_mhz=card.sm_clock_mhz(), memory_clock_mhz=card.memory_clock_mhz(), clock_limits=card.clock_limits(),
        temperature_c=card.temperature_c(), power_limit_w=card.power_limit_w(),
        default_power_limit_w=card.default_power_limit_w(),
    )  # fmt: skip


def _gigabytes(count_bytes: int) -> str:
    return f"{count_bytes / 1e9:.1f} GB"
