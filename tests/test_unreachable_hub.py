"""A hub that cannot be reached, as a process meets it: one line for each thing that is missing, within seconds."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmark.data.sources import open_dataset
from files import hub

ROOT = Path(__file__).parents[1]


@contextmanager
def endpoint(kind: str) -> Iterator[str]:
    """Yield an address at which there is no hub."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if kind == "silent":
            listener.listen(16)  # connections are accepted, and nothing ever answers
        port = listener.getsockname()[1]
        yield "http://no-such-host.invalid" if kind == "unknown" else f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("kind", ["closed", "silent", "unknown"])
def test_a_run_ends_in_one_line_for_each_model(kind: str, tmp_path: Path) -> None:
    with endpoint(kind) as address:
        environment = {
            **os.environ, "HF_ENDPOINT": address, "HF_HUB_CACHE": str(tmp_path / "hub"), "OFFLINE": "0",
            "TORCH_HOME": str(tmp_path / "torch"), "OUTPUT_DIR": str(tmp_path / "out"), "RUN_PIXART": "1",
            "METRICS": "clipscore", "NUM_SAMPLES": "1", "MODELS": "sdxl,var,pixart,infinity",
            "http_proxy": "", "HTTP_PROXY": "",
        }  # fmt: skip
        start = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "run_inference.py"],
            cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        seconds = time.monotonic() - start
    assert done.returncode == 1
    assert done.stdout == ""
    *told, last = done.stderr.splitlines()
    titles = ["SDXL", "VAR-d16", "PixArt", "Infinity-2B"]
    assert last == f"run_inference.py: no model can be loaded: {', '.join(titles)}"
    assert [line.partition(" failed: OSError: ")[0] for line in told] == titles, done.stderr
    assert all(f"the hub at {address} cannot be reached: " in line for line in told)
    assert seconds < 100, "importing torch takes some of it; each library of the hub alone would try for minutes"
    assert not (tmp_path / "out" / "Gundam").exists()


@pytest.mark.parametrize("kind", ["closed", "silent", "unknown"])
def test_a_data_set_of_the_hub_is_given_up_within_seconds(
    kind: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("OFFLINE", "HF_HUB_OFFLINE", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    hub._failure.cache_clear()
    with endpoint(kind) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        start = time.monotonic()
        with pytest.raises(OSError, match=r"Gazoche/gundam-captioned.*cannot be reached.*DATASET=robots") as caught:
            next(open_dataset("gundam", assets=Path(), seed=0).examples())
        assert time.monotonic() - start < 30, "four on an idle machine; the library alone would try for minutes"
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""
    hub._failure.cache_clear()
