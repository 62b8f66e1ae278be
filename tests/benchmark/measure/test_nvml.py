"""What is asked of NVML, through the real pynvml over a library that is a fake."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pynvml
import pytest
from fake_cards import FakeGpu

from benchmark.measure import nvml
from benchmark.measure.findings import NotMeasured
from benchmark.measure.nvml import Card, Listed, UsedMemory, card_of, limit_names, list_cards, open_card

UUID = "8932f937-d72c-4106-c12f-20bd9faed9f6"
OK, NOT_SUPPORTED, NO_PERMISSION, INSUFFICIENT_SIZE, DRIVER_NOT_LOADED, LOST = 0, 3, 4, 7, 9, 15


class FakeLibrary:
    """libnvidia-ml with cards of some UUIDs. statuses: by the name of a function, the error that it returns.

    missing: functions that this version of the library does not have.
    """

    def __init__(self, *uuids: str) -> None:
        self.uuids = uuids
        self.statuses: dict[str, int] = {}
        self.missing: set[str] = set()
        self.compute = [(11, 5_000), (12, 2**64 - 1)]
        self.graphics = [(11, 1), (13, 7)]
        self.mig = False
        self.starts = 0

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("nvml") or name in self.missing:
            raise AttributeError(name)

        def function(*arguments: Any) -> int:
            status = self.statuses.get(name, OK)
            return status or self._answer(name, *arguments)

        return function

    def _answer(self, name: str, *arguments: Any) -> int:
        values = {
            "nvmlDeviceGetTotalEnergyConsumption": 123_456_789, "nvmlDeviceGetPowerUsage": 412_500,
            "nvmlDeviceGetEnforcedPowerLimit": 650_000, "nvmlDeviceGetPowerManagementDefaultLimit": 700_000,
            "nvmlDeviceGetCurrentClocksEventReasons": 0x85, "nvmlDeviceGetCurrentClocksThrottleReasons": 0x40,
            "nvmlDeviceGetCount_v2": len(self.uuids),
        }  # fmt: skip
        if name in values:
            arguments[-1]._obj.value = values[name]
        elif name == "nvmlInitWithFlags":
            self.starts += 1
        elif name == "nvmlSystemGetDriverVersion":
            arguments[0].value = b"580.65"
        elif name == "nvmlDeviceGetHandleByIndex_v2":
            self._handle = arguments[0].value
        elif name == "nvmlDeviceGetUUID":
            arguments[1].value = self.uuids[self._handle].encode()
        elif name in ("nvmlDeviceGetClockInfo", "nvmlDeviceGetTemperature"):
            arguments[2]._obj.value = {"nvmlDeviceGetClockInfo": (0, 1980, 3201), "nvmlDeviceGetTemperature": (41,)}[
                name
            ][arguments[1].value]
        elif name.startswith("nvmlDeviceGetMemoryInfo"):
            arguments[1]._obj.used = 900 if name.endswith("_v2") else 1500
        elif name == "nvmlDeviceGetMigMode":
            arguments[1]._obj.value = int(self.mig)
        elif name == "nvmlDeviceGetFieldValues":
            for field in arguments[2]._obj:
                field.nvmlReturn = OK if field.fieldId in (76, 269) else NOT_SUPPORTED
                field.valueType = pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG
                field.value.ullVal = 10**10 + field.fieldId
        elif "RunningProcesses" in name:
            return self._list(self.compute if "Compute" in name else self.graphics, *arguments[1:])
        else:
            raise AssertionError(name)
        return OK

    @staticmethod
    def _list(processes: list[tuple[int, int]], count: Any, array: Any) -> int:
        if array is None:
            count._obj.value = len(processes)
            return INSUFFICIENT_SIZE if processes else OK
        for place, (array[place].pid, array[place].usedGpuMemory) in enumerate(processes):
            assert place < count._obj.value
        count._obj.value = len(processes)
        return OK


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeLibrary]:
    fake = FakeLibrary(f"GPU-{UUID}")
    monkeypatch.setattr(pynvml, "nvmlLib", fake)
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    nvml._library.cache_clear()
    yield fake
    nvml._library.cache_clear()


def card() -> Card:
    (only,) = list_cards()
    return only


def test_a_card_says_what_nvml_says_with_units(library: FakeLibrary) -> None:
    found = card()
    assert (found.uuid, found.driver) == (f"GPU-{UUID}", "580.65")
    assert (found.energy_mj(), found.power_w()) == (123_456_789, 412.5)
    assert (found.power_limit_w(), found.default_power_limit_w()) == (650.0, 700.0)
    assert (found.sm_clock_mhz(), found.memory_clock_mhz(), found.temperature_c()) == (1980, 3201, 41)
    assert found.clock_limits() == ("gpu idle", "sw power cap", "hw power brake slowdown")
    assert found.held_ns() == {"sync boost": 10**10 + 76, "sw thermal slowdown": 10**10 + 269}
    assert found.used_memory() == UsedMemory(900)
    assert not found.is_split()
    assert not found.failures
    assert library.starts == 1


def test_a_process_that_computes_and_draws_is_listed_once_as_one_that_computes(library: FakeLibrary) -> None:
    listed = card().processes()
    assert listed is not None
    assert set(listed) == {Listed(11, "compute", 5_000), Listed(12, "compute", None), Listed(13, "graphics", 7)}
    library.compute, library.graphics = [], []
    assert card().processes() == ()


def test_older_drivers_are_asked_by_their_own_functions(library: FakeLibrary) -> None:
    library.missing = {
        "nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetFieldValues",
        "nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetGraphicsRunningProcesses_v3",
    }  # fmt: skip
    found = card()
    assert found.clock_limits() == ("hw thermal slowdown",)
    assert found.used_memory() == UsedMemory(1500, has_reserved=True)
    assert found.held_ns() == {}
    assert len(found.processes() or ()) == 3


@pytest.mark.parametrize(("status", "words"), [(NO_PERMISSION, "no permission"), (NOT_SUPPORTED, "not supported")])
def test_what_is_forbidden_or_not_supported_is_none_with_the_reason(
    library: FakeLibrary, status: int, words: str
) -> None:
    found: Any = card()
    names = [
        "energy_mj", "power_w", "sm_clock_mhz", "memory_clock_mhz", "temperature_c", "power_limit_w",
        "default_power_limit_w", "used_memory", "processes",
    ]  # fmt: skip
    library.statuses = dict.fromkeys(
        ["nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetPowerUsage", "nvmlDeviceGetClockInfo",
         "nvmlDeviceGetTemperature", "nvmlDeviceGetEnforcedPowerLimit", "nvmlDeviceGetPowerManagementDefaultLimit",
         "nvmlDeviceGetMemoryInfo", "nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetComputeRunningProcesses_v3",
         "nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetFieldValues", "nvmlDeviceGetMigMode"], status,
    )  # fmt: skip
    assert [getattr(found, name)() for name in names] == [None] * len(names)
    assert (found.clock_limits(), found.held_ns(), found.is_split()) == ((), {}, False)
    assert {found.failures[name] for name in names} == {words}


def test_each_reason_has_its_name_and_a_new_one_its_number() -> None:
    assert limit_names(0) == ()
    assert limit_names(0x2 | 0x10 | 0x20 | 0x800) == (
        "applications clocks setting", "sync boost", "sw thermal slowdown", "reason 0x800",
    )  # fmt: skip
    for name in (name for name in vars(pynvml) if name.startswith("nvmlClocksEventReason")):
        bits = getattr(pynvml, name)
        if isinstance(bits, int) and bits and bits & (bits - 1) == 0:
            assert not limit_names(bits)[0].startswith("reason"), name


def test_without_a_library_or_a_driver_the_reason_is_said(
    library: FakeLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.statuses = {"nvmlInitWithFlags": DRIVER_NOT_LOADED}
    with pytest.raises(NotMeasured, match=r"^no NVIDIA driver$"):
        list_cards()
    library.statuses = {"nvmlDeviceGetCount_v2": NO_PERMISSION}
    with pytest.raises(NotMeasured, match=r"^no permission$"):
        list_cards()
    library.statuses = {"nvmlDeviceGetCount_v2": LOST}
    with pytest.raises(NotMeasured, match=r"^NVML: GPU is lost$"):
        list_cards()
    nvml._library.cache_clear()
    monkeypatch.setattr(pynvml, "nvmlLib", None)

    def refuse(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(pynvml, "CDLL", refuse)
    with pytest.raises(NotMeasured, match=r"^no NVML library$"):
        list_cards()


def test_a_card_that_may_not_be_asked_is_left_out(library: FakeLibrary) -> None:
    library.statuses = {"nvmlDeviceGetUUID": NO_PERMISSION}
    assert list_cards() == ()


def test_a_forked_process_starts_nvml_anew(library: FakeLibrary, monkeypatch: pytest.MonkeyPatch) -> None:
    for process in (1, 1, 2):
        monkeypatch.setattr(nvml.os, "getpid", lambda process=process: process)
        list_cards()
    assert library.starts == 2


def test_a_card_is_found_by_torchs_uuid() -> None:
    first, second = FakeGpu(), FakeGpu()
    first.uuid, second.uuid = "GPU-aa", f"GPU-{UUID}"
    assert card_of(UUID, [first, second]) is second
    assert card_of(f"GPU-{UUID}", [first, second]) is second
    with pytest.raises(NotMeasured, match=r"^NVML does not list this card$"):
        card_of("bb", [first, second])


@pytest.mark.parametrize("seen", ["aa", "of the slice itself"])
def test_a_slice_of_a_card_is_said_to_be_one(seen: str) -> None:
    gpu = FakeGpu()
    gpu.split = True
    with pytest.raises(NotMeasured, match=r"^a MIG slice$"):
        card_of(seen, [gpu])


def test_a_cpu_is_no_gpu() -> None:
    with pytest.raises(NotMeasured, match=r"^no GPU$"):
        open_card("cpu")


def test_the_card_of_a_cuda_device_is_opened(library: FakeLibrary, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvml, "torch_uuid", {"cuda:0": UUID}.__getitem__)
    assert open_card("cuda:0").uuid == f"GPU-{UUID}"
    library.mig = True
    with pytest.raises(NotMeasured, match=r"^a MIG slice$"):
        open_card("cuda:0")
