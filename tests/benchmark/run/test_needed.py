"""What a run needs of the network: asked and fetched before its data and images, told by --check, fetched alone."""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import models
import run_inference
from files.downloads import HubFiles, Need, NotOnHub, UrlFile
from metrics import METRICS, needed
from metrics.base import Scoring
from models.base import ImageGenerator, ModelFamily, Request, Runtime, option

CONTENT = b"weights of a network" * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves CONTENT at any address and remembers what was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT)

    def log_message(self, *_: Any) -> None:
        return


@dataclass(frozen=True)
class GreyOptions:
    url: str = option("", "where its weights are")
    digest: str = option(DIGEST, "their digest")
    target: str = option("", "where they belong")
    cannot: bool = option(False, "1: it cannot run at all")


class Grey(ImageGenerator):
    """Needs a file at an address."""

    def __init__(self, name: str, options: GreyOptions, runtime: Runtime) -> None:
        assert not options.url or Path(options.target).read_bytes() == CONTENT
        self.name, self.image_size, self.parameters = name, runtime.image_size, 1_000_000

    def generate(self, requests: Sequence[Request]) -> torch.Tensor:
        return torch.full((len(requests), 3, self.image_size, self.image_size), 99, dtype=torch.uint8)


def _needs(options: GreyOptions, _: Runtime) -> list[Need]:
    if options.cannot:
        raise ValueError("no such network: choose another")
    if not options.url:
        return []
    target = Path(options.target)
    return [UrlFile("Grey's weights", options.url, target, options.digest, len(CONTENT))]


def _family(key: str) -> ModelFamily:
    title = key.title()
    return ModelFamily(key, GreyOptions, lambda _: title, lambda *_: "made up", partial(Grey, title), needs=_needs)


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture(autouse=True)
def _run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: Server) -> None:
    monkeypatch.setattr(models, "FAMILIES", (*models.FAMILIES, _family("grey"), _family("dark")))
    monkeypatch.delenv("OFFLINE", raising=False)
    for name, value in {
        "WEIGHTS": "tiny", "MODELS": "grey,dark", "NUM_SAMPLES": "2", "NUM_REFERENCES": "4", "METRICS": "psnr",
        "OUTPUT_DIR": str(tmp_path / "out"), "WARMUP": "0", "GREY_URL": server.url("grey"),
        "GREY_TARGET": str(tmp_path / "weights" / "grey.pth"), "TORCH_HOME": str(tmp_path / "torch"),
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    for name in ("INCEPTION", "ALEXNET"):
        monkeypatch.setattr(needed, f"{name}_URL", server.url(name))
        monkeypatch.setattr(needed, f"{name}_DIGEST", DIGEST)


def images(tmp_path: Path) -> int:
    return len(list((tmp_path / "out").glob("*/output/*.png")))


def test_what_a_column_needs_is_fetched_before_data_are_prepared(
    tmp_path: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_inference.main([]) == 0
    assert server.asked == ["/grey"]
    told = capsys.readouterr().err
    assert "downloading Grey's weights (20 kB)" in told
    assert told.index("downloading Grey's weights") < told.index("Robots references")
    assert images(tmp_path) == 4


def test_a_column_whose_weights_cannot_be_fetched_fails_before_the_first_image_of_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MODELS", "dark,grey")
    monkeypatch.setenv("GREY_DIGEST", "00000000")
    assert run_inference.main([]) == 1
    printed = capsys.readouterr()
    assert "Grey: failed: OSError: http://127.0.0.1" in printed.out
    assert printed.err.index("Grey failed: OSError") < printed.err.index("Dark, round 1 of 1: ")
    assert images(tmp_path) == 2


def test_a_model_that_cannot_run_at_all_is_told_before_data_are_prepared(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DARK_CANNOT", "1")
    assert run_inference.main([]) == 1
    printed = capsys.readouterr()
    assert "Dark: failed: ValueError: no such network: choose another" in printed.out
    assert printed.err.index("Dark failed: ValueError") < printed.err.index("Robots references")


def test_check_of_a_model_that_cannot_run_has_the_exit_status_of_a_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DARK_CANNOT", "1")
    assert run_inference.main(["--check"]) == 1
    assert "Dark cannot run: ValueError: no such network: choose another" in capsys.readouterr().out


def test_where_no_column_is_left_no_data_are_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DARK_CANNOT", "1")
    monkeypatch.setenv("GREY_DIGEST", "00000000")
    monkeypatch.setenv("METRICS", "lpips")
    assert run_inference.main([]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines()[-1] == "run_inference.py: no model can be loaded: Dark, Grey"
    assert not (tmp_path / "out" / "Robots").exists()
    assert server.asked == ["/grey"], "nothing is fetched for metrics of no images"


def test_a_column_with_all_of_its_images_needs_nothing(tmp_path: Path, server: Server) -> None:
    assert run_inference.main([]) == 0
    (tmp_path / "weights" / "grey.pth").unlink()
    server.asked.clear()
    assert run_inference.main([]) == 0
    assert server.asked == []


def test_a_metric_without_its_network_is_told_before_anything_is_generated(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("METRICS", "lpips,psnr")
    monkeypatch.setattr(needed, "ALEXNET_DIGEST", "00000000")
    assert run_inference.main([]) == 0
    printed = capsys.readouterr()
    assert "LPIPS: n/a, http://127.0.0.1" in printed.err
    assert printed.err.index("LPIPS: n/a") < printed.err.index("Grey, round 1 of 1: ")
    row = next(line for line in printed.out.splitlines() if line.startswith("LPIPS"))
    assert row.count("n/a") == 2
    assert "no AlexNet weights: put torchvision's alexnet-owt-7be5be79.pth into" in printed.out


def test_offline_nothing_is_fetched(
    monkeypatch: pytest.MonkeyPatch, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("METRICS", "lpips,psnr")
    assert run_inference.main(["--offline", "1"]) == 1
    told = capsys.readouterr().err
    assert "Grey failed: OSError: grey.pth is not here, and OFFLINE=1 downloads nothing" in told
    assert "LPIPS: n/a, alexnet-owt-7be5be79.pth is not here" in told
    assert server.asked == []


def test_check_tells_what_is_here_and_what_would_be_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("METRICS", "lpips,psnr")
    assert run_inference.main(["--check"]) == 0
    told = capsys.readouterr().out
    assert "to download: Grey's weights (for Grey), 20 kB" in told
    assert "to download: torchvision's AlexNet, for LPIPS (for lpips), 244.4 MB" in told
    assert "to download: 244.4 MB; --download fetches it without generating" in told
    assert run_inference.main(["--check", "--offline", "1"]) == 0
    assert "missing: Grey's weights (for Grey), 20 kB" in capsys.readouterr().out
    assert server.asked == []
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "grey.pth").write_bytes(CONTENT)
    assert run_inference.main(["--check", "--metrics", "psnr"]) == 0
    told = capsys.readouterr().out
    assert "here: Grey's weights (for Grey)" in told
    assert told.endswith("to download: nothing\n")


def test_download_fetches_all_that_the_run_needs_and_generates_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("METRICS", "lpips,psnr")
    assert run_inference.main(["--download"]) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [
        "here: Grey's weights", "here: torchvision's AlexNet, for LPIPS",
        f"here: data set robots: 4 prompts, images in {tmp_path / 'out' / 'Robots' / 'input'}",
    ]  # fmt: skip
    assert sorted(server.asked) == ["/ALEXNET", "/grey"]
    assert images(tmp_path) == 0
    assert run_inference.main(["--check", "--offline", "1"]) == 0
    assert "to download: nothing" in capsys.readouterr().out


def test_download_names_what_failed_and_fetches_the_rest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GREY_DIGEST", "00000000")
    monkeypatch.setenv("METRICS", "lpips")
    assert run_inference.main(["--download"]) == 1
    first, second, third = capsys.readouterr().out.splitlines()
    assert first.startswith("failed: Grey's weights: http://127.0.0.1")
    assert second == "here: torchvision's AlexNet, for LPIPS"
    assert third.startswith("here: data set robots")


def test_check_and_download_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_inference.main(["--check", "--download"]) == 2
    assert capsys.readouterr().err.startswith("run_inference.py: --check loads nothing, and --download fetches")


def test_download_and_offline_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_inference.main(["--download", "--offline", "1"]) == 2
    assert capsys.readouterr().err == (
        "run_inference.py: --download fetches, and OFFLINE=1 forbids it: leave one of them out\n"
    )


def test_official_weights_bring_the_inception_and_embedded_ones_do_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("METRICS", "fid,kid")
    assert run_inference.main(["--check"]) == 0
    assert "Inception" not in capsys.readouterr().out
    monkeypatch.setenv("WEIGHTS", "pretrained")
    assert run_inference.main(["--check"]) == 0
    assert "the FID Inception of torch-fidelity (for fid, kid), 95.6 MB" in capsys.readouterr().out


def test_what_a_setting_names_is_never_fetched(tmp_path: Path) -> None:
    named = tmp_path / "mine.pth"
    folder = str(tmp_path)
    scoring = Scoring("cpu", tmp_path, tmp_path, inception_weights=named, clip_model=folder, dinov2_model=folder)
    for name in ("fid", "cmmd", "clipscore", "fd-dinov2"):
        needs = METRICS[name].needs
        assert needs is not None
        assert needs(scoring) == ()


def test_two_metrics_with_one_network_need_it_once(tmp_path: Path) -> None:
    scoring = Scoring("cpu", tmp_path, tmp_path)
    assert needed.clip(scoring) == needed.clip(scoring)
    assert len({*needed.inception(scoring), *needed.inception(scoring)}) == 1
    assert hash(HubFiles("x", "org/x", ("*",))) == hash(HubFiles("x", "org/x", ("*",)))


def test_a_data_set_that_the_hub_does_not_have_is_told_before_weights_are_fetched(
    monkeypatch: pytest.MonkeyPatch, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    def list_files(repository: str, kind: str) -> dict[str, int]:
        assert kind == "dataset"
        raise NotOnHub(f"the hub has no {repository}")

    monkeypatch.setattr("benchmark.data.sources.hub.list_files", list_files)
    monkeypatch.setenv("DATASET", "org/tpyo")
    assert run_inference.main([]) == 2
    told = capsys.readouterr().err
    assert "the hub's data set org/tpyo (split train) cannot be read: the hub has no org/tpyo" in told
    assert server.asked == []


def test_check_tells_whether_a_data_set_of_the_hub_is_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATASET", "org/set")
    assert run_inference.main(["--check"]) == 0
    assert "to download: data set set, streamed: the rows that the run needs" in capsys.readouterr().out
    (tmp_path / "out" / "set" / "input").mkdir(parents=True)
    (tmp_path / "out" / "set" / "input" / "0.png").touch()
    monkeypatch.setattr("benchmark.run.plan.refuse_strangers", lambda *_: None)  # there is no manifest here
    assert run_inference.main(["--check"]) == 0
    assert "here: data set set, prepared already" in capsys.readouterr().out
