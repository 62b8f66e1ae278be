"""Images beyond the timed ones: the batch size that they are made at, what is recorded of it, and what resumes."""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from noise_model import FINGERPRINT, Noise, bulk, read, time_slices
from PIL import Image

from benchmark.measure.clock import Clock
from benchmark.run import batch_size_search
from benchmark.run.journal import Journal
from benchmark.run.journal_lines import Batch
from models.base import Request

IMAGES = {index: f"{index:05d}.png" for index in range(100)}


def sizes(folder: Path) -> list[tuple[int, int, str]]:
    return [(size.start, size.size, size.asked) for size in read(folder).bulk_sizes]


def made(folder: Path) -> list[tuple[int, ...]]:
    return [batch.indices for batch in read(folder).batches]


def test_bulk_begins_behind_the_timed_images_in_slices_of_the_size_that_was_asked_for(tmp_path: Path) -> None:
    time_slices(tmp_path, Noise(), range(0, 2), batch_size=2, count=2)
    generator = Noise()
    found = bulk(tmp_path, generator, 2, 9, asked=3)
    assert generator.calls == [[2, 3, 4], [2, 3, 4], [5, 6, 7], [8, 8, 8]], "one call before those that count"
    assert made(tmp_path) == [(0, 1), (2, 3, 4), (5, 6, 7), (8,)]
    assert [batch.purpose for batch in found.batches] == ["timed", "bulk", "bulk", "bulk"]
    assert {batch.batch_size for batch in found.batches[1:]} == {3}
    assert found.batches[2].prompts == ("image 5", "image 6", "image 7")
    assert sizes(tmp_path) == [(2, 3, "3")]
    assert len(found.timed) == 1, "bulk is no latency"


def test_what_is_known_of_the_bulk_process_stands_apart_from_the_timed_ones(tmp_path: Path) -> None:
    time_slices(tmp_path, Noise(), range(1), count=1)
    found = bulk(tmp_path, Noise(), 1, 4, asked=2)
    assert [loaded.purpose for loaded in found.processes] == ["timed", "bulk"]
    assert found.loaded == found.processes[0]
    assert [finished.purpose for finished in found.finished] == ["timed", "bulk"]
    assert found.batches[-1].process == found.processes[1].process == found.bulk_sizes[0].process


def test_where_all_images_are_there_nothing_is_loaded(tmp_path: Path) -> None:
    bulk(tmp_path, Noise(), 0, 5, asked=2)
    generator = Noise()
    bulk(tmp_path, generator, 0, 5, asked=2)
    assert generator.loads == 0


def test_the_recorded_size_is_used_again(tmp_path: Path) -> None:
    bulk(tmp_path, Noise(), 0, 4, asked=2)
    generator = Noise()
    bulk(tmp_path, generator, 0, 7, asked=None)
    assert generator.calls == [[4, 5], [4, 5], [6, 6]]
    assert sizes(tmp_path) == [(0, 2, "2")]


def test_a_run_that_has_doubled_chooses_a_size_anew_for_what_is_new(tmp_path: Path) -> None:
    bulk(tmp_path, Noise(), 2, 6, asked=None)
    bulk(tmp_path, Noise(), 2, 11, asked=None)
    assert sizes(tmp_path) == [(2, 1, "auto")], "it has not"
    bulk(tmp_path, Noise(), 2, 22, asked=None)
    assert [start for start, _, _ in sizes(tmp_path)] == [2, 11]
    again = Noise()
    bulk(tmp_path, again, 2, 22, asked=None)
    assert again.loads == 0


def test_images_of_a_size_that_is_not_recorded_keep_no_longer_run_from_choosing_one(tmp_path: Path) -> None:
    bulk(tmp_path, Noise(), 2, 6, asked=None)
    beside = Journal(tmp_path, FINGERPRINT, writer="rank1")  # made in halves where memory ran out on another rank
    batch = Batch((6, 7), 1.0, ("image 6", "image 7"), batch_size=2, purpose="bulk")
    beside.record_batch(batch, [Image.new("RGB", (4, 4), (index, 0, 0)) for index in (6, 7)])
    assert sizes(tmp_path) == [(2, 1, "auto"), (6, 2, "")]
    bulk(tmp_path, Noise(), 2, 22, asked=None)
    assert sizes(tmp_path)[-1][::2] == (8, "auto")


def test_a_new_batch_size_is_compiled_only_where_that_takes_less_than_the_images(tmp_path: Path) -> None:
    generator = Noise()
    bulk(tmp_path, generator, 0, 8, asked=None, eager=Noise(), first_call_s=50.0, image_s=1.0)
    assert sizes(tmp_path) == [(0, 1, "auto")]
    assert {len(call) for call in generator.calls} == {1}
    eager = Noise()
    bulk(tmp_path / "long", Noise(), 0, 8, asked=None, eager=eager, first_call_s=7.0, image_s=1.0)
    assert eager.calls, "a size was looked for"


def test_a_lost_image_makes_its_slice_again_and_no_other(tmp_path: Path) -> None:
    bulk(tmp_path, Noise(), 0, 6, asked=2)
    (tmp_path / "output" / IMAGES[3]).unlink()
    generator = Noise()
    bulk(tmp_path, generator, 0, 6, asked=2)
    assert generator.calls == [[2, 3], [2, 3]]
    assert made(tmp_path) == [(0, 1), (2, 3), (4, 5)]


def test_a_short_last_slice_is_made_whole_when_the_run_is_extended(tmp_path: Path) -> None:
    bulk(tmp_path, Noise(), 0, 3, asked=2)
    generator = Noise()
    bulk(tmp_path, generator, 0, 4, asked=2)
    assert generator.calls == [[2, 3], [2, 3]]
    assert made(tmp_path) == [(0, 1), (2, 3)]


def test_stopping_ends_bulk_at_the_next_call_and_it_goes_on_from_there(tmp_path: Path) -> None:
    first, second = Noise(), Noise()
    bulk(tmp_path, first, 0, 8, asked=2, stopped=lambda: len(first.calls) >= 3)
    assert made(tmp_path) == [(0, 1), (2, 3)]
    bulk(tmp_path, second, 0, 8, asked=2)
    assert second.calls == [[4, 5], [4, 5], [6, 7]]


def test_where_memory_runs_out_the_slice_is_halved_in_place(tmp_path: Path) -> None:
    generator, said = Noise(fits=3), io.StringIO()
    bulk(tmp_path, generator, 0, 10, asked=8, said=said)
    assert sizes(tmp_path) == [(0, 2, "8")], "8 did not fit, then 4, each from the first request on"
    assert made(tmp_path) == [(0, 1), (2, 3), (4, 5), (6, 7), (8, 9)]
    assert generator.loads == 3, "a model that ran out of memory is not used again"
    assert "Noise: batch size 8 did not fit in memory; it goes on with 4" in said.getvalue()


def test_slices_that_were_made_before_memory_ran_out_stay(tmp_path: Path) -> None:
    class Filling(Noise):
        def generate(self, requests: Sequence[Request]) -> torch.Tensor:
            self._fits = 2 if len(self.calls) >= 2 else 4
            return super().generate(requests)

    bulk(tmp_path, Filling(), 2, 12, asked=4)
    assert sizes(tmp_path) == [(2, 4, "4"), (6, 2, "4")]
    assert made(tmp_path) == [(2, 3, 4, 5), (6, 7), (8, 9), (10, 11)]
    generator = Noise()
    (tmp_path / "output" / IMAGES[3]).unlink()
    bulk(tmp_path, generator, 2, 14, asked=4)
    assert generator.calls == [[2, 3, 4, 5], [2, 3, 4, 5], [12, 13], [12, 13]]


def test_without_memory_for_a_single_image_bulk_fails(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="out of memory"):
        bulk(tmp_path, Noise(fits=0), 0, 4, asked=2)
    assert read(tmp_path).batches == ()


def test_another_error_is_no_reason_for_a_smaller_batch(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="the model broke"):
        bulk(tmp_path, Noise(fail_at=2), 0, 6, asked=2)
    assert made(tmp_path) == [(0, 1)]
    assert sizes(tmp_path) == [(0, 2, "2")]


@pytest.fixture
def all_calls_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock by which every call takes a second, so that each size is twice as fast per image as the one before."""
    ticks = itertools.count()
    monkeypatch.setattr(Clock, "now", lambda *_, **__: float(next(ticks)))


@pytest.mark.usefixtures("all_calls_alike")
def test_the_size_that_is_found_is_recorded_before_the_first_image(tmp_path: Path) -> None:
    def look(call: int) -> None:
        if call == 9:  # three for each of 1, 2, 4: then those that count begin
            assert sizes(tmp_path) == [(1, 4, "auto")]
            assert made(tmp_path) == []

    generator, said = Noise(on_call=look), io.StringIO()
    found = bulk(tmp_path, generator, 1, 21, said=said)
    assert [len(call) for call in generator.calls] == [1, 1, 1, 2, 2, 2, 4, 4, 4, *[4] * 5]
    assert found.bulk_sizes[0].trials == ((1, 1.0), (2, 0.5), (4, 0.25))
    assert generator.loads == 1, "in eager mode the model of the search goes on"
    assert sorted(found.pixels()) == list(range(1, 21))
    assert "Noise: bulk in batches of 4: 4 images/s, one by one 1" in said.getvalue()


@pytest.mark.usefixtures("all_calls_alike")
def test_the_search_runs_on_the_eager_model_alone(tmp_path: Path) -> None:
    eager, compiled = Noise(), Noise()
    bulk(tmp_path, compiled, 0, 16, eager=eager)
    assert [len(call) for call in eager.calls] == [1, 1, 1, 2, 2, 2, 4, 4, 4]
    assert [len(call) for call in compiled.calls] == [4] * 5, "it is only ever called, and so compiled, at one size"


@pytest.mark.usefixtures("all_calls_alike")
def test_the_search_takes_the_size_before_the_one_that_does_not_fit(tmp_path: Path) -> None:
    generator = Noise(fits=3)
    found = bulk(tmp_path, generator, 0, 40)
    assert sizes(tmp_path) == [(0, 2, "auto")]
    assert found.bulk_sizes[0].trials == ((1, 1.0), (2, 0.5))
    assert generator.loads == 2


def test_few_images_are_made_one_by_one_without_a_search(tmp_path: Path) -> None:
    eager, generator = Noise(), Noise()
    bulk(tmp_path, generator, 0, batch_size_search.CALLS_OF_MISSING * 2 - 1, eager=eager)
    assert eager.loads == 0
    assert sizes(tmp_path) == [(0, 1, "auto")]


@pytest.mark.usefixtures("all_calls_alike")
def test_a_search_that_is_stopped_records_no_size(tmp_path: Path) -> None:
    generator = Noise()
    bulk(tmp_path, generator, 0, 40, stopped=lambda: len(generator.calls) >= 4)
    assert sizes(tmp_path) == []
    assert made(tmp_path) == []
