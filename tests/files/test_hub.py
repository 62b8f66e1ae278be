"""The hub, played by a server on this machine: what is needed of a repository, and what is said where it is silent."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants
from local_servers import COMMIT, Hub, closed_port, running, silent_port

from files import hub as hub_module
from files.downloads import FirstOf, HubFiles, NotOnHub
from files.hub import check_reachable, find_snapshot, is_offline, network

ROOT = Path(__file__).parents[2]
LEAST_OF_THE_LIBRARY = 15.0  # seconds: alone it tries for a minute or more; a busy machine adds some to our few
FILES = {
    "org/model/config.json": b"{}",
    "org/model/unet/w.fp16.safetensors": b"half" * 100,
    "org/model/unet/w.safetensors": b"full" * 200,
    "org/model/README.md": b"words",
    "org/parts/model.safetensors.index.json": b'{"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}}',
    "org/parts/m-1.safetensors": b"1" * 50,
    "org/parts/m-2.safetensors": b"2" * 50,
}


@pytest.fixture(autouse=True)
def _online(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in ("OFFLINE", "HF_HUB_OFFLINE", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY", True)
    forget()
    yield
    forget()


def forget() -> None:
    """Let the next question be asked again, as in a new process."""
    hub_module._failure.cache_clear()
    hub_module._listings.clear()


def point_to(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("HF_ENDPOINT", address)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    server = Hub(FILES)
    with running(server):
        point_to(monkeypatch, server.address)
        yield server


HALF = HubFiles("half", "org/model", ("*.json", "*.txt", "unet/*fp16*.safetensors"))
FULL = HubFiles("full", "org/model", ("*.json", "unet/*.safetensors"), ("*.fp16.*",))


@pytest.mark.usefixtures("hub")
def test_what_the_patterns_ask_for_comes_and_nothing_else() -> None:
    assert not HALF.here()
    assert HALF.bytes_missing() == 2 + 400
    folder = HALF.fetch()
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert names == ["config.json", "unet/w.fp16.safetensors"]
    assert (folder / "unet" / "w.fp16.safetensors").read_bytes() == b"half" * 100
    assert HALF.here()
    assert HALF.bytes_missing() == 0
    assert not FULL.here()
    assert FULL.bytes_missing() == 800, "what the cache has is not counted"


def test_what_the_cache_has_is_used_without_asking_the_hub(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = HALF.fetch()
    hub.asked.clear()
    assert HALF.fetch() == folder
    assert hub.asked == []
    with closed_port() as port:
        point_to(monkeypatch, f"http://127.0.0.1:{port}")
        assert HALF.fetch() == folder


@pytest.mark.usefixtures("hub")
def test_weights_in_parts_are_here_when_all_parts_are() -> None:
    need = HubFiles("x", "org/parts", ("*.json", "m*.safetensors"))
    folder = need.fetch()
    (folder / "m-2.safetensors").unlink()
    assert not need.here()
    assert need.bytes_missing() == 50
    need.fetch()
    assert (folder / "m-2.safetensors").read_bytes() == b"2" * 50


@pytest.mark.usefixtures("hub")
def test_an_interrupted_download_is_not_here() -> None:
    folder = FULL.fetch()
    (folder / "unet" / "w.safetensors").unlink()
    assert find_snapshot("org/model", FULL.patterns, FULL.ignored) is None


@pytest.mark.usefixtures("hub")
def test_the_first_that_the_hub_has_is_taken() -> None:
    none = HubFiles("quarter", "org/model", ("*.json", "unet/*fp8*.safetensors"))
    with pytest.raises(NotOnHub, match=r"org/model on the hub has no unet/\*fp8\*\.safetensors"):
        none.fetch()
    both = FirstOf("either", (none, HALF))
    assert both.bytes_missing() == 402
    assert (both.fetch() / "unet" / "w.fp16.safetensors").is_file()
    assert both.here()


@pytest.mark.usefixtures("hub")
def test_an_unknown_repository_is_one_line() -> None:
    with pytest.raises(NotOnHub, match=r"the hub has no org/none, or it is private") as caught:
        HubFiles("x", "org/none", ("config.json",)).fetch()
    assert "\n" not in str(caught.value)
    with pytest.raises(OSError, match="no hub id: expected org/name"):
        HubFiles("x", "/no/folder", ("config.json",)).fetch()


def test_a_download_that_stalls_is_given_up(hub: Hub) -> None:
    hub.cuts[f"/org/model/resolve/{COMMIT}/unet/w.fp16.safetensors"] = 10
    hub.is_silent_at_cut = True
    start = time.monotonic()
    with pytest.raises(OSError, match="org/model: nothing arrived for 2 s") as caught:
        HubFiles("x", "org/model", HALF.patterns, most_silent_seconds=2.0).fetch()
    assert time.monotonic() - start < LEAST_OF_THE_LIBRARY
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["closed", "silent", "unknown"])
def test_a_hub_that_cannot_be_reached_is_one_line_within_seconds(
    kind: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with closed_port() as closed, silent_port() as silent:
        hosts = {"closed": f"127.0.0.1:{closed}", "silent": f"127.0.0.1:{silent}", "unknown": "no-such-host.invalid"}
        point_to(monkeypatch, f"http://{hosts[kind]}")
        start = time.monotonic()
        with pytest.raises(OSError, match=r"org/model is not in the hub's cache, and the hub at http://") as caught:
            HALF.fetch()
        assert time.monotonic() - start < LEAST_OF_THE_LIBRARY
        assert "\n" not in str(caught.value)
        assert HALF.bytes_missing() is None
        with pytest.raises(OSError, match="cannot be reached"):
            check_reachable()
        assert hub_module._failure.cache_info().misses == 1, "it is asked once"
    assert capfd.readouterr() == ("", "")


def test_an_answer_of_a_gateway_that_finds_no_hub_is_no_hub(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "find", lambda _: (503, {}, b""))
    with pytest.raises(OSError, match="it answers 503"):
        check_reachable()


def test_a_failure_says_what_to_do_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    with closed_port() as port:
        point_to(monkeypatch, f"http://127.0.0.1:{port}")
        need = HubFiles("x", "org/model", ("config.json",), failure="no weights ({reason}): set X=FOLDER")
        with pytest.raises(OSError, match=r"no weights \(org/model is not in .* connection refused\): set X=FOLDER"):
            need.fetch()


def test_offline_the_hub_is_never_asked(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFFLINE", "1")
    with pytest.raises(OSError, match="OFFLINE=1 or HF_HUB_OFFLINE=1: nothing is downloaded"):
        HALF.fetch()
    assert HALF.bytes_missing() is None
    assert hub.asked == []


def test_the_libraries_of_the_hub_are_told_of_offline_and_only_for_the_block() -> None:
    with network(offline=True):
        assert is_offline()
        assert constants.HF_HUB_OFFLINE
        assert {os.environ[name] for name in hub_module.OFFLINE_VARIABLES} == {"1"}
    assert not is_offline()
    assert not constants.HF_HUB_OFFLINE
    assert not set(hub_module.OFFLINE_VARIABLES) & set(os.environ)


def test_a_download_that_was_given_up_does_not_keep_the_program_from_ending(hub: Hub, tmp_path: Path) -> None:
    hub.cuts[f"/org/model/resolve/{COMMIT}/unet/w.fp16.safetensors"] = 10
    hub.is_silent_at_cut = True
    code = (
        "from benchmark.console.interruption import leave; from files.downloads import HubFiles\n"
        "try: HubFiles('x', 'org/model', ('unet/*fp16*.safetensors',), most_silent_seconds=1.0).fetch()\n"
        "except OSError as error: print(error)\n"
        "leave(7)"
    )
    environment = os.environ | {"HF_ENDPOINT": hub.address, "HF_HUB_CACHE": str(tmp_path / "cache")}
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "org/model: nothing arrived for 1 s; try again, and it goes on from there\n"
    assert process.wait(LEAST_OF_THE_LIBRARY) == 7, "the library alone would try again for a minute"
