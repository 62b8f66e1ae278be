"""Sealed tensors: what was written is read, and a changed bit, name, type, shape or purpose is seen."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from files.tensors import load_sealed, save_sealed

TENSORS = {
    "half": torch.arange(6, dtype=torch.bfloat16).reshape(2, 3), "numbers": torch.tensor([1, -2]),
    "scalar": torch.tensor(1.5), "none": torch.zeros(0, 4), "flags": torch.tensor([True, False]),
}  # fmt: skip


def test_what_was_written_is_read(tmp_path: Path) -> None:
    save_sealed(tmp_path / "x", TENSORS, "purpose")
    found = load_sealed(tmp_path / "x", "purpose")
    assert found.keys() == TENSORS.keys()
    assert all(torch.equal(found[name], TENSORS[name]) and found[name].dtype == TENSORS[name].dtype for name in TENSORS)


def test_a_flipped_bit_anywhere_is_seen(tmp_path: Path) -> None:
    save_sealed(tmp_path / "x", TENSORS, "purpose")
    content = (tmp_path / "x").read_bytes()
    padding = content.rindex(b"}", 0, 8 + int.from_bytes(content[:8], "little")) + 1
    for place in range(len(content)):
        if padding <= place < 8 + int.from_bytes(content[:8], "little"):
            continue  # blanks after the header hold nothing
        (tmp_path / "y").write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(ValueError) as caught:  # noqa: PT011 (the reasons are safetensors' own)
            load_sealed(tmp_path / "y", "purpose")
        assert str(tmp_path / "y") in str(caught.value)
        assert "\n" not in str(caught.value)


def test_tensors_for_something_else_or_without_a_digest_are_refused(tmp_path: Path) -> None:
    save_sealed(tmp_path / "x", TENSORS, "purpose")
    with pytest.raises(ValueError, match="does not hold what its digest says"):
        load_sealed(tmp_path / "x", "another purpose")
    save_file(TENSORS, tmp_path / "plain")
    with pytest.raises(ValueError, match="does not hold what its digest says"):
        load_sealed(tmp_path / "plain", "purpose")
    with pytest.raises(OSError, match="no regular file"):
        load_sealed(tmp_path, "purpose")
