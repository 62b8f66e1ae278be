"""Downloads of published files against servers on this machine: whole, checked, once, and given up in time."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from local_servers import Proxy, Publisher, closed_port, running, silent_port

from files.downloads import FirstOf, UrlFile, describe_bytes, missing, torch_checkpoints
from files.writing import partial_path

ROOT = Path(__file__).parents[2]
CONTENT = bytes(range(256)) * 4000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def _online(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OFFLINE", "HF_HUB_OFFLINE", "http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    with running(Publisher({"/weights.pth": CONTENT})) as server:
        yield server


def wanted(publisher: Publisher, folder: Path, digest: str = DIGEST, silent: float = 5.0) -> UrlFile:
    address = f"{publisher.address}/weights.pth"
    return UrlFile("a network", address, folder / "sub" / "weights.pth", digest, len(CONTENT), silent)


def refusal(need: UrlFile) -> str:
    with pytest.raises(OSError, match=r"\S") as caught:
        need.fetch()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def left_in(folder: Path) -> list[str]:
    """Return the files that lie there, but for the empty lock."""
    return [path.name for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".t2i-lock")]


@pytest.mark.parametrize("digest", [DIGEST, DIGEST[:8]])
def test_a_file_arrives_whole_with_its_progress_told(publisher: Publisher, tmp_path: Path, digest: str) -> None:
    told: list[tuple[str, int]] = []
    counts: list[int] = []

    @contextmanager
    def progress(what: str, size: int) -> Iterator[Callable[[int], None]]:
        told.append((what, size))
        yield counts.append

    need = wanted(publisher, tmp_path, digest)
    assert (need.here(), need.bytes_missing()) == (False, len(CONTENT))
    assert need.fetch(progress).read_bytes() == CONTENT
    assert told == [("a network", len(CONTENT))]
    assert counts == sorted(counts)
    assert counts[-1] == len(CONTENT)
    assert (need.here(), need.bytes_missing(), left_in(tmp_path)) == (True, 0, ["weights.pth"])


def test_a_file_that_is_here_is_not_asked_for_again(publisher: Publisher, tmp_path: Path) -> None:
    need = wanted(publisher, tmp_path)
    need.fetch()
    need.fetch()
    assert publisher.asked == ["GET /weights.pth"]


def test_a_truncated_file_is_none(publisher: Publisher, tmp_path: Path) -> None:
    publisher.cuts["/weights.pth"] = 1000
    need = wanted(publisher, tmp_path)
    line = refusal(need)
    assert f"it ended after 1,000 of {len(CONTENT):,} bytes" in line
    assert f"download it by hand to {need.target}" in line
    assert left_in(tmp_path) == []
    publisher.cuts.clear()
    assert need.fetch().read_bytes() == CONTENT


def test_another_digest_is_refused_and_nothing_stays(publisher: Publisher, tmp_path: Path) -> None:
    line = refusal(wanted(publisher, tmp_path, "0" * 8))
    assert f"its SHA-256 begins with {DIGEST[:8]}, expected 00000000" in line
    assert left_in(tmp_path) == []


def test_a_download_that_stalls_is_given_up(publisher: Publisher, tmp_path: Path) -> None:
    publisher.cuts["/weights.pth"], publisher.is_silent_at_cut = 1000, True
    start = time.monotonic()
    assert "nothing arrived for 1 s" in refusal(wanted(publisher, tmp_path, silent=1.0))
    assert time.monotonic() - start < 15, "the server is silent for 20 s"
    assert left_in(tmp_path) == []


def test_a_server_that_never_answers_is_given_up(tmp_path: Path) -> None:
    with silent_port() as port:
        need = UrlFile("x", f"http://127.0.0.1:{port}/a", tmp_path / "a", DIGEST, None, 1.0)
        start = time.monotonic()
        assert "nothing arrived for 1 s" in refusal(need)
    assert time.monotonic() - start < 15


def test_no_connection_and_no_such_file_say_why(publisher: Publisher, tmp_path: Path) -> None:
    with closed_port() as port:
        assert "connection refused" in refusal(UrlFile("x", f"http://127.0.0.1:{port}/a", tmp_path / "a", DIGEST))
    assert "no such host" in refusal(UrlFile("x", "http://no-such-host.invalid/a", tmp_path / "a", DIGEST))
    assert "it answers 404" in refusal(UrlFile("x", f"{publisher.address}/other", tmp_path / "a", DIGEST))


@pytest.mark.parametrize("variable", ["OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_never_connects(
    publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "1")
    assert "OFFLINE=1 downloads nothing" in refusal(wanted(publisher, tmp_path))
    assert publisher.asked == []
    assert left_in(tmp_path) == []


def test_the_proxy_of_the_environment_is_asked_and_no_dns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(Proxy({"/weights.pth": CONTENT})) as proxy:
        monkeypatch.setenv("http_proxy", proxy.address)
        address = "http://no-such-host.invalid/weights.pth"
        assert UrlFile("x", address, tmp_path / "a", DIGEST).fetch().read_bytes() == CONTENT
        assert proxy.asked == [f"GET {address}"]


def test_two_processes_at_once_download_once(publisher: Publisher, tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from files.downloads import UrlFile; "
        "UrlFile('x', sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3]).fetch()"
    )
    command = [sys.executable, "-c", code, f"{publisher.address}/weights.pth", str(tmp_path / "w.pth"), DIGEST]
    processes = [subprocess.Popen(command, cwd=ROOT) for _ in range(2)]
    assert [process.wait(60) for process in processes] == [0, 0]
    assert (tmp_path / "w.pth").read_bytes() == CONTENT
    assert publisher.asked == ["GET /weights.pth"]


def test_what_a_killed_process_left_is_no_file_and_goes(publisher: Publisher, tmp_path: Path) -> None:
    need = wanted(publisher, tmp_path)
    need.target.parent.mkdir()
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    mine = partial_path(need.target).name
    left = need.target.with_name(mine.replace(f"-{os.getpid()}-", f"-{process.pid}-"))
    left.write_bytes(CONTENT[:10])
    assert not need.here()
    need.fetch()
    assert left_in(tmp_path) == ["weights.pth"]


def test_the_first_of_several_that_is_here_is_taken(publisher: Publisher, tmp_path: Path) -> None:
    first, second = wanted(publisher, tmp_path / "1"), wanted(publisher, tmp_path / "2")
    both = FirstOf("either", (first, second))
    assert (both.here(), both.bytes_missing()) == (False, len(CONTENT))
    assert both.fetch() == first.target
    assert FirstOf("either", (second, first)).fetch() == first.target
    assert missing([both, second, second]) == [second]


@pytest.mark.parametrize(
    "variables", [{}, {"TORCH_HOME": "/a/torch"}, {"XDG_CACHE_HOME": "/b"}, {"TORCH_HOME": "~/c", "HOME": "/home/me"}]
)
def test_the_folder_of_torch_hub_is_known_without_torch(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    for name in ("TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with_torch = torch_checkpoints()
    monkeypatch.delitem(sys.modules, "torch.hub")
    assert torch_checkpoints() == with_torch == Path(torch.hub.get_dir()) / "checkpoints"


@pytest.mark.parametrize(
    ("count", "text"), [(6_940_000_000, "6.9 GB"), (95_628_359, "95.6 MB"), (12_345, "12 kB"), (5, "1 kB"),
                        (None, "size not known")],
)  # fmt: skip
def test_sizes_are_told_in_units(count: int | None, text: str) -> None:
    assert describe_bytes(count) == text
