"""How many GPUs there are, as the driver and CUDA_VISIBLE_DEVICES say, without torch and without starting CUDA."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmark.measure import accelerators
from benchmark.measure.accelerators import count_gpus, visible_gpus
from benchmark.settings.command_line import SettingsError, parse_command
from benchmark.settings.preconditions import check_device

ROOT = Path(__file__).parents[3]
ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere torch alone tells")


@pytest.mark.parametrize(
    ("there", "chosen", "count"),
    [
        (4, None, 4), (4, "0", 1), (4, "1,3", 2), (4, " 2 , 0 ", 2), (4, "", 0), (4, "-1", 0), (4, "0,-1,1", 1),
        (4, "0,7,1", 1), (4, "9", 0), (0, "0", 0), (4, "0,0", None), (4, "GPU-8932f937", None), (4, "MIG-1/2", None),
        (4, "0,", None), (4, "NoDevFiles", None), (4, "１", None),
    ],
)  # fmt: skip
def test_cuda_visible_devices_is_read_as_cuda_does(there: int, chosen: str | None, count: int | None) -> None:
    assert visible_gpus(there, chosen) == count


@ON_LINUX
def test_without_a_driver_there_is_no_gpu(tmp_path: Path) -> None:
    (tmp_path / "null").write_text("")
    assert count_gpus({}, tmp_path, tmp_path) == 0


class Nvml:
    """A management library with two GPUs; `status` is what its calls return."""

    def __init__(self, status: int = 0) -> None:
        self.status, self.calls = status, []  # type: ignore[var-annotated]

    def nvmlInit_v2(self) -> int:
        self.calls.append("init")
        return self.status

    def nvmlDeviceGetCount_v2(self, count: Any) -> int:
        count._obj.value = 2
        return 0

    def nvmlShutdown(self) -> int:
        self.calls.append("shutdown")
        return 0


@ON_LINUX
@pytest.mark.parametrize("sign", ["nvidia0", "nvidiactl", "nvhost-gpu", "kfd", "dxg"])
def test_with_a_driver_its_library_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sign: str) -> None:
    (tmp_path / sign).write_text("")
    nvml = Nvml()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: nvml if name == accelerators.NVML else None)
    assert count_gpus({}, tmp_path, tmp_path) == 2
    assert count_gpus({"CUDA_VISIBLE_DEVICES": "1"}, tmp_path, tmp_path) == 1
    assert nvml.calls == ["init", "shutdown"] * 2


@ON_LINUX
def test_a_driver_whose_library_does_not_answer_is_left_to_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    (tmp_path / "driver" / "nvidia").mkdir(parents=True)
    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert count_gpus({}, tmp_path, tmp_path) is None
    monkeypatch.setattr(ctypes, "CDLL", lambda _: Nvml(status=9))
    assert count_gpus({}, tmp_path, tmp_path) is None
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())  # of another version
    assert count_gpus({}, tmp_path, tmp_path) is None


@pytest.mark.parametrize(
    ("device", "offload", "count", "says"),
    [
        ("cuda", False, 0, "DEVICE=cuda"), ("cuda:1", False, 1, "DEVICE=cuda:1"), ("auto", True, 0, "OFFLOAD=1"),
        ("cpu", True, 2, "OFFLOAD=1"), ("cuda:0", True, 0, "DEVICE=cuda:0"),
        ("cuda", False, 1, ""), ("cuda:1", False, 2, ""), ("auto", True, 1, ""), ("auto", False, 0, ""),
        ("cuda:99", True, None, ""), ("cpu", False, 0, ""),
    ],
)  # fmt: skip
def test_a_device_that_is_not_there_is_refused_in_parsing(
    monkeypatch: pytest.MonkeyPatch, device: str, offload: bool, count: int | None, says: str
) -> None:
    monkeypatch.setattr("benchmark.settings.preconditions.count_gpus", lambda: count)
    if not says:
        check_device(device, offload)
        return
    with pytest.raises(ValueError, match=f"^{says}"):
        check_device(device, offload)
    with pytest.raises(SettingsError, match=f"^{says}"):
        parse_command(["--device", device, "--offload", str(int(offload)), "--output-dir", "/tmp/none-such"], {})


def test_the_driver_is_not_asked_where_no_gpu_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmark.settings.preconditions.count_gpus", lambda: pytest.fail("asked"))
    check_device("auto", False)
    check_device("cpu", False)


def test_the_count_is_torchs() -> None:
    probe = (
        "from benchmark.measure.accelerators import count_gpus; before = count_gpus(); import torch;"
        "there = torch.cuda.device_count() if torch.cuda.is_available() else 0; print(before, there)"
    )
    told = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=True)
    before, there = told.stdout.split()
    assert before in (there, "None")
