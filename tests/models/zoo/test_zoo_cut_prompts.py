"""What the footer says of cut prompts is so: the end of a prompt that was cut does not change the image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from zoo_pipelines import ENTRIES
from zoo_promises import bytes_of, load

from models.base import Request

# How many letters all text encoders of a class read, and how many its shortest one cuts: here a letter is a token.
LENGTHS = {
    "KolorsPipeline": (200, 300),
    "ErnieImagePipeline": (600, None),
    "ZImagePipeline": (400, 600),
    "LongCatImagePipeline": (400, 600),
    "SanaPipeline": (200, 400),
    "LuminaPipeline": (200, 300),
    "CogView4Pipeline": (900, 1100),
    "NucleusMoEImagePipeline": (600, 1100),
    "QwenImage21Pipeline": (600, None),
    "BriaFiboPipeline": (600, None),
}
CASES = [(name, length, cut) for name, pair in LENGTHS.items() for length, cut in zip(pair, (False, True), strict=True)]


@pytest.mark.parametrize(("name", "length", "is_cut"), [case for case in CASES if case[1]])
def test_prompt_is_told_as_cut_where_its_end_is_not_read(
    name: str, length: int, is_cut: bool, zoo_folder: Callable[[str], Path]
) -> None:
    loaded = load(ENTRIES[name], zoo_folder(name))
    cat, pink = [Request(0, "ab " * (length // 3) + end, 0) for end in ("cat", "pink")]
    loaded.prepare([cat])
    told = [note for note in loaded.notes if note.startswith("1 of 1 prompts was cut at")]
    assert bool(told) == is_cut, loaded.notes
    is_read = (bytes_of(loaded.generate([cat])) != bytes_of(loaded.generate([pink]))).any()
    assert is_read != is_cut
