"""Bytes changed at random places of what a training keeps: one line says so, and no value is ever silently another."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import tiny_settings

from files.ledger import Ledger
from finetuning.checkpoints import load_checkpoint
from finetuning.claim import recorded_images
from finetuning.folder import TrainingFolder
from finetuning.record import read_lines
from finetuning.trainer import train_lora
from models.loras.files import read_training_data

TRIES = 15


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Any:
    settings = tiny_settings(tmp_path_factory.mktemp("trained"), steps=4)
    train_lora(settings)
    return settings


def damaged(content: bytes, draw: random.Random) -> bytes:
    """Return the content with a few bytes changed, cut out, or put in, or cut short."""
    place = draw.randrange(len(content))
    kind = draw.randrange(5)
    if kind == 0:
        return content[:place]
    if kind == 1:
        return content[:place] + draw.randbytes(3) + content[place:]
    if kind == 2:
        return content[:place] + content[place + draw.randint(1, 40) :]
    if kind == 3:  # one digit is the damage that is seen the least
        places = [number for number, byte in enumerate(content) if byte in b"0123456789"]
        place = draw.choice(places)
        return content[:place] + bytes([(content[place] - 47) % 10 + 48]) + content[place + 1 :]
    return content[:place] + bytes([content[place] ^ (1 << draw.randrange(8))]) + content[place + 1 :]


def mark(output: Path) -> Any:
    return TrainingFolder(output).read_mark()


def images(output: Path) -> Any:
    return recorded_images(TrainingFolder(output))


def lines(output: Path) -> Any:
    return read_lines(output / "training" / "metrics.jsonl")


def ledger(output: Path) -> Any:
    found = Ledger(output, output / "training" / "files.jsonl")
    return [(name, sorted(found._digests[name])) for name in found.names()]


def checkpoint(output: Path) -> Any:
    folder = TrainingFolder(output)
    found = load_checkpoint(folder.checkpoints, folder.ledger)
    return None if found is None else (found.step, {name: tensor.tolist() for name, tensor in found.parameters.items()})


FILES: list[tuple[str, Callable[[Path], Any], bool]] = [
    ("training/settings.json", mark, False),
    ("training/pictures.json", images, False),
    ("training/metrics.jsonl", lines, True),
    ("training/files.jsonl", ledger, True),
    ("training_data.json", read_training_data, False),
    ("training/checkpoints/step-000004.pt", checkpoint, False),
]


@pytest.mark.parametrize(("name", "read", "by_line"), FILES)
def test_a_damaged_file_is_refused_or_left_out(
    trained: Any, tmp_path: Path, name: str, read: Callable[[Path], Any], by_line: bool
) -> None:
    output = tmp_path / "lora"
    shutil.copytree(trained.output_dir, output)
    before, content = read(output), (output / name).read_bytes()
    (output / name).write_bytes(content)
    checkpoints = sorted((output / "training" / "checkpoints").iterdir())
    assert len(checkpoints) == 2
    draw = random.Random(name)
    seen = 0
    for _ in range(TRIES):
        (output / name).write_bytes(damaged(content, draw))
        try:
            found = read(output)
        except (OSError, ValueError) as error:
            assert "\n" not in str(error)  # noqa: PT017 (an error is one of two good outcomes)
            seen += 1
            continue
        if by_line:  # each of its lines is one that was written
            assert all(line in before for line in found)
            seen += found != before
        elif name.endswith(".pt"):  # the one before
            assert found in (before, None) or found[0] == 2
            seen += found != before
        else:
            assert found in (before, None)
            seen += found is None
    assert seen > TRIES // 2


def test_damaged_encodings_are_named_and_made_again(trained: Any, capsys: pytest.CaptureFixture[str]) -> None:
    from finetuning.encodings import _cached

    draw = random.Random(0)
    path = trained.cache / f"{'n' * 32}.safetensors"
    tensors = {"tokens": torch.randn(40, 8), "lengths": torch.tensor([3, 37])}
    _cached(trained.cache, "n" * 64, lambda: tensors)
    content = path.read_bytes()
    for _ in range(TRIES):
        path.write_bytes(damaged(content, draw))
        made: list[int] = []
        found = _cached(trained.cache, "n" * 64, lambda made=made: made.append(1) or tensors)  # type: ignore[misc]
        assert all(torch.equal(found[name], tensors[name]) for name in tensors)
        told = capsys.readouterr().err
        assert told.count("\n") == len(made)
        assert not made or f"{path} is damaged" in told
        assert path.read_bytes() == content or not made


def test_a_cache_that_cannot_be_written_costs_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from finetuning.encodings import _cached

    (tmp_path / "file").touch()
    found = _cached(tmp_path / "file", "n" * 64, lambda: {"tokens": torch.ones(2)})
    assert found["tokens"].tolist() == [1, 1]
    told = capsys.readouterr().err
    assert "cannot be saved" in told
    assert told.count("\n") == 1
