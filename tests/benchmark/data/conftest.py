"""A data set in the layout of Gazoche/gundam-captioned, for the tests of tables and of the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from table_files import GUNDAM, cell, png, write_shards


@pytest.fixture
def gundam(tmp_path: Path) -> Path:
    rows: list[dict[str, Any]] = [
        {"image": cell(png("red")), "text": "a red robot "},
        {"image": cell(b"not an image"), "text": "a broken robot"},
        {"image": cell(png("blue", "L")), "text": "a grey robot"},
        {"image": cell(png("lime", "P", (9, 2))), "text": None},
        {"image": None, "text": "no robot"},
    ]
    return write_shards(tmp_path / "gundam-captioned", rows, GUNDAM)
