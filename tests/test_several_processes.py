"""What people type on several GPUs, here with processes on a CPU: the images and scores are those of one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest
from free_ports import free_port

from benchmark.report.results import read_results
from benchmark.run.journal_lines import Batch, context_of, read_line, read_records
from files.records import read_record

ROOT = Path(__file__).parents[1]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
COLUMNS = ("VAR-d16", "PixArt")
SETTINGS = {
    "WEIGHTS": "tiny", "MODELS": "var,pixart", "PIXART_STEPS": "2", "NUM_REFERENCES": "96", "ROUNDS": "1",
    "TIMED_SAMPLES": "2", "PASSES": "none", "BULK_BATCH_SIZE": "2", "WARMUP": "0", "OFFLINE": "1",
    "OMP_NUM_THREADS": "1", "DEVICE": "cpu",
}  # fmt: skip
SECONDS = 300


def run(command: list[str], output: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a command with the output folder, and return how it ended."""
    return subprocess.run(
        [*command, "run_inference.py"], cwd=ROOT, env=environment(output, settings), capture_output=True, text=True,
        timeout=SECONDS, check=False,
    )  # fmt: skip


def environment(output: Path, settings: Mapping[str, str]) -> dict[str, str]:
    return os.environ | SETTINGS | settings | {"OUTPUT_DIR": str(output)}


def launched(ranks: int) -> list[str]:
    return [*TORCHRUN, "--standalone", "--nproc-per-node", str(ranks)]


def images(output: Path) -> dict[str, bytes]:
    paths = [path for column in COLUMNS for path in sorted((output / column / "output").glob("*.png"))]
    return {path.relative_to(output).as_posix(): path.read_bytes() for path in paths}


def batches(folder: Path) -> list[Batch]:
    context = context_of(read_record(folder / "fingerprint.json"))
    records = [record for path in folder.glob("timings*.jsonl") for record, _ in read_records(path, context)]
    lines = [read_line(record) for record in records if record is not None]
    return [line for line in lines if isinstance(line, Batch)]


def scores(output: Path) -> dict[tuple[str, str], float]:
    models = read_results(output / "results.json").models
    return {(model.name, score.label): score.value for model in models for score in model.scores}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the output of one process."""
    output = tmp_path_factory.mktemp("alone")
    ended = run([sys.executable], output, NUM_SAMPLES="24")
    assert ended.returncode == 0, ended.stderr
    return output


def test_two_and_then_three_processes_make_what_one_makes_and_each_image_once(alone: Path, tmp_path: Path) -> None:
    first = run(launched(2), tmp_path, NUM_SAMPLES="12")
    assert first.returncode == 0, first.stderr
    assert first.stdout.count("COMPREHENSIVE BENCHMARK RESULTS") == 1
    assert "Robots, share 1 of 2 through SHA-256: 32/32" in first.stderr
    then = run(launched(3), tmp_path, NUM_SAMPLES="24")  # another number of ranks goes on with the same run
    assert then.returncode == 0, then.stderr
    assert images(tmp_path) == images(alone)
    assert len(images(alone)) == 48
    for column in COLUMNS:
        made = Counter(index for batch in batches(tmp_path / column) for index in batch.indices)
        assert made == Counter(range(24))
        writers = {batch.writer for batch in batches(tmp_path / column)}
        assert len(writers) > 1, "one rank has made all of it"
    assert scores(tmp_path) == pytest.approx(scores(alone), abs=1e-6)
    assert "Images made by" in then.stdout


def test_two_launchers_with_folders_of_their_own_are_joined_to_what_one_process_makes(
    alone: Path, tmp_path: Path
) -> None:
    both = [*TORCHRUN, "--nnodes", "2", "--rdzv-endpoint", f"127.0.0.1:{free_port()}", "--nproc-per-node", "1"]
    one, other = tmp_path / "one", tmp_path / "other"
    beside = subprocess.Popen(
        [*both, "--node-rank", "1", "run_inference.py"], cwd=ROOT, env=environment(other, {"NUM_SAMPLES": "24"}),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    ended = run([*both, "--node-rank", "0"], one, NUM_SAMPLES="24")
    out, told = beside.communicate(timeout=SECONDS)
    assert told.count(f"keeps the images that it makes in OUTPUT_DIR={other}; rank 0 tells how far it is") == 1
    assert (ended.returncode, beside.returncode, out) == (0, 0, ""), ended.stderr
    assert ended.stderr.count("cannot see OUTPUT_DIR") == 1
    assert images(one).keys() | images(other).keys() == images(alone).keys()
    assert len(images(one)) < 48
    assert "some images are on other hosts" in ended.stdout, "a part of the images is not scored"
    merge = [sys.executable, "-m", "benchmark.merge", str(one), str(other)]
    subprocess.run(merge, cwd=ROOT, check=True, capture_output=True, timeout=SECONDS)
    assert images(one) == images(alone)
    again = run([sys.executable], one, NUM_SAMPLES="24")
    assert again.returncode == 0, again.stderr
    assert images(one) == images(alone)
    assert scores(one) == pytest.approx(scores(alone), abs=1e-6)


def test_every_gpu_of_the_host_can_be_timed(tmp_path: Path) -> None:
    ended = run(launched(2), tmp_path, NUM_SAMPLES="2", MODELS="var", PIXART_STEPS="", ROUNDS="3", TIMED_ON="all")
    assert ended.returncode == 0, ended.stderr
    assert "rank 1" in ended.stdout
    (model,) = json.loads((tmp_path / "results.json").read_text())["models"]
    assert [(card["uuid"], len(card["rounds"])) for card in model["cards"]] == [("rank 1", 3)]
    assert len(model["rounds"]) == 3, "those of the column's own card"


def test_what_cannot_be_used_is_one_line_and_no_output() -> None:
    for command, settings, told in (
        (launched(2), {"NUM_SAMPLES": "many"}, "NUM_SAMPLES=many"),
        (launched(2), {"DATASET": "no_such_folder"}, "no_such_folder"),
        ([sys.executable], {"TIMED_ON": "all"}, "TIMED_ON=all"),
        ([sys.executable], {"WORLD_SIZE": "2", "RANK": "0"}, "WORLD_SIZE=2"),
    ):
        ended = run(command, ROOT / "no such folder" / "at all", **settings)
        ours = [line for line in ended.stderr.splitlines() if line.startswith("run_inference.py: ")]
        assert len(ours) == 1, ended.stderr
        assert told in ours[0]
        assert ended.returncode != 0
        assert ended.stdout == ""
