"""Requests are made of prompts by their index alone."""

from __future__ import annotations

import pytest

from benchmark.data.prompts import Prompt, PromptSet
from models.base import Request


def prompts(count: int, exhausted: bool = True) -> PromptSet:
    made = tuple(Prompt(index, f"colour {index}", index % 2, {"number": str(index)}) for index in range(count))
    return PromptSet("Colours", "colours", ("even", "odd"), made, exhausted)


def test_prompts_of_a_finite_set_come_again_with_new_seeds() -> None:
    requests = prompts(3).requests(5, seed=42)
    assert requests[1] == Request(1, "colour 1", 43, 1, {"number": "1"})
    assert [request.index for request in requests] == [0, 1, 2, 3, 4]
    assert [request.prompt for request in requests] == [f"colour {i}" for i in (0, 1, 2, 0, 1)]
    assert [request.seed for request in requests] == [42, 43, 44, 45, 46]
    assert [prompts(3).cycles(n) for n in (1, 3, 4, 6, 7)] == [1, 1, 2, 2, 3]


def test_requests_beyond_the_prompts_of_a_set_that_has_more_are_our_own_mistake() -> None:
    with pytest.raises(AssertionError):
        prompts(2, exhausted=False).requests(3, 0)
