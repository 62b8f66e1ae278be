"""The list of our files: named before they are there, told from others, and damage that is seen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from files import ledger as module
from files.ledger import Ledger
from files.records import seal
from files.writing import PREFIX


def opened(root: Path) -> Ledger:
    return Ledger(root, root / "training" / "files.jsonl")


def test_a_file_is_named_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, path = opened(tmp_path), tmp_path / "adapter.bin"
    seen: list[bool] = []
    original = module.append_line

    def watched(file: Path, line: str, *, sync: bool = True) -> None:
        original(file, line, sync=sync)
        seen.append(path.exists())

    monkeypatch.setattr(module, "append_line", watched)
    ledger.write_bytes(path, b"weights")
    assert seen == [False]
    assert path.read_bytes() == b"weights"
    assert opened(tmp_path).names() == ["adapter.bin"]
    assert opened(tmp_path).is_whole(path)


def test_content_that_was_never_recorded_is_not_whole(tmp_path: Path) -> None:
    ledger, path = opened(tmp_path), tmp_path / "adapter.bin"
    ledger.write_bytes(path, b"one")
    ledger.write_bytes(path, b"two")
    assert ledger.is_whole(path)
    path.write_bytes(b"two.")
    assert not ledger.is_whole(path)
    path.unlink()
    assert not ledger.is_whole(path)
    (tmp_path / "elsewhere").write_bytes(b"two")
    path.symlink_to(tmp_path / "elsewhere")
    assert not ledger.is_whole(path)


def test_a_file_that_changes_is_ours_but_has_no_content_to_be_held_against(tmp_path: Path) -> None:
    ledger, path = opened(tmp_path), tmp_path / "metrics.jsonl"
    ledger.claim(path)
    ledger.claim(path)
    path.write_text("anything")
    assert ledger.owns(path)
    assert not ledger.is_whole(path)
    assert len(ledger.path.read_text().splitlines()) == 1


def test_foreign_is_what_is_there_and_not_named_whatever_kind_it_is(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    names = ("ours", "file", "folder", "link", "dangling", "missing", "ours as a folder")
    ours, file, folder, link, dangling, _, turned = paths = [tmp_path / name for name in names]
    ledger.write_bytes(ours, b"")
    ledger.claim(turned)
    file.touch()
    folder.mkdir()
    turned.mkdir()
    link.symlink_to(ours)
    dangling.symlink_to(tmp_path / "nowhere")
    assert ledger.foreign(paths) == ["file", "folder", "link", "dangling", "ours as a folder"]


def test_an_error_leaves_the_former_file_and_no_partial_one(tmp_path: Path) -> None:
    ledger, path = opened(tmp_path), tmp_path / "adapter.bin"
    ledger.write_bytes(path, b"one")
    with pytest.raises(RuntimeError), ledger.write(path) as partial:  # noqa: PT012
        partial.write_bytes(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"one"
    assert ledger.is_whole(path)
    assert not list(tmp_path.glob(f"{PREFIX}*"))


def test_a_damaged_line_names_nothing_and_is_told(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    for name in ("a", "b", "c"):
        ledger.write_bytes(tmp_path / name, name.encode())
    lines = ledger.path.read_text().splitlines()
    lines[1] = lines[1].replace('"b"', '"d"')
    ledger.path.write_text("\n".join(lines) + "\n")
    found = opened(tmp_path)
    assert found.names() == ["a", "c"]
    assert found.damaged == f"line 2 of {ledger.path} is damaged (its checksum does not fit its content)"


def test_a_line_that_was_cut_does_not_spoil_the_next(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    ledger.write_bytes(tmp_path / "a", b"a")
    ledger.path.write_bytes(ledger.path.read_bytes() + b'{"file": "b')
    opened(tmp_path).write_bytes(tmp_path / "c", b"c")
    assert opened(tmp_path).names() == ["a", "c"]


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/../../b", "", "a\0b", 3])
def test_a_sealed_line_with_a_name_that_leads_outside_names_nothing(tmp_path: Path, name: object) -> None:
    path = tmp_path / "training" / "files.jsonl"
    path.parent.mkdir()
    path.write_text(seal({"file": name, "sha256": ""}) + "\n" + json.dumps([1]) + "\n")
    assert opened(tmp_path).names() == []
    assert opened(tmp_path).damaged
