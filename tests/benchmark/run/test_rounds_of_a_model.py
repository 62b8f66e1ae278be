"""A round of one model: what it makes, what it records, what counts as a latency, and what a failure costs."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
from noise_model import Noise, make_requests, open_journal, read, time_slices

from benchmark.run.journal import pixel_digest
from benchmark.run.worker import Plan, RoundJob
from files.images import read_rgb
from models.base import Request


def test_the_first_round_records_each_call_and_keeps_its_images(tmp_path: Path) -> None:
    found = time_slices(tmp_path, Noise(), range(0, 2), range(2, 4), batch_size=2)
    assert sorted(path.name for path in (tmp_path / "output").iterdir()) == [f"{index:05d}.png" for index in range(4)]
    assert [call.indices for call in found.timed] == [batch.indices for batch in found.batches] == [(0, 1), (2, 3)]
    assert found.batches[1].prompts == ("image 2", "image 3")
    assert all(batch.purpose == "timed" for batch in found.batches)
    assert all(call.seconds > 0 and call.batch_size == 2 and call.round == 0 for call in found.timed)
    assert {call.process for call in found.timed} == {found.processes[0].process} == {found.finished[0].process}


def test_digests_are_those_of_the_images_that_are_kept(tmp_path: Path) -> None:
    found = time_slices(tmp_path, Noise(), range(0, 2), batch_size=2)
    digests = tuple(pixel_digest(read_rgb(found.image_path(index))) for index in (0, 1))
    assert found.timed[0].pixels == found.batches[0].pixels == digests
    assert len(set(digests)) == 2


def test_later_rounds_write_no_image_and_record_digests_of_theirs(tmp_path: Path) -> None:
    time_slices(tmp_path, Noise(), range(0, 2), batch_size=2)
    image = (tmp_path / "output" / "00000.png").stat()
    found = time_slices(tmp_path, Noise(), range(0, 2), batch_size=2, round_=1)
    assert (tmp_path / "output" / "00000.png").stat() == image
    assert len(found.batches) == 1
    assert [call.round for call in found.timed] == [0, 1]
    assert found.timed[0].pixels == found.timed[1].pixels
    assert found.timed[0].process != found.timed[1].process


def test_a_short_slice_is_filled_up_with_its_own_requests_and_their_images_are_dropped(tmp_path: Path) -> None:
    generator = Noise()
    found = time_slices(tmp_path, generator, range(0, 4), range(4, 6), batch_size=4, count=6)
    assert generator.calls[1:] == [[0, 1, 2, 3], [4, 5, 4, 5]]
    assert [(call.indices, call.batch_size) for call in found.timed] == [((0, 1, 2, 3), 4), ((4, 5), 4)]
    assert len(found.timed[1].pixels) == 2
    assert sorted(found.pixels()) == list(range(6))


def test_warm_up_calls_are_full_batches_and_no_latencies(tmp_path: Path) -> None:
    generator = Noise()
    found = time_slices(tmp_path, generator, range(0, 2), batch_size=3, warmup=5, count=2)
    warmups_s = found.processes[0].warmups_s
    assert len(warmups_s) >= 5
    assert generator.calls == [[0, 1, 0]] * (len(warmups_s) + 1)
    assert len(found.timed) == 1


def test_without_warm_up_one_call_is_made_that_counts_for_nothing(tmp_path: Path) -> None:
    generator = Noise()
    found = time_slices(tmp_path, generator, range(1), range(1, 2))
    assert generator.calls == [[0], [0], [1]]
    assert len(found.processes[0].warmups_s) == 1
    assert found.processes[0].warmup_agreed
    assert len(found.timed) == 2


def test_with_nothing_left_to_time_only_what_is_known_is_recorded(tmp_path: Path) -> None:
    generator = Noise()
    found = time_slices(tmp_path, generator)
    assert generator.calls == [[0]]
    assert found.loaded is not None
    assert (found.loaded.name, found.loaded.purpose) == ("Noise", "timed")
    assert found.timed == found.batches == ()


def test_what_a_process_knew_at_its_end_is_recorded_with_its_round(tmp_path: Path) -> None:
    (finished,) = time_slices(tmp_path, Noise(), range(1), round_=3).finished
    assert (finished.round, finished.purpose, finished.peak_memory_bytes) == (3, "timed", None)
    assert 0 < finished.timed_s <= finished.loop_s


def test_the_model_prepares_for_all_requests_once(tmp_path: Path) -> None:
    prepared: list[int] = []

    class Prepared(Noise):
        def prepare(self, requests: Sequence[Request]) -> list[Request]:
            prepared.append(len(requests))
            return list(requests)

    time_slices(tmp_path, Prepared(), range(1), range(1, 2), count=8)
    assert prepared == [8]


def test_a_failure_in_the_middle_keeps_what_was_timed(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="the model broke"):
        time_slices(tmp_path, Noise(fail_at=3), *(range(index, index + 1) for index in range(5)))
    found = read(tmp_path)
    assert [call.indices for call in found.timed] == [batch.indices for batch in found.batches] == [(0,), (1,)]
    assert found.finished == ()


def test_images_that_the_model_calls_broken_are_not_recorded(tmp_path: Path) -> None:
    class Broken(Noise):
        def check(self) -> None:
            if len(self.calls) == 3:
                raise ValueError("made of NaN")

    with pytest.raises(ValueError, match="made of NaN"):
        time_slices(tmp_path, Broken(), range(1), range(1, 2))
    assert [batch.start for batch in read(tmp_path).batches] == [0]
    assert [call.start for call in read(tmp_path).timed] == [0]


def test_stopping_ends_a_round_at_the_next_call(tmp_path: Path) -> None:
    generator = Noise()
    found = time_slices(
        tmp_path, generator, *(range(index, index + 1) for index in range(5)),
        stopped=lambda: len(generator.calls) >= 3,
    )  # fmt: skip
    assert len(generator.calls) == 3
    assert [call.start for call in found.timed] == [0, 1]


def test_stopping_during_the_warm_up_records_nothing(tmp_path: Path) -> None:
    generator = Noise()
    found = time_slices(tmp_path, generator, range(1), warmup=3, stopped=lambda: len(generator.calls) >= 2)
    assert len(generator.calls) == 2
    assert found.processes == found.timed == ()


def test_a_stopped_round_loads_nothing(tmp_path: Path) -> None:
    generator = Noise()
    time_slices(tmp_path, generator, range(1), stopped=lambda: True)
    assert generator.loads == 0


def test_a_job_can_be_sent_to_another_process(tmp_path: Path) -> None:
    job = RoundJob(partial(Noise, 1), make_requests(3), open_journal(tmp_path), Plan(1, 0, "cpu"), 1, (range(2),))
    sent = pickle.loads(pickle.dumps(job))
    assert (sent.requests, sent.plan, sent.round, sent.slices) == (job.requests, job.plan, 1, (range(2),))
    assert sent.load().name == "Noise"
