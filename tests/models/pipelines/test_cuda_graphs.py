"""Which calls one CUDA graph answers: those alike in all that a graph repeats. Captures are faked: no GPU is needed."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch.utils import _pytree as pytree

from models.pipelines.cuda_graphs import GraphedCall, is_unchanged, key_of

ONE, TWO = torch.ones(1), torch.ones(2)


class Replay:
    """Repeats what it was captured with, as a graph does: the values of its inputs alone may change."""

    def __init__(self, function: Any, args: Any, kwargs: Any, answer: torch.Tensor) -> None:
        self.work, self.answer = partial(function, *args, **kwargs), answer

    def replay(self) -> None:
        self.answer.copy_(self.work())


class HostCall(GraphedCall):
    """A GraphedCall without a GPU."""

    device_type = "cpu"

    def __init__(self, function: Any) -> None:
        super().__init__(function, None, frozenset())

    def _capture(self, args: Any, kwargs: Any) -> Any:
        args, kwargs = pytree.tree_map_only(torch.Tensor, torch.clone, (args, kwargs))
        leaves, layout = pytree.tree_flatten((args, kwargs))
        answer = self.function(*args, **kwargs)
        if not is_unchanged(leaves, layout, (args, kwargs)):
            return None
        held = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        return Replay(self.function, args, kwargs, answer), held, answer


def key(*args: Any, **kwargs: Any) -> Any:
    return key_of(args, kwargs, "cpu")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (key([ONE, TWO]), key([ONE, ONE])),
        (key([ONE, TWO]), key(ONE, TWO)),
        (key(a=ONE, b=None), key(b=ONE, a=None)),
        (key(a={"x": ONE}), key(a={"y": ONE})),
        (key(ONE, True), key(ONE, 1)),
        (key(ONE, 0.25), key(ONE, 0.5)),
        (key(ONE), key(ONE.double())),
    ],
)
def test_calls_that_differ_in_more_than_values_have_graphs_of_their_own(one: Any, other: Any) -> None:
    assert one is not None
    assert one != other


def test_calls_that_differ_in_values_alone_share_a_graph() -> None:
    assert key([ONE], {"x": TWO}, "cond", y=None) == key([ONE + 1], {"x": TWO * 3}, "cond", y=None)


@pytest.mark.parametrize("held", [object(), {1, 2}, [ONE.numpy()]])
def test_what_an_object_holds_is_not_seen_so_it_has_no_graph(held: Any) -> None:
    assert key(ONE, held) is None


def test_tensors_of_the_host_would_be_read_once_so_they_have_no_graph() -> None:
    assert key_of((ONE,), {}, "cuda") is None


def test_graphs_answer_with_the_values_of_each_call() -> None:
    call = HostCall(lambda many, scale: sum(many) * scale)
    assert call([TWO, TWO], scale=2.0).tolist() == [4, 4]
    assert call([TWO * 3, TWO], scale=2.0).tolist() == [8, 8]
    assert call([TWO], scale=2.0).tolist() == [2, 2]
    assert call([TWO], scale=5.0).tolist() == [5, 5]
    assert (len(call.graphs), call.plain_calls) == (3, 0)


def test_an_answer_outlives_the_next_call() -> None:
    call = HostCall(lambda x: x + 1)
    first = call(TWO)
    call(TWO * 9)
    assert first.tolist() == [2, 2]


def test_numbers_that_change_at_every_call_stop_making_graphs() -> None:
    call = HostCall(lambda x, time: x * time)
    for step in range(40):
        assert call(TWO, step / 40).tolist() == pytest.approx([step / 40] * 2)
    assert len(call.graphs) == 16
    assert call.plain_calls == 24
    assert call(TWO * 2, 0.0).tolist() == [0, 0]
    assert call.plain_calls == 24


def test_a_function_that_writes_into_its_lists_runs_as_it_is() -> None:
    def remember(x: torch.Tensor, seen: list[Any]) -> torch.Tensor:
        seen[0] = x
        return x + 1

    call, seen = HostCall(remember), [None]
    for value in (1, 2):
        assert call(TWO * value, seen).tolist() == [value + 1] * 2
        assert seen[0] is not None
        assert seen[0].tolist() == [value] * 2
    assert (len(call.graphs), call.plain_calls) == (0, 2)


def test_objects_run_as_they_are_and_are_not_copied() -> None:
    cache: Any = torch.nn.Module()

    def fill(x: torch.Tensor, cache: Any) -> torch.Tensor:
        cache.held = x
        return x

    call = HostCall(fill)
    call(TWO, cache)
    assert cache.held is TWO
    assert call.plain_calls == 1
