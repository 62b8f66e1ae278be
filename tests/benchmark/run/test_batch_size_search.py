"""Which batch size is chosen, by a clock that says how long a call of each size takes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from benchmark.run.batch_size_search import LARGEST, FoundSize, find_batch_size, sizes_to_try


def search(seconds_of: Callable[[int], float], missing: int = 10_000) -> tuple[FoundSize, list[int]]:
    """Return what is found, and the sizes of the calls."""
    calls: list[int] = []

    def call(size: int) -> float:
        calls.append(size)
        return seconds_of(size)

    found = find_batch_size(call, missing)
    assert found is not None
    return found, calls


def test_a_model_that_gains_up_to_the_largest_size_gets_it() -> None:
    found, calls = search(lambda size: 0.1 + 0.001 * size)
    assert found.size == LARGEST
    assert calls == [size for size in (1, 2, 4, 8, 16, 32, 64) for _ in range(3)]


def test_it_ends_where_a_size_gains_less_than_two_percent() -> None:
    found, _ = search(lambda size: size * {1: 0.1, 2: 0.08, 4: 0.079}.get(size, 0.001))
    assert found.size == 2
    assert [size for size, _ in found.trials] == [1, 2, 4]
    assert found.trials[1] == (2, pytest.approx(0.08))


def test_the_first_call_of_a_size_is_no_trial_and_the_faster_of_the_others_counts() -> None:
    times = iter([9.0, 0.2, 0.1, 9.0, 0.3, 0.3, 9.0, 1.0, 1.0])
    assert search(lambda _: next(times))[0].trials == ((1, 0.1), (2, 0.15))


def test_long_calls_are_timed_once() -> None:
    assert search(lambda size: 3.0 * size)[1] == [1, 1, 2, 2]


def test_the_search_ends_by_time() -> None:
    found, calls = search(lambda _: 50.0)
    assert calls == [1, 1]
    assert found.size == 1


@pytest.mark.parametrize(("missing", "largest"), [(1, 1), (7, 1), (8, 2), (15, 2), (16, 4), (255, 32), (256, 64)])
def test_trials_of_a_size_never_make_as_many_images_as_are_missing(missing: int, largest: int) -> None:
    assert sizes_to_try(missing)[-1] == largest
    assert largest == 1 or 3 * largest < missing


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()], ids=type)
def test_memory_that_runs_out_leaves_the_size_before(error: Exception) -> None:
    def seconds_of(size: int) -> float:
        if size == 8:
            raise error
        return 1.0

    found, _ = search(seconds_of)
    assert (found.size, found.ran_out) == (4, True)
    assert [size for size, _ in found.trials] == [1, 2, 4]


def test_memory_that_does_not_suffice_for_one_image_is_an_error() -> None:
    def run_out(_: int) -> float:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        search(run_out)


def test_another_error_is_not_taken_for_memory() -> None:
    def fail(size: int) -> float:
        if size == 2:
            raise RuntimeError("an illegal memory access")
        return 1.0

    with pytest.raises(RuntimeError, match="illegal"):
        search(fail)
