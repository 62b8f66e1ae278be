"""Who has a card in use: this process's entry is told from others', whatever numbers NVML gives them."""

from __future__ import annotations

import os
from typing import Literal

import psutil
import pytest

from benchmark.measure.card_users import GRAPHICS_BYTES, tell_apart
from benchmark.measure.nvml import Listed

ME, SERVER, COMPILER = 50, 40, 51
RELATIVES = {1, SERVER, ME, COMPILER}


def others(*listed: Listed, before: tuple[int, ...] = (), own: int | None = None) -> list[int]:
    return [entry.pid for entry in tell_apart(listed, ME, RELATIVES, before, own).others]


def test_this_process_and_its_relatives_are_not_others() -> None:
    assert others(Listed(ME), Listed(SERVER), Listed(COMPILER)) == []
    assert others(Listed(ME), Listed(77), before=(77,)) == [77]
    assert others(Listed(ME), Listed(77)) == [77]


def test_under_other_numbers_the_entry_that_is_new_is_this_processs() -> None:
    assert others(Listed(9001), before=()) == []
    assert others(Listed(9001), Listed(9002), before=(9001,)) == [9001]
    assert tell_apart([Listed(9001), Listed(9002)], ME, RELATIVES, [9001]).own == 9002


def test_of_several_new_entries_the_largest_is_this_processs() -> None:
    assert others(Listed(9001, used_bytes=3), Listed(9002, used_bytes=9), Listed(9003)) == [9001, 9003]


def test_an_entry_that_was_found_to_be_this_processs_stays_so() -> None:
    assert others(Listed(9001, used_bytes=3), Listed(9002, used_bytes=9), own=9001) == [9002]


def test_where_all_entries_were_there_before_none_is_this_processs() -> None:
    users = tell_apart([Listed(9001)], ME, RELATIVES, [9001])
    assert (users.own, [entry.pid for entry in users.others]) == (None, [9001])


@pytest.mark.parametrize(
    ("kind", "used_bytes", "counts"),
    [
        ("graphics", GRAPHICS_BYTES, False), ("graphics", GRAPHICS_BYTES + 1, True), ("graphics", None, False),
        ("compute", None, True), ("compute", 5, True),
    ],
)  # fmt: skip
def test_a_window_alone_counts_only_with_much_memory(
    kind: Literal["compute", "graphics"], used_bytes: int | None, counts: bool
) -> None:
    assert others(Listed(ME), Listed(77, kind, used_bytes)) == ([77] if counts else [])
    assert tell_apart([Listed(77, kind, used_bytes)], ME, RELATIVES).own == (77 if kind == "compute" else None)


def test_others_are_named_only_where_numbers_are_this_machines() -> None:
    here, parent = os.getpid(), os.getppid()
    name = psutil.Process(parent).name()
    assert tell_apart([Listed(here), Listed(parent)], here, [here]).describe() == (f"{name} ({parent})",)
    assert tell_apart([Listed(here), Listed(2**22 + 5)], here, [here]).describe() == (f"process {2**22 + 5}",)
    assert tell_apart([Listed(parent), Listed(9002)], here, [here], [parent]).describe() == (f"process {parent}",)
