"""Of 500 generated odd folders no file vanishes in silence: each is a row, part of one, or left out by its name."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest
from odd_folders import LAYOUTS, make_odd, number_of

from benchmark.data.sources.folder import ImageFolder, open_folder

FOLDERS = 500


@pytest.mark.parametrize("layout", LAYOUTS)
def test_in_odd_folders_every_file_is_used_or_left_out_by_its_name(layout: str, tmp_path: Path) -> None:
    outcomes: Counter[str] = Counter()
    for seed in range(LAYOUTS.index(layout), FOLDERS, len(LAYOUTS)):
        odd = make_odd(tmp_path / str(seed), seed)
        found = open_folder(odd.place)
        assert isinstance(found, ImageFolder)
        rows = list(found.examples())
        used = {row.caption: number_of(row.image) for row in rows if row.image is not None}
        assert used == odd.used, seed
        assert len(rows) == len(odd.used) + odd.lost, (seed, [row.error for row in rows if row.error])
        assert all(row.error for row in rows if row.image is None), seed
        assert {entry.name for entry in found.survey.left_out} == odd.left_out, seed
        assert all(entry.reason for entry in found.survey.left_out), seed
        assert found.survey.files == odd.files, seed
        outcomes.update(used=len(odd.used), lost=odd.lost, left_out=len(odd.left_out), folders=1)
        shutil.rmtree(tmp_path / str(seed))
    # Else the test would say nothing: there are many of each.
    assert outcomes["folders"] > FOLDERS / len(LAYOUTS) - 1
    assert outcomes["used"] > 600, outcomes
    assert outcomes["lost"] > 60, outcomes
    assert outcomes["left_out"] > 1000, outcomes
