"""The scripts that measure have the same flags, write the same kind of file, and run at a small size on a CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from benchmark.measure.clock import Clock
from metrics.images import stream_images
from scripts.measuring import harness, measure_features, measure_run, measure_sensitivity

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted([*(ROOT / "scripts" / "measuring").glob("*.py"), ROOT / "scripts" / "embedded" / "measure_quality.py"])
KINDS = ("measure_", "check_", "kill_", "simulate_", "count_", "batch_")
PROGRAMS = [path for path in SCRIPTS if path.name.startswith(KINDS)]


def run(*command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, command)], cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, text=True,
        capture_output=True, check=False,
    )  # fmt: skip


def figures_of(path: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(path.read_text())
    assert {"command", "date", "device", "versions"} <= report["about"].keys()
    assert report["about"]["versions"]["torch"]
    return report


@pytest.mark.parametrize("script", PROGRAMS, ids=lambda path: path.stem)
def test_every_script_has_the_harness_and_no_clock_of_its_own(script: Path) -> None:
    text = script.read_text()
    for needed in (
        "open_parser(__file__, __doc__",
        "describe_run(__file__",
        "write_report(",
        "end_script(__file__, main)",
    ):
        assert needed in text, needed
    for other in ("ArgumentParser(", "perf_counter", "cuda.synchronize(", "gc.collect(", "empty_cache("):
        assert other not in text, other


@pytest.mark.parametrize("way", [["scripts/measuring/measure_run.py"], ["-m", "scripts.measuring.measure_run"]])
def test_a_script_is_called_by_its_path_or_as_a_module(way: list[str]) -> None:
    told = run(*way, "--help")
    assert told.returncode == 0, told.stderr
    assert all(flag in told.stdout for flag in ("--output", "--tiny", "--repeats"))


def test_the_record_names_the_command_as_it_can_be_called_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/some/where/measure_run.py", "demo", "--repeats", "2"])
    about = harness.describe_run(measure_run.__file__)
    assert about["command"] == "python -m scripts.measuring.measure_run demo --repeats 2"
    assert about["device"].startswith("CPU (")


def test_a_device_that_is_not_there_and_a_count_of_none_are_refused_in_one_line(tmp_path: Path) -> None:
    told = run("scripts/measuring/measure_features.py", "--device", "cuda:99", "--output", tmp_path / "x.json")
    assert told.returncode == 2
    assert told.stderr == (
        "measure_features: there is no device cuda:99 here; give --device cpu, or --tiny to try the script\n"
    )
    assert list(tmp_path.iterdir()) == []
    parser = harness.open_parser(__file__, "", repeats=3)
    assert parser.parse_args([]).repeats == 3
    with pytest.raises(SystemExit):
        parser.parse_args(["--repeats", "0"])


@pytest.mark.parametrize(
    ("output", "told"),
    [
        ("there", "there is a folder; name a file"),
        ("file/new/x.json", "file/new/x.json cannot be written: {folder}/file: Not a directory"),
        ("/proc/new/x.json", "/proc/new/x.json cannot be written: /proc: "),
    ],
)
def test_an_output_that_cannot_be_written_is_refused_before_anything_is_measured(
    output: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    parser = harness.open_parser("script.py", "")
    with pytest.raises(SystemExit) as refused:
        parser.parse_args(["--output", output])
    assert refused.value.code == 2
    assert told.format(folder=tmp_path) in capsys.readouterr().err


def test_the_default_output_is_a_path_that_is_checked_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    parser = harness.open_parser("script.py", "")
    assert parser.parse_args([]).output == Path("runs/script.json")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "runs").touch()
    with pytest.raises(SystemExit):
        parser.parse_args([])


def test_a_script_ends_with_where_its_figures_went(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "figures.json"

    def main() -> int:
        for figure in (1, 2):
            harness.write_report(output, {}, {"figure": figure})
        print("the last line of the script")
        return 1

    monkeypatch.setattr(harness, "_written", {})
    with pytest.raises(SystemExit) as ended:
        harness.end_script("some/script.py", main)
    assert ended.value.code == 1
    assert capsys.readouterr().out == f"the last line of the script\nfigures: {output}\n"


def test_features_are_timed(tmp_path: Path) -> None:
    output = tmp_path / "new" / "features.json"
    assert measure_features.main(["--tiny", "--what", "frechet,memory", "--output", str(output)]) == 0
    found = figures_of(output)
    assert found["frechet"]["value"] == pytest.approx(found["frechet"]["torchmetrics"], rel=1e-3)
    assert found["memory"]["images"] == 200


def test_the_steps_of_a_batch_are_timed_while_images_are_decoded(tmp_path: Path) -> None:
    class Extractor:
        key, name, identity = "means", "means", "means"
        threads: ClassVar[list[str]] = []

        def extract(self, images: Sequence[Tensor]) -> Tensor:
            self.threads += [thread.name for thread in threading.enumerate()]
            return torch.stack([image.float().mean(dim=(1, 2)) for image in images])

    for index in range(3):
        measure_features.write_image(tmp_path, 32, index)
    paths = tuple(sorted(tmp_path.iterdir()))
    before = threading.active_count()
    with measure_features.decoding(paths):
        found = measure_features.batch_steps(Extractor(), list(stream_images(paths)), "cpu", Clock("cpu"))
    assert any(name.startswith("decode") for name in Extractor.threads)
    assert threading.active_count() == before
    assert list(found) == ["stack", "copy", "resize", "all, with the network"]
    assert min(found.values()) > 0


def test_what_metrics_see_is_told_for_every_spoiled_set(tmp_path: Path) -> None:
    output = tmp_path / "sensitivity.json"
    flags = ["--tiny", "--metrics", "fid", "--cache", str(tmp_path / "cache"), "--output", str(output)]
    assert measure_sensitivity.main(flags) == 0
    sets = figures_of(output)["sets"]
    assert {"real", "half of the classes missing", *measure_sensitivity.SPOILED} < sets.keys()
    assert all(found["scores"][0]["key"] == "fid" for found in sets.values())


def test_preparing_is_timed_beside_the_bare_work(tmp_path: Path) -> None:
    output = tmp_path / "prepare.json"
    told = run("scripts/measuring/measure_prepare.py", "--tiny", "--repeats", 1, "--output", output)
    assert told.returncode == 0, told.stderr
    found = figures_of(output)
    assert found["ratio"] == found["images_per_s"]["ours"]["median"] / found["images_per_s"]["bare"]["median"]


def test_training_steps_are_timed(tmp_path: Path) -> None:
    output = tmp_path / "finetuning.json"
    flags = ["--tiny", "--repeats", 2, "--steps", 1, "--warmup", 1, "--batch", 2, "--cases", "cached,eager,offload"]
    told = run("-m", "scripts.measuring.measure_finetuning", *flags, "--output", output)
    assert told.returncode == 0, told.stderr
    found = figures_of(output)
    assert [row["case"] for row in found["rows"]] == ["cached", "eager"]
    assert all(row["images_per_s"] > 0 for row in found["rows"])
    assert found["offload"]["seconds"] > 0


def test_a_missed_bar_is_the_exit_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure(_: Path, sizes: measure_run.Sizes) -> Any:
        yield measure_run.Figure("runs", sizes.kills, "runs", 3, sizes.kills <= 3)

    monkeypatch.setattr(measure_run, "MEASUREMENTS", {"demo": measure})
    output = tmp_path / "run.json"
    assert measure_run.main(["--repeats", "4", "--output", str(output)]) == 1
    assert "MISSED" in capsys.readouterr().out
    assert figures_of(output)["figures"] == [{"name": "runs", "value": 4, "unit": "runs", "bar": 3, "met": False}]
    assert measure_run.main(["--tiny", "demo", "--output", str(output)]) == 0
