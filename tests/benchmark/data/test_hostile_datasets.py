"""Generated hostile data sets: nothing outside is read, nothing runs or is fetched, and a bad row costs itself."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile_datasets import CANARY, CANARY_TEXT, LAYOUTS, make_hostile

from benchmark.data.preparation import prepare_reference
from benchmark.data.sources.base import Example
from benchmark.data.sources.folder import open_folder
from benchmark.data.sources.table import Table

DATASETS = 200
MOST_SECONDS = 10.0
# What Python itself opens while it imports.
OWN = tuple(os.path.realpath(place) for place in (sys.prefix, sys.base_prefix, Path(__file__).parents[3]))
_watching: list[tuple[str, Any]] | None = None


def _listen(event: str, arguments: tuple[Any, ...]) -> None:
    if _watching is not None and event in ("open", "os.scandir", "os.listdir", "socket.connect", "socket.getaddrinfo",
                                           "subprocess.Popen", "os.system", "os.exec", "import"):  # fmt: skip
        _watching.append((event, arguments[0]))


@contextmanager
def watched() -> Iterator[list[tuple[str, Any]]]:
    """Record what this process opens, lists, runs and connects to; Python has no way to take such a hook back."""
    global _watching
    if not hasattr(sys, "_hostile_hook"):
        sys.addaudithook(_listen)
        sys._hostile_hook = True  # type: ignore[attr-defined]
    _watching = events = []
    try:
        yield events
    finally:
        _watching = None


def trespasses(events: list[tuple[str, Any]], allowed: tuple[str, ...]) -> list[tuple[str, Any]]:
    """Return the events that are no opening of a file in an allowed folder."""
    found = []
    for event, place in events:
        if event == "import" or isinstance(place, int):  # a descriptor was opened before
            continue
        if event in ("open", "os.scandir", "os.listdir"):
            path = os.path.realpath(os.fspath(place) if place is not None else ".")
            path = os.fsdecode(path)
            if any(path == folder or path.startswith(folder + os.sep) for folder in (*allowed, *OWN)):
                continue
        found.append((event, place))
    return found


def read(place: Path) -> list[Example]:
    dataset = open_folder(place)
    rows = list(dataset.examples())
    f"{dataset.name} {dataset.identity}".encode()
    if isinstance(dataset, Table):
        assert len(dataset.labels()) == len(rows)
        assert [row() for row in dataset.rows_at(range(len(rows)))] == rows
    return rows


def read_or_refuse(place: Path) -> tuple[list[Example], str]:
    """Return the rows, or why the whole data set is refused."""
    try:
        return read(place), ""
    except (ValueError, OSError) as error:
        return [], str(error)


def has_canary(row: Example) -> bool:
    if CANARY_TEXT in row.caption or CANARY_TEXT in row.error:
        return True
    return row.image is not None and bool((np.asarray(row.image) == CANARY).all(axis=2).any())


def allowed_of(place: Path) -> tuple[str, ...]:
    blobs = place.parents[1] / "blobs"
    return (str(place.resolve()), *([str(blobs.resolve())] if blobs.is_dir() else []))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_hostile_data_sets_read_nothing_outside_and_lose_only_their_bad_rows(layout: str, tmp_path: Path) -> None:
    outcomes: Counter[str] = Counter()
    for seed in range(LAYOUTS.index(layout), DATASETS, len(LAYOUTS)):
        place = make_hostile(tmp_path / str(seed), seed)
        begun = time.monotonic()
        with watched() as events:
            rows, refusal = read_or_refuse(place)
        outcomes["refused"] += bool(refusal)
        assert "\n" not in refusal, seed
        refusal.encode()
        assert time.monotonic() - begun < MOST_SECONDS, seed
        assert trespasses(events, allowed_of(place)) == [], seed
        for row in rows:
            assert not has_canary(row), (seed, row)
            assert (row.image is None) == bool(row.error), (seed, row)
            assert "\n" not in row.error, (seed, row)
            f"{row.caption}{row.error}".encode()
            outcomes["image" if row.image else "no image"] += 1
        if rows:
            assert any(row.caption == "good" and row.image for row in rows), seed
        shutil.rmtree(tmp_path / str(seed))
    # Else the test would say nothing: most sets are read, and have rows of both kinds.
    assert outcomes["refused"] < DATASETS / len(LAYOUTS) / 2, outcomes
    assert outcomes["image"] > 40, outcomes
    assert outcomes["no image"] > 100, outcomes


@pytest.mark.parametrize("seed", range(len(LAYOUTS)))
def test_a_hostile_data_set_can_be_prepared_and_its_lost_rows_are_explained(seed: int, tmp_path: Path) -> None:
    place = make_hostile(tmp_path / "hostile", seed)
    examples = list(open_folder(place).examples())
    lost = [number for number, example in enumerate(examples) if example.image is None]
    reference = prepare_reference(open_folder(place), tmp_path / "out", 100)
    assert (len(reference.rows), reference.without_image()) == (len(examples), len(lost))
    assert 0 < len(lost) < len(examples)
    lines = [json.loads(line) for line in (tmp_path / "out/input/manifest.jsonl").read_bytes().split(b"\n") if line]
    errors = {line["index"]: line["error"] for line in lines if line.get("error")}
    assert errors == {number: examples[number].error for number in lost}


def test_the_watch_sees_what_lies_outside(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "outside").write_text("")
    (tmp_path / "inside" / "link").symlink_to("../outside")
    (tmp_path / "inside" / "file").write_text("")
    with watched() as events:
        (tmp_path / "inside" / "file").read_bytes()
        os.close(os.open(tmp_path / "inside" / "link", os.O_RDONLY))
    assert [str(place) for _, place in trespasses(events, (str(tmp_path / "inside"),))] == [
        str(tmp_path / "inside" / "link")
    ]
