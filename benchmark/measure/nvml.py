"""NVIDIA's management library (NVML): what a card says of itself, and None for what it does not say.

NVML touches no CUDA. It is started once in a process, and again in a forked one, which cannot use its parent's; it is
never shut down.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, Protocol, TypeVar

from benchmark.console.plain_text import one_line
from benchmark.measure.findings import NotMeasured

ValueT = TypeVar("ValueT")

IDLE = "gpu idle"
# The bits of nvmlDeviceGetCurrentClocksEventReasons, with the names that nvidia-smi gives them.
_LIMITS = {
    0x001: IDLE, 0x002: "applications clocks setting", 0x004: "sw power cap", 0x008: "hw slowdown",
    0x010: "sync boost", 0x020: "sw thermal slowdown", 0x040: "hw thermal slowdown", 0x080: "hw power brake slowdown",
    0x100: "display clock setting", 0x200: "board limit", 0x400: "reliability",
}  # fmt: skip
# Fields that count the nanoseconds for which a reason held (NVML_FI_DEV_CLOCKS_EVENT_REASON_*).
_HELD_FIELDS = {
    76: "sync boost", 269: "sw thermal slowdown", 270: "hw thermal slowdown", 271: "hw power brake slowdown",
}  # fmt: skip
# The member of nvmlValue_t that each nvmlValueType_t stands for.
_VALUE_MEMBERS = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")
_MIG_ENABLED = 1


@dataclass(frozen=True)
class Listed:
    """A process that NVML lists: its number, which may be the host's in a container, and its memory if that is told."""

    pid: int
    kind: Literal["compute", "graphics"] = "compute"
    used_bytes: int | None = None


@dataclass(frozen=True)
class UsedMemory:
    """Memory of a card in use. has_reserved: it includes what the driver keeps for itself (drivers before 510)."""

    used_bytes: int
    has_reserved: bool = False


class Card(Protocol):
    """What is asked of a card. Each answer is None, or empty, where the card does not support it or forbids it."""

    @property
    def uuid(self) -> str:
        """As NVML writes it: "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"."""

    @property
    def driver(self) -> str:
        """The version of the driver."""

    @property
    def failures(self) -> Mapping[str, str]:
        """By the name of a method, why it last gave nothing."""

    def energy_mj(self) -> int | None:
        """Return the energy since the driver was loaded, in millijoules: of the GPU and its memory."""

    def power_w(self) -> float | None:
        """Return the power: the mean of the last second on Ampere and later but for the A100, of the moment before."""

    def sm_clock_mhz(self) -> int | None:
        """Return the clock of the multiprocessors."""

    def memory_clock_mhz(self) -> int | None:
        """Return the clock of the memory."""

    def temperature_c(self) -> int | None:
        """Return the temperature of the GPU."""

    def power_limit_w(self) -> float | None:
        """Return the limit in force, the lowest of all that apply."""

    def default_power_limit_w(self) -> float | None:
        """Return the limit that the card was sold with."""

    def clock_limits(self) -> tuple[str, ...]:
        """Return the reasons that hold the clocks down now."""

    def held_ns(self) -> Mapping[str, int]:
        """Return for how many nanoseconds each reason has held the clocks down, of those that the driver counts."""

    def used_memory(self) -> UsedMemory | None:
        """Return the memory in use, by all processes."""

    def processes(self) -> tuple[Listed, ...] | None:
        """Return the processes that have the card in use. In a container the list may be empty."""

    def is_split(self) -> bool:
        """Return whether the card is cut into MIG slices."""


CardT = TypeVar("CardT", bound=Card)


def open_card(device: str) -> Card:
    """Return the card that torch calls `device` ("cuda", "cuda:1"). CUDA is started.

    Raises:
        NotMeasured: it is no GPU, a MIG slice, or NVML does not know it or cannot be used; the text says which.
    """
    if not device.startswith("cuda"):
        raise NotMeasured("no GPU")
    cards = list_cards()
    return card_of(torch_uuid(device), cards)


def torch_uuid(device: str) -> str:
    """Return what torch takes for the card's UUID, without a prefix. CUDA is started."""
    import torch

    return str(torch.cuda.get_device_properties(device).uuid)


def card_of(uuid: str, cards: Sequence[CardT]) -> CardT:
    """Return the card with this UUID, with or without its prefix.

    Raises:
        NotMeasured: there is none, or it is cut into slices.
    """
    found = next((card for card in cards if card.uuid.removeprefix("GPU-") == uuid.removeprefix("GPU-")), None)
    # CUDA sees a slice under a UUID of its own or under that of its card, which differs between drivers.
    if found.is_split() if found is not None else any(card.is_split() for card in cards):
        raise NotMeasured("a MIG slice")
    if found is None:
        raise NotMeasured("NVML does not list this card")
    return found


def list_cards() -> tuple[Card, ...]:
    """Return all cards of this machine that this process may ask.

    Raises:
        NotMeasured: NVML cannot be used; the text says why.
    """
    nvml = _library(os.getpid())
    cards: list[Card] = []
    try:
        driver = nvml.nvmlSystemGetDriverVersion()
        count = nvml.nvmlDeviceGetCount()
    except nvml.NVMLError as error:
        raise NotMeasured(_words(nvml, error)) from error
    for index in range(count):
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            uuid = nvml.nvmlDeviceGetUUID(handle)
        except nvml.NVMLError:  # another user's, or lost: it is not the one that this process computes on
            continue
        cards.append(NvmlCard(nvml, handle, uuid, driver))
    return tuple(cards)


@cache
def _library(_process: int) -> Any:
    """Return the module of NVML, started in this process."""
    try:
        import pynvml
    except ImportError as error:
        raise NotMeasured("nvidia-ml-py is not installed") from error
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise NotMeasured(_words(pynvml, error)) from error
    return pynvml


def _words(nvml: Any, error: Any) -> str:
    """Return an error of NVML as a cell shows it."""
    words = {
        nvml.NVML_ERROR_NOT_SUPPORTED: "not supported",
        nvml.NVML_ERROR_NO_PERMISSION: "no permission",
        nvml.NVML_ERROR_FUNCTION_NOT_FOUND: "not in this driver",
        nvml.NVML_ERROR_LIBRARY_NOT_FOUND: "no NVML library",
        nvml.NVML_ERROR_DRIVER_NOT_LOADED: "no NVIDIA driver",
    }
    return words.get(error.value) or f"NVML: {one_line(error)}"


class NvmlCard:
    """A card, asked through pynvml. `nvml`: that module; `handle`: the card's, which any thread may use."""

    def __init__(self, nvml: Any, handle: Any, uuid: str, driver: str) -> None:
        self._nvml, self._handle = nvml, handle
        self.uuid, self.driver = uuid, driver
        self.failures: dict[str, str] = {}

    def energy_mj(self) -> int | None:
        return self._ask("energy_mj", self._nvml.nvmlDeviceGetTotalEnergyConsumption)

    def power_w(self) -> float | None:
        return _watts(self._ask("power_w", self._nvml.nvmlDeviceGetPowerUsage))

    def sm_clock_mhz(self) -> int | None:
        return self._ask("sm_clock_mhz", self._nvml.nvmlDeviceGetClockInfo, self._nvml.NVML_CLOCK_SM)

    def memory_clock_mhz(self) -> int | None:
        return self._ask("memory_clock_mhz", self._nvml.nvmlDeviceGetClockInfo, self._nvml.NVML_CLOCK_MEM)

    def temperature_c(self) -> int | None:
        return self._ask("temperature_c", self._nvml.nvmlDeviceGetTemperature, self._nvml.NVML_TEMPERATURE_GPU)

    def power_limit_w(self) -> float | None:
        return _watts(self._ask("power_limit_w", self._nvml.nvmlDeviceGetEnforcedPowerLimit))

    def default_power_limit_w(self) -> float | None:
        return _watts(self._ask("default_power_limit_w", self._nvml.nvmlDeviceGetPowerManagementDefaultLimit))

    def clock_limits(self) -> tuple[str, ...]:
        bits = self._ask("clock_limits", self._limit_bits)
        return () if bits is None else limit_names(bits)

    def held_ns(self) -> Mapping[str, int]:
        fields = self._ask("held_ns", self._nvml.nvmlDeviceGetFieldValues, list(_HELD_FIELDS))
        return {
            _HELD_FIELDS[field.fieldId]: int(getattr(field.value, _VALUE_MEMBERS[field.valueType]))
            for field in fields or ()
            if field.nvmlReturn == self._nvml.NVML_SUCCESS
        }

    def used_memory(self) -> UsedMemory | None:
        found = self._ask("used_memory", self._nvml.nvmlDeviceGetMemoryInfo, self._nvml.nvmlMemory_v2)
        if found is not None:
            return UsedMemory(found.used)
        found = self._ask("used_memory", self._nvml.nvmlDeviceGetMemoryInfo)
        return None if found is None else UsedMemory(found.used, has_reserved=True)

    def processes(self) -> tuple[Listed, ...] | None:
        compute, graphics = self._list("Compute"), self._list("Graphics")
        if compute is None:
            return None
        shown = {entry.pid: Listed(entry.pid, "graphics", entry.usedGpuMemory) for entry in graphics or ()}
        shown |= {entry.pid: Listed(entry.pid, "compute", entry.usedGpuMemory) for entry in compute}
        return tuple(shown.values())

    def is_split(self) -> bool:
        modes = self._ask("is_split", self._nvml.nvmlDeviceGetMigMode)
        return modes is not None and modes[0] == _MIG_ENABLED

    def _ask(self, name: str, function: Callable[..., ValueT], *arguments: object) -> ValueT | None:
        try:
            return function(self._handle, *arguments)
        except self._nvml.NVMLError as error:
            self.failures[name] = _words(self._nvml, error)
            return None

    def _limit_bits(self, handle: Any) -> int:
        try:
            bits: int = self._nvml.nvmlDeviceGetCurrentClocksEventReasons(handle)
        except self._nvml.NVMLError_FunctionNotFound:  # a driver before 535
            bits = self._nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)
        return bits

    def _list(self, kind: Literal["Compute", "Graphics"]) -> Any:
        def read(handle: Any) -> Any:
            try:
                return getattr(self._nvml, f"nvmlDeviceGet{kind}RunningProcesses_v3")(handle)
            except self._nvml.NVMLError_FunctionNotFound:  # a driver before 510
                return getattr(self._nvml, f"nvmlDeviceGet{kind}RunningProcesses_v2")(handle)

        return self._ask("processes", read)


def limit_names(bits: int) -> tuple[str, ...]:
    """Return the names of the reasons whose bits are set; "reason 0x800" for one that has none here."""
    places = [1 << place for place in range(bits.bit_length()) if bits >> place & 1]
    return tuple(_LIMITS.get(bit) or f"reason {bit:#x}" for bit in places)


def _watts(milliwatts: int | None) -> float | None:
    return None if milliwatts is None else milliwatts / 1000
