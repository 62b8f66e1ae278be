"""The timed loop: what it records, what it leaves out of the statistics, and what survives a kill."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmark.console.progress import Progress
from benchmark.run.column_folder import FingerprintError
from benchmark.run.generation import Plan, generate_images, missing_batches, slice_batches
from benchmark.run.journal import Batch, Journal
from benchmark.run.summary import summarize, timed_latencies
from benchmark.settings.column_key import ColumnKey
from models.base import ImageGenerator, Request

ROOT = Path(__file__).parents[3]


class Noise(ImageGenerator):
    """A generator whose image is noise from the request's seed; it counts and can fail."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.name, self.image_size, self.parameters = "Noise", 8, 1_000_000
        self.calls: list[list[int]] = []
        self._fail_at = fail_at

    def generate(self, requests: Sequence[Request]) -> torch.Tensor:
        self.calls.append([request.seed for request in requests])
        if self._fail_at is not None and len(self.calls) > self._fail_at:
            raise RuntimeError("out of memory")
        draws = [torch.Generator().manual_seed(request.seed) for request in requests]
        return torch.stack([torch.randint(0, 256, (3, 8, 8), generator=draw, dtype=torch.uint8) for draw in draws])


def make_requests(count: int) -> list[Request]:
    return [Request(index, f"image {index}", index) for index in range(count)]


def run(folder: Path, count: int, batch_size: int = 1, warmup: int = 1, generator: Noise | None = None) -> Noise:
    generator = generator or Noise()
    journal = Journal(folder, {"BATCH_SIZE": str(batch_size)})
    with Path(os.devnull).open("w") as nowhere:
        generate_images(
            lambda: generator, make_requests(count), journal, Plan(batch_size, warmup, "cpu"), Progress(nowhere)
        )
    return generator


def column(**settings: object) -> Any:
    """Return what a summary needs of a column."""
    key = ColumnKey("noise", {}, {"MODE": "eager"})
    return SimpleNamespace(title="Noise", mode="eager", key=key, baseline="", settings=SimpleNamespace(**settings))


def test_batches_are_fixed_slices_of_the_indices() -> None:
    assert slice_batches(5, 2) == [range(0, 2), range(2, 4), range(4, 5)]


def test_a_short_last_batch_is_made_whole_when_the_run_is_extended() -> None:
    recorded = [Batch((0, 1), 1.0, ("", "")), Batch((2,), 1.0, ("",))]
    assert missing_batches(3, 2, recorded) == []
    assert missing_batches(4, 2, recorded) == [range(2, 4)]


def test_every_request_has_its_image_and_each_batch_its_line(tmp_path: Path) -> None:
    run(tmp_path, 5, batch_size=2)
    assert sorted(path.name for path in (tmp_path / "output").iterdir()) == [f"{index:05d}.png" for index in range(5)]
    batches = Journal(tmp_path, {"BATCH_SIZE": "2"}).read().batches
    assert [(batch.start, batch.stop) for batch in batches] == [(0, 2), (2, 4), (4, 5)]
    assert batches[1].prompts == ("image 2", "image 3")
    assert all(batch.seconds > 0 for batch in batches)


def test_a_finished_run_loads_nothing(tmp_path: Path) -> None:
    run(tmp_path, 3)
    assert run(tmp_path, 3).calls == []
    assert run(tmp_path, 2).calls == []


def test_an_extended_run_makes_only_what_is_missing(tmp_path: Path) -> None:
    run(tmp_path, 2)
    assert run(tmp_path, 4).calls == [[0], [2], [3]], "one warm-up call, then the two missing requests"


def test_a_lost_image_makes_its_batch_again_and_no_other(tmp_path: Path) -> None:
    run(tmp_path, 4, batch_size=2)
    (tmp_path / "output" / "00001.png").unlink()
    assert run(tmp_path, 4, batch_size=2, warmup=0).calls == [[0, 1]]


def test_another_fingerprint_is_refused_by_the_setting_that_differs(tmp_path: Path) -> None:
    with Journal(tmp_path, {"SEED": "42", "SDXL_STEPS": "20"}).locked():
        pass
    with pytest.raises(FingerprintError, match=r"SDXL_STEPS=20, now SDXL_STEPS=10.*FRESH=1"):
        Journal(tmp_path, {"SEED": "42", "SDXL_STEPS": "10"})


def test_warmup_and_a_last_batch_of_another_size_are_not_in_the_statistics(tmp_path: Path) -> None:
    generator = run(tmp_path, 5, batch_size=2, warmup=3)
    journal = Journal(tmp_path, {"BATCH_SIZE": "2"})
    assert len(generator.calls) == 3 + 3
    latencies_s, left_out = timed_latencies(journal.read(), 5, 2)
    assert (len(latencies_s), left_out) == (2, 1)
    assert latencies_s == [batch.seconds / 2 for batch in journal.read().batches[:2]]


def test_a_last_batch_of_another_size_counts_if_it_is_the_only_one(tmp_path: Path) -> None:
    run(tmp_path, 2, batch_size=8)
    assert timed_latencies(Journal(tmp_path, {"BATCH_SIZE": "8"}).read(), 2, 8)[1] == 0


def test_without_warmup_the_first_call_is_kept_apart(tmp_path: Path) -> None:
    run(tmp_path, 3, warmup=0)
    journal = Journal(tmp_path, {"BATCH_SIZE": "1"})
    assert [batch.cold for batch in journal.read().batches] == [True, False, False]
    result = summarize(journal.read(), column(num_samples=3, batch_size=1))
    assert result is not None
    assert result.first_call_s == journal.read().batches[0].seconds
    assert (len(result.latencies_s), result.left_out_batches) == (2, 1)


def test_a_failure_in_the_middle_keeps_what_was_made(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="out of memory"):
        run(tmp_path, 5, generator=Noise(fail_at=3))
    assert len(Journal(tmp_path, {"BATCH_SIZE": "1"}).read().batches) == 2
    assert run(tmp_path, 5, warmup=0).calls == [[2], [3], [4]]


def test_a_second_run_in_the_same_folder_is_refused_while_the_first_generates(tmp_path: Path) -> None:
    journal = Journal(tmp_path, {"BATCH_SIZE": "1"})
    with journal.locked(), pytest.raises(OSError, match=rf"in use: process {os.getpid()} on .* generates images"):
        run(tmp_path, 2)
    assert run(tmp_path, 2, warmup=0).calls == [[0], [1]]


def test_stopping_ends_at_the_next_batch(tmp_path: Path) -> None:
    generator = Noise()
    with Path(os.devnull).open("w") as nowhere:
        generate_images(
            lambda: generator, make_requests(5), Journal(tmp_path, {}), Plan(1, 0, "cpu"), Progress(nowhere),
            stopped=lambda: len(generator.calls) >= 2,
        )  # fmt: skip
    assert len(generator.calls) == 2


def test_a_torn_last_line_is_dropped(tmp_path: Path) -> None:
    run(tmp_path, 2)
    with (tmp_path / "timings.jsonl").open("a") as file:
        file.write('{"kind": "batch", "start": 2, "st')
    assert len(Journal(tmp_path, {"BATCH_SIZE": "1"}).read().batches) == 2


def test_images_that_the_model_calls_broken_are_not_recorded(tmp_path: Path) -> None:
    class Broken(Noise):
        def check(self) -> None:
            if len(self.calls) == 4:
                raise ValueError("made of NaN")

    with pytest.raises(ValueError, match="made of NaN"):
        run(tmp_path, 5, generator=Broken())
    assert [batch.start for batch in Journal(tmp_path, {"BATCH_SIZE": "1"}).read().batches] == [0, 1]


KILLED = """
import sys
from pathlib import Path
sys.path[:0] = [{root!r}, {tests!r}]
import test_generation as subject
made = Path(sys.argv[1]) / "made.log"
class Logged(subject.Noise):
    def generate(self, requests):
        import time
        time.sleep(0.004)
        return super().generate(requests)
subject.run(Path(sys.argv[1]) / "model", 40, batch_size=3, warmup=0, generator=Logged())
"""


def test_kill_9_at_random_moments_loses_nothing_that_was_recorded(tmp_path: Path) -> None:
    script = KILLED.format(root=str(ROOT), tests=str(Path(__file__).parent))
    moments = random.Random(7)
    folder = tmp_path / "model"
    for _ in range(6):
        child = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)])
        deadline = time.monotonic() + 60
        while not (folder / "timings.jsonl").exists() and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(moments.uniform(0.0, 0.05))
        child.send_signal(signal.SIGKILL)
        child.wait()
        before = {batch.start: batch for batch in Journal(folder, {"BATCH_SIZE": "3"}).read().batches}
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True)
    after = {batch.start: batch for batch in Journal(folder, {"BATCH_SIZE": "3"}).read().batches}
    assert {start: after[start] for start in before} == before, "a recorded batch was made again"

    run(tmp_path / "undisturbed", 40, batch_size=3)
    for index in range(40):
        name = f"output/{index:05d}.png"
        assert (folder / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes()
