"""Images for scripts: made once, resumable at any batch, and none lost by a kill."""

from __future__ import annotations

import io
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from noise_model import Noise, make_requests, open_journal, read
from PIL import Image

from benchmark.console.progress import Progress
from benchmark.run.bulk import make_images
from benchmark.run.column_folder import FingerprintError
from benchmark.run.journal import Batch, Journal

ROOT = Path(__file__).parents[3]


def run(
    folder: Path, count: int, batch_size: int = 1, generator: Noise | None = None, said: io.StringIO | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Noise:  # fmt: skip
    generator = generator or Noise()
    make_images(
        generator.load, make_requests(count), open_journal(folder), batch_size, "cpu", Progress(said or io.StringIO()),
        stopped,
    )  # fmt: skip
    return generator


def test_every_request_has_its_image_and_each_batch_its_line(tmp_path: Path) -> None:
    generator = run(tmp_path, 5, batch_size=2)
    assert generator.calls == [[0, 1], [2, 3], [4]], "without warm-up, and without padding"
    assert sorted(path.name for path in (tmp_path / "output").iterdir()) == [f"{index:05d}.png" for index in range(5)]
    found = read(tmp_path)
    assert [batch.indices for batch in found.batches] == [(0, 1), (2, 3), (4,)]
    assert found.batches[1].prompts == ("image 2", "image 3")
    assert all(batch.seconds > 0 for batch in found.batches)
    assert found.timed == (), "no figure of speed comes from these"


def test_finished_images_load_nothing(tmp_path: Path) -> None:
    run(tmp_path, 3)
    assert run(tmp_path, 3).loads == 0
    assert run(tmp_path, 2).loads == 0


def test_an_extended_run_makes_only_what_is_missing(tmp_path: Path) -> None:
    run(tmp_path, 2)
    assert run(tmp_path, 4).calls == [[2], [3]]


def test_a_short_last_batch_is_made_whole_when_images_are_added(tmp_path: Path) -> None:
    run(tmp_path, 3, batch_size=2)
    assert run(tmp_path, 4, batch_size=2).calls == [[2, 3]]


def test_a_lost_image_makes_its_batch_again_and_no_other(tmp_path: Path) -> None:
    run(tmp_path, 4, batch_size=2)
    (tmp_path / "output" / "00001.png").unlink()
    assert run(tmp_path, 4, batch_size=2).calls == [[0, 1]]


def test_an_image_that_changed_is_told_of_and_made_again(tmp_path: Path) -> None:
    run(tmp_path, 2)
    (tmp_path / "output" / "00001.png").write_bytes(b"other")
    said = io.StringIO()
    assert run(tmp_path, 2, said=said).calls == [[1]]
    assert "00001.png changed since this program wrote it" in said.getvalue()


def test_another_fingerprint_is_refused_by_the_setting_that_differs(tmp_path: Path) -> None:
    with Journal(tmp_path, {"SEED": "42", "SDXL_STEPS": "20"}).locked():
        pass
    with pytest.raises(FingerprintError, match=r"SDXL_STEPS=20, now SDXL_STEPS=10.*FRESH=1"):
        Journal(tmp_path, {"SEED": "42", "SDXL_STEPS": "10"})


def test_a_failure_in_the_middle_keeps_the_images_before_it(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="the model broke"):
        run(tmp_path, 5, generator=Noise(fail_at=2))
    assert len(read(tmp_path).batches) == 2
    assert run(tmp_path, 5).calls == [[2], [3], [4]]


def test_a_disk_that_is_full_ends_the_run(tmp_path: Path) -> None:
    class Full(Journal):
        def record_batch(self, batch: Batch, images: Sequence[Image.Image]) -> None:
            if batch.start == 1:
                raise OSError("No space left on device")
            super().record_batch(batch, images)

    with pytest.raises(OSError, match="No space left"):
        make_images(Noise, make_requests(3), Full(tmp_path, {}), 1, "cpu", Progress(io.StringIO()))
    assert [batch.start for batch in Journal(tmp_path, {}).read().batches] == [0]


def test_a_second_run_in_the_same_folder_is_refused_while_the_first_generates(tmp_path: Path) -> None:
    with (
        open_journal(tmp_path).locked(),
        pytest.raises(OSError, match=rf"in use: process {os.getpid()} on .* generates images"),
    ):
        run(tmp_path, 2)
    assert run(tmp_path, 2).calls == [[0], [1]]


def test_stopping_ends_at_the_next_batch(tmp_path: Path) -> None:
    generator = Noise()
    run(tmp_path, 5, generator=generator, stopped=lambda: len(generator.calls) >= 2)
    assert len(generator.calls) == 2
    assert len(read(tmp_path).batches) == 2


def test_a_torn_last_line_is_dropped(tmp_path: Path) -> None:
    run(tmp_path, 2)
    with (tmp_path / "timings.jsonl").open("a") as file:
        file.write('{"kind": "batch", "start": 2, "st')
    assert len(read(tmp_path).batches) == 2


KILLED = """
import sys
from pathlib import Path
sys.path[:0] = [{root!r}, {tests!r}]
import test_made_images as subject
class Slow(subject.Noise):
    def generate(self, requests):
        import time
        time.sleep(0.004)
        return super().generate(requests)
subject.run(Path(sys.argv[1]) / "model", 40, batch_size=3, generator=Slow())
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
        before = {batch.start: batch for batch in read(folder).batches}
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True)
    after = {batch.start: batch for batch in read(folder).batches}
    assert {start: after[start] for start in before} == before, "a recorded batch was made again"

    run(tmp_path / "undisturbed", 40, batch_size=3)
    for index in range(40):
        name = f"output/{index:05d}.png"
        assert (folder / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes()
